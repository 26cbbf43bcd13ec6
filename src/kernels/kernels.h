/* The inner loops, one table of functions per instruction set; lp__kernels_get() gives the context
 * its own.
 *
 * Bitwise rules that everything above relies on:
 *   - batch-invariant: an output depends on its own row and column only, not on how many others
 *     there are;
 *   - thread-invariant: an output is computed by one thread, in one order;
 *   - a sum over k is one chain, k ascending: acc = fma(a_k, b_k, acc). With accumulate it starts
 *     from the stored value, so a sum may be cut anywhere and continued in a later call without
 *     changing a bit. */
#ifndef LP__KERNELS_H
#define LP__KERNELS_H

#include "base/base.h"

/* Row-major fp32 matrices with a leading dimension. */
/* What a matrix product multiplies comes in words of 32 bits along k: a float, or two bf16, of
 * which the first is the low half. A row of n numbers has lp__words(format, n) words; a half that
 * is left over is zero, and changes no bit of any sum. */
typedef float lp__word __attribute__((may_alias));

/* The products and the packing of one number format. A panel is `panel` columns of a right operand,
 * [words][panel]; a block is `tile_rows` columns of a left operand that lies transposed,
 * [words][tile_rows]. */
typedef struct lp__format {
    int numbers; /* in a word */

    /* C[m, 0..n) (+)= A[m, 0..words) B, for m < rows <= tile_rows, n <= panel. A is of rows, lda
     * words apart; B has rows of ldb words, of which whole vectors are read. Columns of C beyond n
     * are not touched. Meanwhile `words` lines from `ahead` on (NULL: none) are asked for. */
    void (*tile)(int rows, int n, int64_t words, const lp__word* a, int64_t lda, const lp__word* b,
                 int64_t ldb, float* c, int64_t ldc, bool accumulate, const lp__word* ahead);
    /* The same with a block as A. */
    void (*tile_packed)(int rows, int n, int64_t words, const lp__word* a, const lp__word* b,
                        int64_t ldb, float* c, int64_t ldc, bool accumulate);

    /* A row of n floats as words, and back. */
    void (*store)(int64_t n, const float* x, lp__word* words);
    void (*load)(int64_t n, const lp__word* words, float* x);
    /* Numbers first, first + 1, ... of a matrix of weights as words: rounded up or down by a
     * threshold of each one's own, so that many small steps of many weights move their sum by as
     * much as they should, when each alone is too small to move a rounded number. */
    void (*store_weights)(int64_t n, uint32_t first, const float* x, lp__word* words);
    /* The same with a factor: words of a x; and words times a, in place. */
    void (*store_scaled)(int64_t n, float a, const float* x, lp__word* words);
    void (*scale)(int64_t n, float a, lp__word* words);
    /* One step of k that lies in two rows of n numbers (`second` is not looked at where a word is
     * one number; a NULL row is zero), cut into panels or blocks: word j goes to out[j / width *
     * stride + j % width], zero beyond n in the last. */
    void (*interleave)(int width, int64_t n, const lp__word* first, const lp__word* second,
                       lp__word* out, int64_t stride);

    /* Tiles of a product, rows of ldt floats, on their way into words, rows of ldw: as they are; h
     * = silu(gate) up, and h = gelu(up), the tanh form of Hendrycks and Gimpel 2016, keeping gate
     * and up unless NULL; and back, where d is the gradient of h: gate and up become their
     * gradients, and h is there again. */
    void (*store_tile)(int rows, int cols, const float* tile, int64_t ldt, lp__word* out,
                       int64_t ldw);
    void (*swiglu)(int rows, int cols, const float* gate, const float* up, int64_t ldt,
                   lp__word* kept_gate, lp__word* kept_up, lp__word* h, int64_t ldw);
    void (*gelu)(int rows, int cols, const float* up, int64_t ldt, lp__word* kept_up, lp__word* h,
                 int64_t ldw);
    void (*swiglu_back)(int rows, int cols, const float* d, int64_t ldt, lp__word* gate,
                        lp__word* up, lp__word* h, int64_t ldw);
    void (*gelu_back)(int rows, int cols, const float* d, int64_t ldt, lp__word* up, lp__word* h,
                      int64_t ldw);

    /* A row of the softmax of attention, to the base 2: p_j = 2^(scale (s_j - max s)) as words,
     * scale > 0; *max is the maximum; returns their sum before they are rounded. All rows have room
     * for `padded` numbers, n >= 1 rounded up to LP__PADDING at least, and p is 0 from n on. The
     * same bits for the same n numbers, whatever the padding. */
    double (*soften)(int64_t n, int64_t padded, float scale, float* s, lp__word* p, float* max);
    /* And back: p_j = weight 2^(scale (s_j - max)), and ds_j = factor p_j (dp_j - sum_i p_i dp_i),
     * as words, 0 from n on. s and dp are overwritten. */
    void (*soften_back)(int64_t n, int64_t padded, float scale, float max, float weight,
                        float factor, float* s, float* dp, lp__word* p, lp__word* ds);
} lp__format;

