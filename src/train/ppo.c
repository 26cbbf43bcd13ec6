/* The PPO trainer: settings, creation, generation, saving. Its step is in ppo_step.c. */
#include "train/ppo.h"
#include "tensor/params.h"
#include <math.h>

enum { COOKIE = 0x70706f21 };

lp_ppo_def lp_ppo_def_default(void) {
    return (lp_ppo_def){.cookie = COOKIE,
                        .learning_rate = 1.41e-5,
                        .mini_batch_size = 1,
                        .ppo_epochs = 4,
                        .adap_kl_ctrl = true,
                        .init_kl_coef = 0.2,
                        .target = 6.0,
                        .horizon = 10000.0,
                        .kl_penalty = LP_KL_K1,
                        .gamma = 1.0,
                        .lam = 0.95,
                        .cliprange = 0.2,
                        .cliprange_value = 0.2,
                        .vf_coef = 0.1,
                        .ratio_threshold = 10.0,
                        .target_kl = 1.0,
                        .generate = lp_generate_def_default()};
}

static lp_status check_def(lp_ctx* ctx, const lp_ppo_def* d) {
    if (!LP__REQUIRE(ctx, d->cookie == COOKIE, "begin with lp_ppo_def_default")) return LP_INVALID;
    const lp__range ranges[] = {
        {"learning_rate", d->learning_rate, 0, 1e6},
        {"mini_batch_size", (double)d->mini_batch_size, 1, 1e9},
        {"ppo_epochs", (double)d->ppo_epochs, 1, 1e9},
        {"init_kl_coef", d->init_kl_coef, 0, 1e9},
        {"target", d->target, 1e-9, 1e9},
        {"horizon", d->horizon, 1e-9, 1e18},
        {"gamma", d->gamma, 0, 1},
        {"lam", d->lam, 0, 1},
        {"cliprange", d->cliprange, 0, 1e9},
        {"cliprange_value", d->cliprange_value, 0, 1e9},
        {"vf_coef", d->vf_coef, 0, 1e9},
        {"max_grad_norm", d->max_grad_norm, 0, 1e300},
        {"ratio_threshold", d->ratio_threshold, 0, 1e300},
        {"target_kl", d->target_kl, 0, 1e300},
        {"score_clip", d->score_clip, 0, 1e300},
        {"micro_batch_size", (double)d->micro_batch_size, 0, 1e9},
        {"kl_penalty", (double)d->kl_penalty, LP_KL_K1, LP_KL_FULL},
        {"v_head_init", (double)d->v_head_init, LP_VALUE_UNIFORM, LP_VALUE_ZEROS},
    };
    const lp_status status = lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
    return status == LP_OK ? lp__logp_check_def(ctx, d->logp, &d->generate) : status;
}

/* The value head of AutoModelForCausalLMWithValueHead: one linear layer. */
static bool value_head(lp_ppo* ppo) {
    lp_params* params = lp_weights_params(ppo->policy);
    const int64_t width = lp_model_get_shape(ppo->model).width;
    /* either missing: an earlier creation may have run out of memory between the two */
    const bool made = !lp_params_find(params, "v_head.summary.weight") ||
                      !lp_params_find(params, "v_head.summary.bias");
    ppo->pass.value_weight = lp_param(params, "v_head.summary.weight", 1, width);
    ppo->pass.value_bias = lp_param(params, "v_head.summary.bias", 1, 1);
    if (!ppo->pass.value_weight || !ppo->pass.value_bias) return false;
    if (made && ppo->def.v_head_init == LP_VALUE_UNIFORM) {
        lp_rng rng = lp_rng_philox(ppo->def.seed, LP_FOR_INIT, 0, 0);
        const double bound = 1.0 / sqrt((double)width);
        for (int64_t i = 0; i < width; i++)
            lp_f32(ppo->pass.value_weight)[i] = (float)(bound * (2.0 * lp_rng_uniform(&rng) - 1.0));
        lp_f32(ppo->pass.value_bias)[0] = (float)(bound * (2.0 * lp_rng_uniform(&rng) - 1.0));
    }
    return true;
}

