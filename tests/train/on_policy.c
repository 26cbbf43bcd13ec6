/* The trainer on environments: rollouts, what ends an episode, failures, bits, and that it learns.
 */
#include "testing.h"

#include "train/on_policy.h"
#include <unistd.h>

/* A walk of five places; left of the first and right of the last the episode ends. A state may be
 * told to misbehave. */
typedef struct walk {
    int32_t at, steps, never_ends, bad_step;
} walk;

static int never_ends, bad_step; /* for states that are made; set before the environments are */

static void walk_reset(void* state, lp_rng* rng) {
    *(walk*)state = (walk){(int32_t)lp_rng_below(rng, 5), 0, never_ends, bad_step};
}
static void walk_observe(const void* state, float* observation) {
    const walk* w = state;
    observation[0] = 0.25f * (float)w->at - 0.5f;
    observation[1] = 1.0f;
}
static double walk_step(void* state, const void* action, bool* terminated) {
    walk* w = state;
    w->at += *(const int32_t*)action ? 1 : -1;
    w->steps++;
    *terminated = !w->never_ends && (w->at < 0 || w->at > 4);
    if (w->bad_step == w->steps) return (double)NAN;
    return w->at > 4 ? 1.0 : 0.0;
}

static const lp_env_type walk_type = {.name = "Walk",
                                      .summary = "five places",
                                      .observation = {LP_SPACE_BOX, 2, NULL, NULL},
                                      .action = {LP_SPACE_DISCRETE, 2, NULL, NULL},
                                      .state_bytes = sizeof(walk),
                                      .max_episode_steps = 7,
                                      .reset = walk_reset,
                                      .observe = walk_observe,
                                      .step = walk_step};

typedef struct rig {
    lp_ctx* ctx;
    lp_envs* envs;
    lp_policy* policy;
    lp_on_policy* trainer;
} rig;

static lp_on_policy_def settings(void) {
    lp_on_policy_def def = lp_on_policy_def_default(LP_PPO);
    def.n_steps = 50;
    def.batch_size = 96;
    def.n_epochs = 3;
    def.learning_rate.initial = 1e-2;
    def.seed = 4;
    return def;
}

static void set_up(rig* r, int threads, const lp_env_type* type, int64_t environments,
                   const lp_on_policy_def* def) {
    lp_ctx_def ctx = lp_ctx_def_default();
    ctx.threads = threads;
    r->ctx = lp_ctx_create(&ctx, NULL, 0);
    lp_envs_def envs = lp_envs_def_default(type);
    envs.count = environments;
    envs.seed = 1;
    assert_int_equal(lp_envs_create(r->ctx, &envs, &r->envs), LP_OK);
    lp_policy_def policy = lp_policy_def_default(type);
    policy.seed = 2;
    assert_int_equal(lp_policy_create(r->ctx, &policy, &r->policy), LP_OK);
    assert_int_equal(lp_on_policy_create(r->envs, r->policy, def, &r->trainer), LP_OK);
}

static uint64_t digest(const lp_policy* policy) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < lp_params_count(policy->params); i++) {
        lp_tensor x = lp_params_get(policy->params, i);
        for (size_t j = 0; j < (size_t)(x->rows * x->cols) * sizeof(float); j++)
            hash = (hash ^ ((const uint8_t*)x->data)[j]) * 0x100000001b3u;
    }
    return hash;
}

static void threads_change_no_bit(void** state) {
    (void)state;
    uint64_t first = 0;
    for (int threads = 1; threads <= 3; threads++) {
        rig r;
        lp_on_policy_def def = settings();
        def.batch_size = 600; /* ten tiles, more than there are lanes */
        set_up(&r, threads, &walk_type, 12, &def);
        lp_on_policy_metrics m;
        for (int i = 0; i < 4; i++) {
            assert_int_equal(lp_on_policy_step(r.trainer, &m), LP_OK);
            assert_close(m.ratio_max_dev, 0, 0);
        }
        if (threads == 1) first = digest(r.policy);
        assert_true(digest(r.policy) == first);
        assert_int_equal(lp_on_policy_timesteps(r.trainer), 4 * 50 * 12);
        lp_ctx_destroy(r.ctx);
    }
}

