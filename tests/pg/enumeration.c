/* All sequences of 3 tokens over a vocabulary of 5, enumerated. J(theta) = E[reward - beta sum_t
 * log(pi / pi_ref)] has an exact gradient, by finite differences of the enumerated J. PPO's
 * estimator (rewards with KL, advantages, the clipped loss at ratio 1), weighted by the probability
 * of each sequence, must give the same: it is unbiased. So must it with any value baseline and
 * lambda 1. Tolerance 2e-6: rewards and advantages pass through float. */
#include "testing.h"

#include <logpi/pg.h>

enum { V = 5, T = 3, N = 125 };
static const double BETA = 0.3;

/* logits of token t: row `previous token` of theta; row V for the first token */
typedef struct world {
    double theta[(V + 1) * V], reference[(V + 1) * V], reward[N];
} world;

static int token(int sequence, int t) { return sequence / (t == 0 ? 25 : t == 1 ? 5 : 1) % V; }
static int row(int sequence, int t) { return t == 0 ? V : token(sequence, t - 1); }

static double log_prob(const double* theta, int r, int a) {
    double max = -1e300, sum = 0;
    for (int j = 0; j < V; j++) max = fmax(max, theta[r * V + j]);
    for (int j = 0; j < V; j++) sum += exp(theta[r * V + j] - max);
    return theta[r * V + a] - max - log(sum);
}

static double sequence_log_prob(const double* theta, int s) {
    double sum = 0;
    for (int t = 0; t < T; t++) sum += log_prob(theta, row(s, t), token(s, t));
    return sum;
}

static double objective(const world* w, const double* theta) {
    double j = 0;
    for (int s = 0; s < N; s++) {
        const double lp = sequence_log_prob(theta, s);
        j += exp(lp) * (w->reward[s] - BETA * (lp - sequence_log_prob(w->reference, s)));
    }
    return j;
}

static world make_world(void) {
    world w;
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, 0, 0);
    lp_rng_normal_f64(&rng, w.theta, (V + 1) * V);
    lp_rng_normal_f64(&rng, w.reference, (V + 1) * V);
    for (int s = 0; s < N; s++) w.reward[s] = lp_rng_uniform(&rng);
    return w;
}

/* Gradient of PPO's loss on one sequence, added to grad with the given weight; values may be
 * anything. */
static void add_estimate(lp_ctx* ctx, const world* w, int s, double weight, const float* values,
                         double* grad) {
    const int64_t offsets[] = {0, T};
    float lp[T], ref[T], kl[T], rewards[T], advantages[T], returns[T];
    int32_t rows[T], actions[T];
    for (int t = 0; t < T; t++) {
        rows[t] = row(s, t);
        actions[t] = token(s, t);
        lp[t] = (float)log_prob(w->theta, row(s, t), token(s, t));
        ref[t] = (float)log_prob(w->reference, row(s, t), token(s, t));
    }
    lp_kl_per_token(LP_KL_K1, T, lp, ref, NULL, kl);
    lp_token_rewards(1, offsets, kl, BETA, &w->reward[s], rewards);
    lp_gae(1, offsets, rewards, values, 1.0, 1.0, advantages, returns);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    lp_tensor theta = lp_input_f64(t, V + 1, V, w->theta);
    lp_dist pi = lp_categorical(t, lp_rows(t, theta, lp_const_i32(t, T, 1, rows)));
    const lp_ppo_loss_def def = {0.2, 0.2, 0.0, 1.0, lp, values, advantages, returns};
    lp_tensor value = lp_const_f32(t, T, 1, values);
    lp_tensor loss =
        lp_ppo_loss(t, lp_log_prob(t, pi, lp_const_i32(t, T, 1, actions)), value, &def);
    assert_int_equal(lp_backward(t, loss), LP_OK);
    for (int i = 0; i < (V + 1) * V; i++)
        grad[i] -= weight * lp_grad_at(theta, 0, i); /* loss = -objective */
    lp_tape_destroy(t);
}

static void compare(const world* w, const double* grad) {
    double theta[(V + 1) * V];
    memcpy(theta, w->theta, sizeof theta);
    for (int i = 0; i < (V + 1) * V; i++) {
        const double h = 1e-5;
        theta[i] = w->theta[i] + h;
        const double up = objective(w, theta);
        theta[i] = w->theta[i] - h;
        const double down = objective(w, theta);
        theta[i] = w->theta[i];
        assert_close(grad[i], (up - down) / (2 * h), 2e-6);
    }
}

