/* The vocabulary head: log softmax(h W^T / T) at one target a row. Logits exist for a block of rows
 * at a time only, in scratch:
 *
 *     z = h W^T / T,   log p_a = z_a - lse(z),   entropy = lse(z) - sum_j p_j z_j
 *     d log p_a / d z_j = 1{j = a} - p_j,   dh += dz W / T,   dW += dz^T h / T
 *
 * Backward takes p from where forward kept it, up to KEPT_BYTES, and computes it again beyond that:
 * the same bits, since p is rounded to the number format either way. A row may have a kept set S of
 * tokens: p is then renormalised on S, and zero elsewhere. S is gathered by rising id, as the
 * sampler does it, so that both find the same bits. */
#include "tensor/tape.h"

enum {
    BLOCK_STEPS = 64,      /* steps of k of dW in a block: as many rows, or twice */
    VOCAB_SLICE = 6144,    /* dW takes so many tokens at a time, */
    STEPS_OF_DW = 512,     /* and so many steps, where rows were kept */
    VOCAB_PIECE = 1024,    /* dh is summed in pieces of so many tokens, see add_dh */
    KEPT_BYTES = 64 << 20, /* of probabilities kept for backward */
    DOWN = 64              /* words behind the last of an operand that vectors may read */
};

lp__row_stats lp__logits_stats(const lp__kernels* kernels, int64_t n, const float* z,
                               float* scratch) {
    lp__row_stats stats;
    stats.max = kernels->max(n, z);
    const double sum = kernels->sum_exp(n, z, stats.max, scratch);
    stats.sum = sum;
    stats.lse = (double)stats.max + log(sum);
    stats.entropy = scratch ? stats.lse - kernels->dot_f64(n, scratch, z) / sum : (double)NAN;
    return stats;
}

/* What a head is told, and what it keeps; on the tape. */
typedef struct head_state {
    double temperature;
    int64_t sequences;
    const int64_t* offsets; /* [sequences + 1], of rows */
    const int64_t* kept_offsets;
    const int32_t* kept;
    float* entropy;       /* [rows]; NULL: not wanted */
    lp__row_stats* stats; /* [rows] */
    lp__steps steps;      /* of k, of dW */
    lp__word* p;          /* of the first kept_rows rows, [kept_rows, words(vocab)] */
    int64_t kept_rows, kept_steps;
    bool fresh; /* dW is not cleared: it is to be written, not added to */
} head_state;

typedef struct head_job {
    lp__node* node;
    head_state* s;
    const lp__kernels* kernels;
    const lp__format* format;
    lp__number number;
    int64_t vocab, d, words; /* words of a row of the vocabulary */
    int64_t first;           /* row of the block at hand */
    const lp__word *transposed, *plain;
    float* z;     /* [block, vocab] */
    bool kept;    /* p of the block at hand was kept, or is to be */
    lp__word* dz; /* [block, words]: p, then dz; forward: NULL, p is not wanted */
} head_job;

/* ---- a row of logits ---------------------------------------------------------------------------
 */

/* The entries of the set that row keeps; NULL: all. */
static const int32_t* kept_of(const head_state* s, int64_t row, int64_t* n) {
    if (!s->kept_offsets) return NULL;
    *n = s->kept_offsets[row + 1] - s->kept_offsets[row];
    return *n > 0 ? s->kept + s->kept_offsets[row] : NULL;
}

/* Divides by the temperature and, of a row with a kept set, gathers its logits at the front of x,
 * which is z itself otherwise. */
static int64_t choose(const head_job* job, int64_t row, float* z, float* scratch, float** x) {
    int64_t n = job->vocab;
    const int32_t* kept = kept_of(job->s, row, &n);
    if (job->s->temperature != 1.0)
        job->kernels->scale(job->vocab, (float)(1.0 / job->s->temperature), z);
    *x = z;
    if (!kept) return job->vocab;
    *x = scratch;
    return lp__kept_gather(n, kept, job->vocab, z, scratch);
}

/* p, words, from e^(x - max) and their sum; z is used up. */
static void spread(const head_job* job, int64_t row, const float* e, double sum, float* z,
                   lp__word* p) {
    int64_t n = job->vocab;
    const int32_t* kept = kept_of(job->s, row, &n);
    if (kept) {
        lp__kept_scatter(n, kept, job->vocab, e, z);
        e = z;
    }
    job->format->store_scaled(job->vocab, (float)(1.0 / sum), e, p);
}