/* A task that never ends is cut after 7 steps: the reward of a last step has gamma V of what was
 * seen last, and nothing of the next episode counts. One that ends itself has not. */
static void truncated_and_terminated(void** state) {
    (void)state;
    for (int endless = 0; endless < 2; endless++) {
        never_ends = endless;
        rig r;
        const lp_on_policy_def def = settings();
        set_up(&r, 1, &walk_type, 3, &def);
        assert_int_equal(lp__on_policy_collect(r.trainer), LP_OK);
        const lp__steps* s = &r.trainer->steps;
        int ended = 0;
        for (int64_t i = 0; i < 3; i++) {
            int64_t length = 0;
            for (int64_t t = 0; t < s->T; t++) {
                const int64_t at = t * 3 + i;
                length++;
                if (!s->ended[at]) {
                    assert_true(s->reward[at] == 0 || s->reward[at] == 1);
                    continue;
                }
                ended++;
                assert_int_equal(s->episode_length[at], length);
                const float* seen = s->observation + at * 2;
                const float place = seen[0] + (((const int32_t*)s->action)[at] ? 0.25f : -0.25f);
                const bool out = place < -0.6f || place > 0.6f;
                if (endless || !out) { /* by time */
                    assert_int_equal(length, 7);
                    const float last[2] = {place, 1};
                    lp_tape* t1 = lp_tape_create(r.ctx, LP_F32);
                    const double v =
                        lp_item(lp__policy_value(t1, r.policy, lp_const_f32(t1, 1, 2, last)));
                    lp_tape_destroy(t1);
                    const double own = endless && place > 0.6f ? 1.0 : 0.0;
                    assert_close(s->reward[at], own + def.gamma * v, 1e-6);
                } else {
                    assert_close(s->reward[at], place > 0.6f ? 1.0 : 0.0, 0);
                }
                assert_close(s->advantage[at], (double)s->reward[at] - (double)s->value[at], 1e-6);
                length = 0;
            }
        }
        assert_true(ended > 15);
        lp_ctx_destroy(r.ctx);
    }
    never_ends = 0;
}

/* NaN from an environment: the message says where, nothing moves, and the trainer goes on when the
 * environment does. */
static void bad_rewards(void** state) {
    (void)state;
    rig r;
    const lp_on_policy_def def = settings();
    bad_step = 3;
    set_up(&r, 1, &walk_type, 3, &def);
    const uint64_t before = digest(r.policy);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_NONFINITE);
    assert_non_null(strstr(lp_error(r.ctx), "Walk: environment 0, step 3"));
    assert_true(digest(r.policy) == before);
    bad_step = 0;
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
    assert_int_equal(lp_on_policy_timesteps(r.trainer), 150);
    lp_ctx_destroy(r.ctx);
}

/* A learning rate at which weights overflow: the update is undone. */
static void divergence_is_undone(void** state) {
    (void)state;
    rig r;
    lp_on_policy_def def = settings();
    def.learning_rate.initial = 1e3;
    def.optimizer = LP_SGD;
    def.vf_coef = 1e3;
    def.max_grad_norm = 0;
    def.n_epochs = 50;
    set_up(&r, 1, &walk_type, 3, &def);
    const uint64_t before = digest(r.policy);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_NONFINITE); /* after some updates */
    assert_true(digest(r.policy) == before);
    assert_close(lp_params_grad_norm(r.policy->params), 0, 0);
    lp_ctx_destroy(r.ctx);
}

