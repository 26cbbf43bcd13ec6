/* One query row i of a head sees keys 0..i, in this order:
 *
 *     s_j = q . k_j / sqrt(d),   p_j = e^(s_j - max s),   o = sum_j p_j v_j / sum_j p_j
 *
 * Each s_j is one chain over the width of a head, o one chain over the keys from the first to the
 * last, and the sums over j have one order for one number of keys: a row has the same bits alone
 * with a cache and among others without one. What a block of rows computes beyond a row's own keys
 * has weight zero.
 *
 * Keys lie in panels of kernels->panel at absolute positions, [words(d)][panel], values in steps of
 * k, [word][d], as a right operand each. A sequence that continues a prefix reads the prefix's
 * whole panels where they are, and has a copy of the rest of it before its own rows.
 *
 * An item of work is a tile of queries of the heads of one group. It goes through them in blocks as
 * high as the register tile: their scores and weights stay in the first level of the cache, keys
 * and values in the second, and no block looks at panels that all of its rows are before. */
#include "tensor/attend_job.h"

enum { TILE = LP__ATTEND_TILE, SLACK = 64 /* words behind the last that whole vectors may read */ };

typedef lp__attend_job attend_job;
typedef lp__kv_view view;

static int64_t round_up(int64_t n, int64_t to) { return lp__attend_round_up(n, to); }

/* Keys of a sequence that lie in another's panels. */
static int64_t shared_keys(const attend_job* job, const lp__span* span) {
    return span->prefix < 0 ? 0 : span->past / job->kernels->panel * job->kernels->panel;
}

float lp__attend_scale(const lp__attend* a) {
    const double log2_e = 1.4426950408889634;
    return (float)(log2_e / sqrt((double)a->head_dim));
}

/* ---- where keys and values are -----------------------------------------------------------------
 */

/* Words of a sequence's keys (or values) of one head in the store: all panels of keys, then all of
 * values. */
static int64_t store_words(const attend_job* job, int64_t sequence) {
    return (job->at[sequence + 1] - job->at[sequence]) * job->hdw;
}

static lp__word* store_keys(const attend_job* job, int64_t sequence, int64_t g) {
    return job->store + job->at[sequence] * job->a->kv_heads * job->hdw * 2 +
           g * 2 * store_words(job, sequence);
}

static view view_of(const attend_job* job, int64_t sequence, int64_t g) {
    const lp__attend* a = job->a;
    const lp__span* span = &a->spans[sequence];
    if (a->cache) return lp__kv_view_of(a->cache, a->layer, span->slot, g);
    const int64_t panel = job->kernels->panel;
    view v = {.shared = shared_keys(job, span),
              .key_step = panel * job->hdw,
              .value_step = job->panel_words};
    v.keys = store_keys(job, sequence, g) - v.shared / panel * v.key_step;
    v.values =
        store_keys(job, sequence, g) + store_words(job, sequence) - v.shared / panel * v.value_step;
    if (span->prefix >= 0) {
        v.base_keys = store_keys(job, span->prefix, g);
        v.base_values = v.base_keys + store_words(job, span->prefix);
    }
    return v;
}

/* Puts `count` rows of head g of the batch, from `row` on, behind the first `from` of a view. */
static void put_rows(const attend_job* job, const view* v, int64_t g, int64_t from, int64_t row,
                     int64_t count) {
    const lp__attend* a = job->a;
    lp__kv_put_keys(job->kernels, job->hdw, v->keys, v->key_step, from, count,
                    a->k + row * a->ldk + g * job->hdw, a->ldk);
    lp__kv_put_values(job->kernels, a->number, a->head_dim, v->values, v->value_step, from, count,
                      a->v + row * a->ldv + g * job->hdw, a->ldv);
}

/* Rows of a cache that one item of work reads alone are put there by that item: the lines that it
 * writes are among those that it reads. */
