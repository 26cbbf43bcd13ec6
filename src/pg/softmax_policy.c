/* The linear softmax policy of "Policy Gradient 101", without automatic differentiation. */
#include "base/base.h"
#include <logpi/pg.h>
#include <math.h>

/* z_j = sum_i x_i Theta_ij */
static void logits(int64_t d, int64_t k, const double* theta, const double* x, double* z) {
    for (int64_t j = 0; j < k; j++) z[j] = 0;
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < k; j++) z[j] += x[i] * theta[i * k + j];
    }
}

static double maximum(int64_t k, const double* z) {
    double max = z[0];
    for (int64_t j = 1; j < k; j++) max = z[j] > max ? z[j] : max;
    return max;
}

void lp_softmax_policy_probs(int64_t d, int64_t k, const double* theta, const double* x,
                             double* p) {
    logits(d, k, theta, x, p);
    const double max = maximum(k, p);
    double sum = 0;
    for (int64_t j = 0; j < k; j++) {
        p[j] = exp(p[j] - max);
        sum += p[j];
    }
    for (int64_t j = 0; j < k; j++) p[j] /= sum;
}

double lp_softmax_policy_log_prob(int64_t d, int64_t k, const double* theta, const double* x,
                                  int64_t a) {
    /* no room for k logits is asked of the caller: the sum is rescaled whenever a larger logit
     * comes */
    double max = -(double)INFINITY, sum = 0, chosen = 0;
    for (int64_t j = 0; j < k; j++) {
        double z = 0;
        for (int64_t i = 0; i < d; i++) z += x[i] * theta[i * k + j];
        if (j == a) chosen = z;
        if (z > max) {
            sum = sum * exp(max - z) + 1.0;
            max = z;
        } else {
            sum += exp(z - max);
        }
    }
    return chosen - max - log(sum);
}

int64_t lp_softmax_policy_sample(lp_rng* rng, int64_t k, const double* p) {
    return lp_rng_choice_f64(rng, p, k);
}

void lp_softmax_policy_grad(int64_t d, int64_t k, const double* x, const double* p, int64_t a,
                            double* grad) {
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < k; j++) grad[i * k + j] = x[i] * ((j == a ? 1.0 : 0.0) - p[j]);
    }
}

void lp_softmax_policy_update(int64_t d, int64_t k, double* theta, const double* x, const double* p,
                              int64_t a, double eta, double advantage) {
    const double step = eta * advantage;
    for (int64_t i = 0; i < d; i++) {
        for (int64_t j = 0; j < k; j++)
            theta[i * k + j] += step * (x[i] * ((j == a ? 1.0 : 0.0) - p[j]));
    }
}
