/* Opening a model: shape and tokenizer from a GGUF file or a Hugging Face folder. */
#include "lm/model.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { SIZE_LIMIT = 1 << 24 };

lp_status lp__model_check_size(const lp_model* m, const char* key, int64_t size) {
    if (size > 0 && size <= SIZE_LIMIT) return LP_OK;
    return lp_fail(m->ctx, LP_FORMAT, "%s: %s is %lld, which is no size of a model",
                   m->source->path, key, (long long)size);
}

lp_status lp__model_check_shape(const lp_model* m) {
    const lp_model_shape* s = &m->shape;
    if (s->kv_heads <= 0 || s->heads % s->kv_heads || s->head_dim <= 0 || s->head_dim % 2 ||
        s->head_dim > 1 << 20 || s->heads * s->head_dim > SIZE_LIMIT)
        return lp_fail(m->ctx, LP_FORMAT,
                       "%s: %lld heads of %lld, %lld key-value heads and width %lld do not fit",
                       m->source->path, (long long)s->heads, (long long)s->head_dim,
                       (long long)s->kv_heads, (long long)s->width);
    if (!(s->norm_eps > 0 && s->norm_eps < 1) ||
        (m->arch->rotary && !(s->rope_base > 0 && s->rope_base < 1e12)))
        return lp_fail(m->ctx, LP_FORMAT, "%s: norm epsilon %g or rotary base %g is out of range",
                       m->source->path, s->norm_eps, s->rope_base);
    return LP_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Where the source has the tensor of a slot, if it is of the right shape. A size that the file does
 * not have costs nothing, so sizes are compared before there is memory for them. */
lp_status lp__model_stored(const lp_model* m, const lp__slot* slot, lp__stored** out) {
    const bool gguf = m->source->gguf != NULL;
    const char* name = gguf ? slot->gguf : slot->hf;
    lp__stored* t = *out = lp__source_find(m->source, name, gguf ? NULL : m->arch->hf_prefix);
    if (!t)
        return lp_fail(m->ctx, LP_FORMAT, "%s: tensor \"%s\" is missing", m->source->path, name);
    const bool turned = !gguf && (slot->row->flags & LP__CONV1D);
    const int64_t rows = turned ? slot->cols : slot->rows, cols = turned ? slot->rows : slot->cols;
    if (t->rows == rows && t->cols == cols && (t->dims == 1) == slot->vector) return LP_OK;
    if (slot->vector)
        return lp_fail(m->ctx, LP_FORMAT,
                       "%s: tensor \"%s\" is [%lld, %lld] in %d dimensions, but [%lld] is needed",
                       t->path, t->name, (long long)t->rows, (long long)t->cols, t->dims,
                       (long long)cols);
    return lp_fail(
        m->ctx, LP_FORMAT, "%s: tensor \"%s\" is [%lld, %lld], but [%lld, %lld] is needed", t->path,
        t->name, (long long)t->rows, (long long)t->cols, (long long)rows, (long long)cols);
}

static bool ends_with(const char* text, const char* end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

/* Tensors that are no weights: masks and constants that old files carry; and the head of a model
 * whose head is its embedding, which load compares. */
static bool ignored(const lp_model* m, const lp__stored* t) {
    for (int i = 0; i < 3 && m->arch->ignored[i]; i++) {
        if (!m->source->gguf && ends_with(t->name, m->arch->ignored[i])) return true;
    }
    return !m->source->gguf && !(m->options & LP__HEAD) && strcmp(t->name, "lm_head.weight") == 0;
}

lp_status lp__model_check_tensors(const lp_model* m) {
    int64_t used = 0;
    for (lp__slot slot = lp__slots(m); lp__slot_next(&slot);) {
        lp__stored* t;
        const lp_status status = lp__model_stored(m, &slot, &t);
        if (status != LP_OK) return status;
        t->used = true;
        used++;
    }
    for (int64_t i = 0; i < m->source->tensor_count; i++) {
        const lp__stored* t = &m->source->tensors[i];
        if (!t->used && !ignored(m, t))
            return lp_fail(m->ctx, LP_UNSUPPORTED,
                           "%s: %lld tensors, but a %s model of this shape has %lld; \"%.200s\" is "
                           "one that it has no use for",
                           m->source->path, (long long)m->source->tensor_count, m->arch->title,
                           (long long)used, t->name);
    }
    return LP_OK;
}

/* ---- opening --------------------------------------------------------------------------------- */

/* The last part of a path is the name of a model that does not say its own. */
static lp_status name_of_folder(lp_model* m) {
    const char* path = m->source->path;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/') end--;
    size_t from = end;
    while (from > 0 && path[from - 1] != '/') from--;
    const bool good = lp__utf8_error(path + from, end - from) < 0 && path[from] != '.';
    m->name = lp__strdup(m->ctx, path + from, good ? end - from : 0);
    m->shape.name = m->name;
    return m->name ? LP_OK : LP_NOMEM;
}

/* Tokens that end a text: generation_config.json has one, or several. */
static lp_status read_ends(lp_model* m) {
    if (!m->source->generation) return LP_OK;
    json_error_t error;
    json_t* root = json_loadb(m->source->generation, m->source->generation_bytes,
                              JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root)) {
        json_decref(root);
        return lp_fail(m->ctx, LP_FORMAT, "%s/generation_config.json:%d: %s", m->source->path,
                       root ? 1 : error.line, root ? "it is no object" : error.text);
    }
    const json_t* ids = json_object_get(root, "eos_token_id");
    const size_t n = json_is_array(ids) ? json_array_size(ids) : json_is_integer(ids) ? 1 : 0;
    lp_status status = LP_OK;
    for (size_t i = 0; status == LP_OK && i < n; i++) {
        const json_t* id = json_is_array(ids) ? json_array_get(ids, i) : ids;
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value >= lp_tokenizer_size(m->tokenizer)) {
            status = lp_fail(m->ctx, LP_FORMAT,
                             "%s/generation_config.json: \"eos_token_id\" has an id that the "
                             "tokenizer does not have",
                             m->source->path);
        } else {
            status = lp_tokenizer_add_end(m->tokenizer, (int32_t)value);
        }
    }
    json_decref(root);
    return status;
}

