/* Where a model comes from: a GGUF file, or the safetensors of a Hugging Face folder; to those who
 * read tensors both are one list. */
#ifndef LP__LM_SOURCE_H
#define LP__LM_SOURCE_H

#include "lm/gguf.h"
#include "tensor/safetensors.h"

/* A type of tensors that is in neither table of readable types. */
#define LP__GGML_OTHER UINT32_MAX

typedef struct lp__stored {
    const char* name;
    const char* path; /* of its file */
    int fd;
    uint32_t type; /* lp__ggml_type; LP__GGML_OTHER */
    const char* type_name;
    uint64_t offset, bytes;
    int dims;
    int64_t rows, cols; /* rows: the product of all dimensions but the last */
    bool used;
} lp__stored;

typedef struct lp__source {
    lp_ctx* ctx;
    char* path;
    lp__gguf* gguf; /* NULL: a folder */
    lp__safetensors** shards;
    int64_t shard_count;
    lp__stored* tensors; /* [tensor_count] */
    int64_t tensor_count;
    lp__names names;
    char* config; /* config.json, terminated */
    size_t config_bytes;
    char* generation; /* generation_config.json; NULL: none */
    size_t generation_bytes;
    char types[64]; /* of its tensors, "F32, Q4_1", that of most numbers first */
} lp__source;

/* LP_NOT_FOUND, LP_IO: the path. LP_FORMAT: damaged. LP_UNSUPPORTED: another kind of file. */
lp_status lp__source_open(lp_ctx* ctx, const char* path, lp__source** out);
void lp__source_close(lp__source* source); /* NULL is allowed */

/* The tensor of that name; failing that, of the name without the prefix (NULL: none); else NULL. */
lp__stored* lp__source_find(const lp__source* source, const char* name, const char* prefix);

/* Fills shards from a folder: model.safetensors, or those that model.safetensors.index.json names.
 */
lp_status lp__source_open_shards(lp__source* source);

/* Whether the files still have the length that they had when they were opened: LP_FORMAT. */
lp_status lp__source_unchanged(const lp__source* source);

/* ---- numbers --------------------------------------------------------------------------------- */

/* Where the rows of a tensor go: `parts` blocks of memory, one after another. The file has it as it
 * is, or transposed; with head_dim > 0 each head of so many rows has them pair by pair, (0, half,
 * 1, half + 1, ...), and they are put in order. */
typedef struct lp__target {
    int parts;
    float* to[3];    /* [rows, cols] */
    int64_t rows[3]; /* of a vector: its numbers, and cols is 1 */
    int64_t cols;
    bool vector, transposed;
    int64_t head_dim;
} lp__target;

/* Reads a tensor of the right size as fp32. LP_FORMAT: a number is NaN or infinite, or the file
 * ends; LP_UNSUPPORTED: its type is not read; LP_CANCELLED. */
lp_status lp__source_read(const lp__source* source, const lp__stored* tensor,
                          const lp__target* target);

#endif
