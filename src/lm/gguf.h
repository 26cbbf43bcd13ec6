/* GGUF files (versions 2 and 3, little-endian): header, metadata and tensor directory, and rows of
 * tensors as fp32. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 *
 * Whatever the file claims is checked against the bytes that remain before memory is asked for;
 * tensor data is only read on request. */
#ifndef LP__LM_GGUF_H
#define LP__LM_GGUF_H

#include "text/names.h"

/* ---- types ----------------------------------------------------------------------------------- */

/* Value types of metadata: name, number in the file, bytes of one element (0: no fixed size). */
#define LP__GGUF_TYPE_MAP(X)                                                                       \
    X(U8, 0, 1)                                                                                    \
    X(I8, 1, 1)                                                                                    \
    X(U16, 2, 2)                                                                                   \
    X(I16, 3, 2)                                                                                   \
    X(U32, 4, 4)                                                                                   \
    X(I32, 5, 4)                                                                                   \
    X(F32, 6, 4)                                                                                   \
    X(BOOL, 7, 1)                                                                                  \
    X(STRING, 8, 0)                                                                                \
    X(ARRAY, 9, 0)                                                                                 \
    X(U64, 10, 8)                                                                                  \
    X(I64, 11, 8)                                                                                  \
    X(F64, 12, 8)

typedef enum lp__gguf_type {
#define LP__GGUF_TYPE_ENUM(name, value, bytes) LP__GGUF_##name = (value),
    LP__GGUF_TYPE_MAP(LP__GGUF_TYPE_ENUM)
#undef LP__GGUF_TYPE_ENUM
} lp__gguf_type;

/* Tensor types: name, number in the file, elements and bytes of one block. Those behind
 * BF16 are known by size only: a file that has them can be listed, their rows not read. */
#define LP__GGML_TYPE_MAP(X)                                                                       \
    X(F32, 0, 1, 4)                                                                                \
    X(F16, 1, 1, 2)                                                                                \
    X(Q4_0, 2, 32, 18)                                                                             \
    X(Q4_1, 3, 32, 20)                                                                             \
    X(Q5_0, 6, 32, 22)                                                                             \
    X(Q5_1, 7, 32, 24)                                                                             \
    X(Q8_0, 8, 32, 34)                                                                             \
    X(Q4_K, 12, 256, 144)                                                                          \
    X(Q5_K, 13, 256, 176)                                                                          \
    X(Q6_K, 14, 256, 210)                                                                          \
    X(BF16, 30, 1, 2)                                                                              \
    X(Q8_1, 9, 32, 36)                                                                             \
    X(Q2_K, 10, 256, 84)                                                                           \
    X(Q3_K, 11, 256, 110)                                                                          \
    X(Q8_K, 15, 256, 292)                                                                          \
    X(I8, 24, 1, 1)                                                                                \
    X(I16, 25, 1, 2)                                                                               \
    X(I32, 26, 1, 4)                                                                               \
    X(I64, 27, 1, 8)                                                                               \
    X(F64, 28, 1, 8)

typedef enum lp__ggml_type {
#define LP__GGML_TYPE_ENUM(name, value, elements, bytes) LP__GGML_##name = (value),
    LP__GGML_TYPE_MAP(LP__GGML_TYPE_ENUM)
#undef LP__GGML_TYPE_ENUM
} lp__ggml_type;

/* "Q8_0", or "unknown". */
const char* lp__ggml_type_name(uint32_t type);
/* Elements and bytes of a block; false for a type that is not in the table. */
bool lp__ggml_type_block(uint32_t type, uint32_t* elements, uint32_t* bytes);
/* Turns count elements (a multiple of the block) into fp32, with the bits of the gguf package's
 * dequantize; false if the type is not one of F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K,
 * Q5_K, Q6_K. */
bool lp__ggml_to_f32(uint32_t type, const void* blocks, int64_t count, float* out);

/* ---- a parsed file --------------------------------------------------------------------------- */

/* One key of the metadata. A number is in the field of its kind; an array's elements are
 * little-endian at array, or, of strings, at strings. */
typedef struct lp__gguf_value {
    lp__string key;
    uint32_t type;     /* lp__gguf_type */
    uint32_t element;  /* of an array */
    uint64_t count;    /* of an array */
    uint64_t u;        /* unsigned integers and bool */
    int64_t i;         /* signed integers */
    double f;          /* F32 and F64 */
    lp__string string; /* terminated */
    const void* array;
    const lp__string* strings; /* [count], each terminated */
} lp__gguf_value;

