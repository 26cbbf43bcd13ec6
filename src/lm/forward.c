/* The model as a function of a tape. */
#include "lm/model.h"
#include "tensor/tape.h"

/* Whether the numbers of the weights are those of the model's shape: they may come from another
 * file. */
static bool weights_fit(const lp_model* m, const lp_weights* w) {
    const lp_model_shape *s = &m->shape, *own = &w->model->shape;
    return m->arch == w->model->arch && m->options == w->model->options &&
           own->layers == s->layers && own->width == s->width && own->heads == s->heads &&
           own->kv_heads == s->kv_heads && own->head_dim == s->head_dim &&
           own->intermediate == s->intermediate && own->vocab == s->vocab;
}

/* Whether the new tokens of every sequence fit behind what its slot holds, in every layer. */
static bool cache_fits(const lp_model_shape* s, const lp_batch* batch) {
    bool fits = true;
    for (int64_t i = 0; i < batch->sequences; i++)
        fits = fits &&
               lp__kv_fits(batch->cache, s->layers - 1, batch->slot[i],
                           batch->offsets[i + 1] - batch->offsets[i], s->kv_heads, s->head_dim);
    return fits;
}

static bool prefixes_ok(const lp_batch* batch) {
    if (!batch->prefix) return true;
    bool ok = !batch->cache;
    for (int64_t s = 0; ok && s < batch->sequences; s++)
        ok = batch->prefix[s] < s && (batch->prefix[s] < 0 || batch->prefix[batch->prefix[s]] < 0);
    return ok;
}

static bool batch_ok(lp_ctx* ctx, const lp_model_shape* s, const lp_batch* batch, int64_t* tokens) {
    return LP__REQUIRE(ctx, lp__offsets_ok(batch->sequences, batch->offsets, tokens),
                       "offsets of a batch begin at 0 and do not fall") &&
           LP__REQUIRE(ctx, batch->tokens, "a batch needs tokens") &&
           LP__REQUIRE(ctx, prefixes_ok(batch),
                       "a prefix is an earlier sequence that has none itself, without a cache") &&
           LP__REQUIRE(
               ctx, !batch->cache || lp__kv_slots_ok(batch->cache, batch->sequences, batch->slot),
               "every sequence needs a slot of the cache for itself") &&
           LP__REQUIRE(ctx, !batch->cache || cache_fits(s, batch),
                       "the batch does not fit into the key-value cache");
}

/* Position of each token: how many of its sequence came before it. */
static lp_tensor positions(lp_tape* t, const lp_batch* batch, int64_t tokens) {
    lp__node* node = lp__leaf(t, LP_I32, tokens, 1);
    if (!node) return NULL;
    int32_t* position = node->t.data;
    for (int64_t s = 0; s < batch->sequences; s++) {
        const int64_t before = batch->prefix ? batch->prefix[s] : -1;
        const int64_t past = batch->cache ? lp_kv_length(batch->cache, batch->slot[s])
                             : before < 0 ? 0
                                          : batch->offsets[before + 1] - batch->offsets[before];
        for (int64_t i = batch->offsets[s]; i < batch->offsets[s + 1]; i++)
            position[i] = (int32_t)(past + i - batch->offsets[s]);
    }
    return &node->t;
}

static lp__block_shape block_shape(const lp_model* m) {
    return (lp__block_shape){.heads = m->shape.heads,
                             .kv_heads = m->shape.kv_heads,
                             .head_dim = m->shape.head_dim,
                             .norm = m->arch->norm,
                             .norm_eps = m->shape.norm_eps,
                             .mlp = m->arch->mlp,
                             .rope_frequencies = m->rope_frequencies,
                             .rope_scale = 1.0};
}

lp_tensor lp_model_hidden(lp_tape* t, const lp_model* model, const lp_weights* w,
                          const lp_batch* batch) {
    const lp_model_shape* s = &model->shape;
    const lp__block_shape shape = block_shape(model);
    lp_attention_def attention = {.heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .sequences = batch->sequences,
                                  .offsets = batch->offsets,
                                  .cache = batch->cache,
                                  .slot = batch->slot,
                                  .prefix = batch->prefix};
    int64_t tokens;
    if (t->status != LP_OK) return NULL;
    if (!LP__REQUIRE(t->ctx, weights_fit(model, w),
                     "the weights are those of a model of another shape") ||
        !batch_ok(t->ctx, s, batch, &tokens))
        return lp__tape_fail(t, LP_INVALID);
    lp_tensor position = positions(t, batch, tokens);
    lp_tensor ids = lp_const_i32(t, tokens, 1, batch->tokens);
    lp_tensor rotation = shape.rope_frequencies ? lp__rotation(t, &shape, position) : NULL;
    lp_tensor x = lp_rows(t, w->embedding, ids);
    if (w->position) x = lp_add(t, x, lp_rows(t, w->position, position));
    for (; attention.layer < s->layers; attention.layer++)
        x = lp__block_fused(t, &shape, &w->blocks[attention.layer], x, rotation, &attention);
    x = lp__norm_forward(t, &shape, x, w->norm, w->norm_bias);
    if (x && batch->cache) {
        for (int64_t i = 0; i < batch->sequences; i++)
            lp_kv_advance(batch->cache, batch->slot[i], batch->offsets[i + 1] - batch->offsets[i]);
    }
    return x;
}

lp_tensor lp_model_logits(lp_tape* t, const lp_weights* w, lp_tensor hidden) {
    return lp_linear(t, hidden, w->head, NULL);
}

lp_tensor lp_model_log_prob(lp_tape* t, const lp_weights* w, lp_tensor hidden, lp_tensor target,
                            double temperature, lp_tensor* entropy) {
    return lp_head_logp(t, hidden, w->head, target, temperature, entropy);
}

lp_tensor lp_model_score(lp_tape* t, const lp_weights* w, lp_tensor hidden, lp_tensor target,
                         const lp_head_def* def, lp_tensor* entropy) {
    return lp_head(t, hidden, w->head, target, def, entropy);
}

lp_status lp_model_cache(const lp_model* model, lp_precision precision, int32_t sequences,
                         int64_t tokens, lp_kv** cache) {
    const lp_model_shape* s = &model->shape;
    return lp_kv_create(model->ctx, precision, s->layers, s->kv_heads, s->head_dim, sequences,
                        tokens, cache);
}
