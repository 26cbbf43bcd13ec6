/* Environments that misbehave, actions that no space has, a programmer's mistakes, and memory. */
#include "rig.h"

enum { COUNT = 8, ACTIONS = 8, OBS = 3 };

/* What the action asks for; reset too can be asked for, by action END after which it is NaN. */
enum {
    NOTHING,
    NAN_REWARD,
    INF_REWARD,
    HUGE_REWARD,
    NAN_OBSERVATION,
    INF_OBSERVATION,
    END,
    NAN_LAST
};

static bool bad_reset; /* written while nothing runs */

static void odd_reset(void* state, lp_rng* rng) {
    *(double*)state = bad_reset && lp_rng_uniform(rng) < 2 ? NAN_OBSERVATION : NOTHING;
}
static void odd_observe(const void* state, float* observation) {
    const double asked = *(const double*)state;
    observation[0] = 1;
    observation[1] = asked == NAN_OBSERVATION || asked == NAN_LAST ? NAN : 2;
    observation[2] = asked == INF_OBSERVATION ? -INFINITY : 3;
}
static double odd_step(void* state, const void* action, bool* terminated) {
    const int32_t asked = *(const int32_t*)action;
    *(double*)state = asked;
    *terminated = asked == END || asked == NAN_LAST;
    return asked == NAN_REWARD    ? (double)NAN
           : asked == INF_REWARD  ? (double)INFINITY
           : asked == HUGE_REWARD ? 1.7e308
                                  : 1;
}
static const lp_env_type odd_type = {.name = "Odd-v0",
                                     .observation = {LP_SPACE_BOX, OBS, NULL, NULL},
                                     .action = {LP_SPACE_DISCRETE, ACTIONS, NULL, NULL},
                                     .state_bytes = sizeof(double),
                                     .reset = odd_reset,
                                     .observe = odd_observe,
                                     .step = odd_step};
static const int32_t all[COUNT] = {0, 1, 2, 3, 4, 5, 6, 7};

/* All, with one action for `special` and nothing for the others. */
static void send_all(lp_envs* envs, int32_t special, int32_t asked) {
    int32_t action[COUNT] = {0};
    action[special] = asked;
    assert_int_equal(lp_envs_send(envs, COUNT, all, action), LP_OK);
}

static void said(rig* r, const char* what) {
    if (!strstr(lp_error(r->ctx), what))
        fail_msg("\"%s\" says nothing of \"%s\"", lp_error(r->ctx), what);
}

/* At step 7 of environment 3. Nothing is received then or later, until all begin anew. */
static void what_is_not_finite_is_named(void** state) {
    (void)state;
    static const struct {
        int32_t asked[2]; /* at step 6 and 7 */
        const char* says;
    } cases[] = {{{NOTHING, NAN_REWARD}, "the reward is NaN"},
                 {{NOTHING, INF_REWARD}, "the reward is infinity"},
                 {{HUGE_REWARD, HUGE_REWARD}, "the sum of the rewards is infinity"},
                 {{NOTHING, NAN_OBSERVATION}, "observation[1] is NaN"},
                 {{NOTHING, NAN_LAST}, "observation[1] is NaN"},
                 {{NOTHING, INF_OBSERVATION}, "observation[2] is -infinity"}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        rig r;
        rig_open(&r, 1);
        lp_envs* envs = rig_envs(&r, &odd_type, COUNT, 0);
        receive(&r, envs);
        send_all(envs, 3, END); /* an episode before it, so that the step is the episode's */
        receive(&r, envs);
        lp_env_results now = {0}, untouched = {0};
        for (int step = 1; step <= 7; step++) {
            if (step > 1) now = receive(&r, envs);
            send_all(envs, 3, step < 6 ? NOTHING : cases[c].asked[step - 6]);
        }
        untouched = now;
        for (int again = 0; again < 2; again++) {
            assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
            said(&r, "Odd-v0: environment 3, step 7 of its episode: ");
            said(&r, cases[c].says);
            assert_memory_equal(&now, &untouched, sizeof now);
            assert_true(now.reward[3] == 1 || now.reward[3] == 1.7e308);
        }
        lp_envs_reset(envs);
        assert_int_equal(receive(&r, envs).count, COUNT);
        send_all(envs, 0, NOTHING);
        assert_int_equal(receive(&r, envs).count, COUNT);
        rig_close(&r);
    }
}

