/* Folders of Hugging Face: what is saved is read again and means the same; what cannot be read or
 * written; files of the largest size. (tests/oracles/tokenizer.py reads what is saved with
 * transformers.) */
#include "text/fixture.h"
#include "text/tokenizer.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[256];

static const char* path_of(const char* name) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static int folder_open(void** state) {
    snprintf(folder, sizeof folder, "/tmp/logpi-tokenizer-XXXXXX");
    return mkdtemp(folder) ? fixture_open(state) : -1;
}

static int folder_close(void** state) {
    static const char* const names[] = {"tokenizer.json", "tokenizer_config.json",
                                        "chat_template.jinja", "vocab.json", "merges.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) (void)unlink(path_of(names[i]));
    (void)rmdir(folder);
    return fixture_close(state);
}

static void write_text(const char* name, const char* text) {
    FILE* file = fopen(path_of(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void assert_same_tokenizer(lp_ctx* ctx, const lp_tokenizer* a, const lp_tokenizer* b) {
    assert_int_equal(lp_tokenizer_size(a), lp_tokenizer_size(b));
    for (int32_t i = 0; i < lp_tokenizer_size(a); i++) {
        assert_string_equal(lp_tokenizer_spelling(a, i), lp_tokenizer_spelling(b, i));
        assert_int_equal(lp__tokenizer_kind(a, i), lp__tokenizer_kind(b, i));
        assert_int_equal(a->flags[i], b->flags[i]);
    }
    int64_t rank = 0;
    for (int64_t k = 0; k < lp__tokenizer_merge_count(a); k++) {
        lp__string left, right, left_b, right_b;
        if (!lp__tokenizer_merge(a, k, &left, &right)) continue;
        assert_true(lp__tokenizer_merge(b, rank++, &left_b, &right_b));
        assert_true(lp__string_equal(left, left_b) && lp__string_equal(right, right_b));
    }
    assert_int_equal(rank, lp__tokenizer_merge_count(b));
    assert_int_equal(lp_tokenizer_bos(a), lp_tokenizer_bos(b));
    assert_int_equal(lp_tokenizer_eos(a), lp_tokenizer_eos(b));
    assert_int_equal(lp_tokenizer_eot(a), lp_tokenizer_eot(b));
    assert_int_equal(lp_tokenizer_pad(a), lp_tokenizer_pad(b));
    assert_int_equal(lp_tokenizer_unk(a), lp_tokenizer_unk(b));
    assert_int_equal(lp_tokenizer_chat_format(a), lp_tokenizer_chat_format(b));
    const char *one = lp__tokenizer_chat_template(a), *two = lp__tokenizer_chat_template(b);
    assert_true((one == NULL) == (two == NULL));
    if (one) assert_string_equal(one, two);
    lp_token_list x = {0}, y = {0};
    const char* text = "The  answer is 42\n\n<|im_end|> <a> \xc3\xa9"
                       "e\xcc\x81 <b>.";
    const unsigned both = LP_ENCODE_PARSE_SPECIAL | LP_ENCODE_ADD_SPECIAL;
    assert_int_equal(lp_tokenizer_encode(a, text, strlen(text), both, &x), LP_OK);
    assert_int_equal(lp_tokenizer_encode(b, text, strlen(text), both, &y), LP_OK);
    assert_int_equal(x.count, y.count);
    assert_memory_equal(x.ids, y.ids, (size_t)x.count * sizeof *x.ids);
    lp_token_list_free(ctx, &x);
    lp_token_list_free(ctx, &y);
}

static void save_and_compare(lp_ctx* ctx, const lp_tokenizer* t) {
    lp_tokenizer* again = NULL;
    if (lp_tokenizer_save(t, folder)) fail_msg("%s", lp_error(ctx));
    if (lp_tokenizer_open(ctx, folder, &again)) fail_msg("%s", lp_error(ctx));
    assert_same_tokenizer(ctx, t, again);
    lp_tokenizer_destroy(again);
}

static void saves_what_it_read(void** state) {
    fixture* f = *state;
    /* From a GGUF file, with a chat template. */
    save_and_compare(f->ctx, f->tokenizer);
    assert_int_equal(access(path_of("chat_template.jinja"), F_OK), 0);
    /* From GPT-2's release, without: the old one must go. */
    lp_tokenizer* t = NULL;
    assert_int_equal(lp_tokenizer_open(f->ctx, LP_MODELS "/gpt2-tokenizer", &t), LP_OK);
    save_and_compare(f->ctx, t);
    assert_int_not_equal(access(path_of("chat_template.jinja"), F_OK), 0);
    lp_tokenizer_destroy(t);
}

/* Everything that a tokenizer.json may say, at once: quotes and control characters in tokens, gaps,
 * flags, steps, both ends of a text, a merge that is there twice. */
static void saves_every_part(void** state) {
    fixture* f = *state;
    const char* json =
        "{\"added_tokens\":[{\"id\":7,\"content\":\"<a>\",\"lstrip\":true,\"rstrip\":true,"
        "\"normalized\":false,\"special\":true},{\"id\":8,\"content\":\"<b>\",\"normalized\":true,"
        "\"special\":false}],\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":"
        "\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\",\"individual_digits\":false},{"
        "\"type\":"
        "\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{"
        "N}]?"
        "\\\\p{L}+|\\\\p{N}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)"
        "|\\\\s+\"},\"behavior\":\"Removed\",\"invert\":true},{\"type\":\"ByteLevel\",\"use_"
        "regex\":"
        "false}]},\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{"
        "\"SpecialToken\":{"
        "\"id\":\"<a>\"}},{\"Sequence\":{\"id\":\"A\"}},{\"SpecialToken\":{\"id\":\"<b>\"}}]},"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"unk_token\":\"\\\"\",\"ignore_merges\":"
        "true,"
        "\"vocab\":{\"e\":0,\"i\":1,\"s\":2,\"is\":3,\"\\\"\":4,\"\\\\\\u0001\":5,\"x\":9},"
        "\"merges\":[\"i s\",\"i s\"]}}";
    const char* config =
        "{\"eos_token\":\"<b>\",\"pad_token\":\"x\",\"chat_template\":\"\\\"\\n\\t\"}";
    const lp__hf_files files = {.tokenizer = lp__string_of(json), .config = lp__string_of(config)};
    lp_tokenizer* t = NULL;
    if (lp__tokenizer_from_hf(f->ctx, &files, &t)) fail_msg("%s", lp_error(f->ctx));
    save_and_compare(f->ctx, t);
    lp_tokenizer_destroy(t);
}

/* ---- folders --------------------------------------------------------------------------------- */

static void expect_failure(lp_ctx* ctx, const char* where, lp_status status, const char* message) {
    lp_tokenizer* t = NULL;
    const size_t held = lp_ctx_memory(ctx).bytes;
    char want[1024];
    snprintf(want, sizeof want, "%s%s", where, message);
    assert_int_equal(lp_tokenizer_open(ctx, where, &t), status);
    assert_null(t);
    if (message[0]) assert_string_equal(lp_error(ctx), want);
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
}

static void refuses_other_folders(void** state) {
    fixture* f = *state;
    (void)unlink(path_of("tokenizer.json"));
    (void)unlink(path_of("chat_template.jinja"));
    (void)unlink(path_of("tokenizer_config.json"));
    const char* nothing = ": there is no tokenizer.json, nor vocab.json with merges.txt "
                          "(tokenizer.model, SentencePiece, is not supported)";
    expect_failure(f->ctx, folder, LP_NOT_FOUND, nothing);
    expect_failure(f->ctx, "/no/such/folder", LP_NOT_FOUND, nothing);
    write_text("vocab.json", "{\"a\":0,\"b\":1,\"ab\":2}");
    expect_failure(f->ctx, folder, LP_NOT_FOUND, nothing);
    write_text("merges.txt", "a b\n");
    lp_tokenizer* t = NULL;
    assert_int_equal(lp_tokenizer_open(f->ctx, folder, &t), LP_OK);
    lp_tokenizer_destroy(t);
    write_text("chat_template.jinja", "a\xff");
    expect_failure(f->ctx, folder, LP_FORMAT, ": chat_template.jinja: invalid UTF-8 at byte 1");
    (void)unlink(path_of("chat_template.jinja"));
    write_text("tokenizer.json", "");
    expect_failure(f->ctx, folder, LP_FORMAT,
                   ": tokenizer.json: byte 0, the end: a JSON value is missing");
    /* Too large a file is refused by its size, unread. */
    int fd = open(path_of("tokenizer.json"), O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, ((off_t)256 << 20) + 1), 0);
    close(fd);
    expect_failure(f->ctx, folder, LP_FORMAT,
                   "/tokenizer.json: 268435457 bytes, of which at most 268435456 are allowed here");
    (void)unlink(path_of("tokenizer.json"));
}

static void says_what_it_cannot_write(void** state) {
    fixture* f = *state;
    write_text("vocab.json", "x");
    char inside[512];
    snprintf(inside, sizeof inside, "%s/vocab.json", folder); /* a file, no folder */
    assert_int_equal(lp_tokenizer_save(f->tokenizer, inside), LP_NOT_FOUND);
    assert_non_null(strstr(lp_error(f->ctx), inside));
}

/* ---- size ------------------------------------------------------------------------------------ */

typedef struct text_buffer {
    char* data;
    size_t n, room;
} text_buffer;

static void put(text_buffer* b, const char* text) {
    const size_t n = strlen(text);
    if (b->n + n + 1 > b->room) {
        b->room = 2 * (b->n + n + 1);
        b->data = realloc(b->data, b->room);
        assert_non_null(b->data);
    }
    memcpy(b->data + b->n, text, n + 1);
    b->n += n;
}

static const char head[] = "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":"
                           "\"ByteLevel\"},\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"ab\":2";

/* More than count tokens and merges merges. */
static void make_large(text_buffer* b, int64_t tokens, int64_t merges) {
    put(b, head);
    for (int64_t i = 3; i < tokens; i++) {
        char item[64];
        snprintf(item, sizeof item, ",\"token %lld\":%lld", (long long)i, (long long)i);
        put(b, item);
    }
    put(b, "},\"merges\":[\"a b\"");
    for (int64_t i = 1; i < merges; i++) put(b, ",\"a b\"");
    put(b, "]}}");
}

static lp_status read_large(lp_ctx* ctx, text_buffer* b, lp_tokenizer** t) {
    const lp__hf_files files = {.tokenizer = {b->data, b->n}};
    return lp__tokenizer_from_hf(ctx, &files, t);
}

static void large_files_are_read(void** state) {
    fixture* f = *state;
    text_buffer b = {0};
    make_large(&b, 1500000, 1);
    assert_true(b.n > 33000000);
    const size_t before = lp_ctx_memory(f->ctx).bytes;
    const clock_t start = clock();
    lp_tokenizer* t = NULL;
    if (read_large(f->ctx, &b, &t)) fail_msg("%s", lp_error(f->ctx));
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    const size_t memory = lp_ctx_memory(f->ctx).peak_bytes - before;
    print_message("%zu bytes, 1500000 tokens: %.2f s, %.0f MB\n", b.n, seconds,
                  (double)memory / 1e6);
    assert_true(seconds < 30);
    assert_true(memory < 2 * b.n + 1500000 * (size_t)400);
    lp_tokenizer_destroy(t);
    free(b.data);
}

static void expect_large(fixture* f, int64_t tokens, int64_t merges, const char* message) {
    text_buffer b = {0};
    lp_tokenizer* t = NULL;
    make_large(&b, tokens, merges);
    assert_int_equal(read_large(f->ctx, &b, &t), LP_FORMAT);
    if (!strstr(lp_error(f->ctx), message)) fail_msg("%s", lp_error(f->ctx));
    free(b.data);
}

static void limits_hold(void** state) {
    fixture* f = *state;
    expect_large(f, 2000001, 1, "has the id 2000000, which is not in 0 to 1999999");
    expect_large(f, 3, 4000001, "tokenizer.json: more than 4000000 merges");
    /* A token of 64 KiB, and of one byte more. */
    for (int more = 0; more < 2; more++) {
        text_buffer b = {0};
        lp_tokenizer* t = NULL;
        put(&b, head);
        put(&b, ",\"");
        for (int i = 0; i < 65536 + more; i++) put(&b, "z");
        put(&b, "\":3},\"merges\":[\"a b\"]}}");
        assert_int_equal(read_large(f->ctx, &b, &t), more ? LP_FORMAT : LP_OK);
        if (more) assert_non_null(strstr(lp_error(f->ctx), "a key of over 64 KiB"));
        lp_tokenizer_destroy(t);
        free(b.data);
    }
    /* A hundred thousand open brackets where nobody looks. */
    text_buffer b = {0};
    lp_tokenizer* t = NULL;
    put(&b, "{\"x\":");
    for (int i = 0; i < 100000; i++) put(&b, "[");
    assert_int_equal(read_large(f->ctx, &b, &t), LP_FORMAT);
    assert_string_equal(lp_error(f->ctx),
                        "tokenizer.json: byte 132: more than 128 brackets are open");
    free(b.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saves_what_it_read),    cmocka_unit_test(saves_every_part),
        cmocka_unit_test(refuses_other_folders), cmocka_unit_test(says_what_it_cannot_write),
        cmocka_unit_test(large_files_are_read),  cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, folder_open, folder_close);
}
