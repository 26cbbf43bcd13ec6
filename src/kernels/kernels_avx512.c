/* Compiled with -mavx512f -mavx512dq -mavx512bw -mavx512vl. */
#include "kernels/tables.h"

#define LP__SIMD_AVX512
#include "simd.h"

#define TABLE lp__kernels_avx512
#define ISA   LP_ISA_AVX512
#define NAME  "avx512"
#include "table.inc"
