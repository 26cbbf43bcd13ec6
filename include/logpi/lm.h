/* logpi/lm.h - language models: load, run on a tape, generate.
 *
 * A model is a shape and a tokenizer; its weights are apart, so that one model serves a policy that learns and a
 * frozen reference. Sequences are packed one behind the other, never padded. */
#ifndef LOGPI_LM_H
#define LOGPI_LM_H

#include <logpi/tensor.h>
#include <logpi/text.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- models ---------------------------------------------------------------------------------------- */

typedef struct lp_model lp_model;
typedef struct lp_weights lp_weights;

/* A decoder of the Llama family: RMSNorm, rotary positions, grouped-query attention, SwiGLU. */
typedef struct lp_model_shape {
    const char* architecture; /* "llama" */
    const char* name;         /* what the file calls itself; may be "" */
    int64_t layers, width, heads, kv_heads, head_dim, vocab, context;
    int64_t intermediate; /* width of the MLP */
    double norm_eps, rope_base;
    bool tied; /* the head is the embedding */
    int64_t parameters;
} lp_model_shape;

/* Opens a GGUF file, version 2 or 3, of the Llama architecture and reads shape and tokenizer. Errors: LP_NOT_FOUND
 * or LP_IO (the file), LP_FORMAT (damaged), LP_UNSUPPORTED (another architecture, tokenizer or tensor type). */
LP_API lp_status lp_model_open(lp_ctx* ctx, const char* path, lp_model** model);
LP_API void lp_model_close(lp_model* model);
LP_API lp_model_shape lp_model_get_shape(const lp_model* model);
LP_API const lp_tokenizer* lp_model_tokenizer(const lp_model* model);

/* Reads the weights from the model's file as fp32, under the names of Hugging Face ("model.layers.0...."), rows of q
 * and k in Hugging Face's order. The model must outlive them. */
LP_API lp_status lp_model_load_weights(lp_model* model, bool trainable, lp_weights** weights);
/* The same numbers once more, frozen: a reference policy. */
LP_API lp_status lp_weights_clone(const lp_weights* weights, bool trainable, lp_weights** clone);
LP_API void lp_weights_destroy(lp_weights* weights);
/* The parameter set behind the weights, borrowed. A trainer may add parameters of its own. */
LP_API lp_params* lp_weights_params(const lp_weights* weights);

/* Writes model.safetensors and config.json, as transformers reads them, into a folder (made if missing). Parameters
 * that are not the model's are left out. */
LP_API lp_status lp_model_save(const lp_model* model, const lp_weights* weights, const char* folder);

/* ---- forward --------------------------------------------------------------------------------------- */

/* Sequence s is tokens offsets[s] .. offsets[s+1]-1. With a cache (tape not recording) they continue slot[s] of it,
 * and lp_model_hidden advances the slots. */
typedef struct lp_batch {
    int64_t sequences;
    const int64_t* offsets; /* [sequences + 1] */
    const int32_t* tokens;
    lp_kv* cache;        /* NULL: none */
    const int32_t* slot; /* [sequences], with a cache */
} lp_batch;

/* The state after the last norm, [tokens, width]. */
LP_API lp_tensor lp_model_hidden(lp_tape* t, const lp_model* model, const lp_weights* weights,
                                 const lp_batch* batch);
/* Logits of rows of that state, [rows, vocab]. */
LP_API lp_tensor lp_model_logits(lp_tape* t, const lp_weights* weights, lp_tensor hidden);
/* log pi(target) of rows of that state, [rows, 1], logits never stored; see lp_head_logp. */
LP_API lp_tensor lp_model_log_prob(lp_tape* t, const lp_weights* weights, lp_tensor hidden, lp_tensor target,
                                   double temperature, lp_tensor* entropy);
/* A cache for so many sequences of so many tokens. */
LP_API lp_status lp_model_cache(const lp_model* model, int32_t sequences, int64_t tokens, lp_kv** cache);

/* ---- generation ------------------------------------------------------------------------------------ */

typedef enum lp_finish { LP_FINISH_STOP, LP_FINISH_LENGTH } lp_finish;

typedef struct lp_generate_def {
    uint32_t cookie;
    int64_t max_new_tokens; /* 32 */
    int64_t min_new_tokens; /* 0: end-of-text is not drawn before */
    double temperature;     /* 1; 0: the most likely token */
    int64_t top_k;          /* 0: all */
    double top_p;           /* 1: all */
    uint64_t seed;          /* with (index of the sequence, round) it fixes the random stream of a sequence */
    uint32_t round;
    uint64_t first_index; /* index of the first prompt */
} lp_generate_def;

LP_API lp_generate_def lp_generate_def_default(void);

/* Prompts and what followed them. */
typedef struct lp_generation {
    int64_t sequences;
    lp_token_list prompts, responses;         /* packed; an end-of-text token is the last of its response */
    int64_t *prompt_offsets, *response_offsets; /* [sequences + 1] */
    float* log_probs; /* of each response token, under the distribution it was drawn from */
    lp_finish* finish; /* [sequences] */
} lp_generation;

/* Generates one response for each prompt (prompt s is tokens offsets[s] .. offsets[s+1]-1), all together, equal
 * prompts computed once. The text of a sequence depends on its prompt, index, round and the seed only, not on its
 * company. LP_INVALID: an empty prompt, one that does not fit the context with max_new_tokens, a value out of range.
 * *out is replaced (start with {0}); free it with lp_generation_free. */
LP_API lp_status lp_generate(const lp_model* model, const lp_weights* weights, const lp_generate_def* def,
                             int64_t sequences, const int64_t* offsets, const int32_t* tokens, lp_generation* out);
LP_API void lp_generation_free(lp_ctx* ctx, lp_generation* generation);

/* Whether a token ends a text: the model's end of sequence or end of turn. */
LP_API bool lp_model_ends(const lp_model* model, int32_t token);

#ifdef __cplusplus
}
#endif
#endif
