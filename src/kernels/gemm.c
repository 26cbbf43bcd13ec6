/* Matrix products over all threads.
 *
 * A piece of work is a range of rows times a range of columns of C; k is never split between
 * pieces, only walked in blocks, with C going through memory between them, which changes no bit. So
 * that the operand which is read most stays in the second level of the cache, there are two walks:
 *
 * by panels: A as it lies. A piece takes a group of panels of B, packs them if they are not packed
 * yet, and passes all its rows over them.
 *
 * by rows: A is stored transposed. A piece packs a block of rows of A and passes it over all panels
 * of B, which the threads have packed together before. A small B each piece packs for itself: lines
 * that another core has just written come slower than they are made. */
#include "kernels/kernels.h"

enum {
    CACHE_FLOATS = 96 * 1024, /* what a piece keeps at hand: of 1 MB of cache, 384 KB */
    K_BLOCK = 1024,           /* steps of k at once */
    ROWS_PIECE = 64,          /* rows of a piece in the walk by rows */
    OWN_FLOATS = 32 * 1024,   /* of packed B, small enough for each thread to pack for itself */
    PIECES_PER_THREAD = 4,    /* wanted, so that threads end together */
    SMALL = 1 << 15           /* multiply-adds not worth handing to another thread */
};

typedef enum right_form { B_PACKED, B_ROWS, B_TRANSPOSED } right_form;

typedef struct gemm_job {
    lp_ctx* ctx;
    const lp__kernels* table;
    int64_t m, n, k;
    const float* a;
    int64_t lda;
    right_form form;
    const float* b;
    int64_t ldb; /* not used if packed */
    float* c;
    int64_t ldc;
    bool accumulate;
    int64_t k_block;
    int64_t panels;            /* of B in all */
    int64_t group, groups;     /* panels in a piece; pieces side by side */
    int64_t row_chunk, chunks; /* rows in a piece; pieces below each other */
} gemm_job;

static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* The largest block not above K_BLOCK that cuts k evenly, in multiples of 8. */
static int64_t even_block(int64_t k, int64_t limit) {
    if (k <= limit) return LP__MAX(k, 1);
    return ceil_div(ceil_div(k, ceil_div(k, limit)), 8) * 8;
}

static void run(lp_ctx* ctx, int64_t pieces, bool small, lp__task_fn fn, gemm_job* job) {
    if (small || pieces == 1) {
        for (int64_t i = 0; i < pieces; i++) fn(job, i, 0);
    } else {
        lp__parallel_for(ctx, pieces, fn, job);
    }
}

/* Columns j * panel ... of C, for panel j. */
static int panel_columns(const gemm_job* job, int64_t j) {
    return (int)LP__MIN(job->n - j * job->table->panel, job->table->panel);
}

/* ---- by panels ------------------------------------------------------------------------------- */

static void pack_slice(const gemm_job* job, int64_t j, int64_t p, int64_t count, float* out) {
    const int panel = job->table->panel, n = panel_columns(job, j);
    if (job->form == B_ROWS)
        job->table->pack_rows(n, count, job->b + p * job->ldb + j * panel, job->ldb, out);
    else
        job->table->pack_transposed(n, count, job->b + j * panel * job->ldb + p, job->ldb, out);
}

static void panel_piece(void* user, int64_t index, int worker) {
    const gemm_job* job = user;
    const lp__kernels* table = job->table;
    const int64_t panel = table->panel;
    const int64_t j0 = index / job->chunks * job->group;
    const int64_t j1 = LP__MIN(j0 + job->group, job->panels);
    const int64_t r0 = index % job->chunks * job->row_chunk;
    const int64_t r1 = LP__MIN(r0 + job->row_chunk, job->m);
    float* scratch = job->form == B_PACKED ? NULL : lp__worker_scratch(job->ctx, worker);

    for (int64_t p = 0; p == 0 || p < job->k; p += job->k_block) {
        const int64_t count = LP__MIN(job->k - p, job->k_block);
        const float* slices = scratch; /* [j1 - j0][stride] */
        int64_t stride = count * panel;
        if (job->form == B_PACKED) {
            slices = job->b + (j0 * job->k + p) * panel;
            stride = job->k * panel;
        } else {
            for (int64_t j = j0; j < j1; j++)
                pack_slice(job, j, p, count, scratch + (j - j0) * stride);
        }
        for (int64_t r = r0; r < r1; r += table->tile_rows) {
            const int rows = (int)LP__MIN(r1 - r, table->tile_rows);
            for (int64_t j = j0; j < j1; j++)
                table->format[LP__F32].tile(
                    rows, panel_columns(job, j), count, job->a + r * job->lda + p, job->lda,
                    slices + (j - j0) * stride, panel, job->c + r * job->ldc + j * panel, job->ldc,
                    job->accumulate || p > 0, NULL);
        }
    }
}

