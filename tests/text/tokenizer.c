/* Ids and texts against Hugging Face's tokenizers (exactly), and what a tokenizer refuses. */
#include "text/tokenizer.h"
#include "text/fixture.h"
#include <time.h>

/* ---- parity ---------------------------------------------------------------------------------- */

static void encodes_as_the_oracle(void** state) {
    fixture* f = *state;
    lp_token_list list = {0};
    size_t i;
    json_t* line;
    json_t* lines = json_object_get(f->json, "lines");
    assert_true(json_array_size(lines) >= 250);
    json_array_foreach(lines, i, line) {
        json_t *text = json_object_get(line, "text"), *ids = json_object_get(line, "ids");
        json_t* plain = json_object_get(line, "plain");
        const char* bytes = json_string_value(text);
        size_t n = json_string_length(text);
        list.count = 0;
        assert_int_equal(
            lp_tokenizer_encode(f->tokenizer, bytes, n, LP_ENCODE_PARSE_SPECIAL, &list), LP_OK);
        assert_ids(&list, ids, bytes);
        list.count = 0;
        assert_int_equal(lp_tokenizer_encode(f->tokenizer, bytes, n, 0, &list), LP_OK);
        assert_ids(&list, plain ? plain : ids, bytes);
        for (int64_t k = 0; k < list.count; k++)
            assert_false(lp_tokenizer_is_special(f->tokenizer, list.ids[k]));
    }
    lp_token_list_free(f->ctx, &list);
}

static void decodes_as_the_oracle(void** state) {
    fixture* f = *state;
    size_t i;
    json_t* line;
    lp_token_list list = {0};
    lp_text text = {0};
    json_array_foreach(json_object_get(f->json, "lines"), i, line) {
        json_t *source = json_object_get(line, "text"), *decoded = json_object_get(line, "decoded");
        if (!decoded) decoded = source;
        list.count = 0;
        assert_int_equal(lp_tokenizer_encode(f->tokenizer, json_string_value(source),
                                             json_string_length(source), LP_ENCODE_PARSE_SPECIAL,
                                             &list),
                         LP_OK);
        text.bytes = 0;
        unsigned flags = LP_DECODE_SKIP_SPECIAL | LP_DECODE_LOSSY;
        assert_int_equal(lp_tokenizer_decode(f->tokenizer, list.ids, list.count, flags, &text),
                         LP_OK);
        assert_int_equal(text.bytes, json_string_length(decoded));
        if (text.bytes) assert_memory_equal(text.data, json_string_value(decoded), text.bytes);
        /* With control tokens, byte by byte, it is the text itself. */
        text.bytes = 0;
        for (int64_t k = 0; k < list.count; k++) {
            size_t bytes;
            const char* piece = lp_tokenizer_bytes(f->tokenizer, list.ids[k], &bytes);
            assert_int_equal(lp_text_add(f->ctx, &text, piece, bytes), LP_OK);
        }
        assert_int_equal(text.bytes, json_string_length(source));
        if (text.bytes) assert_memory_equal(text.data, json_string_value(source), text.bytes);
    }
    lp_token_list_free(f->ctx, &list);
    lp_text_free(f->ctx, &text);
}

/* ---- single facts ---------------------------------------------------------------------------- */

static void knows_its_tokens(void** state) {
    fixture* f = *state;
    const lp_tokenizer* t = f->tokenizer;
    assert_int_equal(lp_tokenizer_size(t), 512);
    assert_int_equal(lp_tokenizer_bos(t), 1);
    assert_int_equal(lp_tokenizer_eos(t), 2);
    assert_int_equal(lp_tokenizer_eot(t), 2);
    assert_int_equal(lp_tokenizer_pad(t), 2);
    assert_int_equal(lp_tokenizer_unk(t), 0);
    assert_true(lp_tokenizer_is_special(t, 0));
    assert_false(lp_tokenizer_is_special(t, 3));
    assert_false(lp_tokenizer_is_special(t, -1));
    assert_int_equal(lp_tokenizer_find(t, " a", 2), 259);
    assert_string_equal(lp_tokenizer_spelling(t, 259), "\u0120a");
    assert_int_equal(lp_tokenizer_find(t, "<|im_end|>", 10), 2);
    assert_int_equal(lp_tokenizer_find(t, "no such token", 13), -1);
    size_t bytes;
    assert_string_equal(lp_tokenizer_bytes(t, 512, &bytes), "");
    assert_int_equal(bytes, 0);
}

/* Every byte's letter gives the byte back. */
static void every_byte_survives(void** state) {
    fixture* f = *state;
    for (int32_t b = 0; b < 256; b++) {
        size_t bytes;
        const char* text = lp_tokenizer_bytes(f->tokenizer, f->tokenizer->bpe.byte_ids[b], &bytes);
        assert_int_equal(bytes, 1);
        assert_int_equal((uint8_t)text[0], b);
    }
}

