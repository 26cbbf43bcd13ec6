/* logpi/train.h - where policies and losses meet. On environments:
 *
 *     lp_on_policy_create(envs, policy, &def, &trainer);
 *     lp_on_policy_step(trainer, &metrics);        a rollout, and what is learnt from it
 *
 * and PPO on a language model:
 *
 *     lp_ppo_generate(ppo, &prompts, &batch);      responses of the current policy
 *     ... a score for each response, from any C function ...
 *     lp_ppo_step(ppo, &batch, scores, NULL, &metrics);
 *
 * or GRPO, lp_grpo_generate and lp_grpo_step, in the same way. */
#ifndef LOGPI_TRAIN_H
#define LOGPI_TRAIN_H

#include <logpi/env.h>
#include <logpi/lm.h>
#include <logpi/nn.h>
#include <logpi/pg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- policies of environments ---------------------------------------------------------------- */

/* Actor and critic: two perceptrons apart, as Stable-Baselines3's MlpPolicy. The actor's output is
 * the logits of a categorical distribution, or the mean of a diagonal Gaussian whose log standard
 * deviation is a parameter. */
typedef struct lp_policy lp_policy;

typedef struct lp_policy_def {
    uint32_t cookie;
    lp_space observation, action;  /* as an environment type has them; bounds are not kept */
    int hidden_layers;             /* 2 */
    int64_t hidden[LP_MLP_LAYERS]; /* 64, 64: of actor and critic alike */
    lp_activation activation;      /* LP_TANH */
    double log_std_init;           /* 0; of a box of actions */
    uint64_t seed; /* 0; of the orthogonal initialisation: gains sqrt 2, 0.01 (actor), 1 (critic) */
} lp_policy_def;

LP_API lp_policy_def lp_policy_def_default(const lp_env_type* type);

/* LP_INVALID: a size out of range; LP_NOMEM. It dies with its context, or by lp_policy_destroy
 * (NULL allowed), which must come after that of its trainer. */
LP_API lp_status lp_policy_create(lp_ctx* ctx, const lp_policy_def* def, lp_policy** policy);
LP_API void lp_policy_destroy(lp_policy* policy);
/* Its parameters, borrowed: actor.0.weight [64, obs], actor.0.bias, ..., critic.0.weight, ..., and
 * for a box log_std. */
LP_API lp_params* lp_policy_params(const lp_policy* policy);

/* Writes it as safetensors, its shape, activation and the name of the environment in the metadata;
 * whole or not at all. */
LP_API lp_status lp_policy_save(const lp_policy* policy, const lp_env_type* type, const char* path);
/* Reads such a file. *type (NULL allowed) becomes the environment that it names, NULL if there is
 * none of that name. LP_NOT_FOUND, LP_IO; LP_FORMAT: damaged, or not a policy. */
LP_API lp_status lp_policy_load(lp_ctx* ctx, const char* path, lp_policy** policy,
                                const lp_env_type** type);

/* ---- evaluation ------------------------------------------------------------------------------ */

typedef struct lp_evaluation {
    double mean_reward,
        std_reward; /* of the episodes' returns; std with ddof 0, as Stable-Baselines3's */
    double mean_length;
    int64_t episodes;
} lp_evaluation;

/* Runs `episodes` episodes in `envs`, which begin anew: of environment i the first ceil or floor of
 * episodes / count ones, so that short episodes are not favoured. deterministic: the mode of the
 * distribution; otherwise samples, from seed. returns (NULL allowed) [episodes]. LP_INVALID: the
 * policy is not one for these environments. */
LP_API lp_status lp_evaluate(lp_policy* policy, lp_envs* envs, int64_t episodes, bool deterministic,
                             uint64_t seed, double* returns, lp_evaluation* result);

/* ---- REINFORCE, A2C, PPO on environments ----------------------------------------------------- */

