/* Grouped-query causal attention over packed sequences, with or without a key-value cache. One item
 * is one key-value head of one sequence, with all the query heads that read it; items are shared
 * out to the threads. */
#include "tensor/tape.h"

/* ---- the double reference of the four kernels ------------------------------------------------ */
static double dot_ref(int64_t n, const double* x, const double* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}
static void axpy_ref(int64_t n, double a, const double* x, double* y) {
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}
static double max_ref(int64_t n, const double* x) {
    double max = -(double)INFINITY;
    for (int64_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
}
static double sum_exp_ref(int64_t n, const double* x, double shift, double* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        y[i] = exp(x[i] - shift);
        sum += y[i];
    }
    return sum;
}

#define real     float
#define FN(name) name##_f32
#define DOT      kernels->dot
#define AXPY     kernels->axpy
#define MAX      kernels->max
#define SUM_EXP  kernels->sum_exp
#include "tensor/attention.inc"
#undef real
#undef FN
#undef DOT
#undef AXPY
#undef MAX
#undef SUM_EXP

#define real     double
#define FN(name) name##_f64
#define DOT      dot_ref
#define AXPY     axpy_ref
#define MAX      max_ref
#define SUM_EXP  sum_exp_ref
#include "tensor/attention.inc"

typedef struct attention_job {
    lp__node* node;
    void *dq, *dk, *dv;
} attention_job;

static void forward_task(void* user, int64_t index, int worker) {
    lp__node* node = ((attention_job*)user)->node;
    const int64_t kv_heads = node->attr.attention.kv_heads;
    const lp__span* span = &node->attr.attention.spans[index / kv_heads];
    void* scratch = lp__worker_scratch(lp__node_ctx(node), worker);
    if (node->t.type == LP_F64) {
        attention_item_f64(node, span, index % kv_heads, scratch);
    } else {
        attention_item_f32(node, span, index % kv_heads, scratch);
    }
}

static void backward_task(void* user, int64_t index, int worker) {
    const attention_job* job = user;
    lp__node* node = job->node;
    const int64_t kv_heads = node->attr.attention.kv_heads;
    const lp__span* span = &node->attr.attention.spans[index / kv_heads];
    void* scratch = lp__worker_scratch(lp__node_ctx(node), worker);
    if (node->t.type == LP_F64) {
        attention_backward_item_f64(node, span, index % kv_heads, scratch, job->dq, job->dk,
                                    job->dv);
    } else {
        attention_backward_item_f32(node, span, index % kv_heads, scratch, job->dq, job->dk,
                                    job->dv);
    }
}

/* A row of scores for every worker. */
static bool reserve_scores(lp__node* node) {
    int64_t longest = 1;
    for (int64_t s = 0; s < node->attr.attention.sequences; s++) {
        const lp__span* span = &node->attr.attention.spans[s];
        longest = LP__MAX(longest, span->past + span->count);
    }
    const size_t bytes = (size_t)longest * lp__dtype_bytes(node->t.type);
    if (lp__worker_scratch_reserve(lp__node_ctx(node), bytes)) return true;
    lp__tape_fail(node->tape, LP_NOMEM);
    return false;
}

/* Stores the new rows of k and v behind what the slots hold. */
static void store_in_cache(lp__node* node) {
    lp_kv* cache = node->attr.attention.cache;
    const int64_t width = node->in[1]->t.cols;
    for (int64_t s = 0; s < node->attr.attention.sequences; s++) {
        const lp__span* span = &node->attr.attention.spans[s];
        const size_t bytes = (size_t)(span->count * width) * sizeof(float);
        float* keys =
            lp__kv_keys(cache, node->attr.attention.layer, span->slot) + span->past * width;
        float* values =
            lp__kv_values(cache, node->attr.attention.layer, span->slot) + span->past * width;
        memcpy(keys, (const float*)node->in[1]->t.data + span->first * width, bytes);
        memcpy(values, (const float*)node->in[2]->t.data + span->first * width, bytes);
    }
}

