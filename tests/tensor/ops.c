/* Float ops, which run on the kernels, beside the double reference on the same inputs: values and
 * gradients within 2e-5 of the largest entry. Shapes large enough for every path. And the life of a
 * tape. */
#include "testing.h"

#include <logpi/pg.h>

static const double TOLERANCE = 2e-5;

typedef struct shape {
    int64_t rows, cols;
} shape;

/* The same inputs to a float and a double tape, the same random projection as loss; inputs are
 * parameters in float, so that packed weights are used. */
static void both(const char* name, lp_tensor (*f)(lp_tape*, const lp_tensor*), int n,
                 const shape* shapes, double low, double high) {
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tape *t32 = lp_tape_create(ctx, LP_F32), *t64 = lp_tape_create(ctx, LP_F64);
    lp_tensor in32[4] = {0}, in64[4] = {0};
    lp_rng rng = lp_rng_philox(5, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < n; i++) {
        const int64_t size = shapes[i].rows * shapes[i].cols;
        char label[16];
        snprintf(label, sizeof label, "%d", i);
        in32[i] = lp_param(params, label, shapes[i].rows, shapes[i].cols);
        double* wide = malloc((size_t)size * sizeof *wide);
        for (int64_t j = 0; j < size; j++) {
            lp_f32(in32[i])[j] = (float)(low + (high - low) * lp_rng_uniform(&rng));
            wide[j] = (double)lp_f32(in32[i])[j];
        }
        in64[i] = lp_input_f64(t64, shapes[i].rows, shapes[i].cols, wide);
        free(wide);
    }
    lp_tensor y32 = f(t32, in32), y64 = f(t64, in64);
    assert_non_null(y32);
    assert_non_null(y64);
    const int64_t size = y32->rows * y32->cols;
    double* r = malloc((size_t)size * sizeof *r);
    for (int64_t j = 0; j < size; j++) r[j] = (double)(float)(lp_rng_uniform(&rng) - 0.5);
    lp_tensor l32 = lp_sum(t32, lp_mul(t32, y32, lp_const_f64(t32, y32->rows, y32->cols, r)));
    lp_tensor l64 = lp_sum(t64, lp_mul(t64, y64, lp_const_f64(t64, y64->rows, y64->cols, r)));
    assert_int_equal(lp_backward(t32, l32), LP_OK);
    assert_int_equal(lp_backward(t64, l64), LP_OK);
    double worst = 0, largest = 1e-30;
    for (int64_t j = 0; j < size; j++) {
        worst = fmax(worst, fabs(lp_at(y32, 0, j) - lp_at(y64, 0, j)));
        largest = fmax(largest, fabs(lp_at(y64, 0, j)));
    }
    if (!(worst <= TOLERANCE * largest))
        fail_msg("%s: values differ by %g of %g", name, worst, largest);
    for (int i = 0; i < n; i++) {
        worst = 0, largest = 1e-30;
        for (int64_t j = 0; j < shapes[i].rows * shapes[i].cols; j++) {
            worst = fmax(worst, fabs(lp_grad_at(in32[i], 0, j) - lp_grad_at(in64[i], 0, j)));
            largest = fmax(largest, fabs(lp_grad_at(in64[i], 0, j)));
        }
        if (!(worst <= TOLERANCE * largest))
            fail_msg("%s: gradient of input %d differs by %g of %g", name, i, worst, largest);
    }
    free(r);
    lp_ctx_destroy(ctx);
}