static void unbiased(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const world w = make_world();
    const float zeros[T] = {0};
    double grad[(V + 1) * V] = {0};
    for (int s = 0; s < N; s++)
        add_estimate(ctx, &w, s, exp(sequence_log_prob(w.theta, s)), zeros, grad);
    compare(&w, grad);
    lp_ctx_destroy(ctx);
}

/* A value that depends on what came before, and on nothing after, changes the estimate but not its
 * mean. */
static void unbiased_with_baseline(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const world w = make_world();
    double grad[(V + 1) * V] = {0};
    for (int s = 0; s < N; s++) {
        float values[T];
        for (int t = 0; t < T; t++) values[t] = 0.3f * (float)row(s, t) - 0.5f * (float)t;
        add_estimate(ctx, &w, s, exp(sequence_log_prob(w.theta, s)), values, grad);
    }
    compare(&w, grad);
    lp_ctx_destroy(ctx);
}

/* The same arithmetic in a loop: 64 sampled sequences a step, advantages whitened, SGD. With the
 * true rewards the mean reward rises above 0.9; with rewards that belong to other sequences of the
 * batch it stays near where it began. */
static double learn(lp_ctx* ctx, bool shuffled) {
    enum { B = 64, STEPS = 150 };
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor theta = lp_param(params, "theta", V + 1, V);
    lp_optim_def sgd = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    sgd.learning_rate = 2.0;
    assert_int_equal(lp_optim_create(params, &sgd, &optim), LP_OK);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_rng rng = lp_rng_philox(11, LP_FOR_TEST, shuffled, 0);
    double last = 0;
    for (int step = 0; step < STEPS; step++) {
        int64_t offsets[B + 1];
        float lp[B * T], zeros[B * T] = {0}, rewards[B * T], advantages[B * T], returns[B * T];
        double scores[B], mean = 0;
        int32_t rows[B * T], actions[B * T], order[B];
        lp_tape_reset(t);
        lp_dist all = lp_categorical(t, theta);
        for (int s = 0; s < B; s++) {
            int previous = V, hits = 0;
            offsets[s] = s * T;
            for (int i = 0; i < T; i++) {
                float p[V];
                for (int j = 0; j < V; j++) p[j] = expf(lp_f32(all.log_p)[previous * V + j]);
                const int a = (int)lp_rng_choice_f32(&rng, p, V);
                rows[s * T + i] = previous;
                actions[s * T + i] = a;
                lp[s * T + i] = lp_f32(all.log_p)[previous * V + a];
                previous = a;
                hits += a == 2;
            }
            scores[s] = hits / (double)T; /* as many 2s as there can be */
            mean += scores[s] / B;
        }
        offsets[B] = B * T;
        last = mean;
        if (shuffled) {
            double moved[B];
            lp_rng_permutation(&rng, order, B);
            for (int s = 0; s < B; s++) moved[s] = scores[order[s]];
            memcpy(scores, moved, sizeof scores);
        }
        lp_token_rewards(B, offsets, zeros, 0.0, scores, rewards);
        lp_gae(B, offsets, rewards, zeros, 1.0, 1.0, advantages, returns);
        lp_whiten(B * T, advantages, true);
        lp_dist pi = lp_categorical(t, lp_rows(t, theta, lp_const_i32(t, B * T, 1, rows)));
        const lp_ppo_loss_def def = {0.2, 0.2, 0.0, B * T, lp, zeros, advantages, returns};
        lp_tensor loss = lp_ppo_loss(t, lp_log_prob(t, pi, lp_const_i32(t, B * T, 1, actions)),
                                     lp_const_f32(t, B * T, 1, zeros), &def);
        assert_int_equal(lp_backward(t, loss), LP_OK);
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    }
    return last;
}

static void true_rewards_learn_and_shuffled_do_not(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const double learnt = learn(ctx, false), control = learn(ctx, true);
    if (learnt < 0.9) fail_msg("true rewards: mean %g", learnt);
    if (control > 0.5) fail_msg("shuffled rewards: mean %g", control);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unbiased),
        cmocka_unit_test(unbiased_with_baseline),
        cmocka_unit_test(true_rewards_learn_and_shuffled_do_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
