/* logpi/lm.h - language models: load, run on a tape, generate.
 *
 * A model is a shape and a tokenizer; its weights are apart, so that one model serves a policy that
 * learns and a frozen reference. Sequences are packed one behind the other, never padded.
 *
 * Everything lives in the context that the model was opened in and dies with it at the latest.
 * *_close and *_destroy give it back before, what was made from a thing before the thing itself;
 * they take NULL. A function that returns an lp_status may return LP_NOMEM beside what it names;
 * after any failure a pointer that it gives out is NULL. */
#ifndef LOGPI_LM_H
#define LOGPI_LM_H

#include <logpi/tensor.h>
#include <logpi/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- models ---------------------------------------------------------------------------------- */

/* A file that is open, its shape and its tokenizer. */
typedef struct lp_model lp_model;
/* The numbers of a model, fp32, as a parameter set. */
typedef struct lp_weights lp_weights;

/* A decoder: norm, causal attention with grouped queries, norm, MLP. The families that there are:
 * "llama" (RMSNorm, rotary positions, SwiGLU: Touvron et al. 2023, section 2.2; Llama 2 and 3,
 * SmolLM2, Mistral without its window), "qwen2" (the same with biases of q, k, v) and "gpt2" (layer
 * norm, learned positions, GELU: Radford et al. 2019, section 2.3). */
typedef struct lp_model_shape {
    const char* architecture; /* "llama", "qwen2", "gpt2" */
    const char* name;         /* what the file calls itself, or the folder's name; may be "" */
    const char* types;        /* of the tensors in the file, "Q4_1, F32", most numbers first */
    int64_t layers;           /* 1..2^24, as all sizes here */
    int64_t width;            /* of the state of a token */
    int64_t heads, kv_heads; /* query heads, and those of keys and values; kv_heads divides heads */
    int64_t head_dim;        /* of one head, even */
    int64_t intermediate;    /* width of the MLP */
    int64_t vocab;           /* ids are 0 .. vocab - 1; the tokenizer may have fewer */
    int64_t context;         /* tokens of the longest sequence that the model was made for */
    double norm_eps;         /* of the norms, in (0, 1) */
    double rope_base;        /* of the rotary positions, in (0, 1e12); 0: learned positions */
    bool tied;               /* the head is the embedding */
    int64_t parameters;      /* numbers in all tensors */
} lp_model_shape;

/* Opens a model and reads shape and tokenizer; its files stay open until the model is closed, or
 * its context destroyed. path is a GGUF file, version 2 or 3, or a folder as Hugging Face's
 * transformers writes it: config.json; model.safetensors, or shards with
 * model.safetensors.index.json, of F32, F16 or BF16; the files of a tokenizer (lp_tokenizer_open);
 * generation_config.json if there is one. Nothing in them is run. Errors: LP_NOT_FOUND or LP_IO
 * (the path), LP_FORMAT (damaged; a tensor is missing or of another shape; a shard outside of the
 * folder), LP_UNSUPPORTED (another architecture, tokenizer or type of tensors, a setting that
 * changes what the model computes, which the message names, tensors that the architecture does not
 * have, a file that may hold a pickle). */
LP_API lp_status lp_model_open(lp_ctx* ctx, const char* path, lp_model** model);
/* Weights, caches and generators of the model must be gone. */
LP_API void lp_model_close(lp_model* model);
/* A copy of the shape; its strings are borrowed until the model is closed. */
LP_API lp_model_shape lp_model_get_shape(const lp_model* model);
/* Borrowed until the model is closed. */
LP_API const lp_tokenizer* lp_model_tokenizer(const lp_model* model);
/* Whether a token ends a text: the model's end of sequence or end of turn, or one that
 * generation_config.json names. Any other number: false. */
LP_API bool lp_model_ends(const lp_model* model, int32_t token);

/* Reads the weights from the model's file as fp32, as matrices [out, in], under the names of
 * Hugging Face ("model.layers.0...."), rows of q and k in Hugging Face's order. What GPT-2 has as
 * one c_attn is three parameters, "...attn.c_attn.q.weight" and so on. trainable: they have
 * gradients; otherwise they are constants. The model must outlive them. Errors: LP_FORMAT (a number
 * is NaN or infinite: the message names tensor, row and column, as the file has them; a file became
 * shorter), LP_UNSUPPORTED (the file has a head that differs from the embedding it should be),
 * LP_IO, LP_CANCELLED. */
