/* Safetensors headers from strangers: each row is a file and the status it must give, within a
 * second and with memory of at most twice the file. */
#include "testing.h"

#include "tensor/safetensors.h"
#include <time.h>



/* The 8 bytes, the header, and n numbers of nothing; to be freed. */
static uint8_t* file_of(const char* header, size_t length, uint64_t claimed, size_t data,
                        size_t* n) {
    *n = 8 + length + data;
    uint8_t* bytes = malloc(*n + 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(claimed >> (8 * i));
    if (length > 0) memcpy(bytes + 8, header, length);
    memset(bytes + 8 + length, 0, data);
    return bytes;
}

static void expect(const char* what, const uint8_t* bytes, size_t n, lp_status status,
                   const char* word) {
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const size_t held = lp_ctx_memory(ctx).bytes;
    lp__safetensors* f;
    const clock_t start = clock();
    const lp_status got = lp__safetensors_parse(ctx, bytes, n, &f);
    if (got != status)
        fail_msg("%.60s: %s, not %s: %s", what, lp_status_name(got), lp_status_name(status),
                 lp_error(ctx));
    if (status != LP_OK && !strstr(lp_error(ctx), word))
        fail_msg("%.60s: the message has no \"%s\": %s", what, word, lp_error(ctx));
    assert_true((f != NULL) == (status == LP_OK));
    assert_true((double)(clock() - start) < 1.0 * CLOCKS_PER_SEC);
    assert_true(lp_ctx_memory(ctx).peak_bytes <= held + 2 * n + 4096);
    lp__safetensors_close(f);
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    lp_ctx_destroy(ctx);
}

static void expect_header(const char* header, size_t data, lp_status status, const char* word) {
    size_t n;
    uint8_t* bytes = file_of(header, strlen(header), strlen(header), data, &n);
    expect(header, bytes, n, status, word);
    free(bytes);
}

#define T(shape, from, to)                                                                         \
    "{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"

static void headers(void** state) {
    (void)state;
    static const struct {
        const char* header;
        size_t data;
        lp_status status;
        const char* word;
    } rows[] = {
        {"{}", 0, LP_OK, ""},
        {"{}   \n", 0, LP_OK, ""},
        {"{\"a\":" T("4", "0", "16") "}", 16, LP_OK, ""},
        {"{\"a\":" T("", "0", "4") "}", 4, LP_OK, ""},
        {"{\"a\":" T("0,5", "0", "0") "}", 0, LP_OK, ""},
        {"{ \"b\" : " T("2", "8", "16") " ,\n\"a\":" T("2", "0", "8") "}", 16, LP_OK, ""},
        {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, LP_OK, ""},
        {"{\"\\u00e9\\ud83d\\ude00\":" T("1", "0", "4") "}", 4, LP_OK, ""},
        {"", 0, LP_FORMAT, "begin with"},
        {" {}", 0, LP_FORMAT, "begin with"},
        {"[]", 0, LP_FORMAT, "begin with"},
        {"\"a\"", 0, LP_FORMAT, "begin with"},
        {"{", 0, LP_FORMAT, "string"},
        {"{}{}", 0, LP_FORMAT, "behind its end"},
        {"{},", 0, LP_FORMAT, "behind its end"},
        {"{\"a\"}", 0, LP_FORMAT, "colon"},
        {"{\"a\":" T("1", "0", "4") ",}", 4, LP_FORMAT, "string"},
        {"{\"a\":" T("1", "0", "4") " \"b\":" T("1", "4", "8") "}", 8, LP_FORMAT, "comma"},
        {"{\"a\":[]}", 0, LP_FORMAT, "object"},
        {"{\"a\":null}", 0, LP_FORMAT, "object"},
        {"{\"a\":{}}", 0, LP_FORMAT, "without dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, LP_FORMAT, "without dtype"},
        {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
         LP_FORMAT, "twice"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", 4, LP_FORMAT,
         "field"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":1,\"data_offsets\":[0,4]}}", 4, LP_FORMAT, "list"},
        {"{\"a\":{\"dtype\":7,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, LP_FORMAT, "string"},
        {"{\"a\":{\"dtype\":\"F31\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, LP_UNSUPPORTED,
         "F31"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, LP_OK, ""},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, LP_FORMAT,
         "within a byte"},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, LP_OK, ""},
        {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[5],\"data_offsets\":[0,4]}}", 4, LP_FORMAT,
         "within a byte"},
        /* twice, spelt alike or not */
        {"{\"a\":" T("1", "0", "4") ",\"a\":" T("1", "4", "8") "}", 8, LP_FORMAT, "twice"},
        {"{\"a\":" T("1", "0", "4") ",\"\\u0061\":" T("1", "4", "8") "}", 8, LP_FORMAT, "twice"},
        {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, LP_FORMAT, "twice"},
        {"{\"__metadata__\":{},\"\\u005f_metadata__\":{}}", 0, LP_FORMAT, "twice"},
        {"{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, LP_FORMAT, "twice"},
        {"{\"__metadata__\":{\"a\":1}}", 0, LP_FORMAT, "string"},
        {"{\"__metadata__\":{\"a\":{}}}", 0, LP_FORMAT, "string"},
        {"{\"__metadata__\":\"a\"}", 0, LP_FORMAT, "object"},
        /* places */
        {"{\"a\":" T("1", "4", "8") "}", 8, LP_FORMAT, "hole"},
        {"{\"a\":" T("1", "0", "4") ",\"b\":" T("1", "8", "12") "}", 12, LP_FORMAT, "hole"},
        {"{\"a\":" T("2", "0", "8") ",\"b\":" T("1", "4", "8") "}", 8, LP_FORMAT, "overlap"},
        {"{\"a\":" T("1", "0", "4") ",\"b\":" T("1", "0", "4") "}", 4, LP_FORMAT, "overlap"},
        {"{\"a\":" T("1", "0", "4") "}", 5, LP_FORMAT, "longer"},
        {"{}", 1, LP_FORMAT, "longer"},
        {"{\"a\":" T("1", "0", "4") "}", 3, LP_FORMAT, "past the end"},
        {"{\"a\":" T("2", "0", "4") "}", 4, LP_FORMAT, "do not fit the shape"},
        {"{\"a\":" T("1", "4", "0") "}", 4, LP_FORMAT, "fall"},
        /* numbers */
        {"{\"a\":" T("-1", "0", "4") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("1", "-4", "0") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("1.0", "0", "4") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("1", "0", "4.0") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("1", "0", "4e0") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("1e3", "0", "4000") "}", 4000, LP_FORMAT, "whole number"},
        {"{\"a\":" T("01", "0", "4") "}", 4, LP_FORMAT, "begins with 0"},
        {"{\"a\":" T("+1", "0", "4") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("\"1\"", "0", "4") "}", 4, LP_FORMAT, "whole number"},
        {"{\"a\":" T("9223372036854775808", "0", "4") "}", 4, LP_FORMAT, "too large"},
        {"{\"a\":" T("1", "0", "18446744073709551620") "}", 4, LP_FORMAT, "too large"},
        {"{\"a\":" T("4194305,4194305,211106198978564", "0", "16") "}", 16, LP_FORMAT, "overflows"},
        {"{\"a\":" T("4611686018427387904,4", "0", "0") "}", 0, LP_FORMAT, "overflows"},
        {"{\"a\":" T("0,4611686018427387904,4", "0", "0") "}", 0, LP_OK, ""},
        {"{\"a\":" T("1,1,1,1,1,1,1,1", "0", "4") "}", 4, LP_OK, ""},
        {"{\"a\":" T("1,1,1,1,1,1,1,1,1", "0", "4") "}", 4, LP_FORMAT, "8 dimensions"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, LP_FORMAT, "two"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,2,4]}}", 4, LP_FORMAT, "two"},
        /* strings */
        {"{\"\":" T("1", "0", "4") "}", 4, LP_FORMAT, "empty"},
        {"{\"a\\u0000b\":" T("1", "0", "4") "}", 4, LP_FORMAT, "no character"},
        {"{\"\\ud800\":" T("1", "0", "4") "}", 4, LP_FORMAT, "no character"},
        {"{\"\\udc00\":" T("1", "0", "4") "}", 4, LP_FORMAT, "no character"},
        {"{\"\\ud800\\u0041\":" T("1", "0", "4") "}", 4, LP_FORMAT, "no character"},
        {"{\"\\u12\":" T("1", "0", "4") "}", 4, LP_FORMAT, "no character"},
        {"{\"\\x41\":" T("1", "0", "4") "}", 4, LP_FORMAT, "unknown escape"},
        {"{\"a\nb\":" T("1", "0", "4") "}", 4, LP_FORMAT, "control character"},
        {"{\"a", 0, LP_FORMAT, "does not end"},
        {"{\"a\\", 0, LP_FORMAT, "does not end"},
        {"{\"\xff\":" T("1", "0", "4") "}", 4, LP_FORMAT, "UTF-8"},
        {"{\"\xc0\xaf\":" T("1", "0", "4") "}", 4, LP_FORMAT, "UTF-8"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect_header(rows[i].header, rows[i].data, rows[i].status, rows[i].word);
}

/* The length in front of the header. */
static void lengths(void** state) {
    (void)state;
    static const uint64_t claims[] = {3,          10,         100000001,     1ull << 32,
                                      1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    size_t n;
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        uint8_t* bytes = file_of("{}", 2, claims[i], 0, &n);
        expect("length", bytes, n, LP_FORMAT, "impossible length");
        free(bytes);
    }
    uint8_t* bytes = file_of("{}", 2, 0, 0, &n);
    expect("no header", bytes, n, LP_FORMAT, "begin with");
    for (size_t cut = 0; cut < 8; cut++) expect("cut", bytes, cut, LP_FORMAT, "too short");
    free(bytes);
    bytes = file_of("{}\0\0", 4, 4, 0, &n);
    expect("zeros behind", bytes, n, LP_FORMAT, "behind its end");
    free(bytes);
}

/* Headers of megabytes: in linear time, and refused before memory is asked for. */
static void large(void** state) {
    (void)state;
    enum { MILLION = 1000000 };
    char* text = malloc(16 * MILLION);
    size_t n, at = (size_t)sprintf(text, "{\"a\":{\"dtype\":\"F32\",\"shape\":");
    memset(text + at, '[', MILLION);
    text[at + MILLION] = 0;
    expect_header(text, 0, LP_FORMAT, "whole number");
    memset(text, '[', MILLION);
    text[MILLION] = 0;
    expect_header(text, 0, LP_FORMAT, "begin with");
    memcpy(text, "{\"a\":", 5);
    memset(text + 5, '{', MILLION);
    expect_header(text, 0, LP_FORMAT, "string");

    at = (size_t)sprintf(text, "{\"");
    memset(text + at, 'n', 1 << 20);
    sprintf(text + at + (1 << 20), "\":" T("1", "0", "4") "}");
    expect_header(text, 4, LP_FORMAT, "1,024 bytes");

    for (int count = 65536; count <= 100000; count += 34464) {
        at = 1;
        for (int i = 0; i < count; i++)
            at += (size_t)sprintf(
                text + at, "%s\"%d\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[%d,%d]}",
                i ? "," : "", i, i, i + 1);
        strcpy(text + at, "}");
        expect_header(text, (size_t)count, count == 65536 ? LP_OK : LP_FORMAT, "65,536 tensors");
    }
    at = (size_t)sprintf(text, "{\"__metadata__\":{");
    for (int i = 0; i < 100000; i++)
        at += (size_t)sprintf(text + at, "%s\"some key %d\":\"a value\"", i ? "," : "", i);
    strcpy(text + at, "}}");
    expect_header(text, 0, LP_FORMAT, "__metadata__");
    n = at;
    assert_true(n < 16 * MILLION);
    free(text);
}

static const char good[] = "{\"__metadata__\":{\"format\":\"pt\",\"a\":\"\\u00e9\"},\"z\":" T(
    "2,3", "16", "40") ",\"y\":{\"dtype\":\"BF16\",\"shape\":[2,1,4],\"data_offsets\":[0,16]},"
                       "\"x\":" T("", "40", "44") "}";

static void what_is_there(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t n;
    uint8_t* bytes = file_of(good, sizeof good - 1, sizeof good - 1, 44, &n);
    lp__safetensors* f;
    assert_int_equal(lp__safetensors_parse(ctx, bytes, n, &f), LP_OK);
    free(bytes);
    assert_int_equal(lp__safetensors_count(f), 3);
    assert_string_equal(lp__safetensors_metadata(f, "format"), "pt");
    assert_string_equal(lp__safetensors_metadata(f, "a"), "\xc3\xa9");
    assert_null(lp__safetensors_metadata(f, "b"));
    assert_null(lp__safetensors_find(f, "w"));
    const lp__safetensors_entry* y = lp__safetensors_find(f, "y");
    assert_non_null(y);
    assert_true(y->dims == 3 && y->rows == 2 && y->cols == 4 && y->dtype == LP__SAFETENSORS_BF16);
    assert_int_equal(y->begin, 8 + sizeof good - 1);
    assert_int_equal(y->end, y->begin + 16);
    const lp__safetensors_entry* x = lp__safetensors_find(f, "x");
    assert_true(x->dims == 0 && x->rows == 1 && x->cols == 1 && x->end == n);
    lp_ctx_destroy(ctx);
}

/* A file cut anywhere is refused; with any byte changed it is read or refused, and nothing worse.
 */
static void damage(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const size_t held = lp_ctx_memory(ctx).bytes;
    size_t n;
    lp__safetensors* f;
    uint8_t* bytes = file_of(good, sizeof good - 1, sizeof good - 1, 44, &n);
    for (size_t cut = 0; cut < n; cut++) {
        uint8_t* part = malloc(cut + !cut); /* of that size, so that a read behind it is found */
        memcpy(part, bytes, cut);
        assert_int_equal(lp__safetensors_parse(ctx, part, cut, &f), LP_FORMAT);
        free(part);
    }
    int refused = 0;
    for (size_t i = 0; i < n - 44; i++) {
        for (int value = 0; value < 256; value++) {
            const uint8_t old = bytes[i];
            bytes[i] = (uint8_t)value;
            const lp_status status = lp__safetensors_parse(ctx, bytes, n, &f);
            assert_true(status == LP_OK || status == LP_FORMAT || status == LP_UNSUPPORTED);
            refused += status != LP_OK;
            lp__safetensors_close(f);
            bytes[i] = old;
        }
    }
    assert_true(refused > 200 * (int)sizeof good);
    assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    free(bytes);
    lp_ctx_destroy(ctx);
}

static void* failing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    int64_t* left = user;
    if (new_bytes == 0) {
        free(old);
        return NULL;
    }
    return (*left)-- > 0 ? realloc(old, new_bytes) : NULL;
}

static void every_allocation_may_fail(void** state) {
    (void)state;
    size_t n;
    uint8_t* bytes = file_of(good, sizeof good - 1, sizeof good - 1, 44, &n);
    int64_t left = INT64_MAX, fails = 0;
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.alloc = failing_alloc;
    def.alloc_user = &left;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_status status = LP_NOMEM;
    for (int64_t allowed = 0; status != LP_OK; allowed++, fails++) {
        lp__safetensors* f;
        left = allowed;
        status = lp__safetensors_parse(ctx, bytes, n, &f);
        assert_true(status == LP_OK || status == LP_NOMEM);
        lp__safetensors_close(f);
    }
    assert_true(fails >= 5);
    lp_ctx_destroy(ctx);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers), cmocka_unit_test(lengths),
        cmocka_unit_test(large),   cmocka_unit_test(what_is_there),
        cmocka_unit_test(damage),  cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
