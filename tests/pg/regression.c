/* The supervised twins: gradient = central differences (1e-8) = tape (1e-12), one step of descent =
 * the softmax policy's update towards the label, and fits that end where theory says. */
#include "testing.h"

#include <logpi/pg.h>

enum { D = 3, K = 4, N = 7 };

/* Examples x [N, D] with labels below k, and parameters. */
typedef struct task {
    double x[N * D], theta[D * K];
    int32_t y[N];
} task;

static task make_task(int k) {
    task t;
    lp_rng rng = lp_rng_philox(5, LP_FOR_TEST, (uint64_t)k, 0);
    lp_rng_normal_f64(&rng, t.x, N * D);
    lp_rng_normal_f64(&rng, t.theta, D * K);
    for (int i = 0; i < N; i++) t.y[i] = (int32_t)lp_rng_below(&rng, (uint32_t)k);
    return t;
}

static double softmax_loss(const task* t) {
    return lp_softmax_regression_loss(D, K, N, t->theta, t->x, t->y);
}
static double logistic_loss(const task* t) { return lp_logistic_loss(D, N, t->theta, t->x, t->y); }

static void check_differences(double (*loss)(const task*), const task* t, const double* grad,
                              int count) {
    for (int i = 0; i < count; i++) {
        const double h = 1e-6;
        task up = *t, down = *t;
        up.theta[i] += h;
        down.theta[i] -= h;
        assert_close(grad[i], (loss(&up) - loss(&down)) / (2 * h), 1e-8);
    }
}

/* J = -mean log p_y, on the tape: its value and the gradient of its logits' parameters */
static void softmax_gradient(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const task t = make_task(K);
    double grad[D * K];
    lp_softmax_regression_grad(D, K, N, t.theta, t.x, t.y, grad);
    check_differences(softmax_loss, &t, grad, D * K);

    lp_tape* tape = lp_tape_create(ctx, LP_F64);
    lp_tensor theta = lp_input_f64(tape, D, K, t.theta);
    lp_dist p = lp_categorical(tape, lp_matmul(tape, lp_const_f64(tape, N, D, t.x), theta));
    lp_tensor loss =
        lp_neg(tape, lp_mean(tape, lp_log_prob(tape, p, lp_const_i32(tape, N, 1, t.y))));
    assert_int_equal(lp_backward(tape, loss), LP_OK);
    assert_close(softmax_loss(&t), lp_item(loss), 1e-12);
    for (int i = 0; i < D * K; i++) assert_close(grad[i], lp_grad_at(theta, 0, i), 1e-12);
    lp_ctx_destroy(ctx);
}

/* J = -mean (y log p + (1 - y) log(1 - p)) with p of the tape's sigmoid */
static void logistic_gradient(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const task t = make_task(2);
    double grad[D], labels[N];
    for (int i = 0; i < N; i++) labels[i] = t.y[i];
    lp_logistic_grad(D, N, t.theta, t.x, t.y, grad);
    check_differences(logistic_loss, &t, grad, D);

    lp_tape* tape = lp_tape_create(ctx, LP_F64);
    lp_tensor theta = lp_input_f64(tape, D, 1, t.theta);
    lp_tensor p = lp_sigmoid(tape, lp_matmul(tape, lp_const_f64(tape, N, D, t.x), theta));
    lp_tensor y = lp_const_f64(tape, N, 1, labels), not_p = lp_shift(tape, lp_neg(tape, p), 1.0);
    lp_tensor not_y = lp_shift(tape, lp_neg(tape, y), 1.0);
    lp_tensor log_likelihood =
        lp_add(tape, lp_mul(tape, y, lp_log(tape, p)), lp_mul(tape, not_y, lp_log(tape, not_p)));
    lp_tensor loss = lp_neg(tape, lp_mean(tape, log_likelihood));
    assert_int_equal(lp_backward(tape, loss), LP_OK);
    assert_close(logistic_loss(&t), lp_item(loss), 1e-12);
    for (int i = 0; i < D; i++) assert_close(grad[i], lp_grad_at(theta, 0, i), 1e-12);
    for (int i = 0; i < N; i++)
        assert_close(lp_logistic_prob(D, t.theta, t.x + i * D), lp_at(p, i, 0), 1e-15);
    lp_ctx_destroy(ctx);
}

/* Two classes: softmax regression on Theta = [0, theta] is logistic regression on theta. */
static void two_classes(void** state) {
    (void)state;
    const task t = make_task(2);
    double both[D * 2], grad[D], grad_both[D * 2], p[2];
    for (int i = 0; i < D; i++) {
        both[i * 2] = 0;
        both[i * 2 + 1] = t.theta[i];
    }
    assert_close(logistic_loss(&t), lp_softmax_regression_loss(D, 2, N, both, t.x, t.y), 1e-14);
    lp_logistic_grad(D, N, t.theta, t.x, t.y, grad);
    lp_softmax_regression_grad(D, 2, N, both, t.x, t.y, grad_both);
    for (int i = 0; i < D; i++) {
        assert_close(grad[i], grad_both[i * 2 + 1], 1e-14);
        assert_close(-grad[i], grad_both[i * 2], 1e-14);
    }
    lp_softmax_policy_probs(D, 2, both, t.x, p);
    assert_close(lp_logistic_prob(D, t.theta, t.x), p[1], 1e-15);
}

