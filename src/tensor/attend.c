/* One query row i of a head sees keys 0..i, in this order:
 *
 *     s_j = q . k_j / sqrt(d),   p_j = e^(s_j - max s),   o = sum_j p_j v_j / sum_j p_j
 *
 * Each s_j is one chain over the width of a head, o one chain over the keys from the first to the
 * last, and the sums over j have one order for one number of keys: a row has the same bits alone
 * with a cache and among others without one. What a tile computes beyond a row's own keys has
 * weight zero.
 *
 * Keys lie in panels of kernels->panel at absolute positions, [words(d)][panel], values in steps of
 * k, [word][d], as a right operand each. A sequence that continues a prefix reads the prefix's
 * whole panels where they are, and has a copy of the rest of it before its own rows. */
#include "tensor/attend.h"

enum {
    TILE = 64, /* query rows at a time */
    SLACK = 64 /* words behind the last that whole vectors may read */
};

typedef struct attend_job {
    const lp__attend* a;
    const lp__kernels* kernels;
    const lp__format* format;
    int64_t hdw;     /* words of a row of a head */
    lp__word* store; /* without a cache: keys and values of all sequences */
    int64_t* at;     /* [sequences + 1]: rows of the store before a sequence */
    int64_t* tiles;  /* [sequences + 1]: tiles of queries before a sequence */
    int64_t longest; /* keys */
    lp__word* o;
    int64_t ldo;
    const lp__word* d;
    int64_t ldd;
    float *dq, *dk, *dv;
    int64_t* roots; /* [root_count]: sequences that are no continuation */
    int64_t root_count;
} attend_job;

static int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Keys of a sequence that lie in another's panels, and all of its keys. */
static int64_t shared_keys(const attend_job* job, const lp__span* span) {
    return span->prefix < 0 ? 0 : span->past / job->kernels->panel * job->kernels->panel;
}
static int64_t key_count(const lp__span* span) { return span->past + span->count; }

/* ---- where keys and values are -----------------------------------------------------------------
 */

/* The keys [words(d)][panel] of each panel, and the values, of one key-value head; rows before
 * `shared` in base, the others in own, both at their absolute place. */
typedef struct view {
    lp__word *base_keys, *base_values, *keys, *values;
    int64_t shared;
} view;

/* Words of a sequence's keys (or values) of one head in the store. */
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
    if (a->cache) {
        const lp__kv_view v = lp__kv_view_of(a->cache, a->layer, span->slot, g);
        return (view){v.base_keys, v.base_values, v.keys, v.values, v.shared};
    }
    view v = {.shared = shared_keys(job, span)};
    v.keys = store_keys(job, sequence, g) - v.shared * job->hdw;
    v.values = v.keys + store_words(job, sequence);
    if (span->prefix >= 0) {
        v.base_keys = store_keys(job, span->prefix, g);
        v.base_values = v.base_keys + store_words(job, span->prefix);
    }
    return v;
}

/* Puts `count` rows behind the first `from` of a view. */
static void put_rows(const attend_job* job, const view* v, int64_t from, int64_t count,
                     const lp__word* k, int64_t ldk, const lp__word* values, int64_t ldv) {
    for (int64_t i = 0; i < count; i++)
        lp__kv_put(job->kernels, job->a->number, job->a->head_dim, v->keys, v->values, from + i,
                   k + i * ldk, values + i * ldv);
}

static void store_task(void* user, int64_t index, int worker) {
    (void)worker;
    const attend_job* job = user;
    const lp__attend* a = job->a;
    const int64_t s = index / a->kv_heads, g = index % a->kv_heads;
    const lp__span* span = &a->spans[s];
    if (span->count == 0) return;
    const view v = view_of(job, s, g);
    if (!a->cache && span->prefix >= 0) {
        const int64_t first = a->spans[span->prefix].first + v.shared;
        put_rows(job, &v, v.shared, span->past - v.shared, a->k + first * a->ldk + g * job->hdw,
                 a->ldk, a->v + first * a->ldv + g * job->hdw, a->ldv);
    }
    put_rows(job, &v, span->past, span->count, a->k + span->first * a->ldk + g * job->hdw, a->ldk,
             a->v + span->first * a->ldv + g * job->hdw, a->ldv);
}

