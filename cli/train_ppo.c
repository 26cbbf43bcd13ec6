/* logpi train ppo --model M: PPO on a language model, the third program of "Policy Gradient 101".
 */
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    lp_ctx* ctx;
    const lp_options* options;
    const char* word; /* of contains:WORD */
    texts prompts;
    int64_t batch_size;
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* ppo;
    lp_prompts packed; /* of a step */
    lp_generation batch;
    lp_text text;
    double* scores;        /* [batch_size] */
    sample recent[WINDOW]; /* of whole steps, the newest at (seen - 1) % WINDOW */
    int64_t seen;
    run_folder folder; /* of --output_dir */
    bool begun;        /* the folder is made: what is learnt will be kept */
} training;

static lp_status read_def(const training* r, lp_ppo_def* d) {
    const lp_options* o = r->options;
    *d = lp_ppo_def_default();
    d->learning_rate = lp_options_real(o, "learning_rate");
    d->mini_batch_size = lp_options_int(o, "mini_batch_size");
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
    if (r->batch_size % d->mini_batch_size)
        return lp_fail(r->ctx, LP_INVALID,
                       "--mini_batch_size %lld does not divide --batch_size %lld",
                       (long long)d->mini_batch_size, (long long)r->batch_size);
    return LP_OK;
}

static lp_status read_reward(training* r) {
    static const char prefix[] = "contains:";
    const char* reward = lp_options_text(r->options, "reward");
    if (!reward) return lp_fail(r->ctx, LP_INVALID, "a reward is needed: --reward contains:WORD");
    if (strncmp(reward, prefix, sizeof prefix - 1) != 0 || !reward[sizeof prefix - 1])
        return lp_fail(r->ctx, LP_INVALID, "unknown reward \"%.60s\"; known: contains:WORD",
                       reward);
    r->word = reward + sizeof prefix - 1;
    return LP_OK;
}

static const char* const files[] = {"model.safetensors",      "config.json",
                                    "tokenizer.json",         "tokenizer_config.json",
                                    "generation_config.json", "chat_template.jinja",
                                    "value_head.safetensors"};

static lp_status check_folder(training* r) {
    const char* path = lp_options_text(r->options, "output_dir");
    if (!path) return LP_OK;
    const lp_status status = cli_folder_name(&r->folder, path, files, sizeof files / sizeof *files);
    return status == LP_OK
               ? cli_folder_check(r->ctx, &r->folder, lp_options_flag(r->options, "overwrite"))
               : status;
}

/* Everything that can be wrong is found before training, most of it before weights are loaded.
 * Nothing is made for a mistake, and no old run removed. */
static lp_status begin(training* r) {
    lp_ppo_def def;
    r->batch_size = lp_options_int(r->options, "batch_size");
    lp_status status = read_reward(r);
    if (status == LP_OK) status = read_def(r, &def);
    if (status == LP_OK) status = cli_prompts(r->ctx, r->options, &r->prompts);
    if (status == LP_OK)
        status = cli_model_open(r->ctx, lp_options_text(r->options, "model"), &r->model);
    if (status == LP_OK)
        status = cli_pack(r->ctx, r->options, r->model, &def.generate, &r->prompts, &r->packed);
    if (status == LP_OK) status = check_folder(r);
    r->scores = calloc((size_t)r->batch_size, sizeof *r->scores);
    if (status == LP_OK && !r->scores) status = LP_NOMEM;
    if (status == LP_OK) status = lp_model_load_weights(r->model, true, &r->policy);
    status = cli_go_on(r->ctx, status);
    if (status == LP_OK) status = lp_weights_clone(r->policy, false, &r->reference);
    status = cli_go_on(r->ctx, status);
    if (status == LP_OK) status = lp_ppo_create(r->model, r->policy, r->reference, &def, &r->ppo);
    status = cli_go_on(r->ctx, status);
    if (status == LP_OK && r->folder.path)
        status = cli_folder_make(r->ctx, &r->folder, lp_options_flag(r->options, "overwrite"));
    r->begun = status == LP_OK;
    return status;
}

/* The prompts of step i: batch_size of them, going round. */
static lp_status step_prompts(training* r, int64_t step) {
    r->packed.tokens.count = 0;
    r->packed.count = 0;
    lp_status status = LP_OK;
    for (int64_t j = 0; status == LP_OK && j < r->batch_size; j++)
        status = lp_prompts_add(r->ctx, &r->packed, r->model,
                                r->prompts.items[(step * r->batch_size + j) % r->prompts.count],
                                lp_options_flag(r->options, "chat"));
    return status;
}

/* Response s as text, without special tokens, in r->text. */
static lp_status decode(training* r, int64_t s) {
    const lp_generation* g = &r->batch;
    r->text.bytes = 0;
    lp_status status = lp_text_add(r->ctx, &r->text, "", 0); /* even an empty response has data */
    if (status != LP_OK) return status;
    return lp_tokenizer_decode(lp_model_tokenizer(r->model),
                               g->responses.ids + g->response_offsets[s],
                               g->response_offsets[s + 1] - g->response_offsets[s],
                               LP_DECODE_SKIP_SPECIAL | LP_DECODE_LOSSY, &r->text);
}

/* A response may have zero bytes, a word has none: the pieces between them are searched. */
static double reward(const lp_text* text, const char* word) {
    double found = 0; /* NaN: out of memory */
    for (size_t at = 0; found == 0 && at <= text->bytes; at += strlen(text->data + at) + 1)
        found = lp_reward_contains(text->data + at, word);
    return found;
}

