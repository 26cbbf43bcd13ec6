/* The arithmetic of GRPO beside TRL 1.16's own code (tests/oracles/trl_grpo_fixtures.py): 1e-5 in
 * float. And what the estimates of the KL are on average, by enumeration. */
#include "json.h"

#include <logpi/pg.h>

enum { ROOM = 64 };
static const double TOLERANCE = 1e-5;

static int word(const char* text, const char* const* words) {
    for (int i = 0; words[i]; i++) {
        if (strcmp(text, words[i]) == 0) return i;
    }
    fail_msg("unknown word %s", text);
    return 0;
}

static void near_by(const char* name, const char* what, double got, double want) {
    if (!(fabs(got - want) <= TOLERANCE * fmax(1.0, fabs(want))))
        fail_msg("%s: %s is %.9g, TRL has %.9g", name, what, got, want);
}

static void advantages(void** state) {
    (void)state;
    static const char* const scales[] = {"group", "batch", "none", NULL};
    json_t *root = fixture_load("trl_grpo.json"), *json;
    size_t i, cases = 0;
    json_array_foreach(json_at(root, "advantages"), i, json) {
        const char* name = json_string_value(json_at(json, "name"));
        double rewards[ROOM], want[ROOM], got[ROOM];
        const int64_t n = json_flatten(json_at(json, "rewards"), rewards, ROOM);
        const int64_t size = (int64_t)json_real_at(json, "size");
        assert_int_equal(json_flatten(json_at(json, "advantages"), want, ROOM), n);
        const int scale = word(json_string_value(json_at(json, "scale_rewards")), scales);
        const double flat =
            lp_group_advantages(n / size, size, (lp_scale_rewards)scale, rewards, got);
        near_by(name, "frac_reward_zero_std", flat, json_real_at(json, "frac_reward_zero_std"));
        for (int64_t j = 0; j < n; j++) near_by(name, "an advantage", got[j], want[j]);
        lp_group_advantages(n / size, size, (lp_scale_rewards)scale, rewards, rewards);
        assert_memory_equal(rewards, got, (size_t)n * sizeof *got); /* in place */
        cases++;
    }
    assert_int_equal(cases, 12);
    json_decref(root);
}

/* Whatever their mean rounds to. */
static void equal_rewards_have_no_advantage(void** state) {
    (void)state;
    for (int64_t size = 2; size <= ROOM; size++) {
        double rewards[ROOM], got[ROOM];
        for (int64_t i = 0; i < size; i++) rewards[i] = 0.1;
        for (int scale = LP_SCALE_GROUP; scale <= LP_SCALE_NONE; scale++) {
            assert_close(lp_group_advantages(1, size, (lp_scale_rewards)scale, rewards, got), 1, 0);
            for (int64_t i = 0; i < size; i++) assert_true(got[i] == 0);
        }
    }
}

/* One case, ragged. */
typedef struct grpo_case {
    const char* name;
    int64_t sequences, n, offsets[16];
    float old_log_prob[ROOM], ref_log_prob[ROOM], log_prob[ROOM], entropy[ROOM], advantage[ROOM],
        weight[ROOM];
    lp_grpo_loss_def def;
} grpo_case;

