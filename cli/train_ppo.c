/* logpi train ppo --model M: PPO on a language model, the third program of "Policy Gradient 101".
 */
#include "train_lm.h"
#include <stdlib.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_train_ppo_lm = {
    .name = "train ppo",
    .summary = "tune a language model by PPO (--model)",
    .usage = "train ppo [--model MODEL] --prompt TEXT --reward contains:WORD [OPTIONS]",
    .scope = LP_SCOPE_PPO_LM,
    .threads = true,
    .isa = true,
    .run = run,
    .also = &verb_train_ppo};

enum { WINDOW = 128 }; /* samples that the closing means are over */

typedef struct sample {
    double reward, kl, length;
} sample;

/* A training run. */
typedef struct training {
    lm_run lm;
    int64_t batch_size;
    lp_ppo* ppo;
    sample recent[WINDOW]; /* of whole steps, the newest at (seen - 1) % WINDOW */
    int64_t seen;
} training;

static lp_status read_def(const training* r, lp_ppo_def* d) {
    const lp_options* o = r->lm.options;
    *d = lp_ppo_def_default();
    d->learning_rate = lp_options_real(o, "learning_rate");
    d->mini_batch_size = lp_options_int(o, "mini_batch_size");
    d->recompute = lp_options_flag(o, "recompute");
    d->micro_batch_size = lp_options_int(o, "micro_batch_size");
    d->ppo_epochs = lp_options_int(o, "ppo_epochs");
    d->adap_kl_ctrl = lp_options_flag(o, "adap_kl_ctrl");
    d->init_kl_coef = lp_options_real(o, "init_kl_coef");
    d->target = lp_options_real(o, "target");
    d->horizon = lp_options_real(o, "horizon");
    d->kl_penalty = (lp_kl_penalty)lp_options_choice(o, "kl_penalty");
    d->gamma = lp_options_real(o, "gamma");
    d->lam = lp_options_real(o, "lam");
    d->cliprange = lp_options_real(o, "cliprange");
    d->cliprange_value = lp_options_real(o, "cliprange_value");
    d->vf_coef = lp_options_real(o, "vf_coef");
    d->max_grad_norm = lp_options_real(o, "max_grad_norm");
    d->ratio_threshold = lp_options_real(o, "ratio_threshold");
    d->early_stopping = lp_options_flag(o, "early_stopping");
    d->target_kl = lp_options_real(o, "target_kl");
    d->whiten_rewards = lp_options_flag(o, "whiten_rewards");
    d->use_score_scaling = lp_options_flag(o, "use_score_scaling");
    d->use_score_norm = lp_options_flag(o, "use_score_norm");
    d->score_clip = lp_options_real(o, "score_clip");
    d->v_head_init = (lp_value_init)lp_options_choice(o, "v_head_init");
    d->seed = (uint64_t)lp_options_int(o, "seed");
    d->generate.max_new_tokens = lp_options_int(o, "max_new_tokens");
    d->generate.min_new_tokens = lp_options_int(o, "min_new_tokens");
    d->generate.temperature = lp_options_real(o, "temperature");
    d->generate.top_k = lp_options_int(o, "top_k");
    d->generate.top_p = lp_options_real(o, "top_p");
    d->generate.min_p = lp_options_real(o, "min_p");
    d->logp = (lp_logp)lp_options_choice(o, "logp");
    if (d->logp == LP_LOGP_TEMPERED && d->generate.temperature == 0)
        return lp_fail(
            r->lm.ctx, LP_INVALID,
            "--logp tempered divides logits by --temperature, which is 0: give a positive "
            "one, or --logp sampled or raw");
    if (r->batch_size % d->mini_batch_size)
        return lp_fail(r->lm.ctx, LP_INVALID,
                       "--mini_batch_size %lld does not divide --batch_size %lld",
                       (long long)d->mini_batch_size, (long long)r->batch_size);
    return LP_OK;
}

static const char* const files[] = {"model.safetensors",      "config.json",
                                    "tokenizer.json",         "tokenizer_config.json",
                                    "generation_config.json", "chat_template.jinja",
                                    "value_head.safetensors"};

static lp_status begin(training* r) {
    lp_ppo_def def;
    r->batch_size = lp_options_int(r->lm.options, "batch_size");
    lp_status status = read_def(r, &def);
    if (status == LP_OK)
        status = lm_begin(&r->lm, &def.generate, r->batch_size, true, files,
                          sizeof files / sizeof *files);
    if (status == LP_OK)
        status = lp_ppo_create(r->lm.model, r->lm.policy, r->lm.reference, &def, &r->ppo);
    return lm_make_folder(&r->lm, status);
}

enum { METRICS_ROOM = 64 };

/* The lists of a step in double, one behind the other: three of tokens, two of sequences. */
static double* step_lists(const training* r, const lp_ppo_dists* d) {
    double* lists = malloc((size_t)(3 * d->tokens + 2 * d->sequences + 1) * sizeof *lists);
    for (int64_t i = 0; lists && i < d->tokens; i++) {
        lists[i] = (double)d->log_probs[i];
        lists[d->tokens + i] = (double)d->ref_log_probs[i];
        lists[2 * d->tokens + i] = (double)d->advantages[i];
    }
    for (int64_t s = 0; lists && s < d->sequences; s++) {
        double* lengths = lists + 3 * d->tokens;
        lengths[s] = (double)(r->lm.batch.prompt_offsets[s + 1] - r->lm.batch.prompt_offsets[s]);
        lengths[d->sequences + s] =
            (double)(r->lm.batch.response_offsets[s + 1] - r->lm.batch.response_offsets[s]);
    }
    return lists;
}

