/* The tiny model beside transformers (tests/oracles/hf_logits.py tiny): logits and every gradient
 * within 1e-5 of the largest entry, greedy tokens equal. Generation: alone and in company, limits,
 * and what must be refused. */
#include "json.h"
#include "lm/gguf_build.h"
#include "lm/rig.h"

enum { ROOM = 4096 };

static int64_t ids(json_t* list, int32_t* to) {
    double x[ROOM];
    const int64_t n = json_flatten(list, x, ROOM);
    for (int64_t i = 0; i < n; i++) to[i] = (int32_t)x[i];
    return n;
}

/* Logits of the sequence at some entries; and adds its part of the mean token loss to the
 * gradients. */
static double one_sequence(const rig* r, json_t* c, json_t* logits_at, double tokens) {
    int32_t text[ROOM], rows[ROOM], at[64];
    double want[ROOM];
    const int64_t n = ids(json_at(c, "token_ids"), text), shown = ids(logits_at, at);
    const int64_t offsets[] = {0, n};
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    const lp_batch batch = {.sequences = 1, .offsets = offsets, .tokens = text};
    lp_tensor hidden = lp_model_hidden(t, r->model, r->weights, &batch);
    lp_tensor logits = lp_model_logits(t, r->weights, hidden);
    json_flatten(json_at(c, "logits"), want, ROOM);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t j = 0; j < shown; j++)
            assert_close(lp_at(logits, i, at[j]), want[i * shown + j], 3e-5);
    }
    for (int64_t i = 0; i < n; i++) rows[i] = (int32_t)i;
    lp_tensor states = lp_rows(t, hidden, lp_const_i32(t, n - 1, 1, rows));
    lp_tensor entropy;
    lp_tensor lp = lp_model_log_prob(t, r->weights, states, lp_const_i32(t, n - 1, 1, text + 1),
                                     1.0, &entropy);
    json_flatten(json_at(c, "logprobs"), want, ROOM);
    for (int64_t i = 0; i < n - 1; i++) {
        assert_close(lp_at(lp, i, 0), want[i], 2e-5);
        double sum = 0; /* entropy = -sum p log p, from the logits */
        lp_tensor log_p = lp_log_softmax(t, lp_rows(t, logits, lp_const_i32(t, 1, 1, &rows[i])));
        for (int64_t j = 0; j < log_p->cols; j++)
            sum -= exp(lp_at(log_p, 0, j)) * lp_at(log_p, 0, j);
        assert_close(lp_at(entropy, i, 0), sum, 1e-4);
    }
    lp_tensor loss = lp_scale(t, lp_sum(t, lp), -1.0 / tokens);
    assert_int_equal(lp_backward(t, loss), LP_OK);
    const double value = lp_item(loss);
    lp_tape_destroy(t);
    return value;
}

