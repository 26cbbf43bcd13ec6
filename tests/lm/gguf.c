/* The GGUF reader: what it reads, bit for bit, and that nothing in a file can hurt it. */
#include "lm/gguf_build.h"

#include <jansson.h>
#include <logpi/text.h>
#include <unistd.h>

static int context_open(void** state) {
    *state = lp_ctx_create(NULL, NULL, 0);
    return *state ? 0 : -1;
}

static int context_close(void** state) {
    lp_ctx_destroy(*state);
    return 0;
}

/* One key of every type, and two tensors: "a" F32 [2, 4] and "b" Q8_0 [2, 3, 32]. */
static void put_good(gguf_bytes* b) {
    const float f = 0.25f;
    const double d = -2.5;
    put_header(b, 2, 15);
    put_key(b, "u8", LP__GGUF_U8), put_u8(b, 200);
    put_key(b, "i8", LP__GGUF_I8), put_u8(b, (uint8_t)-5);
    put_key(b, "u16", LP__GGUF_U16), put(b, &(uint16_t){50000}, 2);
    put_key(b, "i16", LP__GGUF_I16), put(b, &(int16_t){-300}, 2);
    put_key(b, "u32", LP__GGUF_U32), put_u32(b, 4000000000u);
    put_key(b, "i32", LP__GGUF_I32), put_u32(b, 7);
    put_key(b, "u64", LP__GGUF_U64), put_u64(b, 1ull << 40);
    put_key(b, "i64", LP__GGUF_I64), put_u64(b, (uint64_t)-1);
    put_key(b, "f32", LP__GGUF_F32), put(b, &f, 4);
    put_key(b, "f64", LP__GGUF_F64), put(b, &d, 8);
    put_key(b, "yes", LP__GGUF_BOOL), put_u8(b, 1);
    put_key(b, "text", LP__GGUF_STRING), put_string(b, "llama");
    put_array(b, "texts", LP__GGUF_STRING, 3), put_string(b, "x"), put_string(b, ""),
        put_string(b, "yz");
    put_array(b, "i32s", LP__GGUF_I32, 2), put_u32(b, 5), put_u32(b, (uint32_t)-6);
    put_array(b, "f32s", LP__GGUF_F32, 1), put(b, &f, 4);
    put_tensor(b, "a", 2, (uint64_t[]){4, 2}, LP__GGML_F32, 0);
    put_tensor(b, "b", 3, (uint64_t[]){32, 3, 2}, LP__GGML_Q8_0, 32);
    put_data(b, 32, 32 + 6 * 34);
}

