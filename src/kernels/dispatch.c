/* The choice of a table by what the processor and the operating system offer. */
#include "kernels/tables.h"

bool lp__isa_available(lp_isa isa) {
    switch (isa) {
    case LP_ISA_SCALAR: return true;
#ifdef LP__HAVE_SIMD
    /* These ask CPUID, and XGETBV for whether the system saves the wide registers. */
    case LP_ISA_AVX2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case LP_ISA_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case LP_ISA_AVX512_BF16:
        return lp__isa_available(LP_ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
#else
    case LP_ISA_AVX2:
    case LP_ISA_AVX512:
    case LP_ISA_AVX512_BF16:
#endif
    case LP_ISA_COUNT: break;
    }
    return false;
}

lp_isa lp__isa_best(void) {
    for (int isa = LP_ISA_COUNT - 1; isa > LP_ISA_SCALAR; isa--)
        if (lp__isa_available((lp_isa)isa)) return (lp_isa)isa;
    return LP_ISA_SCALAR;
}

const lp__kernels* lp__kernels_get(lp_isa isa) {
    if (!lp__isa_available(isa)) return NULL;
    switch (isa) {
    case LP_ISA_SCALAR: return &lp__kernels_scalar;
#ifdef LP__HAVE_SIMD
    case LP_ISA_AVX2: return &lp__kernels_avx2;
    case LP_ISA_AVX512: return &lp__kernels_avx512;
    case LP_ISA_AVX512_BF16: return &lp__kernels_avx512_bf16;
#else
    case LP_ISA_AVX2:
    case LP_ISA_AVX512:
    case LP_ISA_AVX512_BF16:
#endif
    case LP_ISA_COUNT: break;
    }
    return NULL;
}
