/* The GRPO trainer on the tiny model: the same bits for any threads and micro-batches, sampling and
 * learning that agree exactly, steps that are whole or leave no trace, what must be refused, and a
 * reward that rises. */
#include "testing.h"

#include <logpi/train.h>

enum { PROMPTS = 3, GROUP = 4, SEQUENCES = PROMPTS * GROUP };

typedef struct rig {
    lp_ctx* ctx;
    lp_model* model;
    lp_weights *policy, *reference;
    lp_grpo* grpo;
    lp_prompts prompts;
    lp_generation batch;
    double rewards[SEQUENCES];
} rig;

static lp_precision precision = LP_FLOAT32; /* of the rigs to come */

static void no_assertion(void* user, const char* condition, const char* where,
                         const char* message) {
    (void)user;
    fail_msg("%s: %s (%s)", where, message, condition);
}

static lp_grpo_def settings(void) {
    lp_grpo_def def = lp_grpo_def_default();
    def.num_generations = GROUP;
    def.learning_rate = 1e-3;
    def.beta = 0.04;
    def.seed = 3;
    def.generate.max_new_tokens = 12;
    return def;
}

static void load(rig* r, int threads) {
    memset(r, 0, sizeof *r);
    lp_ctx_def ctx_def = lp_ctx_def_default();
    ctx_def.threads = threads;
    ctx_def.assertion = no_assertion;
    r->ctx = lp_ctx_create(&ctx_def, NULL, 0);
    assert_non_null(r->ctx);
    assert_int_equal(lp_model_open(r->ctx, LP_MODELS "/tiny.gguf", &r->model), LP_OK);
    assert_int_equal(lp_model_load_weights(r->model, true, &r->policy), LP_OK);
    assert_int_equal(lp_weights_clone(r->policy, false, &r->reference), LP_OK);
    lp_weights_set_precision(r->policy, precision);
    lp_weights_set_precision(r->reference, precision);
}

/* Completions of other lengths: those of the tiny model hardly ever end by themselves. */
static void shorten(lp_generation* b) {
    int64_t to = 0, from = 0, kept = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        const int64_t have = b->response_offsets[s + 1] - from, want = 2 + (5 * s) % 9;
        const int64_t n = have < want ? have : want;
        memmove(b->responses.ids + to, b->responses.ids + from, (size_t)n * sizeof(int32_t));
        memmove(b->log_probs + to, b->log_probs + from, (size_t)n * sizeof(float));
        for (int64_t j = 0; b->kept_offsets && j < n; j++) {
            const int64_t at = b->kept_offsets[from + j],
                          entries = b->kept_offsets[from + j + 1] - at;
            memmove(b->kept.ids + kept, b->kept.ids + at, (size_t)entries * sizeof(int32_t));
            b->kept_offsets[to + j] = kept; /* its old number is not read any more */
            kept += entries;
        }
        from += have;
        to += n;
        b->response_offsets[s + 1] = to;
    }
    if (b->kept_offsets) b->kept_offsets[to] = b->kept.count = kept;
    b->responses.count = to;
}

static void set_up(rig* r, int threads, const lp_grpo_def* def) {
    static const char* const texts[PROMPTS] = {
        "One, two", "a much longer prompt, of quite a few more tokens", "x"};
    load(r, threads);
    assert_int_equal(lp_grpo_create(r->model, r->policy, r->reference, def, &r->grpo), LP_OK);
    for (int i = 0; i < PROMPTS; i++)
        assert_int_equal(lp_prompts_add(r->ctx, &r->prompts, r->model, texts[i], false), LP_OK);
    for (int i = 0; i < SEQUENCES; i++) r->rewards[i] = i % 3 == 0;
    assert_int_equal(lp_grpo_generate(r->grpo, &r->prompts, &r->batch), LP_OK);
    shorten(&r->batch);
}

/* FNV-1a over all numbers of the policy */
static uint64_t digest(const rig* r) {
    const lp_params* params = lp_weights_params(r->policy);
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        lp_tensor x = lp_params_get(params, i);
        const uint8_t* bytes = x->data;
        for (size_t j = 0; j < (size_t)(x->rows * x->cols) * sizeof(float); j++)
            hash = (hash ^ bytes[j]) * 0x100000001b3u;
    }
    return hash;
}

