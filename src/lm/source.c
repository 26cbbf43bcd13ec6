/* Opening a model's file or folder, and the list of its tensors. */
#include "lm/source.h"
#include "base/file.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_LIMIT = 1 << 20 };

/* ---- what a path is -------------------------------------------------------------------------- */

static bool is_folder(lp_ctx* ctx, const char* path) {
    const int fd = lp__file_open_raw(ctx, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0) lp__file_close(ctx, fd);
    return fd >= 0;
}

#define PICKLE                                                                                     \
    "refused: it is, or may contain, a Python pickle, which can run code; convert it to "          \
    "safetensors with transformers: model.save_pretrained(FOLDER)"

/* Files that are no GGUF, by their first bytes. */
static lp_status refuse_kind(lp_ctx* ctx, const char* path, const uint8_t* head, size_t n) {
    static const struct {
        const char* magic;
        size_t bytes, at;
        const char* said;
    } kinds[] = {
        {"PK\3\4", 4, 0, PICKLE},
        {"PK\5\6", 4, 0, PICKLE},
        {"\x80\x02", 2, 0, PICKLE},
        {"\x80\x03", 2, 0, PICKLE},
        {"\x80\x04", 2, 0, PICKLE},
        {"\x80\x05", 2, 0, PICKLE},
        {"\x89HDF\r\n\x1a\n", 8, 0, "refused: an HDF5 file; convert it to safetensors"},
        {"\x93NUMPY", 6, 0, "a NumPy array, no model"},
        {"{\"", 2, 8, "a safetensors file alone: name the folder that it and config.json are in"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (n >= kinds[i].at + kinds[i].bytes &&
            memcmp(head + kinds[i].at, kinds[i].magic, kinds[i].bytes) == 0)
            return lp_fail(ctx, LP_UNSUPPORTED, "%s: %s", path, kinds[i].said);
    }
    return LP_OK;
}

static lp_status check_kind(lp_ctx* ctx, const char* path) {
    int fd;
    uint64_t size;
    uint8_t head[16];
    lp_status status = lp__file_open(ctx, path, &fd, &size);
    if (status != LP_OK) return status;
    const size_t n = (size_t)LP__MIN(size, (uint64_t)sizeof head);
    status = lp__file_read(ctx, fd, path, head, n, 0);
    lp__file_close(ctx, fd);
    return status == LP_OK ? refuse_kind(ctx, path, head, n) : status;
}

/* ---- a folder -------------------------------------------------------------------------------- */

static lp_status slurp(const lp__source* s, const char* name, char** text, size_t* bytes) {
    char* path = lp__path(s->ctx, s->path, name);
    lp_status status = path ? lp__file_slurp(s->ctx, path, CONFIG_LIMIT, text, bytes) : LP_NOMEM;
    lp__free(s->ctx, path);
    return status;
}

static lp_status open_folder(lp__source* s) {
    lp_status status = slurp(s, "config.json", &s->config, &s->config_bytes);
    if (status == LP_NOT_FOUND)
        return lp_fail(s->ctx, LP_FORMAT, "%s: this folder has no config.json: it is no model",
                       s->path);
    if (status == LP_OK) {
        status = slurp(s, "generation_config.json", &s->generation, &s->generation_bytes);
        if (status == LP_NOT_FOUND) status = LP_OK;
    }
    return status == LP_OK ? lp__source_open_shards(s) : status;
}

/* ---- the list -------------------------------------------------------------------------------- */

static uint32_t ggml_type(uint8_t dtype) {
    switch (dtype) {
    case LP__SAFETENSORS_F32: return LP__GGML_F32;
    case LP__SAFETENSORS_F16: return LP__GGML_F16;
    case LP__SAFETENSORS_BF16: return LP__GGML_BF16;
    default: return LP__GGML_OTHER;
    }
}

static lp__stored of_safetensors(const lp__safetensors* f, const lp__safetensors_entry* e) {
    return (lp__stored){.name = e->name,
                        .path = f->path,
                        .fd = f->fd,
                        .type = ggml_type(e->dtype),
                        .type_name = lp__safetensors_dtype_name(e->dtype),
                        .offset = e->begin,
                        .bytes = e->end - e->begin,
                        .dims = e->dims,
                        .rows = e->rows,
                        .cols = e->cols};
}

static lp__stored of_gguf(const lp__gguf* g, const lp__gguf_tensor* t) {
    return (lp__stored){.name = t->name.data,
                        .path = g->path,
                        .fd = g->fd,
                        .type = t->type,
                        .type_name = lp__ggml_type_name(t->type),
                        .offset = t->offset,
                        .bytes = t->bytes,
                        .dims = t->n_dims,
                        .rows = t->rows,
                        .cols = t->cols};
}

static lp_status list(lp__source* s) {
    int64_t count = s->gguf ? s->gguf->tensor_count : 0;
    for (int64_t i = 0; i < s->shard_count; i++) count += s->shards[i]->count;
    s->tensors = lp__alloc(s->ctx, (size_t)count * sizeof *s->tensors);
    if (!s->tensors || lp__names_init(s->ctx, &s->names, (size_t)count)) return LP_NOMEM;
    for (int64_t i = 0; s->gguf && i < count; i++)
        s->tensors[s->tensor_count++] = of_gguf(s->gguf, &s->gguf->tensors[i]);
    for (int64_t i = 0; i < s->shard_count; i++) {
        const lp__safetensors* f = s->shards[i];
        for (int64_t j = 0; j < f->count; j++)
            s->tensors[s->tensor_count++] = of_safetensors(f, &f->entries[j]);
    }
    for (int64_t i = 0; i < count; i++) {
        const lp__stored* t = &s->tensors[i];
        if (!lp__names_add(&s->names, lp__string_of(t->name), i))
            return lp_fail(s->ctx, LP_FORMAT, "%s: tensor \"%.200s\" is in another file too",
                           t->path, t->name);
    }
    return LP_OK;
}

/* The types of the tensors, by how many numbers they have. */
static void list_types(lp__source* s) {
    enum { TYPES = 32 };
    const char* names[TYPES];
    double numbers[TYPES];
    int n = 0;
    for (int64_t i = 0; i < s->tensor_count; i++) {
        const lp__stored* t = &s->tensors[i];
        int k = 0;
        while (k < n && strcmp(names[k], t->type_name) != 0) k++;
        if (k == TYPES) continue;
        if (k == n) {
            names[n] = t->type_name;
            numbers[n++] = 0;
        }
        numbers[k] += (double)t->rows * (double)t->cols;
    }
    size_t at = 0;
    for (int shown = 0; shown < n && at < sizeof s->types; shown++) {
        int most = 0;
        for (int k = 1; k < n; k++) {
            if (numbers[k] > numbers[most]) most = k;
        }
        at += (size_t)snprintf(s->types + at, sizeof s->types - at, "%s%s", shown ? ", " : "",
                               names[most]);
        numbers[most] = -1;
    }
}

lp_status lp__source_open(lp_ctx* ctx, const char* path, lp__source** out) {
    *out = NULL;
    lp__source* s = lp__calloc(ctx, 1, sizeof *s);
    if (!s) return LP_NOMEM;
    s->ctx = ctx;
    s->path = lp__strdup(ctx, path, strlen(path));
    lp_status status = s->path ? LP_OK : LP_NOMEM;
    if (status == LP_OK && is_folder(ctx, path)) {
        status = open_folder(s);
    } else if (status == LP_OK) {
        status = check_kind(ctx, path);
        if (status == LP_OK) status = lp__gguf_open(ctx, path, &s->gguf);
    }
    if (status == LP_OK) status = list(s);
    if (status != LP_OK) {
        lp__source_close(s);
        return status;
    }
    list_types(s);
    *out = s;
    return LP_OK;
}

void lp__source_close(lp__source* s) {
    if (!s) return;
    for (int64_t i = 0; i < s->shard_count; i++) lp__safetensors_close(s->shards[i]);
    lp__gguf_close(s->gguf);
    lp__names_free(&s->names);
    lp__free(s->ctx, s->shards);
    lp__free(s->ctx, s->tensors);
    lp__free(s->ctx, s->config);
    lp__free(s->ctx, s->generation);
    lp__free(s->ctx, s->path);
    lp__free(s->ctx, s);
}

lp__stored* lp__source_find(const lp__source* s, const char* name, const char* prefix) {
    int64_t i = lp__names_find(&s->names, lp__string_of(name));
    const size_t skipped = prefix ? strlen(prefix) : 0;
    if (i < 0 && prefix && strncmp(name, prefix, skipped) == 0)
        i = lp__names_find(&s->names, lp__string_of(name + skipped));
    return i < 0 ? NULL : &s->tensors[i];
}

static lp_status check_length(lp_ctx* ctx, const char* path, int fd, uint64_t size) {
    const lp_io* io = lp__ctx_io(ctx);
    if (io->size(io->user, fd) == (int64_t)size) return LP_OK;
    return lp_fail(ctx, LP_FORMAT, "%s: another program changed the file while it was read", path);
}

lp_status lp__source_unchanged(const lp__source* s) {
    if (s->gguf) return check_length(s->ctx, s->gguf->path, s->gguf->fd, s->gguf->size);
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < s->shard_count; i++)
        status = check_length(s->ctx, s->shards[i]->path, s->shards[i]->fd, s->shards[i]->size);
    return status;
}