typedef enum lp_algorithm { LP_REINFORCE, LP_A2C, LP_PPO, LP_ALGORITHM_COUNT } lp_algorithm;
LP_API const char* lp_algorithm_name(lp_algorithm algorithm); /* "reinforce", "a2c", "ppo" */

/* A number that may fall to 0 with the steps that are left: rl-zoo's "0.001" and "lin_0.001". */
typedef struct lp_schedule {
    double initial;
    bool linear;
} lp_schedule;

/* Names and defaults are Stable-Baselines3's (PPO, A2C); REINFORCE is A2C with whole returns
 * (gae_lambda 1), a longer rollout and Adam. What an algorithm does not have is not read. */
typedef struct lp_on_policy_def {
    uint32_t cookie;
    lp_algorithm algorithm;
    int64_t n_timesteps; /* 100000: steps of environments in the whole run; schedules end there */
    int64_t n_steps;     /* of each environment in a rollout. PPO 2048, A2C 5, REINFORCE 500 */
    int64_t
        batch_size;   /* PPO 64; the others: the whole rollout. The last minibatch may be smaller */
    int64_t n_epochs; /* PPO 10; the others: 1 */
    lp_schedule learning_rate; /* PPO 3e-4, A2C 7e-4, REINFORCE 1e-3 */
    double gamma;              /* 0.99 */
    double gae_lambda;         /* PPO 0.95; A2C, REINFORCE 1 */
    lp_schedule clip_range;    /* PPO: 0.2 */
    lp_schedule clip_range_vf; /* PPO: 0, none */
    bool normalize_advantage;  /* PPO, REINFORCE: true; A2C: false. Of each minibatch */
    double ent_coef;           /* 0 */
    double vf_coef;            /* 0.5 */
    double max_grad_norm;      /* 0.5; 0: none */
    double target_kl; /* PPO: 0, none. Otherwise an update ends before a step whose approx_kl is
                         above 1.5 times it */
    lp_optim_kind optimizer; /* LP_ADAM (eps 1e-5); A2C: LP_RMSPROP (alpha 0.99, eps 1e-5) */
    double optimizer_eps;    /* 1e-5 */
    uint64_t seed;           /* 0: of actions and shuffling */
} lp_on_policy_def;

LP_API lp_on_policy_def lp_on_policy_def_default(lp_algorithm algorithm);

/* Scalars of one step, under Stable-Baselines3's names. X(field, name, meaning). NaN where there is
 * none yet: write null. */
#define LP_ON_POLICY_METRICS(X)                                                                    \
    X(ep_rew_mean, "rollout/ep_rew_mean", "mean return of the last 100 episodes")                  \
    X(ep_len_mean, "rollout/ep_len_mean", "mean length of the last 100 episodes")                  \
    X(iterations, "time/iterations", "rollouts so far")                                            \
    X(total_timesteps, "time/total_timesteps", "steps of environments so far")                     \
    X(episodes, "time/episodes", "episodes that have ended so far")                                \
    X(time_rollout, "time/rollout", "seconds of this rollout")                                     \
    X(time_update, "time/update", "seconds of this update")                                        \
    X(learning_rate, "train/learning_rate", "learning rate of this update")                        \
    X(clip_range, "train/clip_range", "clip range of the ratio in this update")                    \
    X(clip_range_vf, "train/clip_range_vf",                                                        \
      "clip range of the value in this update; NaN: none is wanted")                               \
    X(policy_gradient_loss, "train/policy_gradient_loss", "surrogate loss, mean over minibatches") \
    X(value_loss, "train/value_loss", "value loss before vf_coef, mean over minibatches")          \
    X(entropy_loss, "train/entropy_loss", "minus the entropy, mean over minibatches")              \
    X(loss, "train/loss", "whole loss of the last minibatch")                                      \
    X(approx_kl, "train/approx_kl",                                                                \
      "mean of (ratio - 1) - log ratio (k3), over the minibatches of the last epoch")              \
    X(clip_fraction, "train/clip_fraction",                                                        \
      "share of steps whose ratio was outside of the clip range")                                  \
    X(explained_variance, "train/explained_variance",                                              \
      "1 - Var(return - value) / Var(return) of the rollout")                                      \
    X(grad_norm, "train/grad_norm",                                                                \
      "gradient norm before clipping, mean over optimizer steps; NaN: there was none")             \
    X(ratio_max_dev, "train/ratio_max_dev", "largest |ratio - 1| before the first update: 0")      \
    X(std, "train/std", "mean standard deviation of the actions, of a box")                        \
    X(n_updates, "train/n_updates", "epochs so far")

