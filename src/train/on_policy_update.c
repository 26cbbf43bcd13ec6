/* Learning from a rollout: epochs of minibatches through the policy-gradient loss, as PPO.train and
 * A2C.train of Stable-Baselines3 do it. */
#include "train/on_policy.h"
#include <math.h>
#include <string.h>

/* Sums over the minibatches of an update. */
typedef struct tally {
    int64_t minibatches, kl_minibatches; /* of the last epoch */
    int64_t steps;                       /* of the optimizer */
    double policy_loss, value_loss, entropy, clipped, kl, grad_norm, loss, max_dev;
} tally;

/* Settings that schedules have at this update. */
typedef struct settings {
    bool clip_value; /* wanted at all: a range that has fallen to 0 clips, too */
    double clip_range, clip_range_vf;
} settings;

/* Sample j of an order is step j % T of environment j / T. */
static void gather(lp_on_policy* r, int64_t n, const int32_t* order) {
    const lp__steps* s = &r->steps;
    lp__minibatch* m = &r->mini;
    const int64_t obs = r->policy->def.observation.n, width = lp__action_width(r->policy);
    m->n = n;
    for (int64_t k = 0; k < n; k++) {
        const int64_t at = order[k] % s->T * s->N + order[k] / s->T;
        memcpy(m->observation + k * obs, s->observation + at * obs, (size_t)obs * sizeof(float));
        memcpy((float*)m->action + k * width, (const float*)s->action + at * width,
               (size_t)width * sizeof(float));
        m->log_prob[k] = s->log_prob[at];
        m->value[k] = s->value[at];
        m->advantage[k] = s->advantage[at];
        m->returns[k] = s->returns[at];
    }
    if (r->def.normalize_advantage) lp_standardise(n, m->advantage);
}

static lp_pg_loss_def loss_def(const lp_on_policy* r, const settings* now) {
    const bool ppo = r->def.algorithm == LP_PPO;
    return (lp_pg_loss_def){.surrogate = ppo ? LP_SURROGATE_CLIPPED : LP_SURROGATE_SCORE,
                            .clip_range = now->clip_range,
                            .value_loss =
                                now->clip_value ? LP_VALUE_LOSS_CLIPPED : LP_VALUE_LOSS_PLAIN,
                            .clip_range_value = now->clip_range_vf,
                            .vf_coef = r->def.vf_coef,
                            .ent_coef = r->def.ent_coef,
                            .normaliser = (double)r->mini.n,
                            .advantage = r->mini.advantage,
                            .returns = r->mini.returns,
                            .old_log_prob = r->mini.log_prob,
                            .old_value = r->mini.value};
}

/* What Stable-Baselines3 logs about a minibatch; returns its approx_kl. */
static double note(const lp_on_policy* r, const settings* now, const float* log_prob,
                   const float* value, const float* entropy, tally* sums) {
    const lp__minibatch* m = &r->mini;
    const bool ppo = r->def.algorithm == LP_PPO;
    double policy = 0, error = 0, entropies = 0, clipped = 0, kl = 0;
    for (int64_t k = 0; k < m->n; k++) {
        const double log_ratio = (double)log_prob[k] - (double)m->log_prob[k],
                     ratio = exp(log_ratio);
        const double advantage = (double)m->advantage[k], old = (double)m->value[k];
        const double bounded = fmin(fmax(ratio, 1.0 - now->clip_range), 1.0 + now->clip_range);
        policy -=
            ppo ? fmin(advantage * ratio, advantage * bounded) : advantage * (double)log_prob[k];
        double v = (double)value[k];
        if (now->clip_value) v = old + fmin(fmax(v - old, -now->clip_range_vf), now->clip_range_vf);
        error += (v - (double)m->returns[k]) * (v - (double)m->returns[k]);
        entropies += (double)entropy[k];
        clipped += fabs(ratio - 1.0) > now->clip_range;
        kl += (ratio - 1.0) - log_ratio;
        if (sums->minibatches == 0) sums->max_dev = fmax(sums->max_dev, fabs(ratio - 1.0));
    }
    const double n = (double)m->n;
    sums->policy_loss += policy / n;
    sums->value_loss += error / n;
    sums->entropy += entropies / n;
    sums->clipped += ppo ? clipped / n : 0;
    sums->kl += kl / n;
    sums->minibatches++;
    sums->kl_minibatches++;
    return kl / n;
}

