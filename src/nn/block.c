/* The decoder block of Llama (Touvron et al. 2023, section 2.2), of GPT-2 (Radford et al. 2019) and
 * of their like as one op on float tapes:
 *
 *     n = norm(x),  middle = x + O attention(rotate(Q n), rotate(K n), V n)
 *     n = norm(middle),  y = middle + Down act(Gate n, Up n)
 *
 * On double tapes, and as the reference, the same is composed of small ops (transformer.c).
 * Products take what stands around them along: biases, residuals and the activation are added while
 * a tile of the result is in the first level of the cache. */
#include "nn/block.h"

/* ---- sharing out rows --------------------------------------------------------------------------
 */

typedef struct rows_job {
    lp__task_fn fn;
    void* user;
    int64_t rows, piece;
} rows_job;

static void rows_task(void* user, int64_t index, int worker) {
    const rows_job* job = user;
    const int64_t end = LP__MIN((index + 1) * job->piece, job->rows);
    for (int64_t row = index * job->piece; row < end; row++) job->fn(job->user, row, worker);
}

void lp__each_row(lp_ctx* ctx, int64_t rows, int64_t width, lp__task_fn fn, void* user) {
    enum { PIECE = 1 << 14 };
    rows_job job = {fn, user, rows, LP__MAX(PIECE / LP__MAX(width, 1), 1)};
    lp__parallel_for(ctx, (rows + job.piece - 1) / job.piece, rows_task, &job);
}

/* ---- norms -------------------------------------------------------------------------------------
 */

typedef struct norm_job {
    lp_ctx* ctx;
    const lp__kernels* kernels;
    const lp__block_state* s;
    const float *x, *weight, *bias;
    lp__norm_row* found; /* to be filled in; NULL: known */
    const lp__norm_row* known;
    lp__word* n;
} norm_job;

static lp__norm_row norm_of(const lp__kernels* kernels, const lp__block_shape* shape, int64_t width,
                            const float* x) {
    const double mean =
        shape->norm == LP__NORM_LAYER ? kernels->sum(width, x) / (double)width : 0.0;
    const double square = kernels->sum_squares(width, x) / (double)width - mean * mean;
    return (lp__norm_row){(float)mean, (float)(1.0 / sqrt(fmax(square, 0.0) + shape->norm_eps))};
}

static void norm_row(void* user, int64_t row, int worker) {
    const norm_job* job = user;
    const lp__block_state* s = job->s;
    const float* x = job->x + row * s->width;
    float* y = lp__worker_scratch(job->ctx, worker);
    if (job->found) job->found[row] = norm_of(job->kernels, &s->shape, s->width, x);
    const lp__norm_row* norm = &(job->found ? job->found : job->known)[row];
    job->kernels->norm(s->width, x, norm->mean, norm->r, job->weight, job->bias, y);
    job->kernels->format[s->number].store(s->width, y, job->n + row * s->width_words);
}

static lp_status norm_words(const lp__node* node, norm_job* job, lp_tensor weight, lp_tensor bias) {
    job->ctx = lp__node_ctx(node);
    job->kernels = lp__ctx_kernels(job->ctx);
    job->s = lp__block_state_of(node);
    job->weight = weight->data;
    job->bias = bias ? bias->data : NULL;
    if (!lp__worker_scratch_reserve(job->ctx, (size_t)job->s->width * sizeof(float)))
        return LP_NOMEM;
    lp__each_row(job->ctx, node->t.rows, job->s->width, norm_row, job);
    return LP_OK;
}

lp_status lp__norm_words(const lp__node* node, const float* x, const lp__norm_row* rows,
                         lp_tensor weight, lp_tensor bias, lp__word* n) {
    norm_job job = {.x = x, .known = rows, .n = n};
    return norm_words(node, &job, weight, bias);
}

/* ---- queries, keys, values ---------------------------------------------------------------------
 */

typedef struct heads_job {
    const lp__kernels* kernels;
    const lp__block_state* s;
    float* qkv; /* [rows, q_width + 2 kv_width] */
} heads_job;

/* Biases and rotation; then words. */
static void heads_row(void* user, int64_t row, int worker) {
    (void)worker;
    const heads_job* job = user;
    const lp__block_state* s = job->s;
    const lp__format* format = &job->kernels->format[s->number];
    const int64_t hd = s->shape.head_dim;
    float* q = job->qkv + row * (s->q_width + 2 * s->kv_width);
    float *k = q + s->q_width, *v = k + s->kv_width;
    if (s->w.q_bias) job->kernels->add(s->q_width, q, s->w.q_bias->data, q);
    if (s->w.k_bias) job->kernels->add(s->kv_width, k, s->w.k_bias->data, k);
    if (s->w.v_bias) job->kernels->add(s->kv_width, v, s->w.v_bias->data, v);
    if (s->rotation) {
        const float *c = s->rotation + row * hd, *sine = c + hd / 2;
        for (float* head = q; head < v; head += hd) /* k follows q */
            job->kernels->rotate(hd / 2, c, sine, head, head + hd / 2);
    }
    format->store(s->q_width, q, s->q + row * s->q_words);
    format->store(s->kv_width, k, s->k + row * s->kv_words);
    format->store(s->kv_width, v, s->v + row * s->kv_words);
}

