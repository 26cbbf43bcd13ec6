/* The inside of a model and of its weights. */
#ifndef LP__LM_MODEL_H
#define LP__LM_MODEL_H

#include "lm/arch.h"
#include "lm/rope.h"
#include "lm/source.h"

struct lp_model {
    lp_ctx* ctx;
    lp__source* source; /* open for as long as the model is */
    lp_tokenizer* tokenizer;
    const lp__arch* arch;
    unsigned options; /* LP__QKV_BIAS and so on */
    lp_model_shape shape;
    lp__rope rope;
    float* rope_frequencies; /* [head_dim / 2]; NULL: learned positions */
    char* name;              /* shape.name, if it is not the file's */
};

struct lp_weights {
    lp_ctx* ctx;
    const lp_model* model;
    lp_params* params;
    lp_tensor embedding; /* [vocab, width], as the table that is read */
    lp_tensor head;      /* [vocab, width], as the last product; tied: the same numbers */
    lp_tensor position;  /* [context, width]; NULL: rotary positions */
    lp_tensor norm, norm_bias;
    lp__block* blocks; /* [layers] */
};

/* LP_FORMAT unless a size, read under `key`, is one that a model can have. */
lp_status lp__model_check_size(const lp_model* model, const char* key, int64_t size);
/* Whether heads, widths and settings fit each other: LP_FORMAT. */
lp_status lp__model_check_shape(const lp_model* model);

/* Shape, options and rope from GGUF's metadata, from config.json. LP_FORMAT, LP_UNSUPPORTED. */
lp_status lp__model_from_gguf(lp_model* model);
lp_status lp__model_from_config(lp_model* model, const char* text, size_t bytes);
/* Whether the source has the tensors of the shape, each of the right size, and no other. */
lp_status lp__model_check_tensors(const lp_model* model);

/* The tensor of a slot in the source, of the right shape; LP_FORMAT. */
lp_status lp__model_stored(const lp_model* model, const lp__slot* slot, lp__stored** out);

/* Finds or makes every parameter of the model in the set, and binds them. */
lp_status lp__weights_create(const lp_model* model, bool trainable, lp_weights** weights);

#endif
