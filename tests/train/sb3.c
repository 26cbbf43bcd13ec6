/* REINFORCE's family on environments beside Stable-Baselines3 (tests/oracles/sb3_fixtures.py):
 * PPO's loss and its gradient on fixed numbers within 1e-6; advantages and returns of a rollout
 * with terminals and truncations within 1e-5; weights after ten whole updates from that rollout,
 * and the statistics of each update, within 1e-5 max(1, |x|). */
#include "json.h"

#include "train/on_policy.h"

enum { ROOM = 8192 };

/* ---- the loss -------------------------------------------------------------------------------- */

static lp_tensor input(lp_tape* t, json_t* c, const char* name) {
    double x[64];
    const int64_t n = json_flatten(json_at(c, name), x, 64);
    return lp_input_f64(t, n, 1, x);
}

static void check_grad(json_t* c, const char* name, lp_tensor x) {
    double want[64];
    const int64_t n = json_flatten(json_at(c, name), want, 64);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(lp_grad_at(x, i, 0) - want[i]) <= 1e-6))
            fail_msg("%s[%d] is %.9g, PyTorch has %.9g", name, (int)i, lp_grad_at(x, i, 0),
                     want[i]);
    }
}

static void loss(void** state) {
    (void)state;
    json_t *root = fixture_load("sb3.json"), *c;
    size_t i;
    json_array_foreach(json_at(root, "losses"), i, c) {
        for (int type = LP_F32; type <= LP_F64; type++) {
            lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
            lp_tape* t = lp_tape_create(ctx, (lp_dtype)type);
            float column[4][64];
            static const char* const names[] = {"old_log_prob", "old_value", "advantage",
                                                "returns"};
            for (int k = 0; k < 4; k++) json_floats(json_at(c, names[k]), column[k], 64);
            lp_tensor log_prob = input(t, c, "log_prob"), value = input(t, c, "value"),
                      entropy = input(t, c, "entropy");
            const double clip_vf = json_real_at(c, "clip_range_vf");
            const lp_pg_loss_def def = {.surrogate = LP_SURROGATE_CLIPPED,
                                        .clip_range = json_real_at(c, "clip_range"),
                                        .value_loss = clip_vf > 0 ? LP_VALUE_LOSS_CLIPPED
                                                                  : LP_VALUE_LOSS_PLAIN,
                                        .clip_range_value = clip_vf,
                                        .vf_coef = json_real_at(c, "vf_coef"),
                                        .ent_coef = json_real_at(c, "ent_coef"),
                                        .normaliser = (double)log_prob->rows,
                                        .old_log_prob = column[0],
                                        .old_value = column[1],
                                        .advantage = column[2],
                                        .returns = column[3]};
            lp_tensor got = lp_pg_loss(t, log_prob, value, entropy, &def);
            assert_close(lp_item(got), json_real_at(c, "loss"), 1e-6);
            assert_int_equal(lp_backward(t, got), LP_OK);
            check_grad(c, "grad_log_prob", log_prob);
            check_grad(c, "grad_value", value);
            check_grad(c, "grad_entropy", entropy);
            lp_ctx_destroy(ctx);
        }
    }
    assert_true(i >= 3);
    json_decref(root);
}

/* ---- whole updates --------------------------------------------------------------------------- */

/* An environment of the right shape in which nothing happens: the rollout comes from the fixture.
 */
static void still_reset(void* state, lp_rng* rng) { (void)state, (void)rng; }
static void still_observe(const void* state, float* observation) {
    (void)state;
    for (int i = 0; i < 3; i++) observation[i] = 0;
}
static double still_step(void* state, const void* action, bool* terminated) {
    (void)state, (void)action;
    *terminated = false;
    return 0;
}

static double option(json_t* settings, const char* key, double standard) {
    json_t* value = json_object_get(settings, key);
    if (json_is_boolean(value)) return json_is_true(value);
    return json_is_number(value) ? json_number_value(value) : standard;
}

