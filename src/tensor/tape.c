/* The tape: nodes in the order in which they were made; backward walks them from the last to the
 * first. */
#include "tensor/tape.h"

enum { TAPE_CHUNK_BYTES = 1 << 16 };

lp_tape* lp_tape_create(lp_ctx* ctx, lp_dtype type) {
    if (!LP__REQUIRE(ctx, type == LP_F32 || type == LP_F64, "a tape is of type LP_F32 or LP_F64"))
        return NULL;
    lp_tape* tape = lp__calloc(ctx, 1, sizeof *tape);
    if (!tape) return NULL;
    tape->ctx = ctx;
    tape->type = type;
    tape->recording = true;
    lp__arena_init(&tape->arena, ctx, TAPE_CHUNK_BYTES);
    return tape;
}

void lp_tape_destroy(lp_tape* tape) {
    if (!tape) return;
    lp__arena_free(&tape->arena);
    lp__free(tape->ctx, tape);
}

void lp_tape_reset(lp_tape* tape) {
    lp__arena_reset(&tape->arena);
    tape->last = NULL;
    tape->status = LP_OK;
    tape->walked = false;
}

void lp_tape_record(lp_tape* tape, bool recording) { tape->recording = recording; }
void lp_tape_recompute(lp_tape* tape, bool recompute) { tape->recompute = recompute; }
lp_status lp_tape_status(const lp_tape* tape) { return tape->status; }
lp_ctx* lp_tape_ctx(const lp_tape* tape) { return tape->ctx; }
size_t lp_tape_bytes(const lp_tape* tape) { return tape->arena.used; }

lp_tensor lp__tape_fail(lp_tape* tape, lp_status status) {
    if (tape->status == LP_OK) tape->status = status;
    return NULL;
}

void* lp__tape_alloc(lp_tape* tape, size_t bytes) {
    void* block = lp__arena_alloc(&tape->arena, bytes);
    if (!block) lp__tape_fail(tape, LP_NOMEM);
    return block;
}

static lp__node* node_create(lp_tape* tape, lp_dtype type, int64_t rows, int64_t cols) {
    if (tape->status != LP_OK) return NULL;
    if (lp_cancelled(tape->ctx)) {
        lp__tape_fail(tape, lp_fail(tape->ctx, LP_CANCELLED, "cancelled"));
        return NULL;
    }
    size_t bytes;
    if (!LP__REQUIRE(tape->ctx, rows >= 0 && cols >= 0, "a tensor has no negative size")) {
        lp__tape_fail(tape, LP_INVALID);
        return NULL;
    }
    if (!lp__mul_ok((size_t)rows, (size_t)cols, &bytes) ||
        !lp__mul_ok(bytes, lp__dtype_bytes(type), &bytes)) {
        lp__tape_fail(tape, lp_fail(tape->ctx, LP_NOMEM, "a tensor of %lld x %lld is too large",
                                    (long long)rows, (long long)cols));
        return NULL;
    }
    lp__node* node = lp__tape_alloc(tape, sizeof *node);
    if (!node) return NULL;
    memset(node, 0, sizeof *node);
    node->t.rows = rows;
    node->t.cols = cols;
    node->t.type = type;
    node->tape = tape;
    node->t.data = lp__tape_alloc(tape, bytes);
    if (!node->t.data) return NULL;
    node->previous = tape->last;
    tape->last = node;
    return node;
}

lp__node* lp__leaf(lp_tape* tape, lp_dtype type, int64_t rows, int64_t cols) {
    return node_create(tape, type, rows, cols);
}

bool lp__inputs_ok(lp_tape* tape, const lp_tensor* inputs, int n_inputs) {
    if (tape->status != LP_OK) return false;
    for (int i = 0; i < n_inputs; i++) {
        if (inputs[i]) continue;
        if (lp__null_was_given(tape->ctx)) {
            if (lp_error_status(tape->ctx) != LP_NOMEM)
                lp_fail(tape->ctx, LP_NOMEM,
                        "an input of an op is NULL: memory did not suffice for a parameter");
            lp__tape_fail(tape, LP_NOMEM);
        } else {
            lp__assertion(tape->ctx, "input != NULL", __FILE__ ":" LP__STR(__LINE__),
                          "an input of an op is NULL");
            lp__tape_fail(tape, LP_INVALID);
        }
        return false;
    }
    return true;
}

