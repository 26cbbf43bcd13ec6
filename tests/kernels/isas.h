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

/* A context that computes with one table. */
static inline lp_ctx* context_of(const lp__kernels* table, int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.isa = (int)table->isa;
    def.threads = threads;
    char error[200] = "";
    lp_ctx* ctx = lp_ctx_create(&def, error, sizeof error);
    if (!ctx) fail_msg("%s", error);
    assert_ptr_equal(lp__ctx_kernels(ctx), table);
    return ctx;
}

/* bf16 of a float, to nearest even; the processor's own conversion flushes denormals. */
static inline uint16_t nearest_half(const lp__kernels* table, float x) {
    const uint32_t bits = bits_of(x), size = bits & 0x7fffffff;
    if (size > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40); /* a NaN stays one, quiet */
    if (table->isa == LP_ISA_AVX512_BF16 && size < 0x00800000)
        return (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t whole = bits >> 16, rest = bits & 0xffff;
    const bool up = rest > 0x8000 || (rest == 0x8000 && whole % 2 == 1);
    return (uint16_t)(whole + up);
}
static inline float of_half(uint16_t half) { return float_of((uint32_t)half << 16); }

/* Number i of a row of words. */
static inline float number_at(const lp__format* format, const lp__word* row, int64_t i) {
    return format->numbers == 1 ? ((const float*)row)[i] : of_half(((const uint16_t*)row)[i]);
}

#endif
