/* What Hugging Face's files say, between reading and making a tokenizer of it. */
#ifndef LP__TEXT_HF_H
#define LP__TEXT_HF_H

#include "text/json.h"
#include "text/tokenizer.h"

/* For messages: "%.*s". */
#define LP__SHOWN(string) (int)LP__MIN((string).bytes, (size_t)80), (string).data

typedef struct lp__hf_token {
    lp__string content;
    int64_t id;
} lp__hf_token;

typedef struct lp__hf_added {
    lp__string content;
    int64_t id;
    uint8_t flags; /* LP__TOKEN_LSTRIP and so on */
    bool special, single_word;
} lp__hf_added;

/* A token that tokenizer_config.json may name. */
typedef struct lp__hf_named {
    bool given;         /* the key is there, be it null */
    lp__string content; /* data == NULL: none */
} lp__hf_named;

enum { LP__HF_BOS, LP__HF_EOS, LP__HF_PAD, LP__HF_UNK, LP__HF_NAMED };

typedef struct lp__hf {
    lp_ctx* ctx;
    lp__hf_token* tokens; /* [token_count] */
    size_t token_count, token_room;
    lp__string* pairs; /* [pair_count], left and right of each merge */
    size_t pair_count, pair_room;
    lp__hf_added* added; /* [added_count] */
    size_t added_count, added_room;
    lp__string unknown; /* of the model: what stands for a byte that no token has */
    bool fuse_unknown, ignore_merges;
    lp__pre pre;
    lp__string first, last; /* what the post-processor puts around a text; data == NULL: nothing */

    lp__hf_named named[LP__HF_NAMED];
    bool adds_given, add_bos, add_eos; /* given: at least one of the two keys is there */
    lp__string chat_template, class_name;
} lp__hf;

/* Makes room for one more item; false after lp_fail(NOMEM). */
bool lp__hf_grow(lp_ctx* ctx, void** items, size_t* room, size_t count, size_t item_bytes);
#define LP__HF_ROOM(hf, items, room, count)                                                        \
    lp__hf_grow((hf)->ctx, (void**)&(hf)->items, &(hf)->room, (hf)->count, sizeof *(hf)->items)

/* Each reads one file, or one part of it, from the place of reading on; strings are views into json
 * and its data. */
lp_status lp__hf_read_tokenizer(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_vocab(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_merges(lp__hf* hf, lp__string text);
lp_status lp__hf_read_config(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_normalizer(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_pre_tokenizer(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_post_processor(lp__hf* hf, lp__json* json);
lp_status lp__hf_read_decoder(lp__hf* hf, lp__json* json);
/* The fields of an added token; has_id: whether "id" is one of them. */
lp_status lp__hf_read_added(lp__hf* hf, lp__json* json, bool has_id, lp__hf_added* added);

#endif