typedef struct lp_on_policy_metrics {
#define LP__METRIC_FIELD(field, name, meaning) double field;
    LP_ON_POLICY_METRICS(LP__METRIC_FIELD)
#undef LP__METRIC_FIELD
} lp_on_policy_metrics;

/* Visits the scalars in the order of the table; index is in 0 .. count - 1. Strings are static. */
LP_API int lp_on_policy_metrics_count(void);
LP_API const char* lp_on_policy_metrics_name(int index);
LP_API const char* lp_on_policy_metrics_meaning(int index);
LP_API double lp_on_policy_metrics_get(const lp_on_policy_metrics* metrics, int index);

typedef struct lp_on_policy lp_on_policy;

/* A trainer of `policy` in `envs`, which begin anew; both must outlive it. LP_INVALID: a setting
 * out of range, or a policy that is not one for these environments; LP_NOMEM. It dies with its
 * context, or by lp_on_policy_destroy (NULL allowed). */
LP_API lp_status lp_on_policy_create(lp_envs* envs, lp_policy* policy, const lp_on_policy_def* def,
                                     lp_on_policy** trainer);
LP_API void lp_on_policy_destroy(lp_on_policy* trainer);

/* One rollout of n_steps of each environment, and the update from it. metrics may be NULL; written
 * on success only. LP_NONFINITE: an observation, a reward (named with environment and step) or a
 * gradient; LP_CANCELLED. After a failure in the rollout the next one begins with new episodes; an
 * update that fails leaves the policy and the optimizer as they were before it. */
LP_API lp_status lp_on_policy_step(lp_on_policy* trainer, lp_on_policy_metrics* metrics);

LP_API int64_t
lp_on_policy_timesteps(const lp_on_policy* trainer); /* steps of environments so far */

/* ---- prompts --------------------------------------------------------------------------------- */

/* Token ids of several prompts, packed. Starts as {0}; setting count and tokens.count to 0 empties
 * it and keeps its memory. */
typedef struct lp_prompts {
    lp_token_list tokens;
    int64_t* offsets; /* [count + 1] */
    int64_t count;
    int64_t room; /* private: of offsets */
} lp_prompts;

/* Adds a prompt: plain text (terminated UTF-8), in which control tokens are read as such, or (chat)
 * one user message in the model's chat format. LP_INVALID: it has no tokens. LP_FORMAT: not UTF-8.
 * LP_UNSUPPORTED: chat, and the model has no chat template that is known. LP_NOMEM. On failure the
 * list keeps what it had. It is freed by lp_prompts_free or with ctx. */
LP_API lp_status lp_prompts_add(lp_ctx* ctx, lp_prompts* prompts, const lp_model* model,
                                const char* text, bool chat);
LP_API void lp_prompts_free(lp_ctx* ctx, lp_prompts* prompts);

/* ---- rewards --------------------------------------------------------------------------------- */

/* 1 if the response contains the word, in any case of its letters, else 0: Unicode's simple case
 * folding, one character for one; case of ASCII letters only if one of them is no UTF-8 or the word
 * is of more than 16,384 bytes. NaN when out of memory, which letters beyond ASCII need. text:
 * terminated, without special tokens. */
LP_API double lp_reward_contains(const char* text, const char* word);

/* ---- log pi of language models --------------------------------------------------------------- */

