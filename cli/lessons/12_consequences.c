/* Lesson 12, second half: what follows from a score of mean zero: baselines, Fisher's information,
 * Cramér and Rao, and what becomes of the last two where the derivative may not go under the
 * integral. */
#include "lesson_12.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { K = 3, SAMPLES = 50000, N = 25, ESTIMATES = 20000 };
static const double ONE = 1, MEAN = 0.6, WIDTH = 1.3;
static const double reward[K] = {10, 11, 12};

/* ---- baselines, for a softmax of three logits ------------------------------------------------ */

static double expected_reward(const double* theta, const void* user) {
    double p[K];
    (void)user;
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    return lesson_dot(K, p, reward);
}

/* (R(a) - b) grad log p_a */
static void estimate(const double* p, int64_t a, double b, double* g) {
    lp_softmax_policy_grad(1, K, &ONE, p, a, g);
    for (int j = 0; j < K; j++) g[j] *= reward[a] - b;
}

static double distance(const double* a, const double* b) {
    double sum = 0;
    for (int j = 0; j < K; j++) sum += (a[j] - b[j]) * (a[j] - b[j]);
    return sum;
}

/* mean [K] and E|g - grad J|^2 of the estimate with baseline b, by enumeration */
static double moments(const double* p, double b, const double* gradient, double* mean) {
    double variance = 0, g[K];
    memset(mean, 0, K * sizeof *mean);
    for (int a = 0; a < K; a++) {
        estimate(p, a, b, g);
        variance += p[a] * distance(g, gradient);
        for (int j = 0; j < K; j++) mean[j] += p[a] * g[j];
    }
    return variance;
}

/* E[|s|^2 R] / E[|s|^2], s the score: where the derivative of the variance by b vanishes */
static double best_baseline(const double* p) {
    double above = 0, below = 0, s[K];
    for (int a = 0; a < K; a++) {
        lp_softmax_policy_grad(1, K, &ONE, p, a, s);
        above += p[a] * lesson_dot(K, s, s) * reward[a];
        below += p[a] * lesson_dot(K, s, s);
    }
    return above / below;
}

static lp_spread measured_variance(lesson* l, uint32_t stream, const double* p, double b,
                                   const double* gradient) {
    lp_rng rng = lesson_rng(l, stream);
    lp_spread spread = {0};
    for (int s = 0; s < SAMPLES; s++) {
        double g[K];
        estimate(p, lp_softmax_policy_sample(&rng, K, p), b, g);
        lp_spread_add(&spread, distance(g, gradient));
    }
    return spread;
}

void lesson_baselines(lesson* l) {
    static const double theta[K] = {-0.5, 0.3, 0.9};
    double p[K], gradient[K], mean[K], variance[3];
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    const double baselines[3] = {0, lesson_dot(K, p, reward), best_baseline(p)};
    static const char* const names[3] = {"b = 0", "b = E[R]", "b = b*"};
    lesson_gradient(expected_reward, NULL, K, theta, gradient);
    lesson_text(
        l,
        "First consequence: since E[∇log~π]~=~0, any b that does not depend on the action may be "
        "taken off the "
        "reward without moving the mean of the estimate. Its variance does move, and is least at "
        "b*~=~E[|∇log~π|²~R]/E[|∇log~π|²]. Three actions of logits −0.5, 0.3 and 0.9 pay 10, 11 "
        "and 12; "
        "E[R]~=~%.4f, b*~=~%.4f:",
        baselines[1], baselines[2]);
    lesson_formula(l, "E[(R − b) ∇log π] = E[R ∇log π] = ∇J");
    lesson_sides(l, "E[(R − b) ∇log π]", "differences of J");
    for (int i = 0; i < 3; i++) {
        variance[i] = moments(p, baselines[i], gradient, mean);
        lesson_farthest(l, K, mean, gradient, 1e-8, "%s, worst of three", names[i]);
    }
    lesson_text(
        l, "The variance E|(R~−~b)~∇log~π~−~∇J|², measured on 50,000 samples and summed exactly:");
    lesson_sides(l, "measured", "exact");
    for (int i = 0; i < 3; i++) {
        const lp_spread spread = measured_variance(l, 1 + (uint32_t)i, p, baselines[i], gradient);
        lesson_sampled(l, &spread, variance[i], "%s", names[i]);
    }
    lesson_sides(l, "variance", "variance");
    lesson_below(l, variance[1], variance[0], "b = E[R] beside b = 0");
    lesson_below(l, variance[2], variance[1], "b = b* beside b = E[R]");
}

/* ---- Fisher information ---------------------------------------------------------------------- */

static double log_p(const double* theta, int a) {
    return lp_softmax_policy_log_prob(1, K, theta, &ONE, a);
}

