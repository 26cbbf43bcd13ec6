/* A programmer's mistakes with a model: each tells the assert hook once, computes nothing, moves no
 * cache, and leaves the tape in LP_INVALID. */
#include "lm/rig.h"

#include "lm/model.h"

static int assertions;

static void on_assertion(void* user, const char* condition, const char* where,
                         const char* message) {
    (void)user, (void)condition, (void)where, (void)message;
    assertions++;
}

static rig set_up_hooked(void) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.assertion = on_assertion;
    assertions = 0;
    return set_up_with(&def);
}

#define LIST(type, ...) ((const type[]){__VA_ARGS__})

static void batches(void** state) {
    (void)state;
    rig r = set_up_hooked();
    lp_kv *kv, *flat;
    assert_int_equal(lp_model_cache(r.model, LP_FLOAT32, 2, 4, &kv), LP_OK);
    assert_int_equal(lp_kv_create(r.ctx, LP_FLOAT32, 1, 2, 2, 2, 4, &flat),
                     LP_OK); /* of no model */
    lp_tape* t = lp_tape_create(r.ctx, LP_F32);
    const int32_t tokens[] = {5, 6, 7, 8, 9};
    const lp_batch wrong[] = {
        {2, LIST(int64_t, 1, 2, 3), tokens, NULL, NULL, NULL},
        {2, LIST(int64_t, -1, 2, 3), tokens, NULL, NULL, NULL},
        {2, LIST(int64_t, 0, 3, 2), tokens, NULL, NULL, NULL},
        {2, LIST(int64_t, 0, INT64_MIN, 2), tokens, NULL, NULL, NULL},
        {-1, LIST(int64_t, 0, 1), tokens, NULL, NULL, NULL},
        {1, NULL, tokens, NULL, NULL, NULL},
        {1, LIST(int64_t, 0, 2), NULL, NULL, NULL, NULL},
        {1, LIST(int64_t, 0, 2), LIST(int32_t, 5, 512), NULL, NULL, NULL},
        {1, LIST(int64_t, 0, 2), LIST(int32_t, -1, 5), NULL, NULL, NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, NULL, NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, LIST(int32_t, 0, 2), NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, LIST(int32_t, -1, 0), NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, LIST(int32_t, 1, 1), NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, LIST(int32_t, INT32_MIN, INT32_MAX), NULL},
        {1, LIST(int64_t, 0, 5), tokens, kv, LIST(int32_t, 0), NULL}, /* it has four rows */
        {1, LIST(int64_t, 0, 2), tokens, kv, LIST(int32_t, 1),
         NULL}, /* and in this slot three are taken */
        {1, LIST(int64_t, 0, 1), tokens, flat, LIST(int32_t, 0), NULL},
        {2, LIST(int64_t, 0, 1, 2), tokens, NULL, NULL, LIST(int64_t, -1, 1)}, /* its own prefix */
        {2, LIST(int64_t, 0, 1, 2), tokens, kv, LIST(int32_t, 0, 1), LIST(int64_t, -1, 0)},
        {3, LIST(int64_t, 0, 1, 2, 3), tokens, NULL, NULL, LIST(int64_t, -1, 0, 1)},
    };
    lp_tape_record(t, false);
    const lp_batch good = {2, LIST(int64_t, 0, 1, 4), tokens, kv, LIST(int32_t, 0, 1), NULL};
    assert_non_null(lp_model_hidden(t, r.model, r.weights, &good));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assertions = 0;
        lp_tape_reset(t);
        if (lp_model_hidden(t, r.model, r.weights, &wrong[i]))
            fail_msg("batch %d was computed", (int)i);
        if (assertions != 1) fail_msg("batch %d: %d assertions, not 1", (int)i, assertions);
        assert_int_equal(lp_tape_status(t), LP_INVALID);
        assert_int_equal(lp_error_status(r.ctx), LP_INVALID);
        assert_null(lp_model_hidden(t, r.model, r.weights,
                                    &wrong[i])); /* the tape has failed: no second word */
        assert_int_equal(assertions, 1);
        assert_int_equal(lp_kv_length(kv, 0), 1);
        assert_int_equal(lp_kv_length(kv, 1), 3);
        assert_int_equal(lp_kv_length(flat, 0), 0);
    }
    lp_model taller = *r.model;
    taller.shape.layers *= 100;
    assertions = 0;
    lp_tape_reset(t);
    assert_null(lp_model_hidden(t, &taller, r.weights,
                                &(lp_batch){1, LIST(int64_t, 0, 2), tokens, NULL, NULL, NULL}));
    assert_int_equal(assertions, 1);
    lp_tape_reset(t);
    const lp_batch full = {2,  LIST(int64_t, 0, 1, 4), tokens,
                           kv, LIST(int32_t, 1, 0),    NULL}; /* to the last row */
    assert_non_null(lp_model_hidden(t, r.model, r.weights, &full));
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(batches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
