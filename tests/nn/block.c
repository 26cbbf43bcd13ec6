/* The fused decoder block beside the same composed of small ops in double: outputs within 1e-5
 * (bf16: 2e-2) of the largest entry, gradients within 1e-4 (3e-2, of their norm); and its bits,
 * however sequences are cut into batches, and on any number of threads. */
#include "block_rig.h"

static const int64_t OFFSETS[] = {0, 1, 48, 48, 97, 99, 228, 261};
enum { SEQUENCES = 7, ROWS = 261 };

static lp_ctx_def with(int threads, int isa) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    def.isa = isa;
    return def;
}

/* Euclidean distance, of the size of `want`. */
static void assert_close_gradient(const char* who, const char* what, lp_tensor got, lp_tensor want,
                                  double tolerance) {
    double off = 0, size = 0;
    for (int64_t i = 0; i < size_of(want); i++) {
        const double a = lp_grad_at(got, 0, i), b = lp_grad_at(want, 0, i);
        off += (a - b) * (a - b), size += b * b;
    }
    if (!(size > 0 && sqrt(off) <= tolerance * sqrt(size)))
        fail_msg("%s, gradient of %s: off by %g of %g", who, what, sqrt(off), sqrt(size));
}

static void fused_and_composed(void** state) {
    (void)state;
    for (int k = 0; k < FAMILY_COUNT; k++) {
        const family* f = &FAMILIES[k];
        lp_ctx_def def = with(2, -1);
        block_rig want = block_rig_make(f, LP_F64, LP__F32, &def, 0);
        lp_tensor y = block_of(&want, false, SEQUENCES, OFFSETS, 0);
        assert_int_equal(block_backward(&want, y, 0), LP_OK);
        for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
            if (!lp__isa_available((lp_isa)isa)) continue;
            for (int number = LP__F32; number <= LP__BF16; number++) {
                def = with(2, isa);
                block_rig got = block_rig_make(f, LP_F32, number, &def, 0);
                lp_tensor z = block_of(&got, true, SEQUENCES, OFFSETS, 0);
                assert_non_null(z);
                assert_near(f->name, "y", z, y, ROWS * f->width, false,
                            number == LP__F32 ? 1e-5 : 2e-2);
                assert_int_equal(block_backward(&got, z, 0), LP_OK);
                for (int i = 0; i < FIELDS; i++) {
                    if (!got.field[i]) continue;
                    /* a bias of keys adds the same to all scores of a row: 0, without rotation */
                    if (i == 5 && !f->rotary) continue;
                    if (number == LP__F32)
                        assert_near(f->name, FIELD_NAMES[i], got.field[i], want.field[i],
                                    size_of(got.field[i]), true, 1e-4);
                    else
                        assert_close_gradient(f->name, FIELD_NAMES[i], got.field[i], want.field[i],
                                              3e-2);
                }
                if (number == LP__F32)
                    assert_near(f->name, "x", got.x, want.x, ROWS * f->width, true, 1e-4);
                else
                    assert_close_gradient(f->name, "x", got.x, want.x, 3e-2);
                lp_ctx_destroy(got.ctx);
            }
        }
        lp_ctx_destroy(want.ctx);
    }
}

/* All sequences at once, in pairs, each alone; one to three threads. */
static void batches_and_threads(void** state) {
    (void)state;
    for (int k = 0; k < FAMILY_COUNT; k++) {
        const family* f = &FAMILIES[k];
        for (int number = LP__F32; number <= LP__BF16; number++) {
            lp_ctx_def def = with(1, -1);
            block_rig want = block_rig_make(f, LP_F32, number, &def, 0);
            lp_tensor y = block_of(&want, true, SEQUENCES, OFFSETS, 0);
            assert_int_equal(block_backward(&want, y, 0), LP_OK);
            for (int way = 0; way < 6; way++) {
                static const int batch[] = {SEQUENCES, SEQUENCES, 2, 1, 3, 1},
                                 threads[] = {2, 3, 2, 2, 3, 1};
                def = with(threads[way], -1);
                block_rig got = block_rig_make(f, LP_F32, number, &def, 0);
                for (int64_t s = 0; s < SEQUENCES; s += batch[way]) {
                    const int64_t n = LP__MIN(batch[way], SEQUENCES - s);
                    int64_t own[SEQUENCES + 1];
                    for (int64_t i = 0; i <= n; i++) own[i] = OFFSETS[s + i] - OFFSETS[s];
                    lp_tape_reset(got.t);
                    lp_tensor z = block_of(&got, true, n, own, OFFSETS[s]);
                    assert_memory_equal(z->data, lp_f32(y) + OFFSETS[s] * f->width,
                                        (size_t)size_of(z) * sizeof(float));
                    assert_int_equal(block_backward(&got, z, OFFSETS[s]), LP_OK);
                }
                assert_same_gradients(&got, &want);
                lp_ctx_destroy(got.ctx);
            }
            lp_ctx_destroy(want.ctx);
        }
    }
}

