/* Compiled with -mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512bf16. */
#include "kernels/tables.h"

#define LP__SIMD_AVX512
#define LP__SIMD_BF16
#include "simd.h"

#define TABLE lp__kernels_avx512_bf16
#define ISA   LP_ISA_AVX512_BF16
#define NAME  "avx512_bf16"
#include "table.inc"
