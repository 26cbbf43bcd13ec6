/* What bounds a batch or a step: the context, min_new_tokens, ratio_threshold, early stopping. */
#include "rig.h"

/* A prompt that does not fit is refused, no response is left behind, and the trainer's random
 * numbers have not moved: the next batch is the one that would have come. */
static void a_long_prompt_is_refused(void** state) {
    (void)state;
    rig r, fresh;
    const lp_ppo_def def = settings();
    set_up(&r, 1, &def);
    set_up(&fresh, 1, &def);
    char text[4096];
    memset(text, 'q', sizeof text - 1);
    text[sizeof text - 1] = 0;
    lp_prompts prompts = {0};
    assert_int_equal(lp_prompts_add(r.ctx, &prompts, r.model, "short", false), LP_OK);
    assert_int_equal(lp_prompts_add(r.ctx, &prompts, r.model, text, false), LP_OK);
    assert_true(prompts.offsets[2] - prompts.offsets[1] > lp_model_get_shape(r.model).context);
    assert_int_equal(lp_ppo_generate(r.ppo, &prompts, &r.batch), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "prompt 2 "));
    assert_int_equal(r.batch.sequences, 0);
    assert_int_equal(lp_ppo_generate(r.ppo, &r.prompts, &r.batch), LP_OK);
    assert_int_equal(lp_ppo_generate(fresh.ppo, &fresh.prompts, &fresh.batch), LP_OK);
    assert_int_equal(r.batch.responses.count, fresh.batch.responses.count);
    assert_memory_equal(r.batch.responses.ids, fresh.batch.responses.ids,
                        (size_t)r.batch.responses.count * sizeof(int32_t));
    lp_ctx_destroy(fresh.ctx);
    lp_ctx_destroy(r.ctx);
}

/* log sum_j exp(z_j) over a row of logits; without the tokens that end a text, if they may not be
 * drawn. */
static double log_sum(const rig* r, lp_tensor logits, int64_t row, bool ends) {
    double sum = 0;
    for (int32_t j = 0; j < logits->cols; j++) {
        if (ends || !lp_model_ends(r->model, j)) sum += exp(lp_at(logits, row, j));
    }
    return log(sum);
}

/* Sets the head's row of a token that ends a text to a multiple of the state after the first
 * prompt, so that its logit there is `logit`. */
static void make_an_end_likely(rig* r, double logit) {
    int32_t end = 0;
    while (!lp_model_ends(r->model, end)) end++;
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    const lp_batch prompt = {1, r->prompts.offsets, r->prompts.tokens.ids, NULL, NULL, NULL};
    lp_tensor h = lp_model_hidden(t, r->model, r->policy, &prompt);
    assert_true(lp_model_get_shape(r->model).tied);
    float* row = lp_f32(lp_params_find(lp_weights_params(r->policy), "model.embed_tokens.weight")) +
                 end * h->cols;
    double square = 0;
    for (int64_t i = 0; i < h->cols; i++) square += pow(lp_at(h, h->rows - 1, i), 2);
    for (int64_t i = 0; i < h->cols; i++)
        row[i] = (float)(logit * lp_at(h, h->rows - 1, i) / square);
    lp_params_changed(lp_weights_params(r->policy));
    lp_tape_destroy(t);
}

/* Each log-probability of a sequence beside the logits of one forward pass over all of it, within
 * 1e-5. */
static void compare_log_probs(const rig* r, int64_t s, int64_t least) {
    const lp_generation* g = &r->batch;
    const int32_t* said = g->responses.ids + g->response_offsets[s];
    const float* log_prob = g->log_probs + g->response_offsets[s];
    const int64_t n = g->response_offsets[s + 1] - g->response_offsets[s];
    const int64_t q = g->prompt_offsets[s + 1] - g->prompt_offsets[s];
    int32_t tokens[256];
    assert_true(q + n <= 256);
    memcpy(tokens, g->prompts.ids + g->prompt_offsets[s], (size_t)q * sizeof *tokens);
    memcpy(tokens + q, said, (size_t)n * sizeof *tokens);
    const int64_t offsets[] = {0, q + n};
    const lp_batch text = {1, offsets, tokens, NULL, NULL, NULL};
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    lp_tensor z = lp_model_logits(t, r->policy, lp_model_hidden(t, r->model, r->policy, &text));
    for (int64_t i = 0; i < n; i++)
        assert_close(log_prob[i],
                     lp_at(z, q - 1 + i, said[i]) - log_sum(r, z, q - 1 + i, i >= least), 1e-5);
    lp_tape_destroy(t);
}

typedef struct lengths {
    int early, at_least; /* responses that ended before token LEAST, and from there on */
} lengths;
enum { LEAST = 5 };

