/* Lesson 10: the derivative of a logarithm, and products and quotients that become sums and
 * differences. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3, T = 5 };

/* A function and its derivative. */
typedef struct curve {
    const char* name;
    double (*f)(double x);
    double (*slope)(double x);
} curve;

static double cubic(double x) { return x * x * x - 2 * x; }
static double cubic_slope(double x) { return 3 * x * x - 2; }
static double decay(double x) { return -exp(-2 * x); }
static double decay_slope(double x) { return 2 * exp(-2 * x); }
static const curve curves[] = {
    {"x³ − 2x", cubic, cubic_slope}, {"sin x", sin, cos}, {"−e^(−2x)", decay, decay_slope}};
enum { CURVES = sizeof curves / sizeof *curves };

static double log_abs(double x, const void* user) {
    const curve* c = user;
    return log(fabs(c->f(x)));
}

static void identity(lesson* l) {
    static const double points[CURVES][2] = {{2, 1}, {1, 4}, {0, 0.5}};
    lesson_text(l, "By the chain rule the derivative of ln~f is f'/f, the change of f as a share "
                   "of f. With |f| in the "
                   "logarithm it holds for negative f too, since −f changes by the same share:");
    lesson_formula(l, "d/dx ln|f(x)| = f'(x)/f(x),   f(x) ≠ 0");
    lesson_sides(l, "ln|f|, differences", "f'/f");
    for (int c = 0; c < CURVES; c++) {
        for (int i = 0; i < 2; i++) {
            const double x = points[c][i], f = curves[c].f(x);
            lesson_equal(l, lesson_slope(log_abs, &curves[c], x), curves[c].slope(x) / f, 1e-9,
                         "%s, x = %g, f %s 0", curves[c].name, x, f < 0 ? "<" : ">");
        }
    }
    lesson_text(l, "Where f is 0 it has no logarithm, and a change cannot be a share of it:");
    lesson_sides(l, "f'/f", "f'");
    lesson_undefined(l, cubic_slope(0) / cubic(0), cubic_slope(0), "x³ − 2x, x = 0");
}

/* 1/2 log f^2, which is ln|f|, of f = x^3 - 2x on the tape */
static lp_status on_tape(lesson* l) {
    lp_tape* t = lp_tape_create(l->ctx, LP_F64);
    if (!t) return LP_NOMEM;
    lesson_text(l, "The tape takes logarithms of positive numbers only; ln|f| is ½~ln~f²:");
    lesson_sides(l, "tape, ½ ln f²", "f'/f");
    for (int i = 1; i <= 2; i++) {
        const double at = i;
        lp_tape_reset(t);
        lp_tensor x = lp_input_f64(t, 1, 1, &at);
        lp_tensor f = lp_sub(t, lp_mul(t, x, lp_square(t, x)), lp_scale(t, x, 2));
        const lp_status status = lp_backward(t, lp_scale(t, lp_log(t, lp_square(t, f)), 0.5));
        if (status != LP_OK) return status;
        lesson_equal(l, lp_grad_at(x, 0, 0), cubic_slope(at) / cubic(at), 1e-13, "x³ − 2x, x = %d",
                     i);
    }
    return LP_OK;
}

static double product(double x, const void* user) {
    (void)user;
    return cubic(x) * sin(x) * decay(x);
}

static void products(lesson* l) {
    lesson_text(l, "The use of it: a logarithm makes sums of products, and the derivative of a sum "
                   "needs no product "
                   "rule. For F, the product of the three functions above:");
    lesson_formula(l, "ln|fgh| = ln|f| + ln|g| + ln|h|,   F'/F = f'/f + g'/g + h'/h");
    lesson_sides(l, "F'/F, differences", "sum of three");
    for (double x = 1; x < 4; x += 1) {
        double sum = 0;
        for (int c = 0; c < CURVES; c++) sum += curves[c].slope(x) / curves[c].f(x);
        lesson_equal(l, lesson_slope(product, NULL, x) / product(x, NULL), sum, 1e-8, "x = %g", x);
    }
}

static double quotient(double x, const void* user) {
    (void)user;
    return sin(x) / cubic(x);
}

static void quotients(lesson* l) {
    lesson_text(l,
                "A quotient becomes a difference in the same way, without the quotient rule. For "
                "Q~=~sin~x~/~(x³~−~2x):");
    lesson_formula(l, "ln|f/g| = ln|f| − ln|g|,   Q'/Q = f'/f − g'/g");
    lesson_sides(l, "Q'/Q, differences", "f'/f − g'/g");
    for (double x = 1; x < 5; x += 1) {
        const double right = cos(x) / sin(x) - cubic_slope(x) / cubic(x);
        lesson_equal(l, lesson_slope(quotient, NULL, x) / quotient(x, NULL), right, 1e-8,
                     "x = %g, Q %s 0", x, quotient(x, NULL) < 0 ? "<" : ">");
    }
}

/* ---- the ratio of two policies --------------------------------------------------------------- */

/* The policy that drew action a in state x. */
typedef struct drawn {
    double x[D], old[D * K];
    int64_t a;
} drawn;

