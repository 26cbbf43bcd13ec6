/* Every family beside transformers in float64 (tests/oracles/hf_models.py small): logits, every
 * gradient, greedy tokens. And what is written, as a folder and as GGUF, in each type, reads back.
 */
#include "lm/folder.h"
#include "tensor/safetensors.h"

static const char* const families[] = {"llama", "gpt2", "qwen2"};
enum { FAMILIES = sizeof families / sizeof *families, ROOM = 64 };

typedef struct loaded {
    lp_model* model;
    lp_weights* weights;
    lp_params* params;
} loaded;

static loaded load(lp_ctx* ctx, const char* path, bool trainable) {
    loaded l = {0};
    if (lp_model_open(ctx, path, &l.model) != LP_OK) fail_msg("%s", lp_error(ctx));
    if (lp_model_load_weights(l.model, trainable, &l.weights) != LP_OK)
        fail_msg("%s", lp_error(ctx));
    l.params = lp_weights_params(l.weights);
    return l;
}

static void unload(loaded* l) {
    lp_weights_destroy(l->weights);
    lp_model_close(l->model);
}

/* ---- transformers' numbers ------------------------------------------------------------------- */

typedef struct reference {
    lp__safetensors* file;
    int32_t tokens[ROOM], prompt[ROOM], greedy[ROOM];
    int64_t count, prompt_count, greedy_count;
} reference;

static void* raw(const lp__safetensors* f, const char* name, int64_t* numbers) {
    const lp__safetensors_entry* e = lp__safetensors_find(f, name);
    if (!e) fail_msg("%s lacks %s", f->path, name);
    *numbers = e->rows * e->cols;
    void* bytes = malloc((size_t)(e->end - e->begin));
    assert_int_equal(
        lp__file_read(f->ctx, f->fd, f->path, bytes, (size_t)(e->end - e->begin), e->begin), LP_OK);
    return bytes;
}

static int64_t ids(const lp__safetensors* f, const char* name, int32_t* to) {
    int64_t n;
    int64_t* wide = raw(f, name, &n);
    assert_true(n <= ROOM);
    for (int64_t i = 0; i < n; i++) to[i] = (int32_t)wide[i];
    free(wide);
    return n;
}

static reference open_reference(lp_ctx* ctx, const char* folder) {
    reference r;
    assert_int_equal(lp__safetensors_open(ctx, in(folder, "hf_reference.safetensors"), &r.file),
                     LP_OK);
    r.count = ids(r.file, "token_ids", r.tokens);
    r.prompt_count = ids(r.file, "prompt_ids", r.prompt);
    r.greedy_count = ids(r.file, "greedy_ids", r.greedy);
    return r;
}

/* Largest |a - b| relative to the largest |b|, or to floor. */
static double difference(int64_t n, const float* a, const float* b, double floor) {
    double worst = 0, largest = floor;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)a[i] - (double)b[i]);
        worst = d > worst || isnan(d) ? d : worst;
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static lp_tensor hidden_of(lp_tape* t, const loaded* l, const reference* r) {
    const int64_t offsets[] = {0, r->count};
    const lp_batch batch = {.sequences = 1, .offsets = offsets, .tokens = r->tokens};
    return lp_model_hidden(t, l->model, l->weights, &batch);
}

static double logits_differ(lp_ctx* ctx, const loaded* l, const reference* r) {
    int64_t n;
    float* want = raw(r->file, "logits", &n);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_tensor logits = lp_model_logits(t, l->weights, hidden_of(t, l, r));
    assert_non_null(logits);
    assert_int_equal(logits->rows * logits->cols, n);
    const double d = difference(n, lp_f32(logits), want, 0);
    lp_tape_destroy(t);
    free(want);
    return d;
}

static void backward(lp_ctx* ctx, const loaded* l, const reference* r) {
    int32_t rows[ROOM];
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    for (int64_t i = 0; i < r->count; i++) rows[i] = (int32_t)i;
    lp_tensor states = lp_rows(t, hidden_of(t, l, r), lp_const_i32(t, r->count - 1, 1, rows));
    lp_tensor target = lp_const_i32(t, r->count - 1, 1, r->tokens + 1);
    lp_tensor loss =
        lp_neg(t, lp_mean(t, lp_model_log_prob(t, l->weights, states, target, 1.0, NULL)));
    assert_int_equal(lp_backward(t, loss), LP_OK);
    int64_t n;
    float* want = raw(r->file, "loss", &n);
    assert_close(lp_item(loss), want[0], 1e-5);
    free(want);
    lp_tape_destroy(t);
    lp_params_fold(l->params);
}

/* The gradient of a bias of keys is 0 without rotary positions, but for rounding: no gradient is
 * held to less than 1e-4 of the largest of all. */