LP_API lp_status lp_model_load_weights(lp_model* model, bool trainable, lp_weights** weights);
/* The same numbers once more, for the same model; frozen (trainable false) they are a reference
 * policy. Parameters that a trainer added to the set are left out. LP_CANCELLED. */
LP_API lp_status lp_weights_clone(const lp_weights* weights, bool trainable, lp_weights** clone);
LP_API void lp_weights_destroy(lp_weights* weights);
/* What the matrix products of the model multiply, in forward and backward; LP_FLOAT32 at first. The
 * numbers themselves stay fp32. Packed copies are made when they are first used; a head of odd
 * width needs LP_FLOAT32. */
LP_API void lp_weights_set_precision(lp_weights* weights, lp_precision precision);
LP_API lp_precision lp_weights_precision(const lp_weights* weights);
/* The parameter set behind the weights, borrowed until they are destroyed. A trainer may add
 * parameters of its own. */
LP_API lp_params* lp_weights_params(const lp_weights* weights);

/* Types of numbers that are written: F16 and BF16 round to nearest even. */
typedef enum lp_file_type { LP_FILE_F32, LP_FILE_F16, LP_FILE_BF16 } lp_file_type;

/* Writes a model as a folder that transformers reads: model.safetensors (fp32), config.json, the
 * tokenizer's files and generation_config.json. The folder is made if missing; each file is whole
 * or not at all, also where the model was read from there. Parameters that are not the model's are
 * left out. Errors: LP_IO, LP_NOT_FOUND (the folder cannot be made), LP_UNSUPPORTED (rotary
 * positions scaled in a way that config.json has no words for). */
LP_API lp_status lp_model_save(const lp_model* model, const lp_weights* weights,
                               const char* folder);
/* The same, in numbers of a type; and a path that ends in ".gguf" is a file of that format (version
 * 3; norms and biases stay fp32), as llama.cpp reads it. Errors: also LP_NONFINITE (a number that
 * is infinite in F16), LP_UNSUPPORTED (a pre-tokenizer that GGUF has no name for). */
LP_API lp_status lp_model_save_as(const lp_model* model, const lp_weights* weights,
                                  const char* path, lp_file_type type);

/* ---- forward --------------------------------------------------------------------------------- */

/* Sequence s is tokens offsets[s] .. offsets[s+1]-1; it may be empty. With a cache (float tape, not
 * recording) the tokens continue what slot[s] holds, and lp_model_hidden advances the slots. Read
 * during the call only. Offsets that do not begin at 0 or that fall, a token outside the
 * vocabulary, a slot that is not there or is named twice, and rows that do not fit into the cache
 * are mistakes of the caller: the assert hook is called, the tape gets LP_INVALID, and the slots
 * stay as they are. */
typedef struct lp_batch {
    int64_t sequences;      /* 0 or more */
    const int64_t* offsets; /* [sequences + 1] */
    const int32_t* tokens;  /* [offsets[sequences]], each in 0 .. vocab - 1 */
    lp_kv* cache;           /* NULL: none; the sequences are whole */
    const int32_t* slot;    /* [sequences], with a cache */
    const int64_t* prefix;  /* without a cache: [sequences], an earlier sequence of the batch whose
                               tokens come before those of this one (a prompt computed once for all
                               that continue it), -1: none; a prefix has none itself. NULL: none */
} lp_batch;

/* These three are ops of a tape: NULL after a failure, which lp_tape_status(t) then has (LP_NOMEM,
 * LP_CANCELLED, LP_INVALID), and a result that lives until the tape is reset. */

/* The state after the last norm, [tokens, width]: row i belongs to the i-th token of the batch.
 * weights: of this model, or of another of the same shape. */
LP_API lp_tensor lp_model_hidden(lp_tape* t, const lp_model* model, const lp_weights* weights,
                                 const lp_batch* batch);
/* Logits of the next token, from rows of that state: [rows, width] -> [rows, vocab]. */
LP_API lp_tensor lp_model_logits(lp_tape* t, const lp_weights* weights, lp_tensor hidden);
/* log pi(target), in nats, from rows of that state: hidden [rows, width], target [rows, 1] of
 * LP_I32 -> [rows, 1]; logits are never stored. temperature > 0 divides them. entropy, if not NULL,
 * receives that of each row's distribution [rows, 1], a constant. See lp_head_logp. */
