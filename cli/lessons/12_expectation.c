/* Lesson 12, first half: the score has mean zero, maximum likelihood, when a
 * derivative may go under an integral, and when not. */
#include "lesson_12.h"
#include <math.h>

enum { D = 2, K = 3 };
static const double MEAN = 0.6, WIDTH = 1.3;

double lesson_normal_density(double x, double mean, double width) {
    const double z = (x - mean) / width, sqrt_2pi = 2.50662827463100050242;
    return exp(-z * z / 2) / (width * sqrt_2pi);
}

/* ---- the score has mean zero ----------------------------------------------------------------- */

static double weighted_score(double x, const void* user) {
    (void)user;
    return lesson_normal_density(x, MEAN, WIDTH) * (x - MEAN) / (WIDTH * WIDTH);
}

static void zero_mean(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double x[D], theta[D * K], p[K], mean[D * K] = {0}, zero[D * K] = {0};
    lesson_draw(&rng, D, x);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, x, p);
    for (int a = 0; a < K; a++) {
        double score[D * K];
        lp_softmax_policy_grad(D, K, x, p, a, score);
        for (int i = 0; i < D * K; i++) mean[i] += p[a] * score[i];
    }
    lp_spread sampled = {0};
    for (int s = 0; s < 100000; s++) {
        double z;
        lp_rng_normal_f64(&rng, &z, 1);
        lp_spread_add(&sampled, z / WIDTH);
    }
    lesson_text(l, "A density integrates to 1 whatever θ is, so the derivative of that integral is "
                   "0. Taken under the integral (when it may be is said below) and written with "
                   "the score, this says that the score is~0 on average:");
    lesson_formula(
        l, "0 = d/dθ ∫ f_θ(x) dx = ∫ ∂f_θ(x)/∂θ dx = ∫ f_θ(x) ∂ ln f_θ(x)/∂θ dx = E[∂ ln f/∂θ]");
    lesson_text(l, "For a softmax policy as a sum, of six entries the worst; for a Gaussian as an "
                   "integral; and as the "
                   "mean of 100,000 samples:");
    lesson_sides(l, "E[score]", "0");
    lesson_farthest(l, D * K, mean, zero, 1e-15, "softmax, Σ_a p_a ∇log p_a");
    lesson_equal(l, lesson_integral(weighted_score, NULL, MEAN - 12 * WIDTH, MEAN + 12 * WIDTH), 0,
                 1e-12, "Gaussian, integral");
    lesson_sampled(l, &sampled, 0, "Gaussian, samples");
}

/* ---- where the score of the data is zero: maximum likelihood --------------------------------- */

enum { N = 40, DRAWS = 200 };

/* log f(x_1) + ... + log f(x_N) of Gaussians */
static double normal_log_likelihood(double mean, const void* data) {
    const double* x = data;
    double sum = 0;
    for (int i = 0; i < N; i++) sum += log(lesson_normal_density(x[i], mean, WIDTH));
    return sum;
}
static double normal_score_of(const double* x, double mean) {
    double sum = 0;
    for (int i = 0; i < N; i++) sum += (x[i] - mean) / (WIDTH * WIDTH);
    return sum;
}

static void gaussian_likelihood(lesson* l) {
    lp_rng rng = lesson_rng(l, 6);
    double x[N], best = 0;
    lp_rng_normal_f64(&rng, x, N);
    for (int i = 0; i < N; i++) {
        x[i] = MEAN + WIDTH * x[i];
        best += x[i] / N;
    }
    lesson_text(
        l,
        "Maximum likelihood turns this round: the data stay, and θ is sought that makes the sum of "
        "their ln~f greatest. There the scores of the data add up to~0 exactly, where at the true "
        "θ they do so only on average. For %d draws from a Gaussian of mean θ~=~%g, θ* is their "
        "mean, %.4f:",
        N, MEAN, best);
    lesson_formula(l, "Σ_i ∂ ln f_θ(x_i)/∂θ = 0  at  θ = θ*,   Gaussian: Σ_i (x_i − θ*)/σ² = 0");
    lesson_sides(l, "Σ (x − θ)/σ²", "differences");
    lesson_equal(l, normal_score_of(x, MEAN), lesson_slope(normal_log_likelihood, x, MEAN), 1e-7,
                 "Gaussian, at the true θ");
    lesson_equal(l, normal_score_of(x, best), lesson_slope(normal_log_likelihood, x, best), 1e-7,
                 "Gaussian, at θ*");
    lesson_sides(l, "Σ (x − θ)/σ²", "0");
    lesson_equal(l, normal_score_of(x, best), 0, 1e-12, "Gaussian, at θ*");
    lesson_sides(l, "Σ ln f at θ*", "at the true θ");
    lesson_above(l, normal_log_likelihood(best, x), normal_log_likelihood(MEAN, x), "Gaussian");
}

