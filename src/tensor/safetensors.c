/* Writing safetensors: an 8-byte length, a JSON header padded with spaces, then the numbers.
 * Tensors stand in order of their names, as the reference implementation sorts those of one type,
 * so that equal sets give equal files. */
#include "tensor/safetensors.h"
#include <jansson.h>
#include <stdlib.h>

static int by_name(const void* a, const void* b) {
    return strcmp(((const lp__safetensors_out*)a)->name, ((const lp__safetensors_out*)b)->name);
}

static uint64_t out_bytes(const lp__safetensors_out* e) {
    static const uint8_t bits[] = {
#define BITS(name, bits) bits,
        LP__SAFETENSORS_DTYPE_MAP(BITS)
#undef BITS
    };
    return (uint64_t)(e->rows * e->cols) * bits[e->dtype] / 8;
}

/* {"name": {"dtype": "F32", "shape": [..], "data_offsets": [from, to]}, "__metadata__": {..}};
 * NULL: no memory. */
static json_t* header_json(const lp__safetensors_out* entries, int64_t n,
                           const char* const* metadata) {
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
        const lp__safetensors_out* e = &entries[i];
        json_t* shape = e->dims == 1 ? json_pack("[I]", (json_int_t)e->cols)
                                     : json_pack("[II]", (json_int_t)e->rows, (json_int_t)e->cols);
        const uint64_t end = at + out_bytes(e);
        bad |= json_object_set_new(root, e->name,
                                   json_pack("{s:s, s:o, s:[II]}", "dtype",
                                             lp__safetensors_dtype_name(e->dtype), "shape", shape,
                                             "data_offsets", (json_int_t)at, (json_int_t)end));
        at = end;
    }
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

typedef lp_status (*put_fn)(void* user, const lp__safetensors_out* tensor, lp__writer* writer);

static lp_status write_file(lp_ctx* ctx, const char* path, const lp__safetensors_out* entries,
                            int64_t n, const char* header, put_fn put, void* user) {
    lp__writer writer;
    lp_status status = lp__writer_open(ctx, &writer, path);
    if (status != LP_OK) return status;
    const size_t length = strlen(header), padded = (length + 7) / 8 * 8;
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    lp__writer_write(&writer, prefix, sizeof prefix);
    lp__writer_write(&writer, header, length);
    lp__writer_write(&writer, "        ", padded - length);
    for (int64_t i = 0; status == LP_OK && i < n; i++) status = put(user, &entries[i], &writer);
    if (status == LP_OK) return lp__writer_commit(&writer);
    if (writer.status == LP_OK) lp__writer_abort(&writer); /* put failed, not the writer */
    return status;
}

lp_status lp__safetensors_write(lp_ctx* ctx, const char* path, lp__safetensors_out* tensors,
                                int64_t n, const char* const* metadata, put_fn put, void* user) {
    qsort(tensors, (size_t)n, sizeof *tensors, by_name);
    json_t* root = header_json(tensors, n, metadata);
    char* header = root ? json_dumps(root, JSON_COMPACT) : NULL;
    json_decref(root);
    lp_status status = header ? write_file(ctx, path, tensors, n, header, put, user)
                              : lp_fail(ctx, LP_NOMEM, "out of memory while writing %s", path);
    free(header);
    return status;
}

/* ---- parameter sets -------------------------------------------------------------------------- */

/* A parameter [1, n] whose name ends in norm.weight or bias is a vector and gets the shape [n]. */
static bool is_vector(const char* name, lp_tensor x) {
    const size_t length = strlen(name);
    return x->rows == 1 && ((length >= 11 && strcmp(name + length - 11, "norm.weight") == 0) ||
                            (length >= 4 && strcmp(name + length - 4, "bias") == 0));
}

static lp_status put_parameter(void* user, const lp__safetensors_out* out, lp__writer* writer) {
    const lp_params* params = user;
    return lp__writer_write(writer, lp_params_get(params, out->index)->data,
                            (size_t)out_bytes(out));
}

lp_status lp_params_save(const lp_params* params, const char* path, const char* const* names,
                         const char* const* metadata) {
    lp_ctx* ctx = params->ctx;
    const int64_t count = lp_params_count(params);
    lp__safetensors_out* out = lp__alloc(ctx, (size_t)count * sizeof *out);
    if (!out) return LP_NOMEM;
    int64_t n = 0;
    for (int64_t i = 0; i < count; i++) {
        const char* name = names ? names[i] : lp_params_name(params, i);
        if (!name) continue;
        lp_tensor x = lp_params_get(params, i);
        out[n++] =
            (lp__safetensors_out){name,
                                  x->type == LP_F64 ? LP__SAFETENSORS_F64 : LP__SAFETENSORS_F32,
                                  is_vector(name, x) ? 1 : 2,
                                  x->rows,
                                  x->cols,
                                  i};
    }
    lp_status status =
        lp__safetensors_write(ctx, path, out, n, metadata, put_parameter, (void*)(uintptr_t)params);
    lp__free(ctx, out);
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
