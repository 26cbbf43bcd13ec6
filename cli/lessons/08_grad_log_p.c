/* Lesson 8: the gradient of log p_a in five ways. */
#include "lessons.h"
#include <string.h>

enum { D = 3, K = 3 };

/* x_i (1{j = a} - p_j), an element at a time */
static void elements(const double* x, const double* p, int a, double* grad) {
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < K; j++) grad[i * K + j] = x[i] * ((j == a ? 1.0 : 0.0) - p[j]);
    }
}

/* column j is x times the number 1{j = a} - p_j */
static void columns(const double* x, const double* p, int a, double* grad) {
    for (int j = 0; j < K; j++) {
        const double factor = (j == a ? 1.0 : 0.0) - p[j];
        double column[D];
        memcpy(column, x, sizeof column);
        for (int i = 0; i < D; i++) column[i] *= factor;
        for (int i = 0; i < D; i++) grad[i * K + j] = column[i];
    }
}

/* log softmax(x Theta)[a], differentiated backwards */
static lp_status by_tape(lp_tape* t, const double* x, const double* theta, int32_t a,
                         double* grad) {
    lp_tape_reset(t);
    lp_tensor parameter = lp_input_f64(t, D, K, theta);
    lp_dist pi = lp_categorical(t, lp_matmul(t, lp_const_f64(t, 1, D, x), parameter));
    const lp_status status = lp_backward(t, lp_log_prob(t, pi, lp_const_i32(t, 1, 1, &a)));
    for (int i = 0; i < D * K; i++) grad[i] = lp_grad_at(parameter, 0, i);
    return status;
}

static void by_differences(const double* x, const double* theta, int a, double* grad) {
    const lesson_choice choice = {D, K, a, x};
    lesson_gradient(lesson_log_prob, &choice, D * K, theta, grad);
}

static void in_full(lesson* l, const double* x, const double* theta, const double* p, int a) {
    double matrix[D * K], numeric[D * K];
    lp_softmax_policy_grad(D, K, x, p, a, matrix);
    by_differences(x, theta, a, numeric);
    lesson_text(l,
                "The state is x~=~(%.2f,~%.2f,~%.2f), the policy gives p~=~(%.4f,~%.4f,~%.4f), and "
                "the action drawn "
                "is a~=~%d. The outer product, beside differences of log~p_a:",
                x[0], x[1], x[2], p[0], p[1], p[2], a);
    lesson_sides(l, "x (e_a − p)ᵀ", "differences");
    lesson_matrix(l, D, K, matrix, numeric, 1e-9, "∂log p_a/∂Θ");
}

/* a row a way and action, the entry where the two are farthest apart */
static lp_status all_ways(lesson* l, lp_tape* t, const double* x, const double* theta,
                          const double* p) {
    static const char* const names[] = {"by element", "by column", "tape", "differences"};
    static const double tolerances[] = {1e-15, 1e-15, 1e-14, 1e-9};
    lesson_text(l, "The same for each action there is, and computed in the other ways; of each "
                   "nine entries the one "
                   "that is farthest off is shown:");
    lesson_sides(l, "x (e_a − p)ᵀ", "this way");
    for (int a = 0; a < K; a++) {
        double matrix[D * K], way[4][D * K];
        lp_softmax_policy_grad(D, K, x, p, a, matrix);
        elements(x, p, a, way[0]);
        columns(x, p, a, way[1]);
        const lp_status status = by_tape(t, x, theta, a, way[2]);
        if (status != LP_OK) return status;
        by_differences(x, theta, a, way[3]);
        for (int w = 0; w < 4; w++)
            lesson_farthest(l, D * K, matrix, way[w], tolerances[w], "a = %d, %s", a, names[w]);
    }
    return LP_OK;
}

/* What the formula says at a glance. */
static void consequences(lesson* l, const double* x, double* theta, const double* p, int a) {
    double grad[D * K], rows[D], zero[D] = {0}, moved[D * K];
    const double eta = 0.1;
    lp_softmax_policy_grad(D, K, x, p, a, grad);
    for (int i = 0; i < D; i++) rows[i] = grad[i * K] + grad[i * K + 1] + grad[i * K + 2];
    lesson_text(l, "Two things can be read off. The rows of the gradient add up to~0, for what one "
                   "action gains the "
                   "others lose. And a step along it makes the action more likely, a step against "
                   "it (A~<~0) less:");
    lesson_sides(l, "Σ_j ∂log p_a/∂Θ_ij", "0");
    lesson_farthest(l, D, rows, zero, 1e-15, "the worst of three rows");
    memcpy(moved, theta, sizeof moved);
    const double before = lp_softmax_policy_log_prob(D, K, theta, x, a);
    lesson_sides(l, "log p_a after", "log p_a before");
    lp_softmax_policy_update(D, K, moved, x, p, a, eta, 1.0);
    lesson_above(l, lp_softmax_policy_log_prob(D, K, moved, x, a), before, "η = 0.1, A = 1");
    memcpy(moved, theta, sizeof moved);
    lp_softmax_policy_update(D, K, moved, x, p, a, eta, -1.0);
    lesson_below(l, lp_softmax_policy_log_prob(D, K, moved, x, a), before, "η = 0.1, A = −1");
}

lp_status lesson_grad_log_p(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double x[D], theta[D * K], p[K];
    lp_tape* t = lp_tape_create(l->ctx, LP_F64);
    if (!t) return LP_NOMEM;
    lesson_draw(&rng, D, x);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, x, p);
    const int a = (int)lp_softmax_policy_sample(&rng, K, p);
    lesson_text(l, "All of policy gradient for a linear softmax policy is this one matrix, of the "
                   "shape of Θ: the state, "
                   "times how far the policy was from having chosen the action for sure.");
    lesson_formula(l, "element   ∂log p_a/∂Θ_ij = x_i (1{j = a} − p_j)");
    lesson_formula(l, "column    ∂log p_a/∂Θ_·j = x (1{j = a} − p_j)");
    lesson_formula(l, "matrix    ∇log p_a = x (e_a − p)ᵀ");
    in_full(l, x, theta, p, a);
    const lp_status status = all_ways(l, t, x, theta, p);
    consequences(l, x, theta, p, a);
    return status;
}
