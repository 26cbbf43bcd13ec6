/* Lesson 3: both updates are stochastic gradients: right on average, and the less noisy the more
 * samples. */
#include "lessons.h"
#include <string.h>

enum { D = 2, K = 3, N = 16, SAMPLES = 100000, REPEATS = 4000 };

/* Points x [N, D]; each has a label, and pays R(x,a) for action a. */
typedef struct task {
    double x[N * D], reward[N * K];
    int32_t y[N];
} task;

/* One sample of a gradient at theta, into grad [D * K]. */
typedef void (*sampler)(const task* t, const double* theta, lp_rng* rng, double* grad);

/* the gradient of one example's loss: x (p - e_y)^T */
static void supervised(const task* t, const double* theta, lp_rng* rng, double* grad) {
    const uint32_t i = lp_rng_below(rng, N);
    lp_softmax_regression_grad(D, K, 1, theta, t->x + i * D, t->y + i, grad);
}

/* one state, one action from the policy, its reward: R(x,a) x (e_a - p)^T */
static void policy(const task* t, const double* theta, lp_rng* rng, double* grad) {
    const uint32_t i = lp_rng_below(rng, N);
    const double* x = t->x + i * D;
    double p[K];
    lp_softmax_policy_probs(D, K, theta, x, p);
    const int64_t a = lp_softmax_policy_sample(rng, K, p);
    lp_softmax_policy_grad(D, K, x, p, a, grad);
    for (int j = 0; j < D * K; j++) grad[j] *= t->reward[(int64_t)i * K + a];
}

static double loss(const double* theta, const void* user) {
    const task* t = user;
    return lp_softmax_regression_loss(D, K, N, theta, t->x, t->y);
}

/* J = 1/n sum_x sum_a pi(a|x) R(x,a) */
static double reward(const double* theta, const void* user) {
    const task* t = user;
    double sum = 0, p[K];
    for (int i = 0; i < N; i++) {
        lp_softmax_policy_probs(D, K, theta, t->x + i * D, p);
        sum += lesson_dot(K, p, t->reward + i * K);
    }
    return sum / N;
}

/* ---- exactly: mean [D * K] and E|g - grad J|^2 of one sample --------------------------------- */

static double distance(const double* a, const double* b) {
    double sum = 0;
    for (int i = 0; i < D * K; i++) sum += (a[i] - b[i]) * (a[i] - b[i]);
    return sum;
}

static double supervised_moments(const task* t, const double* theta, const double* full,
                                 double* mean) {
    double sum = 0, grad[D * K];
    memset(mean, 0, sizeof grad);
    for (int i = 0; i < N; i++) {
        lp_softmax_regression_grad(D, K, 1, theta, t->x + i * D, t->y + i, grad);
        for (int j = 0; j < D * K; j++) mean[j] += grad[j] / N;
        sum += distance(grad, full) / N;
    }
    return sum;
}

