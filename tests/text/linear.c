/* Time is linear in the text, whatever it is: twice the text takes at most 2.5 times as long.
 * GPT-2's tokenizer, SmolLM2's kind (models/tiny.gguf), and the pre-tokenizers of Llama 3 and Qwen2
 * over GPT-2's vocabulary. */
#include "text/fixture.h"
#include "text/tokenizer.h"
#include <time.h>

/* Sanitizers take ten times as long, and are not here to measure. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { ONE = 1 << 17 };
#else
enum { ONE = 1 << 20 };
#endif

typedef struct tokenizers {
    fixture* f;
    lp_tokenizer *gpt2, *llama3, *qwen2;
} tokenizers;

/* GPT-2's vocabulary with other steps before it. */
static lp_tokenizer* with_steps(lp_ctx* ctx, const lp_tokenizer* from, const char* pre) {
    const int64_t merges = lp__tokenizer_merge_count(from);
    lp__string* pairs = malloc((size_t)merges * 2 * sizeof *pairs);
    for (int64_t i = 0; i < merges; i++)
        (void)lp__tokenizer_merge(from, i, &pairs[2 * i], &pairs[2 * i + 1]);
    lp__tokenizer_spec spec = lp__tokenizer_spec_default();
    spec.tokens = from->spellings;
    spec.token_count = from->size;
    spec.pairs = pairs;
    spec.merge_count = merges;
    spec.pre = lp__string_of(pre);
    lp_tokenizer* t = NULL;
    if (lp__tokenizer_create(ctx, &spec, &t)) print_error("%s\n", lp_error(ctx));
    free(pairs);
    return t;
}

static int open_all(void** state) {
    static tokenizers all;
    if (fixture_open(state)) return -1;
    all.f = *state;
    lp_ctx* ctx = all.f->ctx;
    if (lp_tokenizer_open(ctx, LP_MODELS "/gpt2-tokenizer", &all.gpt2)) return -1;
    all.llama3 = with_steps(ctx, all.gpt2, "llama-bpe");
    all.qwen2 = with_steps(ctx, all.gpt2, "qwen2");
    *state = &all;
    return all.llama3 && all.qwen2 ? 0 : -1;
}

static int close_all(void** state) {
    tokenizers* all = *state;
    lp_tokenizer_destroy(all->gpt2);
    lp_tokenizer_destroy(all->llama3);
    lp_tokenizer_destroy(all->qwen2);
    void* f = all->f;
    return fixture_close(&f);
}

typedef struct job {
    lp_ctx* ctx;
    const lp_tokenizer* tokenizer; /* NULL: repair of UTF-8 */
    const char* text;
    lp_status status; /* expected */
    lp_token_list list;
    lp_text repaired;
} job;

static double seconds(job* j, size_t bytes) {
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    if (j->tokenizer) {
        j->list.count = 0;
        assert_int_equal(
            lp_tokenizer_encode(j->tokenizer, j->text, bytes, LP_ENCODE_PARSE_SPECIAL, &j->list),
            j->status);
    } else {
        j->repaired.bytes = 0;
        assert_int_equal(lp_text_add_lossy(j->ctx, &j->repaired, j->text, bytes), LP_OK);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}

/* The least of up to five runs of each length: the machine may be busy. 50 ms are noise; quadratic
 * time would be hours. */
static void expect_linear(job* j, const char* what) {
    double once = 1e30, twice = 1e30;
    for (int run = 0; run < 5; run++) {
        once = fmin(once, seconds(j, ONE));
        twice = fmin(twice, seconds(j, 2 * ONE));
        if (twice <= 2.5 * once) break;
    }
    print_message("%-35s %7.1f ms, twice as much %.2f times\n", what, 1e3 * once, twice / once);
    if (twice > 2.5 * once + 0.05 || once > 30) fail_msg("%s is not linear", what);
}

static char* fill(const char* unit) {
    const size_t n = strlen(unit);
    char* text = malloc(2 * ONE + 16);
    for (size_t i = 0; i < 2 * ONE; i++) text[i] = unit[i % n];
    return text;
}

static void encodes_in_linear_time(void** state) {
    tokenizers* all = *state;
    const struct {
        const char* name;
        const lp_tokenizer* t;
    } kinds[] = {{"GPT-2", all->gpt2},
                 {"SmolLM2", all->f->tokenizer},
                 {"Llama 3", all->llama3},
                 {"Qwen2", all->qwen2}};
    /* Lengths divide 1 MiB, so that every text is UTF-8. */
    static const struct {
        const char *name, *unit;
    } units[] = {{"Z", "Z"},
                 {"spaces", " "},
                 {"combining marks", "\xcc\x81"},
                 {"marks out of order", "\xcc\x81\xcc\xa3"},
                 {"digits", "7"},
                 {"line feeds", "\n"},
                 {"tabs and spaces", "\t "},
                 {"signs", "!"},
                 {"apostrophes", "'"},
                 {"starts of a control token", "<|en"}};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        char* text = fill(units[u].unit);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            char what[64];
            snprintf(what, sizeof what, "%s, %s", kinds[k].name, units[u].name);
            job j = {.ctx = all->f->ctx, .tokenizer = kinds[k].t, .text = text};
            expect_linear(&j, what);
            lp_token_list_free(j.ctx, &j.list);
        }
        free(text);
    }
}

