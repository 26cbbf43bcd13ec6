/* Lesson 12, second half: what follows from a score of mean zero: baselines, Fisher's information, Cramér and Rao. */
#include "lesson_12.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 3, SAMPLES = 50000, N = 25, ESTIMATES = 20000 };
static const double ONE = 1, MEAN = 0.6, WIDTH = 1.3;
static const double reward[K] = {10, 11, 12};

/* ---- baselines, for a softmax of three logits ------------------------------------------------------ */

static double expected_reward(const double* theta, const void* user) {
    double p[K];
    (void)user;
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    return lesson_dot(K, p, reward);
}

/* (R(a) - b) grad log p_a */
static void estimate(const double* p, int64_t a, double b, double* g) {
    lp_softmax_policy_grad(1, K, &ONE, p, a, g);
    for (int j = 0; j < K; j++) g[j] *= reward[a] - b;
}

static double distance(const double* a, const double* b) {
    double sum = 0;
    for (int j = 0; j < K; j++) sum += (a[j] - b[j]) * (a[j] - b[j]);
    return sum;
}

/* mean [K] and E|g - grad J|^2 of the estimate with baseline b, by enumeration */
static double moments(const double* p, double b, const double* gradient, double* mean) {
    double variance = 0, g[K];
    memset(mean, 0, K * sizeof *mean);
    for (int a = 0; a < K; a++) {
        estimate(p, a, b, g);
        variance += p[a] * distance(g, gradient);
        for (int j = 0; j < K; j++) mean[j] += p[a] * g[j];
    }
    return variance;
}

/* E[|s|^2 R] / E[|s|^2], s the score: where the derivative of the variance by b vanishes */
static double best_baseline(const double* p) {
    double above = 0, below = 0, s[K];
    for (int a = 0; a < K; a++) {
        lp_softmax_policy_grad(1, K, &ONE, p, a, s);
        above += p[a] * lesson_dot(K, s, s) * reward[a];
        below += p[a] * lesson_dot(K, s, s);
    }
    return above / below;
}

static lp_spread measured_variance(lesson* l, uint32_t stream, const double* p, double b, const double* gradient) {
    lp_rng rng = lesson_rng(l, stream);
    lp_spread spread = {0};
    for (int s = 0; s < SAMPLES; s++) {
        double g[K];
        estimate(p, lp_softmax_policy_sample(&rng, K, p), b, g);
        lp_spread_add(&spread, distance(g, gradient));
    }
    return spread;
}

void lesson_baselines(lesson* l) {
    static const double theta[K] = {-0.5, 0.3, 0.9};
    double p[K], gradient[K], mean[K], variance[3];
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    const double baselines[3] = {0, lesson_dot(K, p, reward), best_baseline(p)};
    static const char* const names[3] = {"b = 0", "b = E[R]", "b = b*"};
    lesson_gradient(expected_reward, NULL, K, theta, gradient);
    lesson_text(l, "First consequence: since E[∇log~π]~=~0, any b that does not depend on the action may be taken off the "
                   "reward without moving the mean of the estimate. Its variance does move, and is least at "
                   "b*~=~E[|∇log~π|²~R]/E[|∇log~π|²]. Three actions of logits −0.5, 0.3 and 0.9 pay 10, 11 and 12; "
                   "E[R]~=~%.4f, b*~=~%.4f:", baselines[1], baselines[2]);
    lesson_formula(l, "E[(R − b) ∇log π] = E[R ∇log π] = ∇J");
    lesson_sides(l, "E[(R − b) ∇log π]", "differences of J");
    for (int i = 0; i < 3; i++) {
        variance[i] = moments(p, baselines[i], gradient, mean);
        lesson_farthest(l, K, mean, gradient, 1e-8, "%s, worst of three", names[i]);
    }
    lesson_text(l, "The variance E|(R~−~b)~∇log~π~−~∇J|², measured on 50,000 samples and summed exactly:");
    lesson_sides(l, "measured", "exact");
    for (int i = 0; i < 3; i++) {
        const lp_spread spread = measured_variance(l, 1 + (uint32_t)i, p, baselines[i], gradient);
        lesson_sampled(l, &spread, variance[i], "%s", names[i]);
    }
    lesson_sides(l, "variance", "variance");
    lesson_below(l, variance[1], variance[0], "b = E[R] beside b = 0");
    lesson_below(l, variance[2], variance[1], "b = b* beside b = E[R]");
}

/* ---- Fisher information ---------------------------------------------------------------------------- */

static double log_p(const double* theta, int a) { return lp_softmax_policy_log_prob(1, K, theta, &ONE, a); }

