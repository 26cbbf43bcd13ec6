/* A token's log-probability while it is sampled, with a cache and whatever else is in the batch,
 * and while learning, without one, are the same bits: their ratio is 1 exactly. And a sequence is
 * the same alone and in any batch, with any number of threads. */
#include "lm/rig.h"

#include "base/base.h"

enum {
    PROMPTS = 250,
    SAMPLES = 4,
    N = PROMPTS * SAMPLES,
    LONGEST = 50,
    NEW = 16,
    STOPS = 40,
    BANNED = 3
};
static int64_t offsets[PROMPTS + 1];
static int32_t tokens[PROMPTS * LONGEST], stop_tokens[STOPS];
static const char* model_path = LP_MODELS "/tiny.gguf";
static int64_t prompts = PROMPTS;
static const int32_t suppressed[BANNED] = {17, 18, 300};

static rig open_model(int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    return set_up_model(&def, model_path);
}

/* Prompts of 1 to 50 tokens, every fifth of which is one that was there before; tokens that end a
 * response, so that lengths are mixed. */
static void make_prompts(void) {
    lp_rng rng = lp_rng_philox(5, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < PROMPTS; i++) {
        const int twin = i % 5 == 4 ? (int)lp_rng_below(&rng, (uint32_t)i) : -1;
        const int64_t n =
            twin < 0 ? 1 + (int64_t)lp_rng_below(&rng, LONGEST) : offsets[twin + 1] - offsets[twin];
        for (int64_t j = 0; j < n; j++)
            tokens[offsets[i] + j] =
                twin < 0 ? (int32_t)lp_rng_below(&rng, 512) : tokens[offsets[twin] + j];
        offsets[i + 1] = offsets[i] + n;
    }
    for (int i = 0; i < STOPS; i++) stop_tokens[i] = 100 + 7 * i;
}

static const struct mode {
    const char* name;
    double temperature, top_p, min_p;
    int64_t top_k, min_new_tokens, suppress;
} modes[] = {{"plain", 1, 1, 0, 0, 0, 0},       {"temperature", 0.7, 1, 0, 0, 0, 0},
             {"top_k", 1, 1, 0, 20, 0, 0},      {"top_p", 0.9, 0.8, 0, 0, 0, 0},
             {"min_p", 1.3, 1, 0.1, 0, 0, 0},   {"min_new_tokens", 1, 1, 0, 0, 5, 0},
             {"greedy", 0, 1, 0, 0, 2, BANNED}, {"all of them", 0.8, 0.9, 0.02, 100, 3, BANNED}};
enum { MODES = sizeof modes / sizeof *modes };

static lp_generate_def settings(const struct mode* m) {
    lp_generate_def def = lp_generate_def_default();
    def.seed = 11;
    def.max_new_tokens = NEW;
    def.num_return_sequences = SAMPLES;
    def.temperature = m->temperature;
    def.top_p = m->top_p;
    def.min_p = m->min_p;
    def.top_k = m->top_k;
    def.min_new_tokens = m->min_new_tokens;
    def.suppress_count = m->suppress;
    def.suppress_tokens = suppressed;
    def.stop_token_count = STOPS;
    def.stop_tokens = stop_tokens;
    def.keep_sets = true;
    return def;
}

