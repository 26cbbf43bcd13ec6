/* Writing a model as a GGUF file, version 3. */
#include "lm/save.h"
#include "text/tokenizer.h"
#include <stdio.h>
#include <string.h>

enum { ALIGNMENT = 32, KEY_BYTES = 96 };

/* Metadata, then the directory of tensors: all in front of the numbers. */
typedef struct head {
    const lp__saving* saving;
    lp_text text;
    uint64_t keys, tensors;
    uint64_t at; /* where the next tensor begins, behind the directory */
    lp_status status;
} head;

static void put(head* h, const void* bytes, size_t n) {
    if (h->status == LP_OK) h->status = lp_text_add(h->saving->model->ctx, &h->text, bytes, n);
}
static void put_u32(head* h, uint32_t x) { put(h, &x, sizeof x); }
static void put_u64(head* h, uint64_t x) { put(h, &x, sizeof x); }
static void put_string(head* h, const char* text, size_t bytes) {
    put_u64(h, bytes);
    put(h, text, bytes);
}

/* ---- metadata: a name that begins with "." has the architecture's before it ------------------ */

static void put_key(head* h, const char* name, uint32_t type) {
    char key[KEY_BYTES];
    snprintf(key, sizeof key, "%s%s", *name == '.' ? h->saving->model->arch->name : "", name);
    put_string(h, key, strlen(key));
    put_u32(h, type);
    h->keys++;
}

static void key_u32(head* h, const char* name, int64_t value) {
    put_key(h, name, LP__GGUF_U32);
    put_u32(h, (uint32_t)value);
}
static void key_f32(head* h, const char* name, double value) {
    const float x = (float)value;
    put_key(h, name, LP__GGUF_F32);
    put(h, &x, sizeof x);
}
static void key_bool(head* h, const char* name, bool value) {
    put_key(h, name, LP__GGUF_BOOL);
    put(h, value ? "\1" : "\0", 1);
}
static void key_string(head* h, const char* name, const char* value) {
    put_key(h, name, LP__GGUF_STRING);
    put_string(h, value, strlen(value));
}
static void key_array(head* h, const char* name, uint32_t element, int64_t count) {
    put_key(h, name, LP__GGUF_ARRAY);
    put_u32(h, element);
    put_u64(h, (uint64_t)count);
}

static void put_shape(head* h) {
    const lp_model* m = h->saving->model;
    const lp_model_shape* s = &m->shape;
    key_string(h, "general.architecture", m->arch->name);
    if (*s->name) key_string(h, "general.name", s->name);
    /* the numbers of LLAMA_FTYPE_ALL_F32, MOSTLY_F16 and MOSTLY_BF16 */
    static const uint32_t types[] = {[LP_FILE_F32] = 0, [LP_FILE_F16] = 1, [LP_FILE_BF16] = 32};
    key_u32(h, "general.file_type", types[h->saving->type]);
    key_u32(h, ".block_count", s->layers);
    key_u32(h, ".context_length", s->context);
    key_u32(h, ".embedding_length", s->width);
    key_u32(h, ".feed_forward_length", s->intermediate);
    key_u32(h, ".vocab_size", s->vocab);
    key_u32(h, ".attention.head_count", s->heads);
    key_u32(h, ".attention.head_count_kv", s->kv_heads);
    key_u32(h, ".attention.key_length", s->head_dim);
    key_u32(h, ".attention.value_length", s->head_dim);
    char eps[KEY_BYTES];
    snprintf(eps, sizeof eps, ".%s", m->arch->gguf_eps);
    key_f32(h, eps, s->norm_eps);
    if (!m->arch->rotary) return;
    key_u32(h, ".rope.dimension_count", s->head_dim);
    key_f32(h, ".rope.freq_base", s->rope_base);
    if (m->rope.kind == LP__ROPE_LINEAR) {
        key_string(h, ".rope.scaling.type", "linear");
        key_f32(h, ".rope.scaling.factor", m->rope.factor);
    }
}

static void key_id(head* h, const char* name, int32_t id) {
    if (id >= 0) key_u32(h, name, id);
}

/* Rows of the embedding that no token has are unused tokens. */
static void put_tokens(head* h, const lp_tokenizer* t, int64_t vocab) {
    const int32_t size = lp_tokenizer_size(t);
    key_array(h, "tokenizer.ggml.tokens", LP__GGUF_STRING, vocab);
    for (int32_t i = 0; i < vocab; i++) {
        char spare[32];
        const char* text = i < size ? lp_tokenizer_spelling(t, i) : "";
        if (!*text) {
            snprintf(spare, sizeof spare, "[PAD%d]", (int)i);
            text = spare;
        }
        put_string(h, text, strlen(text));
    }
    key_array(h, "tokenizer.ggml.token_type", LP__GGUF_I32, vocab);
    for (int32_t i = 0; i < vocab; i++) {
        int kind = i < size ? lp__tokenizer_kind(t, i) : LP__TOKEN_UNUSED;
        if (kind == LP__TOKEN_UNDEFINED) kind = LP__TOKEN_UNUSED;
        put_u32(h, (uint32_t)kind);
    }
}