typedef enum lp__number { LP__F32, LP__BF16 } lp__number;

enum { LP__PADDING = 16 }; /* a multiple of the lanes of every instruction set */

enum { LP__BLOCK = 64 }; /* numbers of a block of block_max and block_sums */

typedef struct lp__kernels {
    lp_isa isa;
    const char* name;

    /* Width of a packed panel, in columns, and rows of the register tile. */
    int panel, tile_rows;
    lp__format format[2]; /* by lp__number */

    /* One packed panel [k][panel] of B, columns beyond n <= panel zero: from its rows, b[p][j] =
     * rows[p][j], or from n rows of its transpose of k words, b[p][j] = w[j][p]. */
    void (*pack_rows)(int n, int64_t k, const float* rows, int64_t ld, float* b);
    void (*pack_transposed)(int n, int64_t k, const lp__word* w, int64_t ldw, lp__word* b);
    /* A packed A [k][tile_rows] from the first `rows` columns of its transpose [k, lda]; the rest
     * zero. */
    void (*pack_a)(int rows, int64_t k, const float* a, int64_t lda, float* out);

    /* Elementwise; y may be x. Accuracy: at most 2 ulp (tanh, sigmoid: 4 ulp) over the whole range;
     * NaN gives NaN; exp overflows to infinity and underflows to 0 gradually or at once below
     * -87.3. */
    void (*exp)(int64_t n, const float* x, float* y);
    void (*log)(int64_t n, const float* x, float* y);
    void (*tanh)(int64_t n, const float* x, float* y);
    void (*sigmoid)(int64_t n, const float* x, float* y);

    /* The same bits for the same (n, inputs), whatever the alignment. */
    float (*dot)(int64_t n, const float* x, const float* y);
    void (*axpy)(int64_t n, float a, const float* x, float* y); /* y = fma(a, x, y) */
    float (*max)(int64_t n, const float* x); /* -inf for n == 0; NaN if any is NaN */
    /* Sum of exp(x - shift), in double; if y is not NULL, y = exp(x - shift). */
    double (*sum_exp)(int64_t n, const float* x, float shift, float* y);
    double (*sum_squares)(int64_t n, const float* x); /* in double */
    /* Sum of x * y, in double. */
    double (*dot_f64)(int64_t n, const float* x, const float* y);
    /* Of each LP__BLOCK numbers (the last block may be shorter): the maximum, where none is NaN;
     * the sum, in double, which depends on the block alone. */
    void (*block_max)(int64_t n, const float* x, float* max);
    void (*block_sums)(int64_t n, const float* x, double* sums);
    int64_t (*find)(int64_t n, const float* x, float value); /* the first place of it; n: none */

    /* Back through a tanh that gave y: d *= 1 - y^2. */
    void (*tanh_backward)(int64_t n, const float* y, float* d);
    /* sum [n] += the rows of d [rows, n], in order. */
    void (*add_rows)(int64_t rows, int64_t n, const float* d, float* sum);

    /* SwiGLU: y = silu(gate) * up, silu(g) = g sigmoid(g); and its backward:
     * dgate += dy * up * s (1 + g (1 - s)), dup += dy * silu(g), s = sigmoid(g). */
    void (*swiglu)(int64_t n, const float* gate, const float* up, float* y);
    void (*swiglu_backward)(int64_t n, const float* gate, const float* up, const float* dy,
                            float* dgate, float* dup);

    /* Adam, one pass, g scaled by grad_scale first:
     *     m = b1 m + (1 - b1) g,   v = b2 v + (1 - b2) g^2,
     *     w = w (1 - decay) - step m / (sqrt(v) / sqrt_bias2 + eps),
     * with step = lr / (1 - b1^t), sqrt_bias2 = sqrt(1 - b2^t), decay = lr * weight_decay:
     * torch.optim.AdamW, and with decay 0 torch.optim.Adam. b1 and b2 are double because 1 - 0.999f
     * is wrong in its fifth digit. */
    void (*adam)(int64_t n, float* w, const float* g, float* m, float* v, float grad_scale,
                 double b1, double b2, float step, float sqrt_bias2, float eps, float decay);

    void (*scale)(int64_t n, float a, float* x);                        /* x *= a */
    void (*add)(int64_t n, const float* x, const float* y, float* sum); /* sum may be x or y */

    /* A row of RMSNorm (mean 0, b NULL) or LayerNorm: y = h w + b, h = (x - mean) r; the sum of x,
     * in double; and backward, with g = w dy: sums of g and g h; dx += r (g - g_mean - h gh_mean);
     * dw += dy h. */
    double (*sum)(int64_t n, const float* x);
    void (*norm)(int64_t n, const float* x, float mean, float r, const float* w, const float* b,
                 float* y);
    void (*norm_sums)(int64_t n, const float* x, float mean, float r, const float* w,
                      const float* dy, double sums[2]);
    void (*norm_dx)(int64_t n, const float* x, float mean, float r, const float* w, const float* dy,
                    float g_mean, float gh_mean, float* dx);
    void (*norm_dw)(int64_t n, const float* x, float mean, float r, const float* dy, float* dw);

    /* Turns the pairs (u_i, v_i) by the angles of cosines c and sines s. */
    void (*rotate)(int64_t half, const float* c, const float* s, float* u, float* v);

    /* c = tile + from + bias (NULL: none), c and from [rows, ldc]. */
    void (*add_tile)(int rows, int cols, const float* tile, int64_t ldt, const float* from,
                     const float* bias, float* c, int64_t ldc);
} lp__kernels;

