#include "text/names.h"

#include <string.h>

bool lp__string_equal(lp__string a, lp__string b) {
    return a.bytes == b.bytes && (a.bytes == 0 || memcmp(a.data, b.data, a.bytes) == 0);
}

/* FNV-1a, with the finisher of SplitMix64 so that the low bits depend on every byte. */
static uint64_t hash(lp__string key) {
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < key.bytes; i++) h = (h ^ (uint8_t)key.data[i]) * 1099511628211u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

lp_status lp__names_init(lp_ctx* ctx, lp__names* names, size_t limit) {
    *names = (lp__names){.ctx = ctx, .limit = limit};
    size_t least, slots = 16;
    if (!lp__mul_ok(limit, 2, &least) || least > SIZE_MAX / 4) {
        return lp_fail(ctx, LP_NOMEM, "a dictionary of %zu names does not fit in memory", limit);
    }
    while (slots < least) slots *= 2;
    names->slots = lp__calloc(ctx, slots, sizeof *names->slots);
    if (!names->slots) return LP_NOMEM;
    names->mask = slots - 1;
    return LP_OK;
}

void lp__names_free(lp__names* names) {
    if (names->slots) lp__free(names->ctx, names->slots);
    *names = (lp__names){0};
}

static lp__name* slot_of(const lp__names* names, lp__string key) {
    size_t i = (size_t)hash(key) & names->mask;
    while (names->slots[i].key.data && !lp__string_equal(names->slots[i].key, key)) {
        i = (i + 1) & names->mask;
    }
    return &names->slots[i];
}

bool lp__names_add(lp__names* names, lp__string key, int64_t value) {
    if (!LP__REQUIRE(names->ctx, names->count < names->limit && key.data, "too many names")) {
        return false;
    }
    lp__name* slot = slot_of(names, key);
    if (slot->key.data) return false;
    slot->key = key;
    slot->value = value;
    names->count++;
    return true;
}

int64_t lp__names_find(const lp__names* names, lp__string key) {
    if (!names->slots || !key.data) return -1;
    const lp__name* slot = slot_of(names, key);
    return slot->key.data ? slot->value : -1;
}
