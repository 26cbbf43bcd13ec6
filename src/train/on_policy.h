/* The inside of the trainer on environments. */
#ifndef LP__TRAIN_ON_POLICY_H
#define LP__TRAIN_ON_POLICY_H

#include "train/policy.h"

enum { LP__EPISODES = 100 }; /* that the means of rollout/... are over */

/* Step t of environment i is entry t N + i; widths are those of an observation and of an action. */
typedef struct lp__steps {
    int64_t T, N;
    float* observation; /* [T, N, obs] */
    void* action;       /* int32_t [T, N], or float [T, N, width] */
    float *log_prob, *value, *reward, *advantage, *returns; /* [T, N] */
    bool* ended;                                            /* [T, N]: the episode's last step */
    double* episode_return;                                 /* [T, N]: where it ended */
    int64_t* episode_length;
    float* last_value; /* [N]: after the last step */
} lp__steps;

/* One minibatch, gathered. */
typedef struct lp__minibatch {
    int64_t n;
    float* observation; /* [n, obs] */
    void* action;
    float *log_prob, *value, *advantage, *returns; /* [n] */
} lp__minibatch;

struct lp_on_policy {
    lp_ctx* ctx;
    lp_envs* envs;
    lp_policy* policy;
    lp_on_policy_def def;
    lp_optim* optim;
    lp_tape* tape;
    lp__steps steps;
    lp__minibatch mini;
    int32_t* order; /* [T N]: of an epoch */
    /* environments */
    bool begun;         /* every environment has been heard */
    float* observation; /* [N, obs]: what each sees now */
    uint64_t* made;     /* [N]: steps since the beginning */
    int64_t* taken;     /* [N]: steps of this rollout */
    int32_t* ready;     /* [N]: environments that an action is owed */
    int64_t ready_count;
    float* gathered; /* [N, obs] */
    void* actions;   /* [N, width] */
    /* episodes */
    double episode_return[LP__EPISODES], episode_length[LP__EPISODES];
    int64_t episodes;
    int64_t timesteps, iterations, updates;
};

/* Fills trainer->steps, advantages and returns included. */
lp_status lp__on_policy_collect(lp_on_policy* trainer);

/* Epochs of minibatches of trainer->steps. permutations: [n_epochs, T N] or NULL: drawn from the
 * seed; sample j of one is step j % T of environment j / T. Adds to metrics. */
lp_status lp__on_policy_update(lp_on_policy* trainer, const int32_t* permutations,
                               lp_on_policy_metrics* metrics);

/* The value of a schedule after the steps made so far. */
double lp__schedule_now(const lp_on_policy* trainer, lp_schedule schedule);

#endif