LP_API lp_tensor lp_model_log_prob(lp_tape* t, const lp_weights* weights, lp_tensor hidden,
                                   lp_tensor target, double temperature, lp_tensor* entropy);
/* The same with more to say about the distribution, and about which rows are of one sequence. */
LP_API lp_tensor lp_model_score(lp_tape* t, const lp_weights* weights, lp_tensor hidden,
                                lp_tensor target, const lp_head_def* def, lp_tensor* entropy);
/* A cache for so many sequences of so many tokens, both positive, for weights of that precision; it
 * takes 8 (LP_BFLOAT16: 4) * layers * kv_heads * head_dim bytes for each token. Free it with
 * lp_kv_destroy. */
LP_API lp_status lp_model_cache(const lp_model* model, lp_precision precision, int32_t sequences,
                                int64_t tokens, lp_kv** cache);

/* ---- memory ---------------------------------------------------------------------------------- */

/* What a run will do. */
typedef struct lp_forecast_def {
    lp_precision precision;
    bool train;     /* forward, backward, Adam; otherwise generation */
    bool recompute; /* see lp_tape_recompute */
    bool samples;   /* it generates responses to prompts; otherwise all tokens are text */
    bool reference; /* beside a frozen copy */
    bool savepoint; /* which a step of several updates goes back to if it fails */
    int64_t batch;  /* 4: sequences */
    int64_t group;  /* 0: of which so many with one prompt go through together */
    int64_t prompt_tokens, new_tokens; /* 32 and 96: of a sequence */
} lp_forecast_def;

/* Bytes, at the peak. */
typedef struct lp_forecast {
    size_t weights, gradients, optimizer;
    size_t operands;    /* packed copies for the matrix products */
    size_t activations; /* of about 512 tokens at a time */
    size_t head;        /* logits of a block of rows, and the probabilities that backward reads */
    size_t cache;       /* keys and values of all sequences */
    size_t reference, savepoint;
    size_t resident; /* what the context holds already: the open model, its tokenizer */
    size_t total;
} lp_forecast;

LP_API lp_forecast_def lp_forecast_def_default(void);
/* The peak of memory before anything is loaded; a run is within a tenth of it. A program itself
 * takes some 20 MB more. Kept sets (lp_generate_def.keep_sets) are not counted, because how many
 * tokens top_p and min_p leave depends on the model: 20 bytes for each new token of a batch, and
 * twice 4 for each entry of its set, in the generator and in the result. LP_INVALID: a number out
 * of range. */
LP_API lp_status lp_model_forecast(const lp_model* model, const lp_forecast_def* def,
                                   lp_forecast* forecast);

/* ---- generation ------------------------------------------------------------------------------ */

/* Why a response ended: with a token or a string that ends it, or at max_new_tokens. */
typedef enum lp_finish { LP_FINISH_STOP, LP_FINISH_LENGTH } lp_finish;

/* Names are those of transformers' GenerationConfig where it has them. Arrays and strings are read
 * during the call only (of a trainer's settings: as long as the trainer lives). */
typedef struct lp_generate_def {
    uint32_t cookie; /* set by lp_generate_def_default; anything else calls the assert hook */
    int64_t max_new_tokens;       /* 32; 1 .. context - 1 */
    int64_t min_new_tokens;       /* 0; up to max_new_tokens: before, no token is drawn that ends a
                                     response, and a stop string that is complete ends none */
    int64_t num_return_sequences; /* 1; 1 .. 2^24: responses to each prompt */
    double temperature; /* 1; in [1e-4, 1e6], or 0: the most likely token, the first of equals, and
                           neither top_k nor top_p nor min_p */
    int64_t top_k;      /* 0; draw from so many most likely tokens only; 0: from all */
    double top_p; /* 1; in (0, 1]: of these, from the fewest whose probability reaches top_p */
    double min_p; /* 0; in [0, 1]: of these, from those whose probability is at least min_p times
                     the largest */
    int64_t suppress_count;
    const int32_t* suppress_tokens; /* [suppress_count]: never drawn */
    int64_t stop_token_count;
    const int32_t* stop_tokens; /* [stop_token_count]: end a response, beside the tokens that end a
                                   text (lp_tokenizer_ends) */
    int stop_count;             /* 0; up to 16 */
    const char* const* stop; /* [stop_count]: a response ends with the token that completes one of
                                these strings, UTF-8 of 1 .. 1,024 bytes, in its text, control
                                tokens left out. Its tokens are kept, see text_bytes */
    bool keep_sets; /* false; the result has for each token which tokens it was drawn from: four
                       bytes an id, of the tokens that are kept or of those that are left out,
                       whichever are fewer */
    int64_t
        batch_size; /* 0; sequences computed at a time, up to 2^16, one that ends making room for
                       the next; 0: 64, or as many as 1 GiB of cache holds. It changes no bit */
    uint64_t seed;  /* 0; it fixes the random stream of a sequence together with the round and an
                       index: first_index + p + 2^32 k for sample k of prompt p */
    uint32_t round; /* 0 */
    uint64_t first_index; /* 0 */
} lp_generate_def;

