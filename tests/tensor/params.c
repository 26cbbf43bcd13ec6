/* Sets of parameters: names, tied uses, copies, frozen sets, packed weights that must not outlive
 * the numbers. */
#include "testing.h"

#include <logpi/pg.h>

#include <logpi/tensor.h>

typedef struct rig {
    lp_ctx* ctx;
    lp_params* params;
    lp_tape* t;
    lp_rng rng;
} rig;

static rig set_up(void) {
    rig r = {.ctx = lp_ctx_create(NULL, NULL, 0), .rng = lp_rng_philox(8, LP_FOR_TEST, 0, 0)};
    r.params = lp_params_create(r.ctx, LP_F32, true);
    r.t = lp_tape_create(r.ctx, LP_F32);
    return r;
}

static void names(void** state) {
    (void)state;
    rig r = set_up();
    char name[16] = "a";
    lp_tensor a = lp_param_randn(r.params, name, 2, 3, &r.rng);
    name[0] = 'b'; /* names are copied */
    lp_tensor b = lp_param(r.params, name, 1, 4);
    lp_tensor tied = lp_param_tied(r.params, "a again", a);
    assert_ptr_equal(lp_params_find(r.params, "a"), a);
    assert_ptr_equal(lp_params_find(r.params, "b"), b);
    assert_ptr_equal(lp_params_find(r.params, "a again"), tied);
    assert_null(lp_params_find(r.params, "c"));
    assert_int_equal(lp_params_count(r.params), 2);
    assert_int_equal(lp_params_size(r.params), 10);
    assert_string_equal(lp_params_name(r.params, 1), "b");
    assert_null(lp_params_get(r.params, 2));
    assert_null(lp_params_name(r.params, 2));
    assert_ptr_equal(lp_params_ctx(r.params), r.ctx);
    for (int j = 0; j < 4; j++) assert_close(lp_at(b, 0, j), 0, 0);
    /* a second call finds, and draws nothing */
    const float kept = lp_f32(a)[5];
    const lp_rng before = r.rng;
    assert_ptr_equal(lp_param_randn(r.params, "a", 2, 3, &r.rng), a);
    assert_memory_equal(&before, &r.rng, sizeof before);
    assert_close(lp_f32(a)[5], kept, 0);
    assert_ptr_equal(lp_param_tied(r.params, "a again", a), tied);
    /* many names: the first tensors stay where they are */
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_non_null(lp_param(r.params, name, 1, 1));
    }
    assert_ptr_equal(lp_params_find(r.params, "a"), a);
    assert_int_equal(lp_params_count(r.params), 102);
    lp_ctx_destroy(r.ctx);
}

/* d/dw (w . x + 10 w . x) by two uses of one tensor: 11 x, in base and norm; the use is then empty.
 */
static void tied_gradients_are_added(void** state) {
    (void)state;
    rig r = set_up();
    const float x[] = {1, -2, 4};
    lp_tensor w = lp_param_randn(r.params, "w", 1, 3, &r.rng),
              again = lp_param_tied(r.params, "again", w);
    assert_ptr_equal(w->data, again->data);
    assert_ptr_not_equal(w->grad, again->grad);
    for (int round = 1; round <= 2; round++) { /* gradients add up over recordings */
        lp_tape_reset(r.t);
        lp_tensor c = lp_const_f32(r.t, 1, 3, x);
        lp_tensor loss =
            lp_sum(r.t, lp_add(r.t, lp_mul(r.t, c, w), lp_scale(r.t, lp_mul(r.t, c, again), 10)));
        assert_int_equal(lp_backward(r.t, loss), LP_OK);
        if (round == 1) {
            for (int j = 0; j < 3; j++) {
                assert_close(lp_grad_at(w, 0, j), (double)x[j], 0);
                assert_close(lp_grad_at(again, 0, j), 10 * (double)x[j], 0);
            }
        }
        assert_close(lp_params_grad_norm(r.params), round * 11 * sqrt(21), 1e-4);
        assert_close(lp_params_grad_norm(r.params), round * 11 * sqrt(21),
                     1e-4); /* not added twice */
        for (int j = 0; j < 3; j++) {
            assert_close(lp_grad_at(w, 0, j), round * 11 * (double)x[j], 0);
            assert_close(lp_grad_at(again, 0, j), 0, 0);
        }
    }
    lp_grad_f32(again)[0] = 3;
    lp_params_zero_grad(r.params);
    assert_close(lp_params_grad_norm(r.params), 0, 0);
    lp_ctx_destroy(r.ctx);
}

