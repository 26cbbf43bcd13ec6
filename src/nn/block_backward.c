/* The way back through the decoder block. What forward threw away is computed again from what it
 * kept: both norms' outputs and the activation. Gradients of weights continue the stored ones, row
 * by row; in bf16 two rows of one sequence are a step. */
#include "nn/block.h"

typedef struct back {
    lp__node* node;
    lp_ctx* ctx;
    const lp__kernels* kernels;
    const lp__format* format;
    lp__block_state* s;
    lp__arena* scratch;
    int64_t rows;
    lp__steps steps;
    lp__word *blocks, *panels; /* the operands of a weight's gradient */
    int64_t block_words, panel_words;
    lp_status status;
} back;

static void* room(back* b, int64_t count, size_t size) {
    void* block = lp__arena_alloc(b->scratch, (size_t)count * size);
    if (!block) b->status = LP_NOMEM;
    return block;
}

/* The steps of k that the rows of all sequences make. */
static void find_steps(back* b) {
    const int64_t numbers = b->format->numbers;
    int64_t count = 0;
    for (int64_t q = 0; q < b->s->sequences; q++)
        count += (b->s->spans[q].count + numbers - 1) / numbers;
    int32_t* first = room(b, count, sizeof *first);
    int32_t* second = numbers > 1 ? room(b, count, sizeof *second) : NULL;
    if (b->status != LP_OK) return;
    b->steps = (lp__steps){count, first, second};
    int64_t at = 0;
    for (int64_t q = 0; q < b->s->sequences; q++) {
        const lp__span* span = &b->s->spans[q];
        for (int64_t i = 0; i < span->count; i += numbers, at++) {
            first[at] = (int32_t)(span->first + i);
            if (second) second[at] = i + 1 < span->count ? first[at] + 1 : -1;
        }
    }
}

/* ---- gradients of parameters -------------------------------------------------------------------
 */

/* Rows of words of n numbers. */
typedef struct matrix {
    const lp__word* x;
    int64_t n, words;
} matrix;

/* dW_i += d_i^T x for up to three weights that read the same x. */
static void add_weights(back* b, int count, const lp_tensor* w, const matrix* d, matrix x) {
    lp__product products[3];
    int used = 0;
    const lp__mark mark = lp__arena_mark(b->scratch);
    lp__word* panels = NULL;
    for (int i = 0; i < count && b->status == LP_OK; i++) {
        if (!w[i] || !w[i]->needs_grad) continue;
        if (!panels) {
            panels = room(b, lp__cut_words(b->ctx, b->steps.count, x.n, false), sizeof *panels);
            if (panels)
                lp__cut_rows(b->ctx, b->s->number, &b->steps, x.n, x.x, x.words, false, panels);
        }
        lp__word* blocks =
            room(b, lp__cut_words(b->ctx, b->steps.count, d[i].n, true), sizeof *blocks);
        bool fresh;
        float* grad = lp__grad_raw(lp__node_of(w[i]), &fresh);
        if (!grad) b->status = LP_NOMEM;
        if (b->status != LP_OK) break;
        lp__cut_rows(b->ctx, b->s->number, &b->steps, d[i].n, d[i].x, d[i].words, true, blocks);
        products[used++] = (lp__product){.m = d[i].n,
                                         .n = x.n,
                                         .term = {{blocks, 0, panels, b->steps.count, 0}},
                                         .terms = 1,
                                         .blocks = true,
                                         .c = grad,
                                         .ldc = x.n,
                                         .accumulate = !fresh};
    }
    if (b->status == LP_OK && used > 0) lp__products(b->ctx, b->s->number, products, used);
    lp__arena_release(b->scratch, mark);
}

/* Gradients of vectors: columns are shared out, each goes down all rows in order. */
typedef struct column_job {
    const back* b;
    const float* x; /* of a norm; NULL: a bias */
    const lp__norm_row* norm;
    const float* dy;
    int64_t n, piece;
    float *dw, *db;
} column_job;

static void column_task(void* user, int64_t index, int worker) {
    (void)worker;
    const column_job* job = user;
    const lp__kernels* kernels = job->b->kernels;
    const int64_t from = index * job->piece, n = LP__MIN(job->piece, job->n - from);
    for (int64_t row = 0; row < job->b->rows; row++) {
        const float* dy = job->dy + row * job->n + from;
        if (job->dw)
            kernels->norm_dw(n, job->x + row * job->n + from, job->norm[row].mean, job->norm[row].r,
                             dy, job->dw + from);
        if (job->db) kernels->axpy(n, 1.0f, dy, job->db + from);
    }
}

