/* logpi bench: updates per second of rung 1 and rung 2, the same work as the NumPy and PyTorch programs do in a loop. */
#include "cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_bench = {.name = "bench",
                         .summary = "updates per second: bench linear, bench tape",
                         .usage = "bench linear|tape [OPTIONS]",
                         .scope = LP_SCOPE_BENCH,
                         .isa = true,
                         .run = run};

enum { WARM_UP = 1000, BATCH = 1000, MAX_BATCHES = 100000 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* What a bench runs BATCH times between two looks at the clock. */
typedef struct work {
    int64_t d, k;
    lp_rng rng;
    double *x, *theta, *p;
    lp_tape* t;
    lp_params* params;
    lp_optim* optim;
    lp_tensor theta_param;
    float* x32;
    bool failed;
} work;

static void linear_update(work* w) {
    lp_softmax_policy_probs(w->d, w->k, w->theta, w->x, w->p);
    const int64_t a = lp_softmax_policy_sample(&w->rng, w->k, w->p);
    lp_softmax_policy_update(w->d, w->k, w->theta, w->x, w->p, a, 0.01, 1.0);
}

static void tape_update(work* w) {
    lp_tape_reset(w->t);
    lp_tensor x = lp_const_f32(w->t, 1, w->d, w->x32);
    lp_dist pi = lp_categorical(w->t, lp_matmul(w->t, x, w->theta_param));
    lp_tensor a = lp_sample(w->t, pi, &w->rng);
    lp_tensor loss = lp_scale(w->t, lp_log_prob(w->t, pi, a), -1.0);
    w->failed = w->failed || lp_backward(w->t, loss) != LP_OK || lp_optim_step(w->optim, NULL) != LP_OK;
}

static int by_value(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

/* Median seconds of one update. */
static double measure(const lp_ctx* ctx, work* w, void (*update)(work*), double seconds) {
    double* times = malloc(MAX_BATCHES * sizeof *times);
    if (!times) return -1;
    for (int i = 0; i < WARM_UP && !lp_cancelled(ctx); i++) update(w);
    int n = 0;
    for (const double start = now(); n < MAX_BATCHES && (n == 0 || now() - start < seconds) && !lp_cancelled(ctx); n++) {
        const double before = now();
        for (int i = 0; i < BATCH && !lp_cancelled(ctx); i++) update(w);
        times[n] = (now() - before) / BATCH;
    }
    qsort(times, (size_t)n, sizeof *times, by_value);
    const double median = times[n / 2];
    free(times);
    return median;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const char* name = lp_options_positionals(options) == 1 ? lp_options_positional(options, 0) : "";
    const bool tape = strcmp(name, "tape") == 0;
    if (!tape && strcmp(name, "linear") != 0) return cli_usage("bench needs one of: linear, tape");
    work w = {.d = lp_options_given(options, "d") ? lp_options_int(options, "d") : 4,
              .k = lp_options_given(options, "k") ? lp_options_int(options, "k") : (tape ? 3 : 2),
              .rng = lp_rng_philox(0, LP_FOR_USER, 0, 0)};
    const size_t d = (size_t)w.d, k = (size_t)w.k;
    w.x = calloc(d, sizeof(double));
    w.theta = calloc(d * k, sizeof(double));
    w.p = calloc(k, sizeof(double));
    w.x32 = calloc(d, sizeof(float));
    w.t = lp_tape_create(ctx, LP_F32);
    w.params = lp_params_create(ctx, LP_F32, true);
    if (!w.x || !w.theta || !w.p || !w.x32 || !w.t || !w.params) return cli_fail(ctx, LP_NOMEM);
    lp_rng_normal_f64(&w.rng, w.x, w.d);
    lp_rng_normal_f64(&w.rng, w.theta, w.d * w.k);
    lp_rng_normal_f32(&w.rng, w.x32, w.d);
    w.theta_param = lp_param_randn(w.params, "theta", w.d, w.k, &w.rng);
    lp_optim_def sgd = lp_optim_def_default(LP_SGD);
    sgd.learning_rate = 0.01;
    lp_status status = lp_optim_create(w.params, &sgd, &w.optim);
    if (status != LP_OK) return cli_fail(ctx, status);
    const double seconds = measure(ctx, &w, tape ? tape_update : linear_update, lp_options_real(options, "seconds"));
    if (lp_cancelled(ctx)) return cli_fail(ctx, LP_CANCELLED);
    if (w.failed || seconds < 0) return cli_fail(ctx, lp_tape_status(w.t));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    free(w.x);
    free(w.theta);
    free(w.p);
    free(w.x32);
    const char* isa = lp_isa_name(lp_ctx_isa(ctx));
    if (lp_options_flag(options, "json"))
        return cli_print_json(json_pack("{s:s, s:f, s:s, s:f, s:n, s:I, s:s, s:i, s:I, s:I}", "name", name, "rate",
                                        1.0 / seconds, "unit", "updates/s", "seconds", seconds, "peak_share",
                                        "peak_rss_bytes", (json_int_t)usage.ru_maxrss * 1024, "isa", isa, "threads", 1,
                                        "d", (json_int_t)w.d, "k", (json_int_t)w.k),
                              6);
    printf("%s d=%lld k=%lld: %.0f updates/s (%.0f ns each, %s, 1 thread)\n", name, (long long)w.d, (long long)w.k,
           1.0 / seconds, 1e9 * seconds, isa);
    return EXIT_OK;
}