static lp_status by_panels(gemm_job* job) {
    const int64_t threads = lp_ctx_threads(job->ctx), panel = job->table->panel;
    const int64_t tile = job->table->tile_rows;
    const int64_t work = job->m * LP__MAX(job->k, 1) * panel; /* of one panel */
    job->panels = ceil_div(job->n, panel);
    job->k_block = even_block(job->k, K_BLOCK);

    /* Panels together: as many as fit, and enough to be worth handing out, but leave pieces for
     * all. */
    job->group = LP__MAX(1, CACHE_FLOATS / (job->k_block * panel));
    job->group = LP__MAX(job->group, SMALL / work);
    const int64_t share = LP__MAX(1, job->panels / (threads * PIECES_PER_THREAD));
    job->group = LP__MIN(job->group, share);
    if (job->form != B_PACKED) /* must fit in scratch, and is packed once by each chunk of rows */
        job->group = LP__MIN(job->group, LP__MAX(1, CACHE_FLOATS / (job->k_block * panel)));
    job->groups = ceil_div(job->panels, job->group);

    /* Rows are cut to give every thread its part. Each cut packs again, so it must matter. */
    const bool cut = job->form == B_PACKED || job->groups < 2 * threads;
    job->chunks = cut ? ceil_div(threads * PIECES_PER_THREAD, job->groups) : 1;
    job->chunks = LP__MIN(job->chunks, ceil_div(job->m, 4 * tile));
    job->chunks = LP__MIN(job->chunks, LP__MAX(1, work * job->panels / SMALL));
    job->row_chunk = ceil_div(ceil_div(job->m, job->chunks), tile) * tile;
    job->chunks = ceil_div(job->m, job->row_chunk);

    const bool small = work * job->panels <= 2 * SMALL;
    if (job->form != B_PACKED) {
        const size_t bytes = (size_t)(job->group * job->k_block * panel) * sizeof(float);
        if (!lp__worker_scratch_reserve(job->ctx, bytes)) return LP_NOMEM;
    }
    run(job->ctx, job->groups * job->chunks, small, panel_piece, job);
    return LP_OK;
}

void lp__gemm_packed(lp_ctx* ctx, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                     const float* packed, float* c, int64_t ldc, bool accumulate) {
    if (m < 1 || n < 1) return;
    gemm_job job = {.ctx = ctx, .table = lp__ctx_kernels(ctx), .m = m, .n = n, .k = k};
    job.a = a, job.lda = lda;
    job.form = B_PACKED, job.b = packed;
    job.c = c, job.ldc = ldc, job.accumulate = accumulate;
    (void)by_panels(&job); /* needs no memory */
}

/* ---- by rows --------------------------------------------------------------------------------- */

/* One block of k: a points at its first row in A^T [k, m]; b is its packed slice of B, or all of B
 * not yet packed. */
static void row_piece(void* user, int64_t index, int worker) {
    const gemm_job* job = user;
    const lp__kernels* table = job->table;
    const int64_t panel = table->panel, tile = table->tile_rows;
    const int64_t r0 = index % job->chunks * job->row_chunk;
    const int64_t r1 = LP__MIN(r0 + job->row_chunk, job->m);
    const int64_t j0 = index / job->chunks * job->group;
    const int64_t j1 = LP__MIN(j0 + job->group, job->panels);
    float* rows = lp__worker_scratch(job->ctx, worker); /* [row_chunk / tile][k][tile] */
    float* own = rows + job->row_chunk * job->k;        /* [k][panel] */

    for (int64_t r = r0; r < r1; r += tile)
        table->pack_a((int)LP__MIN(r1 - r, tile), job->k, job->a + r, job->lda,
                      rows + (r - r0) * job->k);
    for (int64_t j = j0; j < j1; j++) {
        const float* slice = job->b + j * job->k * panel;
        if (job->form != B_PACKED) {
            pack_slice(job, j, 0, job->k, own);
            slice = own;
        }
        for (int64_t r = r0; r < r1; r += tile)
            table->format[LP__F32].tile_packed(
                (int)LP__MIN(r1 - r, tile), panel_columns(job, j), job->k, rows + (r - r0) * job->k,
                slice, panel, job->c + r * job->ldc + j * panel, job->ldc, job->accumulate);
    }
}