/* A gradient may be finite and the weight that it leads to not: that update is undone, too. */
static void infinite_weights_are_undone(void** state) {
    (void)state;
    rig r;
    lp_on_policy_def def = settings();
    def.algorithm = LP_A2C; /* one update */
    def.optimizer = LP_SGD;
    def.max_grad_norm = 0;
    def.learning_rate.initial = 1e6;
    def.vf_coef = 1e9;
    set_up(&r, 1, &walk_type, 3, &def);
    lp_f32(lp_params_find(r.policy->params, "critic.2.bias"))[0] = 1e25f;
    const uint64_t before = digest(r.policy);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_NONFINITE);
    assert_non_null(strstr(lp_error(r.ctx), "a weight"));
    assert_true(digest(r.policy) == before);
    assert_true(lp_params_finite(r.policy->params));
    lp_ctx_destroy(r.ctx);
}

static void cancelled(void** state) {
    (void)state;
    rig r;
    const lp_on_policy_def def = settings();
    set_up(&r, 1, &walk_type, 3, &def);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
    const uint64_t before = digest(r.policy);
    lp_cancel(r.ctx);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_CANCELLED);
    lp_cancel_clear(r.ctx);
    assert_true(digest(r.policy) == before);
    assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
    lp_ctx_destroy(r.ctx);
}

static void allocates_nothing_after_the_first_step(void** state) {
    (void)state;
    for (int algorithm = 0; algorithm < LP_ALGORITHM_COUNT; algorithm++) {
        rig r;
        lp_on_policy_def def = lp_on_policy_def_default((lp_algorithm)algorithm);
        def.n_steps = 40;
        set_up(&r, 2, &walk_type, 4, &def);
        assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
        assert_int_equal(lp_on_policy_step(r.trainer, NULL),
                         LP_OK); /* in which an episode is cut, at the latest */
        const lp_memory first = lp_ctx_memory(r.ctx);
        for (int i = 0; i < 5; i++) assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
        assert_int_equal(lp_ctx_memory(r.ctx).allocations, first.allocations);
        lp_ctx_destroy(r.ctx);
    }
}

/* Each algorithm finds the right end of the walk: 1 at its right, 0 at its left, discounted. */
static void all_learn(void** state) {
    (void)state;
    for (int algorithm = 0; algorithm < LP_ALGORITHM_COUNT; algorithm++) {
        rig r;
        lp_on_policy_def def = lp_on_policy_def_default((lp_algorithm)algorithm);
        def.n_steps = 32;
        def.learning_rate.initial = 1e-2;
        set_up(&r, 1, &walk_type, 8, &def);
        lp_on_policy_metrics m;
        for (int i = 0; i < 80; i++) assert_int_equal(lp_on_policy_step(r.trainer, &m), LP_OK);
        lp_evaluation e;
        assert_int_equal(lp_evaluate(r.policy, r.envs, 40, true, 0, NULL, &e), LP_OK);
        assert_close(e.mean_reward, 1.0, 0);
        assert_true(m.ep_rew_mean > 0.9);
        lp_ctx_destroy(r.ctx);
    }
}

/* PPO with rl-zoo's settings, half of its steps: CartPole is solved. */
static void cartpole(void** state) {
    (void)state;
    rig r;
    lp_on_policy_def def = lp_on_policy_def_default(LP_PPO);
    def.n_timesteps = 50000;
    def.n_steps = 32;
    def.batch_size = 256;
    def.n_epochs = 20;
    def.gae_lambda = 0.8;
    def.gamma = 0.98;
    def.learning_rate = (lp_schedule){1e-3, true};
    def.clip_range = (lp_schedule){0.2, true};
    set_up(&r, 2, lp_env_find("CartPole-v1"), 8, &def);
    while (lp_on_policy_timesteps(r.trainer) < def.n_timesteps)
        assert_int_equal(lp_on_policy_step(r.trainer, NULL), LP_OK);
    lp_evaluation e;
    assert_int_equal(lp_evaluate(r.policy, r.envs, 20, true, 0, NULL, &e), LP_OK);
    assert_int_equal(e.episodes, 20);
    assert_true(e.mean_reward > 475);
    lp_ctx_destroy(r.ctx);
}

/* Seven episodes in three environments: quotas 2, 2, 3, whoever is faster; the same numbers on any
 * number of threads. */