static lp_tensor f_matmul(lp_tape* t, const lp_tensor* in) { return lp_matmul(t, in[0], in[1]); }
static lp_tensor f_linear(lp_tape* t, const lp_tensor* in) {
    return lp_linear(t, in[0], in[1], in[2]);
}
static lp_tensor f_exp(lp_tape* t, const lp_tensor* in) { return lp_exp(t, in[0]); }
static lp_tensor f_log(lp_tape* t, const lp_tensor* in) { return lp_log(t, in[0]); }
static lp_tensor f_tanh(lp_tape* t, const lp_tensor* in) { return lp_tanh(t, in[0]); }
static lp_tensor f_sigmoid(lp_tape* t, const lp_tensor* in) { return lp_sigmoid(t, in[0]); }
static lp_tensor f_silu(lp_tape* t, const lp_tensor* in) { return lp_silu(t, in[0]); }
static lp_tensor f_softmax(lp_tape* t, const lp_tensor* in) { return lp_softmax(t, in[0]); }
static lp_tensor f_log_softmax(lp_tape* t, const lp_tensor* in) { return lp_log_softmax(t, in[0]); }
static lp_tensor f_rmsnorm(lp_tape* t, const lp_tensor* in) {
    return lp_rmsnorm(t, in[0], in[1], 1e-5);
}
static lp_tensor f_layernorm(lp_tape* t, const lp_tensor* in) {
    return lp_layernorm(t, in[0], in[1], in[2], 1e-5);
}
static lp_tensor f_gelu(lp_tape* t, const lp_tensor* in) { return lp_gelu(t, in[0]); }
static lp_tensor f_swiglu(lp_tape* t, const lp_tensor* in) { return lp_swiglu(t, in[0], in[1]); }
static lp_tensor f_rope(lp_tape* t, const lp_tensor* in) {
    int32_t position[100];
    for (int i = 0; i < 100; i++) position[i] = i;
    float frequencies[8];
    lp_rope_frequencies(16, 10000, frequencies);
    return lp_rope(t, in[0], lp_const_i32(t, 100, 1, position), 16, frequencies, 1);
}
static lp_tensor f_attention(lp_tape* t, const lp_tensor* in) {
    const int64_t offsets[] = {0, 1, 70, 70, 100};
    const lp_attention_def def = {.heads = 6, .kv_heads = 2, .sequences = 4, .offsets = offsets};
    return lp_attention(t, in[0], in[1], in[2], &def);
}
static lp_tensor f_head(lp_tape* t, const lp_tensor* in) {
    int32_t target[300];
    for (int i = 0; i < 300; i++) target[i] = i * 7 % 1500;
    return lp_head_logp(t, in[0], in[1], lp_const_i32(t, 300, 1, target), 0.8, NULL);
}

static void float_and_double(void** state) {
    (void)state;
    both("matmul", f_matmul, 2, (shape[]){{65, 130}, {130, 51}}, -1, 1);
    both("matmul, small", f_matmul, 2, (shape[]){{3, 4}, {4, 5}}, -1, 1);
    both("linear", f_linear, 3, (shape[]){{65, 130}, {97, 130}, {1, 97}}, -1, 1);
    both("exp", f_exp, 1, (shape[]){{33, 70}}, -3, 3);
    both("log", f_log, 1, (shape[]){{33, 70}}, 0.1, 3);
    both("tanh", f_tanh, 1, (shape[]){{33, 70}}, -3, 3);
    both("sigmoid", f_sigmoid, 1, (shape[]){{33, 70}}, -6, 6);
    both("silu", f_silu, 1, (shape[]){{33, 70}}, -6, 6);
    both("softmax", f_softmax, 1, (shape[]){{33, 70}}, -6, 6);
    both("log_softmax", f_log_softmax, 1, (shape[]){{33, 70}}, -6, 6);
    both("rmsnorm", f_rmsnorm, 2, (shape[]){{100, 130}, {1, 130}}, -1, 1);
    both("layernorm", f_layernorm, 3, (shape[]){{100, 130}, {1, 130}, {1, 130}}, -1, 1);
    both("gelu", f_gelu, 1, (shape[]){{300, 70}}, -6, 6);
    both("swiglu", f_swiglu, 2, (shape[]){{100, 130}, {100, 130}}, -3, 3);
    both("rope", f_rope, 1, (shape[]){{100, 96}}, -1, 1);
    both("attention", f_attention, 3, (shape[]){{100, 96}, {100, 32}, {100, 32}}, -2, 2);
    both("head_logp, more than a block", f_head, 2, (shape[]){{300, 64}, {1500, 64}}, -1, 1);
}

