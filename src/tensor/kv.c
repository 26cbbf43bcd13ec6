/* The key-value cache, [slot][layer][panel of rows][head]: the keys of a panel [words][panel] and
 * behind them its values in steps of k [step][head_dim], as the products of attention read them
 * (attend.c). What a layer reads of a slot is one stretch of memory, however much of the slot is in
 * use: what the processor fetches ahead of it is wanted. A fork shares the whole panels of its base
 * and copies the rest. */
#include "tensor/tape.h"

typedef struct kv_slot {
    int64_t length;
    int64_t shared; /* rows at the front that are the base's */
    int32_t base;   /* -1: none */
    int32_t forks;  /* slots whose base this is */
    int64_t named;  /* the last question of lp__kv_slots_ok that named it */
} kv_slot;

struct lp_kv {
    lp_ctx* ctx;
    lp__number number;
    int64_t layers, heads, head_dim, capacity;
    int64_t panels;      /* of a slot */
    int64_t panel_words; /* of the keys, or the values, of a head in one of them */
    int64_t head_words;  /* of both, and what whole vectors read behind the last row of values: the
                            next head's keys are another thread's to write meanwhile */
    int32_t slots;
    kv_slot* slot; /* [slots] */
    int64_t questions;
    lp__word* words;
    size_t slot_room, word_room; /* what slot and words have room for */
};

enum { SLACK = 64 }; /* words behind the last that whole vectors may read */

lp_status lp__kv_reshape(lp_kv* kv, lp__number number, int32_t slots, int64_t capacity) {
    lp_ctx* ctx = kv->ctx;
    const lp__kernels* kernels = lp__ctx_kernels(ctx);
    const int64_t panel = kernels->panel;
    const int64_t beyond = (LP__PADDING - kv->head_dim % LP__PADDING) % LP__PADDING;
    size_t words, rows;
    kv->slots = 0; /* none, should memory run out */
    kv->number = number;
    const size_t hdw = (size_t)lp__words(&kernels->format[number], kv->head_dim);
    if (!lp__add_ok((size_t)capacity, (size_t)panel - 1, &rows) ||
        !lp__mul_ok(rows / (size_t)panel * (size_t)panel, hdw, &rows) || rows > INT64_MAX / 16 ||
        !lp__mul_ok(2 * rows + ((size_t)capacity / (size_t)panel + 1) * (size_t)beyond,
                    (size_t)kv->heads, &words) ||
        !lp__mul_ok(words, (size_t)kv->layers, &words) ||
        !lp__mul_ok(words, (size_t)slots, &words) || words > SIZE_MAX / 8 - SLACK)
        return lp_fail(ctx, LP_NOMEM,
                       "a key-value cache of %d sequences of %lld tokens is too large", (int)slots,
                       (long long)capacity);
    kv->panels = (capacity + panel - 1) / panel;
    kv->panel_words = panel * (int64_t)hdw;
    kv->head_words = 2 * kv->panel_words + beyond;
    if ((size_t)slots > kv->slot_room) {
        const size_t n = lp__grown((size_t)slots, kv->slot_room);
        lp__free(ctx, kv->slot);
        kv->slot = lp__calloc(ctx, n, sizeof *kv->slot);
        kv->slot_room = kv->slot ? n : 0;
        if (!kv->slot) return LP_NOMEM;
    }
    if (words > kv->word_room) {
        const size_t n = lp__grown(words, kv->word_room);
        lp__free(ctx, kv->words);
        kv->words = lp__alloc(ctx, (n + SLACK) * sizeof(lp__word));
        kv->word_room = kv->words ? n : 0;
        if (!kv->words) return LP_NOMEM;
        memset(kv->words + n, 0, SLACK * sizeof(lp__word));
    }
    kv->slots = slots;
    kv->capacity = capacity;
    for (int32_t i = 0; i < slots; i++) kv->slot[i] = (kv_slot){.base = -1};
    return LP_OK;
}

lp_status lp_kv_create(lp_ctx* ctx, lp_precision precision, int64_t layers, int64_t heads,
                       int64_t head_dim, int32_t slots, int64_t capacity, lp_kv** out) {
    *out = NULL;
    if (!LP__REQUIRE(ctx, precision == LP_FLOAT32 || precision == LP_BFLOAT16,
                     "a precision is LP_FLOAT32 or LP_BFLOAT16") ||
        !LP__REQUIRE(ctx, precision == LP_FLOAT32 || head_dim % 2 == 0,
                     "in bfloat16 heads have an even width") ||
        !LP__REQUIRE(ctx, layers > 0 && heads > 0 && head_dim > 0 && slots > 0 && capacity > 0,
                     "a cache has no empty side"))
        return LP_INVALID;
    lp_kv* kv = lp__calloc(ctx, 1, sizeof *kv);
    if (!kv) return LP_NOMEM;
    *kv = (lp_kv){.ctx = ctx, .layers = layers, .heads = heads, .head_dim = head_dim};
    lp_status status = lp__kv_reshape(kv, (lp__number)precision, slots, capacity);
    if (status != LP_OK) {
        lp_kv_destroy(kv);
        return status;
    }
    *out = kv;
    return LP_OK;
}

void lp_kv_destroy(lp_kv* kv) {
    if (!kv) return;
    lp__free(kv->ctx, kv->slot);
    lp__free(kv->ctx, kv->words);
    lp__free(kv->ctx, kv);
}

static bool is_slot(const lp_kv* kv, int32_t slot) { return slot >= 0 && slot < kv->slots; }

lp__number lp__kv_number(const lp_kv* kv) { return kv->number; }