static void transformers(void** state) {
    (void)state;
    json_t *root = fixture_load("hf_tiny.json"), *c, *sample;
    rig r = set_up(2);
    lp_params* params = lp_weights_params(r.weights);
    double tokens = 0, loss = 0;
    size_t i;
    json_array_foreach(json_at(root, "sequences"), i, c) tokens +=
        (double)json_array_size(json_at(c, "token_ids")) - 1;
    json_array_foreach(json_at(root, "sequences"), i, c) loss +=
        one_sequence(&r, c, json_at(root, "logits_at"), tokens);
    assert_close(loss, json_real_at(root, "loss"), 1e-5);
    lp_params_fold(params);
    const char* name;
    int compared = 0;
    json_object_foreach(json_at(root, "gradients"), name, sample) {
        double index[ROOM], value[ROOM];
        lp_tensor x = lp_params_find(params, name);
        if (!x) fail_msg("no parameter %s", name);
        const int64_t n = json_flatten(json_at(sample, "index"), index, ROOM);
        json_flatten(json_at(sample, "value"), value, ROOM);
        for (int64_t j = 0; j < n; j++) {
            const double got = lp_grad_at(x, 0, (int64_t)index[j]);
            if (!(fabs(got - value[j]) <= 1e-5 * json_real_at(sample, "largest")))
                fail_msg("gradient of %s[%d] is %.9g, transformers has %.9g", name, (int)index[j],
                         got, value[j]);
        }
        compared++;
    }
    assert_int_equal(compared, lp_params_count(params));
    json_array_foreach(json_at(root, "sequences"), i, c) {
        int32_t prompt[ROOM], want[ROOM];
        const int64_t p = ids(json_at(c, "greedy_prompt_ids"), prompt),
                      n = ids(json_at(c, "greedy_ids"), want);
        const int64_t offsets[] = {0, p};
        lp_generate_def def = lp_generate_def_default();
        def.temperature = 0;
        def.max_new_tokens = def.min_new_tokens = n;
        lp_generation g = {0};
        assert_int_equal(lp_generate(r.model, r.weights, &def, 1, offsets, prompt, &g), LP_OK);
        assert_memory_equal(g.responses.ids, want, (size_t)n * sizeof *want);
    }
    lp_ctx_destroy(r.ctx);
    json_decref(root);
}

static const int32_t prompts[] = {5, 9, 200, 31, 7, 7, 5, 9, 200, 44};
static const int64_t offsets[] = {0, 3, 4, 6, 9, 10}; /* the fourth is the first again */

static void company_changes_nothing(void** state) {
    (void)state;
    rig r = set_up(1);
    lp_generate_def def = lp_generate_def_default();
    def.seed = 17;
    def.max_new_tokens = 20;
    lp_generation all = {0}, alone = {0};
    assert_int_equal(lp_generate(r.model, r.weights, &def, 5, offsets, prompts, &all), LP_OK);
    for (int64_t s = 0; s < 5; s++) {
        const int64_t n = all.response_offsets[s + 1] - all.response_offsets[s];
        const int64_t own[] = {0, offsets[s + 1] - offsets[s]};
        def.first_index = (uint64_t)s;
        assert_int_equal(
            lp_generate(r.model, r.weights, &def, 1, own, prompts + offsets[s], &alone), LP_OK);
        assert_int_equal(alone.responses.count, n);
        assert_memory_equal(alone.responses.ids, all.responses.ids + all.response_offsets[s],
                            (size_t)n * sizeof(int32_t));
        assert_memory_equal(alone.log_probs, all.log_probs + all.response_offsets[s],
                            (size_t)n * sizeof(float));
    }
    lp_ctx_destroy(r.ctx);
}

/* First tokens of many samples beside the truncated softmax of the logits: each frequency within 5
 * standard errors, and nothing outside of the kept set. */
