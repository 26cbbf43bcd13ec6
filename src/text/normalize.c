#include "text/normalize.h"

#include <string.h>
#include <utf8proc.h>

bool lp__nfc_plain(const char* text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if ((uint8_t)text[i] >= 0xcc) return false; /* the first byte of U+0300 and up */
    }
    return true;
}

/* A character and its combining class, which orders the marks behind a letter. */
static uint32_t class_of(int32_t c) { return (uint32_t)utf8proc_get_property(c)->combining_class; }

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

lp_status lp__nfc(lp_ctx* ctx, const char* text, size_t bytes, lp_text* out) {
    if (lp__nfc_plain(text, bytes)) return lp_text_add(ctx, out, text, bytes);
    lp__arena* arena = lp__scratch(ctx);
    lp__mark mark = lp__arena_mark(arena);
    const size_t room = 2 * bytes + 4; /* the longest: U+0390, two bytes, is three characters */
    int32_t* codes = lp__arena_alloc(arena, room * sizeof *codes);
    int32_t* spare = codes ? lp__arena_alloc(arena, room * sizeof *spare) : NULL;
    size_t n = 0;
    for (size_t at = 0; spare && at < bytes;) {
        int32_t c;
        at += (size_t)utf8proc_iterate((const uint8_t*)text + at, (int64_t)(bytes - at), &c);
        n += (size_t)utf8proc_decompose_char(c, codes + n, (int64_t)(room - n), UTF8PROC_DECOMPOSE,
                                             NULL);
    }
    lp_status status = spare ? LP_OK : LP_NOMEM;
    if (status == LP_OK) {
        order_marks(codes, spare, n);
        n = (size_t)utf8proc_normalize_utf32(codes, (int64_t)n, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    }
    for (size_t i = 0; status == LP_OK && i < n; i++) {
        uint8_t piece[4];
        const int64_t length = utf8proc_encode_char(codes[i], piece);
        status = lp_text_add(ctx, out, piece, (size_t)length);
    }
    lp__arena_release(arena, mark);
    return status;
}
