/* The inside of the fused decoder block: one op that runs a whole block, with what it keeps from
 * forward to backward. */
#ifndef LP__NN_BLOCK_H
#define LP__NN_BLOCK_H

#include "nn/transformer.h"
#include "tensor/attend.h"

/* mean (0 for RMSNorm) and 1 / root of a row */
typedef struct lp__norm_row {
    float mean, r;
} lp__norm_row;

typedef struct lp__block_state {
    lp__block_shape shape;
    lp__block w;
    lp__number number;
    int64_t width, q_width, kv_width, intermediate;
    int64_t width_words, q_words, kv_words, intermediate_words; /* of a row */
    const lp__span* spans;
    int64_t sequences;
    lp_kv* cache;
    int64_t layer;
    const float* rotation; /* [rows, head_dim]: cosines, then sines; NULL: none */
    bool recompute;        /* nothing of it is kept: backward runs the block once more */
    /* from forward to backward */
    lp__word *q, *k, *v, *o; /* rows; o: what attention gave */
    lp__word *gate, *up;     /* rows, before the activation */
    float* middle;           /* [rows, width]: x and attention */
    lp__norm_row *norm1, *norm2;
    lp__softmax_row* softmax;
} lp__block_state;

static inline lp__block_state* lp__block_state_of(const lp__node* node) { return node->attr.state; }
lp__attend lp__block_attend(const lp__node* node);

/* Runs fn(user, row, worker) for each of `rows` rows of `width` numbers, in pieces. */
void lp__each_row(lp_ctx* ctx, int64_t rows, int64_t width, lp__task_fn fn, void* user);

/* A norm's output as words: n [rows, words(width)], from x [rows, width] and its norm rows. */
lp_status lp__norm_words(const lp__node* node, const float* x, const lp__norm_row* rows,
                         lp_tensor weight, lp_tensor bias, lp__word* n);

/* Fills what backward needs, in the context's scratch, by the forward pass up to the last product.
 * LP_NOMEM. */
lp_status lp__block_again(lp__node* node);

void lp__block_backward(lp__node* node);

#endif