static void truncated_sampling(void** state) {
    (void)state;
    enum { N = 2000 };
    rig r = set_up(1);
    const struct {
        double temperature, top_p;
        int64_t top_k;
    } ways[] = {{1.0, 1.0, 0}, {0.7, 1.0, 5}, {1.5, 0.3, 0}, {0.8, 0.5, 20}};
    lp_tape* t = lp_tape_create(r.ctx, LP_F32);
    const int64_t one[] = {0, 3};
    const lp_batch batch = {.sequences = 1, .offsets = one, .tokens = prompts};
    lp_tensor logits =
        lp_model_logits(t, r.weights, lp_model_hidden(t, r.model, r.weights, &batch));
    const int64_t vocab = logits->cols;
    int32_t* many = malloc(3 * N * sizeof *many);
    int64_t* many_offsets = malloc((N + 1) * sizeof *many_offsets);
    for (int i = 0; i < N; i++) memcpy(many + 3 * i, prompts, 3 * sizeof *many);
    for (int i = 0; i <= N; i++) many_offsets[i] = 3 * i;
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        double p[1024], total = 0;
        int order[1024];
        for (int64_t j = 0; j < vocab; j++) {
            p[j] = exp(lp_at(logits, 2, j) / ways[w].temperature);
            order[j] = (int)j;
        }
        for (int64_t a = 1; a < vocab; a++) { /* falling, insertion */
            for (int64_t b = a; b > 0 && p[order[b]] > p[order[b - 1]]; b--) {
                const int swap = order[b];
                order[b] = order[b - 1];
                order[b - 1] = swap;
            }
        }
        int64_t kept = ways[w].top_k > 0 ? ways[w].top_k : vocab;
        double inside = 0, sum = 0;
        for (int64_t a = 0; a < kept; a++) inside += p[order[a]];
        for (int64_t a = 0; a < kept; a++) {
            sum += p[order[a]];
            if (sum >= ways[w].top_p * inside) kept = a + 1;
        }
        for (int64_t a = 0; a < kept; a++) total += p[order[a]];
        lp_generate_def def = lp_generate_def_default();
        def.max_new_tokens = 1;
        def.temperature = ways[w].temperature;
        def.top_k = ways[w].top_k;
        def.top_p = ways[w].top_p;
        lp_generation g = {0};
        assert_int_equal(lp_generate(r.model, r.weights, &def, N, many_offsets, many, &g), LP_OK);
        int counts[1024] = {0};
        for (int i = 0; i < N; i++) {
            counts[g.responses.ids[i]]++;
            assert_close(g.log_probs[i], log(p[g.responses.ids[i]] / total), 1e-4);
        }
        for (int64_t a = 0; a < vocab; a++) {
            const double expected = a < kept ? p[order[a]] / total : 0.0;
            assert_close(counts[order[a]] / (double)N, expected,
                         5 * sqrt(expected * (1 - expected) / N) + 1e-12);
        }
    }
    free(many), free(many_offsets);
    lp_ctx_destroy(r.ctx);
}

static void refused(void** state) {
    (void)state;
    rig r = set_up(1);
    const lp_generate_def good = lp_generate_def_default();
    lp_generation g = {0};
    const int64_t empty[] = {0, 0}, one[] = {0, 1};
    int32_t* words = calloc(400, sizeof *words);
    const int64_t too_long[] = {0, 400};
    const int32_t outside = 512;
    assert_int_equal(lp_generate(r.model, r.weights, &good, 1, empty, prompts, &g), LP_INVALID);
    assert_int_equal(lp_generate(r.model, r.weights, &good, 1, too_long, words, &g), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "context"));
    assert_int_equal(lp_generate(r.model, r.weights, &good, 1, one, &outside, &g), LP_INVALID);
    lp_generate_def bad = good;
    bad.temperature = (double)NAN;
    assert_int_equal(lp_generate(r.model, r.weights, &bad, 1, one, prompts, &g), LP_INVALID);
    bad = good;
    bad.top_p = 0;
    assert_int_equal(lp_generate(r.model, r.weights, &bad, 1, one, prompts, &g), LP_INVALID);
    bad = good;
    bad.min_new_tokens = 100;
    assert_int_equal(lp_generate(r.model, r.weights, &bad, 1, one, prompts, &g), LP_INVALID);
    lp_f32(lp_params_find(lp_weights_params(r.weights), "model.norm.weight"))[0] = NAN;
    assert_int_equal(lp_generate(r.model, r.weights, &good, 1, one, prompts, &g), LP_NONFINITE);
    assert_int_equal(lp_generate(r.model, r.weights, &good, 0, empty, prompts, &g),
                     LP_OK); /* nothing is no mistake */
    free(words);
    lp_ctx_destroy(r.ctx);
}

