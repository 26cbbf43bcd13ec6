/* A multilayer perceptron as one op. Rows go in tiles through all layers, forward and backward, so
 * that what is between two layers stays in the cache; tiles are shared out to the threads.
 *
 *     h_0 = x,   h_l = f(h_{l-1} W_l^T + b_l),   y = h_{L-1} W_L^T + b_L
 *     d_L = dy,  dW_l += d_l^T h_{l-1},  db_l += sum of the rows of d_l,  d_{l-1} = (d_l W_l)
 * f'(h_{l-1})
 *
 * The gradients of weights are summed in lanes: a lane is a chain of tiles, lanes are added in
 * order. How rows are cut into tiles and tiles into lanes depends on their number only, never on
 * that of the threads. */
#include "tensor/tape.h"

enum { TILE_ROWS = 64, LANES = 8 };

static const lp__mlp_layer* layer_of(const lp__node* node, int l) {
    return &node->attr.mlp.layer[l];
}
static int last_layer(const lp__node* node) { return node->attr.mlp.layers - 1; }
static int64_t tiles_of(const lp__node* node) { return (node->t.rows + TILE_ROWS - 1) / TILE_ROWS; }

/* What layer l reads: x, or what the layer below gave. */
static const void* input_of(const lp__node* node, int l) {
    return l ? layer_of(node, l - 1)->h : node->in[0]->t.data;
}

/* Makes room for what the hidden layers give, [rows, out], kept for backward; the last one gives y.
 */
static bool reserve_hidden(lp__node* node) {
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        lp__mlp_layer* layer = &node->attr.mlp.layer[l];
        const size_t bytes = (size_t)(node->t.rows * layer->out) * lp__dtype_bytes(node->t.type);
        layer->h = l == last_layer(node) ? node->t.data : lp__tape_alloc(node->tape, bytes);
        if (!layer->h) return false;
    }
    return true;
}

/* ---- in float, by the kernels ---------------------------------------------------------------- */

/* y [rows, n] += x [rows, k] B, B packed in panels; one chain of k per output, from what y has. */
static void product(const lp__kernels* kernels, int64_t rows, int64_t n, int64_t k, const float* x,
                    const float* packed, float* y) {
    for (int64_t r = 0; r < rows; r += kernels->tile_rows) {
        const int count = (int)LP__MIN(rows - r, (int64_t)kernels->tile_rows);
        for (int64_t j = 0; j < n; j += kernels->panel)
            kernels->format[LP__F32].tile(count, (int)LP__MIN(n - j, (int64_t)kernels->panel), k,
                                          x + r * k, k, packed + j * k, kernels->panel,
                                          y + r * n + j, n, true, NULL);
    }
}

static void activate(const lp__kernels* kernels, lp_activation f, int64_t n, float* y) {
    if (f == LP_TANH) {
        kernels->tanh(n, y, y);
    } else {
        for (int64_t i = 0; i < n; i++) y[i] = y[i] > 0 ? y[i] : 0;
    }
}

/* d *= f'(h), by what the activation gave */
static void activate_backward(const lp__kernels* kernels, lp_activation f, int64_t n,
                              const float* h, float* d) {
    if (f == LP_TANH) {
        kernels->tanh_backward(n, h, d);
    } else {
        for (int64_t i = 0; i < n; i++) d[i] = h[i] > 0 ? d[i] : 0;
    }
}

static void forward_tile(void* user, int64_t index, int worker) {
    (void)worker;
    lp__node* node = user;
    const lp__kernels* kernels = lp__ctx_kernels(lp__node_ctx(node));
    const int64_t first = index * TILE_ROWS,
                  rows = LP__MIN(node->t.rows - first, (int64_t)TILE_ROWS);
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        const lp__mlp_layer* layer = layer_of(node, l);
        const float* x = (const float*)input_of(node, l) + first * layer->in;
        float* y = (float*)layer->h + first * layer->out;
        for (int64_t r = 0; r < rows; r++)
            memcpy(y + r * layer->out, layer->b->t.data, (size_t)layer->out * sizeof *y);
        product(kernels, rows, layer->out, layer->in, x, layer->packed, y);
        if (l < last_layer(node))
            activate(kernels, node->attr.mlp.activation, rows * layer->out, y);
    }
}

