/* MT19937: M. Matsumoto, T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998), with the
 * initialisation of 2002 (init_genrand), which NumPy's RandomState(int) and PyTorch's manual_seed
 * both use. */
#include "base/random.h"

#define N 624
#define M 397

void lp__mt_seed(lp_rng* rng, uint32_t seed) {
    rng->mt[0] = seed;
    for (uint32_t i = 1; i < N; i++) {
        uint32_t last = rng->mt[i - 1];
        rng->mt[i] = 1812433253u * (last ^ last >> 30) + i;
    }
    rng->mt_index = N;
}

static uint32_t twist(uint32_t high, uint32_t low) {
    uint32_t y = (high & 0x80000000u) | (low & 0x7FFFFFFFu);
    return y >> 1 ^ ((y & 1) ? 0x9908B0DFu : 0);
}

static void refill(lp_rng* rng) {
    uint32_t* mt = rng->mt;
    for (int i = 0; i < N - M; i++) {
        mt[i] = mt[i + M] ^ twist(mt[i], mt[i + 1]);
    }
    for (int i = N - M; i < N - 1; i++) {
        mt[i] = mt[i + M - N] ^ twist(mt[i], mt[i + 1]);
    }
    mt[N - 1] = mt[M - 1] ^ twist(mt[N - 1], mt[0]);
    rng->mt_index = 0;
}

uint32_t lp__mt_u32(lp_rng* rng) {
    if (rng->mt_index >= N) refill(rng);
    uint32_t y = rng->mt[rng->mt_index++];
    y ^= y >> 11;
    y ^= y << 7 & 0x9D2C5680u;
    y ^= y << 15 & 0xEFC60000u;
    return y ^ y >> 18;
}

lp_rng lp_rng_numpy(uint32_t seed) {
    lp_rng rng = {.kind = LP_RNG_NUMPY};
    lp__mt_seed(&rng, seed);
    return rng;
}

/* PyTorch seeds the twister with the low half of the seed. */
lp_rng lp_rng_torch(uint64_t seed) {
    lp_rng rng = {.kind = LP_RNG_TORCH};
    lp__mt_seed(&rng, (uint32_t)seed);
    return rng;
}
