/* Environments side by side: each says what it would say alone, whoever its company, in whatever
 * order and on however many threads it is stepped. */
#include "rig.h"

#include "env/envs.h"

/* ---- a walk that ends in every way that there is: out of bounds, out of time, both at once ------
 */

typedef struct walk {
    double place, wrong; /* wrong: how much was not as env.h says; a thread must not assert */
    char odd[7];         /* so that the size is no multiple of 16 */
} walk;
enum { WALK_STEPS = 9, WALK_OBS = 3 };

static void walk_reset(void* state, lp_rng* rng) {
    walk* w = state;
    double wrong = (uintptr_t)state % 16 != 0;
    for (size_t i = 0; i < sizeof *w; i++) wrong += ((const char*)state)[i] != 0;
    *w = (walk){.place = lp_rng_uniform(rng), .wrong = wrong, .odd = {1}};
}
static void walk_observe(const void* state, float* observation) {
    const walk* w = state;
    observation[0] = (float)w->place;
    observation[1] = (float)(w->place * 1e3 - floor(w->place * 1e3));
    observation[2] = (float)w->wrong;
}
static double walk_step(void* state, const void* action, bool* terminated) {
    walk* w = state;
    w->wrong += *terminated;
    w->place += *(const int32_t*)action - 1 + 0.125 * sin(9 * w->place);
    *terminated = fabs(w->place) > 2.5;
    return 0.3 + w->place;
}
static const lp_env_type walk_type = {.name = "Walk-v0",
                                      .observation = {LP_SPACE_BOX, WALK_OBS, NULL, NULL},
                                      .action = {LP_SPACE_DISCRETE, 3, NULL, NULL},
                                      .state_bytes = sizeof(walk),
                                      .max_episode_steps = WALK_STEPS,
                                      .reset = walk_reset,
                                      .observe = walk_observe,
                                      .step = walk_step};

/* The action of environment i at its n-th step: the environments' own, so that no order can change
 * it. */
static int32_t action_at(int64_t i, int64_t n) {
    lp_rng rng = lp_rng_philox(99, LP_FOR_TEST, (uint64_t)i, (uint32_t)n);
    return (int32_t)lp_rng_below(&rng, 3);
}

/* One environment alone, by the book. */
typedef struct lone {
    _Alignas(16) walk state;
    int64_t index, taken; /* steps since the beginning */
    int64_t steps;        /* of the episode */
    uint32_t episode;
    double sum;
} lone;

static void lone_begin(lone* l, uint64_t seed) {
    lp_rng rng = lp_rng_philox(seed, LP_FOR_ENV, (uint64_t)l->index, l->episode);
    memset(&l->state, 0, sizeof l->state);
    walk_reset(&l->state, &rng);
    l->steps = 0;
    l->sum = 0;
}

static void same_floats(const float* got, const float* want, int64_t n) {
    assert_memory_equal(got, want, (size_t)n * sizeof(float));
}

typedef struct tally {
    int64_t terminated, truncated, both;
} tally;

/* Takes its step, and compares what r says of it. */
static void lone_step(lone* l, uint64_t seed, const lp_env_results* r, tally* ends) {
    const int64_t i = l->index;
    const int32_t action = action_at(i, l->taken++);
    float now[WALK_OBS];
    bool terminated = false;
    const double reward = walk_step(&l->state, &action, &terminated);
    l->sum += reward;
    const bool late = ++l->steps == WALK_STEPS;
    assert_true(r->reward[i] == reward);
    assert_int_equal(r->terminated[i], terminated);
    assert_int_equal(r->truncated[i], late && !terminated);
    if (terminated || late) {
        walk_observe(&l->state, now);
        same_floats(r->final_observation + i * WALK_OBS, now, WALK_OBS);
        assert_true(r->episode_return[i] == l->sum);
        assert_int_equal(r->episode_length[i], l->steps);
        ends->terminated += terminated;
        ends->truncated += late;
        ends->both += terminated && late;
        l->episode++;
        lone_begin(l, seed);
    }
    walk_observe(&l->state, now);
    same_floats(r->observation + i * WALK_OBS, now, WALK_OBS);
    assert_true(now[2] == 0);
}

