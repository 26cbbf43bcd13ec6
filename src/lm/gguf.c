/* Opening a GGUF file, and what one can ask of it. */
#include "lm/gguf.h"

#include <stddef.h>
#include <string.h>

/* ---- opening --------------------------------------------------------------------------------- */

static lp__gguf* blank(lp_ctx* ctx, const char* path) {
    lp__gguf* g = lp__calloc(ctx, 1, sizeof *g);
    if (!g) return NULL;
    g->ctx = ctx;
    g->fd = -1;
    lp__arena_init(&g->arena, ctx, 65536);
    g->path = lp__strdup(ctx, path, strlen(path));
    if (g->path) return g;
    lp__gguf_close(g);
    return NULL;
}

static lp_status finish(lp__gguf* g, lp__gguf** out) {
    lp_status status = lp__gguf_read(g);
    if (status == LP_OK) {
        *out = g;
    } else {
        lp__gguf_close(g);
    }
    return status;
}

static void close_file(lp__owned* owned) {
    const lp__gguf* g = (lp__gguf*)(void*)((char*)owned - offsetof(lp__gguf, open_file));
    lp__file_close(g->ctx, g->fd);
}

lp_status lp__gguf_open(lp_ctx* ctx, const char* path, lp__gguf** out) {
    lp__gguf* g = blank(ctx, path);
    if (!g) return LP_NOMEM;
    lp_status status = lp__file_open(ctx, path, &g->fd, &g->size);
    if (status != LP_OK) {
        g->fd = -1;
        lp__gguf_close(g);
        return status;
    }
    lp__own(ctx, &g->open_file, close_file);
    return finish(g, out);
}

lp_status lp__gguf_parse(lp_ctx* ctx, const void* bytes, size_t n, lp__gguf** out) {
    lp__gguf* g = blank(ctx, "(memory)");
    if (!g) return LP_NOMEM;
    g->data = n > 0 ? bytes : (const void*)"";
    g->size = n;
    return finish(g, out);
}

void lp__gguf_close(lp__gguf* g) {
    if (!g) return;
    if (g->fd >= 0) {
        lp__disown(g->ctx, &g->open_file);
        lp__file_close(g->ctx, g->fd);
    }
    lp__names_free(&g->value_names);
    lp__names_free(&g->tensor_names);
    lp__free(g->ctx, g->values);
    lp__free(g->ctx, g->tensors);
    lp__free(g->ctx, g->path);
    lp__arena_free(&g->arena);
    lp__free(g->ctx, g);
}

/* ---- metadata -------------------------------------------------------------------------------- */

static const char* type_name(uint32_t type) {
    switch (type) {
#define NAME(name, value, bytes)                                                                   \
    case value: return #name;
        LP__GGUF_TYPE_MAP(NAME)
#undef NAME
    }
    return "unknown";
}

const lp__gguf_value* lp__gguf_find(const lp__gguf* g, const char* key) {
    int64_t i = lp__names_find(&g->value_names, lp__string_of(key));
    return i < 0 ? NULL : &g->values[i];
}

static lp_status get(const lp__gguf* g, const char* key, const lp__gguf_value** out) {
    *out = lp__gguf_find(g, key);
    if (*out) return LP_OK;
    return lp_fail(g->ctx, LP_NOT_FOUND, "%s: key \"%s\" is missing", g->path, key);
}

static lp_status wrong_type(const lp__gguf* g, const lp__gguf_value* v, const char* wanted) {
    bool array = v->type == LP__GGUF_ARRAY;
    return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" is of type %s%s, but %s is needed", g->path,
                   v->key.data, array ? "ARRAY of " : "", type_name(array ? v->element : v->type),
                   wanted);
}

/* Any integer type, of a value in [0, limit]. */
static lp_status get_unsigned(const lp__gguf* g, const char* key, uint64_t limit, uint64_t* out) {
    const lp__gguf_value* v;
    lp_status status = get(g, key, &v);
    if (status != LP_OK) return status;
    bool is_signed = false;
    switch (v->type) {
    case LP__GGUF_I8:
    case LP__GGUF_I16:
    case LP__GGUF_I32:
    case LP__GGUF_I64: is_signed = true; break;
    case LP__GGUF_U8:
    case LP__GGUF_U16:
    case LP__GGUF_U32:
    case LP__GGUF_U64: break;
    default: return wrong_type(g, v, "an integer");
    }
    if (is_signed && v->i < 0) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" is %lld; it must not be negative",
                       g->path, key, (long long)v->i);
    }
    if (v->u > limit) {
        return lp_fail(g->ctx, LP_FORMAT, "%s: key \"%s\" is %llu; at most %llu is possible",
                       g->path, key, (unsigned long long)v->u, (unsigned long long)limit);
    }
    *out = v->u;
    return LP_OK;
}

lp_status lp__gguf_u64(const lp__gguf* g, const char* key, uint64_t* out) {
    return get_unsigned(g, key, UINT64_MAX, out);
}

lp_status lp__gguf_u32(const lp__gguf* g, const char* key, uint32_t* out) {
    uint64_t value = 0;
    lp_status status = get_unsigned(g, key, UINT32_MAX, &value);
    if (status == LP_OK) *out = (uint32_t)value;
    return status;
}

lp_status lp__gguf_f32(const lp__gguf* g, const char* key, float* out) {
    const lp__gguf_value* v;
    lp_status status = get(g, key, &v);
    if (status != LP_OK) return status;
    if (v->type != LP__GGUF_F32 && v->type != LP__GGUF_F64) return wrong_type(g, v, "a float");
    *out = (float)v->f;
    return LP_OK;
}

