#include "text/json.h"

#include <string.h>

lp_status lp__json_open(lp_ctx* ctx, lp__json* j, lp__string data) {
    *j = (lp__json){.ctx = ctx, .data = data.data, .bytes = data.bytes};
    const int64_t bad = lp__utf8_error(data.data, data.bytes);
    if (bad >= 0) {
        j->at = (size_t)bad;
        return lp__json_fail(j, LP_FORMAT, "invalid UTF-8");
    }
    return LP_OK;
}

void lp__json_close(lp__json* j) {
    lp__free(j->ctx, j->room);
    j->room = NULL;
}

lp_status lp__json_fail(lp__json* j, lp_status status, const char* what) {
    if (j->status == LP_OK) {
        j->status = lp_fail(j->ctx, status, "byte %zu%s: %s", j->at,
                            j->at >= j->bytes ? ", the end" : "", what);
    }
    return j->status;
}

static bool is_blank(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* The character at the place of reading; 0 at the end. */
static char here(const lp__json* j) { return j->at < j->bytes ? j->data[j->at] : '\0'; }

static void skip_blanks(lp__json* j) {
    while (j->at < j->bytes && is_blank(j->data[j->at])) j->at++;
}

static bool word(lp__json* j, const char* text) {
    const size_t n = strlen(text);
    if (j->bytes - j->at < n || memcmp(j->data + j->at, text, n) != 0) return false;
    j->at += n;
    return true;
}

lp__json_kind lp__json_peek(lp__json* j) {
    if (j->status != LP_OK) return LP__JSON_NONE;
    skip_blanks(j);
    const char c = here(j);
    if (c == '{') return LP__JSON_OBJECT;
    if (c == '[') return LP__JSON_ARRAY;
    if (c == '"') return LP__JSON_STRING;
    if (c == '-' || is_digit(c)) return LP__JSON_NUMBER;
    if (c == 't' || c == 'f') return LP__JSON_BOOL;
    if (c == 'n') return LP__JSON_NULL;
    (void)lp__json_fail(j, LP_FORMAT, "a JSON value is missing");
    return LP__JSON_NONE;
}

static bool expect(lp__json* j, lp__json_kind kind) {
    static const char* const wanted[] = {"",
                                         "null is needed", /* LP__JSON_NULL */
                                         "true or false is needed",
                                         "a number is needed",
                                         "a string is needed",
                                         "an array is needed",
                                         "an object is needed"};
    const lp__json_kind found = lp__json_peek(j);
    if (found == kind) return true;
    if (found != LP__JSON_NONE) (void)lp__json_fail(j, LP_FORMAT, wanted[kind]);
    return false;
}

/* ---- containers ------------------------------------------------------------------------------ */

void lp__json_begin(lp__json* j, lp__json_kind container) {
    if (!expect(j, container)) return;
    if (j->depth == LP__JSON_DEPTH_LIMIT) {
        (void)lp__json_fail(j, LP_FORMAT, "more than 128 brackets are open");
        return;
    }
    j->depth++;
    j->at++;
    j->first = true;
}

/* Steps over the comma before all elements but the first; false at the end. */
static bool more(lp__json* j, char close) {
    if (j->status != LP_OK) return false;
    skip_blanks(j);
    const bool first = j->first;
    j->first = false;
    if (here(j) == close) {
        j->at++;
        j->depth--;
        return false;
    }
    if (first) return true;
    if (here(j) != ',') {
        (void)lp__json_fail(
            j, LP_FORMAT, close == '}' ? "\",\" or \"}\" is missing" : "\",\" or \"]\" is missing");
        return false;
    }
    j->at++;
    return true;
}

bool lp__json_element(lp__json* j) { return more(j, ']'); }

bool lp__json_member(lp__json* j, lp__string* key) {
    if (!more(j, '}')) return false;
    if (lp__json_string(j, key) != LP_OK) return false;
    if (key->bytes > LP__JSON_KEY_LIMIT) {
        (void)lp__json_fail(j, LP_FORMAT, "a key of over 64 KiB");
        return false;
    }
    skip_blanks(j);
    if (here(j) != ':') {
        (void)lp__json_fail(j, LP_FORMAT, "\":\" is missing");
        return false;
    }
    j->at++;
    return true;
}

lp_status lp__json_finish(lp__json* j) {
    if (j->status != LP_OK) return j->status;
    skip_blanks(j);
    return j->at == j->bytes ? LP_OK
                             : lp__json_fail(j, LP_FORMAT, "something follows the JSON value");
}

int lp__json_key(lp__json* j, lp__string key, const char* const* keys, int n, uint32_t* seen) {
    for (int i = 0; i < n; i++) {
        if (!lp__string_equal(key, lp__string_of(keys[i]))) continue;
        if (*seen & 1u << i) (void)lp__json_fail(j, LP_FORMAT, "a key for the second time");
        *seen |= 1u << i;
        return i;
    }
    return -1;
}

/* ---- strings --------------------------------------------------------------------------------- */

static int hex_digit(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Four digits behind \u, or -1. */
static int32_t hex4(lp__json* j) {
    int32_t code = 0;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(here(j));
        if (digit < 0) return -1;
        code = code << 4 | digit;
        j->at++;
    }
    return code;
}

static size_t put_utf8(uint32_t c, char* out) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80u | (c & 0x3fu));
    out[0] = (char)((n == 2 ? 0xc0u : n == 3 ? 0xe0u : 0xf0u) | c);
    return n;
}