/* Every op and distribution at the shapes of its gradient check: odd ones, with tails everywhere.
 */
static void every_case(void** state) {
    (void)state;
    const lp_gradcheck_case *ops, *distributions;
    const int n_ops = lp_gradcheck_cases(&ops), n = n_ops + lp_pg_gradcheck_cases(&distributions);
    for (int i = 0; i < n; i++) {
        const lp_gradcheck_case* c = i < n_ops ? &ops[i] : &distributions[i - n_ops];
        shape shapes[4];
        for (int j = 0; j < 4; j++) shapes[j] = (shape){c->shape[j][0], c->shape[j][1]};
        both(c->name, c->loss, c->inputs, shapes, c->low, c->high);
    }
    assert_true(n_ops > 30 && n > n_ops);
}

/* Attention row by row with a cache gives the bits of the whole sequence. */
static void cache(void** state) {
    (void)state;
    enum { N = 37, WIDTH = 32, KV = 16 };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_kv* kv;
    static float q[N * WIDTH], k[N * KV], v[N * KV], whole[N * WIDTH];
    lp_rng rng = lp_rng_philox(9, LP_FOR_TEST, 0, 0);
    lp_rng_normal_f32(&rng, q, N * WIDTH);
    lp_rng_normal_f32(&rng, k, N * KV);
    lp_rng_normal_f32(&rng, v, N * KV);
    lp_tape_record(t, false);
    int64_t offsets[2] = {0, N};
    lp_attention_def def = {.heads = 4, .kv_heads = 2, .sequences = 1, .offsets = offsets};
    lp_tensor y = lp_attention(t, lp_const_f32(t, N, WIDTH, q), lp_const_f32(t, N, KV, k),
                               lp_const_f32(t, N, KV, v), &def);
    memcpy(whole, y->data, sizeof whole);
    assert_int_equal(lp_kv_create(ctx, LP_FLOAT32, 1, 2, KV / 2, 2, N, &kv), LP_OK);
    const int32_t slot = 1;
    def.cache = kv;
    def.slot = &slot;
    for (int64_t at = 0, step = 5; at < N;
         at += step, step = 1) { /* a prompt of five, then one at a time */
        lp_tape_reset(t);
        offsets[1] = step;
        y = lp_attention(t, lp_const_f32(t, step, WIDTH, q + at * WIDTH),
                         lp_const_f32(t, step, KV, k + at * KV),
                         lp_const_f32(t, step, KV, v + at * KV), &def);
        lp_kv_advance(kv, slot, step);
        assert_memory_equal(y->data, whole + at * WIDTH, (size_t)(step * WIDTH) * sizeof(float));
    }
    lp_ctx_destroy(ctx);
}

/* Two sequences in one cache, one of them a fork of the other's first rows, go on together with
 * different rows; and a slot that was cleared begins anew. All bits are those of whole sequences.
 */
