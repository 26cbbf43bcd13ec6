/* Prompts and rewards. */
#include "base/base.h"
#define PCRE2_CODE_UNIT_WIDTH 8
#include <logpi/train.h>
#include <math.h>
#include <pcre2.h>
#include <string.h>

lp_status lp_prompts_add(lp_ctx* ctx, lp_prompts* prompts, const lp_model* model, const char* text,
                         bool chat) {
    const lp_tokenizer* tokenizer = lp_model_tokenizer(model);
    if (prompts->count + 2 > prompts->room) {
        const int64_t room = LP__MAX(2 * prompts->room, (int64_t)16);
        int64_t* bigger = lp__realloc(ctx, prompts->offsets, (size_t)room * sizeof *bigger);
        if (!bigger) return LP_NOMEM;
        prompts->offsets = bigger;
        prompts->room = room;
    }
    int64_t* offsets = prompts->offsets;
    offsets[prompts->count] = prompts->tokens.count;
    if (text[0] == 0)
        return lp_fail(ctx, LP_INVALID, "prompt %lld is empty", (long long)prompts->count + 1);
    const lp_message message = {"user", text};
    lp_status status = chat ? lp_chat_encode(tokenizer, &message, 1, true, &prompts->tokens)
                            : lp_tokenizer_encode(tokenizer, text, strlen(text),
                                                  LP_ENCODE_PARSE_SPECIAL | LP_ENCODE_ADD_SPECIAL,
                                                  &prompts->tokens);
    if (status != LP_OK)
        return lp__fail_at(ctx, status, "prompt %lld", (long long)prompts->count + 1);
    if (prompts->tokens.count == offsets[prompts->count])
        return lp_fail(ctx, LP_INVALID, "prompt %lld has no tokens in the vocabulary of this model",
                       (long long)prompts->count + 1);
    offsets[++prompts->count] = prompts->tokens.count;
    return LP_OK;
}

void lp_prompts_free(lp_ctx* ctx, lp_prompts* prompts) {
    lp_token_list_free(ctx, &prompts->tokens);
    lp__free(ctx, prompts->offsets);
    *prompts = (lp_prompts){0};
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; }

/* Whether the word is there, byte by byte but for the case of ASCII letters. *ascii: nothing else
 * is in text and word. */
static bool contains_bytes(const char* text, const char* word, bool* ascii) {
    *ascii = true;
    for (const char* c = word; *c; c++) *ascii &= (*c & 0x80) == 0;
    for (;; text++) {
        size_t i = 0;
        while (word[i] && text[i] && lower(text[i]) == lower(word[i])) i++;
        if (!word[i]) return true;
        if (!*text) return false;
        *ascii &= (*text & 0x80) == 0;
    }
}

/* The word as a pattern in which every sign stands for itself. Both are UTF-8, the word of
 * WORD_BYTES at most: PCRE2 puts patterns into 64 KiB. NaN: out of memory. */
static double contains_folded(const char* text, const char* word) {
    const uint32_t options = PCRE2_LITERAL | PCRE2_CASELESS | PCRE2_UTF | PCRE2_NO_UTF_CHECK;
    int error;
    PCRE2_SIZE at;
    pcre2_code* code = pcre2_compile((PCRE2_SPTR)word, strlen(word), options, &error, &at, NULL);
    pcre2_match_data* data = code ? pcre2_match_data_create(1, NULL) : NULL;
    const int found =
        data ? pcre2_match(code, (PCRE2_SPTR)text, strlen(text), 0, PCRE2_NO_UTF_CHECK, data, NULL)
             : PCRE2_ERROR_NOMEMORY;
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    return found >= 0 ? 1.0 : found == PCRE2_ERROR_NOMATCH ? 0.0 : (double)NAN;
}

double lp_reward_contains(const char* text, const char* word) {
    enum { WORD_BYTES = 1 << 14 };
    bool ascii;
    if (contains_bytes(text, word, &ascii)) return 1.0;
    const size_t bytes = strlen(word);
    if (ascii || bytes > WORD_BYTES || lp__utf8_error(word, bytes) >= 0 ||
        lp__utf8_error(text, strlen(text)) >= 0)
        return 0.0;
    return contains_folded(text, word);
}
