/* Lesson 9: the supervised update and the policy gradient's, side by side. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3, LABELS = 10, STEPS = 2000 };

/* Theta after a policy step with advantage A, minus Theta before */
static void policy_step(const double* theta, const double* x, const double* p, int a, double eta,
                        double advantage, double* step) {
    double moved[D * K];
    for (int i = 0; i < D * K; i++) moved[i] = theta[i];
    lp_softmax_policy_update(D, K, moved, x, p, a, eta, advantage);
    for (int i = 0; i < D * K; i++) step[i] = moved[i] - theta[i];
}

static void same_update(lesson* l) {
    static const double advantages[] = {-1, 0, 2.5};
    lp_rng rng = lesson_rng(l, 0);
    const double eta = 0.1;
    double x[D], theta[D * K], p[K], labelled[D * K], acted[D * K], grad[D * K], scaled[D * K],
        score[D * K];
    lesson_draw(&rng, D, x);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, x, p);
    const int32_t a = (int32_t)lp_softmax_policy_sample(&rng, K, p);
    for (int i = 0; i < D * K; i++) labelled[i] = acted[i] = theta[i];
    lp_softmax_regression_update(D, K, 1, labelled, x, &a, eta, grad);
    lp_softmax_policy_update(D, K, acted, x, p, a, eta, 1.0);
    lesson_text(l,
                "One learner is told that the answer at x is y~=~%d. The other chose a~=~%d itself "
                "and is told A~=~1. "
                "Their new parameters are the same:",
                (int)a, (int)a);
    lesson_sides(l, "label y, descent", "action a, A = 1");
    lesson_matrix(l, D, K, labelled, acted, 1e-15, "Θ");
    lp_softmax_policy_grad(D, K, x, p, a, score);
    for (int i = 0; i < D * K; i++) scaled[i] = -grad[i];
    lesson_text(l, "For the gradients are: that of the loss −log~p_y, turned round, is the "
                   "gradient of log~p_a. Every "
                   "other A makes the step longer or shorter, or turns it away from the action; a "
                   "label cannot say "
                   "that. Of six entries the one farthest off is shown:");
    lesson_sides(l, "policy", "supervised");
    lesson_farthest(l, D * K, score, scaled, 1e-14, "∇log p_a = −∇J");
    for (int i = 0; i < 3; i++) {
        policy_step(theta, x, p, a, eta, advantages[i], acted);
        for (int j = 0; j < D * K; j++) scaled[j] = -eta * advantages[i] * grad[j];
        lesson_farthest(l, D * K, acted, scaled, 1e-15, "step, A = %g", advantages[i]);
    }
}

/* ---- one state, three answers: frequencies are taught, rewards are paid ---------------------- */

static const int32_t labels[LABELS] = {0, 0, 0, 0, 0, 1, 1, 1, 2, 2};
static const double frequency[K] = {0.5, 0.3, 0.2}, reward[K] = {1, 2, 0};
static const double ones[LABELS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

/* the distribution that descent on the cross-entropy of the labels ends at */
static void taught(double* p) {
    double theta[K] = {0}, grad[K];
    for (int step = 0; step < STEPS; step++)
        lp_softmax_regression_update(1, K, LABELS, theta, ones, labels, 1.0, grad);
    lp_softmax_policy_probs(1, K, theta, ones, p);
}

/* Theta += eta sum_a p_a R_a grad log p_a, the same number of times */
static void paid(double* p) {
    double theta[K] = {0}, score[K];
    for (int step = 0; step < STEPS; step++) {
        double sum[K] = {0};
        lp_softmax_policy_probs(1, K, theta, ones, p);
        for (int a = 0; a < K; a++) {
            lp_softmax_policy_grad(1, K, ones, p, a, score);
            for (int j = 0; j < K; j++) sum[j] += p[a] * reward[a] * score[j];
        }
        for (int j = 0; j < K; j++) theta[j] += sum[j];
    }
    lp_softmax_policy_probs(1, K, theta, ones, p);
}

static double cross_entropy(const double* p) {
    double sum = 0;
    for (int j = 0; j < K; j++) sum -= frequency[j] * log(p[j]);
    return sum;
}

static void other_aim(lesson* l) {
    double imitator[K], earner[K];
    taught(imitator);
    paid(earner);
    lesson_text(
        l,
        "But they are led to different places. A question has three answers. People give them with "
        "frequencies 0.5, 0.3, 0.2, and those are the labels; they pay 1, 2 and 0, and those are "
        "the rewards. "
        "After 2,000 steps each (η~=~1, exact expectations) the supervised learner has become the "
        "crowd:");
    lesson_formula(
        l,
        "supervised: minimise −Σ_y q(y) log p(y)          policy gradient: maximise Σ_a p(a) R(a)");
    lesson_sides(l, "p, supervised", "frequency q");
    for (int j = 0; j < K; j++) lesson_equal(l, imitator[j], frequency[j], 1e-9, "p[%d]", j);
    lesson_text(l, "and the policy gives the answer that pays best, which few people give:");
    lesson_sides(l, "p, policy", "at least");
    lesson_above(l, earner[1], 0.99, "p[1]");
    lesson_text(l, "Each is the better one by its own measure, and the worse one by the other's:");
    lesson_sides(l, "policy", "supervised");
    lesson_above(l, lesson_dot(K, earner, reward), lesson_dot(K, imitator, reward),
                 "expected reward");
    lesson_above(l, cross_entropy(earner), cross_entropy(imitator), "cross-entropy");
}

lp_status lesson_side_by_side(lesson* l) {
    lesson_text(l, "The two updates differ in a sign, in a factor A, and in who picks the class: a "
                   "teacher or the "
                   "policy.");
    lesson_formula(
        l, "supervised        Θ ← Θ − η ∇J(Θ),                J = −log p(y|x)     a loss, lowered");
    lesson_formula(
        l,
        "policy gradient   Θ ← Θ + η A(x,a) ∇log π(a|x),   a ~ π               a reward, raised");
    same_update(l);
    other_aim(l);
    return LP_OK;
}
