/* logpi train grpo --model M: GRPO on a language model. */
#include "train_lm.h"
#include <math.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_train_grpo = {
    .name = "train grpo",
    .summary = "tune a language model by GRPO (--model)",
    .usage = "train grpo [--model MODEL] --prompts FILE --reward contains:WORD [OPTIONS]",
    .scope = LP_SCOPE_GRPO,
    .threads = true,
    .isa = true,
    .run = run};

/* A training run, and what its closing line is about: the last steps that made so many samples. */
enum { WINDOW = 128 };
typedef struct training {
    lm_run lm;
    int64_t num_prompts;
    lp_grpo* grpo;
    double recent[WINDOW]; /* rewards of whole steps, the newest at (seen - 1) % WINDOW */
    int64_t seen;
} training;

static lp_grpo_def read_def(const lp_options* o) {
    lp_grpo_def d = lp_grpo_def_default();
    d.num_generations = lp_options_int(o, "num_generations");
    d.num_iterations = lp_options_int(o, "num_iterations");
    d.loss_type = (lp_loss_type)lp_options_choice(o, "loss_type");
    d.scale_rewards = (lp_scale_rewards)lp_options_choice(o, "scale_rewards");
    d.epsilon = lp_options_real(o, "epsilon");
    d.epsilon_high = lp_options_real(o, "epsilon_high");
    d.beta = lp_options_real(o, "beta");
    d.use_bias_correction_kl = lp_options_flag(o, "use_bias_correction_kl");
    d.exact_kl = lp_options_flag(o, "exact_kl");
    d.per_device_train_batch_size = lp_options_int(o, "per_device_train_batch_size");
    d.recompute = lp_options_flag(o, "recompute");
    d.micro_batch_size = lp_options_int(o, "micro_batch_size");
    d.learning_rate = lp_options_real(o, "learning_rate");
    d.max_steps =
        lp_options_choice(o, "lr_scheduler_type") == 0 ? lp_options_int(o, "max_steps") : 0;
    d.adam_beta1 = lp_options_real(o, "adam_beta1");
    d.adam_beta2 = lp_options_real(o, "adam_beta2");
    d.adam_epsilon = lp_options_real(o, "adam_epsilon");
    d.weight_decay = lp_options_real(o, "weight_decay");
    d.max_grad_norm = lp_options_real(o, "max_grad_norm");
    d.seed = (uint64_t)lp_options_int(o, "seed");
    d.generate.max_new_tokens = lp_options_int(o, "max_completion_length");
    d.generate.min_new_tokens = lp_options_int(o, "min_new_tokens");
    d.generate.temperature = lp_options_real(o, "temperature");
    d.generate.top_k = lp_options_int(o, "top_k");
    d.generate.top_p = lp_options_real(o, "top_p");
    d.generate.min_p = lp_options_real(o, "min_p");
    d.logp = (lp_logp)lp_options_choice(o, "logp");
    return d;
}

static lp_status check_def(const training* r, const lp_grpo_def* d) {
    const int64_t steps = lp_options_int(r->lm.options, "max_steps");
    const int64_t sequences = r->num_prompts * d->num_generations;
    if (steps % d->num_iterations)
        return lp_fail(r->lm.ctx, LP_INVALID,
                       "--num_iterations %lld does not divide --max_steps "
                       "%lld, which counts updates",
                       (long long)d->num_iterations, (long long)steps);
    if (d->per_device_train_batch_size > 0 && sequences % d->per_device_train_batch_size)
        return lp_fail(
            r->lm.ctx, LP_INVALID,
            "--per_device_train_batch_size %lld does not divide the batch: %lld prompts, "
            "%lld generations of each",
            (long long)d->per_device_train_batch_size, (long long)r->num_prompts,
            (long long)d->num_generations);
    return LP_OK;
}

static const char* const files[] = {"model.safetensors",      "config.json",
                                    "tokenizer.json",         "tokenizer_config.json",
                                    "generation_config.json", "chat_template.jinja"};

