/* Weights of a Llama model: bound by name, read from GGUF, written as a Hugging Face folder. */
#include "lm/model.h"
#include "tensor/params.h"
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One matrix of a block: its field, its name here (Hugging Face's) and in GGUF, how many rows and
 * columns. */
typedef enum side { WIDTH, INTERMEDIATE, Q_WIDTH, KV_WIDTH, ONE } side;

typedef struct block_row {
    size_t field;
    const char *name, *gguf;
    side rows, cols;
    bool rotary; /* GGUF keeps these rows pair by pair, see unrotate */
} block_row;

static const block_row block_table[] = {
    {offsetof(lp__block, attention_norm), "input_layernorm", "attn_norm", ONE, WIDTH, false},
    {offsetof(lp__block, q), "self_attn.q_proj", "attn_q", Q_WIDTH, WIDTH, true},
    {offsetof(lp__block, k), "self_attn.k_proj", "attn_k", KV_WIDTH, WIDTH, true},
    {offsetof(lp__block, v), "self_attn.v_proj", "attn_v", KV_WIDTH, WIDTH, false},
    {offsetof(lp__block, o), "self_attn.o_proj", "attn_output", WIDTH, Q_WIDTH, false},
    {offsetof(lp__block, mlp_norm), "post_attention_layernorm", "ffn_norm", ONE, WIDTH, false},
    {offsetof(lp__block, gate), "mlp.gate_proj", "ffn_gate", INTERMEDIATE, WIDTH, false},
    {offsetof(lp__block, up), "mlp.up_proj", "ffn_up", INTERMEDIATE, WIDTH, false},
    {offsetof(lp__block, down), "mlp.down_proj", "ffn_down", WIDTH, INTERMEDIATE, false},
};
enum { BLOCK_ROWS = sizeof block_table / sizeof *block_table, NAME_BYTES = 80 };

static const char EMBEDDING[] = "model.embed_tokens.weight", HEAD[] = "lm_head.weight",
                  NORM[] = "model.norm.weight";

static int64_t side_size(const lp_model_shape* s, side x) {
    switch (x) {
    case WIDTH: return s->width;
    case INTERMEDIATE: return s->intermediate;
    case Q_WIDTH: return s->heads * s->head_dim;
    case KV_WIDTH: return s->kv_heads * s->head_dim;
    case ONE: return 1;
    }
    return 0;
}

static lp_tensor* block_field(lp__block* block, const block_row* row) {
    return (lp_tensor*)(void*)((char*)block + row->field);
}

static lp_status stopped(lp_ctx* ctx) {
    return lp_cancelled(ctx) ? lp_fail(ctx, LP_CANCELLED, "cancelled") : LP_OK;
}

/* Memory comes filled with zeros, which takes its time: between two layers it looks whether to
 * stop. */
static lp_status bind(lp_weights* w) {
    const lp_model_shape* s = &w->model->shape;
    w->embedding = w->head = lp_param(w->params, EMBEDDING, s->vocab, s->width);
    if (!w->head) return LP_NOMEM;
    if (!s->tied) {
        w->head = lp_param(w->params, HEAD, s->vocab, s->width);
    } else if (w->head->needs_grad) {
        w->embedding = lp_param_tied(w->params, "(read) model.embed_tokens.weight", w->head);
    }
    w->norm = lp_param(w->params, NORM, 1, s->width);
    if (!w->embedding || !w->head || !w->norm) return LP_NOMEM;
    for (int64_t layer = 0; layer < s->layers; layer++) {
        const lp_status status = stopped(w->ctx);
        if (status != LP_OK) return status;
        for (int i = 0; i < BLOCK_ROWS; i++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "model.layers.%lld.%s.weight", (long long)layer,
                     block_table[i].name);
            lp_tensor* field = block_field(&w->blocks[layer], &block_table[i]);
            *field = lp_param(w->params, name, side_size(s, block_table[i].rows),
                              side_size(s, block_table[i].cols));
            if (!*field) return LP_NOMEM;
        }
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

/* GGUF stores the rows of q and k of a head as (0, half, 1, half + 1, ...): rotary pairs side by
 * side. Row 2 i + j of a head goes back to row j half + i. */
static lp_status unrotate(lp_ctx* ctx, int64_t rows, int64_t cols, int64_t head_dim, float* x) {
    const size_t head_bytes = (size_t)(head_dim * cols) * sizeof(float);
    float* head = lp__alloc(ctx, head_bytes);
    if (!head) return LP_NOMEM;
    const int64_t half = head_dim / 2;
    for (int64_t h = 0; h < rows; h += head_dim) {
        memcpy(head, x + h * cols, head_bytes);
        for (int64_t r = 0; r < head_dim; r++)
            memcpy(x + (h + (r % 2) * half + r / 2) * cols, head + r * cols,
                   (size_t)cols * sizeof(float));
    }
    lp__free(ctx, head);
    return LP_OK;
}

/* The first of n numbers that is NaN or infinite; -1: none. */
static int64_t first_bad(const float* x, int64_t n) {
    enum { PIECE = 4096 };
    for (int64_t i = 0; i < n; i += PIECE) {
        const int64_t end = LP__MIN(i + PIECE, n);
        uint32_t bad = 0;
        for (int64_t j = i; j < end; j++) {
            uint32_t bits;
            memcpy(&bits, &x[j], sizeof bits);
            bad |= (bits & 0x7fffffffu) >= 0x7f800000u;
        }
        for (int64_t j = i; bad && j < end; j++) {
            if (!isfinite(x[j])) return j;
        }
    }
    return -1;
}

/* In pieces of about a million numbers, between which it looks whether to stop. */
static lp_status read_tensor(const lp_model* m, const char* gguf_name, bool rotary, lp_tensor to) {
    const lp__gguf_tensor* tensor;
    const int64_t cols = to->cols;
    lp_status status = lp__gguf_tensor_get(m->gguf, gguf_name, to->rows, cols, &tensor);
    for (int64_t i = 0, n; status == LP_OK && i < to->rows; i += n) {
        float* x = lp_f32(to) + i * cols;
        n = LP__MIN(LP__MAX((1 << 20) / cols, 1), to->rows - i);
        status = stopped(m->ctx);
        if (status == LP_OK) status = lp__gguf_rows(m->gguf, tensor, i, n, x);
        const int64_t bad = status == LP_OK ? first_bad(x, n * cols) : -1;
        if (bad >= 0)
            status = lp_fail(m->ctx, LP_FORMAT,
                             "%s: tensor \"%s\" has %s at [%lld, %lld]: the file is damaged, or "
                             "its training has "
                             "diverged",
                             m->gguf->path, gguf_name, isnan(x[bad]) ? "a NaN" : "an infinity",
                             (long long)(i + bad / cols), (long long)(bad % cols));
    }
    if (status == LP_OK && rotary)
        status = unrotate(m->ctx, to->rows, cols, m->shape.head_dim, lp_f32(to));
    return status;
}

/* Every tensor of the file that is of no use is a sign that the model is not what it seems. */
static lp_status check_count(const lp_model* m) {
    const int64_t want = m->shape.layers * BLOCK_ROWS + 2 + !m->shape.tied;
    if (m->gguf->tensor_count == want) return LP_OK;
    return lp_fail(m->ctx, LP_UNSUPPORTED,
                   "%s: %lld tensors, but a Llama model of %lld layers without biases has %lld",
                   m->gguf->path, (long long)m->gguf->tensor_count, (long long)m->shape.layers,
                   (long long)want);
}

/* Shapes are compared with the file when it is opened, so that a claim in the metadata costs
 * nothing. */
static lp_status check_shapes(const lp_model* m) {
    const lp_model_shape* s = &m->shape;
    const lp__gguf_tensor* found;
    lp_status status =
        lp__gguf_tensor_get(m->gguf, "token_embd.weight", s->vocab, s->width, &found);
    if (status == LP_OK && !s->tied)
        status = lp__gguf_tensor_get(m->gguf, "output.weight", s->vocab, s->width, &found);
    if (status == LP_OK)
        status = lp__gguf_tensor_get(m->gguf, "output_norm.weight", 1, s->width, &found);
    for (int64_t layer = 0; status == LP_OK && layer < s->layers; layer++) {
        for (int i = 0; status == LP_OK && i < BLOCK_ROWS; i++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)layer,
                     block_table[i].gguf);
            status = lp__gguf_tensor_get(m->gguf, name, side_size(s, block_table[i].rows),
                                         side_size(s, block_table[i].cols), &found);
        }
    }
    return status;
}