/* W^T of a layer in panels: the parameter's own copy, or one on the tape. */
static const float* pack_transposed(lp__node* node, lp__node* w) {
    lp_ctx* ctx = lp__node_ctx(node);
    const lp__word* own = lp__weight_operand(ctx, w, LP__TRANSPOSED);
    if (own) return (const float*)own;
    float* packed =
        lp__tape_alloc(node->tape, lp__packed_floats(ctx, w->t.cols, w->t.rows) * sizeof(float));
    if (packed) lp__pack_transposed(ctx, w->t.cols, w->t.rows, w->t.data, w->t.cols, packed);
    return packed;
}

static void mlp_forward(lp__node* node) {
    if (!reserve_hidden(node)) return;
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        lp__mlp_layer* layer = &node->attr.mlp.layer[l];
        layer->packed = pack_transposed(node, layer->w);
        if (!layer->packed) return;
    }
    lp__parallel_for(lp__node_ctx(node), tiles_of(node), forward_tile, node);
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct backward_job {
    lp__node* node;
    const lp__kernels* kernels;
    int64_t lanes, lane_tiles;          /* tiles of a lane */
    int64_t widest;                     /* layer, input included */
    int64_t lane_floats;                /* of all gradients of weights and biases */
    float* gradients;                   /* [lanes, lane_floats]: of each layer W, then b */
    const float* packed[LP_MLP_LAYERS]; /* W in panels; NULL where d stops */
    float* dx;                          /* of x; NULL: not wanted */
} backward_job;

/* Floats of scratch: a packed tile of d, one of h, and d of two layers. */
static int64_t scratch_floats(const backward_job* job) {
    const int64_t wide =
        job->widest + job->kernels->panel; /* rounded up to whole panels or tiles */
    return TILE_ROWS * (wide + wide + 2 * job->widest);
}

/* dw [out, in] += d^T h over the rows of a tile; db [out] += the rows of d */
static void weight_gradient(const lp__kernels* kernels, int64_t rows, int64_t out, int64_t in,
                            const float* d, const float* h, float* scratch, int64_t widest,
                            float* dw) {
    const int64_t tile = kernels->tile_rows, panel = kernels->panel;
    float *left = scratch, *right = scratch + TILE_ROWS * (widest + panel);
    for (int64_t i = 0; i < out; i += tile)
        kernels->pack_a((int)LP__MIN(out - i, tile), rows, d + i, out, left + i * rows);
    for (int64_t j = 0; j < in; j += panel) {
        const int columns = (int)LP__MIN(in - j, panel);
        kernels->pack_rows(columns, rows, h + j, in, right);
        for (int64_t i = 0; i < out; i += tile)
            kernels->format[LP__F32].tile_packed((int)LP__MIN(out - i, tile), columns, rows,
                                                 left + i * rows, right, panel, dw + i * in + j, in,
                                                 true);
    }
    kernels->add_rows(rows, out, d, dw + out * in); /* db */
}

static void backward_tile(const backward_job* job, int64_t tile, float* gradients, float* scratch) {
    const lp__node* node = job->node;
    const int64_t first = tile * TILE_ROWS,
                  rows = LP__MIN(node->t.rows - first, (int64_t)TILE_ROWS);
    float* room[2];
    room[0] = scratch + 2 * TILE_ROWS * (job->widest + job->kernels->panel);
    room[1] = room[0] + TILE_ROWS * job->widest;
    const float* d = (const float*)node->t.grad + first * node->t.cols;
    float* dw = gradients + job->lane_floats;
    for (int l = last_layer(node); l >= 0; l--) {
        const lp__mlp_layer* layer = layer_of(node, l);
        const int64_t in = layer->in, out = layer->out;
        const float* h = (const float*)input_of(node, l) + first * in;
        dw -= out * in + out;
        weight_gradient(job->kernels, rows, out, in, d, h, scratch, job->widest, dw);
        if (!job->packed[l]) return;
        float* below = l > 0 ? room[l % 2] : job->dx + first * in;
        if (l > 0)
            memset(below, 0, (size_t)(rows * in) * sizeof *below); /* dx goes on from what it has */
        product(job->kernels, rows, in, out, d, job->packed[l], below);
        if (l > 0) activate_backward(job->kernels, node->attr.mlp.activation, rows * in, h, below);
        d = below;
    }
}

