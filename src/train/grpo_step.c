/* One step of GRPO on a language model, as TRL 1.16's GRPOTrainer: advantages of the groups, then
 * num_iterations updates from the whole batch. An update is computed in micro-batches, whose
 * gradients continue the same sums, so that their size changes no bit. */
#include "train/grpo.h"
#include <math.h>
#include <string.h>

/* ---- the batch ------------------------------------------------------------------------------- */

/* Room for the batch; kept from step to step, and a quarter more when it grows. */
static bool reserve(lp_grpo* g, int64_t sequences, int64_t tokens) {
    if (tokens > g->capacity) {
        float** arrays[] = {&g->old_log_prob, &g->ref_log_prob, &g->advantage, &g->weight,
                            &g->exact_kl};
        const int64_t room = (int64_t)lp__grown((size_t)tokens, (size_t)g->capacity);
        for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
            if (!lp__grow_floats(g->ctx, arrays[i], room)) return false;
        }
        g->capacity = room;
    }
    if (sequences > g->sequence_capacity) {
        double* advantage =
            lp__realloc(g->ctx, g->group_advantage, (size_t)sequences * sizeof *advantage);
        if (advantage) g->group_advantage = advantage;
        int32_t* order = lp__realloc(g->ctx, g->order, (size_t)sequences * sizeof *order);
        if (order) g->order = order;
        if (!advantage || !order) return false;
        for (int64_t s = 0; s < sequences; s++) order[s] = (int32_t)s;
        g->sequence_capacity = sequences;
    }
    return true;
}

/* Whether sequence s has the prompt of the first of its group. */
static bool same_prompt(const lp_generation* b, int64_t s, int64_t first) {
    const int64_t from = b->prompt_offsets[s], other = b->prompt_offsets[first];
    const int64_t length = b->prompt_offsets[s + 1] - from;
    return length == b->prompt_offsets[first + 1] - other &&
           memcmp(b->prompts.ids + from, b->prompts.ids + other,
                  (size_t)length * sizeof *b->prompts.ids) == 0;
}

static lp_status check_batch(const lp_grpo* g, const lp_generation* b, const double* rewards) {
    const lp_grpo_def* d = &g->def;
    if (b->sequences < 1) return lp_fail(g->ctx, LP_INVALID, "the batch is empty");
    if (b->sequences % d->num_generations)
        return lp_fail(g->ctx, LP_INVALID,
                       "num_generations %lld does not divide the batch of %lld sequences",
                       (long long)d->num_generations, (long long)b->sequences);
    if (d->per_device_train_batch_size > 0 && b->sequences % d->per_device_train_batch_size)
        return lp_fail(g->ctx, LP_INVALID,
                       "per_device_train_batch_size %lld does not divide the batch of %lld "
                       "sequences",
                       (long long)d->per_device_train_batch_size, (long long)b->sequences);
    for (int64_t s = 0; s < b->sequences; s++) {
        if (!isfinite(rewards[s]))
            return lp_fail(g->ctx, LP_NONFINITE,
                           "the reward of sequence %lld in step %lld is %g: the step is refused, "
                           "nothing moved",
                           (long long)s, (long long)g->steps + 1,
                           isnan(rewards[s]) ? fabs(rewards[s]) : rewards[s]);
        if (b->prompt_offsets[s + 1] <= b->prompt_offsets[s] ||
            b->response_offsets[s + 1] <= b->response_offsets[s])
            return lp_fail(g->ctx, LP_INVALID, "sequence %lld has an empty prompt or response",
                           (long long)s);
        if (!same_prompt(b, s, s - s % d->num_generations))
            return lp_fail(g->ctx, LP_INVALID,
                           "sequence %lld has another prompt than the first of its group of %lld",
                           (long long)s, (long long)d->num_generations);
    }
    return lp__logp_check_batch(&g->pass, d->logp, &d->generate, b);
}

/* Advantages and weights of the tokens. */
static void prepare(lp_grpo* g, const lp_generation* b, const double* rewards, lp_grpo_metrics* m) {
    const lp_grpo_def* d = &g->def;
    const int64_t local = d->per_device_train_batch_size;
    m->frac_reward_zero_std =
        lp_group_advantages(b->sequences / d->num_generations, d->num_generations, d->scale_rewards,
                            rewards, g->group_advantage);
    for (int64_t s = 0; s < b->sequences; s++) {
        for (int64_t i = b->response_offsets[s]; i < b->response_offsets[s + 1]; i++)
            g->advantage[i] = (float)g->group_advantage[s];
    }
    lp_token_weights(d->loss_type, b->sequences, b->response_offsets, d->generate.max_new_tokens,
                     local > 0 ? local : b->sequences, g->weight);
}

/* ---- the reference --------------------------------------------------------------------------- */