lp_status lp__model_check_tensors(const lp_model* m) {
    lp_status status = check_shapes(m);
    return status == LP_OK ? check_count(m) : lp__model_part(m->ctx, status);
}

lp_status lp_model_load_weights(lp_model* m, bool trainable, lp_weights** out) {
    *out = NULL;
    lp_weights* w;
    lp_status status = lp__weights_create(m, trainable, &w);
    if (status != LP_OK) return status;
    status = read_tensor(m, "token_embd.weight", false, w->embedding);
    if (status == LP_OK) status = read_tensor(m, "output_norm.weight", false, w->norm);
    if (status == LP_OK && !m->shape.tied) status = read_tensor(m, "output.weight", false, w->head);
    for (int64_t layer = 0; status == LP_OK && layer < m->shape.layers; layer++) {
        for (int i = 0; status == LP_OK && i < BLOCK_ROWS; i++) {
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "blk.%lld.%s.weight", (long long)layer,
                     block_table[i].gguf);
            status = read_tensor(m, name, block_table[i].rotary,
                                 *block_field(&w->blocks[layer], &block_table[i]));
        }
    }
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

/* ---- writing --------------------------------------------------------------------------------- */

static lp_status save_config(const lp_model* m, const char* folder) {
    const lp_model_shape* s = &m->shape;
    const lp_tokenizer* tokenizer = m->tokenizer;
    json_t* config = json_pack(
        "{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:b, s:b, s:b, "
        "s:s}",
        "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu",
        "hidden_size", (json_int_t)s->width, "intermediate_size", (json_int_t)s->intermediate,
        "num_hidden_layers", (json_int_t)s->layers, "num_attention_heads", (json_int_t)s->heads,
        "num_key_value_heads", (json_int_t)s->kv_heads, "head_dim", (json_int_t)s->head_dim,
        "vocab_size", (json_int_t)s->vocab, "max_position_embeddings", (json_int_t)s->context,
        "rms_norm_eps", s->norm_eps, "rope_theta", s->rope_base, "torch_dtype", "float32",
        "tie_word_embeddings", (int)s->tied, "attention_bias", 0, "mlp_bias", 0,
        "transformers_version", "4.45.2");
    if (config && lp_tokenizer_bos(tokenizer) >= 0)
        json_object_set_new(config, "bos_token_id", json_integer(lp_tokenizer_bos(tokenizer)));
    if (config && lp_tokenizer_eos(tokenizer) >= 0)
        json_object_set_new(config, "eos_token_id", json_integer(lp_tokenizer_eos(tokenizer)));
    char* text = config ? json_dumps(config, JSON_INDENT(2)) : NULL;
    json_decref(config);
    char* path = lp__path(m->ctx, folder, "config.json");
    lp__writer writer;
    lp_status status = text && path ? lp__writer_open(m->ctx, &writer, path)
                                    : lp_fail(m->ctx, LP_NOMEM,
                                              "out of memory while writing %s/config.json", folder);
    if (status == LP_OK) {
        lp__writer_write(&writer, text, strlen(text));
        lp__writer_write(&writer, "\n", 1);
        status = lp__writer_commit(&writer);
    }
    free(text);
    lp__free(m->ctx, path);
    return status;
}

lp_status lp_model_save(const lp_model* m, const lp_weights* w, const char* folder) {
    lp_status status = lp__mkdirs(m->ctx, folder);
    if (status == LP_OK)
        status = lp__params_save_part(w->params, folder, "model.safetensors", "model.", HEAD);
    return status == LP_OK ? save_config(m, folder) : status;
}
