/* Writing safetensors: an 8-byte length, a JSON header padded with spaces, then the numbers.
 * Tensors stand in order of their names, as the reference implementation sorts those of one type,
 * so that equal sets give equal files. */
#include "tensor/params.h"
#include <jansson.h>
#include <stdlib.h>

typedef struct entry {
    const char* name;
    lp_tensor x;
} entry;

static int by_name(const void* a, const void* b) {
    return strcmp(((const entry*)a)->name, ((const entry*)b)->name);
}

static uint64_t entry_bytes(const entry* e) {
    return (uint64_t)(e->x->rows * e->x->cols) * lp__dtype_bytes(e->x->type);
}

/* {"name": {"dtype": "F32", "shape": [..], "data_offsets": [from, to]}, "__metadata__": {..}};
 * NULL: no memory. A parameter [1, n] whose name ends in norm.weight or bias is a vector and gets
 * the shape [n]. */
static bool is_vector(const entry* e) {
    const size_t length = strlen(e->name);
    return e->x->rows == 1 &&
           ((length >= 11 && strcmp(e->name + length - 11, "norm.weight") == 0) ||
            (length >= 4 && strcmp(e->name + length - 4, "bias") == 0));
}

static json_t* header_json(const entry* entries, int64_t n, const char* const* metadata) {
    json_t* root = json_object();
    int bad = root == NULL;
    if (metadata && metadata[0]) {
        json_t* meta = json_object();
        for (int64_t i = 0; metadata[i]; i += 2)
            bad |= json_object_set_new(meta, metadata[i], json_string(metadata[i + 1]));
        bad |= json_object_set_new(root, "__metadata__", meta);
    }
    uint64_t at = 0;
    for (int64_t i = 0; i < n && !bad; i++) {
        const entry* e = &entries[i];
        json_t* shape = is_vector(e)
                            ? json_pack("[I]", (json_int_t)e->x->cols)
                            : json_pack("[II]", (json_int_t)e->x->rows, (json_int_t)e->x->cols);
        const uint64_t end = at + entry_bytes(e);
        bad |= json_object_set_new(root, e->name,
                                   json_pack("{s:s, s:o, s:[II]}", "dtype",
                                             e->x->type == LP_F64 ? "F64" : "F32", "shape", shape,
                                             "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

static lp_status write_file(lp_ctx* ctx, const char* path, const entry* entries, int64_t n,
                            const char* header) {
    lp__writer writer;
    lp_status status = lp__writer_open(ctx, &writer, path);
    if (status != LP_OK) return status;
    const size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    lp__writer_write(&writer, prefix, sizeof prefix);
    lp__writer_write(&writer, header, length);
    lp__writer_write(&writer, "        ", padded - length);
    for (int64_t i = 0; i < n; i++)
        lp__writer_write(&writer, entries[i].x->data, (size_t)entry_bytes(&entries[i]));
    return lp__writer_commit(&writer);
}

lp_status lp_params_save(const lp_params* params, const char* path, const char* const* names,
                         const char* const* metadata) {
    lp_ctx* ctx = params->ctx;
    const int64_t count = lp_params_count(params);
    entry* entries = lp__alloc(ctx, (size_t)count * sizeof *entries);
    if (!entries) return LP_NOMEM;
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const char* name = names ? names[i] : lp_params_name(params, i);
        if (name) entries[n++] = (entry){name, lp_params_get(params, i)};
    }
    qsort(entries, (size_t)n, sizeof *entries, by_name);
    json_t* root = header_json(entries, n, metadata);
    char* header = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    lp_status status = header ? write_file(ctx, path, entries, n, header)
                              : lp_fail(ctx, LP_NOMEM, "out of memory while writing %s", path);
    free(header);
    lp__free(ctx, entries);
    return status;
}

lp_status lp__params_save_part(const lp_params* params, const char* folder, const char* file,
                               const char* prefix, const char* other) {
    static const char* const metadata[] = {"format", "pt", NULL};
    lp_ctx* ctx = params->ctx;
    const int64_t count = lp_params_count(params);
    char* path = lp__path(ctx, folder, file);
    const char** names = lp__calloc(ctx, (size_t)count, sizeof *names);
    for (int64_t i = 0; names && i < count; i++) {
        const char* name = lp_params_name(params, i);
        if (strncmp(name, prefix, strlen(prefix)) == 0 || (other && strcmp(name, other) == 0))
            names[i] = name;
    }
    lp_status status = path && names ? lp_params_save(params, path, names, metadata) : LP_NOMEM;
    lp__free(ctx, (void*)names);
    lp__free(ctx, path);
    return status;
}
