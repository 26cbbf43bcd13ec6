/* PPO on a language model, as TRL 0.11.4's PPOTrainer.step: score, reward, advantages, then epochs of clipped updates
 * over minibatches. A minibatch is computed in micro-batches, whose gradients continue the same sums, so that their
 * size changes no bit. */
#include "train/ppo.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static lp_status check_def(lp_ctx* ctx, const lp_ppo_def* d) {
    if (!LP__REQUIRE(ctx, d->cookie == COOKIE, "begin with lp_ppo_def_default")) return LP_INVALID;
    const struct {
        const char* name;
        double value, low, high;
    } ranges[] = {
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
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        if (!(ranges[i].value >= ranges[i].low && ranges[i].value <= ranges[i].high))
            return lp__fail(ctx, LP_INVALID, "%s is %g: it must lie in [%g, %g]", ranges[i].name, ranges[i].value,
                            ranges[i].low, ranges[i].high);
    }
    return LP_OK;
}

/* The value head of AutoModelForCausalLMWithValueHead: one linear layer. */
static bool value_head(lp_ppo* ppo) {
    lp_params* params = lp_weights_params(ppo->policy);
    const int64_t width = lp_model_get_shape(ppo->model).width;
    const bool made = !lp_params_find(params, "v_head.summary.weight");
    ppo->value_weight = lp_param(params, "v_head.summary.weight", 1, width);
    ppo->value_bias = lp_param(params, "v_head.summary.bias", 1, 1);
    if (!ppo->value_weight || !ppo->value_bias) return false;
    if (made && ppo->def.v_head_init == LP_VALUE_UNIFORM) {
        lp_rng rng = lp_rng_philox(ppo->def.seed, LP_FOR_INIT, 0, 0);
        const double bound = 1.0 / sqrt((double)width);
        for (int64_t i = 0; i < width; i++)
            lp_f32(ppo->value_weight)[i] = (float)(bound * (2.0 * lp_rng_uniform(&rng) - 1.0));
        lp_f32(ppo->value_bias)[0] = (float)(bound * (2.0 * lp_rng_uniform(&rng) - 1.0));
    }
    return true;
}

lp_status lp_ppo_create(const lp_model* model, lp_weights* policy, const lp_weights* reference, const lp_ppo_def* def,
                        lp_ppo** out) {
    *out = NULL;
    lp_params* params = lp_weights_params(policy);
    lp_ctx* ctx = lp_params_ctx(params);
    lp_status status = check_def(ctx, def);
    if (status != LP_OK) return status;
    lp_ppo* ppo = lp__calloc(ctx, 1, sizeof *ppo);
    if (!ppo) return LP_NOMEM;
    *ppo = (lp_ppo){.ctx = ctx, .model = model, .policy = policy, .reference = reference, .def = *def};
    ppo->kl_coef = def->init_kl_coef;
    ppo->moments = lp_moments_start();
    lp__arena_init(&ppo->arena, ctx, 1 << 16);
    ppo->tape = lp_tape_create(ctx, LP_F32);
    status = ppo->tape && value_head(ppo) ? LP_OK : LP_NOMEM;
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
    void* blocks[] = {r->log_prob,  r->ref_log_prob, r->value,       r->entropy, r->kl,   r->reward,
                      r->advantage, r->returns,      r->sequence_kl, r->score,   r->order};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(ctx, blocks[i]);
    *r = (lp__rollout){0};
}

void lp_ppo_destroy(lp_ppo* ppo) {
    if (!ppo) return;
    lp_optim_destroy(ppo->optim);
    lp_tape_destroy(ppo->tape);
    lp__arena_free(&ppo->arena);
    rollout_free(ppo->ctx, &ppo->rollout);
    lp__free(ppo->ctx, ppo);
}

double lp_ppo_kl_coef(const lp_ppo* ppo) { return ppo->kl_coef; }
int64_t lp_ppo_steps(const lp_ppo* ppo) { return ppo->steps; }