static lp_on_policy_def def_of(json_t* run) {
    json_t* s = json_at(run, "settings");
    const bool ppo = strcmp(json_string_value(json_at(run, "algorithm")), "ppo") == 0;
    lp_on_policy_def d = lp_on_policy_def_default(ppo ? LP_PPO : LP_A2C);
    d.n_steps = (int64_t)json_real_at(run, "T");
    d.batch_size = (int64_t)option(s, "batch_size", (double)d.batch_size);
    d.n_epochs = (int64_t)option(s, "n_epochs", (double)d.n_epochs);
    d.learning_rate.initial = option(s, "learning_rate", d.learning_rate.initial);
    d.clip_range.initial = option(s, "clip_range", d.clip_range.initial);
    /* the fixture has schedules as they are at its progress; a range of the value that has fallen
     * to 0 still clips */
    const bool fallen = json_object_get(s, "clip_range_vf") && json_real_at(run, "progress") == 0;
    d.clip_range_vf =
        fallen ? (lp_schedule){0.2, true} : (lp_schedule){option(s, "clip_range_vf", 0), false};
    d.gamma = option(s, "gamma", d.gamma);
    d.gae_lambda = option(s, "gae_lambda", d.gae_lambda);
    d.ent_coef = option(s, "ent_coef", 0);
    d.vf_coef = option(s, "vf_coef", d.vf_coef);
    d.max_grad_norm = option(s, "max_grad_norm", d.max_grad_norm);
    d.normalize_advantage = option(s, "normalize_advantage", d.normalize_advantage) != 0;
    d.target_kl = option(s, "target_kl", 0);
    return d;
}

typedef struct rig {
    lp_ctx* ctx;
    lp_env_type type;
    lp_envs* envs;
    lp_policy* policy;
    lp_on_policy* trainer;
} rig;

static void set_up(rig* r, json_t* run) {
    const bool discrete = json_is_true(json_at(run, "discrete"));
    const json_t* first = json_at(run, "initial");
    const json_t* weight = json_object_get(first, "actor.0.weight");
    r->ctx = lp_ctx_create(NULL, NULL, 0);
    r->type = (lp_env_type){.name = "still",
                            .summary = "",
                            .observation = {LP_SPACE_BOX,
                                            (int64_t)json_array_size(json_array_get(weight, 0)),
                                            NULL, NULL},
                            .action = {discrete ? LP_SPACE_DISCRETE : LP_SPACE_BOX,
                                       (int64_t)json_real_at(run, "actions"), NULL, NULL},
                            .state_bytes = 8,
                            .reset = still_reset,
                            .observe = still_observe,
                            .step = still_step};
    lp_envs_def envs = lp_envs_def_default(&r->type);
    envs.count = (int64_t)json_real_at(run, "N");
    assert_int_equal(lp_envs_create(r->ctx, &envs, &r->envs), LP_OK);
    lp_policy_def policy = lp_policy_def_default(&r->type);
    policy.hidden[0] = 24;
    policy.hidden[1] = 16;
    assert_int_equal(lp_policy_create(r->ctx, &policy, &r->policy), LP_OK);
    const lp_on_policy_def def = def_of(run);
    assert_int_equal(lp_on_policy_create(r->envs, r->policy, &def, &r->trainer), LP_OK);
    for (int64_t i = 0; i < lp_params_count(r->policy->params); i++) {
        lp_tensor x = lp_params_get(r->policy->params, i);
        json_t* from = json_at(json_at(run, "initial"), lp_params_name(r->policy->params, i));
        assert_int_equal(json_floats(from, lp_f32(x), x->rows * x->cols), x->rows * x->cols);
    }
    lp_params_changed(r->policy->params);
}

static void floats(json_t* run, const char* name, float* to, int64_t n) {
    assert_int_equal(json_floats(json_at(run, name), to, n), n);
}

static void load_rollout(rig* r, json_t* run) {
    lp__steps* s = &r->trainer->steps;
    const int64_t n = s->T * s->N;
    floats(run, "observation", s->observation, n * r->type.observation.n);
    floats(run, "reward", s->reward, n);
    floats(run, "value", s->value, n);
    floats(run, "log_prob", s->log_prob, n);
    floats(run, "last_value", s->last_value, s->N);
    float column[ROOM];
    floats(run, "ended", column, n);
    for (int64_t i = 0; i < n; i++) s->ended[i] = column[i] != 0;
    floats(run, "action", column, n);
    for (int64_t i = 0; i < n; i++) {
        if (r->type.action.kind == LP_SPACE_BOX) {
            ((float*)s->action)[i] = column[i];
        } else {
            ((int32_t*)s->action)[i] = (int32_t)column[i];
        }
    }
}

