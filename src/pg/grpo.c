/* GRPO's arithmetic on ragged token sequences, as TRL 1.16's GRPOTrainer does it on padded ones.
 * Each function here is named after its counterpart there in the comment above it. */
#include "base/base.h"
#include <logpi/pg.h>
#include <math.h>

static double deviation(int64_t n, const double* x) {
    lp_spread spread = {0};
    for (int64_t i = 0; i < n; i++) lp_spread_add(&spread, x[i]);
    return n > 1 ? sqrt(lp_spread_var(&spread)) : 0.0;
}

static bool all_equal(int64_t n, const double* x) {
    for (int64_t i = 1; i < n; i++) {
        if (x[i] != x[0]) return false;
    }
    return true;
}

/* GRPOTrainer._generate_and_score_completions, sum_then_normalize */
double lp_group_advantages(int64_t groups, int64_t size, lp_scale_rewards scale,
                           const double* rewards, double* advantages) {
    const double of_all = scale == LP_SCALE_BATCH ? deviation(groups * size, rewards) : 0.0;
    int64_t flat = 0; /* groups without deviation */
    for (int64_t i = 0; i < groups; i++) {
        const double* r = rewards + i * size;
        double* a = advantages + i * size;
        const bool equal = all_equal(size, r); /* rounding of their mean must not become a reward */
        const double std = scale == LP_SCALE_BATCH ? of_all : equal ? 0.0 : deviation(size, r);
        double mean = 0;
        for (int64_t j = 0; j < size; j++) mean += r[j] / (double)size;
        for (int64_t j = 0; j < size; j++) {
            const double centred = equal ? 0.0 : r[j] - mean;
            a[j] = scale == LP_SCALE_NONE ? centred : centred / (std + 1e-4);
        }
        flat += std <= 1e-8;
    }
    return groups > 0 ? (double)flat / (double)groups : 0.0;
}

/* The normalisers of GRPOTrainer._compute_loss */
void lp_token_weights(lp_loss_type type, int64_t sequences, const int64_t* offsets, int64_t longest,
                      int64_t local, float* weights) {
    const double all = (double)(offsets[sequences] - offsets[0]), s_all = (double)sequences;
    for (int64_t s = 0; s < sequences; s++) {
        double weight = 1.0 / all;
        if (type == LP_LOSS_GRPO) weight = 1.0 / (s_all * (double)(offsets[s + 1] - offsets[s]));
        if (type == LP_LOSS_DR_GRPO) weight = 1.0 / (s_all * (double)longest);
        if (type == LP_LOSS_BNPO) {
            const int64_t from = s / local * local;
            const double tokens = (double)(offsets[from + local] - offsets[from]);
            weight = (double)local / (s_all * tokens);
        }
        for (int64_t i = offsets[s]; i < offsets[s + 1]; i++) weights[i] = (float)weight;
    }
}

lp_tensor lp_kl_estimate(lp_tape* t, lp_kl_estimator kind, lp_tensor log_prob,
                         lp_tensor ref_log_prob) {
    lp_tensor x = lp_sub(t, ref_log_prob, log_prob);
    switch (kind) {
    case LP_K1: return lp_neg(t, x);
    case LP_K2: return lp_scale(t, lp_square(t, x), 0.5);
    case LP_K3: break;
    }
    return lp_shift(t, lp_sub(t, lp_exp(t, x), x), -1.0);
}

/* GRPOTrainer._compute_loss */
lp_tensor lp_grpo_loss(lp_tape* t, lp_tensor log_prob, const lp_grpo_loss_def* def) {
    const lp_pg_loss_def loss = {.surrogate = LP_SURROGATE_CLIPPED,
                                 .clip_range = def->epsilon,
                                 .clip_range_high = def->epsilon_high,
                                 .kl_coef = def->beta,
                                 .kl_times_ratio = def->use_bias_correction_kl,
                                 .ref_log_prob = def->ref_log_prob,
                                 .weight = def->weight,
                                 .normaliser = 1.0,
                                 .old_log_prob = def->old_log_prob,
                                 .advantage = def->advantage};
    return lp_pg_loss(t, log_prob, NULL, NULL, &loss);
}

/* What one token adds. */
static void add_token(lp_grpo_sums* sums, double log_prob, int64_t i, const lp_grpo_loss_def* def,
                      double* low, double* high) {
    const double eps_high = def->epsilon_high > 0 ? def->epsilon_high : def->epsilon;
    const double ratio = exp(log_prob - (double)def->old_log_prob[i]);
    const double advantage = (double)def->advantage[i];
    const double bounded = fmin(fmax(ratio, 1.0 - def->epsilon), 1.0 + eps_high);
    double loss = fmax(-advantage * ratio, -advantage * bounded);
    if (def->beta != 0) {
        const double x = (double)def->ref_log_prob[i] - log_prob;
        const double kl = (exp(x) - x - 1.0) * (def->use_bias_correction_kl ? ratio : 1.0);
        sums->kl += kl;
        loss += def->beta * kl;
    }
    sums->loss += (double)def->weight[i] * loss;
    *low += ratio < 1.0 - def->epsilon && advantage < 0;
    *high += ratio > 1.0 + eps_high && advantage > 0;
}

void lp_grpo_sums_add(lp_grpo_sums* sums, int64_t sequences, const int64_t* offsets,
                      const float* log_prob, const float* entropy, const lp_grpo_loss_def* def) {
    for (int64_t s = 0; s < sequences; s++) {
        const int64_t from = offsets[s] - offsets[0], to = offsets[s + 1] - offsets[0];
        double low = 0, high = 0;
        for (int64_t i = from; i < to; i++) {
            add_token(sums, (double)log_prob[i], i, def, &low, &high);
            sums->entropy += (double)entropy[i];
        }
        const double n = (double)(to - from);
        sums->low_min = sums->sequences == 0 ? low / n : fmin(sums->low_min, low / n);
        sums->high_max = fmax(sums->high_max, high / n);
        sums->low += low;
        sums->high += high;
        sums->n += to - from;
        sums->sequences++;
    }
}