static void gradients(const loaded* l, const reference* r) {
    double largest = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t i = 0; i < lp_params_count(l->params); i++) {
            char name[160];
            int64_t n;
            snprintf(name, sizeof name, "grad.%s", lp_params_name(l->params, i));
            lp_tensor x = lp_params_get(l->params, i);
            float* want = raw(r->file, name, &n);
            assert_int_equal(n, x->rows * x->cols);
            for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs((double)want[j]));
            const double d = difference(n, lp_grad_f32(x), want, 1e-4 * largest);
            if (pass == 1 && !(d <= 1e-3)) fail_msg("%s is off by %g", name, d);
            free(want);
        }
    }
}

static void as_transformers(void** state) {
    (void)state;
    for (int k = 0; k < FAMILIES; k++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        char folder[4200];
        snprintf(folder, sizeof folder, "%s", model_path(families[k]));
        const reference r = open_reference(ctx, folder);
        const loaded l = load(ctx, folder, true);
        assert_string_equal(lp_model_get_shape(l.model).architecture, families[k]);
        const double d = logits_differ(ctx, &l, &r);
        if (!(d <= 1e-5)) fail_msg("%s: logits are off by %g", families[k], d);
        backward(ctx, &l, &r);
        gradients(&l, &r);
        const int64_t offsets[] = {0, r.prompt_count};
        lp_generate_def def = lp_generate_def_default();
        def.temperature = 0;
        def.max_new_tokens = def.min_new_tokens = r.greedy_count;
        lp_generation g = {0};
        assert_int_equal(lp_generate(l.model, l.weights, &def, 1, offsets, r.prompt, &g), LP_OK);
        assert_memory_equal(g.responses.ids, r.greedy, (size_t)r.greedy_count * sizeof(int32_t));
        lp__safetensors_close(r.file);
        lp_ctx_destroy(ctx);
    }
}

/* ---- there and back -------------------------------------------------------------------------- */

/* Every parameter is the other's, to half a unit in the last place of the type. */
static void weights_agree(const loaded* a, const loaded* b, double ulp) {
    assert_int_equal(lp_params_count(a->params), lp_params_count(b->params));
    for (int64_t i = 0; i < lp_params_count(a->params); i++) {
        lp_tensor x = lp_params_get(a->params, i);
        lp_tensor y = lp_params_find(b->params, lp_params_name(a->params, i));
        assert_non_null(y);
        assert_true(x->rows == y->rows && x->cols == y->cols);
        for (int64_t j = 0; j < x->rows * x->cols; j++) {
            const double u = (double)lp_f32(x)[j], v = (double)lp_f32(y)[j];
            if (!(fabs(u - v) <= fmax(ulp * fabs(u), ulp > 0 ? 0x1p-25 : 0)))
                fail_msg("%s[%d]: %.9g became %.9g", lp_params_name(a->params, i), (int)j, u, v);
        }
    }
}

static void shapes_agree(const loaded* a, const loaded* b) {
    const lp_model_shape s = lp_model_get_shape(a->model), u = lp_model_get_shape(b->model);
    assert_string_equal(s.architecture, u.architecture);
    assert_true(s.layers == u.layers && s.width == u.width && s.heads == u.heads);
    assert_true(s.kv_heads == u.kv_heads && s.head_dim == u.head_dim && s.vocab == u.vocab);
    assert_true(s.intermediate == u.intermediate && s.context == u.context);
    assert_true(s.tied == u.tied && s.parameters == u.parameters);
    assert_close(s.norm_eps, u.norm_eps, 1e-6 * s.norm_eps);
    assert_close(s.rope_base, u.rope_base, 0);
}

static void tokenizers_agree(lp_ctx* ctx, const loaded* a, const loaded* b) {
    static const char text[] = "It is written, and read again: 123.<|im_end|>\n";
    const lp_tokenizer *s = lp_model_tokenizer(a->model), *u = lp_model_tokenizer(b->model);
    lp_token_list x = {0}, y = {0};
    assert_int_equal(lp_tokenizer_encode(s, text, sizeof text - 1, 3, &x), LP_OK);
    assert_int_equal(lp_tokenizer_encode(u, text, sizeof text - 1, 3, &y), LP_OK);
    assert_int_equal(x.count, y.count);
    assert_memory_equal(x.ids, y.ids, (size_t)x.count * sizeof *x.ids);
    assert_int_equal(lp_tokenizer_bos(s), lp_tokenizer_bos(u));
    assert_int_equal(lp_tokenizer_eos(s), lp_tokenizer_eos(u));
    assert_int_equal(lp_tokenizer_chat_format(s), lp_tokenizer_chat_format(u));
    lp_token_list_free(ctx, &x);
    lp_token_list_free(ctx, &y);
}