/* sum_a n_a log p_a of counts n */
static double counts_log_likelihood(const double* theta, const void* counts) {
    const double* n = counts;
    const double one = 1;
    double sum = 0;
    for (int a = 0; a < K; a++) sum += n[a] * lp_softmax_policy_log_prob(1, K, theta, &one, a);
    return sum;
}
static void counts_score(const double* n, const double* theta, double* sum) {
    const double one = 1;
    for (int j = 0; j < K; j++) sum[j] = 0;
    for (int a = 0; a < K; a++) {
        double score[K];
        lesson_score(1, K, theta, &one, a, score);
        for (int j = 0; j < K; j++) sum[j] += n[a] * score[j];
    }
}

static void softmax_likelihood(lesson* l) {
    static const double theta[K] = {-0.5, 0.3, 0.9}, zero[K] = {0};
    const double one = 1;
    double p[K], n[K] = {0}, best[K], score[K], numeric[K];
    lp_rng rng = lesson_rng(l, 7);
    lp_softmax_policy_probs(1, K, theta, &one, p);
    for (int i = 0; i < DRAWS; i++) n[lp_softmax_policy_sample(&rng, K, p)] += 1;
    for (int a = 0; a < K; a++) best[a] = log(n[a] / DRAWS);
    lesson_text(l,
                "For %d actions of a softmax with logits −0.5, 0.3 and 0.9, chosen %g, %g and %g "
                "times, p* are these frequencies, and their logarithms are logits of it. "
                "Lesson~1's loss is −1/n of this sum of logarithms, so descent on it goes there:",
                DRAWS, n[0], n[1], n[2]);
    lesson_formula(l, "softmax: Σ_i (e_{a_i} − p*) = 0,   p*_a = n_a/n");
    lesson_sides(l, "Σ (e_a − p)", "differences");
    counts_score(n, theta, score);
    lesson_gradient(counts_log_likelihood, n, K, theta, numeric);
    lesson_farthest(l, K, score, numeric, 1e-7, "softmax, at the true θ");
    counts_score(n, best, score);
    lesson_gradient(counts_log_likelihood, n, K, best, numeric);
    lesson_farthest(l, K, score, numeric, 1e-7, "softmax, at p*");
    lesson_sides(l, "Σ (e_a − p)", "0");
    lesson_farthest(l, K, score, zero, 1e-12, "softmax, at p*");
    lesson_sides(l, "Σ log p at p*", "at the true θ");
    lesson_above(l, counts_log_likelihood(best, n), counts_log_likelihood(theta, n), "softmax");
}

/* ---- d/dtheta int g f = int g df/dtheta: a Gaussian lets the two change places --------------- */

static double one(double x) {
    (void)x;
    return 1;
}
static double square(double x) { return x * x; }
static double itself(double x) { return x; }

/* A function g under the integral, and the mean or end at which it is taken. */
typedef struct under {
    double (*g)(double x);
    double theta;
} under;

static double normal_integrand(double x, const void* user) {
    const under* u = user;
    return u->g(x) * lesson_normal_density(x, u->theta, WIDTH);
}

/* over limits that do not move with theta */
static double normal_integral(double theta, const void* user) {
    under u = *(const under*)user;
    u.theta = theta;
    return lesson_integral(normal_integrand, &u, MEAN - 12 * WIDTH, MEAN + 12 * WIDTH);
}

