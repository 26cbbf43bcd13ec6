#include "text/whole.h"

#include <string.h>

/* ---- order ----------------------------------------------------------------------------------- */

static int compare_bytes(lp__string a, lp__string b) {
    size_t n = LP__MIN(a.bytes, b.bytes);
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;
    return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

/* Heap sort: no recursion and no memory, whatever the order of the file. */
static void sift(const lp__string* spellings, int32_t* ids, int32_t root, int32_t n) {
    for (int32_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && compare_bytes(spellings[ids[child + 1]], spellings[ids[child]]) > 0)
            child++;
        if (compare_bytes(spellings[ids[root]], spellings[ids[child]]) >= 0) return;
        int32_t swap = ids[root];
        ids[root] = ids[child];
        ids[child] = swap;
    }
}

void lp__whole_sort(lp__whole* whole, const lp__string* spellings) {
    int32_t *ids = whole->ids, n = whole->count;
    for (int32_t root = n / 2 - 1; root >= 0; root--) sift(spellings, ids, root, n);
    for (int32_t end = n - 1; end > 0; end--) {
        int32_t swap = ids[0];
        ids[0] = ids[end];
        ids[end] = swap;
        sift(spellings, ids, 0, end);
    }
    for (int32_t i = 0; i < n; i++) whole->start[(uint8_t)spellings[ids[i]].data[0]] = true;
}

/* ---- search ---------------------------------------------------------------------------------- */

/* Of the tokens [low, high), whose first depth bytes agree, the first whose next byte is at least
 * least; one that ends there comes before all others. */
static int32_t bound(const lp__whole* whole, const lp__string* spellings, int32_t low, int32_t high,
                     size_t depth, int least) {
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        lp__string token = spellings[whole->ids[middle]];
        int next = depth < token.bytes ? (uint8_t)token.data[depth] : -1;
        if (next < least) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Narrows the sorted list by one byte at a time, so the cost does not grow with the number of
 * tokens that share a start; one token alone is compared at once. */
int32_t lp__whole_at(const lp__whole* whole, const lp__string* spellings, const char* text,
                     size_t bytes, size_t* length) {
    int32_t low = 0, high = whole->count, best = -1;
    for (size_t depth = 0; depth < bytes; depth++) {
        const int c = (uint8_t)text[depth];
        low = bound(whole, spellings, low, high, depth, c);
        high = bound(whole, spellings, low, high, depth, c + 1);
        if (low >= high) break;
        const int32_t id = whole->ids[low];
        const lp__string token = spellings[id];
        const bool alone = high - low == 1;
        if (alone && (token.bytes > bytes || memcmp(token.data, text, token.bytes) != 0)) break;
        if (alone || token.bytes == depth + 1) {
            best = id;
            *length = token.bytes;
        }
        if (alone) break;
    }
    return best;
}

/* ---- white space ----------------------------------------------------------------------------- */

/* Bytes of the white space that text starts with, 0 if none: U+0009 to U+000D, U+0020, U+0085,
 * U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000. */
static size_t space_length(const char* text, size_t bytes) {
    const uint8_t* s = (const uint8_t*)text;
    if (bytes >= 1 && (s[0] == ' ' || (s[0] >= '\t' && s[0] <= '\r'))) return 1;
    if (bytes >= 2 && s[0] == 0xc2 && (s[1] == 0x85 || s[1] == 0xa0)) return 2;
    if (bytes < 3 || s[0] < 0xe1 || s[0] > 0xe3) return 0;
    const uint32_t c = (s[0] & 0xfu) << 12 | (uint32_t)(s[1] & 0x3f) << 6 | (uint32_t)(s[2] & 0x3f);
    const bool space = c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
                       c == 0x202f || c == 0x205f || c == 0x3000;
    return space ? 3 : 0;
}

size_t lp__space_after(const char* text, size_t bytes) {
    size_t n = 0;
    for (size_t length; (length = space_length(text + n, bytes - n)) > 0;) n += length;
    return n;
}

size_t lp__space_before(const char* text, size_t bytes) {
    size_t left = bytes;
    while (left > 0) {
        size_t start = left - 1;
        while (start > 0 && left - start < 4 && ((uint8_t)text[start] & 0xc0) == 0x80) start--;
        if (space_length(text + start, left - start) != left - start) break;
        left = start;
    }
    return bytes - left;
}
