/* Sequences take turns in a batch: the results are those of one large batch, whatever its size and
 * however prompts repeat; what ends a response; and memory that settles. */
#include "lm/rig.h"

#include "base/base.h"

enum { PROMPTS = 30, LONGEST = 70, WORDS = 512 };
static int64_t offsets[PROMPTS + 1];
static int32_t tokens[PROMPTS * LONGEST];

/* Prompts of 1 to 70 tokens, of which every second is one of three long ones. */
static void make_prompts(void) {
    lp_rng rng = lp_rng_philox(6, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < PROMPTS; i++) {
        const bool again = i % 2;
        const int64_t n = again ? LONGEST - i % 3 : 1 + (int64_t)lp_rng_below(&rng, LONGEST);
        for (int64_t j = 0; j < n; j++)
            tokens[offsets[i] + j] =
                again ? (int32_t)((j * 7 + i % 3) % WORDS) : (int32_t)lp_rng_below(&rng, WORDS);
        offsets[i + 1] = offsets[i] + n;
    }
}

static lp_generate_def settings(void) {
    lp_generate_def def = lp_generate_def_default();
    static int32_t stop_tokens[40];
    for (int i = 0; i < 40; i++) stop_tokens[i] = 90 + 10 * i;
    def.seed = 3;
    def.max_new_tokens = 20;
    def.stop_tokens = stop_tokens;
    def.stop_token_count = 40;
    return def;
}

static void assert_same(const lp_generation* a, const lp_generation* b) {
    const size_t n = (size_t)a->sequences, m = (size_t)a->responses.count;
    assert_int_equal(a->sequences, b->sequences);
    assert_int_equal(a->responses.count, b->responses.count);
    assert_memory_equal(a->prompt_offsets, b->prompt_offsets, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->prompts.ids, b->prompts.ids, (size_t)a->prompts.count * sizeof(int32_t));
    assert_memory_equal(a->response_offsets, b->response_offsets, (n + 1) * sizeof(int64_t));
    assert_memory_equal(a->finish, b->finish, n * sizeof(lp_finish));
    assert_memory_equal(a->text_bytes, b->text_bytes, n * sizeof(int64_t));
    assert_memory_equal(a->responses.ids, b->responses.ids, m * sizeof(int32_t));
    assert_memory_equal(a->log_probs, b->log_probs, m * sizeof(float));
}

static void any_size_of_batch(void** state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 3, 5, 16, 64, 0}, samples[] = {1, 2, 5};
    for (size_t k = 0; k < sizeof samples / sizeof *samples; k++) {
        rig r = set_up(2);
        lp_generator* generator;
        lp_generation want = {0}, got = {0};
        lp_generate_def def = settings();
        def.num_return_sequences = samples[k];
        def.batch_size = 1 << 16;
        assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &want),
                         LP_OK);
        assert_int_equal(want.sequences, PROMPTS * samples[k]);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            def.batch_size = sizes[i];
            assert_int_equal(
                lp_generator_run(generator, r.weights, &def, PROMPTS, offsets, tokens, &got),
                LP_OK);
            assert_same(&got, &want);
        }
        lp_ctx_destroy(r.ctx);
    }
}

/* Sample k of prompt p is that of the index p + 2^32 k, with batches too small for all shared
 * prompts at once. */
static void random_streams(void** state) {
    (void)state;
    enum { SAMPLES = 3 };
    rig r = set_up(1);
    lp_generation all = {0}, one = {0};
    lp_generate_def def = settings();
    def.batch_size = 4;
    def.num_return_sequences = SAMPLES;
    assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &all), LP_OK);
    def.num_return_sequences = 1;
    for (int64_t s = 0; s < PROMPTS * SAMPLES; s++) {
        const int64_t p = s / SAMPLES, from = all.response_offsets[s];
        def.first_index = (uint64_t)(p + (s % SAMPLES << 32));
        assert_int_equal(lp_generate(r.model, r.weights, &def, 1, offsets + p, tokens, &one),
                         LP_OK);
        assert_int_equal(one.responses.count, all.response_offsets[s + 1] - from);
        assert_memory_equal(one.responses.ids, all.responses.ids + from,
                            (size_t)one.responses.count * sizeof(int32_t));
    }
    lp_ctx_destroy(r.ctx);
}

