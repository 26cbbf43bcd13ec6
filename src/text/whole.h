/* Tokens that are matched whole in a text, before anything is cut or merged. */
#ifndef LP__TEXT_WHOLE_H
#define LP__TEXT_WHOLE_H

#include "text/names.h"

/* Sorted by their bytes. */
typedef struct lp__whole {
    int32_t* ids; /* [count] */
    int32_t count;
    bool start[256]; /* whether some token starts with this byte */
} lp__whole;

enum { LP__WHOLE_BYTES_LIMIT = 1024 };

/* Sorts ids, of which ids[i]'s text is spellings[ids[i]], and notes their first bytes. */
void lp__whole_sort(lp__whole* whole, const lp__string* spellings);

/* The longest token at the start of text: its id, or -1. *length: its bytes. */
int32_t lp__whole_at(const lp__whole* whole, const lp__string* spellings, const char* text,
                     size_t bytes, size_t* length);

/* How many bytes of white space (Unicode's White_Space) text ends with, and starts with. */
size_t lp__space_before(const char* text, size_t bytes);
size_t lp__space_after(const char* text, size_t bytes);

#endif