static lp_status log_metrics(training* r, int64_t step, const lp_ppo_metrics* m) {
    lp_metric row[METRICS_ROOM];
    const lp_ppo_dists dists = lp_ppo_last_dists(r->ppo);
    double* lists = step_lists(r, &dists);
    if (!lists) return LP_NOMEM;
    const double* lengths = lists + 3 * dists.tokens;
    int n = 0;
    row[n++] = (lp_metric){.name = "step", .value = (double)step};
    for (int i = 0; i < lp_ppo_metrics_count() && n < METRICS_ROOM - 7; i++)
        row[n++] = (lp_metric){.name = lp_ppo_metrics_name(i), .value = lp_ppo_metrics_get(m, i)};
    const int scalars = n;
    row[n++] = (lp_metric){.name = "objective/kl_dist", .values = dists.kl, .n = dists.sequences};
    row[n++] = (lp_metric){.name = "env/reward_dist", .values = r->lm.scores, .n = r->batch_size};
    row[n++] = (lp_metric){.name = "objective/logprobs", .values = lists, .n = dists.tokens};
    row[n++] = (lp_metric){
        .name = "objective/ref_logprobs", .values = lists + dists.tokens, .n = dists.tokens};
    row[n++] = (lp_metric){
        .name = "ppo/policy/advantages", .values = lists + 2 * dists.tokens, .n = dists.tokens};
    row[n++] = (lp_metric){.name = "tokens/queries_dist", .values = lengths, .n = dists.sequences};
    row[n++] = (lp_metric){
        .name = "tokens/responses_dist", .values = lengths + dists.sequences, .n = dists.sequences};
    const lp_status status = lm_log(&r->lm, row, scalars, n);
    free(lists);
    return status;
}

/* A line about a step of several. */
static void print_line(const training* r, int64_t step, const lp_ppo_metrics* m) {
    if (lm_is_single(&r->lm) || lp_options_flag(r->lm.options, "json")) return;
    fprintf(stderr, "step %lld/%lld  reward %.3f  kl %.3f  length %.1f  loss %.4f  %.1f s\n",
            (long long)step, (long long)r->lm.count, cli_plain(m->reward_mean, 3),
            cli_plain(m->objective_kl, 3), m->responses_len_mean, cli_plain(m->loss_total, 4),
            m->time_generate + m->time_total);
}

static void remember(training* r) {
    const lp_ppo_dists dists = lp_ppo_last_dists(r->ppo);
    for (int64_t s = 0; s < dists.sequences; s++)
        r->recent[r->seen++ % WINDOW] =
            (sample){.reward = r->lm.scores[s],
                     .kl = dists.kl[s],
                     .length = (double)(r->lm.batch.response_offsets[s + 1] -
                                        r->lm.batch.response_offsets[s])};
}

static lp_status one_step(training* r, int64_t step) {
    lp_ppo_metrics m;
    lp_status status = lm_prompts(&r->lm, step - 1, r->batch_size);
    if (status == LP_OK) status = lp_ppo_generate(r->ppo, &r->lm.packed, &r->lm.batch);
    if (status == LP_OK) status = lm_score(&r->lm);
    if (status == LP_OK) status = lp_ppo_step(r->ppo, &r->lm.batch, r->lm.scores, NULL, &m);
    if (status != LP_OK) return status;
    remember(r);
    status = log_metrics(r, step, &m);
    if (status == LP_OK) print_line(r, step, &m);
    return status;
}

static void print_summary(const training* r) {
    const int64_t count = r->seen < WINDOW ? r->seen : WINDOW;
    if (r->lm.count == 1 || lp_options_flag(r->lm.options, "json")) return;
    const double n = (double)count;
    sample mean = {0};
    for (int64_t i = 0; i < count; i++) {
        mean.reward += r->recent[i].reward / n;
        mean.kl += r->recent[i].kl / n;
        mean.length += r->recent[i].length / n;
    }
    printf("mean reward of the last %lld samples: %.4f, KL %.1f, length %.1f\n", (long long)count,
           mean.reward, cli_plain(mean.kl, 1), mean.length);
}

static lp_status save(void* user, const char* folder) { return lp_ppo_save(user, folder); }

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("train ppo takes no argument \"%.60s\"",
                         lp_options_positional(options, 0));
    training r = {.lm = {.ctx = ctx,
                         .options = options,
                         .algorithm = "ppo",
                         .count = lp_options_int(options, "steps")}};
    lp_status status = begin(&r);
    for (int64_t step = 1; status == LP_OK && step <= r.lm.count; step++)
        status = one_step(&r, step);
    const int code = lm_finish(&r.lm, status, r.ppo ? lp_ppo_steps(r.ppo) : 0, save, r.ppo);
    if (status == LP_OK) print_summary(&r);
    lm_end(&r.lm);
    return code;
}
