/* Where gradients stop, and how equals share one. */
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
        lp_tape_reset(t);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(detached),
        cmocka_unit_test(ties),
        cmocka_unit_test(samples_are_constants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