static uint64_t weights_after_two_steps(int threads, int64_t micro_batch, const lp_grpo_def* def) {
    rig r;
    lp_grpo_def d = *def;
    d.micro_batch_size = micro_batch;
    set_up(&r, threads, &d);
    for (int step = 0; step < 2; step++) {
        lp_grpo_metrics m;
        if (step > 0) {
            assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
            shorten(&r.batch);
        }
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_close(m.ratio_max_dev, 0.0, 0.0);
    }
    const uint64_t hash = digest(&r);
    lp_ctx_destroy(r.ctx);
    return hash;
}

static void threads_and_micro_batches_change_no_bit(void** state) {
    (void)state;
    lp_grpo_def def = settings();
    def.num_iterations = 2;
    def.loss_type = LP_LOSS_BNPO; /* whose local batches are another thing than micro-batches */
    def.per_device_train_batch_size = 6;
    const uint64_t want = weights_after_two_steps(1, 0, &def);
    for (int threads = 2; threads <= 3; threads++)
        assert_true(weights_after_two_steps(threads, 0, &def) == want);
    for (int64_t micro = 1; micro <= 7; micro += 2)
        assert_true(weights_after_two_steps(2, micro, &def) == want);
    def.recompute = true;
    assert_true(weights_after_two_steps(2, 0, &def) == want);
    def.recompute = false;
    def.per_device_train_batch_size = 3;
    assert_true(weights_after_two_steps(1, 0, &def) != want);
}

/* The ratio before the first update is exactly 1, at any temperature. */
static void sampling_and_learning_agree_to_the_bit(void** state) {
    (void)state;
    static const double temperatures[] = {1.0, 0.7, 2.5};
    for (int i = 0; i < 3; i++) {
        rig r;
        lp_grpo_metrics m;
        lp_grpo_def def = settings();
        def.generate.temperature = temperatures[i];
        set_up(&r, 1 + i, &def);
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_close(m.ratio_max_dev, 0.0, 0.0);
        assert_close(m.clip_region_mean, 0.0, 0.0);
        assert_close(m.kl, 0.0, 0.0); /* the reference is the policy still */
        lp_grpo_dists d = lp_grpo_last_dists(r.grpo);
        assert_int_equal(d.sequences, SEQUENCES);
        for (int64_t j = 0; j < d.tokens; j++)
            assert_true(d.old_log_probs[j] == r.batch.log_probs[j] &&
                        d.old_log_probs[j] == d.ref_log_probs[j]);
        /* a log-probability that is another one is noticed */
        assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
        r.batch.log_probs[5] -= 0.01f;
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_close(m.ratio_max_dev, exp(0.01) - 1.0, 1e-5);
        lp_ctx_destroy(r.ctx);
    }
}

/* With a log pi that is not of what was drawn from there is nothing to compare; the first update's
 * own log-probabilities are the old ones, so that the weights are those of a batch that came
 * without any. */
static void off_policy_log_pi_takes_the_ratio_from_the_first_update(void** state) {
    (void)state;
    uint64_t hash[2];
    for (int i = 0; i < 2; i++) {
        rig r;
        lp_grpo_metrics m;
        lp_grpo_def def = settings();
        def.num_iterations = 3;
        def.logp = LP_LOGP_TEMPERED;
        def.generate.top_k = 5;
        def.generate.min_new_tokens = 3;
        set_up(&r, 2, &def);
        for (int64_t j = 0; i == 1 && j < r.batch.response_offsets[SEQUENCES]; j++)
            r.batch.log_probs[j] = -1.0f; /* not read */
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_true(isnan(m.ratio_max_dev));
        assert_true(m.kl > 0 && m.kl < 1);
        hash[i] = digest(&r);
        lp_ctx_destroy(r.ctx);
    }
    assert_true(hash[0] == hash[1]);
}