LP_API lp_generate_def lp_generate_def_default(void);

/* Prompts and what followed them. Start with {0}; free it with lp_generation_free, or it dies with
 * its context. Sample k of prompt p is sequence p * num_return_sequences + k. */
typedef struct lp_generation {
    int64_t sequences;
    lp_token_list prompts, responses; /* packed; a token that ends a response is the last of it */
    int64_t*
        prompt_offsets; /* [sequences + 1]: prompt s is prompts.ids prompt_offsets[s] .. [s+1]-1 */
    int64_t*
        response_offsets; /* [sequences + 1]: the same of the responses, none of which is empty */
    float* log_probs;  /* [response_offsets[sequences]]: of each response token, in nats, under the
                          distribution that it was drawn from; with temperature 0 under that of
                          temperature 1. The bits of lp_head at the same temperature and kept set */
    lp_finish* finish; /* [sequences] */
    int64_t* text_bytes; /* [sequences]: a response that a stop string ended has so many bytes of
                            text, control tokens left out, before that string; -1: no string did */
    /* The set of tokens that response token i was drawn from, as lp_head_def has it: entries
     * kept.ids kept_offsets[i] .. kept_offsets[i+1]-1, which are its ids, rising, or as -1 - id
     * those that are left out, if these are fewer; none: the whole vocabulary. */
    int64_t* kept_offsets; /* [response_offsets[sequences] + 1]; NULL without keep_sets */
    lp_token_list kept;
    int64_t sequence_room, token_room, kept_room; /* private: what the arrays have room for */
} lp_generation;

/* All checks of lp_generate on settings and prompts (prompt s is tokens offsets[s] ..
 * offsets[s+1]-1), with nothing computed and before there are weights. LP_INVALID: a value out of
 * range, an empty stop string, more than 2^24 sequences, an empty prompt, one that does not fit the
 * context together with max_new_tokens, a token outside the vocabulary, none left to draw; the
 * message counts prompts and stop strings from 1. With 0 prompts, which are no mistake, offsets and
 * tokens are not read. */
LP_API lp_status lp_generate_check(const lp_model* model, const lp_generate_def* def,
                                   int64_t prompts, const int64_t* offsets, const int32_t* tokens);

/* Generates num_return_sequences responses for each of `prompts` prompts. Equal prompts are
 * computed once, and their cache shared. The text of a sequence depends on its prompt, the settings
 * that choose tokens, and what its random stream is keyed by, not on its company. *out is replaced,
 * its memory used again where it is large enough; 0 prompts give an empty generation. The prompts
 * may lie in *out itself. Errors, after which *out is empty: those of lp_generate_check,
 * LP_NONFINITE (the weights give a NaN or no finite logit), LP_CANCELLED. */
LP_API lp_status lp_generate(const lp_model* model, const lp_weights* weights,
                             const lp_generate_def* def, int64_t prompts, const int64_t* offsets,
                             const int32_t* tokens, lp_generation* out);
/* Leaves {0}. */
LP_API void lp_generation_free(lp_ctx* ctx, lp_generation* generation);

/* A generator keeps what lp_generate needs (tape, cache, arrays) from one run to the next and only
 * ever grows it, so that a loop soon allocates nothing. The model must outlive it. */
typedef struct lp_generator lp_generator;
LP_API lp_status lp_generator_create(const lp_model* model, lp_generator** generator);
LP_API void lp_generator_destroy(lp_generator* generator);
/* As lp_generate, with its result and its errors; a generator that failed can be run again. */
LP_API lp_status lp_generator_run(lp_generator* generator, const lp_weights* weights,
                                  const lp_generate_def* def, int64_t prompts,
                                  const int64_t* offsets, const int32_t* tokens,
                                  lp_generation* out);

#ifdef __cplusplus
}
#endif
#endif