/* Random subsets are sent to, in one or several sends, and received; also a subset of one, and all.
 */
static void each_is_as_if_alone(void** state) {
    (void)state;
    enum { COUNT = 131, ROUNDS = 300 };
    const uint64_t seed = 0x123456789abcdef;
    rig r;
    rig_open(&r, 2);
    lp_envs* envs = rig_envs(&r, &walk_type, COUNT, seed);
    assert_ptr_equal(lp_envs_type(envs), &walk_type);
    assert_int_equal(lp_envs_count(envs), COUNT);
    static lone lones[COUNT];
    lp_env_results results = receive(&r, envs);
    assert_int_equal(results.count, COUNT);
    for (int64_t i = 0; i < COUNT; i++) {
        lones[i] = (lone){.index = i};
        lone_begin(&lones[i], seed);
        float first[WALK_OBS];
        walk_observe(&lones[i].state, first);
        same_floats(results.observation + i * WALK_OBS, first, WALK_OBS);
        assert_int_equal(results.index[i], i);
        assert_true(results.reward[i] == 0 && !results.terminated[i] && !results.truncated[i]);
    }
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    tally ends = {0};
    for (int round = 0; round < ROUNDS; round++) {
        bool sent_to[COUNT] = {0};
        int64_t total = 0;
        const uint32_t sends = 1 + lp_rng_below(&rng, 3), share = 1 + lp_rng_below(&rng, 4);
        for (uint32_t s = 0; s < sends; s++) {
            int32_t index[COUNT], action[COUNT];
            int64_t count = 0;
            for (int32_t i = 0; i < COUNT; i++) {
                const bool chosen = round % 10 == 0 || lp_rng_below(&rng, 4) < share;
                if (sent_to[i] || !chosen || (round % 10 == 1 && count == 1)) continue;
                sent_to[i] = true;
                index[count] = i;
                action[count++] = action_at(i, lones[i].taken);
            }
            assert_int_equal(lp_envs_send(envs, count, index, action), LP_OK);
            total += count;
        }
        if (total == 0) continue;
        results = receive(&r, envs);
        assert_int_equal(results.count, total);
        int64_t k = 0;
        for (int32_t i = 0; i < COUNT; i++) {
            if (!sent_to[i]) continue;
            assert_int_equal(results.index[k++], i);
            lone_step(&lones[i], seed, &results, &ends);
        }
    }
    assert_true(ends.terminated > 100 && ends.truncated > 100 && ends.both > 10);
    rig_close(&r);
}

/* Rows of environments that were not received do not change, nor does any row between a send and
 * its receive. */