/* What is written reads back: header, names in order, numbers. */
static void saved(void** state) {
    (void)state;
    rig r = set_up(1);
    char folder[] = "/tmp/logpi-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(lp_model_save(r.model, r.weights, folder), LP_OK);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    FILE* f = fopen(path, "rb");
    uint64_t length;
    assert_int_equal(fread(&length, 8, 1, f), 1);
    assert_int_equal(length % 8, 0);
    char* header = malloc(length);
    assert_int_equal(fread(header, 1, length, f), length);
    json_t* root = json_loadb(header, length, 0, NULL);
    json_t* entry = json_at(root, "model.layers.1.mlp.down_proj.weight");
    const int64_t from = json_integer_value(json_array_get(json_at(entry, "data_offsets"), 0));
    lp_tensor want =
        lp_params_find(lp_weights_params(r.weights), "model.layers.1.mlp.down_proj.weight");
    const size_t bytes = (size_t)(want->rows * want->cols) * sizeof(float);
    float* got = malloc(bytes);
    fseek(f, (long)(8 + length) + (long)from, SEEK_SET);
    assert_int_equal(fread(got, 1, bytes, f), bytes);
    assert_memory_equal(got, want->data, bytes);
    fseek(f, 0, SEEK_END);
    const int64_t size = ftell(f);
    int64_t numbers = 0;
    const char* name;
    json_object_foreach(root, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        json_t* range = json_at(entry, "data_offsets");
        numbers += json_integer_value(json_array_get(range, 1)) -
                   json_integer_value(json_array_get(range, 0));
    }
    assert_int_equal(numbers, size - 8 - (int64_t)length);
    fclose(f);
    free(header), free(got);
    json_decref(root);
    remove(path);
    snprintf(path, sizeof path, "%s/config.json", folder);
    assert_int_equal(remove(path), 0);
    remove(folder);
    lp_ctx_destroy(r.ctx);
}

/* A model that was not closed: its file is, with the context. */
static void the_file_closes_with_the_context(void** state) {
    (void)state;
    const int before = open_files();
    for (int closed = 0; closed < 2; closed++) {
        rig r = set_up(2);
        lp_model* other;
        assert_int_equal(lp_model_open(r.ctx, LP_MODELS "/tiny.gguf", &other), LP_OK);
        assert_int_equal(open_files(), before + 2);
        if (closed) lp_model_close(r.model);
        lp_ctx_destroy(r.ctx);
        assert_int_equal(open_files(), before);
    }
}

/* A file that is there but lacks a part of a model is damaged, not missing. */
static void half_a_model(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    gguf_bytes b;
    put_header(&b, 0, 2);
    put_key(&b, "general.architecture", LP__GGUF_STRING), put_string(&b, "llama");
    put_key(&b, "tokenizer.ggml.model", LP__GGUF_STRING), put_string(&b, "gpt2");
    put_array(&b, "tokenizer.ggml.merges", LP__GGUF_STRING, 1), put_string(&b, "a b");
    put_key(&b, "tokenizer.ggml.pre", LP__GGUF_STRING), put_string(&b, "smollm");
    for (uint8_t keys = 1; keys <= 4; keys++) {
        b.data[16] = keys;
        char path[] = "/tmp/logpi-test-XXXXXX";
        FILE* f = fdopen(mkstemp(path), "wb");
        assert_non_null(f);
        assert_int_equal(fwrite(b.data, 1, b.n, f), b.n);
        fclose(f);
        lp_model* model;
        const lp_status status = lp_model_open(ctx, path, &model);
        remove(path);
        assert_null(model);
        assert_true(status == LP_FORMAT || (status == LP_UNSUPPORTED && keys == 3));
        assert_int_equal(lp_error_status(ctx), status);
        assert_non_null(strstr(lp_error(ctx), path));
        assert_non_null(strstr(lp_error(ctx), "tokenizer.ggml."));
    }
    lp_model* model;
    assert_int_equal(lp_model_open(ctx, "/tmp/no such file", &model), LP_NOT_FOUND);
    lp_ctx_destroy(ctx);
}