/* Runs of the same prompts whose sequences end at other times ask for no more memory than one in
 * which all are as long as they may be. */
static void memory_settles(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        for (int64_t batch = 3; batch <= 48; batch *= 4) {
            rig r = set_up(threads);
            lp_generator* generator;
            lp_generation out = {0};
            lp_generate_def def = settings();
            def.batch_size = batch;
            def.num_return_sequences = 2;
            def.min_new_tokens = def.max_new_tokens; /* the first run has the longest responses */
            assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
            for (uint32_t round = 0; round < 12; round++) {
                const uint64_t before = lp_ctx_memory(r.ctx).allocations;
                def.round = round;
                assert_int_equal(
                    lp_generator_run(generator, r.weights, &def, PROMPTS, offsets, tokens, &out),
                    LP_OK);
                if (round > 0) assert_int_equal(lp_ctx_memory(r.ctx).allocations, before);
                def.min_new_tokens = 0;
            }
            lp_ctx_destroy(r.ctx);
        }
    }
}

/* The cache is for the sequences of a batch, not for all. */
static void memory_is_that_of_the_batch(void** state) {
    (void)state;
    size_t peak[2];
    for (int i = 0; i < 2; i++) {
        enum { MANY = 600 };
        static int64_t many_offsets[MANY + 1];
        static int32_t many[MANY * 50];
        for (int j = 0; j < MANY * 50; j++) many[j] = (j % 97 * j + j / 50) % WORDS;
        for (int j = 0; j <= MANY; j++) many_offsets[j] = 50 * j;
        rig r = set_up(1);
        lp_generation out = {0};
        lp_generate_def def = settings();
        def.batch_size = 8;
        def.max_new_tokens = 4;
        assert_int_equal(
            lp_generate(r.model, r.weights, &def, i == 0 ? 60 : MANY, many_offsets, many, &out),
            LP_OK);
        peak[i] = lp_ctx_memory(r.ctx).peak_bytes;
        lp_ctx_destroy(r.ctx);
    }
    assert_true(peak[1] < peak[0] + 1000000);
}

/* ---- what ends a response -------------------------------------------------------------------- */

/* The text of response s, control tokens left out. */
static void text_of(const rig* r, const lp_generation* g, int64_t s, lp_text* text) {
    text->bytes = 0;
    assert_int_equal(lp_text_add(r->ctx, text, "", 0), LP_OK);
    assert_int_equal(lp_tokenizer_decode(lp_model_tokenizer(r->model),
                                         g->responses.ids + g->response_offsets[s],
                                         g->response_offsets[s + 1] - g->response_offsets[s],
                                         LP_DECODE_SKIP_SPECIAL, text),
                     LP_OK);
}

/* The first place of a string in a text, which may have zero bytes; -1: none. */
static int64_t place(const lp_text* text, size_t bytes, const char* what) {
    const size_t n = strlen(what);
    for (size_t i = 0; i + n <= bytes; i++) {
        if (memcmp(text->data + i, what, n) == 0) return (int64_t)i;
    }
    return -1;
}