/* Frozen parameters have no gradient and change nothing for the others, each field in turn and all
 * of them; and a block that nothing flows out of is not recorded. */
static void frozen_parameters(void** state) {
    (void)state;
    const family* f = &FAMILIES[3];
    const lp_ctx_def def = with(2, -1);
    for (int number = LP__F32; number <= LP__BF16; number++) {
        block_rig want = block_rig_make(f, LP_F32, number, &def, 0);
        lp_tensor y = block_of(&want, true, SEQUENCES, OFFSETS, 0);
        assert_int_equal(block_backward(&want, y, 0), LP_OK);
        for (int i = 0; i <= FIELDS; i++) {
            const uint32_t frozen = i < FIELDS ? 1u << i : (1u << FIELDS) - 1;
            block_rig got = block_rig_make(f, LP_F32, number, &def, frozen);
            lp_tensor z = block_of(&got, true, SEQUENCES, OFFSETS, 0);
            assert_memory_equal(z->data, y->data, (size_t)size_of(y) * sizeof(float));
            assert_int_equal(block_backward(&got, z, 0), LP_OK);
            for (int j = 0; j < FIELDS; j++)
                assert_true(!got.field[j] || (got.field[j]->grad == NULL) == (frozen >> j & 1));
            assert_same_gradients(&got, &want);
            lp_ctx_destroy(got.ctx);
        }
        /* x is a constant: only weights get theirs */
        block_rig got = block_rig_make(f, LP_F32, number, &def, 0);
        lp_tensor kept = got.x;
        got.x = lp_detach(got.t, got.x);
        lp_tensor z = block_of(&got, true, SEQUENCES, OFFSETS, 0);
        assert_int_equal(block_backward(&got, z, 0), LP_OK);
        assert_null(got.x->grad);
        memcpy(lp_grad_f32(kept), want.x->grad, (size_t)size_of(kept) * sizeof(float));
        got.x = kept;
        assert_same_gradients(&got, &want);
        lp_ctx_destroy(got.ctx);
        /* nothing learns */
        got = block_rig_make(f, LP_F32, number, &def, (1u << FIELDS) - 1);
        got.x = lp_detach(got.t, got.x);
        z = block_of(&got, true, SEQUENCES, OFFSETS, 0);
        assert_memory_equal(z->data, y->data, (size_t)size_of(y) * sizeof(float));
        assert_false(z->needs_grad);
        lp_ctx_destroy(got.ctx);
        lp_ctx_destroy(want.ctx);
    }
}

/* A tape that recomputes keeps less, and has the same bits. */
static void recomputed(void** state) {
    (void)state;
    for (int k = 0; k < FAMILY_COUNT; k++) {
        for (int number = LP__F32; number <= LP__BF16; number++) {
            const lp_ctx_def def = with(2, -1);
            block_rig want = block_rig_make(&FAMILIES[k], LP_F32, number, &def, 0),
                      got = block_rig_make(&FAMILIES[k], LP_F32, number, &def, 0);
            lp_tape_recompute(got.t, true);
            lp_tensor y = block_of(&want, true, SEQUENCES, OFFSETS, 0);
            lp_tensor z = block_of(&got, true, SEQUENCES, OFFSETS, 0);
            assert_memory_equal(z->data, y->data, (size_t)size_of(y) * sizeof(float));
            assert_true(lp_tape_bytes(got.t) + (size_t)size_of(y) * sizeof(float) <
                        lp_tape_bytes(want.t));
            assert_int_equal(block_backward(&want, y, 0), LP_OK);
            assert_int_equal(block_backward(&got, z, 0), LP_OK);
            assert_same_gradients(&got, &want);
            lp_ctx_destroy(got.ctx), lp_ctx_destroy(want.ctx);
        }
    }
}

/* What else reads x adds to its gradient, whether it was there before the block or came after it.
 */
