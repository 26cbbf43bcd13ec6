/* Transformer blocks, built of tape ops. */
#ifndef LP__NN_TRANSFORMER_H
#define LP__NN_TRANSFORMER_H

#include <logpi/tensor.h>

typedef enum lp__norm_kind { LP__NORM_RMS, LP__NORM_LAYER } lp__norm_kind;
/* down(silu(gate x) * up x), or down(gelu(up x)) */
typedef enum lp__mlp_kind { LP__MLP_SWIGLU, LP__MLP_GELU_TANH } lp__mlp_kind;

/* What all blocks of a model share. */
typedef struct lp__block_shape {
    int64_t heads, kv_heads, head_dim;
    lp__norm_kind norm;
    double norm_eps;
    lp__mlp_kind mlp;
    const float* rope_frequencies; /* [head_dim / 2]; NULL: no rotary positions */
    double rope_scale;             /* factor of cosine and sine; 1 */
} lp__block_shape;

/* Weights of one block; matrices are [out, in], vectors [1, n]. NULL: the architecture has none. */
typedef struct lp__block {
    lp_tensor attention_norm, attention_norm_bias;
    lp_tensor q, q_bias, k, k_bias, v, v_bias, o, o_bias;
    lp_tensor mlp_norm, mlp_norm_bias;
    lp_tensor gate, gate_bias, up, up_bias, down, down_bias; /* GPT-2's c_fc is up */
} lp__block;

/* norm(x) of the kind that the shape says, with weight and (layer norm only) bias. */
lp_tensor lp__norm_forward(lp_tape* t, const lp__block_shape* shape, lp_tensor x, lp_tensor weight,
                           lp_tensor bias);

/* x [tokens, width] -> the same shape; position [tokens, 1] of LP_I32. attention says which rows
 * are a sequence, and where the cache is. */
lp_tensor lp__block_forward(lp_tape* t, const lp__block_shape* shape, const lp__block* w,
                            lp_tensor x, lp_tensor position, const lp_attention_def* attention);

/* The same as one op, on float tapes; rotation [tokens, head_dim] from lp__rotation, NULL without
 * rotary positions. */
lp_tensor lp__block_fused(lp_tape* t, const lp__block_shape* shape, const lp__block* w, lp_tensor x,
                          lp_tensor rotation, const lp_attention_def* attention);
/* Cosines and sines of every token's angles, times rope_scale: [tokens, head_dim / 2] each, side by
 * side. */
lp_tensor lp__rotation(lp_tape* t, const lp__block_shape* shape, lp_tensor position);

#endif
