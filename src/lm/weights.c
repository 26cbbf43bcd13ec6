/* Weights of a model: bound by name, read, copied. */
#include "lm/model.h"
#include "tensor/params.h"
#include <stdio.h>
#include <string.h>

static lp_status stopped(lp_ctx* ctx) {
    return lp_cancelled(ctx) ? lp_fail(ctx, LP_CANCELLED, "cancelled") : LP_OK;
}

/* ---- binding --------------------------------------------------------------------------------- */

static lp_status bind_slot(lp_weights* w, const lp__slot* slot) {
    for (int i = 0; i < slot->row->parts; i++) {
        char name[LP__NAME_BYTES];
        lp__slot_own(slot, i, name);
        const int64_t rows = slot->vector ? 1 : slot->part_rows[i];
        lp_tensor x =
            lp_param(w->params, name, rows, slot->vector ? slot->part_rows[i] : slot->cols);
        if (!x) return LP_NOMEM;
        *lp__slot_field(slot, w, i) = x;
    }
    return LP_OK;
}

/* The head of a model that has none of its own: the embedding, whose use as a table then has a
 * gradient apart. */
static lp_status tie(lp_weights* w, const char* embedding) {
    char name[LP__NAME_BYTES + 8];
    w->head = w->embedding;
    if (!w->head->needs_grad) return LP_OK;
    snprintf(name, sizeof name, "(read) %s", embedding);
    w->embedding = lp_param_tied(w->params, name, w->head);
    return w->embedding ? LP_OK : LP_NOMEM;
}

/* Memory comes filled with zeros, which takes its time: it looks whether to stop. */
static lp_status bind(lp_weights* w) {
    for (lp__slot slot = lp__slots(w->model); lp__slot_next(&slot);) {
        lp_status status = stopped(w->ctx);
        if (status == LP_OK) status = bind_slot(w, &slot);
        if (status == LP_OK && w->embedding && !w->head && w->model->shape.tied)
            status = tie(w, slot.hf);
        if (status != LP_OK) return status;
    }
    return LP_OK;
}

lp_status lp__weights_create(const lp_model* model, bool trainable, lp_weights** out) {
    *out = NULL;
    lp_weights* w = lp__calloc(model->ctx, 1, sizeof *w);
    if (!w) return LP_NOMEM;
    w->ctx = model->ctx;
    w->model = model;
    w->blocks = lp__calloc(model->ctx, (size_t)model->shape.layers, sizeof *w->blocks);
    w->params = lp_params_create(model->ctx, LP_F32, trainable);
    lp_status status = w->blocks && w->params ? bind(w) : LP_NOMEM;
    if (status != LP_OK) {
        lp_weights_destroy(w);
        return status;
    }
    *out = w;
    return LP_OK;
}

void lp_weights_destroy(lp_weights* w) {
    if (!w) return;
    lp_params_destroy(w->params);
    lp__free(w->ctx, w->blocks);
    lp__free(w->ctx, w);
}

lp_params* lp_weights_params(const lp_weights* weights) { return weights->params; }

/* ---- reading --------------------------------------------------------------------------------- */

static lp_status read_slot(const lp_model* m, lp_weights* w, const lp__slot* slot) {
    lp__stored* t;
    lp_status status = lp__model_stored(m, slot, &t);
    if (status != LP_OK) return status;
    const bool gguf = m->source->gguf != NULL;
    const unsigned flags = slot->row->flags;
    lp__target target = {
        .parts = slot->row->parts,
        .cols = slot->vector ? 1 : slot->cols,
        .vector = slot->vector,
        .transposed = !gguf && (flags & LP__CONV1D),
        .head_dim = gguf && m->arch->gguf_pairs && (flags & LP__ROTARY) ? m->shape.head_dim : 0};
    for (int i = 0; i < target.parts; i++) {
        target.to[i] = lp_f32(*lp__slot_field(slot, w, i));
        target.rows[i] = slot->part_rows[i];
    }
    return lp__source_read(m->source, t, &target);
}

/* A folder whose config.json says that the head is the embedding, and that has a head all the same:
 * they must be equal. */
static lp_status check_tied_head(const lp_model* m, const lp_weights* w) {
    const lp__stored* t =
        m->source->gguf ? NULL : lp__source_find(m->source, "lm_head.weight", NULL);
    if (!m->shape.tied || !t) return LP_OK;
    lp_tensor head = w->head;
    if (t->rows != head->rows || t->cols != head->cols)
        return lp_fail(m->ctx, LP_FORMAT,
                       "%s: tensor \"%s\" is [%lld, %lld], but [%lld, %lld] is needed", t->path,
                       t->name, (long long)t->rows, (long long)t->cols, (long long)head->rows,
                       (long long)head->cols);
    const size_t numbers = (size_t)(head->rows * head->cols);
    float* own = lp__alloc(m->ctx, numbers * sizeof *own);
    if (!own) return LP_NOMEM;
    const lp__target target = {.parts = 1, .to = {own}, .rows = {head->rows}, .cols = head->cols};
    lp_status status = lp__source_read(m->source, t, &target);
    if (status == LP_OK && memcmp(own, head->data, numbers * sizeof *own) != 0)
        status = lp_fail(m->ctx, LP_UNSUPPORTED,
                         "%s: lm_head.weight differs from the embedding, but config.json says that "
                         "they are one (\"tie_word_embeddings\")",
                         t->path);
    lp__free(m->ctx, own);
    return status;
}

lp_status lp_model_load_weights(lp_model* m, bool trainable, lp_weights** out) {
    *out = NULL;
    lp_weights* w;
    lp_status status = lp__weights_create(m, trainable, &w);
    if (status != LP_OK) return status;
    for (lp__slot slot = lp__slots(m); status == LP_OK && lp__slot_next(&slot);)
        status = read_slot(m, w, &slot);
    if (status == LP_OK) status = check_tied_head(m, w);
    if (status == LP_OK) status = lp__source_unchanged(m->source);
    if (status != LP_OK) {
        lp_weights_destroy(w);
        return status;
    }
    *out = w;
    return LP_OK;
}

lp_status lp_weights_clone(const lp_weights* weights, bool trainable, lp_weights** out) {
    lp_weights* w;
    *out = NULL;
    lp_status status = lp__weights_create(weights->model, trainable, &w);
    if (status != LP_OK) return status;
    for (int64_t i = 0; status == LP_OK && i < lp_params_count(w->params); i++) {
        lp_tensor to = lp_params_get(w->params, i);
        lp_tensor from = lp_params_find(weights->params, lp_params_name(w->params, i));
        memcpy(to->data, from->data, (size_t)(to->rows * to->cols) * sizeof(float));
        status = stopped(w->ctx);
    }
    if (status != LP_OK) {
        lp_weights_destroy(w);
        return status;
    }
    *out = w;
    return LP_OK;
}