/* Words of a row of n numbers. */
static inline int64_t lp__words(const lp__format* format, int64_t n) {
    return (n + format->numbers - 1) / format->numbers;
}

/* ---- matrix products over all threads of a context ------------------------------------------- */

/* A packed right operand B [k, n]: panels of `panel` columns, [ceil(n / panel)][k][panel]. */
size_t lp__packed_floats(const lp_ctx* ctx, int64_t k, int64_t n);
/* Packs B = W^T from W [n, k] (a weight [out, in]), or B from its own rows [k, n]. */
void lp__pack_transposed(lp_ctx* ctx, int64_t k, int64_t n, const float* w, int64_t ldw,
                         float* packed);
void lp__pack_rows(lp_ctx* ctx, int64_t k, int64_t n, const float* b, int64_t ldb, float* packed);

/* C [m, n] (+)= A [m, k] B, with B packed. Any of m, n, k may be 0. Like lp__gemm, to be called
 * from outside lp__parallel_for; inside it, use the table. */
void lp__gemm_packed(lp_ctx* ctx, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                     const float* packed, float* c, int64_t ldc, bool accumulate);

typedef enum lp__trans { LP__NN, LP__NT, LP__TN, LP__TT } lp__trans;
/* C [m, n] (+)= op(A) op(B): first letter N: A is [m, k], T: A is stored [k, m]; second letter N: B
 * is [k, n], T: B is stored [n, k]. Packs what it needs into scratch. The same bits as
 * lp__gemm_packed on the same operands. LP_NOMEM is the only failure. */
lp_status lp__gemm(lp_ctx* ctx, lp__trans trans, int64_t m, int64_t n, int64_t k, const float* a,
                   int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                   bool accumulate);

#endif
