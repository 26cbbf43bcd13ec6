/* Byte-pair encoding of one piece of text. */
#ifndef LP__TEXT_BPE_H
#define LP__TEXT_BPE_H

#include "text/names.h"

typedef struct lp__pair {
    int32_t left, right; /* left < 0: an empty slot */
    uint32_t rank;
} lp__pair;

/* The merges: (left, right) has a rank, the lower the earlier, and a rank has the id it makes. */
typedef struct lp__bpe {
    lp__pair* pairs; /* open addressing, [mask + 1] */
    uint32_t mask;
    int32_t* merged;       /* [merge_count], by rank */
    int32_t byte_ids[256]; /* the id of a byte alone; -1: not in the vocabulary */
} lp__bpe;

/* merges: "left right", in the order of their ranks; spellings to ids by names. Of a pair that is
 * listed twice the later rank counts, as in Hugging Face's loader. */
lp_status lp__bpe_init(lp_ctx* ctx, lp__bpe* bpe, const lp__names* names, const lp__string* merges,
                       int64_t merge_count);
void lp__bpe_free(lp_ctx* ctx, lp__bpe* bpe);

/* Encodes n bytes (n <= 2^31 - 1) into ids, which has room for n; *count is how many. Work memory
 * comes from the context's scratch; LP_NOMEM is the only failure. */
lp_status lp__bpe_encode(lp_ctx* ctx, const lp__bpe* bpe, const char* bytes, int32_t n,
                         int32_t* ids, int32_t* count);

#endif
