/* logpi train reinforce|a2c|ppo --env ENV: learning to act, with the names and defaults of
 * Stable-Baselines3. A run is a folder: config.yaml, metrics.jsonl, final/policy.safetensors. */
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run_reinforce(lp_ctx* ctx, const lp_options* options);
static int run_a2c(lp_ctx* ctx, const lp_options* options);
static int run_ppo(lp_ctx* ctx, const lp_options* options);

const verb verb_train_reinforce = {.name = "train reinforce",
                                   .summary = "learn to act in an environment by REINFORCE",
                                   .usage = "train reinforce --env ENV [OPTIONS]",
                                   .scope = LP_SCOPE_REINFORCE,
                                   .threads = true,
                                   .isa = true,
                                   .run = run_reinforce};
const verb verb_train_a2c = {.name = "train a2c",
                             .summary = "learn to act in an environment by A2C",
                             .usage = "train a2c --env ENV [OPTIONS]",
                             .scope = LP_SCOPE_A2C,
                             .threads = true,
                             .isa = true,
                             .run = run_a2c};
const verb verb_train_ppo = {.name = "train ppo",
                             .summary = "learn to act in an environment by PPO (--env)",
                             .usage = "train ppo --env ENV [OPTIONS]",
                             .scope = LP_SCOPE_PPO,
                             .threads = true,
                             .isa = true,
                             .run = run_ppo,
                             .also = &verb_train_ppo_lm};

/* A training run. */
typedef struct training {
    lp_ctx* ctx;
    const lp_options* options;
    lp_algorithm algorithm;
    const lp_env_type* type;
    lp_envs* envs;
    lp_policy* policy;
    lp_on_policy* trainer;
    run_folder folder;
    char* file;                /* DIR/final/policy.safetensors */
    double began, seconds;     /* of training, without evaluation */
    lp_on_policy_metrics last; /* of the last whole step */
    progress progress;
} training;

/* ---- settings -------------------------------------------------------------------------------- */

static lp_schedule schedule(const lp_options* o, const char* name) {
    lp_schedule s;
    s.initial = lp_options_schedule(o, name, &s.linear);
    return s;
}

static lp_status read_policy(const training* r, lp_policy_def* d) {
    const lp_options* o = r->options;
    const int most = LP_MLP_LAYERS - 1;
    *d = lp_policy_def_default(r->type);
    d->hidden_layers = lp_options_ints(o, "net_arch", d->hidden, most);
    d->activation = (lp_activation)lp_options_choice(o, "activation_fn");
    d->seed = (uint64_t)lp_options_int(o, "seed");
    return d->hidden_layers <= most
               ? LP_OK
               : lp_fail(r->ctx, LP_INVALID, "--net_arch has %d hidden layers: %d at most",
                         d->hidden_layers, most);
}

/* What only PPO has; a standardised advantage needs two to compare, as in Stable-Baselines3. */
static lp_status read_ppo(const training* r, lp_on_policy_def* d) {
    const lp_options* o = r->options;
    d->batch_size = lp_options_int(o, "batch_size");
    d->n_epochs = lp_options_int(o, "n_epochs");
    d->clip_range = schedule(o, "clip_range");
    d->clip_range_vf = schedule(o, "clip_range_vf");
    d->target_kl = lp_options_real(o, "target_kl");
    return d->batch_size > 1 || !d->normalize_advantage
               ? LP_OK
               : lp_fail(r->ctx, LP_INVALID,
                         "--batch_size must be greater than 1, or --no-normalize_advantage");
}