static void check_good(const lp__gguf* g) {
    uint32_t u32;
    uint64_t u64;
    float f;
    bool yes = false;
    int64_t n;
    lp__string text;
    const lp__string* texts;
    const int32_t* i32s;
    const float* f32s;
    assert_int_equal(lp__gguf_u32(g, "u8", &u32), LP_OK);
    assert_int_equal(u32, 200);
    assert_int_equal(lp__gguf_u32(g, "u16", &u32), LP_OK);
    assert_int_equal(u32, 50000);
    assert_int_equal(lp__gguf_u32(g, "u32", &u32), LP_OK);
    assert_int_equal(u32, 4000000000u);
    assert_int_equal(lp__gguf_u32(g, "i32", &u32), LP_OK);
    assert_int_equal(u32, 7);
    assert_int_equal(lp__gguf_u64(g, "u64", &u64), LP_OK);
    assert_true(u64 == 1ull << 40);
    assert_int_equal(lp__gguf_find(g, "i8")->i, -5);
    assert_int_equal(lp__gguf_find(g, "i16")->i, -300);
    assert_int_equal(lp__gguf_find(g, "i64")->i, -1);
    assert_int_equal(lp__gguf_f32(g, "f32", &f), LP_OK);
    assert_true(f == 0.25f);
    assert_int_equal(lp__gguf_f32(g, "f64", &f), LP_OK);
    assert_true(f == -2.5f);
    assert_int_equal(lp__gguf_bool(g, "yes", &yes), LP_OK);
    assert_true(yes);
    assert_int_equal(lp__gguf_string(g, "text", &text), LP_OK);
    assert_string_equal(text.data, "llama");
    assert_int_equal(lp__gguf_strings(g, "texts", &texts, &n), LP_OK);
    assert_int_equal(n, 3);
    assert_string_equal(texts[0].data, "x");
    assert_int_equal(texts[1].bytes, 0);
    assert_string_equal(texts[2].data, "yz");
    assert_int_equal(lp__gguf_i32s(g, "i32s", &i32s, &n), LP_OK);
    assert_int_equal(n, 2);
    assert_int_equal(i32s[1], -6);
    assert_int_equal(lp__gguf_f32s(g, "f32s", &f32s, &n), LP_OK);
    assert_int_equal(n, 1);
    assert_true(f32s[0] == 0.25f);

    const lp__gguf_tensor *a, *b;
    assert_int_equal(lp__gguf_tensor_get(g, "a", 2, 4, &a), LP_OK);
    assert_int_equal(lp__gguf_tensor_get(g, "b", 6, 32, &b), LP_OK);
    assert_int_equal(b->n_dims, 3);
    assert_int_equal(b->dims[0], 2);
    assert_int_equal(b->dims[1], 3);
    assert_int_equal(b->dims[2], 32);
    assert_int_equal(b->bytes, 6 * 34);
    assert_int_equal(b->offset % 32, 0);
    /* A row in the middle is a row of the whole. */
    float whole[6 * 32], row[32];
    assert_int_equal(lp__gguf_rows(g, b, 0, 6, whole), LP_OK);
    assert_int_equal(lp__gguf_rows(g, b, 4, 1, row), LP_OK);
    assert_memory_equal(row, whole + 4 * 32, sizeof row);
    assert_int_equal(lp__gguf_rows(g, b, 6, 0, row), LP_OK);
}

static void reads_what_is_there(void** state) {
    lp_ctx* ctx = *state;
    gguf_bytes b;
    lp__gguf* g = NULL;
    put_good(&b);
    assert_int_equal(lp__gguf_parse(ctx, b.data, b.n, &g), LP_OK);
    check_good(g);
    lp__gguf_close(g);

    char path[] = "/tmp/gguf_test_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, b.data, b.n), (ssize_t)b.n);
    close(fd);
    assert_int_equal(lp__gguf_open(ctx, path, &g), LP_OK);
    check_good(g);
    lp__gguf_close(g);
    assert_int_equal(truncate(path, (off_t)b.n - 1), 0);
    assert_int_equal(lp__gguf_open(ctx, path, &g), LP_FORMAT);
    assert_non_null(strstr(lp_error(ctx), path));
    unlink(path);
    assert_int_equal(lp__gguf_open(ctx, path, &g), LP_NOT_FOUND);
    b.data[4] = 2; /* version 2 has the same layout */
    assert_int_equal(lp__gguf_parse(ctx, b.data, b.n, &g), LP_OK);
    check_good(g);
    lp__gguf_close(g);
}

