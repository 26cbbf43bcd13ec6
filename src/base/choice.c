/* Drawing an index with given probabilities. */
#include "base/random.h"

#include <float.h>
#include <math.h>

/* What cannot be a probability (negative, NaN, infinite) counts as 0 and is never drawn. */
static double weight(double p) { return p > 0.0 && p <= DBL_MAX ? p : 0.0; }

typedef struct lp__probs {
    const float* f32; /* one of the two */
    const double* f64;
    int64_t k;
} lp__probs;

static double weight_at(const lp__probs* p, int64_t i) {
    return weight(p->f32 ? (double)p->f32[i] : p->f64[i]);
}

static int64_t last_positive(const lp__probs* p) {
    int64_t i = p->k - 1;
    while (i >= 0 && weight_at(p, i) == 0.0) i--;
    return i;
}

static double total_weight(const lp__probs* p) {
    double total = 0.0;
    for (int64_t i = 0; i < p->k; i++) {
        total += weight_at(p, i);
    }
    return total;
}

/* The first i with (p_0 + ... + p_i) / total > u: NumPy's searchsorted(cumsum / cumsum[-1], u,
 * 'right'). Since u is below 1, some i always is; an entry of weight 0 adds nothing and is never
 * first. */
static int64_t inverse_cdf(lp_rng* rng, const lp__probs* p) {
    int64_t last = last_positive(p);
    if (last < 0) return -1;
    double total = total_weight(p), sum = 0.0;
    double u = lp_rng_uniform(rng);
    for (int64_t i = 0; i < last; i++) {
        sum += weight_at(p, i);
        if (sum / total > u) return i;
    }
    return last;
}

/* PyTorch's multinomial for one draw: the race of exponential clocks, argmax p_i / q_i, q_i =
 * -log(1 - u_i). */
static int64_t exponential_race(lp_rng* rng, const lp__probs* p) {
    if (last_positive(p) < 0) return -1;
    int64_t best = -1;
    double best_ratio = 0.0;
    for (int64_t i = 0; i < p->k; i++) {
        double q = -log1p(-lp_rng_uniform(rng));
        double w = weight_at(p, i);
        double ratio = p->f32 ? (double)((float)w / (float)q) : w / q;
        /* The first one is kept when two are equal; 0 / 0 is no winner. */
        if (w > 0.0 && (best < 0 || ratio > best_ratio)) {
            best = i;
            best_ratio = ratio;
        }
    }
    return best;
}

static int64_t choose(lp_rng* rng, const lp__probs* p) {
    return rng->kind == LP_RNG_TORCH ? exponential_race(rng, p) : inverse_cdf(rng, p);
}

int64_t lp_rng_choice_f32(lp_rng* rng, const float* p, int64_t k) {
    return choose(rng, &(lp__probs){.f32 = p, .k = k});
}

int64_t lp_rng_choice_f64(lp_rng* rng, const double* p, int64_t k) {
    return choose(rng, &(lp__probs){.f64 = p, .k = k});
}
