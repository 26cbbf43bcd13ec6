/* Lesson 4: a loss may be a negative reward, or a surrogate that shares its gradient; what they
 * mean is another matter. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3 };

/* A loss on the tape, made of the logits [1, K]. */
typedef lp_tensor (*loss_of)(lp_tape* t, lp_tensor logits, const void* user);

/* An action and what it paid. */
typedef struct paid {
    int32_t a;
    double r;
} paid;

/* -r log pi(a|x) */
static lp_tensor surrogate(lp_tape* t, lp_tensor logits, const void* user) {
    const paid* one = user;
    lp_dist pi = lp_categorical(t, logits);
    return lp_scale(t, lp_log_prob(t, pi, lp_const_i32(t, 1, 1, &one->a)), -one->r);
}

/* -E[r] = -sum_a p_a r_a */
static lp_tensor negative_reward(lp_tape* t, lp_tensor logits, const void* user) {
    lp_tensor rewards = lp_const_f64(t, 1, K, user);
    return lp_scale(t, lp_sum(t, lp_mul(t, lp_softmax(t, logits), rewards)), -1);
}

/* One step of gradient descent by the tape and an optimizer that knows nothing of rewards. theta
 * [D, K] is moved; *value and grad [D, K] are the loss and its gradient where the step began. */
static lp_status descend(lp_ctx* ctx, const double* x, loss_of make, const void* user, double eta,
                         double* theta, double* value, double* grad) {
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
    lp_tensor loss = make(t, lp_matmul(t, lp_const_f64(t, 1, D, x), parameter), user);
    status = lp_backward(t, loss);
    if (status != LP_OK) return status;
    *value = lp_item(loss);
    for (int i = 0; i < D * K; i++) grad[i] = lp_grad_at(parameter, 0, i);
    status = lp_optim_step(optim, NULL);
    for (int i = 0; i < D * K; i++) theta[i] = lp_at(parameter, 0, i);
    return status;
}

/* ---- a loss that is the negative reward ------------------------------------------------------ */

/* A state, and what each action pays there. */
typedef struct bandit {
    double x[D], reward[K];
} bandit;

static double expected_reward(const double* theta, const void* user) {
    const bandit* b = user;
    double p[K];
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    return lesson_dot(K, p, b->reward);
}

static lp_status negated(lesson* l, const bandit* b, const double* theta) {
    const double eta = 0.1;
    double gradient[D * K], climbed[D * K], descended[D * K], grad[D * K], value;
    lesson_gradient(expected_reward, b, D * K, theta, gradient);
    for (int i = 0; i < D * K; i++) {
        climbed[i] = theta[i] + eta * gradient[i];
        descended[i] = theta[i];
    }
    const lp_status status =
        descend(l->ctx, b->x, negative_reward, b->reward, eta, descended, &value, grad);
    lesson_text(l,
                "A reward is to be raised, a loss to be lowered. Who has a minimiser and wants a "
                "reward may define the loss as the negative reward, −E[r], and take the same step. "
                "Three actions pay %g, %g and %g. On the left E[r]~=~Σ_a~p_a~r_a is climbed, its "
                "gradient by differences; on the right an optimizer descends −E[r], which the tape "
                "differentiated. Θ after the step, η~=~%g:",
                b->reward[0], b->reward[1], b->reward[2], eta);
    lesson_formula(l, "Θ + η ∇E[r]  =  Θ − η ∇(−E[r])");
    lesson_sides(l, "ascent on E[r]", "descent on −E[r]");
    lesson_matrix(l, D, K, climbed, descended, 1e-10, "Θ");
    return status;
}

/* ---- the surrogate --------------------------------------------------------------------------- */

static lp_status same_step(lesson* l, const bandit* b, const double* theta, int64_t a) {
    const double eta = 0.1;
    const paid drawn = {(int32_t)a, b->reward[a]};
    double climbed[D * K], descended[D * K], p[K], grad[D * K], value;
    for (int i = 0; i < D * K; i++) climbed[i] = descended[i] = theta[i];
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    lp_softmax_policy_update(D, K, climbed, b->x, p, a, eta, drawn.r);
    const lp_status status = descend(l->ctx, b->x, surrogate, &drawn, eta, descended, &value, grad);
    lesson_text(l,
                "But E[r] is rarely known: an action is drawn, and pays. What programs then "
                "descend, with that action and its reward held fixed, is L~=~−r~log~π(a|x). This "
                "is a surrogate: it is there to be differentiated. Here a~=~%d was drawn and pays "
                "r~=~%g; on the left the policy's own update, on the right descent on L:",
                (int)a, drawn.r);
    lesson_formula(l, "Θ + η r ∇log π(a|x)  =  Θ − η ∇L,   L = −r log π(a|x)");
    lesson_sides(l, "r ∇log π, added", "descent on L");
    lesson_matrix(l, D, K, climbed, descended, 1e-14, "Θ");
    if (status == LP_OK) {
        lesson_text(l, "L is not −r. It is positive where r is, shrinks to~0 as the action becomes "
                       "certain, and says nothing of how much is earned:");
        lesson_sides(l, "L", "−r");
        lesson_apart(l, value, -drawn.r, drawn.r, "the action drawn");
    }
    return status;
}