static void getters_say_what_is_wrong(void** state) {
    lp_ctx* ctx = *state;
    gguf_bytes b;
    lp__gguf* g = NULL;
    put_good(&b);
    assert_int_equal(lp__gguf_parse(ctx, b.data, b.n, &g), LP_OK);
    uint32_t u32 = 9;
    float f;
    bool yes;
    int64_t n;
    lp__string text;
    const lp__string* texts;
    const int32_t* i32s;
    const lp__gguf_tensor* t;
#define SAYS(call, status, words)                                                                  \
    do {                                                                                           \
        assert_int_equal(call, status);                                                            \
        assert_non_null(strstr(lp_error(ctx), words));                                             \
    } while (0)
    SAYS(lp__gguf_u32(g, "none", &u32), LP_NOT_FOUND, "\"none\" is missing");
    SAYS(lp__gguf_u32(g, "text", &u32), LP_FORMAT, "\"text\" is of type STRING, but an integer");
    SAYS(lp__gguf_u32(g, "u64", &u32), LP_FORMAT, "at most 4294967295");
    SAYS(lp__gguf_u32(g, "i8", &u32), LP_FORMAT, "\"i8\" is -5");
    SAYS(lp__gguf_f32(g, "u32", &f), LP_FORMAT, "type U32, but a float");
    SAYS(lp__gguf_bool(g, "u8", &yes), LP_FORMAT, "BOOL is needed");
    SAYS(lp__gguf_string(g, "texts", &text), LP_FORMAT, "ARRAY of STRING, but STRING");
    SAYS(lp__gguf_strings(g, "i32s", &texts, &n), LP_FORMAT, "ARRAY of I32, but ARRAY of STRING");
    SAYS(lp__gguf_i32s(g, "f32s", &i32s, &n), LP_FORMAT, "ARRAY of F32, but ARRAY of I32");
    SAYS(lp__gguf_tensor_get(g, "c", 1, 1, &t), LP_NOT_FOUND, "\"c\" is missing");
    SAYS(lp__gguf_tensor_get(g, "a", 4, 2, &t), LP_FORMAT, "is [2, 4], but [4, 2]");
#undef SAYS
    u32 = 9;
    assert_int_equal(lp__gguf_u32_if(g, "none", &u32), LP_OK);
    assert_int_equal(u32, 9);
    assert_int_equal(lp__gguf_u32_if(g, "text", &u32), LP_FORMAT);
    lp__gguf_close(g);
}

static void from_hex(const char* hex, size_t n, uint8_t* out) {
    for (size_t i = 0; i < n; i++) {
        char two[3] = {hex[2 * i], hex[2 * i + 1], 0};
        out[i] = (uint8_t)strtoul(two, NULL, 16);
    }
}

/* Bit for bit what the gguf package makes of the same blocks; of NaN only that it is one. */
static void dequantises_as_the_oracle(void** state) {
    (void)state;
    json_t* json = json_load_file(fixture_path("gguf_dequant.json"), 0, NULL);
    assert_non_null(json);
    const struct {
        const char* name;
        uint32_t type;
    } types[] = {{"F32", 0},  {"F16", 1},  {"BF16", 30}, {"Q8_0", 8},  {"Q4_0", 2}, {"Q4_1", 3},
                 {"Q5_0", 6}, {"Q5_1", 7}, {"Q4_K", 12}, {"Q5_K", 13}, {"Q6_K", 14}};
    enum { TYPES = sizeof types / sizeof *types };
    json_t* cases = json_object_get(json, "cases");
    assert_int_equal(json_array_size(cases), TYPES);
    static uint8_t raw[8192];
    static uint32_t want[2048], got[2048];
    for (size_t c = 0; c < TYPES; c++) {
        json_t* item = json_array_get(cases, c);
        assert_string_equal(json_string_value(json_object_get(item, "type")), types[c].name);
        json_t *blocks = json_object_get(item, "blocks"), *values = json_object_get(item, "values");
        size_t count = json_string_length(values) / 8;
        assert_true((count == 768 || count == 1536) &&
                    json_string_length(blocks) / 2 <= sizeof raw);
        from_hex(json_string_value(blocks), json_string_length(blocks) / 2, raw);
        from_hex(json_string_value(values), count * 4, (uint8_t*)want);
        assert_true(lp__ggml_to_f32(types[c].type, raw, (int64_t)count, (float*)(void*)got));
        for (size_t i = 0; i < count; i++) {
            bool nan = (want[i] & 0x7fffffffu) > 0x7f800000u;
            if (nan ? (got[i] & 0x7fffffffu) > 0x7f800000u : got[i] == want[i]) continue;
            print_error("%s[%zu]: %08x, not %08x\n", types[c].name, i, got[i], want[i]);
            fail();
        }
    }
    json_decref(json);
    float none;
    assert_false(lp__ggml_to_f32(LP__GGML_Q3_K, "", 0, &none));
    assert_false(lp__ggml_to_f32(999, "", 0, &none));
}

/* ---- damage ---------------------------------------------------------------------------------- */

