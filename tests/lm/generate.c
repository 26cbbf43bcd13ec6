/* Generation that repeats: where prompts may lie, what is computed once, what is checked, and that
 * a generator asks for memory only when it must. */
#include "lm/rig.h"

enum { PROMPTS = 6 };
static const int32_t tokens[] = {5, 9, 200, 31, 7, 7, 5, 9, 200, 44, 31, 31};
static const int64_t offsets[PROMPTS + 1] = {0, 3,  4, 6,
                                             9, 10, 12}; /* the fourth is the first again */

static lp_generate_def settings(void) {
    lp_generate_def def = lp_generate_def_default();
    def.seed = 17;
    def.max_new_tokens = 9;
    return def;
}

static void assert_same(const lp_generation* a, const lp_generation* b) {
    assert_int_equal(a->sequences, b->sequences);
    const size_t n = (size_t)a->sequences;
    assert_memory_equal(a->prompt_offsets, b->prompt_offsets, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->response_offsets, b->response_offsets, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->finish, b->finish, n * sizeof(lp_finish));
    assert_int_equal(a->prompts.count, a->prompt_offsets[n]);
    assert_int_equal(b->prompts.count, a->prompt_offsets[n]);
    assert_int_equal(a->responses.count, a->response_offsets[n]);
    assert_int_equal(b->responses.count, a->response_offsets[n]);
    assert_memory_equal(a->prompts.ids, b->prompts.ids, (size_t)a->prompts.count * sizeof(int32_t));
    assert_memory_equal(a->responses.ids, b->responses.ids,
                        (size_t)a->responses.count * sizeof(int32_t));
    assert_memory_equal(a->log_probs, b->log_probs, (size_t)a->responses.count * sizeof(float));
}

/* The prompts of the last round, or its responses, as the prompts of the next, read from what is
 * replaced. */
static void prompts_may_lie_in_the_result(void** state) {
    (void)state;
    for (int responses = 0; responses < 2; responses++) {
        rig r = set_up(1);
        lp_generate_def def = settings();
        lp_generation first = {0}, want = {0}, got = {0};
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &first),
                         LP_OK);
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &got),
                         LP_OK);
        assert_same(&got, &first);
        const lp_token_list* from = responses ? &first.responses : &first.prompts;
        const int64_t* from_offsets = responses ? first.response_offsets : first.prompt_offsets;
        def.round = 1;
        def.max_new_tokens = 30; /* longer than what the result has room for */
        assert_int_equal(
            lp_generate(r.model, r.weights, &def, PROMPTS, from_offsets, from->ids, &want), LP_OK);
        assert_int_equal(lp_generate(r.model, r.weights, &def, got.sequences,
                                     responses ? got.response_offsets : got.prompt_offsets,
                                     responses ? got.responses.ids : got.prompts.ids, &got),
                         LP_OK);
        assert_same(&got, &want);
        lp_ctx_destroy(r.ctx);
    }
}

/* The most memory that a generation from many copies of long prompts took: of 3 prompts in blocks,
 * or in turns. */
static size_t peak_of_copies(int turns) {
    enum { KINDS = 3, COPIES = 12, LENGTH = 70, N = KINDS * COPIES };
    static int32_t many[N * LENGTH];
    int64_t many_offsets[N + 1] = {0};
    for (int i = 0; i < N; i++) {
        const int kind = turns ? i % KINDS : i / COPIES;
        for (int j = 0; j < LENGTH; j++)
            many[i * LENGTH + j] = (7 * j + (j == LENGTH - 1 ? kind : 0)) % 500;
        many_offsets[i + 1] = (i + 1) * LENGTH;
    }
    rig r = set_up(1);
    const lp_generate_def def = settings();
    lp_generation g = {0};
    assert_int_equal(lp_generate(r.model, r.weights, &def, N, many_offsets, many, &g), LP_OK);
    const size_t peak = lp_ctx_memory(r.ctx).peak_bytes;
    lp_ctx_destroy(r.ctx);
    return peak;
}