/* Behind a backslash; writes the character, which is never longer than its spelling. */
static size_t escape(lp__json* j, char* out) {
    const char c = here(j);
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    const char* simple = c ? strchr(from, c) : NULL;
    if (simple) {
        j->at++;
        out[0] = to[simple - from];
        return 1;
    }
    if (c != 'u') {
        (void)lp__json_fail(j, LP_FORMAT, "an unknown escape in a string");
        return 0;
    }
    j->at++;
    int32_t code = hex4(j);
    if (code >= 0xd800 && code <= 0xdbff) {
        const int32_t low = word(j, "\\u") ? hex4(j) : -1;
        code = low >= 0xdc00 && low <= 0xdfff ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00)
                                              : -1;
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        code = -1;
    }
    if (code < 0) {
        (void)lp__json_fail(j, LP_FORMAT, "an escape that is no character");
        return 0;
    }
    return put_utf8((uint32_t)code, out);
}

/* From the opening quote. out == NULL: only the grammar is checked. */
static lp_status read_string(lp__json* j, lp__string* out) {
    const size_t start = ++j->at;
    while (j->at < j->bytes && j->data[j->at] != '"' && j->data[j->at] != '\\' &&
           (uint8_t)j->data[j->at] >= 0x20)
        j->at++;
    lp__string text = {j->data + start, j->at - start};
    if (here(j) == '\\' && out) {
        if (!j->room) j->room = lp__alloc(j->ctx, j->bytes);
        if (!j->room) return j->status = LP_NOMEM;
        memcpy(j->room + j->room_used, text.data, text.bytes);
        text.data = j->room + j->room_used;
    }
    char dropped[4];
    while (j->status == LP_OK && here(j) != '"') {
        if ((uint8_t)here(j) < 0x20) {
            return lp__json_fail(j, LP_FORMAT,
                                 j->at < j->bytes ? "a control character in a string"
                                                  : "a string is not closed");
        }
        char* to = out ? j->room + j->room_used + text.bytes : dropped;
        if (here(j) == '\\') {
            j->at++;
            text.bytes += escape(j, to);
        } else {
            *to = j->data[j->at++];
            text.bytes++;
        }
    }
    if (j->status != LP_OK) return j->status;
    j->at++;
    if (text.bytes > LP__JSON_STRING_LIMIT)
        return lp__json_fail(j, LP_FORMAT, "a string of over 16 MiB");
    if (out && j->room && text.data == j->room + j->room_used) j->room_used += text.bytes;
    if (out) *out = text;
    return LP_OK;
}

lp_status lp__json_string(lp__json* j, lp__string* out) {
    *out = (lp__string){"", 0};
    return expect(j, LP__JSON_STRING) ? read_string(j, out) : j->status;
}

/* ---- numbers and words ----------------------------------------------------------------------- */

static bool digits(lp__json* j) {
    const size_t start = j->at;
    while (is_digit(here(j))) j->at++;
    return j->at > start;
}

/* Steps over a number; *whole: it has neither fraction nor exponent. */
static lp_status number(lp__json* j, bool* whole) {
    bool good = true;
    if (here(j) == '-') j->at++;
    if (here(j) == '0') {
        j->at++;
    } else {
        good = digits(j);
    }
    *whole = here(j) != '.' && here(j) != 'e' && here(j) != 'E';
    if (good && here(j) == '.') {
        j->at++;
        good = digits(j);
    }
    if (good && (here(j) == 'e' || here(j) == 'E')) {
        j->at++;
        if (here(j) == '+' || here(j) == '-') j->at++;
        good = digits(j);
    }
    return good ? LP_OK : lp__json_fail(j, LP_FORMAT, "a malformed number");
}

lp_status lp__json_int(lp__json* j, int64_t* out) {
    *out = 0;
    if (!expect(j, LP__JSON_NUMBER)) return j->status;
    const size_t start = j->at;
    bool whole;
    if (number(j, &whole) != LP_OK) return j->status;
    if (!whole) return lp__json_fail(j, LP_FORMAT, "a number that is no integer");
    const bool negative = j->data[start] == '-';
    int64_t value = 0;
    for (size_t i = start + negative; i < j->at; i++) {
        const int64_t digit = j->data[i] - '0';
        if (!lp__mul_ok(value, (int64_t)10, &value) ||
            !lp__add_ok(value, negative ? -digit : digit, &value))
            return lp__json_fail(j, LP_FORMAT, "an integer beyond 64 bits");
    }
    *out = value;
    return LP_OK;
}

lp_status lp__json_bool(lp__json* j, bool* out) {
    *out = false;
    if (!expect(j, LP__JSON_BOOL)) return j->status;
    *out = here(j) == 't';
    return word(j, *out ? "true" : "false") ? LP_OK
                                            : lp__json_fail(j, LP_FORMAT, "an unknown word");
}

/* Recursion no deeper than the limit of lp__json_begin. */
lp_status lp__json_skip(lp__json* j) {
    lp__string key;
    bool flag;
    switch (lp__json_peek(j)) {
    case LP__JSON_NONE: break;
    case LP__JSON_NULL:
        return word(j, "null") ? LP_OK : lp__json_fail(j, LP_FORMAT, "an unknown word");
    case LP__JSON_BOOL: return lp__json_bool(j, &flag);
    case LP__JSON_NUMBER: return number(j, &flag);
    case LP__JSON_STRING: return read_string(j, NULL);
    case LP__JSON_ARRAY:
        lp__json_begin(j, LP__JSON_ARRAY);
        while (lp__json_element(j)) (void)lp__json_skip(j);
        break;
    case LP__JSON_OBJECT:
        lp__json_begin(j, LP__JSON_OBJECT);
        while (lp__json_member(j, &key)) (void)lp__json_skip(j);
        break;
    }
    return j->status;
}
