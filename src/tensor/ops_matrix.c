/* Products, transposition, and taking rows or elements by index. */
#include "tensor/tape.h"

/* Whether the gradient of a tied table was noted row by row. */
static bool pending_f32(lp__node* node) {
    lp__node* table = node->in[0];
    if (!table->tied_to || !table->t.needs_grad) return false;
    if (!lp__pending_add(lp__node_ctx(node), table, node->t.rows, node->in[1]->t.data,
                         node->t.grad))
        lp__tape_fail(node->tape, LP_NOMEM);
    return true;
}
static bool pending_f64(lp__node* node) {
    (void)node;
    return false;
}

#define real     float
#define FN(name) name##_f32
#include "tensor/matrix.inc"
#undef real
#undef FN

#define real     double
#define FN(name) name##_f64
#include "tensor/matrix.inc"
#undef real
#undef FN

/* ---- the reference of matmul and linear, in double ------------------------------------------- */

/* Y [m, n] = A [m, k] B [k, n] */
static void matmul_forward_f64(lp__node* node) {
    const double *a = node->in[0]->t.data, *b = node->in[1]->t.data;
    double* y = node->t.data;
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) y[i * n + j] = 0;
        for (int64_t l = 0; l < k; l++) {
            const double ail = a[i * k + l];
            for (int64_t j = 0; j < n; j++) y[i * n + j] += ail * b[l * n + j];
        }
    }
}

/* dA += dY B^T, dB += A^T dY */
static void matmul_backward_f64(lp__node* node) {
    const double *a = node->in[0]->t.data, *b = node->in[1]->t.data, *dy = node->t.grad;
    double *da = lp__grad(node->in[0]), *db = lp__grad(node->in[1]);
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) {
            double sum = 0;
            for (int64_t j = 0; j < n; j++) {
                sum += dy[i * n + j] * b[l * n + j];
                if (db) db[l * n + j] += a[i * k + l] * dy[i * n + j];
            }
            if (da) da[i * k + l] += sum;
        }
    }
}

/* Y [m, n] = X [m, k] W^T + b, W [n, k], b [n] */
static void linear_forward_f64(lp__node* node) {
    const double *x = node->in[0]->t.data, *w = node->in[1]->t.data;
    const double* b = node->in[2] ? node->in[2]->t.data : NULL;
    double* y = node->t.data;
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) sum += x[i * k + l] * w[j * k + l];
            y[i * n + j] = b ? sum + b[j] : sum;
        }
    }
}

static void linear_backward_f64(lp__node* node) {
    const double *x = node->in[0]->t.data, *w = node->in[1]->t.data, *dy = node->t.grad;
    double *dx = lp__grad(node->in[0]), *dw = lp__grad(node->in[1]), *db = lp__grad(node->in[2]);
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            const double d = dy[i * n + j];
            for (int64_t l = 0; l < k; l++) {
                if (dx) dx[i * k + l] += d * w[j * k + l];
                if (dw) dw[j * k + l] += d * x[i * k + l];
            }
            if (db) db[j] += d;
        }
    }
}

/* ---- in float, by the kernels ---------------------------------------------------------------- */

/* Below this many multiplications a plain loop beats packing and the thread pool. It forms the same
 * chains of fma, so that a row has the same bits alone and in a batch that is not small. */
enum { SMALL_PRODUCT = 4096 };

static bool small(const lp__node* node, int64_t k) { return lp__size(node) * k <= SMALL_PRODUCT; }

static void gemm(lp__node* node, lp__trans trans, int64_t m, int64_t n, int64_t k, const float* a,
                 int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    lp_status status =
        lp__gemm(lp__node_ctx(node), trans, m, n, k, a, lda, b, ldb, c, ldc, accumulate);
    if (status != LP_OK) lp__tape_fail(node->tape, status);
}