/* ---- forward -----------------------------------------------------------------------------------
 */

/* s [rows, lds] = q k^T for keys 0..n, in whole panels. */
static void scores(const attend_job* job, const view* v, int64_t rows, const lp__word* q,
                   int64_t ldq, int64_t n, float* s, int64_t lds) {
    const int64_t panel = job->kernels->panel, tile_rows = job->kernels->tile_rows;
    for (int64_t j = 0; j < n; j += panel) {
        const lp__word* keys = (j < v->shared ? v->base_keys : v->keys) + j * job->hdw;
        for (int64_t r = 0; r < rows; r += tile_rows)
            job->format->tile((int)LP__MIN(rows - r, tile_rows), (int)panel, job->hdw, q + r * ldq,
                              ldq, keys, panel, s + r * lds + j, lds, false, NULL);
    }
}

/* c [rows, d] (+)= a b: b has steps of d numbers; columns go in panels. */
static void wide_tile(const attend_job* job, int64_t rows, int64_t words, const lp__word* a,
                      int64_t lda, const lp__word* b, float* c, int64_t ldc, bool accumulate) {
    const int64_t panel = job->kernels->panel, tile_rows = job->kernels->tile_rows;
    const int64_t d = job->a->head_dim;
    for (int64_t r = 0; r < rows; r += tile_rows)
        for (int64_t j = 0; j < d; j += panel)
            job->format->tile((int)LP__MIN(rows - r, tile_rows), (int)LP__MIN(d - j, panel), words,
                              a + r * lda, lda, b + j, d, c + r * ldc + j, ldc, accumulate,
                              NULL);
}

/* Row r of s, of n keys: to e^(s - max) as words, zero up to `whole` keys; returns their sum. */
static double soften(const attend_job* job, int64_t n, int64_t whole, float* s, lp__word* p,
                     float* max) {
    const lp__kernels* kernels = job->kernels;
    kernels->scale(n, (float)(1.0 / sqrt((double)job->a->head_dim)), s);
    *max = kernels->max(n, s);
    const double sum = kernels->sum_exp(n, s, *max, s);
    memset(s + n, 0, (size_t)(whole - n) * sizeof *s);
    job->format->store(whole, s, p);
    return sum;
}

/* `rows` query rows that see n keys (stepping 0) or n, n + 1, ... (stepping 1). */
typedef struct queries {
    int64_t rows, n, stepping;
    const lp__word* q;
    int64_t ldq;
    lp__word* o;
    int64_t ldo;
    double* lse;
    int64_t ldl;
} queries;

/* Scratch: scores [TILE, keys], their words, and the outputs [TILE, d]. */
static int64_t forward_floats(const attend_job* job) {
    const int64_t keys = round_up(job->longest, job->kernels->panel);
    const int64_t rows = LP__MAX((int64_t)TILE, job->a->heads / job->a->kv_heads);
    return rows * (2 * keys + job->a->head_dim + 16);
}

static void attend_rows(const attend_job* job, const view* v, const queries* q, float* scratch) {
    const int64_t d = job->a->head_dim, panel = job->kernels->panel;
    const int64_t most = q->n + q->stepping * (q->rows - 1);
    const int64_t lds = round_up(most, panel), numbers = job->format->numbers;
    const int64_t whole = round_up(most, numbers), words = whole / numbers;
    float *s = scratch, *o = s + q->rows * lds;
    lp__word* p = o + q->rows * d;
    double sums[TILE];
    float max;
    scores(job, v, q->rows, q->q, q->ldq, most, s, lds);
    for (int64_t r = 0; r < q->rows; r++) {
        const int64_t n = q->n + q->stepping * r;
        sums[r] = soften(job, n, whole, s + r * lds, p + r * words, &max);
        if (q->lse) q->lse[r * q->ldl] = log(sums[r]) + (double)max;
    }
    const int64_t shared = LP__MIN(v->shared, whole) / numbers;
    if (shared > 0) wide_tile(job, q->rows, shared, p, words, v->base_values, o, d, false);
    wide_tile(job, q->rows, words - shared, p + shared, words, v->values + shared * d, o, d,
              shared > 0);
    for (int64_t r = 0; r < q->rows; r++) {
        job->kernels->scale(d, (float)(1.0 / sums[r]), o + r * d);
        job->format->store(d, o + r * d, q->o + r * q->ldo);
    }
}

