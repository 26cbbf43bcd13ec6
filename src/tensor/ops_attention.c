/* Grouped-query causal attention over packed sequences, with or without a key-value cache: in float
 * by attend.c, in double by the formula. */
#include "tensor/attend.h"

/* ---- in float -------------------------------------------------------------------------------- */

static lp__attend attend_of(const lp__node* node) {
    const int64_t width = node->t.cols, kv_width = node->in[1]->t.cols;
    return (lp__attend){.ctx = lp__node_ctx(node),
                        .number = LP__F32,
                        .heads = node->attr.attention.heads,
                        .kv_heads = node->attr.attention.kv_heads,
                        .head_dim = width / node->attr.attention.heads,
                        .sequences = node->attr.attention.sequences,
                        .spans = node->attr.attention.spans,
                        .q = node->in[0]->t.data,
                        .k = node->in[1]->t.data,
                        .v = node->in[2]->t.data,
                        .ldq = width,
                        .ldk = kv_width,
                        .ldv = kv_width,
                        .cache = node->attr.attention.cache,
                        .layer = node->attr.attention.layer,
                        .softmax = node->saved};
}

static bool reserve_softmax(lp__node* node) {
    const size_t count = (size_t)(node->t.rows * node->attr.attention.heads);
    node->saved = lp__tape_alloc(node->tape, count * sizeof(lp__softmax_row));
    return node->saved != NULL;
}

static void attention_forward_f32(lp__node* node) {
    if (!reserve_softmax(node)) return;
    const lp__attend a = attend_of(node);
    if (lp__attend_forward(&a, node->t.data, node->t.cols) != LP_OK)
        lp__tape_fail(node->tape, LP_NOMEM);
}

/* The gradient of an input, or scratch of its size, cleared, if none is wanted or another input has
 * the same. */
static float* gradient_or_scratch(lp_ctx* ctx, lp__node* node, bool own) {
    if (node->t.needs_grad && own) return lp__grad(node);
    lp__arena* scratch = lp__scratch(ctx);
    float* g = lp__arena_alloc(scratch, (size_t)lp__size(node) * sizeof *g);
    if (g) memset(g, 0, (size_t)lp__size(node) * sizeof *g);
    return g;
}

static void attention_backward_f32(lp__node* node) {
    lp__arena* scratch = lp__scratch(lp__node_ctx(node));
    const lp__mark mark = lp__arena_mark(scratch);
    float *d[3], *dy = node->t.grad;
    bool all = true;
    bool own[3];
    for (int i = 0; i < 3; i++) {
        own[i] = true;
        for (int j = 0; j < i; j++) own[i] = own[i] && node->in[j] != node->in[i];
        all = (d[i] = gradient_or_scratch(lp__node_ctx(node), node->in[i], own[i])) != NULL && all;
    }
    const lp__attend a = attend_of(node);
    if (!all || lp__attend_backward(&a, dy, node->t.cols, d[0], d[1], d[2]) != LP_OK)
        lp__tape_fail(node->tape, LP_NOMEM);
    for (int i = 0; i < 3 && node->tape->status == LP_OK; i++)
        if (!own[i] && node->in[i]->t.needs_grad)
            lp__ctx_kernels(lp__node_ctx(node))
                ->axpy(lp__size(node->in[i]), 1.0f, d[i], node->in[i]->t.grad);
    lp__arena_release(scratch, mark);
}

/* ---- the reference, in double ---------------------------------------------------------------- */

/* Where key j of a sequence begins, in k and v. */
static int64_t key_at(const lp__node* node, const lp__span* span, int64_t j) {
    const int64_t before =
        j < span->past ? node->attr.attention.spans[span->prefix].first : span->first - span->past;
    return (before + j) * node->in[1]->t.cols;
}

/* Calls row(node, where its query is, its keys, their sequence, the column of its key-value head,
 * scratch [rows]) for every row and head. */
static void each_row_f64(lp__node* node,
                         void (*row)(lp__node* node, int64_t at, int64_t n, const lp__span* span,
                                     int64_t col, double* s)) {
    const int64_t heads = node->attr.attention.heads, hd = node->t.cols / heads;
    const int64_t group = heads / node->attr.attention.kv_heads;
    double* s = lp__tape_alloc(node->tape, (size_t)(node->t.rows + 1) * sizeof *s);
    if (!s) return;
    for (int64_t q = 0; q < node->attr.attention.sequences; q++) {
        const lp__span* span = &node->attr.attention.spans[q];
        for (int64_t i = 0; i < span->count; i++)
            for (int64_t h = 0; h < heads; h++)
                row(node, (span->first + i) * node->t.cols + h * hd, span->past + i + 1, span,
                    h / group * hd, s);
    }
}

/* p_j = softmax of q k_j / sqrt(hd) over j < n into s. */
static void weigh(const lp__node* node, const lp__span* span, int64_t at, int64_t n, int64_t col,
                  double* s) {
    const int64_t hd = node->t.cols / node->attr.attention.heads;
    const double *q = (const double*)node->in[0]->t.data + at,
                 *k = (const double*)node->in[1]->t.data + col;
    double max = -(double)INFINITY, sum = 0;
    for (int64_t j = 0; j < n; j++) {
        s[j] = 0;
        for (int64_t l = 0; l < hd; l++) s[j] += q[l] * k[key_at(node, span, j) + l];
        s[j] /= sqrt((double)hd);
        max = fmax(max, s[j]);
    }
    for (int64_t j = 0; j < n; j++) sum += s[j] = exp(s[j] - max);
    for (int64_t j = 0; j < n; j++) s[j] /= sum;
}

