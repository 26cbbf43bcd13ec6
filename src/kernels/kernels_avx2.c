/* Compiled with -mavx2 -mfma. */
#include "kernels/tables.h"

#define LP__SIMD_AVX2
#include "simd.h"

#define TABLE lp__kernels_avx2
#define ISA   LP_ISA_AVX2
#define NAME  "avx2"
#include "table.inc"