/* Responses with stop strings are those without, up to the token that completes one. */
static void stop_strings(void** state) {
    (void)state;
    static const char* const stop[] = {"e", "th", "\xc3\xa9", "on a"};
    rig r = set_up(2);
    lp_generation free_ones = {0}, got = {0};
    lp_text text = {0};
    int stopped = 0, inside = 0;
    for (int64_t least = 0; least <= 6; least += 6) {
        lp_generate_def def = settings();
        def.num_return_sequences = 4;
        def.min_new_tokens = least;
        assert_int_equal(
            lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &free_ones), LP_OK);
        def.stop = stop;
        def.stop_count = 4;
        def.batch_size = 7;
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &got),
                         LP_OK);
        for (int64_t s = 0; s < got.sequences; s++) {
            const int64_t n = got.response_offsets[s + 1] - got.response_offsets[s];
            const int64_t all = free_ones.response_offsets[s + 1] - free_ones.response_offsets[s];
            assert_true(n <= all);
            assert_memory_equal(got.responses.ids + got.response_offsets[s],
                                free_ones.responses.ids + free_ones.response_offsets[s],
                                (size_t)n * sizeof(int32_t));
            text_of(&r, &got, s, &text);
            size_t last = 0; /* bytes of the last token */
            const int32_t end = got.responses.ids[got.response_offsets[s + 1] - 1];
            if (!lp_tokenizer_is_special(lp_model_tokenizer(r.model), end))
                lp_tokenizer_bytes(lp_model_tokenizer(r.model), end, &last);
            const int64_t cut = got.text_bytes[s];
            if (cut < 0) {
                assert_int_equal(n, all);
                assert_int_equal(got.finish[s], free_ones.finish[s]);
                for (int i = 0; i < 4 && least == 0; i++)
                    assert_int_equal(place(&text, text.bytes, stop[i]), -1);
                continue;
            }
            assert_true(n >= least);
            assert_int_equal(got.finish[s], LP_FINISH_STOP);
            bool there = false;
            for (int i = 0; i < 4; i++) {
                const size_t length = strlen(stop[i]);
                there |= (size_t)cut + length <= text.bytes &&
                         memcmp(text.data + cut, stop[i], length) == 0 &&
                         (size_t)cut + length > text.bytes - last;
                /* and none was complete before that token */
                if (least == 0) assert_int_equal(place(&text, text.bytes - last, stop[i]), -1);
            }
            assert_true(there);
            stopped++;
            inside += n > 1;
        }
    }
    assert_true(stopped > 50 && inside > 20);
    lp_text_free(r.ctx, &text);
    lp_ctx_destroy(r.ctx);
}

static bool is_end(const lp_generate_def* def, const lp_model* model, int32_t token) {
    bool end = lp_model_ends(model, token);
    for (int64_t i = 0; i < def->stop_token_count; i++) end |= def->stop_tokens[i] == token;
    return end;
}

static void lengths(void** state) {
    (void)state;
    rig r = set_up(1);
    lp_generation g = {0};
    lp_generate_def def = settings();
    int ends[2] = {0};
    for (int64_t least = 0; least <= 20; least += 5) {
        def.min_new_tokens = least;
        def.num_return_sequences = 4;
        assert_int_equal(lp_generate(r.model, r.weights, &def, PROMPTS, offsets, tokens, &g),
                         LP_OK);
        for (int64_t s = 0; s < g.sequences; s++) {
            const int64_t from = g.response_offsets[s], to = g.response_offsets[s + 1];
            for (int64_t i = from; i < to - 1; i++)
                assert_false(is_end(&def, r.model, g.responses.ids[i]));
            const bool end = is_end(&def, r.model, g.responses.ids[to - 1]);
            assert_int_equal(g.finish[s], end ? LP_FINISH_STOP : LP_FINISH_LENGTH);
            assert_int_equal(g.text_bytes[s], -1);
            if (end) assert_true(to - from > least);
            if (!end) assert_int_equal(to - from, def.max_new_tokens);
            ends[end]++;
        }
    }
    assert_true(ends[0] > 100 && ends[1] > 100);
    lp_ctx_destroy(r.ctx);
}

