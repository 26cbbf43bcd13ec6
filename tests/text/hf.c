/* Tokenizers from Hugging Face's files: what they mean, what is refused and in which words, and
 * that what is saved is read again. */
#include "text/fixture.h"
#include "text/tokenizer.h"
#include <sys/stat.h>
#include <unistd.h>

static const char base[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n"
    "\"added_tokens\":[{\"id\":5,\"content\":\"<|x|>\",\"single_word\":false,\"lstrip\":false,"
    "\"rstrip\":false,\"normalized\":false,\"special\":true}],\n"
    "\"normalizer\":null,\n"
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true},\n"
    "\"post_processor\":{\"type\":\"ByteLevel\",\"trim_offsets\":true},\n"
    "\"decoder\":{\"type\":\"ByteLevel\",\"use_regex\":true},\n"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":\"\",\"fuse_unk\":false,"
    "\"byte_fallback\":false,\"ignore_merges\":false,\n"
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4},\n"
    "\"merges\":[\"a b\",[\"ab\",\"c\"]]}}\n";

static lp_status read_json(lp_ctx* ctx, const char* text, const char* config, lp_tokenizer** t) {
    const lp__hf_files files = {.tokenizer = lp__string_of(text),
                                .config = config ? lp__string_of(config) : (lp__string){0}};
    return lp__tokenizer_from_hf(ctx, &files, t);
}

/* base with one text, which must stand there exactly once, replaced. Valid until the next call. */
static const char* with(const char* from, const char* to) {
    static char text[8192];
    const char* at = strstr(base, from);
    if (!at || strstr(at + 1, from)) fail_msg("\"%s\" does not stand there exactly once", from);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from));
    return text;
}

static void expect_ids(lp_ctx* ctx, const lp_tokenizer* t, const char* text, unsigned flags,
                       const char* want) {
    lp_token_list list = {0};
    char got[256] = "";
    assert_int_equal(lp_tokenizer_encode(t, text, strlen(text), flags, &list), LP_OK);
    for (int64_t i = 0; i < list.count; i++) {
        const size_t n = strlen(got);
        snprintf(got + n, sizeof got - n, i ? " %d" : "%d", list.ids[i]);
    }
    lp_token_list_free(ctx, &list);
    assert_string_equal(got, want);
}

/* Reads and encodes. */
static void expect(lp_ctx* ctx, const char* json, const char* config, const char* text,
                   unsigned flags, const char* want) {
    lp_tokenizer* t = NULL;
    if (read_json(ctx, json, config, &t)) fail_msg("%s", lp_error(ctx));
    expect_ids(ctx, t, text, flags, want);
    lp_tokenizer_destroy(t);
}

/* ---- what the files mean --------------------------------------------------------------------- */

static void reads_tokenizer_json(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const unsigned special = LP_ENCODE_PARSE_SPECIAL, add = LP_ENCODE_ADD_SPECIAL;
    expect(ctx, base, NULL, "abcab<|x|>c", special, "4 3 5 2");
    expect(ctx, base, NULL, "ab<|x|>c", 0, "3 2");
    /* Merges of the two kinds, escapes, an unknown key. */
    expect(ctx, with("[\"ab\",\"c\"]", "\"ab c\""), NULL, "abc", 0, "4");
    expect(ctx, with("\"abc\":4", "\"\\u0061b\\u0063\":4"), NULL, "abc", 0, "4");
    expect(ctx, with("\"truncation\":null", "\"truncation\":{\"max_length\":[1,{\"x\":-2e5}]}"),
           NULL, "abc", 0, "4");
    /* Added tokens. */
    expect(ctx, with("<|x|>", "(a+)+$"), NULL, "aa(a+)+$", special, "0 0 5");
    expect(ctx, with("\"lstrip\":false", "\"lstrip\":true"), NULL, "a  <|x|> b", special, "0 5 1");
    expect(ctx, with("\"rstrip\":false", "\"rstrip\":true"), NULL, "a<|x|> \t\xe3\x80\x80 b",
           special, "0 5 1");
    expect(ctx, with("\"special\":true", "\"special\":false"), NULL, "a<|x|>b", 0, "0 5 1");
    /* Special tokens of tokenizer_config.json. */
    const char* config =
        "{\"bos_token\":\"<|x|>\",\"eos_token\":{\"content\":\"c\",\"lstrip\":false},"
        "\"add_bos_token\":true,\"model_max_length\":1e30}";
    expect(ctx, base, config, "abc", add, "5 4");
    expect(ctx, base, config, "abc", 0, "4");
    expect(ctx, base, config, "ab c", special, "3 2"); /* "c" is a control token now */
    /* The post-processor, which tokenizer_config.json outvotes. */
    const char* around =
        with("{\"type\":\"ByteLevel\",\"trim_offsets\":true}",
             "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":"
             "\"<|x|>\",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
             "{\"SpecialToken\":{\"id\":\"c\",\"type_id\":0}}]}");
    expect(ctx, around, NULL, "ab", add, "5 3 2");
    expect(ctx, around, "{\"bos_token\":\"<|x|>\",\"add_bos_token\":false}", "ab", add, "3");
    /* A byte that no token has. */
    expect(ctx, base, NULL, "aqb", 0, "3");
    expect(ctx, with("\"unk_token\":null", "\"unk_token\":\"c\""), NULL, "aqb", 0, "0 2 1");
}

