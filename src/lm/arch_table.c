/* The architectures, as data. */
#include "lm/model.h"
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* clang-format off */
#define MODEL(field) offsetof(lp_weights, field)
#define BLOCK(field) offsetof(lp__block, field)
#define MATRIX(hf, gguf, field, rows, cols, when, flags) {hf, gguf, cols, when, flags, 1, {{field, rows, NULL}}}
#define VECTOR(hf, gguf, field, rows, when, flags) {hf, gguf, LP__ONE, when, flags, 1, {{field, rows, NULL}}}

/* ---- Llama, and those that are like it ------------------------------------------------------- */

static const lp__tensor_row llama_rows[] = {
    MATRIX("model.embed_tokens.weight", "token_embd.weight",  MODEL(embedding), LP__VOCAB, LP__WIDTH, 0, 0),
    MATRIX("lm_head.weight",            "output.weight",      MODEL(head),      LP__VOCAB, LP__WIDTH, LP__HEAD, 0),
    VECTOR("model.norm.weight",         "output_norm.weight", MODEL(norm),      LP__WIDTH, 0, 0),
};

static const lp__tensor_row llama_layer_rows[] = {
    VECTOR("input_layernorm.weight",          "attn_norm.weight",   BLOCK(attention_norm), LP__WIDTH, 0, 0),
    MATRIX("self_attn.q_proj.weight",         "attn_q.weight",      BLOCK(q),      LP__Q_WIDTH,  LP__WIDTH, 0, LP__ROTARY),
    VECTOR("self_attn.q_proj.bias",           "attn_q.bias",        BLOCK(q_bias), LP__Q_WIDTH,  LP__QKV_BIAS, LP__ROTARY),
    MATRIX("self_attn.k_proj.weight",         "attn_k.weight",      BLOCK(k),      LP__KV_WIDTH, LP__WIDTH, 0, LP__ROTARY),
    VECTOR("self_attn.k_proj.bias",           "attn_k.bias",        BLOCK(k_bias), LP__KV_WIDTH, LP__QKV_BIAS, LP__ROTARY),
    MATRIX("self_attn.v_proj.weight",         "attn_v.weight",      BLOCK(v),      LP__KV_WIDTH, LP__WIDTH, 0, 0),
    VECTOR("self_attn.v_proj.bias",           "attn_v.bias",        BLOCK(v_bias), LP__KV_WIDTH, LP__QKV_BIAS, 0),
    MATRIX("self_attn.o_proj.weight",         "attn_output.weight", BLOCK(o),      LP__WIDTH, LP__Q_WIDTH, 0, 0),
    VECTOR("self_attn.o_proj.bias",           "attn_output.bias",   BLOCK(o_bias), LP__WIDTH, LP__O_BIAS, 0),
    VECTOR("post_attention_layernorm.weight", "ffn_norm.weight",    BLOCK(mlp_norm), LP__WIDTH, 0, 0),
    MATRIX("mlp.gate_proj.weight",            "ffn_gate.weight",    BLOCK(gate),      LP__INTERMEDIATE, LP__WIDTH, 0, 0),
    VECTOR("mlp.gate_proj.bias",              "ffn_gate.bias",      BLOCK(gate_bias), LP__INTERMEDIATE, LP__MLP_BIAS, 0),
    MATRIX("mlp.up_proj.weight",              "ffn_up.weight",      BLOCK(up),        LP__INTERMEDIATE, LP__WIDTH, 0, 0),
    VECTOR("mlp.up_proj.bias",                "ffn_up.bias",        BLOCK(up_bias),   LP__INTERMEDIATE, LP__MLP_BIAS, 0),
    MATRIX("mlp.down_proj.weight",            "ffn_down.weight",    BLOCK(down),      LP__WIDTH, LP__INTERMEDIATE, 0, 0),
    VECTOR("mlp.down_proj.bias",              "ffn_down.bias",      BLOCK(down_bias), LP__WIDTH, LP__MLP_BIAS, 0),
};

