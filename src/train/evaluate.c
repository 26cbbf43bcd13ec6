/* Evaluation: episodes of a policy that does not learn. */
#include "train/policy.h"
#include <math.h>
#include <string.h>

/* One evaluation. */
typedef struct run {
    lp_ctx* ctx;
    lp_policy* policy;
    lp_envs* envs;
    lp_tape* tape;
    int64_t N, obs, episodes;
    uint64_t seed;
    bool deterministic;
    float* gathered; /* [N, obs] */
    void* actions;   /* [N, width] */
    int32_t* ready;  /* [N] */
    int64_t* left;   /* [N]: episodes that each still owes */
    uint64_t* made;  /* [N] */
    double* returns; /* [episodes], in the order of environments: quota by quota */
    double* lengths;
    int64_t* next; /* [N]: where the next return of each goes */
} run;

/* As Stable-Baselines3's evaluate_policy shares them out: the last environments have one more. */
static int64_t quota(const run* r, int64_t i) { return (r->episodes + i) / r->N; }

static bool reserve(run* r) {
    r->tape = lp_tape_create(r->ctx, LP_F32);
    r->gathered = lp__calloc(r->ctx, (size_t)(r->N * r->obs), sizeof *r->gathered);
    r->actions = lp__calloc(r->ctx, (size_t)(r->N * lp__action_width(r->policy)), sizeof(float));
    r->ready = lp__calloc(r->ctx, (size_t)r->N, sizeof *r->ready);
    r->left = lp__calloc(r->ctx, (size_t)r->N, sizeof *r->left);
    r->made = lp__calloc(r->ctx, (size_t)r->N, sizeof *r->made);
    r->next = lp__calloc(r->ctx, (size_t)r->N, sizeof *r->next);
    r->returns = lp__calloc(r->ctx, (size_t)r->episodes, sizeof *r->returns);
    r->lengths = lp__calloc(r->ctx, (size_t)r->episodes, sizeof *r->lengths);
    return r->tape && r->gathered && r->actions && r->ready && r->left && r->made && r->next &&
           r->returns && r->lengths;
}

static void end(run* r) {
    lp_tape_destroy(r->tape);
    void* blocks[] = {r->gathered, r->actions, r->ready,   r->left,
                      r->made,     r->next,    r->returns, r->lengths};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(r->ctx, blocks[i]);
}

/* Notes the episodes that ended; the environments that owe more, with their observations, are then
 * to act. Returns how many. */
static int64_t note(run* r, const lp_env_results* e) {
    int64_t n = 0;
    for (int64_t k = 0; k < e->count; k++) {
        const int32_t i = e->index[k];
        if (r->made[i] > 0 && (e->terminated[i] || e->truncated[i])) {
            r->returns[r->next[i]] = e->episode_return[i];
            r->lengths[r->next[i]++] = (double)e->episode_length[i];
            r->left[i]--;
        }
        if (r->left[i] == 0) continue;
        memcpy(r->gathered + n * r->obs, e->observation + i * r->obs,
               (size_t)r->obs * sizeof(float));
        r->ready[n++] = i;
    }
    return n;
}

static lp_status act(run* r, int64_t n) {
    lp_tape_reset(r->tape);
    lp_dist pi = lp__policy_dist(r->tape, r->policy, lp_const_f32(r->tape, n, r->obs, r->gathered));
    if (lp_tape_status(r->tape) != LP_OK) return lp_tape_status(r->tape);
    const lp__draw draw = {r->seed, r->ready, r->made, r->deterministic};
    lp_status status = lp__policy_draw(r->tape, r->policy, pi, n, &draw, r->actions);
    for (int64_t k = 0; k < n; k++) r->made[r->ready[k]]++;
    return status == LP_OK ? lp_envs_send(r->envs, n, r->ready, r->actions) : status;
}

static lp_status all(run* r) {
    int64_t waiting = r->N, at = 0;
    for (int64_t i = 0; i < r->N; i++) {
        r->left[i] = quota(r, i);
        r->next[i] = at;
        at += r->left[i];
    }
    lp_tape_record(r->tape, false);
    lp_envs_reset(r->envs);
    while (waiting > 0) {
        lp_env_results results;
        lp_status status = lp_envs_receive(r->envs, &results);
        if (status != LP_OK) return status;
        const int64_t n = note(r, &results);
        waiting += n - results.count;
        if (n > 0) status = act(r, n);
        if (status != LP_OK) return status;
    }
    return LP_OK;
}

lp_status lp_evaluate(lp_policy* policy, lp_envs* envs, int64_t episodes, bool deterministic,
                      uint64_t seed, double* returns, lp_evaluation* result) {
    lp_status status = lp__policy_fits(policy, lp_envs_type(envs));
    if (status == LP_OK && (episodes < 1 || episodes > 1 << 24))
        status = lp_fail(policy->ctx, LP_INVALID, "%lld episodes: it must be 1..%d",
                         (long long)episodes, 1 << 24);
    if (status != LP_OK) return status;
    run r = {.ctx = policy->ctx,
             .policy = policy,
             .envs = envs,
             .N = lp_envs_count(envs),
             .obs = policy->def.observation.n,
             .episodes = episodes,
             .seed = seed,
             .deterministic = deterministic};
    status = reserve(&r) ? all(&r) : LP_NOMEM;
    if (status == LP_OK) {
        lp_spread reward = {0}, length = {0};
        for (int64_t i = 0; i < episodes; i++) {
            lp_spread_add(&reward, r.returns[i]);
            lp_spread_add(&length, r.lengths[i]);
        }
        *result = (lp_evaluation){reward.mean, sqrt(reward.square / (double)episodes), length.mean,
                                  episodes};
        if (returns) memcpy(returns, r.returns, (size_t)episodes * sizeof *returns);
    }
    end(&r);
    return status;
}
