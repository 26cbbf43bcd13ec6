/* The vocabulary head: log softmax(h W^T / T) at one target a row. Logits exist for a block of rows
 * at a time only, in scratch; backward computes each block again.
 *
 *     z = h W^T / T,   log p_a = z_a - lse(z),   entropy = lse(z) - sum_j p_j z_j
 *     d log p_a / d z_j = 1{j = a} - p_j,   dh += dz W / T,   dW += dz^T h / T */
#include "tensor/tape.h"

enum { BLOCK_ROWS = 256, VOCAB_PIECE = 1024 };

lp__row_stats lp__logits_stats(const lp__kernels* kernels, int64_t n, const float* z,
                               float* scratch) {
    lp__row_stats stats;
    stats.max = kernels->max(n, z);
    const double sum = kernels->sum_exp(n, z, stats.max, scratch);
    stats.lse = (double)stats.max + log(sum);
    stats.entropy = scratch ? stats.lse - kernels->dot_f64(n, scratch, z) / sum : (double)NAN;
    return stats;
}

typedef struct head_job {
    lp__node* node;
    const lp__kernels* kernels;
    float* z; /* [block, vocab]: logits, then their gradient */
    int64_t first;
} head_job;

static void scale_row(int64_t n, float* z, double temperature) {
    if (temperature == 1.0) return;
    const float factor = (float)(1.0 / temperature);
    for (int64_t j = 0; j < n; j++) z[j] *= factor;
}

static void forward_row(void* user, int64_t index, int worker) {
    const head_job* job = user;
    lp__node* node = job->node;
    const int64_t vocab = node->in[1]->t.rows, row = job->first + index;
    float* z = job->z + index * vocab;
    scale_row(vocab, z, node->attr.head.temperature);
    float* scratch =
        node->attr.head.entropy ? lp__worker_scratch(lp__node_ctx(node), worker) : NULL;
    const lp__row_stats stats = lp__logits_stats(job->kernels, vocab, z, scratch);
    const int32_t target = ((const int32_t*)node->in[2]->t.data)[row];
    ((float*)node->t.data)[row] = (float)((double)z[target] - stats.lse);
    node->attr.head.lse[row] = stats.lse;
    if (node->attr.head.entropy) node->attr.head.entropy[row] = (float)stats.entropy;
}

static void backward_row(void* user, int64_t index, int worker) {
    (void)worker;
    const head_job* job = user;
    lp__node* node = job->node;
    const int64_t vocab = node->in[1]->t.rows, row = job->first + index;
    float* z = job->z + index * vocab;
    scale_row(vocab, z, node->attr.head.temperature);
    /* p = exp(z - lse), with what rounding lse to float loses put back as a factor */
    const double lse = node->attr.head.lse[row], dy = (double)((const float*)node->t.grad)[row];
    const double scaled = dy / node->attr.head.temperature;
    job->kernels->sum_exp(vocab, z, (float)lse, z);
    const float factor = (float)(-scaled * exp((double)(float)lse - lse));
    for (int64_t j = 0; j < vocab; j++) z[j] *= factor;
    z[((const int32_t*)node->in[2]->t.data)[row]] += (float)scaled;
}

