/* Reading safetensors. */
#include "tensor/safetensors.h"
#include <jansson.h>

enum { HEADER_LIMIT = 100 << 20 }; /* bytes; the reference implementation's */

struct lp__safetensors {
    lp_ctx* ctx;
    char* path;
    int fd;
    uint64_t size, data; /* bytes of the file; where the numbers begin */
    json_t* header;
};

static lp_status malformed(const lp__safetensors* f, const char* what) {
    return lp_fail(f->ctx, LP_FORMAT, "%s: %s: this is no whole safetensors file", f->path, what);
}

/* The last tensor ends where the file does. */
static lp_status check_end(const lp__safetensors* f) {
    json_int_t last = 0;
    const char* name;
    json_t* entry;
    json_object_foreach(f->header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        const json_int_t end =
            json_integer_value(json_array_get(json_object_get(entry, "data_offsets"), 1));
        last = LP__MAX(last, end);
    }
    return last >= 0 && (uint64_t)last == f->size - f->data
               ? LP_OK
               : malformed(f, "it is longer or shorter than its tensors");
}

static lp_status read_header(lp__safetensors* f) {
    uint8_t prefix[8];
    if (f->size < sizeof prefix) return malformed(f, "it is too short");
    lp_status status = lp__file_read(f->ctx, f->fd, f->path, prefix, sizeof prefix, 0);
    if (status != LP_OK) return status;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    if (length > f->size - sizeof prefix || length > HEADER_LIMIT)
        return malformed(f, "its header has an impossible length");
    char* text = lp__alloc(f->ctx, (size_t)length);
    if (!text) return LP_NOMEM;
    status = lp__file_read(f->ctx, f->fd, f->path, text, (size_t)length, sizeof prefix);
    json_error_t error;
    if (status == LP_OK)
        f->header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    lp__free(f->ctx, text);
    if (status == LP_OK && !json_is_object(f->header))
        return malformed(f, "its header is no JSON object");
    f->data = sizeof prefix + length;
    return status == LP_OK ? check_end(f) : status;
}

lp_status lp__safetensors_open(lp_ctx* ctx, const char* path, lp__safetensors** out) {
    *out = NULL;
    lp__safetensors* f = lp__calloc(ctx, 1, sizeof *f);
    if (!f) return LP_NOMEM;
    f->ctx = ctx;
    f->fd = -1;
    f->path = lp__strdup(ctx, path, strlen(path));
    lp_status status = f->path ? lp__file_open(ctx, path, &f->fd, &f->size) : LP_NOMEM;
    if (status == LP_OK) status = read_header(f);
    if (status != LP_OK) {
        lp__safetensors_close(f);
        return status;
    }
    *out = f;
    return LP_OK;
}

void lp__safetensors_close(lp__safetensors* f) {
    if (!f) return;
    if (f->fd >= 0) lp__file_close(f->ctx, f->fd);
    json_decref(f->header);
    lp__free(f->ctx, f->path);
    lp__free(f->ctx, f);
}

const char* lp__safetensors_metadata(const lp__safetensors* f, const char* key) {
    return json_string_value(json_object_get(json_object_get(f->header, "__metadata__"), key));
}

int64_t lp__safetensors_count(const lp__safetensors* f) {
    return (int64_t)json_object_size(f->header) -
           (json_object_get(f->header, "__metadata__") != NULL);
}

/* A size from the header: a whole number that is not negative and not absurd. */
static bool size_of(const json_t* number, int64_t* out) {
    *out = json_integer_value(number);
    return json_is_integer(number) && *out >= 0 && *out <= (int64_t)1 << 40;
}

lp_status lp__safetensors_shape(const lp__safetensors* f, const char* name, int64_t* rows,
                                int64_t* cols) {
    const json_t* shape = json_object_get(json_object_get(f->header, name), "shape");
    const size_t dims = json_array_size(shape);
    *rows = 1;
    if (!shape) return lp_fail(f->ctx, LP_FORMAT, "%s: there is no tensor %s", f->path, name);
    if (dims < 1 || dims > 2 || !size_of(json_array_get(shape, dims - 1), cols) ||
        (dims == 2 && !size_of(json_array_get(shape, 0), rows)))
        return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s is no vector and no matrix", f->path,
                       name);
    int64_t numbers; /* compared with the file here, before anyone asks for memory */
    if (!lp__mul_ok(*rows, *cols, &numbers) || (uint64_t)numbers > f->size)
        return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s of %lld x %lld is larger than the file",
                       f->path, name, (long long)*rows, (long long)*cols);
    return LP_OK;
}

lp_status lp__safetensors_read(const lp__safetensors* f, const char* name, lp_tensor to) {
    int64_t rows, cols, begin, end;
    lp_status status = lp__safetensors_shape(f, name, &rows, &cols);
    if (status != LP_OK) return status;
    const json_t* entry = json_object_get(f->header, name);
    const json_t* offsets = json_object_get(entry, "data_offsets");
    const char* type = json_string_value(json_object_get(entry, "dtype"));
    if (!type || strcmp(type, "F32") != 0)
        return lp_fail(f->ctx, LP_UNSUPPORTED, "%s: tensor %s is of type %.16s, not F32", f->path,
                       name, type ? type : "?");
    if (rows != to->rows || cols != to->cols)
        return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s is %lld x %lld, not %lld x %lld", f->path,
                       name, (long long)rows, (long long)cols, (long long)to->rows,
                       (long long)to->cols);
    if (!size_of(json_array_get(offsets, 0), &begin) ||
        !size_of(json_array_get(offsets, 1), &end) ||
        end - begin != rows * cols * (int64_t)sizeof(float) || (uint64_t)end > f->size - f->data)
        return lp_fail(f->ctx, LP_FORMAT, "%s: tensor %s lies outside of the file", f->path, name);
    return lp__file_read(f->ctx, f->fd, f->path, lp_f32(to), (size_t)(end - begin),
                         f->data + (uint64_t)begin);
}