static bool puts_own(const lp__attend* a, const lp__span* span) {
    return a->cache && span->count <= TILE;
}

static void store_task(void* user, int64_t index, int worker) {
    (void)worker;
    const attend_job* job = user;
    const lp__attend* a = job->a;
    const int64_t s = index / a->kv_heads, g = index % a->kv_heads;
    const lp__span* span = &a->spans[s];
    if (span->count == 0 || puts_own(a, span)) return;
    const view v = view_of(job, s, g);
    if (!a->cache && span->prefix >= 0)
        put_rows(job, &v, g, v.shared, a->spans[span->prefix].first + v.shared,
                 span->past - v.shared);
    put_rows(job, &v, g, span->past, span->first, span->count);
}

/* ---- products ----------------------------------------------------------------------------------
 */

static const lp__word* keys_at(const attend_job* job, const view* v, int64_t panel) {
    const int64_t j = panel * job->kernels->panel;
    return (j < v->shared ? v->base_keys : v->keys) + panel * v->key_step;
}

void lp__attend_scores(const attend_job* job, const view* v, int64_t rows, const lp__word* q,
                       int64_t ldq, int64_t n, float* s, int64_t lds) {
    const int64_t panel = job->kernels->panel;
    for (int64_t j = 0, i = 0; j < n; j += panel, i++) {
        const int64_t columns = LP__MIN(round_up(n - j, LP__PADDING), panel);
        const lp__word* values = j < v->shared ? v->base_values : v->values;
        job->format->tile((int)rows, (int)columns, job->hdw, q, ldq, keys_at(job, v, i), panel,
                          s + j, lds, false, values ? values + i * v->value_step : NULL);
    }
}

void lp__attend_wide(const attend_job* job, int64_t rows, int64_t words, const lp__word* a,
                     int64_t lda, const lp__word* b, float* c, int64_t ldc, bool accumulate,
                     const lp__word* ahead) {
    const int64_t d = job->a->head_dim, width = job->d_panel;
    const int64_t lines = words * (LP__LINE / (int64_t)sizeof *ahead);
    for (int64_t j = 0; j < d; j += width) {
        job->format->tile((int)rows, (int)LP__MIN(d - j, width), words, a, lda, b + j, d, c + j,
                          ldc, accumulate, ahead);
        if (ahead) ahead += lines;
    }
}

/* o [rows, d] = p v of `words` steps of k; where panels of values follow each other they are one
 * operand. Meanwhile the keys of `next` are asked for. */
static void weigh_values(const attend_job* job, const view* v, int64_t rows, int64_t words,
                         const lp__word* p, int64_t ldp, float* o, const view* next) {
    const int64_t d = job->a->head_dim, numbers = job->format->numbers;
    const int64_t steps = job->kernels->panel / numbers, shared = v->shared / numbers;
    const bool apart = v->value_step != job->panel_words;
    for (int64_t w = 0, n; w < words; w += n) {
        const bool base = w < shared;
        const int64_t panel = w / steps;
        n = apart ? LP__MIN(words - w, steps) : base ? LP__MIN(words, shared) - w : words - w;
        lp__attend_wide(job, rows, n, p + w, ldp,
                        (base ? v->base_values : v->values) + panel * v->value_step, o, d, w > 0,
                        next ? keys_at(job, next, panel) : NULL);
    }
}

/* ---- forward -----------------------------------------------------------------------------------
 */

/* `rows` query rows that see n keys (stepping 0) or n, n + 1, ... (stepping 1), of `heads` heads,
 * each `hdw` words behind the one before it. */
typedef struct queries {
    int64_t rows, heads, n, stepping;
    const lp__word* q;
    int64_t ldq;
    lp__word* o;
    int64_t ldo;
    lp__softmax_row* softmax;
    int64_t ldl;
    const view* next; /* of the item that will likely follow; NULL: not looked for */
} queries;

