/* Writing a model as a folder of Hugging Face's. */
#include "lm/save.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- config.json ----------------------------------------------------------------------------- */

/* LP_UNSUPPORTED: factors that no setting of config.json gives. */
static lp_status add_rope(const lp_model* m, json_t* config) {
    lp__rope r = m->rope;
    if (r.kind == LP__ROPE_FACTORS &&
        !lp__rope_recognise(&r, m->shape.head_dim, m->shape.rope_base, m->rope.factors))
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s: the factors of its rotary positions (rope_freqs.weight) are those of "
                       "no setting that config.json has words for; write a GGUF file",
                       m->source->path);
    int bad = json_object_set_new(config, "rope_theta", json_real(m->shape.rope_base));
    json_t* scaling = json_null();
    if (r.kind == LP__ROPE_LINEAR)
        scaling = json_pack("{s:s, s:f}", "rope_type", "linear", "factor", r.factor);
    if (r.kind == LP__ROPE_LLAMA3)
        scaling = json_pack("{s:s, s:f, s:f, s:f, s:I}", "rope_type", "llama3", "factor", r.factor,
                            "low_freq_factor", r.low, "high_freq_factor", r.high,
                            "original_max_position_embeddings", (json_int_t)r.original);
    bad |= json_object_set_new(config, "rope_scaling", scaling);
    return bad ? LP_NOMEM : LP_OK;
}

static int add_option(json_t* config, const char* key, bool on) {
    return key ? json_object_set_new(config, key, json_boolean(on)) : 0;
}

/* The number of fewest digits that a float is nearest to: 1e-05, not 9.9999997e-06. */
static double shortest(double x) {
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        const double found = strtod(text, NULL);
        if ((float)found == (float)x) return found;
    }
    return x;
}

/* The settings of a model that has no config.json yet. */
static lp_status make_config(const lp_model* m, json_t* config) {
    const lp__arch* arch = m->arch;
    lp_model_shape s = m->shape;
    int bad = json_object_set_new(config, "architectures", json_pack("[s]", arch->class_name));
    bad |= json_object_set_new(config, "model_type", json_string(arch->model_types[0]));
    for (int i = 0; i < LP__SIZE_KEYS; i++) {
        if (arch->hf_size[i])
            bad |= json_object_set_new(config, arch->hf_size[i],
                                       json_integer(*lp__size_of(&s, (lp__size_key)i)));
    }
    bad |= json_object_set_new(config, arch->hf_eps, json_real(shortest(s.norm_eps)));
    bad |= json_object_set_new(config, arch->hf_activation, json_string(arch->activation));
    bad |= json_object_set_new(config, "tie_word_embeddings", json_boolean(s.tied));
    bad |= add_option(config, arch->hf_qkv_bias, m->options & LP__QKV_BIAS);
    bad |= add_option(config, arch->hf_mlp_bias, m->options & LP__MLP_BIAS);
    const int32_t bos = lp_tokenizer_bos(m->tokenizer), eos = lp_tokenizer_eos(m->tokenizer);
    if (bos >= 0) bad |= json_object_set_new(config, "bos_token_id", json_integer(bos));
    if (eos >= 0) bad |= json_object_set_new(config, "eos_token_id", json_integer(eos));
    bad |= json_object_set_new(config, "transformers_version", json_string("4.45.2"));
    if (bad) return LP_NOMEM;
    return arch->rotary ? add_rope(m, config) : LP_OK;
}

/* config.json knows biases of q, k, v and o only together. */
static lp_status check_options(const lp_model* m) {
    const lp__arch* arch = m->arch;
    const bool qkv = m->options & LP__QKV_BIAS, o = m->options & LP__O_BIAS;
    const bool named = arch->hf_qkv_bias != NULL;
    const bool extra_qkv = !named && qkv != !!(arch->options & LP__QKV_BIAS);
    const bool mlp = (m->options & LP__MLP_BIAS) && !arch->hf_mlp_bias;
    if (!(named ? qkv != o : extra_qkv || o) && !mlp) return LP_OK;
    return lp_fail(m->ctx, LP_UNSUPPORTED,
                   "%s: config.json of a %s model has no words for the biases that it has; write a "
                   "GGUF file",
                   m->source->path, arch->title);
}

/* The model's own config.json, where it has one: settings that logpi does not know stay in it. */
static lp_status config_json(const lp_model* m, const char* dtype, json_t** out) {
    json_t* config = m->source->config ? json_loadb(m->source->config, m->source->config_bytes,
                                                    JSON_REJECT_DUPLICATES, NULL)
                                       : json_object();
    lp_status status = config ? LP_OK : LP_NOMEM;
    if (status == LP_OK && !m->source->config) {
        status = check_options(m);
        if (status == LP_OK) status = make_config(m, config);
    }
    const char* key = json_object_get(config, "dtype") ? "dtype" : "torch_dtype";
    if (status == LP_OK && json_object_set_new(config, key, json_string(dtype))) status = LP_NOMEM;
    if (status == LP_OK) {
        *out = config;
    } else {
        json_decref(config);
    }
    return status == LP_NOMEM ? lp_fail(m->ctx, LP_NOMEM, "out of memory for config.json") : status;
}

