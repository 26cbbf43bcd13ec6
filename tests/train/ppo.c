/* The trainer on the tiny model: the same bits for any threads and micro-batches, controls, what
 * must be refused, and that sampling and learning see the same log-probabilities. */
#include "rig.h"

static void threads_and_micro_batches_change_no_bit(void** state) {
    (void)state;
    const uint64_t want = weights_after_a_step(1, 0, 4), whole = weights_after_a_step(1, 8, 8);
    for (int threads = 2; threads <= 3; threads++)
        assert_true(weights_after_a_step(threads, 0, 4) == want);
    for (int64_t micro = 1; micro <= 4; micro++)
        assert_true(weights_after_a_step(2, micro, 4) == want);
    for (int64_t micro = 1; micro <= 7; micro += 2)
        assert_true(weights_after_a_step(3, micro, 8) == whole);
    assert_true(want != whole);
}

static void learning_rate_zero_changes_no_bit(void** state) {
    (void)state;
    rig r;
    lp_ppo_def def = settings();
    def.learning_rate = 0;
    set_up(&r, 2, &def);
    const uint64_t before = digest(lp_weights_params(r.policy));
    for (int i = 0; i < 2; i++)
        assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    assert_true(digest(lp_weights_params(r.policy)) == before);
    lp_ctx_destroy(r.ctx);
}

static void bad_rewards_are_refused(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def def = settings();
    set_up(&r, 1, &def);
    const uint64_t before = digest(lp_weights_params(r.policy));
    const double bad[] = {(double)NAN, (double)INFINITY};
    for (int i = 0; i < 2; i++) {
        r.scores[5] = bad[i];
        assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_NONFINITE);
        assert_non_null(strstr(lp_error(r.ctx), "sequence 5"));
    }
    assert_true(digest(lp_weights_params(r.policy)) == before);
    assert_int_equal(lp_ppo_steps(r.ppo), 0);
    assert_close(lp_ppo_kl_coef(r.ppo), def.init_kl_coef, 0);
    r.scores[5] = 0; /* as it was: the step is the one of a trainer that was never refused */
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    assert_true(digest(lp_weights_params(r.policy)) == weights_after_a_step(1, 0, 4));
    lp_ctx_destroy(r.ctx);
}

/* A weight that is NaN makes every gradient NaN: the optimizer refuses, and the other weights stay.
 */
static void bad_gradients_are_refused(void** state) {
    (void)state;
    rig r;
    lp_ppo_def def = settings();
    set_up(&r, 1, &def);
    lp_f32(lp_params_find(lp_weights_params(r.policy), "v_head.summary.bias"))[0] = NAN;
    const uint64_t before = digest(lp_weights_params(r.policy));
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_NONFINITE);
    assert_true(digest(lp_weights_params(r.policy)) == before);
    lp_ctx_destroy(r.ctx);
}

static void batches_that_do_not_fit(void** state) {
    (void)state;
    rig r;
    lp_ppo_def def = settings();
    def.mini_batch_size = 3;
    set_up(&r, 1, &def);
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_INVALID);
    lp_ppo* other;
    def.cliprange = -1;
    assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &def, &other), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "cliprange"));
    lp_ctx_destroy(r.ctx);
}

/* The log-probability of a token while it is sampled is, bit for bit, the one that a forward pass
 * over the whole sequence gives. */
static void sampling_and_learning_agree(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def def = settings();
    set_up(&r, 3, &def);
    lp_tape* t = lp_tape_create(r.ctx, LP_F32);
    for (int64_t s = 0; s < r.batch.sequences; s++) {
        int32_t tokens[256], rows[256];
        const int64_t q = r.batch.prompt_offsets[s + 1] - r.batch.prompt_offsets[s];
        const int64_t n = r.batch.response_offsets[s + 1] - r.batch.response_offsets[s];
        const int32_t* response = r.batch.responses.ids + r.batch.response_offsets[s];
        memcpy(tokens, r.batch.prompts.ids + r.batch.prompt_offsets[s], (size_t)q * sizeof *tokens);
        memcpy(tokens + q, response, (size_t)n * sizeof *tokens);
        for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)(q - 1 + i);
        const int64_t offsets[] = {0, q + n};
        const lp_batch batch = {.sequences = 1, .offsets = offsets, .tokens = tokens};
        lp_tape_reset(t);
        lp_tensor states =
            lp_rows(t, lp_model_hidden(t, r.model, r.policy, &batch), lp_const_i32(t, n, 1, rows));
        lp_tensor lp =
            lp_model_log_prob(t, r.policy, states, lp_const_i32(t, n, 1, response), 1.0, NULL);
        assert_memory_equal(lp->data, r.batch.log_probs + r.batch.response_offsets[s],
                            (size_t)n * sizeof(float));
    }
    lp_ctx_destroy(r.ctx);
}

