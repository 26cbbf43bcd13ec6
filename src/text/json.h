/* Reading JSON from a buffer, front to back. Nothing is built: memory does not grow with what a
 * text nests or repeats, and what nobody asks for is skipped.
 *
 * The first failure stays, and makes every later call do nothing:
 *
 *     lp__json_begin(j, LP__JSON_OBJECT);
 *     while (lp__json_member(j, &key)) { ... read or skip one value ... }
 *     return lp__json_finish(j);
 */
#ifndef LP__TEXT_JSON_H
#define LP__TEXT_JSON_H

#include "text/names.h"

enum { LP__JSON_DEPTH_LIMIT = 128, LP__JSON_KEY_LIMIT = 65536, LP__JSON_STRING_LIMIT = 16 << 20 };

typedef enum lp__json_kind {
    LP__JSON_NONE, /* no value begins here; the failure is recorded */
    LP__JSON_NULL,
    LP__JSON_BOOL,
    LP__JSON_NUMBER,
    LP__JSON_STRING,
    LP__JSON_ARRAY,
    LP__JSON_OBJECT
} lp__json_kind;

typedef struct lp__json {
    lp_ctx* ctx;
    const char* data;
    size_t bytes, at;
    char* room; /* [bytes]: strings whose spelling is not what they say; NULL until one comes */
    size_t room_used;
    int depth;
    bool first; /* no element of the innermost container was seen yet */
    lp_status status;
} lp__json;

/* LP_FORMAT: not UTF-8. data is borrowed until lp__json_close. */
lp_status lp__json_open(lp_ctx* ctx, lp__json* json, lp__string data);
/* Strings that were read die with it. */
void lp__json_close(lp__json* json);

/* Records "byte N: WHAT" and stays failed. */
lp_status lp__json_fail(lp__json* json, lp_status status, const char* what);

/* What comes next, without moving. */
lp__json_kind lp__json_peek(lp__json* json);
void lp__json_begin(lp__json* json, lp__json_kind container);
/* Whether there is another member or element; behind the last one it leaves the container. Keys and
 * strings may contain zero bytes, and are not terminated. */
bool lp__json_member(lp__json* json, lp__string* key);
bool lp__json_element(lp__json* json);
lp_status lp__json_string(lp__json* json, lp__string* out);
lp_status lp__json_int(lp__json* json, int64_t* out); /* 1.0 and 1e3 are no integers */
lp_status lp__json_bool(lp__json* json, bool* out);
/* Steps over one value, checking its grammar. */
lp_status lp__json_skip(lp__json* json);
/* Nothing but blanks may follow. */
lp_status lp__json_finish(lp__json* json);

/* Which of n keys this is, or -1; a known key that comes again fails. seen starts as 0. */
int lp__json_key(lp__json* json, lp__string key, const char* const* keys, int n, uint32_t* seen);

#endif
