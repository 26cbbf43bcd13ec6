/* Lesson 5: logistic regression, the sigmoid, the log-odds. */
#include "lessons.h"
#include <math.h>

enum { D = 2, N = 8 };

/* Eight labels on a line, x = (1, value): no threshold separates them. */
static const double line[N * D] = {1, -2, 1, -1.5, 1, -1, 1, -0.5, 1, 0.5, 1, 1, 1, 1.5, 1, 2};
static const int32_t labels[N] = {0, 0, 1, 0, 1, 0, 1, 1};

static double sigmoid(double z, const void* user) {
    const double x = 1;
    (void)user;
    return lp_logistic_prob(1, &z, &x);
}

static void log_odds(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double theta[D], x[D];
    lesson_draw(&rng, D, theta);
    lesson_text(l, "A probability lies between 0 and 1, a linear score z~=~xᵀθ anywhere. The odds "
                   "p/(1~−~p) lie between 0 "
                   "and ∞, their logarithm anywhere, so that is what the score is taken to be. "
                   "Solved for p it is the "
                   "sigmoid:");
    lesson_formula(l, "log(p/(1 − p)) = xᵀθ,   p = σ(z) = 1/(1 + e⁻ᶻ)");
    lesson_sides(l, "log(p/(1 − p))", "xᵀθ");
    for (int i = 0; i < 4; i++) {
        lesson_draw(&rng, D, x);
        const double p = lp_logistic_prob(D, theta, x);
        lesson_equal(l, log(p / (1 - p)), lesson_dot(D, x, theta), 1e-12, "x = (%.2f, %.2f)", x[0],
                     x[1]);
    }
    lesson_sides(l, "σ(−z)", "1 − σ(z)");
    for (int z = 1; z <= 5; z += 2)
        lesson_equal(l, sigmoid(-z, NULL), 1 - sigmoid(z, NULL), 1e-15, "z = %d", z);
}

/* p' = p (1 - p), p(0) = 1/2, by the classical Runge-Kutta method in steps of 1/1000 */
static double grown(int until) {
    double p = 0.5;
    const double h = 1e-3;
    for (int step = 0; step < until * 1000; step++) {
        const double a = p * (1 - p), b = (p + h / 2 * a) * (1 - p - h / 2 * a);
        const double c = (p + h / 2 * b) * (1 - p - h / 2 * b), d = (p + h * c) * (1 - p - h * c);
        p += h / 6 * (a + 2 * b + 2 * c + d);
    }
    return p;
}

static void why_logistic(lesson* l) {
    lesson_text(l, "Why logistic? The curve was named by Verhulst, who let a population grow by "
                   "what it is and by the "
                   "room that is left, p'~=~p~(1~−~p). Growing from one half (Runge–Kutta) is the "
                   "sigmoid, and the same "
                   "equation is its derivative:");
    lesson_formula(l, "σ'(z) = σ(z) (1 − σ(z))");
    lesson_sides(l, "grown", "σ(z)");
    for (int z = 1; z <= 3; z++) lesson_equal(l, grown(z), sigmoid(z, NULL), 1e-10, "z = %d", z);
    lesson_sides(l, "differences of σ", "σ (1 − σ)");
    for (int z = -2; z <= 2; z += 2)
        lesson_equal(l, lesson_slope(sigmoid, NULL, z), sigmoid(z, NULL) * (1 - sigmoid(z, NULL)),
                     1e-9, "z = %d", z);
}

static double loss(const double* theta, const void* user) {
    (void)user;
    return lp_logistic_loss(D, N, theta, line, labels);
}

static void regression(lesson* l) {
    double theta[D] = {0.3, -0.2}, grad[D], numeric[D];
    lesson_text(l,
                "To fit it, the likelihood of the labels is raised, that is, their cross-entropy "
                "lowered. The "
                "gradient is a mean of x times the error p~−~y, which is all that is left of the "
                "sigmoid. For "
                "x~=~(1,~v), v~=~−2, −1.5, −1, −0.5, 0.5, 1, 1.5, 2 with labels 0 0 1 0 1 0 1 1:");
    lesson_formula(l, "J(θ) = −1/n Σ (y log p + (1 − y) log(1 − p)),   ∇J = 1/n Σ (p − y) x");
    lp_logistic_grad(D, N, theta, line, labels, grad);
    lesson_gradient(loss, NULL, D, theta, numeric);
    lesson_sides(l, "1/n Σ (p − y) x", "differences of J");
    for (int i = 0; i < D; i++) lesson_equal(l, grad[i], numeric[i], 1e-9, "∂J/∂θ[%d]", i);
    for (int step = 0; step < 2000; step++)
        lp_logistic_update(D, N, theta, line, labels, 1.0, grad);
    double promised[D] = {0}, seen[D] = {0};
    for (int i = 0; i < N; i++) {
        for (int j = 0; j < D; j++) {
            promised[j] += lp_logistic_prob(D, theta, line + i * D) * line[i * D + j];
            seen[j] += labels[i] * line[i * D + j];
        }
    }
    lesson_text(l,
                "At the minimum, here after 2,000 steps, θ~=~(%.4f,~%.4f), the fit is honest: it "
                "promises as many "
                "ones as there are, and at the same places on average:",
                fabs(theta[0]), theta[1]);
    lesson_sides(l, "fitted p", "labels y");
    lesson_equal(l, promised[0], seen[0], 1e-9, "Σ p = Σ y");
    lesson_equal(l, promised[1], seen[1], 1e-9, "Σ v p = Σ v y");
}

static void far_out(lesson* l) {
    const double x = 1, theta = 40, naive = -log(1 - 1 / (1 + exp(-theta)));
    const int32_t no = 0;
    lesson_text(l, "Far out p rounds to 1, and −log(1~−~p) to infinity. From the score itself, as "
                   "log(1~+~eᶻ)~−~y~z, the "
                   "loss of being surely wrong is what it should be:");
    lesson_sides(l, "from p", "from z");
    lesson_undefined(l, naive, lp_logistic_loss(1, 1, &theta, &x, &no), "z = 40, y = 0");
    lesson_sides(l, "loss", "known");
    lesson_equal(l, lp_logistic_loss(1, 1, &theta, &x, &no), 40, 1e-12, "z = 40, y = 0");
}

lp_status lesson_logistic(lesson* l) {
    log_odds(l);
    why_logistic(l);
    regression(l);
    far_out(l);
    return LP_OK;
}