/* Parses; nothing may stay allocated, and little may ever have been. */
static void expect(lp_ctx* ctx, const uint8_t* data, size_t n, lp_status status,
                   const char* words) {
    lp__gguf* g = NULL;
    size_t held = lp_ctx_memory(ctx).bytes;
    /* On the heap with its exact length, so that the sanitizer sees any read beyond it. */
    uint8_t* copy = malloc(n ? n : 1);
    assert_non_null(copy);
    memcpy(copy, data, n);
    lp_status got = lp__gguf_parse(ctx, copy, n, &g);
    if (got != status)
        print_error("status %s, wanted \"%s\": %s\n", lp_status_name(got), words, lp_error(ctx));
    assert_int_equal(got, status);
    if (status != LP_OK) {
        if (!strstr(lp_error(ctx), words)) print_error("wanted \"%s\": %s\n", words, lp_error(ctx));
        assert_non_null(strstr(lp_error(ctx), words));
        assert_null(g);
    }
    lp__gguf_close(g);
    free(copy);
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    assert_true(lp_ctx_memory(ctx).peak_bytes < ((size_t)8 << 20));
}

static void every_truncation_is_refused(void** state) {
    gguf_bytes b;
    put_good(&b);
    expect(*state, b.data, b.n, LP_OK, "");
    for (size_t n = 0; n < b.n; n++) expect(*state, b.data, n, LP_FORMAT, "");
}

/* Every byte of header and directory replaced: a clean answer, whichever it is. */
static void every_changed_byte_is_survived(void** state) {
    lp_ctx* ctx = *state;
    gguf_bytes b;
    put_good(&b);
    const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    for (size_t at = 0; at + 32 + 6 * 34 < b.n; at++) {
        for (size_t v = 0; v < sizeof values + 8; v++) {
            uint8_t old = b.data[at];
            unsigned flipped = old ^ 1u << (v - sizeof values) % 8;
            b.data[at] = v < sizeof values ? values[v] : (uint8_t)flipped;
            lp__gguf* g = NULL;
            size_t held = lp_ctx_memory(ctx).bytes;
            lp_status status = lp__gguf_parse(ctx, b.data, b.n, &g);
            assert_true(status == LP_OK || status == LP_FORMAT || status == LP_UNSUPPORTED);
            if (status == LP_OK) {
                for (int64_t i = 0; i < g->tensor_count; i++) {
                    static float out[8192];
                    const lp__gguf_tensor* t = &g->tensors[i];
                    if (t->rows * t->cols <= 8192) (void)lp__gguf_rows(g, t, 0, t->rows, out);
                }
            }
            lp__gguf_close(g);
            assert_int_equal(lp_ctx_memory(ctx).bytes, held);
            b.data[at] = old;
        }
    }
    assert_true(lp_ctx_memory(ctx).peak_bytes < ((size_t)8 << 20));
}

static void header_damage(void** state) {
    gguf_bytes b;
    put_header(&b, 0, 0);
    expect(*state, b.data, b.n, LP_OK, "");
    expect(*state, b.data, 0, LP_FORMAT, "truncated");
    b.data[0] = 'F';
    expect(*state, b.data, b.n, LP_FORMAT, "no GGUF file");
    memcpy(b.data, "FUGG", 4);
    expect(*state, b.data, b.n, LP_FORMAT, "no GGUF file");
    memcpy(b.data, "GGUF", 4);
    const struct {
        uint32_t version;
        const char* words;
    } versions[] = {{0, "version 0"},           {1, "version 1"},
                    {4, "version 4"},           {0x03000000, "big-endian"},
                    {0x02000000, "big-endian"}, {UINT32_MAX, "version 4294967295"}};
    for (size_t i = 0; i < sizeof versions / sizeof *versions; i++) {
        memcpy(b.data + 4, &versions[i].version, 4);
        expect(*state, b.data, b.n, LP_UNSUPPORTED, versions[i].words);
    }
    const uint64_t counts[] = {1,          65536,      65537,      1ull << 31,
                               1ull << 32, 1ull << 60, 1ull << 63, UINT64_MAX};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        put_header(&b, counts[i], 0);
        expect(*state, b.data, b.n, LP_FORMAT, "tensors");
        put_header(&b, 0, counts[i]);
        expect(*state, b.data, b.n, LP_FORMAT, "keys");
    }
}

