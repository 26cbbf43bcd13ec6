/* Growing lists of ids and of bytes, and the repair of UTF-8. */
#include "text/tokenizer.h"

#include <string.h>

lp_status lp__token_list_reserve(lp_ctx* ctx, lp_token_list* list, int64_t n) {
    int64_t need;
    if (!lp__add_ok(list->count, n, &need) || need > INT64_MAX / 8) {
        return lp_fail(ctx, LP_NOMEM, "a list of tokens does not fit in memory");
    }
    if (need <= list->capacity) return LP_OK;
    int64_t capacity = LP__MAX(LP__MAX(need, 2 * list->capacity), 64);
    int32_t* grown = lp__realloc(ctx, list->ids, (size_t)capacity * sizeof *grown);
    if (!grown) return LP_NOMEM;
    list->ids = grown;
    list->capacity = capacity;
    return LP_OK;
}

lp_status lp_token_list_add(lp_ctx* ctx, lp_token_list* list, const int32_t* ids, int64_t n) {
    if (!LP__REQUIRE(ctx, list && n >= 0 && (ids || n == 0), "a list and n ids are needed")) {
        return LP_INVALID;
    }
    lp_status status = lp__token_list_reserve(ctx, list, n);
    if (status != LP_OK) return status;
    if (n > 0) memcpy(list->ids + list->count, ids, (size_t)n * sizeof *ids);
    list->count += n;
    return LP_OK;
}

void lp_token_list_free(lp_ctx* ctx, lp_token_list* list) {
    if (list->ids) lp__free(ctx, list->ids);
    *list = (lp_token_list){0};
}

lp_status lp_text_add(lp_ctx* ctx, lp_text* text, const void* data, size_t bytes) {
    if (!LP__REQUIRE(ctx, text && (data || bytes == 0), "a text and its bytes are needed"))
        return LP_INVALID;
    size_t need;
    if (!lp__add_ok(text->bytes, bytes, &need) || need > SIZE_MAX / 4) {
        return lp_fail(ctx, LP_NOMEM, "a text of %zu and %zu more bytes does not fit in memory",
                       text->bytes, bytes);
    }
    if (need + 1 > text->capacity) {
        size_t capacity = LP__MAX(LP__MAX(need + 1, 2 * text->capacity), 64);
        char* grown = lp__realloc(ctx, text->data, capacity);
        if (!grown) return LP_NOMEM;
        text->data = grown;
        text->capacity = capacity;
    }
    if (bytes > 0) memcpy(text->data + text->bytes, data, bytes);
    text->bytes = need;
    text->data[need] = '\0';
    return LP_OK;
}

void lp_text_free(lp_ctx* ctx, lp_text* text) {
    if (text->data) lp__free(ctx, text->data);
    *text = (lp_text){0};
}

/* Length of the maximal subpart at an ill-formed place: the longest start of some valid sequence,
 * at least 1. */
static size_t ill_formed_length(const uint8_t* s, size_t bytes) {
    size_t length = s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : s[0] >= 0xe0 && s[0] <= 0xef ? 3 : 4;
    if (s[0] < 0xc2 || s[0] > 0xf4) return 1;
    /* The second byte's range keeps overlong forms, surrogates and values past U+10FFFF out. */
    uint8_t low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    uint8_t high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    size_t n = 1;
    while (n < length && n < bytes && s[n] >= low && s[n] <= high) {
        low = 0x80;
        high = 0xbf;
        n++;
    }
    return n;
}

lp_status lp_text_add_lossy(lp_ctx* ctx, lp_text* text, const void* data, size_t bytes) {
    const char* at = data;
    size_t before = text->bytes;
    lp_status status = LP_OK;
    while (bytes > 0 && status == LP_OK) {
        int64_t error = lp__utf8_error(at, bytes);
        size_t good = error < 0 ? bytes : (size_t)error;
        status = lp_text_add(ctx, text, at, good);
        at += good;
        bytes -= good;
        if (bytes == 0 || status != LP_OK) break;
        size_t bad = ill_formed_length((const uint8_t*)at, bytes);
        status = lp_text_add(ctx, text, "\xef\xbf\xbd", 3);
        at += bad;
        bytes -= bad;
    }
    if (status != LP_OK) text->bytes = before;
    return status;
}
