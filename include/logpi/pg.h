/* logpi/pg.h - policy gradient: the closed-form softmax policy, distributions, advantages, losses.
 *
 * Nothing here knows a network or an environment: a policy is log-probabilities, a loss is a scalar
 * on a tape.
 *
 *     theta += eta * A * grad log pi(a | x) */
#ifndef LOGPI_PG_H
#define LOGPI_PG_H

#include <logpi/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- rung 1: the linear softmax policy, its gradient written out by hand ---------------------- *
 *
 * State x in R^d, parameters Theta [d, k] (row-major), logits z = Theta^T x, probabilities p =
 * softmax(z). In double, in the caller's arrays; none may overlap. */

/* p_a = exp(z_a - max z) / sum_j exp(z_j - max z), into p [k]. */
LP_API void lp_softmax_policy_probs(int64_t d, int64_t k, const double* theta, const double* x,
                                    double* p);

/* log p_a = z_a - log sum_j exp(z_j). */
LP_API double lp_softmax_policy_log_prob(int64_t d, int64_t k, const double* theta, const double* x,
                                         int64_t a);

/* An action in [0, k) with the probabilities p; with a NumPy stream np.random.choice(k, p=p). -1 if
 * no entry of p is positive and finite. */
LP_API int64_t lp_softmax_policy_sample(lp_rng* rng, int64_t k, const double* p);

/* grad_Theta log p_a = x (e_a - p)^T, into grad [d, k]. */
LP_API void lp_softmax_policy_grad(int64_t d, int64_t k, const double* x, const double* p,
                                   int64_t a, double* grad);

/* Theta += eta A x (e_a - p)^T without storing the gradient. */
LP_API void lp_softmax_policy_update(int64_t d, int64_t k, double* theta, const double* x,
                                     const double* p, int64_t a, double eta, double advantage);

/* ---- the supervised twins: a label in place of the sampled action ----------------------------- *
 *
 * n >= 1 examples, a row of x [n, d] each, with labels y [n]; the loss J is a mean over them, and
 * its gradient is written out by hand. In double, in the caller's arrays; none may overlap. Bishop
 * 2006, "Pattern recognition and machine learning", equations 4.90 and 4.91 (logistic), 4.108
 * and 4.109 (softmax). */

/* Softmax regression, on the policy's parameters Theta [d, k], labels in [0, k):
 *     J = -1/n sum_i log p_{y_i}(x_i),   p(x) = softmax(Theta^T x)          (cross-entropy, in
 * nats) */
LP_API double lp_softmax_regression_loss(int64_t d, int64_t k, int64_t n, const double* theta,
                                         const double* x, const int32_t* y);
/* grad_Theta J = 1/n sum_i x_i (p(x_i) - e_{y_i})^T, into grad [d, k]. */
LP_API void lp_softmax_regression_grad(int64_t d, int64_t k, int64_t n, const double* theta,
                                       const double* x, const int32_t* y, double* grad);
/* Theta -= eta grad J; grad [d, k] receives the gradient before the step. */
LP_API void lp_softmax_regression_update(int64_t d, int64_t k, int64_t n, double* theta,
                                         const double* x, const int32_t* y, double eta,
                                         double* grad);

/* Logistic regression, on theta [d], labels 0 and 1: the softmax of the two logits 0 and x^T theta.
 *     p = sigmoid(x^T theta) = 1 / (1 + exp(-x^T theta)), the probability of label 1: log(p / (1 -
 * p)) = x^T theta */
LP_API double lp_logistic_prob(int64_t d, const double* theta, const double* x);
/* J = 1/n sum_i -(y_i log p_i + (1 - y_i) log(1 - p_i)), from the logits: finite where p rounds to
 * 0 or 1. */
LP_API double lp_logistic_loss(int64_t d, int64_t n, const double* theta, const double* x,
                               const int32_t* y);
/* grad_theta J = 1/n sum_i (p_i - y_i) x_i, into grad [d]. */
LP_API void lp_logistic_grad(int64_t d, int64_t n, const double* theta, const double* x,
                             const int32_t* y, double* grad);
