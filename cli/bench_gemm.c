/* logpi bench gemm: the matrix products of a linear layer, beside the multiply-add peak. The peak
 * is measured before and after each shape, and the best of several rounds counts: on a shared
 * machine the other numbers say more about the neighbours. */
#include "bench.h"
#include <math.h>
#include <stdlib.h>

enum { ROUNDS = 5, TRIES = 3 * ROUNDS, MAX_SHAPES = 5 };

/* in, out: SmolLM2-135M's, GPT-2's MLP, and SmolLM2's vocabulary head */
static const int64_t shapes[MAX_SHAPES][2] = {
    {576, 576}, {576, 1536}, {1536, 576}, {768, 3072}, {576, 49152}};
static const char* const passes[] = {"forward", "dX", "dW"};

typedef struct figures {
    double gflops, peak, seconds, barrier_ns;
} figures;

static int by_share(const void* a, const void* b) {
    const figures *x = a, *y = b;
    const double p = x->gflops / x->peak, q = y->gflops / y->peak;
    return (p > q) - (p < q);
}

/* The round of the median share, of those in which the peak did not move by more than a tenth; of
 * all, if there is none. */
static lp_status measure(lp_ctx* ctx, const lp_product_def* def, double budget, figures* f) {
    const double flops = 2.0 * (double)def->rows * (double)def->out * (double)def->in;
    figures steady[TRIES], all[TRIES];
    int count = 0, tried = 0;
    lp_product_timing t;
    lp_status status = lp_product_time(ctx, def, 1, &t);
    const double wanted = budget / ROUNDS / fmax(t.seconds, 1e-9);
    const int repeats = status != LP_OK || wanted < 1 ? 1 : wanted > 10000 ? 10000 : (int)wanted;
    while (status == LP_OK && count < ROUNDS && tried < TRIES) {
        status = lp_product_time(ctx, def, repeats, &t);
        if (status != LP_OK) break;
        const double before = bench_peak(&t.before, def->precision);
        const double after = bench_peak(&t.after, def->precision);
        all[tried] = (figures){.gflops = flops / t.seconds * 1e-9,
                               .peak = 0.5 * (before + after),
                               .seconds = t.seconds,
                               .barrier_ns = 0.5 * (t.before.barrier_ns + t.after.barrier_ns)};
        if (fabs(before - after) <= 0.1 * fmax(before, after)) steady[count++] = all[tried];
        tried++;
    }
    if (status != LP_OK) return status;
    figures* from = count > 0 ? steady : all;
    if (count == 0) count = tried;
    qsort(from, (size_t)count, sizeof *from, by_share);
    *f = from[count / 2];
    return LP_OK;
}

/* A line, or an object in the list. */
static lp_status say(lp_ctx* ctx, json_t* list, const lp_product_def* d, const figures* f) {
    const double share = f->peak > 0 ? f->gflops / f->peak : (double)NAN;
    if (list) {
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "pass", passes[d->pass],
                            "rows", (json_int_t)d->rows, "in", (json_int_t)d->in, "out",
                            (json_int_t)d->out, "seconds", cli_json_number(f->seconds), "gflops",
                            cli_json_number(f->gflops), "peak_share", cli_json_number(share),
                            "barrier_ns", cli_json_number(f->barrier_ns)));
        return LP_OK;
    }
    printf("%-8s %5lld rows  %5lld -> %5lld  %9.1f us  %6.1f GFLOP/s", passes[d->pass],
           (long long)d->rows, (long long)d->in, (long long)d->out, 1e6 * f->seconds, f->gflops);
    if (isfinite(share)) printf("  %5.1f %% of %.0f", 100 * share, f->peak);
    printf("  barrier %.0f ns\n", f->barrier_ns);
    return cli_flush(ctx);
}

int bench_gemm(lp_ctx* ctx, const lp_options* options) {
    const bool json = lp_options_flag(options, "json");
    const int64_t given = lp_options_given(options, "batch") ? lp_options_int(options, "batch") : 0;
    static const int64_t standard[] = {32, 512};
    const double budget = lp_options_real(options, "seconds") / 5;
    json_t* list = json ? json_array() : NULL;
    lp_product_def def = {.precision = cli_precision(options)};
    double flops = 0, seconds = 0, possible = 0;
    lp_status status = LP_OK;
    for (int r = 0; status == LP_OK && r < (given ? 1 : 2); r++) {
        def.rows = given ? given : standard[r];
        for (int pass = LP_PRODUCT_FORWARD; pass <= LP_PRODUCT_DW; pass++) {
            if (!given && r == 0 && pass != LP_PRODUCT_FORWARD) break; /* 32 rows: decoding */
            for (int s = 0; status == LP_OK && s < MAX_SHAPES; s++) {
                figures f = {0};
                def.pass = (lp_product_pass)pass;
                def.in = shapes[s][0];
                def.out = shapes[s][1];
                status = measure(ctx, &def, budget, &f);
                if (status == LP_OK) status = say(ctx, list, &def, &f);
                flops += f.gflops * f.seconds;
                possible += f.peak * f.seconds;
                seconds += f.seconds;
            }
        }
    }
    if (status == LP_OK && json) {
        const bench_result result = {"gemm", "GFLOP/s", flops / seconds, seconds,
                                     possible > 0 ? flops / possible : (double)NAN};
        json_t* object = bench_object(ctx, &result);
        json_object_set_new(object, "dtype", json_string(cli_precision_name(def.precision)));
        json_object_set(object, "products", list);
        status = cli_print_json(ctx, object, 6);
    }
    json_decref(list);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}