/* A table that is read by rows, the same row several times, and used as a matrix besides: the
 * base's gradient is that of a table of its own, whatever the cut into batches, bit for bit. */
static void rows_of_a_tied_table(void** state) {
    (void)state;
    enum { ROWS = 7, D = 9, N = 12 };
    const int32_t index[N] = {3, 0, 3, 6, 3, 1, 1, 0, 6, 6, 3, 5};
    float *first = NULL, weight[N * D];
    for (int way = 0; way < 4; way++) { /* all at once, with zeroing before, in batches, untied */
        rig r = set_up();
        lp_tensor w = lp_param_randn(r.params, "w", ROWS, D, &r.rng),
                  use = way == 3 ? w : lp_param_tied(r.params, "use", w);
        lp_rng_normal_f32(&r.rng, weight, N * D);
        for (int round = way == 1 ? 0 : 1; round < 2; round++) {
            for (int from = 0, n = way == 2 ? 5 : N; from < N; from += n) {
                const int count = n < N - from ? n : N - from;
                lp_tape_reset(r.t);
                lp_tensor c = lp_const_f32(r.t, count, D, weight + from * D);
                lp_tensor x = lp_rows(r.t, use, lp_const_i32(r.t, count, 1, index + from));
                lp_tensor y = lp_linear(r.t, c, w, NULL);
                assert_int_equal(
                    lp_backward(r.t, lp_add(r.t, lp_sum(r.t, lp_mul(r.t, x, c)), lp_sum(r.t, y))),
                    LP_OK);
            }
            if (round == 0) lp_params_zero_grad(r.params); /* what was noted is forgotten, too */
        }
        lp_params_fold(r.params);
        lp_params_fold(r.params); /* added once */
        if (way == 0) {
            first = malloc(ROWS * D * sizeof *first);
            memcpy(first, w->grad, ROWS * D * sizeof *first);
        } else if (way < 3) {
            assert_memory_equal(w->grad, first, ROWS * D * sizeof *first);
        } else {
            for (int i = 0; i < ROWS * D; i++) assert_close(lp_grad_at(w, 0, i), first[i], 1e-5);
        }
        lp_ctx_destroy(r.ctx);
    }
    free(first);
}

/* A packed copy is made when a weight is first used by lp_linear. After a step, a copy or a note of
 * change by hand the products are those of the new numbers: of a constant of the same numbers, bit
 * by bit. */
static void packed_weights_follow(void** state) {
    (void)state;
    enum { M = 5, K = 40, N = 30 };
    rig r = set_up();
    lp_params* other = lp_params_create(r.ctx, LP_F32, false);
    lp_tensor w = lp_param_randn(r.params, "w", N, K, &r.rng),
              use = lp_param_tied(r.params, "use", w);
    lp_param_randn(other, "w", N, K, &r.rng);
    float x[M * K];
    lp_rng_normal_f32(&r.rng, x, M * K);
    const lp_optim_def def = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    assert_int_equal(lp_optim_create(r.params, &def, &optim), LP_OK);
    double last = 0;
    for (int change = 0; change < 4; change++) {
        if (change == 1) {
            lp_rng_normal_f32(&r.rng, w->grad, N * K);
            assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
        } else if (change == 2) {
            assert_int_equal(lp_params_copy(r.params, other), LP_OK);
        } else if (change == 3) {
            for (int j = 0; j < N * K; j++) lp_f32(w)[j] *= 2;
            lp_params_changed(r.params);
        }
        lp_tape_reset(r.t);
        lp_tensor in = lp_const_f32(r.t, M, K, x), y = lp_linear(r.t, in, w, NULL),
                  tied = lp_linear(r.t, in, use, NULL);
        lp_tensor fresh = lp_linear(r.t, in, lp_const_f32(r.t, N, K, w->data), NULL);
        assert_memory_equal(y->data, fresh->data, M * N * sizeof(float));
        assert_memory_equal(tied->data, fresh->data, M * N * sizeof(float));
        assert_true(lp_at(y, 0, 0) != last);
        last = lp_at(y, 0, 0);
    }
    lp_ctx_destroy(r.ctx);
}

