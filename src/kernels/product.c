#include "kernels/product.h"
#include "kernels/fetch.h"

enum {
    CACHE_WORDS = 150 * 1024,  /* of panels that a piece keeps in the second level of the cache */
    PIECES_PER_THREAD = 6,     /* wanted, so that threads end together */
    FEW_BLOCKS = 8,            /* of rows, of a product whose A stays in the cache */
    LEAST_BLOCKS = 4,          /* of rows in a piece of many */
    LEAST_WORK = 1 << 15,      /* multiply-adds of words worth handing to a thread */
    LINE_WORDS = LP__LINE / 4, /* words, or floats */
    MAX_PANEL = 64,
    MAX_ROWS = 8,
    MAX_PRODUCTS = 8
};

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* How a product is cut: `groups` of panels side by side, `chunks` of rows below each other. */
typedef struct cut {
    const lp__product* product;
    int64_t group, groups, row_chunk, chunks;
    bool few_rows; /* they stay in the cache: a panel is gone through once, and the next is fetched
                    */
    int64_t first; /* index of its first piece */
} cut;

typedef struct products_job {
    const lp__kernels* kernels;
    const lp__format* format;
    cut cuts[MAX_PRODUCTS];
    int count;
    int threads;
} products_job;

static int64_t product_words(const lp__product* p) {
    int64_t words = 0;
    for (int i = 0; i < p->terms; i++) words += p->term[i].words;
    return words;
}

/* A piece is `group` panels and all rows; several panels, so that one is fetched while another is
 * used. */
static void cut_few_rows(int64_t threads, int64_t panels, cut* c) {
    const int64_t most = threads * PIECES_PER_THREAD;
    const int64_t pieces = LP__MAX(LP__MIN(panels / 3, most), LP__MIN(panels, threads));
    c->few_rows = true;
    c->group = ceil_div(panels, LP__MAX(pieces, 1));
    c->row_chunk = c->product->m;
    c->chunks = 1;
}

static int64_t cut_product(const lp__kernels* kernels, int64_t threads, const lp__product* p,
                           cut* c) {
    const int64_t panels = ceil_div(p->n, kernels->panel), words = LP__MAX(product_words(p), 1);
    const int64_t panel_words = words * kernels->panel * (p->twin ? 2 : 1);
    const int64_t wanted = threads * PIECES_PER_THREAD;
    const int64_t blocks = ceil_div(p->m, kernels->tile_rows);
    *c = (cut){.product = p};
    if (blocks > 1 && blocks <= FEW_BLOCKS && p->terms == 1 && !p->blocks && !p->accumulate &&
        p->m * panel_words * panels > threads * LEAST_WORK) {
        cut_few_rows(threads, panels, c);
        c->groups = ceil_div(panels, c->group);
        return c->groups;
    }
    /* Groups as wide as the cache allows, so that rows of C are gone through in long stretches;
     * narrower where there are not enough rows to share out. */
    const int64_t most_chunks = LP__MAX(ceil_div(blocks, LEAST_BLOCKS), 1);
    const int64_t by_cache = ceil_div(panels, LP__MAX(CACHE_WORDS / panel_words, 1));
    const int64_t by_rows = LP__MIN(panels, ceil_div(wanted, most_chunks));
    c->group = ceil_div(panels, LP__MAX(LP__MAX(by_cache, by_rows), 1));
    c->group = LP__MAX(c->group, LEAST_WORK / (panel_words * LP__MAX(p->m, 1)));
    c->groups = ceil_div(panels, LP__MAX(c->group, 1));
    int64_t chunks = LP__MIN(ceil_div(wanted, LP__MAX(c->groups, 1)), most_chunks);
    chunks = LP__MAX(1, LP__MIN(chunks, p->m * panel_words * panels / LEAST_WORK));
    c->row_chunk = ceil_div(blocks, chunks) * kernels->tile_rows;
    c->chunks = p->m > 0 ? ceil_div(p->m, c->row_chunk) : 0;
    return c->groups * c->chunks;
}

