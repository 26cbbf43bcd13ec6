/* The GRPO trainer: settings, creation, generation, saving. Its step is in grpo_step.c. */
#include "train/grpo.h"
#include <string.h>

enum { COOKIE = 0x6772706f };

lp_grpo_def lp_grpo_def_default(void) {
    lp_grpo_def def = {.cookie = COOKIE,
                       .num_generations = 8,
                       .num_iterations = 1,
                       .loss_type = LP_LOSS_DAPO,
                       .scale_rewards = LP_SCALE_GROUP,
                       .epsilon = 0.2,
                       .use_bias_correction_kl = true,
                       .learning_rate = 1e-6,
                       .adam_beta1 = 0.9,
                       .adam_beta2 = 0.999,
                       .adam_epsilon = 1e-8,
                       .max_grad_norm = 1.0,
                       .generate = lp_generate_def_default()};
    def.generate.max_new_tokens = 512;
    return def;
}

static lp_status check_def(lp_ctx* ctx, const lp_grpo_def* d, const lp_weights* reference) {
    if (!LP__REQUIRE(ctx, d->cookie == COOKIE, "begin with lp_grpo_def_default")) return LP_INVALID;
    const lp__range ranges[] = {
        {"num_generations", (double)d->num_generations, 2, 1e6},
        {"num_iterations", (double)d->num_iterations, 1, 1e6},
        {"loss_type", (double)d->loss_type, LP_LOSS_DAPO, LP_LOSS_DR_GRPO},
        {"scale_rewards", (double)d->scale_rewards, LP_SCALE_GROUP, LP_SCALE_NONE},
        {"epsilon", d->epsilon, 0, 1e9},
        {"epsilon_high", d->epsilon_high, 0, 1e9},
        {"beta", d->beta, 0, 1e9},
        {"per_device_train_batch_size", (double)d->per_device_train_batch_size, 0, 1e9},
        {"learning_rate", d->learning_rate, 0, 1e6},
        {"max_steps", (double)d->max_steps, 0, 1e15},
        {"adam_epsilon", d->adam_epsilon, 1e-30, 1e30}, /* 0 divides zeros by zero */
        {"weight_decay", d->weight_decay, 0, 1e6},
        {"max_grad_norm", d->max_grad_norm, 0, 1e300},
        {"micro_batch_size", (double)d->micro_batch_size, 0, 1e9},
        {"temperature", d->generate.temperature, 1e-4, 1e6}, /* 0 has no log-probabilities */
    };
    lp_status status = lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
    if (status == LP_OK && !reference && (d->beta > 0 || d->exact_kl))
        return lp_fail(ctx, LP_INVALID, "beta %g%s needs a reference policy", d->beta,
                       d->exact_kl ? " with the exact KL" : "");
    return status == LP_OK ? lp__logp_check_def(ctx, d->logp, &d->generate) : status;
}

lp_status lp_grpo_create(const lp_model* model, lp_weights* policy, const lp_weights* reference,
                         const lp_grpo_def* def, lp_grpo** out) {
    *out = NULL;
    lp_params* params = lp_weights_params(policy);
    lp_ctx* ctx = lp_params_ctx(params);
    lp_status status = check_def(ctx, def, reference);
    if (status == LP_OK) status = lp_generate_check(model, &def->generate, 0, NULL, NULL);
    if (status != LP_OK) return status;
    lp_grpo* grpo = lp__calloc(ctx, 1, sizeof *grpo);
    if (!grpo) return LP_NOMEM;
    *grpo = (lp_grpo){
        .ctx = ctx, .model = model, .policy = policy, .reference = reference, .def = *def};
    status = lp__pass_begin(&grpo->pass, ctx, model);
    grpo->pass.micro_batch_size = def->micro_batch_size;
    if (status == LP_OK) lp_tape_recompute(grpo->pass.tape, def->recompute);
    grpo->pass.group = def->num_generations;
    grpo->pass.temperature = lp__logp_temperature(def->logp, &def->generate);
    grpo->pass.sets = def->logp == LP_LOGP_SAMPLED;
    if (status == LP_OK) status = lp_generator_create(model, &grpo->generator);
    lp_optim_def adamw = lp_optim_def_default(LP_ADAMW);
    adamw.learning_rate = def->learning_rate;
    adamw.beta1 = def->adam_beta1;
    adamw.beta2 = def->adam_beta2;
    adamw.eps = def->adam_epsilon;
    adamw.weight_decay = def->weight_decay;
    adamw.max_grad_norm = def->max_grad_norm;
    if (status == LP_OK) status = lp_optim_create(params, &adamw, &grpo->optim);
    if (status != LP_OK) {
        lp_grpo_destroy(grpo);
        return status;
    }
    lp_params_zero_grad(params);
    *out = grpo;
    return LP_OK;
}

