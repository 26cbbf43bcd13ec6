#include "text/byte_alphabet.h"

#include <string.h>

static bool stands_for_itself(uint32_t c) {
    return (c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff);
}

/* The others, in order: 0x00..0x20 are U+0100.., 0x7f..0xa0 follow, 0xad is the last, U+0143. */
uint32_t lp__byte_char(uint8_t byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte <= 0xa0) return 0x121u + byte - 0x7fu;
    return 0x143;
}

int lp__byte_spelling(uint8_t byte, char out[2]) {
    uint32_t c = lp__byte_char(byte);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0u | c >> 6);
    out[1] = (char)(0x80u | (c & 0x3fu));
    return 2;
}

/* The byte of a character of the alphabet, or -1. */
static int byte_of(uint32_t c) {
    if (c < 0x100) return stands_for_itself(c) ? (int)c : -1;
    if (c <= 0x120) return (int)(c - 0x100);
    if (c <= 0x142) return (int)(c - 0x121 + 0x7f);
    return c == 0x143 ? 0xad : -1;
}

size_t lp__spelled_bytes(lp__string token, char* out) {
    size_t n = 0;
    for (size_t i = 0; i < token.bytes;) {
        uint32_t c = (uint8_t)token.data[i++];
        /* Three- and four-byte characters are outside of the alphabet. */
        if (c >= 0xe0) n = SIZE_MAX;
        if (c >= 0xc0 && c < 0xe0) c = (c & 0x1fu) << 6 | ((uint8_t)token.data[i++] & 0x3fu);
        int byte = n == SIZE_MAX ? -1 : byte_of(c);
        if (byte < 0) {
            memcpy(out, token.data, token.bytes);
            return token.bytes;
        }
        out[n++] = (char)(uint8_t)byte;
    }
    return n;
}
