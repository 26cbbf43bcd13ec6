/* What GGUF's metadata say of a model. */
#include "lm/model.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES = 96 };

static const char* const size_keys[LP__SIZE_KEYS] = {
    [LP__KEY_LAYERS] = "block_count",
    [LP__KEY_WIDTH] = "embedding_length",
    [LP__KEY_HEADS] = "attention.head_count",
    [LP__KEY_KV_HEADS] = "attention.head_count_kv",
    [LP__KEY_HEAD_DIM] = "attention.key_length",
    [LP__KEY_INTERMEDIATE] = "feed_forward_length",
    [LP__KEY_CONTEXT] = "context_length",
};

/* "llama.block_count" */
static const char* key(const lp_model* m, const char* name, char to[KEY_BYTES]) {
    snprintf(to, KEY_BYTES, "%s.%s", m->arch->name, name);
    return to;
}

static lp_status read_size(lp_model* m, lp__size_key which, int64_t* out) {
    char name[KEY_BYTES];
    uint32_t value;
    lp_status status = lp__gguf_u32(m->source->gguf, key(m, size_keys[which], name), &value);
    const bool optional = which == LP__KEY_KV_HEADS || which == LP__KEY_HEAD_DIM;
    if (status == LP_NOT_FOUND && optional) return LP_OK;
    if (status == LP_NOT_FOUND)
        return lp_fail(m->ctx, LP_FORMAT, "%s: the metadata lacks %s: this is not a whole model",
                       m->source->path, name);
    if (status != LP_OK) return status;
    *out = (int64_t)value;
    return lp__model_check_size(m, name, *out);
}

/* A setting that changes what the model computes: refused unless it is absent, or `neutral`. */
static lp_status refuse(const lp_model* m, const char* name, double neutral, const char* what) {
    char full[KEY_BYTES];
    const lp__gguf_value* v = lp__gguf_find(m->source->gguf, key(m, name, full));
    if (!v) return LP_OK;
    const double value = v->type == LP__GGUF_F32 || v->type == LP__GGUF_F64 ? v->f : (double)v->u;
    if (v->type != LP__GGUF_STRING && v->type != LP__GGUF_ARRAY && value == neutral) return LP_OK;
    return lp_fail(m->ctx, LP_UNSUPPORTED, "%s: %s: %s not supported", m->source->path, full, what);
}

static lp_status check_settings(const lp_model* m) {
    static const struct {
        const char* name;
        double neutral;
        const char* what;
    } rows[] = {
        {"expert_count", 0, "mixtures of experts are"},
        {"attention.scale", 0, "another scale of attention is"},
        {"attention.causal", 1, "attention that is not causal is"},
        {"logit_scale", 0, "scaled logits are"},
        {"embedding_scale", 0, "scaled embeddings are"},
        {"residual_scale", 0, "scaled residuals are"},
        {"attn_logit_softcapping", 0, "capped logits of attention are"},
        {"final_logit_softcapping", 0, "capped logits are"},
        {"attention.max_alibi_bias", 0, "ALiBi is"},
        {"rope.scaling.attn_factor", 1, "a factor of rotary positions is"},
    };
    lp_status status = LP_OK;
    for (size_t i = 0; status == LP_OK && i < sizeof rows / sizeof *rows; i++)
        status = refuse(m, rows[i].name, rows[i].neutral, rows[i].what);
    char name[KEY_BYTES];
    uint32_t window = 0, value_length = (uint32_t)m->shape.head_dim;
    if (status == LP_OK)
        status =
            lp__gguf_u32_if(m->source->gguf, key(m, "attention.sliding_window", name), &window);
    if (status == LP_OK && window != 0 && (int64_t)window < m->shape.context)
        status = lp_fail(m->ctx, LP_UNSUPPORTED,
                         "%s: %s is %u, below the context: sliding windows are not supported",
                         m->source->path, name, (unsigned)window);
    if (status == LP_OK)
        status =
            lp__gguf_u32_if(m->source->gguf, key(m, "attention.value_length", name), &value_length);
    if (status == LP_OK && (int64_t)value_length != m->shape.head_dim)
        status = lp_fail(m->ctx, LP_UNSUPPORTED,
                         "%s: %s is %u: values of another width than keys are not supported",
                         m->source->path, name, (unsigned)value_length);
    return status;
}

/* ---- rotary positions ------------------------------------------------------------------------ */

static lp_status read_factors(lp_model* m, const lp__gguf_tensor* t) {
    const int64_t n = m->shape.head_dim / 2;
    if (t->rows != 1 || t->cols != n)
        return lp_fail(m->ctx, LP_FORMAT, "%s: tensor \"%s\" is not [%lld]", m->source->path,
                       t->name.data, (long long)n);
    m->rope.kind = LP__ROPE_FACTORS;
    m->rope.factors = lp__alloc(m->ctx, (size_t)n * sizeof *m->rope.factors);
    if (!m->rope.factors) return LP_NOMEM;
    lp_status status = lp__gguf_rows(m->source->gguf, t, 0, 1, m->rope.factors);
    for (int64_t i = 0; status == LP_OK && i < n; i++) {
        if (!(m->rope.factors[i] > 0 && m->rope.factors[i] < 1e6f))
            status = lp_fail(m->ctx, LP_FORMAT, "%s: tensor \"%s\" has the factor %g",
                             m->source->path, t->name.data, (double)m->rope.factors[i]);
    }
    return status;
}