/* Scratch of a block: scores, their words, and outputs [tile_rows, d]. */
static int64_t forward_floats(const attend_job* job) {
    const int64_t lds = lp__attend_score_room(round_up(job->longest, LP__PADDING));
    return job->kernels->tile_rows * (2 * lds + job->a->head_dim + LP__PADDING);
}

/* Rows [r, r + rows) of head h of the queries, rows <= tile_rows. */
static void attend_block(const attend_job* job, const view* v, const queries* q, int64_t r,
                         int64_t rows, int64_t h, float* scratch) {
    const int64_t d = job->a->head_dim, numbers = job->format->numbers;
    const int64_t first = q->n + q->stepping * r, most = first + q->stepping * (rows - 1);
    const int64_t padded = round_up(most, LP__PADDING), lds = lp__attend_score_room(padded);
    const int64_t ldp = lds / numbers, words = (most + numbers - 1) / numbers;
    const float scale = lp__attend_scale(job->a);
    const lp__word* rows_q = q->q + r * q->ldq + h * job->hdw;
    lp__word* rows_o = q->o + r * q->ldo + h * job->hdw;
    float *s = scratch, *o = s + rows * lds, weight[TILE];
    lp__word* p = o + rows * d;
    lp__attend_fetch_write(rows, job->hdw, rows_o, q->ldo);
    lp__attend_fetch(LP__MIN(q->rows - r - rows, rows), job->hdw, rows_q + rows * q->ldq, q->ldq);
    lp__attend_scores(job, v, rows, rows_q, q->ldq, most, s, lds);
    for (int64_t i = 0; i < rows; i++) {
        float max;
        const int64_t n = first + q->stepping * i;
        const double sum = job->format->soften(n, padded, scale, s + i * lds, p + i * ldp, &max);
        weight[i] = (float)(1.0 / sum);
        if (q->softmax) q->softmax[(r + i) * q->ldl + h] = (lp__softmax_row){max, weight[i]};
    }
    weigh_values(job, v, rows, words, p, ldp, o, q->next);
    for (int64_t i = 0; i < rows; i++)
        job->format->store_scaled(d, weight[i], o + i * d, rows_o + i * q->ldo);
}

/* Blocks first, then heads: those of a group find the same keys in the cache. */
static void attend_rows(const attend_job* job, const view* v, const queries* q, float* scratch) {
    const int64_t tile_rows = job->kernels->tile_rows;
    for (int64_t r = 0; r < q->rows; r += tile_rows)
        for (int64_t h = 0; h < q->heads; h++)
            attend_block(job, v, q, r, LP__MIN(q->rows - r, tile_rows), h, scratch);
}

/* The last sequence whose tiles begin at or before `tile`. */
static int64_t sequence_of(const attend_job* job, int64_t tile) {
    int64_t s = 0, high = job->a->sequences;
    while (high - s > 1) {
        const int64_t middle = (s + high) / 2;
        if (job->tiles[middle] <= tile)
            s = middle;
        else
            high = middle;
    }
    return s;
}

static void forward_task(void* user, int64_t index, int worker) {
    const attend_job* job = user;
    const lp__attend* a = job->a;
    const int64_t g = index % a->kv_heads, group = a->heads / a->kv_heads, hdw = job->hdw;
    const int64_t s = sequence_of(job, index / a->kv_heads);
    const lp__span* span = &a->spans[s];
    const view v = view_of(job, s, g);
    /* The last tile has most keys, and comes first, so that threads end together. */
    const int64_t i = (job->tiles[s + 1] - 1 - index / a->kv_heads) * TILE, row = span->first + i;
    queries q = {.rows = LP__MIN(span->count - i, (int64_t)TILE), .n = span->past + i + 1};
    q.q = a->q + row * a->ldq + g * group * hdw;
    q.o = job->o + row * job->ldo + g * group * hdw;
    q.softmax = a->softmax ? a->softmax + row * a->heads + g * group : NULL;
    view next;
    if (puts_own(a, span)) put_rows(job, &v, g, span->past, span->first, span->count);
    if (q.rows == 1 && group <= TILE) { /* the heads of the group are the rows */
        q.rows = group, q.heads = 1;
        q.ldq = hdw, q.ldo = hdw, q.ldl = 1;
        if (a->cache && index + job->threads < job->tiles[a->sequences] * a->kv_heads) {
            const int64_t then = index + job->threads;
            next = view_of(job, sequence_of(job, then / a->kv_heads), then % a->kv_heads);
            q.next = &next;
            /* its first panel at once, others as the products go */
            lp__attend_fetch(hdw, job->kernels->panel, keys_at(job, &next, 0), job->kernels->panel);
        }
    } else {
        q.heads = group, q.stepping = 1;
        q.ldq = a->ldq, q.ldo = job->ldo, q.ldl = a->heads;
    }
    attend_rows(job, &v, &q, lp__worker_scratch(a->ctx, worker));
}

