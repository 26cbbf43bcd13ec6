/* logpi/text.h - text to token ids and back: byte-level BPE, and chat prompts.
 *
 * A tokenizer is made from the vocabulary that a model's file carries, so it is obtained from a
 * loaded model, or from the folder of one. It gives the ids that Hugging Face's tokenizers library
 * gives for the same vocabulary: the text is cut at control tokens, then by the pre-tokenizer's
 * pattern into pieces, and the bytes of each piece are merged pair by pair, the pair of least rank
 * first (Sennrich et al. 2016; Radford et al. 2019). */
#ifndef LOGPI_TEXT_H
#define LOGPI_TEXT_H

#include <logpi/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- growing lists --------------------------------------------------------------------------- */

/* Token ids. Starts as all zeroes ({0}); calls below append to it; free it with lp_token_list_free,
 * or it dies with the context. Setting count to 0 empties it and keeps its memory, so that a loop
 * allocates only once. */
typedef struct lp_token_list {
    int32_t* ids; /* [count] */
    int64_t count, capacity;
} lp_token_list;

/* Appends n ids; LP_NOMEM is the only failure, and leaves the list as it was. */
LP_API lp_status lp_token_list_add(lp_ctx* ctx, lp_token_list* list, const int32_t* ids, int64_t n);
LP_API void lp_token_list_free(lp_ctx* ctx, lp_token_list* list);

/* Bytes, with a zero after the last one (not counted) once anything was appended. Same rules. */
typedef struct lp_text {
    char* data; /* [bytes] */
    size_t bytes, capacity;
} lp_text;

LP_API lp_status lp_text_add(lp_ctx* ctx, lp_text* text, const void* data, size_t bytes);
LP_API void lp_text_free(lp_ctx* ctx, lp_text* text);

/* Appends the bytes as valid UTF-8: each maximal part of an ill-formed sequence becomes one U+FFFD,
 * as in Hugging Face's decode (Unicode standard, section 3.9, "substitution of maximal subparts").
 */
LP_API lp_status lp_text_add_lossy(lp_ctx* ctx, lp_text* text, const void* data, size_t bytes);

/* ---- tokenizer ------------------------------------------------------------------------------- */

typedef struct lp_tokenizer lp_tokenizer;

/* Reads the tokenizer of a Hugging Face folder: tokenizer.json, else vocab.json with merges.txt
 * (the layout of GPT-2's release); and, where they are there, tokenizer_config.json and
 * chat_template.jinja. GPT-2's "<|endoftext|>" begins and ends texts where no file says which token
 * does. Ids may leave gaps, as many as there are tokens; an id in a gap decodes to nothing.
 *
 * LP_NOT_FOUND: neither is there. LP_FORMAT: malformed, or in contradiction; the message gives file
 * and place. LP_UNSUPPORTED: another model than byte-level BPE (SentencePiece, as in Llama 2, or
 * WordPiece), a pre-tokenizer whose pattern is not one of GPT-2, SmolLM, Llama 3 and Qwen2 (a
 * regular expression from a file is never run), added tokens that match single words only. Fields
 * for truncation and padding are not used. */
LP_API lp_status lp_tokenizer_open(lp_ctx* ctx, const char* folder, lp_tokenizer** out);

/* Writes tokenizer.json, tokenizer_config.json and, if there is a chat template,
 * chat_template.jinja into a folder, which is made if need be; transformers' AutoTokenizer then
 * gives the same ids. Each file is whole or not there. LP_IO, LP_NOT_FOUND: cannot
 * write there. */
LP_API lp_status lp_tokenizer_save(const lp_tokenizer* tokenizer, const char* folder);

/* Frees it before its context dies. NULL is allowed. */
LP_API void lp_tokenizer_destroy(lp_tokenizer* tokenizer);

/* Number of ids; ids are 0 .. size - 1. */
LP_API int32_t lp_tokenizer_size(const lp_tokenizer* tokenizer);

/* Special ids; -1 if the model has none. End of turn is what closes a message: the id the file
 * names, else that of "<|im_end|>". */
LP_API int32_t lp_tokenizer_bos(const lp_tokenizer* tokenizer);
LP_API int32_t lp_tokenizer_eos(const lp_tokenizer* tokenizer);
LP_API int32_t lp_tokenizer_eot(const lp_tokenizer* tokenizer);
LP_API int32_t lp_tokenizer_pad(const lp_tokenizer* tokenizer);
LP_API int32_t lp_tokenizer_unk(const lp_tokenizer* tokenizer);