static lp_status read_def(const training* r, lp_on_policy_def* d) {
    static const lp_optim_kind optimizers[] = {LP_ADAM,
                                               LP_RMSPROP}; /* as the words of --optimizer */
    const lp_options* o = r->options;
    *d = lp_on_policy_def_default(r->algorithm);
    d->n_timesteps = lp_options_int(o, "n_timesteps");
    d->n_steps = lp_options_int(o, "n_steps");
    d->learning_rate = schedule(o, "learning_rate");
    d->gamma = lp_options_real(o, "gamma");
    d->gae_lambda = lp_options_real(o, "gae_lambda");
    d->normalize_advantage = lp_options_flag(o, "normalize_advantage");
    d->ent_coef = lp_options_real(o, "ent_coef");
    d->vf_coef = lp_options_real(o, "vf_coef");
    d->max_grad_norm = lp_options_real(o, "max_grad_norm");
    d->optimizer = optimizers[lp_options_choice(o, "optimizer")];
    d->optimizer_eps = lp_options_real(o, "optimizer_eps");
    d->seed = (uint64_t)lp_options_int(o, "seed");
    if (d->normalize_advantage && d->n_steps * lp_options_int(o, "n_envs") < 2)
        return lp_fail(
            r->ctx, LP_INVALID,
            "--n_steps times --n_envs must be greater than 1, or --no-normalize_advantage");
    return r->algorithm == LP_PPO ? read_ppo(r, d) : LP_OK;
}

static lp_status make_trainer(training* r) {
    const char* name = lp_options_text(r->options, "env");
    if (!name)
        return lp_fail(r->ctx, LP_INVALID,
                       "an environment is needed: --env ENV; logpi envs lists them");
    lp_status status = cli_env(r->ctx, name, &r->type);
    if (status != LP_OK) return status;
    lp_policy_def policy;
    lp_on_policy_def def;
    lp_envs_def envs = lp_envs_def_default(r->type);
    envs.count = lp_options_int(r->options, "n_envs");
    envs.seed = (uint64_t)lp_options_int(r->options, "seed");
    status = read_policy(r, &policy);
    if (status == LP_OK) status = read_def(r, &def);
    if (status == LP_OK) status = lp_envs_create(r->ctx, &envs, &r->envs);
    if (status == LP_OK) status = lp_policy_create(r->ctx, &policy, &r->policy);
    if (status == LP_OK) status = lp_on_policy_create(r->envs, r->policy, &def, &r->trainer);
    return status;
}

/* As Stable-Baselines3, which goes on too: rl-zoo has such settings. */
static void warn_of_sizes(const training* r) {
    if (r->algorithm != LP_PPO) return;
    const long long steps = lp_options_int(r->options, "n_steps"),
                    envs = lp_options_int(r->options, "n_envs"),
                    batch = lp_options_int(r->options, "batch_size"), rollout = steps * envs;
    if (rollout % batch == 0) return;
    if (batch > rollout) {
        cli_say(0,
                "warning: --batch_size %lld is larger than a rollout, n_steps %lld * n_envs %lld = "
                "%lld: every minibatch "
                "has %lld steps",
                batch, steps, envs, rollout, rollout);
    } else {
        cli_say(0,
                "warning: --batch_size %lld does not divide a rollout, n_steps %lld * n_envs %lld "
                "= %lld: the last of "
                "every %lld minibatches has %lld steps",
                batch, steps, envs, rollout, rollout / batch + 1, rollout % batch);
    }
}

/* ---- the folder of the run ------------------------------------------------------------------- */

static const char* const files[] = {"policy.safetensors"};

/* Writes the settings. */
static lp_status save_config(void* user, const char* path) {
    const training* r = user;
    const lp_setting settings[] = {{"algo", lp_algorithm_name(r->algorithm)},
                                   {"output_dir", r->folder.path},
                                   {"isa", lp_isa_name(lp_ctx_isa(r->ctx))}};
    return lp_options_save(r->ctx, r->options, settings, sizeof settings / sizeof *settings, path);
}

