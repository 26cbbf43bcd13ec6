/* What the verbs bench NAME share. */
#ifndef BENCH_H
#define BENCH_H

#include "cli.h"

/* Figures of a measurement, which --json gives under fixed keys. */
typedef struct bench_result {
    const char *name, *unit;
    double rate, seconds; /* seconds: of one step, the median */
    double peak_share;    /* of the machine's multiply-add peak; NaN: not said */
} bench_result;

/* Its JSON object, to which more can be added. */
json_t* bench_object(const lp_ctx* ctx, const bench_result* result);

double bench_median(double* x, int64_t n); /* sorts them */

/* The machine before and after a measurement. */
typedef struct bench_machine {
    lp_machine before, after;
    int64_t peak_rss; /* bytes, at the end of the measurement */
} bench_machine;
lp_status bench_before(lp_ctx* ctx, bench_machine* machine);
lp_status bench_after(lp_ctx* ctx, bench_machine* machine);
/* GFLOP/s of float32 or bfloat16. */
double bench_peak(const lp_machine* machine, lp_precision precision);
/* Both on lines of text, or under keys of an object. */
void bench_print_machine(const char* when, const lp_machine* machine);
void bench_add_machine(json_t* object, const bench_machine* machine);

/* The names of the benches on language models and of matrix products; bench gemm. */
bool bench_is_lm(const char* name);
int bench_gemm(lp_ctx* ctx, const lp_options* options);

#endif
