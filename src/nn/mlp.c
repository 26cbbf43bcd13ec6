/* Perceptrons: their parameters and how they begin. */
#include "base/base.h"
#include <logpi/nn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COOKIE = 0x6d6c7021, NAME_BYTES = 128 };

/* x . y, in four sums that do not wait for each other. */
static double dot(int64_t n, const double* x, const double* y) {
    double sum[4] = {0};
    int64_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (int k = 0; k < 4; k++) sum[k] += x[i + k] * y[i + k];
    }
    for (; i < n; i++) sum[0] += x[i] * y[i];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Makes the n vectors of length m, v[i] at v + i m, orthonormal, one after the other (modified
 * Gram-Schmidt). The diagonal of R is positive, as after torch's correction of signs. */
static lp_status orthonormalise(lp_ctx* ctx, int64_t n, int64_t m, double* v) {
    for (int64_t i = 0; i < n; i++) {
        if (lp_cancelled(ctx)) return lp_fail(ctx, LP_CANCELLED, "cancelled");
        double* x = v + i * m;
        for (int64_t j = 0; j < i; j++) {
            const double* y = v + j * m;
            const double along = dot(m, x, y);
            for (int64_t l = 0; l < m; l++) x[l] -= along * y[l];
        }
        const double length = sqrt(dot(m, x, x));
        for (int64_t l = 0; l < m; l++) x[l] /= length;
    }
    return LP_OK;
}

static void set(lp_tensor w, int64_t row, int64_t col, double x) {
    if (w->type == LP_F64) {
        lp_f64(w)[row * w->cols + col] = x;
    } else {
        lp_f32(w)[row * w->cols + col] = (float)x;
    }
}

lp_status lp_init_orthogonal(lp_ctx* ctx, lp_tensor w, double gain, lp_rng* rng) {
    if (!LP__REQUIRE(ctx, w, "there is nothing to initialise")) return LP_INVALID;
    const bool wide = w->rows < w->cols;
    const int64_t n = wide ? w->rows : w->cols, m = wide ? w->cols : w->rows;
    double* v = lp__calloc(ctx, (size_t)(n * m), sizeof *v);
    if (!v) return LP_NOMEM;
    lp_rng_normal_f64(rng, v, n * m);
    const lp_status status = orthonormalise(ctx, n, m, v);
    for (int64_t row = 0; status == LP_OK && row < w->rows; row++) {
        for (int64_t col = 0; col < w->cols; col++)
            set(w, row, col, gain * (wide ? v[row * m + col] : v[col * m + row]));
    }
    lp__free(ctx, v);
    return status;
}

lp_mlp_def lp_mlp_def_default(void) {
    return (lp_mlp_def){.cookie = COOKIE,
                        .hidden_layers = 2,
                        .hidden = {64, 64},
                        .activation = LP_TANH,
                        .hidden_gain = sqrt(2.0),
                        .output_gain = 1.0};
}

static lp_status check(lp_ctx* ctx, const lp_mlp_def* d) {
    if (!LP__REQUIRE(ctx, d->cookie == COOKIE, "begin with lp_mlp_def_default")) return LP_INVALID;
    const double widest = 1 << 20;
    lp__range ranges[3 + LP_MLP_LAYERS] = {
        {"hidden_layers", d->hidden_layers, 0, LP_MLP_LAYERS - 1},
        {"inputs", (double)d->inputs, 1, widest},
        {"outputs", (double)d->outputs, 1, widest}};
    size_t count = 3;
    for (int i = 0; i < d->hidden_layers && i < LP_MLP_LAYERS - 1; i++)
        ranges[count++] =
            (lp__range){"the width of a hidden layer", (double)d->hidden[i], 1, widest};
    return lp__ranges_check(ctx, ranges, count);
}

/* Layer l, its weight drawn if it was made now. */
static lp_status make_layer(lp_params* params, const char* prefix, int l, int64_t in, int64_t out,
                            double gain, lp_rng* rng, lp_mlp* mlp) {
    char name[NAME_BYTES];
    snprintf(name, sizeof name, "%s.%d.weight", prefix, l);
    const bool made = !lp_params_find(params, name);
    mlp->weight[l] = lp_param(params, name, out, in);
    snprintf(name, sizeof name, "%s.%d.bias", prefix, l);
    mlp->bias[l] = lp_param(params, name, 1, out);
    if (!mlp->weight[l] || !mlp->bias[l]) return LP_NOMEM;
    return made && rng ? lp_init_orthogonal(lp_params_ctx(params), mlp->weight[l], gain, rng)
                       : LP_OK;
}

lp_status lp_mlp_create(lp_params* params, const char* prefix, const lp_mlp_def* def, lp_rng* rng,
                        lp_mlp* mlp) {
    lp_ctx* ctx = lp_params_ctx(params);
    lp_status status = check(ctx, def);
    if (status == LP_OK &&
        !LP__REQUIRE(ctx, strlen(prefix) < NAME_BYTES - 16, "a prefix of at most 100 bytes"))
        status = LP_INVALID;
    *mlp = (lp_mlp){.layers = def->hidden_layers + 1, .activation = def->activation};
    int64_t in = def->inputs;
    for (int l = 0; status == LP_OK && l < mlp->layers; l++) {
        const bool last = l + 1 == mlp->layers;
        const int64_t out = last ? def->outputs : def->hidden[l];
        status = make_layer(params, prefix, l, in, out, last ? def->output_gain : def->hidden_gain,
                            rng, mlp);
        in = out;
    }
    return status;
}