static void copies(void** state) {
    (void)state;
    rig r = set_up();
    lp_params *to = lp_params_create(r.ctx, LP_F32, false),
              *wide = lp_params_create(r.ctx, LP_F64, false);
    lp_tensor a = lp_param_randn(r.params, "a", 3, 5, &r.rng);
    lp_param_tied(r.params, "use", a); /* tied uses need no counterpart */
    lp_tensor b = lp_param_randn(r.params, "b", 1, 2, &r.rng);
    lp_tensor b2 = lp_param(to, "b", 1, 2), a2 = lp_param(to, "a", 3, 5); /* in another order */
    assert_int_equal(lp_params_copy(to, r.params), LP_OK);
    assert_memory_equal(a->data, a2->data, 15 * sizeof(float));
    assert_memory_equal(b->data, b2->data, 2 * sizeof(float));
    lp_f32(a2)[0] += 1; /* the two share nothing */
    assert_true(lp_f32(a)[0] != lp_f32(a2)[0]);
    lp_param(r.params, "missing.there", 1, 1);
    const float old = lp_f32(a2)[0];
    assert_int_equal(lp_params_copy(to, r.params), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "missing.there"));
    lp_param(to, "missing.there", 1, 2);
    assert_int_equal(lp_params_copy(to, r.params), LP_INVALID);
    lp_param(wide, "a", 3, 5);
    assert_int_equal(lp_params_copy(wide, r.params), LP_INVALID);
    assert_close(lp_f32(a2)[0], old, 0); /* a copy that cannot be whole moves nothing */
    lp_ctx_destroy(r.ctx);
}

/* A set that has more than the other is no copy of it. */
static void copies_are_whole(void** state) {
    (void)state;
    rig r = set_up();
    lp_params* to = lp_params_create(r.ctx, LP_F32, false);
    lp_param_randn(r.params, "a", 3, 5, &r.rng);
    lp_param(to, "a", 3, 5);
    lp_param(to, "one.too.many", 1, 1);
    assert_int_equal(lp_params_copy(to, r.params), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "one.too.many"));
    lp_ctx_destroy(r.ctx);
}

static void* bounded_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    if (new_bytes > *(const size_t*)user) return NULL;
    if (new_bytes > 0) return realloc(old, new_bytes);
    free(old);
    return NULL;
}

/* A parameter that memory does not suffice for is no mistake of the programmer: the formula runs
 * on, and its status says why there is no gradient. The default assert hook would trap. */
static void no_memory_for_a_parameter(void** state) {
    (void)state;
    size_t limit = (size_t)8 << 20;
    lp_ctx_def def = lp_ctx_def_default();
    def.alloc = bounded_alloc;
    def.alloc_user = &limit;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_tensor w = lp_param(params, "w", 4096, 4096);
    assert_null(w);
    assert_null(lp_param_tied(params, "again", w));
    assert_int_equal(lp_backward(t, lp_sum(t, lp_linear(t, lp_zeros(t, 1, 4096), w, NULL))),
                     LP_NOMEM);
    lp_tape_reset(t);
    lp_dist pi = lp_categorical(t, w);
    lp_rng rng = lp_rng_philox(0, LP_FOR_TEST, 0, 0);
    assert_null(lp_log_prob(t, pi, lp_sample(t, pi, &rng)));
    assert_int_equal(lp_tape_status(t), LP_NOMEM);
    lp_fail(ctx, LP_NOT_FOUND,
            "something else went wrong in between"); /* it is no mistake all the same */
    lp_tape_reset(t);
    assert_null(lp_exp(t, w));
    assert_int_equal(lp_tape_status(t), LP_NOMEM);
    assert_int_equal(lp_error_status(ctx), LP_NOMEM);
    lp_ctx_destroy(ctx);
}

static void count_assertion(void* user, const char* condition, const char* where,
                            const char* message) {
    (void)condition, (void)where, (void)message;
    ++*(int*)user;
}

/* A lack of memory elsewhere does not excuse a NULL: the hook is told. And a name that is taken is
 * no tied use. */
