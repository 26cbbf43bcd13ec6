/* Distributions, built of tape ops, so that everything about them is differentiable. */
#include "tensor/tape.h"
#include <logpi/pg.h>

static const double HALF_LOG_2PI = 0.91893853320467274178;

lp_dist lp_categorical(lp_tape* t, lp_tensor logits) {
    return (lp_dist){.kind = LP_CATEGORICAL, .log_p = lp_log_softmax(t, logits)};
}

lp_dist lp_gaussian(lp_tape* t, lp_tensor mean, lp_tensor log_std) {
    (void)t;
    return (lp_dist){.kind = LP_GAUSSIAN, .mean = mean, .log_std = log_std};
}

/* An action of each row of log-probabilities, drawn from rng. */
static lp_tensor sample_categorical(lp_tape* t, lp_tensor log_p, lp_rng* rng) {
    lp_tensor p = lp_exp(t, lp_detach(t, log_p));
    lp__node* a = p ? lp__leaf(t, LP_I32, p->rows, 1) : NULL;
    if (!a) return NULL;
    for (int64_t i = 0; i < p->rows; i++) {
        const int64_t choice = p->type == LP_F64
                                   ? lp_rng_choice_f64(rng, lp_f64(p) + i * p->cols, p->cols)
                                   : lp_rng_choice_f32(rng, lp_f32(p) + i * p->cols, p->cols);
        if (choice < 0)
            return lp__tape_fail(
                t, lp_fail(t->ctx, LP_NONFINITE,
                           "row %lld has no finite positive probability to sample from",
                           (long long)i));
        ((int32_t*)a->t.data)[i] = (int32_t)choice;
    }
    return &a->t;
}

/* mean-shaped copy of x, which may be a row or a scalar */
static lp_tensor spread(lp_tape* t, lp_tensor mean, lp_tensor x) {
    if (!lp__inputs_ok(t, &mean, 1)) return NULL;
    return lp_add(t, lp_zeros(t, mean->rows, mean->cols), x);
}

lp_tensor lp_sample(lp_tape* t, lp_dist pi, lp_rng* rng) {
    if (pi.kind == LP_CATEGORICAL) return sample_categorical(t, pi.log_p, rng);
    if (!lp__inputs_ok(t, &pi.mean, 1)) return NULL;
    lp_tensor noise = lp_randn(t, rng, pi.mean->rows, pi.mean->cols);
    return lp_detach(t, lp_add(t, lp_mul(t, noise, lp_exp(t, pi.log_std)), pi.mean));
}

/* categorical: log p_a.  Gaussian: -sum_j ((a - mean)^2 / (2 std^2) + log std + log(2 pi) / 2) */
lp_tensor lp_log_prob(lp_tape* t, lp_dist pi, lp_tensor a) {
    if (pi.kind == LP_CATEGORICAL) return lp_pick(t, pi.log_p, a);
    lp_tensor z = lp_div(t, lp_sub(t, a, pi.mean), lp_exp(t, pi.log_std));
    lp_tensor density = lp_add(t, lp_scale(t, lp_square(t, z), 0.5), pi.log_std);
    return lp_neg(t, lp_row_sum(t, lp_shift(t, density, HALF_LOG_2PI)));
}

/* categorical: -sum_j p_j log p_j.  Gaussian: sum_j (1/2 + log(2 pi) / 2 + log std) */
lp_tensor lp_entropy(lp_tape* t, lp_dist pi) {
    if (pi.kind == LP_CATEGORICAL) return lp_row_entropy(t, pi.log_p);
    return lp_row_sum(t, lp_shift(t, spread(t, pi.mean, pi.log_std), 0.5 + HALF_LOG_2PI));
}

/* categorical: sum_j p_j (log p_j - log q_j).
 * Gaussian: sum_j (log(sq / sp) + (sp^2 + (mp - mq)^2) / (2 sq^2) - 1/2) */
lp_tensor lp_kl(lp_tape* t, lp_dist p, lp_dist q) {
    if (!LP__REQUIRE(t->ctx, p.kind == q.kind, "a divergence needs two distributions of one kind"))
        return lp__tape_fail(t, LP_INVALID);
    if (p.kind == LP_CATEGORICAL) return lp_row_kl(t, p.log_p, q.log_p);
    lp_tensor log_sp = spread(t, p.mean, p.log_std), log_sq = spread(t, p.mean, q.log_std);
    lp_tensor log_ratio = lp_sub(t, log_sp, log_sq);
    lp_tensor distance = lp_div(t, lp_sub(t, p.mean, q.mean), lp_exp(t, log_sq));
    lp_tensor squares = lp_add(t, lp_exp(t, lp_scale(t, log_ratio, 2.0)), lp_square(t, distance));
    return lp_row_sum(t, lp_sub(t, lp_shift(t, lp_scale(t, squares, 0.5), -0.5), log_ratio));
}

lp_tensor lp_mode(lp_tape* t, lp_dist pi) {
    if (pi.kind == LP_GAUSSIAN) return lp_detach(t, pi.mean);
    lp_tensor log_p = pi.log_p;
    if (!lp__inputs_ok(t, &log_p, 1)) return NULL;
    lp__node* a = lp__leaf(t, LP_I32, log_p->rows, 1);
    if (!a) return NULL;
    for (int64_t i = 0; i < log_p->rows; i++) {
        int64_t best = 0;
        for (int64_t j = 1; j < log_p->cols; j++) {
            if (lp_at(log_p, i, j) > lp_at(log_p, i, best)) best = j;
        }
        ((int32_t*)a->t.data)[i] = (int32_t)best;
    }
    return &a->t;
}