/* A parameter as right operand; NULL after a failure of the tape. */
static const lp__word* operand(lp__node* node, lp_tensor w, lp__side side) {
    const lp__word* b = lp__weight_operand(lp__node_ctx(node), lp__node_of(w), side);
    if (!b) lp__tape_fail(node->tape, LP_NOMEM);
    return b;
}

static bool project_heads(lp__node* node, const lp__word* n, float* qkv) {
    lp__block_state* s = lp__block_state_of(node);
    const int64_t ldc = s->q_width + 2 * s->kv_width;
    lp_tensor w[3] = {s->w.q, s->w.k, s->w.v};
    lp__product products[3];
    float* c = qkv;
    for (int i = 0; i < 3; i++) {
        const lp__word* b = operand(node, w[i], LP__TRANSPOSED);
        if (!b) return false;
        products[i] = (lp__product){.m = node->t.rows,
                                    .n = w[i]->rows,
                                    .term = {{n, s->width_words, b, s->width_words, 0}},
                                    .terms = 1,
                                    .c = c,
                                    .ldc = ldc};
        c += w[i]->rows;
    }
    lp__products(lp__node_ctx(node), s->number, products, 3);
    heads_job job = {lp__ctx_kernels(lp__node_ctx(node)), s, qkv};
    lp__each_row(lp__node_ctx(node), node->t.rows, ldc, heads_row, &job);
    return true;
}

lp__attend lp__block_attend(const lp__node* node) {
    const lp__block_state* s = lp__block_state_of(node);
    return (lp__attend){.ctx = lp__node_ctx(node),
                        .number = s->number,
                        .heads = s->shape.heads,
                        .kv_heads = s->shape.kv_heads,
                        .head_dim = s->shape.head_dim,
                        .sequences = s->sequences,
                        .spans = s->spans,
                        .q = s->q,
                        .k = s->k,
                        .v = s->v,
                        .ldq = s->q_words,
                        .ldk = s->kv_words,
                        .ldv = s->kv_words,
                        .cache = s->cache,
                        .layer = s->layer,
                        .softmax = s->softmax};
}

/* ---- what follows a product --------------------------------------------------------------------
 */

/* to = from + tile + bias */
typedef struct residual {
    const lp__kernels* kernels;
    const float *from, *bias;
    float* to;
    int64_t width;
} residual;

static void add_residual(const lp__product* product, int64_t row, int rows, int64_t col, int cols,
                         float* tile, float* twin) {
    (void)twin;
    const residual* r = product->user;
    const int64_t at = row * r->width + col;
    r->kernels->add_tile(rows, cols, tile, r->kernels->panel, r->from + at,
                         r->bias ? r->bias + col : NULL, r->to + at, r->width);
}

static bool project_residual(lp__node* node, const lp__word* a, int64_t words, lp_tensor w,
                             lp_tensor bias, const float* from, float* to) {
    const lp__block_state* s = lp__block_state_of(node);
    const lp__word* b = operand(node, w, LP__TRANSPOSED);
    if (!b) return false;
    residual r = {lp__ctx_kernels(lp__node_ctx(node)), from, bias ? bias->data : NULL, to,
                  s->width};
    const lp__product product = {.m = node->t.rows,
                                 .n = s->width,
                                 .term = {{a, words, b, words, 0}},
                                 .terms = 1,
                                 .finish = add_residual,
                                 .user = &r,
                                 .fetch = {from},
                                 .fetch_bytes = s->width * (int64_t)sizeof(float),
                                 .number_bytes = sizeof(float)};
    lp__products(lp__node_ctx(node), s->number, &product, 1);
    return true;
}

typedef struct activation {
    const lp__kernels* kernels;
    const lp__block_state* s;
    lp__word* h;
} activation;

static void add_bias(const lp__kernels* kernels, lp_tensor bias, int rows, int64_t col, int cols,
                     float* tile) {
    for (int i = 0; bias && i < rows; i++, tile += kernels->panel)
        kernels->add(cols, tile, (const float*)bias->data + col, tile);
}