static void equal_prompts_are_computed_once_wherever_they_stand(void** state) {
    (void)state;
    assert_int_equal(peak_of_copies(1), peak_of_copies(0));
}

/* 2 to 8 prompts of 1 to 20 tokens in other numbers each round, all of them within the first
 * round's. */
static int64_t prompts_of_round(int round, int64_t* their_offsets, int32_t* their_tokens) {
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, (uint32_t)round);
    const int64_t n = round == 0 ? 8 : 2 + lp_rng_below(&rng, 7);
    their_offsets[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t length = round == 0 ? 20 : 1 + lp_rng_below(&rng, 20);
        their_offsets[i + 1] = their_offsets[i] + length;
        for (int64_t j = their_offsets[i]; j < their_offsets[i + 1]; j++)
            their_tokens[j] = (int32_t)lp_rng_below(&rng, 500);
    }
    return n;
}

/* Runs that repeat allocate nothing, and give what lp_generate gives; nor do runs of fewer and
 * shorter sequences. */
static void a_generator_allocates_once(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        rig r = set_up(threads);
        lp_generator* generator;
        lp_generation out = {0}, want = {0};
        int64_t their_offsets[9];
        int32_t their_tokens[8 * 20];
        lp_generate_def def = settings();
        assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
        for (int round = 0; round < 30; round++) {
            const int64_t n = prompts_of_round(round < 3 ? 0 : round, their_offsets, their_tokens);
            def.round = (uint32_t)round;
            def.max_new_tokens = round < 3 ? 16 : 1 + round % 16;
            const uint64_t before = lp_ctx_memory(r.ctx).allocations;
            assert_int_equal(
                lp_generator_run(generator, r.weights, &def, n, their_offsets, their_tokens, &out),
                LP_OK);
            if (round > 0) assert_int_equal(lp_ctx_memory(r.ctx).allocations, before);
            assert_int_equal(
                lp_generate(r.model, r.weights, &def, n, their_offsets, their_tokens, &want),
                LP_OK);
            assert_same(&out, &want);
        }
        lp_generation_free(r.ctx, &out);
        lp_generation_free(r.ctx, &want);
        lp_generator_destroy(generator);
        lp_generator_destroy(NULL);
        lp_ctx_destroy(r.ctx);
    }
}

/* Batches that grow a little each round ask for memory a few times, not each time. */
static void growing_runs_settle(void** state) {
    (void)state;
    enum { LONGEST = 150 };
    rig r = set_up(1);
    lp_generator* generator;
    lp_generation out = {0};
    int32_t text[LONGEST] = {0};
    lp_generate_def def = settings();
    def.max_new_tokens = 2;
    int rounds_that_allocate = 0;
    assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
    for (int64_t length = 30; length <= LONGEST; length++) {
        const int64_t own[] = {0, length};
        const uint64_t before = lp_ctx_memory(r.ctx).allocations;
        assert_int_equal(lp_generator_run(generator, r.weights, &def, 1, own, text, &out), LP_OK);
        rounds_that_allocate += lp_ctx_memory(r.ctx).allocations != before;
    }
    assert_in_range(rounds_that_allocate, 1, 50); /* of 121 */
    lp_ctx_destroy(r.ctx);
}

