/* REINFORCE, A2C and PPO on environments: settings, creation, one step. */
#include "train/on_policy.h"
#include "base/clock.h"
#include <math.h>
#include <string.h>

enum { COOKIE = 0x6f6e706f };

const char* lp_algorithm_name(lp_algorithm algorithm) {
    static const char* const names[] = {"reinforce", "a2c", "ppo"};
    return algorithm >= 0 && algorithm < LP_ALGORITHM_COUNT ? names[algorithm] : "unknown";
}

lp_on_policy_def lp_on_policy_def_default(lp_algorithm algorithm) {
    const bool ppo = algorithm == LP_PPO, a2c = algorithm == LP_A2C;
    return (lp_on_policy_def){.cookie = COOKIE,
                              .algorithm = algorithm,
                              .n_timesteps = 100000,
                              .n_steps = ppo   ? 2048
                                         : a2c ? 5
                                               : 500,
                              .batch_size = 64,
                              .n_epochs = 10,
                              .learning_rate = {ppo   ? 3e-4
                                                : a2c ? 7e-4
                                                      : 1e-3,
                                                false},
                              .gamma = 0.99,
                              .gae_lambda = ppo ? 0.95 : 1.0,
                              .clip_range = {0.2, false},
                              .normalize_advantage = !a2c,
                              .vf_coef = 0.5,
                              .max_grad_norm = 0.5,
                              .optimizer = a2c ? LP_RMSPROP : LP_ADAM,
                              .optimizer_eps = 1e-5};
}

/* What the algorithm does not have takes the values at which it is not there: one epoch over the
 * whole rollout. */
static void complete(lp_on_policy_def* d, int64_t environments) {
    if (d->algorithm == LP_PPO) return;
    d->n_epochs = 1;
    d->batch_size = d->n_steps * environments;
    d->clip_range = d->clip_range_vf = (lp_schedule){0, false};
    d->target_kl = 0;
}

static lp_status check_def(lp_ctx* ctx, const lp_on_policy_def* d) {
    if (!LP__REQUIRE(ctx, d->cookie == COOKIE, "begin with lp_on_policy_def_default") ||
        !LP__REQUIRE(ctx, d->algorithm >= 0 && d->algorithm < LP_ALGORITHM_COUNT,
                     "the algorithm is none"))
        return LP_INVALID;
    const lp__range ranges[] = {
        {"n_timesteps", (double)d->n_timesteps, 1, 1e15},
        {"n_steps", (double)d->n_steps, 1, 1e7},
        {"batch_size", (double)d->batch_size, 1, 1e12},
        {"n_epochs", (double)d->n_epochs, 1, 1e6},
        {"learning_rate", d->learning_rate.initial, 0, 1e6},
        {"gamma", d->gamma, 0, 1},
        {"gae_lambda", d->gae_lambda, 0, 1},
        {"clip_range", d->clip_range.initial, 0, 1e9},
        {"clip_range_vf", d->clip_range_vf.initial, 0, 1e9},
        {"ent_coef", d->ent_coef, -1e9, 1e9},
        {"vf_coef", d->vf_coef, 0, 1e9},
        {"max_grad_norm", d->max_grad_norm, 0, 1e300},
        {"target_kl", d->target_kl, 0, 1e300},
        {"optimizer_eps", d->optimizer_eps, 0, 1},
    };
    return lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
}

/* An array of the trainer, zero; *ok turns false when memory is out. */
static void* array(lp_on_policy* r, bool* ok, int64_t count, size_t size) {
    void* block = *ok ? lp__calloc(r->ctx, (size_t)count, size) : NULL;
    *ok = block != NULL;
    return block;
}

static bool reserve(lp_on_policy* r) {
    const int64_t N = lp_envs_count(r->envs), T = r->def.n_steps, n = T * N;
    const int64_t batch = LP__MIN(r->def.batch_size, n);
    const int64_t obs = r->policy->def.observation.n, width = lp__action_width(r->policy);
    bool ok = true;
    r->steps = (lp__steps){.T = T, .N = N};
    r->steps.observation = array(r, &ok, n * obs, sizeof(float));
    r->steps.action = array(r, &ok, n * width, sizeof(float));
    float** columns[] = {&r->steps.log_prob, &r->steps.value, &r->steps.reward, &r->steps.advantage,
                         &r->steps.returns};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        *columns[i] = array(r, &ok, n, sizeof(float));
    r->steps.ended = array(r, &ok, n, sizeof(bool));
    r->steps.episode_return = array(r, &ok, n, sizeof(double));
    r->steps.episode_length = array(r, &ok, n, sizeof(int64_t));
    r->steps.last_value = array(r, &ok, N, sizeof(float));
    r->mini.observation = array(r, &ok, batch * obs, sizeof(float));
    r->mini.action = array(r, &ok, batch * width, sizeof(float));
    float** rows[] = {&r->mini.log_prob, &r->mini.value, &r->mini.advantage, &r->mini.returns};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        *rows[i] = array(r, &ok, batch, sizeof(float));
    r->order = array(r, &ok, n, sizeof(int32_t));
    r->observation = array(r, &ok, N * obs, sizeof(float));
    r->made = array(r, &ok, N, sizeof(uint64_t));
    r->taken = array(r, &ok, N, sizeof(int64_t));
    r->ready = array(r, &ok, N, sizeof(int32_t));
    r->gathered = array(r, &ok, N * obs, sizeof(float));
    r->actions = array(r, &ok, N * width, sizeof(float));
    return ok;
}