/* A first observation is one too: after creation, after an end, after a reset. */
static void a_first_observation_is_looked_at(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    bad_reset = true;
    lp_envs* envs = rig_envs(&r, &odd_type, COUNT, 0);
    lp_env_results now;
    assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
    said(&r, "environment 0, step 0 of its episode: observation[1] is NaN");
    bad_reset = false;
    lp_envs_reset(envs);
    receive(&r, envs);
    bad_reset = true;
    send_all(envs, 5, END);
    assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
    said(&r, "environment 5, step 0 of its episode: observation[1] is NaN");
    lp_envs_reset(envs);
    assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
    said(&r, "environment 0, step 0 of its episode: observation[1] is NaN");
    bad_reset = false;
    rig_close(&r);
}

/* The lowest of several, on however many threads and in whatever order they were sent to. */
static void the_lowest_of_several_is_named(void** state) {
    (void)state;
    enum { MANY = 1000 };
    for (int threads = 1; threads <= 3; threads++) {
        rig r;
        rig_open(&r, threads);
        lp_envs* envs = rig_envs(&r, &odd_type, MANY, 0);
        receive(&r, envs);
        static int32_t index[MANY], action[MANY];
        for (int32_t i = 300; i < MANY; i++) {
            index[i] = i;
            action[i] = i % 100 == 77 ? NAN_REWARD : NOTHING;
        }
        assert_int_equal(lp_envs_send(envs, MANY - 300, index + 300, action + 300), LP_OK);
        lp_env_results now;
        assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
        said(&r, "environment 377, step 1 ");
        const int32_t one = 123, asked = INF_OBSERVATION;
        assert_int_equal(lp_envs_send(envs, 1, &one, &asked), LP_OK);
        assert_int_equal(lp_envs_receive(envs, &now), LP_NONFINITE);
        said(&r, "environment 123, step 1 ");
        rig_close(&r);
    }
}

/* Named with their environment; nothing is sent, so that all may be sent to after that. */
static void actions_outside_of_their_space(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    lp_envs* envs = rig_envs(&r, &odd_type, COUNT, 0);
    lp_env_results now;
    receive(&r, envs);
    static const int32_t wrong[] = {-1, ACTIONS, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const int32_t index[] = {1, 6}, action[] = {ACTIONS - 1, wrong[i]};
        char text[100];
        snprintf(text, sizeof text, "Odd-v0: environment 6: action %d is outside of 0..7",
                 wrong[i]);
        assert_int_equal(lp_envs_send(envs, 2, index, action), LP_INVALID);
        said(&r, text);
        assert_int_equal(lp_envs_receive(envs, &now), LP_INVALID);
    }
    send_all(envs, 0, NOTHING);
    receive(&r, envs);

    lp_env_type box = odd_type;
    box.action = (lp_space){LP_SPACE_BOX, 2, NULL, NULL};
    lp_envs* boxes = rig_envs(&r, &box, COUNT, 0);
    receive(&r, boxes);
    const float numbers[] = {NAN, INFINITY, -INFINITY};
    const char* const names[] = {"NaN", "infinity", "-infinity"};
    for (int i = 0; i < 3; i++) {
        const int32_t index[] = {1, 6};
        const float action[] = {0, 0, 0, numbers[i]};
        char text[100];
        snprintf(text, sizeof text, "Odd-v0: environment 6: action[1] is %s", names[i]);
        assert_int_equal(lp_envs_send(boxes, 2, index, action), LP_INVALID);
        said(&r, text);
        assert_int_equal(lp_envs_receive(boxes, &now), LP_INVALID);
    }
    rig_close(&r);
}

/* ---- a programmer's mistakes ----------------------------------------------------------------- */

static void told(rig* r, lp_status status, const char* message) {
    assert_int_equal(status, LP_INVALID);
    assert_int_equal(r->assertions, 1);
    if (!strstr(r->message, message))
        fail_msg("\"%s\" says nothing of \"%s\"", r->message, message);
    r->assertions = 0;
}

