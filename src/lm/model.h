/* The inside of a model and of its weights. */
#ifndef LP__LM_MODEL_H
#define LP__LM_MODEL_H

#include "lm/gguf.h"
#include "nn/transformer.h"
#include <logpi/lm.h>

struct lp_model {
    lp_ctx* ctx;
    lp__gguf* gguf; /* open for as long as the model is */
    lp_tokenizer* tokenizer;
    lp_model_shape shape;
    float* rope_frequencies; /* [head_dim / 2] */
};

struct lp_weights {
    lp_ctx* ctx;
    const lp_model* model;
    lp_params* params;
    lp_tensor embedding; /* [vocab, width], as the table that is read */
    lp_tensor head;      /* [vocab, width], as the last product; tied: the same numbers */
    lp_tensor norm;
    lp__block* blocks; /* [layers] */
};

/* The status of reading a part of a file that is there: what it lacks is no file that was not
 * found, so LP_NOT_FOUND becomes LP_FORMAT, with the same message. */
lp_status lp__model_part(lp_ctx* ctx, lp_status status);

/* Whether the file has the tensors of its shape, each of the right size, and no other. */
lp_status lp__model_check_tensors(const lp_model* model);

/* Finds or makes every parameter of the model in the set, and binds them. */
lp_status lp__weights_create(const lp_model* model, bool trainable, lp_weights** weights);

#endif
