/* CartPole-v1 beside Gymnasium's (tests/oracles/cartpole_fixture.py): the same bits. */
#include "json.h"

#include "env/cartpole.h"
#include "env/envs.h"
#include "rig.h"

static uint64_t fnv1a(uint64_t hash, const void* bytes, size_t count) {
    const uint8_t* byte = bytes;
    for (size_t i = 0; i < count; i++) hash = (hash ^ byte[i]) * 0x100000001b3u;
    return hash;
}
static const uint64_t EMPTY = 0xcbf29ce484222325u;

static uint64_t hash_at(json_t* object, const char* key) {
    return strtoull(json_string_value(json_at(object, key)), NULL, 16);
}

/* Whether this program's sin and cos are those that the fixture was made with. If not, an episode
 * is compared while it is young: from an upright pole a difference grows by half a hundred in a
 * second, 50 steps. */
static bool same_sincos(json_t* root) {
    uint64_t hash = EMPTY;
    for (int i = -1000; i <= 1000; i++) {
        const double angle = i / 4096.0, values[] = {sin(angle), cos(angle)};
        hash = fnv1a(hash, values, sizeof values);
    }
    return hash == hash_at(root, "sincos");
}
enum { YOUNG = 50 };
static const double YOUNG_TOLERANCE = 1e-6;

/* One episode of the fixture, and how far it is. */
typedef struct replay {
    const char* actions;
    int64_t length, steps, kept;
    double reward;
    bool terminated, truncated, same_bits;
    json_t* observations; /* at each multiple of `every`, and at the end */
    uint64_t hash, wanted_hash;
    double end[4];
} replay;

static replay read_episode(json_t* json, lp__cartpole* state, bool same_bits) {
    double begin[4];
    replay p = {.actions = json_string_value(json_at(json, "actions")),
                .reward = json_real_at(json, "reward"),
                .terminated = json_is_true(json_at(json, "terminated")),
                .truncated = json_is_true(json_at(json, "truncated")),
                .same_bits = same_bits,
                .observations = json_at(json, "observations"),
                .hash = EMPTY,
                .wanted_hash = hash_at(json, "hash")};
    p.length = (int64_t)strlen(p.actions);
    assert_int_equal(json_flatten(json_at(json, "state"), begin, 4), 4);
    assert_int_equal(json_flatten(json_at(json, "end"), p.end, 4), 4);
    *state = (lp__cartpole){begin[0], begin[1], begin[2], begin[3]};
    float observation[4];
    lp_env_find("CartPole-v1")->observe(state, observation);
    p.hash = fnv1a(p.hash, observation, sizeof observation);
    return p;
}

static void check_observation(replay* p, int64_t episode, const float* got) {
    float want[4];
    assert_int_equal(json_floats(json_array_get(p->observations, (size_t)p->kept++), want, 4), 4);
    for (int j = 0; j < 4; j++) {
        const double allowed = p->same_bits ? 0 : YOUNG_TOLERANCE * fmax(1, fabs((double)want[j]));
        if (!(fabs((double)got[j] - (double)want[j]) <= allowed))
            fail_msg("episode %d, step %d: observation[%d] is %.9g, Gymnasium's %.9g", (int)episode,
                     (int)p->steps, j, (double)got[j], (double)want[j]);
    }
}

/* What Gymnasium says of this step. */
static void check_step(replay* p, int64_t i, const lp_env_results* r, int64_t every) {
    const bool end = ++p->steps == p->length;
    const float* observation = (end ? r->final_observation : r->observation) + 4 * i;
    p->hash = fnv1a(p->hash, observation, 4 * sizeof(float));
    assert_true(r->reward[i] == p->reward);
    if (r->terminated[i] != (end && p->terminated) ||
        r->truncated[i] != (end && p->truncated && !p->terminated))
        fail_msg("episode %d, step %d of %d: terminated %d, truncated %d", (int)i, (int)p->steps,
                 (int)p->length, r->terminated[i], r->truncated[i]);
    if (end || p->steps % every == 0) check_observation(p, i, observation);
    if (!end) return;
    assert_int_equal(p->kept, json_array_size(p->observations));
    assert_int_equal(r->episode_length[i], p->length);
    assert_true(r->episode_return[i] == p->reward * (double)p->length);
    if (p->same_bits && p->hash != p->wanted_hash)
        fail_msg("episode %d: some observation has other bits", (int)i);
}