lp_tensor lp__apply(lp_tape* tape, const lp__op* op, int64_t rows, int64_t cols,
                    const lp_tensor* inputs, int n_inputs, const lp__attr* attr) {
    lp__node* node = node_create(tape, tape->type, rows, cols);
    if (!node) return NULL;
    node->op = op;
    if (attr) node->attr = *attr;
    for (int i = 0; i < n_inputs; i++) {
        if (!inputs[i]) continue; /* an optional input */
        node->in[i] = lp__node_of(inputs[i]);
        if (!LP__REQUIRE(tape->ctx, inputs[i]->type == tape->type || (i > 0 && i == op->index),
                         "an input has another type than the tape"))
            return lp__tape_fail(tape, LP_INVALID);
        if (tape->recording && inputs[i]->needs_grad) node->t.needs_grad = true;
    }
    op->forward[tape->type == LP_F64](node);
    return tape->status == LP_OK ? &node->t : NULL;
}

void* lp__grad_raw(lp__node* node, bool* fresh) {
    *fresh = false;
    if (!node || !node->t.needs_grad) return NULL;
    if (!node->t.grad) {
        const size_t bytes = (size_t)lp__size(node) * lp__dtype_bytes(node->t.type);
        if (node->spent)
            node->t.grad = node->spent;
        else if (node->tape)
            node->t.grad = lp__tape_alloc(node->tape, bytes);
        else /* a tied use; other parameters have memory from the first */
            node->t.grad = lp__arena_alloc(node->arena, bytes);
        node->spent = NULL;
        *fresh = node->t.grad != NULL;
    }
    return node->t.grad;
}

void* lp__grad(lp__node* node) {
    bool fresh;
    void* grad = lp__grad_raw(node, &fresh);
    if (grad && fresh) memset(grad, 0, (size_t)lp__size(node) * lp__dtype_bytes(node->t.type));
    return grad;
}

/* A tied use gets memory for its gradient only when it needs it, and may get none. */
static bool tied_inputs_done(const lp__node* node) {
    for (int i = 0; i < LP__MAX_INPUTS; i++) {
        const lp__node* in = node->in[i];
        if (in && in->tied_to && in->t.needs_grad && !in->t.grad && !in->pending) return false;
    }
    return true;
}

lp_status lp_backward(lp_tape* tape, lp_tensor loss) {
    if (tape->status != LP_OK) return tape->status;
    if (!LP__REQUIRE(tape->ctx, loss && loss->rows == 1 && loss->cols == 1, "a loss is [1, 1]") ||
        !LP__REQUIRE(tape->ctx, tape->recording, "the tape was not recording"))
        return LP_INVALID;
    if (!LP__REQUIRE(tape->ctx, !tape->walked,
                     "lp_backward was called already: reset the tape and record anew"))
        return LP_INVALID;
    lp__node* root = lp__node_of(loss);
    if (!root->t.needs_grad) return LP_OK; /* it depends on no parameter */
    void* seed = lp__grad(root);
    if (!seed) return tape->status;
    tape->walked = true;
    if (tape->type == LP_F64) { /* += : the loss may be a parameter itself */
        *(double*)seed += 1.0;
    } else {
        *(float*)seed += 1.0f;
    }
    for (lp__node* node = root; node && tape->status == LP_OK; node = node->previous) {
        if (!node->op || !node->t.grad) continue;
        if (lp_cancelled(tape->ctx)) {
            tape->status = lp_fail(tape->ctx, LP_CANCELLED, "cancelled");
            break;
        }
        node->op->backward[tape->type == LP_F64](node);
        if (tape->status == LP_OK && !tied_inputs_done(node)) tape->status = LP_NOMEM;
    }
    return tape->status;
}

/* ---- constants ------------------------------------------------------------------------------- */

