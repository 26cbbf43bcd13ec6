/* Prompts and rewards. */
#include "base/base.h"
#include <logpi/train.h>
#include <string.h>

lp_status lp_prompts_add(lp_ctx* ctx, lp_prompts* prompts, const lp_model* model, const char* text, bool chat) {
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
    if (text[0] == 0) return lp__fail(ctx, LP_INVALID, "prompt %lld is empty", (long long)prompts->count + 1);
    const lp_message message = {"user", text};
    lp_status status = chat ? lp_chat_encode(tokenizer, &message, 1, true, &prompts->tokens)
                            : lp_tokenizer_encode(tokenizer, text, strlen(text),
                                                  LP_ENCODE_PARSE_SPECIAL | LP_ENCODE_ADD_SPECIAL, &prompts->tokens);
    if (status != LP_OK) return lp__fail_at(ctx, status, "prompt %lld", (long long)prompts->count + 1);
    if (prompts->tokens.count == offsets[prompts->count])
        return lp__fail(ctx, LP_INVALID, "prompt %lld has no tokens in the vocabulary of this model",
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

double lp_reward_contains(const char* text, const char* word) {
    for (;; text++) {
        size_t i = 0;
        while (word[i] && text[i] && lower(text[i]) == lower(word[i])) i++;
        if (!word[i]) return 1.0;
        if (!*text) return 0.0;
    }
}