static const char* const llama_sizes[LP__SIZE_KEYS] = {
    [LP__KEY_LAYERS] = "num_hidden_layers", [LP__KEY_WIDTH] = "hidden_size", [LP__KEY_HEADS] = "num_attention_heads",
    [LP__KEY_KV_HEADS] = "num_key_value_heads", [LP__KEY_HEAD_DIM] = "head_dim",
    [LP__KEY_INTERMEDIATE] = "intermediate_size", [LP__KEY_CONTEXT] = "max_position_embeddings",
    [LP__KEY_VOCAB] = "vocab_size",
};

static const lp__rule llama_rules[] = {
    {"hidden_act", LP__MUST_BE_TEXT, {"silu", "swish"}},
    {"sliding_window", LP__MUST_COVER, {NULL}}, /* Mistral's */
    {"partial_rotary_factor", LP__MUST_BE_ONE, {NULL}},
    {"layer_types", LP__MUST_BE_TEXT, {"full_attention"}},
    {"quantization_config", LP__MUST_BE_NULL, {NULL}},
};

static const lp__rule qwen2_rules[] = {
    {"hidden_act", LP__MUST_BE_TEXT, {"silu", "swish"}},
    {"use_sliding_window", LP__MUST_BE_FALSE, {NULL}},
    {"layer_types", LP__MUST_BE_TEXT, {"full_attention"}},
    {"partial_rotary_factor", LP__MUST_BE_ONE, {NULL}},
    {"quantization_config", LP__MUST_BE_NULL, {NULL}},
};

/* ---- GPT-2 ----------------------------------------------------------------------------------- */

static const lp__tensor_row gpt2_rows[] = {
    MATRIX("transformer.wte.weight",  "token_embd.weight",    MODEL(embedding), LP__VOCAB, LP__WIDTH, 0, 0),
    MATRIX("lm_head.weight",          "output.weight",        MODEL(head),      LP__VOCAB, LP__WIDTH, LP__HEAD, 0),
    MATRIX("transformer.wpe.weight",  "position_embd.weight", MODEL(position),  LP__CONTEXT, LP__WIDTH, 0, LP__FULL),
    VECTOR("transformer.ln_f.weight", "output_norm.weight",   MODEL(norm),      LP__WIDTH, 0, 0),
    VECTOR("transformer.ln_f.bias",   "output_norm.bias",     MODEL(norm_bias), LP__WIDTH, 0, 0),
};

static const lp__tensor_row gpt2_layer_rows[] = {
    VECTOR("ln_1.weight", "attn_norm.weight", BLOCK(attention_norm), LP__WIDTH, 0, 0),
    VECTOR("ln_1.bias",   "attn_norm.bias",   BLOCK(attention_norm_bias), LP__WIDTH, 0, 0),
    {"attn.c_attn.weight", "attn_qkv.weight", LP__WIDTH, 0, LP__CONV1D, 3,
     {{BLOCK(q), LP__Q_WIDTH, "attn.c_attn.q.weight"}, {BLOCK(k), LP__KV_WIDTH, "attn.c_attn.k.weight"},
      {BLOCK(v), LP__KV_WIDTH, "attn.c_attn.v.weight"}}},
    {"attn.c_attn.bias", "attn_qkv.bias", LP__ONE, 0, 0, 3,
     {{BLOCK(q_bias), LP__Q_WIDTH, "attn.c_attn.q.bias"}, {BLOCK(k_bias), LP__KV_WIDTH, "attn.c_attn.k.bias"},
      {BLOCK(v_bias), LP__KV_WIDTH, "attn.c_attn.v.bias"}}},
    MATRIX("attn.c_proj.weight", "attn_output.weight", BLOCK(o), LP__WIDTH, LP__Q_WIDTH, 0, LP__CONV1D),
    VECTOR("attn.c_proj.bias",   "attn_output.bias",   BLOCK(o_bias), LP__WIDTH, 0, 0),
    VECTOR("ln_2.weight",        "ffn_norm.weight",    BLOCK(mlp_norm), LP__WIDTH, 0, 0),
    VECTOR("ln_2.bias",          "ffn_norm.bias",      BLOCK(mlp_norm_bias), LP__WIDTH, 0, 0),
    MATRIX("mlp.c_fc.weight",    "ffn_up.weight",      BLOCK(up), LP__INTERMEDIATE, LP__WIDTH, 0, LP__CONV1D),
    VECTOR("mlp.c_fc.bias",      "ffn_up.bias",        BLOCK(up_bias), LP__INTERMEDIATE, 0, 0),
    MATRIX("mlp.c_proj.weight",  "ffn_down.weight",    BLOCK(down), LP__WIDTH, LP__INTERMEDIATE, 0, LP__CONV1D),
    VECTOR("mlp.c_proj.bias",    "ffn_down.bias",      BLOCK(down_bias), LP__WIDTH, 0, 0),
};

