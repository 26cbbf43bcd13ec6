/* A programmer's mistakes: every op called with a shape, a type, an index or a setting that cannot
 * fit tells the assert hook of the context exactly once, computes nothing and leaves the tape in
 * LP_INVALID; none is taken for the world's. */
#include "testing.h"

#include <logpi/pg.h>

typedef struct rig {
    int assertions;
    char condition[256], where[256];
    lp_ctx* ctx;
    lp_params *params, *frozen, *wide;
    lp_kv* kv; /* 2 layers, 4 columns, 2 slots, 3 rows */
    lp_tape* t;
} rig;

static void on_assertion(void* user, const char* condition, const char* where,
                         const char* message) {
    rig* r = user;
    r->assertions++;
    snprintf(r->condition, sizeof r->condition, "%s: %s", condition, message);
    snprintf(r->where, sizeof r->where, "%s", where);
}

/* malloc, but more than 2^40 bytes are never there: some allocators end the program for that. */
static void* bounded_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)user, (void)old_bytes;
    if (new_bytes > (size_t)1 << 40) return NULL;
    if (new_bytes > 0) return realloc(old, new_bytes);
    free(old);
    return NULL;
}

static void set_up(rig* r) {
    *r = (rig){0};
    lp_ctx_def def = lp_ctx_def_default();
    def.assertion = on_assertion;
    def.assert_user = r;
    def.alloc = bounded_alloc;
    r->ctx = lp_ctx_create(&def, NULL, 0);
    r->params = lp_params_create(r->ctx, LP_F32, true);
    r->frozen = lp_params_create(r->ctx, LP_F32, false);
    r->wide = lp_params_create(r->ctx, LP_F64, true);
    lp_param(r->wide, "w", 2, 3);
    r->t = lp_tape_create(r->ctx, LP_F32);
    assert_int_equal(lp_kv_create(r->ctx, LP_FLOAT32, 2, 2, 2, 2, 3, &r->kv), LP_OK);
}

static lp_tensor z(lp_tape* t, int64_t rows, int64_t cols) { return lp_zeros(t, rows, cols); }
static lp_tensor ints(lp_tape* t, int64_t rows, int32_t value) {
    const int32_t values[4] = {0, 0, 0, value};
    return lp_const_i32(t, rows, 1, values + 4 - rows);
}

/* Three rows in one sequence, 4 heads on 2, heads of 2 columns; each field may be made wrong. */
static lp_tensor attend(rig* r, int64_t heads, int64_t kv_heads, int64_t q, int64_t k, int64_t v,
                        int64_t last, lp_kv* cache, int32_t slot, int64_t layer) {
    lp_tape* t = r->t;
    const int64_t offsets[] = {0, last};
    const lp_attention_def def = {heads, kv_heads, 1, offsets, cache, &slot, layer, NULL};
    return lp_attention(t, z(t, 3, q), z(t, 3, k), z(t, 3, v), &def);
}

static lp_tensor attend_cached(rig* r, int64_t rows_there, int32_t slot, int64_t layer,
                               int64_t width) {
    lp_kv_clear(r->kv, 0);
    lp_kv_advance(r->kv, 0, rows_there);
    lp_tape_record(r->t, false);
    lp_tensor y = attend(r, width, width / 2, 2 * width, width, width, 3, r->kv, slot, layer);
    lp_tape_record(r->t, true);
    return y;
}

/* Three rows in so many sequences. */
static lp_tensor attend_packed(rig* r, int64_t sequences, const int64_t* offsets) {
    const lp_attention_def def = {
        .heads = 1, .kv_heads = 1, .sequences = sequences, .offsets = offsets};
    return lp_attention(r->t, z(r->t, 3, 2), z(r->t, 3, 2), z(r->t, 3, 2), &def);
}
#define OFFSETS(...) ((const int64_t[]){__VA_ARGS__})

