/* A decoder block with random weights, of one of a few families, and what the tests of it share. */
#ifndef TESTS_NN_BLOCK_RIG_H
#define TESTS_NN_BLOCK_RIG_H

#include "testing.h"

#include "nn/transformer.h"
#include "tensor/params.h"

typedef struct family {
    const char* name;
    lp__norm_kind norm;
    lp__mlp_kind mlp;
    bool rotary, biases;
    int64_t heads, kv_heads, head_dim, width, intermediate;
} family;

static const family FAMILIES[] = {
    {"llama", LP__NORM_RMS, LP__MLP_SWIGLU, true, false, 6, 2, 8, 48, 100},
    {"qwen, every bias", LP__NORM_RMS, LP__MLP_SWIGLU, true, true, 3, 1, 12, 40, 70},
    {"gpt2", LP__NORM_LAYER, LP__MLP_GELU_TANH, false, true, 4, 4, 16, 64, 130},
    {"odd widths", LP__NORM_LAYER, LP__MLP_SWIGLU, true, true, 2, 1, 6, 33, 51},
};
enum { FAMILY_COUNT = sizeof FAMILIES / sizeof *FAMILIES, MAX_ROWS = 600, MAX_HALF = 32 };

/* Fields of an lp__block in order. */
enum { FIELDS = sizeof(lp__block) / sizeof(lp_tensor) };
static const char* const FIELD_NAMES[] = {"attention_norm",
                                          "attention_norm_bias",
                                          "q",
                                          "q_bias",
                                          "k",
                                          "k_bias",
                                          "v",
                                          "v_bias",
                                          "o",
                                          "o_bias",
                                          "mlp_norm",
                                          "mlp_norm_bias",
                                          "gate",
                                          "gate_bias",
                                          "up",
                                          "up_bias",
                                          "down",
                                          "down_bias"};
_Static_assert(sizeof FIELD_NAMES / sizeof *FIELD_NAMES == FIELDS, "a name for each field");
static inline lp_tensor* fields_of(lp__block* w) { return (lp_tensor*)(void*)w; }

typedef struct block_rig {
    const family* f;
    lp_ctx* ctx;
    lp_params *params, *frozen;
    lp_tensor field[FIELDS]; /* NULL: the family has none */
    lp_tensor x;             /* [MAX_ROWS, width] */
    lp__block w;
    lp__block_shape shape;
    float frequencies[MAX_HALF];
    lp_tape* t;
} block_rig;

/* Rows and columns of field i; 0 columns: there is none. */
static inline void field_shape(const family* f, int i, int64_t* rows, int64_t* cols) {
    const int64_t q = f->heads * f->head_dim, kv = f->kv_heads * f->head_dim;
    const int64_t out[] = {q, kv, kv, f->width};
    const bool gated = f->mlp == LP__MLP_SWIGLU, layer = f->norm == LP__NORM_LAYER;
    *rows = 1, *cols = 0;
    if (i == 0 || i == 10)
        *cols = f->width;
    else if (i == 1 || i == 11)
        *cols = layer ? f->width : 0;
    else if (i < 10 && i % 2 == 0)
        *rows = out[i / 2 - 1], *cols = i == 8 ? q : f->width;
    else if (i < 10)
        *cols = f->biases ? out[i / 2 - 1] : 0;
    else if (i == 12 || i == 14)
        *rows = f->intermediate, *cols = i == 12 && !gated ? 0 : f->width;
    else if (i == 16)
        *rows = f->width, *cols = f->intermediate;
    else
        *cols = !f->biases || (i == 13 && !gated) ? 0 : i == 17 ? f->width : f->intermediate;
}

/* Numbers are the same for all types, formats, contexts. Fields of the bits in `frozen` are
 * constant.
 */
static inline block_rig block_rig_make(const family* f, lp_dtype type, int number,
                                       const lp_ctx_def* def, uint32_t frozen) {
    block_rig r = {.f = f, .ctx = lp_ctx_create(def, NULL, 0)};
    assert_non_null(r.ctx);
    r.params = lp_params_create(r.ctx, type, true);
    r.frozen = lp_params_create(r.ctx, type, false);
    lp_rng rng = lp_rng_philox(12, LP_FOR_TEST, 0, 0);
    for (int i = 0; i <= FIELDS; i++) {
        int64_t rows = MAX_ROWS, cols = f->width;
        if (i < FIELDS) field_shape(f, i, &rows, &cols);
        if (cols == 0) continue;
        lp_tensor p = lp_param(i < FIELDS && frozen >> i & 1 ? r.frozen : r.params,
                               i < FIELDS ? FIELD_NAMES[i] : "x", rows, cols);
        const bool norm = i == 0 || i == 10;
        const double scale = i == FIELDS || rows == 1 ? 0.5 : 1.0 / sqrt((double)cols);
        for (int64_t j = 0; j < rows * cols; j++) {
            const float z = (float)((norm ? 1.0 : 0.0) +
                                    (norm ? 0.2 : 2 * scale) * (2 * lp_rng_uniform(&rng) - 1));
            if (type == LP_F64)
                ((double*)p->data)[j] = (double)z;
            else
                ((float*)p->data)[j] = z;
        }
        if (i == FIELDS) {
            r.x = p;
        } else {
            r.field[i] = p;
            if (rows > 1 && type == LP_F32) lp__param_set_number(p, (lp__number)number);
        }
    }
    memcpy(fields_of(&r.w), r.field, sizeof r.field);
    lp_rope_frequencies(f->head_dim, 100, r.frequencies);
    r.shape =
        (lp__block_shape){f->heads, f->kv_heads, f->head_dim, f->norm, 1e-5, f->mlp, NULL, 1.25};
    r.t = lp_tape_create(r.ctx, type);
    return r;
}