static const char* const gpt2_sizes[LP__SIZE_KEYS] = {
    [LP__KEY_LAYERS] = "n_layer", [LP__KEY_WIDTH] = "n_embd", [LP__KEY_HEADS] = "n_head",
    [LP__KEY_INTERMEDIATE] = "n_inner", [LP__KEY_CONTEXT] = "n_positions", [LP__KEY_VOCAB] = "vocab_size",
};

static const lp__rule gpt2_rules[] = {
    {"activation_function", LP__MUST_BE_TEXT, {"gelu_new", "gelu_pytorch_tanh"}},
    {"scale_attn_weights", LP__MUST_BE_TRUE, {NULL}},
    {"scale_attn_by_inverse_layer_idx", LP__MUST_BE_FALSE, {NULL}},
    {"add_cross_attention", LP__MUST_BE_FALSE, {NULL}},
    {"quantization_config", LP__MUST_BE_NULL, {NULL}},
};

#define ROWS(name) .rows = name##_rows, .row_count = sizeof name##_rows / sizeof *name##_rows, \
    .layer_rows = name##_layer_rows, .layer_row_count = sizeof name##_layer_rows / sizeof *name##_layer_rows
#define RULES(name) .rules = name##_rules, .rule_count = sizeof name##_rules / sizeof *name##_rules
/* RMSNorm, rotary positions, SwiGLU, and the names that Llama gave them */
#define LIKE_LLAMA \
    ROWS(llama), .hf_size = llama_sizes, .hf_eps = "rms_norm_eps", .gguf_eps = "attention.layer_norm_rms_epsilon", \
    .default_eps = 1e-6, .hf_activation = "hidden_act", .activation = "silu", .norm = LP__NORM_RMS, \
    .mlp = LP__MLP_SWIGLU, .rotary = true, .hf_prefix = "model.", .hf_layers = "model.layers.", \
    .ignored = {".rotary_emb.inv_freq"}

static const lp__arch architectures[] = {
    {.name = "llama", .title = "Llama", .model_types = {"llama", "mistral"}, .class_name = "LlamaForCausalLM",
     LIKE_LLAMA, RULES(llama), .gguf_pairs = true, .default_context = 2048,
     .hf_qkv_bias = "attention_bias", .hf_o_bias = "attention_bias", .hf_mlp_bias = "mlp_bias"},
    {.name = "qwen2", .title = "Qwen2", .model_types = {"qwen2"}, .class_name = "Qwen2ForCausalLM",
     LIKE_LLAMA, RULES(qwen2), .default_context = 32768, .options = LP__QKV_BIAS},
    {.name = "gpt2", .title = "GPT-2", .model_types = {"gpt2"}, .class_name = "GPT2LMHeadModel",
     ROWS(gpt2), RULES(gpt2), .hf_size = gpt2_sizes, .hf_eps = "layer_norm_epsilon",
     .gguf_eps = "attention.layer_norm_epsilon", .default_eps = 1e-5, .default_context = 1024,
     .default_intermediate = 4, .hf_activation = "activation_function", .activation = "gelu_new",
     .default_tied = true, .norm = LP__NORM_LAYER, .mlp = LP__MLP_GELU_TANH, .hf_prefix = "transformer.",
     .hf_layers = "transformer.h.", .ignored = {".attn.bias", ".attn.masked_bias"}},
};
/* clang-format on */
enum { ARCHITECTURES = sizeof architectures / sizeof *architectures };

/* ---- looking up ------------------------------------------------------------------------------ */

const lp__arch* lp__arch_of_gguf(const char* name) {
    for (int i = 0; i < ARCHITECTURES; i++) {
        if (strcmp(architectures[i].name, name) == 0) return &architectures[i];
    }
    return NULL;
}

