/* Checking UTF-8, after table 3-7 of the Unicode standard. */
#include "base/base.h"

/* Length of the well-formed sequence at text, of which `left` bytes remain; 0 if there is none. The
 * second byte alone decides about overlong forms, surrogates and values past U+10FFFF. */
static size_t sequence(const unsigned char* text, size_t left) {
    unsigned char lead = text[0];
    if (lead < 0x80) return 1;
    if (lead < 0xC2 || lead > 0xF4) return 0;
    size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (left < length) return 0;
    unsigned char low = 0x80, high = 0xBF;
    if (lead == 0xE0) low = 0xA0;
    if (lead == 0xED) high = 0x9F;
    if (lead == 0xF0) low = 0x90;
    if (lead == 0xF4) high = 0x8F;
    if (text[1] < low || text[1] > high) return 0;
    for (size_t i = 2; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    return length;
}

int64_t lp__utf8_error(const char* text, size_t bytes) {
    const unsigned char* at = (const unsigned char*)text;
    for (size_t i = 0; i < bytes;) {
        size_t length = sequence(at + i, bytes - i);
        if (!length) return (int64_t)i;
        i += length;
    }
    return -1;
}
