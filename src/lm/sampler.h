/* From a row of logits to a token. */
#ifndef LP__LM_SAMPLER_H
#define LP__LM_SAMPLER_H

#include "kernels/kernels.h"
#include <logpi/lm.h>

typedef struct lp__sampler {
    const struct lp__kernels* kernels;
    int64_t vocab;
    double temperature, top_p;
    int64_t top_k;
} lp__sampler;

/* Bytes of scratch that one call needs. */
size_t lp__sampler_scratch(const lp__sampler* sampler);

/* Draws a token from softmax(z / temperature) renormalised on the kept set (top_k, then top_p), or
 * takes the first maximum if temperature is 0; *log_prob is its log-probability there (of the whole
 * softmax if temperature is 0). z [vocab] is overwritten; banned logits are -inf. Returns -1 if a
 * logit is NaN or +inf, or none is finite. */
int32_t lp__sampler_draw(const lp__sampler* sampler, float* z, void* scratch, lp_rng* rng,
                         float* log_prob);

#endif
