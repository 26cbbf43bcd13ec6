/* Stop strings: found while the text of a response grows, a byte at a time (Knuth, Morris and Pratt
 * 1977), so that it does not matter how tokens cut it. */
#ifndef LP__LM_STOP_H
#define LP__LM_STOP_H

#include "base/base.h"

typedef struct lp__stops {
    int count;
    const char* const* text; /* [count], none of them empty */
    int32_t* length;         /* [count] */
    int32_t* failure; /* of each string behind the other, for each byte: how many of those up to it
                         begin the string again */
} lp__stops;

/* Numbers that length and failure need together. */
int64_t lp__stops_room(int count, const char* const* text);
/* room: so many numbers, which live as long as the strings are searched for. */
lp__stops lp__stops_make(int count, const char* const* text, int32_t* room);

/* Goes on with a text of which `before` bytes were seen, and of which state [count], zero at first,
 * says how much of each string its end is. Returns where in the text the first begins of those that
 * are complete with these bytes, or -1. */
int64_t lp__stops_feed(const lp__stops* stops, int32_t* state, int64_t before, const char* bytes,
                       size_t n);

#endif