static void add_columns(back* b, const float* dy, int64_t n, lp_tensor bias, const float* x,
                        const lp__norm_row* norm, lp_tensor weight) {
    column_job job = {.b = b, .x = x, .norm = norm, .dy = dy, .n = n, .piece = 128};
    job.dw = weight && weight->needs_grad ? weight->grad : NULL;
    job.db = bias && bias->needs_grad ? bias->grad : NULL;
    if (job.dw || job.db)
        lp__parallel_for(b->ctx, (n + job.piece - 1) / job.piece, column_task, &job);
}

/* ---- rows --------------------------------------------------------------------------------------
 */

typedef struct words_job {
    const lp__format* format;
    const float* x;
    int64_t n, words;
    lp__word* out;
} words_job;

static void floats_row(void* user, int64_t row, int worker) {
    (void)worker;
    const words_job* job = user;
    job->format->load(job->n, job->out + row * job->words,
                      (float*)(uintptr_t)job->x + row * job->n);
}

/* The gradient of a bias whose rows are words. */
static void add_bias(back* b, const lp__word* d, int64_t n, int64_t words, lp_tensor bias) {
    if (!bias || !bias->needs_grad) return;
    const lp__mark mark = lp__arena_mark(b->scratch);
    float* x = room(b, b->rows * n, sizeof *x);
    if (x) {
        words_job job = {b->format, x, n, words, (lp__word*)(uintptr_t)d};
        lp__each_row(b->ctx, b->rows, n, floats_row, &job);
        add_columns(b, x, n, bias, NULL, NULL, NULL);
    }
    lp__arena_release(b->scratch, mark);
}

/* Back through a norm: to += its dx. */
typedef struct norm_job {
    const back* b;
    const float *x, *weight, *dn;
    const lp__norm_row* norm;
    float* to;
} norm_job;

static void norm_row(void* user, int64_t row, int worker) {
    (void)worker;
    const norm_job* job = user;
    const lp__block_state* s = job->b->s;
    const int64_t at = row * s->width;
    const lp__norm_row* norm = &job->norm[row];
    double sums[2];
    job->b->kernels->norm_sums(s->width, job->x + at, norm->mean, norm->r, job->weight,
                               job->dn + at, sums);
    const double g = s->shape.norm == LP__NORM_LAYER ? sums[0] / (double)s->width : 0.0;
    job->b->kernels->norm_dx(s->width, job->x + at, norm->mean, norm->r, job->weight, job->dn + at,
                             (float)g, (float)(sums[1] / (double)s->width), job->to + at);
}

static void norm_backward(back* b, const float* x, const lp__norm_row* norm, lp_tensor weight,
                          lp_tensor bias, const float* dn, float* to) {
    norm_job job = {b, x, weight->data, dn, norm, to};
    add_columns(b, dn, b->s->width, bias, x, norm, weight);
    lp__each_row(b->ctx, b->rows, b->s->width, norm_row, &job);
}

/* ---- products ----------------------------------------------------------------------------------
 */

/* c = sum of d_i W_i */
static void back_project(back* b, int count, const matrix* d, const lp_tensor* w, float* c) {
    lp__product product = {
        .m = b->rows, .n = w[0]->cols, .terms = count, .c = c, .ldc = w[0]->cols};
    for (int i = 0; i < count; i++) {
        const lp__word* plain = lp__weight_operand(b->ctx, lp__node_of(w[i]), LP__PLAIN);
        if (!plain) {
            b->status = LP_NOMEM;
            return;
        }
        product.term[i] = (lp__term){d[i].x, d[i].words, plain, d[i].words, 0};
    }
    lp__products(b->ctx, b->s->number, &product, 1);
}

/* dh comes out of a product in tiles: gate and up become their gradients, h the activation. */
typedef struct turn {
    const back* b;
    lp__word* h;
} turn;

static void turn_gate(const lp__product* product, int64_t row, int rows, int64_t col, int cols,
                      float* tile, float* twin) {
    (void)twin;
    const turn* t = product->user;
    const lp__block_state* s = t->b->s;
    const lp__format* format = t->b->format;
    const int64_t panel = t->b->kernels->panel;
    const int64_t at = row * s->intermediate_words + col / format->numbers;
    if (s->gate)
        format->swiglu_back(rows, cols, tile, panel, s->gate + at, s->up + at, t->h + at,
                            s->intermediate_words);
    else
        format->gelu_back(rows, cols, tile, panel, s->up + at, t->h + at, s->intermediate_words);
}

typedef struct finish_words {
    const back* b;
    int64_t words;
    lp__word* out;
} finish_words;