/* rho(Theta) = pi_Theta(a|x) / pi_old(a|x) */
static double ratio(const double* theta, const void* user) {
    const drawn* d = user;
    double p[K], q[K];
    lp_softmax_policy_probs(D, K, theta, d->x, p);
    lp_softmax_policy_probs(D, K, d->old, d->x, q);
    return p[d->a] / q[d->a];
}

static void ratios(lesson* l) {
    lp_rng rng = lesson_rng(l, 1);
    drawn d;
    double theta[D * K], q[K], numeric[D * K], by_score[D * K];
    lesson_draw(&rng, D, d.x);
    lesson_draw(&rng, D * K, d.old);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, d.old, d.x, q);
    d.a = lp_softmax_policy_sample(&rng, K, q);
    const double rho = ratio(theta, &d);
    lesson_gradient(ratio, &d, D * K, theta, numeric);
    lesson_score(D, K, theta, d.x, d.a, by_score);
    for (int i = 0; i < D * K; i++) by_score[i] *= rho;
    lesson_text(l,
                "PPO has such a quotient: how much likelier Θ makes an action than the policy that "
                "drew it. The old policy does not depend on Θ, so its logarithm drops out. Here "
                "ρ~=~%.4f:",
                rho);
    lesson_formula(l, "ρ = π_Θ(a|x)/π_old(a|x),   ∇log ρ = ∇log π_Θ(a|x),   ∇ρ = ρ ∇log π_Θ(a|x)");
    lesson_sides(l, "differences of ρ", "ρ x (e_a − p)ᵀ");
    lesson_matrix(l, D, K, numeric, by_score, 1e-9, "∂ρ/∂Θ");
}

/* ---- the probability of a whole episode ------------------------------------------------------ */

typedef struct episode {
    double x[T * D], environment[T]; /* states, and how likely the environment made each step */
    int actions[T];
} episode;

/* p(tau) = prod_t pi(a_t|x_t) P_t */
static double likelihood(const double* theta, const void* user) {
    const episode* e = user;
    double all = 1, p[K];
    for (int t = 0; t < T; t++) {
        lp_softmax_policy_probs(D, K, theta, e->x + t * D, p);
        all *= p[e->actions[t]] * e->environment[t];
    }
    return all;
}
static double log_likelihood(const double* theta, const void* user) {
    return log(likelihood(theta, user));
}

static void episodes(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    episode e;
    double theta[D * K], sum[D * K] = {0}, numeric[D * K], log_sum = 0;
    lesson_draw(&rng, D * K, theta);
    lesson_draw(&rng, T * D, e.x);
    for (int t = 0; t < T; t++) {
        double score[D * K];
        e.actions[t] = (int)lp_rng_below(&rng, K);
        e.environment[t] = 0.1 + 0.8 * lp_rng_uniform(&rng);
        lesson_score(D, K, theta, e.x + t * D, e.actions[t], score);
        for (int i = 0; i < D * K; i++) sum[i] += score[i];
        log_sum += lp_softmax_policy_log_prob(D, K, theta, e.x + t * D, e.actions[t]) +
                   log(e.environment[t]);
    }
    lesson_gradient(log_likelihood, &e, D * K, theta, numeric);
    lesson_text(
        l, "The product that matters is the probability of an episode: the policy's choice and the "
           "environment's answer, step after step. In its logarithm the environment is a sum of "
           "its own "
           "without Θ, and drops out of the gradient: that is why nobody need know it. For five "
           "steps:");
    lesson_formula(l, "p(τ) = Π_t π(a_t|x_t) P_t,   ∇log p(τ) = Σ_t ∇log π(a_t|x_t)");
    lesson_sides(l, "log of the product", "sum of logs");
    lesson_equal(l, log(likelihood(theta, &e)), log_sum, 1e-13, "log p(τ)");
    lesson_sides(l, "differences", "Σ x (e_a − p)ᵀ");
    lesson_matrix(l, D, K, numeric, sum, 1e-9, "∂log p(τ)/∂Θ");
}

static void underflow(lesson* l) {
    double all = 1, sum = 0;
    for (int t = 0; t < 1000; t++) {
        all *= 0.3;
        sum += log(0.3);
    }
    lesson_text(l, "And a product of a thousand probabilities of 0.3 is less than the smallest "
                   "double, while the sum of "
                   "their logarithms is an ordinary number:");
    lesson_sides(l, "log of the product", "sum of logs");
    lesson_undefined(l, log(all), sum, "0.3¹⁰⁰⁰");
    lesson_sides(l, "sum of logs", "1000 ln 0.3");
    lesson_equal(l, sum, 1000 * log(0.3), 1e-9, "0.3¹⁰⁰⁰");
}

lp_status lesson_log_derivative(lesson* l) {
    identity(l);
    const lp_status status = on_tape(l);
    if (status != LP_OK) return status;
    products(l);
    quotients(l);
    ratios(l);
    episodes(l);
    underflow(l);
    return LP_OK;
}