/* d^2 log p_a / dtheta_i dtheta_j, by central differences in both */
static double curvature(const double* theta, int a, int i, int j) {
    const double h = 1e-4;
    double sum = 0;
    for (int side = 0; side < 4; side++) {
        const double u = side & 1 ? -h : h, v = side & 2 ? -h : h;
        double moved[K];
        memcpy(moved, theta, sizeof moved);
        moved[i] += u;
        moved[j] += v;
        sum += (u * v > 0 ? 1 : -1) * log_p(moved, a);
    }
    return sum / (4 * h * h);
}

static double squared_score(double x, const void* user) {
    const double score = (x - MEAN) / (WIDTH * WIDTH);
    (void)user;
    return lesson_normal_density(x, MEAN, WIDTH) * score * score;
}

static double log_density(double mean, double x) {
    return log(lesson_normal_density(x, mean, WIDTH));
}
static double minus_curvature(double x, const void* user) {
    const double h = 1e-3; /* ln f is a parabola in the mean: no error but rounding */
    (void)user;
    return -lesson_normal_density(x, MEAN, WIDTH) *
           (log_density(MEAN + h, x) - 2 * log_density(MEAN, x) + log_density(MEAN - h, x)) /
           (h * h);
}

/* The uniform density on [0, END], whose support moves with its parameter: ln f = -ln theta inside.
 */
static const double END = 2;

static double uniform_log_density(double theta, const void* user) {
    (void)user;
    return -log(theta);
}
static double uniform_score(double x, const void* user) {
    (void)x;
    return lesson_slope(uniform_log_density, user, END) / END;
}
static double uniform_squared_score(double x, const void* user) {
    const double score = END * uniform_score(x, user);
    return score * score / END;
}
static double uniform_minus_curvature(double x, const void* user) {
    const double h = 1e-3;
    (void)x;
    return -(uniform_log_density(END + h, user) - 2 * uniform_log_density(END, user) +
             uniform_log_density(END - h, user)) /
           (h * h * END);
}

static void uniform_information(lesson* l) {
    const double mean = lesson_integral(uniform_score, NULL, 0, END);
    const double square = lesson_integral(uniform_squared_score, NULL, 0, END);
    const double bend = lesson_integral(uniform_minus_curvature, NULL, 0, END);
    lesson_text(
        l,
        "Without that condition they are different things. The uniform density on [0,~θ] does not "
        "meet it. Its score is −1/θ: the square has mean 1/θ², the variance is~0, and "
        "−E[∂²~ln~f/∂θ²] is −1/θ². At θ~=~%g:",
        END);
    lesson_sides(l, "E[score²]", "variance of score");
    lesson_apart(l, square, square - mean * mean, 0.2, "uniform on [0, θ]");
    lesson_sides(l, "E[score²]", "−E[∂² ln f/∂θ²]");
    lesson_apart(l, square, bend, 0.4, "uniform on [0, θ]");
    lesson_sides(l, "integrals", "closed form");
    lesson_equal(l, square, 1 / (END * END), 1e-9, "E[score²] = 1/θ²");
    lesson_equal(l, bend, -1 / (END * END), 1e-6, "−E[∂² ln f/∂θ²] = −1/θ²");
}

void lesson_fisher(lesson* l) {
    lp_rng rng = lesson_rng(l, 4);
    double theta[K], p[K], s[K][K];
    lesson_draw(&rng, K, theta);
    lp_softmax_policy_probs(1, K, theta, &ONE, p);
    for (int a = 0; a < K; a++) lp_softmax_policy_grad(1, K, &ONE, p, a, s[a]);
    lesson_text(l,
                "Second: where the second derivative may go under the integral of f, too, "
                "differentiate E[score]~=~0 once more, and the variance of the score turns out to "
                "be the mean curvature of −ln~f. This is Fisher's information: how sharply the "
                "data tell θ from its neighbours. For three logits, and for the mean of a "
                "Gaussian, where it is 1/σ²:");
    lesson_formula(l, "I(θ) = E[∇ln f ∇ln fᵀ] = −E[∇² ln f]");
    lesson_sides(l, "E[score scoreᵀ]", "−E[∇² ln p]");
    for (int i = 0; i < K; i++) {
        for (int j = i; j < K; j++) {
            double left = 0, right = 0;
            for (int a = 0; a < K; a++) {
                left += p[a] * s[a][i] * s[a][j];
                right -= p[a] * curvature(theta, a, i, j);
            }
            lesson_equal(l, left, right, 1e-6, "softmax, I[%d,%d]", i, j);
        }
    }
    const double from = MEAN - 8 * WIDTH, to = MEAN + 8 * WIDTH, information = 1 / (WIDTH * WIDTH);
    lesson_sides(l, "integral", "1/σ²");
    lesson_equal(l, lesson_integral(squared_score, NULL, from, to), information, 1e-9,
                 "Gaussian, E[score²]");
    lesson_equal(l, lesson_integral(minus_curvature, NULL, from, to), information, 1e-8,
                 "Gaussian, −E[∂² ln f/∂θ²]");
    uniform_information(l);
}

/* ---- where the bound fails ------------------------------------------------------------------- */

/* T = (n+1)/n max x_i from n uniform draws on [0, theta]; the maximum has the density n m^(n-1) /
 * theta^n. */
