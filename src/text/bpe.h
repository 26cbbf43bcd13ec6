/* Byte-pair encoding of one piece of text. */
#ifndef LP__TEXT_BPE_H
#define LP__TEXT_BPE_H

#include "text/names.h"

typedef struct lp__pair {
    int32_t left, right; /* left < 0: an empty slot */
    uint32_t rank;
} lp__pair;

/* What a rank joins, and what it makes. */
typedef struct lp__merge {
    int32_t left, right, made;
} lp__merge;

/* The merges: (left, right) has a rank, the lower the earlier. */
typedef struct lp__bpe {
    lp__pair* pairs; /* open addressing, [mask + 1] */
    uint32_t mask;
    lp__merge* merges; /* [merge_count], by rank */
    int64_t merge_count;
    int32_t byte_ids[256]; /* the id of a byte alone; -1: not in the vocabulary */
} lp__bpe;

/* In the order of their ranks: merges, "left right"; or, where they are not NULL, pairs, left and
 * right by turns. Spellings to ids by names. Of a pair that is listed twice the later rank counts,
 * as in Hugging Face's loader. A byte that the vocabulary does not have is unknown, if that is not
 * -1. */
lp_status lp__bpe_init(lp_ctx* ctx, lp__bpe* bpe, const lp__names* names, const lp__string* merges,
                       const lp__string* pairs, int64_t merge_count, int32_t unknown);
/* Whether a rank counts: no later one has the same pair. */
bool lp__bpe_counts(const lp__bpe* bpe, int64_t rank);
void lp__bpe_free(lp_ctx* ctx, lp__bpe* bpe);

/* Encodes n bytes (n <= 2^31 - 1) into ids, which has room for n; *count is how many. Work memory
 * comes from the context's scratch; LP_NOMEM is the only failure. */
lp_status lp__bpe_encode(lp_ctx* ctx, const lp__bpe* bpe, const char* bytes, int32_t n,
                         int32_t* ids, int32_t* count);

#endif
