/* The inside of the PPO trainer. */
#ifndef LP__TRAIN_PPO_H
#define LP__TRAIN_PPO_H

#include "base/base.h"
#include "train/clock.h"
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

/* One micro-batch: sequences of the batch, their tokens packed, and which rows predict response
 * tokens. All of it in an arena. */
typedef struct lp__part {
    int64_t sequences, rows; /* rows: response tokens */
    int64_t* offsets;        /* [sequences + 1]: into tokens */
    int32_t *tokens, *row, *target;
    int64_t* first; /* [sequences]: first entry of each response in the arrays of the rollout */
    int64_t* count; /* [sequences]: its tokens */
} lp__part;

struct lp_ppo {
    lp_ctx* ctx;
    const lp_model* model;
    lp_weights* policy;
    const lp_weights* reference;
    lp_ppo_def def;
    lp_optim* optim;
    lp_tensor value_weight, value_bias;
    lp_generator* generator;
    lp_tape* tape;
    lp__arena arena; /* parts and gathered columns; reset with the tape */
    lp__rollout rollout;
    int64_t sequences, tokens; /* of the last step */
    double kl_coef;
    lp_moments moments;
    int64_t steps;
    uint32_t rounds; /* of generation */
    double generate_seconds;
};

/* What a model says about the response tokens of a part, [rows, 1], and the states it says it from,
 * [rows, width]; all NULL after a failure of the tape. */
typedef struct lp__said {
    lp_tensor states, log_prob, value, entropy;
} lp__said;
typedef enum lp__ask { LP__ASK_LOG_PROB = 0, LP__ASK_VALUE = 1, LP__ASK_ENTROPY = 2 } lp__ask;

lp_status lp__part_build(lp_ppo* ppo, const lp_generation* batch, const int32_t* list,
                         int64_t count, lp__part* part);
/* How many of list[0..count) make the next micro-batch: at least one. */
int64_t lp__part_size(const lp_ppo* ppo, const lp_generation* batch, const int32_t* list,
                      int64_t count);
/* ask: what besides the log-probability, or-ed. */
lp__said lp__part_forward(lp_ppo* ppo, const lp_weights* weights, const lp__part* part,
                          unsigned ask);

/* Log-probabilities of policy and reference, and values, of the whole batch, without gradients;
 * with the full KL penalty also the divergence of each token, into rollout.kl. */
lp_status lp__ppo_score_pass(lp_ppo* ppo, const lp_generation* batch);

#endif