/* Y = A B: row i of Y is the sum over l of a_il times row l of B. */
static void matmul_forward_small(lp__node* node) {
    const lp__kernels* kernels = lp__ctx_kernels(lp__node_ctx(node));
    const float *a = node->in[0]->t.data, *b = node->in[1]->t.data;
    float* y = node->t.data;
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    memset(y, 0, (size_t)(m * n) * sizeof *y);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t l = 0; l < k; l++) kernels->axpy(n, a[i * k + l], b + l * n, y + i * n);
    }
}

/* dA += dY B^T: row i of dA takes dy_ij times row j of B^T;  dB += A^T dY: row l of dB takes a_il
 * times row i of dY. */
static void matmul_backward_small(lp__node* node) {
    const lp__kernels* kernels = lp__ctx_kernels(lp__node_ctx(node));
    const float *a = node->in[0]->t.data, *b = node->in[1]->t.data, *dy = node->t.grad;
    float *da = lp__grad(node->in[0]), *db = lp__grad(node->in[1]);
    const int64_t m = node->t.rows, n = node->t.cols, k = node->in[0]->t.cols;
    float transposed[SMALL_PRODUCT]; /* [n, k]: of one row at least, B is no larger */
    for (int64_t l = 0; da && m > 0 && l < k; l++) {
        for (int64_t j = 0; j < n; j++) transposed[j * k + l] = b[l * n + j];
    }
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; da && j < n; j++)
            kernels->axpy(k, dy[i * n + j], transposed + j * k, da + i * k);
        for (int64_t l = 0; db && l < k; l++)
            kernels->axpy(n, a[i * k + l], dy + i * n, db + l * n);
    }
}

/* Y = A B;  dA += dY B^T;  dB += A^T dY. */
static void matmul_forward_gemm(lp__node* node) {
    const lp__node *a = node->in[0], *b = node->in[1];
    const int64_t m = a->t.rows, k = a->t.cols, n = b->t.cols;
    if (small(node, k)) {
        matmul_forward_small(node);
        return;
    }
    gemm(node, LP__NN, m, n, k, a->t.data, k, b->t.data, n, node->t.data, n, false);
}

static void matmul_backward_gemm(lp__node* node) {
    lp__node *a = node->in[0], *b = node->in[1];
    const int64_t m = a->t.rows, k = a->t.cols, n = b->t.cols;
    if (small(node, k)) {
        matmul_backward_small(node);
        return;
    }
    bool fresh;
    float* da = lp__grad_raw(a, &fresh);
    if (da) gemm(node, LP__NT, m, k, n, node->t.grad, n, b->t.data, n, da, k, !fresh);
    float* db = lp__grad_raw(b, &fresh);
    if (db) gemm(node, LP__TN, k, n, m, a->t.data, k, node->t.grad, n, db, n, !fresh);
}

/* ---- a parameter as right operand -------------------------------------------------------------
 */

typedef struct words_job {
    const lp__format* format;
    const float* x;
    int64_t n, words;
    lp__word* out;
} words_job;

static void words_row(void* user, int64_t row, int worker) {
    (void)worker;
    const words_job* job = user;
    job->format->store(job->n, job->x + row * job->n, job->out + row * job->words);
}

void lp__store_rows(lp_ctx* ctx, lp__number number, int64_t rows, int64_t n, const float* x,
                    lp__word* out) {
    const lp__format* format = &lp__ctx_kernels(ctx)->format[number];
    words_job job = {format, x, n, lp__words(format, n), out};
    lp__parallel_for(ctx, rows, words_row, &job);
}

const lp__word* lp__words_of(lp_ctx* ctx, lp__number number, int64_t rows, int64_t n,
                             const float* x) {
    if (number == LP__F32) return (const lp__word*)x;
    const int64_t words = lp__words(&lp__ctx_kernels(ctx)->format[number], n);
    lp__word* out = lp__arena_alloc(lp__scratch(ctx), (size_t)(rows * words) * sizeof *out);
    if (out) lp__store_rows(ctx, number, rows, n, x, out);
    return out;
}

