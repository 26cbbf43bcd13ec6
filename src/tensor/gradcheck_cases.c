/* The gradcheck case of each op, in the order of ops.inc. An op with several ways to be called
 * (broadcasts, an optional bias) has a case a way, each named "op" or "op/way". */
#include "tensor/tape.h"

#define UNARY_CASE(op)                                                                             \
    static lp_tensor op##_case(lp_tape* t, const lp_tensor* in) { return lp_##op(t, in[0]); }
UNARY_CASE(neg)
UNARY_CASE(exp)
UNARY_CASE(log)
UNARY_CASE(tanh)
UNARY_CASE(sigmoid)
UNARY_CASE(silu)
UNARY_CASE(relu)
UNARY_CASE(sqrt)
UNARY_CASE(square)
UNARY_CASE(transpose)
UNARY_CASE(sum)
UNARY_CASE(mean)
UNARY_CASE(row_sum)
UNARY_CASE(softmax)
UNARY_CASE(log_softmax)
UNARY_CASE(row_entropy)
UNARY_CASE(gelu)

#define BINARY_CASE(op)                                                                            \
    static lp_tensor op##_case(lp_tape* t, const lp_tensor* in) { return lp_##op(t, in[0], in[1]); }
BINARY_CASE(add)
BINARY_CASE(sub)
BINARY_CASE(mul)
BINARY_CASE(div)
BINARY_CASE(maximum)
BINARY_CASE(minimum)
BINARY_CASE(matmul)
BINARY_CASE(swiglu)
BINARY_CASE(row_kl)

static lp_tensor scale_case(lp_tape* t, const lp_tensor* in) { return lp_scale(t, in[0], -1.7); }
static lp_tensor shift_case(lp_tape* t, const lp_tensor* in) { return lp_shift(t, in[0], 0.3); }
static lp_tensor clamp_case(lp_tape* t, const lp_tensor* in) {
    return lp_clamp(t, in[0], -0.5, 0.4);
}
static lp_tensor linear_case(lp_tape* t, const lp_tensor* in) {
    return lp_linear(t, in[0], in[1], NULL);
}
static lp_tensor linear_bias_case(lp_tape* t, const lp_tensor* in) {
    return lp_linear(t, in[0], in[1], in[2]);
}

static lp_tensor rows_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t index[] = {2, 0, 2, 3};
    return lp_rows(t, in[0], lp_const_i32(t, 4, 1, index));
}

static lp_tensor pick_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t index[] = {1, 0, 3};
    return lp_pick(t, in[0], lp_const_i32(t, 3, 1, index));
}

static lp_tensor rmsnorm_case(lp_tape* t, const lp_tensor* in) {
    return lp_rmsnorm(t, in[0], in[1], 1e-3);
}

static lp_tensor layernorm_case(lp_tape* t, const lp_tensor* in) {
    return lp_layernorm(t, in[0], in[1], NULL, 1e-3);
}
static lp_tensor layernorm_bias_case(lp_tape* t, const lp_tensor* in) {
    return lp_layernorm(t, in[0], in[1], in[2], 1e-3);
}

static lp_tensor rope_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t position[] = {0, 1, 7};
    static const float frequencies[] = {1, 0.1f};
    return lp_rope(t, in[0], lp_const_i32(t, 3, 1, position), 4, frequencies, 1.0);
}
static lp_tensor rope_scale_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t position[] = {2, 1, 7};
    static const float frequencies[] = {0.7f, 0.03f};
    return lp_rope(t, in[0], lp_const_i32(t, 3, 1, position), 4, frequencies, 1.25);
}

/* three sequences of 3, 0 and 2 rows; 4 query heads on 2 key-value heads of width 2 */
/* Two that continue a sequence of two rows, one of them empty but for its row of its own. */
static lp_tensor attention_prefix_case(lp_tape* t, const lp_tensor* in) {
    static const int64_t offsets[] = {0, 2, 4, 5}, prefix[] = {-1, 0, 0};
    const lp_attention_def def = {
        .heads = 4, .kv_heads = 2, .sequences = 3, .offsets = offsets, .prefix = prefix};
    return lp_attention(t, in[0], in[1], in[2], &def);
}
static lp_tensor attention_self_case(lp_tape* t, const lp_tensor* in) {
    static const int64_t offsets[] = {0, 5};
    const lp_attention_def def = {.heads = 2, .kv_heads = 2, .sequences = 1, .offsets = offsets};
    return lp_attention(t, in[0], in[0], in[0], &def);
}
static lp_tensor swiglu_self_case(lp_tape* t, const lp_tensor* in) {
    return lp_swiglu(t, in[0], in[0]);
}
static lp_tensor attention_case(lp_tape* t, const lp_tensor* in) {
    static const int64_t offsets[] = {0, 3, 3, 5};
    const lp_attention_def def = {.heads = 4, .kv_heads = 2, .sequences = 3, .offsets = offsets};
    return lp_attention(t, in[0], in[1], in[2], &def);
}

static lp_tensor head_logp_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t target[] = {4, 0, 2};
    return lp_head_logp(t, in[0], in[1], lp_const_i32(t, 3, 1, target), 0.7, NULL);
}