/* Of which distribution log pi(token) is, of the new, the old and the reference policy alike: in
 * losses, ratios, estimates of the KL (k1, k2, k3) and the entropy of the metrics. The KL over the
 * whole vocabulary (LP_KL_FULL, exact_kl) is always at temperature 1. From the whole softmax at
 * temperature 1, the defaults of lp_generate_def, all three are one.
 *
 * Only of the distribution that was sampled from is E[grad log pi] = 0, and the expected update the
 * gradient of the expected reward (Williams 1992, theorem 1): the others learn off-policy, by as
 * much as sampling departs from them, with no ratio that corrects it. */
typedef enum lp_logp {
    LP_LOGP_SAMPLED,  /* what the token was drawn from: softmax(z / temperature), renormalised on
                         the tokens that top_k, top_p, min_p, min_new_tokens and suppress_tokens
                         left (lp_generation.kept), which are constants of the gradient. At
                         temperature 0, where the token has probability 1, it is as at temperature
                         1, as in lp_generation.log_probs */
    LP_LOGP_TEMPERED, /* softmax(z / temperature) over the whole vocabulary: TRL 1.x's GRPOTrainer.
                         Not at temperature 0 */
    LP_LOGP_RAW       /* softmax(z): TRL 0.11.4's PPOTrainer */
} lp_logp;

/* ---- PPO: TRL 0.11.4's PPOTrainer ------------------------------------------------------------ */

typedef enum lp_value_init {
    LP_VALUE_UNIFORM, /* torch.nn.Linear's: weight and bias uniform within 1 / sqrt(width) */
    LP_VALUE_ZEROS
} lp_value_init;

/* Names and defaults are those of TRL's PPOConfig, batch sizes apart. */
typedef struct lp_ppo_def {
    uint32_t cookie;
    double learning_rate;              /* 1.41e-5; Adam, betas 0.9 and 0.999, eps 1e-8, constant */
    int64_t mini_batch_size;           /* 1; sequences of one optimizer step; divides the batch */
    int64_t ppo_epochs;                /* 4 */
    bool adap_kl_ctrl;                 /* true */
    double init_kl_coef;               /* 0.2 */
    double target, horizon;            /* 6, 10000: of the adaptive controller */
    lp_kl_penalty kl_penalty;          /* LP_KL_K1 */
    double gamma, lam;                 /* 1, 0.95 */
    double cliprange, cliprange_value; /* 0.2, 0.2 */
    double vf_coef;                    /* 0.1 */
    double max_grad_norm;              /* 0: no clipping */
    double ratio_threshold; /* 10: a minibatch with a larger mean ratio has no gradient */
    bool early_stopping;    /* false */
    double target_kl;       /* 1: with early_stopping, epochs end after 1.5 times this */
    bool whiten_rewards;    /* false */
    bool use_score_scaling, use_score_norm; /* false */
    double score_clip;                      /* 0: none */
    lp_value_init v_head_init; /* LP_VALUE_UNIFORM; of a head that the weights do not have yet */
    bool recompute; /* less memory for more work, the same bits: see lp_tape_recompute. false */
    int64_t micro_batch_size;  /* sequences computed at a time; 0: as many as make about 512 tokens.
                                  It changes no  bit of the result */
    uint64_t seed;
    lp_logp logp; /* LP_LOGP_SAMPLED; TRL's is LP_LOGP_RAW, another one as soon as sampling is not
                     from the whole softmax at temperature 1 */
    lp_generate_def generate; /* seed and round are set by the trainer, and keep_sets where logp
                                 needs them */
} lp_ppo_def;

LP_API lp_ppo_def lp_ppo_def_default(void);

/* Scalars of one step, under TRL's names. X(field, name, meaning). NaN where a value is not defined
 * (a deviation of one sequence): write null. */
