/* Causal attention on rows of words: the inside of the ops that attend. */
#ifndef LP__ATTEND_H
#define LP__ATTEND_H

#include "tensor/tape.h"

/* The softmax of a row of products s = q . k: p_j = weight e^((s_j - max) / sqrt(head_dim)). */
typedef struct lp__softmax_row {
    float max, weight;
} lp__softmax_row;

typedef struct lp__attend {
    lp_ctx* ctx;
    lp__number number;
    int64_t heads, kv_heads, head_dim; /* kv_heads divides heads */
    int64_t sequences;
    const lp__span* spans;
    /* Row i, head h of q begins at q + i * ldq + h * words(head_dim); k and v likewise. */
    const lp__word *q, *k, *v;
    int64_t ldq, ldk, ldv;
    lp_kv* cache; /* NULL: none. New rows of k and v are stored in it first */
    int64_t layer;
    lp__softmax_row* softmax; /* [rows, heads]: from forward to backward; NULL: not wanted */
} lp__attend;

/* o, rows of ldo words: softmax(q k^T / sqrt(head_dim)) v. LP_NOMEM. */
lp_status lp__attend_forward(const lp__attend* a, lp__word* o, int64_t ldo);
/* Adds to dq [rows, heads * head_dim], dk and dv [rows, kv_heads * head_dim], given the gradient of
 * o as rows of ldd words. No cache. LP_NOMEM. */
lp_status lp__attend_backward(const lp__attend* a, const lp__word* d, int64_t ldd, float* dq,
                              float* dk, float* dv);

#endif