/* theta -= eta grad J; grad [d] receives the gradient before the step. */
LP_API void lp_logistic_update(int64_t d, int64_t n, double* theta, const double* x,
                               const int32_t* y, double eta, double* grad);

/* ---- distributions ---------------------------------------------------------------------------- *
 *
 * One distribution a row; log-probabilities, entropies and divergences are [rows, 1] and
 * differentiable. */

typedef enum lp_dist_kind { LP_CATEGORICAL, LP_GAUSSIAN } lp_dist_kind;

typedef struct lp_dist {
    lp_dist_kind kind;
    lp_tensor log_p;   /* categorical: log-probabilities [rows, k] */
    lp_tensor mean;    /* Gaussian: [rows, n] */
    lp_tensor log_std; /* Gaussian: [rows, n], a row [1, n], or a scalar */
} lp_dist;

/* softmax(logits) over each row: torch.distributions.Categorical(logits=logits). */
LP_API lp_dist lp_categorical(lp_tape* t, lp_tensor logits);
/* Independent normal variates with the given mean and log standard deviation: a diagonal Gaussian.
 */
LP_API lp_dist lp_gaussian(lp_tape* t, lp_tensor mean, lp_tensor log_std);

/* One sample a row, a constant: [rows, 1] of LP_I32 (categorical) or [rows, n]. With a PyTorch
 * stream: what Categorical.sample() draws. A row without a finite positive probability fails with
 * LP_NONFINITE. */
LP_API lp_tensor lp_sample(lp_tape* t, lp_dist pi, lp_rng* rng);
/* log pi(a), a as lp_sample gives it; over the columns of a Gaussian the densities multiply. */
LP_API lp_tensor lp_log_prob(lp_tape* t, lp_dist pi, lp_tensor a);
/* In nats; a Gaussian's is that of its density (may be negative). */
LP_API lp_tensor lp_entropy(lp_tape* t, lp_dist pi);
/* KL(p || q) in nats, exact. Both of one kind and shape. Infinite where q rules out what p does
 * not. */
LP_API lp_tensor lp_kl(lp_tape* t, lp_dist p, lp_dist q);
/* The most likely action: the first argmax, or the mean. A constant. */
LP_API lp_tensor lp_mode(lp_tape* t, lp_dist pi);

/* The gradcheck cases of the distributions and of the losses. */
LP_API int lp_pg_gradcheck_cases(const lp_gradcheck_case** cases);

/* ---- PPO on token sequences: TRL 0.11.4, PPOTrainer ------------------------------------------- *
 *
 * Arrays are ragged: response s is entries offsets[s] .. offsets[s+1]-1, no padding. Entry t of a
 * response is about its t-th token: log-probability, value (read where the token was predicted
 * from), reward. */

typedef enum lp_kl_penalty {
    LP_KL_K1,  /* "kl":  log pi - log pi_ref, the unbiased estimate */
    LP_KL_ABS, /* "abs": its absolute value */
    LP_KL_MSE, /* "mse": half its square (k2) */
    LP_KL_FULL /* "full": the exact divergence over the vocabulary, passed in by the caller */
} lp_kl_penalty;

/* kl [n]: the penalty of each token. full [n] is read for LP_KL_FULL only, and may be NULL
 * otherwise. */
LP_API void lp_kl_per_token(lp_kl_penalty kind, int64_t n, const float* log_prob,
                            const float* ref_log_prob, const float* full, float* kl);

/* rewards_t = -kl_coef kl_t, and the score of the sequence is added at its last token. Empty
 * responses have none. */
LP_API void lp_token_rewards(int64_t sequences, const int64_t* offsets, const float* kl,
                             double kl_coef, const double* scores, float* rewards);

/* Three estimates of KL(pi || pi_ref) from one sample of pi, with x = log pi_ref - log pi; Schulman
 * 2020, "Approximating KL divergence". All have positive or no bias as values; of their gradients
 * see each. */
