/* The vocabulary of simd.h for AVX2 and FMA: 8 lanes. */
#ifndef LP__SIMD_AVX2_H
#define LP__SIMD_AVX2_H

/* An operation a line. */
/* clang-format off */

#include <immintrin.h>
#include "simd_transpose.h"

enum { W = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set or clear */
typedef struct vd {
    __m256d low, high;
} vd;

SIMD __m256i vm_first_bits(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SIMD vf vf_set1(float x) { return _mm256_set1_ps(x); }
SIMD vf vf_load(const float* p) { return _mm256_loadu_ps(p); }
SIMD void vf_store(float* p, vf x) { _mm256_storeu_ps(p, x); }
SIMD vf vf_load_first(const float* p, int n) { return _mm256_maskload_ps(p, vm_first_bits(n)); }
SIMD void vf_store_first(float* p, vf x, int n) { _mm256_maskstore_ps(p, vm_first_bits(n), x); }
SIMD vf vf_add(vf a, vf b) { return _mm256_add_ps(a, b); }
SIMD vf vf_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
SIMD vf vf_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
SIMD vf vf_div(vf a, vf b) { return _mm256_div_ps(a, b); }
SIMD vf vf_fma(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
SIMD vf vf_fnma(vf a, vf b, vf c) { return _mm256_fnmadd_ps(a, b, c); }
SIMD vf vf_min(vf a, vf b) { return _mm256_min_ps(a, b); }
SIMD vf vf_max(vf a, vf b) { return _mm256_max_ps(a, b); }
SIMD vf vf_sqrt(vf a) { return _mm256_sqrt_ps(a); }
SIMD vi vf_bits(vf a) { return _mm256_castps_si256(a); }
SIMD vf vi_float(vi a) { return _mm256_castsi256_ps(a); }
SIMD vf vi_convert(vi a) { return _mm256_cvtepi32_ps(a); }
SIMD vi vi_set1(int32_t a) { return _mm256_set1_epi32(a); }
SIMD vi vi_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
SIMD vi vi_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
SIMD vi vi_and(vi a, vi b) { return _mm256_and_si256(a, b); }
SIMD vi vi_or(vi a, vi b) { return _mm256_or_si256(a, b); }
SIMD vi vi_shl(vi a, int count) { return _mm256_slli_epi32(a, count); }
SIMD vi vi_sra(vi a, int count) { return _mm256_srai_epi32(a, count); }

SIMD vm vf_lt(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
SIMD vm vf_eq(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
SIMD vm vf_unordered(vf a) { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
SIMD vm vm_none(void) { return _mm256_setzero_ps(); }
SIMD vm vm_first(int n) { return _mm256_castsi256_ps(vm_first_bits(n)); }
SIMD vm vm_or(vm a, vm b) { return _mm256_or_ps(a, b); }
SIMD bool vm_any(vm a) { return _mm256_movemask_ps(a) != 0; }
SIMD vf vf_select(vm m, vf a, vf b) { return _mm256_blendv_ps(b, a, m); }
SIMD float vf_sum(vf a) {
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}
SIMD float vf_largest(vf a) {
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    x = _mm_max_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}

SIMD __m256d vf_low(vf x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
SIMD __m256d vf_high(vf x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
SIMD vd vd_zero(void) { return (vd){_mm256_setzero_pd(), _mm256_setzero_pd()}; }
SIMD vd vd_add(vd a, vd b) {
    return (vd){_mm256_add_pd(a.low, b.low), _mm256_add_pd(a.high, b.high)};
}
SIMD vd vd_add_float(vd acc, vf x) {
    return (vd){_mm256_add_pd(acc.low, vf_low(x)), _mm256_add_pd(acc.high, vf_high(x))};
}
/* acc + x y: the product of two floats is exact in double. */
SIMD vd vd_add_product(vd acc, vf x, vf y) {
    return (vd){_mm256_fmadd_pd(vf_low(x), vf_low(y), acc.low),
                _mm256_fmadd_pd(vf_high(x), vf_high(y), acc.high)};
}
SIMD double vd_sum(vd a) {
    __m256d x = _mm256_add_pd(a.low, a.high);
    __m128d y = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(y, _mm_unpackhi_pd(y, y)));
}

/* bf16, the upper half of a float; rounding is to nearest even. */
SIMD vi vh_load_bits(const uint16_t* p) { return _mm256_cvtepu16_epi32(_mm_loadu_si128((const void*)p)); }
SIMD vi vh_load_bits_first(const uint16_t* p, int n) {
    uint16_t whole[W] = {0};
    memcpy(whole, p, (size_t)n * sizeof *p);
    return vh_load_bits(whole);
}
SIMD __m128i vh_round(vf x) {
    const vi bits = vf_bits(x), one = vi_set1(1);
    const vi odd = vi_and(_mm256_srli_epi32(bits, 16), one);
    const vi rounded = _mm256_srli_epi32(vi_add(bits, vi_add(vi_set1(0x7fff), odd)), 16);
    const vi nan = vi_or(_mm256_srli_epi32(bits, 16), vi_set1(0x40));
    const vi whole = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(vf_unordered(x)));
    const vi packed = _mm256_packus_epi32(whole, whole); /* halves 0, 0, 1, 1 */
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
SIMD void vh_store(uint16_t* p, vf x) { _mm_storeu_si128((void*)p, vh_round(x)); }
SIMD void vh_store_first(uint16_t* p, vf x, int n) {
    uint16_t whole[W];
    vh_store(whole, x);
    memcpy(p, whole, (size_t)n * sizeof *p);
}

/* 6 x 2 accumulators, 2 column vectors and a broadcast: 15 of 16 registers. */
enum { GEMM_ROWS = 6, GEMM_VECTORS = 2, GV = W };
typedef vf gv;
#define gv_set1 vf_set1
#define gv_load vf_load
#define gv_store vf_store
#define gv_load_first vf_load_first
#define gv_store_first vf_store_first
#define gv_fma vf_fma
/* a_0 b_0 + a_1 b_1 + c: every lane of a and b is a pair of bf16, the first in the low half. */
SIMD gv gv_dot2(gv a, gv b, gv c) {
    const vi high = vi_set1((int32_t)0xffff0000u);
    c = vf_fma(vi_float(vi_shl(vf_bits(a), 16)), vi_float(vi_shl(vf_bits(b), 16)), c);
    return vf_fma(vi_float(vi_and(vf_bits(a), high)), vi_float(vi_and(vf_bits(b), high)), c);
}

#endif
