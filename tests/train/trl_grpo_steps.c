/* Whole GRPO steps beside TRL 1.16's GRPOTrainer (tests/oracles/trl_grpo_steps.py): three
 * generations of the tiny model, ragged completions and rewards given, one to three updates from
 * each. Sampled weights at the end within 1e-6 (2e-6 without fma), of up to 1e-2 that they moved;
 * metrics within 1e-5 max(1, |x|). */
#include "json.h"

#include <logpi/train.h>

enum { ROOM = 4096 };

static int word(json_t* config, const char* key, const char* const* words) {
    for (int i = 0; words[i]; i++) {
        if (strcmp(json_string_value(json_at(config, key)), words[i]) == 0) return i;
    }
    fail_msg("unknown %s", key);
    return 0;
}

static lp_grpo_def def_of(json_t* config) {
    static const char* const types[] = {"dapo", "grpo", "bnpo", "dr_grpo", NULL};
    static const char* const scales[] = {"group", "batch", "none", NULL};
    lp_grpo_def d = lp_grpo_def_default();
    d.loss_type = (lp_loss_type)word(config, "loss_type", types);
    d.scale_rewards = (lp_scale_rewards)word(config, "scale_rewards", scales);
    d.beta = json_real_at(config, "beta");
    d.epsilon = json_real_at(config, "epsilon");
    const double high = json_real_at(config, "epsilon_high");
    d.epsilon_high = isnan(high) ? 0 : high;
    d.use_bias_correction_kl = json_is_true(json_at(config, "use_bias_correction_kl"));
    d.num_iterations = (int64_t)json_real_at(config, "num_iterations");
    d.num_generations = (int64_t)json_real_at(config, "num_generations");
    d.learning_rate = json_real_at(config, "learning_rate");
    d.max_steps = (int64_t)json_real_at(config, "max_steps");
    d.max_grad_norm = json_real_at(config, "max_grad_norm");
    d.generate.temperature = json_real_at(config, "temperature");
    d.generate.max_new_tokens = (int64_t)json_real_at(config, "max_completion_length");
    return d;
}

static void add(lp_ctx* ctx, json_t* list, lp_token_list* tokens, int64_t* offsets, int64_t s) {
    double ids[64];
    const int64_t n = json_flatten(list, ids, 64);
    for (int64_t i = 0; i < n; i++) {
        const int32_t id = (int32_t)ids[i];
        assert_int_equal(lp_token_list_add(ctx, tokens, &id, 1), LP_OK);
    }
    offsets[s + 1] = offsets[s] + n;
}

/* The mean of what TRL logged over the updates from one generation; what it logged once only is
 * that. */
static double logged(json_t* updates, size_t from, int64_t count, const char* name) {
    double sum = 0;
    int64_t n = 0;
    for (size_t i = from; i < from + (size_t)count; i++) {
        json_t* value = json_object_get(json_array_get(updates, i), name);
        if (!json_is_number(value)) continue;
        sum += json_number_value(value);
        n++;
    }
    if (strcmp(name, "learning_rate") == 0) /* logpi: that of the last */
        return json_real_at(json_array_get(updates, from + (size_t)count - 1), name);
    return n > 0 ? sum / (double)n : (double)NAN;
}

static void one_step(lp_ctx* ctx, lp_grpo* grpo, json_t* run, json_t* generation, size_t from,
                     const lp_grpo_def* def) {
    const char* name = json_string_value(json_at(run, "name"));
    int64_t prompt_offsets[16] = {0}, response_offsets[16] = {0};
    double rewards[16];
    json_t *completions = json_at(generation, "completions"),
           *prompts = json_at(generation, "prompts");
    lp_generation batch = {.sequences = (int64_t)json_array_size(completions),
                           .prompt_offsets = prompt_offsets,
                           .response_offsets = response_offsets};
    for (int64_t s = 0; s < batch.sequences; s++) {
        add(ctx, json_array_get(prompts, (size_t)(s / def->num_generations)), &batch.prompts,
            prompt_offsets, s);
        add(ctx, json_array_get(completions, (size_t)s), &batch.responses, response_offsets, s);
    }
    json_flatten(json_at(generation, "rewards"), rewards, 16);
    lp_grpo_metrics m;
    assert_int_equal(lp_grpo_step(grpo, &batch, rewards, &m), LP_OK);
    int compared = 0;
    for (int i = 0; i < lp_grpo_metrics_count(); i++) {
        const double want =
            logged(json_at(run, "updates"), from, def->num_iterations, lp_grpo_metrics_name(i));
        const double got = lp_grpo_metrics_get(&m, i);
        if (isnan(want)) continue;
        if (!(fabs(got - want) <= 1e-5 * fmax(1.0, fabs(want))))
            fail_msg("%s: %s is %.9g, TRL has %.9g", name, lp_grpo_metrics_name(i), got, want);
        compared++;
    }
    assert_true(compared >= (def->beta > 0 ? 20 : 19));
    lp_token_list_free(ctx, &batch.prompts);
    lp_token_list_free(ctx, &batch.responses);
}

/* The largest distance that a sampled weight moved. */
static double compare_weights(const char* run, json_t* final, const lp_params* params,
                              const lp_params* start) {
    static double index[ROOM], value[ROOM];
    const double tolerance = lp_ctx_isa(lp_params_ctx(params)) == LP_ISA_SCALAR ? 2e-6 : 1e-6;
    const char* key;
    json_t* sample;
    double moved = 0;
    json_object_foreach(final, key, sample) {
        lp_tensor x = lp_params_find(params, key), before = lp_params_find(start, key);
        if (!x || !before) fail_msg("%s: no parameter %s", run, key);
        const int64_t n = json_flatten(json_at(sample, "index"), index, ROOM);
        json_flatten(json_at(sample, "value"), value, ROOM);
        for (int64_t i = 0; i < n; i++) {
            const double got = lp_at(x, 0, (int64_t)index[i]);
            moved = fmax(moved, fabs(got - lp_at(before, 0, (int64_t)index[i])));
            if (!(fabs(got - value[i]) <= tolerance))
                fail_msg("%s: %s[%d] is %.9g, TRL has %.9g", run, key, (int)index[i], got,
                         value[i]);
        }
    }
    return moved;
}

static void whole_steps(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_grpo_steps.json"), *json, *generation;
    size_t runs, i;
    json_array_foreach(json_at(root, "runs"), runs, json) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_model* model;
        lp_weights *policy, *reference;
        lp_grpo* grpo;
        const lp_grpo_def def = def_of(json_at(json, "config"));
        assert_int_equal(lp_model_open(ctx, LP_MODELS "/tiny.gguf", &model), LP_OK);
        assert_int_equal(lp_model_load_weights(model, true, &policy), LP_OK);
        assert_int_equal(lp_weights_clone(policy, false, &reference), LP_OK);
        assert_int_equal(lp_grpo_create(model, policy, reference, &def, &grpo), LP_OK);
        json_array_foreach(json_at(root, "generations"), i, generation)
            one_step(ctx, grpo, json, generation, i * (size_t)def.num_iterations, &def);
        const double moved =
            compare_weights(json_string_value(json_at(json, "name")), json_at(json, "final"),
                            lp_weights_params(policy), lp_weights_params(reference));
        assert_true(moved > 1e-3);
        lp_ctx_destroy(ctx);
    }
    assert_int_equal(runs, 5);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
