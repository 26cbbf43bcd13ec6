/* Whole PPO steps beside TRL 0.11.4's PPOTrainer.step (tests/oracles/trl_whole_steps.py): three
 * steps of the tiny model on ragged batches of 4 in mini-batches of 2, the permutations given.
 * Sampled weights at the end within 1e-6, of up to 2e-2 that they moved; metrics, gradient norms
 * and the numbers of each token within 1e-5 max(1, |x|).
 *
 * In two runs TRL does what logpi does not imitate: it clips in its very first optimizer step only,
 * and it adds up the gradients of several mini-batches. Of those, all that comes before the first
 * update is compared: log-probabilities, values, rewards, advantages (here with whitened rewards,
 * gamma and lambda below 1), and the batch's metrics. */
#include "json.h"

#include "train/ppo.h"

enum { ROOM = 4096 };

/* Sampled entries of a tensor, and its sums. */
static void compare_sample(const char* run, const char* name, lp_tensor x, json_t* sample,
                           double tolerance) {
    static double index[ROOM], value[ROOM];
    if (!x) fail_msg("%s: no parameter %s", run, name);
    const int64_t n = json_flatten(json_at(sample, "index"), index, ROOM);
    json_flatten(json_at(sample, "value"), value, ROOM);
    for (int64_t i = 0; i < n; i++) {
        const double got = lp_at(x, 0, (int64_t)index[i]);
        if (!(fabs(got - value[i]) <= tolerance))
            fail_msg("%s: %s[%d] is %.9g, TRL has %.9g (allowed %.1e)", run, name, (int)index[i],
                     got, value[i], tolerance);
    }
    double sum = 0;
    for (int64_t i = 0; i < x->rows * x->cols; i++) sum += lp_at(x, 0, i);
    assert_close(sum, json_real_at(sample, "sum"), tolerance * (double)(x->rows * x->cols));
}

static lp_ppo_def def_of(json_t* config) {
    lp_ppo_def d = lp_ppo_def_default();
    static const char* const penalties[] = {"kl", "abs", "mse", "full"};
    d.learning_rate = json_real_at(config, "learning_rate");
    d.ppo_epochs = (int64_t)json_real_at(config, "ppo_epochs");
    d.mini_batch_size = (int64_t)json_real_at(config, "mini_batch_size");
    d.init_kl_coef = json_real_at(config, "init_kl_coef");
    d.adap_kl_ctrl = json_is_true(json_at(config, "adap_kl_ctrl"));
    d.target = json_real_at(config, "target");
    d.horizon = json_real_at(config, "horizon");
    d.gamma = json_real_at(config, "gamma");
    d.lam = json_real_at(config, "lam");
    d.cliprange = json_real_at(config, "cliprange");
    d.cliprange_value = json_real_at(config, "cliprange_value");
    d.vf_coef = json_real_at(config, "vf_coef");
    d.ratio_threshold = json_real_at(config, "ratio_threshold");
    d.whiten_rewards = json_is_true(json_at(config, "whiten_rewards"));
    d.early_stopping = json_is_true(json_at(config, "early_stopping"));
    d.target_kl = json_real_at(config, "target_kl");
    for (int i = 0; i < 4; i++) {
        if (strcmp(json_string_value(json_at(config, "kl_penalty")), penalties[i]) == 0)
            d.kl_penalty = (lp_kl_penalty)i;
    }
    return d;
}

/* Lists of token ids, packed. */
static void pack(lp_ctx* ctx, json_t* lists, lp_token_list* tokens, int64_t* offsets) {
    size_t s;
    json_t* list;
    json_array_foreach(lists, s, list) {
        double ids[ROOM];
        const int64_t n = json_flatten(list, ids, ROOM);
        for (int64_t i = 0; i < n; i++) {
            const int32_t id = (int32_t)ids[i];
            assert_int_equal(lp_token_list_add(ctx, tokens, &id, 1), LP_OK);
        }
        offsets[s + 1] = offsets[s] + n;
    }
}

/* Numbers of each token, lists by sequence, beside an array of the trainer. */
static void compare_tokens(const char* run, json_t* step, const char* key, const float* got,
                           double tolerance) {
    double want[ROOM];
    const int64_t n = json_flatten(json_at(json_at(step, "per_token"), key), want, ROOM);
    assert_true(n > 0);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs((double)got[i] - want[i]) <= tolerance * fmax(1.0, fabs(want[i]))))
            fail_msg("%s: %s of token %d is %.9g, TRL has %.9g", run, key, (int)i, (double)got[i],
                     want[i]);
    }
}

/* Whether a metric is known before the first update. */
static bool before_updates(const char* name) {
    static const char* const prefixes[] = {"objective/", "tokens/", "ppo/mean_", "ppo/std_scores"};
    for (int i = 0; i < 4; i++) {
        if (strncmp(name, prefixes[i], strlen(prefixes[i])) == 0) return true;
    }
    return false;
}