#define LP_PPO_METRICS(X)                                                                          \
    X(objective_kl, "objective/kl",                                                                \
      "mean over sequences of the summed KL penalty to the reference")                             \
    X(objective_kl_coef, "objective/kl_coef", "coefficient of the KL penalty in this step")        \
    X(objective_entropy, "objective/entropy",                                                      \
      "mean over sequences of the summed -log pi of its tokens")                                   \
    X(mean_non_score_reward, "ppo/mean_non_score_reward",                                          \
      "mean over tokens of -kl_coef times the KL penalty")                                         \
    X(mean_scores, "ppo/mean_scores", "mean score of the batch, after scaling and clipping")       \
    X(std_scores, "ppo/std_scores", "standard deviation of the scores, ddof 1")                    \
    X(learning_rate, "ppo/learning_rate", "learning rate of this step")                            \
    X(loss_policy, "ppo/loss/policy", "clipped policy loss, mean over minibatches")                \
    X(loss_value, "ppo/loss/value", "clipped value loss, before vf_coef")                          \
    X(loss_total, "ppo/loss/total", "policy loss + vf_coef value loss")                            \
    X(policy_entropy, "ppo/policy/entropy",                                                        \
      "entropy of the policy's distribution, mean over tokens")                                    \
    X(policy_approxkl, "ppo/policy/approxkl",                                                      \
      "half the mean squared log ratio of new to old policy (k2)")                                 \
    X(policy_policykl, "ppo/policy/policykl", "mean of old - new log-probability (k1)")            \
    X(policy_clipfrac, "ppo/policy/clipfrac", "share of tokens whose ratio was clipped")           \
    X(policy_advantages_mean, "ppo/policy/advantages_mean", "mean advantage of a minibatch")       \
    X(policy_ratio, "ppo/policy/ratio", "mean ratio of new to old policy")                         \
    X(returns_mean, "ppo/returns/mean", "mean return of a minibatch")                              \
    X(returns_var, "ppo/returns/var", "variance of the returns, ddof 1")                           \
    X(val_vpred, "ppo/val/vpred", "mean of the values after the update so far")                    \
    X(val_error, "ppo/val/error", "mean squared error of the values")                              \
    X(val_clipfrac, "ppo/val/clipfrac", "share of tokens whose value was clipped")                 \
    X(val_mean, "ppo/val/mean", "mean of the values before the update")                            \
    X(val_var, "ppo/val/var", "their variance, ddof 1")                                            \
    X(val_var_explained, "ppo/val/var_explained", "1 - error / variance of the returns")           \
    X(queries_len_mean, "tokens/queries_len_mean", "tokens of a prompt")                           \
    X(queries_len_std, "tokens/queries_len_std", "their standard deviation, ddof 1")               \
    X(responses_len_mean, "tokens/responses_len_mean", "tokens of a response")                     \
    X(responses_len_std, "tokens/responses_len_std", "their standard deviation, ddof 1")           \
    X(reward_mean, "env/reward_mean", "mean score as it was given")                                \
    X(reward_std, "env/reward_std", "its standard deviation, ddof 1")                              \
    X(grad_norm, "grad_norm", "gradient norm before clipping, mean over optimizer steps")          \
    X(ratio_max_dev, "ratio_max_dev",                                                              \
      "largest |ratio - 1| of sampling and learning before the first update: 0; NaN: logp is not " \
      "of what was sampled from, or the batch has no log_probs")                                   \
    X(skipped, "ppo/skipped_minibatches", "minibatches over ratio_threshold")                      \
    X(time_generate, "time/ppo/generate", "seconds of the last lp_ppo_generate")                   \
    X(time_forward, "time/ppo/forward_pass",                                                       \
      "seconds for log-probabilities, reference and values")                                       \
    X(time_optimize, "time/ppo/optimize_step", "seconds for all epochs")                           \
    X(time_total, "time/ppo/total", "seconds of the step")

