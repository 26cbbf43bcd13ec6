/* RMSNorm, rotary position embedding, SwiGLU: rows (or columns, for the gradient of a weight) are
 * shared out to the threads, each output is computed by one of them. */
#include "tensor/ranges.h"

static double sum_squares_f64(int64_t n, const double* x) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    return sum;
}

#define real              float
#define FN(name)          name##_f32
#define M(function)       function##f
#define SUM_SQUARES(n, x) lp__ctx_kernels(lp__node_ctx(node))->sum_squares(n, x)
#include "tensor/transformer.inc"
#undef real
#undef FN
#undef M
#undef SUM_SQUARES

#define real              double
#define FN(name)          name##_f64
#define M(function)       function
#define SUM_SQUARES(n, x) sum_squares_f64(n, x)
#include "tensor/transformer.inc"
#undef real
#undef FN
#undef M
#undef SUM_SQUARES

/* ---- RMSNorm --------------------------------------------------------------------------------- */

static void rmsnorm_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        rmsnorm_rows_f64(job->node, from, to);
    } else {
        rmsnorm_rows_f32(job->node, from, to);
    }
}

static void rmsnorm_dx_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        rmsnorm_dx_f64(job->node, job->out, from, to);
    } else {
        rmsnorm_dx_f32(job->node, job->out, from, to);
    }
}

static void rmsnorm_dw_run(const lp__range_job* job, int64_t from, int64_t to) {
    if (lp__is_f64(job->node)) {
        rmsnorm_dw_f64(job->node, job->out, from, to);
    } else {
        rmsnorm_dw_f32(job->node, job->out, from, to);
    }
}

static void rmsnorm_forward(lp__node* node) {
    node->saved = lp__tape_alloc(node->tape, (size_t)node->t.rows * sizeof(double));
    if (!node->saved) return;
    lp__range_job job = {.node = node, .run = rmsnorm_run};
    lp__for_ranges(&job, node->t.rows, node->t.cols);
}

static void rmsnorm_backward(lp__node* node) {
    lp__range_job job = {.node = node, .run = rmsnorm_dx_run, .out = lp__grad(node->in[0])};
    if (job.out) lp__for_ranges(&job, node->t.rows, node->t.cols);
    job.run = rmsnorm_dw_run;
    job.out = lp__grad(node->in[1]);
    if (job.out) lp__for_ranges(&job, node->t.cols, node->t.rows);
}

const lp__op lp__op_rmsnorm = {
    .name = "rmsnorm",
    .forward = {rmsnorm_forward, rmsnorm_forward},
    .backward = {rmsnorm_backward, rmsnorm_backward},
};

lp_tensor lp_rmsnorm(lp_tape* t, lp_tensor x, lp_tensor w, double eps) {
    lp_tensor in[2] = {x, w};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, w->rows == 1 && w->cols == x->cols,
                     "the weight of a norm is [1, cols]"))
        return lp__tape_fail(t, LP_INVALID);
    lp__attr attr = {.number = {eps, 0}};
    return lp__apply(t, &lp__op_rmsnorm, x->rows, x->cols, in, 2, &attr);
}

/* ---- rotary position embedding --------------------------------------------------------------- */

static void rope_run(const lp__range_job* job, int64_t from, int64_t to) {
    lp__node* node = job->node;
    const bool forward = job->out == node->t.data;
    const void* in = forward ? node->in[0]->t.data : node->t.grad;
    const double direction = forward ? 1.0 : -1.0;
    if (lp__is_f64(node)) {
        rope_rows_f64(node, in, job->out, direction, !forward, from, to);
    } else {
        rope_rows_f32(node, in, job->out, direction, !forward, from, to);
    }
}

/* The tape's copy of the frequencies, in its own type. */
static bool rope_frequencies(lp__node* node, const float* frequencies) {
    const int64_t half = node->attr.rope.head_dim / 2;
    node->saved = lp__tape_alloc(node->tape, (size_t)half * lp__dtype_bytes(node->t.type));
    if (!node->saved) return false;
    for (int64_t i = 0; i < half; i++) {
        if (lp__is_f64(node)) {
            ((double*)node->saved)[i] = (double)frequencies[i];
        } else {
            ((float*)node->saved)[i] = frequencies[i];
        }
    }
    return true;
}

