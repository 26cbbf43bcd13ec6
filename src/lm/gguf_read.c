/* Parsing a GGUF file: header, metadata, tensor directory. */
#include "lm/gguf.h"

#include <string.h>

#define VALUES_LIMIT    65536
#define TENSORS_LIMIT   65536
#define KEY_LIMIT       65536
#define NAME_LIMIT      1024
#define ALIGNMENT_LIMIT (1u << 20)
#define WINDOW_BYTES    ((size_t)65536)

/* ---- reading forward ------------------------------------------------------------------------- */

typedef struct reader {
    lp__gguf* gguf;
    uint64_t at;
    uint8_t* window; /* [WINDOW_BYTES], for a file: bytes from window_at on */
    uint64_t window_at;
    size_t window_bytes;
} reader;

static uint64_t remaining(const reader* r) { return r->gguf->size - r->at; }

static lp_status need(const reader* r, uint64_t bytes, const char* what) {
    if (bytes <= remaining(r)) return LP_OK;
    return lp_fail(
        r->gguf->ctx, LP_FORMAT,
        "%s: %s at byte %llu needs %llu bytes, but %llu remain; the file is truncated or corrupt",
        r->gguf->path, what, (unsigned long long)r->at, (unsigned long long)bytes,
        (unsigned long long)remaining(r));
}

/* Fails unless count things of at least `each` bytes can still follow. */
static lp_status need_count(const reader* r, uint64_t count, uint64_t each, const char* what) {
    if (count <= remaining(r) / each) return LP_OK;
    return lp_fail(r->gguf->ctx, LP_FORMAT,
                   "%s: %llu %s at byte %llu do not fit in the %llu bytes that remain; the file "
                   "is truncated or corrupt",
                   r->gguf->path, (unsigned long long)count, what, (unsigned long long)r->at,
                   (unsigned long long)remaining(r));
}

static lp_status take(reader* r, void* out, size_t bytes, const char* what) {
    lp__gguf* g = r->gguf;
    lp_status status = need(r, bytes, what);
    if (status != LP_OK) return status;
    if (g->data) {
        if (bytes > 0) memcpy(out, g->data + r->at, bytes);
    } else if (bytes > WINDOW_BYTES) {
        status = lp__file_read(g->ctx, g->fd, g->path, out, bytes, r->at);
    } else {
        uint64_t end = r->window_at + r->window_bytes;
        if (r->at < r->window_at || r->at + bytes > end) {
            size_t fill = (size_t)LP__MIN((uint64_t)WINDOW_BYTES, remaining(r));
            r->window_bytes = 0;
            status = lp__file_read(g->ctx, g->fd, g->path, r->window, fill, r->at);
            if (status != LP_OK) return status;
            r->window_at = r->at;
            r->window_bytes = fill;
        }
        memcpy(out, r->window + (r->at - r->window_at), bytes);
    }
    r->at += bytes;
    return status;
}

static lp_status take_u32(reader* r, uint32_t* out, const char* what) {
    return take(r, out, 4, what);
}
static lp_status take_u64(reader* r, uint64_t* out, const char* what) {
    return take(r, out, 8, what);
}

/* Length and bytes; the copy is terminated. */
static lp_status take_string(reader* r, lp__string* out, uint64_t limit, const char* what) {
    uint64_t bytes;
    lp_status status = take_u64(r, &bytes, what);
    if (status == LP_OK) status = need(r, bytes, what);
    if (status != LP_OK) return status;
    if (bytes > limit) {
        return lp_fail(r->gguf->ctx, LP_FORMAT,
                       "%s: %s at byte %llu has %llu bytes; at most %llu are possible",
                       r->gguf->path, what, (unsigned long long)r->at, (unsigned long long)bytes,
                       (unsigned long long)limit);
    }
    char* copy = lp__arena_alloc(&r->gguf->arena, (size_t)bytes + 1);
    if (!copy) return LP_NOMEM;
    copy[bytes] = '\0';
    *out = (lp__string){copy, (size_t)bytes};
    return take(r, copy, (size_t)bytes, what);
}

/* A key or a tensor's name: text, not empty, without zero bytes. */
static lp_status take_name(reader* r, lp__string* out, uint64_t limit, const char* what) {
    uint64_t where = r->at;
    lp_status status = take_string(r, out, limit, what);
    if (status != LP_OK) return status;
    bool good = out->bytes > 0 && !memchr(out->data, '\0', out->bytes);
    if (good && lp__utf8_error(out->data, out->bytes) < 0) return LP_OK;
    return lp_fail(r->gguf->ctx, LP_FORMAT, "%s: %s at byte %llu is empty or not text",
                   r->gguf->path, what, (unsigned long long)where);
}