static lp_status read_rope(lp_model* m) {
    const lp__gguf* g = m->source->gguf;
    char name[KEY_BYTES];
    float base = 10000.0f, factor = 1.0f;
    uint32_t dims = (uint32_t)m->shape.head_dim;
    lp__string type = {"none", 4};
    lp_status status = lp__gguf_f32_if(g, key(m, "rope.freq_base", name), &base);
    m->shape.rope_base = (double)base;
    if (status == LP_OK) status = lp__gguf_u32_if(g, key(m, "rope.dimension_count", name), &dims);
    if (status == LP_OK && (int64_t)dims != m->shape.head_dim)
        status = lp_fail(m->ctx, LP_UNSUPPORTED,
                         "%s: %s: rotary positions in %u of %lld dimensions are not supported",
                         m->source->path, name, (unsigned)dims, (long long)m->shape.head_dim);
    if (status == LP_OK) status = lp__gguf_f32_if(g, key(m, "rope.scale_linear", name), &factor);
    if (status == LP_OK) status = lp__gguf_f32_if(g, key(m, "rope.scaling.factor", name), &factor);
    if (status == LP_OK && lp__gguf_find(g, key(m, "rope.scaling.type", name)))
        status = lp__gguf_string(g, name, &type);
    if (status != LP_OK) return status;
    const bool none = strcmp(type.data, "none") == 0, linear = strcmp(type.data, "linear") == 0;
    if (!none && !linear)
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s: %s is \"%.40s\": rotary positions are scaled in a way that is not "
                       "supported; linear, and Llama 3's rope_freqs, are",
                       m->source->path, name, type.data);
    const lp__gguf_tensor* factors = lp__gguf_tensor_find(g, "rope_freqs.weight");
    if (factors) {
        lp__source_find(m->source, "rope_freqs.weight", NULL)->used = true;
        return read_factors(m, factors);
    }
    if (factor != 1.0f && (linear || !lp__gguf_find(g, key(m, "rope.scaling.type", name)))) {
        if (!(factor > 0 && factor < 1e6f))
            return lp_fail(m->ctx, LP_FORMAT, "%s: rope.scaling.factor is %g", m->source->path,
                           (double)factor);
        m->rope.kind = LP__ROPE_LINEAR;
        m->rope.factor = (double)factor;
    }
    return LP_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static lp_status read_architecture(lp_model* m) {
    const lp__gguf* g = m->source->gguf;
    lp__string architecture = {0}, name = {0};
    lp_status status = lp__gguf_string(g, "general.architecture", &architecture);
    if (status == LP_NOT_FOUND)
        return lp_fail(m->ctx, LP_FORMAT, "%s: the metadata lacks general.architecture",
                       m->source->path);
    if (status != LP_OK) return status;
    m->arch = lp__arch_of_gguf(architecture.data);
    if (!m->arch)
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s: architecture \"%.60s\" is not supported; supported: %s",
                       m->source->path, architecture.data, lp__arch_names());
    m->shape.name = "";
    if (!lp__gguf_find(g, "general.name")) return LP_OK;
    status = lp__gguf_string(g, "general.name", &name);
    if (status != LP_OK) return status;
    if (lp__utf8_error(name.data, name.bytes) >= 0)
        return lp_fail(m->ctx, LP_FORMAT, "%s: general.name is not UTF-8: the metadata is damaged",
                       m->source->path);
    m->shape.name = name.data;
    return LP_OK;
}

/* What a file has of what it may have can be told by the first layer. */
static void read_options(lp_model* m) {
    m->options = m->arch->options;
    const struct {
        const char* tensor;
        unsigned option;
    } rows[] = {{"output.weight", LP__HEAD},
                {"blk.0.attn_q.bias", LP__QKV_BIAS},
                {"blk.0.attn_output.bias", LP__O_BIAS},
                {"blk.0.ffn_up.bias", LP__MLP_BIAS}};
    unsigned possible = 0; /* what every model of the family has is no option */
    for (int i = 0; i < m->arch->row_count; i++) possible |= m->arch->rows[i].when;
    for (int i = 0; i < m->arch->layer_row_count; i++) possible |= m->arch->layer_rows[i].when;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if ((rows[i].option & possible) && lp__source_find(m->source, rows[i].tensor, NULL))
            m->options |= rows[i].option;
    }
}

lp_status lp__model_from_gguf(lp_model* m) {
    const lp__gguf* g = m->source->gguf;
    lp_status status = read_architecture(m);
    if (status != LP_OK) return status;
    status = lp__gguf_tokenizer(m->ctx, g, &m->tokenizer);
    if (status == LP_NOT_FOUND) status = lp_fail(m->ctx, LP_FORMAT, "%s", lp_error(m->ctx));
    if (status != LP_OK) return status;
    lp_model_shape* s = &m->shape;
    for (int i = 0; status == LP_OK && i < LP__SIZE_KEYS; i++) {
        if (size_keys[i]) status = read_size(m, (lp__size_key)i, lp__size_of(s, (lp__size_key)i));
    }
    if (status != LP_OK) return status;
    if (s->kv_heads == 0) s->kv_heads = s->heads;
    if (s->head_dim == 0 && s->width % s->heads == 0) s->head_dim = s->width / s->heads;
    s->vocab = lp_tokenizer_size(m->tokenizer);
    char name[KEY_BYTES];
    float eps = (float)m->arch->default_eps;
    status = lp__gguf_f32_if(g, key(m, m->arch->gguf_eps, name), &eps);
    s->norm_eps = (double)eps;
    read_options(m);
    if (status == LP_OK && m->arch->rotary && s->head_dim > 0) status = read_rope(m);
    if (status == LP_OK) status = lp__model_check_shape(m);
    return status == LP_OK ? check_settings(m) : status;
}