/* A failed run leaves an empty result and a generator that works. */
static void a_generator_survives_failures(void** state) {
    (void)state;
    rig r = set_up(1);
    lp_generator* generator;
    lp_generation out = {0}, want = {0};
    const lp_generate_def def = settings();
    float* weight = lp_f32(lp_params_find(lp_weights_params(r.weights), "model.norm.weight"));
    const float good = weight[0];
    assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &want), LP_OK);
    assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
    for (int round = 0; round < 4; round++) {
        assert_int_equal(
            lp_generator_run(generator, r.weights, &def, PROMPTS, offsets, tokens, &out), LP_OK);
        assert_same(&out, &want);
        lp_generate_def wrong = def;
        if (round == 0) wrong.top_k = -1;
        if (round == 1) weight[0] = NAN;
        if (round == 2) lp_cancel(r.ctx);
        const lp_status status =
            (const lp_status[]){LP_INVALID, LP_NONFINITE, LP_CANCELLED, LP_OK}[round];
        assert_int_equal(lp_generator_run(generator, r.weights, &wrong, round < 3 ? PROMPTS : 0,
                                          offsets, tokens, &out),
                         status);
        assert_int_equal(out.sequences, 0);
        assert_int_equal(out.prompts.count, 0);
        assert_int_equal(out.responses.count, 0);
        weight[0] = good;
        lp_cancel_clear(r.ctx);
    }
    assert_int_equal(lp_generator_run(generator, r.weights, &def, 0, NULL, NULL, &out), LP_OK);
    assert_int_equal(out.prompt_offsets[0], 0);
    assert_int_equal(out.response_offsets[0], 0);
    lp_ctx_destroy(r.ctx);
}

/* An allocator whose countdown-th call from now, if that is not negative, and all after it are
 * refused. */
static int64_t countdown = -1, held;
static bool refused;
static void* refusing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)user;
    if (new_bytes > 0 && countdown == 0) {
        refused = true;
        return NULL;
    }
    if (new_bytes > 0 && countdown > 0) countdown--;
    void* block = new_bytes > 0 ? realloc(old, new_bytes) : NULL;
    if (new_bytes == 0) free(old);
    held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

/* Every allocation of a run that grows fails in turn; with memory again, the same generator gives
 * the same texts. */
static void memory_may_run_out(void** state) {
    (void)state;
    int failures = 0;
    for (int64_t n = 0;; n++) {
        lp_ctx_def ctx_def = lp_ctx_def_default();
        ctx_def.threads = 1;
        ctx_def.alloc = refusing_alloc;
        rig r = set_up_with(&ctx_def);
        lp_generator* generator;
        lp_generation out = {0}, want = {0};
        lp_generate_def def = settings();
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &want),
                         LP_OK);
        assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
        if (n % 2)
            assert_int_equal(lp_generator_run(generator, r.weights, &def, 1, offsets, tokens, &out),
                             LP_OK);
        countdown = n / 2;
        refused = false;
        const lp_status status =
            lp_generator_run(generator, r.weights, &def, PROMPTS, offsets, tokens, &out);
        countdown = -1;
        assert_int_equal(status, refused ? LP_NOMEM : LP_OK);
        if (refused) {
            assert_int_equal(out.sequences, 0);
            assert_int_equal(lp_error_status(r.ctx), LP_NOMEM);
            assert_int_equal(
                lp_generator_run(generator, r.weights, &def, PROMPTS, offsets, tokens, &out),
                LP_OK);
            failures++;
        }
        assert_same(&out, &want);
        lp_generator_destroy(generator);
        lp_generation_free(r.ctx, &out);
        lp_generation_free(r.ctx, &want);
        lp_ctx_destroy(r.ctx);
        assert_int_equal(held, 0);
        if (!refused && n > 60) break;
    }
    assert_true(failures > 15);
}