static void refused(void** state) {
    (void)state;
    rig r = set_up(1);
    const lp_generate_def good = settings();
    static char too_long[1100];
    static int32_t all[WORDS];
    memset(too_long, 'x', sizeof too_long - 1);
    for (int i = 0; i < WORDS; i++) all[i] = i;
    const char* many[17];
    for (int i = 0; i < 17; i++) many[i] = "x";
#define WRONG(words, ...)                                                                          \
    do {                                                                                           \
        lp_generate_def def = good;                                                                \
        __VA_ARGS__;                                                                               \
        assert_int_equal(lp_generate_check(r.model, &def, PROMPTS, offsets, tokens), LP_INVALID);  \
        if (!strstr(lp_error(r.ctx), words)) fail_msg("%s, not %s", lp_error(r.ctx), words);       \
    } while (0)
#define STOPS(...) def.stop = (const char* const[]){__VA_ARGS__}, def.stop_count
    WRONG("stop string 2 is empty", STOPS("a", "") = 2);
    WRONG("stop string 1: invalid UTF-8 at byte 2", STOPS("a\xff") = 1);
    WRONG("stop string 1 has more than 1024", STOPS(too_long) = 1);
    WRONG("17 stop strings", def.stop = many, def.stop_count = 17);
    WRONG("-1 stop strings", def.stop_count = -1);
    WRONG("stop_tokens has -1", def.stop_tokens = (const int32_t[]){-1}, def.stop_token_count = 1);
    WRONG("stop_tokens has 512", def.stop_tokens = (const int32_t[]){512},
          def.stop_token_count = 1);
    WRONG("513 stop_tokens", def.stop_token_count = 513);
    WRONG("suppress_tokens has 512", def.suppress_tokens = (const int32_t[]){512},
          def.suppress_count = 1);
    WRONG("no token of the vocabulary", def.suppress_tokens = all, def.suppress_count = WORDS);
    WRONG("no token of the vocabulary", def.stop_tokens = all, def.stop_token_count = WORDS,
          def.min_new_tokens = 1);
    WRONG("min_new_tokens", def.min_new_tokens = good.max_new_tokens + 1);
    WRONG("min_p is -0.1", def.min_p = -0.1);
    WRONG("min_p is 1.5", def.min_p = 1.5);
    WRONG("min_p is", def.min_p = (double)NAN);
    WRONG("batch_size is -1", def.batch_size = -1);
    WRONG("batch_size is 65537", def.batch_size = 65537);
    WRONG("num_return_sequences is 0", def.num_return_sequences = 0);
    WRONG("16777216 sequences for each", def.num_return_sequences = 1 << 24);
#undef STOPS
#undef WRONG
    lp_ctx_destroy(r.ctx);
}

/* ---- memory that runs out -------------------------------------------------------------------- */

static int64_t countdown = -1, held;
static bool ran_out;
static void* refusing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)user;
    if (new_bytes > 0 && countdown == 0) {
        ran_out = true;
        return NULL;
    }
    if (new_bytes > 0 && countdown > 0) countdown--;
    void* block = new_bytes > 0 ? realloc(old, new_bytes) : NULL;
    if (new_bytes == 0) free(old);
    held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

static void memory_may_run_out(void** state) {
    (void)state;
    int failures = 0;
    for (int64_t n = 0; n == 0 || ran_out; n++) {
        lp_ctx_def ctx_def = lp_ctx_def_default();
        ctx_def.threads = 1;
        ctx_def.alloc = refusing_alloc;
        rig r = set_up_with(&ctx_def);
        lp_generator* generator;
        lp_generation out = {0}, want = {0};
        lp_generate_def def = settings();
        def.num_return_sequences = 2;
        def.batch_size = 4;
        def.max_new_tokens = 6;
        def.top_k = 50;
        def.keep_sets = true;
        def.stop = (const char* const[]){"th"};
        def.stop_count = 1;
        assert_int_equal(lp_generate(r.model, r.weights, &def, 8, offsets, tokens, &want), LP_OK);
        assert_int_equal(lp_generator_create(r.model, &generator), LP_OK);
        countdown = n;
        ran_out = false;
        const lp_status status =
            lp_generator_run(generator, r.weights, &def, 8, offsets, tokens, &out);
        countdown = -1;
        assert_int_equal(status, ran_out ? LP_NOMEM : LP_OK);
        if (ran_out) {
            failures++;
            assert_int_equal(out.sequences, 0);
            assert_int_equal(lp_generator_run(generator, r.weights, &def, 8, offsets, tokens, &out),
                             LP_OK);
        }
        assert_same(&out, &want);
        assert_int_equal(out.kept.count, want.kept.count);
        assert_memory_equal(out.kept.ids, want.kept.ids, (size_t)out.kept.count * sizeof(int32_t));
        lp_generator_destroy(generator);
        lp_generation_free(r.ctx, &out);
        lp_generation_free(r.ctx, &want);
        lp_ctx_destroy(r.ctx);
        assert_int_equal(held, 0);
    }
    assert_true(failures > 15);
}

int main(void) {
    make_prompts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_size_of_batch), cmocka_unit_test(random_streams),
        cmocka_unit_test(memory_settles),    cmocka_unit_test(memory_is_that_of_the_batch),
        cmocka_unit_test(stop_strings),      cmocka_unit_test(lengths),
        cmocka_unit_test(refused),           cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
