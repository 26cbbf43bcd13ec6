/* Elementwise ops. */
#include "tensor/tape.h"

#define real        float
#define FN(name)    name##_f32
#define M(function) function##f
#include "tensor/elementwise.inc"
#undef real
#undef FN
#undef M

#define real        double
#define FN(name)    name##_f64
#define M(function) function
#include "tensor/elementwise.inc"
#undef real
#undef FN
#undef M

/* In float these four run through the kernels of the instruction set at hand. */
#define KERNEL_FORWARD(name)                                                                       \
    static void name##_forward_kernel(lp__node* node) {                                            \
        lp__ctx_kernels(lp__node_ctx(node))                                                        \
            ->name(lp__size(node), node->in[0]->t.data, node->t.data);                             \
    }
KERNEL_FORWARD(exp)
KERNEL_FORWARD(log)
KERNEL_FORWARD(tanh)
KERNEL_FORWARD(sigmoid)

#define OP(op, forward_f32)                                                                        \
    const lp__op lp__op_##op = {.name = #op,                                                       \
                                .forward = {forward_f32, op##_forward_f64},                        \
                                .backward = {op##_backward_f32, op##_backward_f64}};

OP(neg, neg_forward_f32)
OP(exp, exp_forward_kernel)
OP(log, log_forward_kernel)
OP(tanh, tanh_forward_kernel)
OP(sigmoid, sigmoid_forward_kernel)
OP(silu, silu_forward_f32)
OP(relu, relu_forward_f32)
OP(sqrt, sqrt_forward_f32)
OP(square, square_forward_f32)
OP(scale, scale_forward_f32)
OP(shift, shift_forward_f32)
OP(clamp, clamp_forward_f32)
OP(add, add_forward_f32)
OP(sub, sub_forward_f32)
OP(mul, mul_forward_f32)
OP(div, div_forward_f32)
OP(maximum, maximum_forward_f32)
OP(minimum, minimum_forward_f32)

static lp_tensor unary(lp_tape* t, const lp__op* op, lp_tensor x, double a, double b) {
    if (!lp__inputs_ok(t, &x, 1)) return NULL;
    lp__attr attr = {.number = {a, b}};
    return lp__apply(t, op, x->rows, x->cols, &x, 1, &attr);
}

lp_tensor lp_neg(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_neg, x, 0, 0); }
lp_tensor lp_exp(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_exp, x, 0, 0); }
lp_tensor lp_log(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_log, x, 0, 0); }
lp_tensor lp_tanh(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_tanh, x, 0, 0); }
lp_tensor lp_sigmoid(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_sigmoid, x, 0, 0); }
lp_tensor lp_silu(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_silu, x, 0, 0); }
lp_tensor lp_relu(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_relu, x, 0, 0); }
lp_tensor lp_sqrt(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_sqrt, x, 0, 0); }
lp_tensor lp_square(lp_tape* t, lp_tensor x) { return unary(t, &lp__op_square, x, 0, 0); }
lp_tensor lp_scale(lp_tape* t, lp_tensor x, double a) { return unary(t, &lp__op_scale, x, a, 0); }
lp_tensor lp_shift(lp_tape* t, lp_tensor x, double a) { return unary(t, &lp__op_shift, x, a, 0); }

lp_tensor lp_clamp(lp_tape* t, lp_tensor x, double low, double high) {
    if (!LP__REQUIRE(t->ctx, low <= high, "clamp needs low <= high"))
        return lp__tape_fail(t, LP_INVALID);
    return unary(t, &lp__op_clamp, x, low, high);
}

static lp_tensor binary(lp_tape* t, const lp__op* op, lp_tensor a, lp_tensor b) {
    lp_tensor in[2] = {a, b};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx,
                     (b->rows == a->rows || b->rows == 1) && (b->cols == a->cols || b->cols == 1),
                     "b must have the shape of a, or be a row, a column or a scalar that fits it"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, op, a->rows, a->cols, in, 2, NULL);
}

lp_tensor lp_add(lp_tape* t, lp_tensor a, lp_tensor b) { return binary(t, &lp__op_add, a, b); }
lp_tensor lp_sub(lp_tape* t, lp_tensor a, lp_tensor b) { return binary(t, &lp__op_sub, a, b); }
lp_tensor lp_mul(lp_tape* t, lp_tensor a, lp_tensor b) { return binary(t, &lp__op_mul, a, b); }
lp_tensor lp_div(lp_tape* t, lp_tensor a, lp_tensor b) { return binary(t, &lp__op_div, a, b); }
lp_tensor lp_maximum(lp_tape* t, lp_tensor a, lp_tensor b) {
    return binary(t, &lp__op_maximum, a, b);
}
lp_tensor lp_minimum(lp_tape* t, lp_tensor a, lp_tensor b) {
    return binary(t, &lp__op_minimum, a, b);
}