static void others_read_x(void** state) {
    (void)state;
    const family* f = &FAMILIES[0];
    const lp_ctx_def def = with(2, -1);
    block_rig alone = block_rig_make(f, LP_F32, LP__F32, &def, 0);
    lp_tensor want = block_of(&alone, true, SEQUENCES, OFFSETS, 0);
    assert_int_equal(block_backward(&alone, want, 0), LP_OK);
    int32_t position[ROWS];
    for (int64_t s = 0; s < SEQUENCES; s++)
        for (int64_t i = OFFSETS[s]; i < OFFSETS[s + 1]; i++)
            position[i] = (int32_t)(i - OFFSETS[s]);
    const lp_attention_def attention = {
        .heads = f->heads, .kv_heads = f->kv_heads, .sequences = SEQUENCES, .offsets = OFFSETS};
    for (int way = 1; way < 4; way++) { /* bit 0: read before, bit 1: after */
        block_rig r = block_rig_make(f, LP_F32, LP__F32, &def, 0);
        int32_t index[ROWS];
        for (int32_t i = 0; i < ROWS; i++) index[i] = i;
        lp_tensor x = lp_rows(r.t, r.x, lp_const_i32(r.t, ROWS, 1, index));
        lp_tensor before = way & 1 ? lp_scale(r.t, x, 0.5) : NULL;
        lp_tensor y = block_on(&r, true, x, &attention, position);
        assert_memory_equal(y->data, want->data, (size_t)size_of(y) * sizeof(float));
        if (before) y = lp_add(r.t, y, before);
        if (way & 2) y = lp_add(r.t, y, lp_scale(r.t, x, -2));
        assert_int_equal(block_backward(&r, y, 0), LP_OK);
        const double factor = (way & 1 ? 0.5 : 0.0) - (way & 2 ? 2.0 : 0.0);
        for (int64_t i = 0; i < ROWS; i++)
            for (int64_t j = 0; j < f->width; j++)
                assert_close(lp_grad_at(r.x, i, j),
                             lp_grad_at(alone.x, i, j) + factor * loss_weight(i, j), 1e-5);
        for (int i = 0; i < FIELDS; i++)
            if (r.field[i])
                assert_memory_equal(r.field[i]->grad, alone.field[i]->grad,
                                    (size_t)size_of(r.field[i]) * sizeof(float));
        lp_ctx_destroy(r.ctx);
    }
    lp_ctx_destroy(alone.ctx);
}

/* A prefix that others continue, beside the same written out in full: the same values bit for bit,
 * gradients to rounding. Copies of the prefix's rows have no loss. */
