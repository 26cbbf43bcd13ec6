/* The trainer when something stops it at one of its allocations: a cancellation, or memory that
 * runs out. A step that is stopped leaves no trace, so that the same step, taken again, gives the
 * bits of one that was never stopped. And a trainer that runs asks for no more memory. */
#include "testing.h"

#include <logpi/train.h>

enum { EPOCHS = 3, SEQUENCES = 4 };

/* An allocator that does something at its countdown-th call from now, if that is not negative. */
typedef struct watch {
    int64_t countdown, held;
    bool reached, refuse; /* refuse from then on; otherwise cancel `ctx` once */
    lp_ctx* ctx;
} watch;

static void* watched_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    watch* w = user;
    if (new_bytes > 0 && w->countdown >= 0) {
        if (w->countdown == 0) {
            w->reached = true;
            if (w->refuse) return NULL;
            lp_cancel(w->ctx);
            w->countdown = -1;
        } else {
            w->countdown--;
        }
    }
    void* block = NULL;
    if (new_bytes == 0) {
        free(old);
    } else if (!(block = realloc(old, new_bytes))) {
        return NULL;
    }
    w->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

typedef struct rig {
    watch* watch;
    lp_ctx* ctx;
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* ppo;
    lp_prompts prompts;
    lp_generation batch;
} rig;

static const double scores[SEQUENCES] = {1, 0, 0.25, -2};

/* Model and weights, before anything can fail. */
static rig load(watch* w, int threads) {
    rig r = {.watch = w};
    *w = (watch){.countdown = -1};
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    def.alloc = watched_alloc;
    def.alloc_user = w;
    w->ctx = r.ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(r.ctx);
    assert_int_equal(lp_model_open(r.ctx, LP_MODELS "/tiny.gguf", &r.model), LP_OK);
    assert_int_equal(lp_model_load_weights(r.model, true, &r.policy), LP_OK);
    assert_int_equal(lp_weights_clone(r.policy, false, &r.reference), LP_OK);
    return r;
}

/* Whatever of trainer, prompts and batch is not there yet. One update an epoch; scores are scaled
 * by all that the trainer has seen, which a stopped step must not count. */
static lp_status prepare(rig* r, int64_t epochs) {
    static const char* const texts[SEQUENCES] = {"One, two", "a longer prompt, of more tokens", "x",
                                                 "One, two"};
    lp_ppo_def def = lp_ppo_def_default();
    def.learning_rate = 1e-3;
    def.mini_batch_size = SEQUENCES;
    def.micro_batch_size = 2;
    def.ppo_epochs = epochs;
    def.use_score_scaling = def.use_score_norm = true;
    def.seed = 5;
    def.generate.max_new_tokens = 6;
    lp_status status = LP_OK;
    if (!r->ppo) status = lp_ppo_create(r->model, r->policy, r->reference, &def, &r->ppo);
    while (status == LP_OK && r->prompts.count < SEQUENCES)
        status = lp_prompts_add(r->ctx, &r->prompts, r->model, texts[r->prompts.count], false);
    if (status == LP_OK && r->batch.sequences == 0)
        status = lp_ppo_generate(r->ppo, &r->prompts, &r->batch);
    return status;
}

static lp_status step(rig* r) { return lp_ppo_step(r->ppo, &r->batch, scores, NULL, NULL); }

/* FNV-1a over all numbers of the model's weights. The value head, made with the trainer, is left
 * out so that a set can be compared before and after. */
static uint64_t digest(const rig* r) {
    const lp_params* params = lp_weights_params(r->policy);
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        lp_tensor x = lp_params_get(params, i);
        if (strncmp(lp_params_name(params, i), "v_head.", 7) == 0) continue;
        const uint8_t* bytes = x->data;
        for (size_t j = 0; j < (size_t)(x->rows * x->cols) * sizeof(float); j++)
            hash = (hash ^ bytes[j]) * 0x100000001b3u;
    }
    return hash;
}

/* The weights before a step that nothing stops, after it, and after a second one. */
typedef struct course {
    uint64_t before, one_step, two_steps;
} course;