static void read_case(json_t* json, grpo_case* c) {
    static const char* const types[] = {"dapo", "grpo", "bnpo", "dr_grpo", NULL};
    json_t* config = json_at(json, "config");
    double lengths[16];
    float by_sequence[16];
    *c = (grpo_case){.name = json_string_value(json_at(json, "name"))};
    c->sequences = json_flatten(json_at(json, "lengths"), lengths, 16);
    json_floats(json_at(json, "advantages"), by_sequence, 16);
    for (int64_t s = 0; s < c->sequences; s++) {
        c->offsets[s + 1] = c->offsets[s] + (int64_t)lengths[s];
        for (int64_t i = c->offsets[s]; i < c->offsets[s + 1]; i++)
            c->advantage[i] = by_sequence[s];
    }
    c->n = c->offsets[c->sequences];
    assert_int_equal(json_floats(json_at(json, "old_logprobs"), c->old_log_prob, ROOM), c->n);
    json_floats(json_at(json, "ref_logprobs"), c->ref_log_prob, ROOM);
    json_floats(json_at(json, "logprobs"), c->log_prob, ROOM);
    json_floats(json_at(json, "entropies"), c->entropy, ROOM);
    const double high = json_real_at(config, "epsilon_high");
    lp_token_weights((lp_loss_type)word(json_string_value(json_at(config, "loss_type")), types),
                     c->sequences, c->offsets,
                     (int64_t)json_real_at(config, "max_completion_length"),
                     (int64_t)json_real_at(config, "local"), c->weight);
    c->def = (lp_grpo_loss_def){.epsilon = json_real_at(config, "epsilon"),
                                .epsilon_high = isnan(high) ? 0 : high,
                                .beta = json_real_at(config, "beta"),
                                .use_bias_correction_kl =
                                    json_is_true(json_at(config, "use_bias_correction_kl")),
                                .old_log_prob = c->old_log_prob,
                                .ref_log_prob = c->ref_log_prob,
                                .advantage = c->advantage,
                                .weight = c->weight};
}

/* The loss is a function of log-probabilities, here of a parameter that is them. */
static void compare_loss(lp_ctx* ctx, json_t* json, const grpo_case* c) {
    double want[ROOM];
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor log_prob = lp_param(params, "log_prob", c->n, 1);
    memcpy(lp_f32(log_prob), c->log_prob, (size_t)c->n * sizeof(float));
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_tensor loss = lp_grpo_loss(t, log_prob, &c->def);
    near_by(c->name, "the loss", lp_item(loss), json_real_at(json, "loss"));
    assert_int_equal(lp_backward(t, loss), LP_OK);
    assert_int_equal(json_flatten(json_at(json, "grad"), want, ROOM), c->n);
    double largest = 0;
    for (int64_t i = 0; i < c->n; i++) {
        near_by(c->name, "a gradient", lp_grad_at(log_prob, i, 0), want[i]);
        largest = fmax(largest, fabs(want[i]));
    }
    assert_true(largest > 1e-3);
    lp_tape_destroy(t);
    lp_params_destroy(params);
}

/* Gathered in two parts, as micro-batches are. */
static void compare_sums(json_t* json, const grpo_case* c) {
    lp_grpo_sums sums = {0};
    lp_grpo_loss_def rest = c->def;
    const int64_t cut = 2, at = c->offsets[cut];
    rest.old_log_prob += at, rest.ref_log_prob += at, rest.advantage += at, rest.weight += at;
    lp_grpo_sums_add(&sums, cut, c->offsets, c->log_prob, c->entropy, &c->def);
    lp_grpo_sums_add(&sums, c->sequences - cut, c->offsets + cut, c->log_prob + at, c->entropy + at,
                     &rest);
    const double n = (double)sums.n;
    assert_int_equal(sums.n, c->n);
    assert_int_equal(sums.sequences, c->sequences);
    near_by(c->name, "the summed loss", sums.loss, json_real_at(json, "loss"));
    json_t* want = json_at(json, "statistics");
    if (json_object_size(want) == 0) return;
    const struct {
        const char* name;
        double got;
    } all[] = {{"entropy", sums.entropy / n},
               {"clip_ratio/low_mean", sums.low / n},
               {"clip_ratio/low_min", sums.low_min},
               {"clip_ratio/high_mean", sums.high / n},
               {"clip_ratio/high_max", sums.high_max},
               {"clip_ratio/region_mean", (sums.low + sums.high) / n},
               {"kl", sums.kl / n}};
    for (size_t i = 0; i < sizeof all / sizeof *all - (c->def.beta == 0); i++)
        near_by(c->name, all[i].name, all[i].got, json_real_at(want, all[i].name));
}