static void metadata_damage(void** state) {
    gguf_bytes b;
    const uint64_t sizes[] = {100,        1ull << 31,     1ull << 32, 1ull << 61,
                              1ull << 63, UINT64_MAX - 8, UINT64_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        put_header(&b, 0, 1), put_u64(&b, sizes[i]), put(&b, "key.............", 16);
        expect(*state, b.data, b.n, LP_FORMAT, "a key");
        put_header(&b, 0, 1), put_key(&b, "k", LP__GGUF_STRING), put_u64(&b, sizes[i]);
        expect(*state, b.data, b.n, LP_FORMAT, "a string");
        put_header(&b, 0, 1), put_array(&b, "k", LP__GGUF_STRING, 2), put_string(&b, ""),
            put_u64(&b, sizes[i]);
        expect(*state, b.data, b.n, LP_FORMAT, "a string of an array");
        for (uint32_t type = 0; type <= 12; type++) {
            if (type == LP__GGUF_ARRAY) continue;
            put_header(&b, 0, 1),
                put_array(&b, "k", type, sizes[i]); /* the 43-byte bomb is among these */
            expect(*state, b.data, b.n, LP_FORMAT,
                   type == LP__GGUF_STRING ? "strings of an array" : "elements");
        }
    }
    for (uint32_t type = 13; type < 40; type++) {
        put_header(&b, 0, 1), put_key(&b, "k", type), put_u64(&b, 0);
        expect(*state, b.data, b.n, LP_FORMAT, "unknown type");
        put_header(&b, 0, 1), put_array(&b, "k", type, 1), put_u64(&b, 0);
        expect(*state, b.data, b.n, LP_FORMAT, "array of the unknown type");
    }
    put_header(&b, 0, 1), put_array(&b, "k", LP__GGUF_ARRAY, 1), put_u32(&b, LP__GGUF_U8),
        put_u64(&b, 0);
    expect(*state, b.data, b.n, LP_UNSUPPORTED, "array of arrays");
    put_header(&b, 0, 2), put_key(&b, "k", LP__GGUF_U32), put_u32(&b, 1),
        put_key(&b, "k", LP__GGUF_U8), put_u8(&b, 1);
    expect(*state, b.data, b.n, LP_FORMAT, "\"k\" is there twice");
    put_header(&b, 0, 1), put_key(&b, "", LP__GGUF_U32), put_u32(&b, 1);
    expect(*state, b.data, b.n, LP_FORMAT, "empty or not text");
    put_header(&b, 0, 1), put_key(&b, "\xff", LP__GGUF_U32), put_u32(&b, 1);
    expect(*state, b.data, b.n, LP_FORMAT, "empty or not text");
    put_header(&b, 0, 1), put_u64(&b, 3), put(&b, "a\0b", 3), put_u32(&b, LP__GGUF_U32),
        put_u32(&b, 1);
    expect(*state, b.data, b.n, LP_FORMAT, "empty or not text");
    put_header(&b, 0, 1), put_key(&b, "k", LP__GGUF_BOOL), put_u8(&b, 2);
    expect(*state, b.data, b.n, LP_FORMAT, "boolean of value 2");
    const uint32_t alignments[] = {0, 3, 13, 33, (1u << 20) + 1, 1u << 21, 1u << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        put_header(&b, 0, 1), put_key(&b, "general.alignment", LP__GGUF_U32),
            put_u32(&b, alignments[i]);
        expect(*state, b.data, b.n, LP_FORMAT, "alignment");
    }
    put_header(&b, 0, 1), put_key(&b, "general.alignment", LP__GGUF_U64), put_u64(&b, 32);
    expect(*state, b.data, b.n, LP_FORMAT, "of type U32");
    put_header(&b, 0, 1), put_key(&b, "general.alignment", LP__GGUF_STRING), put_string(&b, "32");
    expect(*state, b.data, b.n, LP_FORMAT, "of type U32");
}

typedef struct tensor_case {
    uint32_t n_dims;
    uint64_t dims[5];
    uint32_t type;
    uint64_t offset;
    lp_status status;
    const char* words;
} tensor_case;

