/* Lesson 12, first half: the score has mean zero, when a derivative may go under an integral, and when not. */
#include "lesson_12.h"
#include <math.h>

enum { D = 2, K = 3 };
static const double MEAN = 0.6, WIDTH = 1.3;

double lesson_normal_density(double x, double mean, double width) {
    const double z = (x - mean) / width, sqrt_2pi = 2.50662827463100050242;
    return exp(-z * z / 2) / (width * sqrt_2pi);
}

/* ---- the score has mean zero ------------------------------------------------------------------------ */

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
    lesson_text(l, "A density integrates to 1 whatever θ is, so the derivative of that integral is 0. Taken under the "
                   "integral, and written with the score, this says that the score is~0 on average:");
    lesson_formula(l, "0 = d/dθ ∫ f_θ(x) dx = ∫ ∂f_θ(x)/∂θ dx = ∫ f_θ(x) ∂ ln f_θ(x)/∂θ dx = E[∂ ln f/∂θ]");
    lesson_text(l, "For a softmax policy as a sum, of six entries the worst; for a Gaussian as an integral; and as the "
                   "mean of 100,000 samples:");
    lesson_sides(l, "E[score]", "0");
    lesson_farthest(l, D * K, mean, zero, 1e-15, "softmax, Σ_a p_a ∇log p_a");
    lesson_equal(l, lesson_integral(weighted_score, NULL, MEAN - 12 * WIDTH, MEAN + 12 * WIDTH), 0, 1e-12,
                 "Gaussian, integral");
    lesson_sampled(l, &sampled, 0, "Gaussian, samples");
}

/* ---- d/dtheta int g f = int g df/dtheta: a Gaussian lets the two change places --------------------- */

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
    lesson_text(l, "May the derivative go under the integral? It may if, for almost every x, f has a derivative in θ at "
                   "all θ nearby, and if |g~∂f/∂θ| stays there under one function of x whose integral is finite. A "
                   "Gaussian is smooth, and its tails fall fast enough. On the left the integral is differentiated, on "
                   "the right the density:");
    lesson_formula(l, "d/dθ ∫ g(x) f_θ(x) dx = ∫ g(x) ∂f_θ(x)/∂θ dx");
    lesson_sides(l, "d/dθ of integral", "integral of ∂/∂θ");
    for (int i = 0; i < 3; i++) {
        const under u = {cases[i].g, MEAN};
        lesson_equal(l, lesson_slope(normal_integral, &u, MEAN),
                     lesson_integral(normal_inside, &u, MEAN - 12 * WIDTH, MEAN + 12 * WIDTH), 1e-9, "%s", cases[i].name);
    }
}

/* ---- the uniform density on [0, theta] does not ----------------------------------------------------- */

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
    lesson_text(l, "Where it fails: f~=~1/θ on [0,~θ], whose end moves, so that f jumps when θ passes x. The integral of "
                   "f is 1 and stays~1, but ∂f/∂θ is −1/θ² all over the interval, and its integral −1/θ. The score is "
                   "−1/θ everywhere, and so is its mean. At θ~=~2:");
    lesson_sides(l, "d/dθ of integral", "integral of ∂/∂θ");
    for (int i = 0; i < 3; i++) lesson_apart(l, outside[i], inside[i], 0.4, "%s", cases[i].name);
    lesson_text(l, "What is missing is what comes in over the moving end (Leibniz), and with it the sides agree:");
    lesson_formula(l, "d/dθ ∫₀^θ g f_θ dx = ∫₀^θ g ∂f_θ/∂θ dx + g(θ) f_θ(θ)");
    lesson_sides(l, "d/dθ of integral", "… + g(θ) f(θ)");
    for (int i = 0; i < 3; i++) lesson_equal(l, outside[i], inside[i] + edge[i], 1e-9, "%s", cases[i].name);
}

lp_status lesson_expectation(lesson* l) {
    zero_mean(l);
    interchange(l);
    counterexample(l);
    lesson_baselines(l);
    lesson_fisher(l);
    lesson_cramer_rao(l);
    return LP_OK;
}
