/* Many environments of one type.
 *
 * lp_envs_send steps them at once, shared out among the threads. What a step led to waits beside
 * the results until lp_envs_receive copies it: what the caller has borrowed stays as it was until
 * then. A task writes only what belongs to its own environments, which is why neither the number of
 * threads nor the order of sends can change a bit. */
#include "env/envs.h"
#include "base/base.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COOKIE = 0x656e7673, MOST = 65536, CHUNK = 64 /* environments a task */ };

/* What is wrong with an environment; from FAULT_OBSERVATION on, the entry of its observation. */
enum { FAULT_NONE, FAULT_REWARD, FAULT_RETURN, FAULT_OBSERVATION };

typedef struct lp__env {
    /* the running episode */
    uint64_t episode; /* its number, from 0 */
    int64_t steps;
    double sum; /* of its rewards */
    /* the last step */
    double reward;
    bool terminated, truncated;
    double episode_return; /* if it ended the episode */
    int64_t episode_length;
    int64_t fault;
    double fault_value;
} lp__env;

struct lp_envs {
    lp_ctx* ctx;
    const lp_env_type* type;
    int64_t count;
    uint64_t seed;
    size_t state_stride;
    char* state;     /* [count] of state_stride bytes */
    lp__env* env;    /* [count] */
    float* fresh;    /* [count, obs]: the present observation, to be received */
    float* ended;    /* [count, obs]: where an episode ended, its last one, to be received */
    float* clipped;  /* [count, action.n]: the actions of a send, if they are a box */
    bool* waits;     /* [count]: has something to be received */
    int64_t waiting; /* how many do */
    /* what the caller borrows */
    int32_t* index;
    float *observation, *final_observation;
    double *reward, *episode_return;
    bool *terminated, *truncated;
    int64_t* episode_length;
};

lp_envs_def lp_envs_def_default(const lp_env_type* type) {
    return (lp_envs_def){.cookie = COOKIE, .type = type, .count = 1};
}

const lp_env_type* lp_envs_type(const lp_envs* envs) { return envs->type; }
int64_t lp_envs_count(const lp_envs* envs) { return envs->count; }