/* Scores the response of sequences first .. last - 1 together, without a cache, and compares. */
static void compare(const rig* r, lp_tape* t, const lp_generation* g, double temperature,
                    int64_t first, int64_t last, const char* what) {
    static int32_t packed[64 * (LONGEST + NEW)], row[64 * NEW];
    int64_t at[65] = {0}, rows = 0;
    for (int64_t s = first; s < last; s++) {
        const int64_t n = g->prompt_offsets[s + 1] - g->prompt_offsets[s];
        const int64_t m = g->response_offsets[s + 1] - g->response_offsets[s];
        int32_t* to = packed + at[s - first];
        memcpy(to, g->prompts.ids + g->prompt_offsets[s], (size_t)n * sizeof *to);
        memcpy(to + n, g->responses.ids + g->response_offsets[s], (size_t)(m - 1) * sizeof *to);
        for (int64_t j = 0; j < m; j++) row[rows++] = (int32_t)(at[s - first] + n - 1 + j);
        at[s - first + 1] = at[s - first] + n + m - 1;
    }
    const lp_batch batch = {.sequences = last - first, .offsets = at, .tokens = packed};
    const int64_t from = g->response_offsets[first];
    int64_t* kept_offsets = malloc((size_t)(rows + 1) * sizeof *kept_offsets);
    for (int64_t i = 0; i <= rows; i++)
        kept_offsets[i] = g->kept_offsets[from + i] - g->kept_offsets[from];
    static const int32_t nothing;
    const lp_head_def head = {.temperature = temperature > 0 ? temperature : 1,
                              .kept_offsets = kept_offsets,
                              .kept = g->kept.ids ? g->kept.ids + g->kept_offsets[from] : &nothing};
    lp_tape_reset(t);
    lp_tensor hidden = lp_model_hidden(t, r->model, r->weights, &batch);
    lp_tensor h = lp_rows(t, hidden, lp_const_i32(t, rows, 1, row));
    lp_tensor target = lp_const_i32(t, rows, 1, g->responses.ids + from);
    lp_tensor log_prob = lp_model_score(t, r->weights, h, target, &head, NULL);
    if (!log_prob) fail_msg("%s: %s", what, lp_error(r->ctx));
    for (int64_t i = 0; i < rows; i++) {
        if (memcmp(&g->log_probs[from + i], lp_f32(log_prob) + i, sizeof(float)) != 0)
            fail_msg("%s, token %d: %.9g while sampling, %.9g while learning", what,
                     (int)(from + i), (double)g->log_probs[from + i], (double)lp_f32(log_prob)[i]);
    }
    free(kept_offsets);
}

static void assert_same(const lp_generation* a, const lp_generation* b, const char* what) {
    const size_t n = (size_t)a->sequences, m = (size_t)a->responses.count;
    if (a->sequences != b->sequences || a->responses.count != b->responses.count ||
        a->kept.count != b->kept.count ||
        memcmp(a->response_offsets, b->response_offsets, (n + 1) * sizeof(int64_t)) != 0 ||
        memcmp(a->responses.ids, b->responses.ids, m * sizeof(int32_t)) != 0 ||
        memcmp(a->log_probs, b->log_probs, m * sizeof(float)) != 0 ||
        memcmp(a->finish, b->finish, n * sizeof(lp_finish)) != 0 ||
        memcmp(a->kept_offsets, b->kept_offsets, (m + 1) * sizeof(int64_t)) != 0 ||
        (a->kept.count > 0 &&
         memcmp(a->kept.ids, b->kept.ids, (size_t)a->kept.count * sizeof(int32_t)) != 0))
        fail_msg("%s: another result", what);
}

/* Kept sets rise, have the token, obey the settings, and are told in few entries. */
static void check_sets(const rig* r, const lp_generation* g, const struct mode* m) {
    const int64_t vocab = lp_model_get_shape(r->model).vocab;
    int64_t whole = 0, most = 0;
    static bool in[1 << 16];
    for (int64_t s = 0; s < g->sequences; s++) {
        for (int64_t i = g->response_offsets[s]; i < g->response_offsets[s + 1]; i++) {
            const int64_t from = g->kept_offsets[i], to = g->kept_offsets[i + 1];
            const bool left_out = from == to || g->kept.ids[from] < 0;
            const int64_t size = left_out ? vocab - (to - from) : to - from;
            whole += from == to;
            most = LP__MAX(most, to - from);
            for (int64_t j = 0; j < vocab; j++) in[j] = left_out;
            for (int64_t k = from, last = -1; k < to; k++) {
                const int64_t token = left_out ? -1 - g->kept.ids[k] : g->kept.ids[k];
                assert_true(token > last && token < vocab);
                in[last = token] = !left_out;
            }
            assert_true(in[g->responses.ids[i]]);
            for (int j = 0; j < m->suppress; j++) assert_false(in[suppressed[j]]);
            const bool early = i - g->response_offsets[s] < m->min_new_tokens;
            for (int j = 0; early && j < STOPS; j++) assert_false(in[stop_tokens[j]]);
            if (m->top_k > 0) assert_in_range(size, 1, m->top_k);
        }
    }
    assert_true(2 * most <= vocab);
    if (m->min_new_tokens > 0 && m->top_k == 0) /* what ends a response is all that is left out */
        assert_in_range(most, STOPS, STOPS + m->suppress + 4);
    const bool plain = m->top_k == 0 && m->top_p >= 1 && m->min_p <= 0 && m->suppress == 0;
    assert_true(plain ? whole > 0 : whole == 0);
}

