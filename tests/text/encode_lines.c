/* For oracles: token ids of many texts. Arguments: a GGUF file, and flags of lp_tokenizer_encode as
 * a number. Standard input: texts, each a 4-byte little-endian length and as many bytes. Standard
 * output, for each: one line of ids, or "error" and the message. */
#include "lm/gguf.h"
#include <logpi/text.h>
#include <stdio.h>
#include <stdlib.h>

static int run(lp_ctx* ctx, const char* path, unsigned flags) {
    lp__gguf* gguf = NULL;
    lp_tokenizer* tokenizer = NULL;
    if (lp__gguf_open(ctx, path, &gguf) || lp__gguf_tokenizer(ctx, gguf, &tokenizer)) {
        fprintf(stderr, "%s\n", lp_error(ctx));
        return 1;
    }
    lp__gguf_close(gguf);
    lp_token_list list = {0};
    char* text = NULL;
    uint8_t head[4];
    while (fread(head, 1, 4, stdin) == 4) {
        size_t bytes =
            head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char* grown = realloc(text, bytes + 1);
        if (!grown) break;
        text = grown;
        if (fread(text, 1, bytes, stdin) != bytes) break;
        list.count = 0;
        if (lp_tokenizer_encode(tokenizer, text, bytes, flags, &list))
            printf("error %s", lp_error(ctx));
        for (int64_t i = 0; i < list.count; i++) printf(i ? " %d" : "%d", list.ids[i]);
        putchar('\n');
    }
    free(text);
    lp_token_list_free(ctx, &list);
    lp_tokenizer_destroy(tokenizer);
    return 0;
}

int main(int argc, char** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: encode_lines FILE.gguf FLAGS < texts\n");
        return 2;
    }
    char error[256];
    lp_ctx* ctx = lp_ctx_create(NULL, error, sizeof error);
    if (!ctx) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    int result = run(ctx, argv[1], (unsigned)strtoul(argv[2], NULL, 0));
    lp_ctx_destroy(ctx);
    return result;
}