/* The block of x, rows in ragged sequences at their positions, fused or composed. The shape's
 * frequencies point into the rig where it is now. */
static inline lp_tensor block_on(block_rig* r, bool fused, lp_tensor x,
                                 const lp_attention_def* attention, const int32_t* position) {
    lp_tape* t = r->t;
    r->shape.rope_frequencies = r->f->rotary ? r->frequencies : NULL;
    lp_tensor at = lp_const_i32(t, attention->offsets[attention->sequences], 1, position);
    if (!fused) return lp__block_forward(t, &r->shape, &r->w, x, at, attention);
    return lp__block_fused(t, &r->shape, &r->w, x,
                           r->f->rotary ? lp__rotation(t, &r->shape, at) : NULL, attention);
}

/* The same of rows of the rig's x. */
static inline lp_tensor block_run(block_rig* r, bool fused, const lp_attention_def* attention,
                                  const int32_t* index, const int32_t* position) {
    const int64_t n = attention->offsets[attention->sequences];
    lp_tensor x = lp_rows(r->t, r->x, lp_const_i32(r->t, n, 1, index));
    return block_on(r, fused, x, attention, position);
}

/* Its rows one after the other, from number `first` of x on. */
static inline lp_tensor block_of(block_rig* r, bool fused, int64_t sequences,
                                 const int64_t* offsets, int64_t first) {
    int32_t index[MAX_ROWS], position[MAX_ROWS];
    for (int64_t s = 0; s < sequences; s++) {
        for (int64_t i = offsets[s]; i < offsets[s + 1]; i++) {
            index[i] = (int32_t)(first + i);
            position[i] = (int32_t)(i - offsets[s]);
        }
    }
    const lp_attention_def def = {.heads = r->f->heads,
                                  .kv_heads = r->f->kv_heads,
                                  .sequences = sequences,
                                  .offsets = offsets};
    return block_run(r, fused, &def, index, position);
}

/* A fixed weight of each output in the loss. */
static inline double loss_weight(int64_t row, int64_t col) {
    return (double)((row * 37 + col * 101) % 64) / 64.0 - 0.4921875;
}

/* The gradients of sum(weights y), row i of y being number first + i of all. */
static inline lp_status block_backward(block_rig* r, lp_tensor y, int64_t first) {
    if (!y) return lp_tape_status(r->t);
    double* weight = malloc((size_t)(y->rows * y->cols + 1) * sizeof *weight);
    for (int64_t i = 0; i < y->rows; i++)
        for (int64_t j = 0; j < y->cols; j++) weight[i * y->cols + j] = loss_weight(first + i, j);
    lp_tensor loss = lp_sum(r->t, lp_mul(r->t, y, lp_const_f64(r->t, y->rows, y->cols, weight)));
    free(weight);
    return lp_tape_status(r->t) == LP_OK ? lp_backward(r->t, loss) : lp_tape_status(r->t);
}

/* |got - want| of the largest |want|. */
static inline void assert_near(const char* who, const char* what, lp_tensor got, lp_tensor want,
                               int64_t count, bool grad, double tolerance) {
    double worst = 0, largest = 0;
    for (int64_t i = 0; i < count; i++) {
        const double a = grad ? lp_grad_at(got, 0, i) : lp_at(got, 0, i);
        const double b = grad ? lp_grad_at(want, 0, i) : lp_at(want, 0, i);
        worst = fabs(a - b) <= worst ? worst : fabs(a - b); /* a NaN stays */
        largest = fmax(largest, fabs(b));
    }
    if (!(largest > 0 && worst <= tolerance * largest))
        fail_msg("%s, %s: off by %g of %g", who, what, worst, largest);
}

static inline int64_t size_of(lp_tensor x) { return x->rows * x->cols; }

static inline void assert_same_gradients(const block_rig* a, const block_rig* b) {
    for (int i = 0; i < FIELDS; i++)
        if (a->field[i] && a->field[i]->grad && b->field[i]->grad)
            if (memcmp(a->field[i]->grad, b->field[i]->grad,
                       (size_t)size_of(a->field[i]) * sizeof(float)) != 0)
                fail_msg("%s: gradients of %s differ", a->f->name, FIELD_NAMES[i]);
    assert_memory_equal(a->x->grad, b->x->grad, (size_t)size_of(a->x) * sizeof(float));
}

#endif
