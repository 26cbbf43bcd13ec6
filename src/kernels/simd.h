/* A small vocabulary of vector operations, with one header per instruction set. The kernels (*.inc)
 * are written in it once; kernels_<isa>.c defines LP__SIMD_<ISA>, includes them, and is compiled
 * for that set.
 *
 *   W               lanes of vf
 *   vf, vi, vm, vd  W floats, W int32, W truths, W doubles
 *   *_first(n)      loads or stores lanes 0..n-1 only, n < W; other lanes load 0
 *   vf_min, vf_max  a < b ? a : b and a > b ? a : b: b if either is NaN
 *   vf_fma          a b + c, rounded once where the set has FMA (the scalar set rounds twice)
 *   vf_sum, vd_sum  a fixed tree over the lanes
 *   vh_*            W numbers in bf16, in memory: bits as W int32, or rounded from vf
 *   GEMM_*, gv      the register tile of a matrix product and its vectors
 */
#ifndef LP__SIMD_H
#define LP__SIMD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SIMD static inline __attribute__((always_inline))

/* The loop that follows has a constant trip count and must disappear, so that arrays become
 * registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

typedef lp__word word;

#if defined(LP__SIMD_AVX512)
#include "simd_avx512.h"
#elif defined(LP__SIMD_AVX2)
#include "simd_avx2.h"
#else
#include "simd_scalar.h"
#endif

#endif