static void forward_row(void* user, int64_t index, int worker) {
    const head_job* job = user;
    lp__node* node = job->node;
    head_state* s = job->s;
    const int64_t row = job->first + index;
    const int32_t target = ((const int32_t*)node->in[2]->t.data)[row];
    float *z = job->z + index * job->vocab, *x;
    float* scratch = lp__worker_scratch(lp__node_ctx(node), worker); /* [2, vocab] */
    const int64_t n = choose(job, row, z, scratch, &x);
    float* e = s->entropy || job->dz ? scratch + job->vocab : NULL;
    const double logit = (double)z[target];
    s->stats[row] = lp__logits_stats(job->kernels, n, x, e);
    ((float*)node->t.data)[row] = (float)(logit - s->stats[row].lse);
    if (s->entropy) s->entropy[row] = (float)s->stats[row].entropy;
    if (job->dz) spread(job, row, e, s->stats[row].sum, z, job->dz + index * job->words);
}

/* p of the rows that were not kept: the logits are there again. */
static void again_row(void* user, int64_t index, int worker) {
    const head_job* job = user;
    const int64_t row = job->first + index;
    float *z = job->z + index * job->vocab, *x;
    float* scratch = lp__worker_scratch(lp__node_ctx(job->node), worker);
    const int64_t n = choose(job, row, z, scratch, &x);
    float* e = scratch + job->vocab;
    job->kernels->sum_exp(n, x, job->s->stats[row].max, e);
    spread(job, row, e, job->s->stats[row].sum, z, job->dz + index * job->words);
}

/* dz = c (1{j = a} - p_j), c the gradient over the temperature, in the place of p. */
static void backward_row(void* user, int64_t index, int worker) {
    const head_job* job = user;
    lp__node* node = job->node;
    head_state* s = job->s;
    const int64_t row = job->first + index;
    const int32_t target = ((const int32_t*)node->in[2]->t.data)[row];
    const double c = (double)((const float*)node->t.grad)[row] / s->temperature;
    const int64_t at = target / job->format->numbers, first = at * job->format->numbers;
    lp__word* dz = job->dz + index * job->words;
    float pair[2] = {0};
    (void)worker;
    job->format->scale(job->vocab, (float)-c, dz);
    job->format->load(job->format->numbers, dz + at, pair);
    pair[target - first] = (float)(c * -expm1((double)((const float*)node->t.data)[row]));
    job->format->store(job->format->numbers, pair, dz + at);
}

/* ---- blocks of rows ----------------------------------------------------------------------------
 */

static void logits(head_job* job, int64_t rows) {
    const lp__node* h = job->node->in[0];
    lp_ctx* ctx = lp__node_ctx(job->node);
    const lp__mark mark = lp__arena_mark(lp__scratch(ctx));
    const int64_t words = lp__words(job->format, job->d);
    const lp__word* a =
        lp__words_of(ctx, job->number, rows, job->d, (const float*)h->t.data + job->first * job->d);
    const lp__product product = {.m = rows,
                                 .n = job->vocab,
                                 .term = {{a, words, job->transposed, words, 0}},
                                 .terms = 1,
                                 .c = job->z,
                                 .ldc = job->vocab};
    if (a)
        lp__products(ctx, job->number, &product, 1);
    else
        lp__tape_fail(job->node->tape, LP_NOMEM);
    lp__arena_release(lp__scratch(ctx), mark);
}

static void add_tile(const lp__product* product, int64_t row, int rows, int64_t col, int cols,
                     float* tile, float* twin) {
    (void)twin;
    const head_job* job = product->user;
    float* dh = (float*)job->node->in[0]->t.grad + (job->first + row) * job->d + col;
    job->kernels->add_tile(rows, cols, tile, job->kernels->panel, dh, NULL, dh, job->d);
}

/* dh += dz W. One chain over the whole vocabulary would lose digits that later cancellations need,
 * so it is summed in pieces of VOCAB_PIECE tokens, and the pieces in order. */
