/* Where gradients stop, how equals share one, and what each step of an optimizer must reach. */
#include "testing.h"

#include <logpi/pg.h>

/* d/dx sum(x detach(x)) = x, not 2 x; and the two share no memory. */
static void detached(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const double values[] = {1.5, -2, 0.25};
    lp_tensor x = lp_input_f64(t, 1, 3, values), copy = lp_detach(t, x);
    assert_false(copy->needs_grad);
    assert_ptr_not_equal(copy->data, x->data);
    assert_int_equal(lp_backward(t, lp_sum(t, lp_mul(t, x, copy))), LP_OK);
    for (int j = 0; j < 3; j++) assert_close(lp_grad_at(x, 0, j), values[j], 0);
    lp_ctx_destroy(ctx);
}

/* Where both are equal, each has half of the gradient, as in PyTorch. */
static void ties(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const double one[] = {1, 2, 3}, other[] = {1, 3, 2}, larger[] = {0.5, 0, 1},
                 smaller[] = {0.5, 1, 0};
    for (int k = 0; k < 2; k++) {
        lp_tensor x = lp_input_f64(t, 1, 3, one), y = lp_input_f64(t, 1, 3, other);
        assert_int_equal(lp_backward(t, lp_sum(t, k ? lp_minimum(t, x, y) : lp_maximum(t, x, y))),
                         LP_OK);
        for (int j = 0; j < 3; j++) {
            assert_close(lp_grad_at(x, 0, j), k ? smaller[j] : larger[j], 0);
            assert_close(lp_grad_at(y, 0, j), k ? larger[j] : smaller[j], 0);
        }
    }
    lp_ctx_destroy(ctx);
}

/* A sample passes no gradient on. */
static void samples_are_constants(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const double x[] = {0.5, -1, 2};
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    lp_tensor in = lp_input_f64(t, 1, 3, x);
    assert_false(lp_sample(t, lp_categorical(t, in), &rng)->needs_grad);
    assert_false(lp_sample(t, lp_gaussian(t, in, in), &rng)->needs_grad);
    lp_ctx_destroy(ctx);
}

/* Clipping leaves a gradient below the limit as it is. */
static void small_gradients_are_not_clipped(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor w = lp_param(params, "w", 1, 2);
    lp_optim_def def = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    def.learning_rate = 1;
    def.max_grad_norm = 1;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
    lp_grad_f32(w)[0] = 0.03f;
    lp_grad_f32(w)[1] = 0.04f;
    assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    assert_close(lp_at(w, 0, 0), -0.03, 1e-8);
    assert_close(lp_at(w, 0, 1), -0.04, 1e-8);
    lp_ctx_destroy(ctx);
}

/* A parameter of several pieces and a rest: every element takes the same step. */
static void every_element_moves(void** state) {
    (void)state;
    enum { COLS = 100003 };
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_tensor w = lp_param(params, "w", 1, COLS);
        const lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        lp_optim* optim;
        double norm;
        assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
        for (int j = 0; j < COLS; j++) lp_grad_f32(w)[j] = 0.5f;
        assert_int_equal(lp_optim_step(optim, &norm), LP_OK);
        assert_close(norm, 0.5 * sqrt(COLS), 1e-9 * COLS);
        assert_true(lp_at(w, 0, 0) < 0);
        for (int j = 1; j < COLS; j++) assert_close(lp_at(w, 0, j), lp_at(w, 0, 0), 1e-9);
        lp_ctx_destroy(ctx);
    }
}

/* torch.optim's standard settings */
static void standard_settings(void** state) {
    (void)state;
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        const lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        assert_close(def.weight_decay, kind == LP_ADAMW ? 0.01 : 0.0, 0);
        assert_close(def.learning_rate, 1e-3, 0);
        assert_close(def.beta1, 0.9, 0);
        assert_close(def.beta2, 0.999, 0);
        assert_close(def.eps, 1e-8, 0);
        assert_close(def.alpha, 0.99, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detached),
        cmocka_unit_test(ties),
        cmocka_unit_test(samples_are_constants),
        cmocka_unit_test(small_gradients_are_not_clipped),
        cmocka_unit_test(every_element_moves),
        cmocka_unit_test(standard_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