static lp_status make_optimizer(lp_on_policy* r) {
    lp_optim_def def = lp_optim_def_default(r->def.optimizer);
    def.learning_rate = r->def.learning_rate.initial;
    def.eps = r->def.optimizer_eps;
    def.max_grad_norm = r->def.max_grad_norm;
    return lp_optim_create(r->policy->params, &def, &r->optim);
}

lp_status lp_on_policy_create(lp_envs* envs, lp_policy* policy, const lp_on_policy_def* def,
                              lp_on_policy** out) {
    lp_ctx* ctx = policy->ctx;
    *out = NULL;
    lp_status status = check_def(ctx, def);
    if (status == LP_OK) status = lp__policy_fits(policy, lp_envs_type(envs));
    if (status == LP_OK && def->n_steps > INT32_MAX / lp_envs_count(envs))
        status =
            lp_fail(ctx, LP_INVALID, "a rollout of %lld steps of %lld environments is too long",
                    (long long)def->n_steps, (long long)lp_envs_count(envs));
    if (status != LP_OK) return status;
    lp_on_policy* r = lp__calloc(ctx, 1, sizeof *r);
    if (!r) return LP_NOMEM;
    r->ctx = ctx;
    r->envs = envs;
    r->policy = policy;
    r->def = *def;
    complete(&r->def, lp_envs_count(envs));
    r->tape = lp_tape_create(ctx, LP_F32);
    status = r->tape ? LP_OK : LP_NOMEM;
    if (status == LP_OK && !reserve(r))
        status = lp_fail(
            ctx, LP_NOMEM,
            "out of memory for rollouts of %lld steps of %lld environments: take fewer of them",
            (long long)def->n_steps, (long long)lp_envs_count(envs));
    if (status == LP_OK) status = make_optimizer(r);
    if (status != LP_OK) {
        lp_on_policy_destroy(r);
        return status;
    }
    lp_params_zero_grad(policy->params);
    *out = r;
    return LP_OK;
}

void lp_on_policy_destroy(lp_on_policy* r) {
    if (!r) return;
    lp_optim_destroy(r->optim);
    lp_tape_destroy(r->tape);
    void* blocks[] = {r->steps.observation,
                      r->steps.action,
                      r->steps.log_prob,
                      r->steps.value,
                      r->steps.reward,
                      r->steps.advantage,
                      r->steps.returns,
                      r->steps.ended,
                      r->steps.episode_return,
                      r->steps.episode_length,
                      r->steps.last_value,
                      r->mini.observation,
                      r->mini.action,
                      r->mini.log_prob,
                      r->mini.value,
                      r->mini.advantage,
                      r->mini.returns,
                      r->order,
                      r->observation,
                      r->made,
                      r->taken,
                      r->ready,
                      r->gathered,
                      r->actions};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(r->ctx, blocks[i]);
    lp__free(r->ctx, r);
}

int64_t lp_on_policy_timesteps(const lp_on_policy* trainer) { return trainer->timesteps; }

double lp__schedule_now(const lp_on_policy* r, lp_schedule s) {
    const double left = 1.0 - (double)r->timesteps / (double)r->def.n_timesteps;
    return s.linear ? s.initial * fmax(left, 0.0) : s.initial;
}

/* ---- one step -------------------------------------------------------------------------------- */

static double ring_mean(const lp_on_policy* r, const double* ring) {
    const int64_t n = LP__MIN(r->episodes, (int64_t)LP__EPISODES);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += ring[i];
    return n > 0 ? sum / (double)n : (double)NAN;
}

lp_status lp_on_policy_step(lp_on_policy* r, lp_on_policy_metrics* metrics) {
    lp_on_policy_metrics m = {0};
    const double start = lp__seconds();
    lp_status status = lp__on_policy_collect(r);
    if (status != LP_OK) return status;
    const double between = lp__seconds();
    status = lp__on_policy_update(r, NULL, &m);
    if (status != LP_OK) return status;
    m.ep_rew_mean = ring_mean(r, r->episode_return);
    m.ep_len_mean = ring_mean(r, r->episode_length);
    m.iterations = (double)++r->iterations;
    m.total_timesteps = (double)r->timesteps;
    m.episodes = (double)r->episodes;
    m.time_rollout = between - start;
    m.time_update = lp__seconds() - between;
    if (metrics) *metrics = m;
    return LP_OK;
}