typedef struct lp__gguf_tensor {
    lp__string name; /* terminated */
    uint32_t type;   /* lp__ggml_type */
    int n_dims;      /* 1..4 */
    int64_t
        dims[4];  /* outermost first, as PyTorch says them; the file has them the other way round */
    int64_t rows; /* the product of all dimensions but the last */
    int64_t cols; /* the last dimension, whose elements are contiguous */
    uint64_t offset; /* of the data, in the file */
    uint64_t row_bytes, bytes;
} lp__gguf_tensor;

typedef struct lp__gguf {
    lp_ctx* ctx;
    char* path; /* for messages */
    uint32_t version, alignment;
    uint64_t size, data_offset;
    lp__gguf_value* values; /* [value_count] */
    int64_t value_count;
    lp__gguf_tensor* tensors; /* [tensor_count] */
    int64_t tensor_count;
    lp__names value_names, tensor_names;
    int fd;              /* -1: in memory */
    lp__owned open_file; /* closes fd with the context */
    const uint8_t* data; /* [size]; NULL: a file */
    lp__arena arena;     /* keys, strings and arrays */
} lp__gguf;

/* Opens and parses; the file stays open for lp__gguf_rows until lp__gguf_close. */
lp_status lp__gguf_open(lp_ctx* ctx, const char* path, lp__gguf** out);
/* The same on a file in memory, which must stay. */
lp_status lp__gguf_parse(lp_ctx* ctx, const void* bytes, size_t n, lp__gguf** out);
void lp__gguf_close(lp__gguf* gguf); /* NULL is allowed */

/* Fills values, tensors and all else from gguf->fd or gguf->data; on failure gguf is still to be
 * closed. */
lp_status lp__gguf_read(lp__gguf* gguf);

/* ---- metadata -------------------------------------------------------------------------------- */

/* NULL if the key is not there. */
const lp__gguf_value* lp__gguf_find(const lp__gguf* gguf, const char* key);

/* Each: LP_NOT_FOUND without the key, LP_FORMAT if its type is another or the value does not fit;
 * the message has the key and both types. Integers may be stored in any integer type, and floats in
 * either. */
lp_status lp__gguf_u32(const lp__gguf* gguf, const char* key, uint32_t* out);
lp_status lp__gguf_u64(const lp__gguf* gguf, const char* key, uint64_t* out);
lp_status lp__gguf_f32(const lp__gguf* gguf, const char* key, float* out);
lp_status lp__gguf_bool(const lp__gguf* gguf, const char* key, bool* out);
lp_status lp__gguf_string(const lp__gguf* gguf, const char* key, lp__string* out);
lp_status lp__gguf_strings(const lp__gguf* gguf, const char* key, const lp__string** out,
                           int64_t* count);
lp_status lp__gguf_i32s(const lp__gguf* gguf, const char* key, const int32_t** out, int64_t* count);
lp_status lp__gguf_f32s(const lp__gguf* gguf, const char* key, const float** out, int64_t* count);

/* A key that may be missing: *out is then left as it is. */
lp_status lp__gguf_u32_if(const lp__gguf* gguf, const char* key, uint32_t* out);
lp_status lp__gguf_f32_if(const lp__gguf* gguf, const char* key, float* out);
lp_status lp__gguf_bool_if(const lp__gguf* gguf, const char* key, bool* out);

/* ---- tensors --------------------------------------------------------------------------------- */

/* NULL if there is none of that name. */
const lp__gguf_tensor* lp__gguf_tensor_find(const lp__gguf* gguf, const char* name);

/* A tensor that must be there as [rows, cols] (a vector is [1, n]): LP_NOT_FOUND, or LP_FORMAT with
 * both shapes. */
lp_status lp__gguf_tensor_get(const lp__gguf* gguf, const char* name, int64_t rows, int64_t cols,
                              const lp__gguf_tensor** out);

/* Rows [first, first + count) as fp32 into out [count, cols]. LP_UNSUPPORTED: a type that is not
 * read. */
lp_status lp__gguf_rows(const lp__gguf* gguf, const lp__gguf_tensor* tensor, int64_t first,
                        int64_t count, float* out);

/* ---- tokenizer ------------------------------------------------------------------------------- */

struct lp_tokenizer;
/* The tokenizer that the metadata describes. LP_UNSUPPORTED: not byte-level BPE, or a pre-tokenizer
 * that is not known. */
lp_status lp__gguf_tokenizer(lp_ctx* ctx, const lp__gguf* gguf, struct lp_tokenizer** out);

#endif
