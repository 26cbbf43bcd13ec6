/* With p again from the scores and what forward found of its row, dp_ij = do_i . v_j, D_i = sum_j
 * p_ij dp_ij:
 *
 *     ds_ij = p_ij (dp_ij - D_i) / sqrt(d),   dq_i = sum_j ds_ij k_j,
 *     dk_j += sum_i ds_ij q_i,   dv_j += sum_i p_ij do_i
 *
 * One item is one key-value head of one sequence and of all that continue it, which come first, in
 * order; heads in order, then rows: every sum is one chain, which starts from the gradient that is
 * there. Blocks of rows as high as the register tile, as forward: what is masked for all of a block
 * is not computed. */
#include "tensor/attend_job.h"

enum { TILE = LP__ATTEND_TILE };

typedef lp__attend_job attend_job;

/* The scratch of one worker. */
typedef struct backward_scratch {
    float *s, *dp;                  /* [tile_rows] rows of scores */
    lp__word *p, *ds;               /* their words */
    lp__word *p_blocks, *ds_blocks; /* those of a tile, transposed, in blocks of keys */
    lp__word *k_panels, *v_panels;  /* [keys / panel][words(d)][panel] */
    lp__word* k_steps;              /* [words(keys)][d] */
    lp__word *q_steps, *d_steps;    /* [words(TILE)][d] */
} backward_scratch;

static int64_t lay_out(const attend_job* job, float* base, backward_scratch* b) {
    const int64_t d = job->a->head_dim, numbers = job->format->numbers;
    const int64_t tile_rows = job->kernels->tile_rows, panel = job->kernels->panel;
    const int64_t padded = lp__attend_round_up(job->longest, LP__PADDING);
    const int64_t room = tile_rows * lp__attend_score_room(padded);
    const int64_t steps = (TILE + numbers - 1) / numbers, blocks = (padded + tile_rows) * steps;
    const int64_t panels = lp__attend_round_up(job->longest, panel) * job->hdw;
    int64_t at = 0;
    const struct {
        void* to;
        int64_t floats;
    } parts[] = {{&b->s, room},
                 {&b->dp, room},
                 {&b->p, room},
                 {&b->ds, room},
                 {&b->p_blocks, blocks},
                 {&b->ds_blocks, blocks},
                 {&b->k_panels, panels},
                 {&b->v_panels, panels},
                 {&b->k_steps, (padded / numbers + 1) * d + panel},
                 {&b->q_steps, steps * d + panel},
                 {&b->d_steps, steps * d + panel}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        float* part = base ? base + at : NULL;
        memcpy(parts[i].to, &part, sizeof part);
        at += lp__attend_round_up(parts[i].floats, 16);
    }
    return at;
}

/* Row j of the keys of a sequence, among the rows of the batch. */
static int64_t key_row(const lp__attend* a, const lp__span* span, int64_t j) {
    return j < span->past ? a->spans[span->prefix].first + j : span->first + j - span->past;
}

/* Keys and values of a head as the products want them. */
static void gather_keys(const attend_job* job, const lp__span* span, int64_t g,
                        backward_scratch* b) {
    const lp__attend* a = job->a;
    const lp__kernels* kernels = job->kernels;
    const int64_t hdw = job->hdw, step = kernels->panel * hdw;
    const int64_t from[3] = {0, span->past, lp__attend_keys(span)};
    for (int part = 0; part < 2; part++) { /* the prefix's rows, and its own */
        const int64_t j = from[part], count = from[part + 1] - j;
        if (count == 0) continue;
        const lp__word* k = a->k + key_row(a, span, j) * a->ldk + g * hdw;
        const lp__word* v = a->v + key_row(a, span, j) * a->ldv + g * hdw;
        lp__kv_put_keys(kernels, hdw, b->k_panels, step, j, count, k, a->ldk);
        lp__kv_put_keys(kernels, hdw, b->v_panels, step, j, count, v, a->ldv);
        lp__kv_put_values(kernels, a->number, a->head_dim, b->k_steps, job->panel_words, j, count,
                          k, a->ldk);
    }
}

