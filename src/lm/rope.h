/* Frequencies of rotary positions, and how they are stretched for a longer context. */
#ifndef LP__LM_ROPE_H
#define LP__LM_ROPE_H

#include "base/base.h"

typedef enum lp__rope_kind {
    LP__ROPE_PLAIN,
    LP__ROPE_LINEAR, /* all divided by factor: Chen et al. 2023 */
    LP__ROPE_LLAMA3, /* long waves divided by factor, short ones not, smoothly between */
    LP__ROPE_FACTORS /* each divided by its own; GGUF has Llama 3's so */
} lp__rope_kind;

typedef struct lp__rope {
    lp__rope_kind kind;
    double factor, low, high, original; /* low and high: waves in the original context */
    float* factors;                     /* [head_dim / 2], of LP__ROPE_FACTORS */
} lp__rope;

/* What each of the frequencies of base is divided by, [head_dim / 2]. */
void lp__rope_factors(const lp__rope* rope, int64_t head_dim, double base, float* factors);
/* Replaces factors by the published Llama 3 setting that gives them; false if none does. */
bool lp__rope_recognise(lp__rope* rope, int64_t head_dim, double base, const float* factors);
/* The stretched frequencies, [head_dim / 2]. */
void lp__rope_make(const lp__rope* rope, int64_t head_dim, double base, float* frequencies);

#endif