static void store_tile(const lp__product* product, int64_t row, int rows, int64_t col, int cols,
                       float* tile, float* twin) {
    (void)twin;
    const finish_words* f = product->user;
    f->b->format->store_tile(rows, cols, tile, f->b->kernels->panel,
                             f->out + row * f->words + col / f->b->format->numbers, f->words);
}

/* d W, each tile handed to finish. */
static void back_project_to(back* b, matrix d, lp_tensor w, lp__product product) {
    const lp__word* plain = lp__weight_operand(b->ctx, lp__node_of(w), LP__PLAIN);
    product.m = b->rows;
    product.n = w->cols;
    product.term[0] = (lp__term){d.x, d.words, plain, d.words, 0};
    product.terms = 1;
    if (plain)
        lp__products(b->ctx, b->s->number, &product, 1);
    else
        b->status = LP_NOMEM;
}

/* ---- the two halves ----------------------------------------------------------------------------
 */

/* d: gradient of y; becomes that of middle. */
static void mlp_half(back* b, float* d) {
    lp__block_state* s = b->s;
    const lp__mark mark = lp__arena_mark(b->scratch);
    lp__word* dw = room(b, b->rows * s->width_words, sizeof *dw);
    lp__word* h = room(b, b->rows * s->intermediate_words, sizeof *h);
    float* dn = room(b, b->rows * s->width, sizeof *dn);
    if (b->status == LP_OK) {
        const matrix dy = {dw, s->width, s->width_words};
        turn t = {b, h};
        lp__store_rows(b->ctx, s->number, b->rows, s->width, d, dw);
        back_project_to(
            b, dy, s->w.down,
            (lp__product){.finish = turn_gate,
                          .user = &t,
                          .fetch = {s->up, s->gate},
                          .fetch_bytes = s->intermediate_words * (int64_t)sizeof(lp__word),
                          .number_bytes = (int64_t)sizeof(lp__word) / b->format->numbers});
        add_columns(b, d, s->width, s->w.down_bias, NULL, NULL, NULL);
        add_weights(b, 1, &s->w.down, &dy, (matrix){h, s->intermediate, s->intermediate_words});
    }
    const matrix gate_up[2] = {{s->up, s->intermediate, s->intermediate_words},
                               {s->gate, s->intermediate, s->intermediate_words}};
    const lp_tensor w[2] = {s->w.up, s->w.gate};
    const int count = s->gate ? 2 : 1;
    if (b->status == LP_OK) back_project(b, count, gate_up, w, dn);
    add_bias(b, s->up, s->intermediate, s->intermediate_words, s->w.up_bias);
    if (s->gate) add_bias(b, s->gate, s->intermediate, s->intermediate_words, s->w.gate_bias);
    if (b->status == LP_OK) /* the words of d have done their work */
        b->status =
            lp__norm_words(b->node, s->middle, s->norm2, s->w.mlp_norm, s->w.mlp_norm_bias, dw);
    if (b->status == LP_OK)
        add_weights(b, count, w, gate_up, (matrix){dw, s->width, s->width_words});
    if (b->status == LP_OK)
        norm_backward(b, s->middle, s->norm2, s->w.mlp_norm, s->w.mlp_norm_bias, dn, d);
    lp__arena_release(b->scratch, mark);
}

/* Rotates the gradients of queries and keys back, and makes words of all three. */
typedef struct heads_job {
    const back* b;
    float *dq, *dk, *dv;
    lp__word *q, *k, *v;
} heads_job;

static void heads_row(void* user, int64_t row, int worker) {
    (void)worker;
    const heads_job* job = user;
    const lp__block_state* s = job->b->s;
    const int64_t hd = s->shape.head_dim;
    float *dq = job->dq + row * s->q_width, *dk = job->dk + row * s->kv_width;
    if (s->rotation) { /* back: the halves change their places */
        const float *c = s->rotation + row * hd, *sine = c + hd / 2;
        for (int64_t at = 0; at < s->q_width; at += hd)
            job->b->kernels->rotate(hd / 2, c, sine, dq + at + hd / 2, dq + at);
        for (int64_t at = 0; at < s->kv_width; at += hd)
            job->b->kernels->rotate(hd / 2, c, sine, dk + at + hd / 2, dk + at);
    }
    job->b->format->store(s->q_width, dq, job->q + row * s->q_words);
    job->b->format->store(s->kv_width, dk, job->k + row * s->kv_words);
    job->b->format->store(s->kv_width, job->dv + row * s->kv_width, job->v + row * s->kv_words);
}