static void put_merges(head* h, const lp_tokenizer* t) {
    const int64_t n = lp__tokenizer_merge_count(t);
    lp__string left, right;
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) kept += lp__tokenizer_merge(t, i, &left, &right);
    key_array(h, "tokenizer.ggml.merges", LP__GGUF_STRING, kept);
    for (int64_t i = 0; i < n; i++) {
        if (!lp__tokenizer_merge(t, i, &left, &right)) continue;
        put_u64(h, left.bytes + 1 + right.bytes);
        put(h, left.data, left.bytes);
        put(h, " ", 1);
        put(h, right.data, right.bytes);
    }
}

static void put_tokenizer(head* h) {
    const lp_model* m = h->saving->model;
    const lp_tokenizer* t = m->tokenizer;
    const char* pre = lp__tokenizer_pre(t);
    if (!pre) {
        h->status =
            lp_fail(m->ctx, LP_UNSUPPORTED,
                    "%s: GGUF has no name for the pre-tokenizer of this model", m->source->path);
        return;
    }
    key_string(h, "tokenizer.ggml.model", "gpt2");
    key_string(h, "tokenizer.ggml.pre", pre);
    put_tokens(h, t, m->shape.vocab);
    put_merges(h, t);
    key_id(h, "tokenizer.ggml.bos_token_id", t->bos);
    key_id(h, "tokenizer.ggml.eos_token_id", t->eos);
    key_id(h, "tokenizer.ggml.eot_token_id", t->eot);
    key_id(h, "tokenizer.ggml.padding_token_id", t->pad);
    key_id(h, "tokenizer.ggml.unknown_token_id", t->unk);
    key_bool(h, "tokenizer.ggml.add_bos_token", t->add_bos);
    key_bool(h, "tokenizer.ggml.add_eos_token", t->add_eos);
    const char* chat = lp__tokenizer_chat_template(t);
    if (chat) key_string(h, "tokenizer.chat_template", chat);
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* Vectors, and what is added to the state as it is, stay fp32. */
static lp_file_type type_of(const lp__saving* s, const lp__slot* slot) {
    return slot->vector || (slot->row->flags & LP__FULL) ? LP_FILE_F32 : s->type;
}

static uint64_t padded(uint64_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void put_tensor(head* h, const char* name, bool vector, int64_t rows, int64_t cols,
                       lp_file_type type) {
    put_string(h, name, strlen(name));
    put_u32(h, vector ? 1 : 2);
    put_u64(h, (uint64_t)cols);
    if (!vector) put_u64(h, (uint64_t)rows);
    put_u32(h, lp__file_type_ggml(type));
    put_u64(h, h->at);
    h->at += padded((uint64_t)(rows * cols) * lp__file_type_bytes(type));
    h->tensors++;
}

static bool has_factors(const lp_model* m) {
    return m->rope.kind == LP__ROPE_LLAMA3 || m->rope.kind == LP__ROPE_FACTORS;
}

static void put_directory(head* h) {
    const lp_model* m = h->saving->model;
    for (lp__slot slot = lp__slots(m); lp__slot_next(&slot);)
        put_tensor(h, slot.gguf, slot.vector, slot.rows, slot.cols, type_of(h->saving, &slot));
    if (has_factors(m))
        put_tensor(h, "rope_freqs.weight", true, 1, m->shape.head_dim / 2, LP_FILE_F32);
}

static void pad(lp__writer* writer, uint64_t bytes) {
    static const char zeros[ALIGNMENT];
    lp__writer_write(writer, zeros, (size_t)(padded(bytes) - bytes));
}

static lp_status put_factors(const lp_model* m, lp__writer* writer) {
    const int64_t n = m->shape.head_dim / 2;
    float* factors = lp__alloc(m->ctx, (size_t)n * sizeof *factors);
    if (!factors) return LP_NOMEM;
    lp__rope_factors(&m->rope, m->shape.head_dim, m->shape.rope_base, factors);
    lp__writer_write(writer, factors, (size_t)n * sizeof *factors);
    pad(writer, (uint64_t)n * sizeof *factors);
    lp__free(m->ctx, factors);
    return writer->status;
}

static lp_status write_all(const head* h, lp__writer* writer) {
    const lp__saving* s = h->saving;
    const uint32_t version = 3;
    lp__writer_write(writer, "GGUF", 4);
    lp__writer_write(writer, &version, sizeof version);
    lp__writer_write(writer, &h->tensors, sizeof h->tensors);
    lp__writer_write(writer, &h->keys, sizeof h->keys);
    lp__writer_write(writer, h->text.data, h->text.bytes);
    pad(writer, writer->written);
    lp_status status = writer->status;
    for (lp__slot slot = lp__slots(s->model); status == LP_OK && lp__slot_next(&slot);) {
        status = lp__save_slot(s, &slot, type_of(s, &slot), writer);
        if (status == LP_OK) pad(writer, writer->written);
        if (status == LP_OK) status = writer->status;
    }
    return status == LP_OK && has_factors(s->model) ? put_factors(s->model, writer) : status;
}

lp_status lp__save_gguf(const lp__saving* s, const char* path) {
    lp_ctx* ctx = s->model->ctx;
    head h = {.saving = s};
    put_shape(&h);
    put_tokenizer(&h);
    put_directory(&h);
    lp__writer writer;
    lp_status status = h.status;
    if (status == LP_OK) status = lp__writer_open(ctx, &writer, path);
    if (status == LP_OK) {
        status = write_all(&h, &writer);
        if (status == LP_OK) {
            status = lp__writer_commit(&writer);
        } else if (writer.status == LP_OK) {
            lp__writer_abort(&writer);
        }
    }
    lp_text_free(ctx, &h.text);
    return status;
}