static void add_dh(head_job* job, int64_t rows) {
    const int64_t piece = VOCAB_PIECE / job->format->numbers, panel = job->kernels->panel;
    for (int64_t from = 0; from < job->words; from += piece) {
        const int64_t n = LP__MIN(job->words - from, piece);
        const lp__product product = {
            .m = rows,
            .n = job->d,
            .term = {{job->dz + from, job->words, job->plain + from * panel, n, job->words}},
            .terms = 1,
            .finish = add_tile,
            .user = job};
        lp__products(lp__node_ctx(job->node), job->number, &product, 1);
    }
}

/* dW += dz^T h for the steps [step, step + count): dz of their rows, from `first` on, lies in one
 * piece. The vocabulary goes in slices, so that the cut dz stays small. */
static void add_dw(head_job* job, int64_t step, int64_t count, int64_t first, int64_t rows,
                   const lp__word* dz) {
    lp_ctx* ctx = lp__node_ctx(job->node);
    const lp__mark mark = lp__arena_mark(lp__scratch(ctx));
    const int64_t words = lp__words(job->format, job->d);
    const head_state* s = job->s;
    const lp__steps steps = {count, s->steps.first + step,
                             s->steps.second ? s->steps.second + step : NULL};
    const lp__word* h = lp__words_of(ctx, job->number, rows, job->d,
                                     (const float*)job->node->in[0]->t.data + first * job->d);
    const int64_t slice = LP__MIN(job->vocab, (int64_t)VOCAB_SLICE);
    lp__word* blocks = lp__arena_alloc(
        lp__scratch(ctx), (size_t)lp__cut_words(ctx, count, slice, true) * sizeof *blocks);
    lp__word* panels =
        lp__arena_alloc(lp__scratch(ctx),
                        (size_t)(lp__cut_words(ctx, count, job->d, false) + DOWN) * sizeof *panels);
    if (!h || !blocks || !panels) {
        lp__tape_fail(job->node->tape, LP_NOMEM);
        return;
    }
    /* the rows of the steps are counted from the first of the whole */
    lp__cut_rows(ctx, job->number, &steps, job->d, h - first * words, words, false, panels);
    for (int64_t from = 0; from < job->vocab; from += VOCAB_SLICE) {
        const int64_t n = LP__MIN(job->vocab - from, (int64_t)VOCAB_SLICE);
        lp__cut_rows(ctx, job->number, &steps, n,
                     dz + from / job->format->numbers - first * job->words, job->words, true,
                     blocks);
        const lp__product product = {.m = n,
                                     .n = job->d,
                                     .term = {{blocks, 0, panels, count, 0}},
                                     .terms = 1,
                                     .blocks = true,
                                     .c = (float*)job->node->in[1]->t.grad + from * job->d,
                                     .ldc = job->d,
                                     .accumulate = !s->fresh || step > 0};
        lp__products(ctx, job->number, &product, 1);
    }
    lp__arena_release(lp__scratch(ctx), mark);
}

static void forward_block(head_job* job, int64_t step, int64_t count, int64_t rows) {
    (void)step, (void)count;
    logits(job, rows);
    if (job->node->tape->status == LP_OK)
        lp__parallel_for(lp__node_ctx(job->node), rows, forward_row, job);
}

static void backward_block(head_job* job, int64_t step, int64_t count, int64_t rows) {
    lp_ctx* ctx = lp__node_ctx(job->node);
    if (!job->kept) {
        logits(job, rows);
        if (job->node->tape->status != LP_OK) return;
        lp__parallel_for(ctx, rows, again_row, job);
    }
    lp__parallel_for(ctx, rows, backward_row, job);
    if (job->node->in[0]->t.needs_grad) add_dh(job, rows);
    if (!job->node->in[1]->t.needs_grad) return;
    const head_state* s = job->s;
    if (!job->kept)
        add_dw(job, step, count, job->first, rows, job->dz);
    else if (step + count == s->kept_steps) /* many kept rows at once: W's gradient is large */
        for (int64_t from = 0; from < s->kept_steps; from += STEPS_OF_DW) {
            const int64_t end = LP__MIN(from + STEPS_OF_DW, s->kept_steps);
            const int64_t first = s->steps.first[from];
            const int64_t after = end < s->kept_steps ? s->steps.first[end] : s->kept_rows;
            add_dw(job, from, end - from, first, after - first, s->p + first * job->words);
        }
}