typedef struct lp_ppo_metrics {
#define LP__METRIC_FIELD(field, name, meaning) double field;
    LP_PPO_METRICS(LP__METRIC_FIELD)
#undef LP__METRIC_FIELD
} lp_ppo_metrics;

/* Visits the scalars in the order of the table; index is in 0 .. count - 1. Strings are static. */
LP_API int lp_ppo_metrics_count(void);
LP_API const char* lp_ppo_metrics_name(int index);
LP_API const char* lp_ppo_metrics_meaning(int index);
LP_API double lp_ppo_metrics_get(const lp_ppo_metrics* metrics, int index);

typedef struct lp_ppo lp_ppo;

/* A trainer of `policy` (trainable) with the frozen reference `reference`; model and both must
 * outlive it. The policy gains the value head v_head.summary.weight [1, width] and .bias [1, 1];
 * one that it has already goes on as it is. Adam starts anew. LP_INVALID: a value of def is out of
 * range, or LP_LOGP_TEMPERED is wanted at temperature 0; LP_NOMEM. It dies with its context, or by
 * lp_ppo_destroy (NULL allowed). */
LP_API lp_status lp_ppo_create(const lp_model* model, lp_weights* policy,
                               const lp_weights* reference, const lp_ppo_def* def, lp_ppo** ppo);
LP_API void lp_ppo_destroy(lp_ppo* ppo);

/* One response for each prompt, from the current policy, into *batch (start with {0}); errors as
 * lp_generate. Each call that succeeds draws from random streams of its own. */
LP_API lp_status lp_ppo_generate(lp_ppo* ppo, const lp_prompts* prompts, lp_generation* batch);

/* One step: rewards with KL, advantages, ppo_epochs over minibatches of the batch. scores
 * [sequences]. permutations: the order of the sequences for each epoch, [ppo_epochs, sequences], or
 * NULL: drawn from the seed. metrics may be NULL; it is written on success only. A step is whole or
 * leaves no trace: on failure weights, optimizer and coefficients are, bit for bit, what they were.
 * LP_NONFINITE: a score, or a gradient of one of the updates. LP_CANCELLED, LP_NOMEM. LP_INVALID:
 * the batch is empty, mini_batch_size does not divide it, or a response is empty; with
 * LP_LOGP_SAMPLED, a kept set is none, or there are none though the settings limit what is drawn:
 * log pi cannot be known then. Sets that a batch brings are used whatever the settings are. */
LP_API lp_status lp_ppo_step(lp_ppo* ppo, const lp_generation* batch, const double* scores,
                             const int32_t* permutations, lp_ppo_metrics* metrics);

/* What the last step saw, per sequence of its batch and per response token, in the batch's order
 * (TRL's objective/ logprobs, objective/ref_logprobs, ppo/policy/advantages): borrowed until the
 * next. */
typedef struct lp_ppo_dists {
    int64_t sequences, tokens;
    const double *kl, *scores;                           /* [sequences] */
    const float *log_probs, *ref_log_probs, *advantages; /* [tokens] */
} lp_ppo_dists;
LP_API lp_ppo_dists lp_ppo_last_dists(const lp_ppo* ppo);

/* Writes the policy as a Hugging Face folder (see lp_model_save), and its value head beside it as
 * value_head.safetensors. LP_IO and what it says: each file is written whole or not at all. */
LP_API lp_status lp_ppo_save(const lp_ppo* ppo, const char* folder);

LP_API double lp_ppo_kl_coef(const lp_ppo* ppo);
LP_API int64_t lp_ppo_steps(const lp_ppo* ppo); /* steps done so far */

/* ---- GRPO: TRL 1.16's GRPOTrainer ------------------------------------------------------------ */