static void refuses_invalid_utf8(void** state) {
    fixture* f = *state;
    static const struct {
        const char* text;
        size_t bytes;
        const char* where;
    } cases[] = {
        {"\xff", 1, "byte 0 "},
        {"ab\x80", 3, "byte 2 "},
        {"a\xc3", 2, "byte 1 "},
        {"\xc0\xaf", 2, "byte 0 "},
        {"\xed\xa0\x80", 3, "byte 0 "},
        {"x\xf4\x90\x80\x80", 5, "byte 1 "},
        {"\xe2\x82", 2, "byte 0 "},
        {"\xf0\x9f\x98", 3, "byte 0 "},
        {"ok\n\xe0\x80\x80", 6, "byte 3 "},
    };
    lp_token_list list = {0};
    int32_t seven = 7;
    assert_int_equal(lp_token_list_add(f->ctx, &list, &seven, 1), LP_OK);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(lp_tokenizer_encode(f->tokenizer, cases[i].text, cases[i].bytes, 0, &list),
                         LP_FORMAT);
        assert_non_null(strstr(lp_error(f->ctx), cases[i].where));
        assert_int_equal(list.count, 1); /* as it was */
    }
    lp_token_list_free(f->ctx, &list);
}

static void refuses_ids_out_of_range(void** state) {
    fixture* f = *state;
    lp_text text = {0};
    assert_int_equal(lp_tokenizer_decode(f->tokenizer, (int32_t[]){5, 512}, 2, 0, &text),
                     LP_INVALID);
    assert_int_equal(text.bytes, 0);
    assert_int_equal(lp_tokenizer_decode(f->tokenizer, (int32_t[]){-1}, 1, 0, &text), LP_INVALID);
    /* ids of a padded embedding are left out where that is asked for; negative ones never */
    static const unsigned flags[] = {LP_DECODE_LOSSY, LP_DECODE_SKIP_UNKNOWN,
                                     LP_DECODE_LOSSY | LP_DECODE_SKIP_SPECIAL};
    int32_t a = lp_tokenizer_find(f->tokenizer, "a", 1),
            b = lp_tokenizer_find(f->tokenizer, "b", 1);
    for (int i = 0; i < 3; i++) {
        text.bytes = 0;
        const int32_t padded[] = {512, a, 1 << 20, INT32_MAX, b, 513};
        assert_int_equal(lp_tokenizer_decode(f->tokenizer, padded, 6, flags[i], &text), LP_OK);
        assert_string_equal(text.data, "ab");
        assert_int_equal(lp_tokenizer_decode(f->tokenizer, (int32_t[]){a, -1}, 2, flags[i], &text),
                         LP_INVALID);
        assert_string_equal(lp_error(f->ctx), "token 1 is -1; the vocabulary has 0 to 511");
        assert_int_equal(text.bytes, 2); /* as it was */
    }
    lp_text_free(f->ctx, &text);
}

/* The Unicode standard's own example of maximal subparts (table 3-8), and a cut character at the
 * end. */
