/* Unicode's normalisation form C. */
#ifndef LP__TEXT_NORMALIZE_H
#define LP__TEXT_NORMALIZE_H

#include "text/names.h"
#include <logpi/text.h>

/* Whether valid UTF-8 is certainly in form C: all of it lies below U+0300. */
bool lp__nfc_plain(const char* text, size_t bytes);

/* Appends valid UTF-8 in form C. O(n log n), whatever the text. */
lp_status lp__nfc(lp_ctx* ctx, const char* text, size_t bytes, lp_text* out);

#endif