static void forward_task(void* user, int64_t index, int worker) {
    const attend_job* job = user;
    const lp__attend* a = job->a;
    const int64_t g = index % a->kv_heads, group = a->heads / a->kv_heads, hdw = job->hdw;
    index /= a->kv_heads;
    int64_t s = 0, high = a->sequences; /* the last whose tiles begin at or before index */
    while (high - s > 1) {
        const int64_t middle = (s + high) / 2;
        if (job->tiles[middle] <= index)
            s = middle;
        else
            high = middle;
    }
    const lp__span* span = &a->spans[s];
    const view v = view_of(job, s, g);
    const int64_t i = (index - job->tiles[s]) * TILE, row = span->first + i;
    float* scratch = lp__worker_scratch(a->ctx, worker);
    queries q = {.rows = LP__MIN(span->count - i, (int64_t)TILE), .n = span->past + i + 1};
    if (q.rows == 1 && group <= TILE) { /* the heads of the group are the rows */
        q.rows = group;
        q.ldq = hdw, q.ldo = hdw, q.ldl = 1;
        q.q = a->q + row * a->ldq + g * group * hdw;
        q.o = job->o + row * job->ldo + g * group * hdw;
        q.lse = a->lse ? a->lse + row * a->heads + g * group : NULL;
        attend_rows(job, &v, &q, scratch);
        return;
    }
    q.stepping = 1, q.ldq = a->ldq, q.ldo = job->ldo, q.ldl = a->heads;
    for (int64_t h = g * group; h < (g + 1) * group; h++) {
        q.q = a->q + row * a->ldq + h * hdw;
        q.o = job->o + row * job->ldo + h * hdw;
        q.lse = a->lse ? a->lse + row * a->heads + h : NULL;
        attend_rows(job, &v, &q, scratch);
    }
}

/* Fills what both directions need; the arrays are in `scratch`. */
static bool prepare(attend_job* job, const lp__attend* a, lp__arena* scratch) {
    *job = (attend_job){.a = a, .kernels = lp__ctx_kernels(a->ctx)};
    job->format = &job->kernels->format[a->number];
    job->hdw = lp__words(job->format, a->head_dim);
    const size_t n = (size_t)a->sequences + 1;
    job->at = lp__arena_alloc(scratch, 3 * n * sizeof(int64_t));
    if (!job->at) return false;
    job->tiles = job->at + n;
    job->roots = job->tiles + n;
    job->at[0] = job->tiles[0] = 0;
    for (int64_t s = 0; s < a->sequences; s++) {
        const lp__span* span = &a->spans[s];
        const int64_t own = key_count(span) - shared_keys(job, span);
        job->longest = LP__MAX(job->longest, key_count(span));
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
    lp_status status = prepare(&job, a, scratch) ? LP_OK : LP_NOMEM;
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
        lp__parallel_for(a->ctx, a->sequences * a->kv_heads, store_task, &job);
        lp__parallel_for(a->ctx, job.tiles[a->sequences] * a->kv_heads, forward_task, &job);
    }
    lp__arena_release(scratch, mark);
    return status;
}

/* ---- backward ----------------------------------------------------------------------------------
 * *
 *
 * With p recomputed from lse, dp_ij = do_i . v_j, D_i = sum_j p_ij dp_ij:
 *
 *     ds_ij = p_ij (dp_ij - D_i) / sqrt(d),   dq_i = sum_j ds_ij k_j,
 *     dk_j += sum_i ds_ij q_i,   dv_j += sum_i p_ij do_i
 *
 * One item is one key-value head of one sequence and of all that continue it, which come first, in
 * order; heads in order, then rows: every sum is one chain. */

