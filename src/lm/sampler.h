/* From a row of logits to a token. */
#ifndef LP__LM_SAMPLER_H
#define LP__LM_SAMPLER_H

#include "kernels/kernels.h"
#include <logpi/lm.h>

typedef struct lp__sampler {
    const struct lp__kernels* kernels;
    int64_t vocab;
    double temperature, top_p, min_p;
    int64_t top_k;
} lp__sampler;

/* A drawn token, the log of its probability on the kept set S, and how many entries tell S, as
 * lp_head_def has them; they have then replaced the logits. 0: S is the whole vocabulary. token -1:
 * a logit is NaN or +inf, or none is finite. */
typedef struct lp__drawn {
    int32_t token, kept;
    float log_prob;
} lp__drawn;

/* Bytes of scratch that one call needs. */
size_t lp__sampler_scratch(const lp__sampler* sampler);

/* Draws a token from softmax(z / temperature) renormalised on S, or takes the first maximum if
 * temperature is 0, with log-probabilities as at temperature 1. S is the vocabulary without the
 * banned ids, of that the top_k most likely (of equals those of smaller id), of these the fewest
 * whose probability reaches top_p, and of these those of at least min_p times the largest
 * probability; at temperature 0, only what is banned is left out. The bits of log_prob are those of
 * lp_head. z [vocab] is overwritten. */
lp__drawn lp__sampler_draw(const lp__sampler* sampler, float* z, int64_t banned_count,
                           const int32_t* banned, void* scratch, lp_rng* rng);

/* The first `limit` entries of x, of the order that falls (of equals the first comes first), where
 * each counts weight[i], or 1 if weight is NULL: the fewest that count at least `limit` together,
 * or all. x, ids and weight (each unless NULL) keep these, in the order in which they stood;
 * returns how many. table: LP__SELECT_TABLE doubles. */
enum { LP__SELECT_TABLE = 1 << 12 };
int64_t lp__select(int64_t n, float* x, int32_t* ids, float* weight, double limit, double* table);

#endif