/* C [m, n] = A [m, k] B, for the words of A. */
static bool by_operand(lp__node* node, lp__number number, int64_t m, int64_t n, int64_t k,
                       const float* a, const lp__word* b, float* c) {
    lp_ctx* ctx = lp__node_ctx(node);
    const lp__mark mark = lp__arena_mark(lp__scratch(ctx));
    const int64_t words = lp__words(&lp__ctx_kernels(ctx)->format[number], k);
    const lp__product product = {.m = m,
                                 .n = n,
                                 .term = {{lp__words_of(ctx, number, m, k, a), words, b, words, 0}},
                                 .terms = 1,
                                 .c = c,
                                 .ldc = n};
    const bool ok = b && (product.term[0].a || m == 0);
    if (ok)
        lp__products(ctx, number, &product, 1);
    else
        lp__tape_fail(node->tape, LP_NOMEM);
    lp__arena_release(lp__scratch(ctx), mark);
    return ok;
}

/* Y = X W^T + b;  dX += dY W;  dW += dY^T X, a chain over the rows of X from the stored gradient;
 * db likewise. */
static void linear_forward_gemm(lp__node* node) {
    const lp__node *x = node->in[0], *b = node->in[2];
    lp__node* w = node->in[1];
    const int64_t m = x->t.rows, k = x->t.cols, n = w->t.rows;
    float* y = node->t.data;
    if (!w->tape) {
        const lp__word* operand = lp__weight_operand(lp__node_ctx(node), w, LP__TRANSPOSED);
        if (!by_operand(node, w->number, m, n, k, x->t.data, operand, y)) return;
    } else {
        gemm(node, LP__NT, m, n, k, x->t.data, k, w->t.data, k, y, n, false);
    }
    if (!b) return;
    const float* bias = b->t.data;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) y[i * n + j] += bias[j];
    }
}

/* In bf16: every row is a step of k of its own, for rows of several sequences may follow each other
 * here. */
static void linear_backward_words(lp__node* node, float* dx, float* dw) {
    lp_ctx* ctx = lp__node_ctx(node);
    const lp__node *x = node->in[0], *w = node->in[1];
    const lp__number number = w->number;
    const lp__format* format = &lp__ctx_kernels(ctx)->format[number];
    const int64_t m = x->t.rows, k = x->t.cols, n = w->t.rows;
    lp__arena* scratch = lp__scratch(ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    if (dx) {
        float* c = lp__arena_alloc(scratch, (size_t)(m * k) * sizeof *c);
        const lp__word* operand = lp__weight_operand(ctx, node->in[1], LP__PLAIN);
        if (!c) lp__tape_fail(node->tape, LP_NOMEM);
        if (c && by_operand(node, number, m, k, n, node->t.grad, operand, c))
            lp__ctx_kernels(ctx)->axpy(m * k, 1.0f, c, dx);
    }
    if (dw && node->tape->status == LP_OK) {
        int32_t* row = lp__arena_alloc(scratch, (size_t)(2 * m) * sizeof *row);
        const lp__word *xw = lp__words_of(ctx, number, m, k, x->t.data),
                       *dyw = lp__words_of(ctx, number, m, n, node->t.grad);
        lp__word* blocks =
            lp__arena_alloc(scratch, (size_t)lp__cut_words(ctx, m, n, true) * sizeof *blocks);
        lp__word* panels =
            lp__arena_alloc(scratch, (size_t)lp__cut_words(ctx, m, k, false) * sizeof *panels);
        if (row && xw && dyw && blocks && panels) {
            const lp__steps steps = {m, row, row + m};
            for (int64_t i = 0; i < m; i++) row[i] = (int32_t)i, row[m + i] = -1;
            lp__cut_rows(ctx, number, &steps, n, dyw, lp__words(format, n), true, blocks);
            lp__cut_rows(ctx, number, &steps, k, xw, lp__words(format, k), false, panels);
            const lp__product product = {.m = n,
                                         .n = k,
                                         .term = {{blocks, 0, panels, m, 0}},
                                         .terms = 1,
                                         .blocks = true,
                                         .c = dw,
                                         .ldc = k,
                                         .accumulate = true};
            lp__products(ctx, number, &product, 1);
        } else {
            lp__tape_fail(node->tape, LP_NOMEM);
        }
    }
    lp__arena_release(scratch, mark);
}

static void linear_backward_gemm(lp__node* node) {
    lp__node *x = node->in[0], *w = node->in[1], *b = node->in[2];
    const int64_t m = x->t.rows, k = x->t.cols, n = w->t.rows;
    const float* dy = node->t.grad;
    if (w->number == LP__BF16) {
        linear_backward_words(node, lp__grad(x), lp__grad(w));
    } else {
        bool fresh;
        float* dx = lp__grad_raw(x, &fresh);
        if (dx) gemm(node, LP__NN, m, k, n, dy, n, w->t.data, k, dx, k, !fresh);
        float* dw = lp__grad_raw(w, &fresh);
        if (dw) gemm(node, LP__TN, n, k, m, dy, n, x->t.data, k, dw, k, !fresh);
    }
    float* db = lp__grad(b);
    if (!db) return;
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) db[j] += dy[i * n + j];
    }
}

