/* The Llama block (Touvron et al. 2023, section 2.2). */
#include "nn/transformer.h"

lp_tensor lp__llama_block_forward(lp_tape* t, const lp__llama_shape* shape,
                                  const lp__llama_block* w, lp_tensor x, lp_tensor position,
                                  const lp_attention_def* attention) {
    /* x += O attention(rope(Q n), rope(K n), V n),  n = norm(x) */
    lp_tensor n = lp_rmsnorm(t, x, w->attention_norm, shape->norm_eps);
    lp_tensor q =
        lp_rope(t, lp_linear(t, n, w->q, NULL), position, shape->head_dim, shape->rope_base);
    lp_tensor k =
        lp_rope(t, lp_linear(t, n, w->k, NULL), position, shape->head_dim, shape->rope_base);
    lp_tensor v = lp_linear(t, n, w->v, NULL);
    x = lp_add(t, x, lp_linear(t, lp_attention(t, q, k, v, attention), w->o, NULL));

    /* x += Down (silu(Gate n) * Up n),  n = norm(x) */
    n = lp_rmsnorm(t, x, w->mlp_norm, shape->norm_eps);
    lp_tensor h = lp_swiglu(t, lp_linear(t, n, w->gate, NULL), lp_linear(t, n, w->up, NULL));
    return lp_add(t, x, lp_linear(t, h, w->down, NULL));
}
