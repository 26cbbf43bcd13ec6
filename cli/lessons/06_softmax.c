/* Lesson 6: the softmax. */
#include "lessons.h"
#include <math.h>

enum { K = 3 };

/* softmax(z), and log of its entry a, by the policy's functions: a state x = 1 makes Theta the
 * logits */
static const double ONE = 1;
static void softmax(const double* z, double* p) { lp_softmax_policy_probs(1, K, z, &ONE, p); }
static double log_softmax(const double* z, int a) {
    return lp_softmax_policy_log_prob(1, K, z, &ONE, a);
}

/* as the formula stands, without a maximum taken out */
static void as_written(const double* z, double* p) {
    double sum = 0;
    for (int j = 0; j < K; j++) sum += exp(z[j]);
    for (int j = 0; j < K; j++) p[j] = exp(z[j]) / sum;
}

static void shapes(lesson* l, const double* z) {
    double p[K], written[K], shifted[K], q[K];
    softmax(z, p);
    as_written(z, written);
    lesson_text(l,
                "A softmax makes a distribution out of any numbers: each becomes positive by the "
                "exponential, and all "
                "are divided by their sum. For z~=~(%.2f,~%.2f,~%.2f):",
                z[0], z[1], z[2]);
    lesson_formula(l, "p_j = exp(z_j) / Σ_l exp(z_l)");
    lesson_sides(l, "logpi", "as written");
    for (int j = 0; j < K; j++) lesson_equal(l, p[j], written[j], 1e-15, "p[%d]", j);
    lesson_sides(l, "logpi", "known");
    lesson_equal(l, p[0] + p[1] + p[2], 1, 1e-15, "Σ p = 1");
    lesson_above(l, fmin(p[0], fmin(p[1], p[2])), 0, "the smallest p > 0");
    for (int j = 0; j < K; j++) shifted[j] = z[j] + 100;
    softmax(shifted, q);
    lesson_text(l, "Only differences count. A number added to all logits cancels, so one may "
                   "always add what makes the "
                   "largest logit~0:");
    lesson_formula(l, "softmax(z + c) = softmax(z)");
    lesson_sides(l, "softmax(z + 100)", "softmax(z)");
    for (int j = 0; j < K; j++) lesson_equal(l, q[j], p[j], 1e-13, "p[%d]", j);
}

static void overflow(lesson* l) {
    const double z[K] = {1000, 1001, 1002}, small[K] = {0, 1, 2}, low[K] = {0, -1000, -2000};
    double written[K], p[K], known[K], q[K];
    as_written(z, written);
    softmax(z, p);
    softmax(small, known);
    lesson_text(l, "And one should. exp(1000) is more than a double holds, so for "
                   "z~=~(1000,~1001,~1002) the formula as "
                   "written divides infinity by infinity. With the maximum taken out the largest "
                   "exponential is 1:");
    lesson_sides(l, "as written", "max taken out");
    for (int j = 0; j < K; j++) lesson_undefined(l, written[j], p[j], "p[%d]", j);
    lesson_sides(l, "max taken out", "softmax(0, 1, 2)");
    for (int j = 0; j < K; j++) lesson_equal(l, p[j], known[j], 1e-15, "p[%d]", j);
    softmax(low, q);
    lesson_text(l, "The logarithm has a trap of its own: a probability that rounds to 0 has none. "
                   "It must come from the "
                   "logits. For z~=~(0,~−1000,~−2000):");
    lesson_formula(l, "log p_a = z_a − log Σ_l exp(z_l)");
    lesson_sides(l, "log of p", "z_a − logsumexp");
    lesson_undefined(l, log(q[2]), log_softmax(low, 2), "log p[2]");
    lesson_sides(l, "z_a − logsumexp", "known");
    lesson_equal(l, log_softmax(low, 2), -2000, 1e-12, "log p[2]");
}

static void logarithm(lesson* l, const double* z) {
    double p[K];
    softmax(z, p);
    lesson_text(l, "Where p is no smaller than a double can hold, the two ways agree:");
    lesson_sides(l, "log of p", "z_a − logsumexp");
    for (int a = 0; a < K; a++)
        lesson_equal(l, log(p[a]), log_softmax(z, a), 1e-14, "log p[%d]", a);
}

/* p_0 of logits z */
static double first(const double* z, const void* user) {
    double p[K];
    (void)user;
    softmax(z, p);
    return p[0];
}

static void slopes(lesson* l, const double* z) {
    double p[K], numeric[K];
    softmax(z, p);
    lesson_gradient(first, NULL, K, z, numeric);
    lesson_text(
        l, "Raising a logit raises its own probability and lowers all others, by as much in all:");
    lesson_formula(l, "∂p_a/∂z_j = p_a (1{j = a} − p_j)");
    lesson_sides(l, "differences", "p₀ (1{j=0} − p_j)");
    for (int j = 0; j < K; j++)
        lesson_equal(l, numeric[j], p[0] * ((j == 0) - p[j]), 1e-9, "∂p₀/∂z[%d]", j);
}

static void two(lesson* l, lp_rng* rng) {
    lesson_text(
        l,
        "Of two logits only their difference is left, and the softmax is the sigmoid of lesson 5:");
    lesson_formula(l, "k = 2:   p₁ = 1/(1 + e^(z₀ − z₁)) = σ(z₁ − z₀)");
    lesson_sides(l, "softmax(z₀, z₁)", "σ(z₁ − z₀)");
    for (int i = 0; i < 3; i++) {
        double z[2], p[2];
        lesson_draw(rng, 2, z);
        lp_softmax_policy_probs(1, 2, z, &ONE, p);
        const double difference = z[1] - z[0];
        lesson_equal(l, p[1], lp_logistic_prob(1, &difference, &ONE), 1e-15, "z = (%.2f, %.2f)",
                     z[0], z[1]);
    }
}

lp_status lesson_softmax(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double z[K];
    lesson_draw(&rng, K, z);
    shapes(l, z);
    overflow(l);
    logarithm(l, z);
    slopes(l, z);
    two(l, &rng);
    return LP_OK;
}