/* All episodes of the fixture side by side, each an environment; a step is sent to those that go
 * on. */
static void replays_gymnasium(void** state) {
    (void)state;
    json_t *root = fixture_load("cartpole.json"), *episodes = json_at(root, "episodes");
    const bool same_bits = same_sincos(root);
    if (!same_bits)
        print_message("sin and cos differ from those of the fixture in some bits: only the first "
                      "%d steps of each episode are compared, within %g\n",
                      YOUNG, YOUNG_TOLERANCE);
    const int64_t count = (int64_t)json_array_size(episodes);
    const int64_t every = json_integer_value(json_at(root, "every"));
    rig r;
    rig_open(&r, 2);
    const lp_env_type* type = lp_env_find("CartPole-v1");
    lp_envs* envs = rig_envs(&r, type, count, 0);
    receive(&r, envs);
    replay* replays = calloc((size_t)count, sizeof *replays);
    int32_t *index = calloc((size_t)count, sizeof *index),
            *action = calloc((size_t)count, sizeof *action);
    for (int64_t i = 0; i < count; i++)
        replays[i] =
            read_episode(json_array_get(episodes, (size_t)i), lp__envs_state(envs, i), same_bits);

    int64_t steps = 0, terminated = 0, truncated = 0, both = 0;
    for (;;) {
        int64_t sent = 0;
        for (int64_t i = 0; i < count; i++) {
            const replay* p = &replays[i];
            if (p->steps == p->length || (!same_bits && p->steps == YOUNG)) continue;
            index[sent] = (int32_t)i;
            action[sent++] = p->actions[p->steps] - '0';
            if (!same_bits || p->steps + 1 < p->length) continue;
            lp__cartpole last = *(lp__cartpole*)lp__envs_state(envs, i);
            bool ends = false;
            type->step(&last, &action[sent - 1], &ends);
            assert_memory_equal(&last, p->end, sizeof last);
            terminated += p->terminated;
            truncated += p->truncated;
            both += p->terminated && p->truncated;
        }
        if (sent == 0) break;
        assert_int_equal(lp_envs_send(envs, sent, index, action), LP_OK);
        const lp_env_results results = receive(&r, envs);
        assert_int_equal(results.count, sent);
        for (int64_t k = 0; k < sent; k++)
            check_step(&replays[index[k]], index[k], &results, every);
        steps += sent;
    }
    if (same_bits) {
        assert_true(steps >= 10000);
        assert_true(terminated >= 100 && truncated >= 4 && both >= 1);
    }
    free(replays);
    free(index);
    free(action);
    rig_close(&r);
    json_decref(root);
}

/* Single steps from states that no episode has: fast, beyond the ends, and at the limits to the
 * bit. */
static void steps_from_anywhere(void** state) {
    (void)state;
    json_t *root = fixture_load("cartpole.json"), *steps = json_at(root, "single_steps");
    const bool same_bits = same_sincos(root);
    const lp_env_type* type = lp_env_find("CartPole-v1");
    enum { ROOM = 2000 };
    static double before[4 * ROOM], action[ROOM], after[4 * ROOM];
    const int64_t count = json_flatten(json_at(steps, "action"), action, ROOM);
    assert_int_equal(json_flatten(json_at(steps, "state"), before, 4 * ROOM), 4 * count);
    assert_int_equal(json_flatten(json_at(steps, "after"), after, 4 * ROOM), 4 * count);
    int64_t ends = 0;
    for (int64_t i = 0; i < count; i++) {
        double got[4];
        memcpy(got, before + 4 * i, sizeof got);
        const int32_t pushed = (int32_t)action[i];
        bool terminated = false;
        assert_true(type->step(got, &pushed, &terminated) == 1);
        for (int j = 0; j < 4; j++) {
            const double want = after[4 * i + j];
            assert_close(got[j], want, same_bits ? 0 : 1e-14 * fmax(1, fabs(want)));
        }
        const bool ended = json_is_true(json_array_get(json_at(steps, "terminated"), (size_t)i));
        assert_int_equal(terminated, ended);
        ends += ended;
    }
    assert_true(count >= 300 && ends >= 30 && ends <= count - 30);
    json_decref(root);
}