static double policy_moments(const task* t, const double* theta, const double* full, double* mean) {
    double sum = 0, p[K], grad[D * K];
    memset(mean, 0, sizeof grad);
    for (int i = 0; i < N; i++) {
        lp_softmax_policy_probs(D, K, theta, t->x + i * D, p);
        for (int a = 0; a < K; a++) {
            lp_softmax_policy_grad(D, K, t->x + i * D, p, a, grad);
            for (int j = 0; j < D * K; j++) {
                grad[j] *= t->reward[i * K + a];
                mean[j] += p[a] * grad[j] / N;
            }
            sum += p[a] * distance(grad, full) / N;
        }
    }
    return sum;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static void unbiased(lesson* l, const task* t, const double* theta, sampler sample,
                     const double* full, const char* name) {
    lp_spread mean[D * K] = {0};
    lp_rng rng = lesson_rng(l, sample == policy);
    for (int s = 0; s < SAMPLES; s++) {
        double grad[D * K];
        sample(t, theta, &rng, grad);
        for (int i = 0; i < D * K; i++) lp_spread_add(&mean[i], grad[i]);
    }
    lesson_sides(l, "100,000 samples", "full gradient");
    lesson_samples(l, D, K, mean, full, name);
}

/* E|g_n - grad J|^2 of the mean g_n of n samples; each of REPEATS such means is one measurement of
 * it. */
static void variance(lesson* l, const task* t, const double* theta, sampler sample,
                     const double* full, double exact, const char* name) {
    lp_rng rng = lesson_rng(l, 2 + (sample == policy));
    for (int n = 1; n <= 64; n *= 4) {
        lp_spread measured = {0};
        for (int r = 0; r < REPEATS; r++) {
            double grad[D * K], mean[D * K] = {0};
            for (int s = 0; s < n; s++) {
                sample(t, theta, &rng, grad);
                for (int i = 0; i < D * K; i++) mean[i] += grad[i] / n;
            }
            lp_spread_add(&measured, distance(mean, full));
        }
        lesson_sampled(l, &measured, exact / n, "%s, n = %d", name, n);
    }
}

static task make_task(lp_rng* rng) {
    task t;
    lesson_draw(rng, N * D, t.x);
    lesson_draw(rng, N * K, t.reward);
    for (int i = 0; i < N; i++) t.y[i] = (int32_t)lp_rng_below(rng, K);
    return t;
}

lp_status lesson_stochastic(lesson* l) {
    lp_rng rng = lesson_rng(l, 4);
    const task t = make_task(&rng);
    double theta[D * K], of_loss[D * K], of_reward[D * K], mean[2][D * K];
    lesson_draw(&rng, D * K, theta);
    lesson_gradient(loss, &t, D * K, theta, of_loss);
    lesson_gradient(reward, &t, D * K, theta, of_reward);
    const double supervised_noise = supervised_moments(&t, theta, of_loss, mean[0]);
    const double policy_noise = policy_moments(&t, theta, of_reward, mean[1]);
    lesson_text(l, "Neither learner needs the whole gradient. A supervised one takes some "
                   "examples, a policy takes some "
                   "actions, and each walks along what it sees: a random vector g. It serves "
                   "because its mean is the "
                   "gradient, and because the mean of n of them is n times less noisy:");
    lesson_formula(l, "E[g] = ∇J,   E|g_n − ∇J|² = σ²/n,   g_n = (g₁ + … + g_n)/n");
    lesson_text(l, "Supervised: 16 points with a label each; g is the gradient of the loss at a "
                   "point drawn at random. "
                   "The full gradient is taken by differences of the loss of all 16:");
    unbiased(l, &t, theta, supervised, of_loss, "∂J/∂Θ");
    lesson_text(l, "Policy gradient: the same 16 points as states, three actions that pay R(x,a); "
                   "g is R~∇log~π for one "
                   "state and one action drawn from the policy. The full gradient is by "
                   "differences of the expected "
                   "reward:");
    unbiased(l, &t, theta, policy, of_reward, "∂J/∂Θ");
    lesson_text(l, "The mean can be had exactly, too: every g there is, weighted by its "
                   "probability. Of six entries the "
                   "one farthest off:");
    lesson_sides(l, "all g, weighted", "full gradient");
    lesson_farthest(l, D * K, mean[0], of_loss, 1e-9, "supervised, E[g]");
    lesson_farthest(l, D * K, mean[1], of_reward, 1e-9, "policy, E[g]");
    lesson_text(l, "The noise. σ² is summed exactly over all points (and actions); on the left it "
                   "is measured, 4,000 "
                   "times for each n. The difference between the two learners is only what they "
                   "climb or descend, and "
                   "who draws the sample: nature the example, the policy itself the action.");
    lesson_sides(l, "measured", "σ²/n");
    variance(l, &t, theta, supervised, of_loss, supervised_noise, "supervised");
    variance(l, &t, theta, policy, of_reward, policy_noise, "policy");
    return LP_OK;
}