/* Where the panel at column `col` of a term's B begins; twin: of the other B. */
static const lp__word* panel_at(const lp__term* t, const lp__word* twin, int64_t col) {
    return (twin ? twin : t->b) + col * (t->panel_words ? t->panel_words : t->words);
}

static void tile(const products_job* job, const lp__product* p, int64_t r, int rows, int64_t col,
                 int cols, const lp__word* twin, float* c, int64_t ldc, bool accumulate,
                 const lp__word* ahead) {
    const int64_t panel = job->kernels->panel, tile_rows = job->kernels->tile_rows;
    for (int i = 0; i < p->terms; i++) {
        const lp__term* t = &p->term[i];
        const lp__word* b = panel_at(t, twin, col);
        if (p->blocks)
            job->format->tile_packed(rows, cols, t->words,
                                     t->a + r / tile_rows * t->words * tile_rows, b, panel, c, ldc,
                                     accumulate || i > 0);
        else
            job->format->tile(rows, cols, t->words, t->a + r * t->lda, t->lda, b, panel, c, ldc,
                              accumulate || i > 0, ahead);
    }
}

/* The rows of A that come after these are on their way to the first level of the cache. */
static void fetch_a(const lp__product* p, int64_t r, int64_t r1, int64_t tile_rows) {
    const int64_t end = LP__MIN(r + 2 * tile_rows, r1);
    for (int i = 0; i < p->terms && r + tile_rows < r1; i++) {
        const lp__term* t = &p->term[i];
        if (p->blocks) {
            const lp__word* a = t->a + (r + tile_rows) * t->words;
            for (int64_t w = 0; w < t->words * tile_rows; w += LINE_WORDS) lp__fetch(a + w);
            continue;
        }
        for (int64_t row = r + tile_rows; row < end; row++)
            for (int64_t w = 0; w < t->words; w += LINE_WORDS) lp__fetch(t->a + row * t->lda + w);
    }
}

/* So are the rows that the tile will be finished with. */
static void fetch_beside(const lp__product* p, int64_t row, int rows, int64_t col, int cols) {
    for (int f = 0; f < 2 && p->fetch[f]; f++) {
        const char* x = (const char*)p->fetch[f] + row * p->fetch_bytes + col * p->number_bytes;
        const int64_t bytes = cols * p->number_bytes;
        for (int r = 0; r < rows; r++, x += p->fetch_bytes)
            for (int64_t l = 0; l < bytes + LP__LINE; l += LP__LINE) lp__fetch_write(x + l);
    }
}

/* The next tile of C is on its way from memory while this one is computed. */
static void fetch_next(const lp__product* p, int64_t r, int64_t j, int64_t j0, int64_t j1,
                       int64_t r1, int64_t tile_rows, int64_t panel) {
    const bool beside = j + panel < j1;
    const int64_t row = beside ? r : r + tile_rows, col = beside ? j + panel : j0;
    const int64_t end = LP__MIN(row + tile_rows, r1), last = LP__MIN(col + panel, p->n) - 1;
    for (int64_t i = row; i < end; i++) {
        const float* c = p->c + i * p->ldc;
        for (int64_t l = col; l < last; l += LINE_WORDS) lp__fetch_write(c + l);
        lp__fetch_write(c + last);
    }
}

/* Rows [r0, r1) and columns [j0, j1) of a product. */
typedef struct piece {
    const products_job* job;
    const lp__product* p;
    int64_t r0, r1, j0, j1;
} piece;

/* The tile at (r, j); that at (r, next) of B, if next >= 0, is on its way meanwhile: a part of its
 * panel for each tile of rows. */