/* ---- metadata -------------------------------------------------------------------------------- */

/* Bytes of one element; 0 for strings and arrays; false for a number that is no type. */
static bool type_bytes(uint32_t type, uint32_t* bytes) {
    switch (type) {
#define BYTES(name, value, size)                                                                   \
    case value: *bytes = size; return true;
        LP__GGUF_TYPE_MAP(BYTES)
#undef BYTES
    }
    return false;
}

/* The strings of an array: once over the lengths, then into one block of the size that they add up
 * to. */
static lp_status take_strings(reader* r, lp__gguf_value* v) {
    lp_status status = need_count(r, v->count, 8, "strings of an array");
    uint64_t start = r->at, bytes, total = 0;
    for (uint64_t i = 0; i < v->count && status == LP_OK; i++) {
        status = take_u64(r, &bytes, "the length of a string");
        if (status == LP_OK) status = need(r, bytes, "a string of an array");
        if (status != LP_OK) break;
        r->at += bytes;
        total += bytes + 1; /* cannot overflow: the bytes are in the file */
    }
    if (status != LP_OK) return status;
    lp__string* strings = lp__arena_alloc(&r->gguf->arena, (size_t)v->count * sizeof *strings);
    char* block = lp__arena_alloc(&r->gguf->arena, (size_t)total);
    if (!strings || !block) return LP_NOMEM;
    r->at = start;
    for (uint64_t i = 0; i < v->count && status == LP_OK; i++) {
        status = take_u64(r, &bytes, "the length of a string");
        /* The file may have changed since the first pass. */
        if (status == LP_OK && bytes + 1 > total)
            status = need(r, UINT64_MAX, "a string of an array");
        if (status == LP_OK) status = take(r, block, (size_t)bytes, "a string of an array");
        if (status != LP_OK) break;
        strings[i] = (lp__string){block, (size_t)bytes};
        block[bytes] = '\0';
        block += bytes + 1;
        total -= bytes + 1;
    }
    v->strings = strings;
    return status;
}

static lp_status take_array(reader* r, lp__gguf_value* v) {
    const lp__gguf* g = r->gguf;
    lp_status status = take_u32(r, &v->element, "the element type of an array");
    if (status == LP_OK) status = take_u64(r, &v->count, "the length of an array");
    if (status != LP_OK) return status;
    uint32_t each;
    if (!type_bytes(v->element, &each)) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" is an array of the unknown type %u",
                       g->path, v->key.data, v->element);
    }
    if (v->element == LP__GGUF_ARRAY) {
        return lp_fail(g->ctx, LP_UNSUPPORTED,
                       "%s: key \"%s\" is an array of arrays, which is not supported", g->path,
                       v->key.data);
    }
    if (v->element == LP__GGUF_STRING) return take_strings(r, v);
    status = need_count(r, v->count, each, "elements of an array");
    if (status != LP_OK) return status;
    size_t bytes = (size_t)v->count * each;
    void* array = lp__arena_alloc(&r->gguf->arena, bytes);
    if (!array) return LP_NOMEM;
    v->array = array;
    return take(r, array, bytes, "an array");
}

/* Integers of any width into u and i, floats into f. */
static lp_status take_number(reader* r, lp__gguf_value* v, uint32_t bytes) {
    uint64_t raw = 0;
    lp_status status = take(r, &raw, bytes, "a number");
    if (status != LP_OK) return status;
    unsigned unused = 64 - 8 * bytes;
    v->u = raw;
    v->i = (int64_t)(raw << unused) >> unused;
    if (v->type == LP__GGUF_F32) {
        float f;
        memcpy(&f, &raw, sizeof f);
        v->f = (double)f;
    }
    if (v->type == LP__GGUF_F64) memcpy(&v->f, &raw, sizeof v->f);
    if (v->type == LP__GGUF_BOOL && raw > 1) {
        return lp_fail(r->gguf->ctx, LP_FORMAT,
                       "%s: key \"%s\" is a boolean of value %u; 0 and 1 are possible",
                       r->gguf->path, v->key.data, (unsigned)raw);
    }
    return LP_OK;
}

static lp_status take_value(reader* r, lp__gguf_value* v) {
    const lp__gguf* g = r->gguf;
    lp_status status = take_name(r, &v->key, KEY_LIMIT, "a key");
    if (status == LP_OK) status = take_u32(r, &v->type, "the type of a key");
    if (status != LP_OK) return status;
    uint32_t bytes;
    if (!type_bytes(v->type, &bytes)) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" has the unknown type %u", g->path,
                       v->key.data, v->type);
    }
    if (v->type == LP__GGUF_ARRAY) return take_array(r, v);
    if (v->type == LP__GGUF_STRING) return take_string(r, &v->string, UINT64_MAX, "a string");
    return take_number(r, v, bytes);
}