static void prefixes(void** state) {
    (void)state;
    static const int64_t length[] = {61, 7, 1, 64, 0, 33, 48}, prefix[] = {-1, 0, 0, -1, 3, 3, 0};
    enum { N = 7 };
    for (int k = 0; k < FAMILY_COUNT; k++) {
        const family* f = &FAMILIES[k];
        for (int number = LP__F32; number <= LP__BF16; number++) {
            const lp_ctx_def def = with(2, -1);
            block_rig got = block_rig_make(f, LP_F32, number, &def, 0),
                      want = block_rig_make(f, LP_F32, number, &def, 0);
            int64_t offsets[N + 1] = {0}, whole[N + 1] = {0};
            int32_t index[MAX_ROWS], position[MAX_ROWS], from[MAX_ROWS], whole_position[MAX_ROWS];
            bool copied[MAX_ROWS];
            for (int s = 0; s < N; s++) {
                const int64_t before = prefix[s] < 0 ? 0 : length[prefix[s]];
                offsets[s + 1] = offsets[s] + length[s];
                whole[s + 1] = whole[s] + before + length[s];
                assert_true(whole[s + 1] <= MAX_ROWS);
                for (int64_t i = 0; i < before + length[s]; i++) {
                    const int64_t row =
                        i < before ? offsets[prefix[s]] + i : offsets[s] + i - before;
                    from[whole[s] + i] = (int32_t)row;
                    whole_position[whole[s] + i] = (int32_t)i;
                    copied[whole[s] + i] = i < before;
                    if (i >= before) index[row] = (int32_t)row, position[row] = (int32_t)i;
                }
            }
            lp_attention_def attention = {.heads = f->heads,
                                          .kv_heads = f->kv_heads,
                                          .sequences = N,
                                          .offsets = offsets,
                                          .prefix = prefix};
            lp_tensor y = block_run(&got, true, &attention, index, position);
            attention.offsets = whole, attention.prefix = NULL;
            lp_tensor z = block_run(&want, true, &attention, from, whole_position);
            assert_non_null(y);
            assert_non_null(z);
            for (int64_t i = 0; i < whole[N]; i++)
                assert_memory_equal(lp_f32(z) + i * f->width, lp_f32(y) + from[i] * f->width,
                                    (size_t)f->width * sizeof(float));
            assert_int_equal(block_backward(&got, y, 0), LP_OK);
            float* weight = malloc((size_t)size_of(z) * sizeof *weight);
            for (int64_t i = 0; i < whole[N]; i++)
                for (int64_t j = 0; j < f->width; j++)
                    weight[i * f->width + j] = copied[i] ? 0 : (float)loss_weight(from[i], j);
            assert_int_equal(
                lp_backward(want.t,
                            lp_sum(want.t, lp_mul(want.t, z,
                                                  lp_const_f32(want.t, z->rows, z->cols, weight)))),
                LP_OK);
            free(weight);
            for (int i = 0; i < FIELDS; i++) {
                if (!got.field[i] || (i == 5 && !f->rotary)) continue;
                if (number == LP__F32)
                    assert_near(f->name, FIELD_NAMES[i], got.field[i], want.field[i],
                                size_of(got.field[i]), true, 1e-5);
                else
                    assert_close_gradient(f->name, FIELD_NAMES[i], got.field[i], want.field[i],
                                          1e-2);
            }
            if (number == LP__F32)
                assert_near(f->name, "x", got.x, want.x, size_of(got.x), true, 1e-5);
            lp_ctx_destroy(got.ctx), lp_ctx_destroy(want.ctx);
        }
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

typedef struct refusal {
    int64_t countdown; /* allocations until one is refused; negative: none is */
    bool refused;
    int64_t held;
} refusal;

static void* refusing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    refusal* r = user;
    if (new_bytes > 0 && r->countdown >= 0 && r->countdown-- == 0) {
        r->refused = true;
        return NULL;
    }
    void* block = NULL;
    if (new_bytes == 0)
        free(old);
    else
        block = realloc(old, new_bytes);
    r->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

static lp_status whole_pass(block_rig* r) {
    lp_tape_reset(r->t);
    lp_params_zero_grad(r->params);
    const lp_status status = block_backward(r, block_of(r, true, SEQUENCES, OFFSETS, 0), 0);
    assert_int_equal(lp__scratch(r->ctx)->used, 0);
    return status;
}

/* Each allocation of a pass is refused in turn: LP_NOMEM, nothing leaks, and the next pass has the
 * bits of an undisturbed one. */
static void memory_runs_out(void** state) {
    (void)state;
    for (int way = 0; way < 4; way++) {
        const int number = way % 2 ? LP__BF16 : LP__F32;
        const lp_ctx_def plain = with(2, -1);
        block_rig want = block_rig_make(&FAMILIES[1], LP_F32, number, &plain, 0);
        assert_int_equal(whole_pass(&want), LP_OK);
        int ended = 0;
        for (int64_t n = 0;; n++) {
            refusal refuse = {.countdown = -1};
            lp_ctx_def def = with(2, -1);
            def.alloc = refusing_alloc;
            def.alloc_user = &refuse;
            block_rig r = block_rig_make(&FAMILIES[1], LP_F32, number, &def, 0);
            lp_tape_recompute(r.t, way / 2);
            refuse.countdown = n;
            const lp_status status = whole_pass(&r);
            refuse.countdown = -1;
            assert_true(status == LP_NOMEM ? refuse.refused : status == LP_OK);
            ended += status == LP_NOMEM;
            assert_int_equal(whole_pass(&r), LP_OK);
            assert_same_gradients(&r, &want);
            lp_ctx_destroy(r.ctx);
            assert_int_equal(refuse.held, 0);
            if (!refuse.refused) break;
        }
        assert_true(ended >= 4);
        lp_ctx_destroy(want.ctx);
    }
}

static void count(void* user, const char* condition, const char* where, const char* message) {
    (void)condition, (void)where, (void)message;
    ++*(int*)user;
}

static void mistakes(void** state) {
    (void)state;
    int told = 0;
    lp_ctx_def def = with(1, -1);
    def.assertion = count;
    def.assert_user = &told;
    const int64_t offsets[] = {0, 3};
    family odd = FAMILIES[0];
    odd.head_dim = 7, odd.rotary = false;
    block_rig r = block_rig_make(&odd, LP_F32, LP__BF16, &def, 0);
    assert_null(block_of(&r, true, 1, offsets, 0)); /* bf16, heads of an odd width */
    assert_int_equal(told, 1);
    assert_int_equal(lp_tape_status(r.t), LP_INVALID);
    lp_ctx_destroy(r.ctx);
    r = block_rig_make(&odd, LP_F32, LP__F32, &def, 0);
    assert_non_null(block_of(&r, true, 1, offsets, 0)); /* fp32 takes them */
    assert_int_equal(told, 1);
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fused_and_composed), cmocka_unit_test(batches_and_threads),
        cmocka_unit_test(frozen_parameters),  cmocka_unit_test(prefixes),
        cmocka_unit_test(recomputed),         cmocka_unit_test(others_read_x),
        cmocka_unit_test(memory_runs_out),    cmocka_unit_test(mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
