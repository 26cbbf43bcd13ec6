/* Reading safetensors. The format: https://github.com/huggingface/safetensors (an 8-byte length, a
 * JSON header, numbers). Whatever the header claims is checked against the bytes that the file has.
 */
#ifndef LP__SAFETENSORS_H
#define LP__SAFETENSORS_H

#include "tensor/params.h"

typedef struct lp__safetensors lp__safetensors;

/* LP_NOT_FOUND, LP_IO; LP_FORMAT: damaged. The file stays open until lp__safetensors_close (NULL
 * allowed). */
lp_status lp__safetensors_open(lp_ctx* ctx, const char* path, lp__safetensors** file);
void lp__safetensors_close(lp__safetensors* file);

/* A value of __metadata__; NULL if there is none. Borrowed. */
const char* lp__safetensors_metadata(const lp__safetensors* file, const char* key);

/* Rows and columns of a tensor of one or two dimensions; a vector is [1, n]. LP_FORMAT if there is
 * no such tensor, or it has more. */
lp_status lp__safetensors_shape(const lp__safetensors* file, const char* name, int64_t* rows,
                                int64_t* cols);

/* Reads the numbers of a tensor of the shape of `to`, which is LP_F32 as they must be. */
lp_status lp__safetensors_read(const lp__safetensors* file, const char* name, lp_tensor to);

/* How many tensors there are. */
int64_t lp__safetensors_count(const lp__safetensors* file);

#endif
