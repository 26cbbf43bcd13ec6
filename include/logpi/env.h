/* logpi/env.h - vectorised environments.
 *
 * An environment type is a table of functions on a state of pointer-free bytes. Environments of one
 * type run side by side; they are sent actions and answer with observations, in whatever order they
 * are ready:
 *
 *     lp_envs_create(ctx, &def, &envs);
 *     lp_envs_receive(envs, &r);                        the first observation of each
 *     for (;;) {
 *         ... actions[i] for each environment r.index[i] ...
 *         lp_envs_send(envs, r.count, r.index, actions);
 *         lp_envs_receive(envs, &r);                    what those steps led to
 *     }
 *
 * An episode that ends is followed by the next at once, in the same step. Terminated (the task is
 * over) and truncated (time is up) are different facts; terminated beats truncated, where Gymnasium
 * says both. */
#ifndef LOGPI_ENV_H
#define LOGPI_ENV_H

#include <logpi/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- types ----------------------------------------------------------------------------------- */

typedef enum lp_space_kind {
    LP_SPACE_DISCRETE, /* one of n: an int32_t in 0 .. n - 1 */
    LP_SPACE_BOX       /* n numbers: float [n] */
} lp_space_kind;

typedef struct lp_space {
    lp_space_kind kind;
    int64_t n;
    const float *low, *high; /* [n] of a box; NULL: unbounded */
} lp_space;

/* An environment, written in C. Its functions are called from any thread, never two at once for one
 * state, and must keep nothing outside of the state, which is aligned to 16 bytes. */
typedef struct lp_env_type {
    const char* name;     /* as registered with Gymnasium: "CartPole-v1" */
    const char* summary;  /* one line */
    lp_space observation; /* a box */
    lp_space action;
    size_t state_bytes;
    int64_t max_episode_steps; /* steps after which an episode is truncated; 0: never */
    double reward_threshold;   /* mean return from which the task counts as solved */
    /* A new episode, from a state of zeros; random numbers come from rng only. */
    void (*reset)(void* state, lp_rng* rng);
    /* The observation of a state, float [observation.n]. */
    void (*observe)(const void* state, float* observation);
    /* One step: action is an int32_t, or float [action.n]. Returns the reward; *terminated comes as
     * false. */
    double (*step)(void* state, const void* action, bool* terminated);
} lp_env_type;

/* The environments of the library: table and length; one by name, or NULL. Static. */
LP_API const lp_env_type* const* lp_env_types(int* count);
LP_API const lp_env_type* lp_env_find(const char* name);

/* ---- many of one type ------------------------------------------------------------------------ */

typedef struct lp_envs_def {
    uint32_t cookie;
    const lp_env_type* type; /* must outlive the environments */
    int64_t count;           /* 1; 1 .. 65536 */
    uint64_t seed; /* 0; with the index of an environment and the number of its episode it fixes the
                      random stream of a reset, so that neither order nor company matters */
} lp_envs_def;

LP_API lp_envs_def lp_envs_def_default(const lp_env_type* type);

typedef struct lp_envs lp_envs;

/* What the environments that are ready have to say; borrowed until the next receive. Rows are by
 * environment: row i is of environment i. Only those named in index have changed. */
typedef struct lp_env_results {
    int64_t count;
    const int32_t* index; /* [count], rising */
    const float*
        observation;      /* [environments, obs]; after an end, the first one of the next episode */
    const double* reward; /* [environments]: of the last step; 0 after a reset by hand */
    const bool *terminated,
        *truncated; /* [environments]: how the last step ended the episode, if it did */
    const float*
        final_observation; /* [environments, obs]: where an episode ended, its last observation */
    const double*
        episode_return; /* [environments]: where an episode ended, the sum of its rewards */
    const int64_t* episode_length; /* [environments]: and its steps */
} lp_env_results;

/* Makes and resets them; nothing is allocated later. LP_INVALID: count out of range, or a type that
 * lacks a function or has an empty space; LP_NOMEM. They die with their context, or by
 * lp_envs_destroy (NULL allowed). */
LP_API lp_status lp_envs_create(lp_ctx* ctx, const lp_envs_def* def, lp_envs** envs);
LP_API void lp_envs_destroy(lp_envs* envs);
LP_API const lp_env_type* lp_envs_type(const lp_envs* envs);
LP_API int64_t lp_envs_count(const lp_envs* envs);

/* Sends one action to each environment index[i] (rising; each must have been received since it was
 * last sent to): actions is int32_t [count] or float [count, action.n]. LP_INVALID: an action
 * outside of its space (a float that is not finite; values beyond low and high are clipped, as
 * Stable-Baselines3 clips them), named with its environment; nothing is then sent. The results of
 * the last receive stay as they are. */
LP_API lp_status lp_envs_send(lp_envs* envs, int64_t count, const int32_t* index,
                              const void* actions);

/* Waits until at least one environment that was sent to is ready, and fills *results with all that
 * are. LP_NONFINITE: an observation or a reward, or the sum of an episode's rewards, is NaN or
 * infinite; the message names type, environment, step of its episode (0: the first observation),
 * and entry; nothing is received until lp_envs_reset. LP_INVALID: nothing was sent. LP_CANCELLED:
 * what was sent stays to be received. */
LP_API lp_status lp_envs_receive(lp_envs* envs, lp_env_results* results);

/* All environments begin anew, with episodes numbered on; their first observations are then to be
 * received. */
LP_API void lp_envs_reset(lp_envs* envs);

#ifdef __cplusplus
}
#endif
#endif
