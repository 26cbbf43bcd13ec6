/* logpi/nn.h - networks, made of the ops of tensor.h. */
#ifndef LOGPI_NN_H
#define LOGPI_NN_H

#include <logpi/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Fills w [rows, cols] with gain times a random matrix whose rows (or, if there are fewer of them,
 * columns) are orthonormal, uniform among such: torch.nn.init.orthogonal_. Saxe et al. 2014,
 * section 3. For parameters; call lp_params_changed if w has been used before. LP_NOMEM;
 * LP_CANCELLED: w is as it was. Takes about n^2 m multiplications, n the smaller side. */
LP_API lp_status lp_init_orthogonal(lp_ctx* ctx, lp_tensor w, double gain, lp_rng* rng);

typedef struct lp_mlp_def {
    uint32_t cookie;
    int64_t inputs, outputs;       /* >= 1 */
    int hidden_layers;             /* 2; 0 .. LP_MLP_LAYERS - 1 */
    int64_t hidden[LP_MLP_LAYERS]; /* 64, 64: their widths */
    lp_activation activation;      /* LP_TANH */
    double hidden_gain;            /* sqrt 2: of the orthogonal initialisation; biases are 0 */
    double output_gain;            /* 1 */
} lp_mlp_def;

LP_API lp_mlp_def lp_mlp_def_default(void);

/* A perceptron whose parameters are PREFIX.0.weight, PREFIX.0.bias, PREFIX.1.weight, ... in a set;
 * those that were made now are initialised from rng, or 0 if it is NULL. LP_INVALID: a size out of
 * range; LP_NOMEM; LP_CANCELLED. *mlp lives as long as the set. */
LP_API lp_status lp_mlp_create(lp_params* params, const char* prefix, const lp_mlp_def* def,
                               lp_rng* rng, lp_mlp* mlp);

#ifdef __cplusplus
}
#endif
#endif
