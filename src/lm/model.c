/* Opening a model: shape and tokenizer from a GGUF file. */
#include "lm/model.h"
#include <stdio.h>
#include <string.h>

/* One count of the shape, which must be in the metadata, positive, and of sane size. */
static lp_status read_size(const lp_model* m, const char* key, int64_t* out) {
    uint32_t value;
    lp_status status = lp__gguf_u32(m->gguf, key, &value);
    if (status == LP_NOT_FOUND)
        return lp_fail(m->ctx, LP_FORMAT, "%s: the metadata lacks %s: this is not a whole model",
                       m->gguf->path, key);
    if (status != LP_OK) return status;
    if (value == 0 || value > 1u << 24)
        return lp_fail(m->ctx, LP_FORMAT, "%s: %s is %u, which is no size of a model",
                       m->gguf->path, key, (unsigned)value);
    *out = (int64_t)value;
    return LP_OK;
}

static lp_status read_shape(lp_model* m) {
    lp_model_shape* s = &m->shape;
    const struct {
        const char* key;
        int64_t* to;
    } sizes[] = {{"llama.block_count", &s->layers},
                 {"llama.embedding_length", &s->width},
                 {"llama.feed_forward_length", &s->intermediate},
                 {"llama.attention.head_count", &s->heads},
                 {"llama.context_length", &s->context}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        lp_status status = read_size(m, sizes[i].key, sizes[i].to);
        if (status != LP_OK) return status;
    }
    uint32_t kv_heads = (uint32_t)s->heads, head_dim = 0, rope_dims = 0;
    float eps = 1e-5f, base = 10000.0f;
    lp_status status = lp__gguf_u32_if(m->gguf, "llama.attention.head_count_kv", &kv_heads);
    if (status == LP_OK) status = lp__gguf_u32_if(m->gguf, "llama.attention.key_length", &head_dim);
    if (status == LP_OK)
        status = lp__gguf_u32_if(m->gguf, "llama.rope.dimension_count", &rope_dims);
    if (status == LP_OK)
        status = lp__gguf_f32_if(m->gguf, "llama.attention.layer_norm_rms_epsilon", &eps);
    if (status == LP_OK) status = lp__gguf_f32_if(m->gguf, "llama.rope.freq_base", &base);
    if (status != LP_OK) return status;
    s->kv_heads = (int64_t)kv_heads;
    s->head_dim = head_dim ? (int64_t)head_dim : s->width / s->heads;
    s->norm_eps = (double)eps;
    s->rope_base = (double)base;
    s->vocab = lp_tokenizer_size(m->tokenizer);
    if (s->kv_heads == 0 || s->heads % s->kv_heads || s->head_dim <= 0 || s->head_dim % 2 ||
        s->head_dim > 1 << 20 || (!head_dim && s->width % s->heads))
        return lp_fail(
            m->ctx, LP_FORMAT, "%s: %lld heads, %lld key-value heads and width %lld do not fit",
            m->gguf->path, (long long)s->heads, (long long)s->kv_heads, (long long)s->width);
    if (rope_dims && (int64_t)rope_dims != s->head_dim)
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s: rotary embedding of %u of %lld dimensions is not supported",
                       m->gguf->path, (unsigned)rope_dims, (long long)s->head_dim);
    if (!(eps > 0 && eps < 1) || !(base > 0 && base < 1e12f))
        return lp_fail(m->ctx, LP_FORMAT, "%s: norm epsilon %g or rotary base %g is out of range",
                       m->gguf->path, (double)eps, (double)base);
    if (lp__gguf_find(m->gguf, "llama.rope.scaling.type") ||
        lp__gguf_tensor_find(m->gguf, "rope_freqs.weight"))
        return lp_fail(m->ctx, LP_UNSUPPORTED, "%s: scaled rotary embeddings are not supported",
                       m->gguf->path);
    if (lp__gguf_find(m->gguf, "llama.expert_count"))
        return lp_fail(m->ctx, LP_UNSUPPORTED, "%s: mixtures of experts are not supported",
                       m->gguf->path);
    s->tied = !lp__gguf_tensor_find(m->gguf, "output.weight");
    for (int64_t i = 0; i < m->gguf->tensor_count; i++)
        s->parameters += m->gguf->tensors[i].rows * m->gguf->tensors[i].cols;
    return LP_OK;
}

static lp_status read_architecture(lp_model* m) {
    lp__string architecture = {0}, name = {0};
    lp_status status = lp__gguf_string(m->gguf, "general.architecture", &architecture);
    if (status == LP_NOT_FOUND)
        return lp_fail(m->ctx, LP_FORMAT, "%s: the metadata lacks general.architecture",
                       m->gguf->path);
    if (status != LP_OK) return status;
    if (strcmp(architecture.data, "llama") != 0)
        return lp_fail(m->ctx, LP_UNSUPPORTED,
                       "%s: architecture \"%.60s\" is not supported; supported: llama",
                       m->gguf->path, architecture.data);
    m->shape.architecture = "llama";
    m->shape.name = "";
    if (lp__gguf_find(m->gguf, "general.name")) {
        status = lp__gguf_string(m->gguf, "general.name", &name);
        if (status != LP_OK) return status;
        if (lp__utf8_error(name.data, name.bytes) >= 0)
            return lp_fail(m->ctx, LP_FORMAT,
                           "%s: general.name is not UTF-8: the metadata is damaged", m->gguf->path);
        m->shape.name = name.data;
    }
    return LP_OK;
}

lp_status lp__model_part(lp_ctx* ctx, lp_status status) {
    return status == LP_NOT_FOUND ? lp_fail(ctx, LP_FORMAT, "%s", lp_error(ctx)) : status;
}

lp_status lp_model_open(lp_ctx* ctx, const char* path, lp_model** out) {
    *out = NULL;
    lp_model* m = lp__calloc(ctx, 1, sizeof *m);
    if (!m) return LP_NOMEM;
    m->ctx = ctx;
    lp_status status = lp__gguf_open(ctx, path, &m->gguf);
    if (status == LP_OK) status = read_architecture(m);
    if (status == LP_OK)
        status = lp__model_part(ctx, lp__gguf_tokenizer(ctx, m->gguf, &m->tokenizer));
    if (status == LP_OK) status = read_shape(m);
    if (status == LP_OK) status = lp__model_check_tensors(m);
    if (status == LP_OK) {
        m->rope_frequencies = lp__alloc(ctx, (size_t)m->shape.head_dim / 2 * sizeof(float));
        status = m->rope_frequencies ? LP_OK : LP_NOMEM;
    }
    if (status != LP_OK) {
        lp_model_close(m);
        return status;
    }
    lp_rope_frequencies(m->shape.head_dim, m->shape.rope_base, m->rope_frequencies);
    *out = m;
    return LP_OK;
}

void lp_model_close(lp_model* m) {
    if (!m) return;
    lp_tokenizer_destroy(m->tokenizer);
    lp__gguf_close(m->gguf);
    lp__free(m->ctx, m->rope_frequencies);
    lp__free(m->ctx, m);
}

lp_model_shape lp_model_get_shape(const lp_model* model) { return model->shape; }
const lp_tokenizer* lp_model_tokenizer(const lp_model* model) { return model->tokenizer; }

bool lp_model_ends(const lp_model* model, int32_t token) {
    return token >= 0 && (token == lp_tokenizer_eos(model->tokenizer) ||
                          token == lp_tokenizer_eot(model->tokenizer));
}
