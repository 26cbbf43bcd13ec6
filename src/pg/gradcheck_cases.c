/* Gradcheck cases of the distributions and of the losses. */
#include <logpi/pg.h>

static const int32_t actions[] = {2, 0, 1};
static const double points[] = {0.3, -1.2, 0.8, 1.5, -0.4, 0.1};

static lp_tensor categorical_log_prob(lp_tape* t, const lp_tensor* in) {
    return lp_log_prob(t, lp_categorical(t, in[0]), lp_const_i32(t, 3, 1, actions));
}
static lp_tensor categorical_entropy(lp_tape* t, const lp_tensor* in) {
    return lp_entropy(t, lp_categorical(t, in[0]));
}
static lp_tensor categorical_kl(lp_tape* t, const lp_tensor* in) {
    return lp_kl(t, lp_categorical(t, in[0]), lp_categorical(t, in[1]));
}
static lp_tensor gaussian_log_prob(lp_tape* t, const lp_tensor* in) {
    return lp_log_prob(t, lp_gaussian(t, in[0], in[1]), lp_const_f64(t, 3, 2, points));
}
static lp_tensor gaussian_entropy(lp_tape* t, const lp_tensor* in) {
    return lp_entropy(t, lp_gaussian(t, in[0], in[1]));
}
static lp_tensor gaussian_kl(lp_tape* t, const lp_tensor* in) {
    return lp_kl(t, lp_gaussian(t, in[0], in[1]), lp_gaussian(t, in[2], in[3]));
}

/* ratios and values both inside and outside of their clip ranges */
static lp_tensor ppo_loss(lp_tape* t, const lp_tensor* in) {
    static const float old_log_prob[] = {-0.5f, 0.4f, -0.1f, 0.7f, -0.9f, 0.2f};
    static const float old_value[] = {0.9f, -0.8f, 0.1f, 0.3f, -0.2f, -0.7f};
    static const float advantage[] = {1.1f, -0.7f, 0.5f, -1.3f, 0.9f, 0.2f};
    static const float returns[] = {0.4f, 0.1f, -0.6f, 1.2f, 0.5f, -0.3f};
    const lp_ppo_loss_def def = {0.2, 0.2, 0.7, 6.0, old_log_prob, old_value, advantage, returns};
    return lp_ppo_loss(t, in[0], in[1], &def);
}

/* ratios inside and outside of an uneven clip range, weights that differ, the KL in both ways */
static lp_tensor grpo_loss(lp_tape* t, lp_tensor log_prob, bool correction) {
    static const float old_log_prob[] = {-0.5f, 0.4f, -0.1f, 0.7f, -0.9f, 0.2f};
    static const float ref_log_prob[] = {-0.2f, 0.6f, -0.7f, 0.3f, -0.4f, 0.1f};
    static const float advantage[] = {1.1f, -0.7f, 0.5f, -1.3f, 0.9f, 0.2f};
    static const float weight[] = {0.5f, 0.5f, 0.25f, 0.125f, 0.25f, 1.0f};
    const lp_grpo_loss_def def = {0.2,          0.5,          0.7,       correction,
                                  old_log_prob, ref_log_prob, advantage, weight};
    return lp_grpo_loss(t, log_prob, &def);
}
static lp_tensor grpo_loss_plain(lp_tape* t, const lp_tensor* in) {
    return grpo_loss(t, in[0], false);
}
static lp_tensor grpo_loss_corrected(lp_tape* t, const lp_tensor* in) {
    return grpo_loss(t, in[0], true);
}
static lp_tensor kl_estimates(lp_tape* t, const lp_tensor* in) {
    return lp_add(
        t, lp_kl_estimate(t, LP_K1, in[0], in[1]),
        lp_mul(t, lp_kl_estimate(t, LP_K2, in[0], in[1]), lp_kl_estimate(t, LP_K3, in[0], in[1])));
}

static const lp_gradcheck_case cases[] = {
    {"categorical/log_prob", 1, {{3, 4}}, -1, 1, categorical_log_prob},
    {"categorical/entropy", 1, {{3, 4}}, -1, 1, categorical_entropy},
    {"categorical/kl", 2, {{3, 4}, {3, 4}}, -1, 1, categorical_kl},
    {"gaussian/log_prob", 2, {{3, 2}, {3, 2}}, -1, 1, gaussian_log_prob},
    {"gaussian/log_prob_row", 2, {{3, 2}, {1, 2}}, -1, 1, gaussian_log_prob},
    {"gaussian/entropy", 2, {{3, 2}, {1, 2}}, -1, 1, gaussian_entropy},
    {"gaussian/kl", 4, {{3, 2}, {1, 2}, {3, 2}, {3, 2}}, -1, 1, gaussian_kl},
    {"ppo_loss", 2, {{6, 1}, {6, 1}}, -1, 1, ppo_loss},
    {"grpo_loss", 1, {{6, 1}}, -1, 1, grpo_loss_plain},
    {"grpo_loss/bias_correction", 1, {{6, 1}}, -1, 1, grpo_loss_corrected},
    {"kl_estimates", 2, {{6, 1}, {6, 1}}, -1, 1, kl_estimates},
};

int lp_pg_gradcheck_cases(const lp_gradcheck_case** out) {
    *out = cases;
    return (int)(sizeof cases / sizeof *cases);
}
