/* Cuts a text into the pieces within which bytes may merge. */
#ifndef LP__TEXT_PRETOKENIZE_H
#define LP__TEXT_PRETOKENIZE_H

#include "text/names.h"

/* Each step cuts what the one before left. All of them keep every character: matches are pieces,
 * and so is what lies between. */
typedef enum lp__pre_step {
    LP__PRE_GPT2,   /* words, numbers, other signs, each with a space before; contractions */
    LP__PRE_LLAMA3, /* numbers of at most three digits; line feeds go with the signs before them */
    LP__PRE_QWEN2,  /* Llama 3's, but each digit alone */
    LP__PRE_DIGIT,  /* each number character alone */
    LP__PRE_DIGITS, /* runs of number characters */
    LP__PRE_STEP_COUNT
} lp__pre_step;

enum { LP__PRE_STEPS = 4 };
typedef struct lp__pre {
    lp__pre_step steps[LP__PRE_STEPS]; /* [count] */
    int count;
    bool nfc; /* the text is first brought into Unicode's normalisation form C */
} lp__pre;

/* The pre-tokenizer that GGUF calls name: "gpt-2", "smollm", "llama-bpe", "qwen2".
 * *ignore_merges: a piece that is a token is that token, whatever the merges say. LP_UNSUPPORTED
 * for any other. */
lp_status lp__pre_by_name(lp_ctx* ctx, lp__string name, lp__pre* pre, bool* ignore_merges);
/* Its name; NULL if it has none. */
const char* lp__pre_name(const lp__pre* pre, bool ignore_merges);
/* The step whose regular expression was published as pattern, or -1; and the other way round (NULL
 * for the digits, which are no pattern in Hugging Face's files). */
int lp__pre_by_pattern(lp__string pattern);
const char* lp__pre_pattern(lp__pre_step step);

typedef struct lp__pretokenizer lp__pretokenizer;

lp_status lp__pretokenizer_create(lp_ctx* ctx, const lp__pre* pre, lp__pretokenizer** out);
void lp__pretokenizer_destroy(lp__pretokenizer* pretokenizer);

typedef lp_status (*lp__piece_fn)(void* user, const char* piece, size_t bytes);

/* Calls piece for each piece in order; together they are the text, which must be valid UTF-8 and
 * normalised. Stops at the first failure and returns it. Linear in the text. */
lp_status lp__pretokenize(lp__pretokenizer* pretokenizer, const char* text, size_t bytes,
                          lp__piece_fn piece, void* user);

#endif
