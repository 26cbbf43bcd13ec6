/* What the machine does at this moment: the latency of a job, the peaks of multiply-adds, and of
 * reading memory. Neighbours on a shared machine move all of them within seconds, so that whoever
 * measures something else asks before and after. */
#include "base/clock.h"
#include "kernels/kernels.h"
#include <string.h>

enum {
    ROUNDS = 5,        /* of each figure; the best counts */
    JOBS = 1000,       /* empty ones in a round */
    ROOF_WORDS = 128,  /* of k: block, panel and result lie in the first level of the cache */
    ROOF_REPEATS = 512 /* of a tile in a round, for each thread */
};
static const size_t READ_BYTES = (size_t)128 << 20;

typedef struct probe {
    lp_ctx* ctx;
    const lp__kernels* kernels;
    const lp__format* format;
    lp__word *a, *b; /* [threads] blocks and panels of ROOF_WORDS */
    float* c;        /* [threads] tiles */
    uint64_t* memory;
    uint64_t sums[8]; /* of what was read, so that it is */
    int64_t share;    /* of memory for a task, in numbers */
} probe;

static void nothing(void* user, int64_t index, int worker) {
    (void)user, (void)index, (void)worker;
}

/* Nanoseconds of an empty job, the best of the rounds. */
static double barrier(lp_ctx* ctx) {
    const int threads = lp_ctx_threads(ctx);
    double best = 0;
    if (threads == 1) return 0;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = lp__seconds();
        for (int i = 0; i < JOBS; i++) lp__parallel_for(ctx, threads, nothing, NULL);
        const double time = 1e9 * (lp__seconds() - start) / JOBS;
        best = round == 0 ? time : LP__MIN(best, time);
    }
    return best;
}

/* ---- multiply-adds --------------------------------------------------------------------------- */

static void roof_task(void* user, int64_t index, int worker) {
    (void)worker;
    const probe* p = user;
    const int rows = p->kernels->tile_rows, cols = p->kernels->panel;
    const lp__word* a = p->a + index * rows * ROOF_WORDS;
    const lp__word* b = p->b + index * cols * ROOF_WORDS;
    for (int i = 0; i < ROOF_REPEATS; i++)
        p->format->tile_packed(rows, cols, ROOF_WORDS, a, b, cols, p->c + index * rows * cols, cols,
                               true);
}

/* GFLOP/s of one number format. */
static double roof(probe* p, lp__number number) {
    const int threads = lp_ctx_threads(p->ctx);
    double best = 0;
    p->format = &p->kernels->format[number];
    const double flops = 2.0 * p->kernels->tile_rows * p->kernels->panel * ROOF_WORDS *
                         p->format->numbers * ROOF_REPEATS * threads;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = lp__seconds();
        lp__parallel_for(p->ctx, threads, roof_task, p);
        best = LP__MAX(best, flops / (lp__seconds() - start) * 1e-9);
    }
    return best;
}

static lp_status roofs(probe* p, lp_machine* machine) {
    const size_t threads = (size_t)lp_ctx_threads(p->ctx);
    const size_t rows = (size_t)p->kernels->tile_rows, cols = (size_t)p->kernels->panel;
    /* zeros: fast on every processor, and no sum overflows */
    p->a = lp__calloc(p->ctx, threads * rows * ROOF_WORDS, sizeof *p->a);
    p->b = lp__calloc(p->ctx, threads * cols * ROOF_WORDS, sizeof *p->b);
    p->c = lp__calloc(p->ctx, threads * rows * cols, sizeof *p->c);
    const bool ok = p->a && p->b && p->c;
    if (ok) machine->fp32_gflops = roof(p, LP__F32);
    if (ok && p->kernels->isa == LP_ISA_AVX512_BF16) machine->bf16_gflops = roof(p, LP__BF16);
    lp__free(p->ctx, p->a);
    lp__free(p->ctx, p->b);
    lp__free(p->ctx, p->c);
    return ok ? LP_OK : LP_NOMEM;
}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { READ_TASKS = 64 };

static void read_task(void* user, int64_t index, int worker) {
    (void)worker;
    probe* p = user;
    const uint64_t* x = p->memory + index * p->share;
    uint64_t sum[8] = {0};
    for (int64_t i = 0; i < p->share; i += 8) {
        for (int j = 0; j < 8; j++) sum[j] += x[i + j];
    }
    for (int j = 1; j < 8; j++) sum[0] += sum[j];
    __atomic_fetch_add(&p->sums[index % 8], sum[0], __ATOMIC_RELAXED);
}

static lp_status reading(probe* p, lp_machine* machine) {
    p->memory = lp__alloc(p->ctx, READ_BYTES);
    if (!p->memory) return LP_NOMEM;
    memset(p->memory, 1, READ_BYTES);
    p->share = (int64_t)(READ_BYTES / sizeof *p->memory / READ_TASKS);
    for (int round = 0; round < ROUNDS; round++) {
        const double start = lp__seconds();
        lp__parallel_for(p->ctx, READ_TASKS, read_task, p);
        machine->read_gbps =
            LP__MAX(machine->read_gbps, 1e-9 * (double)READ_BYTES / (lp__seconds() - start));
    }
    lp__free(p->ctx, p->memory);
    return LP_OK;
}

lp_status lp_machine_probe_compute(lp_ctx* ctx, lp_machine* machine) {
    probe p = {.ctx = ctx, .kernels = lp__ctx_kernels(ctx)};
    lp_machine m = {.barrier_ns = barrier(ctx)};
    lp_status status = roofs(&p, &m);
    if (status == LP_OK && lp_cancelled(ctx)) status = lp_fail(ctx, LP_CANCELLED, "cancelled");
    if (status == LP_OK) *machine = m;
    return status;
}

lp_status lp_machine_probe(lp_ctx* ctx, lp_machine* machine) {
    probe p = {.ctx = ctx, .kernels = lp__ctx_kernels(ctx)};
    lp_machine m = {0};
    lp_status status = lp_machine_probe_compute(ctx, &m);
    if (status == LP_OK) status = reading(&p, &m);
    if (status == LP_OK) *machine = m;
    return status;
}