static lp_status read_values(reader* r, uint64_t count) {
    lp__gguf* g = r->gguf;
    if (count > VALUES_LIMIT) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: %llu keys; at most %d are possible", g->path,
                       (unsigned long long)count, VALUES_LIMIT);
    }
    lp_status status = need_count(r, count, 8 + 1 + 4 + 1, "keys");
    if (status != LP_OK) return status;
    g->values = lp__calloc(g->ctx, (size_t)count, sizeof *g->values);
    if (!g->values || lp__names_init(g->ctx, &g->value_names, (size_t)count)) return LP_NOMEM;
    for (uint64_t i = 0; i < count; i++) {
        status = take_value(r, &g->values[i]);
        if (status != LP_OK) return status;
        if (!lp__names_add(&g->value_names, g->values[i].key, (int64_t)i)) {
            return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" is there twice", g->path,
                           g->values[i].key.data);
        }
        g->value_count++;
    }
    return LP_OK;
}

static lp_status read_alignment(lp__gguf* g) {
    g->alignment = 32;
    const lp__gguf_value* v = lp__gguf_find(g, "general.alignment");
    if (!v) return LP_OK;
    if (v->type != LP__GGUF_U32) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: key \"general.alignment\" must be of type U32",
                       g->path);
    }
    g->alignment = (uint32_t)v->u;
    if (g->alignment == 0 || g->alignment > ALIGNMENT_LIMIT ||
        (g->alignment & (g->alignment - 1)) != 0) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: alignment %u; a power of two from 1 to %u is needed",
                       g->path, g->alignment, ALIGNMENT_LIMIT);
    }
    return LP_OK;
}

/* ---- tensor directory ------------------------------------------------------------------------ */

/* rows, cols and sizes from the dimensions and the type. */
static lp_status measure(const lp__gguf* g, lp__gguf_tensor* t) {
    uint32_t elements, bytes;
    if (!lp__ggml_type_block(t->type, &elements, &bytes)) {
        return lp_fail(g->ctx, LP_UNSUPPORTED,
                       "%s: tensor \"%s\" has the type %u, which is not supported; F32, F16, "
                       "BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K are",
                       g->path, t->name.data, t->type);
    }
    t->cols = t->dims[t->n_dims - 1];
    t->rows = 1;
    bool fits = true;
    for (int d = 0; d < t->n_dims - 1; d++)
        fits = fits && lp__mul_ok(t->rows, t->dims[d], &t->rows);
    int64_t count;
    fits = fits && lp__mul_ok(t->rows, t->cols, &count);
    if (t->cols % elements != 0) {
        return lp_fail(g->ctx, LP_FORMAT,
                       "%s: tensor \"%s\" has rows of %lld, no multiple of the %u of a %s block",
                       g->path, t->name.data, (long long)t->cols, elements,
                       lp__ggml_type_name(t->type));
    }
    fits = fits && lp__mul_ok((uint64_t)(t->cols / elements), bytes, &t->row_bytes);
    fits = fits && lp__mul_ok(t->row_bytes, (uint64_t)t->rows, &t->bytes);
    if (fits) return LP_OK;
    return lp_fail(g->ctx, LP_FORMAT,
                   "%s: the size of tensor \"%s\" overflows; the file is corrupt", g->path,
                   t->name.data);
}

static lp_status take_tensor(reader* r, lp__gguf_tensor* t) {
    const lp__gguf* g = r->gguf;
    uint32_t n_dims = 0;
    lp_status status = take_name(r, &t->name, NAME_LIMIT, "the name of a tensor");
    if (status == LP_OK) status = take_u32(r, &n_dims, "the dimensions of a tensor");
    if (status != LP_OK) return status;
    if (n_dims < 1 || n_dims > 4) {
        return lp_fail(g->ctx, LP_FORMAT,
                       "%s: tensor \"%s\" has %u dimensions; 1 to 4 are possible", g->path,
                       t->name.data, n_dims);
    }
    t->n_dims = (int)n_dims;
    for (int d = t->n_dims - 1; d >= 0; d--) {
        uint64_t size;
        status = take_u64(r, &size, "a dimension of a tensor");
        if (status != LP_OK) return status;
        if (size < 1 || size > INT64_MAX) {
            return lp_fail(g->ctx, LP_FORMAT, "%s: tensor \"%s\" has a dimension of %llu", g->path,
                           t->name.data, (unsigned long long)size);
        }
        t->dims[d] = (int64_t)size;
    }
    status = take_u32(r, &t->type, "the type of a tensor");
    if (status == LP_OK) status = take_u64(r, &t->offset, "the offset of a tensor");
    return status == LP_OK ? measure(g, t) : status;
}