lp_ppo_dists lp_ppo_last_dists(const lp_ppo* ppo) {
    return (lp_ppo_dists){ppo->sequences, ppo->rollout.sequence_kl, ppo->rollout.score};
}

lp_status lp_ppo_save(const lp_ppo* ppo, const char* folder) {
    lp_ctx* ctx = ppo->ctx;
    const lp_params* params = lp_weights_params(ppo->policy);
    lp_status status = lp_model_save(ppo->model, ppo->policy, folder);
    if (status != LP_OK) return status;
    const size_t path_bytes = strlen(folder) + sizeof "/value_head.safetensors";
    const int64_t count = lp_params_count(params);
    char* path = lp__alloc(ctx, path_bytes);
    const char** names = lp__calloc(ctx, (size_t)count, sizeof *names);
    status = path && names ? LP_OK : LP_NOMEM;
    if (status == LP_OK) {
        for (int64_t i = 0; i < count; i++) {
            const char* name = lp_params_name(params, i);
            if (strncmp(name, "v_head.", 7) == 0) names[i] = name;
        }
        static const char* const metadata[] = {"format", "pt", NULL};
        snprintf(path, path_bytes, "%s/value_head.safetensors", folder);
        status = lp_params_save(params, path, names, metadata);
    }
    lp__free(ctx, (void*)names);
    lp__free(ctx, path);
    return status;
}

lp_status lp_ppo_generate(lp_ppo* ppo, const lp_prompts* prompts, lp_generation* batch) {
    const double start = seconds();
    lp_generate_def def = ppo->def.generate;
    def.seed = ppo->def.seed;
    def.round = ppo->rounds;
    lp_status status = lp_generate(ppo->model, ppo->policy, &def, prompts->count, prompts->offsets,
                                   prompts->tokens.ids, batch);
    if (status == LP_OK) ppo->rounds++;
    ppo->generate_seconds = seconds() - start;
    return status;
}

/* ---- the batch ------------------------------------------------------------------------------------- */

static bool grow(lp_ctx* ctx, float** array, int64_t n) {
    float* bigger = lp__realloc(ctx, *array, (size_t)n * sizeof **array);
    if (bigger) *array = bigger;
    return bigger != NULL;
}

/* Room for the batch; kept from step to step. */
static bool rollout_reserve(lp_ppo* ppo, int64_t sequences, int64_t tokens) {
    lp__rollout* r = &ppo->rollout;
    if (tokens > r->capacity) {
        float** arrays[] = {&r->log_prob, &r->ref_log_prob, &r->value,     &r->entropy,
                            &r->kl,       &r->reward,       &r->advantage, &r->returns};
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
            if (!grow(ppo->ctx, arrays[i], tokens)) return false;
        }
        r->capacity = tokens;
    }
    if (sequences > r->sequence_capacity) {
        double* kl = lp__realloc(ppo->ctx, r->sequence_kl, (size_t)sequences * sizeof *kl);
        if (kl) r->sequence_kl = kl;
        double* score = lp__realloc(ppo->ctx, r->score, (size_t)sequences * sizeof *score);
        if (score) r->score = score;
        int32_t* order = lp__realloc(ppo->ctx, r->order, (size_t)sequences * sizeof *order);
        if (order) r->order = order;
        if (!kl || !score || !order) return false;
        r->sequence_capacity = sequences;
    }
    return true;
}

static lp_status check_batch(const lp_ppo* ppo, const lp_generation* b, const double* scores) {
    if (b->sequences < 1) return lp__fail(ppo->ctx, LP_INVALID, "the batch is empty");
    if (b->sequences % ppo->def.mini_batch_size)
        return lp__fail(ppo->ctx, LP_INVALID, "mini_batch_size %lld does not divide the batch of %lld sequences",
                        (long long)ppo->def.mini_batch_size, (long long)b->sequences);
    for (int64_t s = 0; s < b->sequences; s++) {
        if (!isfinite(scores[s]))
            return lp__fail(ppo->ctx, LP_NONFINITE,
                            "the reward of sequence %lld in step %lld is %g: the step is refused, nothing moved",
                            (long long)s, (long long)ppo->steps + 1, scores[s]);
        if (b->prompt_offsets[s + 1] <= b->prompt_offsets[s] || b->response_offsets[s + 1] <= b->response_offsets[s])
            return lp__fail(ppo->ctx, LP_INVALID, "sequence %lld has an empty prompt or response", (long long)s);
    }
    return LP_OK;
}

