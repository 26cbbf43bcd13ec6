/* What lessons compute with: random numbers, differences, integrals. */
#include "lesson.h"
#include <string.h>

static const double STEP = 1e-5;

lp_rng lesson_rng(const lesson* l, uint32_t stream) {
    return lp_rng_philox(l->seed, LP_FOR_USER, (uint64_t)l->number, stream);
}

void lesson_draw(lp_rng* rng, int64_t n, double* out) {
    for (int64_t i = 0; i < n; i++) out[i] = ((double)lp_rng_below(rng, 201) - 100) / 100;
}

void lesson_gradient(lesson_of_vector f, const void* user, int64_t n, const double* theta,
                     double* grad) {
    double moved[LESSON_MAX_PARAMETERS];
    memcpy(moved, theta, (size_t)n * sizeof *moved);
    for (int64_t i = 0; i < n; i++) {
        moved[i] = theta[i] + STEP;
        const double up = f(moved, user);
        moved[i] = theta[i] - STEP;
        grad[i] = (up - f(moved, user)) / (2 * STEP);
        moved[i] = theta[i];
    }
}

double lesson_slope(lesson_of_number f, const void* user, double x) {
    return (f(x + STEP, user) - f(x - STEP, user)) / (2 * STEP);
}

/* h / 3 (f_0 + 4 f_1 + 2 f_2 + ... + 4 f_{n-1} + f_n), h = (b - a) / n. What each addition rounds
 * off is carried on (Kahan 1965): differences of integrals divide the error by 2e-5. */
double lesson_integral(lesson_of_number f, const void* user, double a, double b) {
    enum { PIECES = 4000 };
    const double h = (b - a) / PIECES;
    double sum = f(a, user) + f(b, user), lost = 0;
    for (int i = 1; i < PIECES; i++) {
        const double term = (i % 2 ? 4.0 : 2.0) * f(a + i * h, user) - lost, next = sum + term;
        lost = (next - sum) - term;
        sum = next;
    }
    return sum * h / 3.0;
}

double lesson_dot(int64_t n, const double* a, const double* b) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

double lesson_log_prob(const double* theta, const void* choice) {
    const lesson_choice* c = choice;
    return lp_softmax_policy_log_prob(c->d, c->k, theta, c->x, c->a);
}

void lesson_score(int64_t d, int64_t k, const double* theta, const double* x, int64_t a,
                  double* grad) {
    double p[LESSON_MAX_ACTIONS];
    lp_softmax_policy_probs(d, k, theta, x, p);
    lp_softmax_policy_grad(d, k, x, p, a, grad);
}