/* Two sequences, of two rows and of one, in these slots. */
static lp_tensor attend_slots(rig* r, const int32_t* slot) {
    const int64_t offsets[] = {0, 2, 3};
    const lp_attention_def def = {2, 2, 2, offsets, r->kv, slot, 1, NULL};
    for (int32_t i = 0; i < 2; i++) lp_kv_clear(r->kv, i);
    lp_tape_record(r->t, false);
    lp_tensor y = lp_attention(r->t, z(r->t, 3, 4), z(r->t, 3, 4), z(r->t, 3, 4), &def);
    lp_tape_record(r->t, true);
    return y;
}
#define SLOTS(...) ((const int32_t[]){__VA_ARGS__})

static lp_tensor divergence_of_two_kinds(lp_tape* t) {
    return lp_kl(t, lp_categorical(t, z(t, 2, 3)), lp_gaussian(t, z(t, 2, 3), z(t, 2, 3)));
}

static const float F[2] = {1, 0.01f}; /* of rotary positions */

/* name, call */
#define MISFITS(X)                                                                                 \
    X("zeros, negative", lp_zeros(t, -1, 3))                                                       \
    X("add, rows for columns", lp_add(t, z(t, 2, 3), z(t, 3, 2)))                                  \
    X("add, the larger is second", lp_add(t, z(t, 1, 3), z(t, 2, 3)))                              \
    X("add, a row of another width", lp_add(t, z(t, 2, 3), z(t, 1, 2)))                            \
    X("sub, a column of another height", lp_sub(t, z(t, 2, 3), z(t, 3, 1)))                        \
    X("mul", lp_mul(t, z(t, 2, 3), z(t, 2, 2)))                                                    \
    X("div", lp_div(t, z(t, 2, 3), z(t, 1, 4)))                                                    \
    X("maximum", lp_maximum(t, z(t, 2, 3), z(t, 4, 3)))                                            \
    X("minimum", lp_minimum(t, z(t, 2, 3), z(t, 4, 1)))                                            \
    X("clamp, low above high", lp_clamp(t, z(t, 2, 3), 1, 0))                                      \
    X("clamp, NaN", lp_clamp(t, z(t, 2, 3), (double)NAN, 0))                                       \
    X("NULL", lp_exp(t, NULL))                                                                     \
    X("NULL, second", lp_matmul(t, z(t, 2, 3), NULL))                                              \
    X("an index for numbers", lp_exp(t, ints(t, 3, 1)))                                            \
    X("an index for numbers, second", lp_add(t, z(t, 3, 1), ints(t, 3, 1)))                        \
    X("an index for numbers, sum", lp_sum(t, ints(t, 3, 1)))                                       \
    X("an index for numbers, Gaussian",                                                            \
      lp_log_prob(t, lp_gaussian(t, z(t, 3, 1), z(t, 3, 1)), ints(t, 3, 1)))                       \
    X("double on a float tape", lp_exp(t, lp_params_find(r->wide, "w")))                           \
    X("double weight on a float tape",                                                             \
      lp_linear(t, z(t, 2, 3), lp_params_find(r->wide, "w"), NULL))                                \
    X("matmul", lp_matmul(t, z(t, 2, 3), z(t, 2, 3)))                                              \
    X("linear", lp_linear(t, z(t, 2, 3), z(t, 3, 4), NULL))                                        \
    X("linear, bias", lp_linear(t, z(t, 2, 3), z(t, 4, 3), z(t, 1, 3)))                            \
    X("linear, bias a column", lp_linear(t, z(t, 2, 3), z(t, 4, 3), z(t, 4, 1)))                   \
    X("rows, too large", lp_rows(t, z(t, 3, 2), ints(t, 2, 3)))                                    \
    X("rows, negative", lp_rows(t, z(t, 3, 2), ints(t, 2, -1)))                                    \
    X("rows, floats", lp_rows(t, z(t, 3, 2), z(t, 2, 1)))                                          \
    X("pick, too large", lp_pick(t, z(t, 2, 3), ints(t, 2, 3)))                                    \
    X("pick, another height", lp_pick(t, z(t, 2, 3), ints(t, 3, 0)))                               \
    X("pick, floats", lp_pick(t, z(t, 2, 3), z(t, 2, 1)))                                          \
    X("rmsnorm", lp_rmsnorm(t, z(t, 2, 3), z(t, 1, 2), 1e-5))                                      \
    X("rmsnorm, a column", lp_rmsnorm(t, z(t, 2, 3), z(t, 3, 1), 1e-5))                            \
    X("layernorm", lp_layernorm(t, z(t, 2, 3), z(t, 1, 2), NULL, 1e-5))                            \
    X("layernorm, bias", lp_layernorm(t, z(t, 2, 3), z(t, 1, 3), z(t, 1, 2), 1e-5))                \
    X("rope, no frequencies", lp_rope(t, z(t, 2, 4), ints(t, 2, 1), 2, NULL, 1))                   \
    X("swiglu", lp_swiglu(t, z(t, 2, 3), z(t, 2, 4)))                                              \
    X("rope, odd heads", lp_rope(t, z(t, 2, 6), ints(t, 2, 1), 3, F, 1))                           \
    X("rope, part of a head", lp_rope(t, z(t, 2, 6), ints(t, 2, 1), 4, F, 1))                      \
    X("rope, no head", lp_rope(t, z(t, 2, 6), ints(t, 2, 1), 0, F, 1))                             \
    X("rope, another height", lp_rope(t, z(t, 2, 4), ints(t, 3, 1), 2, F, 1))                      \
    X("rope, floats", lp_rope(t, z(t, 2, 4), z(t, 2, 1), 2, F, 1))                                 \
    X("attention, heads that do not divide", attend(r, 4, 3, 8, 6, 6, 3, NULL, 0, 0))              \
    X("attention, no heads", attend(r, 0, 0, 8, 4, 4, 3, NULL, 0, 0))                              \
    X("attention, width of q", attend(r, 4, 2, 6, 3, 3, 3, NULL, 0, 0))                            \
    X("attention, width of k", attend(r, 4, 2, 8, 8, 4, 3, NULL, 0, 0))                            \
    X("attention, width of v", attend(r, 4, 2, 8, 4, 6, 3, NULL, 0, 0))                            \
    X("attention, rows left over", attend(r, 4, 2, 8, 4, 4, 2, NULL, 0, 0))                        \
    X("attention, rows that are not there", attend(r, 4, 2, 8, 4, 4, 4, NULL, 0, 0))               \
    X("attention, offsets that fall", attend_packed(r, 3, OFFSETS(0, 2, 1, 3)))                    \
    X("attention, offsets that fall at the end", attend_packed(r, 2, OFFSETS(0, 4, 3)))            \
    X("attention, offsets that begin late", attend_packed(r, 2, OFFSETS(1, 2, 3)))                 \
    X("attention, offsets that begin early", attend_packed(r, 2, OFFSETS(-1, 2, 3)))               \
    X("attention, offsets far away", attend_packed(r, 2, OFFSETS(INT64_MIN, INT64_MAX, 3)))        \
    X("attention, no offsets", attend_packed(r, 1, NULL))                                          \
    X("attention, fewer sequences than none", attend_packed(r, -1, OFFSETS(0, 3)))                 \
    X("attention, no slots", attend_slots(r, NULL))                                                \
    X("attention, a slot for two", attend_slots(r, SLOTS(1, 1)))                                   \
    X("attention, a slot that is not there", attend_slots(r, SLOTS(0, 2)))                         \
    X("attention, a slot below the first", attend_slots(r, SLOTS(-1, 0)))                          \
    X("attention, a slot far away", attend_slots(r, SLOTS(0, INT32_MAX)))                          \
    X("attention, a cache on a recording tape", attend(r, 4, 2, 8, 4, 4, 3, r->kv, 0, 0))          \
    X("attention, a cache that is full", attend_cached(r, 1, 0, 0, 4))                             \
    X("attention, another layer", attend_cached(r, 0, 0, 2, 4))                                    \
    X("attention, another width of cache", attend_cached(r, 0, 0, 0, 8))                           \
    X("head, width", lp_head_logp(t, z(t, 2, 3), z(t, 5, 4), ints(t, 2, 1), 1, NULL))              \
    X("head, a target outside", lp_head_logp(t, z(t, 2, 3), z(t, 5, 3), ints(t, 2, 5), 1, NULL))   \
    X("head, targets missing", lp_head_logp(t, z(t, 2, 3), z(t, 5, 3), ints(t, 1, 1), 1, NULL))    \
    X("head, floats", lp_head_logp(t, z(t, 2, 3), z(t, 5, 3), z(t, 2, 1), 1, NULL))                \
    X("head, temperature 0", lp_head_logp(t, z(t, 2, 3), z(t, 5, 3), ints(t, 2, 1), 0, NULL))      \
    X("divergence of two kinds", divergence_of_two_kinds(t))

