/* Matrix products of packed operands with what follows them in the same pass: several products at
 * once are shared out to the threads, and each tile of the result can be finished (a bias, an
 * activation, a residual) while it is in the first level of the cache. The bitwise rules of
 * kernels.h hold. */
#ifndef LP__PRODUCT_H
#define LP__PRODUCT_H

#include "kernels/kernels.h"

/* A B, one term of a sum. */
typedef struct lp__term {
    const lp__word*
        a; /* [m] rows of lda words; or blocks, [ceil(m / tile_rows)][words][tile_rows] */
    int64_t lda;
    const lp__word* b; /* panels, [ceil(n / panel)][panel_words][panel] */
    int64_t words;
    int64_t panel_words; /* 0: words; more: `words` of them are taken */
} lp__term;

enum { LP__TERMS = 3 };

typedef struct lp__product lp__product;

/* What becomes of rows [row, row + rows) and columns [col, col + cols): tile [rows][panel], and
 * that of the twin, which it may write to. Runs on any thread. */
typedef void (*lp__finish_fn)(const lp__product* product, int64_t row, int rows, int64_t col,
                              int cols, float* tile, float* twin);

struct lp__product {
    int64_t m, n;
    lp__term term[LP__TERMS]; /* summed one after the other, each output one chain */
    int terms;
    bool blocks;          /* a are blocks */
    const lp__word* twin; /* another B of the shape of the first, for a second product of the same
                             A: goes to `finish` only, and needs terms == 1 */
    float* c;             /* [m, ldc]; not used if there is a finish */
    int64_t ldc;
    bool accumulate;
    lp__finish_fn finish;
    void* user;
    const void* fetch[2]; /* rows that finish will read, of fetch_bytes, a column number_bytes wide:
                             on their way from memory while a tile is computed; NULL: none */
    int64_t fetch_bytes, number_bytes;
};

/* To be called from outside lp__parallel_for. */
void lp__products(lp_ctx* ctx, lp__number number, const lp__product* products, int count);

/* ---- operands -------------------------------------------------------------------------------- */

/* Words of W [rows, cols] packed as right operand: W^T, whose k runs along cols, or W, whose k runs
 * along rows. */
size_t lp__weight_words(const lp_ctx* ctx, lp__number number, int64_t rows, int64_t cols,
                        bool transposed);
/* Packs rows [first, first + panel) of W, first a multiple of the panel: into transposed and plain,
 * the whole operands, either of which may be NULL. scratch: panel * words(cols). Runs in a task. */
void lp__weight_pack_panel(const lp__kernels* kernels, lp__number number, int64_t rows,
                           int64_t cols, const float* w, int64_t first, lp__word* scratch,
                           lp__word* transposed, lp__word* plain);
/* All of W. LP_NOMEM (scratch). */
lp_status lp__weight_pack(lp_ctx* ctx, lp__number number, int64_t rows, int64_t cols,
                          const float* w, lp__word* transposed, lp__word* plain);

/* Steps of k that are rows of a matrix: step p has rows first[p] and second[p] (bf16); -1: zero.
 * Sequences begin at a step of their own, so that how they are cut into batches changes no sum. */
typedef struct lp__steps {
    int64_t count;
    const int32_t *first, *second; /* [count]; second NULL: one row a step */
} lp__steps;

/* Cuts rows of n numbers, ld words apart, into panels (blocks false) or blocks of width
 * kernels->panel or tile_rows: out [ceil(n / width)][steps][width]. */
void lp__cut_rows(lp_ctx* ctx, lp__number number, const lp__steps* steps, int64_t n,
                  const lp__word* rows, int64_t ld, bool blocks, lp__word* out);
static inline int64_t lp__cut_words(const lp_ctx* ctx, int64_t steps, int64_t n, bool blocks) {
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    const int64_t width = blocks ? kernels->tile_rows : kernels->panel;
    return (n + width - 1) / width * width * steps;
}

#endif
