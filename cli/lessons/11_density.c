/* Lesson 11: the derivative of a density is the density times its score, and REINFORCE follows. */
#include "lessons.h"
#include <math.h>

enum { D = 2, K = 3, SAMPLES = 50000 };
static const double SQRT_2PI = 2.50662827463100050242, MEAN = 0.6, WIDTH = 1.3;

static double normal_density(double x, double mean) {
    const double z = (x - mean) / WIDTH;
    return exp(-z * z / 2) / (WIDTH * SQRT_2PI);
}

/* d log f / d mean */
static double normal_score(double x, double mean) { return (x - mean) / (WIDTH * WIDTH); }

static double density_at(double mean, const void* x) {
    return normal_density(*(const double*)x, mean);
}

static lp_status gaussian_density(lesson* l) {
    static const double points[] = {-2, -0.5, 0.6, 3};
    lp_tape* t = lp_tape_create(l->ctx, LP_F64);
    if (!t) return LP_NOMEM;
    lesson_text(l,
                "Read backwards, the identity of lesson 10 turns a derivative into a product with "
                "f itself. "
                "∂~ln~f/∂θ is called the score. First a Gaussian with mean θ~=~%.1f and deviation "
                "σ~=~%.1f:",
                MEAN, WIDTH);
    lesson_formula(l, "∂f_θ(x)/∂θ = f_θ(x) · ∂ ln f_θ(x)/∂θ,   Gaussian: ∂ ln f/∂θ = (x − θ)/σ²");
    lesson_sides(l, "differences of f", "f · score");
    for (int i = 0; i < 4; i++)
        lesson_equal(l, lesson_slope(density_at, &points[i], MEAN),
                     normal_density(points[i], MEAN) * normal_score(points[i], MEAN), 1e-10,
                     "x = %g", points[i]);
    lesson_sides(l, "tape, log_prob", "(x − θ)/σ²");
    for (int i = 0; i < 4; i++) {
        lp_tape_reset(t);
        lp_tensor mean = lp_input_f64(t, 1, 1, &MEAN);
        lp_dist f = lp_gaussian(t, mean, lp_scalar(t, log(WIDTH)));
        const lp_status status = lp_backward(t, lp_log_prob(t, f, lp_scalar(t, points[i])));
        if (status != LP_OK) return status;
        lesson_equal(l, lp_grad_at(mean, 0, 0), normal_score(points[i], MEAN), 1e-14, "x = %g",
                     points[i]);
    }
    return LP_OK;
}

/* ---- a softmax policy in one state ----------------------------------------------------------- */

typedef struct bandit {
    double x[D], reward[K];
    int a;
} bandit;

static double chance(const double* theta, const void* user) {
    const bandit* b = user;
    double p[K];
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    return p[b->a];
}

static double expected_reward(const double* theta, const void* user) {
    const bandit* b = user;
    double p[K];
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    return lesson_dot(K, p, b->reward);
}

static void softmax_density(lesson* l, const bandit* b, const double* theta) {
    double numeric[D * K], score[D * K];
    const double p = chance(theta, b);
    lesson_gradient(chance, b, D * K, theta, numeric);
    lesson_score(D, K, theta, b->x, b->a, score);
    for (int i = 0; i < D * K; i++) score[i] *= p;
    lesson_text(l, "Then the probability of an action, a~=~%d, under the softmax policy:", b->a);
    lesson_formula(l, "∇p_a = p_a ∇log p_a = p_a x (e_a − p)ᵀ");
    lesson_sides(l, "differences of p_a", "p_a x (e_a − p)ᵀ");
    lesson_matrix(l, D, K, numeric, score, 1e-9, "∂p_a/∂Θ");
}