static void tensor_damage(void** state) {
    const uint64_t huge = 1ull << 62;
    const tensor_case cases[] = {
        {1, {8}, LP__GGML_F32, 0, LP_OK, ""},
        {4, {2, 1, 2, 2}, LP__GGML_F32, 0, LP_OK, ""},
        {0, {0}, LP__GGML_F32, 0, LP_FORMAT, "0 dimensions"},
        {5, {1, 1, 1, 1, 1}, LP__GGML_F32, 0, LP_FORMAT, "5 dimensions"},
        {1, {0}, LP__GGML_F32, 0, LP_FORMAT, "dimension of 0"},
        {2, {8, 0}, LP__GGML_F32, 0, LP_FORMAT, "dimension of 0"},
        {2, {0, 8}, LP__GGML_Q8_0, 0, LP_FORMAT, "dimension of 0"},
        {1, {1ull << 63}, LP__GGML_F32, 0, LP_FORMAT, "a dimension of"},
        {1, {UINT64_MAX}, LP__GGML_F32, 0, LP_FORMAT, "a dimension of"},
        {1, {huge}, LP__GGML_F32, 0, LP_FORMAT, "overflows"},
        {2, {huge, 4}, LP__GGML_I8, 0, LP_FORMAT, "overflows"},
        {3, {4194305, 4194305, 211106198978564}, LP__GGML_F32, 0, LP_FORMAT, "overflows"},
        {2, {1ull << 32, 1ull << 32}, LP__GGML_F16, 0, LP_FORMAT, "overflows"},
        {1, {huge}, LP__GGML_Q8_0, 0, LP_FORMAT, "past the end"},
        {1, {9}, LP__GGML_F32, 0, LP_FORMAT, "past the end"},
        {1, {1ull << 40}, LP__GGML_F32, 0, LP_FORMAT, "past the end"},
        {1, {31}, LP__GGML_Q8_0, 0, LP_FORMAT, "no multiple"},
        {1, {33}, LP__GGML_Q4_1, 0, LP_FORMAT, "no multiple"},
        {1, {128}, LP__GGML_Q4_K, 0, LP_FORMAT, "no multiple"},
        {1, {8}, 4, 0, LP_UNSUPPORTED, "type 4"},
        {1, {8}, 31, 0, LP_UNSUPPORTED, "type 31"},
        {1, {8}, UINT32_MAX, 0, LP_UNSUPPORTED, "type 4294967295"},
        {1, {1}, LP__GGML_F32, 8, LP_FORMAT, "no multiple of the alignment"},
        {1, {1}, LP__GGML_F32, 32, LP_FORMAT, "past the end"},
        {1, {1}, LP__GGML_F32, 1ull << 63, LP_FORMAT, "past the end"},
        {1, {8}, LP__GGML_F32, UINT64_MAX - 31, LP_FORMAT, "past the end"},
    };
    gguf_bytes b;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const tensor_case* c = &cases[i];
        put_header(&b, 1, 0), put_tensor(&b, "t", c->n_dims, c->dims, c->type, c->offset),
            put_data(&b, 32, 32);
        expect(*state, b.data, b.n, c->status, c->words);
    }
    const uint64_t four[] = {4};
    put_header(&b, 2, 0), put_tensor(&b, "t", 1, four, 0, 0), put_tensor(&b, "t", 1, four, 0, 32),
        put_data(&b, 32, 64);
    expect(*state, b.data, b.n, LP_FORMAT, "\"t\" is there twice");
    put_header(&b, 2, 0), put_tensor(&b, "t", 1, four, 0, 0), put_tensor(&b, "u", 1, four, 0, 0),
        put_data(&b, 32, 64);
    expect(*state, b.data, b.n, LP_FORMAT, "overlaps");
    put_header(&b, 2, 0), put_tensor(&b, "t", 1, four, 0, 32), put_tensor(&b, "u", 1, four, 0, 0),
        put_data(&b, 32, 64);
    expect(*state, b.data, b.n, LP_FORMAT, "overlaps");
    put_header(&b, 1, 0), put_tensor(&b, "", 1, four, 0, 0), put_data(&b, 32, 64);
    expect(*state, b.data, b.n, LP_FORMAT, "empty or not text");
    put_header(&b, 1, 0), put_u64(&b, 1025);
    for (int i = 0; i < 1100; i++) put_u8(&b, 'n');
    expect(*state, b.data, b.n, LP_FORMAT, "at most 1024");
    /* No data section at all. */
    put_header(&b, 1, 0), put_tensor(&b, "t", 1, four, 0, 0);
    expect(*state, b.data, b.n, LP_FORMAT, "past the end");
    /* A type that is known by size only can be listed, but its rows not read. */
    lp__gguf* g = NULL;
    float out[256];
    put_header(&b, 1, 0), put_tensor(&b, "t", 1, (uint64_t[]){256}, LP__GGML_Q3_K, 0),
        put_data(&b, 32, 110);
    assert_int_equal(lp__gguf_parse(*state, b.data, b.n, &g), LP_OK);
    assert_int_equal(lp__gguf_rows(g, &g->tensors[0], 0, 1, out), LP_UNSUPPORTED);
    assert_non_null(strstr(lp_error(*state), "Q3_K"));
    lp__gguf_close(g);
}