static void repairs_utf8(void** state) {
    fixture* f = *state;
    lp_text text = {0};
    assert_int_equal(lp_text_add_lossy(f->ctx, &text, "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", 9),
                     LP_OK);
    assert_string_equal(text.data, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\x41");
    text.bytes = 0;
    assert_int_equal(lp_text_add_lossy(f->ctx, &text, "\xc0\xaf\xed\xa0\x80z\xf0\x9f\x98", 9),
                     LP_OK);
    assert_string_equal(
        text.data, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\xef\xbf\xbd");
    text.bytes = 0;
    assert_int_equal(lp_text_add_lossy(f->ctx, &text, "\xe0\x80\xf0\x80\xf4\x90", 6), LP_OK);
    assert_int_equal(text.bytes, 6 * 3); /* no byte of these continues the one before */
    lp_text_free(f->ctx, &text);
}

/* A megabyte of one character, and of what makes patterns backtrack: each well under a second when
 * the work is O(n log n), hours when it is quadratic. */
static void long_runs_are_fast(void** state) {
    fixture* f = *state;
    const size_t n = 1 << 20;
    const char* const units[] = {"a",         " ",   "Z",        "1",  "\n",          "<",
                                 "<|im_end|", "ab ", "\xc3\xa9", "'s", "<|im_start|>"};
    char* text = malloc(n);
    assert_non_null(text);
    lp_token_list list = {0};
    clock_t start = clock();
    for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
        size_t length = strlen(units[u]), total = n / length * length;
        for (size_t i = 0; i < total; i++) text[i] = units[u][i % length];
        list.count = 0;
        assert_int_equal(
            lp_tokenizer_encode(f->tokenizer, text, total, LP_ENCODE_PARSE_SPECIAL, &list), LP_OK);
        assert_true(list.count >= (int64_t)(total / 64));
    }
    memset(text, ' ', n);
    text[n - 1] = 'x'; /* the lookahead fails once, at the end */
    assert_int_equal(lp_tokenizer_encode(f->tokenizer, text, n, 0, &list), LP_OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 60);
    free(text);
    lp_token_list_free(f->ctx, &list);
}

static void a_loop_allocates_once(void** state) {
    fixture* f = *state;
    const char* text = "The capital of France is Paris, 12 times.";
    lp_token_list list = {0};
    uint64_t before = 0;
    for (int i = 0; i < 4; i++) {
        list.count = 0;
        assert_int_equal(lp_tokenizer_encode(f->tokenizer, text, strlen(text), 0, &list), LP_OK);
        if (i == 1) before = lp_ctx_memory(f->ctx).allocations;
    }
    assert_int_equal(lp_ctx_memory(f->ctx).allocations, before);
    lp_token_list_free(f->ctx, &list);
}

/* ---- vocabularies made here ------------------------------------------------------------------ */

static lp__string strings[16];

static const lp__string* list_of(const char* const* texts, int n) {
    for (int i = 0; i < n; i++) strings[i] = lp__string_of(texts[i]);
    return strings;
}

typedef struct vocabulary {
    lp__string tokens[16], merges[4];
    int32_t kinds[16];
    lp__tokenizer_spec spec;
} vocabulary;

/* a b c, ab, abc, a space and what it makes with b, a letter outside of the alphabet, tokens
 * matched whole. */
static void make_vocabulary(vocabulary* v) {
    const char* const tokens[] = {"a",
                                  "b",
                                  "c",
                                  "ab",
                                  "abc",
                                  "\xc4\xa0",
                                  "\u0120b",
                                  "<\xe4\xb8\xad>",
                                  "<x>",
                                  "<xy>",
                                  "<u>",
                                  "\xc3\xb0",
                                  "\xc4\xa0\xc3\xb0"};
    const char* const merges[] = {"a b", "ab c", "\xc4\xa0 b", "\xc4\xa0 \xc3\xb0"};
    memcpy(v->tokens, list_of(tokens, 13), 13 * sizeof *strings);
    memcpy(v->merges, list_of(merges, 4), 4 * sizeof *strings);
    for (int i = 0; i < 13; i++) v->kinds[i] = LP__TOKEN_NORMAL;
    v->kinds[8] = v->kinds[9] = LP__TOKEN_CONTROL;
    v->kinds[10] = LP__TOKEN_USER_DEFINED;
    v->spec = lp__tokenizer_spec_default();
    v->spec.tokens = v->tokens;
    v->spec.kinds = v->kinds;
    v->spec.token_count = 13;
    v->spec.merges = v->merges;
    v->spec.merge_count = 4;
    v->spec.pre = lp__string_of("smollm");
}

static void expect_ids(fixture* f, const vocabulary* v, const char* text, unsigned flags, int n,
                       const int32_t* want) {
    lp_tokenizer* t = NULL;
    lp_token_list list = {0};
    assert_int_equal(lp__tokenizer_create(f->ctx, &v->spec, &t), LP_OK);
    assert_int_equal(lp_tokenizer_encode(t, text, strlen(text), flags, &list), LP_OK);
    assert_int_equal(list.count, n);
    for (int i = 0; i < n; i++) assert_int_equal(list.ids[i], want[i]);
    lp_token_list_free(f->ctx, &list);
    lp_tokenizer_destroy(t);
}

static void follows_the_ranks(void** state) {
    fixture* f = *state;
    vocabulary v;
    make_vocabulary(&v);
    expect_ids(f, &v, "abcab", 0, 2, (int32_t[]){4, 3});
    /* Bytes that are not in the vocabulary vanish, and their neighbours then merge. */
    expect_ids(f, &v, "aQbc", 0, 1, (int32_t[]){4});
    expect_ids(f, &v, "QQ", 0, 0, NULL);
    /* The space belongs to the word under the pattern, so it merges with b; between digits it
     * stands alone. */
    expect_ids(f, &v, "a b", 0, 2, (int32_t[]){0, 6});
    /* U+1D2C0, a number since Unicode 15, is cut off like one: its first byte does not merge with
     * the space. */
    expect_ids(f, &v, " \xf0\x9d\x8b\x80", 0, 2, (int32_t[]){5, 11});
    v.spec.pre = lp__string_of("gpt-2");
    expect_ids(f, &v, " \xf0\x9f\x98\x80", 0, 1, (int32_t[]){12});
    /* The last of equal pairs counts: "a b" has rank 2 then, after "ab c", which changes nothing
     * here. */
    v.merges[2] = v.merges[0];
    expect_ids(f, &v, "abc", 0, 1, (int32_t[]){4});
}

static void matches_whole_tokens(void** state) {
    fixture* f = *state;
    vocabulary v;
    make_vocabulary(&v);
    expect_ids(f, &v, "a<x>b<xy><u>", LP_ENCODE_PARSE_SPECIAL, 5, (int32_t[]){0, 8, 1, 9, 10});
    expect_ids(f, &v, "a<x>b<xy><u>", 0, 3,
               (int32_t[]){0, 1, 10}); /* "<x>" is unknown bytes then */
    v.spec.bos = 8;
    v.spec.eos = 9;
    expect_ids(f, &v, "a", LP_ENCODE_ADD_SPECIAL, 1, (int32_t[]){0});
    v.spec.add_bos = v.spec.add_eos = true;
    expect_ids(f, &v, "a", LP_ENCODE_ADD_SPECIAL, 3, (int32_t[]){8, 0, 9});
    expect_ids(f, &v, "a", 0, 1, (int32_t[]){0});
}

static void expect_refusal(fixture* f, const vocabulary* v, lp_status status, const char* words) {
    lp_tokenizer* t = NULL;
    size_t held = lp_ctx_memory(f->ctx).bytes;
    assert_int_equal(lp__tokenizer_create(f->ctx, &v->spec, &t), status);
    assert_null(t);
    if (!strstr(lp_error(f->ctx), words)) print_error("message: %s\n", lp_error(f->ctx));
    assert_non_null(strstr(lp_error(f->ctx), words));
    assert_int_equal(lp_ctx_memory(f->ctx).bytes, held);
}

static void refuses_bad_vocabularies(void** state) {
    fixture* f = *state;
    vocabulary v;
#define CASE(change, status, words)                                                                \
    do {                                                                                           \
        make_vocabulary(&v);                                                                       \
        change;                                                                                    \
        expect_refusal(f, &v, status, words);                                                      \
    } while (0)
    CASE(v.spec.merge_count = 0, LP_FORMAT, "no merges");
    CASE(v.spec.merge_count = LP__MERGES_LIMIT + 1, LP_FORMAT, "merges");
    CASE(v.spec.token_count = 0, LP_FORMAT, "0 tokens");
    CASE(v.spec.token_count = LP__VOCABULARY_LIMIT + 1, LP_FORMAT, "tokens");
    CASE(v.spec.eos = 13, LP_FORMAT, "eos token is 13");
    CASE(v.spec.bos = -2, LP_FORMAT, "bos token");
    CASE(v.tokens[3] = lp__string_of("a"), LP_FORMAT, "twice");
    CASE(v.tokens[3] = lp__string_of("\xff"), LP_FORMAT, "token 3 is not valid UTF-8");
    CASE(v.tokens[3].bytes = LP__TOKEN_BYTES_LIMIT + 1, LP_FORMAT, "token 3 has");
    CASE(v.kinds[5] = 7, LP_FORMAT, "type 7");
    CASE(v.kinds[5] = -1, LP_FORMAT, "type -1");
    CASE(v.merges[1] = lp__string_of("abc"), LP_FORMAT, "merge 1");
    CASE(v.merges[1] = lp__string_of("a c"), LP_FORMAT, "what it makes");
    CASE(v.merges[1] = lp__string_of("a z"), LP_FORMAT, "one of the two");
    CASE(v.merges[1] = lp__string_of(" "), LP_FORMAT, "merge 1");
    CASE(v.merges[1] = lp__string_of(""), LP_FORMAT, "merge 1");
    CASE(v.spec.pre = lp__string_of("tekken"), LP_UNSUPPORTED, "tekken");
    CASE(v.spec.chat_template = ((lp__string){"x", LP__CHAT_TEMPLATE_LIMIT + 1}), LP_FORMAT,
         "chat template");
#undef CASE
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_as_the_oracle), cmocka_unit_test(decodes_as_the_oracle),
        cmocka_unit_test(knows_its_tokens),      cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(refuses_invalid_utf8),  cmocka_unit_test(refuses_ids_out_of_range),
        cmocka_unit_test(repairs_utf8),          cmocka_unit_test(long_runs_are_fast),
        cmocka_unit_test(a_loop_allocates_once), cmocka_unit_test(follows_the_ranks),
        cmocka_unit_test(matches_whole_tokens),  cmocka_unit_test(refuses_bad_vocabularies),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