static void losses(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_grpo.json"), *json;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t i, cases = 0;
    json_array_foreach(json_at(root, "losses"), i, json) {
        static grpo_case c;
        read_case(json, &c);
        compare_loss(ctx, json, &c);
        compare_sums(json, &c);
        cases++;
    }
    assert_int_equal(cases, 28);
    lp_ctx_destroy(ctx);
    json_decref(root);
}

/* ---- estimates of the KL ----------------------------------------------------------------------
 */

enum { K = 4 };

/* Values and gradients with respect to the logits, averaged over all outcomes under pi: of an
 * estimate, times pi / pi_old with `ratio`. */
static double average(lp_ctx* ctx, const double* z, const double* z_ref, lp_kl_estimator kind,
                      bool ratio, double* grad) {
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    lp_tensor in = lp_input_f64(t, 1, K, z);
    lp_tensor log_p = lp_log_softmax(t, in);
    lp_tensor log_q = lp_log_softmax(t, lp_const_f64(t, 1, K, z_ref));
    lp_tensor estimate = lp_kl_estimate(t, kind, log_p, log_q);
    if (ratio) estimate = lp_mul(t, estimate, lp_exp(t, lp_sub(t, log_p, lp_detach(t, log_p))));
    lp_tensor loss = lp_sum(t, lp_mul(t, lp_exp(t, lp_detach(t, log_p)), estimate));
    const double value = lp_item(loss);
    assert_int_equal(lp_backward(t, loss), LP_OK);
    for (int j = 0; j < K; j++) grad[j] = lp_grad_at(in, 0, j);
    lp_tape_destroy(t);
    return value;
}

/* KL(p || q) and its gradient with respect to the logits of p, or with `other` those of KL(q || p).
 */
static double exact(lp_ctx* ctx, const double* z, const double* z_ref, bool other, double* grad) {
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    lp_tensor in = lp_input_f64(t, 1, K, z);
    lp_dist p = lp_categorical(t, in), q = lp_categorical(t, lp_const_f64(t, 1, K, z_ref));
    lp_tensor kl = other ? lp_kl(t, q, p) : lp_kl(t, p, q);
    const double value = lp_item(kl);
    assert_int_equal(lp_backward(t, kl), LP_OK);
    for (int j = 0; j < K; j++) grad[j] = lp_grad_at(in, 0, j);
    lp_tape_destroy(t);
    return value;
}

static void what_the_estimates_are_on_average(void** state) {
    (void)state;
    static const double z[K] = {0.3, -1.1, 0.8, 0.1}, z_ref[K] = {-0.4, 0.2, 0.5, -0.9};
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    double kl[K], reverse[K], g[K];
    const double want = exact(ctx, z, z_ref, false, kl);
    exact(ctx, z, z_ref, true, reverse);
    assert_close(average(ctx, z, z_ref, LP_K1, false, g), want, 1e-12);
    for (int j = 0; j < K; j++) assert_close(g[j], 0, 1e-12);
    assert_true(fabs(average(ctx, z, z_ref, LP_K2, false, g) - want) > 1e-3);
    for (int j = 0; j < K; j++) assert_close(g[j], kl[j], 1e-12);
    assert_close(average(ctx, z, z_ref, LP_K3, false, g), want, 1e-12);
    for (int j = 0; j < K; j++) assert_close(g[j], reverse[j], 1e-12);
    assert_true(fabs(reverse[0] - kl[0]) > 1e-3);
    assert_close(average(ctx, z, z_ref, LP_K3, true, g), want, 1e-12);
    for (int j = 0; j < K; j++) assert_close(g[j], kl[j], 1e-12);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advantages), cmocka_unit_test(equal_rewards_have_no_advantage),
        cmocka_unit_test(losses), cmocka_unit_test(what_the_estimates_are_on_average)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