static void attention_forward(lp__node* node) {
    const int64_t items = node->attr.attention.sequences * node->attr.attention.kv_heads;
    node->saved = lp__tape_alloc(node->tape, (size_t)(node->t.rows * node->attr.attention.heads) *
                                                 sizeof(double));
    if (!node->saved || !reserve_scores(node)) return;
    if (node->attr.attention.cache) store_in_cache(node);
    attention_job job = {.node = node};
    lp__parallel_for(lp__node_ctx(node), items, forward_task, &job);
}

static void attention_backward(lp__node* node) {
    const int64_t items = node->attr.attention.sequences * node->attr.attention.kv_heads;
    attention_job job = {node, lp__grad(node->in[0]), lp__grad(node->in[1]), lp__grad(node->in[2])};
    if (node->tape->status != LP_OK || !reserve_scores(node)) return;
    lp__parallel_for(lp__node_ctx(node), items, backward_task, &job);
}

const lp__op lp__op_attention = {
    .name = "attention",
    .forward = {attention_forward, attention_forward},
    .backward = {attention_backward, attention_backward},
};

bool lp__offsets_ok(int64_t sequences, const int64_t* offsets, int64_t* rows) {
    if (sequences < 0 || !offsets || offsets[0] != 0) return false;
    for (int64_t s = 0; s < sequences; s++) {
        if (offsets[s + 1] < offsets[s]) return false;
    }
    *rows = offsets[sequences];
    return true;
}

static bool spans_fill(lp_tape* t, lp_tensor k, const lp_attention_def* def, lp__span* spans) {
    for (int64_t s = 0; s < def->sequences; s++) {
        lp__span* span = &spans[s];
        span->first = def->offsets[s];
        span->count = def->offsets[s + 1] - def->offsets[s];
        span->slot = def->cache ? def->slot[s] : 0;
        span->past = def->cache ? lp_kv_length(def->cache, span->slot) : 0;
        if (def->cache &&
            !LP__REQUIRE(t->ctx,
                         lp__kv_fits(def->cache, def->layer, span->slot, span->count, k->cols),
                         "the rows do not fit into the key-value cache"))
            return false;
    }
    return true;
}

lp_tensor lp_attention(lp_tape* t, lp_tensor q, lp_tensor k, lp_tensor v,
                       const lp_attention_def* def) {
    lp_tensor in[3] = {q, k, v};
    if (!lp__inputs_ok(t, in, 3)) return NULL;
    const int64_t heads = def->heads, kv_heads = def->kv_heads;
    int64_t rows;
    if (!LP__REQUIRE(t->ctx,
                     kv_heads > 0 && heads > 0 && heads % kv_heads == 0 && q->cols % heads == 0,
                     "kv_heads must divide heads, and heads the width of q") ||
        !LP__REQUIRE(t->ctx,
                     k->rows == q->rows && v->rows == q->rows &&
                         k->cols == q->cols / heads * kv_heads && v->cols == k->cols,
                     "k and v are [rows, kv_heads * head_dim]") ||
        !LP__REQUIRE(t->ctx, !def->cache || (!t->recording && t->type == LP_F32),
                     "a cache needs a float tape that is not recording") ||
        !LP__REQUIRE(t->ctx, lp__offsets_ok(def->sequences, def->offsets, &rows) && rows == q->rows,
                     "offsets must not fall, and cover the rows exactly") ||
        !LP__REQUIRE(t->ctx, !def->cache || lp__kv_slots_ok(def->cache, def->sequences, def->slot),
                     "every sequence needs a slot of the cache for itself"))
        return lp__tape_fail(t, LP_INVALID);
    lp__span* spans = lp__tape_alloc(t, (size_t)def->sequences * sizeof *spans);
    if (!spans) return NULL;
    if (!spans_fill(t, k, def, spans)) return lp__tape_fail(t, LP_INVALID);
    lp__attr attr = {.attention = {heads, kv_heads, def->sequences, spans, def->cache, def->layer}};
    return lp__apply(t, &lp__op_attention, q->rows, q->cols, in, 3, &attr);
}
