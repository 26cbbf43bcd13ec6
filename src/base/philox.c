/* Philox4x32-10: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2,
 * 3", SC'11, section 4.3. */
#include "base/random.h"

/* A round: (hi0, lo0) = M0 c0, (hi1, lo1) = M1 c2; c = (hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0).
 * The key rises by the golden ratio and sqrt(3) - 1 between rounds. */
void lp__philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53 * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57 * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The key is the seed. The counter holds the number of the block, the step, and the index under its
 * purpose: two streams share no counter, so they never overlap. */
lp_rng lp_rng_philox(uint64_t seed, lp_purpose purpose, uint64_t index, uint32_t step) {
    return (lp_rng){
        .kind = LP_RNG_PHILOX,
        .key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
        .counter = {0, step, (uint32_t)index,
                    (uint32_t)(index >> 32 & 0xFFFFFF) | (uint32_t)purpose << 24},
        .used = 4,
    };
}