static double estimate_of(double max) { return (N + 1.0) / N * max; }
static double max_density(double m, double theta) { return N / theta * pow(m / theta, N - 1); }

static double weighted_estimate(double m, const void* theta) {
    return estimate_of(m) * max_density(m, *(const double*)theta);
}
static double weighted_error(double m, const void* theta) {
    const double end = *(const double*)theta, error = estimate_of(m) - end;
    return error * error * max_density(m, end);
}
/* E[T], whose derivative is 1 */
static double expected_estimate(double theta, const void* user) {
    (void)user;
    return lesson_integral(weighted_estimate, &theta, 0, theta);
}

static void no_bound(lesson* l) {
    lp_rng rng = lesson_rng(l, 8);
    lp_spread mean = {0}, error = {0};
    for (int e = 0; e < ESTIMATES; e++) {
        double max = 0;
        for (int i = 0; i < N; i++) max = fmax(max, END * lp_rng_uniform(&rng));
        const double t = estimate_of(max);
        lp_spread_add(&mean, t);
        lp_spread_add(&error, (t - END) * (t - END));
    }
    const double bound = END * END / N, variance = END * END / (N * (N + 2.0));
    lesson_text(l,
                "The uniform density on [0,~θ] shows what the condition is for. Formally "
                "I~=~E[score²]~=~1/θ², and the bound would be θ²/n. Yet (n~+~1)/n times the "
                "greatest of n samples is unbiased, and varies by θ²/(n~(n~+~2)), far less. "
                "n~=~%d, θ~=~%g:",
                N, END);
    lesson_formula(
        l,
        "uniform on [0, θ], T = (n + 1)/n · max x_i:   E[T] = θ,   Var(T) = θ²/(n (n + 2)) < θ²/n");
    lesson_sides(l, "integral", "closed form");
    lesson_equal(l, expected_estimate(END, NULL), END, 1e-9, "E[T] = θ");
    lesson_equal(l, lesson_integral(weighted_error, &END, 0, END), variance, 1e-9,
                 "Var(T) = θ²/(n (n + 2))");
    lesson_sides(l, "20,000 estimates", "closed form");
    lesson_sampled(l, &mean, END, "E[T] = θ");
    lesson_sampled(l, &error, variance, "Var(T) = θ²/(n (n + 2))");
    lesson_sides(l, "variance", "“bound” θ²/n");
    lesson_below(l, variance, bound, "closed form");
    lesson_below(l, error.mean, bound, "20,000 estimates");
    lesson_text(l, "It is E[T~S]~=~1 that fails. S is −n/θ whatever the sample is, so E[T~S] is "
                   "−n, while the derivative of E[T]~=~θ is~1:");
    lesson_sides(l, "d/dθ E[T]", "E[T S]");
    lesson_apart(l, lesson_slope(expected_estimate, NULL, END),
                 -N / END * expected_estimate(END, NULL), N, "uniform on [0, θ]");
}

/* ---- the Cramér-Rao bound -------------------------------------------------------------------- */

static int by_size(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

void lesson_cramer_rao(lesson* l) {
    lp_rng rng = lesson_rng(l, 5);
    lp_spread mean = {0}, mean_error = {0}, median_error = {0};
    for (int e = 0; e < ESTIMATES; e++) {
        double x[N], sum = 0;
        lp_rng_normal_f64(&rng, x, N);
        for (int i = 0; i < N; i++) {
            x[i] = MEAN + WIDTH * x[i];
            sum += x[i];
        }
        qsort(x, N, sizeof *x, by_size);
        lp_spread_add(&mean, sum / N);
        lp_spread_add(&mean_error, (sum / N - MEAN) * (sum / N - MEAN));
        lp_spread_add(&median_error, (x[N / 2] - MEAN) * (x[N / 2] - MEAN));
    }
    const double bound = WIDTH * WIDTH / N;
    lesson_text(l,
                "Third, the bound of Cramér and Rao: if f_θ is positive at the same x for every θ, "
                "I(θ) is positive and finite, and the derivatives of ∫~f and of E[T] may be taken "
                "under the integral, then no unbiased estimator T of θ from n samples varies less "
                "than 1/(n~I(θ)). (Its proof: E[S]~=~0 and E[T~S]~=~1 for the score S of the "
                "sample, and one Cauchy–Schwarz.) For a Gaussian the sample mean reaches it; the "
                "median is unbiased too, and does not. n~=~25, each estimated 20,000 times:");
    lesson_formula(l, "Var(T) ≥ 1/(n I(θ)),   Gaussian: σ²/n,   T an unbiased estimator of θ");
    lesson_sides(l, "measured", "exact");
    lesson_sampled(l, &mean, MEAN, "sample mean: its mean, θ");
    lesson_sampled(l, &mean_error, bound, "sample mean: its variance");
    lesson_sides(l, "measured", "bound σ²/n");
    lesson_above(l, median_error.mean, bound, "sample median: its variance");
    no_bound(l);
}