/* Scores to per-token rewards, advantages and returns. */
static void advantages(lp_ppo* ppo, const lp_generation* b, const double* scores) {
    const lp_ppo_def* d = &ppo->def;
    lp__rollout* r = &ppo->rollout;
    const int64_t n = b->response_offsets[b->sequences];
    memcpy(r->score, scores, (size_t)b->sequences * sizeof *scores);
    if (d->use_score_scaling) {
        lp_moments_add(&ppo->moments, b->sequences, scores);
        const double shift = d->use_score_norm ? ppo->moments.mean : 0.0;
        for (int64_t s = 0; s < b->sequences; s++)
            r->score[s] = (scores[s] - shift) / (ppo->moments.std + 1.1920928955078125e-07);
    }
    for (int64_t s = 0; d->score_clip > 0 && s < b->sequences; s++)
        r->score[s] = fmin(fmax(r->score[s], -d->score_clip), d->score_clip);
    lp_kl_per_token(d->kl_penalty, n, r->log_prob, r->ref_log_prob, r->kl, r->kl);
    lp_token_rewards(b->sequences, b->response_offsets, r->kl, ppo->kl_coef, r->score, r->reward);
    if (d->whiten_rewards) lp_whiten(n, r->reward, false);
    lp_gae(b->sequences, b->response_offsets, r->reward, r->value, d->gamma, d->lam, r->advantage, r->returns);
    lp_whiten(n, r->advantage, true);
}

/* ---- one minibatch --------------------------------------------------------------------------------- */

/* The entries of a part, one behind the other. */
static float* gather(lp_ppo* ppo, const lp__part* part, const float* from) {
    float* column = lp__arena_alloc(&ppo->arena, (size_t)part->rows * sizeof *column);
    if (!column) return NULL;
    int64_t at = 0;
    for (int64_t i = 0; i < part->sequences; i++) {
        memcpy(column + at, from + part->first[i], (size_t)part->count[i] * sizeof *column);
        at += part->count[i];
    }
    return column;
}

static lp_status micro_batch(lp_ppo* ppo, const lp__part* part, double normaliser, lp_ppo_sums* sums, double* max_dev) {
    const lp_ppo_def* d = &ppo->def;
    const lp__rollout* r = &ppo->rollout;
    lp_ppo_loss_def loss = {.clip_range = d->cliprange,
                            .clip_range_value = d->cliprange_value,
                            .vf_coef = d->vf_coef,
                            .normaliser = normaliser,
                            .old_log_prob = gather(ppo, part, r->log_prob),
                            .old_value = gather(ppo, part, r->value),
                            .advantage = gather(ppo, part, r->advantage),
                            .returns = gather(ppo, part, r->returns)};
    if (!loss.old_log_prob || !loss.old_value || !loss.advantage || !loss.returns) return LP_NOMEM;
    lp_tape_reset(ppo->tape);
    const lp__said said = lp__part_forward(ppo, ppo->policy, part, true);
    if (!said.value) return lp_tape_status(ppo->tape);
    const float* log_prob = lp_f32(said.log_prob);
    for (int64_t i = 0; i < part->rows; i++)
        *max_dev = fmax(*max_dev, fabs(exp((double)log_prob[i] - (double)loss.old_log_prob[i]) - 1.0));
    lp_ppo_sums_add(sums, part->rows, log_prob, lp_f32(said.value), lp_f32(said.entropy), &loss);
    return lp_backward(ppo->tape, lp_ppo_loss(ppo->tape, said.log_prob, said.value, &loss));
}

static double variance(double sum, double square, double n) { /* ddof 1 */
    return n > 1 ? (square - sum * sum / n) / (n - 1) : (double)NAN;
}