static void compare(const char* run, const char* what, const float* got, json_t* list,
                    double tolerance) {
    static double want[ROOM];
    const int64_t n = json_flatten(list, want, ROOM);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - want[i]) <= tolerance * fmax(1.0, fabs(want[i]))))
            fail_msg("%s: %s[%d] is %.9g, Stable-Baselines3 has %.9g", run, what, (int)i,
                     (double)got[i], want[i]);
    }
}

/* The learner says the same about the rollout as the one that made it: log-probabilities and
 * values. */
static void compare_forward(rig* r, const char* run, json_t* json) {
    const lp__steps* s = &r->trainer->steps;
    const int64_t n = s->T * s->N;
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    lp_tensor x = lp_const_f32(t, n, r->type.observation.n, s->observation);
    lp_dist pi = lp__policy_dist(t, r->policy, x);
    lp_tensor log_prob = lp_log_prob(t, pi, lp__policy_actions(t, r->policy, n, s->action));
    compare(run, "log_prob", lp_f32(log_prob), json_at(json, "log_prob"), 1e-5);
    compare(run, "value", lp_f32(lp__policy_value(t, r->policy, x)), json_at(json, "value"), 1e-5);
    lp_tape_destroy(t);
}

static void compare_stats(const char* run, size_t update, const lp_on_policy_metrics* m,
                          json_t* want) {
    const char* key;
    json_t* value;
    assert_true(json_object_size(want) >= 5);
    json_object_foreach(want, key, value) { /* every one */
        const char* name = strcmp(key, "train/policy_loss") == 0 ? "train/policy_gradient_loss"
                                                                 : key; /* A2C's name */
        int i = 0;
        while (i < lp_on_policy_metrics_count() && strcmp(lp_on_policy_metrics_name(i), name) != 0)
            i++;
        if (i == lp_on_policy_metrics_count()) fail_msg("%s: there is no %s", run, key);
        const double got = lp_on_policy_metrics_get(m, i), sb3 = json_number_value(value);
        if (!(fabs(got - sb3) <= 1e-5 * fmax(1.0, fabs(sb3))))
            fail_msg("%s, update %d: %s is %.9g, Stable-Baselines3 has %.9g", run, (int)update, key,
                     got, sb3);
    }
}

static void whole_updates(void** state) {
    (void)state;
    json_t *root = fixture_load("sb3.json"), *run;
    size_t i;
    json_array_foreach(json_at(root, "runs"), i, run) {
        const char* name = json_string_value(json_at(run, "name"));
        rig r;
        set_up(&r, run);
        lp_on_policy* trainer = r.trainer;
        lp__steps* s = &trainer->steps;
        const int64_t n = s->T * s->N;
        load_rollout(&r, run);
        if (json_real_at(run, "progress") == 0) trainer->timesteps = trainer->def.n_timesteps;
        lp_gae_rollout(s->T, s->N, s->reward, s->value, s->ended, s->last_value, trainer->def.gamma,
                       trainer->def.gae_lambda, s->advantage, s->returns);
        compare(name, "advantage", s->advantage, json_at(run, "advantage"), 1e-5);
        compare(name, "returns", s->returns, json_at(run, "returns"), 1e-5);
        compare_forward(&r, name, run);
        json_t* orders = json_at(run, "permutations");
        size_t used = 0, update;
        json_t* stats;
        json_array_foreach(json_at(run, "stats"), update, stats) {
            static double wide[ROOM];
            static int32_t permutations[ROOM];
            const int64_t made =
                (int64_t)json_number_value(json_array_get(json_at(run, "epochs_made"), update));
            for (int64_t e = 0; e < made; e++) {
                json_flatten(json_array_get(orders, used++), wide, ROOM);
                for (int64_t j = 0; j < n; j++) permutations[e * n + j] = (int32_t)wide[j];
            }
            for (int64_t j = made * n; j < trainer->def.n_epochs * n; j++)
                permutations[j] = (int32_t)(j % n);
            lp_on_policy_metrics m = {0};
            assert_int_equal(lp__on_policy_update(trainer, permutations, &m), LP_OK);
            compare_stats(name, update, &m, stats);
        }
        assert_int_equal(update, 10);
        for (int64_t k = 0; k < lp_params_count(r.policy->params); k++) {
            const char* parameter = lp_params_name(r.policy->params, k);
            compare(name, parameter, lp_f32(lp_params_get(r.policy->params, k)),
                    json_at(json_at(run, "final"), parameter), 1e-5);
        }
        lp_ctx_destroy(r.ctx);
    }
    assert_true(i >= 6);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(loss), cmocka_unit_test(whole_updates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