static lp_status reference_part(void* user, const lp__part* part) {
    lp_grpo* g = user;
    lp__pass* pass = &g->pass;
    lp_tape_reset(pass->tape);
    const lp__said ref = lp__part_forward(pass, g->reference, part, LP__ASK_LOG_PROB);
    if (!ref.log_prob) return lp_tape_status(pass->tape);
    lp__part_scatter(part, lp_f32(ref.log_prob), g->ref_log_prob);
    if (!g->def.exact_kl) return LP_OK;
    const float* h_ref = lp__part_keep(pass, ref.states);
    lp_tape_reset(pass->tape);
    const lp__said said = lp__part_forward(pass, g->policy, part, LP__ASK_LOG_PROB);
    if (!said.log_prob) return lp_tape_status(pass->tape);
    const float* h = lp__part_keep(pass, said.states);
    return h && h_ref ? lp__part_full_kl(pass, g->policy, g->reference, part, h, h_ref, g->exact_kl)
                      : LP_NOMEM;
}

/* Log-probabilities of the reference and, if that is wanted, the exact KL of each token. */
static lp_status reference_pass(lp_grpo* g, const lp_generation* b, lp_grpo_metrics* m) {
    m->kl_exact = (double)NAN;
    if (g->def.beta == 0 && !g->def.exact_kl) return LP_OK;
    const double start = lp__seconds();
    lp_tape_record(g->pass.tape, false);
    const lp_status status = lp__pass_parts(&g->pass, b, g->order, b->sequences, reference_part, g);
    lp_tape_record(g->pass.tape, true);
    if (status == LP_OK && g->def.exact_kl) {
        const int64_t n = b->response_offsets[b->sequences];
        m->kl_exact = 0;
        for (int64_t i = 0; i < n; i++) m->kl_exact += (double)g->exact_kl[i] / (double)n;
    }
    m->time_reference = lp__seconds() - start;
    return status;
}

/* ---- one update ------------------------------------------------------------------------------ */

/* An update while its parts go through. */
typedef struct update {
    lp_grpo* grpo;
    bool first;   /* of the step */
    bool sampled; /* the old log-probabilities are those of sampling */
    lp_grpo_sums sums;
    double max_dev;
} update;

/* The policy has not moved since it drew the batch: what it says now is the old log-probability. If
 * it came with the batch it is the same number, and is compared. */
static void remember(update* u, const lp__part* part, lp_tensor log_prob, float* old) {
    if (u->sampled) {
        u->max_dev = fmax(u->max_dev, lp__ratio_dev(part->rows, lp_f32(log_prob), old));
    } else {
        memcpy(old, lp_f32(log_prob), (size_t)part->rows * sizeof *old);
        lp__part_scatter(part, old, u->grpo->old_log_prob);
    }
}

static lp_status micro_batch(void* user, const lp__part* part) {
    update* u = user;
    lp_grpo* g = u->grpo;
    lp__pass* pass = &g->pass;
    const lp_grpo_def* d = &g->def;
    float* old = lp__part_gather(pass, part, g->old_log_prob);
    const lp_grpo_loss_def loss = {
        .epsilon = d->epsilon,
        .epsilon_high = d->epsilon_high,
        .beta = d->beta,
        .use_bias_correction_kl = d->use_bias_correction_kl,
        .old_log_prob = old,
        .ref_log_prob = d->beta > 0 ? lp__part_gather(pass, part, g->ref_log_prob) : NULL,
        .advantage = lp__part_gather(pass, part, g->advantage),
        .weight = lp__part_gather(pass, part, g->weight)};
    if (!old || !loss.advantage || !loss.weight || (d->beta > 0 && !loss.ref_log_prob))
        return LP_NOMEM;
    lp_tape_reset(pass->tape);
    const lp__said said = lp__part_forward(pass, g->policy, part, LP__ASK_ENTROPY);
    if (!said.log_prob) return lp_tape_status(pass->tape);
    if (u->first) remember(u, part, said.log_prob, old);
    lp_grpo_sums_add(&u->sums, part->sequences, part->row_offsets, lp_f32(said.log_prob),
                     lp_f32(said.entropy), &loss);
    return lp_backward(pass->tape, lp_grpo_loss(pass->tape, said.log_prob, &loss));
}

/* Adds the statistics of one update; they are means over the updates in the end. */
static void add_metrics(lp_grpo_metrics* m, const lp_grpo_sums* s, double grad_norm, double share) {
    const double n = (double)s->n;
    m->loss += share * s->loss;
    m->grad_norm += share * grad_norm;
    m->entropy += share * s->entropy / n;
    m->kl += share * s->kl / n;
    m->clip_low_mean += share * s->low / n;
    m->clip_low_min += share * s->low_min;
    m->clip_high_mean += share * s->high / n;
    m->clip_high_max += share * s->high_max;
    m->clip_region_mean += share * (s->low + s->high) / n;
}

/* TRL's linear schedule: the rate of update u (from 0) is (max_steps - u) / max_steps of the first.
 */
static double learning_rate(const lp_grpo* g, int64_t u) {
    const double most = (double)g->def.max_steps;
    return g->def.learning_rate * (most > 0 ? fmax(0.0, most - (double)u) / most : 1.0);
}