/* Each prompt's completions are contiguous, and generation g of prompt i has the stream i G + g. */
static void groups_are_contiguous(void** state) {
    (void)state;
    rig r;
    lp_grpo_def def = settings();
    set_up(&r, 2, &def);
    assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
    assert_int_equal(r.batch.sequences, SEQUENCES);
    for (int64_t s = 0; s < SEQUENCES; s++) {
        const int64_t p = s / GROUP, n = r.prompts.offsets[p + 1] - r.prompts.offsets[p];
        assert_int_equal(r.batch.prompt_offsets[s + 1] - r.batch.prompt_offsets[s], n);
        assert_memory_equal(r.batch.prompts.ids + r.batch.prompt_offsets[s],
                            r.prompts.tokens.ids + r.prompts.offsets[p],
                            (size_t)n * sizeof(int32_t));
        lp_generation alone = {0};
        lp_generate_def one = def.generate;
        one.seed = def.seed;
        one.first_index = (uint64_t)s;
        one.round = 1; /* the second batch */
        const int64_t offsets[] = {0, n};
        assert_int_equal(lp_generate(r.model, r.policy, &one, 1, offsets,
                                     r.prompts.tokens.ids + r.prompts.offsets[p], &alone),
                         LP_OK);
        const int64_t from = r.batch.response_offsets[s];
        assert_int_equal(alone.response_offsets[1], r.batch.response_offsets[s + 1] - from);
        assert_memory_equal(alone.responses.ids, r.batch.responses.ids + from,
                            (size_t)alone.response_offsets[1] * sizeof(int32_t));
        lp_generation_free(r.ctx, &alone);
    }
    lp_ctx_destroy(r.ctx);
}

/* Groups whose rewards are all equal have no gradient: the weights stay, to the bit, at the first
 * step, where Adam has no moments yet. */
static void equal_rewards_teach_nothing(void** state) {
    (void)state;
    for (int scale = LP_SCALE_GROUP; scale <= LP_SCALE_NONE; scale++) {
        rig r;
        lp_grpo_metrics m;
        lp_grpo_def def = settings();
        def.beta = 0;
        def.num_iterations = 2;
        def.scale_rewards = (lp_scale_rewards)scale;
        set_up(&r, 1, &def);
        const uint64_t before = digest(&r);
        for (int i = 0; i < SEQUENCES; i++) r.rewards[i] = 0.1 * (i / GROUP);
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_true(digest(&r) == before);
        assert_close(m.grad_norm, 0.0, 0.0);
        assert_close(m.frac_reward_zero_std, scale == LP_SCALE_BATCH ? 0.0 : 1.0, 0.0);
        assert_true(isnan(m.kl) && isnan(m.kl_exact));
        r.rewards[1] += 1.0;
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_true(digest(&r) != before);
        assert_close(m.frac_reward_zero_std, scale == LP_SCALE_BATCH ? 0.0 : 2.0 / PROMPTS, 1e-12);
        lp_ctx_destroy(r.ctx);
    }
}

/* The learning rate falls to 0 at max_steps updates, and none moves after that. */
static void the_rate_falls_linearly(void** state) {
    (void)state;
    rig r;
    lp_grpo_metrics m;
    lp_grpo_def def = settings();
    def.num_iterations = 2;
    def.max_steps = 4;
    set_up(&r, 1, &def);
    static const double last[] = {0.75, 0.25, 0.0};
    for (int i = 0; i < 3; i++) {
        const uint64_t before = digest(&r);
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
        assert_close(m.learning_rate, last[i] * def.learning_rate, 1e-18);
        assert_int_equal(digest(&r) == before, i == 2);
    }
    lp_ctx_destroy(r.ctx);
}

/* The exact KL of the policy after an update is that of its own logits, and the mean of k1 and k3
 * is near. */