static void knows_the_pre_tokenizers(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const char* byte_level =
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}";
    const char* llama3 =
        "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
        "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"},"
        "\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}]"
        "}";
    const char* digits = "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Digits\","
                         "\"individual_digits\":true},{\"type\":\"ByteLevel\"}]}";
    /* "a", "1", "11", "1111" and the merges that make them. */
    const struct {
        const char *pre, *name, *text, *ids;
    } cases[] = {
        {byte_level, "gpt-2", "1111", "4"},
        {digits, "smollm", "1111", "1 1 1 1"},
        {llama3, NULL, "1111", "3 1"}, /* three, and one */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[4096];
        snprintf(json, sizeof json,
                 "{\"model\":{\"vocab\":{\"a\":0,\"1\":1,\"11\":2,\"111\":3,\"1111\":4},"
                 "\"merges\":[\"1 1\",\"11 11\",\"11 1\"]},\"decoder\":{\"type\":\"ByteLevel\"},"
                 "\"pre_tokenizer\":%s}",
                 cases[i].pre);
        lp_tokenizer* t = NULL;
        if (read_json(ctx, json, NULL, &t)) fail_msg("%s", lp_error(ctx));
        expect_ids(ctx, t, cases[i].text, 0, cases[i].ids);
        if (cases[i].name) {
            assert_string_equal(lp__tokenizer_pre(t), cases[i].name);
        } else {
            assert_null(lp__tokenizer_pre(t)); /* GGUF's "llama-bpe" ignores merges */
        }
        lp_tokenizer_destroy(t);
    }
}

/* NFC makes one character of two; a piece that is a token ignores merges. */
static void normalises_and_ignores_merges(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const char* nfc = "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}]}";
    char json[4096];
    snprintf(
        json, sizeof json,
        "{\"model\":{\"ignore_merges\":true,\"vocab\":{\"\xc3\x83\":0,\"\xc2\xa9\":1,"
        "\"\xc3\x83\xc2\xa9\":2,\"e\":3},\"merges\":[\"\xc3\x83 \xc2\xa9\"]},\"normalizer\":%s,"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}",
        nfc);
    expect(ctx, json, NULL, "e\xcc\x81", 0, "2");
    /* "ba" has no merge. */
    const char* ignoring = "{\"model\":{\"ignore_merges\":true,\"vocab\":{\"a\":0,\"b\":1,\"ba\":2,"
                           "\"aa\":3},\"merges\":[\"a a\"]},\"decoder\":{\"type\":\"ByteLevel\"},"
                           "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}}";
    expect(ctx, ignoring, NULL, "ba", 0, "2");
    expect(ctx, ignoring, NULL, "bab", 0, "1 0 1");
}

