/* Packing a whole right operand, in parallel over panels and pieces of k. */
#include "kernels/kernels.h"

enum {
    PIECE = 1024,   /* steps of k in one piece of work */
    SMALL = 1 << 14 /* floats not worth handing to another thread */
};

typedef struct pack_job {
    const lp__kernels* table;
    bool transposed;
    int64_t k, n, ld, pieces;
    const float* source;
    float* packed;
} pack_job;

static void pack_item(void* user, int64_t index, int worker) {
    const pack_job* job = user;
    (void)worker;
    const int panel = job->table->panel;
    const int64_t j = index / job->pieces, p = index % job->pieces * PIECE;
    const int64_t count = LP__MIN(job->k - p, PIECE);
    const int n = (int)LP__MIN(job->n - j * panel, panel);
    float* out = job->packed + (j * job->k + p) * panel;
    if (job->transposed)
        job->table->pack_transposed(n, count, job->source + j * panel * job->ld + p, job->ld, out);
    else
        job->table->pack_rows(n, count, job->source + p * job->ld + j * panel, job->ld, out);
}

static void pack(lp_ctx* ctx, bool transposed, int64_t k, int64_t n, const float* source,
                 int64_t ld, float* packed) {
    const lp__kernels* table = lp__ctx_kernels(ctx);
    pack_job job = {.table = table, .transposed = transposed, .k = k, .n = n, .ld = ld};
    job.pieces = (k + PIECE - 1) / PIECE;
    job.source = source;
    job.packed = packed;
    const int64_t items = (n + table->panel - 1) / table->panel * job.pieces;
    if (items == 1 || k * n <= SMALL) {
        for (int64_t i = 0; i < items; i++) pack_item(&job, i, 0);
    } else {
        lp__parallel_for(ctx, items, pack_item, &job);
    }
}

size_t lp__packed_floats(const lp_ctx* ctx, int64_t k, int64_t n) {
    const int64_t panel = lp__ctx_kernels(ctx)->panel;
    return (size_t)((n + panel - 1) / panel * panel) * (size_t)k;
}

void lp__pack_transposed(lp_ctx* ctx, int64_t k, int64_t n, const float* w, int64_t ldw,
                         float* packed) {
    pack(ctx, true, k, n, w, ldw, packed);
}

void lp__pack_rows(lp_ctx* ctx, int64_t k, int64_t n, const float* b, int64_t ldb, float* packed) {
    pack(ctx, false, k, n, b, ldb, packed);
}