static void written_and_read_again(void** state) {
    (void)state;
    static const double ulp[] = {0, 0x1p-11, 0x1p-8};
    for (int k = 0; k < FAMILIES * 6; k++) {
        const lp_file_type type = (lp_file_type)(k / FAMILIES % 3);
        const bool gguf = k >= FAMILIES * 3;
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        char folder[4200], out[] = TEMPORARY, path[64];
        snprintf(folder, sizeof folder, "%s", model_path(families[k % FAMILIES]));
        assert_non_null(mkdtemp(out));
        snprintf(path, sizeof path, "%s%s", out, gguf ? "/model.gguf" : "");
        const loaded a = load(ctx, folder, false);
        if (lp_model_save_as(a.model, a.weights, path, type) != LP_OK)
            fail_msg("%s", lp_error(ctx));
        const loaded b = load(ctx, path, false);
        shapes_agree(&a, &b);
        weights_agree(&a, &b, ulp[type]);
        tokenizers_agree(ctx, &a, &b);
        const char* types = lp_model_get_shape(b.model).types;
        static const char* const names[] = {"F32", "F16", "BF16"};
        assert_memory_equal(types, names[type], strlen(names[type]));
        for (int32_t id = 0; id < 4; id++) /* 0 is an end by generation_config.json only */
            assert_int_equal(lp_model_ends(b.model, id), id == 2 || (id == 0 && !gguf));
        const reference r = open_reference(ctx, folder);
        const double d = logits_differ(ctx, &b, &r);
        if (!(d <= (type == LP_FILE_F32 ? 1e-5 : 0.05)))
            fail_msg("%s as %s: logits are off by %g", families[k % FAMILIES], path, d);
        lp_ctx_destroy(ctx);
        remove_folder(out);
    }
}

/* A GGUF file becomes a folder; rotary factors are told by their values. */
static void from_gguf_to_a_folder(void** state) {
    (void)state;
    for (int k = 0; k <= FAMILIES; k++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        char out[] = TEMPORARY, path[64], from[] = TEMPORARY;
        copy_model(families[k % FAMILIES], from);
        if (k == FAMILIES)
            edit_json(from, "config.json", "rope_parameters",
                      "{\"rope_type\": \"llama3\", \"factor\": 32.0, \"rope_theta\": 500000.0,"
                      "\"original_max_position_embeddings\": 8192}");
        assert_non_null(mkdtemp(out));
        snprintf(path, sizeof path, "%s/model.gguf", out);
        loaded a = load(ctx, from, false);
        assert_int_equal(lp_model_save_as(a.model, a.weights, path, LP_FILE_F32), LP_OK);
        unload(&a);
        loaded b = load(ctx, path, false);
        const lp_status status = lp_model_save(b.model, b.weights, out);
        if (k == 0) { /* the fixture's 32 tokens are no published setting */
            assert_int_equal(status, LP_UNSUPPORTED);
            assert_non_null(strstr(lp_error(ctx), "rope_freqs"));
        } else {
            if (status != LP_OK) fail_msg("%s", lp_error(ctx));
            const loaded c = load(ctx, out, false);
            const reference r = open_reference(ctx, model_path(families[k % FAMILIES]));
            shapes_agree(&b, &c);
            weights_agree(&b, &c, 0);
            tokenizers_agree(ctx, &b, &c);
            assert_true(logits_differ(ctx, &c, &r) <= (k < FAMILIES ? 1e-5 : 1));
            if (k == FAMILIES) {
                json_t* config = json_load_file(in(out, "config.json"), 0, NULL);
                const json_t* rope = json_object_get(config, "rope_scaling");
                assert_close(json_number_value(json_object_get(rope, "factor")), 32, 0);
                assert_close(json_number_value(json_object_get(rope, "high_freq_factor")), 4, 0);
                json_decref(config);
            }
        }
        lp_ctx_destroy(ctx);
        remove_folder(from);
        remove_folder(out);
    }
}

/* 1e5 is no number of F16, but one of BF16. */
static void numbers_that_are_too_large(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    char out[] = TEMPORARY, path[64];
    assert_non_null(mkdtemp(out));
    snprintf(path, sizeof path, "%s/model.gguf", out);
    const loaded l = load(ctx, model_path("gpt2"), false);
    lp_f32(lp_params_find(l.params, "transformer.h.1.attn.c_attn.k.weight"))[3] = 1e5f;
    assert_int_equal(lp_model_save_as(l.model, l.weights, path, LP_FILE_F16), LP_NONFINITE);
    assert_non_null(strstr(lp_error(ctx), "blk.1.attn_qkv.weight"));
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(lp_model_save_as(l.model, l.weights, out, LP_FILE_F16), LP_NONFINITE);
    assert_non_null(strstr(lp_error(ctx), "transformer.h.1.attn.c_attn.weight"));
    assert_int_equal(lp_model_save_as(l.model, l.weights, path, LP_FILE_BF16), LP_OK);
    lp_ctx_destroy(ctx);
    remove_folder(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_transformers),
        cmocka_unit_test(written_and_read_again),
        cmocka_unit_test(from_gguf_to_a_folder),
        cmocka_unit_test(numbers_that_are_too_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
