/* An optimizer's step packs the weights again on its way: the operands equal freshly packed ones,
 * bit for bit, for all kinds and both formats, and only where there is one. */
#include "testing.h"

#include "tensor/params.h"
#include <logpi/tensor.h>

enum { WEIGHTS = 5 };
static const int64_t SHAPES[WEIGHTS][2] = {{97, 33}, {48, 64}, {1, 70}, {200, 3}, {130, 95}};

typedef struct rig {
    lp_ctx* ctx;
    lp_params* params;
    lp_tensor w[WEIGHTS], tied;
    lp_optim* optim;
    lp_rng rng;
} rig;

static rig rig_make(lp_optim_kind kind, int number, int isa) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 2;
    def.isa = isa;
    rig r = {.ctx = lp_ctx_create(&def, NULL, 0), .rng = lp_rng_philox(8, LP_FOR_TEST, 0, 0)};
    r.params = lp_params_create(r.ctx, LP_F32, true);
    for (int i = 0; i < WEIGHTS; i++) {
        char name[8];
        snprintf(name, sizeof name, "w%d", i);
        r.w[i] = lp_param_randn(r.params, name, SHAPES[i][0], SHAPES[i][1], &r.rng);
    }
    r.tied = lp_param_tied(r.params, "tied", r.w[0]);
    for (int i = 0; i < WEIGHTS; i++) lp__param_set_number(r.w[i], (lp__number)number);
    lp_optim_def optim = lp_optim_def_default(kind);
    optim.momentum = 0.9;
    optim.max_grad_norm = 1;
    optim.weight_decay = 0.1;
    assert_int_equal(lp_optim_create(r.params, &optim, &r.optim), LP_OK);
    return r;
}

static void draw_gradients(rig* r) {
    for (int i = 0; i < WEIGHTS; i++)
        lp_rng_normal_f32(&r->rng, lp_grad_f32(r->w[i]), r->w[i]->rows * r->w[i]->cols);
    bool fresh; /* memory for a tied gradient is there when it is first asked for */
    float* tied = lp__grad_raw(lp__node_of(r->tied), &fresh);
    assert_non_null(tied);
    lp_rng_normal_f32(&r->rng, tied, r->tied->rows * r->tied->cols);
}

/* The operands of a weight now beside fresh ones. sides: bit 0 transposed, bit 1 plain. */
static void check_operands(const rig* r, int i, int sides) {
    lp__node* node = lp__node_of(r->w[i]);
    for (int side = 0; side < 2; side++) {
        if (!(sides >> side & 1)) {
            assert_null(node->operand[side]); /* nobody asked for it */
            continue;
        }
        assert_true(node->operand_valid[side]);
        const size_t words = lp__weight_words(r->ctx, node->number, node->t.rows, node->t.cols,
                                              side == LP__TRANSPOSED);
        lp__word* fresh = malloc(words * sizeof *fresh);
        assert_int_equal(lp__weight_pack(r->ctx, node->number, node->t.rows, node->t.cols,
                                         node->t.data, side == LP__TRANSPOSED ? fresh : NULL,
                                         side == LP__PLAIN ? fresh : NULL),
                         LP_OK);
        assert_memory_equal(lp__weight_operand(r->ctx, node, (lp__side)side), fresh,
                            words * sizeof *fresh);
        free(fresh);
    }
}

static void use(const rig* r, int i, int sides) {
    for (int side = 0; side < 2; side++)
        if (sides >> side & 1)
            assert_non_null(lp__weight_operand(r->ctx, lp__node_of(r->w[i]), (lp__side)side));
}

static void operands_follow(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
            for (int number = LP__F32; number <= LP__BF16; number++) {
                rig r = rig_make((lp_optim_kind)kind, number, isa);
                rig bare = rig_make((lp_optim_kind)kind, number, isa); /* without any operand */
                for (int i = 0; i < WEIGHTS; i++) use(&r, i, i == 4 ? 3 : i);
                for (int step = 0; step < 3; step++) {
                    draw_gradients(&r), draw_gradients(&bare);
                    assert_int_equal(lp_optim_step(r.optim, NULL), LP_OK);
                    assert_int_equal(lp_optim_step(bare.optim, NULL), LP_OK);
                    for (int i = 0; i < WEIGHTS; i++) {
                        const size_t bytes = (size_t)(SHAPES[i][0] * SHAPES[i][1]) * sizeof(float);
                        check_operands(&r, i, i == 4 ? 3 : i);
                        check_operands(&bare, i, 0);
                        assert_memory_equal(r.w[i]->data, bare.w[i]->data, bytes);
                        for (int64_t j = 0; j < SHAPES[i][0] * SHAPES[i][1]; j++)
                            assert_true(lp_grad_at(r.w[i], 0, j) == 0); /* cleared on the way */
                    }
                }
                lp_ctx_destroy(r.ctx), lp_ctx_destroy(bare.ctx);
            }
        }
    }
}

/* Another number format between a backward pass and its step: the operands have their old size. A
 * weight that was packed before the others must not be written over. */
static void another_format_before_a_step(void** state) {
    (void)state;
    for (int from = LP__F32; from <= LP__BF16; from++) {
        rig r = rig_make(LP_ADAMW, from, -1);
        for (int i = WEIGHTS - 1; i >= 0; i--) use(&r, i, 3);
        for (int i = 1; i < WEIGHTS; i++) lp__param_set_number(r.w[i], (lp__number)(1 - from));
        draw_gradients(&r);
        assert_int_equal(lp_optim_step(r.optim, NULL), LP_OK);
        for (int i = 0; i < WEIGHTS; i++) {
            use(&r, i, 3); /* makes what is missing */
            check_operands(&r, i, 3);
        }
        draw_gradients(&r);
        assert_int_equal(lp_optim_step(r.optim, NULL), LP_OK);
        for (int i = 0; i < WEIGHTS; i++) check_operands(&r, i, 3);
        lp_ctx_destroy(r.ctx);
    }
}

/* A rollback, numbers written by hand and a copied set leave no stale operand behind, in bf16 too.
 */
static void nothing_stale(void** state) {
    (void)state;
    rig r = rig_make(LP_ADAM, LP__BF16, -1), other = rig_make(LP_ADAM, LP__BF16, -1);
    for (int change = 0; change < 3; change++) {
        for (int i = 0; i < WEIGHTS; i++) use(&r, i, 3);
        if (change == 0) {
            assert_int_equal(lp_optim_savepoint(r.optim), LP_OK);
            draw_gradients(&r);
            assert_int_equal(lp_optim_step(r.optim, NULL), LP_OK);
            lp_optim_rollback(r.optim);
        } else if (change == 1) {
            for (int i = 0; i < WEIGHTS; i++) lp_f32(r.w[i])[0] += 1.5f;
            lp_params_changed(r.params);
        } else {
            for (int i = 0; i < WEIGHTS; i++) lp_f32(other.w[i])[0] -= 3.0f;
            assert_int_equal(lp_params_copy(r.params, other.params), LP_OK);
        }
        for (int i = 0; i < WEIGHTS; i++) {
            use(&r, i, 3);
            check_operands(&r, i, 3);
        }
    }
    lp_ctx_destroy(r.ctx), lp_ctx_destroy(other.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(operands_follow),
        cmocka_unit_test(another_format_before_a_step),
        cmocka_unit_test(nothing_stale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
