/* The machine that a measurement stands beside, and how results are said. */
#include "bench.h"
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static int by_value(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

double bench_median(double* x, int64_t n) {
    qsort(x, (size_t)n, sizeof *x, by_value);
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

static int64_t peak_rss(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)usage.ru_maxrss * 1024;
}

json_t* bench_object(const lp_ctx* ctx, const bench_result* r) {
    return json_pack("{s:s, s:o, s:s, s:o, s:o, s:I, s:s, s:i}", "name", r->name, "rate",
                     cli_json_number(r->rate), "unit", r->unit, "seconds",
                     cli_json_number(r->seconds), "peak_share", cli_json_number(r->peak_share),
                     "peak_rss_bytes", (json_int_t)peak_rss(), "isa", lp_isa_name(lp_ctx_isa(ctx)),
                     "threads", lp_ctx_threads(ctx));
}

lp_status bench_before(lp_ctx* ctx, bench_machine* machine) {
    return lp_machine_probe(ctx, &machine->before);
}

lp_status bench_after(lp_ctx* ctx, bench_machine* machine) {
    machine->peak_rss = peak_rss(); /* the probe takes memory of its own */
    return lp_machine_probe(ctx, &machine->after);
}

double bench_peak(const lp_machine* m, lp_precision precision) {
    return precision == LP_BFLOAT16 ? m->bf16_gflops : m->fp32_gflops;
}

void bench_print_machine(const char* when, const lp_machine* m) {
    printf("machine %s: barrier %.0f ns, fp32 %.0f GFLOP/s", when, m->barrier_ns, m->fp32_gflops);
    if (m->bf16_gflops > 0) printf(", bf16 %.0f GFLOP/s", m->bf16_gflops);
    printf(", reads %.1f GB/s\n", m->read_gbps);
}

static json_t* pair(double before, double after) {
    return json_pack("[o, o]", cli_json_number(before), cli_json_number(after));
}

void bench_add_machine(json_t* object, const bench_machine* m) {
    json_object_set_new(object, "barrier_ns", pair(m->before.barrier_ns, m->after.barrier_ns));
    json_object_set_new(object, "fp32_gflops", pair(m->before.fp32_gflops, m->after.fp32_gflops));
    json_object_set_new(object, "bf16_gflops", pair(m->before.bf16_gflops, m->after.bf16_gflops));
    json_object_set_new(object, "read_gbps", pair(m->before.read_gbps, m->after.read_gbps));
    json_object_set_new(object, "peak_rss_bytes", json_integer((json_int_t)m->peak_rss));
}