static void ops(void** state) {
    (void)state;
    rig rig_, *r = &rig_;
    set_up(r);
    lp_tape* t = r->t;
    int count = 0;
#define ONE(name, call)                                                                            \
    r->assertions = 0;                                                                             \
    lp_tape_reset(t);                                                                              \
    if ((call) != NULL) fail_msg("%s: it was computed", name);                                     \
    if (r->assertions != 1)                                                                        \
        fail_msg("%s: %d assertions, not 1 (%s)", name, r->assertions, r->condition);              \
    if (lp_tape_status(t) != LP_INVALID) fail_msg("%s: status %d", name, lp_tape_status(t));       \
    assert_null(lp_zeros(t, 1, 1)); /* it sticks */                                                \
    assert_int_equal(r->assertions, 1);                                                            \
    count++;
    MISFITS(ONE)
#undef ONE
    assert_true(count > 50);
    lp_tape_reset(t);
    assert_non_null(
        attend(r, 4, 2, 8, 4, 4, 3, NULL, 0, 0)); /* what fits is computed, after all that */
    assert_non_null(attend_cached(r, 0, 1, 1, 4));
    assert_non_null(attend_slots(r, SLOTS(1, 0)));
    assert_int_equal(r->assertions, 1);
    lp_ctx_destroy(r->ctx);
}

