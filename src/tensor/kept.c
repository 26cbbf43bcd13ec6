/* Kept sets: the tokens of a set by rising id, or, as -1 - id, those that are left out of it. The
 * second way is for sets of nearly all tokens, which would take four bytes for each of the
 * vocabulary. */
#include "tensor/tape.h"

/* The token that an entry is about. */
static int32_t token_of(int32_t entry) { return entry < 0 ? -1 - entry : entry; }

bool lp__kept_ok(int64_t n, const int32_t* kept, int64_t vocab, int32_t target) {
    if (n == 0) return true;
    const bool listed = kept[0] >= 0;
    bool found = false;
    for (int64_t i = 0; i < n; i++) {
        const int32_t token = token_of(kept[i]);
        if ((kept[i] >= 0) != listed || token >= vocab) return false;
        if (i > 0 && token <= token_of(kept[i - 1])) return false;
        found |= token == target;
    }
    return found == listed;
}

/* The tokens between two that are left out are one piece. */
int64_t lp__kept_gather(int64_t n, const int32_t* kept, int64_t vocab, const float* z, float* x) {
    if (kept[0] >= 0) {
        for (int64_t i = 0; i < n; i++) x[i] = z[kept[i]];
        return n;
    }
    for (int64_t i = 0, from = 0; i <= n; i++) {
        const int64_t to = i < n ? token_of(kept[i]) : vocab;
        memcpy(x + from - i, z + from, (size_t)(to - from) * sizeof *x);
        from = to + 1;
    }
    return vocab - n;
}

void lp__kept_scatter(int64_t n, const int32_t* kept, int64_t vocab, const float* x, float* z) {
    if (kept[0] >= 0) {
        memset(z, 0, (size_t)vocab * sizeof *z);
        for (int64_t i = 0; i < n; i++) z[kept[i]] = x[i];
        return;
    }
    for (int64_t i = 0, from = 0; i <= n; i++) {
        const int64_t to = i < n ? token_of(kept[i]) : vocab;
        memcpy(z + from, x + from - i, (size_t)(to - from) * sizeof *z);
        if (i < n) z[to] = 0;
        from = to + 1;
    }
}

int64_t lp__kept_write(int64_t n, const int32_t* ids, int64_t vocab, int32_t* kept) {
    if (n <= vocab / 2) {
        memcpy(kept, ids, (size_t)n * sizeof *kept);
        return n;
    }
    int64_t out = 0;
    for (int64_t token = 0, at = 0; token < vocab; token++) {
        if (at < n && ids[at] == token)
            at++;
        else
            kept[out++] = (int32_t)(-1 - token);
    }
    return out;
}
