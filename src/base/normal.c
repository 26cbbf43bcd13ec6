/* Normal variates, as NumPy, PyTorch and this library draw them. */
#include "base/random.h"

#include <math.h>

#define LP__TWO_PI 6.283185307179586476925286766559

static bool take_waiting(lp_rng* rng, double* value) {
    if (!rng->has_normal) return false;
    rng->has_normal = 0;
    *value = rng->normal;
    return true;
}

static double keep(lp_rng* rng, double now, double later) {
    rng->normal = later;
    rng->has_normal = 1;
    return now;
}

/* The polar method (Marsaglia), in the order of NumPy's legacy_gauss: (x1, x2) uniform in the unit
 * disc, f = sqrt(-2 log(r^2) / r^2); first f x2, then f x1. */
static double numpy_normal(lp_rng* rng) {
    double x1, x2, r2;
    do {
        x1 = 2.0 * lp_rng_uniform(rng) - 1.0;
        x2 = 2.0 * lp_rng_uniform(rng) - 1.0;
        r2 = x1 * x1 + x2 * x2;
    } while (r2 >= 1.0 || r2 == 0.0);
    double f = sqrt(-2.0 * log(r2) / r2);
    return keep(rng, f * x2, f * x1);
}

/* Box-Muller: r = sqrt(-2 log(1 - u2)), first r cos(2 pi u1), then r sin(2 pi u1). Philox does the
 * same as PyTorch does for fewer than 16 elements. */
static double box_muller(lp_rng* rng) {
    double u1 = lp_rng_uniform(rng);
    double u2 = lp_rng_uniform(rng);
    double r = sqrt(-2.0 * log1p(-u2));
    double theta = LP__TWO_PI * u1;
    return keep(rng, r * cos(theta), r * sin(theta));
}

static double one_normal(lp_rng* rng) {
    double value;
    if (take_waiting(rng, &value)) return value;
    return rng->kind == LP_RNG_NUMPY ? numpy_normal(rng) : box_muller(rng);
}

/* PyTorch's normal_fill, from 16 elements on: all uniforms first; then in each block of 16,
 * elements i and i + 8 become r cos(theta) and r sin(theta) with r = sqrt(-2 log(1 - u_i)), theta =
 * 2 pi u_{i+8}. A last block that is not whole is instead the last 16 elements, drawn anew. The
 * variate kept by the other method stays. */
static float uniform_f32(lp_rng* rng) { return (float)(lp_rng_u32(rng) & 0xFFFFFF) * 0x1p-24f; }

/* Rounds to float after each step, as PyTorch's float code does: the rounding of theta alone moves
 * x by up to r 2^-22. */
static void fill_16_f32(float* x) {
    for (int i = 0; i < 8; i++) {
        float r = sqrtf(-2.0f * logf(1.0f - x[i]));
        float theta = (float)LP__TWO_PI * x[i + 8];
        x[i] = r * cosf(theta);
        x[i + 8] = r * sinf(theta);
    }
}

static void fill_16_f64(double* x) {
    for (int i = 0; i < 8; i++) {
        double r = sqrt(-2.0 * log(1.0 - x[i]));
        double theta = LP__TWO_PI * x[i + 8];
        x[i] = r * cos(theta);
        x[i + 8] = r * sin(theta);
    }
}

#define LP__DEFINE_FILL(type, suffix, uniform)                                                     \
    static void fill_##suffix(lp_rng* rng, type* out, int64_t n) {                                 \
        for (int64_t i = 0; i < n; i++) out[i] = uniform(rng);                                     \
        for (int64_t i = 0; i + 16 <= n; i += 16) fill_16_##suffix(out + i);                       \
        if (n % 16) {                                                                              \
            out += n - 16;                                                                         \
            for (int i = 0; i < 16; i++) out[i] = uniform(rng);                                    \
            fill_16_##suffix(out);                                                                 \
        }                                                                                          \
    }
LP__DEFINE_FILL(float, f32, uniform_f32)
LP__DEFINE_FILL(double, f64, lp_rng_uniform)

void lp_rng_normal_f32(lp_rng* rng, float* out, int64_t n) {
    if (rng->kind == LP_RNG_TORCH && n >= 16) {
        fill_f32(rng, out, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = (float)one_normal(rng);
    }
}

void lp_rng_normal_f64(lp_rng* rng, double* out, int64_t n) {
    if (rng->kind == LP_RNG_TORCH && n >= 16) {
        fill_f64(rng, out, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        out[i] = one_normal(rng);
    }
}