static void mistakes_call_the_hook(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    lp_envs_def def = lp_envs_def_default(&odd_type);
    assert_int_equal(def.count, 1);
    assert_true(def.seed == 0);
    lp_envs* envs = (lp_envs*)&r;
    told(&r, lp_envs_create(r.ctx, NULL, &envs), "lp_envs_def_default");
    assert_null(envs);
    told(&r, lp_envs_create(r.ctx, &def, NULL), "a place");
    def.cookie++;
    told(&r, lp_envs_create(r.ctx, &def, &envs), "lp_envs_def_default");
    def = lp_envs_def_default(NULL);
    told(&r, lp_envs_create(r.ctx, &def, &envs), "a type");

    envs = rig_envs(&r, &odd_type, COUNT, 0);
    const int32_t action[COUNT] = {0},
                  wrong[][2] = {{3, 3}, {4, 2}, {-1, 2}, {2, COUNT}, {2, INT32_MAX}};
    told(&r, lp_envs_send(envs, 1, all, action), "received before");
    told(&r, lp_envs_receive(envs, NULL), "a place");
    receive(&r, envs);
    for (int i = 0; i < 5; i++)
        told(&r, lp_envs_send(envs, 2, wrong[i], action),
             i < 2 ? "must rise" : "no environment of this number");
    told(&r, lp_envs_send(envs, 2, all, NULL), "an action for each");
    told(&r, lp_envs_send(envs, 2, NULL, action), "an action for each");
    told(&r, lp_envs_send(envs, -1, all, action), "an action for each");
    /* none of these sent anything */
    lp_env_results now;
    assert_int_equal(lp_envs_receive(envs, &now), LP_INVALID);
    assert_int_equal(lp_envs_send(envs, 3, all + 2, action), LP_OK);
    told(&r, lp_envs_send(envs, 3, all + 4, action), "received before");
    assert_int_equal(lp_envs_send(envs, 3, all + 5, action), LP_OK);
    now = receive(&r, envs);
    assert_int_equal(now.count, 6);
    assert_memory_equal(now.index, all + 2, 6 * sizeof *all);
    rig_close(&r);
}

static void what_cannot_be_made(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    static const int64_t counts[] = {0, -1, 65537, INT64_MAX};
    lp_envs* envs;
    for (int i = 0; i < 4; i++) {
        lp_envs_def def = lp_envs_def_default(&odd_type);
        def.count = counts[i];
        assert_int_equal(lp_envs_create(r.ctx, &def, &envs), LP_INVALID);
        said(&r, "count");
        assert_null(envs);
    }
    static const float low[] = {0, 1, 0}, high[] = {1, 0, NAN};
    static const struct {
        const char* says;
        bool reset, observe, step;
        lp_space observation, action;
        int64_t steps;
    } cases[] = {
        {"Odd-v0 has no function reset",
         0,
         1,
         1,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_DISCRETE, 1, 0, 0},
         0},
        {"Odd-v0 has no function observe",
         1,
         0,
         1,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_DISCRETE, 1, 0, 0},
         0},
        {"Odd-v0 has no function step",
         1,
         1,
         0,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_DISCRETE, 1, 0, 0},
         0},
        {"observation", 1, 1, 1, {LP_SPACE_DISCRETE, 1, 0, 0}, {LP_SPACE_DISCRETE, 1, 0, 0}, 0},
        {"observation", 1, 1, 1, {LP_SPACE_BOX, 0, 0, 0}, {LP_SPACE_DISCRETE, 1, 0, 0}, 0},
        {"space of actions", 1, 1, 1, {LP_SPACE_BOX, 1, 0, 0}, {LP_SPACE_DISCRETE, 0, 0, 0}, 0},
        {"space of actions",
         1,
         1,
         1,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_DISCRETE, 1 + (int64_t)INT32_MAX, 0, 0},
         0},
        {"space of actions", 1, 1, 1, {LP_SPACE_BOX, 1, 0, 0}, {LP_SPACE_BOX, -1, 0, 0}, 0},
        {"space of actions", 1, 1, 1, {LP_SPACE_BOX, 1, 0, 0}, {(lp_space_kind)7, 1, 0, 0}, 0},
        {"action[1] has no value between 1 and 0",
         1,
         1,
         1,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_BOX, 2, low, high},
         0},
        {"action[0] has no value between 0 and nan",
         1,
         1,
         1,
         {LP_SPACE_BOX, 1, 0, 0},
         {LP_SPACE_BOX, 1, low + 2, high + 2},
         0},
        {"max_episode_steps", 1, 1, 1, {LP_SPACE_BOX, 1, 0, 0}, {LP_SPACE_DISCRETE, 1, 0, 0}, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lp_env_type type = odd_type;
        if (!cases[i].reset) type.reset = NULL;
        if (!cases[i].observe) type.observe = NULL;
        if (!cases[i].step) type.step = NULL;
        type.observation = cases[i].observation;
        type.action = cases[i].action;
        type.max_episode_steps = cases[i].steps;
        lp_envs_def def = lp_envs_def_default(&type);
        assert_int_equal(lp_envs_create(r.ctx, &def, &envs), LP_INVALID);
        said(&r, cases[i].says);
        assert_null(envs);
    }
    rig_close(&r);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* At every allocation of a creation: LP_NOMEM, and what had been allocated is given back. */