/* ---- tokenizers ------------------------------------------------------------------------------ */

enum {
    GOOD,
    NO_MODEL,
    OTHER_MODEL,
    NO_TOKENS,
    TOKENS_OF_U32,
    NO_MERGES,
    NO_MERGE,
    NO_PRE,
    OTHER_PRE,
    FEW_KINDS,
    KINDS_OF_F32,
    BAD_EOS,
    EOS_TEXT,
    BYTE_TOKENS,
    BAD_UTF8
};

/* A vocabulary of four tokens, whole or with one thing wrong. */
static void put_tokenizer(gguf_bytes* b, int wrong) {
    put_header(b, 0, 0);
    uint64_t keys = 0;
    if (wrong != NO_MODEL) {
        put_key(b, "tokenizer.ggml.model", LP__GGUF_STRING),
            put_string(b, wrong == OTHER_MODEL ? "llama" : "gpt2");
        keys++;
    }
    if (wrong == TOKENS_OF_U32) {
        put_array(b, "tokenizer.ggml.tokens", LP__GGUF_U32, 4), put_u64(b, 0), put_u64(b, 0),
            keys++;
    } else if (wrong != NO_TOKENS) {
        put_array(b, "tokenizer.ggml.tokens", LP__GGUF_STRING, 4), put_string(b, "a"),
            put_string(b, "b");
        put_string(b, "ab"), put_string(b, wrong == BYTE_TOKENS ? "<0x-1>"
                                           : wrong == BAD_UTF8  ? "\xff"
                                                                : "<|x|>");
        keys++;
    }
    if (wrong != NO_MERGES) {
        put_array(b, "tokenizer.ggml.merges", LP__GGUF_STRING, wrong != NO_MERGE), keys++;
        if (wrong != NO_MERGE) put_string(b, "a b");
    }
    if (wrong != NO_PRE) {
        put_key(b, "tokenizer.ggml.pre", LP__GGUF_STRING),
            put_string(b, wrong == OTHER_PRE ? "tekken" : "smollm");
        keys++;
    }
    uint64_t kinds = wrong == FEW_KINDS ? 3 : 4;
    put_array(b, "tokenizer.ggml.token_type", wrong == KINDS_OF_F32 ? LP__GGUF_F32 : LP__GGUF_I32,
              kinds),
        keys++;
    for (uint64_t i = 0; i < kinds; i++) put_u32(b, i == 3 ? (wrong == BYTE_TOKENS ? 6 : 3) : 1);
    if (wrong == EOS_TEXT) {
        put_key(b, "tokenizer.ggml.eos_token_id", LP__GGUF_STRING), put_string(b, "3");
    } else {
        put_key(b, "tokenizer.ggml.eos_token_id", LP__GGUF_U32),
            put_u32(b, wrong == BAD_EOS ? 4 : 3);
    }
    keys++;
    memcpy(b->data + 16, &keys, 8);
}

