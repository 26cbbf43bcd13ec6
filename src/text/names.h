/* A dictionary from byte strings to numbers, and views of strings. */
#ifndef LP__TEXT_NAMES_H
#define LP__TEXT_NAMES_H

#include "base/base.h"

/* A view of bytes that somebody else owns. */
typedef struct lp__string {
    const char* data;
    size_t bytes;
} lp__string;

static inline lp__string lp__string_of(const char* text) {
    lp__string string = {text, __builtin_strlen(text)};
    return string;
}

bool lp__string_equal(lp__string a, lp__string b);

typedef struct lp__name {
    lp__string key; /* data == NULL: an empty slot */
    int64_t value;
} lp__name;

/* Open addressing, at most half full. Keys are borrowed. */
typedef struct lp__names {
    lp_ctx* ctx;
    lp__name* slots; /* [mask + 1] */
    size_t mask;
    size_t count, limit;
} lp__names;

/* For up to limit keys. */
lp_status lp__names_init(lp_ctx* ctx, lp__names* names, size_t limit);
void lp__names_free(lp__names* names);
/* False, and no change, if the key is there already. */
bool lp__names_add(lp__names* names, lp__string key, int64_t value);
/* The value of a key, or -1. */
int64_t lp__names_find(const lp__names* names, lp__string key);

#endif