typedef enum lp_kl_estimator {
    LP_K1 = 1, /* -x: unbiased; its gradient is grad log pi, of mean 0 */
    LP_K2 = 2, /* x^2 / 2: biased; its gradient is that of the KL on average */
    LP_K3 = 3  /* e^x - 1 - x: unbiased and never negative; its gradient is that of KL(pi_ref ||
                  pi) on average. Times pi / pi_old that of KL(pi || pi_ref) */
} lp_kl_estimator;
/* log_prob [n, 1], ref_log_prob of the same shape -> [n, 1]. */
LP_API lp_tensor lp_kl_estimate(lp_tape* t, lp_kl_estimator kind, lp_tensor log_prob,
                                lp_tensor ref_log_prob);

/* Generalised advantage estimation (Schulman et al. 2016, equation 16) within each response, V = 0
 * after its last token:  delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda
 * A_{t+1},  R_t = A_t + V_t. */
LP_API void lp_gae(int64_t sequences, const int64_t* offsets, const float* rewards,
                   const float* values, double gamma, double lambda, float* advantages,
                   float* returns);

/* x = (x - mean) / sqrt(var + 1e-8), var unbiased (ddof 1); shift_mean false puts the mean back.
 * One entry alone has no variance: nothing is left of it but its mean (TRL: NaN). */
LP_API void lp_whiten(int64_t n, float* x, bool shift_mean);

/* ---- the policy-gradient loss ---------------------------------------------------------------- */

typedef enum lp_surrogate {
    LP_SURROGATE_SCORE, /* -A log pi: its gradient is -A grad log pi. REINFORCE (Williams 1992), A2C
                         */
    LP_SURROGATE_CLIPPED /* max(-A ratio, -A clamp(ratio, 1 - eps, 1 + eps)), ratio = pi / pi_old:
                            PPO, Schulman et al. 2017, equation 7 */
} lp_surrogate;

typedef enum lp_value_loss {
    LP_VALUE_LOSS_PLAIN,   /* (V - R)^2 */
    LP_VALUE_LOSS_CLIPPED, /* (clamp(V, V_old - c, V_old + c) - R)^2: Stable-Baselines3's
                              clip_range_vf */
    LP_VALUE_LOSS_WORSE    /* the larger of the two: TRL, OpenAI's baselines */
} lp_value_loss;

/* Settings and data of a minibatch, or of a part of one, of n rows: a row is a step of an
 * environment or a token. */
typedef struct lp_pg_loss_def {
    lp_surrogate surrogate;
    double clip_range; /* eps; of LP_SURROGATE_CLIPPED */
    lp_value_loss value_loss;
    double clip_range_value; /* c; not of LP_VALUE_LOSS_PLAIN */
    double vf_coef, ent_coef;
    double clip_range_high; /* the upper eps, where it is another one; 0: as clip_range */
    double kl_coef;      /* of k3, the estimate of KL(pi || pi_ref) at each row (LP_K3); 0: no KL */
    bool kl_times_ratio; /* k3 times ratio: its gradient is then that of the KL, without bias */
    const float* ref_log_prob; /* [n], copied; only with kl_coef */
    const float* weight;       /* [n], copied: of each row in the sum; NULL: 1 */
    double normaliser; /* rows of the whole minibatch, > 0: the loss is a mean over so many, and
                          parts add up */
    const float *advantage, *returns; /* [n], copied; returns only with a value */
    const float *old_log_prob,
        *old_value; /* [n]; where pi_old and V_old are read, NULL otherwise */
} lp_pg_loss_def;

/* weight (surrogate + vf_coef value loss - ent_coef entropy + kl_coef k3), summed over the rows and
 * divided by normaliser: [1, 1]. log_prob, value, entropy are [n, 1]; value and entropy may be
 * NULL: their terms are left out. Advantages are constants. */
LP_API lp_tensor lp_pg_loss(lp_tape* t, lp_tensor log_prob, lp_tensor value, lp_tensor entropy,
                            const lp_pg_loss_def* def);

/* ---- rollouts of environments ----------------------------------------------------------------- *
 *
 * Time-major: step t of environment i is entry t N + i. */