/* Adds the statistics of one minibatch; they are means over minibatches in the end. */
static void add_metrics(lp_ppo_metrics* m, const lp_ppo_sums* s, double vf_coef, double grad_norm) {
    const double n = (double)s->n;
    m->loss_policy += s->policy_loss / n;
    m->loss_value += s->value_loss / n;
    m->loss_total += (s->policy_loss + vf_coef * s->value_loss) / n;
    m->policy_entropy += s->entropy / n;
    m->policy_approxkl += s->approx_kl / n;
    m->policy_policykl += s->policy_kl / n;
    m->policy_clipfrac += s->clipped / n;
    m->policy_advantages_mean += s->advantage / n;
    m->policy_ratio += s->ratio / n;
    m->returns_mean += s->returns / n;
    m->returns_var += variance(s->returns, s->returns_square, n);
    m->val_vpred += s->new_value / n;
    m->val_error += s->value_error / n;
    m->val_clipfrac += s->value_clipped / n;
    m->val_mean += s->value / n;
    m->val_var += variance(s->value, s->value_square, n);
    m->grad_norm += grad_norm;
}

/* One optimizer step on the sequences list[0..mini_batch_size). */
static lp_status mini_batch(lp_ppo* ppo, const lp_generation* b, const int32_t* list, lp_ppo_metrics* m,
                            double* policy_kl, bool first) {
    const lp_ppo_def* d = &ppo->def;
    double normaliser = 0, max_dev = 0;
    for (int64_t i = 0; i < d->mini_batch_size; i++)
        normaliser += (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);
    lp_ppo_sums sums = {0};
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < d->mini_batch_size;) {
        lp__part part;
        const int64_t n = lp__part_size(ppo, b, list + i, d->mini_batch_size - i);
        status = lp__part_build(ppo, b, list + i, n, &part);
        if (status == LP_OK) status = micro_batch(ppo, &part, normaliser, &sums, &max_dev);
        i += n;
    }
    double grad_norm = 0;
    if (status == LP_OK) {
        lp_ppo_sums counted = sums;
        if (sums.ratio / (double)sums.n > d->ratio_threshold) { /* TRL multiplies the loss by 0 and steps all the same */
            lp_params_zero_grad(lp_weights_params(ppo->policy));
            counted.policy_loss = counted.value_loss = 0;
            m->skipped += 1;
        }
        status = lp_optim_step(ppo->optim, &grad_norm);
        if (status == LP_OK) add_metrics(m, &counted, d->vf_coef, grad_norm);
    }
    if (status != LP_OK) lp_params_zero_grad(lp_weights_params(ppo->policy));
    if (first) m->ratio_max_dev = max_dev;
    *policy_kl = sums.policy_kl / (double)sums.n;
    return status;
}

static lp_status epochs(lp_ppo* ppo, const lp_generation* b, const int32_t* permutations, lp_ppo_metrics* m) {
    const lp_ppo_def* d = &ppo->def;
    int32_t* order = ppo->rollout.order;
    int64_t steps = 0;
    for (int64_t epoch = 0; epoch < d->ppo_epochs; epoch++) {
        if (permutations) {
            memcpy(order, permutations + epoch * b->sequences, (size_t)b->sequences * sizeof *order);
        } else {
            lp_rng rng = lp_rng_philox(d->seed, LP_FOR_SHUFFLE, (uint64_t)ppo->steps, (uint32_t)epoch);
            lp_rng_permutation(&rng, order, (int32_t)b->sequences);
        }
        double policy_kl = 0;
        for (int64_t i = 0; i < b->sequences; i += d->mini_batch_size, steps++) {
            lp_status status = mini_batch(ppo, b, order + i, m, &policy_kl, steps == 0);
            if (status != LP_OK) return status;
        }
        if (d->early_stopping && policy_kl > 1.5 * d->target_kl) break;
    }
    double* means[] = {&m->loss_policy,     &m->loss_value,      &m->loss_total,      &m->policy_entropy,
                       &m->policy_approxkl, &m->policy_policykl, &m->policy_clipfrac, &m->policy_advantages_mean,
                       &m->policy_ratio,    &m->returns_mean,    &m->returns_var,     &m->val_vpred,
                       &m->val_error,       &m->val_clipfrac,    &m->val_mean,        &m->val_var,
                       &m->grad_norm};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) *means[i] /= (double)steps;
    m->val_var_explained = 1.0 - m->val_error / m->returns_var;
    return LP_OK;
}