/* Names and defaults are those of TRL's GRPOConfig. */
typedef struct lp_grpo_def {
    uint32_t cookie;
    int64_t num_generations;        /* 8; at least 2: responses of each prompt, a group */
    int64_t num_iterations;         /* 1; updates from one batch */
    lp_loss_type loss_type;         /* LP_LOSS_DAPO */
    lp_scale_rewards scale_rewards; /* LP_SCALE_GROUP */
    double epsilon;                 /* 0.2 */
    double epsilon_high;            /* 0: as epsilon */
    double beta; /* 0; coefficient of the KL (k3) to the reference; with 0 none is needed */
    bool use_bias_correction_kl;         /* true: k3 times ratio, see lp_kl_estimator */
    bool exact_kl;                       /* false; also measure the KL over the whole vocabulary */
    int64_t per_device_train_batch_size; /* 0: the whole batch; of LP_LOSS_BNPO, see
                                            lp_token_weights */
    double learning_rate;                /* 1e-6; of AdamW, falling linearly to 0 */
    int64_t max_steps;                   /* 0: constant; updates after which it is 0 */
    double adam_beta1, adam_beta2, adam_epsilon; /* 0.9, 0.999, 1e-8 */
    double weight_decay;      /* 0; of every weight: transformers leaves norms and biases out */
    double max_grad_norm;     /* 1; 0: no clipping */
    bool recompute; /* less memory for more work, the same bits: see lp_tape_recompute. false */
    int64_t micro_batch_size; /* sequences computed at a time; 0: as many as make about 512 tokens.
                                 It changes no bit of the result */
    uint64_t seed;
    lp_logp logp; /* LP_LOGP_SAMPLED; TRL's is LP_LOGP_TEMPERED, another one as soon as top_k,
                     top_p, min_p, min_new_tokens or suppress_tokens leave tokens out */
    lp_generate_def generate; /* max_new_tokens (TRL's max_completion_length) is 512; seed, round
                                 and first_index are set by the trainer, and keep_sets where logp
                                 needs them */
} lp_grpo_def;

LP_API lp_grpo_def lp_grpo_def_default(void);

/* Scalars of one step, under TRL's names: means over its updates where each has one. X(field, name,
 * meaning). NaN where a value is not defined: write null. */
#define LP_GRPO_METRICS(X)                                                                         \
    X(loss, "loss", "the loss; about 0 at the first update, where every ratio is 1")               \
    X(grad_norm, "grad_norm", "gradient norm before clipping")                                     \
    X(learning_rate, "learning_rate", "learning rate of the last update")                          \
    X(num_tokens, "num_tokens", "tokens of prompts and completions so far")                        \
    X(mean_length, "completions/mean_length", "tokens of a completion")                            \
    X(min_length, "completions/min_length", "of the shortest")                                     \
    X(max_length, "completions/max_length", "of the longest")                                      \
    X(clipped_ratio, "completions/clipped_ratio",                                                  \
      "share of completions that max_completion_length cut off")                                   \
    X(mean_terminated_length, "completions/mean_terminated_length",                                \
      "tokens of a completion that ended by itself; 0: none did")                                  \
    X(min_terminated_length, "completions/min_terminated_length", "of the shortest of those")      \
    X(max_terminated_length, "completions/max_terminated_length", "of the longest of those")       \
    X(reward, "reward", "mean reward")                                                             \
    X(reward_std, "reward_std", "standard deviation of all rewards, ddof 1")                       \
    X(frac_reward_zero_std, "frac_reward_zero_std",                                                \
      "share of groups whose rewards are all equal: they teach nothing")                           \
    X(entropy, "entropy", "entropy of the policy's distribution, mean over tokens")                \
    X(kl, "kl", "k3 to the reference as it is in the loss, mean over tokens; NaN: beta is 0")      \
    X(kl_exact, "kl/exact",                                                                        \
      "KL to the reference over the whole vocabulary, before the step; NaN: not asked for")        \
    X(clip_low_mean, "clip_ratio/low_mean", "share of tokens clipped at 1 - epsilon")              \
    X(clip_low_min, "clip_ratio/low_min", "least such share of a completion")                      \
    X(clip_high_mean, "clip_ratio/high_mean", "share of tokens clipped at 1 + epsilon_high")       \
    X(clip_high_max, "clip_ratio/high_max", "largest such share of a completion")                  \
    X(clip_region_mean, "clip_ratio/region_mean", "share of tokens clipped at either side")        \
    X(ratio_max_dev, "ratio_max_dev",                                                              \
      "largest |ratio - 1| of sampling and learning before the first update: 0; NaN: logp is not " \
      "of what was sampled from, or the batch has no log_probs")                                   \
    X(time_generate, "time/generate", "seconds of the last lp_grpo_generate")                      \
    X(time_reference, "time/reference", "seconds for the reference")                               \
    X(time_train, "time/train", "seconds for all updates")                                         \
    X(step_time, "step_time", "seconds of generation and step, without the rewards")