static void expect(rig* r, const char* what, bool refused) {
    if (!refused) fail_msg("%s: it was accepted", what);
    if (r->assertions != 1) fail_msg("%s: %d assertions, not 1", what, r->assertions);
    assert_non_null(strstr(r->where, ".c:")); /* file and line */
    r->assertions = 0;
}

static void the_rest(void** state) {
    (void)state;
    rig rig_, *r = &rig_;
    set_up(r);
    lp_tensor w = lp_param(r->params, "w", 2, 3);
    expect(r, "a parameter of another shape", lp_param(r->params, "w", 3, 2) == NULL);
    expect(r, "a parameter of negative size", lp_param(r->params, "v", -3, 2) == NULL);
    expect(r, "integer parameters", lp_params_create(r->ctx, LP_I32, true) == NULL);
    expect(r, "an integer tape", lp_tape_create(r->ctx, LP_I32) == NULL);
    assert_int_equal(lp_params_count(r->params), 1);

    expect(r, "a loss of two numbers",
           lp_backward(r->t, lp_row_sum(r->t, lp_exp(r->t, w))) == LP_INVALID);
    expect(r, "no loss", lp_backward(r->t, NULL) == LP_INVALID);
    assert_int_equal(lp_backward(r->t, lp_sum(r->t, w)), LP_OK);
    expect(r, "backward twice", lp_backward(r->t, lp_sum(r->t, w)) == LP_INVALID);
    for (int j = 0; j < 6; j++) assert_close(lp_grad_at(w, 0, j), 1, 0);
    lp_params_zero_grad(r->params);
    lp_tape_reset(r->t);
    lp_tape_record(r->t, false);
    expect(r, "nothing recorded", lp_backward(r->t, lp_sum(r->t, lp_exp(r->t, w))) == LP_INVALID);
    for (int j = 0; j < 6; j++) assert_close(lp_grad_at(w, 0, j), 0, 0);

    lp_optim_def def = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    expect(r, "an optimizer of a frozen set",
           lp_optim_create(r->frozen, &def, &optim) == LP_INVALID);
    def.cookie = 0;
    expect(r, "settings from nowhere", lp_optim_create(r->params, &def, &optim) == LP_INVALID);
    assert_null(optim);
    lp_kv* kv;
    expect(r, "an empty cache", lp_kv_create(r->ctx, LP_FLOAT32, 1, 0, 1, 1, 1, &kv) == LP_INVALID);
    kv = r->kv;
    lp_kv_advance(kv, 1, 2);
    for (int i = 0; i < 3; i++) {
        const int32_t slot = (const int32_t[]){-1, 2, INT32_MAX}[i];
        expect(r, "the length of a slot that is not there", lp_kv_length(kv, slot) == 0);
        expect(r, "an end of it", (lp_kv_clear(kv, slot), true));
        expect(r, "an advance of it", (lp_kv_advance(kv, slot, 1), true));
        expect(r, "a copy of it", (lp_kv_fork(kv, slot, 0), true));
        expect(r, "a copy to it", (lp_kv_fork(kv, 1, slot), true));
    }
    expect(r, "a copy to itself", (lp_kv_fork(kv, 1, 1), true));
    expect(r, "more rows than there is room for", (lp_kv_advance(kv, 1, 2), true));
    expect(r, "far more", (lp_kv_advance(kv, 1, INT64_MAX), true));
    expect(r, "fewer rows", (lp_kv_advance(kv, 1, -1), true));
    assert_int_equal(lp_error_status(r->ctx), LP_INVALID);
    assert_int_equal(lp_kv_length(kv, 0), 0);
    assert_int_equal(lp_kv_length(kv, 1), 2);
    lp_kv_advance(kv, 1, 1); /* what fits is done */
    lp_kv_fork(kv, 1, 0);
    assert_int_equal(lp_kv_length(kv, 0), 3);
    assert_int_equal(r->assertions, 0);
    lp_gradcheck_case none = {.name = "none"};
    lp_gradcheck_result result;
    expect(r, "a case of no inputs", lp_gradcheck_run(r->ctx, &none, 0, &result) == LP_INVALID);
    lp_ctx_destroy(r->ctx);
}

