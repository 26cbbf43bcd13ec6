/* Words, uniform numbers, bounded integers and permutations, of any of the three generators. */
#include "base/random.h"

uint32_t lp_rng_u32(lp_rng* rng) {
    if (rng->kind != LP_RNG_PHILOX) return lp__mt_u32(rng);
    if (rng->used >= 4) {
        lp__philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->used = 0;
    }
    return rng->block[rng->used++];
}

/* 53 bits over 2^53. NumPy: 27 high bits of one word, 26 of the next. PyTorch: the low 53 bits of
 * two words, the first being the high half. Philox: as NumPy. */
double lp_rng_uniform(lp_rng* rng) {
    uint64_t first = lp_rng_u32(rng), second = lp_rng_u32(rng), bits;
    if (rng->kind == LP_RNG_TORCH) {
        bits = (first << 32 | second) & (((uint64_t)1 << 53) - 1);
    } else {
        bits = (first >> 5) << 26 | second >> 6;
    }
    return (double)bits * 0x1p-53;
}

/* The word cut to the bits that n - 1 has, drawn again while it is n or more: half of the draws at
 * worst. As NumPy's RandomState does it in randint(n) and in permutation(n). */
uint32_t lp_rng_below(lp_rng* rng, uint32_t n) {
    if (n <= 1) return 0;
    uint32_t mask = UINT32_MAX >> __builtin_clz(n - 1);
    uint32_t value;
    do {
        value = lp_rng_u32(rng) & mask;
    } while (value >= n);
    return value;
}

void lp_rng_permutation(lp_rng* rng, int32_t* out, int32_t n) {
    for (int32_t i = 0; i < n; i++) {
        out[i] = i;
    }
    for (int32_t i = n - 1; i > 0; i--) {
        uint32_t j = lp_rng_below(rng, (uint32_t)i + 1);
        int32_t swapped = out[i];
        out[i] = out[j];
        out[j] = swapped;
    }
}