bool lp__attend_prepare(attend_job* job, const lp__attend* a, lp__arena* scratch) {
    *job = (attend_job){.a = a, .kernels = lp__ctx_kernels(a->ctx)};
    job->threads = lp_ctx_threads(a->ctx);
    job->format = &job->kernels->format[a->number];
    job->hdw = lp__words(job->format, a->head_dim);
    job->panel_words = job->kernels->panel / job->format->numbers * a->head_dim;
    const int64_t parts = (a->head_dim + job->kernels->panel - 1) / job->kernels->panel;
    job->d_panel = round_up((a->head_dim + parts - 1) / parts, LP__PADDING);
    job->d_panel = LP__MIN(job->d_panel, job->kernels->panel);
    const size_t n = (size_t)a->sequences + 1;
    job->at = lp__arena_alloc(scratch, 3 * n * sizeof(int64_t));
    if (!job->at) return false;
    job->tiles = job->at + n;
    job->roots = job->tiles + n;
    job->at[0] = job->tiles[0] = 0;
    for (int64_t s = 0; s < a->sequences; s++) {
        const lp__span* span = &a->spans[s];
        const int64_t own = lp__attend_keys(span) - shared_keys(job, span);
        job->longest = LP__MAX(job->longest, lp__attend_keys(span));
        job->at[s + 1] = job->at[s] + (span->count ? round_up(own, job->kernels->panel) : 0);
        job->tiles[s + 1] = job->tiles[s] + (span->count + TILE - 1) / TILE;
        if (span->prefix < 0) job->roots[job->root_count++] = s;
    }
    return true;
}

lp_status lp__attend_forward(const lp__attend* a, lp__word* o, int64_t ldo) {
    lp__arena* scratch = lp__scratch(a->ctx);
    const lp__mark mark = lp__arena_mark(scratch);
    attend_job job;
    lp_status status = lp__attend_prepare(&job, a, scratch) ? LP_OK : LP_NOMEM;
    if (status == LP_OK && !a->cache) {
        const int64_t words = 2 * job.at[a->sequences] * a->kv_heads * job.hdw + SLACK;
        job.store = lp__arena_alloc(scratch, (size_t)words * sizeof(lp__word));
        if (!job.store) status = LP_NOMEM;
    }
    if (status == LP_OK &&
        !lp__worker_scratch_reserve(a->ctx, (size_t)forward_floats(&job) * sizeof(float)))
        status = LP_NOMEM;
    if (status == LP_OK) {
        job.o = o;
        job.ldo = ldo;
        bool apart = false;
        for (int64_t s = 0; s < a->sequences; s++) apart |= !puts_own(a, &a->spans[s]);
        if (apart) lp__parallel_for(a->ctx, a->sequences * a->kv_heads, store_task, &job);
        lp__parallel_for(a->ctx, job.tiles[a->sequences] * a->kv_heads, forward_task, &job);
    }
    lp__arena_release(scratch, mark);
    return status;
}