static lp_status from_folder(lp_model* m) {
    lp_status status = lp__model_from_config(m, m->source->config, m->source->config_bytes);
    if (status == LP_OK) status = name_of_folder(m);
    if (status == LP_OK) status = lp_tokenizer_open(m->ctx, m->source->path, &m->tokenizer);
    if (status == LP_NOT_FOUND) status = lp_fail(m->ctx, LP_FORMAT, "%s", lp_error(m->ctx));
    if (status != LP_OK) return status;
    if (lp_tokenizer_size(m->tokenizer) > m->shape.vocab)
        return lp_fail(m->ctx, LP_FORMAT,
                       "%s: the tokenizer has %lld ids, but \"vocab_size\" of config.json is %lld",
                       m->source->path, (long long)lp_tokenizer_size(m->tokenizer),
                       (long long)m->shape.vocab);
    return read_ends(m);
}

static lp_status finish(lp_model* m) {
    lp_model_shape* s = &m->shape;
    s->architecture = m->arch->name;
    s->tied = !(m->options & LP__HEAD);
    s->types = m->source->types;
    for (lp__slot slot = lp__slots(m); lp__slot_next(&slot);)
        s->parameters += slot.rows * slot.cols;
    if (!m->arch->rotary) {
        s->rope_base = 0;
        return LP_OK;
    }
    m->rope_frequencies = lp__alloc(m->ctx, (size_t)s->head_dim / 2 * sizeof(float));
    if (!m->rope_frequencies) return LP_NOMEM;
    lp__rope_make(&m->rope, s->head_dim, s->rope_base, m->rope_frequencies);
    return LP_OK;
}

lp_status lp_model_open(lp_ctx* ctx, const char* path, lp_model** out) {
    *out = NULL;
    lp_model* m = lp__calloc(ctx, 1, sizeof *m);
    if (!m) return LP_NOMEM;
    m->ctx = ctx;
    lp_status status = lp__source_open(ctx, path, &m->source);
    if (status == LP_OK) status = m->source->gguf ? lp__model_from_gguf(m) : from_folder(m);
    if (status == LP_OK) status = lp__model_check_tensors(m);
    if (status == LP_OK) status = finish(m);
    if (status != LP_OK) {
        lp_model_close(m);
        return status;
    }
    *out = m;
    return LP_OK;
}

void lp_model_close(lp_model* m) {
    if (!m) return;
    lp_tokenizer_destroy(m->tokenizer);
    lp__source_close(m->source);
    lp__free(m->ctx, m->rope_frequencies);
    lp__free(m->ctx, m->rope.factors);
    lp__free(m->ctx, m->name);
    lp__free(m->ctx, m);
}

lp_model_shape lp_model_get_shape(const lp_model* model) { return model->shape; }
const lp_tokenizer* lp_model_tokenizer(const lp_model* model) { return model->tokenizer; }

bool lp_model_ends(const lp_model* model, int32_t token) {
    return lp_tokenizer_is_end(model->tokenizer, token);
}