static lp_status score(training* r) {
    for (int64_t s = 0; s < r->batch.sequences; s++) {
        lp_status status = decode(r, s);
        if (status != LP_OK) return status;
        r->scores[s] = reward(&r->text, r->word);
        if (isnan(r->scores[s])) return lp_fail(r->ctx, LP_NOMEM, "out of memory for the reward");
        if (!lp_options_flag(r->options, "json") && lp_options_int(r->options, "steps") == 1) {
            fputs("Generated response: ", stdout);
            cli_print_response(r->text.data, r->text.bytes);
            printf("\nReward: %.1f\n", r->scores[s]);
            if ((status = cli_flush(r->ctx)) != LP_OK) return status;
        }
    }
    return LP_OK;
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
        lengths[s] = (double)(r->batch.prompt_offsets[s + 1] - r->batch.prompt_offsets[s]);
        lengths[d->sequences + s] =
            (double)(r->batch.response_offsets[s + 1] - r->batch.response_offsets[s]);
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
    row[n++] = (lp_metric){.name = "objective/kl_dist", .values = dists.kl, .n = dists.sequences};
    row[n++] = (lp_metric){.name = "env/reward_dist", .values = r->scores, .n = r->batch_size};
    row[n++] = (lp_metric){.name = "objective/logprobs", .values = lists, .n = dists.tokens};
    row[n++] = (lp_metric){
        .name = "objective/ref_logprobs", .values = lists + dists.tokens, .n = dists.tokens};
    row[n++] = (lp_metric){
        .name = "ppo/policy/advantages", .values = lists + 2 * dists.tokens, .n = dists.tokens};
    row[n++] = (lp_metric){.name = "tokens/queries_dist", .values = lengths, .n = dists.sequences};
    row[n++] = (lp_metric){
        .name = "tokens/responses_dist", .values = lengths + dists.sequences, .n = dists.sequences};
    const lp_status status = cli_folder_log(r->ctx, &r->folder, row, n);
    free(lists);
    return status;
}

static lp_status print_metrics(const training* r, int64_t step, const lp_ppo_metrics* m) {
    if (lp_options_flag(r->options, "json")) {
        json_t* object = json_pack("{s:I}", "step", (json_int_t)step);
        for (int i = 0; i < lp_ppo_metrics_count(); i++)
            json_object_set_new(object, lp_ppo_metrics_name(i),
                                cli_json_number(lp_ppo_metrics_get(m, i)));
        return cli_print_json(r->ctx, object, 9);
    }
    if (lp_options_int(r->options, "steps") == 1) {
        puts("PPO update step completed.");
        for (int i = 0; i < lp_ppo_metrics_count(); i++) {
            const double x = lp_ppo_metrics_get(m, i);
            printf("  %-28s %.6g\n", lp_ppo_metrics_name(i), cli_plain(x, 300));
        }
    } else {
        fprintf(stderr, "step %lld/%lld  reward %.3f  kl %.3f  length %.1f  loss %.4f  %.1f s\n",
                (long long)step, (long long)lp_options_int(r->options, "steps"),
                cli_plain(m->reward_mean, 3), cli_plain(m->objective_kl, 3), m->responses_len_mean,
                cli_plain(m->loss_total, 4), m->time_generate + m->time_total);
    }
    return LP_OK;
}

static void remember(training* r) {
    const lp_ppo_dists dists = lp_ppo_last_dists(r->ppo);
    for (int64_t s = 0; s < dists.sequences; s++)
        r->recent[r->seen++ % WINDOW] = (sample){
            .reward = r->scores[s],
            .kl = dists.kl[s],
            .length = (double)(r->batch.response_offsets[s + 1] - r->batch.response_offsets[s])};
}

static lp_status one_step(training* r, int64_t step) {
    lp_ppo_metrics m;
    lp_status status = step_prompts(r, step - 1);
    if (status == LP_OK) status = lp_ppo_generate(r->ppo, &r->packed, &r->batch);
    if (status == LP_OK) status = score(r);
    if (status == LP_OK) status = lp_ppo_step(r->ppo, &r->batch, r->scores, NULL, &m);
    if (status != LP_OK) return status;
    remember(r);
    if (r->folder.metrics) status = log_metrics(r, step, &m);
    return status == LP_OK ? print_metrics(r, step, &m) : status;
}

static void print_summary(const training* r) {
    const int64_t count = r->seen < WINDOW ? r->seen : WINDOW;
    if (lp_options_int(r->options, "steps") == 1 || lp_options_flag(r->options, "json")) return;
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

/* Ends a run. What was learnt so far is kept, also when a signal or an error ended it: a step that
 * fails leaves no trace in the weights. */
static int finish(training* r, lp_status status) {
    if (!r->folder.path || !r->begun) return status == LP_OK ? EXIT_OK : cli_fail(r->ctx, status);
    run_result result = {.noun = "weights are", .save = save, .user = r->ppo};
    const long long steps = lp_ppo_steps(r->ppo);
    if (steps > 0)
        snprintf(result.what, sizeof result.what, "the weights after %lld whole step%s are", steps,
                 steps == 1 ? "" : "s");
    return cli_folder_finish(r->ctx, &r->folder, &result, status);
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("train ppo takes no argument \"%.60s\"",
                         lp_options_positional(options, 0));
    training r = {.ctx = ctx, .options = options};
    lp_status status = begin(&r);
    for (int64_t step = 1; status == LP_OK && step <= lp_options_int(options, "steps"); step++)
        status = one_step(&r, step);
    const int code = finish(&r, status);
    if (status == LP_OK) print_summary(&r);
    cli_texts_free(&r.prompts);
    free(r.scores);
    cli_folder_free(&r.folder);
    return code;
}