/* The ids that end a text when the model says them: end of sequence, end of turn, and those added
 * by lp_tokenizer_add_end (generation_config.json may list several), each once. Borrowed until one
 * is added or the tokenizer is destroyed. */
LP_API const int32_t* lp_tokenizer_ends(const lp_tokenizer* tokenizer, int64_t* count);
LP_API bool lp_tokenizer_is_end(const lp_tokenizer* tokenizer, int32_t id);
/* LP_INVALID: no such id. */
LP_API lp_status lp_tokenizer_add_end(lp_tokenizer* tokenizer, int32_t id);

/* Whether id is a control token: never produced by plain text, left out by LP_DECODE_SKIP_SPECIAL.
 */
LP_API bool lp_tokenizer_is_special(const lp_tokenizer* tokenizer, int32_t id);

/* The id of a token by its bytes as it decodes (" the", "<|im_end|>"), or -1. */
LP_API int32_t lp_tokenizer_find(const lp_tokenizer* tokenizer, const char* token, size_t bytes);

/* The bytes that one id decodes to; not always whole characters. For an id out of range: "", 0.
 * Borrowed until the tokenizer is destroyed. */
LP_API const char* lp_tokenizer_bytes(const lp_tokenizer* tokenizer, int32_t id, size_t* bytes);

/* The id as the vocabulary spells it, in the byte alphabet of GPT-2 (" the" is "\u0120the"),
 * terminated. */
LP_API const char* lp_tokenizer_spelling(const lp_tokenizer* tokenizer, int32_t id);

typedef enum lp_encode_flag {
    /* Control tokens written out in the text ("<|im_end|>") become their ids, as Hugging Face does
     * by default. Without it they are ordinary text: for text from strangers. */
    LP_ENCODE_PARSE_SPECIAL = 1,
    /* BOS first and EOS last, where the model's file asks for them (Hugging Face's
       add_special_tokens). */
    LP_ENCODE_ADD_SPECIAL = 2
} lp_encode_flag;

/* Appends the ids of a text (UTF-8, may contain zero bytes) to list. flags: lp_encode_flag, or-ed.
 * Time is O(n log n) whatever the text. LP_FORMAT: invalid UTF-8; the message gives the byte. Bytes
 * that the vocabulary does not have are left out, as Hugging Face does when there is no unknown
 * token in the model. On failure the list keeps what it had. */
LP_API lp_status lp_tokenizer_encode(const lp_tokenizer* tokenizer, const char* text, size_t bytes,
                                     unsigned flags, lp_token_list* list);

typedef enum lp_decode_flag {
    LP_DECODE_SKIP_SPECIAL = 1, /* leave control tokens out */
    LP_DECODE_LOSSY = 2, /* U+FFFD for what is not UTF-8; without it the bytes come as they are.
                            It implies the next */
    LP_DECODE_SKIP_UNKNOWN = 4 /* leave out ids of lp_tokenizer_size and above, which a model whose
                                  embedding has more rows than its vocabulary (Qwen2) may sample,
                                  as transformers does */
} lp_decode_flag;

/* Appends the text of n ids to text. LP_INVALID: an id is negative, or out of range and not left
 * out. */
LP_API lp_status lp_tokenizer_decode(const lp_tokenizer* tokenizer, const int32_t* ids, int64_t n,
                                     unsigned flags, lp_text* text);

/* ---- chat ------------------------------------------------------------------------------------ */

/* How a model's messages are laid out. */
typedef enum lp_chat_format {
    LP_CHAT_NONE,   /* no chat template, or none that is known */
    LP_CHAT_CHATML, /* <|im_start|>role\ncontent<|im_end|>\n */
} lp_chat_format;

LP_API lp_chat_format lp_tokenizer_chat_format(const lp_tokenizer* tokenizer);

/* The system message that the template puts first when the conversation has none; NULL if it puts
 * none. */
LP_API const char* lp_tokenizer_default_system(const lp_tokenizer* tokenizer);

/* One message; strings are terminated UTF-8. role: "system", "user", "assistant", or the model's
 * own. */
typedef struct lp_message {
    const char* role;
    const char* content;
} lp_message;

/* Appends the ids of a conversation, as Hugging Face's apply_chat_template does for this model;
 * with generation_prompt, also the opening of the assistant's message. Control tokens written in
 * role or content stay ordinary text: a user cannot end a message. LP_INVALID: no message.
 * LP_FORMAT: invalid UTF-8. LP_UNSUPPORTED: the model has no chat template that is known. */
LP_API lp_status lp_chat_encode(const lp_tokenizer* tokenizer, const lp_message* messages,
                                int count, bool generation_prompt, lp_token_list* list);

#ifdef __cplusplus
}
#endif
#endif