static lengths lengths_with(rig* r, int64_t min_new_tokens) {
    lp_ppo_def def = settings();
    def.generate.min_new_tokens = min_new_tokens;
    lp_ppo* ppo;
    lengths out = {0};
    assert_int_equal(lp_ppo_create(r->model, r->policy, r->reference, &def, &ppo), LP_OK);
    for (int round = 0; round < 20; round++) {
        assert_int_equal(lp_ppo_generate(ppo, &r->prompts, &r->batch), LP_OK);
        const lp_generation* g = &r->batch;
        for (int64_t s = 0; s < g->sequences; s++) {
            const int32_t* said = g->responses.ids + g->response_offsets[s];
            const int64_t n = g->response_offsets[s + 1] - g->response_offsets[s];
            const bool stopped = g->finish[s] == LP_FINISH_STOP;
            for (int64_t i = 0; i < n; i++)
                assert_true(lp_model_ends(r->model, said[i]) == (stopped && i == n - 1));
            assert_true(stopped || n == def.generate.max_new_tokens);
            out.early += stopped && n <= LEAST;
            out.at_least += stopped && n > LEAST;
            if (round == 0) compare_log_probs(r, s, min_new_tokens);
        }
    }
    lp_ppo_destroy(ppo);
    return out;
}

/* A token that ends a text is likely, and many responses end soon. With min_new_tokens none of the
 * first tokens is such a one, and their log-probabilities are those of the softmax without it. */
static void min_new_tokens(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def def = settings();
    set_up(&r, 2, &def);
    make_an_end_likely(&r, 6.5);
    const lengths unbound = lengths_with(&r, 0), bound = lengths_with(&r, LEAST); /* of 160 */
    assert_true(unbound.early > 20);
    assert_int_equal(bound.early, 0);
    assert_true(bound.at_least > 0);
    lp_ctx_destroy(r.ctx);
}

/* A threshold that every ratio exceeds: no minibatch has a gradient, no bit moves, the loss counts
 * as 0. */
static void minibatches_over_the_ratio_threshold(void** state) {
    (void)state;
    rig r;
    lp_ppo_def def = settings();
    def.ratio_threshold = 0.5;
    set_up(&r, 1, &def);
    const uint64_t before = digest(lp_weights_params(r.policy));
    lp_ppo_metrics m;
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, &m), LP_OK);
    assert_true(digest(lp_weights_params(r.policy)) == before);
    assert_close(m.skipped, 4, 0); /* 2 epochs of 2 minibatches */
    assert_close(m.loss_total, 0, 0);
    assert_close(m.policy_ratio, 1, 0);
    lp_ctx_destroy(r.ctx);
}

/* target_kl < 0: no early stopping. *policy_kl: the mean over minibatches. */
static uint64_t weights_with_target_kl(int64_t epochs, double target_kl, double* policy_kl) {
    rig r;
    lp_ppo_def def = settings();
    def.seed = 8; /* for which that distance, a mean over sampled tokens, is not negative */
    def.ppo_epochs = epochs;
    def.early_stopping = target_kl >= 0;
    def.target_kl = fmax(target_kl, 0);
    set_up(&r, 1, &def);
    lp_ppo_metrics m;
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, &m), LP_OK);
    *policy_kl = m.policy_policykl;
    const uint64_t hash = digest(lp_weights_params(r.policy));
    lp_ctx_destroy(r.ctx);
    return hash;
}

/* Epochs end when the last minibatch of one is farther than 1.5 target_kl from the policy that
 * sampled. Of the two minibatches of the first epoch the first is at 0 from it, so that the last is
 * at twice the mean. */
static void early_stopping(void** state) {
    (void)state;
    double mean, unused;
    const uint64_t one = weights_with_target_kl(1, -1, &mean),
                   two = weights_with_target_kl(2, -1, &unused);
    const uint64_t four = weights_with_target_kl(4, -1, &unused);
    assert_true(mean > 1e-6 && one != two && two != four);
    const double limit = 2 * mean / 1.5;
    assert_true(weights_with_target_kl(4, 0.999 * limit, &unused) == one);
    assert_true(weights_with_target_kl(2, 1.001 * limit, &unused) == two);
    assert_true(weights_with_target_kl(4, 1e9, &unused) == four);
}

/* Settings that are none are found when the trainer is made. */
static void bad_settings(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def good = settings();
    set_up(&r, 1, &good);
    for (int k = 0; k < 4; k++) {
        lp_ppo_def def = good;
        static const char* const named[] = {"kl_penalty", "temperature", "max_new_tokens", "gamma"};
        if (k == 0) def.kl_penalty = (lp_kl_penalty)77;
        if (k == 1) def.generate.temperature = -3;
        if (k == 2) def.generate.max_new_tokens = 1 << 20;
        if (k == 3) def.gamma = 1.5;
        lp_ppo* ppo;
        assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &def, &ppo), LP_INVALID);
        assert_null(ppo);
        assert_non_null(strstr(lp_error(r.ctx), named[k]));
    }
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_is_refused),
        cmocka_unit_test(min_new_tokens),
        cmocka_unit_test(minibatches_over_the_ratio_threshold),
        cmocka_unit_test(early_stopping),
        cmocka_unit_test(bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