void* lp__envs_state(lp_envs* envs, int64_t environment) {
    return envs->state + (size_t)environment * envs->state_stride;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* Writes the observation of environment i; false after noting an entry that is not finite. */
static bool observe(lp_envs* e, int64_t i, float* rows) {
    const int64_t n = e->type->observation.n;
    float* observation = rows + i * n;
    e->type->observe(lp__envs_state(e, i), observation);
    for (int64_t j = 0; j < n; j++) {
        if (isfinite(observation[j])) continue;
        e->env[i].fault = FAULT_OBSERVATION + j;
        e->env[i].fault_value = (double)observation[j];
        return false;
    }
    return true;
}

static void begin_episode(lp_envs* e, int64_t i) {
    lp__env* env = &e->env[i];
    void* state = lp__envs_state(e, i);
    env->steps = 0;
    env->sum = 0;
    memset(state, 0, e->type->state_bytes);
    lp_rng rng = lp__stream(e->seed, LP_FOR_ENV, (uint64_t)i, env->episode);
    e->type->reset(state, &rng);
    observe(e, i, e->fresh);
}

static void step(lp_envs* e, int64_t i, const void* action) {
    lp__env* env = &e->env[i];
    const int64_t most = e->type->max_episode_steps;
    bool terminated = false;
    env->reward = e->type->step(lp__envs_state(e, i), action, &terminated);
    env->sum += env->reward;
    env->steps++;
    env->terminated = terminated;
    env->truncated = !terminated && most > 0 && env->steps >= most;
    if (!isfinite(env->sum)) {
        env->fault = isfinite(env->reward) ? FAULT_RETURN : FAULT_REWARD;
        env->fault_value = isfinite(env->reward) ? env->sum : env->reward;
        return;
    }
    if (!terminated && !env->truncated) {
        observe(e, i, e->fresh);
        return;
    }
    if (!observe(e, i, e->ended)) return;
    env->episode_return = env->sum;
    env->episode_length = env->steps;
    env->episode++;
    begin_episode(e, i);
}

typedef struct sent {
    lp_envs* envs;
    int64_t count;
    const int32_t* index; /* NULL: all, and they begin anew */
    const char* actions;
    size_t action_bytes;
} sent;

static void run_chunk(void* user, int64_t chunk, int worker) {
    (void)worker;
    const sent* s = user;
    const int64_t end = LP__MIN(s->count, (chunk + 1) * CHUNK);
    for (int64_t k = chunk * CHUNK; k < end; k++) {
        if (s->index) {
            step(s->envs, s->index[k], s->actions + (size_t)k * s->action_bytes);
        } else {
            begin_episode(s->envs, k);
        }
    }
}

static void run(sent s) {
    lp__parallel_for(s.envs->ctx, (s.count + CHUNK - 1) / CHUNK, run_chunk, &s);
}

static void begin_all(lp_envs* e) {
    for (int64_t i = 0; i < e->count; i++) {
        e->env[i] = (lp__env){.episode = e->env[i].episode};
        e->waits[i] = true;
    }
    e->waiting = e->count;
    run((sent){.envs = e, .count = e->count});
}

void lp_envs_reset(lp_envs* e) {
    for (int64_t i = 0; i < e->count; i++) e->env[i].episode++;
    begin_all(e);
}

/* ---- creation -------------------------------------------------------------------------------- */

static lp_status check_type(lp_ctx* ctx, const lp_env_type* type) {
    const char* name = type->name ? type->name : "an environment type without a name";
    const char* missing = !type->reset     ? "reset"
                          : !type->observe ? "observe"
                          : !type->step    ? "step"
                                           : NULL;
    if (missing) return lp_fail(ctx, LP_INVALID, "%s has no function %s", name, missing);
    if (type->observation.kind != LP_SPACE_BOX || type->observation.n < 1)
        return lp_fail(ctx, LP_INVALID, "%s: the observation must be a box of at least one number",
                       name);
    const lp_space* a = &type->action;
    const bool discrete = a->kind == LP_SPACE_DISCRETE;
    if ((!discrete && a->kind != LP_SPACE_BOX) || a->n < 1 || (discrete && a->n > INT32_MAX))
        return lp_fail(ctx, LP_INVALID, "%s: the space of actions is empty or unknown", name);
    for (int64_t j = 0; !discrete && a->low && a->high && j < a->n; j++) {
        if (!(a->low[j] <= a->high[j]))
            return lp_fail(ctx, LP_INVALID, "%s: action[%lld] has no value between %g and %g", name,
                           (long long)j, (double)a->low[j], (double)a->high[j]);
    }
    if (type->max_episode_steps < 0)
        return lp_fail(ctx, LP_INVALID, "%s: max_episode_steps is %lld; 0 means no limit", name,
                       (long long)type->max_episode_steps);
    return LP_OK;
}

/* false after lp_fail(NOMEM) */
static bool allocate(lp_envs* e) {
    lp_ctx* ctx = e->ctx;
    const size_t count = (size_t)e->count;
    size_t row, action;
    if (!lp__mul_ok(sizeof(float), (size_t)e->type->observation.n, &row)) row = SIZE_MAX;
    if (!lp__mul_ok(sizeof(float), (size_t)e->type->action.n, &action)) action = SIZE_MAX;
    if (e->type->action.kind == LP_SPACE_DISCRETE) action = 0;
    return (e->state = lp__calloc(ctx, count, e->state_stride)) &&
           (e->env = lp__calloc(ctx, count, sizeof *e->env)) &&
           (e->fresh = lp__calloc(ctx, count, row)) && (e->ended = lp__calloc(ctx, count, row)) &&
           (e->clipped = lp__calloc(ctx, count, action)) &&
           (e->waits = lp__calloc(ctx, count, sizeof *e->waits)) &&
           (e->index = lp__calloc(ctx, count, sizeof *e->index)) &&
           (e->observation = lp__calloc(ctx, count, row)) &&
           (e->final_observation = lp__calloc(ctx, count, row)) &&
           (e->reward = lp__calloc(ctx, count, sizeof *e->reward)) &&
           (e->episode_return = lp__calloc(ctx, count, sizeof *e->episode_return)) &&
           (e->terminated = lp__calloc(ctx, count, sizeof *e->terminated)) &&
           (e->truncated = lp__calloc(ctx, count, sizeof *e->truncated)) &&
           (e->episode_length = lp__calloc(ctx, count, sizeof *e->episode_length));
}

lp_status lp_envs_create(lp_ctx* ctx, const lp_envs_def* def, lp_envs** envs) {
    if (!LP__REQUIRE(ctx, envs, "a place for the environments is needed")) return LP_INVALID;
    *envs = NULL;
    if (!LP__REQUIRE(ctx, def && def->cookie == COOKIE, "begin with lp_envs_def_default") ||
        !LP__REQUIRE(ctx, def->type, "environments need a type"))
        return LP_INVALID;
    const lp__range range = {"count", (double)def->count, 1, MOST};
    lp_status status = lp__ranges_check(ctx, &range, 1);
    if (status == LP_OK) status = check_type(ctx, def->type);
    if (status != LP_OK) return status;

    lp_envs* e = lp__calloc(ctx, 1, sizeof *e);
    if (!e) return LP_NOMEM;
    *e = (lp_envs){.ctx = ctx, .type = def->type, .count = def->count, .seed = def->seed};
    size_t padded;
    if (!lp__add_ok(def->type->state_bytes, (size_t)15, &padded)) padded = SIZE_MAX;
    e->state_stride = padded & ~(size_t)15;
    if (!allocate(e)) {
        lp_envs_destroy(e);
        return LP_NOMEM;
    }
    begin_all(e);
    *envs = e;
    return LP_OK;
}

void lp_envs_destroy(lp_envs* e) {
    if (!e) return;
    void* const blocks[] = {e->state,
                            e->env,
                            e->fresh,
                            e->ended,
                            e->clipped,
                            e->waits,
                            e->index,
                            e->observation,
                            e->final_observation,
                            e->reward,
                            e->episode_return,
                            e->terminated,
                            e->truncated,
                            e->episode_length};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(e->ctx, blocks[i]);
    lp__free(e->ctx, e);
}

/* ---- sending and receiving ------------------------------------------------------------------- */

/* A number that is not finite, whatever the sign of a NaN. */
static const char* word(double x) { return isnan(x) ? "NaN" : x > 0 ? "infinity" : "-infinity"; }

static lp_status check_discrete(lp_envs* e, const sent* s) {
    const int32_t* actions = (const int32_t*)(const void*)s->actions;
    for (int64_t k = 0; k < s->count; k++) {
        if (actions[k] < 0 || actions[k] >= e->type->action.n)
            return lp_fail(e->ctx, LP_INVALID,
                           "%s: environment %d: action %d is outside of 0..%lld", e->type->name,
                           (int)s->index[k], (int)actions[k], (long long)e->type->action.n - 1);
    }
    return LP_OK;
}

/* min(max(a, low), high), into e->clipped */
static lp_status clip_box(lp_envs* e, const sent* s) {
    const lp_space* space = &e->type->action;
    const float* actions = (const float*)(const void*)s->actions;
    for (int64_t k = 0; k < s->count; k++) {
        for (int64_t j = 0; j < space->n; j++) {
            float a = actions[k * space->n + j];
            if (!isfinite(a))
                return lp_fail(e->ctx, LP_INVALID, "%s: environment %d: action[%lld] is %s",
                               e->type->name, (int)s->index[k], (long long)j, word((double)a));
            if (space->low && a < space->low[j]) a = space->low[j];
            if (space->high && a > space->high[j]) a = space->high[j];
            e->clipped[k * space->n + j] = a;
        }
    }
    return LP_OK;
}

lp_status lp_envs_send(lp_envs* e, int64_t count, const int32_t* index, const void* actions) {
    if (!LP__REQUIRE(e->ctx, count >= 0 && (count == 0 || (index && actions)),
                     "a send needs environments and an action for each"))
        return LP_INVALID;
    for (int64_t k = 0; k < count; k++) {
        if (!LP__REQUIRE(e->ctx, index[k] >= 0 && index[k] < e->count,
                         "there is no environment of this number") ||
            !LP__REQUIRE(e->ctx, k == 0 || index[k] > index[k - 1],
                         "the environments of a send must rise") ||
            !LP__REQUIRE(e->ctx, !e->waits[index[k]],
                         "an environment is to be received before it is sent to again"))
            return LP_INVALID;
    }
    const bool discrete = e->type->action.kind == LP_SPACE_DISCRETE;
    sent s = {e, count, index, actions, sizeof(int32_t)};
    lp_status status = discrete ? check_discrete(e, &s) : clip_box(e, &s);
    if (status != LP_OK || count == 0) return status;
    if (!discrete) {
        s.actions = (const char*)e->clipped;
        s.action_bytes = (size_t)e->type->action.n * sizeof(float);
    }
    run(s);
    for (int64_t k = 0; k < count; k++) e->waits[index[k]] = true;
    e->waiting += count;
    return LP_OK;
}

static lp_status nonfinite(const lp_envs* e, int64_t i) {
    const lp__env* env = &e->env[i];
    char what[64];
    if (env->fault == FAULT_REWARD) {
        snprintf(what, sizeof what, "the reward");
    } else if (env->fault == FAULT_RETURN) {
        snprintf(what, sizeof what, "the sum of the rewards");
    } else {
        snprintf(what, sizeof what, "observation[%lld]",
                 (long long)(env->fault - FAULT_OBSERVATION));
    }
    return lp_fail(
        e->ctx, LP_NONFINITE,
        "%s: environment %lld, step %lld of its episode: %s is %s; the environment's type "
        "is at fault, and only lp_envs_reset goes on from here",
        e->type->name, (long long)i, (long long)env->steps, what, word(env->fault_value));
}

/* What environment i has to say goes to where the caller reads. */
static void publish(lp_envs* e, int64_t i) {
    const lp__env* env = &e->env[i];
    const int64_t n = e->type->observation.n;
    memcpy(e->observation + i * n, e->fresh + i * n, (size_t)n * sizeof(float));
    e->reward[i] = env->reward;
    e->terminated[i] = env->terminated;
    e->truncated[i] = env->truncated;
    if (!env->terminated && !env->truncated) return;
    memcpy(e->final_observation + i * n, e->ended + i * n, (size_t)n * sizeof(float));
    e->episode_return[i] = env->episode_return;
    e->episode_length[i] = env->episode_length;
}

lp_status lp_envs_receive(lp_envs* e, lp_env_results* results) {
    if (!LP__REQUIRE(e->ctx, results, "a place for the results is needed")) return LP_INVALID;
    if (lp_cancelled(e->ctx)) return lp_fail(e->ctx, LP_CANCELLED, "cancelled");
    if (e->waiting == 0)
        return lp_fail(e->ctx, LP_INVALID, "%s: nothing was sent, so there is nothing to receive",
                       e->type->name);
    for (int64_t i = 0; i < e->count; i++) {
        if (e->waits[i] && e->env[i].fault) return nonfinite(e, i);
    }
    int64_t count = 0;
    for (int64_t i = 0; i < e->count; i++) {
        if (!e->waits[i]) continue;
        publish(e, i);
        e->waits[i] = false;
        e->index[count++] = (int32_t)i;
    }
    e->waiting = 0;
    *results = (lp_env_results){.count = count,
                                .index = e->index,
                                .observation = e->observation,
                                .reward = e->reward,
                                .terminated = e->terminated,
                                .truncated = e->truncated,
                                .final_observation = e->final_observation,
                                .episode_return = e->episode_return,
                                .episode_length = e->episode_length};
    return LP_OK;
}
