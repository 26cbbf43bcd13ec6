/* The two generators of 32-bit words below every lp_rng. */
#ifndef LP__BASE_RANDOM_H
#define LP__BASE_RANDOM_H

#include "base/base.h"

/* Philox4x32-10: four words from a counter and a key. */
void lp__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* MT19937. */
void lp__mt_seed(lp_rng* rng, uint32_t seed);
uint32_t lp__mt_u32(lp_rng* rng);

#endif
