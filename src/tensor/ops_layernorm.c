/* Layer norm and GELU: rows, columns (for the gradients of weights) or elements are shared out to
 * the threads. */
#include "tensor/ranges.h"

/* sqrt(2 / pi), and the factor of the cube, of GPT-2's GELU */
#define GELU_C 0.79788456080286535588
#define GELU_A 0.044715

static void tanh_f64(int64_t n, const double* x, double* y) {
    for (int64_t i = 0; i < n; i++) y[i] = tanh(x[i]);
}

#define real          float
#define FN(name)      name##_f32
#define TANH(n, x, y) lp__ctx_kernels(lp__node_ctx(node))->tanh(n, x, y)
#include "tensor/layernorm.inc"
#undef real
#undef FN
#undef TANH

#define real          double
#define FN(name)      name##_f64
#define TANH(n, x, y) tanh_f64(n, x, y)
#include "tensor/layernorm.inc"
#undef real
#undef FN
#undef TANH

/* ---- layer norm ------------------------------------------------------------------------------ */

static void layernorm_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        layernorm_rows_f64(job->node, from, to);
    } else {
        layernorm_rows_f32(job->node, from, to);
    }
}

static void layernorm_dx_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        layernorm_dx_f64(job->node, job->out, from, to);
    } else {
        layernorm_dx_f32(job->node, job->out, from, to);
    }
}

static void layernorm_dw_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        layernorm_dw_f64(job->node, job->out, job->out2, from, to);
    } else {
        layernorm_dw_f32(job->node, job->out, job->out2, from, to);
    }
}

static void layernorm_forward(lp__node* node) {
    node->saved = lp__tape_alloc(node->tape, (size_t)node->t.rows * 2 * sizeof(double));
    if (!node->saved) return;
    lp__range_job job = {.node = node, .run = layernorm_run};
    lp__for_ranges(&job, node->t.rows, node->t.cols);
}

static void layernorm_backward(lp__node* node) {
    lp__range_job job = {.node = node, .run = layernorm_dx_run, .out = lp__grad(node->in[0])};
    if (job.out) lp__for_ranges(&job, node->t.rows, node->t.cols);
    job.run = layernorm_dw_run;
    job.out = lp__grad(node->in[1]);
    job.out2 = node->in[2] ? lp__grad(node->in[2]) : NULL;
    if (job.out || job.out2) lp__for_ranges(&job, node->t.cols, node->t.rows);
}

const lp__op lp__op_layernorm = {
    .name = "layernorm",
    .forward = {layernorm_forward, layernorm_forward},
    .backward = {layernorm_backward, layernorm_backward},
};

lp_tensor lp_layernorm(lp_tape* t, lp_tensor x, lp_tensor w, lp_tensor b, double eps) {
    lp_tensor in[3] = {x, w, b};
    const int n = b ? 3 : 2;
    if (!lp__inputs_ok(t, in, n)) return NULL;
    if (!LP__REQUIRE(t->ctx, w->rows == 1 && w->cols == x->cols,
                     "the weight of a norm is [1, cols]") ||
        !LP__REQUIRE(t->ctx, !b || (b->rows == 1 && b->cols == x->cols),
                     "the bias of a norm is [1, cols]"))
        return lp__tape_fail(t, LP_INVALID);
    lp__attr attr = {.number = {eps, 0}};
    return lp__apply(t, &lp__op_layernorm, x->rows, x->cols, in, n, &attr);
}

/* ---- GELU ------------------------------------------------------------------------------------ */

static void gelu_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        gelu_range_f64(job->node, from, to);
    } else {
        gelu_range_f32(job->node, from, to);
    }
}

static void gelu_dx_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        gelu_dx_f64(job->node, job->out, from, to);
    } else {
        gelu_dx_f32(job->node, job->out, from, to);
    }
}

static void gelu_forward(lp__node* node) {
    lp__range_job job = {.node = node, .run = gelu_run};
    lp__for_ranges(&job, lp__size(node), 1);
}

static void gelu_backward(lp__node* node) {
    lp__range_job job = {.node = node, .run = gelu_dx_run, .out = lp__grad(node->in[0])};
    if (job.out) lp__for_ranges(&job, lp__size(node), 1);
}

const lp__op lp__op_gelu = {
    .name = "gelu",
    .forward = {gelu_forward, gelu_forward},
    .backward = {gelu_backward, gelu_backward},
};

lp_tensor lp_gelu(lp_tape* t, lp_tensor x) {
    if (!lp__inputs_ok(t, &x, 1)) return NULL;
    return lp__apply(t, &lp__op_gelu, x->rows, x->cols, &x, 1, NULL);
}
