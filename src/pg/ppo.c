/* PPO's arithmetic on ragged token sequences, as TRL 0.11.4's PPOTrainer does it on padded ones.
 * Each function here is named after its counterpart there in the comment above it. */
#include "base/base.h"
#include <logpi/pg.h>
#include <math.h>

/* PPOTrainer._kl_penalty */
void lp_kl_per_token(lp_kl_penalty kind, int64_t n, const float* log_prob,
                     const float* ref_log_prob, const float* full, float* kl) {
    for (int64_t i = 0; i < n; i++) {
        const float k1 = log_prob[i] - ref_log_prob[i];
        switch (kind) {
        case LP_KL_K1: kl[i] = k1; break;
        case LP_KL_ABS: kl[i] = fabsf(k1); break;
        case LP_KL_MSE: kl[i] = 0.5f * k1 * k1; break;
        case LP_KL_FULL: kl[i] = full[i]; break;
        }
    }
}

/* PPOTrainer.compute_rewards */
void lp_token_rewards(int64_t sequences, const int64_t* offsets, const float* kl, double kl_coef,
                      const double* scores, float* rewards) {
    for (int64_t s = 0; s < sequences; s++) {
        for (int64_t i = offsets[s]; i < offsets[s + 1]; i++)
            rewards[i] = (float)(-kl_coef * (double)kl[i]);
        if (offsets[s] < offsets[s + 1]) rewards[offsets[s + 1] - 1] += (float)scores[s];
    }
}

/* PPOTrainer.compute_advantages, without its whitening */
void lp_gae(int64_t sequences, const int64_t* offsets, const float* rewards, const float* values,
            double gamma, double lambda, float* advantages, float* returns) {
    for (int64_t s = 0; s < sequences; s++) {
        double advantage = 0, next_value = 0;
        for (int64_t i = offsets[s + 1] - 1; i >= offsets[s]; i--) {
            const double delta = (double)rewards[i] + gamma * next_value - (double)values[i];
            advantage = delta + gamma * lambda * advantage;
            advantages[i] = (float)advantage;
            returns[i] = (float)(advantage + (double)values[i]);
            next_value = (double)values[i];
        }
    }
}

/* core.masked_whiten */
void lp_whiten(int64_t n, float* x, bool shift_mean) {
    if (n < 2) {
        for (int64_t i = 0; i < n && shift_mean; i++) x[i] = 0;
        return;
    }
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += (double)x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) square += ((double)x[i] - mean) * ((double)x[i] - mean);
    const double scale = 1.0 / sqrt(square / (double)(n - 1) + 1e-8);
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(((double)x[i] - mean) * scale + (shift_mean ? 0.0 : mean));
}

/* PPOTrainer.loss */
lp_tensor lp_ppo_loss(lp_tape* t, lp_tensor log_prob, lp_tensor value, const lp_ppo_loss_def* def) {
    const lp_pg_loss_def loss = {.surrogate = LP_SURROGATE_CLIPPED,
                                 .clip_range = def->clip_range,
                                 .value_loss = LP_VALUE_LOSS_WORSE,
                                 .clip_range_value = def->clip_range_value,
                                 .vf_coef = 0.5 * def->vf_coef,
                                 .normaliser = def->normaliser,
                                 .old_log_prob = def->old_log_prob,
                                 .old_value = def->old_value,
                                 .advantage = def->advantage,
                                 .returns = def->returns};
    return lp_pg_loss(t, log_prob, value, NULL, &loss);
}

void lp_spread_add(lp_spread* s, double x) {
    const double delta = x - s->mean;
    s->n++;
    s->mean += delta / (double)s->n;
    s->square += delta * (x - s->mean);
}

double lp_spread_var(const lp_spread* s) {
    return s->n > 1 ? s->square / (double)(s->n - 1) : (double)NAN;
}

void lp_ppo_sums_add(lp_ppo_sums* sums, int64_t n, const float* log_prob, const float* value,
                     const float* entropy, const lp_ppo_loss_def* def) {
    for (int64_t i = 0; i < n; i++) {
        const double log_ratio = (double)log_prob[i] - (double)def->old_log_prob[i],
                     ratio = exp(log_ratio);
        const double advantage = (double)def->advantage[i], returns = (double)def->returns[i];
        const double v = (double)value[i], old = (double)def->old_value[i];
        const double bounded = fmin(fmax(ratio, 1.0 - def->clip_range), 1.0 + def->clip_range);
        const double bounded_v =
            fmin(fmax(v, old - def->clip_range_value), old + def->clip_range_value);
        const double loss = -advantage * ratio, clipped_loss = -advantage * bounded;
        const double error = (v - returns) * (v - returns);
        const double clipped_error = (bounded_v - returns) * (bounded_v - returns);
        sums->policy_loss += fmax(loss, clipped_loss);
        sums->value_loss += 0.5 * fmax(error, clipped_error);
        sums->clipped += clipped_loss > loss;
        sums->value_clipped += clipped_error > error;
        sums->ratio += ratio;
        sums->approx_kl += 0.5 * log_ratio * log_ratio;
        sums->policy_kl -= log_ratio;
        sums->entropy += entropy ? (double)entropy[i] : 0.0;
        sums->advantage += advantage;
        lp_spread_add(&sums->returns, returns);
        lp_spread_add(&sums->value, old);
        sums->new_value += v;
        sums->value_error += error;
    }
    sums->n += n;
}

/* core.RunningMoments: an almost weightless first sample of mean 0 and variance 1 */
lp_moments lp_moments_start(void) { return (lp_moments){.var = 1.0, .std = 1.0, .count = 1e-24}; }

void lp_moments_add(lp_moments* m, int64_t n, const double* x) {
    if (n == 0) return;
    const double count = (double)n, total = m->count + count;
    double mean = 0, square = 0;
    for (int64_t i = 0; i < n; i++) mean += x[i];
    mean /= count;
    for (int64_t i = 0; i < n; i++) square += (x[i] - mean) * (x[i] - mean);
    const double delta = mean - m->mean;
    const double sum = square + m->var * m->count + delta * delta * m->count * count / total;
    m->mean += delta * count / total;
    m->var = sum / total;
    const double tiny = 1e-12 * (1.0 + m->mean * m->mean);
    m->std = total > 1.0 && m->var > tiny ? sqrt(sum / (total - 1.0)) : 1.0;
    m->count = total;
}

/* AdaptiveKLController.update */
double lp_adaptive_kl(double coef, double current, double target, double n, double horizon) {
    const double error = fmin(fmax(current / target - 1.0, -0.2), 0.2);
    return coef * (1.0 + error * n / horizon);
}