static void exact_kl_is_that_of_the_logits(void** state) {
    (void)state;
    rig r;
    lp_grpo_metrics m;
    lp_grpo_def def = settings();
    def.exact_kl = true;
    set_up(&r, 2, &def);
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
    assert_close(m.kl_exact, 0.0, 0.0);
    lp_tape* t = lp_tape_create(r.ctx, LP_F32);
    lp_tape_record(t, false);
    double sum = 0;
    for (int64_t s = 0; s < SEQUENCES; s++) {
        const int64_t q = r.batch.prompt_offsets[s + 1] - r.batch.prompt_offsets[s];
        const int64_t n = r.batch.response_offsets[s + 1] - r.batch.response_offsets[s];
        int32_t tokens[256];
        const int64_t offsets[] = {0, q + n};
        memcpy(tokens, r.batch.prompts.ids + r.batch.prompt_offsets[s], (size_t)q * 4);
        memcpy(tokens + q, r.batch.responses.ids + r.batch.response_offsets[s], (size_t)n * 4);
        const lp_batch batch = {.sequences = 1, .offsets = offsets, .tokens = tokens};
        lp_tape_reset(t);
        lp_tensor z = lp_model_logits(t, r.policy, lp_model_hidden(t, r.model, r.policy, &batch));
        lp_tensor y =
            lp_model_logits(t, r.reference, lp_model_hidden(t, r.model, r.reference, &batch));
        for (int64_t i = q - 1; i < q + n - 1; i++) {
            double top_z = -1e30, top_y = -1e30, sum_z = 0, sum_y = 0, kl = 0;
            for (int64_t j = 0; j < z->cols; j++) top_z = fmax(top_z, lp_at(z, i, j));
            for (int64_t j = 0; j < z->cols; j++) top_y = fmax(top_y, lp_at(y, i, j));
            for (int64_t j = 0; j < z->cols; j++) sum_z += exp(lp_at(z, i, j) - top_z);
            for (int64_t j = 0; j < z->cols; j++) sum_y += exp(lp_at(y, i, j) - top_y);
            for (int64_t j = 0; j < z->cols; j++) {
                const double log_p = lp_at(z, i, j) - top_z - log(sum_z);
                kl += exp(log_p) * (log_p - (lp_at(y, i, j) - top_y - log(sum_y)));
            }
            sum += kl;
        }
    }
    const double want = sum / (double)r.batch.response_offsets[SEQUENCES];
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
    assert_true(want > 1e-5);
    assert_close(m.kl_exact, want, 1e-4 * want + 1e-7);
    lp_ctx_destroy(r.ctx);
}

/* ---- steps that fail ------------------------------------------------------------------------- */

static void mistakes_are_refused(void** state) {
    (void)state;
    rig r;
    lp_grpo_def def = settings();
    set_up(&r, 1, &def);
    const uint64_t before = digest(&r);
    static const double bad[] = {(double)NAN, (double)INFINITY};
    for (int i = 0; i < 2; i++) {
        r.rewards[5] = bad[i];
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_NONFINITE);
        assert_non_null(strstr(lp_error(r.ctx), "sequence 5"));
    }
    r.rewards[5] = 0;
    r.batch.sequences = SEQUENCES - 1;
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "num_generations 4 does not divide"));
    r.batch.sequences = 0;
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_INVALID);
    r.batch.sequences = SEQUENCES;
    assert_true(digest(&r) == before);
    assert_int_equal(lp_grpo_steps(r.grpo), 0);
    lp_grpo* other;
    assert_int_equal(lp_grpo_create(r.model, r.policy, NULL, &def, &other), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "needs a reference"));
    assert_null(other);
    const struct {
        double* field;
        double value;
        const char* name;
    } wrong[] = {{&def.beta, -1, "beta"},
                 {&def.epsilon, (double)NAN, "epsilon"},
                 {&def.learning_rate, -1, "learning_rate"},
                 {&def.adam_beta2, 1, "beta2"},
                 {&def.adam_epsilon, 0, "epsilon"},
                 {&def.generate.temperature, 0, "temperature"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const double right = *wrong[i].field;
        *wrong[i].field = wrong[i].value;
        assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &def, &other), LP_INVALID);
        assert_non_null(strstr(lp_error(r.ctx), wrong[i].name));
        *wrong[i].field = right;
    }
    def.num_generations = 1;
    assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &def, &other), LP_INVALID);
    def.num_generations = GROUP;
    def.per_device_train_batch_size = 5;
    assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &def, &other), LP_OK);
    assert_int_equal(lp_grpo_step(other, &r.batch, r.rewards, NULL), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "per_device_train_batch_size 5 does not divide"));
    lp_ctx_destroy(r.ctx);
}

/* A learning rate at which the second update meets a gradient that is not finite: the first is
 * undone, and so are the moments: the step can be taken again and again. */
