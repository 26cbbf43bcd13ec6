/* The key-value cache: [slot][layer][capacity, width] for keys, the same for values. */
#include "tensor/tape.h"

struct lp_kv {
    lp_ctx* ctx;
    int64_t layers, width, capacity;
    int32_t slots;
    int64_t* length; /* [slots] */
    int64_t* named;  /* [slots]: the last question of lp__kv_slots_ok that named the slot */
    int64_t questions;
    float *keys, *values;
    size_t slot_room, float_room; /* what length and named, and keys and values, have room for */
};

lp_status lp__kv_reshape(lp_kv* kv, int32_t slots, int64_t capacity) {
    lp_ctx* ctx = kv->ctx;
    size_t floats;
    kv->slots = 0; /* none, should memory run out */
    if (!lp__mul_ok((size_t)kv->layers, (size_t)kv->width, &floats) ||
        !lp__mul_ok(floats, (size_t)slots, &floats) ||
        !lp__mul_ok(floats, (size_t)capacity, &floats) || floats > SIZE_MAX / (4 * sizeof(float)))
        return lp_fail(ctx, LP_NOMEM,
                       "a key-value cache of %d sequences of %lld tokens is too large", (int)slots,
                       (long long)capacity);
    if ((size_t)slots > kv->slot_room) {
        const size_t n = lp__grown((size_t)slots, kv->slot_room);
        lp__free(ctx, kv->length);
        kv->length = lp__calloc(ctx, 2 * n, sizeof *kv->length);
        kv->slot_room = kv->length ? n : 0;
        if (!kv->length) return LP_NOMEM;
        kv->named = kv->length + n;
    }
    if (floats > kv->float_room) {
        const size_t n = lp__grown(floats, kv->float_room);
        lp__free(ctx, kv->keys);
        kv->keys = lp__alloc(ctx, 2 * n * sizeof(float));
        kv->float_room = kv->keys ? n : 0;
        if (!kv->keys) return LP_NOMEM;
        kv->values = kv->keys + n;
    }
    kv->slots = slots;
    kv->capacity = capacity;
    for (int32_t i = 0; i < slots; i++) kv->length[i] = 0;
    return LP_OK;
}

lp_status lp_kv_create(lp_ctx* ctx, int64_t layers, int64_t width, int32_t slots, int64_t capacity,
                       lp_kv** out) {
    *out = NULL;
    if (!LP__REQUIRE(ctx, layers > 0 && width > 0 && slots > 0 && capacity > 0,
                     "a cache has no empty side"))
        return LP_INVALID;
    lp_kv* kv = lp__calloc(ctx, 1, sizeof *kv);
    if (!kv) return LP_NOMEM;
    *kv = (lp_kv){.ctx = ctx, .layers = layers, .width = width};
    lp_status status = lp__kv_reshape(kv, slots, capacity);
    if (status != LP_OK) {
        lp_kv_destroy(kv);
        return status;
    }
    *out = kv;
    return LP_OK;
}

void lp_kv_destroy(lp_kv* kv) {
    if (!kv) return;
    lp__free(kv->ctx, kv->length);
    lp__free(kv->ctx, kv->keys);
    lp__free(kv->ctx, kv);
}

static bool is_slot(const lp_kv* kv, int32_t slot) { return slot >= 0 && slot < kv->slots; }

int64_t lp_kv_length(const lp_kv* kv, int32_t slot) {
    return LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot") ? kv->length[slot]
                                                                                 : 0;
}

void lp_kv_clear(lp_kv* kv, int32_t slot) {
    if (LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot")) kv->length[slot] = 0;
}

void lp_kv_advance(lp_kv* kv, int32_t slot, int64_t rows) {
    if (LP__REQUIRE(kv->ctx, is_slot(kv, slot), "the cache has no such slot") &&
        LP__REQUIRE(kv->ctx, rows >= 0 && rows <= kv->capacity - kv->length[slot],
                    "the slot has no room for the rows"))
        kv->length[slot] += rows;
}

void lp_kv_fork(lp_kv* kv, int32_t from, int32_t to) {
    if (!LP__REQUIRE(kv->ctx, is_slot(kv, from) && is_slot(kv, to) && from != to,
                     "a copy needs two slots that differ"))
        return;
    const size_t bytes = (size_t)(kv->length[from] * kv->width) * sizeof(float);
    for (int64_t layer = 0; layer < kv->layers; layer++) {
        memcpy(lp__kv_keys(kv, layer, to), lp__kv_keys(kv, layer, from), bytes);
        memcpy(lp__kv_values(kv, layer, to), lp__kv_values(kv, layer, from), bytes);
    }
    kv->length[to] = kv->length[from];
}

static size_t offset(const lp_kv* kv, int64_t layer, int32_t slot) {
    return (size_t)(((int64_t)slot * kv->layers + layer) * kv->capacity * kv->width);
}

float* lp__kv_keys(lp_kv* kv, int64_t layer, int32_t slot) {
    return kv->keys + offset(kv, layer, slot);
}
float* lp__kv_values(lp_kv* kv, int64_t layer, int32_t slot) {
    return kv->values + offset(kv, layer, slot);
}

bool lp__kv_slots_ok(lp_kv* kv, int64_t n, const int32_t* slot) {
    const int64_t question = ++kv->questions;
    if (!slot) return false;
    for (int64_t i = 0; i < n; i++) {
        if (!is_slot(kv, slot[i]) || kv->named[slot[i]] == question) return false;
        kv->named[slot[i]] = question;
    }
    return true;
}

bool lp__kv_fits(const lp_kv* kv, int64_t layer, int32_t slot, int64_t rows, int64_t width) {
    return layer >= 0 && layer < kv->layers && width == kv->width &&
           rows <= kv->capacity - kv->length[slot];
}
