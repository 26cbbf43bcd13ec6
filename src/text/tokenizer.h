/* The tokenizer's parts, and how one is made from a vocabulary. */
#ifndef LP__TEXT_TOKENIZER_H
#define LP__TEXT_TOKENIZER_H

#include "text/bpe.h"
#include "text/pretokenize.h"
#include "text/whole.h"
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

/* How a token that is matched whole is matched, or-ed. */
enum {
    LP__TOKEN_LSTRIP = 1,    /* with the white space before it */
    LP__TOKEN_RSTRIP = 2,    /* with the white space behind it */
    LP__TOKEN_NORMALIZED = 4 /* in the normalised text, after all tokens without this flag */
};

#define LP__VOCABULARY_LIMIT    2000000
#define LP__TOKEN_BYTES_LIMIT   65536
#define LP__MERGES_LIMIT        4000000
#define LP__CHAT_TEMPLATE_LIMIT (1 << 20)

/* What a file says. Nothing of it is kept after the call. */
typedef struct lp__tokenizer_spec {
    const lp__string* tokens; /* [token_count], in the byte alphabet */
    const int32_t* kinds;     /* [token_count]; NULL: all normal */
    const uint8_t* flags;     /* [token_count]; NULL: none */
    int64_t token_count;
    const lp__string* merges; /* [merge_count], "left right" */
    const lp__string* pairs;  /* [2 * merge_count], left and right by turns; instead of merges */
    int64_t merge_count;
    lp__string pre; /* GGUF's name of the pre-tokenizer; data == NULL: the two below say */
    lp__pre steps;
    bool ignore_merges;   /* a piece that is a token is that token, whatever the merges say */
    int32_t unknown_byte; /* the id of a byte that no token has; -1: it is left out */
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
    uint8_t* flags; /* [size] */
    size_t longest; /* bytes of the longest spelling */
    lp__names by_spelling, by_bytes;
    lp__bpe bpe;
    lp__pre pre;
    bool ignore_merges;
    lp__pretokenizer* pretokenizer;
    lp__whole whole[2]; /* control and user-defined tokens: in the text; in the normalised text */
    int32_t bos, eos, eot, pad, unk, im_start, im_end, unknown_byte;
    bool add_bos, add_eos;
    lp_token_list ends; /* each id once */
    lp_chat_format chat;
    char* chat_template; /* its source; NULL: none */
    size_t chat_template_bytes;
    char* default_system; /* NULL: none */
};

/* GGUF's name of the pre-tokenizer, "gpt-2"; NULL if it has none. */
const char* lp__tokenizer_pre(const lp_tokenizer* tokenizer);
/* The kind of an id, LP__TOKEN_NORMAL and so on. */
int lp__tokenizer_kind(const lp_tokenizer* tokenizer, int32_t id);
/* The source of the chat template, or NULL; terminated. */
const char* lp__tokenizer_chat_template(const lp_tokenizer* tokenizer);
/* Merges in the order of their ranks, for a writer: how many; and the spellings that one joins.
 * False: a later one replaces it. */
int64_t lp__tokenizer_merge_count(const lp_tokenizer* tokenizer);
bool lp__tokenizer_merge(const lp_tokenizer* tokenizer, int64_t rank, lp__string* left,
                         lp__string* right);

/* What the files of a Hugging Face folder say, each a view of its bytes; data == NULL: no such
 * file. Nothing of it is kept after the call. */
typedef struct lp__hf_files {
    lp__string tokenizer;     /* tokenizer.json; or: */
    lp__string vocab, merges; /* vocab.json and merges.txt */
    lp__string config;        /* tokenizer_config.json */
    lp__string chat_template; /* chat_template.jinja, which comes before the one in config */
} lp__hf_files;
/* LP_FORMAT, LP_UNSUPPORTED: the message begins with the file's name. */
lp_status lp__tokenizer_from_hf(lp_ctx* ctx, const lp__hf_files* files, lp_tokenizer** out);
/* tokenizer.json and tokenizer_config.json, appended. */
lp_status lp__tokenizer_to_hf(const lp_tokenizer* tokenizer, lp_text* tokenizer_json,
                              lp_text* config);

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