static void evaluation(void** state) {
    (void)state;
    double first[7], returns[7];
    for (int threads = 1; threads <= 2; threads++) {
        rig r;
        const lp_on_policy_def def = settings();
        set_up(&r, threads, &walk_type, 3, &def);
        lp_evaluation e;
        assert_int_equal(lp_evaluate(r.policy, r.envs, 7, false, 9, returns, &e), LP_OK);
        double sum = 0;
        for (int i = 0; i < 7; i++) sum += returns[i];
        assert_close(e.mean_reward, sum / 7, 1e-12);
        assert_true(e.mean_length > 1 && e.mean_length <= 7);
        if (threads == 1) memcpy(first, returns, sizeof first);
        assert_memory_equal(first, returns, sizeof first);
        assert_int_equal(lp_evaluate(r.policy, r.envs, 0, false, 9, NULL, &e), LP_INVALID);
        lp_ctx_destroy(r.ctx);
    }
}

/* ---- files ----------------------------------------------------------------------------------- */

static char path[64];

static void write_bytes(const char* bytes, size_t n) {
    FILE* f = fopen(path, "wb");
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
}

/* A policy comes back from its file bit for bit; the file cut anywhere, or with a byte of its
 * header changed, is refused or gives a policy, and never anything worse. */
static void files(void** state) {
    (void)state;
    rig r;
    const lp_on_policy_def def = settings();
    set_up(&r, 1, lp_env_find("CartPole-v1"), 2, &def);
    strcpy(path, "/tmp/logpi-test-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(lp_policy_save(r.policy, lp_env_find("CartPole-v1"), path), LP_OK);
    lp_policy* again;
    const lp_env_type* type;
    assert_int_equal(lp_policy_load(r.ctx, path, &again, &type), LP_OK);
    assert_ptr_equal(type, lp_env_find("CartPole-v1"));
    assert_true(digest(again) == digest(r.policy));
    lp_evaluation one, two;
    assert_int_equal(lp_evaluate(r.policy, r.envs, 4, false, 3, NULL, &one), LP_OK);
    lp_envs_def same = lp_envs_def_default(type);
    same.count = 2;
    same.seed = 1;
    lp_envs* envs; /* the trainer has begun r.envs anew once */
    assert_int_equal(lp_envs_create(r.ctx, &same, &envs), LP_OK);
    assert_int_equal(lp_evaluate(again, envs, 4, false, 3, NULL, &two), LP_OK);
    assert_close(one.mean_reward, two.mean_reward, 0);
    lp_policy_destroy(again);

    static char bytes[1 << 17];
    FILE* f = fopen(path, "rb");
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_true(n > 30000 && n < sizeof bytes);
    for (size_t cut = 0; cut < n; cut += cut < 1500 ? 1 : 997) {
        write_bytes(bytes, cut);
        assert_int_equal(lp_policy_load(r.ctx, path, &again, NULL), LP_FORMAT);
        assert_null(again);
        assert_non_null(strstr(lp_error(r.ctx), path));
    }
    int refused = 0;
    for (size_t i = 0; i < 1200; i++) {
        for (int change = 0; change < 3; change++) {
            const char old = bytes[i];
            bytes[i] = (char)(change == 0 ? old ^ 1 : change == 1 ? '9' : 0);
            write_bytes(bytes, n);
            const lp_status status = lp_policy_load(r.ctx, path, &again, NULL);
            refused += status != LP_OK;
            assert_true(status == LP_OK || status == LP_FORMAT || status == LP_UNSUPPORTED);
            assert_true(status != LP_OK || lp_params_finite(again->params));
            lp_policy_destroy(again);
            bytes[i] = old;
        }
    }
    assert_true(refused > 1000);
    bytes[n] = 0;
    write_bytes(bytes, n + 1); /* a byte too many */
    assert_int_equal(lp_policy_load(r.ctx, path, &again, NULL), LP_FORMAT);
    lp_f32(lp_params_find(r.policy->params, "actor.1.bias"))[3] = NAN;
    assert_int_equal(lp_policy_save(r.policy, lp_env_find("CartPole-v1"), path), LP_OK);
    assert_int_equal(lp_policy_load(r.ctx, path, &again, NULL), LP_FORMAT);
    assert_non_null(strstr(lp_error(r.ctx), path));
    remove(path);
    assert_int_equal(lp_policy_load(r.ctx, path, &again, NULL), LP_NOT_FOUND);
    lp_ctx_destroy(r.ctx);
}

/* A file of small tensors whose layers, if they were what they say, would need 64 MB: it is refused
 * before they are made. */
static void layers_that_do_not_fit(void** state) {
    (void)state;
#define TENSOR(name, shape, from, to)                                                              \
    ",\"" name "\":{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" from "," to "]}"
#define NOTHING(name) TENSOR(name, "0", "112016", "112016")
    static const char header[] =
        "{\"__metadata__\":{\"format\":\"logpi policy 1\",\"env\":\"CartPole-v1\",\"activation\":"
        "\"tanh\",\"action\":\"discrete\"}" /* clang-format off */
        TENSOR("actor.0.weight", "4000,4", "0", "64000")
        TENSOR("actor.1.weight", "4000,1", "64000", "80000")
        TENSOR("actor.2.weight", "2,1", "80000", "80008")
        TENSOR("actor.0.bias", "4000", "80008", "96008")
        TENSOR("actor.1.bias", "4000", "96008", "112008")
        TENSOR("actor.2.bias", "2", "112008", "112016")
        NOTHING("critic.0.weight") NOTHING("critic.1.weight") NOTHING("critic.2.weight")
        NOTHING("critic.0.bias") NOTHING("critic.1.bias") NOTHING("critic.2.bias") "}";
    /* clang-format on */
    enum { NUMBERS = 112016 };
    static char bytes[8 + sizeof header + NUMBERS];
    const size_t length = sizeof header - 1;
    for (int i = 0; i < 8; i++) bytes[i] = (char)(length >> (8 * i));
    memcpy(bytes + 8, header, length);
    strcpy(path, "/tmp/logpi-test-XXXXXX");
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    write_bytes(bytes, 8 + length + NUMBERS);
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_policy* policy;
    assert_int_equal(lp_policy_load(ctx, path, &policy, NULL), LP_FORMAT);
    assert_non_null(strstr(lp_error(ctx), "layer 1 of the actor"));
    assert_true(lp_ctx_memory(ctx).peak_bytes < 1 << 21);
    remove(path);
    lp_ctx_destroy(ctx);
}

static void what_does_not_fit(void** state) {
    (void)state;
    rig r;
    lp_on_policy_def def = settings();
    set_up(&r, 1, &walk_type, 3, &def);
    lp_on_policy* trainer;
    def.gamma = 1.5;
    assert_int_equal(lp_on_policy_create(r.envs, r.policy, &def, &trainer), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "gamma"));
    def = settings();
    def.n_steps = INT32_MAX;
    assert_int_equal(lp_on_policy_create(r.envs, r.policy, &def, &trainer), LP_INVALID);
    def = settings();
    lp_policy* other;
    const lp_policy_def policy = lp_policy_def_default(lp_env_find("CartPole-v1"));
    assert_int_equal(lp_policy_create(r.ctx, &policy, &other), LP_OK);
    assert_int_equal(lp_on_policy_create(r.envs, other, &def, &trainer), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "Walk"));
    assert_null(trainer);
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(truncated_and_terminated),
        cmocka_unit_test(bad_rewards),
        cmocka_unit_test(divergence_is_undone),
        cmocka_unit_test(infinite_weights_are_undone),
        cmocka_unit_test(cancelled),
        cmocka_unit_test(allocates_nothing_after_the_first_step),
        cmocka_unit_test(all_learn),
        cmocka_unit_test(cartpole),
        cmocka_unit_test(evaluation),
        cmocka_unit_test(files),
        cmocka_unit_test(layers_that_do_not_fit),
        cmocka_unit_test(what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
