/* Lesson 7: the chain rule, and that automatic differentiation is nothing else. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3 };

/* A function of one number: its value, its derivative by the chain rule, and itself on the tape. */
typedef struct chain {
    const char* name;
    lesson_of_number value, by_hand;
    lp_tensor (*on_tape)(lp_tape* t, lp_tensor x);
} chain;

static double exp_log(double x, const void* user) {
    (void)user;
    return exp(log(x));
}
static double exp_log_by_hand(double x, const void* user) {
    (void)user;
    return exp(log(x)) * (1 / x);
}
static lp_tensor exp_log_on_tape(lp_tape* t, lp_tensor x) { return lp_exp(t, lp_log(t, x)); }

static double tanh_square(double x, const void* user) {
    (void)user;
    return tanh(x * x);
}
static double tanh_square_by_hand(double x, const void* user) {
    (void)user;
    return (1 - tanh(x * x) * tanh(x * x)) * (2 * x);
}
static lp_tensor tanh_square_on_tape(lp_tape* t, lp_tensor x) {
    return lp_tanh(t, lp_square(t, x));
}

/* log(1 + exp(sqrt x)), three links */
static double three(double x, const void* user) {
    (void)user;
    return log(1 + exp(sqrt(x)));
}
static double three_by_hand(double x, const void* user) {
    (void)user;
    return 1 / (1 + exp(sqrt(x))) * exp(sqrt(x)) * (0.5 / sqrt(x));
}
static lp_tensor three_on_tape(lp_tape* t, lp_tensor x) {
    return lp_log(t, lp_shift(t, lp_exp(t, lp_sqrt(t, x)), 1));
}

/* h'(x), by lp_backward */
static double tape_slope(lp_tape* t, const chain* c, double at) {
    lp_tape_reset(t);
    lp_tensor x = lp_input_f64(t, 1, 1, &at);
    return lp_backward(t, c->on_tape(t, x)) == LP_OK ? lp_grad_at(x, 0, 0) : (double)NAN;
}

static void example(lesson* l, lp_tape* t) {
    static const double points[] = {0.5, 2, 10};
    const chain c = {"e^(log x)", exp_log, exp_log_by_hand, exp_log_on_tape};
    lesson_text(l, "The example that checks itself: e^u of u~=~log~x is x again, so its derivative "
                   "must be 1. Link by "
                   "link it is e^(log~x) times 1/x:");
    lesson_formula(l, "h(x) = e^(log x) = x,   h'(x) = e^(log x) · 1/x = 1");
    lesson_sides(l, "e^(log x)", "x");
    for (int i = 0; i < 3; i++)
        lesson_equal(l, c.value(points[i], NULL), points[i], 1e-14, "x = %g", points[i]);
    lesson_sides(l, "e^(log x) · 1/x", "1");
    for (int i = 0; i < 3; i++)
        lesson_equal(l, c.by_hand(points[i], NULL), 1, 1e-14, "by hand, x = %g", points[i]);
    for (int i = 0; i < 3; i++)
        lesson_equal(l, tape_slope(t, &c, points[i]), 1, 1e-14, "on the tape, x = %g", points[i]);
}

static void others(lesson* l, lp_tape* t) {
    static const chain chains[] = {
        {"tanh(x²)", tanh_square, tanh_square_by_hand, tanh_square_on_tape},
        {"log(1 + e^√x)", three, three_by_hand, three_on_tape}};
    lesson_text(
        l, "Two more, of two and of three links, by hand beside differences, and beside the tape, "
           "which keeps "
           "every link's own derivative as it goes forward and multiplies them on the way back:");
    lesson_sides(l, "by hand", "differences");
    for (int c = 0; c < 2; c++) {
        for (double x = 0.5; x < 2; x += 0.7)
            lesson_equal(l, chains[c].by_hand(x, NULL), lesson_slope(chains[c].value, NULL, x),
                         1e-9, "%s, x = %g", chains[c].name, x);
    }
    lesson_sides(l, "by hand", "tape");
    for (int c = 0; c < 2; c++) {
        for (double x = 0.5; x < 2; x += 0.7)
            lesson_equal(l, chains[c].by_hand(x, NULL), tape_slope(t, &chains[c], x), 1e-14,
                         "%s, x = %g", chains[c].name, x);
    }
}

/* 1/p_a times p_a (1{j=a} - p_j) times x_i */
static void policy(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double x[D], theta[D * K], p[K], links[D * K], closed[D * K];
    lesson_draw(&rng, D, x);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, x, p);
    const int a = (int)lp_softmax_policy_sample(&rng, K, p);
    for (int i = 0; i < D; i++) {
        for (int j = 0; j < K; j++)
            links[i * K + j] = (1 / p[a]) * (p[a] * ((j == a) - p[j])) * x[i];
    }
    lp_softmax_policy_grad(D, K, x, p, a, closed);
    lesson_text(l,
                "And the one that all of this is about: Θ makes the logits z, z makes the "
                "probability p_a, and p_a its "
                "logarithm. Three links, and in the product p_a cancels. On the right the closed "
                "form of the "
                "softmax policy (a~=~%d), which lesson 8 takes apart:",
                a);
    lesson_formula(l, "∂log p_a/∂Θ_ij = ∂log p_a/∂p_a · ∂p_a/∂z_j · ∂z_j/∂Θ_ij = 1/p_a · p_a "
                      "(1{j=a} − p_j) · x_i");
    lesson_sides(l, "three links", "x (e_a − p)ᵀ");
    lesson_matrix(l, D, K, links, closed, 1e-14, "∂log p_a/∂Θ");
}

lp_status lesson_chain_rule(lesson* l) {
    lp_tape* t = lp_tape_create(l->ctx, LP_F64);
    if (!t) return LP_NOMEM;
    lesson_text(l, "If x moves u, and u moves h, then h moves by the product of the two:");
    lesson_formula(l, "h(x) = f(g(x)),   h'(x) = f'(g(x)) · g'(x)");
    example(l, t);
    others(l, t);
    policy(l);
    return lp_tape_status(t);
}