/* What lp_generate refuses is refused without weights. */
static void settings_and_prompts_are_checked(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_model* model;
    assert_int_equal(lp_model_open(ctx, LP_MODELS "/tiny.gguf", &model), LP_OK);
    const lp_generate_def good = settings();
    const lp_model_shape shape = lp_model_get_shape(model);
#define WRONG(words, ...)                                                                          \
    do {                                                                                           \
        lp_generate_def def = good;                                                                \
        __VA_ARGS__;                                                                               \
        assert_int_equal(lp_generate_check(model, &def, PROMPTS, offsets, tokens), LP_INVALID);    \
        if (!strstr(lp_error(ctx), words)) fail_msg("%s, not %s", lp_error(ctx), words);           \
    } while (0)
    WRONG("temperature", def.temperature = -1);
    WRONG("temperature", def.temperature = 1e-5);
    WRONG("temperature", def.temperature = 1e7);
    WRONG("temperature", def.temperature = (double)NAN);
    WRONG("top_p", def.top_p = 0);
    WRONG("top_p", def.top_p = 1.001);
    WRONG("top_k", def.top_k = -1);
    WRONG("max_new_tokens", def.max_new_tokens = 0);
    WRONG("max_new_tokens", def.max_new_tokens = shape.context);
    WRONG("min_new_tokens", def.min_new_tokens = -1);
    WRONG("min_new_tokens", def.min_new_tokens = def.max_new_tokens + 1);
    WRONG("prompt 1 has 3 tokens", def.max_new_tokens = shape.context - 2);
#undef WRONG
    const int64_t empty[] = {0, 1, 1}, falling[] = {0, 2, 1}, huge[] = {0, 1, INT64_MAX};
    const int32_t outside[] = {1, 2, (int32_t)shape.vocab}, negative[] = {1, -1, 2};
    assert_int_equal(lp_generate_check(model, &good, PROMPTS, offsets, tokens), LP_OK);
    assert_int_equal(lp_generate_check(model, &good, 2, empty, tokens), LP_INVALID);
    assert_non_null(strstr(lp_error(ctx), "prompt 2 is empty"));
    assert_int_equal(lp_generate_check(model, &good, 2, falling, tokens), LP_INVALID);
    assert_int_equal(lp_generate_check(model, &good, 2, huge, tokens), LP_INVALID);
    assert_non_null(strstr(lp_error(ctx), "prompt 2 has"));
    assert_int_equal(lp_generate_check(model, &good, 1, offsets, outside), LP_INVALID);
    assert_non_null(strstr(lp_error(ctx), "token 512"));
    assert_int_equal(lp_generate_check(model, &good, 1, offsets, negative), LP_INVALID);
    assert_int_equal(lp_generate_check(model, &good, -1, offsets, tokens), LP_INVALID);
    assert_int_equal(lp_generate_check(model, &good, (1 << 24) + 1, offsets, tokens), LP_INVALID);
    assert_int_equal(lp_generate_check(model, &good, 0, NULL, NULL), LP_OK);
    assert_int_equal(lp_generate_check(model, &good, 2, offsets + 3, tokens),
                     LP_OK); /* some of many */
    lp_ctx_destroy(ctx);
}

/* Offsets may begin anywhere: some prompts of many. The result's begin at 0. */
static void some_of_many(void** state) {
    (void)state;
    rig r = set_up(1);
    lp_generate_def def = settings();
    lp_generation all = {0}, some = {0};
    assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &all), LP_OK);
    def.first_index = 3;
    assert_int_equal(lp_generate(r.model, r.weights, &def, 2, offsets + 3, tokens, &some), LP_OK);
    assert_int_equal(some.prompt_offsets[0], 0);
    assert_int_equal(some.prompt_offsets[2], offsets[5] - offsets[3]);
    assert_memory_equal(some.prompts.ids, tokens + offsets[3],
                        (size_t)some.prompts.count * sizeof *tokens);
    assert_int_equal(some.responses.count, all.response_offsets[5] - all.response_offsets[3]);
    assert_memory_equal(some.responses.ids, all.responses.ids + all.response_offsets[3],
                        (size_t)some.responses.count * sizeof(int32_t));
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_may_lie_in_the_result),
        cmocka_unit_test(equal_prompts_are_computed_once_wherever_they_stand),
        cmocka_unit_test(a_generator_allocates_once),
        cmocka_unit_test(growing_runs_settle),
        cmocka_unit_test(a_generator_survives_failures),
        cmocka_unit_test(memory_may_run_out),
        cmocka_unit_test(settings_and_prompts_are_checked),
        cmocka_unit_test(some_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