/* Ids may leave gaps, but no more than there are tokens. */
static void ids_may_leave_gaps(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    lp_tokenizer* t = NULL;
    const char* json = with("\"abc\":4", "\"abc\":9");
    if (read_json(ctx, json, NULL, &t)) fail_msg("%s", lp_error(ctx));
    assert_int_equal(lp_tokenizer_size(t), 10);
    expect_ids(ctx, t, "abc", 0, "9");
    lp_text text = {0};
    assert_int_equal(lp_tokenizer_decode(t, (int32_t[]){9, 7, 3}, 3, 0, &text), LP_OK);
    assert_string_equal(text.data, "abcab");
    assert_int_equal(lp__tokenizer_kind(t, 7), LP__TOKEN_UNUSED);
    lp_text_free(ctx, &text);
    lp_tokenizer_destroy(t);
}

static void ends_of_a_text(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    lp_tokenizer* t = NULL;
    int64_t count;
    assert_int_equal(read_json(ctx, base, "{\"eos_token\":\"<|x|>\"}", &t), LP_OK);
    assert_int_equal(lp_tokenizer_eos(t), 5);
    assert_true(lp_tokenizer_is_end(t, 5));
    assert_false(lp_tokenizer_is_end(t, 2));
    assert_int_equal(lp_tokenizer_add_end(t, 2), LP_OK);
    assert_int_equal(lp_tokenizer_add_end(t, 5), LP_OK);
    assert_int_equal(lp_tokenizer_ends(t, &count)[1], 2);
    assert_int_equal(count, 2);
    assert_int_equal(lp_tokenizer_add_end(t, 6), LP_INVALID);
    assert_string_equal(lp_error(ctx), "token 6 cannot end a text: the vocabulary has 0 to 5");
    lp_tokenizer_destroy(t);
}

/* ---- GPT-2's release ------------------------------------------------------------------------- */

static void opens_the_release_of_gpt2(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    lp_tokenizer* t = NULL;
    if (lp_tokenizer_open(ctx, LP_MODELS "/gpt2-tokenizer", &t)) fail_msg("%s", lp_error(ctx));
    assert_int_equal(lp_tokenizer_size(t), 50257);
    assert_int_equal(lp_tokenizer_bos(t), 50256);
    assert_int_equal(lp_tokenizer_eos(t), 50256);
    assert_int_equal(lp_tokenizer_pad(t), -1);
    assert_true(lp_tokenizer_is_special(t, 50256));
    assert_string_equal(lp__tokenizer_pre(t), "gpt-2");
    /* From OpenAI's encoder.py. */
    expect_ids(ctx, t, "Hello world", 0, "15496 995");
    expect_ids(ctx, t, " Hello<|endoftext|>", LP_ENCODE_PARSE_SPECIAL, "18435 50256");
    expect_ids(ctx, t, "Hello", LP_ENCODE_ADD_SPECIAL, "15496");
    lp_tokenizer_destroy(t);
}

static lp_status read_release(lp_ctx* ctx, const char* vocab, const char* merges,
                              lp_tokenizer** t) {
    const lp__hf_files files = {.vocab = lp__string_of(vocab), .merges = lp__string_of(merges)};
    return lp__tokenizer_from_hf(ctx, &files, t);
}

