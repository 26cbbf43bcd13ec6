/* Softmax and logistic regression, the supervised twins of the softmax policy. Their gradients are
 * written out here once more and share nothing with the policy's, so that each can be held against
 * the other. */
#include "base/base.h"
#include <logpi/pg.h>
#include <math.h>

/* z_j = sum_i x_i Theta_ij */
static double logit(int64_t d, int64_t k, const double* theta, const double* x, int64_t j) {
    double z = 0;
    for (int64_t i = 0; i < d; i++) z += x[i] * theta[i * k + j];
    return z;
}

/* log sum_j exp(z_j) = m + log sum_j exp(z_j - m), m the largest logit. Logits are computed again
 * rather than kept: no room for them is asked of the caller. */
static double log_sum_exp(int64_t d, int64_t k, const double* theta, const double* x) {
    double max = -(double)INFINITY, sum = 0;
    for (int64_t j = 0; j < k; j++) max = fmax(max, logit(d, k, theta, x, j));
    for (int64_t j = 0; j < k; j++) sum += exp(logit(d, k, theta, x, j) - max);
    return max + log(sum);
}

double lp_softmax_regression_loss(int64_t d, int64_t k, int64_t n, const double* theta,
                                  const double* x, const int32_t* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double* xi = x + i * d;
        sum += log_sum_exp(d, k, theta, xi) - logit(d, k, theta, xi, y[i]);
    }
    return sum / (double)n;
}

void lp_softmax_regression_grad(int64_t d, int64_t k, int64_t n, const double* theta,
                                const double* x, const int32_t* y, double* grad) {
    for (int64_t i = 0; i < d * k; i++) grad[i] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double* xi = x + i * d;
        const double total = log_sum_exp(d, k, theta, xi);
        for (int64_t j = 0; j < k; j++) {
            const double p = exp(logit(d, k, theta, xi, j) - total);
            const double error = (j == y[i] ? p - 1.0 : p) / (double)n;
            for (int64_t l = 0; l < d; l++) grad[l * k + j] += xi[l] * error;
        }
    }
}

void lp_softmax_regression_update(int64_t d, int64_t k, int64_t n, double* theta, const double* x,
                                  const int32_t* y, double eta, double* grad) {
    lp_softmax_regression_grad(d, k, n, theta, x, y, grad);
    for (int64_t i = 0; i < d * k; i++) theta[i] -= eta * grad[i];
}

/* 1 / (1 + exp(-z)); exp is taken of negative numbers only */
static double sigmoid(double z) {
    const double e = exp(-fabs(z));
    return z >= 0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
}

/* -(y log p + (1 - y) log(1 - p)) = log(1 + exp(z)) - y z */
static double surprise(double z, int32_t y) {
    return fmax(z, 0.0) + log1p(exp(-fabs(z))) - (y ? z : 0.0);
}

double lp_logistic_prob(int64_t d, const double* theta, const double* x) {
    return sigmoid(logit(d, 1, theta, x, 0));
}

double lp_logistic_loss(int64_t d, int64_t n, const double* theta, const double* x,
                        const int32_t* y) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += surprise(logit(d, 1, theta, x + i * d, 0), y[i]);
    return sum / (double)n;
}

void lp_logistic_grad(int64_t d, int64_t n, const double* theta, const double* x, const int32_t* y,
                      double* grad) {
    for (int64_t l = 0; l < d; l++) grad[l] = 0;
    for (int64_t i = 0; i < n; i++) {
        const double error =
            (lp_logistic_prob(d, theta, x + i * d) - (y[i] ? 1.0 : 0.0)) / (double)n;
        for (int64_t l = 0; l < d; l++) grad[l] += error * x[i * d + l];
    }
}

void lp_logistic_update(int64_t d, int64_t n, double* theta, const double* x, const int32_t* y,
                        double eta, double* grad) {
    lp_logistic_grad(d, n, theta, x, y, grad);
    for (int64_t l = 0; l < d; l++) theta[l] -= eta * grad[l];
}