/* ---- files ----------------------------------------------------------------------------------- */

static lp_status write_text(lp_ctx* ctx, const char* folder, const char* name, const char* text,
                            size_t bytes, bool newline) {
    char* path = lp__path(ctx, folder, name);
    if (!path) return LP_NOMEM;
    lp__writer writer;
    lp_status status = lp__writer_open(ctx, &writer, path);
    if (status == LP_OK) {
        lp__writer_write(&writer, text, bytes);
        if (newline) lp__writer_write(&writer, "\n", 1);
        status = lp__writer_commit(&writer);
    }
    lp__free(ctx, path);
    return status;
}

static lp_status write_json(lp_ctx* ctx, const char* folder, const char* name, const json_t* root) {
    char* text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;
    if (!text) return lp_fail(ctx, LP_NOMEM, "out of memory while writing %s/%s", folder, name);
    const lp_status status = write_text(ctx, folder, name, text, strlen(text), true);
    free(text);
    return status;
}

static lp_status save_generation(const lp_model* m, const char* folder) {
    static const char name[] = "generation_config.json";
    if (m->source->generation)
        return write_text(m->ctx, folder, name, m->source->generation, m->source->generation_bytes,
                          false);
    int64_t n;
    const int32_t* ends = lp_tokenizer_ends(m->tokenizer, &n);
    json_t* list = json_array();
    int bad = list == NULL;
    for (int64_t i = 0; i < n; i++) bad |= json_array_append_new(list, json_integer(ends[i]));
    json_t* root = json_pack("{s:b}", "_from_model_config", 1);
    const int32_t bos = lp_tokenizer_bos(m->tokenizer), pad = lp_tokenizer_pad(m->tokenizer);
    if (bos >= 0) bad |= json_object_set_new(root, "bos_token_id", json_integer(bos));
    if (pad >= 0) bad |= json_object_set_new(root, "pad_token_id", json_integer(pad));
    if (n > 0)
        bad |= json_object_set(root, "eos_token_id", n == 1 ? json_array_get(list, 0) : list);
    bad |= json_object_set_new(root, "transformers_version", json_string("4.45.2"));
    const lp_status status = write_json(m->ctx, folder, name, bad ? NULL : root);
    json_decref(list);
    json_decref(root);
    return status;
}

static lp_status put(void* user, const lp__safetensors_out* out, lp__writer* writer) {
    const lp__saving* s = user;
    lp__slot slot = lp__slots(s->model);
    for (int64_t i = 0; i <= out->index; i++) lp__slot_next(&slot);
    return lp__save_slot(s, &slot, s->type, writer);
}

static lp_status save_tensors(const lp__saving* s, const char* folder) {
    static const char* const metadata[] = {"format", "pt", NULL};
    lp_ctx* ctx = s->model->ctx;
    int64_t n = 0, i = 0;
    for (lp__slot slot = lp__slots(s->model); lp__slot_next(&slot);) n++;
    lp__safetensors_out* out = lp__alloc(ctx, (size_t)n * sizeof *out);
    char(*names)[LP__NAME_BYTES] = lp__alloc(ctx, (size_t)n * sizeof *names);
    char* path = lp__path(ctx, folder, "model.safetensors");
    lp_status status = out && names && path ? LP_OK : LP_NOMEM;
    for (lp__slot slot = lp__slots(s->model); status == LP_OK && lp__slot_next(&slot); i++) {
        const bool turned = slot.row->flags & LP__CONV1D;
        memcpy(names[i], slot.hf, LP__NAME_BYTES);
        out[i] = (lp__safetensors_out){.name = names[i],
                                       .dtype = s->type == LP_FILE_F16    ? LP__SAFETENSORS_F16
                                                : s->type == LP_FILE_BF16 ? LP__SAFETENSORS_BF16
                                                                          : LP__SAFETENSORS_F32,
                                       .dims = slot.vector ? 1 : 2,
                                       .rows = turned ? slot.cols : slot.rows,
                                       .cols = turned ? slot.rows : slot.cols,
                                       .index = i};
    }
    if (status == LP_OK)
        status = lp__safetensors_write(ctx, path, out, n, metadata, put, (void*)(uintptr_t)s);
    lp__free(ctx, path);
    lp__free(ctx, names);
    lp__free(ctx, out);
    return status;
}

lp_status lp__save_folder(const lp__saving* s, const char* folder) {
    const lp_model* m = s->model;
    json_t* config = NULL;
    lp_status status = config_json(m, lp__file_type_name(s->type), &config);
    if (status != LP_OK) return status;
    status = lp__mkdirs(m->ctx, folder);
    if (status == LP_OK) status = save_tensors(s, folder);
    if (status == LP_OK) status = write_json(m->ctx, folder, "config.json", config);
    json_decref(config);
    if (status == LP_OK) status = lp_tokenizer_save(m->tokenizer, folder);
    return status == LP_OK ? save_generation(m, folder) : status;
}
