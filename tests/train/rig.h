/* A trainer of the tiny model with a batch that it has generated, and what tests ask of it. */
#ifndef TESTS_TRAIN_RIG_H
#define TESTS_TRAIN_RIG_H

#include "testing.h"

#include <logpi/train.h>

/* A trainer, and a batch that it generated. */
typedef struct rig {
    lp_ctx* ctx;
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* ppo;
    lp_prompts prompts;
    lp_generation batch;
    double scores[8];
} rig;

static inline void no_assertion(void* user, const char* condition, const char* where,
                                const char* message) {
    (void)user;
    fail_msg("%s: %s (%s)", where, message, condition);
}

static inline lp_ctx* context(int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    def.assertion = no_assertion;
    char error[256];
    lp_ctx* ctx = lp_ctx_create(&def, error, sizeof error);
    if (!ctx) fail_msg("%s", error);
    return ctx;
}

static inline lp_ppo_def settings(void) {
    lp_ppo_def def = lp_ppo_def_default();
    def.learning_rate = 1e-3;
    def.mini_batch_size = 4;
    def.ppo_epochs = 2;
    def.seed = 3;
    def.generate.max_new_tokens = 12;
    return def;
}

static inline void set_up(rig* r, int threads, const lp_ppo_def* def) {
    static const char* const texts[] = {
        "One, two", "a much longer prompt, of quite a few more tokens", "x", "One, two"};
    memset(r, 0, sizeof *r);
    r->ctx = context(threads);
    assert_int_equal(lp_model_open(r->ctx, LP_MODELS "/tiny.gguf", &r->model), LP_OK);
    assert_int_equal(lp_model_load_weights(r->model, true, &r->policy), LP_OK);
    assert_int_equal(lp_weights_clone(r->policy, false, &r->reference), LP_OK);
    assert_int_equal(lp_ppo_create(r->model, r->policy, r->reference, def, &r->ppo), LP_OK);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(lp_prompts_add(r->ctx, &r->prompts, r->model, texts[i % 4], false), LP_OK);
        r->scores[i] = i % 3 == 0;
    }
    assert_int_equal(lp_ppo_generate(r->ppo, &r->prompts, &r->batch), LP_OK);
}

/* FNV-1a over all numbers of a set */
static inline uint64_t digest(const lp_params* params) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        lp_tensor x = lp_params_get(params, i);
        const uint8_t* bytes = x->data;
        for (size_t j = 0; j < (size_t)(x->rows * x->cols) * sizeof(float); j++)
            hash = (hash ^ bytes[j]) * 0x100000001b3u;
    }
    return hash;
}

/* The weights after one step of settings(); that the first ratios are 1, exactly, is checked on the
 * way. */
static inline uint64_t weights_after_a_step(int threads, int64_t micro_batch, int64_t mini_batch) {
    rig r;
    lp_ppo_def def = settings();
    def.micro_batch_size = micro_batch;
    def.mini_batch_size = mini_batch;
    set_up(&r, threads, &def);
    lp_ppo_metrics m;
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, &m), LP_OK);
    assert_close(m.ratio_max_dev, 0.0, 0.0);
    const uint64_t hash = digest(lp_weights_params(r.policy));
    lp_ctx_destroy(r.ctx);
    return hash;
}

#endif