/* Offsets count from the aligned end of the directory. Tensors follow each other in the order of
 * the directory: so every file that ggml accepts is laid out, and so none can overlap another. */
static lp_status place_tensors(lp__gguf* g, uint64_t directory_end) {
    uint64_t mask = g->alignment - 1, previous_end = 0;
    g->data_offset = directory_end;
    if (g->tensor_count == 0) return LP_OK;
    /* Sizes of files are below 2^63, so this cannot wrap. */
    g->data_offset = (directory_end + mask) & ~mask;
    uint64_t available = g->data_offset <= g->size ? g->size - g->data_offset : 0;
    for (int64_t i = 0; i < g->tensor_count; i++) {
        lp__gguf_tensor* t = &g->tensors[i];
        if (t->offset > available || t->bytes > available - t->offset) {
            return lp_fail(g->ctx, LP_FORMAT,
                           "%s: tensor \"%s\" (%llu bytes at %llu of the data) goes past the end "
                           "of the file; it is truncated or corrupt",
                           g->path, t->name.data, (unsigned long long)t->bytes,
                           (unsigned long long)t->offset);
        }
        if ((t->offset & mask) != 0) {
            return lp_fail(
                g->ctx, LP_FORMAT,
                "%s: tensor \"%s\" is at %llu of the data, no multiple of the alignment %u",
                g->path, t->name.data, (unsigned long long)t->offset, g->alignment);
        }
        if (t->offset < previous_end) {
            return lp_fail(g->ctx, LP_FORMAT, "%s: tensor \"%s\" overlaps the one before it",
                           g->path, t->name.data);
        }
        previous_end = t->offset + t->bytes;
        t->offset += g->data_offset;
    }
    return LP_OK;
}

static lp_status read_tensors(reader* r, uint64_t count) {
    lp__gguf* g = r->gguf;
    if (count > TENSORS_LIMIT) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: %llu tensors; at most %d are possible", g->path,
                       (unsigned long long)count, TENSORS_LIMIT);
    }
    lp_status status = need_count(r, count, 8 + 1 + 4 + 8 + 4 + 8, "tensors");
    if (status != LP_OK) return status;
    g->tensors = lp__calloc(g->ctx, (size_t)count, sizeof *g->tensors);
    if (!g->tensors || lp__names_init(g->ctx, &g->tensor_names, (size_t)count)) return LP_NOMEM;
    for (uint64_t i = 0; i < count; i++) {
        status = take_tensor(r, &g->tensors[i]);
        if (status != LP_OK) return status;
        if (!lp__names_add(&g->tensor_names, g->tensors[i].name, (int64_t)i)) {
            return lp_fail(g->ctx, LP_FORMAT, "%s: tensor \"%s\" is there twice", g->path,
                           g->tensors[i].name.data);
        }
        g->tensor_count++;
    }
    return place_tensors(g, r->at);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static lp_status read_header(reader* r, uint64_t* tensors, uint64_t* values) {
    lp__gguf* g = r->gguf;
    char magic[4];
    lp_status status = take(r, magic, 4, "the magic number");
    if (status != LP_OK) return status;
    if (memcmp(magic, "GGUF", 4) != 0) {
        return lp_fail(g->ctx, LP_FORMAT,
                       "%s: this is no GGUF file: it does not start with \"GGUF\"", g->path);
    }
    status = take_u32(r, &g->version, "the version");
    if (status != LP_OK) return status;
    if (g->version != 0 && (g->version & 0xffffu) == 0) {
        return lp_fail(g->ctx, LP_UNSUPPORTED,
                       "%s: a big-endian GGUF file; convert it to little-endian", g->path);
    }
    if (g->version != 2 && g->version != 3) {
        return lp_fail(g->ctx, LP_UNSUPPORTED, "%s: GGUF version %u is not supported; 2 and 3 are",
                       g->path, g->version);
    }
    status = take_u64(r, tensors, "the number of tensors");
    return status == LP_OK ? take_u64(r, values, "the number of keys") : status;
}

lp_status lp__gguf_read(lp__gguf* g) {
    reader r = {.gguf = g};
    if (!g->data) {
        r.window = lp__alloc(g->ctx, WINDOW_BYTES);
        if (!r.window) return LP_NOMEM;
    }
    uint64_t tensors = 0, values = 0;
    lp_status status = read_header(&r, &tensors, &values);
    if (status == LP_OK) status = read_values(&r, values);
    if (status == LP_OK) status = read_alignment(g);
    if (status == LP_OK) status = read_tensors(&r, tensors);
    lp__free(g->ctx, r.window);
    return status;
}