/* `rows` rows of n words' numbers as steps of k, [words(rows)][width], or in blocks of
 * kernels->tile_rows, `stride` words apart. */
static void steps_of(const attend_job* job, int64_t rows, int64_t n, const lp__word* x, int64_t ld,
                     int width, lp__word* out, int64_t stride) {
    const int64_t numbers = job->format->numbers;
    for (int64_t r = 0; r < rows; r += numbers)
        job->format->interleave(width, n, x + r * ld, r + 1 < rows ? x + (r + 1) * ld : NULL,
                                out + r / numbers * width, stride);
}

/* A tile of queries of one head. */
typedef struct tile {
    const lp__span* span;
    int64_t g, h, i, rows; /* head of keys, head, first row in its sequence, rows */
    int64_t steps;         /* words of a column of rows */
} tile;

/* Weights, their gradients and dq of rows [r, r + rows) of a tile, rows <= tile_rows. */
static void backward_block(const attend_job* job, const tile* t, int64_t r, int64_t rows,
                           backward_scratch* b) {
    const lp__attend* a = job->a;
    const lp__format* format = job->format;
    const int64_t d = a->head_dim, numbers = format->numbers, row = t->span->first + t->i + r;
    const int64_t first = t->span->past + t->i + r + 1, most = first + rows - 1;
    const int64_t padded = lp__attend_round_up(most, LP__PADDING);
    const int64_t lds = lp__attend_score_room(padded), ldp = lds / numbers;
    const float scale = lp__attend_scale(a), factor = (float)(1.0 / sqrt((double)d));
    const int64_t key_step = job->kernels->panel * job->hdw;
    const lp__kv_view keys = {.keys = b->k_panels, .key_step = key_step};
    const lp__kv_view values = {.keys = b->v_panels, .key_step = key_step};
    const lp__word* q = a->q + row * a->ldq + t->h * job->hdw;
    const lp__word* dy = job->d + row * job->ldd + t->h * job->hdw;
    float* dq = job->dq + (row * a->heads + t->h) * d;
    const int64_t following = LP__MIN(t->rows - r - rows, rows);
    lp__attend_fetch_write(rows, d, dq, a->heads * d);
    lp__attend_fetch(following, job->hdw, q + rows * a->ldq, a->ldq);
    lp__attend_fetch(following, job->hdw, dy + rows * job->ldd, job->ldd);
    lp__attend_scores(job, &keys, rows, q, a->ldq, most, b->s, lds);
    lp__attend_scores(job, &values, rows, dy, job->ldd, most, b->dp, lds);
    for (int64_t x = 0; x < rows; x++) {
        const lp__softmax_row* soft = &a->softmax[(row + x) * a->heads + t->h];
        const int64_t n = first + x;
        format->soften_back(n, padded, scale, soft->max, soft->weight, factor, b->s + x * lds,
                            b->dp + x * lds, b->p + x * ldp, b->ds + x * ldp);
    }
    lp__attend_wide(job, rows, (most + numbers - 1) / numbers, b->ds, ldp, b->k_steps, dq,
                    a->heads * d, true, NULL);
    const int width = job->kernels->tile_rows;
    const int64_t at = r / numbers * width, stride = t->steps * width;
    steps_of(job, rows, padded, b->p, ldp, width, b->p_blocks + at, stride);
    steps_of(job, rows, padded, b->ds, ldp, width, b->ds_blocks + at, stride);
}

