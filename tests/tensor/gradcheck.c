/* Every op and distribution: its gradient in double against finite differences, in float (the
 * kernels) against the one in double, both to 1e-6; and a wrong backward of either kind must be
 * found. */
#include "testing.h"

#include "tensor/tape.h"
#include <logpi/pg.h>

static const double TOLERANCE = 1e-6;

static void all_pass_on(lp_isa isa, const lp_gradcheck_case* cases, int n) {
    lp_ctx_def def = lp_ctx_def_default();
    def.isa = (int)isa;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    for (int i = 0; i < n; i++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            lp_gradcheck_result result;
            assert_int_equal(lp_gradcheck_run(ctx, &cases[i], seed, &result), LP_OK);
            if (!(result.worst <= TOLERANCE))
                fail_msg("%s: input %d [%d, %d] is off by %g", cases[i].name, result.input,
                         (int)result.row, (int)result.col, result.worst);
            if (!(result.float_worst <= TOLERANCE))
                fail_msg("%s: float on %s is off by %g in input %d", cases[i].name,
                         lp_isa_name(isa), result.float_worst, result.float_input);
        }
    }
    lp_ctx_destroy(ctx);
}

static void all_pass(const lp_gradcheck_case* cases, int n) {
    for (int isa = LP_ISA_SCALAR; isa < LP_ISA_COUNT; isa++) {
        if (lp__isa_available((lp_isa)isa)) all_pass_on((lp_isa)isa, cases, n);
    }
}

static void ops(void** state) {
    (void)state;
    const lp_gradcheck_case* cases;
    const int n = lp_gradcheck_cases(&cases);
    all_pass(cases, n);
}

static void distributions(void** state) {
    (void)state;
    const lp_gradcheck_case* cases;
    const int n = lp_pg_gradcheck_cases(&cases);
    all_pass(cases, n);
}

/* The cases name every op of the table. */
static void complete(void** state) {
    (void)state;
    static const char* const names[] = {
#define LP__OP(name) #name,
#include "tensor/ops.inc"
#undef LP__OP
    };
    const lp_gradcheck_case* cases;
    const int n = lp_gradcheck_cases(&cases);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool found = false;
        for (int j = 0; j < n; j++) found = found || strcmp(cases[j].name, names[i]) == 0;
        if (!found) fail_msg("op %s has no gradcheck case", names[i]);
    }
}

/* tanh whose derivative is 1 % too large, in double or in float */
static void wrong_backward_f64(lp__node* node) {
    double* dx = lp__grad(node->in[0]);
    const double *y = node->t.data, *dy = node->t.grad;
    for (int64_t i = 0; dx && i < lp__size(node); i++) dx[i] += 1.01 * dy[i] * (1.0 - y[i] * y[i]);
}
static void wrong_backward_f32(lp__node* node) {
    float* dx = lp__grad(node->in[0]);
    const float *y = node->t.data, *dy = node->t.grad;
    for (int64_t i = 0; dx && i < lp__size(node); i++)
        dx[i] += 1.01f * dy[i] * (1.0f - y[i] * y[i]);
}

static lp_tensor wrong_tanh(lp_tape* t, const lp_tensor* in, bool in_double) {
    static lp__op op[2]; /* written once, read by one thread */
    op[in_double] = lp__op_tanh;
    op[in_double].backward[in_double] = in_double ? wrong_backward_f64 : wrong_backward_f32;
    return lp__apply(t, &op[in_double], in[0]->rows, in[0]->cols, in, 1, NULL);
}
static lp_tensor wrong_in_double(lp_tape* t, const lp_tensor* in) {
    return wrong_tanh(t, in, true);
}
static lp_tensor wrong_in_float(lp_tape* t, const lp_tensor* in) {
    return wrong_tanh(t, in, false);
}

static void wrong_backward_is_found(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const lp_gradcheck_case in_double = {"wrong", 1, {{3, 4}}, -1, 1, wrong_in_double};
    const lp_gradcheck_case in_float = {"wrong", 1, {{3, 4}}, -1, 1, wrong_in_float};
    lp_gradcheck_result result;
    assert_int_equal(lp_gradcheck_run(ctx, &in_double, 0, &result), LP_OK);
    assert_true(result.worst > 1e-3);
    assert_int_equal(lp_gradcheck_run(ctx, &in_float, 0, &result), LP_OK);
    assert_true(result.worst < TOLERANCE && result.float_worst > 1e-3);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ops),
        cmocka_unit_test(distributions),
        cmocka_unit_test(complete),
        cmocka_unit_test(wrong_backward_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
