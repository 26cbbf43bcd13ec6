/* Forward passes over the responses of a batch, which all trainers of language models share: whole
 * sequences are packed into parts (micro-batches), and a model says something about each response
 * token of a part. Where a batch is cut changes no bit. */
#ifndef LP__TRAIN_PASS_H
#define LP__TRAIN_PASS_H

#include "base/base.h"
#include <logpi/train.h>

typedef struct lp__pass {
    lp_ctx* ctx;
    const lp_model* model;
    lp_tape* tape;
    lp__arena arena;          /* parts and gathered columns; begins anew with each part */
    int64_t micro_batch_size; /* sequences of a part; 0: as many as make about 512 tokens */
    int64_t group; /* sequences with one prompt, which follow each other in every list; the prompt is
                      computed once for all, and a group is never cut. 1: each has its own */
    double temperature;       /* that logits are divided by */
    bool sets;                /* log pi is on the kept sets of the batch, if it has any */
    lp_tensor value_weight, value_bias; /* of the value head; NULL: there is none */
} lp__pass;

/* One micro-batch: sequences of the batch, their tokens packed, and which rows predict response
 * tokens. All of it in the arena of the pass. */
typedef struct lp__part {
    int64_t sequences, rows; /* rows: response tokens */
    int64_t pieces;          /* sequences, and with groups the prompts before their responses */
    int64_t* offsets;        /* [pieces + 1]: into tokens */
    int64_t* prefix;         /* [pieces]: see lp_batch */
    int32_t *tokens, *row, *target;
    int64_t* first; /* [sequences]: first entry of each response in arrays of the whole batch */
    int64_t* count; /* [sequences]: its tokens */
    int64_t* row_offsets; /* [sequences + 1]: into rows */
    int64_t* kept_offsets; /* [rows + 1]: see lp_head_def; NULL: all rows have the vocabulary */
    int32_t* kept;
} lp__part;

/* What a model says about the response tokens of a part, [rows, 1], and the states it says it from,
 * [rows, width]; all NULL after a failure of the tape. */
typedef struct lp__said {
    lp_tensor states, log_prob, value, entropy;
} lp__said;
typedef enum lp__ask { LP__ASK_LOG_PROB = 0, LP__ASK_VALUE = 1, LP__ASK_ENTROPY = 2 } lp__ask;

/* The value head and settings are the caller's to set; temperature begins as 1. */
lp_status lp__pass_begin(lp__pass* pass, lp_ctx* ctx, const lp_model* model);
void lp__pass_end(lp__pass* pass);

/* Cuts the sequences list[0..count) into parts, one after the other, and calls each(user, part) for
 * every one until one fails. */
typedef lp_status lp__part_fn(void* user, const lp__part* part);
lp_status lp__pass_parts(lp__pass* pass, const lp_generation* batch, const int32_t* list,
                         int64_t count, lp__part_fn* each, void* user);

/* ask: what besides the log-probability, or-ed. */
lp__said lp__part_forward(lp__pass* pass, const lp_weights* weights, const lp__part* part,
                          unsigned ask);
/* KL(policy || reference) over the whole vocabulary, at temperature 1, of each response token of a
 * part into kl, an array of the whole batch; from the states of both [rows, width], which
 * lp__part_keep saves from the tape's reset (NULL: out of memory). */
float* lp__part_keep(lp__pass* pass, lp_tensor states);
lp_status lp__part_full_kl(lp__pass* pass, const lp_weights* policy, const lp_weights* reference,
                           const lp__part* part, const float* states, const float* ref_states,
                           float* kl);

/* A column of a part, put where its sequences stand in an array of the whole batch; and back, into
 * the arena (NULL: out of memory). */
void lp__part_scatter(const lp__part* part, const float* column, float* to);
float* lp__part_gather(lp__pass* pass, const lp__part* part, const float* from);

/* Room for n numbers in an array of a trainer; false: out of memory, the array stays. */
bool lp__grow_floats(lp_ctx* ctx, float** array, int64_t n);

/* ---- what log pi is of: see lp_logp; in logp.c ----------------------------------------------- */

/* LP_INVALID: no such convention, or one that the temperature has no distribution for. */
lp_status lp__logp_check_def(lp_ctx* ctx, lp_logp logp, const lp_generate_def* def);
/* What logits are divided by. */
double lp__logp_temperature(lp_logp logp, const lp_generate_def* def);
/* Whether generation must tell the sets that it draws from. */
bool lp__logp_needs_sets(lp_logp logp, const lp_generate_def* def);
/* Whether the log-probabilities that come with a batch are those of learning. */
bool lp__logp_was_sampled(lp_logp logp, const lp_generate_def* def);
/* LP_INVALID: the batch lacks sets that are needed, or what it has are none. */
lp_status lp__logp_check_batch(const lp__pass* pass, lp_logp logp, const lp_generate_def* def,
                               const lp_generation* batch);
/* The largest |ratio - 1| of n tokens. */
double lp__ratio_dev(int64_t n, const float* log_prob, const float* old_log_prob);

#endif