static course undisturbed(void) {
    watch w;
    rig r = load(&w, 1);
    course c = {.before = digest(&r)};
    assert_int_equal(prepare(&r, EPOCHS), LP_OK);
    assert_int_equal(step(&r), LP_OK);
    c.one_step = digest(&r);
    assert_int_equal(step(&r), LP_OK);
    c.two_steps = digest(&r);
    assert_true(c.one_step != c.before && c.two_steps != c.one_step);
    lp_ctx_destroy(r.ctx);
    return c;
}

/* What a stopped step must leave: everything as it was. Then the step is taken again, and one more.
 */
static void check_stopped(const course* c, rig* r) {
    assert_true(digest(r) == c->before);
    assert_int_equal(lp_ppo_steps(r->ppo), 0);
    assert_close(lp_ppo_kl_coef(r->ppo), lp_ppo_def_default().init_kl_coef, 0);
    assert_int_equal(step(r), LP_OK);
    assert_int_equal(lp_ppo_steps(r->ppo), 1);
    assert_true(digest(r) == c->one_step);
    assert_int_equal(step(r), LP_OK);
    assert_true(digest(r) == c->two_steps);
}

/* Cancelled at the n-th allocation, for every n: the first step allocates in its score pass and in
 * its first update. */
static void cancelled_at_any_allocation(void** state) {
    (void)state;
    const course c = undisturbed();
    int cancelled = 0;
    bool reached = true;
    for (int64_t n = 0; reached; n++) {
        watch w;
        rig r = load(&w, 1);
        assert_int_equal(prepare(&r, EPOCHS), LP_OK);
        w.countdown = n;
        const lp_status status = step(&r);
        reached = w.reached;
        w.countdown = -1;
        if (reached && status != LP_OK) {
            assert_int_equal(status, LP_CANCELLED);
            lp_cancel_clear(r.ctx);
            check_stopped(&c, &r);
            cancelled++;
        } else {
            assert_int_equal(status, LP_OK);
            assert_true(digest(&r) == c.one_step);
        }
        lp_ctx_destroy(r.ctx);
    }
    assert_true(cancelled >= 5);
}

/* Memory runs out at the n-th allocation of trainer, prompts, generation and step, and comes back:
 * LP_NOMEM, nothing crashes, nothing leaks, and going on from there gives the bits of a run that
 * never failed. */
static void out_of_memory(void** state) {
    (void)state;
    const course c = undisturbed();
    int failures = 0;
    bool reached = true;
    for (int64_t n = 0; reached; n++) {
        watch w;
        rig r = load(&w, 1);
        w.refuse = true;
        w.countdown = n;
        lp_status status = prepare(&r, EPOCHS);
        const bool stepped = status == LP_OK;
        if (stepped) status = step(&r);
        reached = w.reached;
        assert_int_equal(status, reached ? LP_NOMEM : LP_OK);
        w.countdown = -1;
        if (reached) {
            assert_true(lp_error(r.ctx)[0] != '\0');
            failures++;
            assert_int_equal(prepare(&r, EPOCHS), LP_OK);
            check_stopped(&c, &r);
        }
        lp_ppo_destroy(r.ppo);
        lp_generation_free(r.ctx, &r.batch);
        lp_prompts_free(r.ctx, &r.prompts);
        lp_weights_destroy(r.reference);
        lp_weights_destroy(r.policy);
        lp_model_close(r.model);
        lp_ctx_destroy(r.ctx);
        assert_int_equal(w.held, 0);
    }
    assert_true(failures > 30);
}