static void mistakes_after_a_lack_of_memory(void** state) {
    (void)state;
    size_t limit = (size_t)8 << 20;
    int assertions = 0;
    lp_ctx_def def = lp_ctx_def_default();
    def.alloc = bounded_alloc;
    def.alloc_user = &limit;
    def.assertion = count_assertion;
    def.assert_user = &assertions;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    assert_null(lp_zeros(t, 4096, 4096));
    assert_int_equal(lp_tape_status(t), LP_NOMEM);
    lp_tape_reset(t);
    assert_null(lp_exp(t, NULL));
    assert_int_equal(lp_tape_status(t), LP_INVALID);
    assert_int_equal(assertions, 1);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor a = lp_param(params, "a", 2, 3);
    lp_param(params, "b", 1, 1);
    assert_null(lp_param_tied(params, "b", a));
    assert_int_equal(assertions, 2);
    lp_ctx_destroy(ctx);
}

/* A gradient norm asks for no memory: what it would say without is "not finite", which is another
 * failure. */
static void the_norm_needs_no_memory(void** state) {
    (void)state;
    size_t limit = (size_t)1 << 30;
    lp_ctx_def def = lp_ctx_def_default();
    def.alloc = bounded_alloc;
    def.alloc_user = &limit;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor w = lp_param(params, "w", 40, 65536);
    for (int64_t i = 0; i < w->rows * w->cols; i++) lp_grad_f32(w)[i] = 0.5f;
    limit = 0;
    assert_close(lp_params_grad_norm(params), 0.5 * sqrt(40.0 * 65536.0), 0);
    lp_ctx_destroy(ctx);
}

/* No gradient flows into a frozen set, nor into what depends on nothing else. */
static void frozen_sets_are_constant(void** state) {
    (void)state;
    rig r = set_up();
    lp_params* frozen = lp_params_create(r.ctx, LP_F32, false);
    lp_tensor w = lp_param_randn(frozen, "w", 3, 4, &r.rng),
              v = lp_param_randn(r.params, "v", 1, 3, &r.rng);
    assert_null(w->grad);
    assert_false(w->needs_grad);
    lp_tensor y = lp_linear(r.t, lp_randn(r.t, &r.rng, 2, 4), w, NULL);
    assert_false(y->needs_grad);
    assert_int_equal(lp_backward(r.t, lp_sum(r.t, y)),
                     LP_OK); /* depends on no parameter: nothing to do */
    assert_int_equal(lp_backward(r.t, lp_sum(r.t, lp_mul(r.t, y, v))), LP_OK);
    assert_null(w->grad);
    for (int j = 0; j < 3; j++)
        assert_close(lp_grad_at(v, 0, j), lp_at(y, 0, j) + lp_at(y, 1, j), 1e-6);
    assert_close(lp_params_grad_norm(frozen), 0, 0);
    lp_ctx_destroy(r.ctx);
}

/* The norm of many pieces, beside a plain sum: 1e-12 relative; and the same on any number of
 * threads. */
static void norm(void** state) {
    (void)state;
    double first = 0;
    for (int threads = 1; threads <= 3; threads++) {
        lp_ctx_def def = lp_ctx_def_default();
        def.threads = threads;
        lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_rng rng = lp_rng_philox(5, LP_FOR_TEST, 0, 0);
        const int64_t sizes[] = {1, 65535, 65536, 65537, 20 * 65536 + 1};
        double sum = 0;
        for (int i = 0; i < 5; i++) {
            char name[2] = {(char)('a' + i), 0};
            lp_tensor w = lp_param(params, name, 1, sizes[i]);
            lp_rng_normal_f32(&rng, w->grad, sizes[i]);
            for (int64_t j = 0; j < sizes[i]; j++) sum += lp_grad_at(w, 0, j) * lp_grad_at(w, 0, j);
        }
        const double got = lp_params_grad_norm(params);
        assert_close(got, sqrt(sum), 1e-12 * sqrt(sum));
        if (threads == 1) first = got;
        assert_true(got == first);
        lp_ctx_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(tied_gradients_are_added),
        cmocka_unit_test(rows_of_a_tied_table),
        cmocka_unit_test(packed_weights_follow),
        cmocka_unit_test(copies),
        cmocka_unit_test(copies_are_whole),
        cmocka_unit_test(no_memory_for_a_parameter),
        cmocka_unit_test(mistakes_after_a_lack_of_memory),
        cmocka_unit_test(the_norm_needs_no_memory),
        cmocka_unit_test(frozen_sets_are_constant),
        cmocka_unit_test(norm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