/* A step of descent on one example is the policy's step for the label as action with A = 1. */
static void step_is_the_policys(void** state) {
    (void)state;
    task t = make_task(K), u = t;
    double p[K], grad[D * K];
    lp_softmax_regression_update(D, K, 1, t.theta, t.x, t.y, 0.3, grad);
    lp_softmax_policy_probs(D, K, u.theta, u.x, p);
    lp_softmax_policy_update(D, K, u.theta, u.x, p, u.y[0], 0.3, 1.0);
    for (int i = 0; i < D * K; i++) assert_close(t.theta[i], u.theta[i], 1e-15);
}

/* Logits of +-1,000: probabilities are 0 and 1, losses 1,000 and 0. */
static void large_logits(void** state) {
    (void)state;
    const double up[1] = {1000}, down[1] = {-1000}, three[3] = {1000, 0, -1000}, x[1] = {1};
    const int32_t no[1] = {0}, yes[1] = {1}, last[1] = {2};
    assert_close(lp_logistic_prob(1, up, x), 1.0, 0);
    assert_close(lp_logistic_prob(1, down, x), 0.0, 0);
    assert_close(lp_logistic_loss(1, 1, up, x, no), 1000.0, 0);
    assert_close(lp_logistic_loss(1, 1, down, x, yes), 1000.0, 0);
    assert_close(lp_logistic_loss(1, 1, up, x, yes), 0.0, 0);
    assert_close(lp_softmax_regression_loss(1, 3, 1, three, x, last), 2000.0, 0);
}

/* Without features (x = 1) softmax regression learns the frequencies of the labels, and its least
 * loss is their entropy. */
static void fit_of_frequencies(void** state) {
    (void)state;
    enum { M = 10 };
    static const int32_t y[M] = {0, 1, 1, 2, 2, 2, 2, 1, 2, 2};
    static const double share[3] = {0.1, 0.3, 0.6};
    double x[M], theta[3] = {0}, grad[3], p[3], entropy = 0;
    for (int i = 0; i < M; i++) x[i] = 1;
    for (int step = 0; step < 2000; step++)
        lp_softmax_regression_update(1, 3, M, theta, x, y, 1.0, grad);
    lp_softmax_policy_probs(1, 3, theta, x, p);
    for (int j = 0; j < 3; j++) {
        assert_close(p[j], share[j], 1e-9);
        entropy -= share[j] * log(share[j]);
    }
    assert_close(lp_softmax_regression_loss(1, 3, M, theta, x, y), entropy, 1e-12);
}

/* The logistic fit of eight labels on a line, x = (1, value): the gradient vanishes, so that sum p
 * = sum y and sum value p = sum value y. */
static void fit_of_a_line(void** state) {
    (void)state;
    enum { M = 8 };
    static const double x[M * 2] = {1, -2, 1, -1.5, 1, -1, 1, -0.5, 1, 0.5, 1, 1, 1, 1.5, 1, 2};
    static const int32_t y[M] = {0, 0, 1, 0, 1, 0, 1, 1};
    double theta[2] = {0}, grad[2], sum[2] = {0}, before = lp_logistic_loss(2, M, theta, x, y);
    assert_close(before, log(2), 1e-15);
    for (int step = 0; step < 3000; step++) {
        lp_logistic_update(2, M, theta, x, y, 1.0, grad);
        const double after = lp_logistic_loss(2, M, theta, x, y);
        assert_true(after <= before + 1e-15);
        before = after;
    }
    for (int i = 0; i < M; i++) {
        for (int l = 0; l < 2; l++)
            sum[l] += (lp_logistic_prob(2, theta, x + i * 2) - y[i]) * x[i * 2 + l];
    }
    assert_close(sum[0], 0, 1e-10);
    assert_close(sum[1], 0, 1e-10);
    assert_close(theta[0], 0, 1e-10);                  /* labels and values are symmetric */
    assert_close(theta[1], 0.9705391772446729, 1e-10); /* the same descent in Python */
    assert_close(before, 0.5288080447137663, 1e-12);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_gradient), cmocka_unit_test(logistic_gradient),
        cmocka_unit_test(two_classes),      cmocka_unit_test(step_is_the_policys),
        cmocka_unit_test(large_logits),     cmocka_unit_test(fit_of_frequencies),
        cmocka_unit_test(fit_of_a_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