static void tokenizer_damage(void** state) {
    lp_ctx* ctx = *state;
    const struct {
        lp_status status;
        const char* words;
    } cases[] = {
        [GOOD] = {LP_OK, ""},
        [NO_MODEL] = {LP_NOT_FOUND, "tokenizer.ggml.model"},
        [OTHER_MODEL] = {LP_UNSUPPORTED, "\"llama\" is not supported"},
        [NO_TOKENS] = {LP_NOT_FOUND, "tokenizer.ggml.tokens"},
        [TOKENS_OF_U32] = {LP_FORMAT, "ARRAY of U32, but ARRAY of STRING"},
        [NO_MERGES] = {LP_FORMAT, "no merges"},
        [NO_MERGE] = {LP_FORMAT, "no merges"},
        [NO_PRE] = {LP_UNSUPPORTED, "pre-tokenizer"},
        [OTHER_PRE] = {LP_UNSUPPORTED, "tekken"},
        [FEW_KINDS] = {LP_FORMAT, "4 tokens, but 3 token types"},
        [KINDS_OF_F32] = {LP_FORMAT, "ARRAY of F32"},
        [BAD_EOS] = {LP_FORMAT, "eos token is 4"},
        [EOS_TEXT] = {LP_FORMAT, "eos_token_id\" is of type STRING"},
        [BYTE_TOKENS] = {LP_OK, ""},
        [BAD_UTF8] = {LP_FORMAT, "token 3"},
    };
    for (int i = 0; i < (int)(sizeof cases / sizeof *cases); i++) {
        gguf_bytes b;
        lp__gguf* g = NULL;
        lp_tokenizer* t = NULL;
        size_t held = lp_ctx_memory(ctx).bytes;
        put_tokenizer(&b, i);
        assert_int_equal(lp__gguf_parse(ctx, b.data, b.n, &g), LP_OK);
        lp_status status = lp__gguf_tokenizer(ctx, g, &t);
        if (status != cases[i].status) print_error("case %d: %s\n", i, lp_error(ctx));
        assert_int_equal(status, cases[i].status);
        if (status == LP_OK) {
            lp_token_list list = {0};
            assert_int_equal(lp_tokenizer_encode(t, "abba", 4, 0, &list), LP_OK);
            assert_int_equal(list.count, 3);
            assert_int_equal(lp_tokenizer_eos(t), 3);
            lp_token_list_free(ctx, &list);
        } else {
            assert_non_null(strstr(lp_error(ctx), cases[i].words));
        }
        lp_tokenizer_destroy(t);
        lp__gguf_close(g);
        assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    }
}

/* ---- memory ---------------------------------------------------------------------------------- */

static void* failing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    int64_t* left = user;
    if (new_bytes == 0) {
        free(old);
        return NULL;
    }
    return (*left)-- > 0 ? realloc(old, new_bytes) : NULL;
}

/* Fails each allocation in turn, while a file and its tokenizer are read and a text encoded. */
static void every_allocation_may_fail(void** state) {
    (void)state;
    gguf_bytes b, c;
    put_tokenizer(&b, GOOD);
    put_good(&c);
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
        lp__gguf *g = NULL, *h = NULL;
        lp_tokenizer* t = NULL;
        lp_token_list list = {0};
        status = lp__gguf_parse(ctx, c.data, c.n, &h);
        if (status == LP_OK) status = lp__gguf_parse(ctx, b.data, b.n, &g);
        if (status == LP_OK) status = lp__gguf_tokenizer(ctx, g, &t);
        if (status == LP_OK)
            status = lp_tokenizer_encode(t, "ab <|x|> 1", 10, LP_ENCODE_PARSE_SPECIAL, &list);
        assert_true(status == LP_OK || status == LP_NOMEM);
        fails += status != LP_OK;
        lp_token_list_free(ctx, &list);
        lp_tokenizer_destroy(t);
        lp__gguf_close(g);
        lp__gguf_close(h);
        lp_ctx_destroy(ctx);
    }
    assert_true(fails > 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_there),
        cmocka_unit_test(getters_say_what_is_wrong),
        cmocka_unit_test(dequantises_as_the_oracle),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_changed_byte_is_survived),
        cmocka_unit_test(header_damage),
        cmocka_unit_test(metadata_damage),
        cmocka_unit_test(tensor_damage),
        cmocka_unit_test(tokenizer_damage),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, context_open, context_close);
}