/* What is too large for memory is the world's failure: a status, no assertion. */
static void too_large(void** state) {
    (void)state;
    rig rig_, *r = &rig_;
    set_up(r);
    assert_null(lp_zeros(r->t, INT64_MAX, 2));
    assert_int_equal(lp_tape_status(r->t), LP_NOMEM);
    lp_tape_reset(r->t);
    assert_null(lp_zeros(r->t, INT64_C(1) << 40,
                         INT64_C(1) << 20)); /* the product fits, the bytes do not */
    assert_int_equal(lp_tape_status(r->t), LP_NOMEM);
    assert_null(lp_param(r->params, "w", INT64_MAX, 3));
    assert_null(lp_param(r->params, "w", INT64_C(1) << 40, INT64_C(1) << 20));
    assert_int_equal(lp_error_status(r->ctx), LP_NOMEM);
    assert_int_equal(lp_params_count(r->params), 0);
    lp_kv* kv;
    assert_int_equal(lp_kv_create(r->ctx, LP_FLOAT32, INT64_MAX, 2, 1, 2, 2, &kv), LP_NOMEM);
    assert_null(kv);
    assert_int_equal(r->assertions, 0);
    lp_ctx_destroy(r->ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(ops), cmocka_unit_test(the_rest),
                                       cmocka_unit_test(too_large)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