static void refuses_bad_releases(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const char* vocab = "{\"a\":0,\"b\":1,\"ab\":2}";
    const struct {
        const char *vocab, *merges;
        lp_status status;
        const char* message;
    } cases[] = {
        {vocab, "#version: 0.2\na b\n", LP_OK, ""},
        {vocab, "a b", LP_OK, ""},
        {vocab, "#version: 0.2\r\na b\r\n", LP_OK, ""},
        {vocab, "a b\n\n", LP_OK, ""},
        {vocab, "a b\n\na b\n", LP_FORMAT,
         "merges.txt: line 2, \"\", is not two tokens with one space between"},
        {vocab, "#version: 0.2\na b\nab\n", LP_FORMAT,
         "merges.txt: line 3, \"ab\", is not two tokens with one space between"},
        {vocab, "a b c\n", LP_FORMAT,
         "merges.txt: line 1, \"a b c\", is not two tokens with one space between"},
        {vocab, "a \xff\n", LP_FORMAT, "merges.txt: invalid UTF-8 at byte 2"},
        {vocab, "a c\n", LP_FORMAT,
         "vocab.json: merge 0 of the tokenizer, \"a c\": one of the two is not in the vocabulary"},
        {vocab, "b a\n", LP_FORMAT,
         "vocab.json: merge 0 of the tokenizer, \"b a\": what it makes is not in the vocabulary"},
        {vocab, "", LP_FORMAT,
         "vocab.json: the tokenizer has no merges; byte-level BPE needs them"},
        {"[]", "a b", LP_FORMAT, "vocab.json: byte 0: an object is needed"},
        {"{\"a\":0} x", "a b", LP_FORMAT, "vocab.json: byte 8: something follows the JSON value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lp_tokenizer* t = NULL;
        const size_t held = lp_ctx_memory(ctx).bytes;
        const lp_status status = read_release(ctx, cases[i].vocab, cases[i].merges, &t);
        if (status != cases[i].status) print_error("case %zu: %s\n", i, lp_error(ctx));
        assert_int_equal(status, cases[i].status);
        if (status != LP_OK && cases[i].message)
            assert_string_equal(lp_error(ctx), cases[i].message);
        lp_tokenizer_destroy(t);
        assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    }
}

/* ---- refusals -------------------------------------------------------------------------------- */

#define VOCAB  "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"abc\":4}"
#define MERGES "\"merges\":[\"a b\",[\"ab\",\"c\"]]"
#define PRE    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"
#define POST   "{\"type\":\"ByteLevel\",\"trim_offsets\":true}"
#define SPLIT(pattern, behavior)                                                                   \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":" pattern           \
    ",\"behavior\":\"" behavior                                                                    \
    "\",\"invert\":false},{\"type\":\"ByteLevel\",\"use_regex\":false}]}"

typedef struct refusal {
    const char *from, *to;
    lp_status status;
    const char* message; /* behind "tokenizer.json: " */
} refusal;

static const refusal vocabulary_refusals[] = {
    {"\"abc\":4", "\"abc\":12", LP_FORMAT,
     "the highest id is 12, but there are only 6 tokens: most ids are missing"},
    {"\"abc\":4", "\"abc\":3", LP_FORMAT, "tokens \"ab\" and \"abc\" both have the id 3"},
    {"\"abc\":4", "\"abc\":5", LP_FORMAT, "tokens \"abc\" and \"<|x|>\" both have the id 5"},
    {"\"abc\":4", "\"ab\":4", LP_FORMAT, "token \"ab\" is in the vocabulary twice"},
    {"\"abc\":4", "\"abc\":-1", LP_FORMAT,
     "token \"abc\" has the id -1, which is not in 0 to 1999999"},
    {"\"abc\":4", "\"abc\":2000000", LP_FORMAT,
     "token \"abc\" has the id 2000000, which is not in 0 to 1999999"},
    {"\"abc\":4", "\"abc\":99999999999999999999", LP_FORMAT, "byte 618: an integer beyond 64 bits"},
    {"\"abc\":4", "\"abc\":4.0", LP_FORMAT, "byte 601: a number that is no integer"},
    {"\"abc\":4", "\"abc\":\"4\"", LP_FORMAT, "byte 598: a number is needed"},
    {"\"abc\":4", "\"ab\\ud800c\":4", LP_FORMAT, "byte 601: an escape that is no character"},
    {"\"abc\":4", "\"ab\xff\":4", LP_FORMAT, "byte 595: invalid UTF-8"},
    {"\"abc\":4", "\"ab\x01\":4", LP_FORMAT, "byte 595: a control character in a string"},
    {VOCAB, "\"vocab\":{}", LP_FORMAT,
     "added token \"<|x|>\" has the id 5; by the vocabulary and the added tokens before it, it "
     "would be 0"},
    {VOCAB, "\"vocab\":[[\"a\",-1.5]]", LP_UNSUPPORTED,
     "byte 566: model.vocab is a list, as of Unigram (SentencePiece), which is not supported; "
     "byte-level BPE is"},
    {VOCAB ",", "", LP_FORMAT, "byte 587: the model has no \"vocab\""},
    {VOCAB, VOCAB "," VOCAB, LP_FORMAT, "byte 609: a key for the second time"},
    {"\"id\":5", "\"id\":7", LP_FORMAT,
     "added token \"<|x|>\" has the id 7; by the vocabulary and the added tokens before it, it "
     "would be 5"},
    {"\"id\":5", "\"id\":-5", LP_FORMAT,
     "token \"<|x|>\" has the id -5, which is not in 0 to 1999999"},
    {"\"id\":5,", "", LP_FORMAT, "byte 170: an added token without \"id\""},
    {"<|x|>", "", LP_FORMAT, "byte 172: an added token without \"content\""},
    {"\"content\":\"<|x|>\"", "\"content\":\"b\"", LP_FORMAT,
     "added token \"b\" has the id 5; by the vocabulary and the added tokens before it, it would "
     "be 1"},
    {"\"single_word\":false", "\"single_word\":true", LP_UNSUPPORTED,
     "added token \"<|x|>\" matches single words only (single_word), which is not supported"},
    {"\"lstrip\":false", "\"lstrip\":0", LP_FORMAT, "byte 122: true or false is needed"},
};

static const refusal model_refusals[] = {
    {"\"BPE\"", "\"WordPiece\"", LP_UNSUPPORTED,
     "the model is \"WordPiece\"; byte-level BPE is supported"},
    {"\"BPE\"", "\"Unigram\"", LP_UNSUPPORTED,
     "the model is \"Unigram\"; byte-level BPE is supported"},
    {"\"BPE\"", "7", LP_FORMAT, "byte 403: a string is needed"},
    {"\"dropout\":null", "\"dropout\":0.1", LP_UNSUPPORTED,
     "byte 422: model.dropout (random merges) is not supported"},
    {"\"continuing_subword_prefix\":\"\"", "\"continuing_subword_prefix\":\"##\"", LP_UNSUPPORTED,
     "byte 473: model.continuing_subword_prefix is not supported"},
    {"\"end_of_word_suffix\":\"\"", "\"end_of_word_suffix\":\"</w>\"", LP_UNSUPPORTED,
     "byte 499: model.end_of_word_suffix is not supported"},
    {"\"byte_fallback\":false", "\"byte_fallback\":true", LP_UNSUPPORTED,
     "byte 533: model.byte_fallback, as of SentencePiece (Llama 2), is not supported; byte-level "
     "BPE is"},
    {"\"unk_token\":null", "\"unk_token\":\"<unk>\"", LP_FORMAT,
     "model.unk_token \"<unk>\" is not in the vocabulary, and bytes are missing there"},
    {MERGES, "\"merges\":[\"a b\",\"ab z\"]", LP_FORMAT,
     "merge 1 of the tokenizer, \"ab z\": one of the two is not in the vocabulary"},
    {MERGES, "\"merges\":[\"a b\",\"b a\"]", LP_FORMAT,
     "merge 1 of the tokenizer, \"b a\": what it makes is not in the vocabulary"},
    /* A merge that makes one of its own parts: only with an empty token, which is none. */
    {MERGES, "\"merges\":[[\"a\",\"\"]]", LP_FORMAT,
     "merge 0 of the tokenizer, \"a \": one of the two is not in the vocabulary"},
    {MERGES, "\"merges\":[\"ab\"]", LP_FORMAT, "byte 616: a merge that is not \"left right\""},
    {MERGES, "\"merges\":[\"a b c\"]", LP_FORMAT, "byte 619: a merge that is not \"left right\""},
    {MERGES, "\"merges\":[[\"a\"]]", LP_FORMAT, "byte 617: a merge that is not two tokens"},
    {MERGES, "\"merges\":[[\"a\",\"b\",\"c\"]]", LP_FORMAT,
     "byte 625: a merge that is not two tokens"},
    {MERGES, "\"merges\":[[\"a\",1]]", LP_FORMAT, "byte 617: a string is needed"},
    {MERGES, "\"merges\":[]", LP_FORMAT, "the tokenizer has no merges; byte-level BPE needs them"},
    {",\n" MERGES, "", LP_UNSUPPORTED,
     "byte 601: the model has no \"merges\"; byte-level BPE has them"},
};

static const refusal part_refusals[] = {
    {"\"normalizer\":null", "\"normalizer\":{\"type\":\"Lowercase\"}", LP_UNSUPPORTED,
     "byte 213: the normalizer \"Lowercase\" is not supported"},
    {PRE, "null", LP_UNSUPPORTED,
     "byte 219: the pre-tokenizer has no ByteLevel step: this is no byte-level BPE"},
    {PRE, "{\"type\":\"Metaspace\"}", LP_UNSUPPORTED,
     "byte 235: the pre-tokenizer \"Metaspace\" is not supported"},
    {PRE, "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}", LP_UNSUPPORTED,
     "byte 259: the pre-tokenizer's add_prefix_space is not supported"},
    {PRE, SPLIT("{\"Regex\":\"(a+)+$\"}", "Isolated"), LP_UNSUPPORTED,
     "byte 333: the pre-tokenizer splits at \"(a+)+$\", which is none of the patterns of GPT-2, "
     "Llama 3 and Qwen2; others are not run"},
    {PRE, SPLIT("{\"String\":\" \"}", "Isolated"), LP_UNSUPPORTED,
     "byte 329: the pre-tokenizer splits at \" \", which is none of the patterns of GPT-2, Llama 3 "
     "and Qwen2; others are not run"},
    {PRE,
     SPLIT("{\"Regex\":\"'s|'t|'re|'ve|'m|'ll|'d| ?\\\\p{L}+| ?\\\\p{N}+| "
           "?[^\\\\s\\\\p{L}\\\\p{N}]+|\\\\s+(?!\\\\S)|\\\\s+\"}",
           "MergedWithNext"),
     LP_UNSUPPORTED, "byte 415: the pre-tokenizer's behavior \"MergedWithNext\" is not supported"},
    {PRE,
     "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}",
     LP_UNSUPPORTED, "byte 289: a pre-tokenizer's step behind ByteLevel"},
    {POST, "{\"type\":\"RobertaProcessing\",\"sep\":[\"</s>\",2]}", LP_UNSUPPORTED,
     "byte 341: the post-processor \"RobertaProcessing\" is not supported"},
    {POST,
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
     "{\"Sequence\":{\"id\":\"A\"}}]}",
     LP_FORMAT, "the post-processor's token \"<s>\" is not in the vocabulary"},
    {POST,
     "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"a\"}},"
     "{\"SpecialToken\":{\"id\":\"b\"}},{\"Sequence\":{\"id\":\"A\"}}]}",
     LP_UNSUPPORTED, "byte 390: the post-processor puts more than one token on one side"},
    {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"Metaspace\"", LP_UNSUPPORTED,
     "byte 385: the decoder \"Metaspace\" is not supported"},
    {"\"decoder\"", "\"coder\"", LP_FORMAT, "the key \"decoder\" is missing"},
    {"\"version\":\"1.0\"", "\"model\":1", LP_FORMAT, "byte 9: an object is needed"},
    {"\"version\":\"1.0\",", "", LP_OK, ""},
    {"\"padding\":null", "\"padding\":nul", LP_FORMAT, "byte 45: an unknown word"},
    {"\"padding\":null", "\"padding\":01", LP_FORMAT, "byte 46: \",\" or \"}\" is missing"},
    {"\"padding\":null", "\"padding\"", LP_FORMAT, "byte 44: \":\" is missing"},
    {"\"padding\":null", "\"padding\":\"\\q\"", LP_FORMAT,
     "byte 47: an unknown escape in a string"},
    {"]]}}\n", "]]}}}", LP_FORMAT, "byte 631: something follows the JSON value"},
};

static void check_refusals(lp_ctx* ctx, const refusal* table, size_t count) {
    int wrong = 0;
    for (size_t i = 0; i < count; i++) {
        lp_tokenizer* t = NULL;
        const size_t held = lp_ctx_memory(ctx).bytes;
        char want[512];
        snprintf(want, sizeof want, "tokenizer.json: %s", table[i].message);
        const lp_status status = read_json(ctx, with(table[i].from, table[i].to), NULL, &t);
        const bool same = status == table[i].status &&
                          (status == LP_OK || (!t && strcmp(lp_error(ctx), want) == 0));
        if (!same) print_error("case %zu: %s\n", i, status ? lp_error(ctx) : "accepted");
        wrong += !same;
        lp_tokenizer_destroy(t);
        assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    }
    assert_int_equal(wrong, 0);
}

#define CHECK(table) check_refusals(((fixture*)*state)->ctx, table, sizeof table / sizeof *table)
static void refuses_bad_vocabularies(void** state) { CHECK(vocabulary_refusals); }
static void refuses_other_models(void** state) { CHECK(model_refusals); }
static void refuses_other_parts(void** state) { CHECK(part_refusals); }

static void refuses_bad_configs(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const struct {
        const char* config;
        lp_status status;
        const char* message;
    } cases[] = {
        {"{}", LP_OK, ""},
        {"{\"bos_token\":null,\"chat_template\":null,\"add_bos_token\":null}", LP_OK, ""},
        {"{\"eos_token\":\"</s>\"}", LP_FORMAT,
         "tokenizer.json: eos_token \"</s>\" of tokenizer_config.json is not in the vocabulary"},
        {"{\"eos_token\":7}", LP_FORMAT, "tokenizer_config.json: byte 13: an object is needed"},
        {"{\"eos_token\":{}}", LP_FORMAT,
         "tokenizer_config.json: byte 15: an added token without \"content\""},
        {"{\"add_bos_token\":1}", LP_FORMAT,
         "tokenizer_config.json: byte 17: true or false is needed"},
        {"{\"added_tokens_decoder\":{\"5\":{\"content\":\"<|x|>\",\"special\":true}}}", LP_OK, ""},
        {"{\"added_tokens_decoder\":{\"6\":{\"content\":\"<|y|>\"}}}", LP_OK, ""},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"<|y|>\"}}}", LP_FORMAT,
         "tokenizer_config.json: byte 29: a key of added_tokens_decoder that is no id"},
        {"{\"added_tokens_decoder\":{\"99999999\":{\"content\":\"<|y|>\"}}}", LP_FORMAT,
         "tokenizer_config.json: byte 36: a key of added_tokens_decoder that is no id"},
        {"{\"chat_template\":[{\"name\":\"default\",\"template\":\"x\"}]}", LP_OK, ""},
        {"{\"chat_template\":1}", LP_FORMAT, "tokenizer_config.json: byte 17: an array is needed"},
        {"", LP_FORMAT, "tokenizer_config.json: byte 0, the end: a JSON value is missing"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lp_tokenizer* t = NULL;
        const lp_status status = read_json(ctx, base, cases[i].config, &t);
        if (status != cases[i].status) print_error("case %zu: %s\n", i, lp_error(ctx));
        assert_int_equal(status, cases[i].status);
        if (status != LP_OK) assert_string_equal(lp_error(ctx), cases[i].message);
        lp_tokenizer_destroy(t);
    }
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void truncated_at_every_byte(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const size_t held = lp_ctx_memory(ctx).bytes, n = sizeof base - 2; /* without the line feed */
    for (size_t length = 0; length < n; length++) {
        lp_tokenizer* t = NULL;
        /* A block of its own, so that a sanitizer sees a read behind the end. */
        char* copy = malloc(length ? length : 1);
        memcpy(copy, base, length);
        const lp__hf_files files = {.tokenizer = {copy, length}};
        assert_int_equal(lp__tokenizer_from_hf(ctx, &files, &t), LP_FORMAT);
        char want[64];
        snprintf(want, sizeof want, "tokenizer.json: byte %zu, the end: ", length);
        const bool word = strstr(lp_error(ctx), "an unknown word");
        if (!word && strncmp(lp_error(ctx), want, strlen(want)) != 0)
            fail_msg("length %zu: %s", length, lp_error(ctx));
        assert_null(t);
        free(copy);
    }
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
}

/* Any byte string ends in a status, and nothing is kept. */
static void changed_at_every_byte(void** state) {
    lp_ctx* ctx = ((fixture*)*state)->ctx;
    const size_t held = lp_ctx_memory(ctx).bytes, n = sizeof base - 1;
    static const char with_this[] = {0, '"', '\\', '{', '}', '[', ']', ',', '9', '-', 'e', '\xff'};
    int refused = 0;
    for (size_t at = 0; at < n; at++) {
        for (size_t k = 0; k < sizeof with_this; k++) {
            lp_tokenizer* t = NULL;
            lp_token_list list = {0};
            char* copy = malloc(n);
            memcpy(copy, base, n);
            copy[at] = with_this[k];
            const lp__hf_files files = {.tokenizer = {copy, n}};
            const lp_status status = lp__tokenizer_from_hf(ctx, &files, &t);
            if (status == LP_OK) {
                assert_int_equal(lp_tokenizer_encode(t, "abc<|x|>", 8, 3, &list), LP_OK);
            } else {
                assert_true(status == LP_FORMAT || status == LP_UNSUPPORTED);
                refused++;
            }
            lp_token_list_free(ctx, &list);
            lp_tokenizer_destroy(t);
            free(copy);
        }
    }
    assert_true(refused > (int)n);
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
}

static void* failing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    if (new_bytes == 0) {
        free(old);
        return NULL;
    }
    int64_t* left = user;
    if (*left <= 0) return NULL;
    (*left)--;
    return realloc(old, new_bytes);
}

static void every_allocation_may_fail(void** state) {
    (void)state;
    char json[8192];
    snprintf(json, sizeof json, "%s",
             with("\"normalizer\":null", "\"normalizer\":{\"type\":\"NFC\"}"));
    const char* config = "{\"eos_token\":\"<\\u007cx|>\",\"chat_template\":\"a\\nb\"}";
    lp_status status = LP_NOMEM;
    int64_t fails = 0;
    for (int64_t allowed = 0; status != LP_OK; allowed++) {
        assert_true(allowed < 2000);
        int64_t left = INT64_MAX;
        lp_ctx_def def = lp_ctx_def_default();
        def.threads = 1;
        def.alloc = failing_alloc;
        def.alloc_user = &left;
        lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
        assert_non_null(ctx);
        left = allowed;
        lp_tokenizer* t = NULL;
        lp_token_list list = {0};
        lp_text one = {0}, two = {0};
        status = read_json(ctx, json, config, &t);
        if (status == LP_OK)
            status =
                lp_tokenizer_encode(t, "ab <|x|>e\xcc\x81", 11, LP_ENCODE_PARSE_SPECIAL, &list);
        if (status == LP_OK) status = lp__tokenizer_to_hf(t, &one, &two);
        assert_true(status == LP_OK || status == LP_NOMEM);
        fails += status != LP_OK;
        lp_text_free(ctx, &one);
        lp_text_free(ctx, &two);
        lp_token_list_free(ctx, &list);
        lp_tokenizer_destroy(t);
        lp_ctx_destroy(ctx);
    }
    assert_true(fails > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_tokenizer_json),
        cmocka_unit_test(knows_the_pre_tokenizers),
        cmocka_unit_test(normalises_and_ignores_merges),
        cmocka_unit_test(ids_may_leave_gaps),
        cmocka_unit_test(ends_of_a_text),
        cmocka_unit_test(opens_the_release_of_gpt2),
        cmocka_unit_test(refuses_bad_releases),
        cmocka_unit_test(refuses_bad_vocabularies),
        cmocka_unit_test(refuses_other_models),
        cmocka_unit_test(refuses_other_parts),
        cmocka_unit_test(refuses_bad_configs),
        cmocka_unit_test(truncated_at_every_byte),
        cmocka_unit_test(changed_at_every_byte),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, fixture_open, fixture_close);
}