static lp_status begin(training* r) {
    const lp_grpo_def def = read_def(r->lm.options);
    r->num_prompts = lp_options_int(r->lm.options, "num_prompts");
    r->lm.count = lp_options_int(r->lm.options, "max_steps") / def.num_iterations;
    lp_status status = check_def(r, &def);
    if (status == LP_OK)
        status = lm_begin(&r->lm, &def.generate, r->num_prompts * def.num_generations,
                          def.beta > 0 || def.exact_kl, files, sizeof files / sizeof *files);
    if (status == LP_OK)
        status = lp_grpo_create(r->lm.model, r->lm.policy, r->lm.reference, &def, &r->grpo);
    return lm_make_folder(&r->lm, status);
}

enum { METRICS_ROOM = 64 };

static lp_status log_metrics(training* r, int64_t step, const lp_grpo_metrics* m) {
    lp_metric row[METRICS_ROOM];
    int n = 0;
    row[n++] = (lp_metric){.name = "step", .value = (double)step};
    for (int i = 0; i < lp_grpo_metrics_count() && n < METRICS_ROOM - 2; i++)
        row[n++] = (lp_metric){.name = lp_grpo_metrics_name(i), .value = lp_grpo_metrics_get(m, i)};
    /* of each reward function by itself; there is one */
    row[n++] = (lp_metric){.name = "rewards/contains/mean", .value = m->reward};
    row[n++] = (lp_metric){.name = "rewards/contains/std", .value = m->reward_std};
    return lm_log(&r->lm, row, n, n);
}

/* A line about a step of several. */
static void print_line(const training* r, int64_t step, const lp_grpo_metrics* m) {
    if (lm_is_single(&r->lm) || lp_options_flag(r->lm.options, "json")) return;
    fprintf(stderr, "step %lld/%lld  reward %.3f", (long long)step, (long long)r->lm.count,
            cli_plain(m->reward, 3));
    if (!isnan(m->kl)) fprintf(stderr, "  kl %.4f", cli_plain(m->kl, 4));
    fprintf(stderr, "  length %.1f  entropy %.3f  loss %.4f  %.1f s\n", m->mean_length,
            cli_plain(m->entropy, 3), cli_plain(m->loss, 4), m->step_time);
}

static lp_status one_step(training* r, int64_t step) {
    lp_grpo_metrics m;
    lp_status status = lm_prompts(&r->lm, step - 1, r->num_prompts);
    if (status == LP_OK) status = lp_grpo_generate(r->grpo, &r->lm.packed, &r->lm.batch);
    if (status == LP_OK) status = lm_score(&r->lm);
    if (status == LP_OK) status = lp_grpo_step(r->grpo, &r->lm.batch, r->lm.scores, &m);
    if (status != LP_OK) return status;
    for (int64_t s = 0; s < r->lm.batch.sequences; s++)
        r->recent[r->seen++ % WINDOW] = r->lm.scores[s];
    status = log_metrics(r, step, &m);
    if (status == LP_OK) print_line(r, step, &m);
    return status;
}

static void print_summary(const training* r) {
    const int64_t count = r->seen < WINDOW ? r->seen : WINDOW;
    if (r->lm.count == 1 || lp_options_flag(r->lm.options, "json")) return;
    double mean = 0;
    for (int64_t i = 0; i < count; i++) mean += r->recent[i] / (double)count;
    printf("mean reward of the last %lld samples: %.4f\n", (long long)count, mean);
}

static lp_status save(void* user, const char* folder) { return lp_grpo_save(user, folder); }

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("train grpo takes no argument \"%.60s\"",
                         lp_options_positional(options, 0));
    training r = {.lm = {.ctx = ctx, .options = options, .algorithm = "grpo"}};
    lp_status status = begin(&r);
    for (int64_t step = 1; status == LP_OK && step <= r.lm.count; step++)
        status = one_step(&r, step);
    const int code = lm_finish(&r.lm, status, r.grpo ? lp_grpo_steps(r.grpo) : 0, save, r.grpo);
    if (status == LP_OK) print_summary(&r);
    lm_end(&r.lm);
    return code;
}