/* Rounds of generation and step on batches of one shape: the first allocates, no later one does. */
static void a_training_loop_allocates_nothing_after_its_first_round(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        watch w;
        rig r = load(&w, threads);
        lp_ppo_def def = lp_ppo_def_default();
        def.mini_batch_size = 2;
        def.micro_batch_size = 1;
        def.generate.max_new_tokens = def.generate.min_new_tokens = 6;
        assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &def, &r.ppo), LP_OK);
        lp_memory first = {0}, now = {0};
        for (int round = 0; round < 4; round++) {
            r.prompts.count = r.prompts.tokens.count = 0;
            for (int s = 0; s < SEQUENCES; s++)
                assert_int_equal(lp_prompts_add(r.ctx, &r.prompts, r.model,
                                                s % 2 ? "One, two" : "Two, one", false),
                                 LP_OK);
            const uint64_t added =
                lp_ctx_memory(r.ctx).allocations - now.allocations; /* the tokenizer's own */
            assert_int_equal(lp_ppo_generate(r.ppo, &r.prompts, &r.batch), LP_OK);
            assert_int_equal(step(&r), LP_OK);
            now = lp_ctx_memory(r.ctx);
            if (round == 0) first = now;
            if (round > 0) first.allocations += added;
            assert_int_equal(now.allocations, first.allocations);
            assert_int_equal(now.peak_bytes, first.peak_bytes);
        }
        lp_ctx_destroy(r.ctx);
    }
}

/* Prompts are added in as many allocations as a list that doubles needs, not one for each. */
static void many_prompts_take_few_allocations(void** state) {
    (void)state;
    watch w;
    rig r = load(&w, 1);
    lp_token_list list = {0};
    uint64_t counts[3],
        of_text; /* what the tokenizer itself takes for a text, in a list that has room */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(lp_tokenizer_encode(lp_model_tokenizer(r.model), "Two", 3, 0, &list),
                         LP_OK);
        counts[i] = lp_ctx_memory(r.ctx).allocations;
    }
    of_text = counts[2] - counts[1];
    for (int i = 0; i < 1000; i++)
        assert_int_equal(lp_prompts_add(r.ctx, &r.prompts, r.model, "Two", false), LP_OK);
    assert_in_range(lp_ctx_memory(r.ctx).allocations - counts[2] - 1000 * of_text, 2, 20);
    for (int i = 0; i < 1000; i++) assert_true(r.prompts.offsets[i + 1] > r.prompts.offsets[i]);
    assert_int_equal(r.prompts.offsets[1000], r.prompts.tokens.count);
    lp_ctx_destroy(r.ctx);
}

/* Steps on batches of one size: the first allocates, no later one does. */
static void allocates_nothing_after_the_first_step(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        watch w;
        rig r = load(&w, threads);
        assert_int_equal(prepare(&r, EPOCHS), LP_OK);
        assert_int_equal(step(&r), LP_OK);
        const lp_memory after_first = lp_ctx_memory(r.ctx);
        for (int i = 0; i < 4; i++) assert_int_equal(step(&r), LP_OK);
        const lp_memory after_all = lp_ctx_memory(r.ctx);
        assert_int_equal(after_all.allocations, after_first.allocations);
        assert_int_equal(after_all.peak_bytes, after_first.peak_bytes);
        lp_ctx_destroy(r.ctx);
    }
}

/* A learning rate at which the second update meets gradients that are not finite: the step is
 * refused, and the update that had been made is undone. */
static void diverges_after_an_update(void** state) {
    (void)state;
    watch w;
    rig r = load(&w, 1);
    const uint64_t before = digest(&r);
    lp_ppo_def def = lp_ppo_def_default();
    def.learning_rate = 1e6;
    def.generate.max_new_tokens = 6;
    assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &def, &r.ppo), LP_OK);
    assert_int_equal(prepare(&r, EPOCHS), LP_OK);
    const float value =
        lp_f32(lp_params_find(lp_weights_params(r.policy), "v_head.summary.weight"))[0];
    for (int i = 0; i < 2; i++) { /* and again: Adam's state is the old one, too */
        assert_int_equal(step(&r), LP_NONFINITE);
        assert_non_null(strstr(lp_error(r.ctx), "step 1, update 2 of"));
        assert_true(digest(&r) == before);
        assert_close(
            lp_f32(lp_params_find(lp_weights_params(r.policy), "v_head.summary.weight"))[0], value,
            0);
        assert_int_equal(lp_ppo_steps(r.ppo), 0);
    }
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cancelled_at_any_allocation),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(allocates_nothing_after_the_first_step),
        cmocka_unit_test(diverges_after_an_update),
        cmocka_unit_test(a_training_loop_allocates_nothing_after_its_first_round),
        cmocka_unit_test(many_prompts_take_few_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