static void out_of_memory(void** state) {
    (void)state;
    int failures = 0;
    for (int64_t n = 0;; n++) {
        rig r;
        rig_open(&r, 1);
        const int64_t before = r.held;
        lp_envs_def def = lp_envs_def_default(lp_env_find("CartPole-v1"));
        def.count = 3;
        lp_envs* envs = (lp_envs*)&r;
        r.countdown = n;
        const lp_status status = lp_envs_create(r.ctx, &def, &envs);
        r.countdown = -1;
        if (status != LP_OK) {
            assert_int_equal(status, LP_NOMEM);
            assert_null(envs);
            assert_int_equal(r.held, before);
            said(&r, "out of memory");
            assert_int_equal(lp_envs_create(r.ctx, &def, &envs), LP_OK);
            failures++;
        }
        assert_int_equal(receive(&r, envs).count, 3);
        if (n % 2) lp_envs_destroy(envs); /* else they die with their context */
        if (n % 2) assert_int_equal(r.held, before);
        rig_close(&r);
        if (status == LP_OK) break;
    }
    assert_true(failures >= 10);
}

/* Sizes that no memory has, or that no size_t holds. */
static void too_large_for_memory(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    const int64_t before = r.held;
    for (int i = 0; i < 5; i++) {
        lp_env_type type = odd_type;
        if (i == 0) type.state_bytes = SIZE_MAX;
        if (i == 1) type.state_bytes = SIZE_MAX / 65536 + 1;
        if (i == 2) type.observation.n = INT64_MAX;
        if (i == 3) type.observation.n = INT64_MAX / 4;
        if (i == 4) type.action = (lp_space){LP_SPACE_BOX, INT64_MAX, NULL, NULL};
        lp_envs_def def = lp_envs_def_default(&type);
        def.count = 65536;
        lp_envs* envs;
        assert_int_equal(lp_envs_create(r.ctx, &def, &envs), LP_NOMEM);
        assert_null(envs);
        assert_int_equal(r.held, before);
    }
    rig_close(&r);
}

static void nothing_is_allocated_after_creation(void** state) {
    (void)state;
    enum { MANY = 300 };
    for (int threads = 1; threads <= 3; threads++) {
        rig r;
        rig_open(&r, threads);
        lp_envs* envs = rig_envs(&r, lp_env_find("CartPole-v1"), MANY, 1);
        const lp_memory before = lp_ctx_memory(r.ctx);
        r.countdown = 0;
        lp_env_results now = receive(&r, envs);
        static int32_t action[MANY];
        int64_t ended = 0;
        for (int step = 0; step < 200; step++) {
            for (int i = 0; i < MANY; i++) action[i] = (step / 2 + i) % 2;
            assert_int_equal(lp_envs_send(envs, now.count, now.index, action), LP_OK);
            now = receive(&r, envs);
            for (int i = 0; i < MANY; i++) ended += now.terminated[i];
            if (step % 50 == 9) {
                lp_envs_reset(envs);
                now = receive(&r, envs);
            }
        }
        assert_true(ended > 100);
        const lp_memory after = lp_ctx_memory(r.ctx);
        assert_int_equal(after.allocations, before.allocations);
        assert_int_equal(after.bytes, before.bytes);
        r.countdown = -1;
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_finite_is_named),
        cmocka_unit_test(a_first_observation_is_looked_at),
        cmocka_unit_test(the_lowest_of_several_is_named),
        cmocka_unit_test(actions_outside_of_their_space),
        cmocka_unit_test(mistakes_call_the_hook),
        cmocka_unit_test(what_cannot_be_made),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(too_large_for_memory),
        cmocka_unit_test(nothing_is_allocated_after_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
