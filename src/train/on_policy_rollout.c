/* Rollouts: each environment owes T steps into its own slots, in whatever order it answers. */
#include "train/on_policy.h"
#include <string.h>

static int64_t obs_width(const lp_on_policy* r) { return r->policy->def.observation.n; }

/* Takes what the environments say: their observations, and if they had been sent an action (taken >
 * 0) the end of their last step. */
static void note(lp_on_policy* r, const lp_env_results* e) {
    const int64_t obs = obs_width(r);
    for (int64_t k = 0; k < e->count; k++) {
        const int32_t i = e->index[k];
        memcpy(r->observation + i * obs, e->observation + i * obs, (size_t)obs * sizeof(float));
        r->ready[k] = i;
        if (r->taken[i] == 0) continue;
        const int64_t at = (r->taken[i] - 1) * r->steps.N + i;
        r->steps.reward[at] = (float)e->reward[i];
        r->steps.ended[at] = e->terminated[i] || e->truncated[i];
        r->steps.episode_return[at] = e->episode_return[i];
        r->steps.episode_length[at] = e->episode_length[i];
    }
    r->ready_count = e->count;
}

/* V of n rows of observations, into out [n]. */
static lp_status values(lp_on_policy* r, int64_t n, const float* observation, float* out) {
    lp_tape_reset(r->tape);
    lp_tensor v =
        lp__policy_value(r->tape, r->policy, lp_const_f32(r->tape, n, obs_width(r), observation));
    if (!v) return lp_tape_status(r->tape);
    memcpy(out, lp_f32(v), (size_t)n * sizeof *out);
    return LP_OK;
}

/* Time was up, not the task over: what would have followed is worth gamma V of the final
 * observation. */
static lp_status bootstrap(lp_on_policy* r, const lp_env_results* e) {
    const int64_t obs = obs_width(r);
    int64_t n = 0;
    for (int64_t k = 0; k < e->count; k++) {
        const int32_t i = e->index[k];
        if (r->taken[i] == 0 || !e->truncated[i] || e->terminated[i]) continue;
        memcpy(r->gathered + n++ * obs, e->final_observation + i * obs,
               (size_t)obs * sizeof(float));
    }
    if (n == 0) return LP_OK;
    lp_status status = values(r, n, r->gathered, r->steps.last_value);
    n = 0;
    for (int64_t k = 0; status == LP_OK && k < e->count; k++) {
        const int32_t i = e->index[k];
        if (r->taken[i] == 0 || !e->truncated[i] || e->terminated[i]) continue;
        r->steps.reward[(r->taken[i] - 1) * r->steps.N + i] +=
            (float)(r->def.gamma * (double)r->steps.last_value[n++]);
    }
    return status;
}

/* Of the environments that are ready those that still owe steps, in front. */
static int64_t owing(lp_on_policy* r) {
    int64_t n = 0;
    for (int64_t k = 0; k < r->ready_count; k++) {
        if (r->taken[r->ready[k]] < r->steps.T) r->ready[n++] = r->ready[k];
    }
    return n;
}

/* Draws an action for each of n environments that are ready, notes it in their slots, and sends it.
 */
static lp_status act(lp_on_policy* r, int64_t n) {
    const int64_t obs = obs_width(r), width = lp__action_width(r->policy);
    lp_tape* t = r->tape;
    for (int64_t k = 0; k < n; k++)
        memcpy(r->gathered + k * obs, r->observation + r->ready[k] * obs,
               (size_t)obs * sizeof(float));
    lp_tape_reset(t);
    lp_tensor x = lp_const_f32(t, n, obs, r->gathered);
    lp_dist pi = lp__policy_dist(t, r->policy, x);
    lp_tensor value = lp__policy_value(t, r->policy, x);
    if (!value) return lp_tape_status(t);
    const lp__draw draw = {r->def.seed, r->ready, r->made, false};
    lp_status status = lp__policy_draw(t, r->policy, pi, n, &draw, r->actions);
    if (status != LP_OK) return status;
    lp_tensor log_prob = lp_log_prob(t, pi, lp__policy_actions(t, r->policy, n, r->actions));
    if (!log_prob) return lp_tape_status(t);
    for (int64_t k = 0; k < n; k++) {
        const int32_t i = r->ready[k];
        const int64_t at = r->taken[i]++ * r->steps.N + i;
        memcpy(r->steps.observation + at * obs, r->gathered + k * obs, (size_t)obs * sizeof(float));
        memcpy((float*)r->steps.action + at * width, (const float*)r->actions + k * width,
               (size_t)width * sizeof(float));
        r->steps.log_prob[at] = lp_f32(log_prob)[k];
        r->steps.value[at] = lp_f32(value)[k];
        r->made[i]++;
    }
    return lp_envs_send(r->envs, n, r->ready, r->actions);
}

/* Statistics of episodes, in the order of steps and environments, whatever the order of answers. */
static void count_episodes(lp_on_policy* r) {
    for (int64_t at = 0; at < r->steps.T * r->steps.N; at++) {
        if (!r->steps.ended[at]) continue;
        const int64_t slot = r->episodes++ % LP__EPISODES;
        r->episode_return[slot] = r->steps.episode_return[at];
        r->episode_length[slot] = (double)r->steps.episode_length[at];
    }
}

static lp_status run(lp_on_policy* r) {
    lp_status status = LP_OK;
    int64_t waiting = 0; /* environments that have been sent an action */
    memset(r->taken, 0, (size_t)r->steps.N * sizeof *r->taken);
    if (r->begun) { /* all have been heard at the end of the last rollout */
        for (int64_t i = 0; i < r->steps.N; i++) r->ready[i] = (int32_t)i;
        r->ready_count = r->steps.N;
    } else {
        lp_envs_reset(r->envs);
        waiting = r->steps.N;
        r->ready_count = 0;
    }
    for (;;) {
        const int64_t n = owing(r);
        if (n > 0) status = act(r, n);
        waiting += n;
        if (status != LP_OK || waiting == 0) return status;
        lp_env_results results;
        status = lp_envs_receive(r->envs, &results);
        if (status != LP_OK) return status;
        note(r, &results);
        waiting -= results.count;
        status = bootstrap(r, &results);
        if (status != LP_OK) return status;
    }
}

lp_status lp__on_policy_collect(lp_on_policy* r) {
    lp_tape_record(r->tape, false);
    lp_status status = run(r);
    r->begun = status == LP_OK;
    if (status == LP_OK) status = values(r, r->steps.N, r->observation, r->steps.last_value);
    lp_tape_record(r->tape, true);
    if (status != LP_OK) return status;
    r->timesteps += r->steps.T * r->steps.N;
    count_episodes(r);
    lp_gae_rollout(r->steps.T, r->steps.N, r->steps.reward, r->steps.value, r->steps.ended,
                   r->steps.last_value, r->def.gamma, r->def.gae_lambda, r->steps.advantage,
                   r->steps.returns);
    return LP_OK;
}
