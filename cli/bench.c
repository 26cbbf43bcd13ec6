/* logpi bench: updates per second of rung 1 and rung 2, the work of the NumPy and PyTorch programs in a loop. */
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

/* What is run again and again: `update`, on the numbers of one of the two rungs. */
typedef struct work {
    void (*update)(struct work*);
    lp_ctx* ctx;
    int64_t d, k;
    lp_rng rng;
    double *x, *theta, *p; /* linear */
    lp_tape* t;            /* tape */
    float* x32;
    lp_optim* optim;
    lp_tensor theta_param;
    lp_status status; /* of the first update that failed */
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
    lp_status status = lp_backward(w->t, loss);
    if (status == LP_OK) status = lp_optim_step(w->optim, NULL);
    if (w->status == LP_OK) w->status = status;
}

static lp_status linear_start(work* w) {
    w->update = linear_update;
    w->x = calloc((size_t)w->d, sizeof *w->x);
    w->theta = calloc((size_t)(w->d * w->k), sizeof *w->theta);
    w->p = calloc((size_t)w->k, sizeof *w->p);
    if (!w->x || !w->theta || !w->p) return LP_NOMEM;
    lp_rng_normal_f64(&w->rng, w->x, w->d);
    lp_rng_normal_f64(&w->rng, w->theta, w->d * w->k);
    return LP_OK;
}

static lp_status tape_start(work* w) {
    w->update = tape_update;
    w->x32 = calloc((size_t)w->d, sizeof *w->x32);
    w->t = lp_tape_create(w->ctx, LP_F32);
    lp_params* params = lp_params_create(w->ctx, LP_F32, true);
    if (!w->x32 || !w->t || !params) return LP_NOMEM;
    lp_rng_normal_f32(&w->rng, w->x32, w->d);
    w->theta_param = lp_param_randn(params, "theta", w->d, w->k, &w->rng);
    if (!w->theta_param) return LP_NOMEM;
    lp_optim_def sgd = lp_optim_def_default(LP_SGD);
    sgd.learning_rate = 0.01;
    return lp_optim_create(params, &sgd, &w->optim);
}

/* What the context owns goes with it. */
static void end(work* w) {
    free(w->x);
    free(w->theta);
    free(w->p);
    free(w->x32);
}

/* Runs `count` updates, fewer when one fails, the context is cancelled or it is later than `until` (0: never).
 * How many. */
static int run_updates(work* w, int count, double until) {
    int n = 0;
    for (; n < count && w->status == LP_OK && (until == 0 || now() < until); n++) {
        if (lp_cancelled(w->ctx)) {
            w->status = lp_fail(w->ctx, LP_CANCELLED, "cancelled");
        } else {
            w->update(w);
        }
    }
    return n;
}

static int by_value(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

/* *median: seconds of an update, the median of batches of BATCH or, if updates are slow, of about 10 ms. */
static lp_status measure(work* w, double seconds, double* median) {
    double* times = malloc(MAX_BATCHES * sizeof *times);
    if (!times) return LP_NOMEM;
    const double warm = now();
    const int warmed = run_updates(w, WARM_UP, warm + 0.5 * seconds);
    const double batch = 0.01 * warmed / (now() - warm);
    const int size = batch >= BATCH ? BATCH : batch <= 1 ? 1 : (int)batch;
    int n = 0;
    const double until = now() + seconds;
    for (; w->status == LP_OK && n < MAX_BATCHES && (n == 0 || now() < until); n++) {
        const double before = now();
        run_updates(w, size, 0);
        times[n] = (now() - before) / size;
    }
    if (w->status == LP_OK) { /* n > 0 */
        qsort(times, (size_t)n, sizeof *times, by_value);
        *median = times[n / 2];
    }
    free(times);
    return w->status;
}

static lp_status print_rate(const work* w, const char* name, double seconds, bool json) {
    const char* isa = lp_isa_name(lp_ctx_isa(w->ctx));
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    if (json) {
        json_t* object = json_pack("{s:s, s:o, s:s, s:f, s:n, s:I, s:s, s:i, s:I, s:I}", "name", name, "rate",
                                   cli_json_number(1.0 / seconds), "unit", "updates/s", "seconds", seconds,
                                   "peak_share", "peak_rss_bytes", (json_int_t)usage.ru_maxrss * 1024, "isa", isa,
                                   "threads", 1, "d", (json_int_t)w->d, "k", (json_int_t)w->k);
        return cli_print_json(w->ctx, object, 6);
    }
    printf("%s d=%lld k=%lld: %.0f updates/s (%.0f ns each, %s, 1 thread)\n", name, (long long)w->d, (long long)w->k,
           1.0 / seconds, 1e9 * seconds, isa);
    return LP_OK;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const char* name = lp_options_positionals(options) == 1 ? lp_options_positional(options, 0) : "";
    const bool tape = strcmp(name, "tape") == 0;
    if (!tape && strcmp(name, "linear") != 0) return cli_usage("bench needs one of: linear, tape");
    work w = {.ctx = ctx,
              .d = lp_options_given(options, "d") ? lp_options_int(options, "d") : 4,
              .k = lp_options_given(options, "k") ? lp_options_int(options, "k") : (tape ? 3 : 2),
              .rng = lp_rng_philox(0, LP_FOR_USER, 0, 0)};
    double seconds = 0;
    lp_status status = tape ? tape_start(&w) : linear_start(&w);
    if (status == LP_OK) status = measure(&w, lp_options_real(options, "seconds"), &seconds);
    if (status == LP_OK) status = print_rate(&w, name, seconds, lp_options_flag(options, "json"));
    end(&w);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}