/* Invalid UTF-8 is refused where it begins, or repaired. */
static void invalid_utf8_takes_linear_time(void** state) {
    tokenizers* all = *state;
    static const char* const units[] = {"\xff", "\x80", "\xf0\x9f\x98 ", "\xe2\x82", "\xed\xa0"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        char* text = fill(units[u]);
        job j = {.ctx = all->f->ctx, .tokenizer = all->gpt2, .text = text, .status = LP_FORMAT};
        (void)seconds(&j, 2 * ONE);
        assert_non_null(strstr(lp_error(j.ctx), "invalid UTF-8 at byte 0 "));
        j.tokenizer = NULL;
        char what[64];
        snprintf(what, sizeof what, "repair of invalid UTF-8, kind %zu", u);
        expect_linear(&j, what);
        lp_text_free(j.ctx, &j.repaired);
        free(text);
    }
}

/* Added tokens that take the white space beside them, in nothing but white space; a long one, of
 * which every place is a start. */
static void added_tokens_take_linear_time(void** state) {
    tokenizers* all = *state;
    lp_ctx* ctx = all->f->ctx;
    static char longest[1025];
    memset(longest, 'a', 1024);
    longest[1023] = 'b';
    const lp__string tokens[] = {{"a", 1}, {"b", 1},  {"ab", 2},      {"\xc4\xa0", 2},
                                 {" ", 1}, {"\n", 1}, {longest, 1024}};
    const int32_t kinds[] = {1, 1, 1, 1, 4, 4, 4};
    const uint8_t flags[] = {0, 0, 0, 0, 0, LP__TOKEN_RSTRIP | LP__TOKEN_LSTRIP, 0};
    const lp__string merges[] = {{"a b", 3}};
    lp__tokenizer_spec spec = lp__tokenizer_spec_default();
    spec.tokens = tokens;
    spec.kinds = kinds;
    spec.flags = flags;
    spec.token_count = 7;
    spec.merges = merges;
    spec.merge_count = 1;
    spec.pre = lp__string_of("gpt-2");
    lp_tokenizer* t = NULL;
    if (lp__tokenizer_create(ctx, &spec, &t)) fail_msg("%s", lp_error(ctx));
    static const char* const units[] = {" ", "\n", " \n", "a"};
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        char *text = fill(units[u]), what[64];
        snprintf(what, sizeof what, "added tokens, kind %zu", u);
        job j = {.ctx = ctx, .tokenizer = t, .text = text};
        expect_linear(&j, what);
        lp_token_list_free(ctx, &j.list);
        free(text);
    }
    lp_tokenizer_destroy(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_in_linear_time),
        cmocka_unit_test(invalid_utf8_takes_linear_time),
        cmocka_unit_test(added_tokens_take_linear_time),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