static void backward_lane(void* user, int64_t lane, int worker) {
    const backward_job* job = user;
    float* gradients = job->gradients + lane * job->lane_floats;
    float* scratch = lp__worker_scratch(lp__node_ctx(job->node), worker);
    memset(gradients, 0, (size_t)job->lane_floats * sizeof *gradients);
    const int64_t end = LP__MIN((lane + 1) * job->lane_tiles, tiles_of(job->node));
    for (int64_t tile = lane * job->lane_tiles; tile < end; tile++)
        backward_tile(job, tile, gradients, scratch);
}

/* Adds the lanes, in order, to n numbers of a gradient that begin at `at` of each lane. */
static void add_lanes(const backward_job* job, int64_t at, lp__node* parameter) {
    float* grad = lp__grad(parameter);
    const int64_t n = lp__size(parameter);
    for (int64_t lane = 0; grad && lane < job->lanes; lane++) {
        const float* from = job->gradients + lane * job->lane_floats + at;
        for (int64_t i = 0; i < n; i++) grad[i] += from[i];
    }
}

static bool prepare(backward_job* job) {
    lp__node* node = job->node;
    lp_ctx* ctx = lp__node_ctx(node);
    job->widest = node->t.cols;
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        const lp__mlp_layer* layer = layer_of(node, l);
        job->widest = LP__MAX(job->widest, layer->in);
        job->lane_floats += layer->out * layer->in + layer->out;
        if (l == 0 && !job->dx) continue; /* nothing below wants d */
        float* packed = lp__tape_alloc(node->tape, lp__packed_floats(ctx, layer->out, layer->in) *
                                                       sizeof(float));
        if (!packed) return false;
        lp__pack_rows(ctx, layer->out, layer->in, layer->w->t.data, layer->in, packed);
        job->packed[l] = packed;
    }
    job->lane_tiles = (tiles_of(node) + LANES - 1) / LANES;
    job->lanes = job->lane_tiles > 0 ? (tiles_of(node) + job->lane_tiles - 1) / job->lane_tiles : 0;
    job->gradients =
        lp__tape_alloc(node->tape, (size_t)(job->lanes * job->lane_floats) * sizeof(float));
    if (!job->gradients) return false;
    if (lp__worker_scratch_reserve(ctx, (size_t)scratch_floats(job) * sizeof(float))) return true;
    lp__tape_fail(node->tape, LP_NOMEM);
    return false;
}

static void mlp_backward(lp__node* node) {
    backward_job job = {
        .node = node, .kernels = lp__ctx_kernels(lp__node_ctx(node)), .dx = lp__grad(node->in[0])};
    if (node->tape->status != LP_OK || !prepare(&job)) return;
    lp__parallel_for(lp__node_ctx(node), job.lanes, backward_lane, &job);
    int64_t at = 0;
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        const lp__mlp_layer* layer = layer_of(node, l);
        add_lanes(&job, at, layer->w);
        at += lp__size(layer->w);
        add_lanes(&job, at, layer->b);
        at += lp__size(layer->b);
    }
}

/* ---- the reference, in double ---------------------------------------------------------------- */

static void mlp_forward_f64(lp__node* node) {
    if (!reserve_hidden(node)) return;
    for (int l = 0; l < node->attr.mlp.layers; l++) {
        const lp__mlp_layer* layer = layer_of(node, l);
        const double *x = input_of(node, l), *w = layer->w->t.data, *b = layer->b->t.data;
        double* y = layer->h;
        for (int64_t r = 0; r < node->t.rows; r++) {
            for (int64_t i = 0; i < layer->out; i++) {
                double z = b[i];
                for (int64_t j = 0; j < layer->in; j++)
                    z += x[r * layer->in + j] * w[i * layer->in + j];
                if (l < last_layer(node))
                    z = node->attr.mlp.activation == LP_TANH ? tanh(z) : fmax(z, 0.0);
                y[r * layer->out + i] = z;
            }
        }
    }
}