/* The tiny model, with four bytes changed: `at` behind the key, or counted from the end. */
static lp_status open_changed(lp_ctx* ctx, const char* key, long at, uint32_t bits,
                              lp_model** model) {
    static char bytes[1 << 20];
    char path[] = "/tmp/logpi-test-XXXXXX";
    FILE* f = fopen(LP_MODELS "/tiny.gguf", "rb");
    assert_non_null(f);
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    assert_true(n > 0 && n < sizeof bytes);
    fclose(f);
    char* place = key ? memmem(bytes, n, key, strlen(key)) : bytes + n;
    assert_non_null(place);
    memcpy(place + (key ? (long)strlen(key) : 0) + at, &bits, sizeof bits);
    f = fdopen(mkstemp(path), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    const lp_status status = lp_model_open(ctx, path, model);
    remove(path);
    return status;
}

/* What the metadata say and the tensors do not have is found when the file is opened. */
static void shapes_that_do_not_fit(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const struct {
        const char* key;
        uint32_t value;
        const char* said;
        lp_status status;
    } rows[] = {{"llama.block_count", 3, "blk.2.", LP_FORMAT},
                {"llama.block_count", 1 << 24, "blk.2.", LP_FORMAT},
                {"llama.block_count", 1, "has 11", LP_UNSUPPORTED},
                {"llama.feed_forward_length", 1, "ffn_gate", LP_FORMAT},
                {"llama.attention.head_count_kv", 4, "attn_k", LP_FORMAT},
                {"llama.attention.head_count_kv", 1, "attn_k", LP_FORMAT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lp_model* model;
        const lp_status status = open_changed(ctx, rows[i].key, 4, rows[i].value, &model);
        if (status != rows[i].status)
            fail_msg("%s = %u: %s", rows[i].key, (unsigned)rows[i].value, lp_status_name(status));
        assert_null(model);
        assert_non_null(strstr(lp_error(ctx), rows[i].said));
    }
    lp_ctx_destroy(ctx);
}

/* A number that is not finite is found while the weights are read; the message has its place. */
static void weights_that_are_not_finite(void** state) {
    (void)state;
    static const uint32_t bad[] = {0x7fc00000, 0xffc00001, 0x7f800000, 0xff800000};
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_model* model;
    lp_weights* w;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(open_changed(ctx, NULL, i % 2 ? -4 : -260, bad[i], &model), LP_OK);
        assert_int_equal(lp_model_load_weights(model, false, &w), LP_FORMAT);
        assert_null(w);
        assert_non_null(
            strstr(lp_error(ctx), i % 2 ? "\"output_norm.weight\"" : "\"blk.1.ffn_down.weight\""));
        assert_non_null(strstr(lp_error(ctx), i % 2 ? "[0, 63]" : "[63, 127]"));
        assert_non_null(strstr(lp_error(ctx), i < 2 ? "a NaN" : "an infinity"));
        lp_model_close(model);
    }
    assert_int_equal(open_changed(ctx, NULL, -4, 0x7f7fffff, &model),
                     LP_OK); /* the largest there is */
    assert_int_equal(lp_model_load_weights(model, false, &w), LP_OK);
    lp_ctx_destroy(ctx);
}

static void reading_stops(void** state) {
    (void)state;
    rig r = set_up(1);
    lp_weights* w;
    lp_cancel(r.ctx);
    assert_int_equal(lp_model_load_weights(r.model, true, &w), LP_CANCELLED);
    assert_null(w);
    assert_int_equal(lp_weights_clone(r.weights, false, &w), LP_CANCELLED);
    assert_null(w);
    lp_cancel_clear(r.ctx);
    assert_int_equal(lp_weights_clone(r.weights, false, &w), LP_OK);
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transformers),
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(truncated_sampling),
        cmocka_unit_test(refused),
        cmocka_unit_test(saved),
        cmocka_unit_test(the_file_closes_with_the_context),
        cmocka_unit_test(half_a_model),
        cmocka_unit_test(shapes_that_do_not_fit),
        cmocka_unit_test(weights_that_are_not_finite),
        cmocka_unit_test(reading_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
