/* What config.json says of a model. */
#include "lm/model.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reader {
    lp_model* m;
    const json_t* root;
} reader;

static lp_status wrong(const reader* r, const char* key, const char* wanted) {
    return lp_fail(r->m->ctx, LP_FORMAT, "%s/config.json: \"%s\" is no %s", r->m->source->path, key,
                   wanted);
}

/* NULL: not there, or null. */
static const json_t* find(const json_t* object, const char* key) {
    const json_t* value = key ? json_object_get(object, key) : NULL;
    return json_is_null(value) ? NULL : value;
}

static lp_status number_if(const reader* r, const json_t* object, const char* key, double* out) {
    const json_t* value = find(object, key);
    if (value && !json_is_number(value)) return wrong(r, key, "number");
    if (value) *out = json_number_value(value);
    return LP_OK;
}

static lp_status bool_if(const reader* r, const char* key, bool* out) {
    const json_t* value = find(r->root, key);
    if (value && !json_is_boolean(value)) return wrong(r, key, "true or false");
    if (value) *out = json_is_true(value);
    return LP_OK;
}

static lp_status size_if(const reader* r, const char* key, int64_t* out) {
    const json_t* value = find(r->root, key);
    if (!value) return LP_OK;
    if (!json_is_integer(value)) return wrong(r, key, "whole number");
    *out = json_integer_value(value);
    return lp__model_check_size(r->m, key, *out);
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static lp_status read_sizes(const reader* r) {
    lp_model* m = r->m;
    lp_model_shape* s = &m->shape;
    lp_status status = LP_OK;
    s->context = m->arch->default_context;
    for (int i = 0; status == LP_OK && i < LP__SIZE_KEYS; i++)
        status = size_if(r, m->arch->hf_size[i], lp__size_of(s, (lp__size_key)i));
    if (status != LP_OK) return status;
    static const lp__size_key needed[] = {LP__KEY_LAYERS, LP__KEY_WIDTH, LP__KEY_HEADS,
                                          LP__KEY_VOCAB};
    if (s->intermediate == 0 && m->arch->default_intermediate > 0 && s->width > 0)
        s->intermediate = m->arch->default_intermediate * s->width;
    for (size_t i = 0; i < sizeof needed / sizeof *needed; i++) {
        if (*lp__size_of(s, needed[i]) == 0)
            return lp_fail(m->ctx, LP_FORMAT, "%s/config.json lacks \"%s\"", m->source->path,
                           m->arch->hf_size[needed[i]]);
    }
    if (s->intermediate == 0)
        return lp_fail(m->ctx, LP_FORMAT, "%s/config.json lacks \"%s\"", m->source->path,
                       m->arch->hf_size[LP__KEY_INTERMEDIATE]);
    if (s->kv_heads == 0) s->kv_heads = s->heads;
    if (s->head_dim == 0 && s->width % s->heads == 0) s->head_dim = s->width / s->heads;
    s->norm_eps = m->arch->default_eps;
    status = number_if(r, r->root, m->arch->hf_eps, &s->norm_eps);
    s->norm_eps = (double)(float)s->norm_eps; /* as GGUF keeps it, and PyTorch adds it */
    return status;
}

static lp_status read_options(const reader* r) {
    const lp__arch* arch = r->m->arch;
    const struct {
        const char* key;
        unsigned option;
    } rows[] = {{arch->hf_qkv_bias, LP__QKV_BIAS},
                {arch->hf_o_bias, LP__O_BIAS},
                {arch->hf_mlp_bias, LP__MLP_BIAS}};
    r->m->options = arch->options;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool on = false;
        const lp_status status = bool_if(r, rows[i].key, &on);
        if (status != LP_OK) return status;
        if (on) r->m->options |= rows[i].option;
    }
    bool tied = arch->default_tied;
    const lp_status status = bool_if(r, "tie_word_embeddings", &tied);
    if (!tied) r->m->options |= LP__HEAD;
    return status;
}

/* ---- what changes the result ----------------------------------------------------------------- */

static lp_status refuse(const reader* r, const lp__rule* rule, const json_t* value) {
    char* text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    const lp_status status =
        lp_fail(r->m->ctx, LP_UNSUPPORTED,
                "%s/config.json: \"%s\": %.80s: this changes what a %s model computes, and is not "
                "supported",
                r->m->source->path, rule->key, text ? text : "?", r->m->arch->title);
    free(text);
    return status;
}

static bool is_one_of(const json_t* value, const char* const values[3]) {
    if (json_is_array(value)) {
        size_t i;
        const json_t* item;
        json_array_foreach(value, i, item) {
            if (json_is_array(item) || !is_one_of(item, values)) return false;
        }
        return true;
    }
    const char* text = json_string_value(value);
    for (int i = 0; text && i < 3 && values[i]; i++) {
        if (strcmp(text, values[i]) == 0) return true;
    }
    return false;
}

static bool obeys(const reader* r, const lp__rule* rule, const json_t* value) {
    switch (rule->kind) {
    case LP__MUST_BE_TRUE: return json_is_true(value);
    case LP__MUST_BE_FALSE: return json_is_false(value);
    case LP__MUST_BE_NULL: return false;
    case LP__MUST_BE_ONE: return json_is_number(value) && json_number_value(value) == 1.0;
    case LP__MUST_BE_TEXT: return is_one_of(value, rule->values);
    case LP__MUST_COVER:
        return json_is_integer(value) && json_integer_value(value) >= r->m->shape.context;
    }
    return false;
}