/* W as right operand: the parameter's own, or one on the tape. */
static const lp__word* operand(lp__node* node, lp__side side) {
    lp_ctx* ctx = lp__node_ctx(node);
    lp__node* w = node->in[1];
    const lp__word* own = lp__weight_operand(ctx, w, side);
    if (own || !w->tape) return own;
    const size_t words =
        lp__weight_words(ctx, LP__F32, w->t.rows, w->t.cols, side == LP__TRANSPOSED);
    lp__word* packed = lp__tape_alloc(node->tape, words * sizeof *packed);
    if (packed && lp__weight_pack(ctx, LP__F32, w->t.rows, w->t.cols, w->t.data,
                                  side == LP__TRANSPOSED ? packed : NULL,
                                  side == LP__PLAIN ? packed : NULL) != LP_OK)
        return NULL;
    return packed;
}

/* Rows of the steps [step, end). */
static int64_t rows_of(const head_job* job, int64_t end) {
    const head_state* s = job->s;
    return (end < s->steps.count ? s->steps.first[end] : job->node->t.rows) - job->first;
}

static void for_blocks(lp__node* node, bool back,
                       void (*block)(head_job* job, int64_t step, int64_t count, int64_t rows)) {
    lp_ctx* ctx = lp__node_ctx(node);
    const lp__node* w = node->in[1];
    lp__arena* scratch = lp__scratch(ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    head_job job = {.node = node,
                    .s = node->attr.state,
                    .kernels = lp__ctx_kernels(ctx),
                    .number = w->tape ? LP__F32 : w->number,
                    .vocab = w->t.rows,
                    .d = w->t.cols};
    job.format = &job.kernels->format[job.number];
    job.words = lp__words(job.format, job.vocab);
    const int64_t steps = LP__MIN(job.s->steps.count, (int64_t)BLOCK_STEPS);
    const size_t rows = (size_t)LP__MIN(node->t.rows, steps * job.format->numbers);
    const size_t row_bytes = (size_t)job.words * sizeof(lp__word);
    lp__word* spare = NULL;
    bool ok = (job.transposed = operand(node, LP__TRANSPOSED)) != NULL &&
              (!back || (job.plain = operand(node, LP__PLAIN)) != NULL) &&
              (job.z = lp__arena_alloc(scratch, rows * (size_t)job.vocab * sizeof *job.z)) != NULL;
    if (back)
        ok = ok && (job.s->kept_steps == job.s->steps.count ||
                    (spare = lp__arena_alloc(scratch, rows * row_bytes)) != NULL);
    /* The scratch of the workers last: packing an operand uses it too. */
    ok = ok && lp__worker_scratch_reserve(ctx, 2 * (size_t)job.vocab * sizeof(float));
    if (!ok) lp__tape_fail(node->tape, LP_NOMEM);
    for (int64_t step = 0; step < job.s->steps.count && node->tape->status == LP_OK;) {
        const int64_t end = LP__MIN(step + BLOCK_STEPS, job.s->steps.count);
        job.first = job.s->steps.first[step];
        const int64_t n = rows_of(&job, end);
        job.kept = step < job.s->kept_steps;
        job.dz = job.kept ? job.s->p + job.first * job.words : spare;
        block(&job, step, end - step, n);
        step = end;
    }
    lp__arena_release(scratch, mark);
}

/* ---- the op ------------------------------------------------------------------------------------
 */

/* Which rows are steps of k, see lp__steps; rows in no sequence stand alone. */
static bool find_steps(lp__node* node, head_state* s, int64_t numbers) {
    const int64_t rows = node->t.rows;
    int32_t* first = lp__tape_alloc(node->tape, (size_t)(2 * rows) * sizeof *first);
    if (!first) return false;
    int32_t* second = first + rows;
    int64_t count = 0, q = 0;
    for (int64_t row = 0; row < rows; count++) {
        while (s->offsets && q < s->sequences && s->offsets[q + 1] <= row) q++;
        const bool pair =
            numbers == 2 && s->offsets && q < s->sequences && row + 1 < s->offsets[q + 1];
        first[count] = (int32_t)row;
        second[count] = pair ? (int32_t)row + 1 : -1;
        row += pair ? 2 : 1;
    }
    s->steps = (lp__steps){count, first, numbers == 2 ? second : NULL};
    return true;
}

/* As many whole blocks as `limit` rows allow. */
static void find_kept(head_state* s, int64_t rows, int64_t limit) {
    for (int64_t step = 0; step < s->steps.count;) {
        step = LP__MIN(step + BLOCK_STEPS, s->steps.count);
        const int64_t end = step < s->steps.count ? s->steps.first[step] : rows;
        if (end > limit) break;
        s->kept_steps = step;
        s->kept_rows = end;
    }
}

static void head_forward(lp__node* node) {
    head_state* s = node->attr.state;
    const lp__node* w = node->in[1];
    const lp__format* format =
        &lp__ctx_kernels(lp__node_ctx(node))->format[w->tape ? LP__F32 : w->number];
    s->stats = lp__tape_alloc(node->tape, (size_t)node->t.rows * sizeof *s->stats);
    if (!s->stats || !find_steps(node, s, format->numbers)) return;
    if (node->t.needs_grad) {
        const size_t row_bytes = (size_t)lp__words(format, w->t.rows) * sizeof(lp__word);
        find_kept(s, node->t.rows, (int64_t)(KEPT_BYTES / LP__MAX(row_bytes, 1)));
        s->p = lp__tape_alloc(node->tape, (size_t)s->kept_rows * row_bytes);
        if (!s->p) return;
    }
    for_blocks(node, false, forward_block);
}

static void head_backward(lp__node* node) {
    head_state* s = node->attr.state;
    lp__node *h = node->in[0], *w = node->in[1];
    if (node->t.rows == 0) return;
    lp__grad(h);
    lp__grad_raw(w, &s->fresh);
    if ((h->t.needs_grad && !h->t.grad) || (w->t.needs_grad && !w->t.grad)) /* of a tied use */
        lp__tape_fail(node->tape, LP_NOMEM);
    if (node->tape->status == LP_OK) for_blocks(node, true, backward_block);
}

/* ---- the reference, in double ---------------------------------------------------------------- */

/* Row i of the logits, -inf outside of its kept set; returns lse(z). */
static double logits_f64(const lp__node* node, int64_t i, double* z) {
    const head_state* s = node->attr.state;
    const int64_t vocab = node->in[1]->t.rows, d = node->in[1]->t.cols;
    const double *h = (const double*)node->in[0]->t.data + i * d, *w = node->in[1]->t.data;
    int64_t n = 0;
    const int32_t* kept = kept_of(s, i, &n);
    const bool listed = kept && kept[0] >= 0; /* else all but those that are told */
    double max = -(double)INFINITY, sum = 0;
    for (int64_t j = 0, at = 0; j < vocab; j++) {
        const bool told = kept && at < n && j == (listed ? kept[at] : -1 - kept[at]);
        at += told;
        z[j] = told == listed ? 0 : -(double)INFINITY;
        for (int64_t l = 0; l < d; l++) z[j] += h[l] * w[j * d + l] / s->temperature;
        max = z[j] > max ? z[j] : max;
    }
    for (int64_t j = 0; j < vocab; j++) sum += exp(z[j] - max);
    return max + log(sum);
}

static void head_forward_f64(lp__node* node) {
    const head_state* state = node->attr.state;
    const int32_t* target = node->in[2]->t.data;
    const int64_t vocab = node->in[1]->t.rows;
    double* z = lp__tape_alloc(node->tape, (size_t)vocab * sizeof *z);
    if (!z) return;
    for (int64_t i = 0; i < node->t.rows; i++) {
        const double lse = logits_f64(node, i, z);
        double entropy = 0;
        for (int64_t j = 0; j < vocab; j++)
            if (z[j] > -(double)INFINITY) entropy -= exp(z[j] - lse) * (z[j] - lse);
        ((double*)node->t.data)[i] = z[target[i]] - lse;
        if (state->entropy) state->entropy[i] = (float)entropy;
    }
}

static void head_backward_f64(lp__node* node) {
    const head_state* state = node->attr.state;
    const double *h = node->in[0]->t.data, *w = node->in[1]->t.data, *dy = node->t.grad;
    double *dh = lp__grad(node->in[0]), *dw = lp__grad(node->in[1]);
    const int32_t* target = node->in[2]->t.data;
    const int64_t vocab = node->in[1]->t.rows, d = node->in[1]->t.cols;
    double* z = lp__tape_alloc(node->tape, (size_t)vocab * sizeof *z);
    if (!z) return;
    for (int64_t i = 0; i < node->t.rows; i++) {
        const double lse = logits_f64(node, i, z);
        for (int64_t j = 0; j < vocab; j++) {
            const double dz =
                dy[i] * ((j == target[i] ? 1.0 : 0.0) - exp(z[j] - lse)) / state->temperature;
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

/* Whether every row's kept set is one of tokens of the vocabulary, in order, with its target. */
static bool kept_ok(lp_tape* t, const lp_head_def* def, lp_tensor target, int64_t vocab) {
    if (!def->kept_offsets) return true;
    bool ok = def->kept != NULL;
    for (int64_t row = 0; ok && row < target->rows; row++) {
        const int64_t from = def->kept_offsets[row], to = def->kept_offsets[row + 1];
        ok = from <= to &&
             lp__kept_ok(to - from, def->kept + from, vocab, ((const int32_t*)target->data)[row]);
    }
    return LP__REQUIRE(t->ctx, ok,
                       "a kept set has tokens of the vocabulary, rising, and the target");
}

static bool head_ok(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target,
                    const lp_head_def* def) {
    int64_t rows = 0;
    if (!LP__REQUIRE(t->ctx, h->cols == w->cols, "the head needs h [n, d] and W [vocab, d]") ||
        !LP__REQUIRE(t->ctx, target->type == LP_I32 && target->cols == 1 && target->rows == h->rows,
                     "the head needs one target a row, [n, 1] of LP_I32") ||
        !LP__REQUIRE(t->ctx, def->temperature > 0, "a temperature is positive") ||
        !LP__REQUIRE(t->ctx,
                     !def->offsets ||
                         (lp__offsets_ok(def->sequences, def->offsets, &rows) && rows == h->rows),
                     "offsets must not fall, and cover the rows exactly"))
        return false;
    for (int64_t i = 0; i < target->rows; i++) {
        const int32_t a = ((const int32_t*)target->data)[i];
        if (!LP__REQUIRE(t->ctx, a >= 0 && a < w->rows, "a target is outside the vocabulary"))
            return false;
    }
    return kept_ok(t, def, target, w->rows);
}

/* A copy on the tape, so that the caller's may go. */
static const void* keep(lp_tape* t, const void* from, int64_t count, size_t size) {
    void* copy = from ? lp__tape_alloc(t, (size_t)count * size) : NULL;
    if (copy) memcpy(copy, from, (size_t)count * size);
    return copy;
}

lp_tensor lp_head(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target, const lp_head_def* def,
                  lp_tensor* entropy) {
    lp_tensor in[3] = {h, w, target};
    if (entropy) *entropy = NULL;
    if (!lp__inputs_ok(t, in, 3)) return NULL;
    if (!head_ok(t, h, w, target, def)) return lp__tape_fail(t, LP_INVALID);
    head_state* s = lp__tape_alloc(t, sizeof *s);
    if (!s) return NULL;
    *s = (head_state){.temperature = def->temperature, .sequences = def->sequences};
    s->offsets = keep(t, def->offsets, def->sequences + 1, sizeof *s->offsets);
    s->kept_offsets = keep(t, def->kept_offsets, h->rows + 1, sizeof *s->kept_offsets);
    if (s->kept_offsets) s->kept = keep(t, def->kept, def->kept_offsets[h->rows], sizeof *s->kept);
    if (entropy) s->entropy = lp__tape_alloc(t, (size_t)h->rows * sizeof(float));
    const lp__attr attr = {.state = s};
    lp_tensor y = lp__apply(t, &lp__op_head_logp, h->rows, 1, in, 3, &attr);
    if (y && entropy) *entropy = lp_const_f32(t, h->rows, 1, s->entropy);
    return y;
}

lp_tensor lp_head_logp(lp_tape* t, lp_tensor h, lp_tensor w, lp_tensor target, double temperature,
                       lp_tensor* entropy) {
    const lp_head_def def = {.temperature = temperature};
    return lp_head(t, h, w, target, &def, entropy);
}