/* Generalised advantage estimation (Schulman et al. 2016, equation 16) of T steps of N
 * environments: where ended[t, i] is set, step t was the last one of its episode and nothing of
 * what follows counts (a truncated one has gamma V of its final observation in its reward already,
 * as in Stable-Baselines3). last_value [N] is V after step T - 1. delta_t = r_t + gamma V_{t+1} -
 * V_t,  A_t = delta_t + gamma lambda A_{t+1},  R_t = A_t + V_t */
LP_API void lp_gae_rollout(int64_t T, int64_t N, const float* reward, const float* value,
                           const bool* ended, const float* last_value, double gamma, double lambda,
                           float* advantage, float* returns);

/* x = (x - mean) / (std + 1e-8), std with ddof 1; fewer than two numbers stay as they are.
 * Stable-Baselines3's normalize_advantage. */
LP_API void lp_standardise(int64_t n, float* x);

/* The clipped losses of one minibatch or of a part of it (a micro-batch), as a mean over
 * `normaliser` tokens: the number in the whole minibatch, so that parts add up. Entry i of each
 * array belongs to row i of log_prob. A normaliser that is not positive calls the assert hook. */
typedef struct lp_ppo_loss_def {
    double clip_range;                                           /* 0.2 */
    double clip_range_value;                                     /* 0.2 */
    double vf_coef;                                              /* 0.1 */
    double normaliser;                                           /* tokens of the minibatch, > 0 */
    const float *old_log_prob, *old_value, *advantage, *returns; /* [n], copied */
} lp_ppo_loss_def;

/*  ratio = exp(log_prob - old_log_prob)
 *  policy loss = mean max(-A ratio, -A clamp(ratio, 1 - eps, 1 + eps))
 *  value loss  = 1/2 mean max((V - R)^2, (clamp(V, V_old - c, V_old + c) - R)^2)
 *  loss        = policy loss + vf_coef value loss
 * log_prob and value [n, 1] -> [1, 1]. Schulman et al. 2017, equation 7; PPOTrainer.loss. */
LP_API lp_tensor lp_ppo_loss(lp_tape* t, lp_tensor log_prob, lp_tensor value,
                             const lp_ppo_loss_def* def);

/* Mean and variance of numbers that come one by one (Welford 1962, "Note on a method for
 * calculating corrected sums of squares and products"). Starts as {0}. */
typedef struct lp_spread {
    int64_t n;
    double mean, square; /* square: the sum of (x - mean)^2 */
} lp_spread;
LP_API void lp_spread_add(lp_spread* spread, double x);
/* Unbiased (ddof 1); NaN for fewer than two numbers. */
LP_API double lp_spread_var(const lp_spread* spread);

/* Sums over the tokens of a minibatch, gathered part by part in index order; all in double. */
typedef struct lp_ppo_sums {
    int64_t n;
    double policy_loss, value_loss, ratio, approx_kl, policy_kl, clipped, value_clipped, entropy;
    double advantage, new_value, value_error;
    lp_spread returns, value;
} lp_ppo_sums;
/* Adds the terms of n tokens; starts as {0}. entropy [n] may be NULL: then its sum stays as it is.
 */
LP_API void lp_ppo_sums_add(lp_ppo_sums* sums, int64_t n, const float* log_prob, const float* value,
                            const float* entropy, const lp_ppo_loss_def* def);

/* ---- GRPO: group-relative policy optimization, TRL 1.16's GRPOTrainer --------------------------
 * *
 *
 * Shao et al. 2024, "DeepSeekMath", section 4.1. A prompt has a group of G responses; group i is
 * responses i G .. i G + G - 1. */

/* What advantages are divided by. */
typedef enum lp_scale_rewards {
    LP_SCALE_GROUP, /* the standard deviation of the group's rewards */
    LP_SCALE_BATCH, /* that of all rewards */
    LP_SCALE_NONE   /* nothing: Liu et al. 2025, "Understanding R1-Zero-like training" */
} lp_scale_rewards;