/* One optimizer step; *stop: approx_kl was too large, and none was made. */
static lp_status minibatch(lp_on_policy* r, const settings* now, tally* sums, bool* stop) {
    lp_tape* t = r->tape;
    const lp__minibatch* m = &r->mini;
    lp_tape_reset(t);
    lp_tensor x = lp_const_f32(t, m->n, r->policy->def.observation.n, m->observation);
    lp_dist pi = lp__policy_dist(t, r->policy, x);
    lp_tensor value = lp__policy_value(t, r->policy, x);
    lp_tensor log_prob = lp_log_prob(t, pi, lp__policy_actions(t, r->policy, m->n, m->action));
    lp_tensor entropy = lp_entropy(t, pi);
    const lp_pg_loss_def def = loss_def(r, now);
    lp_tensor loss = lp_pg_loss(t, log_prob, value, entropy, &def);
    if (!loss) return lp_tape_status(t);
    const double kl = note(r, now, lp_f32(log_prob), lp_f32(value), lp_f32(entropy), sums);
    sums->loss = lp_item(loss);
    *stop = r->def.target_kl > 0 && kl > 1.5 * r->def.target_kl;
    if (*stop) return LP_OK;
    double norm = 0;
    lp_status status = lp_backward(t, loss);
    if (status == LP_OK) status = lp_optim_step(r->optim, &norm);
    sums->grad_norm += norm;
    sums->steps++;
    return status;
}

static lp_status epochs(lp_on_policy* r, const int32_t* permutations, const settings* now,
                        tally* sums) {
    const int64_t samples = r->steps.T * r->steps.N;
    bool stop = false;
    for (int64_t epoch = 0; epoch < r->def.n_epochs && !stop; epoch++) {
        if (permutations) {
            memcpy(r->order, permutations + epoch * samples, (size_t)samples * sizeof *r->order);
        } else {
            lp_rng rng = lp_rng_philox(r->def.seed, LP_FOR_SHUFFLE, (uint64_t)r->iterations,
                                       (uint32_t)epoch);
            lp_rng_permutation(&rng, r->order, (int32_t)samples);
        }
        sums->kl = 0;
        sums->kl_minibatches = 0;
        for (int64_t i = 0; i < samples && !stop; i += r->def.batch_size) {
            gather(r, LP__MIN(samples - i, r->def.batch_size), r->order + i);
            lp_status status = minibatch(r, now, sums, &stop);
            if (status != LP_OK) return status;
        }
        r->updates++;
    }
    return LP_OK;
}

/* 1 - Var(R - V) / Var(R), both with ddof 0 */
static double explained_variance(const lp__steps* s) {
    lp_spread returns = {0}, rest = {0};
    for (int64_t at = 0; at < s->T * s->N; at++) {
        lp_spread_add(&returns, (double)s->returns[at]);
        lp_spread_add(&rest, (double)s->returns[at] - (double)s->value[at]);
    }
    return returns.square > 0 ? 1.0 - rest.square / returns.square : (double)NAN;
}

static double mean_std(const lp_policy* p) {
    double sum = 0;
    if (!p->log_std) return (double)NAN;
    for (int64_t i = 0; i < p->def.action.n; i++) sum += exp(lp_at(p->log_std, 0, i));
    return sum / (double)p->def.action.n;
}

static void fill(const lp_on_policy* r, const settings* now, double rate, const tally* sums,
                 lp_on_policy_metrics* m) {
    const double n = (double)sums->minibatches;
    m->learning_rate = rate;
    m->clip_range = now->clip_range;
    m->clip_range_vf = now->clip_value ? now->clip_range_vf : (double)NAN;
    m->policy_gradient_loss = sums->policy_loss / n;
    m->value_loss = sums->value_loss / n;
    m->entropy_loss = -sums->entropy / n;
    m->loss = sums->loss;
    m->approx_kl = sums->kl / (double)sums->kl_minibatches;
    m->clip_fraction = sums->clipped / n;
    m->explained_variance = explained_variance(&r->steps);
    m->grad_norm = sums->steps > 0 ? sums->grad_norm / (double)sums->steps : (double)NAN;
    m->ratio_max_dev = sums->max_dev;
    m->std = mean_std(r->policy);
    m->n_updates = (double)r->updates;
}

lp_status lp__on_policy_update(lp_on_policy* r, const int32_t* permutations,
                               lp_on_policy_metrics* metrics) {
    const settings now = {r->def.clip_range_vf.initial > 0, lp__schedule_now(r, r->def.clip_range),
                          lp__schedule_now(r, r->def.clip_range_vf)};
    const double rate = lp__schedule_now(r, r->def.learning_rate);
    const int64_t updates = r->updates;
    tally sums = {0};
    lp_optim_set_learning_rate(r->optim, rate);
    lp_status status = lp_optim_savepoint(r->optim);
    if (status == LP_OK) status = epochs(r, permutations, &now, &sums);
    if (status == LP_OK && !lp_params_finite(r->policy->params))
        status = lp_fail(r->ctx, LP_NONFINITE,
                         "a weight is no finite number any more: the update is refused, nothing "
                         "moved; lower the "
                         "learning rate");
    if (status == LP_OK) {
        fill(r, &now, rate, &sums, metrics);
        return LP_OK;
    }
    lp_params_zero_grad(r->policy->params);
    if (sums.minibatches > 0) lp_optim_rollback(r->optim);
    r->updates = updates;
    return lp__fail_at(r->ctx, status, "update after %lld timesteps", (long long)r->timesteps);
}