static void a_step_that_diverges_leaves_no_trace(void** state) {
    (void)state;
    rig r;
    lp_grpo_def def = settings();
    def.num_iterations = 3;
    def.learning_rate = 1e6;
    set_up(&r, 2, &def);
    const uint64_t before = digest(&r);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_NONFINITE);
        assert_non_null(strstr(lp_error(r.ctx), "step 1, update 2 of 3"));
        assert_true(digest(&r) == before);
        assert_int_equal(lp_grpo_steps(r.grpo), 0);
    }
    lp_ctx_destroy(r.ctx);
}

/* An allocator that does something at its countdown-th call from now, if that is not negative. */
typedef struct watch {
    int64_t countdown, held;
    bool reached, refuse; /* refuse from then on; otherwise cancel `ctx` once */
    lp_ctx* ctx;
} watch;

static void* watched_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    watch* w = user;
    if (new_bytes > 0 && w->countdown >= 0 && w->countdown-- == 0) {
        w->reached = true;
        w->countdown = w->refuse ? 0 : -1;
        if (w->refuse) return NULL;
        lp_cancel(w->ctx);
    }
    void* block = new_bytes ? realloc(old, new_bytes) : NULL;
    if (!new_bytes) free(old);
    if (new_bytes && !block) return NULL;
    w->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

static void load_watched(rig* r, watch* w) {
    memset(r, 0, sizeof *r);
    *w = (watch){.countdown = -1};
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.alloc = watched_alloc;
    def.alloc_user = w;
    w->ctx = r->ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(r->ctx);
    assert_int_equal(lp_model_open(r->ctx, LP_MODELS "/tiny.gguf", &r->model), LP_OK);
    assert_int_equal(lp_model_load_weights(r->model, true, &r->policy), LP_OK);
    assert_int_equal(lp_weights_clone(r->policy, false, &r->reference), LP_OK);
    for (int i = 0; i < SEQUENCES; i++) r->rewards[i] = i % 3 == 0;
}

/* Whatever of trainer, prompts and batch is not there yet. */
static lp_status prepare(rig* r, int64_t iterations) {
    lp_grpo_def def = settings();
    def.num_iterations = iterations;
    def.exact_kl = true;
    def.micro_batch_size = 5;
    if (iterations == 1) { /* sets that take more than the arena of a pass has at first */
        def.generate.top_k = 256;
        def.micro_batch_size = SEQUENCES;
    }
    lp_status status = LP_OK;
    if (!r->grpo) status = lp_grpo_create(r->model, r->policy, r->reference, &def, &r->grpo);
    while (status == LP_OK && r->prompts.count < PROMPTS)
        status = lp_prompts_add(r->ctx, &r->prompts, r->model,
                                r->prompts.count == 1 ? "a longer prompt" : "One, two", false);
    if (status == LP_OK && r->batch.sequences == 0)
        status = lp_grpo_generate(r->grpo, &r->prompts, &r->batch);
    return status;
}

/* The weights before a step that nothing stops, and after it. */
static void undisturbed(int64_t iterations, uint64_t hash[2]) {
    watch w;
    rig r;
    load_watched(&r, &w);
    hash[0] = digest(&r);
    assert_int_equal(prepare(&r, iterations), LP_OK);
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_OK);
    hash[1] = digest(&r);
    lp_ctx_destroy(r.ctx);
}

/* Stopped at the n-th allocation, for every n, by Ctrl-C or for want of memory: as if nothing had
 * been, so that going on gives the bits of a run that was never stopped; and nothing leaks. */
static void stopped_at_any_allocation(void** state) {
    (void)state;
    for (int64_t iterations = 1; iterations <= 2; iterations++) {
        uint64_t want[2];
        undisturbed(iterations, want);
        assert_true(want[0] != want[1]);
        for (int refuse = 0; refuse <= 1; refuse++) {
            int stopped = 0;
            bool reached = true;
            for (int64_t n = 0; reached; n++) {
                watch w;
                rig r;
                load_watched(&r, &w);
                w.refuse = refuse;
                w.countdown = n;
                lp_status status = prepare(&r, iterations);
                if (status == LP_OK) status = lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL);
                reached = w.reached;
                w.countdown = -1;
                lp_cancel_clear(r.ctx);
                if (refuse) assert_int_equal(status, reached ? LP_NOMEM : LP_OK);
                if (status != LP_OK) {
                    assert_int_equal(status, refuse ? LP_NOMEM : LP_CANCELLED);
                    assert_true(digest(&r) == want[0]);
                    stopped++;
                    assert_int_equal(prepare(&r, iterations), LP_OK);
                    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_OK);
                }
                assert_true(digest(&r) == want[1]);
                lp_grpo_destroy(r.grpo);
                lp_generation_free(r.ctx, &r.batch);
                lp_prompts_free(r.ctx, &r.prompts);
                lp_weights_destroy(r.reference);
                lp_weights_destroy(r.policy);
                lp_model_close(r.model);
                lp_ctx_destroy(r.ctx);
                assert_int_equal(w.held, 0);
            }
            assert_true(stopped > 5);
        }
    }
}

