/* The policy-gradient loss: REINFORCE, A2C and PPO are settings of it. */
#include "tensor/tape.h"
#include <logpi/pg.h>

/* -A log pi, whose gradient is -A grad log pi: REINFORCE and A2C. Or, for several steps on one
 * batch, max(-A ratio, -A clamp(ratio, 1 - eps, 1 + eps)): PPO. */
static lp_tensor surrogate(lp_tape* t, lp_tensor log_prob, const lp_pg_loss_def* def) {
    const int64_t n = log_prob->rows;
    lp_tensor minus_advantage = lp_neg(t, lp_const_f32(t, n, 1, def->advantage));
    if (def->surrogate == LP_SURROGATE_SCORE) return lp_mul(t, minus_advantage, log_prob);
    lp_tensor old_log_prob = lp_const_f32(t, n, 1, def->old_log_prob);
    lp_tensor ratio = lp_exp(t, lp_sub(t, log_prob, old_log_prob));
    lp_tensor clipped_ratio = lp_clamp(t, ratio, 1.0 - def->clip_range, 1.0 + def->clip_range);
    return lp_maximum(t, lp_mul(t, minus_advantage, ratio),
                      lp_mul(t, minus_advantage, clipped_ratio));
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
    return lp_scale(t, lp_sum(t, loss), 1.0 / def->normaliser);
}
