/* Every test of a kernel runs for every instruction set that this machine has. */
#ifndef ISAS_H
#define ISAS_H

#include "kernels/kernels.h"
#include "testing.h"

static inline void for_each_isa(void (*test)(const lp__kernels* table)) {
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        const lp__kernels* table = lp__kernels_get((lp_isa)isa);
        if (!table) continue;
        assert_int_equal(table->isa, isa);
        print_message("           %s\n", table->name);
        test(table);
    }
}

static inline uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Uniform on [-1, 1), the same on every machine. */
static inline float next_random(uint64_t* state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(*state >> 32)) * 0x1p-31f;
}

static inline float* random_floats(int64_t count, uint64_t seed) {
    float* x = malloc((size_t)(count + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) x[i] = next_random(&seed);
    return x;
}

#endif