/* By enumeration: E[L] and E[grad L], every action weighed with its probability. */
static lp_status on_average(lesson* l, const bandit* b, const double* theta) {
    double p[K], gradient[D * K], mean_grad[D * K] = {0}, mean_loss = 0;
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    for (int a = 0; a < K; a++) {
        const paid one = {a, b->reward[a]};
        double moved[D * K], grad[D * K], value;
        for (int i = 0; i < D * K; i++) moved[i] = theta[i];
        const lp_status status = descend(l->ctx, b->x, surrogate, &one, 1, moved, &value, grad);
        if (status != LP_OK) return status;
        mean_loss += p[a] * value;
        for (int i = 0; i < D * K; i++) mean_grad[i] += p[a] * grad[i];
    }
    const double earned = expected_reward(theta, b);
    lesson_gradient(expected_reward, b, D * K, theta, gradient);
    for (int i = 0; i < D * K; i++) gradient[i] = -gradient[i];
    lesson_sides(l, "E[L]", "−E[r]");
    lesson_apart(l, mean_loss, -earned, earned, "all actions, enumerated");
    lesson_text(l, "What L shares with −E[r] is the gradient, and that on average only. Of the "
                   "three actions, each weighed with its probability:");
    lesson_formula(l, "E[∇L] = Σ_a p_a ∇(−r_a log p_a) = −∇E[r]");
    lesson_sides(l, "E[∇L], tape", "−∇E[r]");
    lesson_matrix(l, D, K, mean_grad, gradient, 1e-9, "∂/∂Θ");
    return LP_OK;
}

/* ---- what a program prints ------------------------------------------------------------------- */

enum { X = 4 }; /* the PyTorch program's dimensions of x */

/* x = randn(4); theta = Parameter(randn(4, 3)); a ~ Categorical; loss = -log pi(a) reward;
 * loss.backward(): in float. theta.grad, and -reward x (e_a - p)^T at the same numbers, into stored
 * and by_hand [X, K]. */
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
    lesson_text(
        l,
        "The sign shows where a program prints theta.grad after loss.backward(): that is the "
        "gradient of the loss, so what stands there is minus the direction in which the policy "
        "improves. A PyTorch program draws x of 4 numbers, Θ of 4~×~3 and an action, and calls "
        "backward() on the loss −log~π(a|x)~·~reward (it is what logpi step --autograd does). "
        "After torch.manual_seed(%llu), reward 1, on logpi's tape in float, beside the closed form "
        "in double:",
        (unsigned long long)l->seed);
    lesson_formula(l, "theta.grad = −reward · x (e_a − p)ᵀ");
    lesson_sides(l, "theta.grad", "−r x (e_a − p)ᵀ");
    lesson_matrix(l, X, K, stored, by_hand, 1e-6, "theta.grad");
    status = autograd_program(l, -2.5, stored, by_hand);
    lesson_farthest(l, X * K, stored, by_hand, 1e-6, "reward = −2.5, worst of 12");
    return status;
}

/* ---- a loss that no reward is ---------------------------------------------------------------- */

/* p_a as a function of Theta */
static double chance(const double* theta, const void* user) {
    const lesson_choice* c = user;
    double p[K];
    lp_softmax_policy_probs(c->d, c->k, theta, c->x, p);
    return p[c->a];
}

/* The label is the least likely answer: its surprise is large, and so is the way that the two steps
 * differ. */
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
    lesson_text(l,
                "Yet not every loss is a reward turned round. Let the right answer be the one that "
                "the policy holds "
                "least likely, p~=~%.4f. The cross-entropy −log~p says how surprising the truth "
                "was, and is never "
                "0; a reward of 1 for a right answer says how often it is given, E[r]~=~p. Both "
                "want p~=~1, but the "
                "reward's gradient is p times as long: who never tries the right answer is never "
                "paid for it.",
                p[label.a]);
    lesson_sides(l, "reward's ∇p", "p × loss's ∇log p");
    lesson_matrix(l, D, K, by_reward, scaled, 1e-9, "∂/∂Θ");
    const double long_step = sqrt(lesson_dot(D * K, by_loss, by_loss));
    lesson_sides(l, "reward's |∇p|", "loss's |∇log p|");
    lesson_apart(l, sqrt(lesson_dot(D * K, by_reward, by_reward)), long_step, long_step / 2,
                 "length of the step, η = 1");
}

lp_status lesson_loss_and_reward(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    bandit b = {.reward = {1.7, 0.4, 1}};
    double theta[D * K], p[K];
    lesson_draw(&rng, D, b.x);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, b.x, p);
    const int64_t a = lp_softmax_policy_sample(&rng, K, p);
    lp_status status = negated(l, &b, theta);
    if (status == LP_OK) status = same_step(l, &b, theta, a);
    if (status == LP_OK) status = on_average(l, &b, theta);
    if (status == LP_OK) status = stored_gradient(l);
    if (status == LP_OK) meaning(l, &rng);
    return status;
}