static void allocates_nothing_after_the_first_step(void** state) {
    (void)state;
    rig r;
    lp_grpo_def def = settings();
    def.num_iterations = 2;
    def.exact_kl = true;
    def.generate.min_new_tokens = def.generate.max_new_tokens;
    set_up(&r, 3, &def);
    assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
    assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_OK);
    const lp_memory first = lp_ctx_memory(r.ctx);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
        assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, NULL), LP_OK);
    }
    const lp_memory last = lp_ctx_memory(r.ctx);
    assert_int_equal(last.allocations, first.allocations);
    assert_int_equal(last.peak_bytes, first.peak_bytes);
    lp_ctx_destroy(r.ctx);
}

/* ---- learning -------------------------------------------------------------------------------- */

/* The share of a completion's tokens whose id is even: about a half at the start. */
static void score(rig* r) {
    for (int64_t s = 0; s < SEQUENCES; s++) {
        const int64_t from = r->batch.response_offsets[s], to = r->batch.response_offsets[s + 1];
        r->rewards[s] = 0;
        for (int64_t i = from; i < to; i++)
            r->rewards[s] += (r->batch.responses.ids[i] % 2 == 0) / (double)(to - from);
    }
}

static void a_reward_rises(void** state) {
    (void)state;
    for (int type = LP_LOSS_DAPO; type <= LP_LOSS_DR_GRPO; type++) {
        enum { STEPS = 80 };
        rig r;
        lp_grpo_metrics m;
        lp_grpo_def def = settings();
        def.loss_type = (lp_loss_type)type;
        def.learning_rate = 5e-3;
        def.beta = 0;
        def.max_steps = STEPS;
        set_up(&r, 2, &def);
        double before = 0, after = 0;
        for (int step = 0; step < STEPS; step++) {
            assert_int_equal(lp_grpo_generate(r.grpo, &r.prompts, &r.batch), LP_OK);
            score(&r);
            assert_int_equal(lp_grpo_step(r.grpo, &r.batch, r.rewards, &m), LP_OK);
            if (step < 5) before += m.reward / 5;
            if (step >= STEPS - 5) after += m.reward / 5;
        }
        print_message("loss type %d: reward %.3f, later %.3f\n", type, before, after);
        assert_true(before < 0.65 && after > 0.85);
        lp_ctx_destroy(r.ctx);
    }
}

static int in_bfloat16(void** state) {
    (void)state;
    precision = LP_BFLOAT16;
    return 0;
}
static int in_float32(void** state) {
    (void)state;
    precision = LP_FLOAT32;
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_and_micro_batches_change_no_bit),
        cmocka_unit_test(sampling_and_learning_agree_to_the_bit),
        cmocka_unit_test_setup_teardown(threads_and_micro_batches_change_no_bit, in_bfloat16,
                                        in_float32),
        cmocka_unit_test_setup_teardown(sampling_and_learning_agree_to_the_bit, in_bfloat16,
                                        in_float32),
        cmocka_unit_test(off_policy_log_pi_takes_the_ratio_from_the_first_update),
        cmocka_unit_test(groups_are_contiguous),
        cmocka_unit_test(equal_rewards_teach_nothing),
        cmocka_unit_test(the_rate_falls_linearly),
        cmocka_unit_test(exact_kl_is_that_of_the_logits),
        cmocka_unit_test(mistakes_are_refused),
        cmocka_unit_test(a_step_that_diverges_leaves_no_trace),
        cmocka_unit_test(stopped_at_any_allocation),
        cmocka_unit_test(allocates_nothing_after_the_first_step),
        cmocka_unit_test(a_reward_rises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