static void results_stay_until_they_are_received(void** state) {
    (void)state;
    enum { COUNT = 5 };
    rig r;
    rig_open(&r, 1);
    lp_envs* envs = rig_envs(&r, &walk_type, COUNT, 4);
    lp_env_results now = receive(&r, envs);
    const int32_t all[COUNT] = {0, 1, 2, 3, 4}, two[] = {1, 3}, outward[COUNT] = {2, 2, 2, 2, 2};
    struct rows {
        float observation[COUNT * WALK_OBS], final[COUNT * WALK_OBS];
        double reward[COUNT], sum[COUNT];
        bool terminated[COUNT], truncated[COUNT];
        int64_t length[COUNT];
    } before, after;
#define KEEP(rows)                                                                                 \
    memset(&(rows), 0, sizeof(rows));                                                              \
    memcpy((rows).observation, now.observation, sizeof(rows).observation);                         \
    memcpy((rows).final, now.final_observation, sizeof(rows).final);                               \
    memcpy((rows).reward, now.reward, sizeof(rows).reward);                                        \
    memcpy((rows).sum, now.episode_return, sizeof(rows).sum);                                      \
    memcpy((rows).terminated, now.terminated, sizeof(rows).terminated);                            \
    memcpy((rows).truncated, now.truncated, sizeof(rows).truncated);                               \
    memcpy((rows).length, now.episode_length, sizeof(rows).length)
    bool ended = false;
    for (int step = 0; step < 8; step++) {
        assert_int_equal(lp_envs_send(envs, COUNT, all, outward), LP_OK);
        now = receive(&r, envs);
        KEEP(before);
        assert_int_equal(lp_envs_send(envs, 2, two, outward), LP_OK);
        KEEP(after);
        assert_memory_equal(&after, &before, sizeof before);
        assert_int_equal(now.count, COUNT);
        now = receive(&r, envs);
        KEEP(after);
        for (int i = 0; i < COUNT; i++) {
            const bool received = i == 1 || i == 3;
            assert_int_equal(memcmp(after.observation + i * WALK_OBS,
                                    before.observation + i * WALK_OBS,
                                    WALK_OBS * sizeof(float)) != 0,
                             received);
            if (received) {
                ended |= after.terminated[i];
                continue;
            }
            same_floats(after.final + i * WALK_OBS, before.final + i * WALK_OBS, WALK_OBS);
            assert_true(after.reward[i] == before.reward[i] && after.sum[i] == before.sum[i]);
            assert_int_equal(after.terminated[i], before.terminated[i]);
            assert_int_equal(after.truncated[i], before.truncated[i]);
            assert_int_equal(after.length[i], before.length[i]);
        }
    }
    assert_true(ended);
#undef KEEP
    rig_close(&r);
}

/* ---- threads, order, seeds ----------------------------------------------------------------------
 */

