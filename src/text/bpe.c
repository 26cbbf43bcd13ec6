#include "text/bpe.h"

#include "text/byte_alphabet.h"
#include <logpi/text.h>
#include <string.h>

#define NO_RANK UINT32_MAX

/* ---- merges ---------------------------------------------------------------------------------- */

static uint32_t pair_hash(int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)((h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u >> 32);
}

static lp__pair* pair_slot(const lp__bpe* bpe, int32_t left, int32_t right) {
    uint32_t i = pair_hash(left, right) & bpe->mask;
    for (;; i = (i + 1) & bpe->mask) {
        lp__pair* pair = &bpe->pairs[i];
        if (pair->left < 0 || (pair->left == left && pair->right == right)) return pair;
    }
}

static uint32_t pair_rank(const lp__bpe* bpe, int32_t left, int32_t right) {
    const lp__pair* pair = pair_slot(bpe, left, right);
    return pair->left < 0 ? NO_RANK : pair->rank;
}

static lp_status merge_add(lp_ctx* ctx, lp__bpe* bpe, const lp__names* names, lp__string left,
                           lp__string right, int64_t rank, lp_text* joined) {
    joined->bytes = 0;
    if (lp_text_add(ctx, joined, left.data, left.bytes)) return LP_NOMEM;
    if (lp_text_add(ctx, joined, right.data, right.bytes)) return LP_NOMEM;
    int64_t left_id = lp__names_find(names, left), right_id = lp__names_find(names, right);
    int64_t id = lp__names_find(names, (lp__string){joined->data, joined->bytes});
    if (left_id < 0 || right_id < 0 || id < 0) {
        return lp_fail(ctx, LP_FORMAT,
                       "merge %lld of the tokenizer, \"%.*s %.*s\": %s is not in the vocabulary",
                       (long long)rank, (int)LP__MIN(left.bytes, (size_t)80), left.data,
                       (int)LP__MIN(right.bytes, (size_t)80), right.data,
                       left_id < 0 || right_id < 0 ? "one of the two" : "what it makes");
    }
    lp__pair* pair = pair_slot(bpe, (int32_t)left_id, (int32_t)right_id);
    *pair = (lp__pair){(int32_t)left_id, (int32_t)right_id, (uint32_t)rank};
    bpe->merges[rank] = (lp__merge){(int32_t)left_id, (int32_t)right_id, (int32_t)id};
    return LP_OK;
}

static lp_status merge_add_line(lp_ctx* ctx, lp__bpe* bpe, const lp__names* names, lp__string merge,
                                int64_t rank, lp_text* joined) {
    const char* space = memchr(merge.data, ' ', merge.bytes);
    if (!space) {
        return lp_fail(ctx, LP_FORMAT,
                       "merge %lld of the tokenizer is not two tokens with a space between",
                       (long long)rank);
    }
    lp__string left = {merge.data, (size_t)(space - merge.data)};
    lp__string right = {space + 1, merge.bytes - left.bytes - 1};
    return merge_add(ctx, bpe, names, left, right, rank, joined);
}

lp_status lp__bpe_init(lp_ctx* ctx, lp__bpe* bpe, const lp__names* names, const lp__string* merges,
                       const lp__string* pairs, int64_t merge_count, int32_t unknown) {
    *bpe = (lp__bpe){.merge_count = merge_count};
    for (int b = 0; b < 256; b++) {
        char spelling[2];
        int n = lp__byte_spelling((uint8_t)b, spelling);
        bpe->byte_ids[b] = (int32_t)lp__names_find(names, (lp__string){spelling, (size_t)n});
        if (bpe->byte_ids[b] < 0) bpe->byte_ids[b] = unknown;
    }
    size_t slots = 16;
    while (slots < (size_t)merge_count * 2) slots *= 2;
    bpe->mask = (uint32_t)(slots - 1);
    bpe->pairs = lp__calloc(ctx, slots, sizeof *bpe->pairs);
    bpe->merges = lp__calloc(ctx, (size_t)merge_count, sizeof *bpe->merges);
    if (!bpe->pairs || !bpe->merges) return LP_NOMEM;
    for (size_t i = 0; i < slots; i++) bpe->pairs[i].left = -1;
    lp_text joined = {0};
    lp_status status = LP_OK;
    for (int64_t rank = 0; rank < merge_count && status == LP_OK; rank++) {
        status =
            pairs ? merge_add(ctx, bpe, names, pairs[2 * rank], pairs[2 * rank + 1], rank, &joined)
                  : merge_add_line(ctx, bpe, names, merges[rank], rank, &joined);
    }
    lp_text_free(ctx, &joined);
    return status;
}

