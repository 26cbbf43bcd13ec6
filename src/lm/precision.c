/* What the products of a model multiply. */
#include "lm/model.h"
#include "tensor/params.h"

void lp_weights_set_precision(lp_weights* w, lp_precision precision) {
    const lp__number number = precision == LP_BFLOAT16 ? LP__BF16 : LP__F32;
    for (int64_t layer = 0; layer < w->model->shape.layers; layer++) {
        const lp__block* b = &w->blocks[layer];
        const lp_tensor matrices[] = {b->q, b->k, b->v, b->o, b->gate, b->up, b->down};
        for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
            if (matrices[i]) lp__param_set_number(matrices[i], number);
    }
    lp__param_set_number(w->head, number);
    if (w->embedding != w->head) lp__param_set_number(w->embedding, number);
}

lp_precision lp_weights_precision(const lp_weights* w) {
    return lp__node_of(w->head)->number == LP__BF16 ? LP_BFLOAT16 : LP_FLOAT32;
}
