/* Sampling. What is not kept becomes -inf; what remains is drawn by the inverse of its cumulative
 * sum, in order of token ids, so that the draw does not depend on how the kept set was found. */
#include "lm/sampler.h"
#include "tensor/tape.h"
#include <stdlib.h>

typedef struct candidate {
    float z;
    int32_t id;
} candidate;

size_t lp__sampler_scratch(const lp__sampler* s) { return (size_t)s->vocab * sizeof(candidate); }

/* Falling logits, none of them NaN; of equals the smaller id first. */
static int falling(const void* a, const void* b) {
    const candidate *x = a, *y = b;
    if (x->z != y->z) return x->z < y->z ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

/* The first k of the falling order, without sorting what is left out: a heap whose root is the last
 * of those kept. */
static int64_t select_top(int64_t n, const float* z, int64_t k, candidate* kept) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const candidate c = {z[i], (int32_t)i};
        int64_t at;
        if (count < k) { /* append and sift up */
            at = count++;
            for (int64_t up = (at - 1) / 2; at > 0 && falling(&kept[up], &c) < 0;
                 up = (at - 1) / 2) {
                kept[at] = kept[up];
                at = up;
            }
        } else if (falling(&c, &kept[0]) < 0) { /* replace the root and sift down */
            at = 0;
            for (int64_t down = 1; down < k; down = 2 * at + 1) {
                if (down + 1 < k && falling(&kept[down + 1], &kept[down]) > 0) down++;
                if (falling(&kept[down], &c) < 0) break;
                kept[at] = kept[down];
                at = down;
            }
        } else {
            continue;
        }
        kept[at] = c;
    }
    return count;
}

/* The shortest prefix of the falling order whose probability reaches top_p. */
static int64_t nucleus(const lp__sampler* s, int64_t n, const candidate* sorted) {
    double total = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) total += exp((double)sorted[i].z - (double)sorted[0].z);
    for (int64_t i = 0; i < n; i++) {
        sum += exp((double)sorted[i].z - (double)sorted[0].z);
        if (sum >= s->top_p * total) return i + 1;
    }
    return n;
}

static void keep(const lp__sampler* s, float* z, candidate* kept) {
    const bool limited = s->top_k > 0 && s->top_k < s->vocab;
    if (!limited && s->top_p >= 1.0) return;
    int64_t n = select_top(s->vocab, z, limited ? s->top_k : s->vocab, kept);
    if (s->top_p < 1.0) {
        qsort(kept, (size_t)n, sizeof *kept, falling);
        n = nucleus(s, n, kept);
    }
    for (int64_t i = 0; i < s->vocab; i++) z[i] = -INFINITY;
    for (int64_t i = 0; i < n; i++) z[kept[i].id] = kept[i].z;
}

static bool has_nan(int64_t n, const float* z) {
    bool found = false;
    for (int64_t i = 0; i < n; i++) found |= z[i] != z[i];
    return found;
}

static int32_t first_maximum(int64_t n, const float* z) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++) best = z[i] > z[best] ? i : best;
    return (int32_t)best;
}

int32_t lp__sampler_draw(const lp__sampler* s, float* z, void* scratch, lp_rng* rng,
                         float* log_prob) {
    const bool greedy = s->temperature <= 0;
    if (has_nan(s->vocab, z)) return -1; /* no order has a place for it */
    if (!greedy && s->temperature != 1.0) {
        const float factor = (float)(1.0 / s->temperature);
        for (int64_t i = 0; i < s->vocab; i++) z[i] *= factor;
    }
    if (!greedy) keep(s, z, scratch);
    float* weight = scratch;
    const lp__row_stats stats = lp__logits_stats(s->kernels, s->vocab, z, weight);
    if (!isfinite(stats.lse)) return -1;
    int32_t id = first_maximum(s->vocab, z);
    if (!greedy) {
        const double target = lp_rng_uniform(rng) * exp(stats.lse - (double)stats.max);
        double sum = 0;
        for (int64_t i = 0; i < s->vocab; i++) {
            sum += (double)weight[i];
            if (sum > target && weight[i] > 0) {
                id = (int32_t)i;
                break;
            }
        }
    }
    *log_prob = (float)((double)z[id] - stats.lse);
    return id;
}