static uint64_t fnv1a(uint64_t hash, const void* bytes, size_t count) {
    const uint8_t* byte = bytes;
    for (size_t i = 0; i < count; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}

/* 200 CartPoles for 120 steps each, sent to in one of three manners: all at once; the odd ones
 * first, then the even ones, received together; the two halves turn by turn. A hash of all that
 * each says. */
typedef enum manner { AT_ONCE, ODD_FIRST, BY_HALVES } manner;

static uint64_t run_cartpoles(int threads, manner how, uint64_t seed) {
    enum { COUNT = 200, STEPS = 120 };
    rig r;
    rig_open(&r, threads);
    lp_envs* envs = rig_envs(&r, lp_env_find("CartPole-v1"), COUNT, seed);
    lp_env_results results = receive(&r, envs);
    uint64_t hash[COUNT];
    for (int i = 0; i < COUNT; i++)
        hash[i] = fnv1a(0xcbf29ce484222325u, results.observation + 4 * i, 4 * sizeof(float));
    for (int step = 0; step < STEPS; step++) {
        for (int part = 0; part < (how == AT_ONCE ? 1 : 2); part++) {
            int32_t index[COUNT], action[COUNT];
            int64_t count = 0;
            for (int32_t i = 0; i < COUNT; i++) {
                if (how == ODD_FIRST && i % 2 == part) continue;
                if (how == BY_HALVES && (i < COUNT / 2) != (part == 0)) continue;
                index[count] = i;
                action[count++] = action_at(i, step) % 2;
            }
            assert_int_equal(lp_envs_send(envs, count, index, action), LP_OK);
            if (how == ODD_FIRST && part == 0) continue;
            results = receive(&r, envs);
            assert_int_equal(results.count, how == BY_HALVES ? COUNT / 2 : COUNT);
            for (int64_t k = 0; k < results.count; k++) {
                const int32_t i = results.index[k];
                uint64_t* h = &hash[i];
                *h = fnv1a(*h, results.observation + 4 * i, 4 * sizeof(float));
                *h = fnv1a(*h, results.reward + i, sizeof(double));
                *h = fnv1a(*h, results.terminated + i, sizeof(bool));
                *h = fnv1a(*h, results.truncated + i, sizeof(bool));
                *h = fnv1a(*h, results.final_observation + 4 * i, 4 * sizeof(float));
                *h = fnv1a(*h, results.episode_return + i, sizeof(double));
                *h = fnv1a(*h, results.episode_length + i, sizeof(int64_t));
            }
        }
    }
    rig_close(&r);
    return fnv1a(0, hash, sizeof hash);
}

static void neither_threads_nor_order_change_a_bit(void** state) {
    (void)state;
    const uint64_t want = run_cartpoles(1, AT_ONCE, 7);
    for (int threads = 1; threads <= 3; threads++) {
        assert_true(run_cartpoles(threads, AT_ONCE, 7) == want);
        assert_true(run_cartpoles(threads, ODD_FIRST, 7) == want);
        assert_true(run_cartpoles(threads, BY_HALVES, 7) == want);
    }
    assert_true(run_cartpoles(1, AT_ONCE, 8) != want);
    assert_true(run_cartpoles(1, AT_ONCE, 7 + ((uint64_t)1 << 40)) != want);
}

/* ---- reset, nothing to receive, cancellation ------------------------------------------------- */

/* All begin anew, those that were not received too, and the episodes are numbered on: as many
 * resets by hand as episodes that ended lead to the same beginning. */
static void reset_begins_anew(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    lp_envs* envs = rig_envs(&r, &walk_type, 3, 11);
    receive(&r, envs);
    const int32_t all[] = {0, 1, 2}, outward[] = {2, 2, 2};
    int ended[3] = {0};
    for (int step = 0; step < 40; step++) {
        assert_int_equal(lp_envs_send(envs, 3, all, outward), LP_OK);
        lp_env_results now = receive(&r, envs);
        for (int i = 0; i < 3; i++) ended[i] += now.terminated[i] || now.truncated[i];
    }
    assert_int_equal(lp_envs_send(envs, 1, all + 1, outward), LP_OK); /* never received */
    lp_envs_reset(envs);
    lp_env_results now = receive(&r, envs);
    assert_int_equal(now.count, 3);
    for (int i = 0; i < 3; i += 2) {
        lone l = {.index = i, .episode = (uint32_t)ended[i] + 1};
        lone_begin(&l, 11);
        float first[WALK_OBS];
        walk_observe(&l.state, first);
        same_floats(now.observation + i * WALK_OBS, first, WALK_OBS);
        assert_true(ended[i] >= 5);
    }
    for (int i = 0; i < 3; i++)
        assert_true(now.reward[i] == 0 && !now.terminated[i] && !now.truncated[i]);
    /* an episode of the full length follows: its steps and its return are its own */
    lone l = {.index = 0, .episode = (uint32_t)ended[0] + 1};
    lone_begin(&l, 11);
    tally ends = {0};
    for (int step = 0; step < 3 * WALK_STEPS; step++) {
        const int32_t action = action_at(0, l.taken);
        assert_int_equal(lp_envs_send(envs, 1, all, &action), LP_OK);
        now = receive(&r, envs);
        lone_step(&l, 11, &now, &ends);
    }
    assert_true(ends.terminated + ends.truncated >= 3);
    rig_close(&r);
}

static void nothing_to_receive(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    lp_envs* envs = rig_envs(&r, &walk_type, 2, 0);
    lp_env_results now;
    receive(&r, envs);
    assert_int_equal(lp_envs_receive(envs, &now), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "Walk-v0: nothing was sent"));
    assert_int_equal(lp_envs_send(envs, 0, NULL, NULL), LP_OK);
    assert_int_equal(lp_envs_receive(envs, &now), LP_INVALID);
    rig_close(&r);
}