typedef struct lp_grpo_metrics {
#define LP__METRIC_FIELD(field, name, meaning) double field;
    LP_GRPO_METRICS(LP__METRIC_FIELD)
#undef LP__METRIC_FIELD
} lp_grpo_metrics;

/* Visits the scalars in the order of the table; index is in 0 .. count - 1. Strings are static. */
LP_API int lp_grpo_metrics_count(void);
LP_API const char* lp_grpo_metrics_name(int index);
LP_API const char* lp_grpo_metrics_meaning(int index);
LP_API double lp_grpo_metrics_get(const lp_grpo_metrics* metrics, int index);

typedef struct lp_grpo lp_grpo;

/* A trainer of `policy` (trainable) with the frozen reference `reference`, which may be NULL if
 * beta is 0 and no exact KL is wanted; model and both must outlive it. AdamW starts anew.
 * LP_INVALID: a value of def is out of range, or the reference is missing; LP_NOMEM. It dies with
 * its context, or by lp_grpo_destroy (NULL allowed). */
LP_API lp_status lp_grpo_create(const lp_model* model, lp_weights* policy,
                                const lp_weights* reference, const lp_grpo_def* def,
                                lp_grpo** grpo);
LP_API void lp_grpo_destroy(lp_grpo* grpo);

/* num_generations responses for each prompt, from the current policy, into *batch (start with {0}):
 * those of prompt i are sequences i G .. i G + G - 1, and generation g of it has the random stream
 * of index i G + g. Errors as lp_generate. Each call that succeeds draws from random streams of its
 * own. */
LP_API lp_status lp_grpo_generate(lp_grpo* grpo, const lp_prompts* prompts, lp_generation* batch);

/* One step on a batch: advantages of the groups, and num_iterations updates. rewards [sequences].
 * metrics may be NULL; it is written on success only. A step is whole or leaves no trace: on
 * failure weights and optimizer are, bit for bit, what they were. LP_NONFINITE: a reward, or a
 * gradient of one of the updates. LP_CANCELLED, LP_NOMEM. LP_INVALID: the batch is empty or not
 * made of whole groups, a response is empty, or per_device_train_batch_size does not divide it; and
 * kept sets as in lp_ppo_step. */
LP_API lp_status lp_grpo_step(lp_grpo* grpo, const lp_generation* batch, const double* rewards,
                              lp_grpo_metrics* metrics);

/* What the last step saw, in its batch's order, borrowed until the next: advantages [sequences],
 * and per response token the log-probabilities at sampling and of the reference (NULL: none), as
 * logp has them. */
typedef struct lp_grpo_dists {
    int64_t sequences, tokens;
    const double* advantages;
    const float *old_log_probs, *ref_log_probs;
} lp_grpo_dists;
LP_API lp_grpo_dists lp_grpo_last_dists(const lp_grpo* grpo);

/* Writes the policy as a Hugging Face folder (see lp_model_save). */
LP_API lp_status lp_grpo_save(const lp_grpo* grpo, const char* folder);

LP_API int64_t lp_grpo_steps(const lp_grpo* grpo); /* steps done so far */

#ifdef __cplusplus
}
#endif
#endif
