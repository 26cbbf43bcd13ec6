/* Eight by eight floats in eight AVX registers. */
#ifndef LP__SIMD_TRANSPOSE_H
#define LP__SIMD_TRANSPOSE_H

#include <immintrin.h>

/* b[p * ldb + j] = w[j * ldw + p] for p, j < 8. */
SIMD void transpose_8x8(const float* w, int64_t ldw, float* b, int64_t ldb) {
    __m256 x[8], y[8];
    /* Halves of rows j and j + 4 side by side, so that all later shuffles stay within 128-bit
     * lanes. */
    UNROLL for (int j = 0; j < 4; j++) {
        for (int half = 0; half < 2; half++) {
            __m128 low = _mm_loadu_ps(w + j * ldw + 4 * half);
            __m128 high = _mm_loadu_ps(w + (j + 4) * ldw + 4 * half);
            x[4 * half + j] = _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
        }
    }
    UNROLL for (int h = 0; h < 8; h += 4) {
        __m256 t0 = _mm256_unpacklo_ps(x[h], x[h + 1]), t1 = _mm256_unpackhi_ps(x[h], x[h + 1]);
        __m256 t2 = _mm256_unpacklo_ps(x[h + 2], x[h + 3]);
        __m256 t3 = _mm256_unpackhi_ps(x[h + 2], x[h + 3]);
        y[h] = _mm256_shuffle_ps(t0, t2, 0x44);
        y[h + 1] = _mm256_shuffle_ps(t0, t2, 0xee);
        y[h + 2] = _mm256_shuffle_ps(t1, t3, 0x44);
        y[h + 3] = _mm256_shuffle_ps(t1, t3, 0xee);
    }
    UNROLL for (int p = 0; p < 8; p++) _mm256_storeu_ps(b + p * ldb, y[p]);
}

#endif
