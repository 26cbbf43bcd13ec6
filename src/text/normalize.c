#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

bool lp__nfc_plain(const char* text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if ((uint8_t)text[i] >= 0xcc) return false; /* the first byte of U+0300 and up */
    }
    return true;
}

/* Hugging Face's tables are those of Unicode 9. What has come since, and would be reordered or
 * composed by newer tables, stays where it is there: marks, and U+11938, which is now U+11935 with
 * U+11930. (Found by asking both about every code point; tests/oracles/tokenizer.py does so again.)
 */
static const struct {
    int32_t first, last;
} newer[] = {{0x7fd, 0x7fd},     {0x898, 0x89f},     {0x8ca, 0x8d3},     {0x9fe, 0x9fe},
             {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},     {0x1715, 0x1715},
             {0x1abf, 0x1ace},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},   {0x10d24, 0x10d27},
             {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50}, {0x10f82, 0x10f85},
             {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
             {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193d, 0x1193e}, {0x11943, 0x11943},
             {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99},
             {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
             {0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae},
             {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef}};

static bool is_newer(int32_t c) {
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (c > newer[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < sizeof newer / sizeof *newer && c >= newer[low].first;
}

/* The combining class, which orders the marks behind a letter. */
static int class_of(int32_t c) {
    return is_newer(c) ? 0 : utf8proc_get_property(c)->combining_class;
}

/* Stable merge sort of n marks by class, with room for as many in spare. utf8proc's own sorting is
 * by exchange of neighbours: quadratic in a text of nothing but marks. */
static void sort_marks(int32_t* marks, int32_t* spare, size_t n) {
    for (size_t width = 1; width < n; width *= 2) {
        for (size_t low = 0; low < n; low += 2 * width) {
            size_t middle = LP__MIN(low + width, n), high = LP__MIN(low + 2 * width, n);
            size_t a = low, b = middle;
            for (size_t k = low; k < high; k++) {
                const bool left =
                    a < middle && (b >= high || class_of(marks[a]) <= class_of(marks[b]));
                spare[k] = left ? marks[a++] : marks[b++];
            }
        }
        memcpy(marks, spare, n * sizeof *marks);
    }
}

static void order_marks(int32_t* codes, int32_t* spare, size_t n) {
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && class_of(codes[end]) != 0) end++;
        if (end - i > 1) sort_marks(codes + i, spare, end - i);
        i = end + 1;
    }
}

/* Canonical decomposition; codes has room. */
static size_t decompose(const char* text, size_t bytes, int32_t* codes, size_t room) {
    size_t n = 0;
    for (size_t at = 0; at < bytes;) {
        int32_t c;
        at += (size_t)utf8proc_iterate((const uint8_t*)text + at, (int64_t)(bytes - at), &c);
        if (is_newer(c)) {
            codes[n++] = c;
        } else {
            n += (size_t)utf8proc_decompose_char(c, codes + n, (int64_t)(room - n),
                                                 UTF8PROC_DECOMPOSE, NULL);
        }
    }
    return n;
}

/* Composes in place what lies between newer characters; returns how many are left. */
static size_t compose(int32_t* codes, size_t n) {
    size_t left = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && !is_newer(codes[end])) end++;
        const int64_t count = utf8proc_normalize_utf32(codes + i, (int64_t)(end - i),
                                                       UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        memmove(codes + left, codes + i, (size_t)count * sizeof *codes);
        left += (size_t)count;
        if (end < n) codes[left++] = codes[end];
        i = end + 1;
    }
    return left;
}

lp_status lp__nfc(lp_ctx* ctx, const char* text, size_t bytes, lp_text* out) {
    if (lp__nfc_plain(text, bytes)) return lp_text_add(ctx, out, text, bytes);
    lp__arena* arena = lp__scratch(ctx);
    lp__mark mark = lp__arena_mark(arena);
    const size_t room = 2 * bytes + 4; /* the longest: U+0390, two bytes, is three characters */
    int32_t* codes = lp__arena_alloc(arena, room * sizeof *codes);
    int32_t* spare = codes ? lp__arena_alloc(arena, room * sizeof *spare) : NULL;
    lp_status status = spare ? LP_OK : LP_NOMEM;
    size_t n = 0;
    if (status == LP_OK) {
        n = decompose(text, bytes, codes, room);
        order_marks(codes, spare, n);
        n = compose(codes, n);
    }
    for (size_t i = 0; status == LP_OK && i < n; i++) {
        uint8_t piece[4];
        const int64_t length = utf8proc_encode_char(codes[i], piece);
        status = lp_text_add(ctx, out, piece, (size_t)length);
    }
    lp__arena_release(arena, mark);
    return status;
}