static void reinforce(lesson* l, const bandit* b, const double* theta) {
    double p[K], numeric[D * K], sum[D * K] = {0};
    lp_spread sampled[D * K] = {0};
    lp_rng rng = lesson_rng(l, 1);
    lp_softmax_policy_probs(D, K, theta, b->x, p);
    for (int a = 0; a < K; a++) {
        double score[D * K];
        lesson_score(D, K, theta, b->x, a, score);
        for (int i = 0; i < D * K; i++) sum[i] += p[a] * b->reward[a] * score[i];
    }
    for (int s = 0; s < SAMPLES; s++) {
        double score[D * K];
        const int64_t a = lp_softmax_policy_sample(&rng, K, p);
        lp_softmax_policy_grad(D, K, b->x, p, a, score);
        for (int i = 0; i < D * K; i++) lp_spread_add(&sampled[i], b->reward[a] * score[i]);
    }
    lesson_gradient(expected_reward, b, D * K, theta, numeric);
    lesson_text(l,
                "What is won: the gradient of a mean was a sum of R~∇p, which is no mean of "
                "anything. As p~R~∇log~p it "
                "is one, and can be sampled. With R~=~(%.2f,~%.2f,~%.2f), by enumeration:",
                b->reward[0], b->reward[1], b->reward[2]);
    lesson_formula(
        l, "∇E[R] = Σ_a R(a) ∇p_a = Σ_a p_a R(a) ∇log p_a = E[ R ∇log p ]      (REINFORCE)");
    lesson_sides(l, "∇E[R], differences", "E[R ∇log p]");
    lesson_matrix(l, D, K, numeric, sum, 1e-9, "∂E[R]/∂Θ");
    lesson_text(l, "and from 50,000 actions drawn from the policy:");
    lesson_sides(l, "sampled R ∇log p", "∇E[R], differences");
    lesson_samples(l, D, K, sampled, numeric, "∂E[R]/∂Θ");
}

/* ---- rewards of a Gaussian action: one that is smooth, one that waves, one that jumps -------- */

static double square(double x) { return x * x; }
static double jump(double x) { return x > 0; }

/* The reward, the exact derivative of its mean, and where it begins to be other than 0. */
typedef struct payment {
    const char* name;
    double (*reward)(double x);
    double slope, from;
} payment;

static double weighted(double x, const void* user) {
    const payment* r = user;
    return r->reward(x) * normal_density(x, MEAN) * normal_score(x, MEAN);
}

/* jump() is 0 at its edge; from there on it is 1 */
static double weighted_jump(double x, const void* user) {
    (void)user;
    return normal_density(x, MEAN) * normal_score(x, MEAN);
}

static void gaussian_rewards(lesson* l) {
    const double far = 12 * WIDTH;
    const payment payments[] = {
        {"R = x²: 2θ", square, 2 * MEAN, MEAN - far},
        {"R = cos x: −sin θ e^(−σ²/2)", cos, -sin(MEAN) * exp(-WIDTH * WIDTH / 2), MEAN - far},
        {"R = 1{x > 0}: f(0)", jump, normal_density(0, MEAN), 0}};
    lesson_text(l, "A Gaussian policy does the same with an integral for the sum. The derivatives "
                   "of these three means "
                   "are known in closed form. The last reward jumps: its own slope is 0 wherever "
                   "it has one, yet the "
                   "score finds the gradient, as R is never differentiated:");
    lesson_formula(l, "d/dθ ∫ R(x) f_θ(x) dx = ∫ R(x) f_θ(x) ∂ ln f_θ(x)/∂θ dx");
    lesson_sides(l, "∫ R f score dx", "closed form");
    for (int i = 0; i < 3; i++) {
        const lesson_of_number f = payments[i].reward == jump ? weighted_jump : weighted;
        lesson_equal(l, lesson_integral(f, &payments[i], payments[i].from, MEAN + far),
                     payments[i].slope, 1e-10, "%s", payments[i].name);
    }
    lesson_sides(l, "50,000 samples", "closed form");
    for (int i = 0; i < 3; i++) {
        lp_rng rng = lesson_rng(l, 2 + (uint32_t)i);
        lp_spread sampled = {0};
        for (int s = 0; s < SAMPLES; s++) {
            double z;
            lp_rng_normal_f64(&rng, &z, 1);
            const double x = MEAN + WIDTH * z;
            lp_spread_add(&sampled, payments[i].reward(x) * normal_score(x, MEAN));
        }
        lesson_sampled(l, &sampled, payments[i].slope, "%s", payments[i].name);
    }
}

lp_status lesson_density(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    bandit b;
    double theta[D * K], p[K];
    const lp_status status = gaussian_density(l);
    if (status != LP_OK) return status;
    lesson_draw(&rng, D, b.x);
    lesson_draw(&rng, K, b.reward);
    lesson_draw(&rng, D * K, theta);
    lp_softmax_policy_probs(D, K, theta, b.x, p);
    b.a = (int)lp_softmax_policy_sample(&rng, K, p);
    softmax_density(l, &b, theta);
    reinforce(l, &b, theta);
    gaussian_rewards(l);
    return LP_OK;
}
