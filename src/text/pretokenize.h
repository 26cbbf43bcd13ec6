/* Cuts a text into the pieces within which bytes may merge. */
#ifndef LP__TEXT_PRETOKENIZE_H
#define LP__TEXT_PRETOKENIZE_H

#include "text/names.h"

typedef struct lp__pretokenizer lp__pretokenizer;

/* name: "gpt-2" (GPT-2's pattern), or "smollm" (each digit alone, then GPT-2's pattern on what is
 * between). LP_UNSUPPORTED for any other. */
lp_status lp__pretokenizer_create(lp_ctx* ctx, lp__string name, lp__pretokenizer** out);
void lp__pretokenizer_destroy(lp__pretokenizer* pretokenizer);

typedef lp_status (*lp__piece_fn)(void* user, const char* piece, size_t bytes);

/* Calls piece for each piece in order; together they are the text, which must be valid UTF-8. Stops
 * at the first failure and returns it. Linear in the text. */
lp_status lp__pretokenize(lp__pretokenizer* pretokenizer, const char* text, size_t bytes,
                          lp__piece_fn piece, void* user);

#endif
