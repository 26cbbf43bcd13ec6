/* The model as a function of a tape. */
#include "lm/model.h"
#include "tensor/tape.h"

/* Position of each token: how many of its sequence came before it. */
static lp_tensor positions(lp_tape* t, const lp_batch* batch) {
    const int64_t tokens = batch->offsets[batch->sequences];
    lp__node* node = lp__leaf(t, LP_I32, tokens, 1);
    if (!node) return NULL;
    int32_t* position = node->t.data;
    for (int64_t s = 0; s < batch->sequences; s++) {
        const int64_t past = batch->cache ? lp_kv_length(batch->cache, batch->slot[s]) : 0;
        for (int64_t i = batch->offsets[s]; i < batch->offsets[s + 1]; i++)
            position[i] = (int32_t)(past + i - batch->offsets[s]);
    }
    return &node->t;
}

lp_tensor lp_model_hidden(lp_tape* t, const lp_model* model, const lp_weights* w, const lp_batch* batch) {
    const lp_model_shape* s = &model->shape;
    const lp__llama_shape shape = {s->heads, s->kv_heads, s->head_dim, s->norm_eps, s->rope_base};
    lp_attention_def attention = {.heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .sequences = batch->sequences,
                                  .offsets = batch->offsets,
                                  .cache = batch->cache,
                                  .slot = batch->slot};
    lp_tensor position = positions(t, batch);
    lp_tensor ids = lp_const_i32(t, batch->offsets[batch->sequences], 1, batch->tokens);
    lp_tensor x = lp_rows(t, w->embedding, ids);
    for (; attention.layer < s->layers; attention.layer++)
        x = lp__llama_block_forward(t, &shape, &w->blocks[attention.layer], x, position, &attention);
    x = lp_rmsnorm(t, x, w->norm, s->norm_eps);
    if (x && batch->cache) {
        for (int64_t i = 0; i < batch->sequences; i++)
            lp_kv_advance(batch->cache, batch->slot[i], batch->offsets[i + 1] - batch->offsets[i]);
    }
    return x;
}

lp_tensor lp_model_logits(lp_tape* t, const lp_weights* w, lp_tensor hidden) {
    return lp_linear(t, hidden, w->head, NULL);
}

lp_tensor lp_model_log_prob(lp_tape* t, const lp_weights* w, lp_tensor hidden, lp_tensor target, double temperature,
                            lp_tensor* entropy) {
    return lp_head_logp(t, hidden, w->head, target, temperature, entropy);
}

lp_status lp_model_cache(const lp_model* model, int32_t sequences, int64_t tokens, lp_kv** cache) {
    const lp_model_shape* s = &model->shape;
    return lp_kv_create(model->ctx, s->layers, s->kv_heads * s->head_dim, sequences, tokens, cache);
}