/* tile: gate, twin: up; or tile: up. */
static void activate(const lp__product* product, int64_t row, int rows, int64_t col, int cols,
                     float* tile, float* twin) {
    const activation* a = product->user;
    const lp__block_state* s = a->s;
    const lp__kernels* kernels = a->kernels;
    const lp__format* format = &kernels->format[s->number];
    const int64_t at = row * s->intermediate_words + col / format->numbers;
    const bool gated = s->shape.mlp == LP__MLP_SWIGLU;
    lp__word *gate = s->gate ? s->gate + at : NULL, *up = s->up ? s->up + at : NULL;
    add_bias(kernels, s->w.up_bias, rows, col, cols, gated ? twin : tile);
    if (gated) {
        add_bias(kernels, s->w.gate_bias, rows, col, cols, tile);
        format->swiglu(rows, cols, tile, twin, kernels->panel, gate, up, a->h + at,
                       s->intermediate_words);
    } else {
        format->gelu(rows, cols, tile, kernels->panel, up, a->h + at, s->intermediate_words);
    }
}

static bool project_mlp(lp__node* node, const lp__word* n, lp__word* h) {
    const lp__block_state* s = lp__block_state_of(node);
    const bool gated = s->shape.mlp == LP__MLP_SWIGLU;
    activation a = {lp__ctx_kernels(lp__node_ctx(node)), s, h};
    const lp__word* up = operand(node, s->w.up, LP__TRANSPOSED);
    const lp__word* gate = gated && up ? operand(node, s->w.gate, LP__TRANSPOSED) : up;
    if (!gate) return false;
    const lp__product product = {.m = node->t.rows,
                                 .n = s->intermediate,
                                 .term = {{n, s->width_words, gate, s->width_words, 0}},
                                 .terms = 1,
                                 .twin = gated ? up : NULL,
                                 .finish = activate,
                                 .user = &a};
    lp__products(lp__node_ctx(node), s->number, &product, 1);
    return true;
}

/* ---- the op ------------------------------------------------------------------------------------
 */

/* What a run of the block is for, and where its results go. */
typedef enum purpose {
    RUN,   /* the output only */
    KEEP,  /* and what backward needs, on the tape */
    AGAIN, /* only that, in the scratch */
} purpose;

static void* room(lp__node* node, bool tape, int64_t count, size_t size) {
    const size_t bytes = (size_t)count * size;
    void* block = tape ? lp__tape_alloc(node->tape, bytes)
                       : lp__arena_alloc(lp__scratch(lp__node_ctx(node)), bytes);
    if (!block) lp__tape_fail(node->tape, LP_NOMEM);
    return block;
}

static bool reserve(lp__node* node, purpose why) {
    lp__block_state* s = lp__block_state_of(node);
    const int64_t m = node->t.rows;
    const bool keep = why == KEEP;
    s->q = room(node, keep, m * s->q_words, sizeof(lp__word));
    s->k = room(node, keep, m * s->kv_words, sizeof(lp__word));
    s->v = room(node, keep, m * s->kv_words, sizeof(lp__word));
    s->o = room(node, keep, m * s->q_words, sizeof(lp__word));
    s->middle = room(node, keep, m * s->width, sizeof(float));
    s->norm1 = room(node, keep, m, sizeof *s->norm1);
    s->norm2 = room(node, keep, m, sizeof *s->norm2);
    if (why != RUN) {
        s->softmax = room(node, keep, m * s->shape.heads, sizeof *s->softmax);
        s->up = room(node, keep, m * s->intermediate_words, sizeof(lp__word));
        if (s->shape.mlp == LP__MLP_SWIGLU)
            s->gate = room(node, keep, m * s->intermediate_words, sizeof(lp__word));
    }
    return node->tape->status == LP_OK;
}

static void run_block(lp__node* node, purpose why) {
    lp__block_state* s = lp__block_state_of(node);
    const int64_t m = node->t.rows;
    const float* x = node->in[0]->t.data;
    if (!reserve(node, why)) return;
    lp__word* n = room(node, false, m * s->width_words, sizeof *n);
    float* qkv = room(node, false, m * (s->q_width + 2 * s->kv_width), sizeof *qkv);
    lp__word* h = room(node, false, m * s->intermediate_words, sizeof *h);
    if (!n || !qkv || !h) return;
    norm_job norm = {.x = x, .found = s->norm1, .n = n};
    lp_status status = norm_words(node, &norm, s->w.attention_norm, s->w.attention_norm_bias);
    if (status == LP_OK && !project_heads(node, n, qkv)) return;
    const lp__attend attend = lp__block_attend(node);
    if (status == LP_OK) status = lp__attend_forward(&attend, s->o, s->q_words);
    if (status == LP_OK &&
        !project_residual(node, s->o, s->q_words, s->w.o, s->w.o_bias, x, s->middle))
        return;
    norm = (norm_job){.x = s->middle, .found = s->norm2, .n = n};
    if (status == LP_OK) status = norm_words(node, &norm, s->w.mlp_norm, s->w.mlp_norm_bias);
    if (status != LP_OK) {
        lp__tape_fail(node->tape, status);
        return;
    }
    if (project_mlp(node, n, h) && why != AGAIN)
        project_residual(node, h, s->intermediate_words, s->w.down, s->w.down_bias, s->middle,
                         node->t.data);
}

