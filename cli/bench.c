/* logpi bench: updates per second of rung 1 and rung 2, the work of the NumPy and PyTorch programs
 * in a loop; steps per second of environments, alone and with PPO learning from them. */
#include "bench.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_bench = {.name = "bench",
                         .summary = "how fast it is: bench linear, tape, env, ppo",
                         .usage = "bench linear|tape|env|ppo [OPTIONS]",
                         .scope = LP_SCOPE_BENCH,
                         .threads = true,
                         .isa = true,
                         .run = run,
                         .also = &verb_bench_lm};

enum { WARM_UP = 1000, BATCH = 1000, MAX_BATCHES = 100000 };
enum { ROUNDS = 256 }; /* of actions, drawn beforehand: what is measured is the environments */

/* What is run again and again: `update`. */
typedef struct work {
    void (*update)(struct work*);
    lp_ctx* ctx;
    int64_t d, k;
    int64_t steps; /* of environments in an update */
    lp_rng rng;
    double *x, *theta, *p; /* linear */
    lp_tape* t;            /* tape */
    float* x32;
    lp_optim* optim;
    lp_tensor theta_param;
    const lp_env_type* type; /* env, ppo */
    lp_envs* envs;
    char* actions; /* [ROUNDS] of round_bytes */
    size_t round_bytes;
    int64_t round;
    lp_on_policy* trainer; /* ppo */
    lp_status status;      /* of the first update that failed */
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

/* ---- environments ---------------------------------------------------------------------------- */

static void env_update(work* w) {
    lp_env_results results;
    lp_status status = lp_envs_receive(w->envs, &results);
    const char* actions = w->actions + (size_t)(w->round++ % ROUNDS) * w->round_bytes;
    if (status == LP_OK) status = lp_envs_send(w->envs, results.count, results.index, actions);
    if (w->status == LP_OK) w->status = status;
}

/* Uniform actions; of a box without bounds normal ones. */
static lp_status draw_actions(work* w) {
    const lp_space* space = &w->type->action;
    const bool box = space->kind == LP_SPACE_BOX;
    const int64_t width = box ? space->n : 1, n = ROUNDS * w->steps * width;
    w->round_bytes = (size_t)(w->steps * width) * (box ? sizeof(float) : sizeof(int32_t));
    w->actions = calloc(ROUNDS, w->round_bytes);
    if (!w->actions) return LP_NOMEM;
    float* numbers = (float*)(void*)w->actions;
    if (box) lp_rng_normal_f32(&w->rng, numbers, n);
    for (int64_t i = 0; i < n; i++) {
        const int64_t j = i % width;
        if (!box) {
            ((int32_t*)(void*)w->actions)[i] = (int32_t)lp_rng_below(&w->rng, (uint32_t)space->n);
        } else if (space->low && space->high && isfinite(space->high[j] - space->low[j])) {
            numbers[i] =
                space->low[j] + (space->high[j] - space->low[j]) * (float)lp_rng_uniform(&w->rng);
        }
    }
    return LP_OK;
}

static lp_status make_envs(work* w) {
    lp_envs_def def = lp_envs_def_default(w->type);
    def.count = w->steps;
    return lp_envs_create(w->ctx, &def, &w->envs);
}

static lp_status env_start(work* w) {
    w->update = env_update;
    lp_status status = make_envs(w);
    return status == LP_OK ? draw_actions(w) : status;
}

static void ppo_update(work* w) {
    lp_status status = lp_on_policy_step(w->trainer, NULL);
    if (w->status == LP_OK) w->status = status;
}

/* rl-zoo's settings for CartPole-v1. n_timesteps is longer than any measurement, so that the
 * schedules do not end. */
static lp_status ppo_start(work* w) {
    lp_on_policy_def def = lp_on_policy_def_default(LP_PPO);
    def.n_timesteps = 1000000000000;
    def.n_steps = 32;
    def.batch_size = 256;
    def.n_epochs = 20;
    def.gae_lambda = 0.8;
    def.gamma = 0.98;
    def.learning_rate = (lp_schedule){0.001, true};
    def.clip_range = (lp_schedule){0.2, true};
    const lp_policy_def policy_def = lp_policy_def_default(w->type);
    lp_policy* policy;
    w->update = ppo_update;
    w->steps = 8;
    lp_status status = make_envs(w);
    if (status == LP_OK) status = lp_policy_create(w->ctx, &policy_def, &policy);
    if (status == LP_OK) status = lp_on_policy_create(w->envs, policy, &def, &w->trainer);
    w->steps *= def.n_steps;
    return status;
}

/* What the context owns goes with it. */
static void end(work* w) {
    free(w->x);
    free(w->theta);
    free(w->p);
    free(w->x32);
    free(w->actions);
}

/* Runs `count` updates, fewer when one fails, the context is cancelled or it is later than `until`
 * (0: never). How many. */
static int run_updates(work* w, int count, double until) {
    int n = 0;
    for (; n < count && w->status == LP_OK && (until == 0 || cli_now() < until); n++) {
        if (lp_cancelled(w->ctx)) {
            w->status = lp_fail(w->ctx, LP_CANCELLED, "cancelled");
        } else {
            w->update(w);
        }
    }
    return n;
}

/* *median: seconds of an update, the median of batches of BATCH or, if updates are slow, of about
 * 10 ms. */
static lp_status measure(work* w, double seconds, double* median) {
    double* times = malloc(MAX_BATCHES * sizeof *times);
    if (!times) return LP_NOMEM;
    const double warm = cli_now();
    const int warmed = run_updates(w, WARM_UP, warm + 0.5 * seconds);
    const double batch = 0.01 * warmed / (cli_now() - warm);
    const int size = batch >= BATCH ? BATCH : batch <= 1 ? 1 : (int)batch;
    int n = 0;
    const double until = cli_now() + seconds;
    for (; w->status == LP_OK && n < MAX_BATCHES && (n == 0 || cli_now() < until); n++) {
        const double before = cli_now();
        run_updates(w, size, 0);
        times[n] = (cli_now() - before) / size;
    }
    if (w->status == LP_OK) *median = bench_median(times, n); /* n > 0 */
    free(times);
    return w->status;
}

static const struct {
    const char* name;
    lp_status (*start)(work*);
    int64_t k;    /* the default of --k; 0: an environment's */
    bool threads; /* whether more than one can help */
} benches[] = {{"linear", linear_start, 2, false},
               {"tape", tape_start, 3, false},
               {"env", env_start, 0, true},
               {"ppo", ppo_start, 0, true}};
enum { BENCHES = sizeof benches / sizeof *benches };

/* seconds: of an update */
static lp_status print_rate(const work* w, const char* name, double seconds, bool json) {
    const char* isa = lp_isa_name(lp_ctx_isa(w->ctx));
    const int threads = lp_ctx_threads(w->ctx);
    const double rate = (w->type ? (double)w->steps : 1.0) / seconds;
    if (json) {
        const bench_result result = {name, w->type ? "steps/s" : "updates/s", rate, seconds,
                                     (double)NAN};
        json_t* object = bench_object(w->ctx, &result);
        json_t* more = w->type
                           ? json_pack("{s:s, s:I}", "env", w->type->name, "n_envs",
                                       (json_int_t)lp_envs_count(w->envs))
                           : json_pack("{s:I, s:I}", "d", (json_int_t)w->d, "k", (json_int_t)w->k);
        json_object_update(object, more);
        json_decref(more);
        return cli_print_json(w->ctx, object, 6);
    }
    if (w->type) {
        printf("%s %s n_envs=%lld: %.0f steps/s (%.0f ns each, %s, %d thread%s)\n", name,
               w->type->name, (long long)lp_envs_count(w->envs), rate, 1e9 / rate, isa, threads,
               threads == 1 ? "" : "s");
    } else {
        printf("%s d=%lld k=%lld: %.0f updates/s (%.0f ns each, %s, 1 thread)\n", name,
               (long long)w->d, (long long)w->k, rate, 1e9 * seconds, isa);
    }
    return LP_OK;
}

/* Options of one kind of bench say nothing to another. */
static lp_status check_options(lp_ctx* ctx, const lp_options* options, int bench) {
    static const struct {
        const char *option, *bench; /* NULL: both linear and tape */
    } rows[] = {{"d", NULL}, {"k", NULL}, {"env", "env"}, {"n_envs", "env"}};
    const char* name = benches[bench].name;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const bool has = rows[i].bench ? strcmp(rows[i].bench, name) == 0 : benches[bench].k > 0;
        if (!has && lp_options_given(options, rows[i].option))
            return lp_fail(ctx, LP_INVALID, "bench %s has no option --%s", name, rows[i].option);
    }
    return benches[bench].threads || lp_ctx_threads(ctx) == 1
               ? LP_OK
               : lp_fail(ctx, LP_INVALID, "bench %s is of one thread", name);
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const char* name =
        lp_options_positionals(options) == 1 ? lp_options_positional(options, 0) : "";
    int bench = 0;
    while (bench < BENCHES && strcmp(name, benches[bench].name) != 0) bench++;
    if (bench == BENCHES) return verb_bench_lm.run(ctx, options);
    work w = {.ctx = ctx,
              .d = lp_options_given(options, "d") ? lp_options_int(options, "d") : 4,
              .k = lp_options_given(options, "k") ? lp_options_int(options, "k") : benches[bench].k,
              .steps = lp_options_int(options, "n_envs"),
              .rng = lp_rng_philox(0, LP_FOR_USER, 0, 0)};
    double seconds = 0;
    lp_status status = check_options(ctx, options, bench);
    if (status == LP_OK && benches[bench].k == 0)
        status = cli_env(ctx, lp_options_text(options, "env"), &w.type);
    if (status == LP_OK) status = benches[bench].start(&w);
    if (status == LP_OK) status = measure(&w, lp_options_real(options, "seconds"), &seconds);
    if (status == LP_OK) status = print_rate(&w, name, seconds, lp_options_flag(options, "json"));
    end(&w);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}

const verb* cli_bench_verb(int argc, char** argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (bench_is_lm(argv[i])) return &verb_bench_lm;
    }
    return &verb_bench;
}