static void forward_row_f64(lp__node* node, int64_t at, int64_t n, const lp__span* span,
                            int64_t col, double* s) {
    const int64_t hd = node->t.cols / node->attr.attention.heads;
    const double* v = (const double*)node->in[2]->t.data + col;
    double* o = (double*)node->t.data + at;
    weigh(node, span, at, n, col, s);
    for (int64_t l = 0; l < hd; l++) {
        o[l] = 0;
        for (int64_t j = 0; j < n; j++) o[l] += s[j] * v[key_at(node, span, j) + l];
    }
}

/* ds_j = p_j (do . v_j - do . o) / sqrt(hd),  dq += sum_j ds_j k_j,  dk_j += ds_j q,
 * dv_j += p_j do */
static void backward_row_f64(lp__node* node, int64_t at, int64_t n, const lp__span* span,
                             int64_t col, double* s) {
    const int64_t hd = node->t.cols / node->attr.attention.heads;
    const double *q = (const double*)node->in[0]->t.data + at, *k = node->in[1]->t.data,
                 *v = node->in[2]->t.data, *o = (const double*)node->t.data + at,
                 *dy = (const double*)node->t.grad + at;
    double *dq = lp__grad(node->in[0]), *dk = lp__grad(node->in[1]), *dv = lp__grad(node->in[2]);
    double mean = 0;
    weigh(node, span, at, n, col, s);
    for (int64_t l = 0; l < hd; l++) mean += dy[l] * o[l];
    for (int64_t j = 0; j < n; j++) {
        const int64_t key = key_at(node, span, j) + col;
        double dp = 0;
        for (int64_t l = 0; l < hd; l++) dp += dy[l] * v[key + l];
        const double ds = s[j] * (dp - mean) / sqrt((double)hd);
        for (int64_t l = 0; l < hd; l++) {
            if (dq) dq[at + l] += ds * k[key + l];
            if (dk) dk[key + l] += ds * q[l];
            if (dv) dv[key + l] += s[j] * dy[l];
        }
    }
}

static void attention_forward_f64(lp__node* node) { each_row_f64(node, forward_row_f64); }
static void attention_backward_f64(lp__node* node) { each_row_f64(node, backward_row_f64); }

const lp__op lp__op_attention = {
    .name = "attention",
    .forward = {attention_forward_f32, attention_forward_f64},
    .backward = {attention_backward_f32, attention_backward_f64},
};

bool lp__offsets_ok(int64_t sequences, const int64_t* offsets, int64_t* rows) {
    if (sequences < 0 || !offsets || offsets[0] != 0) return false;
    for (int64_t s = 0; s < sequences; s++) {
        if (offsets[s + 1] < offsets[s]) return false;
    }
    *rows = offsets[sequences];
    return true;
}

bool lp__spans_fill(lp_tape* t, int64_t head_dim, const lp_attention_def* def, lp__span* spans) {
    for (int64_t s = 0; s < def->sequences; s++) {
        lp__span* span = &spans[s];
        span->first = def->offsets[s];
        span->count = def->offsets[s + 1] - def->offsets[s];
        span->slot = def->cache ? def->slot[s] : 0;
        span->prefix = !def->cache && def->prefix ? def->prefix[s] : -1;
        span->past = def->cache ? lp_kv_length(def->cache, span->slot) : 0;
        if (span->prefix >= 0) {
            if (!LP__REQUIRE(t->ctx, span->prefix < s && spans[span->prefix].prefix < 0,
                             "a prefix is an earlier sequence that has none itself"))
                return false;
            span->past = spans[span->prefix].count;
        }
        if (def->cache && !LP__REQUIRE(t->ctx,
                                       lp__kv_fits(def->cache, def->layer, span->slot, span->count,
                                                   def->kv_heads, head_dim),
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
        !LP__REQUIRE(t->ctx,
                     !def->cache || (!t->recording && t->type == LP_F32 &&
                                     lp__kv_number(def->cache) == LP__F32),
                     "a cache needs a float tape that is not recording, and float32") ||
        !LP__REQUIRE(t->ctx, lp__offsets_ok(def->sequences, def->offsets, &rows) && rows == q->rows,
                     "offsets must not fall, and cover the rows exactly") ||
        !LP__REQUIRE(t->ctx, !def->cache || lp__kv_slots_ok(def->cache, def->sequences, def->slot),
                     "every sequence needs a slot of the cache for itself"))
        return lp__tape_fail(t, LP_INVALID);
    lp__span* spans = lp__tape_alloc(t, (size_t)def->sequences * sizeof *spans);
    if (!spans) return NULL;
    if (!lp__spans_fill(t, q->cols / heads, def, spans)) return lp__tape_fail(t, LP_INVALID);
    lp__attr attr = {.attention = {heads, kv_heads, def->sequences, spans, def->cache, def->layer}};
    return lp__apply(t, &lp__op_attention, q->rows, q->cols, in, 3, &attr);
}
