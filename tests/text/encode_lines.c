/* For oracles: token ids of many texts. Arguments: a GGUF file or a Hugging Face folder; flags of
 * lp_tokenizer_encode as a number; if given, a folder to save the tokenizer to. Standard input:
 * texts, each a 4-byte little-endian length and as many bytes. Standard output, for each, one line:
 * "error" and the message; or ids, and "=" if they decode to the text, else "|" and the bytes that
 * they decode to in hexadecimal. */
#include "lm/gguf.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static lp_status open_model(lp_ctx* ctx, const char* path, lp_tokenizer** tokenizer) {
    const size_t length = strlen(path);
    if (length < 5 || strcmp(path + length - 5, ".gguf") != 0)
        return lp_tokenizer_open(ctx, path, tokenizer);
    lp__gguf* gguf = NULL;
    lp_status status = lp__gguf_open(ctx, path, &gguf);
    if (status == LP_OK) status = lp__gguf_tokenizer(ctx, gguf, tokenizer);
    if (gguf) lp__gguf_close(gguf);
    return status;
}

static void print_ids(lp_ctx* ctx, const lp_tokenizer* tokenizer, const char* text, size_t bytes,
                      unsigned flags, lp_token_list* list, lp_text* again) {
    list->count = 0;
    again->bytes = 0;
    if (lp_tokenizer_encode(tokenizer, text, bytes, flags, list) ||
        lp_tokenizer_decode(tokenizer, list->ids, list->count, 0, again)) {
        printf("error %s", lp_error(ctx));
    } else {
        const bool same = again->bytes == bytes && (!bytes || !memcmp(again->data, text, bytes));
        for (int64_t i = 0; i < list->count; i++) printf("%d ", list->ids[i]);
        putchar(same ? '=' : '|');
        for (size_t i = 0; !same && i < again->bytes; i++) printf("%02x", (uint8_t)again->data[i]);
    }
    putchar('\n');
}

static int run(lp_ctx* ctx, const char* path, unsigned flags, const char* save) {
    lp_tokenizer* tokenizer = NULL;
    if (open_model(ctx, path, &tokenizer) || (save && lp_tokenizer_save(tokenizer, save))) {
        fprintf(stderr, "%s\n", lp_error(ctx));
        return 1;
    }
    lp_token_list list = {0};
    lp_text again = {0};
    char* text = NULL;
    uint8_t head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        size_t bytes =
            head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char* grown = realloc(text, bytes + 1);
        if (!grown) break;
        text = grown;
        if (fread(text, 1, bytes, stdin) != bytes) break;
        print_ids(ctx, tokenizer, text, bytes, flags, &list, &again);
    }
    free(text);
    lp_token_list_free(ctx, &list);
    lp_text_free(ctx, &again);
    lp_tokenizer_destroy(tokenizer);
    return 0;
}

int main(int argc, char** argv) {
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: encode_lines MODEL FLAGS [SAVE] < texts\n");
        return 2;
    }
    char error[256];
    lp_ctx* ctx = lp_ctx_create(NULL, error, sizeof error);
    if (!ctx) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    int result = run(ctx, argv[1], (unsigned)strtoul(argv[2], NULL, 0), argc > 3 ? argv[3] : NULL);
    lp_ctx_destroy(ctx);
    return result;
}
