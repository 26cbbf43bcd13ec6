/* Reading and writing safetensors. The format: https://github.com/huggingface/safetensors (an
 * 8-byte length, a JSON header, numbers). Whatever the header claims is checked against the bytes
 * that the file has, before memory is asked for. */
#ifndef LP__SAFETENSORS_H
#define LP__SAFETENSORS_H

#include "tensor/params.h"

/* Types of elements: name, bits. */
#define LP__SAFETENSORS_DTYPE_MAP(X)                                                               \
    X(F32, 32)                                                                                     \
    X(F16, 16)                                                                                     \
    X(BF16, 16)                                                                                    \
    X(F64, 64)                                                                                     \
    X(BOOL, 8)                                                                                     \
    X(U8, 8)                                                                                       \
    X(I8, 8)                                                                                       \
    X(F8_E5M2, 8)                                                                                  \
    X(F8_E4M3, 8)                                                                                  \
    X(F8_E8M0, 8)                                                                                  \
    X(U16, 16)                                                                                     \
    X(I16, 16)                                                                                     \
    X(U32, 32)                                                                                     \
    X(I32, 32)                                                                                     \
    X(U64, 64)                                                                                     \
    X(I64, 64)                                                                                     \
    X(C64, 64)                                                                                     \
    X(F4, 4)                                                                                       \
    X(F6_E2M3, 6)                                                                                  \
    X(F6_E3M2, 6)

typedef enum lp__safetensors_dtype {
#define LP__SAFETENSORS_ENUM(name, bits) LP__SAFETENSORS_##name,
    LP__SAFETENSORS_DTYPE_MAP(LP__SAFETENSORS_ENUM)
#undef LP__SAFETENSORS_ENUM
        LP__SAFETENSORS_DTYPES
} lp__safetensors_dtype;

const char* lp__safetensors_dtype_name(lp__safetensors_dtype dtype);

typedef struct lp__safetensors_entry {
    const char* name;
    int64_t rows,
        cols; /* cols: the last dimension; rows: the product of the others; of none 1, 1 */
    uint64_t begin, end; /* bytes of the file */
    uint8_t dims, dtype;
} lp__safetensors_entry;

typedef struct lp__safetensors {
    lp_ctx* ctx;
    char* path;                     /* for messages */
    int fd;                         /* -1: in memory */
    lp__owned open_file;            /* closes fd with the context */
    uint64_t size, data;            /* bytes of the file; where the numbers begin */
    lp__safetensors_entry* entries; /* [count], by name */
    int64_t count;
    const char** metadata; /* [2 * metadata_count], keys and values by turns, by key */
    int64_t metadata_count;
    char* header; /* what the names are views of */
} lp__safetensors;

/* LP_NOT_FOUND, LP_IO; LP_FORMAT: damaged; LP_UNSUPPORTED: a type of elements that is not known.
 * The file stays open until lp__safetensors_close (NULL allowed), or its context dies. */
lp_status lp__safetensors_open(lp_ctx* ctx, const char* path, lp__safetensors** file);
/* The same on a file in memory, of which nothing is kept. */
lp_status lp__safetensors_parse(lp_ctx* ctx, const void* bytes, size_t n, lp__safetensors** file);
void lp__safetensors_close(lp__safetensors* file);

/* Fills entries and metadata from the header's text, [bytes], which it changes. */
lp_status lp__safetensors_read_header(lp__safetensors* file, char* text, size_t bytes);

/* A value of __metadata__; NULL if there is none. Borrowed. */
const char* lp__safetensors_metadata(const lp__safetensors* file, const char* key);

/* NULL if there is none of that name. */
const lp__safetensors_entry* lp__safetensors_find(const lp__safetensors* file, const char* name);

/* Rows and columns of a tensor of one or two dimensions; a vector is [1, n]. LP_FORMAT if there is
 * no such tensor, or it has more. */
lp_status lp__safetensors_shape(const lp__safetensors* file, const char* name, int64_t* rows,
                                int64_t* cols);

/* Reads the numbers of a tensor of the shape of `to`, which is LP_F32 as they must be. */
lp_status lp__safetensors_read(const lp__safetensors* file, const char* name, lp_tensor to);

/* How many tensors there are. */
int64_t lp__safetensors_count(const lp__safetensors* file);

/* ---- writing --------------------------------------------------------------------------------- */

/* A tensor to be written: one vector [cols] (dims 1) or a matrix. */
typedef struct lp__safetensors_out {
    const char* name;
    lp__safetensors_dtype dtype;
    int dims;
    int64_t rows, cols;
    int64_t index; /* the caller's */
} lp__safetensors_out;

/* Writes a file, whole or not at all: n tensors in the order of their names, which it sorts. put
 * writes the numbers of one of them, and returns the writer's status. metadata: pairs of strings,
 * ending with NULL; may be NULL. */
lp_status lp__safetensors_write(lp_ctx* ctx, const char* path, lp__safetensors_out* tensors,
                                int64_t n, const char* const* metadata,
                                lp_status (*put)(void* user, const lp__safetensors_out* tensor,
                                                 lp__writer* writer),
                                void* user);

#endif
