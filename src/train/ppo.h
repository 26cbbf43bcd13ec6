/* The inside of the PPO trainer. */
#ifndef LP__TRAIN_PPO_H
#define LP__TRAIN_PPO_H

#include "base/base.h"
#include "base/clock.h"
#include "train/pass.h"
#include <logpi/train.h>

/* A batch as the trainer sees it: one entry per response token, ragged; offsets are those of the
 * generation. */
typedef struct lp__rollout {
    int64_t capacity; /* tokens that the arrays have room for */
    float *log_prob, *ref_log_prob, *value;
    float *kl, *reward, *advantage, *returns;
    int64_t sequence_capacity;
    double *sequence_kl, *score; /* [sequences] */
    int32_t* order;              /* [sequences]: of one epoch */
} lp__rollout;

struct lp_ppo {
    lp_ctx* ctx;
    const lp_model* model;
    lp_weights* policy;
    const lp_weights* reference;
    lp_ppo_def def;
    lp_optim* optim;
    lp_generator* generator;
    lp__pass pass;
    lp__rollout rollout;
    int64_t sequences, tokens; /* of the last step */
    double kl_coef;
    lp_moments moments;
    int64_t steps;
    uint32_t rounds; /* of generation */
    double generate_seconds;
};

#endif
