/* Scores, orders and first weights: what settings of the trainer do, in numbers. */
#include "train/rig.h"

#include "train/ppo.h"

/* The scores 1, 0, 0, 1, 0, 0, 1, 0 have mean 3/8 and, with ddof 1, deviation sqrt(15/56). */
static void scores_are_scaled_and_clipped(void** state) {
    (void)state;
    const double deviation = sqrt(15.0 / 56.0), eps = 1.1920928955078125e-07;
    for (int kind = 0; kind < 3; kind++) {
        rig r;
        lp_ppo_def def = settings();
        def.use_score_scaling = kind < 2;
        def.use_score_norm = kind == 1;
        def.score_clip = kind == 2 ? 0.25 : 0;
        set_up(&r, 1, &def);
        if (kind == 2) r.scores[1] = -2;
        assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
        for (int s = 0; s < 8; s++) {
            const double want = kind == 2
                                    ? fmin(fmax(r.scores[s], -0.25), 0.25)
                                    : (r.scores[s] - (kind == 1 ? 0.375 : 0)) / (deviation + eps);
            assert_close(lp_ppo_last_dists(r.ppo).scores[s], want, 1e-9);
        }
        lp_ctx_destroy(r.ctx);
    }
}

/* torch.nn.Linear: uniform within 1 / sqrt(width), on both sides of zero */
static void uniform_value_head(void** state) {
    (void)state;
    rig r;
    lp_ppo_def def = settings();
    def.v_head_init = LP_VALUE_UNIFORM;
    set_up(&r, 1, &def);
    lp_tensor w = lp_params_find(lp_weights_params(r.policy), "v_head.summary.weight");
    const double bound = 1.0 / sqrt((double)w->cols);
    double low = 0, high = 0;
    for (int64_t j = 0; j < w->cols; j++) {
        low = fmin(low, lp_at(w, 0, j));
        high = fmax(high, lp_at(w, 0, j));
    }
    assert_true(low >= -bound && low < -0.7 * bound);
    assert_true(high <= bound && high > 0.7 * bound);
    lp_ctx_destroy(r.ctx);
}

/* Each epoch has an order of its own: after two epochs the last is another than after one. */
static void epochs_have_their_own_order(void** state) {
    (void)state;
    int32_t order[2][8];
    for (int i = 0; i < 2; i++) {
        rig r;
        lp_ppo_def def = settings();
        def.ppo_epochs = 1 + i;
        set_up(&r, 1, &def);
        assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
        memcpy(order[i], r.ppo->rollout.order, sizeof order[i]);
        lp_ctx_destroy(r.ctx);
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_scaled_and_clipped),
        cmocka_unit_test(uniform_value_head),
        cmocka_unit_test(epochs_have_their_own_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