static void cache_forks(void** state) {
    (void)state;
    enum { N = 12, SAME = 7, WIDTH = 24, KV = 8, LAYERS = 2 };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_kv* kv;
    static float q[2][N * WIDTH], k[2][N * KV], v[2][N * KV], whole[2][N * WIDTH];
    lp_rng rng = lp_rng_philox(10, LP_FOR_TEST, 0, 0);
    for (int s = 0; s < 2; s++) {
        lp_rng_normal_f32(&rng, q[s], N * WIDTH);
        lp_rng_normal_f32(&rng, k[s], N * KV);
        lp_rng_normal_f32(&rng, v[s], N * KV);
    }
    memcpy(q[1], q[0], SAME * WIDTH * sizeof(float));
    memcpy(k[1], k[0], SAME * KV * sizeof(float));
    memcpy(v[1], v[0], SAME * KV * sizeof(float));
    lp_tape_record(t, false);
    int64_t offsets[3] = {0, N, 0};
    lp_attention_def def = {.heads = 3, .kv_heads = 1, .sequences = 1, .offsets = offsets};
    for (int s = 0; s < 2; s++) {
        lp_tensor y = lp_attention(t, lp_const_f32(t, N, WIDTH, q[s]), lp_const_f32(t, N, KV, k[s]),
                                   lp_const_f32(t, N, KV, v[s]), &def);
        memcpy(whole[s], y->data, sizeof whole[s]);
    }
    assert_int_equal(lp_kv_create(ctx, LP_FLOAT32, LAYERS, 1, KV, 4, 3 * N, &kv), LP_OK);
    def.cache = kv;
    for (int round = 0; round < 2; round++) {
        const int32_t first = 3, both_slots[2] = {3, 1}; /* neither in order nor adjacent */
        lp_kv_clear(kv, 1);
        lp_kv_clear(kv, 3);
        def.slot = &first;
        def.sequences = 1;
        offsets[1] = SAME;
        for (def.layer = 0; def.layer < LAYERS; def.layer++) {
            lp_tensor y =
                lp_attention(t, lp_const_f32(t, SAME, WIDTH, q[0]), lp_const_f32(t, SAME, KV, k[0]),
                             lp_const_f32(t, SAME, KV, v[0]), &def);
            assert_memory_equal(y->data, whole[0], SAME * WIDTH * sizeof(float));
        }
        lp_kv_advance(kv, 3, SAME);
        lp_kv_fork(kv, 3, 1);
        assert_int_equal(lp_kv_length(kv, 1), SAME);
        def.slot = both_slots;
        def.sequences = 2;
        offsets[1] = 1, offsets[2] = 2;
        for (int64_t at = SAME; at < N; at++) {
            float rows[2 * WIDTH], keys[2 * KV], values[2 * KV];
            for (int s = 0; s < 2; s++) {
                memcpy(rows + s * WIDTH, q[s] + at * WIDTH, WIDTH * sizeof(float));
                memcpy(keys + s * KV, k[s] + at * KV, KV * sizeof(float));
                memcpy(values + s * KV, v[s] + at * KV, KV * sizeof(float));
            }
            for (def.layer = 0; def.layer < LAYERS; def.layer++) {
                lp_tape_reset(t);
                lp_tensor y =
                    lp_attention(t, lp_const_f32(t, 2, WIDTH, rows), lp_const_f32(t, 2, KV, keys),
                                 lp_const_f32(t, 2, KV, values), &def);
                for (int s = 0; s < 2; s++)
                    assert_memory_equal(lp_f32(y) + s * WIDTH, whole[s] + at * WIDTH,
                                        WIDTH * sizeof(float));
            }
            for (int s = 0; s < 2; s++) lp_kv_advance(kv, both_slots[s], 1);
        }
        assert_int_equal(lp_kv_length(kv, 3), N);
    }
    lp_ctx_destroy(ctx);
}

/* ---- a tape's life --------------------------------------------------------------------------- */

static lp_status small_step(lp_tape* t, lp_params* params, lp_optim* optim) {
    lp_tape_reset(t);
    lp_tensor w = lp_params_find(params, "w");
    lp_tensor x = lp_zeros(t, 40, 30);
    lp_tensor y = lp_tanh(t, lp_linear(t, lp_shift(t, x, 0.1), w, NULL));
    const lp_status status = lp_backward(t, lp_mean(t, lp_square(t, y)));
    return status == LP_OK ? lp_optim_step(optim, NULL) : status;
}

