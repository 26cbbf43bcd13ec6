/* The tokenizer's parts, and how one is made from a vocabulary. */
#ifndef LP__TEXT_TOKENIZER_H
#define LP__TEXT_TOKENIZER_H

#include "text/bpe.h"
#include "text/pretokenize.h"
#include <logpi/text.h>

/* Kinds of tokens, with the values of GGUF's tokenizer.ggml.token_type. */
enum {
    LP__TOKEN_UNDEFINED,
    LP__TOKEN_NORMAL,
    LP__TOKEN_UNKNOWN,
    LP__TOKEN_CONTROL,
    LP__TOKEN_USER_DEFINED, /* matched whole in any text, but no control token */
    LP__TOKEN_UNUSED,
    LP__TOKEN_BYTE,
    LP__TOKEN_KINDS
};

#define LP__VOCABULARY_LIMIT    2000000
#define LP__TOKEN_BYTES_LIMIT   65536
#define LP__MERGES_LIMIT        4000000
#define LP__CHAT_TEMPLATE_LIMIT (1 << 20)

/* What a file says. Nothing of it is kept after the call. */
typedef struct lp__tokenizer_spec {
    const lp__string* tokens; /* [token_count], in the byte alphabet */
    const int32_t* kinds;     /* [token_count]; NULL: all normal */
    int64_t token_count;
    const lp__string* merges; /* [merge_count], "left right" */
    int64_t merge_count;
    lp__string pre;                  /* name of the pre-tokenizer */
    int32_t bos, eos, eot, pad, unk; /* -1: none */
    bool add_bos, add_eos;
    lp__string chat_template; /* Jinja source; data == NULL: none */
} lp__tokenizer_spec;

/* All ids -1, all else empty. */
lp__tokenizer_spec lp__tokenizer_spec_default(void);
lp_status lp__tokenizer_create(lp_ctx* ctx, const lp__tokenizer_spec* spec, lp_tokenizer** out);

struct lp_tokenizer {
    lp_ctx* ctx;
    int32_t size;
    lp__string* spellings; /* [size], each terminated; into spelling_block */
    lp__string* bytes;     /* [size]; into bytes_block */
    char *spelling_block, *bytes_block;
    uint8_t* kinds; /* [size] */
    lp__names by_spelling, by_bytes;
    lp__bpe bpe;
    lp__pretokenizer* pretokenizer;
    /* Tokens matched whole in the text, sorted by their bytes. */
    int32_t* whole; /* [whole_count] */
    int32_t whole_count;
    bool whole_start[256]; /* whether some token of whole starts with this byte */
    int32_t bos, eos, eot, pad, unk, im_start, im_end;
    bool add_bos, add_eos;
    lp_chat_format chat;
    char* default_system; /* NULL: none */
};

/* Makes room for n more ids. */
lp_status lp__token_list_reserve(lp_ctx* ctx, lp_token_list* list, int64_t n);

/* Encodes text that is known to be valid UTF-8, without BOS and EOS. */
lp_status lp__encode_text(const lp_tokenizer* tokenizer, const char* text, size_t bytes,
                          bool parse_special, lp_token_list* list);

/* Recognises a chat template: the format, and in *system (freed by the caller) the message it puts
 * first, or NULL. */
lp_status lp__chat_template_read(lp_ctx* ctx, lp__string source, lp_chat_format* format,
                                 char** system);

#endif
