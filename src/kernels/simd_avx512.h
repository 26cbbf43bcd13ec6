/* The vocabulary of simd.h for AVX-512 (F, DQ, BW, VL): 16 lanes. */
#ifndef LP__SIMD_AVX512_H
#define LP__SIMD_AVX512_H

/* An operation a line. */
/* clang-format off */

#include <immintrin.h>
#include "simd_transpose.h"

enum { W = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef struct vd {
    __m512d low, high;
} vd;

SIMD vm vm_first(int n) { return (__mmask16)((1u << n) - 1u); }

SIMD vf vf_set1(float x) { return _mm512_set1_ps(x); }
SIMD vf vf_load(const float* p) { return _mm512_loadu_ps(p); }
SIMD void vf_store(float* p, vf x) { _mm512_storeu_ps(p, x); }
SIMD vf vf_load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(vm_first(n), p); }
SIMD void vf_store_first(float* p, vf x, int n) { _mm512_mask_storeu_ps(p, vm_first(n), x); }
SIMD vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
SIMD vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
SIMD vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
SIMD vf vf_div(vf a, vf b) { return _mm512_div_ps(a, b); }
SIMD vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
SIMD vf vf_fnma(vf a, vf b, vf c) { return _mm512_fnmadd_ps(a, b, c); }
SIMD vf vf_min(vf a, vf b) { return _mm512_min_ps(a, b); }
SIMD vf vf_max(vf a, vf b) { return _mm512_max_ps(a, b); }
SIMD vf vf_sqrt(vf a) { return _mm512_sqrt_ps(a); }
SIMD vi vf_bits(vf a) { return _mm512_castps_si512(a); }
SIMD vf vi_float(vi a) { return _mm512_castsi512_ps(a); }
SIMD vf vi_convert(vi a) { return _mm512_cvtepi32_ps(a); }
SIMD vi vi_set1(int32_t a) { return _mm512_set1_epi32(a); }
SIMD vi vi_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
SIMD vi vi_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
SIMD vi vi_and(vi a, vi b) { return _mm512_and_si512(a, b); }
SIMD vi vi_or(vi a, vi b) { return _mm512_or_si512(a, b); }
SIMD vi vi_shl(vi a, unsigned count) { return _mm512_slli_epi32(a, count); }
SIMD vi vi_sra(vi a, unsigned count) { return _mm512_srai_epi32(a, count); }

SIMD vm vf_lt(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
SIMD vm vf_eq(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
SIMD vm vf_unordered(vf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
SIMD vm vm_none(void) { return 0; }
SIMD vm vm_or(vm a, vm b) { return (vm)(a | b); }
SIMD bool vm_any(vm a) { return a != 0; }
SIMD vf vf_select(vm m, vf a, vf b) { return _mm512_mask_blend_ps(m, b, a); }
SIMD __m256 vf_upper(vf a) { return _mm512_extractf32x8_ps(a, 1); }
SIMD float vf_sum(vf a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), vf_upper(a));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}
SIMD float vf_largest(vf a) { return _mm512_reduce_max_ps(a); }

SIMD __m512d vf_low(vf x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
SIMD __m512d vf_high(vf x) { return _mm512_cvtps_pd(vf_upper(x)); }
SIMD vd vd_zero(void) { return (vd){_mm512_setzero_pd(), _mm512_setzero_pd()}; }
SIMD vd vd_add(vd a, vd b) {
    return (vd){_mm512_add_pd(a.low, b.low), _mm512_add_pd(a.high, b.high)};
}
SIMD vd vd_add_float(vd acc, vf x) {
    return (vd){_mm512_add_pd(acc.low, vf_low(x)), _mm512_add_pd(acc.high, vf_high(x))};
}
/* acc + x y: the product of two floats is exact in double. */
SIMD vd vd_add_product(vd acc, vf x, vf y) {
    return (vd){_mm512_fmadd_pd(vf_low(x), vf_low(y), acc.low),
                _mm512_fmadd_pd(vf_high(x), vf_high(y), acc.high)};
}
SIMD double vd_sum(vd a) {
    __m512d x = _mm512_add_pd(a.low, a.high);
    __m256d y = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    __m128d z = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(z, _mm_unpackhi_pd(z, z)));
}

/* bf16, the upper half of a float; rounding is to nearest even. The processor's own conversion also
 * turns denormals into 0. */
SIMD vi vh_load_bits(const uint16_t* p) { return _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void*)p)); }
SIMD vi vh_load_bits_first(const uint16_t* p, int n) { return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vm_first(n), p)); }
SIMD __m256i vh_round(vf x) {
#if defined(LP__SIMD_BF16)
    return (__m256i)_mm512_cvtneps_pbh(x);
#else
    const vi bits = vf_bits(x), one = vi_set1(1);
    const vi odd = vi_and(_mm512_srli_epi32(bits, 16), one);
    const vi rounded = _mm512_srli_epi32(vi_add(bits, vi_add(vi_set1(0x7fff), odd)), 16);
    const vi nan = vi_or(_mm512_srli_epi32(bits, 16), vi_set1(0x40));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(vf_unordered(x), rounded, nan));
#endif
}
SIMD void vh_store(uint16_t* p, vf x) { _mm256_storeu_si256((void*)p, vh_round(x)); }
SIMD void vh_store_first(uint16_t* p, vf x, int n) { _mm256_mask_storeu_epi16(p, vm_first(n), vh_round(x)); }

/* 8 x 3 accumulators, 3 column vectors and a broadcast: 28 of 32 registers. */
enum { GEMM_ROWS = 8, GEMM_VECTORS = 3, GV = W };
typedef vf gv;
#define gv_set1 vf_set1
#define gv_load vf_load
#define gv_store vf_store
#define gv_load_first vf_load_first
#define gv_store_first vf_store_first
#define gv_fma vf_fma
/* a_0 b_0 + a_1 b_1 + c: every lane of a and b is a pair of bf16, the first in the low half. */
SIMD gv gv_dot2(gv a, gv b, gv c) {
#if defined(LP__SIMD_BF16)
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
#else
    const vi high = vi_set1((int32_t)0xffff0000u);
    c = vf_fma(vi_float(vi_shl(vf_bits(a), 16)), vi_float(vi_shl(vf_bits(b), 16)), c);
    return vf_fma(vi_float(vi_and(vf_bits(a), high)), vi_float(vi_and(vf_bits(b), high)), c);
#endif
}

#endif