/* Blocks in a piece, between a quarter of longest and longest, such that the thread with most has
 * least. */
static int64_t even_chunk(int64_t blocks, int64_t threads, int64_t longest) {
    int64_t best = 1, least = INT64_MAX;
    for (int64_t chunk = longest; chunk >= LP__MAX(1, longest / 4); chunk--) {
        const int64_t most = ceil_div(ceil_div(blocks, chunk), threads) * chunk;
        if (most < least) best = chunk, least = most;
    }
    return best;
}

static lp_status by_rows(gemm_job* job) {
    lp_ctx* ctx = job->ctx;
    const int64_t threads = lp_ctx_threads(ctx), panel = job->table->panel;
    const int64_t tile = job->table->tile_rows, k = job->k;
    const right_form form = job->form;
    const float *a = job->a, *b = job->b;
    const bool accumulate = job->accumulate;
    job->panels = ceil_div(job->n, panel);
    job->k_block = even_block(k, K_BLOCK);

    /* Rows come first; columns are split only if there are too few rows, for each part packs the
     * rows again. */
    const int64_t blocks = ceil_div(job->m, tile);
    job->row_chunk = even_chunk(blocks, threads, LP__MAX(1, ROWS_PIECE / tile)) * tile;
    job->chunks = ceil_div(job->m, job->row_chunk);
    job->groups = LP__MIN(job->panels, ceil_div(threads, job->chunks));
    job->group = ceil_div(job->panels, job->groups);
    job->groups = ceil_div(job->panels, job->group);
    const bool small = job->m * job->panels * panel * LP__MAX(k, 1) <= 2 * SMALL;

    const int64_t slice = (int64_t)lp__packed_floats(ctx, job->k_block, job->n);
    const bool own = k == job->k_block && slice <= OWN_FLOATS && job->chunks <= 2 * threads;
    const int64_t scratch = (job->row_chunk + (own ? panel : 0)) * job->k_block;
    if (!lp__worker_scratch_reserve(ctx, (size_t)scratch * sizeof(float))) return LP_NOMEM;
    if (own) {
        run(ctx, job->chunks * job->groups, small, row_piece, job);
        return LP_OK;
    }

    lp__arena* arena = lp__scratch(ctx);
    const lp__mark mark = lp__arena_mark(arena);
    float* packed = lp__arena_alloc(arena, (size_t)slice * sizeof(float));
    if (!packed) return LP_NOMEM;
    job->form = B_PACKED;
    for (int64_t p = 0; p == 0 || p < k; p += job->k_block) {
        job->k = LP__MIN(k - p, job->k_block);
        if (form == B_ROWS)
            lp__pack_rows(ctx, job->k, job->n, b + p * job->ldb, job->ldb, packed);
        else
            lp__pack_transposed(ctx, job->k, job->n, b + p, job->ldb, packed);
        job->a = a + p * job->lda;
        job->b = packed;
        job->accumulate = accumulate || p > 0;
        run(ctx, job->chunks * job->groups, small, row_piece, job);
    }
    lp__arena_release(arena, mark);
    return LP_OK;
}

lp_status lp__gemm(lp_ctx* ctx, lp__trans trans, int64_t m, int64_t n, int64_t k, const float* a,
                   int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                   bool accumulate) {
    if (m < 1 || n < 1) return LP_OK;
    gemm_job job = {.ctx = ctx, .table = lp__ctx_kernels(ctx), .m = m, .n = n, .k = k};
    job.a = a, job.lda = lda;
    job.form = trans == LP__NN || trans == LP__TN ? B_ROWS : B_TRANSPOSED;
    job.b = b, job.ldb = ldb;
    job.c = c, job.ldc = ldc, job.accumulate = accumulate;
    return trans == LP__NN || trans == LP__NT ? by_panels(&job) : by_rows(&job);
}
