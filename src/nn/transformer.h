/* Transformer blocks, built of tape ops. */
#ifndef LP__NN_TRANSFORMER_H
#define LP__NN_TRANSFORMER_H

#include <logpi/tensor.h>

/* What all blocks of a Llama model share. */
typedef struct lp__llama_shape {
    int64_t heads, kv_heads, head_dim;
    double norm_eps, rope_base;
} lp__llama_shape;

/* Weights of one block; matrices are [out, in]. */
typedef struct lp__llama_block {
    lp_tensor attention_norm, q, k, v, o, mlp_norm, gate, up, down;
} lp__llama_block;

/* x [tokens, width] -> the same shape; position [tokens, 1] of LP_I32. attention says which rows
 * are a sequence, and where the cache is. */
lp_tensor lp__llama_block_forward(lp_tape* t, const lp__llama_shape* shape,
                                  const lp__llama_block* w, lp_tensor x, lp_tensor position,
                                  const lp_attention_def* attention);

#endif