lp_tensor lp_const_f64(lp_tape* t, int64_t rows, int64_t cols, const double* values) {
    lp__node* node = lp__leaf(t, t->type, rows, cols);
    if (!node) return NULL;
    int64_t n = rows * cols;
    if (t->type == LP_F64) {
        memcpy(node->t.data, values, (size_t)n * sizeof(double));
    } else {
        float* y = node->t.data;
        for (int64_t i = 0; i < n; i++) y[i] = (float)values[i];
    }
    return &node->t;
}

lp_tensor lp_input_f64(lp_tape* t, int64_t rows, int64_t cols, const double* values) {
    lp_tensor x = lp_const_f64(t, rows, cols, values);
    if (x) lp__node_of(x)->t.needs_grad = true;
    return x;
}

lp_tensor lp_const_f32(lp_tape* t, int64_t rows, int64_t cols, const float* values) {
    lp__node* node = lp__leaf(t, t->type, rows, cols);
    if (!node) return NULL;
    int64_t n = rows * cols;
    if (t->type == LP_F32) {
        memcpy(node->t.data, values, (size_t)n * sizeof(float));
    } else {
        double* y = node->t.data;
        for (int64_t i = 0; i < n; i++) y[i] = (double)values[i];
    }
    return &node->t;
}

lp_tensor lp_const_i32(lp_tape* t, int64_t rows, int64_t cols, const int32_t* values) {
    lp__node* node = lp__leaf(t, LP_I32, rows, cols);
    if (!node) return NULL;
    memcpy(node->t.data, values, (size_t)(rows * cols) * sizeof(int32_t));
    return &node->t;
}

lp_tensor lp_scalar(lp_tape* t, double value) { return lp_const_f64(t, 1, 1, &value); }

lp_tensor lp_zeros(lp_tape* t, int64_t rows, int64_t cols) {
    lp__node* node = lp__leaf(t, t->type, rows, cols);
    if (!node) return NULL;
    memset(node->t.data, 0, (size_t)(rows * cols) * lp__dtype_bytes(t->type));
    return &node->t;
}

lp_tensor lp_randn(lp_tape* t, lp_rng* rng, int64_t rows, int64_t cols) {
    lp__node* node = lp__leaf(t, t->type, rows, cols);
    if (!node) return NULL;
    if (t->type == LP_F64) {
        lp_rng_normal_f64(rng, node->t.data, rows * cols);
    } else {
        lp_rng_normal_f32(rng, node->t.data, rows * cols);
    }
    return &node->t;
}

lp_tensor lp_detach(lp_tape* t, lp_tensor x) {
    if (!lp__inputs_ok(t, &x, 1)) return NULL;
    lp__node* node = lp__leaf(t, x->type, x->rows, x->cols);
    if (!node) return NULL;
    memcpy(node->t.data, x->data, (size_t)(x->rows * x->cols) * lp__dtype_bytes(x->type));
    return &node->t;
}

/* ---- reading --------------------------------------------------------------------------------- */

float* lp_f32(lp_tensor x) { return x ? x->data : NULL; }
double* lp_f64(lp_tensor x) { return x ? x->data : NULL; }
int32_t* lp_i32(lp_tensor x) { return x ? x->data : NULL; }
float* lp_grad_f32(lp_tensor x) {
    if (!x) return NULL;
    return lp__node_of(x)->spent ? lp__grad(lp__node_of(x)) : x->grad;
}

static double element(const void* data, lp_dtype type, int64_t i) {
    switch (type) {
    case LP_F64: return ((const double*)data)[i];
    case LP_F32: return (double)((const float*)data)[i];
    case LP_I32: return (double)((const int32_t*)data)[i];
    }
    return (double)NAN;
}

double lp_at(lp_tensor x, int64_t row, int64_t col) {
    return x ? element(x->data, x->type, row * x->cols + col) : (double)NAN;
}

double lp_grad_at(lp_tensor x, int64_t row, int64_t col) {
    if (!x) return (double)NAN;
    return x->grad ? element(x->grad, x->type, row * x->cols + col) : 0.0;
}

double lp_item(lp_tensor x) { return lp_at(x, 0, 0); }