static lp_status name_folder(training* r) {
    const char* given = lp_options_text(r->options, "output_dir");
    char* standard = NULL;
    if (!given &&
        asprintf(&standard, "runs/%s-%s-seed%lld", r->type->name, lp_algorithm_name(r->algorithm),
                 (long long)lp_options_int(r->options, "seed")) < 0)
        return LP_NOMEM;
    lp_status status = cli_folder_name(&r->folder, given ? given : standard, files, 1);
    if (status == LP_OK && asprintf(&r->file, "%s/%s", r->folder.final, files[0]) < 0) {
        r->file = NULL;
        status = LP_NOMEM;
    }
    r->folder.save_config = save_config;
    r->folder.user = r;
    free(standard);
    return status;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static double rate(const training* r) {
    return (double)lp_on_policy_timesteps(r->trainer) / r->seconds;
}

/* The name under which Stable-Baselines3 logs a metric of this run; NULL: it does not. A2C has one
 * update, of the whole rollout and without a ratio, and another word for its loss. */
static const char* metric_name(const training* r, int index) {
    static const char* const of_ppo[] = {"train/clip_range", "train/loss", "train/approx_kl",
                                         "train/clip_fraction"};
    static const char* const optional[] = {"train/std",
                                           "train/clip_range_vf"}; /* of a box; when it is set */
    const char* name = lp_on_policy_metrics_name(index);
    for (size_t i = 0; i < sizeof optional / sizeof *optional; i++) {
        if (strcmp(name, optional[i]) == 0 && isnan(lp_on_policy_metrics_get(&r->last, index)))
            return NULL;
    }
    if (r->algorithm == LP_PPO) return name;
    for (size_t i = 0; i < sizeof of_ppo / sizeof *of_ppo; i++) {
        if (strcmp(name, of_ppo[i]) == 0) return NULL;
    }
    return strcmp(name, "train/policy_gradient_loss") == 0 ? "train/policy_loss" : name;
}

enum { METRICS_ROOM = 64 };

static lp_status log_metrics(training* r) {
    lp_metric row[METRICS_ROOM];
    int n = 0;
    for (int i = 0; i < lp_on_policy_metrics_count() && n < METRICS_ROOM - 2; i++) {
        const char* name = metric_name(r, i);
        if (name)
            row[n++] = (lp_metric){.name = name, .value = lp_on_policy_metrics_get(&r->last, i)};
    }
    row[n++] = (lp_metric){.name = "time/fps", .value = rate(r)};
    row[n++] = (lp_metric){.name = "time/time_elapsed", .value = r->seconds};
    return cli_folder_log(r->ctx, &r->folder, row, n);
}

/* A number with its digits, or "-" while there is none. */
static const char* shown(char* to, size_t bytes, int digits, double x) {
    if (isnan(x)) return "-";
    snprintf(to, bytes, "%.*f", digits, cli_plain(x, digits));
    return to;
}

static void show_progress(training* r) {
    const int64_t interval = lp_options_int(r->options, "log_interval");
    const lp_on_policy_metrics* m = &r->last;
    char reward[40], length[40], change[40];
    if (interval == 0 || (int64_t)m->iterations % interval != 0) return;
    const bool ppo =
        r->algorithm ==
        LP_PPO; /* the others make one update: it is measured before anything has moved */
    cli_progress(&r->progress, "step %.0f/%lld  return %s  length %s  %s %s  %.0f steps/s",
                 m->total_timesteps, (long long)lp_options_int(r->options, "n_timesteps"),
                 shown(reward, sizeof reward, 1, m->ep_rew_mean),
                 shown(length, sizeof length, 1, m->ep_len_mean), ppo ? "kl" : "entropy",
                 shown(change, sizeof change, 4, ppo ? m->approx_kl : -m->entropy_loss), rate(r));
}

static lp_status train(training* r) {
    lp_status status = LP_OK;
    r->began = cli_now();
    r->progress.every = lp_options_given(r->options, "log_interval");
    while (status == LP_OK &&
           lp_on_policy_timesteps(r->trainer) < lp_options_int(r->options, "n_timesteps")) {
        status = lp_on_policy_step(r->trainer, &r->last);
        if (status != LP_OK) break;
        r->seconds = cli_now() - r->began;
        show_progress(r);
        status = log_metrics(r);
    }
    cli_progress_end(&r->progress);
    return status;
}

/* ---- the end --------------------------------------------------------------------------------- */

static lp_status save(void* user, const char* folder) {
    const training* r = user;
    char* file;
    if (asprintf(&file, "%s/%s", folder, files[0]) < 0) return LP_NOMEM;
    const lp_status status = lp_policy_save(r->policy, r->type, file);
    free(file);
    return status;
}

/* Ends training. A step that fails leaves no trace in the policy. */
static int finish(training* r, lp_status status) {
    run_result result = {.noun = "policy is", .save = save, .user = r};
    if (r->last.total_timesteps > 0)
        snprintf(result.what, sizeof result.what, "the policy after %.0f steps is",
                 r->last.total_timesteps);
    return cli_folder_finish(r->ctx, &r->folder, &result, status);
}

static lp_status print_json(const training* r, const lp_evaluation* e) {
    const lp_on_policy_metrics* m = &r->last;
    json_t* object = json_pack(
        "{s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:s}", "env",
        r->type->name, "algorithm", lp_algorithm_name(r->algorithm), "seed",
        (json_int_t)lp_options_int(r->options, "seed"), "timesteps", (json_int_t)m->total_timesteps,
        "iterations", (json_int_t)m->iterations, "episodes", (json_int_t)m->episodes, "seconds",
        cli_json_number(r->seconds), "steps_per_second", cli_json_number(rate(r)), "ep_rew_mean",
        cli_json_number(m->ep_rew_mean), "ep_len_mean", cli_json_number(m->ep_len_mean),
        "eval_mean", cli_json_number(e->episodes > 0 ? e->mean_reward : (double)NAN), "eval_std",
        cli_json_number(e->episodes > 0 ? e->std_reward : (double)NAN), "eval_episodes",
        (json_int_t)e->episodes, "policy", r->file);
    return cli_print_json(r->ctx, object, 9);
}

static void print_text(const training* r, const lp_evaluation* e) {
    const lp_on_policy_metrics* m = &r->last;
    const int64_t recent = m->episodes < 100 ? (int64_t)m->episodes : 100;
    printf("%.0f steps in %.1f s, %.0f steps/s\n", m->total_timesteps, r->seconds, rate(r));
    if (recent > 0) {
        printf("mean return of the last %lld episodes: %.2f, length %.1f\n", (long long)recent,
               cli_plain(m->ep_rew_mean, 2), m->ep_len_mean);
    } else {
        puts("no episode has ended");
    }
    if (e->episodes > 0)
        printf("evaluation over %lld episodes: mean %.2f, std %.2f\n", (long long)e->episodes,
               cli_plain(e->mean_reward, 2), e->std_reward);
}

static lp_status report(const training* r) {
    const evaluation how = {lp_options_int(r->options, "eval_episodes"), EVAL_ENVS,
                            lp_options_int(r->options, "seed"), true};
    lp_evaluation e = {0};
    lp_status status =
        how.episodes > 0 ? cli_evaluate(r->ctx, r->policy, r->type, &how, &e) : LP_OK;
    if (status != LP_OK) return status;
    if (lp_options_flag(r->options, "json")) return print_json(r, &e);
    print_text(r, &e);
    return LP_OK;
}

static int run(lp_ctx* ctx, const lp_options* options, lp_algorithm algorithm) {
    const char* name = lp_algorithm_name(algorithm);
    if (lp_options_positionals(options) > 0)
        return cli_usage("train %s takes no argument \"%.60s\"", name,
                         lp_options_positional(options, 0));
    training r = {.ctx = ctx, .options = options, .algorithm = algorithm};
    lp_status status =
        make_trainer(&r); /* everything that can be wrong is found before a folder is made */
    if (status == LP_OK) status = name_folder(&r);
    if (status == LP_OK)
        status = cli_folder_check(ctx, &r.folder, lp_options_flag(options, "overwrite"));
    if (status == LP_OK)
        status = cli_folder_make(ctx, &r.folder, lp_options_flag(options, "overwrite"));
    int code;
    if (status != LP_OK) {
        code = cli_fail(ctx, status);
    } else {
        warn_of_sizes(&r);
        code = finish(&r, train(&r));
        if (code == EXIT_OK && (status = report(&r)) != LP_OK) code = cli_fail(ctx, status);
    }
    cli_folder_free(&r.folder);
    free(r.file);
    return code;
}

static int run_reinforce(lp_ctx* ctx, const lp_options* options) {
    return run(ctx, options, LP_REINFORCE);
}
static int run_a2c(lp_ctx* ctx, const lp_options* options) { return run(ctx, options, LP_A2C); }
static int run_ppo(lp_ctx* ctx, const lp_options* options) { return run(ctx, options, LP_PPO); }
