/* Sampling. The logits of the kept set are gathered, by rising id, and drawn from by the inverse of
 * their cumulative sum in that order, so that the draw does not depend on how the set was found.
 * The cumulative sum adds blocks of LP__BLOCK terms, then the terms within the block that it ends
 * in. */
#include "lm/sampler.h"
#include "tensor/tape.h"

/* What a call lays out in its scratch. */
typedef struct work {
    double* table;    /* [LP__SELECT_TABLE] */
    double* sums;     /* [blocks] */
    float* block_max; /* [blocks] */
    float* x;         /* [vocab]: the gathered logits, or weights if nothing is gathered */
    int32_t* ids;     /* [vocab]: the kept set */
} work;

static int64_t blocks_of(int64_t n) { return (n + LP__BLOCK - 1) / LP__BLOCK; }

size_t lp__sampler_scratch(const lp__sampler* s) {
    const size_t blocks = (size_t)blocks_of(s->vocab);
    return LP__SELECT_TABLE * sizeof(double) + blocks * (sizeof(double) + sizeof(float)) +
           (size_t)s->vocab * (sizeof(float) + sizeof(int32_t));
}

static work lay_out(const lp__sampler* s, void* scratch) {
    const int64_t blocks = blocks_of(s->vocab);
    work w = {.table = scratch};
    w.sums = w.table + LP__SELECT_TABLE;
    w.block_max = (float*)(w.sums + blocks);
    w.x = w.block_max + blocks;
    w.ids = (int32_t*)(w.x + s->vocab);
    return w;
}

/* ---- the kept set ---------------------------------------------------------------------------- */

/* A logit below which there is certainly no kept one.
 *
 * k blocks whose maxima reach L hold k logits that do. Logits below max + log t have e^(z - max) <
 * t and, with t = (1 - top_p) sum / vocab, together less than the 1 - top_p of the sum that top_p
 * leaves out. The margin covers the rounding of log and exp. */
static float lower_bound(const lp__sampler* s, float max, double sum, const work* w) {
    const double margin = 0.01;
    const int64_t blocks = blocks_of(s->vocab);
    if (s->top_k > 0) {
        if (s->top_k >= blocks) return -INFINITY;
        memcpy(w->x, w->block_max, (size_t)blocks * sizeof *w->x);
        const int64_t n = lp__select(blocks, w->x, NULL, NULL, (double)s->top_k, w->table);
        float bound = w->x[0];
        for (int64_t i = 1; i < n; i++) bound = LP__MIN(bound, w->x[i]);
        return bound;
    }
    double share = s->min_p;
    if (s->top_p < 1.0) share = fmax(share, (1.0 - s->top_p) * sum / (double)s->vocab);
    return share > 0 ? (float)((double)max + log(share) - margin) : -INFINITY;
}

/* The ids of all logits from the bound on, which are not banned, and the logits into w->x. */
static int64_t gather(const lp__sampler* s, const float* z, float bound, const work* w) {
    int64_t n = 0;
    for (int64_t b = 0; b * LP__BLOCK < s->vocab; b++) {
        if (w->block_max[b] < bound) continue;
        const int64_t end = LP__MIN((b + 1) * LP__BLOCK, s->vocab);
        for (int64_t i = b * LP__BLOCK; i < end; i++) {
            w->ids[n] = (int32_t)i; /* without a branch: it stays if i counts */
            w->x[n] = z[i];
            n += z[i] >= bound && z[i] > -INFINITY;
        }
    }
    return n;
}

/* Finds the kept set of the logits z, of which the largest is max; they are used up. */
static int64_t keep(const lp__sampler* s, float* z, float max, const work* w) {
    const lp__kernels* kernels = s->kernels;
    const bool by_rank = s->top_k > 0, by_sum = s->top_p < 1.0;
    double sum = 0;
    kernels->block_max(s->vocab, z, w->block_max);
    if (by_sum && !by_rank) sum = kernels->sum_exp(s->vocab, z, max, NULL);
    int64_t n = gather(s, z, lower_bound(s, max, sum, w), w);
    if (by_rank && n > s->top_k) n = lp__select(n, w->x, w->ids, NULL, (double)s->top_k, w->table);
    if (!by_sum && s->min_p <= 0) return n;
    float* e = z;
    const double total = kernels->sum_exp(n, w->x, max, e);
    if (by_rank) sum = total;
    if (by_sum) n = lp__select(n, w->x, w->ids, e, s->top_p * sum, w->table);
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if ((double)e[i] < s->min_p) continue;
        w->x[kept] = w->x[i];
        w->ids[kept++] = w->ids[i];
    }
    return kept;
}

/* ---- the draw -------------------------------------------------------------------------------- */

/* The first i with e_0 + .. + e_i > u (e_0 + .. + e_(n-1)), and e_i > 0; u in [0, 1). */
static int64_t invert(const lp__kernels* kernels, int64_t n, const float* e, double u,
                      double* sums) {
    const int64_t blocks = blocks_of(n);
    double total = 0, sum = 0;
    kernels->block_sums(n, e, sums);
    for (int64_t b = 0; b < blocks; b++) total += sums[b];
    const double target = u * total;
    int64_t b = 0;
    while (b + 1 < blocks && !(sum + sums[b] > target)) sum += sums[b++];
    while (b > 0 && sums[b] <= 0) b--; /* rounding led into a tail of zeros */
    const int64_t end = LP__MIN((b + 1) * LP__BLOCK, n);
    int64_t last = b * LP__BLOCK;
    for (int64_t i = last; i < end; i++) {
        if (e[i] <= 0) continue;
        last = i;
        sum += (double)e[i];
        if (sum > target) break;
    }
    return last;
}

static bool limits(const lp__sampler* s) { return s->top_k > 0 || s->top_p < 1 || s->min_p > 0; }

lp__drawn lp__sampler_draw(const lp__sampler* s, float* z, int64_t banned_count,
                           const int32_t* banned, void* scratch, lp_rng* rng) {
    const lp__kernels* kernels = s->kernels;
    const work w = lay_out(s, scratch);
    const bool greedy = s->temperature <= 0;
    lp__sampler settings = *s;
    if (greedy || settings.top_k >= s->vocab) settings.top_k = 0;
    if (greedy) settings.top_p = 1, settings.min_p = 0;
    if (!greedy && s->temperature != 1.0)
        kernels->scale(s->vocab, (float)(1.0 / s->temperature), z);
    float max = kernels->max(s->vocab, z);
    if (banned_count > 0 && max < INFINITY) { /* a NaN shows wherever it stands */
        for (int64_t i = 0; i < banned_count; i++) z[banned[i]] = -INFINITY;
        max = kernels->max(s->vocab, z);
    }
    if (!isfinite(max)) return (lp__drawn){.token = -1};
    const bool gathered = banned_count > 0 || limits(&settings);
    const int64_t n = gathered ? keep(&settings, z, max, &w) : s->vocab;
    const float* x = gathered ? w.x : z;
    float* e = greedy ? NULL : gathered ? z : w.x;
    const double lse = (double)max + log(kernels->sum_exp(n, x, max, e));
    const int64_t at =
        greedy ? kernels->find(n, x, max) : invert(kernels, n, e, lp_rng_uniform(rng), w.sums);
    lp__drawn drawn = {.token = gathered ? w.ids[at] : (int32_t)at,
                       .log_prob = (float)((double)x[at] - lse)};
    if (n < s->vocab) drawn.kept = (int32_t)lp__kept_write(n, w.ids, s->vocab, (int32_t*)(void*)z);
    return drawn;
}