int64_t lp_kv_length(const lp_kv* kv, int32_t slot) {
    return LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot")
               ? kv->slot[slot].length
               : 0;
}

/* Whether the rows of a slot may go: no other stands on them. */
static bool may_go(const lp_kv* kv, int32_t slot) {
    return LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot") &&
           LP__REQUIRE(kv->ctx, kv->slot[slot].forks == 0,
                       "another slot shares the rows of this one: clear that first");
}

void lp_kv_clear(lp_kv* kv, int32_t index) {
    if (!may_go(kv, index)) return;
    kv_slot* s = &kv->slot[index];
    if (s->base >= 0) kv->slot[s->base].forks--;
    s->base = -1;
    s->length = s->shared = 0;
}

void lp_kv_advance(lp_kv* kv, int32_t slot, int64_t rows) {
    if (LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot") &&
        LP__REQUIRE(kv->ctx, rows >= 0 && rows <= kv->capacity - kv->slot[slot].length,
                    "the slot has no room for the rows"))
        kv->slot[slot].length += rows;
}

static int64_t panel_step(const lp_kv* kv) { return kv->heads * kv->head_words; }

static lp__word* keys_of(const lp_kv* kv, int64_t layer, int32_t slot, int64_t head) {
    return kv->words + ((int64_t)slot * kv->layers + layer) * kv->panels * panel_step(kv) +
           head * kv->head_words;
}

lp__kv_view lp__kv_view_of(const lp_kv* kv, int64_t layer, int32_t index, int64_t head) {
    const kv_slot* s = &kv->slot[index];
    lp__kv_view view = {.keys = keys_of(kv, layer, index, head), .shared = s->shared};
    view.key_step = view.value_step = panel_step(kv);
    view.values = view.keys + kv->panel_words;
    if (s->base >= 0) {
        view.base_keys = keys_of(kv, layer, s->base, head);
        view.base_values = view.base_keys + kv->panel_words;
    }
    return view;
}

void lp__kv_put_keys(const lp__kernels* kernels, int64_t words, lp__word* panels, int64_t step,
                     int64_t from, int64_t count, const lp__word* k, int64_t ld) {
    const int64_t panel = kernels->panel, end = from + count;
    for (int64_t row = from; row < end;) {
        lp__word* to = panels + row / panel * step;
        int64_t n = 1;
        if (row % panel == 0) {
            n = LP__MIN(panel, end - row);
            kernels->pack_transposed((int)n, words, k, ld, to);
        } else {
            for (int64_t p = 0; p < words; p++) to[p * panel + row % panel] = k[p];
        }
        row += n;
        k += n * ld;
    }
}

void lp__kv_put_values(const lp__kernels* kernels, lp__number number, int64_t head_dim,
                       lp__word* panels, int64_t step, int64_t from, int64_t count,
                       const lp__word* v, int64_t ld) {
    const lp__format* format = &kernels->format[number];
    const int64_t panel = kernels->panel, numbers = format->numbers, end = from + count;
    for (int64_t row = from; row < end;) {
        lp__word* to = panels + row / panel * step + row % panel / numbers * head_dim;
        int64_t n = 1;
        if (row % numbers == 0) {
            n = LP__MIN(numbers, end - row);
            format->interleave((int)head_dim, head_dim, v, n > 1 ? v + ld : NULL, to, head_dim);
        } else { /* the second of a pair: the upper half */
            uint32_t* pair = (uint32_t*)to;
            const uint16_t* half = (const uint16_t*)v;
            for (int64_t l = 0; l < head_dim; l++)
                pair[l] = (pair[l] & 0xffff) | (uint32_t)half[l] << 16;
        }
        row += n;
        v += n * ld;
    }
}

void lp_kv_fork(lp_kv* kv, int32_t from, int32_t to) {
    if (!LP__REQUIRE(kv->ctx, is_slot(kv, from) && is_slot(kv, to) && from != to,
                     "a copy needs two slots that differ") ||
        !may_go(kv, to))
        return;
    lp_kv_clear(kv, to);
    const lp__kernels* kernels = lp__ctx_kernels(kv->ctx);
    const int64_t panel = kernels->panel;
    kv_slot *source = &kv->slot[from], *target = &kv->slot[to];
    /* A fork of a fork stands on the same base; what lies behind is copied. */
    const int64_t whole = source->length / panel * panel;
    target->base = source->base < 0 ? from : source->base;
    target->shared = source->base < 0 ? whole : source->shared;
    if (target->shared == 0) target->base = -1;
    if (target->base >= 0) kv->slot[target->base].forks++;
    target->length = source->length;
    const int64_t step = panel_step(kv), first = target->shared / panel * step;
    const int64_t count = (source->length + panel - 1) / panel * step - first;
    for (int64_t layer = 0; layer < kv->layers; layer++)
        memcpy(keys_of(kv, layer, to, 0) + first, keys_of(kv, layer, from, 0) + first,
               (size_t)count * sizeof(lp__word));
}

bool lp__kv_slots_ok(lp_kv* kv, int64_t n, const int32_t* slot) {
    const int64_t question = ++kv->questions;
    if (!slot) return false;
    for (int64_t i = 0; i < n; i++) {
        if (!is_slot(kv, slot[i]) || kv->slot[slot[i]].named == question) return false;
        kv->slot[slot[i]].named = question;
    }
    return true;
}

bool lp__kv_fits(const lp_kv* kv, int64_t layer, int32_t slot, int64_t rows, int64_t heads,
                 int64_t head_dim) {
    return layer >= 0 && layer < kv->layers && heads == kv->heads && head_dim == kv->head_dim &&
           rows <= kv->capacity - kv->slot[slot].length;
}