/* d of the layer below, [rows, in]; gradients of W and b on the way. d_below is zero at first. */
static void layer_backward_f64(const lp__node* node, int l, const double* d, double* d_below) {
    const lp__mlp_layer* layer = layer_of(node, l);
    const double *h = input_of(node, l), *w = layer->w->t.data;
    double *dw = lp__grad(layer->w), *db = lp__grad(layer->b);
    const int64_t in = layer->in, out = layer->out;
    for (int64_t r = 0; r < node->t.rows; r++) {
        for (int64_t i = 0; i < out; i++) {
            const double di = d[r * out + i];
            if (db) db[i] += di;
            for (int64_t j = 0; j < in; j++) {
                if (dw) dw[i * in + j] += di * h[r * in + j];
                if (d_below) d_below[r * in + j] += di * w[i * in + j];
            }
        }
    }
}

static void mlp_backward_f64(lp__node* node) {
    const double* d = node->t.grad;
    double* dx = lp__grad(node->in[0]);
    for (int l = last_layer(node); l >= 0 && node->tape->status == LP_OK; l--) {
        const int64_t n = node->t.rows * layer_of(node, l)->in;
        double* below = l > 0 ? lp__tape_alloc(node->tape, (size_t)n * sizeof *below) : dx;
        if (l > 0 && !below) return;
        if (l > 0) memset(below, 0, (size_t)n * sizeof *below);
        layer_backward_f64(node, l, d, below);
        const double* h = input_of(node, l);
        for (int64_t i = 0; l > 0 && i < n; i++)
            below[i] *=
                node->attr.mlp.activation == LP_TANH ? 1.0 - h[i] * h[i] : (h[i] > 0 ? 1.0 : 0.0);
        d = below;
    }
}

const lp__op lp__op_mlp = {
    .name = "mlp",
    .forward = {mlp_forward, mlp_forward_f64},
    .backward = {mlp_backward, mlp_backward_f64},
};

/* Binds the layers; false if they do not fit each other. */
static bool bind(lp_tape* t, const lp_mlp* mlp, int64_t inputs, lp__mlp_layer* layer) {
    for (int l = 0; l < mlp->layers; l++) {
        lp_tensor in[2] = {mlp->weight[l], mlp->bias[l]};
        if (!lp__inputs_ok(t, in, 2)) return false;
        if (!LP__REQUIRE(
                t->ctx, in[0]->cols == inputs && in[1]->rows == 1 && in[1]->cols == in[0]->rows,
                "a layer is W [out, in] and b [1, out], in the width of the layer below") ||
            !LP__REQUIRE(t->ctx, in[0]->type == t->type && in[1]->type == t->type,
                         "an input has another type than the tape")) {
            lp__tape_fail(t, LP_INVALID);
            return false;
        }
        layer[l] = (lp__mlp_layer){
            lp__node_of(in[0]), lp__node_of(in[1]), inputs, in[0]->rows, NULL, NULL};
        inputs = in[0]->rows;
    }
    return true;
}

lp_tensor lp_mlp_forward(lp_tape* t, const lp_mlp* mlp, lp_tensor x) {
    if (!lp__inputs_ok(t, &x, 1)) return NULL;
    if (!LP__REQUIRE(t->ctx, mlp->layers >= 1 && mlp->layers <= LP_MLP_LAYERS,
                     "a perceptron has 1 to 8 layers"))
        return lp__tape_fail(t, LP_INVALID);
    lp__mlp_layer* layer = lp__tape_alloc(t, (size_t)mlp->layers * sizeof *layer);
    if (!layer || !bind(t, mlp, x->cols, layer)) return NULL;
    const lp__attr attr = {.mlp = {mlp->layers, mlp->activation, layer}};
    lp_tensor y = lp__apply(t, &lp__op_mlp, x->rows, layer[mlp->layers - 1].out, &x, 1, &attr);
    for (int l = 0; y && t->recording && l < mlp->layers; l++)
        lp__node_of(y)->t.needs_grad |= layer[l].w->t.needs_grad || layer[l].b->t.needs_grad;
    return y;
}
