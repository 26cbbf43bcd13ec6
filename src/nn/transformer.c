/* The decoder block with its norms before attention and MLP: GPT-2's (Radford et al. 2019, section
 * 2.3) and Llama's (Touvron et al. 2023, section 2.2) are settings of it. */
#include "nn/transformer.h"

lp_tensor lp__norm_forward(lp_tape* t, const lp__block_shape* shape, lp_tensor x, lp_tensor weight,
                           lp_tensor bias) {
    switch (shape->norm) {
    case LP__NORM_RMS: return lp_rmsnorm(t, x, weight, shape->norm_eps);
    case LP__NORM_LAYER: return lp_layernorm(t, x, weight, bias, shape->norm_eps);
    }
    return NULL;
}

static lp_tensor rotate(lp_tape* t, const lp__block_shape* shape, lp_tensor x, lp_tensor position) {
    if (!shape->rope_frequencies) return x;
    return lp_rope(t, x, position, shape->head_dim, shape->rope_frequencies, shape->rope_scale);
}

static lp_tensor mlp(lp_tape* t, const lp__block_shape* shape, const lp__block* w, lp_tensor n) {
    lp_tensor up = lp_linear(t, n, w->up, w->up_bias);
    switch (shape->mlp) {
    case LP__MLP_SWIGLU: return lp_swiglu(t, lp_linear(t, n, w->gate, w->gate_bias), up);
    case LP__MLP_GELU_TANH: return lp_gelu(t, up);
    }
    return NULL;
}

lp_tensor lp__block_forward(lp_tape* t, const lp__block_shape* shape, const lp__block* w,
                            lp_tensor x, lp_tensor position, const lp_attention_def* attention) {
    /* x += O attention(rope(Q n), rope(K n), V n),  n = norm(x) */
    lp_tensor n = lp__norm_forward(t, shape, x, w->attention_norm, w->attention_norm_bias);
    lp_tensor q = rotate(t, shape, lp_linear(t, n, w->q, w->q_bias), position);
    lp_tensor k = rotate(t, shape, lp_linear(t, n, w->k, w->k_bias), position);
    lp_tensor v = lp_linear(t, n, w->v, w->v_bias);
    lp_tensor a = lp_attention(t, q, k, v, attention);
    x = lp_add(t, x, lp_linear(t, a, w->o, w->o_bias));

    /* x += Down f(n),  n = norm(x),  f(n) = silu(Gate n) * Up n, or gelu(Up n) */
    n = lp__norm_forward(t, shape, x, w->mlp_norm, w->mlp_norm_bias);
    return lp_add(t, x, lp_linear(t, mlp(t, shape, w, n), w->down, w->down_bias));
}