static void piece_tile(const piece* w, int64_t r, int64_t j, int64_t next) {
    const lp__product* p = w->p;
    const int64_t panel = w->job->kernels->panel, tile_rows = w->job->kernels->tile_rows;
    const int rows = (int)LP__MIN(w->r1 - r, tile_rows), cols = (int)LP__MIN(w->j1 - j, panel);
    const lp__word *ahead = NULL, *twin_ahead = NULL;
    if (next >= 0) {
        const lp__term* t = &p->term[0];
        const int64_t at = (r - w->r0) / tile_rows * t->words * LINE_WORDS;
        if (at < t->words * panel) {
            ahead = panel_at(t, NULL, next) + at;
            if (p->twin) twin_ahead = panel_at(t, p->twin, next) + at;
        }
    }
    if (!p->finish) {
        tile(w->job, p, r, rows, j, cols, NULL, p->c + r * p->ldc + j, p->ldc, p->accumulate,
             ahead);
        return;
    }
    _Alignas(64) float own[2][MAX_ROWS * MAX_PANEL];
    fetch_beside(p, r, rows, j, cols);
    tile(w->job, p, r, rows, j, cols, NULL, own[0], panel, false, ahead);
    if (p->twin) tile(w->job, p, r, rows, j, cols, p->twin, own[1], panel, false, twin_ahead);
    p->finish(p, r, rows, j, cols, own[0], own[1]);
}

/* Panels stay in the second level of the cache while rows pass. */
static void by_rows(const piece* w) {
    const int64_t panel = w->job->kernels->panel, tile_rows = w->job->kernels->tile_rows;
    for (int64_t r = w->r0; r < w->r1; r += tile_rows) {
        for (int64_t j = w->j0; j < w->j1; j += panel) {
            if (j + panel >= w->j1) fetch_a(w->p, r, w->r1, tile_rows);
            if (w->p->accumulate) fetch_next(w->p, r, j, w->j0, w->j1, w->r1, tile_rows, panel);
            piece_tile(w, r, j, -1);
        }
    }
}

/* Rows stay in the cache while panels pass. The piece that this thread will get after this one is
 * not known; most likely it is `threads` further on. */
static void by_panels(const piece* w) {
    const int64_t panel = w->job->kernels->panel, tile_rows = w->job->kernels->tile_rows;
    const int64_t later = w->j0 + (w->j1 - w->j0) * w->job->threads;
    for (int64_t j = w->j0; j < w->j1; j += panel) {
        const int64_t next = j + panel < w->j1 ? j + panel : later < w->p->n ? later : -1;
        for (int64_t r = w->r0; r < w->r1; r += tile_rows) piece_tile(w, r, j, next);
    }
}

static void product_piece(void* user, int64_t index, int worker) {
    (void)worker;
    const products_job* job = user;
    const cut* c = job->cuts;
    while (index >= c->first + c->groups * c->chunks) c++;
    index -= c->first;
    const lp__product* p = c->product;
    piece w = {.job = job, .p = p};
    w.r0 = index % c->chunks * c->row_chunk;
    w.r1 = LP__MIN(w.r0 + c->row_chunk, p->m);
    w.j0 = index / c->chunks * c->group * job->kernels->panel;
    w.j1 = LP__MIN(w.j0 + c->group * job->kernels->panel, p->n);
    if (c->few_rows)
        by_panels(&w);
    else
        by_rows(&w);
}

void lp__products(lp_ctx* ctx, lp__number number, const lp__product* products, int count) {
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    products_job job = {.kernels = kernels, .format = &kernels->format[number]};
    job.threads = lp_ctx_threads(ctx);
    int64_t pieces = 0;
    for (; count > 0; products += job.count, count -= job.count) {
        job.count = LP__MIN(count, (int)MAX_PRODUCTS);
        pieces = 0;
        for (int i = 0; i < job.count; i++) {
            const int64_t n = cut_product(kernels, job.threads, &products[i], &job.cuts[i]);
            job.cuts[i].first = pieces;
            pieces += n;
        }
        lp__parallel_for(ctx, pieces, product_piece, &job);
    }
}

/* ---- operands -------------------------------------------------------------------------------- */

size_t lp__weight_words(const lp_ctx* ctx, lp__number number, int64_t rows, int64_t cols,
                        bool transposed) {
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    const lp__format* format = &kernels->format[number];
    const int64_t n = transposed ? rows : cols, k = transposed ? cols : rows;
    return (size_t)(ceil_div(n, kernels->panel) * kernels->panel * lp__words(format, k));
}

