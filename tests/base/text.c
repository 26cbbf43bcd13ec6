/* UTF-8: every code point, every one-byte and two-byte text, and the classic wrong forms. */
#include "base/base.h"
#include "testing.h"

static size_t encode(uint32_t c, char* out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (c & 0x3F));
        c >>= 6;
    }
    out[0] = (char)((0xF00 >> length & 0xF0) | c);
    return length;
}

static void every_code_point(void** state) {
    (void)state;
    for (uint32_t c = 0; c < 0x110400; c++) {
        char text[8] = "a";
        size_t length = encode(c, text + 1);
        text[1 + length] = 'b';
        bool valid = c < 0x110000 && !(c >= 0xD800 && c < 0xE000);
        int64_t got = lp__utf8_error(text, length + 2);
        if (got != (valid ? -1 : 1)) fail_msg("U+%04X: %lld", c, (long long)got);
        /* Cut anywhere inside, it is wrong at its first byte. */
        for (size_t cut = 1; valid && cut < length; cut++)
            assert_int_equal(lp__utf8_error(text, cut + 1), 1);
    }
}

static void two_bytes(void** state) {
    (void)state;
    for (int a = 0; a < 256; a++) {
        for (int b = 0; b < 256; b++) {
            char text[2] = {(char)a, (char)b};
            int64_t want = a < 0x80                                         ? (b < 0x80 ? -1 : 1)
                           : a >= 0xC2 && a < 0xE0 && b >= 0x80 && b < 0xC0 ? -1
                                                                            : 0;
            assert_int_equal(lp__utf8_error(text, 2), want);
        }
    }
}

static void wrong_forms(void** state) {
    (void)state;
    const char* texts[] = {
        "\xE0\x80\xAF",
        "\xE0\x9F\xBF",
        "\xF0\x80\x80\xAF",
        "\xF0\x8F\xBF\xBF", /* overlong */
        "\xED\xA0\x80",
        "\xED\xBF\xBF", /* surrogates */
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFE",
        "\xFF",
        "\x80",
        "\xE2\x82"
        "A",
        "\xF0\x9F\x98"
        "A", /* cut by a letter */
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        assert_int_equal(lp__utf8_error(texts[i], strlen(texts[i])), 0);
    }
    assert_int_equal(lp__utf8_error("", 0), -1);
    assert_int_equal(lp__utf8_error("ok \xE2\x82\xAC\0 \xC3", 9), 8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point),
        cmocka_unit_test(two_bytes),
        cmocka_unit_test(wrong_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