/* all, [rows of the batch, kv_heads * d] += (blocks of keys) (steps of a tile): dk or dv. */
static void add_keys(const attend_job* job, const tile* t, const lp__word* blocks,
                     const lp__word* right, float* all) {
    const lp__attend* a = job->a;
    const int64_t d = a->head_dim, width = a->kv_heads * d, high = job->kernels->tile_rows;
    const int64_t past = t->span->past, n = past + t->i + t->rows;
    for (int64_t j = 0, count; j < n; j += count) {
        /* a block of keys, or what of it lies on one side of the prefix's end */
        const int64_t in_block = j % high;
        count = LP__MIN(n - j, high - in_block);
        if (j < past) count = LP__MIN(count, past - j);
        /* the blocks of rows before it do not see it */
        const int64_t before = LP__MAX(j - in_block - past - t->i, (int64_t)0) / high * high;
        const int64_t from = before / job->format->numbers;
        const lp__word* block = blocks + (j - in_block) * t->steps + from * high + in_block;
        float* c = all + key_row(a, t->span, j) * width + t->g * d;
        for (int64_t l = 0; l < d; l += job->d_panel)
            job->format->tile_packed((int)count, (int)LP__MIN(d - l, job->d_panel), t->steps - from,
                                     block, right + from * d + l, d, c + l, width, true);
    }
}

static void backward_tile(const attend_job* job, const tile* t, backward_scratch* b) {
    const lp__attend* a = job->a;
    const int64_t d = a->head_dim, row = t->span->first + t->i, high = job->kernels->tile_rows;
    const lp__word* q = a->q + row * a->ldq + t->h * job->hdw;
    const lp__word* dy = job->d + row * job->ldd + t->h * job->hdw;
    for (int64_t r = 0; r < t->rows; r += high)
        backward_block(job, t, r, LP__MIN(t->rows - r, high), b);
    steps_of(job, t->rows, d, q, a->ldq, (int)d, b->q_steps, d);
    steps_of(job, t->rows, d, dy, job->ldd, (int)d, b->d_steps, d);
    add_keys(job, t, b->ds_blocks, b->q_steps, job->dk);
    add_keys(job, t, b->p_blocks, b->d_steps, job->dv);
}

static void backward_sequence(const attend_job* job, const lp__span* span, int64_t g,
                              backward_scratch* b) {
    const int64_t group = job->a->heads / job->a->kv_heads, numbers = job->format->numbers;
    gather_keys(job, span, g, b);
    for (int64_t h = g * group; h < (g + 1) * group; h++) {
        for (int64_t i = 0; i < span->count; i += TILE) {
            tile t = {.span = span, .g = g, .h = h, .i = i};
            t.rows = LP__MIN(span->count - i, (int64_t)TILE);
            t.steps = (t.rows + numbers - 1) / numbers;
            backward_tile(job, &t, b);
        }
    }
}

static void backward_task(void* user, int64_t index, int worker) {
    const attend_job* job = user;
    const lp__attend* a = job->a;
    const int64_t root = job->roots[index / a->kv_heads], g = index % a->kv_heads;
    backward_scratch b;
    lay_out(job, lp__worker_scratch(a->ctx, worker), &b);
    for (int64_t s = root + 1; s < a->sequences; s++)
        if (a->spans[s].prefix == root && a->spans[s].count > 0)
            backward_sequence(job, &a->spans[s], g, &b);
    backward_sequence(job, &a->spans[root], g, &b);
}

lp_status lp__attend_backward(const lp__attend* a, const lp__word* d, int64_t ldd, float* dq,
                              float* dk, float* dv) {
    lp__arena* scratch = lp__scratch(a->ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    attend_job job;
    backward_scratch b;
    lp_status status = lp__attend_prepare(&job, a, scratch) ? LP_OK : LP_NOMEM;
    if (status == LP_OK &&
        !lp__worker_scratch_reserve(a->ctx, (size_t)lay_out(&job, NULL, &b) * sizeof(float)))
        status = LP_NOMEM;
    if (status == LP_OK) {
        job.d = d, job.ldd = ldd;
        job.dq = dq, job.dk = dk, job.dv = dv;
        lp__parallel_for(a->ctx, job.root_count * a->kv_heads, backward_task, &job);
    }
    lp__arena_release(scratch, mark);
    return status;
}