static lp_status check_rules(const reader* r) {
    for (int i = 0; i < r->m->arch->rule_count; i++) {
        const lp__rule* rule = &r->m->arch->rules[i];
        const json_t* value = find(r->root, rule->key);
        if (value && !obeys(r, rule, value)) return refuse(r, rule, value);
    }
    return LP_OK;
}

/* ---- rotary positions ------------------------------------------------------------------------ */

static lp_status read_llama3(const reader* r, const json_t* o) {
    lp__rope* rope = &r->m->rope;
    rope->kind = LP__ROPE_LLAMA3;
    rope->low = 1, rope->high = 4, rope->original = 8192;
    lp_status status = number_if(r, o, "low_freq_factor", &rope->low);
    if (status == LP_OK) status = number_if(r, o, "high_freq_factor", &rope->high);
    if (status == LP_OK)
        status = number_if(r, o, "original_max_position_embeddings", &rope->original);
    if (status != LP_OK) return status;
    if (rope->low > 0 && rope->high > rope->low && rope->high < 1e6 && rope->original >= 1 &&
        rope->original < 1e9)
        return LP_OK;
    return lp_fail(r->m->ctx, LP_FORMAT,
                   "%s/config.json: low_freq_factor, high_freq_factor and "
                   "original_max_position_embeddings do not fit",
                   r->m->source->path);
}

/* rope_scaling, of transformers 4, or rope_parameters, of 5, which has the base too. */
static lp_status read_scaling(const reader* r, const char* key) {
    const json_t* o = find(r->root, key);
    lp__rope* rope = &r->m->rope;
    if (!o) return LP_OK;
    if (!json_is_object(o)) return wrong(r, key, "object");
    const json_t* type = find(o, "rope_type");
    if (!type) type = find(o, "type");
    const char* name = type ? json_string_value(type) : "default";
    double partial = 1;
    lp_status status = number_if(r, o, "rope_theta", &r->m->shape.rope_base);
    if (status == LP_OK) status = number_if(r, o, "partial_rotary_factor", &partial);
    if (status != LP_OK) return status;
    if (!name) return wrong(r, key, "object with a \"rope_type\"");
    const bool linear = strcmp(name, "linear") == 0, llama3 = strcmp(name, "llama3") == 0;
    if (partial != 1 || (!linear && !llama3 && strcmp(name, "default") != 0))
        return lp_fail(r->m->ctx, LP_UNSUPPORTED,
                       "%s/config.json: \"%s\": rotary positions of the type \"%.40s\"%s are not "
                       "supported; default, linear and llama3 are",
                       r->m->source->path, key, name,
                       partial != 1 ? " in a part of each head" : "");
    if (!linear && !llama3) return LP_OK;
    rope->kind = LP__ROPE_LINEAR;
    status = number_if(r, o, "factor", &rope->factor);
    if (status == LP_OK && !(rope->factor >= 1 && rope->factor < 1e6))
        status = lp_fail(r->m->ctx, LP_FORMAT, "%s/config.json: the factor of \"%s\" is %g",
                         r->m->source->path, key, rope->factor);
    return status == LP_OK && llama3 ? read_llama3(r, o) : status;
}

static lp_status read_rope(const reader* r) {
    r->m->shape.rope_base = 10000.0;
    lp_status status = number_if(r, r->root, "rope_theta", &r->m->shape.rope_base);
    if (status == LP_OK) status = read_scaling(r, "rope_scaling");
    return status == LP_OK ? read_scaling(r, "rope_parameters") : status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static lp_status read_config(const reader* r) {
    lp_model* m = r->m;
    const char* type = json_string_value(json_object_get(r->root, "model_type"));
    if (!type)
        return lp_fail(m->ctx, LP_FORMAT, "%s/config.json lacks \"model_type\"", m->source->path);
    m->arch = lp__arch_of_hf(type);
    if (!m->arch)
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s/config.json: \"model_type\": \"%.60s\" is not supported; supported: %s",
                       m->source->path, type, lp__arch_names());
    lp_status status = read_sizes(r);
    if (status == LP_OK) status = read_options(r);
    if (status == LP_OK && m->arch->rotary) status = read_rope(r);
    if (status == LP_OK) status = lp__model_check_shape(m);
    return status == LP_OK ? check_rules(r) : status;
}

lp_status lp__model_from_config(lp_model* m, const char* text, size_t bytes) {
    json_error_t error;
    json_t* root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root && json_error_code(&error) == json_error_out_of_memory)
        return lp_fail(m->ctx, LP_NOMEM, "out of memory while reading %s/config.json",
                       m->source->path);
    lp_status status;
    if (!json_is_object(root)) {
        status = lp_fail(m->ctx, LP_FORMAT, "%s/config.json:%d:%d: %s", m->source->path,
                         root ? 1 : error.line, root ? 1 : error.column,
                         root ? "it is no object" : error.text);
    } else {
        const reader r = {m, root};
        status = read_config(&r);
    }
    json_decref(root);
    return status;
}