static void rope_forward(lp__node* node) {
    if (!rope_frequencies(node, node->attr.rope.frequencies)) return;
    lp__range_job job = {.node = node, .run = rope_run, .out = node->t.data};
    lp__for_ranges(&job, node->t.rows, node->t.cols);
}

static void rope_backward(lp__node* node) {
    lp__range_job job = {.node = node, .run = rope_run, .out = lp__grad(node->in[0])};
    if (job.out) lp__for_ranges(&job, node->t.rows, node->t.cols);
}

const lp__op lp__op_rope = {
    .name = "rope",
    .forward = {rope_forward, rope_forward},
    .backward = {rope_backward, rope_backward},
    .index = 1,
};

void lp_rope_frequencies(int64_t head_dim, double base, float* frequencies) {
    for (int64_t i = 0; i < head_dim / 2; i++)
        frequencies[i] = (float)pow(base, -2.0 * (double)i / (double)head_dim);
}

lp_tensor lp_rope(lp_tape* t, lp_tensor x, lp_tensor position, int64_t head_dim,
                  const float* frequencies, double scale) {
    lp_tensor in[2] = {x, position};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, head_dim > 0 && head_dim % 2 == 0 && x->cols % head_dim == 0,
                     "rope needs whole heads of an even width") ||
        !LP__REQUIRE(t->ctx, frequencies, "rope needs the frequencies of half a head") ||
        !LP__REQUIRE(t->ctx,
                     position->type == LP_I32 && position->cols == 1 && position->rows == x->rows,
                     "rope needs one position a row, [rows, 1] of LP_I32"))
        return lp__tape_fail(t, LP_INVALID);
    lp__attr attr = {.rope = {head_dim, scale, frequencies}};
    return lp__apply(t, &lp__op_rope, x->rows, x->cols, in, 2, &attr);
}

/* ---- SwiGLU ---------------------------------------------------------------------------------- */

static void swiglu_run(const lp__range_job* job, int64_t from, int64_t to) {
    lp__node* node = job->node;
    if (lp__is_f64(node)) {
        const double *gate = node->in[0]->t.data, *up = node->in[1]->t.data;
        double* y = node->t.data;
        for (int64_t i = from; i < to; i++) y[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
        return;
    }
    const float *gate = node->in[0]->t.data, *up = node->in[1]->t.data;
    lp__ctx_kernels(lp__node_ctx(node))
        ->swiglu(to - from, gate + from, up + from, (float*)node->t.data + from);
}

static void swiglu_backward_run(const lp__range_job* job, int64_t from, int64_t to) {
    lp__node* node = job->node;
    if (lp__is_f64(node)) {
        swiglu_backward_range_f64(node, job->out, job->out2, from, to);
    } else if (job->out && job->out2) {
        const float *gate = node->in[0]->t.data, *up = node->in[1]->t.data, *dy = node->t.grad;
        lp__ctx_kernels(lp__node_ctx(node))
            ->swiglu_backward(to - from, gate + from, up + from, dy + from, (float*)job->out + from,
                              (float*)job->out2 + from);
    } else {
        swiglu_backward_range_f32(node, job->out, job->out2, from, to);
    }
}

static void swiglu_forward(lp__node* node) {
    lp__range_job job = {.node = node, .run = swiglu_run};
    lp__for_ranges(&job, lp__size(node), 1);
}

static void swiglu_backward(lp__node* node) {
    lp__range_job job = {.node = node,
                         .run = swiglu_backward_run,
                         .out = lp__grad(node->in[0]),
                         .out2 = lp__grad(node->in[1])};
    lp__for_ranges(&job, lp__size(node), 1);
}

const lp__op lp__op_swiglu = {
    .name = "swiglu",
    .forward = {swiglu_forward, swiglu_forward},
    .backward = {swiglu_backward, swiglu_backward},
};

lp_tensor lp_swiglu(lp_tape* t, lp_tensor gate, lp_tensor up) {
    lp_tensor in[2] = {gate, up};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, gate->rows == up->rows && gate->cols == up->cols,
                     "gate and up are of one shape"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_swiglu, gate->rows, gate->cols, in, 2, NULL);
}