/* What was sent is still there when the cancellation is taken back. */
static void a_cancelled_receive_loses_nothing(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    lp_envs *envs = rig_envs(&r, &walk_type, 2, 5), *other = rig_envs(&r, &walk_type, 2, 5);
    const int32_t index[] = {0, 1}, action[] = {1, 1};
    lp_env_results now;
    lp_cancel(r.ctx);
    assert_int_equal(lp_envs_receive(envs, &now), LP_CANCELLED);
    lp_cancel_clear(r.ctx);
    assert_int_equal(receive(&r, envs).count, 2);
    assert_int_equal(lp_envs_send(envs, 1, index, action), LP_OK);
    lp_cancel(r.ctx);
    assert_int_equal(lp_envs_receive(envs, &now), LP_CANCELLED);
    lp_cancel_clear(r.ctx);
    now = receive(&r, envs);
    assert_int_equal(now.count, 1);
    receive(&r, other);
    assert_int_equal(lp_envs_send(other, 2, index, action), LP_OK);
    same_floats(now.observation, receive(&r, other).observation, WALK_OBS);
    lp_envs_destroy(NULL);
    lp_envs_destroy(other);
    rig_close(&r);
}

/* ---- actions that are numbers ---------------------------------------------------------------- */

/* Its observation is the last action. */
static void echo_reset(void* state, lp_rng* rng) { (void)state, (void)rng; }
static void echo_observe(const void* state, float* observation) {
    memcpy(observation, state, 2 * sizeof(float));
}
static double echo_step(void* state, const void* action, bool* terminated) {
    (void)terminated;
    memcpy(state, action, 2 * sizeof(float));
    return 1;
}
static const float echo_low[] = {-1, -2}, echo_high[] = {1, 0.5f};

static lp_env_type echo_type(const float* low, const float* high) {
    return (lp_env_type){.name = "Echo-v0",
                         .observation = {LP_SPACE_BOX, 2, NULL, NULL},
                         .action = {LP_SPACE_BOX, 2, low, high},
                         .state_bytes = 2 * sizeof(float),
                         .reset = echo_reset,
                         .observe = echo_observe,
                         .step = echo_step};
}

static void numbers_are_clipped_to_the_box(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    for (int bounds = 0; bounds < 4; bounds++) {
        const bool below = bounds & 1, above = bounds & 2;
        const lp_env_type type = echo_type(below ? echo_low : NULL, above ? echo_high : NULL);
        lp_envs* envs = rig_envs(&r, &type, 4, 0);
        receive(&r, envs);
        const int32_t index[] = {1, 3};
        const float action[] = {-7, 0.25f, 1.5f, 0.5078125f},
                    kept[] = {-7, 0.25f, 1.5f, 0.5078125f};
        assert_int_equal(lp_envs_send(envs, 2, index, action), LP_OK);
        assert_memory_equal(action, kept, sizeof kept);
        const float* got = receive(&r, envs).observation;
        const float want[] = {below ? -1.0f : -7, 0.25f, above ? 1.0f : 1.5f,
                              above ? 0.5f : 0.5078125f};
        same_floats(got + 2, want, 2);
        same_floats(got + 6, want + 2, 2);
        assert_true(got[0] == 0 && got[1] == 0 && got[4] == 0 && got[5] == 0);
        lp_envs_destroy(envs);
    }
    rig_close(&r);
}

/* Without max_episode_steps no episode ends by itself. */
static void no_limit_of_steps(void** state) {
    (void)state;
    rig r;
    rig_open(&r, 1);
    const lp_env_type type = echo_type(NULL, NULL);
    lp_envs* envs = rig_envs(&r, &type, 1, 0);
    receive(&r, envs);
    const int32_t index = 0;
    const float action[] = {1, 2};
    for (int step = 0; step < 2000; step++) {
        assert_int_equal(lp_envs_send(envs, 1, &index, action), LP_OK);
        lp_env_results now = receive(&r, envs);
        assert_false(now.terminated[0] || now.truncated[0]);
    }
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_is_as_if_alone),
        cmocka_unit_test(results_stay_until_they_are_received),
        cmocka_unit_test(neither_threads_nor_order_change_a_bit),
        cmocka_unit_test(reset_begins_anew),
        cmocka_unit_test(nothing_to_receive),
        cmocka_unit_test(a_cancelled_receive_loses_nothing),
        cmocka_unit_test(numbers_are_clipped_to_the_box),
        cmocka_unit_test(no_limit_of_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