/* d^2 log p_a / dtheta_i dtheta_j, by central differences in both */
static double curvature(const double* theta, int a, int i, int j) {
    const double h = 1e-4;
    double sum = 0;
    for (int side = 0; side < 4; side++) {
        const double u = side & 1 ? -h : h, v = side & 2 ? -h : h;
        double moved[K];
        memcpy(moved, theta, sizeof moved);
        moved[i] += u;
        moved[j] += v;
        sum += (u * v > 0 ? 1 : -1) * log_p(moved, a);
    }
    return sum / (4 * h * h);
}

static double squared_score(double x, const void* user) {
    const double score = (x - MEAN) / (WIDTH * WIDTH);
    (void)user;
    return lesson_normal_density(x, MEAN, WIDTH) * score * score;
}

static double log_density(double mean, double x) { return log(lesson_normal_density(x, mean, WIDTH)); }
static double minus_curvature(double x, const void* user) {
    const double h = 1e-3; /* ln f is a parabola in the mean: no error but rounding */
    (void)user;
    return -lesson_normal_density(x, MEAN, WIDTH) *
           (log_density(MEAN + h, x) - 2 * log_density(MEAN, x) + log_density(MEAN - h, x)) / (h * h);
}

void lesson_fisher(lesson* l) {
    lp_rng rng = lesson_rng(l, 4);
    double theta[K], p[K], s[K][K];
    lesson_draw(&rng, K, theta);
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    for (int a = 0; a < K; a++) lp_softmax_policy_grad(1, K, &ONE, p, a, s[a]);
    lesson_text(l, "Second: differentiate E[score]~=~0 once more, and the variance of the score turns out to be the mean "
                   "curvature of −ln~f. This is Fisher's information: how sharply the data tell θ from its neighbours. "
                   "For three logits, and for the mean of a Gaussian, where it is 1/σ²:");
    lesson_formula(l, "I(θ) = E[∇ln f ∇ln fᵀ] = −E[∇² ln f]");
    lesson_sides(l, "E[score scoreᵀ]", "−E[∇² ln p]");
    for (int i = 0; i < K; i++) {
        for (int j = i; j < K; j++) {
            double left = 0, right = 0;
            for (int a = 0; a < K; a++) {
                left += p[a] * s[a][i] * s[a][j];
                right -= p[a] * curvature(theta, a, i, j);
            }
            lesson_equal(l, left, right, 1e-6, "softmax, I[%d,%d]", i, j);
        }
    }
    const double from = MEAN - 8 * WIDTH, to = MEAN + 8 * WIDTH, information = 1 / (WIDTH * WIDTH);
    lesson_sides(l, "integral", "1/σ²");
    lesson_equal(l, lesson_integral(squared_score, NULL, from, to), information, 1e-9, "Gaussian, E[score²]");
    lesson_equal(l, lesson_integral(minus_curvature, NULL, from, to), information, 1e-8, "Gaussian, −E[∂² ln f/∂θ²]");
}

/* ---- the Cramér-Rao bound -------------------------------------------------------------------------- */

static int by_size(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

void lesson_cramer_rao(lesson* l) {
    lp_rng rng = lesson_rng(l, 5);
    lp_spread mean = {0}, mean_error = {0}, median_error = {0};
    for (int e = 0; e < ESTIMATES; e++) {
        double x[N], sum = 0;
        lp_rng_normal_f64(&rng, x, N);
        for (int i = 0; i < N; i++) {
            x[i] = MEAN + WIDTH * x[i];
            sum += x[i];
        }
        qsort(x, N, sizeof *x, by_size);
        lp_spread_add(&mean, sum / N);
        lp_spread_add(&mean_error, (sum / N - MEAN) * (sum / N - MEAN));
        lp_spread_add(&median_error, (x[N / 2] - MEAN) * (x[N / 2] - MEAN));
    }
    const double bound = WIDTH * WIDTH / N;
    lesson_text(l, "Third: no unbiased estimator of θ from n samples varies less than 1/(n~I(θ)), the bound of Cramér and "
                   "Rao (its proof is E[score]~=~0 and one Cauchy–Schwarz). For a Gaussian the sample mean reaches it; "
                   "the median is unbiased too, and does not. n~=~25, each estimated 20,000 times:");
    lesson_formula(l, "Var(T) ≥ 1/(n I(θ)) = σ²/n,   T an unbiased estimator of θ");
    lesson_sides(l, "measured", "exact");
    lesson_sampled(l, &mean, MEAN, "sample mean: its mean, θ");
    lesson_sampled(l, &mean_error, bound, "sample mean: its variance");
    lesson_sides(l, "measured", "bound σ²/n");
    lesson_above(l, median_error.mean, bound, "sample median: its variance");
}