/* ratio_max_dev is about sampling: a batch whose log-probabilities are not those of the policy
 * shows in it. */
static void a_stale_batch_shows(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def def = settings();
    set_up(&r, 1, &def);
    r.batch.log_probs[2] -= 0.125f;
    lp_ppo_metrics m;
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, &m), LP_OK);
    assert_close(m.ratio_max_dev, exp(0.125) - 1, 1e-6);
    lp_ctx_destroy(r.ctx);
}

/* Settings change the course of a run: each must be read. */
static void settings_are_read(void** state) {
    (void)state;
    lp_ppo_def defs[6];
    for (int i = 0; i < 6; i++) defs[i] = settings();
    defs[1].whiten_rewards = true;
    defs[2].kl_penalty = LP_KL_FULL;
    defs[3].max_grad_norm = 0.1;
    defs[4].use_score_scaling = true;
    defs[5].score_clip = 0.25;
    uint64_t hashes[6];
    for (int i = 0; i < 6; i++) {
        rig r;
        set_up(&r, 1, &defs[i]);
        for (int k = 0; k < 2; k++)
            assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
        hashes[i] = digest(lp_weights_params(r.policy));
        for (int j = 0; j < i; j++) assert_true(hashes[i] != hashes[j]);
        lp_ctx_destroy(r.ctx);
    }
}

static void rewards(void** state) {
    (void)state;
    assert_close(lp_reward_contains("A ReWaRd!", "reward"), 1, 0);
    assert_close(lp_reward_contains("rewar", "reward"), 0, 0);
    assert_close(lp_reward_contains("", "reward"), 0, 0);
    assert_close(lp_reward_contains("rerereward", "REREWARD"), 1, 0);
    assert_close(lp_reward_contains("caf\xc3\xa9", "\xc3\xa9"), 1, 0);
    assert_close(lp_reward_contains("", ""), 1, 0);
    assert_close(lp_reward_contains("a", ""), 1, 0);
    /* letters of every alphabet, by simple case folding */
    assert_close(lp_reward_contains("ein R\u00c9SUM\u00c9.", "r\u00e9sum\u00e9"), 1, 0);
    assert_close(lp_reward_contains("\u0446\u0435\u043b\u044c", "\u0426\u0415\u041b\u042c"), 1, 0);
    assert_close(lp_reward_contains("\u0426\u0415\u041b\u042c", "\u0446\u0435\u043b\u044c"), 1, 0);
    assert_close(
        lp_reward_contains("\u03a3\u039f\u03a6\u039f\u03a3", "\u03c3\u03bf\u03c6\u03bf\u03c2"), 1,
        0);
    assert_close(lp_reward_contains("\u212a", "k"), 1, 0); /* the kelvin sign */
    assert_close(lp_reward_contains("R\u00c9SUM\u00c8", "r\u00e9sum\u00e9"), 0, 0);
    assert_close(lp_reward_contains("RESUME", "r\u00e9sum\u00e9"), 0, 0);
    assert_close(lp_reward_contains("\u00c9", "\u00e9\u00e9"), 0, 0);
    /* signs of a pattern are letters like others */
    assert_close(lp_reward_contains("\u00e9 aab", "a*b"), 0, 0);
    assert_close(lp_reward_contains("\u00c9 A*\\E(B", "\u00e9 a*\\e(b"), 1, 0);
    /* what is no UTF-8 is compared byte by byte, capitals of ASCII apart */
    assert_close(lp_reward_contains("\xff R\u00c9", "\xff r\u00c9"), 1, 0);
    assert_close(lp_reward_contains("\xff \u00c9", "\u00e9"), 0, 0);
    assert_close(lp_reward_contains("caf\u00e9", "\xa9"), 1, 0);
    /* a long word needs memory */
    static char text[(1 << 14) + 1], word[(1 << 14) + 1];
    for (size_t i = 0; i + 2 < sizeof text; i += 2) {
        memcpy(text + i, "\u00c9", 2);
        memcpy(word + i, "\u00e9", 2);
    }
    assert_close(lp_reward_contains(text, word), 1, 0);
    memcpy(text + sizeof text - 5, "\u00c8", 2);
    assert_close(lp_reward_contains(text, word), 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_micro_batches_change_no_bit),
        cmocka_unit_test(learning_rate_zero_changes_no_bit),
        cmocka_unit_test(bad_rewards_are_refused),
        cmocka_unit_test(bad_gradients_are_refused),
        cmocka_unit_test(batches_that_do_not_fit),
        cmocka_unit_test(sampling_and_learning_agree),
        cmocka_unit_test(a_stale_batch_shows),
        cmocka_unit_test(settings_are_read),
        cmocka_unit_test(rewards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