/* A = (r - mean of its group) / (std + 1e-4), std with ddof 1; rewards and advantages [groups,
 * size], which may be the same array. In a group whose rewards are all equal every A is exactly 0.
 * Returns the share of responses whose std is 0 (below 1e-8): TRL's frac_reward_zero_std, for
 * LP_SCALE_NONE of the group. */
LP_API double lp_group_advantages(int64_t groups, int64_t size, lp_scale_rewards scale,
                                  const double* rewards, double* advantages);

/* How tokens are weighted in the sum that is the loss. S responses with N tokens in all, N_s in
 * response s. */
typedef enum lp_loss_type {
    LP_LOSS_DAPO,   /* 1 / N: Yu et al. 2025, equation 8 */
    LP_LOSS_GRPO,   /* 1 / (S N_s): a mean over responses of means over tokens; DeepSeekMath */
    LP_LOSS_BNPO,   /* a mean over the tokens of each local batch, and over local batches */
    LP_LOSS_DR_GRPO /* 1 / (S longest): Liu et al. 2025 */
} lp_loss_type;

/* weights [offsets[sequences]]: of the tokens of response s, entries offsets[s] .. offsets[s+1]-1.
 * longest: the tokens that a response may have, for LP_LOSS_DR_GRPO. local: responses of a local
 * batch (TRL's per_device_train_batch_size), for LP_LOSS_BNPO; it divides sequences. */
LP_API void lp_token_weights(lp_loss_type type, int64_t sequences, const int64_t* offsets,
                             int64_t longest, int64_t local, float* weights);

/* The loss of some tokens; the weights of a whole batch make parts of it add up. */
typedef struct lp_grpo_loss_def {
    double epsilon;              /* 0.2: ratios below 1 - epsilon are clipped */
    double epsilon_high;         /* and those above 1 + epsilon_high; 0: as epsilon */
    double beta;                 /* coefficient of the KL; 0: none, ref_log_prob is not read */
    bool use_bias_correction_kl; /* true: k3 times ratio */
    const float *old_log_prob, *ref_log_prob, *advantage, *weight; /* [n], copied */
} lp_grpo_loss_def;

/*  ratio = exp(log_prob - old_log_prob)
 *  loss  = sum weight (max(-A ratio, -A clamp(ratio, 1 - eps, 1 + eps_high)) + beta k3 [ratio])
 * log_prob [n, 1] -> [1, 1]. GRPOTrainer._compute_loss with importance_sampling_level "token". */
LP_API lp_tensor lp_grpo_loss(lp_tape* t, lp_tensor log_prob, const lp_grpo_loss_def* def);

/* Sums over the tokens of a batch, gathered part by part in index order; starts as {0}. */
typedef struct lp_grpo_sums {
    int64_t n, sequences;
    double loss, kl, entropy; /* kl as it stands in the loss */
    double low, high;         /* tokens whose ratio was clipped where A < 0, and where A > 0 */
    double low_min, high_max; /* least and largest share of such tokens in a response */
} lp_grpo_sums;
/* Adds whole responses, response s being entries offsets[s] - offsets[0] .. of the arrays; none is
 * empty. entropy [n]. */
LP_API void lp_grpo_sums_add(lp_grpo_sums* sums, int64_t sequences, const int64_t* offsets,
                             const float* log_prob, const float* entropy,
                             const lp_grpo_loss_def* def);

/* ---- statistics --------------------------------------------------------------------------------
 */

/* Mean and spread of all scores seen so far (TRL's RunningMoments); start with lp_moments_start().
 * std has ddof 1; of a single score, or of equal ones, there is none to divide by: it is 1 (TRL:
 * infinite, or 1e-12). */
typedef struct lp_moments {
    double mean, var, std, count;
} lp_moments;
LP_API lp_moments lp_moments_start(void);
LP_API void lp_moments_add(lp_moments* moments, int64_t n, const double* x);

/* Adaptive KL coefficient (Ziegler et al. 2019, section 2.2): after n samples with mean KL
 * `current`, coef *= 1 + clamp(current / target - 1, -0.2, 0.2) n / horizon. */
LP_API double lp_adaptive_kl(double coef, double current, double target, double n, double horizon);

#ifdef __cplusplus
}
#endif
#endif