/* The parameters of a block, one after the other. */
static bool any_learns(const lp__block* w) {
    const lp_tensor* field = (const lp_tensor*)(const void*)w;
    bool learns = false;
    for (size_t i = 0; i < sizeof *w / sizeof *field; i++)
        learns |= field[i] && field[i]->needs_grad;
    return learns;
}

static void block_forward(lp__node* node) {
    lp__arena* scratch = lp__scratch(lp__node_ctx(node));
    const lp__mark mark = lp__arena_mark(scratch);
    if (node->tape->recording) node->t.needs_grad |= any_learns(&lp__block_state_of(node)->w);
    const bool keep = node->t.needs_grad && !lp__block_state_of(node)->recompute;
    run_block(node, keep ? KEEP : RUN);
    lp__arena_release(scratch, mark);
}

lp_status lp__block_again(lp__node* node) {
    run_block(node, AGAIN);
    return node->tape->status;
}

static void no_double(lp__node* node) {
    lp__assertion(lp__node_ctx(node), "float", __FILE__, "the fused block is for float tapes");
    lp__tape_fail(node->tape, LP_INVALID);
}

static const lp__op block_op = {.name = "block",
                                .forward = {block_forward, no_double},
                                .backward = {lp__block_backward, no_double}};

lp_tensor lp__block_fused(lp_tape* t, const lp__block_shape* shape, const lp__block* w, lp_tensor x,
                          lp_tensor rotation, const lp_attention_def* attention) {
    const lp_tensor in[2] = {x, rotation};
    if (!lp__inputs_ok(t, in, shape->rope_frequencies ? 2 : 1)) return NULL;
    lp__block_state* s = lp__tape_alloc(t, sizeof *s);
    lp__span* spans = lp__tape_alloc(t, (size_t)attention->sequences * sizeof *spans);
    if (!s || !spans) return NULL;
    const lp__number number = lp__node_of(w->q)->number;
    const lp__format* format = &lp__ctx_kernels(t->ctx)->format[number];
    *s = (lp__block_state){.shape = *shape,
                           .w = *w,
                           .number = number,
                           .width = x->cols,
                           .q_width = w->q->rows,
                           .kv_width = w->k->rows,
                           .intermediate = w->up->rows,
                           .spans = spans,
                           .sequences = attention->sequences,
                           .cache = attention->cache,
                           .layer = attention->layer,
                           .recompute = t->recompute,
                           .rotation = rotation ? rotation->data : NULL};
    s->width_words = lp__words(format, s->width);
    s->q_words = lp__words(format, s->q_width);
    s->kv_words = lp__words(format, s->kv_width);
    s->intermediate_words = lp__words(format, s->intermediate);
    if (!LP__REQUIRE(t->ctx, number == LP__F32 || shape->head_dim % 2 == 0,
                     "in bfloat16 heads have an even width") ||
        !LP__REQUIRE(t->ctx, !s->cache || (!t->recording && lp__kv_number(s->cache) == number),
                     "a cache needs a tape that is not recording, and the precision of the "
                     "weights") ||
        !lp__spans_fill(t, shape->head_dim, attention, spans))
        return lp__tape_fail(t, LP_INVALID);
    const lp__attr attr = {.state = s};
    return lp__apply(t, &block_op, x->rows, x->cols, &x, 1, &attr);
}

lp_tensor lp__rotation(lp_tape* t, const lp__block_shape* shape, lp_tensor position) {
    if (!lp__inputs_ok(t, &position, 1)) return NULL;
    const int64_t half = shape->head_dim / 2;
    lp__node* node = lp__leaf(t, LP_F32, position->rows, shape->head_dim);
    if (!node) return NULL;
    float* row = node->t.data;
    for (int64_t i = 0; i < position->rows; i++, row += shape->head_dim) {
        const float at = (float)((const int32_t*)position->data)[i];
        for (int64_t l = 0; l < half; l++) {
            const float angle = at * shape->rope_frequencies[l]; /* float, as transformers has it */
            row[l] = (float)(cos((double)angle) * shape->rope_scale);
            row[half + l] = (float)(sin((double)angle) * shape->rope_scale);
        }
    }
    return &node->t;
}
