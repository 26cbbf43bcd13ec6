/* Sums, means, softmax. */
#include "tensor/tape.h"

#define real        float
#define FN(name)    name##_f32
#define M(function) function##f
#include "tensor/reduce.inc"
#undef real
#undef FN
#undef M

#define real        double
#define FN(name)    name##_f64
#define M(function) function
#include "tensor/reduce.inc"
#undef real
#undef FN
#undef M

#define OP(op)                                                                                     \
    const lp__op lp__op_##op = {.name = #op,                                                       \
                                .forward = {op##_forward_f32, op##_forward_f64},                   \
                                .backward = {op##_backward_f32, op##_backward_f64}};
OP(sum)
OP(mean)
OP(row_sum)
OP(softmax)
OP(log_softmax)
OP(row_entropy)
OP(row_kl)

/* rows or cols < 0: as in x */
static lp_tensor reduce(lp_tape* t, const lp__op* op, lp_tensor x, int64_t rows, int64_t cols) {
    if (!lp__inputs_ok(t, &x, 1)) return NULL;
    return lp__apply(t, op, rows < 0 ? x->rows : rows, cols < 0 ? x->cols : cols, &x, 1, NULL);
}

lp_tensor lp_sum(lp_tape* t, lp_tensor x) { return reduce(t, &lp__op_sum, x, 1, 1); }
lp_tensor lp_mean(lp_tape* t, lp_tensor x) { return reduce(t, &lp__op_mean, x, 1, 1); }
lp_tensor lp_row_sum(lp_tape* t, lp_tensor x) { return reduce(t, &lp__op_row_sum, x, -1, 1); }
lp_tensor lp_softmax(lp_tape* t, lp_tensor x) { return reduce(t, &lp__op_softmax, x, -1, -1); }
lp_tensor lp_log_softmax(lp_tape* t, lp_tensor x) {
    return reduce(t, &lp__op_log_softmax, x, -1, -1);
}
lp_tensor lp_row_entropy(lp_tape* t, lp_tensor log_p) {
    return reduce(t, &lp__op_row_entropy, log_p, -1, 1);
}

lp_tensor lp_row_kl(lp_tape* t, lp_tensor log_p, lp_tensor log_q) {
    lp_tensor in[2] = {log_p, log_q};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, log_p->rows == log_q->rows && log_p->cols == log_q->cols,
                     "a divergence needs two distributions of one shape"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_row_kl, log_p->rows, 1, in, 2, NULL);
}