lp_status lp_ppo_create(const lp_model* model, lp_weights* policy, const lp_weights* reference,
                        const lp_ppo_def* def, lp_ppo** out) {
    *out = NULL;
    lp_params* params = lp_weights_params(policy);
    lp_ctx* ctx = lp_params_ctx(params);
    lp_status status = check_def(ctx, def);
    if (status == LP_OK) status = lp_generate_check(model, &def->generate, 0, NULL, NULL);
    if (status != LP_OK) return status;
    lp_ppo* ppo = lp__calloc(ctx, 1, sizeof *ppo);
    if (!ppo) return LP_NOMEM;
    *ppo =
        (lp_ppo){.ctx = ctx, .model = model, .policy = policy, .reference = reference, .def = *def};
    ppo->kl_coef = def->init_kl_coef;
    ppo->moments = lp_moments_start();
    status = lp__pass_begin(&ppo->pass, ctx, model);
    ppo->pass.micro_batch_size = def->micro_batch_size;
    ppo->pass.temperature = lp__logp_temperature(def->logp, &def->generate);
    ppo->pass.sets = def->logp == LP_LOGP_SAMPLED;
    if (status == LP_OK) lp_tape_recompute(ppo->pass.tape, def->recompute);
    if (status == LP_OK && !value_head(ppo)) status = LP_NOMEM;
    if (status == LP_OK) status = lp_generator_create(model, &ppo->generator);
    lp_optim_def adam = lp_optim_def_default(LP_ADAM);
    adam.learning_rate = def->learning_rate;
    adam.max_grad_norm = def->max_grad_norm;
    if (status == LP_OK) status = lp_optim_create(params, &adam, &ppo->optim);
    if (status != LP_OK) {
        lp_ppo_destroy(ppo);
        return status;
    }
    lp_params_zero_grad(params);
    *out = ppo;
    return LP_OK;
}

static void rollout_free(lp_ctx* ctx, lp__rollout* r) {
    void* blocks[] = {r->log_prob,  r->ref_log_prob, r->value,       r->kl,    r->reward,
                      r->advantage, r->returns,      r->sequence_kl, r->score, r->order};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(ctx, blocks[i]);
    *r = (lp__rollout){0};
}

void lp_ppo_destroy(lp_ppo* ppo) {
    if (!ppo) return;
    lp_optim_destroy(ppo->optim);
    lp_generator_destroy(ppo->generator);
    lp__pass_end(&ppo->pass);
    rollout_free(ppo->ctx, &ppo->rollout);
    lp__free(ppo->ctx, ppo);
}

double lp_ppo_kl_coef(const lp_ppo* ppo) { return ppo->kl_coef; }
int64_t lp_ppo_steps(const lp_ppo* ppo) { return ppo->steps; }

lp_ppo_dists lp_ppo_last_dists(const lp_ppo* ppo) {
    const lp__rollout* r = &ppo->rollout;
    return (lp_ppo_dists){.sequences = ppo->sequences,
                          .tokens = ppo->tokens,
                          .kl = r->sequence_kl,
                          .scores = r->score,
                          .log_probs = r->log_prob,
                          .ref_log_probs = r->ref_log_prob,
                          .advantages = r->advantage};
}

lp_status lp_ppo_save(const lp_ppo* ppo, const char* folder) {
    lp_status status = lp_model_save(ppo->model, ppo->policy, folder);
    if (status != LP_OK) return status;
    return lp__params_save_part(lp_weights_params(ppo->policy), folder, "value_head.safetensors",
                                "v_head.", NULL);
}

lp_status lp_ppo_generate(lp_ppo* ppo, const lp_prompts* prompts, lp_generation* batch) {
    const double start = lp__seconds();
    lp_generate_def def = ppo->def.generate;
    def.seed = ppo->def.seed;
    def.round = ppo->rounds;
    def.keep_sets |= lp__logp_needs_sets(ppo->def.logp, &def);
    lp_status status = lp_generator_run(ppo->generator, ppo->policy, &def, prompts->count,
                                        prompts->offsets, prompts->tokens.ids, batch);
    if (status == LP_OK) ppo->rounds++;
    ppo->generate_seconds = lp__seconds() - start;
    return status;
}
