/* One step of PPO on a language model, as TRL 0.11.4's PPOTrainer.step: score, reward, advantages,
 * then epochs of clipped updates over minibatches. A minibatch is computed in micro-batches, whose
 * gradients continue the same sums, so that their size changes no bit. */
#include "train/ppo.h"
#include <math.h>
#include <string.h>

/* ---- the batch ------------------------------------------------------------------------------- */

/* Room for the batch; kept from step to step, and a quarter more when it grows. */
static bool rollout_reserve(lp_ppo* ppo, int64_t sequences, int64_t tokens) {
    lp__rollout* r = &ppo->rollout;
    if (tokens > r->capacity) {
        float** arrays[] = {&r->log_prob, &r->ref_log_prob, &r->value,  &r->kl,
                            &r->reward,   &r->advantage,    &r->returns};
        const int64_t room = (int64_t)lp__grown((size_t)tokens, (size_t)r->capacity);
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
            if (!lp__grow_floats(ppo->ctx, arrays[i], room)) return false;
        }
        r->capacity = room;
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

/* Each row of permutations is one: every sequence once. */
static bool permutations_ok(lp_ppo* ppo, const lp_generation* b, const int32_t* permutations) {
    for (int64_t epoch = 0; permutations && epoch < ppo->def.ppo_epochs; epoch++) {
        int32_t* seen = ppo->rollout.order;
        for (int64_t i = 0; i < b->sequences; i++) seen[i] = 0;
        for (int64_t i = 0; i < b->sequences; i++) {
            const int32_t s = permutations[epoch * b->sequences + i];
            if (!LP__REQUIRE(ppo->ctx, s >= 0 && s < b->sequences && !seen[s]++,
                             "a permutation names each sequence once"))
                return false;
        }
    }
    return true;
}

static lp_status check_batch(const lp_ppo* ppo, const lp_generation* b, const double* scores) {
    if (b->sequences < 1) return lp_fail(ppo->ctx, LP_INVALID, "the batch is empty");
    if (b->sequences % ppo->def.mini_batch_size)
        return lp_fail(ppo->ctx, LP_INVALID,
                       "mini_batch_size %lld does not divide the batch of %lld sequences",
                       (long long)ppo->def.mini_batch_size, (long long)b->sequences);
    for (int64_t s = 0; s < b->sequences; s++) {
        if (!isfinite(scores[s]))
            return lp_fail(ppo->ctx, LP_NONFINITE,
                           "the reward of sequence %lld in step %lld is %g: the step is refused, "
                           "nothing moved",
                           (long long)s, (long long)ppo->steps + 1,
                           isnan(scores[s]) ? fabs(scores[s]) : scores[s]);
        if (b->prompt_offsets[s + 1] <= b->prompt_offsets[s] ||
            b->response_offsets[s + 1] <= b->response_offsets[s])
            return lp_fail(ppo->ctx, LP_INVALID, "sequence %lld has an empty prompt or response",
                           (long long)s);
    }
    return lp__logp_check_batch(&ppo->pass, ppo->def.logp, &ppo->def.generate, b);
}

/* ---- scores ---------------------------------------------------------------------------------- */

/* What a pass over the batch without gradients is for. */
static lp_status score_part(void* user, const lp__part* part) {
    lp_ppo* ppo = user;
    lp__pass* pass = &ppo->pass;
    lp__rollout* r = &ppo->rollout;
    const bool full = ppo->def.kl_penalty == LP_KL_FULL;
    lp_tape_reset(pass->tape);
    const lp__said said = lp__part_forward(pass, ppo->policy, part, LP__ASK_VALUE);
    if (!said.log_prob) return lp_tape_status(pass->tape);
    lp__part_scatter(part, lp_f32(said.log_prob), r->log_prob);
    lp__part_scatter(part, lp_f32(said.value), r->value);
    const float* h = full ? lp__part_keep(pass, said.states) : NULL;
    lp_tape_reset(pass->tape);
    const lp__said ref = lp__part_forward(pass, ppo->reference, part, LP__ASK_LOG_PROB);
    if (!ref.log_prob) return lp_tape_status(pass->tape);
    lp__part_scatter(part, lp_f32(ref.log_prob), r->ref_log_prob);
    if (!full) return LP_OK;
    const float* h_ref = lp__part_keep(pass, ref.states);
    return h && h_ref ? lp__part_full_kl(pass, ppo->policy, ppo->reference, part, h, h_ref, r->kl)
                      : LP_NOMEM;
}

/* Log-probabilities of policy and reference, and values, of the whole batch, without gradients;
 * with the full KL penalty also the divergence of each token, into rollout.kl. */
static lp_status score_pass(lp_ppo* ppo, const lp_generation* b) {
    for (int64_t i = 0; i < b->sequences; i++) ppo->rollout.order[i] = (int32_t)i;
    lp_tape_record(ppo->pass.tape, false);
    const lp_status status =
        lp__pass_parts(&ppo->pass, b, ppo->rollout.order, b->sequences, score_part, ppo);
    lp_tape_record(ppo->pass.tape, true);
    return status;
}

/* Scores to per-token rewards, advantages and returns. The scores are added to *moments, which
 * becomes the trainer's when the step is done: a step that is stopped and taken again must not
 * count them twice. */
static void advantages(lp_ppo* ppo, const lp_generation* b, const double* scores,
                       lp_moments* moments) {
    const lp_ppo_def* d = &ppo->def;
    lp__rollout* r = &ppo->rollout;
    const int64_t n = b->response_offsets[b->sequences];
    memcpy(r->score, scores, (size_t)b->sequences * sizeof *scores);
    if (d->use_score_scaling) {
        lp_moments_add(moments, b->sequences, scores);
        const double shift = d->use_score_norm ? moments->mean : 0.0;
        for (int64_t s = 0; s < b->sequences; s++)
            r->score[s] = (scores[s] - shift) / (moments->std + 1.1920928955078125e-07);
    }
    for (int64_t s = 0; d->score_clip > 0 && s < b->sequences; s++)
        r->score[s] = fmin(fmax(r->score[s], -d->score_clip), d->score_clip);
    lp_kl_per_token(d->kl_penalty, n, r->log_prob, r->ref_log_prob, r->kl, r->kl);
    lp_token_rewards(b->sequences, b->response_offsets, r->kl, ppo->kl_coef, r->score, r->reward);
    if (d->whiten_rewards) lp_whiten(n, r->reward, false);
    lp_gae(b->sequences, b->response_offsets, r->reward, r->value, d->gamma, d->lam, r->advantage,
           r->returns);
    lp_whiten(n, r->advantage, true);
}

/* ---- one minibatch --------------------------------------------------------------------------- */

/* A minibatch while its parts go through. */
typedef struct minibatch {
    lp_ppo* ppo;
    double normaliser; /* its tokens */
    lp_ppo_sums sums;
    double max_dev;
} minibatch;

static lp_status micro_batch(void* user, const lp__part* part) {
    minibatch* mini = user;
    lp_ppo* ppo = mini->ppo;
    lp__pass* pass = &ppo->pass;
    const lp_ppo_def* d = &ppo->def;
    const lp__rollout* r = &ppo->rollout;
    lp_ppo_loss_def loss = {.clip_range = d->cliprange,
                            .clip_range_value = d->cliprange_value,
                            .vf_coef = d->vf_coef,
                            .normaliser = mini->normaliser,
                            .old_log_prob = lp__part_gather(pass, part, r->log_prob),
                            .old_value = lp__part_gather(pass, part, r->value),
                            .advantage = lp__part_gather(pass, part, r->advantage),
                            .returns = lp__part_gather(pass, part, r->returns)};
    if (!loss.old_log_prob || !loss.old_value || !loss.advantage || !loss.returns) return LP_NOMEM;
    lp_tape_reset(pass->tape);
    const lp__said said =
        lp__part_forward(pass, ppo->policy, part, LP__ASK_VALUE | LP__ASK_ENTROPY);
    if (!said.log_prob) return lp_tape_status(pass->tape);
    const float* log_prob = lp_f32(said.log_prob);
    mini->max_dev = fmax(mini->max_dev, lp__ratio_dev(part->rows, log_prob, loss.old_log_prob));
    lp_ppo_sums_add(&mini->sums, part->rows, log_prob, lp_f32(said.value), lp_f32(said.entropy),
                    &loss);
    return lp_backward(pass->tape, lp_ppo_loss(pass->tape, said.log_prob, said.value, &loss));
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
    m->returns_mean += s->returns.mean;
    m->returns_var += lp_spread_var(&s->returns);
    m->val_vpred += s->new_value / n;
    m->val_error += s->value_error / n;
    m->val_clipfrac += s->value_clipped / n;
    m->val_mean += s->value.mean;
    m->val_var += lp_spread_var(&s->value);
    m->grad_norm += grad_norm;
}

/* One optimizer step on the sequences list[0..mini_batch_size). */
static lp_status mini_batch(lp_ppo* ppo, const lp_generation* b, const int32_t* list,
                            lp_ppo_metrics* m, double* policy_kl, bool first) {
    const lp_ppo_def* d = &ppo->def;
    minibatch mini = {.ppo = ppo};
    for (int64_t i = 0; i < d->mini_batch_size; i++)
        mini.normaliser +=
            (double)(b->response_offsets[list[i] + 1] - b->response_offsets[list[i]]);
    lp_status status = lp__pass_parts(&ppo->pass, b, list, d->mini_batch_size, micro_batch, &mini);
    const lp_ppo_sums sums = mini.sums;
    double grad_norm = 0;
    if (status == LP_OK) {
        lp_ppo_sums counted = sums;
        if (sums.ratio / (double)sums.n >
            d->ratio_threshold) { /* TRL multiplies the loss by 0 and steps all the same */
            lp_params_zero_grad(lp_weights_params(ppo->policy));
            counted.policy_loss = counted.value_loss = 0;
            m->skipped += 1;
        }
        status = lp_optim_step(ppo->optim, &grad_norm);
        if (status == LP_OK) add_metrics(m, &counted, d->vf_coef, grad_norm);
    }
    if (status != LP_OK) lp_params_zero_grad(lp_weights_params(ppo->policy));
    if (first && mini.max_dev > m->ratio_max_dev) m->ratio_max_dev = mini.max_dev; /* NaN stays */
    *policy_kl = sums.policy_kl / (double)sums.n;
    return status;
}

/* A step is whole or leaves no trace: before its first update all that they move was remembered. */
static lp_status undo(lp_ppo* ppo, lp_status status, int64_t update, int64_t of) {
    lp_optim_rollback(ppo->optim);
    return lp__fail_at(ppo->ctx, status, "step %lld, update %lld of %lld",
                       (long long)ppo->steps + 1, (long long)update, (long long)of);
}

static lp_status epochs(lp_ppo* ppo, const lp_generation* b, const int32_t* permutations,
                        lp_ppo_metrics* m) {
    const lp_ppo_def* d = &ppo->def;
    int32_t* order = ppo->rollout.order;
    const int64_t most = d->ppo_epochs * (b->sequences / d->mini_batch_size);
    int64_t steps = 0;
    lp_status status = lp_optim_savepoint(ppo->optim);
    if (status != LP_OK) return status;
    for (int64_t epoch = 0; epoch < d->ppo_epochs; epoch++) {
        if (permutations) {
            memcpy(order, permutations + epoch * b->sequences,
                   (size_t)b->sequences * sizeof *order);
        } else {
            lp_rng rng =
                lp_rng_philox(d->seed, LP_FOR_SHUFFLE, (uint64_t)ppo->steps, (uint32_t)epoch);
            lp_rng_permutation(&rng, order, (int32_t)b->sequences);
        }
        double policy_kl = 0;
        for (int64_t i = 0; i < b->sequences; i += d->mini_batch_size, steps++) {
            status = mini_batch(ppo, b, order + i, m, &policy_kl, steps == 0);
            if (status != LP_OK) return undo(ppo, status, steps + 1, most);
        }
        if (d->early_stopping && policy_kl > 1.5 * d->target_kl) break;
    }
    if (!lp_params_finite(lp_weights_params(ppo->policy)))
        return undo(ppo,
                    lp_fail(ppo->ctx, LP_NONFINITE,
                            "a weight is no finite number any more: the step is refused, nothing "
                            "moved; lower the "
                            "learning rate"),
                    steps, most);
    double* means[] = {
        &m->loss_policy,     &m->loss_value,      &m->loss_total,      &m->policy_entropy,
        &m->policy_approxkl, &m->policy_policykl, &m->policy_clipfrac, &m->policy_advantages_mean,
        &m->policy_ratio,    &m->returns_mean,    &m->returns_var,     &m->val_vpred,
        &m->val_error,       &m->val_clipfrac,    &m->val_mean,        &m->val_var,
        &m->grad_norm};
    for (size_t i = 0; i < sizeof means / sizeof *means; i++) *means[i] /= (double)steps;
    m->val_var_explained = 1.0 - m->val_error / m->returns_var;
    return LP_OK;
}

/* ---- the step -------------------------------------------------------------------------------- */

static lp_spread spread_of(int64_t n, const double* x) {
    lp_spread spread = {0};
    for (int64_t i = 0; i < n; i++) lp_spread_add(&spread, x[i]);
    return spread;
}

static lp_spread spread_of_lengths(int64_t n, const int64_t* offsets) {
    lp_spread spread = {0};
    for (int64_t i = 0; i < n; i++) lp_spread_add(&spread, (double)(offsets[i + 1] - offsets[i]));
    return spread;
}

/* What PPOTrainer.record_step_stats computes from the batch as a whole. */
static void batch_metrics(lp_ppo* ppo, const lp_generation* b, const double* scores,
                          lp_ppo_metrics* m) {
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
    const lp_spread score = spread_of(b->sequences, r->score),
                    reward = spread_of(b->sequences, scores);
    const lp_spread queries = spread_of_lengths(b->sequences, b->prompt_offsets);
    const lp_spread responses = spread_of_lengths(b->sequences, b->response_offsets);
    m->objective_kl = kl / (double)b->sequences;
    m->objective_kl_coef = ppo->kl_coef;
    m->objective_entropy = entropy / (double)b->sequences;
    m->mean_non_score_reward = -ppo->kl_coef * kl / (double)b->response_offsets[b->sequences];
    m->mean_scores = score.mean;
    m->std_scores = sqrt(lp_spread_var(&score));
    m->reward_mean = reward.mean;
    m->reward_std = sqrt(lp_spread_var(&reward));
    m->learning_rate = ppo->def.learning_rate;
    m->queries_len_mean = queries.mean;
    m->queries_len_std = sqrt(lp_spread_var(&queries));
    m->responses_len_mean = responses.mean;
    m->responses_len_std = sqrt(lp_spread_var(&responses));
    m->time_generate = ppo->generate_seconds;
}

/* The largest |ratio - 1| of a token's probability when it was drawn and now; NaN: they are not of
 * one distribution. */
static double sampling_dev(const lp_ppo* ppo, const lp_generation* b) {
    if (!b->log_probs || !lp__logp_was_sampled(ppo->def.logp, &ppo->def.generate))
        return (double)NAN;
    return lp__ratio_dev(b->response_offsets[b->sequences], ppo->rollout.log_prob, b->log_probs);
}

lp_status lp_ppo_step(lp_ppo* ppo, const lp_generation* batch, const double* scores,
                      const int32_t* permutations, lp_ppo_metrics* metrics) {
    const double start = lp__seconds();
    lp_ppo_metrics m = {0};
    lp_status status = check_batch(ppo, batch, scores);
    if (status != LP_OK) return status;
    if (!rollout_reserve(ppo, batch->sequences, batch->response_offsets[batch->sequences]))
        return LP_NOMEM;
    if (!permutations_ok(ppo, batch, permutations)) return LP_INVALID;
    status = score_pass(ppo, batch);
    if (status != LP_OK) return status;
    ppo->sequences = batch->sequences;
    ppo->tokens = batch->response_offsets[batch->sequences];
    lp_moments moments = ppo->moments;
    advantages(ppo, batch, scores, &moments);
    batch_metrics(ppo, batch, scores, &m);
    m.ratio_max_dev = sampling_dev(ppo, batch);
    m.time_forward = lp__seconds() - start;
    status = epochs(ppo, batch, permutations, &m);
    if (status != LP_OK) return status;
    m.time_total = lp__seconds() - start;
    m.time_optimize = m.time_total - m.time_forward;
    if (ppo->def.adap_kl_ctrl)
        ppo->kl_coef = lp_adaptive_kl(ppo->kl_coef, m.objective_kl, ppo->def.target,
                                      (double)batch->sequences, ppo->def.horizon);
    ppo->moments = moments;
    ppo->steps++;
    if (metrics) *metrics = m;
    return LP_OK;
}
