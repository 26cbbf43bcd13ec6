/* Lesson 1: gradient descent on a supervised loss. */
#include "lessons.h"

enum { D = 2, K = 3, N = 8 };

/* Points x [N, D] with classes y [N]. */
typedef struct task {
    double x[N * D];
    int32_t y[N];
} task;

static double loss(const double* theta, const void* user) {
    const task* t = user;
    return lp_softmax_regression_loss(D, K, N, theta, t->x, t->y);
}

/* Classes are drawn from a softmax policy that the learner does not see. */
static task make_task(lp_rng* rng) {
    task t;
    double hidden[D * K], p[K];
    lesson_draw(rng, N * D, t.x);
    lesson_draw(rng, D * K, hidden);
    for (int i = 0; i < N; i++) {
        lp_softmax_policy_probs(D, K, hidden, t.x + i * D, p);
        t.y[i] = (int32_t)lp_softmax_policy_sample(rng, K, p);
    }
    return t;
}

static void gradient(lesson* l, const task* t, const double* theta, double* grad) {
    double numeric[D * K];
    lp_softmax_regression_grad(D, K, N, theta, t->x, t->y, grad);
    lesson_gradient(loss, t, D * K, theta, numeric);
    lesson_text(l, "The loss is the cross-entropy of a softmax over three classes; Θ has 2 × 3 "
                   "entries, the data are "
                   "8 points with a class each. Its gradient in closed form, and by moving each "
                   "entry a little:");
    lesson_sides(l, "closed form", "differences");
    lesson_matrix(l, D, K, grad, numeric, 1e-9, "∂J/∂Θ");
}

/* |J(Theta) - J(Theta - eta g) - eta |g|^2| <= L/2 eta^2 |g|^2, where L bounds the curvature: that
 * of a softmax's logits is at most 1/2, so L = mean |x|^2 / 2 */
static void one_step(lesson* l, const task* t, const double* theta, const double* grad,
                     double curvature) {
    const double square = lesson_dot(D * K, grad, grad), before = loss(theta, t);
    lesson_text(l,
                "One step lowers the loss by η~|∇J|², as far as J is straight. It is not: the "
                "curvature of J is at "
                "most L~=~%.4f here, which lets the two differ by L/2~η²~|∇J|², a hundredth for a "
                "tenth of~η:",
                curvature);
    lesson_formula(l, "J(Θ) − J(Θ − η ∇J) = η |∇J|² + O(η²)");
    lesson_sides(l, "loss lost", "η |∇J|²");
    for (double eta = 1.0; eta > 5e-4; eta /= 10) {
        double moved[D * K];
        for (int i = 0; i < D * K; i++) moved[i] = theta[i] - eta * grad[i];
        lesson_equal(l, before - loss(moved, t), eta * square, curvature / 2 * eta * eta * square,
                     "η = %g", eta);
    }
}

static void many_steps(lesson* l, const task* t, double* theta, double eta) {
    double before = loss(theta, t), grad[D * K];
    lesson_text(l, "And so it goes on. With η~=~1/L~=~%.4f no step can raise the loss:", eta);
    lesson_sides(l, "J after", "J before");
    for (int step = 0, next = 1; next <= 100; next *= 10) {
        for (; step < next; step++)
            lp_softmax_regression_update(D, K, N, theta, t->x, t->y, eta, grad);
        const double after = loss(theta, t);
        lesson_below(l, after, before, "%d step%s in all", next, next > 1 ? "s" : "");
        before = after;
    }
}

lp_status lesson_descent(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    const task t = make_task(&rng);
    double theta[D * K], grad[D * K];
    lesson_draw(&rng, D * K, theta);
    lesson_text(l, "A supervised learner is told the right answer, and a loss J(Θ) says how wrong "
                   "it is. The gradient "
                   "points to where the loss grows fastest, so the learner walks the other way, "
                   "with strides~η:");
    lesson_formula(l, "Θ ← Θ − η ∇J(Θ)");
    lesson_formula(l, "J(Θ) = −1/n Σᵢ log p(yᵢ|xᵢ),   ∇J(Θ) = 1/n Σᵢ xᵢ (p(xᵢ) − e_yᵢ)ᵀ");
    gradient(l, &t, theta, grad);
    const double curvature = lesson_dot(N * D, t.x, t.x) / N / 2;
    one_step(l, &t, theta, grad, curvature);
    many_steps(l, &t, theta, 1 / curvature);
    return LP_OK;
}