/* a set that is listed, one told by what it lacks, and the whole vocabulary */
static lp_tensor head_logp_kept_case(lp_tape* t, const lp_tensor* in) {
    static const int32_t target[] = {4, 0, 2}, kept[] = {1, 4, 5, 69, -1 - 1, -1 - 33, -1 - 69};
    static const int64_t offsets[] = {0, 4, 7, 7};
    const lp_head_def def = {.temperature = 0.7, .kept_offsets = offsets, .kept = kept};
    return lp_head(t, in[0], in[1], lp_const_i32(t, 3, 1, target), &def, NULL);
}

/* 39 numbers are two vectors and a rest, on every instruction set */
/* two layers; the second has half of the first one's bias */
static lp_tensor mlp_case_of(lp_tape* t, const lp_tensor* in, lp_activation activation,
                             int layers) {
    const lp_mlp mlp = {layers, activation, {in[1], in[3]}, {in[2], lp_scale(t, in[2], 0.5)}};
    return lp_mlp_forward(t, &mlp, in[0]);
}
static lp_tensor mlp_case(lp_tape* t, const lp_tensor* in) {
    return mlp_case_of(t, in, LP_TANH, 2);
}
static lp_tensor mlp_relu_case(lp_tape* t, const lp_tensor* in) {
    return mlp_case_of(t, in, LP_RELU, 2);
}

/* clang-format off */
#define ONE(name) {#name, 1, {{3, 13}}, -1, 1, name##_case}
#define ONE_POSITIVE(name) {#name, 1, {{3, 13}}, 0.5, 2, name##_case}
#define TWO(name) \
    {#name, 2, {{3, 13}, {3, 13}}, 0.5, 2, name##_case}, \
    {#name "/row", 2, {{3, 13}, {1, 13}}, 0.5, 2, name##_case}, \
    {#name "/column", 2, {{3, 13}, {3, 1}}, 0.5, 2, name##_case}, \
    {#name "/scalar", 2, {{3, 13}, {1, 1}}, 0.5, 2, name##_case}
/* clang-format on */

static const lp_gradcheck_case cases[] = {
    ONE(neg),
    ONE(exp),
    ONE_POSITIVE(log),
    ONE(tanh),
    ONE(sigmoid),
    ONE(silu),
    ONE(relu),
    ONE_POSITIVE(sqrt),
    ONE(square),
    ONE(scale),
    ONE(shift),
    ONE(clamp),
    TWO(add),
    TWO(sub),
    TWO(mul),
    TWO(div),
    TWO(maximum),
    TWO(minimum),
    {"matmul", 2, {{3, 4}, {4, 5}}, -1, 1, matmul_case},
    {"matmul/panels", 2, {{17, 24}, {24, 19}}, -1, 1, matmul_case}, /* too large for the plain loop
                                                                     */
    ONE(transpose),
    {"linear", 2, {{3, 4}, {5, 4}}, -1, 1, linear_case},
    {"linear/bias", 3, {{3, 4}, {5, 4}, {1, 5}}, -1, 1, linear_bias_case},
    {"linear/panels", 3, {{17, 24}, {19, 24}, {1, 19}}, -1, 1, linear_bias_case},
    {"rows", 1, {{4, 3}}, -1, 1, rows_case},
    {"pick", 1, {{3, 4}}, -1, 1, pick_case},
    ONE(sum),
    ONE(mean),
    ONE(row_sum),
    ONE(softmax),
    ONE(log_softmax),
    ONE(row_entropy),
    {"row_kl", 2, {{3, 13}, {3, 13}}, -1, 1, row_kl_case},
    {"rmsnorm", 2, {{3, 37}, {1, 37}}, -1, 1, rmsnorm_case},
    {"layernorm", 2, {{3, 37}, {1, 37}}, -1, 1, layernorm_case},
    {"layernorm/bias", 3, {{3, 37}, {1, 37}, {1, 37}}, -1, 1, layernorm_bias_case},
    {"swiglu", 2, {{3, 13}, {3, 13}}, -2, 2, swiglu_case},
    {"gelu", 1, {{3, 13}}, -4, 4, gelu_case},
    {"rope", 1, {{3, 8}}, -1, 1, rope_case},
    {"rope/scale", 1, {{3, 8}}, -1, 1, rope_scale_case},
    {"attention", 3, {{5, 8}, {5, 4}, {5, 4}}, -1, 1, attention_case},
    {"attention of one input", 1, {{5, 8}}, -1, 1, attention_self_case},
    {"swiglu of one input", 1, {{5, 7}}, -2, 2, swiglu_self_case},
    {"attention of a prefix", 3, {{5, 8}, {5, 4}, {5, 4}}, -1, 1, attention_prefix_case},
    {"head_logp", 2, {{3, 20}, {70, 20}}, -1, 1, head_logp_case},
    {"head_logp/kept", 2, {{3, 20}, {70, 20}}, -1, 1, head_logp_kept_case},
    {"mlp", 4, {{5, 3}, {4, 3}, {1, 4}, {4, 4}}, -1, 1, mlp_case},
    {"mlp/relu", 4, {{5, 3}, {4, 3}, {1, 4}, {4, 4}}, -1, 1, mlp_relu_case},
    {"mlp/tiles", 4, {{150, 3}, {19, 3}, {1, 19}, {19, 19}}, -1, 1, mlp_case}, /* three, the last
                                                                                  one short */
};

int lp_gradcheck_cases(const lp_gradcheck_case** out) {
    *out = cases;
    return (int)(sizeof cases / sizeof *cases);
}
