/* The vocabulary of simd.h with one lane, in plain C: the reference. */
#ifndef LP__SIMD_SCALAR_H
#define LP__SIMD_SCALAR_H

/* An operation a line. */
/* clang-format off */

enum { W = 1 };
typedef float vf;
typedef int32_t vi;
typedef bool vm;
typedef double vd;

SIMD vf vf_set1(float x) { return x; }
SIMD vf vf_load(const float* p) { return *p; }
SIMD void vf_store(float* p, vf x) { *p = x; }
SIMD vf vf_load_first(const float* p, int n) { return n > 0 ? *p : 0.0f; }
SIMD void vf_store_first(float* p, vf x, int n) {
    if (n > 0) *p = x;
}
SIMD vf vf_add(vf a, vf b) { return a + b; }
SIMD vf vf_sub(vf a, vf b) { return a - b; }
SIMD vf vf_mul(vf a, vf b) { return a * b; }
SIMD vf vf_div(vf a, vf b) { return a / b; }
SIMD vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
SIMD vf vf_fnma(vf a, vf b, vf c) { return c - a * b; }
SIMD vf vf_min(vf a, vf b) { return a < b ? a : b; }
SIMD vf vf_max(vf a, vf b) { return a > b ? a : b; }
SIMD vf vf_sqrt(vf a) { return __builtin_sqrtf(a); }
SIMD vi vf_bits(vf a) {
    vi bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
SIMD vf vi_float(vi a) {
    vf x;
    memcpy(&x, &a, sizeof x);
    return x;
}
SIMD vf vi_convert(vi a) { return (float)a; }
SIMD vi vi_set1(int32_t a) { return a; }
SIMD vi vi_add(vi a, vi b) { return (vi)((uint32_t)a + (uint32_t)b); }
SIMD vi vi_sub(vi a, vi b) { return (vi)((uint32_t)a - (uint32_t)b); }
SIMD vi vi_and(vi a, vi b) { return a & b; }
SIMD vi vi_or(vi a, vi b) { return a | b; }
SIMD vi vi_shl(vi a, int count) { return (vi)((uint32_t)a << count); }
SIMD vi vi_sra(vi a, int count) { return a >> count; }

SIMD vm vf_lt(vf a, vf b) { return a < b; }
SIMD vm vf_eq(vf a, vf b) { return a == b; }
SIMD vm vf_unordered(vf a) { return a != a; }
SIMD vm vm_none(void) { return false; }
SIMD vm vm_first(int n) { return n > 0; }
SIMD vm vm_or(vm a, vm b) { return a || b; }
SIMD bool vm_any(vm a) { return a; }
SIMD vf vf_select(vm m, vf a, vf b) { return m ? a : b; }
SIMD float vf_sum(vf a) { return a; }
SIMD float vf_largest(vf a) { return a; }

SIMD vd vd_zero(void) { return 0.0; }
SIMD vd vd_add(vd a, vd b) { return a + b; }
SIMD vd vd_add_float(vd acc, vf x) { return acc + (double)x; }
/* acc + x y: the product of two floats is exact in double. */
SIMD vd vd_add_product(vd acc, vf x, vf y) { return acc + (double)x * (double)y; }
SIMD double vd_sum(vd a) { return a; }

/* bf16, the upper half of a float; rounding is to nearest even. */
SIMD vi vh_load_bits(const uint16_t* p) { return (vi)*p; }
SIMD vi vh_load_bits_first(const uint16_t* p, int n) { return n > 0 ? (vi)*p : 0; }
SIMD void vh_store(uint16_t* p, vf x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    *p = (uint16_t)(x != x ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
SIMD void vh_store_first(uint16_t* p, vf x, int n) {
    if (n > 0) vh_store(p, x);
}

/* The matrix product needs registers full of columns to be worth having, so its vectors are four
 * lanes in the compiler's portable vector type, which every target has. */
enum { GEMM_ROWS = 4, GEMM_VECTORS = 2, GV = 4 };
typedef float gv __attribute__((vector_size(16)));

SIMD gv gv_set1(float x) { return (gv){x, x, x, x}; }
SIMD gv gv_load(const float* p) {
    gv x;
    memcpy(&x, p, sizeof x);
    return x;
}
SIMD void gv_store(float* p, gv x) { memcpy(p, &x, sizeof x); }
SIMD gv gv_load_first(const float* p, int n) {
    gv x = {0};
    for (int i = 0; i < n; i++) x[i] = p[i];
    return x;
}
SIMD void gv_store_first(float* p, gv x, int n) {
    for (int i = 0; i < n; i++) p[i] = x[i];
}
SIMD gv gv_fma(gv a, gv b, gv c) { return a * b + c; }
/* a_0 b_0 + a_1 b_1 + c: every lane of a and b is a pair of bf16, the first in the low half. */
typedef uint32_t gu __attribute__((vector_size(16)));
SIMD gv gv_dot2(gv a, gv b, gv c) {
    const gu high = {0xffff0000u, 0xffff0000u, 0xffff0000u, 0xffff0000u};
    c = (gv)((gu)a << 16) * (gv)((gu)b << 16) + c;
    return (gv)((gu)a & high) * (gv)((gu)b & high) + c;
}

/* b[p * ldb + j] = w[j * ldw + p] for p, j < 8. */
SIMD void transpose_8x8(const float* w, int64_t ldw, float* b, int64_t ldb) {
    for (int j = 0; j < 8; j++)
        for (int p = 0; p < 8; p++) b[p * ldb + j] = w[j * ldw + p];
}

#endif