void lp_grpo_destroy(lp_grpo* grpo) {
    if (!grpo) return;
    void* const blocks[] = {grpo->old_log_prob, grpo->ref_log_prob, grpo->advantage,
                            grpo->weight,       grpo->exact_kl,     grpo->group_advantage,
                            grpo->order};
    lp_optim_destroy(grpo->optim);
    lp_generator_destroy(grpo->generator);
    lp__pass_end(&grpo->pass);
    lp_prompts_free(grpo->ctx, &grpo->repeated);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(grpo->ctx, blocks[i]);
    lp__free(grpo->ctx, grpo);
}

int64_t lp_grpo_steps(const lp_grpo* grpo) { return grpo->steps; }

lp_grpo_dists lp_grpo_last_dists(const lp_grpo* grpo) {
    return (lp_grpo_dists){.sequences = grpo->sequences,
                           .tokens = grpo->tokens,
                           .advantages = grpo->group_advantage,
                           .old_log_probs = grpo->old_log_prob,
                           .ref_log_probs = grpo->def.beta > 0 ? grpo->ref_log_prob : NULL};
}

lp_status lp_grpo_save(const lp_grpo* grpo, const char* folder) {
    return lp_model_save(grpo->model, grpo->policy, folder);
}

/* Each prompt num_generations times, into grpo->repeated. */
static lp_status repeat(lp_grpo* grpo, const lp_prompts* prompts) {
    const int64_t size = grpo->def.num_generations;
    lp_prompts* r = &grpo->repeated;
    if (prompts->count > ((int64_t)1 << 24) / size)
        return lp_fail(grpo->ctx, LP_INVALID,
                       "%lld prompts, %lld generations of each: more than %lld sequences at once",
                       (long long)prompts->count, (long long)size, (long long)1 << 24);
    r->tokens.count = r->count = 0;
    if (prompts->count * size + 1 > r->room) {
        const int64_t room =
            (int64_t)lp__grown((size_t)(prompts->count * size + 1), (size_t)r->room);
        int64_t* bigger = lp__realloc(grpo->ctx, r->offsets, (size_t)room * sizeof *bigger);
        if (!bigger) return LP_NOMEM;
        r->offsets = bigger;
        r->room = room;
    }
    r->offsets[0] = 0;
    for (int64_t i = 0; i < prompts->count * size; i++) {
        const int64_t from = prompts->offsets[i / size], to = prompts->offsets[i / size + 1];
        const lp_status status =
            lp_token_list_add(grpo->ctx, &r->tokens, prompts->tokens.ids + from, to - from);
        if (status != LP_OK) return status;
        r->offsets[++r->count] = r->tokens.count;
    }
    return LP_OK;
}

lp_status lp_grpo_generate(lp_grpo* grpo, const lp_prompts* prompts, lp_generation* batch) {
    const double start = lp__seconds();
    lp_generate_def def = grpo->def.generate;
    def.seed = grpo->def.seed;
    def.round = grpo->rounds;
    def.first_index = 0;
    def.keep_sets |= lp__logp_needs_sets(grpo->def.logp, &def);
    lp_status status = repeat(grpo, prompts);
    if (status == LP_OK)
        status = lp_generator_run(grpo->generator, grpo->policy, &def, grpo->repeated.count,
                                  grpo->repeated.offsets, grpo->repeated.tokens.ids, batch);
    if (status == LP_OK) grpo->rounds++;
    grpo->generate_seconds = lp__seconds() - start;
    return status;
}