bool lp__bpe_counts(const lp__bpe* bpe, int64_t rank) {
    return pair_rank(bpe, bpe->merges[rank].left, bpe->merges[rank].right) == (uint32_t)rank;
}

void lp__bpe_free(lp_ctx* ctx, lp__bpe* bpe) {
    lp__free(ctx, bpe->pairs);
    lp__free(ctx, bpe->merges);
    bpe->pairs = NULL;
    bpe->merges = NULL;
}

/* ---- one piece ------------------------------------------------------------------------------- */

/* The piece is a doubly linked list of symbols; a merge keeps the left one and unlinks the right
 * one. rank is that of the pair (this, next). */
typedef struct symbol {
    int32_t id, previous, next; /* -1 at either end */
    uint32_t rank;
} symbol;

/* A binary heap of rank << 32 | position: the least rank first, and of equal ranks the leftmost. An
 * entry is stale, and skipped, when the pair at its position has another rank by now. */
typedef struct heap {
    uint64_t* keys;
    size_t count;
} heap;

static void heap_push(heap* h, uint64_t key) {
    size_t i = h->count++;
    while (i > 0 && h->keys[(i - 1) / 2] > key) {
        h->keys[i] = h->keys[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->keys[i] = key;
}

static uint64_t heap_pop(heap* h) {
    uint64_t top = h->keys[0], key = h->keys[--h->count];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < h->count) {
        if (child + 1 < h->count && h->keys[child + 1] < h->keys[child]) child++;
        if (h->keys[child] >= key) break;
        h->keys[i] = h->keys[child];
        i = child;
    }
    h->keys[i] = key;
    return top;
}

static void rank_pair(const lp__bpe* bpe, symbol* symbols, int32_t at, heap* h) {
    symbol* s = &symbols[at];
    s->rank = s->next < 0 ? NO_RANK : pair_rank(bpe, s->id, symbols[s->next].id);
    if (s->rank != NO_RANK) heap_push(h, (uint64_t)s->rank << 32 | (uint32_t)at);
}

lp_status lp__bpe_encode(lp_ctx* ctx, const lp__bpe* bpe, const char* bytes, int32_t n,
                         int32_t* ids, int32_t* count) {
    lp__arena* arena = lp__scratch(ctx);
    lp__mark mark = lp__arena_mark(arena);
    symbol* symbols = lp__arena_alloc(arena, (size_t)n * sizeof *symbols);
    /* One entry for each pair at the start, at most two more for each merge. */
    heap h = {lp__arena_alloc(arena, (size_t)n * 3 * sizeof *h.keys), 0};
    if (!symbols || !h.keys) {
        lp__arena_release(arena, mark);
        return LP_NOMEM;
    }
    int32_t length = 0;
    for (int32_t i = 0; i < n; i++) {
        int32_t id = bpe->byte_ids[(uint8_t)bytes[i]];
        if (id < 0) continue;
        symbols[length] = (symbol){id, length - 1, length + 1, NO_RANK};
        length++;
    }
    if (length > 0) symbols[length - 1].next = -1;
    for (int32_t i = 0; i < length; i++) rank_pair(bpe, symbols, i, &h);
    while (h.count > 0) {
        uint64_t key = heap_pop(&h);
        int32_t at = (int32_t)(uint32_t)key;
        uint32_t rank = (uint32_t)(key >> 32);
        symbol* left = &symbols[at];
        if (left->rank != rank) continue;
        symbol* right = &symbols[left->next];
        left->id = bpe->merges[rank].made;
        left->next = right->next;
        right->rank = NO_RANK;
        if (left->next >= 0) symbols[left->next].previous = at;
        rank_pair(bpe, symbols, at, &h);
        if (left->previous >= 0) rank_pair(bpe, symbols, left->previous, &h);
    }
    *count = 0;
    for (int32_t i = length > 0 ? 0 : -1; i >= 0; i = symbols[i].next)
        ids[(*count)++] = symbols[i].id;
    lp__arena_release(arena, mark);
    return LP_OK;
}
