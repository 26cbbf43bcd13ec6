/* The inside of the GRPO trainer. */
#ifndef LP__TRAIN_GRPO_H
#define LP__TRAIN_GRPO_H

#include "base/base.h"
#include "base/clock.h"
#include "train/pass.h"
#include <logpi/train.h>

struct lp_grpo {
    lp_ctx* ctx;
    const lp_model* model;
    lp_weights* policy;
    const lp_weights* reference; /* NULL: none */
    lp_grpo_def def;
    lp_optim* optim;
    lp_generator* generator;
    lp__pass pass;
    lp_prompts repeated; /* of a generation: each prompt num_generations times */
    /* the batch, an entry per response token; old: when it was drawn */
    int64_t capacity;
    float *old_log_prob, *ref_log_prob, *advantage, *weight, *exact_kl;
    int64_t sequence_capacity;
    double* group_advantage;   /* [sequences] */
    int32_t* order;            /* [sequences]: 0, 1, 2, ... */
    int64_t sequences, tokens; /* of the last step */
    int64_t steps, updates;    /* done so far */
    int64_t tokens_seen;
    uint32_t rounds; /* of generation */
    double generate_seconds;
};

#endif