/* d: gradient of middle; dx += that of x, or, if dx is NULL, d becomes it. */
static void attention_half(back* b, float* d, float* dx) {
    lp__block_state* s = b->s;
    const int64_t m = b->rows;
    const lp__mark mark = lp__arena_mark(b->scratch);
    lp__word* dw = room(b, m * s->width_words, sizeof *dw);
    lp__word* d_o = room(b, m * s->q_words, sizeof *d_o);
    lp__word* dkw = room(b, m * s->kv_words, sizeof *dkw);
    lp__word* dvw = room(b, m * s->kv_words, sizeof *dvw);
    heads_job heads = {.b = b, .q = d_o, .k = dkw, .v = dvw};
    heads.dq = room(b, m * s->q_width, sizeof(float));
    heads.dk = room(b, m * s->kv_width, sizeof(float));
    heads.dv = room(b, m * s->kv_width, sizeof(float));
    float* dn = room(b, m * s->width, sizeof *dn);
    if (b->status == LP_OK) {
        const matrix middle = {dw, s->width, s->width_words};
        finish_words f = {b, s->q_words, d_o};
        lp__store_rows(b->ctx, s->number, b->rows, s->width, d, dw);
        add_columns(b, d, s->width, s->w.o_bias, NULL, NULL, NULL);
        add_weights(b, 1, &s->w.o, &middle, (matrix){s->o, s->q_width, s->q_words});
        back_project_to(b, middle, s->w.o, (lp__product){.finish = store_tile, .user = &f});
    }
    if (b->status == LP_OK) {
        memset(heads.dq, 0, (size_t)(m * s->q_width) * sizeof(float));
        memset(heads.dk, 0, (size_t)(m * s->kv_width) * sizeof(float));
        memset(heads.dv, 0, (size_t)(m * s->kv_width) * sizeof(float));
        const lp__attend attend = lp__block_attend(b->node);
        b->status = lp__attend_backward(&attend, d_o, s->q_words, heads.dq, heads.dk, heads.dv);
    }
    const matrix qkv[3] = {{d_o, s->q_width, s->q_words},
                           {dkw, s->kv_width, s->kv_words},
                           {dvw, s->kv_width, s->kv_words}};
    const lp_tensor w[3] = {s->w.q, s->w.k, s->w.v};
    if (b->status == LP_OK) {
        lp__each_row(b->ctx, m, s->q_width, heads_row, &heads);
        add_columns(b, heads.dq, s->q_width, s->w.q_bias, NULL, NULL, NULL);
        add_columns(b, heads.dk, s->kv_width, s->w.k_bias, NULL, NULL, NULL);
        add_columns(b, heads.dv, s->kv_width, s->w.v_bias, NULL, NULL, NULL);
        back_project(b, 3, qkv, w, dn);
    }
    const float* x = b->node->in[0]->t.data;
    if (b->status == LP_OK)
        b->status =
            lp__norm_words(b->node, x, s->norm1, s->w.attention_norm, s->w.attention_norm_bias, dw);
    if (b->status == LP_OK) add_weights(b, 3, w, qkv, (matrix){dw, s->width, s->width_words});
    if (b->status == LP_OK && dx) {
        for (int64_t i = 0; i < m * s->width; i += s->width)
            b->kernels->axpy(s->width, 1.0f, d + i, dx + i);
    }
    if (b->status == LP_OK)
        norm_backward(b, x, s->norm1, s->w.attention_norm, s->w.attention_norm_bias, dn,
                      dx ? dx : d);
    lp__arena_release(b->scratch, mark);
}

void lp__block_backward(lp__node* node) {
    lp_ctx* ctx = lp__node_ctx(node);
    lp__block_state* s = lp__block_state_of(node);
    back b = {.node = node,
              .ctx = ctx,
              .kernels = lp__ctx_kernels(ctx),
              .s = s,
              .scratch = lp__scratch(ctx),
              .rows = node->t.rows};
    b.format = &b.kernels->format[s->number];
    const lp__mark mark = lp__arena_mark(b.scratch);
    /* The gradient of y turns into that of x where it is, unless x has one already. */
    lp__node* x = node->in[0];
    const bool hand_on = x->t.needs_grad && !x->t.grad && x->tape;
    float* dx = hand_on ? NULL : lp__grad(x);
    if (node->tape->status == LP_OK) {
        if (s->recompute) b.status = lp__block_again(node);
        if (b.status == LP_OK) find_steps(&b);
        if (b.status == LP_OK) mlp_half(&b, node->t.grad);
        if (b.status == LP_OK) attention_half(&b, node->t.grad, dx);
        if (b.status != LP_OK) lp__tape_fail(node->tape, b.status);
        if (hand_on) x->t.grad = node->t.grad;
    }
    lp__arena_release(b.scratch, mark);
}
