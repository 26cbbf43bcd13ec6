/* How fast the matrix products are, each shape as GFLOP/s and as a share of the multiply-add roof
 * measured beside it.
 *
 *     bench_gemm [isa] [threads] [lm]
 *
 * The roof and the shape alternate, and the best of several rounds counts: on a shared machine the
 * other numbers say more about the neighbours. "lm" adds the shapes with a vocabulary of 49152. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernels/kernels.h"

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- the roof: one tile, everything in the first level of the cache -------------------------- */

enum { ROOF_K = 128, ROOF_REPEATS = 2048 };

typedef struct roof {
    const lp__kernels* table;
    float *a, *b, *c;
    int64_t stride; /* floats between the operands of two workers */
} roof;

static void roof_item(void* user, int64_t index, int worker) {
    const roof* r = user;
    (void)worker;
    float* a = r->a + index * r->stride;
    float* b = r->b + index * r->stride;
    float* c = r->c + index * r->stride;
    for (int i = 0; i < ROOF_REPEATS; i++)
        r->table->format[LP__F32].tile_packed(r->table->tile_rows, r->table->panel, ROOF_K, a, b,
                                              r->table->panel, c, r->table->panel, true);
}

static double roof_gflops(lp_ctx* ctx, roof* r) {
    const int threads = lp_ctx_threads(ctx);
    const double t = now();
    lp__parallel_for(ctx, threads, roof_item, r);
    const double flops = 2.0 * r->table->tile_rows * r->table->panel * ROOF_K * ROOF_REPEATS;
    return flops * threads / (now() - t) * 1e-9;
}

/* ---- shapes ---------------------------------------------------------------------------------- */

typedef struct buffer {
    float* x;
    size_t count;
} buffer;

static float* room(buffer* b, int64_t count) {
    if ((size_t)count > b->count) {
        free(b->x);
        b->count = (size_t)count;
        b->x = aligned_alloc(64, (b->count * sizeof(float) + 63) / 64 * 64);
        if (!b->x) exit(1);
        for (size_t i = 0; i < b->count; i++) b->x[i] = (float)(i % 31) * 0.001f - 0.015f;
    }
    return b->x;
}

typedef enum pass { FORWARD, UNPACKED, DX, DW } pass;
static const char* const PASS[] = {"forward", "fwd-NT", "dX", "dW"};

typedef struct bench {
    lp_ctx* ctx;
    roof roof;
    buffer x, w, y, packed;
} bench;

/* tokens rows through a weight [out, in]. */
static void once(bench* b, pass what, int64_t tokens, int64_t out, int64_t in) {
    float *x = b->x.x, *w = b->w.x, *y = b->y.x;
    switch (what) {
    case FORWARD:
        lp__gemm_packed(b->ctx, tokens, out, in, x, in, b->packed.x, y, out, false);
        break;
    case UNPACKED:
        (void)lp__gemm(b->ctx, LP__NT, tokens, out, in, x, in, w, in, y, out, false);
        break;
    case DX: (void)lp__gemm(b->ctx, LP__NN, tokens, in, out, y, out, w, in, x, in, false); break;
    case DW: (void)lp__gemm(b->ctx, LP__TN, out, in, tokens, y, out, x, in, w, in, true); break;
    }
}

static void measure(bench* b, pass what, int64_t tokens, int64_t out, int64_t in) {
    room(&b->x, tokens * in);
    room(&b->w, out * in);
    room(&b->y, tokens * out);
    if (what == FORWARD) {
        room(&b->packed, (int64_t)lp__packed_floats(b->ctx, in, out));
        lp__pack_transposed(b->ctx, in, out, b->w.x, in, b->packed.x);
    }
    const double flops = 2.0 * (double)tokens * (double)out * (double)in;
    int repeats = (int)(2e9 / flops);
    repeats = LP__MIN(LP__MAX(repeats, 1), 10000);
    double best = 0, best_roof = 0;
    for (int round = 0; round < 7; round++) {
        best_roof = LP__MAX(best_roof, roof_gflops(b->ctx, &b->roof));
        const double t = now();
        for (int i = 0; i < repeats; i++) once(b, what, tokens, out, in);
        best = LP__MAX(best, flops * repeats / (now() - t) * 1e-9);
    }
    printf("%-8s tokens %5" PRId64 " out %6" PRId64 " in %5" PRId64
           "  %8.2f us  %7.1f GFLOP/s  roof %6.1f  %5.1f %%  weights %5.1f GB/s\n",
           PASS[what], tokens, out, in, flops / best * 1e-3, best, best_roof,
           100 * best / best_roof, best / (2.0 * (double)tokens) * 4.0);
    fflush(stdout);
}

int main(int argc, char** argv) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = argc > 2 ? atoi(argv[2]) : 1;
    if (argc > 1)
        for (int isa = 0; isa < LP_ISA_COUNT; isa++)
            if (!strcmp(argv[1], lp_isa_name((lp_isa)isa))) def.isa = isa;
    char error[200];
    bench b = {.ctx = lp_ctx_create(&def, error, sizeof error)};
    if (!b.ctx) {
        fprintf(stderr, "bench_gemm: %s\n", error);
        return 1;
    }
    b.roof.table = lp__ctx_kernels(b.ctx);
    b.roof.stride = (int64_t)b.roof.table->panel * ROOF_K;
    buffer operands[3] = {{0}, {0}, {0}};
    b.roof.a = room(&operands[0], b.roof.stride * def.threads);
    b.roof.b = room(&operands[1], b.roof.stride * def.threads);
    b.roof.c = room(&operands[2], b.roof.stride * def.threads);
    printf("%s, %d threads\n", b.roof.table->name, lp_ctx_threads(b.ctx));

    static const int64_t shapes[][2] = {{576, 576}, {192, 576}, {1536, 576}, {576, 1536}};
    static const int64_t tokens[] = {1, 4, 8, 16, 37, 128, 512, 2048};
    for (size_t t = 0; t < sizeof tokens / sizeof *tokens; t++)
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int what = FORWARD; what <= DW; what++)
                if (tokens[t] >= 128 || what == FORWARD)
                    measure(&b, (pass)what, tokens[t], shapes[s][0], shapes[s][1]);
    static const int64_t small[][3] = {
        {8, 64, 4}, {8, 64, 64}, {8, 2, 64}, {256, 64, 64}, {256, 2, 64}};
    for (size_t s = 0; s < sizeof small / sizeof *small; s++)
        for (int what = FORWARD; what <= DW; what++)
            measure(&b, (pass)what, small[s][0], small[s][1], small[s][2]);
    if (argc > 3 && !strcmp(argv[3], "lm"))
        for (int what = FORWARD; what <= DW; what++)
            for (int64_t m = what == FORWARD ? 1 : 512; m <= 512; m *= 8)
                measure(&b, (pass)what, m, 49152, 576);

    buffer* const all[] = {&b.x, &b.w, &b.y, &b.packed, &operands[0], &operands[1], &operands[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->x);
    lp_ctx_destroy(b.ctx);
    return 0;
}