/* whole: also what the updates made of it. */
static void run_step(lp_ctx* ctx, lp_ppo* ppo, const char* run, json_t* step, bool whole) {
    const double tolerance = 1e-5;
    int64_t prompt_offsets[16] = {0}, response_offsets[16] = {0};
    double scores[16], order[256], kl[16];
    int32_t permutations[256];
    lp_generation batch = {.sequences = (int64_t)json_array_size(json_at(step, "queries")),
                           .prompt_offsets = prompt_offsets,
                           .response_offsets = response_offsets};
    pack(ctx, json_at(step, "queries"), &batch.prompts, prompt_offsets);
    pack(ctx, json_at(step, "responses"), &batch.responses, response_offsets);
    json_flatten(json_at(step, "scores"), scores, 16);
    const int64_t n = json_flatten(json_at(step, "permutations"), order, 256);
    for (int64_t i = 0; i < n; i++) permutations[i] = (int32_t)order[i];
    lp_ppo_metrics metrics;
    assert_int_equal(lp_ppo_step(ppo, &batch, scores, permutations, &metrics), LP_OK);

    json_t* stats = json_at(step, "stats");
    int compared = 0;
    for (int i = 0; i < lp_ppo_metrics_count(); i++) {
        json_t* want = json_object_get(stats, lp_ppo_metrics_name(i));
        if (!json_is_number(want) || (!whole && !before_updates(lp_ppo_metrics_name(i)))) continue;
        const double trl = json_number_value(want), got = lp_ppo_metrics_get(&metrics, i);
        if (!(fabs(got - trl) <= tolerance * fmax(1.0, fabs(trl))))
            fail_msg("%s: %s is %.9g, TRL has %.9g", run, lp_ppo_metrics_name(i), got, trl);
        compared++;
    }
    assert_true(compared >= (whole ? 25 : 10));
    const lp__rollout* r = &ppo->rollout;
    compare_tokens(run, step, "logprobs", r->log_prob, tolerance);
    compare_tokens(run, step, "ref_logprobs", r->ref_log_prob, tolerance);
    compare_tokens(run, step, "values", r->value, tolerance);
    compare_tokens(run, step, "kls", r->kl, tolerance);
    compare_tokens(run, step, "advantages", r->advantage, tolerance);
    compare_tokens(run, step, "returns", r->returns, tolerance);
    if (!ppo->def.whiten_rewards)
        compare_tokens(run, step, "rewards", r->reward, tolerance); /* whitened in place */
    if (whole) {
        double norms[64], mean = 0;
        const int64_t updates = json_flatten(json_at(step, "adam_grad_norms"), norms, 64);
        for (int64_t i = 0; i < updates; i++) mean += norms[i] / (double)updates;
        assert_close(metrics.grad_norm, mean, tolerance * fmax(1.0, mean));
    }
    json_flatten(json_at(stats, "objective/kl_dist"), kl, 16);
    for (int64_t i = 0; i < batch.sequences; i++)
        assert_close(lp_ppo_last_dists(ppo).kl[i], kl[i], tolerance * fmax(1.0, fabs(kl[i])));
    if (whole) assert_close(lp_ppo_kl_coef(ppo), json_real_at(step, "kl_coef_after"), 1e-6);
    lp_token_list_free(ctx, &batch.prompts);
    lp_token_list_free(ctx, &batch.responses);
}

/* Returns whether the run was compared to its end. */
static bool run(json_t* root, json_t* json) {
    const char* name = json_string_value(json_at(json, "name"));
    json_t *config = json_at(json, "config"), *sample, *step;
    const bool whole = json_is_null(json_at(config, "max_grad_norm")) &&
                       json_real_at(config, "gradient_accumulation_steps") == 1;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* ppo;
    assert_int_equal(lp_model_open(ctx, LP_MODELS "/tiny.gguf", &model), LP_OK);
    assert_int_equal(lp_model_load_weights(model, true, &policy), LP_OK);
    assert_int_equal(lp_weights_clone(policy, false, &reference), LP_OK);
    lp_params* params = lp_weights_params(policy);
    const char* key;
    json_object_foreach(json_at(root, "initial"), key, sample)
        compare_sample("initial weights", key, lp_params_find(params, key), sample, 1e-7);
    const lp_ppo_def def = def_of(config);
    assert_int_equal(lp_ppo_create(model, policy, reference, &def, &ppo), LP_OK);
    lp_tensor weight = lp_params_find(params, "v_head.summary.weight");
    lp_tensor bias = lp_params_find(params, "v_head.summary.bias");
    json_t* head = json_at(root, "v_head");
    assert_int_equal(json_floats(json_at(head, "weight"), lp_f32(weight), weight->cols),
                     weight->cols);
    json_floats(json_at(head, "bias"), lp_f32(bias), 1);
    lp_params_changed(params);

    size_t i;
    json_array_foreach(json_at(json, "steps"), i, step) {
        if (i == 0 || whole) run_step(ctx, ppo, name, step, whole);
    }
    json_object_foreach(json_at(json, "final"), key, sample) {
        if (!whole) break;
        char ours[128];
        snprintf(ours, sizeof ours, "%s%s",
                 strncmp(key, "v_head.", 7) == 0 ? "v_head.summary." : "",
                 strncmp(key, "v_head.", 7) == 0 ? key + 7 : key);
        compare_sample(name, ours, lp_params_find(params, ours), sample, 1e-6);
    }
    lp_ctx_destroy(ctx);
    return whole;
}

static void whole_steps(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_steps.json"), *json;
    size_t i;
    int whole = 0, begun = 0;
    json_array_foreach(json_at(root, "runs"), i, json) {
        if (run(root, json)) {
            whole++;
        } else {
            begun++;
        }
    }
    assert_true(whole >= 3 && begun >= 2);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