/* ---- the step -------------------------------------------------------------------------------------- */

typedef struct spread {
    double mean, std; /* ddof 1; NaN for one entry */
} spread;

static spread spread_of(int64_t n, const double* x) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    return (spread){mean, n > 1 ? sqrt(square / (double)(n - 1)) : (double)NAN};
}

static spread spread_of_lengths(int64_t n, const int64_t* offsets) {
    double sum = (double)(offsets[n] - offsets[0]), square = 0;
    const double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) {
        const double d = (double)(offsets[i + 1] - offsets[i]) - mean;
        square += d * d;
    }
    return (spread){mean, n > 1 ? sqrt(square / (double)(n - 1)) : (double)NAN};
}

/* What PPOTrainer.record_step_stats computes from the batch as a whole. */
static void batch_metrics(lp_ppo* ppo, const lp_generation* b, const double* scores, lp_ppo_metrics* m) {
    const lp__rollout* r = &ppo->rollout;
    double entropy = 0, kl = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        r->sequence_kl[s] = 0;
        for (int64_t i = b->response_offsets[s]; i < b->response_offsets[s + 1]; i++) {
            r->sequence_kl[s] += (double)r->kl[i];
            entropy -= (double)r->log_prob[i];
        }
        kl += r->sequence_kl[s];
    }
    const spread score = spread_of(b->sequences, r->score), reward = spread_of(b->sequences, scores);
    const spread queries = spread_of_lengths(b->sequences, b->prompt_offsets);
    const spread responses = spread_of_lengths(b->sequences, b->response_offsets);
    m->objective_kl = kl / (double)b->sequences;
    m->objective_kl_coef = ppo->kl_coef;
    m->objective_entropy = entropy / (double)b->sequences;
    m->mean_non_score_reward = -ppo->kl_coef * kl / (double)b->response_offsets[b->sequences];
    m->mean_scores = score.mean;
    m->std_scores = score.std;
    m->reward_mean = reward.mean;
    m->reward_std = reward.std;
    m->learning_rate = ppo->def.learning_rate;
    m->queries_len_mean = queries.mean;
    m->queries_len_std = queries.std;
    m->responses_len_mean = responses.mean;
    m->responses_len_std = responses.std;
    m->time_generate = ppo->generate_seconds;
}

lp_status lp_ppo_step(lp_ppo* ppo, const lp_generation* batch, const double* scores, const int32_t* permutations,
                      lp_ppo_metrics* metrics) {
    const double start = seconds();
    lp_ppo_metrics m = {0};
    lp_status status = check_batch(ppo, batch, scores);
    if (status != LP_OK) return status;
    if (!rollout_reserve(ppo, batch->sequences, batch->response_offsets[batch->sequences])) return LP_NOMEM;
    status = lp__ppo_score_pass(ppo, batch);
    if (status != LP_OK) return status;
    ppo->sequences = batch->sequences;
    advantages(ppo, batch, scores);
    batch_metrics(ppo, batch, scores, &m);
    m.time_forward = seconds() - start;
    status = epochs(ppo, batch, permutations, &m);
    if (status != LP_OK) return status;
    m.time_total = seconds() - start;
    m.time_optimize = m.time_total - m.time_forward;
    if (ppo->def.adap_kl_ctrl)
        ppo->kl_coef = lp_adaptive_kl(ppo->kl_coef, m.objective_kl, ppo->def.target, (double)batch->sequences,
                                      ppo->def.horizon);
    ppo->steps++;
    if (metrics) *metrics = m;
    return LP_OK;
}