/* The scratch of one worker. */
typedef struct backward_scratch {
    float *s, *dp;                  /* [TILE, keys] */
    lp__word *p, *ds;               /* their words, rows */
    lp__word *p_blocks, *ds_blocks; /* and transposed, in blocks of keys */
    lp__word *k, *v;                /* [keys] rows of a head */
    lp__word *k_panels, *v_panels;  /* [keys / panel][words(d)][panel] */
    lp__word* k_steps;              /* [words(keys)][d] */
    lp__word *q_steps, *d_steps;    /* [words(TILE)][d] */
    float *dk, *dv, *dq;            /* [keys, d], [keys, d], [TILE, d] */
} backward_scratch;

static int64_t lay_out(const attend_job* job, float* base, backward_scratch* b) {
    const int64_t d = job->a->head_dim, numbers = job->format->numbers;
    const int64_t keys = round_up(job->longest, job->kernels->panel * job->kernels->tile_rows);
    const int64_t words = keys / numbers, steps = (TILE + numbers - 1) / numbers;
    int64_t at = 0;
    const struct {
        void* to;
        int64_t floats;
    } parts[] = {{&b->s, TILE * keys},
                 {&b->dp, TILE * keys},
                 {&b->p, TILE * words},
                 {&b->ds, TILE * words},
                 {&b->p_blocks, keys * steps},
                 {&b->ds_blocks, keys * steps},
                 {&b->k, keys * job->hdw},
                 {&b->v, keys * job->hdw},
                 {&b->k_panels, keys * job->hdw},
                 {&b->v_panels, keys * job->hdw},
                 {&b->k_steps, words * d},
                 {&b->q_steps, steps * d},
                 {&b->d_steps, steps * d},
                 {&b->dk, keys * d},
                 {&b->dv, keys * d},
                 {&b->dq, TILE * d}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        float* part = base ? base + at : NULL;
        memcpy(parts[i].to, &part, sizeof part);
        at += round_up(parts[i].floats, 16);
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
    const int64_t n = key_count(span), hdw = job->hdw, d = a->head_dim;
    const int64_t panel = job->kernels->panel, numbers = job->format->numbers;
    const size_t bytes = (size_t)hdw * sizeof(lp__word);
    for (int64_t j = 0; j < n; j++) {
        const int64_t row = key_row(a, span, j);
        memcpy(b->k + j * hdw, a->k + row * a->ldk + g * hdw, bytes);
        memcpy(b->v + j * hdw, a->v + row * a->ldv + g * hdw, bytes);
    }
    for (int64_t j = 0; j < n; j += panel) {
        const int count = (int)LP__MIN(n - j, panel);
        job->kernels->pack_transposed(count, hdw, b->k + j * hdw, hdw, b->k_panels + j * hdw);
        job->kernels->pack_transposed(count, hdw, b->v + j * hdw, hdw, b->v_panels + j * hdw);
    }
    for (int64_t j = 0; j < n; j += numbers)
        job->format->interleave((int)d, d, b->k + j * hdw, j + 1 < n ? b->k + (j + 1) * hdw : NULL,
                                b->k_steps + j / numbers * d, d);
}

/* Between the gradients of the keys in the batch, [rows, kv_heads * d], and those of a sequence. */
static void move_gradients(const attend_job* job, const lp__span* span, int64_t g, bool back,
                           float* own, float* all) {
    const lp__attend* a = job->a;
    const int64_t n = key_count(span), d = a->head_dim, width = a->kv_heads * d;
    for (int64_t j = 0; j < n; j++) {
        float* there = all + key_row(a, span, j) * width + g * d;
        memcpy(back ? there : own + j * d, back ? own + j * d : there, (size_t)d * sizeof *own);
    }
}

/* Rows of a tile as steps of k: [words(rows)][width], or in blocks of kernels->tile_rows. */
static void steps_of(const attend_job* job, int64_t rows, int64_t n, const lp__word* x, int64_t ld,
                     int width, lp__word* out) {
    const int64_t numbers = job->format->numbers, steps = (rows + numbers - 1) / numbers;
    for (int64_t r = 0; r < rows; r += numbers)
        job->format->interleave(width, n, x + r * ld, r + 1 < rows ? x + (r + 1) * ld : NULL,
                                out + r / numbers * width, steps * width);
}

/* c [n, d] += (blocks of keys) (steps of a tile): dk or dv. */
static void add_keys(const attend_job* job, int64_t n, int64_t steps, const lp__word* blocks,
                     const lp__word* right, float* c) {
    const int64_t panel = job->kernels->panel, tile_rows = job->kernels->tile_rows;
    const int64_t d = job->a->head_dim;
    for (int64_t j = 0; j < n; j += tile_rows)
        for (int64_t l = 0; l < d; l += panel)
            job->format->tile_packed((int)LP__MIN(n - j, tile_rows), (int)LP__MIN(d - l, panel),
                                     steps, blocks + j * steps, right + l, d, c + j * d + l, d,
                                     true);
}

/* Rows [i, i + rows) of one head. */
static void backward_rows(const attend_job* job, const lp__span* span, int64_t h, int64_t i,
                          int64_t rows, backward_scratch* b) {
    const lp__attend* a = job->a;
    const lp__kernels* kernels = job->kernels;
    const int64_t d = a->head_dim, numbers = job->format->numbers, row = span->first + i;
    const int64_t most = span->past + i + rows, lds = round_up(most, kernels->panel);
    const int64_t whole = round_up(most, numbers), words = whole / numbers;
    const int64_t steps = (rows + numbers - 1) / numbers;
    const float scale = (float)(1.0 / sqrt((double)d));
    const lp__word *q = a->q + row * a->ldq + h * job->hdw,
                   *dy = job->d + row * job->ldd + h * job->hdw;
    const view keys = {.keys = b->k_panels}, values = {.keys = b->v_panels};
    scores(job, &keys, rows, q, a->ldq, most, b->s, lds);
    scores(job, &values, rows, dy, job->ldd, most, b->dp, lds);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t n = span->past + i + r + 1;
        float *p = b->s + r * lds, *dp = b->dp + r * lds;
        const double lse = a->lse[(row + r) * a->heads + h];
        kernels->scale(n, scale, p);
        kernels->sum_exp(n, p, (float)lse, p);
        kernels->scale(n, (float)exp((double)(float)lse - lse), p); /* what rounding lse lost */
        memset(p + n, 0, (size_t)(whole - n) * sizeof *p);
        memset(dp + n, 0, (size_t)(whole - n) * sizeof *dp);
        const float mean = (float)kernels->dot_f64(n, p, dp);
        job->format->store(whole, p, b->p + r * words);
        kernels->softmax_backward(n, scale, mean, p, dp);
        job->format->store(whole, dp, b->ds + r * words);
    }
    wide_tile(job, rows, words, b->ds, words, b->k_steps, b->dq, d, false);
    for (int64_t r = 0; r < rows; r++)
        kernels->axpy(d, 1.0f, b->dq + r * d, job->dq + ((row + r) * a->heads + h) * d);
    const int width = kernels->tile_rows;
    steps_of(job, rows, d, q, a->ldq, (int)d, b->q_steps);
    steps_of(job, rows, d, dy, job->ldd, (int)d, b->d_steps);
    steps_of(job, rows, most, b->p, words, width, b->p_blocks);
    steps_of(job, rows, most, b->ds, words, width, b->ds_blocks);
    add_keys(job, most, steps, b->ds_blocks, b->q_steps, b->dk);
    add_keys(job, most, steps, b->p_blocks, b->d_steps, b->dv);
}

static void backward_sequence(const attend_job* job, const lp__span* span, int64_t g,
                              backward_scratch* b) {
    const int64_t group = job->a->heads / job->a->kv_heads;
    gather_keys(job, span, g, b);
    move_gradients(job, span, g, false, b->dk, job->dk);
    move_gradients(job, span, g, false, b->dv, job->dv);
    for (int64_t h = g * group; h < (g + 1) * group; h++)
        for (int64_t i = 0; i < span->count; i += TILE)
            backward_rows(job, span, h, i, LP__MIN(span->count - i, (int64_t)TILE), b);
    move_gradients(job, span, g, true, b->dk, job->dk);
    move_gradients(job, span, g, true, b->dv, job->dv);
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
    lp_status status = prepare(&job, a, scratch) ? LP_OK : LP_NOMEM;
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