/* Calls `row` for each row of each block of logits, then `after` (if not NULL) for the block. */
static void for_blocks(lp__node* node, lp__task_fn row,
                       void (*after)(head_job* job, int64_t rows)) {
    lp_ctx* ctx = lp__node_ctx(node);
    lp__node* w = node->in[1];
    const int64_t vocab = w->t.rows, d = w->t.cols, rows = node->t.rows;
    const float* packed = lp__packed_weight(ctx, w);
    lp__arena* scratch = lp__scratch(ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    head_job job = {.node = node, .kernels = lp__ctx_kernels(ctx)};
    job.z = lp__arena_alloc(scratch,
                            (size_t)(LP__MIN(rows, (int64_t)BLOCK_ROWS) * vocab) * sizeof(float));
    if (!job.z) lp__tape_fail(node->tape, LP_NOMEM);
    for (; job.first < rows && node->tape->status == LP_OK; job.first += BLOCK_ROWS) {
        const int64_t block = LP__MIN(rows - job.first, (int64_t)BLOCK_ROWS);
        const float* h = (const float*)node->in[0]->t.data + job.first * d;
        if (packed) {
            lp__gemm_packed(ctx, block, vocab, d, h, d, packed, job.z, vocab, false);
        } else if (lp__gemm(ctx, LP__NT, block, vocab, d, h, d, w->t.data, d, job.z, vocab,
                            false) != LP_OK) {
            lp__tape_fail(node->tape, LP_NOMEM);
            break;
        }
        /* the product's tasks share the workers' scratch with ours, which therefore comes after it
         */
        if (!lp__worker_scratch_reserve(ctx, (size_t)vocab * sizeof(float))) {
            lp__tape_fail(node->tape, LP_NOMEM);
            break;
        }
        lp__parallel_for(ctx, block, row, &job);
        if (after) after(&job, block);
    }
    lp__arena_release(scratch, mark);
}

static void head_forward(lp__node* node) {
    node->attr.head.lse = lp__tape_alloc(node->tape, (size_t)node->t.rows * sizeof(double));
    if (node->attr.head.lse) for_blocks(node, forward_row, NULL);
}

/* dh += dz W. One chain over the whole vocabulary would lose digits that later cancellations need,
 * so it is summed in pieces of VOCAB_PIECE tokens, and the pieces in order. */
static lp_status add_dh(head_job* job, int64_t rows) {
    lp__node *node = job->node, *w = node->in[1];
    const int64_t vocab = w->t.rows, d = w->t.cols;
    lp_ctx* ctx = lp__node_ctx(node);
    lp__arena* scratch = lp__scratch(ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    float* piece = lp__arena_alloc(scratch, (size_t)(rows * d) * sizeof(float));
    float* dh = (float*)node->in[0]->t.grad + job->first * d;
    lp_status status = piece ? LP_OK : LP_NOMEM;
    for (int64_t from = 0; status == LP_OK && from < vocab; from += VOCAB_PIECE) {
        const int64_t n = LP__MIN(vocab - from, (int64_t)VOCAB_PIECE);
        status = lp__gemm(ctx, LP__NN, rows, d, n, job->z + from, vocab,
                          (const float*)w->t.data + from * d, d, piece, d, false);
        for (int64_t i = 0; status == LP_OK && i < rows * d; i++) dh[i] += piece[i];
    }
    lp__arena_release(scratch, mark);
    return status;
}

static void block_products(head_job* job, int64_t rows) {
    lp__node *node = job->node, *h = node->in[0], *w = node->in[1];
    const int64_t vocab = w->t.rows, d = w->t.cols;
    lp_status status = LP_OK;
    if (h->t.needs_grad) status = add_dh(job, rows);
    if (status == LP_OK && w->t.needs_grad)
        status = lp__gemm(lp__node_ctx(node), LP__TN, vocab, d, rows, job->z, vocab,
                          (const float*)h->t.data + job->first * d, d, w->t.grad, d, true);
    if (status != LP_OK) lp__tape_fail(node->tape, status);
}

static void head_backward(lp__node* node) {
    lp__grad(node->in[0]);
    lp__grad(node->in[1]);
    if (node->tape->status == LP_OK) for_blocks(node, backward_row, block_products);
}

/* ---- the reference, in double ---------------------------------------------------------------- */

static void head_forward_f64(lp__node* node) {
    const double *h = node->in[0]->t.data, *w = node->in[1]->t.data;
    const int32_t* target = node->in[2]->t.data;
    const int64_t vocab = node->in[1]->t.rows, d = node->in[1]->t.cols;
    double* z = lp__tape_alloc(node->tape, (size_t)vocab * sizeof *z);
    if (!z) return;
    for (int64_t i = 0; i < node->t.rows; i++) {
        double max = -(double)INFINITY, sum = 0, expected = 0;
        for (int64_t j = 0; j < vocab; j++) {
            z[j] = 0;
            for (int64_t l = 0; l < d; l++)
                z[j] += h[i * d + l] * w[j * d + l] / node->attr.head.temperature;
            max = z[j] > max ? z[j] : max;
        }
        for (int64_t j = 0; j < vocab; j++) {
            sum += exp(z[j] - max);
            expected += exp(z[j] - max) * z[j];
        }
        const double lse = max + log(sum);
        ((double*)node->t.data)[i] = z[target[i]] - lse;
        if (node->attr.head.entropy) node->attr.head.entropy[i] = (float)(lse - expected / sum);
    }
}

static void head_backward_f64(lp__node* node) {
    const double *h = node->in[0]->t.data, *w = node->in[1]->t.data, *dy = node->t.grad;
    double *dh = lp__grad(node->in[0]), *dw = lp__grad(node->in[1]);
    const int32_t* target = node->in[2]->t.data;
    const int64_t vocab = node->in[1]->t.rows, d = node->in[1]->t.cols;
    double* z = lp__tape_alloc(node->tape, (size_t)vocab * sizeof *z);
    if (!z) return;
    for (int64_t i = 0; i < node->t.rows; i++) {
        double max = -(double)INFINITY, sum = 0;
        for (int64_t j = 0; j < vocab; j++) {
            z[j] = 0;
            for (int64_t l = 0; l < d; l++)
                z[j] += h[i * d + l] * w[j * d + l] / node->attr.head.temperature;
            max = z[j] > max ? z[j] : max;
        }
        for (int64_t j = 0; j < vocab; j++) sum += exp(z[j] - max);
        for (int64_t j = 0; j < vocab; j++) {
            const double dz = dy[i] * ((j == target[i] ? 1.0 : 0.0) - exp(z[j] - max) / sum) /
                              node->attr.head.temperature;
            for (int64_t l = 0; l < d; l++) {
                if (dh) dh[i * d + l] += dz * w[j * d + l];
                if (dw) dw[j * d + l] += dz * h[i * d + l];
            }
        }
    }
}

const lp__op lp__op_head_logp = {
    .name = "head_logp",
    .forward = {head_forward, head_forward_f64},
    .backward = {head_backward, head_backward_f64},
    .index = 2,
};

lp_tensor lp_head_logp(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target, double temperature,
                       lp_tensor* entropy) {
    lp_tensor in[3] = {h, w, target};
    if (entropy) *entropy = NULL;
    if (!lp__inputs_ok(t, in, 3)) return NULL;
    if (!LP__REQUIRE(t->ctx, h->cols == w->cols, "the head needs h [n, d] and W [vocab, d]") ||
        !LP__REQUIRE(t->ctx, target->type == LP_I32 && target->cols == 1 && target->rows == h->rows,
                     "the head needs one target a row, [n, 1] of LP_I32") ||
        !LP__REQUIRE(t->ctx, temperature > 0, "a temperature is positive"))
        return lp__tape_fail(t, LP_INVALID);
    for (int64_t i = 0; i < target->rows; i++) {
        const int32_t a = ((const int32_t*)target->data)[i];
        if (!LP__REQUIRE(t->ctx, a >= 0 && a < w->rows, "a target is outside the vocabulary"))
            return lp__tape_fail(t, LP_INVALID);
    }
    lp__attr attr = {.head = {.temperature = temperature}};
    if (entropy) {
        attr.head.entropy = lp__tape_alloc(t, (size_t)h->rows * sizeof(float));
        if (!attr.head.entropy) return NULL;
    }
    lp_tensor y = lp__apply(t, &lp__op_head_logp, h->rows, 1, in, 3, &attr);
    if (y && entropy) *entropy = lp_const_f32(t, h->rows, 1, attr.head.entropy);
    return y;
}
