/* The policy-gradient loss: REINFORCE, A2C, PPO and GRPO are settings of it. */
#include "tensor/tape.h"
#include <logpi/pg.h>

/* pi / pi_old of each row */
static lp_tensor ratio_of(lp_tape* t, lp_tensor log_prob, const lp_pg_loss_def* def) {
    return lp_exp(t, lp_sub(t, log_prob, lp_const_f32(t, log_prob->rows, 1, def->old_log_prob)));
}

/* -A log pi, whose gradient is -A grad log pi: REINFORCE and A2C. Or, for several steps on one
 * batch, max(-A ratio, -A clamp(ratio, 1 - eps, 1 + eps_high)): PPO, GRPO. */
static lp_tensor surrogate(lp_tape* t, lp_tensor log_prob, const lp_pg_loss_def* def) {
    const int64_t n = log_prob->rows;
    lp_tensor minus_advantage = lp_neg(t, lp_const_f32(t, n, 1, def->advantage));
    if (def->surrogate == LP_SURROGATE_SCORE) return lp_mul(t, minus_advantage, log_prob);
    const double high = def->clip_range_high > 0 ? def->clip_range_high : def->clip_range;
    lp_tensor ratio = ratio_of(t, log_prob, def);
    lp_tensor clipped_ratio = lp_clamp(t, ratio, 1.0 - def->clip_range, 1.0 + high);
    return lp_maximum(t, lp_mul(t, minus_advantage, ratio),
                      lp_mul(t, minus_advantage, clipped_ratio));
}

/* The estimate k3 of KL(pi || pi_ref) at each row, times the ratio if that is wanted. */
static lp_tensor kl_to_reference(lp_tape* t, lp_tensor log_prob, const lp_pg_loss_def* def) {
    lp_tensor ref_log_prob = lp_const_f32(t, log_prob->rows, 1, def->ref_log_prob);
    lp_tensor k3 = lp_kl_estimate(t, LP_K3, log_prob, ref_log_prob);
    return def->kl_times_ratio ? lp_mul(t, k3, ratio_of(t, log_prob, def)) : k3;
}

/* (V - R)^2, or of V clipped to the neighbourhood of V_old, or the larger of the two */
static lp_tensor value_loss(lp_tape* t, lp_tensor value, const lp_pg_loss_def* def) {
    const int64_t n = value->rows;
    lp_tensor returns = lp_const_f32(t, n, 1, def->returns);
    lp_tensor plain = lp_square(t, lp_sub(t, value, returns));
    if (def->value_loss == LP_VALUE_LOSS_PLAIN) return plain;
    lp_tensor old_value = lp_const_f32(t, n, 1, def->old_value);
    const double c = def->clip_range_value;
    if (def->value_loss ==
        LP_VALUE_LOSS_CLIPPED) { /* the gradient at the very ends is torch.clamp's */
        lp_tensor step = lp_clamp(t, lp_sub(t, value, old_value), -c, c);
        return lp_square(t, lp_sub(t, lp_add(t, old_value, step), returns));
    }
    lp_tensor clipped_value =
        lp_maximum(t, lp_minimum(t, value, lp_shift(t, old_value, c)), lp_shift(t, old_value, -c));
    return lp_maximum(t, plain, lp_square(t, lp_sub(t, clipped_value, returns)));
}

/* A column [n, 1] beside the log-probabilities, or none. */
static bool column(lp_tape* t, lp_tensor x, lp_tensor log_prob) {
    return LP__REQUIRE(lp_tape_ctx(t), !x || (x->cols == 1 && x->rows == log_prob->rows),
                       "log-probabilities, values and entropies are [n, 1]");
}

lp_tensor lp_pg_loss(lp_tape* t, lp_tensor log_prob, lp_tensor value, lp_tensor entropy,
                     const lp_pg_loss_def* def) {
    lp_tensor in[3] = {log_prob, value ? value : log_prob, entropy ? entropy : log_prob};
    if (!lp__inputs_ok(t, in, 3)) return NULL;
    if (!LP__REQUIRE(lp_tape_ctx(t), def->normaliser > 0,
                     "a loss is a mean over at least one row") ||
        !column(t, log_prob, log_prob) || !column(t, value, log_prob) ||
        !column(t, entropy, log_prob))
        return lp__tape_fail(t, LP_INVALID);
    lp_tensor loss = surrogate(t, log_prob, def);
    if (value) loss = lp_add(t, loss, lp_scale(t, value_loss(t, value, def), def->vf_coef));
    if (entropy && def->ent_coef != 0) loss = lp_sub(t, loss, lp_scale(t, entropy, def->ent_coef));
    if (def->kl_coef != 0)
        loss = lp_add(t, loss, lp_scale(t, kl_to_reference(t, log_prob, def), def->kl_coef));
    if (def->weight) loss = lp_mul(t, loss, lp_const_f32(t, log_prob->rows, 1, def->weight));
    return lp_scale(t, lp_sum(t, loss), 1.0 / def->normaliser);
}