const lp__op lp__op_matmul = {
    .name = "matmul",
    .forward = {matmul_forward_gemm, matmul_forward_f64},
    .backward = {matmul_backward_gemm, matmul_backward_f64},
};
const lp__op lp__op_linear = {
    .name = "linear",
    .forward = {linear_forward_gemm, linear_forward_f64},
    .backward = {linear_backward_gemm, linear_backward_f64},
};
#define OP(op, at)                                                                                 \
    const lp__op lp__op_##op = {.name = #op,                                                       \
                                .forward = {op##_forward_f32, op##_forward_f64},                   \
                                .backward = {op##_backward_f32, op##_backward_f64},                \
                                .index = at};
OP(transpose, 0)
OP(rows, 1)
OP(pick, 1)

lp_tensor lp_matmul(lp_tape* t, lp_tensor a, lp_tensor b) {
    lp_tensor in[2] = {a, b};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, a->cols == b->rows, "matmul needs [m, k] and [k, n]"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_matmul, a->rows, b->cols, in, 2, NULL);
}

lp_tensor lp_transpose(lp_tape* t, lp_tensor a) {
    if (!lp__inputs_ok(t, &a, 1)) return NULL;
    return lp__apply(t, &lp__op_transpose, a->cols, a->rows, &a, 1, NULL);
}

lp_tensor lp_linear(lp_tape* t, lp_tensor x, lp_tensor w, lp_tensor b) {
    lp_tensor in[3] = {x, w, b};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!LP__REQUIRE(t->ctx, x->cols == w->cols, "linear needs x [m, in] and W [out, in]") ||
        !LP__REQUIRE(t->ctx, !b || (b->rows == 1 && b->cols == w->rows), "the bias is [1, out]"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_linear, x->rows, w->rows, in, 3, NULL);
}

/* Whether all entries of an index [n, 1] lie in [0, limit). */
static bool index_ok(lp_tape* t, lp_tensor index, int64_t limit) {
    if (!LP__REQUIRE(t->ctx, index->type == LP_I32 && index->cols == 1,
                     "an index is [n, 1] of LP_I32"))
        return false;
    const int32_t* at = index->data;
    bool inside = true;
    for (int64_t i = 0; i < index->rows; i++) inside = inside && at[i] >= 0 && at[i] < limit;
    return LP__REQUIRE(t->ctx, inside, "an index is out of range");
}

lp_tensor lp_rows(lp_tape* t, lp_tensor x, lp_tensor index) {
    lp_tensor in[2] = {x, index};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!index_ok(t, index, x->rows)) return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_rows, index->rows, x->cols, in, 2, NULL);
}

lp_tensor lp_pick(lp_tape* t, lp_tensor x, lp_tensor index) {
    lp_tensor in[2] = {x, index};
    if (!lp__inputs_ok(t, in, 2)) return NULL;
    if (!index_ok(t, index, x->cols) ||
        !LP__REQUIRE(t->ctx, index->rows == x->rows, "pick needs one index a row"))
        return lp__tape_fail(t, LP_INVALID);
    return lp__apply(t, &lp__op_pick, x->rows, 1, in, 2, NULL);
}