const lp__arch* lp__arch_of_hf(const char* model_type) {
    for (int i = 0; i < ARCHITECTURES; i++) {
        for (const char* const* type = architectures[i].model_types; *type; type++) {
            if (strcmp(*type, model_type) == 0) return &architectures[i];
        }
    }
    return NULL;
}

const char* lp__arch_names(void) { return "llama (mistral), qwen2, gpt2"; }

int64_t lp__extent_of(const lp_model_shape* s, lp__extent side) {
    switch (side) {
    case LP__ONE: return 1;
    case LP__WIDTH: return s->width;
    case LP__INTERMEDIATE: return s->intermediate;
    case LP__Q_WIDTH: return s->heads * s->head_dim;
    case LP__KV_WIDTH: return s->kv_heads * s->head_dim;
    case LP__VOCAB: return s->vocab;
    case LP__CONTEXT: return s->context;
    }
    return 0;
}

int64_t* lp__size_of(lp_model_shape* s, lp__size_key key) {
    int64_t* const sizes[LP__SIZE_KEYS] = {
        [LP__KEY_LAYERS] = &s->layers,     [LP__KEY_WIDTH] = &s->width,
        [LP__KEY_HEADS] = &s->heads,       [LP__KEY_KV_HEADS] = &s->kv_heads,
        [LP__KEY_HEAD_DIM] = &s->head_dim, [LP__KEY_INTERMEDIATE] = &s->intermediate,
        [LP__KEY_CONTEXT] = &s->context,   [LP__KEY_VOCAB] = &s->vocab};
    return sizes[key];
}

/* ---- walking --------------------------------------------------------------------------------- */

lp__slot lp__slots(const lp_model* model) { return (lp__slot){.model = model, .layer = -1}; }

static void measure(lp__slot* slot) {
    const lp_model_shape* s = &slot->model->shape;
    const lp__tensor_row* row = slot->row;
    int64_t rows = 0;
    for (int i = 0; i < row->parts; i++) {
        slot->part_rows[i] = lp__extent_of(s, row->part[i].rows);
        rows += slot->part_rows[i];
    }
    slot->vector = row->cols == LP__ONE;
    slot->rows = slot->vector ? 1 : rows;
    slot->cols = slot->vector ? rows : lp__extent_of(s, row->cols);
}

static void name(lp__slot* slot) {
    const lp__arch* arch = slot->model->arch;
    const lp__tensor_row* row = slot->row;
    if (slot->layer < 0) {
        snprintf(slot->hf, sizeof slot->hf, "%s", row->hf);
        snprintf(slot->gguf, sizeof slot->gguf, "%s", row->gguf);
    } else {
        const long long layer = slot->layer;
        snprintf(slot->hf, sizeof slot->hf, "%s%lld.%s", arch->hf_layers, layer, row->hf);
        snprintf(slot->gguf, sizeof slot->gguf, "blk.%lld.%s", layer, row->gguf);
    }
}

bool lp__slot_next(lp__slot* slot) {
    const lp__arch* arch = slot->model->arch;
    for (;;) {
        const bool global = slot->layer < 0;
        if (slot->next == (global ? arch->row_count : arch->layer_row_count)) {
            if (++slot->layer == slot->model->shape.layers) return false;
            slot->next = 0;
            continue;
        }
        slot->row = (global ? arch->rows : arch->layer_rows) + slot->next++;
        if (slot->row->when == 0 || (slot->row->when & slot->model->options)) break;
    }
    measure(slot);
    name(slot);
    return true;
}

void lp__slot_own(const lp__slot* slot, int part, char to[LP__NAME_BYTES]) {
    const char* own = slot->row->part[part].own;
    if (own) {
        snprintf(to, LP__NAME_BYTES, "%s%lld.%s", slot->model->arch->hf_layers,
                 (long long)slot->layer, own);
    } else {
        memcpy(to, slot->hf, LP__NAME_BYTES);
    }
}

lp_tensor* lp__slot_field(const lp__slot* slot, lp_weights* w, int part) {
    char* base = slot->layer < 0 ? (char*)w : (char*)&w->blocks[slot->layer];
    return (lp_tensor*)(void*)(base + slot->row->part[part].field);
}