void lp__weight_pack_panel(const lp__kernels* kernels, lp__number number, int64_t rows,
                           int64_t cols, const float* w, int64_t first, lp__word* scratch,
                           lp__word* transposed, lp__word* plain) {
    const lp__format* format = &kernels->format[number];
    const int64_t panel = kernels->panel, ld = lp__words(format, cols);
    const int64_t n = LP__MIN(rows - first, panel);
    for (int64_t r = 0; r < n; r++)
        format->store_weights(cols, (uint32_t)((first + r) * cols), w + (first + r) * cols,
                              scratch + r * ld);
    if (transposed) kernels->pack_transposed((int)n, ld, scratch, ld, transposed + first * ld);
    if (!plain) return;
    const int64_t words = lp__words(format, rows), step = format->numbers;
    for (int64_t r = 0; r < n; r += step)
        format->interleave((int)panel, cols, scratch + r * ld,
                           r + 1 < n ? scratch + (r + 1) * ld : NULL,
                           plain + (first + r) / step * panel, words * panel);
}

typedef struct pack_job {
    lp_ctx* ctx;
    lp__number number;
    int64_t rows, cols;
    const float* w;
    lp__word *transposed, *plain;
} pack_job;

static void pack_panel(void* user, int64_t index, int worker) {
    const pack_job* job = user;
    const lp__kernels* kernels = lp__ctx_kernels(job->ctx);
    lp__weight_pack_panel(kernels, job->number, job->rows, job->cols, job->w,
                          index * kernels->panel, lp__worker_scratch(job->ctx, worker),
                          job->transposed, job->plain);
}

lp_status lp__weight_pack(lp_ctx* ctx, lp__number number, int64_t rows, int64_t cols,
                          const float* w, lp__word* transposed, lp__word* plain) {
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    pack_job job = {ctx, number, rows, cols, w, transposed, plain};
    const int64_t ld = lp__words(&kernels->format[number], cols);
    if (!lp__worker_scratch_reserve(ctx, (size_t)(ld * kernels->panel) * sizeof(lp__word)))
        return LP_NOMEM;
    lp__parallel_for(ctx, ceil_div(rows, kernels->panel), pack_panel, &job);
    return LP_OK;
}

typedef struct cut_job {
    const lp__kernels* kernels;
    const lp__format* format;
    const lp__steps* steps;
    int64_t n, ld, chunk;
    const lp__word* rows;
    int width;
    lp__word* out;
} cut_job;

static void cut_steps(void* user, int64_t index, int worker) {
    (void)worker;
    const cut_job* job = user;
    const lp__steps* steps = job->steps;
    const int64_t end = LP__MIN((index + 1) * job->chunk, steps->count);
    for (int64_t p = index * job->chunk; p < end; p++) {
        const int32_t first = steps->first[p], second = steps->second ? steps->second[p] : -1;
        job->format->interleave(job->width, job->n, first < 0 ? NULL : job->rows + first * job->ld,
                                second < 0 ? NULL : job->rows + second * job->ld,
                                job->out + p * job->width, steps->count * job->width);
    }
}

void lp__cut_rows(lp_ctx* ctx, lp__number number, const lp__steps* steps, int64_t n,
                  const lp__word* rows, int64_t ld, bool blocks, lp__word* out) {
    enum { WORDS_PER_PIECE = 1 << 14 };
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    cut_job job = {.kernels = kernels, .format = &kernels->format[number], .steps = steps, .n = n};
    job.ld = ld;
    job.rows = rows;
    job.width = blocks ? kernels->tile_rows : kernels->panel;
    job.out = out;
    job.chunk = LP__MAX(WORDS_PER_PIECE / LP__MAX(n, 1), 1);
    lp__parallel_for(ctx, ceil_div(steps->count, job.chunk), cut_steps, &job);
}