/* Spaces, limit and threshold are Gymnasium's. */
static void is_described_as_in_gymnasium(void** state) {
    (void)state;
    json_t* root = fixture_load("cartpole.json");
    const lp_env_type* type = lp_env_find("CartPole-v1");
    assert_non_null(type);
    assert_int_equal(type->observation.kind, LP_SPACE_BOX);
    assert_int_equal(type->observation.n, 4);
    float low[4], high[4]; /* NaN: infinite */
    assert_int_equal(json_floats(json_at(root, "low"), low, 4), 4);
    assert_int_equal(json_floats(json_at(root, "high"), high, 4), 4);
    for (int j = 0; j < 4; j++) {
        assert_true(type->observation.low[j] == (isnan(low[j]) ? -INFINITY : low[j]));
        assert_true(type->observation.high[j] == (isnan(high[j]) ? INFINITY : high[j]));
    }
    assert_int_equal(type->action.kind, LP_SPACE_DISCRETE);
    assert_int_equal(type->action.n, json_integer_value(json_at(root, "actions")));
    assert_int_equal(type->max_episode_steps,
                     json_integer_value(json_at(root, "max_episode_steps")));
    assert_close(type->reward_threshold, json_real_at(root, "reward_threshold"), 0);
    json_decref(root);
}

/* Episodes begin uniformly in [-0.05, 0.05), each of the four numbers by itself: mean and variance
 * within five standard errors, no correlation, and both ends nearly reached. */
static void begins_uniformly(void** state) {
    (void)state;
    enum { COUNT = 65536 };
    rig r;
    rig_open(&r, 1);
    lp_envs* envs = rig_envs(&r, lp_env_find("CartPole-v1"), COUNT, 3);
    double sum[4] = {0}, product[4][4] = {{0}}, least = 1, most = -1;
    for (int64_t i = 0; i < COUNT; i++) {
        const double* x = lp__envs_state(envs, i);
        for (int a = 0; a < 4; a++) {
            sum[a] += x[a];
            least = fmin(least, x[a]);
            most = fmax(most, x[a]);
            for (int b = 0; b < 4; b++) product[a][b] += x[a] * x[b];
        }
    }
    assert_true(least >= -0.05 && least < -0.04999 && most < 0.05 && most > 0.04999);
    const double variance = 0.01 / 12, root = sqrt((double)COUNT);
    for (int a = 0; a < 4; a++) {
        assert_close(sum[a] / COUNT, 0, 5 * sqrt(variance) / root);
        for (int b = 0; b < 4; b++) /* the fourth moment is 9/5 of the squared variance */
            assert_close(product[a][b] / COUNT, a == b ? variance : 0,
                         5 * variance * (a == b ? sqrt(0.8) : 1) / root);
    }
    rig_close(&r);
}

static void types_are_found_by_name(void** state) {
    (void)state;
    int count = 0;
    const lp_env_type* const* types = lp_env_types(&count);
    assert_true(count >= 1);
    assert_ptr_equal(lp_env_types(NULL), types);
    for (int i = 0; i < count; i++) {
        assert_ptr_equal(lp_env_find(types[i]->name), types[i]);
        assert_true(types[i]->summary && types[i]->summary[0]);
    }
    assert_string_equal(lp_env_find("CartPole-v1")->name, "CartPole-v1");
    assert_null(lp_env_find("CartPole-v2"));
    assert_null(lp_env_find("CartPole"));
    assert_null(lp_env_find(""));
    assert_null(lp_env_find(NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_gymnasium),
        cmocka_unit_test(steps_from_anywhere),
        cmocka_unit_test(is_described_as_in_gymnasium),
        cmocka_unit_test(begins_uniformly),
        cmocka_unit_test(types_are_found_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