static void allocates_nothing_after_the_first_step(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    lp_param_randn(params, "w", 50, 30, &rng);
    const lp_optim_def def = lp_optim_def_default(LP_ADAM);
    lp_optim* optim;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    for (int i = 0; i < 2; i++) assert_int_equal(small_step(t, params, optim), LP_OK);
    const size_t in_use = lp_tape_bytes(t);
    assert_true(in_use > 0);
    const uint64_t before = lp_ctx_memory(ctx).allocations;
    for (int i = 0; i < 20; i++) assert_int_equal(small_step(t, params, optim), LP_OK);
    assert_int_equal(lp_ctx_memory(ctx).allocations, before);
    assert_int_equal(lp_tape_bytes(t), in_use);
    lp_tape_reset(t);
    assert_int_equal(lp_tape_bytes(t), 0);
    lp_ctx_destroy(ctx);
}

typedef struct failing {
    int countdown; /* allocations that still succeed; negative: all */
    bool refused;
    int64_t held;
} failing;

static void* failing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    failing* f = user;
    if (new_bytes > 0 && f->countdown == 0) {
        f->refused = true;
        return NULL;
    }
    if (new_bytes > 0 && f->countdown > 0) f->countdown--;
    void* block = NULL;
    if (new_bytes == 0) {
        free(old);
    } else {
        block = realloc(old, new_bytes);
    }
    f->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

/* Every allocation of a whole step fails in turn: NOMEM or success, nothing leaks, nothing crashes.
 */
static void out_of_memory(void** state) {
    (void)state;
    int failures = 0;
    for (int n = 0;; n++) {
        failing f = {.countdown = -1};
        lp_ctx_def def = lp_ctx_def_default();
        def.alloc = failing_alloc;
        def.alloc_user = &f;
        lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
        f.countdown = n;
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_tensor w = params ? lp_param(params, "w", 50, 30) : NULL;
        const lp_optim_def sgd = lp_optim_def_default(LP_ADAM);
        lp_optim* optim = NULL;
        lp_status status = w ? lp_optim_create(params, &sgd, &optim) : LP_NOMEM;
        lp_tape* t = status == LP_OK ? lp_tape_create(ctx, LP_F32) : NULL;
        status = t ? small_step(t, params, optim) : LP_NOMEM;
        if (f.refused) {
            assert_int_equal(status, LP_NOMEM);
            failures++;
        }
        lp_ctx_destroy(ctx);
        assert_int_equal(f.held, 0);
        if (!f.refused) {
            assert_int_equal(status, LP_OK);
            break;
        }
    }
    assert_true(failures > 8);
}

static void count_assertion(void* user, const char* condition, const char* where,
                            const char* message) {
    (void)condition, (void)where, (void)message;
    ++*(int*)user;
}

static void misfits(void** state) {
    (void)state;
    int assertions = 0;
    lp_ctx_def def = lp_ctx_def_default();
    def.assertion = count_assertion;
    def.assert_user = &assertions;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    assert_null(lp_matmul(t, lp_zeros(t, 2, 3), lp_zeros(t, 2, 3)));
    assert_int_equal(assertions, 1);
    assert_int_equal(lp_tape_status(t), LP_INVALID);
    assert_null(lp_zeros(t, 1, 1)); /* sticky */
    lp_tape_reset(t);
    assert_null(lp_add(t, lp_zeros(t, 2, 3), lp_zeros(t, 3, 2)));
    lp_tape_reset(t);
    const int32_t outside = 3;
    assert_null(lp_rows(t, lp_zeros(t, 3, 2), lp_const_i32(t, 1, 1, &outside)));
    assert_int_equal(assertions, 3);
    lp_ctx_destroy(ctx);
}

static void cancelled(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_cancel(ctx);
    assert_null(lp_zeros(t, 1, 1));
    assert_int_equal(lp_tape_status(t), LP_CANCELLED);
    lp_cancel_clear(ctx);
    lp_tape_reset(t);
    assert_non_null(lp_zeros(t, 1, 1));
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_and_double),
        cmocka_unit_test(every_case),
        cmocka_unit_test(cache),
        cmocka_unit_test(cache_forks),
        cmocka_unit_test(allocates_nothing_after_the_first_step),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(misfits),
        cmocka_unit_test(cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