lp_status lp__gguf_bool(const lp__gguf* g, const char* key, bool* out) {
    const lp__gguf_value* v;
    lp_status status = get(g, key, &v);
    if (status != LP_OK) return status;
    if (v->type != LP__GGUF_BOOL) return wrong_type(g, v, "BOOL");
    *out = v->u != 0;
    return LP_OK;
}

lp_status lp__gguf_string(const lp__gguf* g, const char* key, lp__string* out) {
    const lp__gguf_value* v;
    lp_status status = get(g, key, &v);
    if (status != LP_OK) return status;
    if (v->type != LP__GGUF_STRING) return wrong_type(g, v, "STRING");
    *out = v->string;
    return LP_OK;
}

/* An array whose elements are of type a or b. */
static lp_status get_array(const lp__gguf* g, const char* key, uint32_t a, uint32_t b,
                           const char* wanted, const lp__gguf_value** out, int64_t* count) {
    lp_status status = get(g, key, out);
    if (status != LP_OK) return status;
    const lp__gguf_value* v = *out;
    if (v->type != LP__GGUF_ARRAY || (v->element != a && v->element != b))
        return wrong_type(g, v, wanted);
    *count = (int64_t)v->count; /* below the size of the file */
    return LP_OK;
}

lp_status lp__gguf_strings(const lp__gguf* g, const char* key, const lp__string** out,
                           int64_t* count) {
    const lp__gguf_value* v;
    lp_status status =
        get_array(g, key, LP__GGUF_STRING, LP__GGUF_STRING, "ARRAY of STRING", &v, count);
    if (status == LP_OK) *out = v->strings;
    return status;
}

lp_status lp__gguf_i32s(const lp__gguf* g, const char* key, const int32_t** out, int64_t* count) {
    const lp__gguf_value* v;
    lp_status status = get_array(g, key, LP__GGUF_I32, LP__GGUF_U32, "ARRAY of I32", &v, count);
    if (status == LP_OK) *out = v->array;
    return status;
}

lp_status lp__gguf_f32s(const lp__gguf* g, const char* key, const float** out, int64_t* count) {
    const lp__gguf_value* v;
    lp_status status = get_array(g, key, LP__GGUF_F32, LP__GGUF_F32, "ARRAY of F32", &v, count);
    if (status == LP_OK) *out = v->array;
    return status;
}

lp_status lp__gguf_u32_if(const lp__gguf* g, const char* key, uint32_t* out) {
    return lp__gguf_find(g, key) ? lp__gguf_u32(g, key, out) : LP_OK;
}

lp_status lp__gguf_f32_if(const lp__gguf* g, const char* key, float* out) {
    return lp__gguf_find(g, key) ? lp__gguf_f32(g, key, out) : LP_OK;
}

lp_status lp__gguf_bool_if(const lp__gguf* g, const char* key, bool* out) {
    return lp__gguf_find(g, key) ? lp__gguf_bool(g, key, out) : LP_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

const lp__gguf_tensor* lp__gguf_tensor_find(const lp__gguf* g, const char* name) {
    int64_t i = lp__names_find(&g->tensor_names, lp__string_of(name));
    return i < 0 ? NULL : &g->tensors[i];
}

lp_status lp__gguf_tensor_get(const lp__gguf* g, const char* name, int64_t rows, int64_t cols,
                              const lp__gguf_tensor** out) {
    const lp__gguf_tensor* t = lp__gguf_tensor_find(g, name);
    if (!t) return lp_fail(g->ctx, LP_NOT_FOUND, "%s: tensor \"%s\" is missing", g->path, name);
    if (t->rows != rows || t->cols != cols) {
        return lp_fail(g->ctx, LP_FORMAT,
                       "%s: tensor \"%s\" is [%lld, %lld], but [%lld, %lld] is needed", g->path,
                       name, (long long)t->rows, (long long)t->cols, (long long)rows,
                       (long long)cols);
    }
    *out = t;
    return LP_OK;
}

lp_status lp__gguf_rows(const lp__gguf* g, const lp__gguf_tensor* t, int64_t first, int64_t count,
                        float* out) {
    if (!LP__REQUIRE(g->ctx, first >= 0 && count >= 0 && first <= t->rows - count,
                     "rows out of range")) {
        return LP_INVALID;
    }
    uint32_t elements, bytes;
    float none;
    if (!lp__ggml_type_block(t->type, &elements, &bytes) ||
        !lp__ggml_to_f32(t->type, "", 0, &none)) {
        return lp_fail(g->ctx, LP_UNSUPPORTED,
                       "%s: tensor \"%s\" is %s, which is not read; convert it to F32, F16, BF16, "
                       "Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K",
                       g->path, t->name.data, lp__ggml_type_name(t->type));
    }
    /* Rows lie one after the other, so they are one run of blocks. */
    const int64_t chunk = 65536 / elements;
    int64_t blocks = count * (t->cols / elements);
    uint64_t at = t->offset + (uint64_t)first * t->row_bytes;
    lp__arena* arena = lp__scratch(g->ctx);
    lp__mark mark = lp__arena_mark(arena);
    void* buffer = g->data ? NULL : lp__arena_alloc(arena, (size_t)chunk * bytes);
    lp_status status = g->data || buffer ? LP_OK : LP_NOMEM;
    while (blocks > 0 && status == LP_OK) {
        int64_t now = LP__MIN(blocks, chunk);
        size_t size = (size_t)now * bytes;
        if (buffer) status = lp__file_read(g->ctx, g->fd, g->path, buffer, size, at);
        if (status != LP_OK) break;
        (void)lp__ggml_to_f32(t->type, buffer ? buffer : g->data + at, now * elements, out);
        out += now * elements;
        at += size;
        blocks -= now;
    }
    lp__arena_release(arena, mark);
    return status;
}