static double density_at(double theta, const void* x) {
    return lesson_normal_density(*(const double*)x, theta, WIDTH);
}
static double normal_inside(double x, const void* user) {
    const under* u = user;
    return u->g(x) * lesson_slope(density_at, &x, u->theta);
}

static void interchange(lesson* l) {
    static const struct {
        const char* name;
        double (*g)(double x);
    } cases[] = {{"g = 1", one}, {"g = x²", square}, {"g = cos x", cos}};
    lesson_text(l, "May the derivative go under the integral? It may if, for almost every x, f has "
                   "a derivative in θ at "
                   "all θ nearby, and if |g~∂f/∂θ| stays there under one function of x whose "
                   "integral is finite. A "
                   "Gaussian is smooth, and its tails fall fast enough. On the left the integral "
                   "is differentiated, on "
                   "the right the density:");
    lesson_formula(l, "d/dθ ∫ g(x) f_θ(x) dx = ∫ g(x) ∂f_θ(x)/∂θ dx");
    lesson_sides(l, "d/dθ of integral", "integral of ∂/∂θ");
    for (int i = 0; i < 3; i++) {
        const under u = {cases[i].g, MEAN};
        lesson_equal(l, lesson_slope(normal_integral, &u, MEAN),
                     lesson_integral(normal_inside, &u, MEAN - 12 * WIDTH, MEAN + 12 * WIDTH), 1e-9,
                     "%s", cases[i].name);
    }
}

/* ---- the uniform density on [0, theta] does not ---------------------------------------------- */

static double uniform_integrand(double x, const void* user) {
    const under* u = user;
    return u->g(x) / u->theta;
}
static double uniform_integral(double theta, const void* user) {
    under u = *(const under*)user;
    u.theta = theta;
    return lesson_integral(uniform_integrand, &u, 0, theta);
}
static double uniform_inside(double x, const void* user) {
    const under* u = user;
    return u->g(x) * (-1 / (u->theta * u->theta));
}

static void counterexample(lesson* l) {
    static const struct {
        const char* name;
        double (*g)(double x);
    } cases[] = {{"g = 1", one}, {"g = x", itself}, {"g = x²", square}};
    double outside[3], inside[3], edge[3];
    const double theta = 2;
    for (int i = 0; i < 3; i++) {
        const under u = {cases[i].g, theta};
        outside[i] = lesson_slope(uniform_integral, &u, theta);
        inside[i] = lesson_integral(uniform_inside, &u, 0, theta);
        edge[i] = cases[i].g(theta) / theta;
    }
    lesson_text(l, "Where it fails: f~=~1/θ on [0,~θ], whose end moves, so that f jumps when θ "
                   "passes x. The integral of "
                   "f is 1 and stays~1, but ∂f/∂θ is −1/θ² all over the interval, and its integral "
                   "−1/θ. The score is "
                   "−1/θ everywhere, and so is its mean. At θ~=~2:");
    lesson_sides(l, "d/dθ of integral", "integral of ∂/∂θ");
    for (int i = 0; i < 3; i++) lesson_apart(l, outside[i], inside[i], 0.4, "%s", cases[i].name);
    lesson_text(l, "What is missing is what comes in over the moving end (Leibniz), and with it "
                   "the sides agree:");
    lesson_formula(l, "d/dθ ∫₀^θ g f_θ dx = ∫₀^θ g ∂f_θ/∂θ dx + g(θ) f_θ(θ)");
    lesson_sides(l, "d/dθ of integral", "… + g(θ) f(θ)");
    for (int i = 0; i < 3; i++)
        lesson_equal(l, outside[i], inside[i] + edge[i], 1e-9, "%s", cases[i].name);
}

lp_status lesson_expectation(lesson* l) {
    zero_mean(l);
    gaussian_likelihood(l);
    softmax_likelihood(l);
    interchange(l);
    counterexample(l);
    lesson_baselines(l);
    lesson_fisher(l);
    lesson_cramer_rao(l);
    return LP_OK;
}
