/* The inside of a parameter set. */
#ifndef LP__PARAMS_H
#define LP__PARAMS_H

#include "tensor/tape.h"

typedef struct lp__item {
    char* name;
    lp__node* node;
} lp__item;

struct lp_params {
    lp_ctx* ctx;
    lp_dtype type;
    bool trainable;
    lp__arena arena; /* numbers, gradients and operands: few large blocks, whose pages are large */
    lp__item* items; /* in order of creation, tied uses among them */
    int64_t count, capacity;
};

/* What the products of a parameter multiply; LP__F32 at first. A tied use follows its base. */
void lp__param_set_number(lp_tensor param, lp__number number);

/* Saves those parameters whose names begin with prefix, or are `other` (NULL: none), as
 * folder/file, in the form that transformers reads. */
lp_status lp__params_save_part(const lp_params* params, const char* folder, const char* file,
                               const char* prefix, const char* other);

#endif