static lp_status one_update(lp_grpo* g, const lp_generation* b, int64_t iteration, bool sampled,
                            lp_grpo_metrics* m) {
    update u = {.grpo = g, .first = iteration == 0, .sampled = sampled};
    double grad_norm = 0;
    lp_status status = lp__pass_parts(&g->pass, b, g->order, b->sequences, micro_batch, &u);
    m->learning_rate = learning_rate(g, g->updates + iteration);
    lp_optim_set_learning_rate(g->optim, m->learning_rate);
    if (status == LP_OK) status = lp_optim_step(g->optim, &grad_norm);
    if (status != LP_OK) {
        lp_params_zero_grad(lp_weights_params(g->policy));
        return status;
    }
    add_metrics(m, &u.sums, grad_norm, 1.0 / (double)g->def.num_iterations);
    if (u.first) m->ratio_max_dev = sampled ? u.max_dev : (double)NAN;
    return LP_OK;
}

/* A step is whole or leaves no trace. One update alone is so by itself: the optimizer looks at all
 * gradients before it moves anything, and a step of Adam, of some learning rates, cannot make a
 * finite weight infinite. Before the first of several all that they move is remembered. */
static lp_status updates(lp_grpo* g, const lp_generation* b, lp_grpo_metrics* m) {
    const lp_grpo_def* d = &g->def;
    const bool several = d->num_iterations > 1;
    const bool sampled = b->log_probs && lp__logp_was_sampled(d->logp, &d->generate);
    const int64_t n = b->response_offsets[b->sequences];
    if (sampled) {
        memcpy(g->old_log_prob, b->log_probs, (size_t)n * sizeof *b->log_probs);
    } else { /* nothing to compare with; the first update says it */
        memset(g->old_log_prob, 0, (size_t)n * sizeof *g->old_log_prob);
    }
    lp_status status = several ? lp_optim_savepoint(g->optim) : LP_OK;
    int64_t i = 0;
    for (; status == LP_OK && i < d->num_iterations; i++) status = one_update(g, b, i, sampled, m);
    if (status == LP_OK && several && !lp_params_finite(lp_weights_params(g->policy)))
        status = lp_fail(g->ctx, LP_NONFINITE,
                         "a weight is no finite number any more: the step is refused, nothing "
                         "moved; lower the learning rate");
    if (status == LP_OK) return LP_OK;
    if (several && i > 0) lp_optim_rollback(g->optim);
    return lp__fail_at(g->ctx, status, "step %lld, update %lld of %lld", (long long)g->steps + 1,
                       (long long)LP__MAX(i, (int64_t)1), (long long)d->num_iterations);
}

/* ---- the step -------------------------------------------------------------------------------- */

/* What GRPOTrainer._generate logs of the completions, and the rewards. */
static void batch_metrics(const lp_grpo* g, const lp_generation* b, const double* rewards,
                          lp_grpo_metrics* m) {
    lp_spread reward = {0}, length = {0}, ended = {0};
    m->min_length = m->min_terminated_length = (double)INFINITY;
    for (int64_t s = 0; s < b->sequences; s++) {
        const int64_t n = b->response_offsets[s + 1] - b->response_offsets[s];
        const int32_t last = b->responses.ids[b->response_offsets[s + 1] - 1];
        lp_spread_add(&reward, rewards[s]);
        lp_spread_add(&length, (double)n);
        m->min_length = fmin(m->min_length, (double)n);
        m->max_length = fmax(m->max_length, (double)n);
        if (!lp_model_ends(g->model, last)) continue;
        lp_spread_add(&ended, (double)n);
        m->min_terminated_length = fmin(m->min_terminated_length, (double)n);
        m->max_terminated_length = fmax(m->max_terminated_length, (double)n);
    }
    if (ended.n == 0) m->min_terminated_length = 0;
    m->mean_length = length.mean;
    m->mean_terminated_length = ended.mean;
    m->clipped_ratio = 1.0 - (double)ended.n / (double)b->sequences;
    m->reward = reward.mean;
    m->reward_std = sqrt(lp_spread_var(&reward));
    m->time_generate = g->generate_seconds;
}

lp_status lp_grpo_step(lp_grpo* g, const lp_generation* batch, const double* rewards,
                       lp_grpo_metrics* metrics) {
    const double start = lp__seconds();
    lp_grpo_metrics m = {0};
    lp_status status = check_batch(g, batch, rewards);
    if (status != LP_OK) return status;
    const int64_t tokens = batch->response_offsets[batch->sequences];
    if (!reserve(g, batch->sequences, tokens)) return LP_NOMEM;
    prepare(g, batch, rewards, &m);
    g->sequences = batch->sequences;
    g->tokens = tokens;
    status = reference_pass(g, batch, &m);
    const double train = lp__seconds();
    if (status == LP_OK) status = updates(g, batch, &m);
    if (status != LP_OK) return status;
    if (g->def.beta == 0) m.kl = (double)NAN;
    batch_metrics(g, batch, rewards, &m);
    g->steps++;
    g->updates += g->def.num_iterations;
    g->tokens_seen += batch->prompt_offsets[batch->sequences] + tokens;
    m.num_tokens = (double)g->tokens_seen;
    m.time_train = lp__seconds() - train;
    m.step_time = m.time_generate + lp__seconds() - start;
    if (metrics) *metrics = m;
    return LP_OK;
}
