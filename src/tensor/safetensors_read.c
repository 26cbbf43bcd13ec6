/* Reading safetensors: a file and what it has. */
#include "tensor/safetensors.h"
#include <stddef.h>
#include <stdlib.h>

enum { HEADER_LIMIT = 100000000 }; /* bytes; the reference implementation's */

static lp_status malformed(const lp__safetensors* f, const char* what) {
    return lp_fail(f->ctx, LP_FORMAT, "%s: %s: this is no whole safetensors file", f->path, what);
}

static lp_status take(const lp__safetensors* f, const uint8_t* memory, void* to, size_t bytes,
                      uint64_t at) {
    if (!memory) return lp__file_read(f->ctx, f->fd, f->path, to, bytes, at);
    if (bytes > 0) memcpy(to, memory + at, bytes);
    return LP_OK;
}

/* memory: NULL for a file. */
static lp_status read_header(lp__safetensors* f, const uint8_t* memory) {
    uint8_t prefix[8];
    if (f->size < sizeof prefix) return malformed(f, "it is too short");
    lp_status status = take(f, memory, prefix, sizeof prefix, 0);
    if (status != LP_OK) return status;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    if (length > f->size - sizeof prefix || length > HEADER_LIMIT)
        return malformed(f, "its header has an impossible length");
    f->header = lp__alloc(f->ctx, (size_t)length);
    if (!f->header) return LP_NOMEM;
    f->data = sizeof prefix + length;
    status = take(f, memory, f->header, (size_t)length, sizeof prefix);
    return status == LP_OK ? lp__safetensors_read_header(f, f->header, (size_t)length) : status;
}

static void close_file(lp__owned* owned) {
    const lp__safetensors* f =
        (lp__safetensors*)(void*)((char*)owned - offsetof(lp__safetensors, open_file));
    lp__file_close(f->ctx, f->fd);
}

static lp__safetensors* blank(lp_ctx* ctx, const char* path) {
    lp__safetensors* f = lp__calloc(ctx, 1, sizeof *f);
    if (!f) return NULL;
    f->ctx = ctx;
    f->fd = -1;
    f->path = lp__strdup(ctx, path, strlen(path));
    if (f->path) return f;
    lp__free(ctx, f);
    return NULL;
}

static lp_status finish(lp__safetensors* f, lp_status status, lp__safetensors** out) {
    if (status == LP_OK) {
        *out = f;
    } else {
        lp__safetensors_close(f);
    }
    return status;
}

lp_status lp__safetensors_open(lp_ctx* ctx, const char* path, lp__safetensors** out) {
    *out = NULL;
    lp__safetensors* f = blank(ctx, path);
    if (!f) return LP_NOMEM;
    int fd;
    lp_status status = lp__file_open(ctx, path, &fd, &f->size);
    if (status == LP_OK) {
        f->fd = fd;
        lp__own(ctx, &f->open_file, close_file);
        status = read_header(f, NULL);
    }
    return finish(f, status, out);
}

lp_status lp__safetensors_parse(lp_ctx* ctx, const void* bytes, size_t n, lp__safetensors** out) {
    *out = NULL;
    lp__safetensors* f = blank(ctx, "(memory)");
    if (!f) return LP_NOMEM;
    f->size = n;
    return finish(f, read_header(f, n > 0 ? bytes : (const void*)""), out);
}

void lp__safetensors_close(lp__safetensors* f) {
    if (!f) return;
    if (f->fd >= 0) {
        lp__disown(f->ctx, &f->open_file);
        lp__file_close(f->ctx, f->fd);
    }
    lp__free(f->ctx, f->entries);
    lp__free(f->ctx, (void*)f->metadata);
    lp__free(f->ctx, f->header);
    lp__free(f->ctx, f->path);
    lp__free(f->ctx, f);
}

/* ---- what it has ----------------------------------------------------------------------------- */

static int key_is(const void* key, const void* pair) {
    return strcmp(key, *(const char* const*)pair);
}

const char* lp__safetensors_metadata(const lp__safetensors* f, const char* key) {
    if (!f->metadata) return NULL;
    const char* const* pair = bsearch(key, (const void*)f->metadata, (size_t)f->metadata_count,
                                      2 * sizeof *f->metadata, key_is);
    return pair ? pair[1] : NULL;
}

static int name_is(const void* name, const void* entry) {
    return strcmp(name, ((const lp__safetensors_entry*)entry)->name);
}

const lp__safetensors_entry* lp__safetensors_find(const lp__safetensors* f, const char* name) {
    return bsearch(name, f->entries, (size_t)f->count, sizeof *f->entries, name_is);
}

int64_t lp__safetensors_count(const lp__safetensors* f) { return f->count; }

static lp_status get(const lp__safetensors* f, const char* name,
                     const lp__safetensors_entry** out) {
    const lp__safetensors_entry* e = *out = lp__safetensors_find(f, name);
    if (!e) return lp_fail(f->ctx, LP_FORMAT, "%s: there is no tensor %s", f->path, name);
    if (e->dims == 1 || e->dims == 2) return LP_OK;
    return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s is no vector and no matrix", f->path, name);
}

lp_status lp__safetensors_shape(const lp__safetensors* f, const char* name, int64_t* rows,
                                int64_t* cols) {
    const lp__safetensors_entry* e;
    lp_status status = get(f, name, &e);
    if (status != LP_OK) return status;
    *rows = e->rows;
    *cols = e->cols;
    return LP_OK;
}

lp_status lp__safetensors_read(const lp__safetensors* f, const char* name, lp_tensor to) {
    const lp__safetensors_entry* e;
    lp_status status = get(f, name, &e);
    if (status != LP_OK) return status;
    if (e->dtype != LP__SAFETENSORS_F32)
        return lp_fail(f->ctx, LP_UNSUPPORTED, "%s: tensor %s is of type %s, not F32", f->path,
                       name, lp__safetensors_dtype_name(e->dtype));
    if (e->rows != to->rows || e->cols != to->cols)
        return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s is %lld x %lld, not %lld x %lld", f->path,
                       name, (long long)e->rows, (long long)e->cols, (long long)to->rows,
                       (long long)to->cols);
    return lp__file_read(f->ctx, f->fd, f->path, lp_f32(to), (size_t)(e->end - e->begin), e->begin);
}