static void ratios_are_one(lp_precision precision) {
    static const struct { int threads, batch; } ways[] = {{1, 64}, {2, 1}, {3, 64}, {2, 7}, {3, 0}};
    for (int mode = 0; mode < MODES; mode++) {
        const char* what = modes[mode].name;
        lp_generation first = {0};
        lp_ctx* keeper = NULL;
        for (int way = 0; way < (int)(sizeof ways / sizeof *ways); way++) {
            if (way > 0 && way != 1 + mode % 4) continue; /* each mode in two ways */
            rig r = open_model(ways[way].threads);
            lp_weights_set_precision(r.weights, precision);
            lp_generation g = {0};
            lp_generate_def def = settings(&modes[mode]);
            def.batch_size = ways[way].batch;
            assert_int_equal(lp_generate(r.model, r.weights, &def, prompts, offsets, tokens, &g),
                             LP_OK);
            assert_int_equal(g.sequences, prompts * SAMPLES);
            if (way > 0) {
                assert_same(&g, &first, what);
                lp_ctx_destroy(r.ctx);
                continue;
            }
            check_sets(&r, &g, &modes[mode]);
            lp_tape* t = lp_tape_create(r.ctx, LP_F32);
            lp_tape_record(t, mode % 2 == 0);
            for (int64_t s = 0, size = 1; s < g.sequences; s += size, size = size % 64 + 1)
                compare(&r, t, &g, def.temperature, s, LP__MIN(s + size, g.sequences), what);
            first = g;
            keeper = r.ctx;
        }
        lp_ctx_destroy(keeper);
    }
}

static void float32(void** state) {
    (void)state;
    ratios_are_one(LP_FLOAT32);
}
static void bfloat16(void** state) {
    (void)state;
    ratios_are_one(LP_BFLOAT16);
}

/* Each prompt alone, and one sample of it, give what they gave among all. */
static void company_changes_nothing(void** state) {
    (void)state;
    rig r = open_model(2);
    lp_weights_set_precision(r.weights, LP_BFLOAT16);
    lp_generate_def def = settings(&modes[MODES - 1]);
    lp_generation all = {0}, alone = {0};
    assert_int_equal(lp_generate(r.model, r.weights, &def, prompts, offsets, tokens, &all), LP_OK);
    for (int64_t p = 0; p < prompts; p++) {
        def.first_index = (uint64_t)p;
        def.num_return_sequences = 1 + p % SAMPLES;
        assert_int_equal(lp_generate(r.model, r.weights, &def, 1, offsets + p, tokens, &alone),
                         LP_OK);
        const int64_t from = all.response_offsets[p * SAMPLES];
        assert_int_equal(alone.sequences, def.num_return_sequences);
        assert_int_equal(alone.responses.count,
                         all.response_offsets[p * SAMPLES + alone.sequences] - from);
        assert_memory_equal(alone.responses.ids, all.responses.ids + from,
                            (size_t)alone.responses.count * sizeof(int32_t));
        assert_memory_equal(alone.log_probs, all.log_probs + from,
                            (size_t)alone.responses.count * sizeof(float));
    }
    lp_ctx_destroy(r.ctx);
}

int main(int argc, char** argv) {
    if (argc > 2) {
        model_path = argv[1];
        prompts = LP__MIN((int64_t)strtol(argv[2], NULL, 10), (int64_t)PROMPTS);
    }
    make_prompts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float32),
        cmocka_unit_test(bfloat16),
        cmocka_unit_test(company_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
