/* Lesson 4: a loss is a reward with the other sign as far as the step goes, and something else in what it means. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3 };

/* One step of gradient descent on -r log pi(a|x), by the tape and an optimizer that knows nothing of rewards. */
static lp_status descend(lp_ctx* ctx, const double* x, double* theta, int32_t a, double r, double eta) {
    lp_optim_def def = lp_optim_def_default(LP_SGD);
    lp_optim* optim = NULL;
    def.learning_rate = eta;
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    lp_params* params = lp_params_create(ctx, LP_F64, true);
    if (!t || !params) return LP_NOMEM;
    lp_tensor parameter = lp_param(params, "theta", D, K);
    lp_status status = parameter ? lp_optim_create(params, &def, &optim) : LP_NOMEM;
    if (status != LP_OK) return status;
    for (int i = 0; i < D * K; i++) lp_f64(parameter)[i] = theta[i];
    lp_dist pi = lp_categorical(t, lp_matmul(t, lp_const_f64(t, 1, D, x), parameter));
    lp_tensor loss = lp_scale(t, lp_log_prob(t, pi, lp_const_i32(t, 1, 1, &a)), -r);
    status = lp_backward(t, loss);
    if (status == LP_OK) status = lp_optim_step(optim, NULL);
    for (int i = 0; i < D * K; i++) theta[i] = lp_at(parameter, 0, i);
    return status;
}

static lp_status same_step(lesson* l, lp_rng* rng) {
    const double r = 1.7, eta = 0.1;
    double x[D], climbed[D * K], descended[D * K], p[K];
    lesson_draw(rng, D, x);
    lesson_draw(rng, D * K, climbed);
    for (int i = 0; i < D * K; i++) descended[i] = climbed[i];
    lp_softmax_policy_probs(D, K, climbed, x, p);
    const int64_t a = lp_softmax_policy_sample(rng, K, p);
    lp_softmax_policy_update(D, K, climbed, x, p, a, eta, r);
    const lp_status status = descend(l->ctx, x, descended, (int32_t)a, r, eta);
    lesson_text(l, "A reward is to be raised, a loss to be lowered. Who has a minimiser and wants a reward may write "
                   "L~=~−r~log~π(a|x): going down L is going up the reward. Below an action is drawn and pays r~=~1.7; "
                   "on the left the policy's own update climbs, on the right an optimizer descends L, which the tape "
                   "differentiated. Θ after the step:");
    lesson_formula(l, "Θ + η r ∇log π(a|x)  =  Θ − η ∇(−r log π(a|x))");
    lesson_sides(l, "ascent on r", "descent on −r");
    lesson_matrix(l, D, K, climbed, descended, 1e-14, "Θ");
    return status;
}

enum { X = 4 }; /* the PyTorch program's dimensions of x */

/* x = randn(4); theta = Parameter(randn(4, 3)); a ~ Categorical; loss = -log pi(a) reward; loss.backward(): in float.
 * theta.grad, and -reward x (e_a - p)^T at the same numbers, into stored and by_hand [X, K]. */
static lp_status autograd_program(lesson* l, double reward, double* stored, double* by_hand) {
    lp_rng rng = lp_rng_torch(l->seed);
    lp_tape* t = lp_tape_create(l->ctx, LP_F32);
    lp_params* params = lp_params_create(l->ctx, LP_F32, true);
    if (!t || !params) return LP_NOMEM;
    lp_tensor x = lp_randn(t, &rng, 1, X);
    lp_tensor theta = lp_param_randn(params, "theta", X, K, &rng);
    lp_dist pi = lp_categorical(t, lp_matmul(t, x, theta));
    lp_tensor a = lp_sample(t, pi, &rng);
    const lp_status status = lp_backward(t, lp_scale(t, lp_log_prob(t, pi, a), -reward));
    if (status != LP_OK) return status;
    double state[X], parameters[X * K];
    for (int i = 0; i < X; i++) state[i] = lp_at(x, 0, i);
    for (int i = 0; i < X * K; i++) {
        parameters[i] = lp_at(theta, 0, i);
        stored[i] = lp_grad_at(theta, 0, i);
    }
    lesson_score(X, K, parameters, state, (int64_t)lp_item(a), by_hand);
    for (int i = 0; i < X * K; i++) by_hand[i] *= -reward;
    return LP_OK;
}

static lp_status stored_gradient(lesson* l) {
    double stored[X * K], by_hand[X * K];
    lp_status status = autograd_program(l, 1, stored, by_hand);
    if (status != LP_OK) return status;
    lesson_text(l, "The sign shows where a program prints theta.grad after loss.backward(): that is the gradient of "
                   "the loss, so what stands there is minus the direction in which the policy improves. The PyTorch "
                   "program of the ladder's second rung, after torch.manual_seed(%llu), on logpi's tape in float, "
                   "beside the closed form in double:",
                (unsigned long long)l->seed);
    lesson_formula(l, "theta.grad = −reward · x (e_a − p)ᵀ");
    lesson_sides(l, "theta.grad", "−r x (e_a − p)ᵀ");
    lesson_matrix(l, X, K, stored, by_hand, 1e-6, "theta.grad");
    status = autograd_program(l, -2.5, stored, by_hand);
    lesson_farthest(l, X * K, stored, by_hand, 1e-6, "reward = −2.5, worst of 12");
    return status;
}

/* p_a as a function of Theta */
static double chance(const double* theta, const void* user) {
    const lesson_choice* c = user;
    double p[K];
    lp_softmax_policy_probs(c->d, c->k, theta, c->x, p);
    return p[c->a];
}

/* The label is the least likely answer: its surprise is large, and so is the way that the two steps differ. */
static void meaning(lesson* l, lp_rng* rng) {
    double x[D], theta[D * K], p[K], by_loss[D * K], by_reward[D * K], scaled[D * K];
    lesson_draw(rng, D, x);
    lesson_draw(rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, x, p);
    lesson_choice label = {D, K, 0, x};
    for (int j = 1; j < K; j++) label.a = p[j] < p[label.a] ? j : label.a;
    lesson_score(D, K, theta, x, label.a, by_loss);
    lesson_gradient(chance, &label, D * K, theta, by_reward);
    for (int i = 0; i < D * K; i++) scaled[i] = p[label.a] * by_loss[i];
    lesson_text(l, "Yet not every loss is a reward turned round. Let the right answer be the one that the policy holds "
                   "least likely, p~=~%.4f. The cross-entropy −log~p says how surprising the truth was, and is never "
                   "0; a reward of 1 for a right answer says how often it is given, E[r]~=~p. Both want p~=~1, but the "
                   "reward's gradient is p times as long: who never tries the right answer is never paid for it.",
                p[label.a]);
    lesson_sides(l, "reward's ∇p", "p × loss's ∇log p");
    lesson_matrix(l, D, K, by_reward, scaled, 1e-9, "∂/∂Θ");
    const double long_step = sqrt(lesson_dot(D * K, by_loss, by_loss));
    lesson_sides(l, "reward's |∇p|", "loss's |∇log p|");
    lesson_apart(l, sqrt(lesson_dot(D * K, by_reward, by_reward)), long_step, long_step / 2, "length of the step, η = 1");
}

lp_status lesson_loss_and_reward(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    lp_status status = same_step(l, &rng);
    if (status == LP_OK) status = stored_gradient(l);
    if (status == LP_OK) meaning(l, &rng);
    return status;
}
