/* Lesson 2: the policy gradient theorem, on a decision process that is solved exactly. */
#include "lessons.h"
#include <math.h>
#include <string.h>

enum { S = 3, D = 2, K = 3, EPISODES = 200000, LONGEST = 2000 };
enum { STAY, LEFT, RIGHT };
static const double GAMMA = 0.9;

/* ---- the process: three places on a ring ----------------------------------------------------- */

/* x(s) = (1, u), u = -1, 0, 1 */
static const double features[S][D] = {{1, -1}, {1, 0}, {1, 1}};

/* P(s'|s,a): a move succeeds with probability 0.8 */
static double transition(int s, int a, int next) {
    const int goal = a == STAY ? s : (s + (a == LEFT ? S - 1 : 1)) % S;
    return 0.8 * (next == goal) + 0.2 * (next == s);
}

static double reward(int s, int a) {
    static const double pay[S] = {0, 1, -1};
    return pay[s] - (a == STAY ? 0.0 : 0.1);
}

/* ---- solved ---------------------------------------------------------------------------------- */

/* All that follows from Theta: pi(a|s), V(s), A(s,a), visits d(s), and J. */
typedef struct solution {
    double pi[S][K], value[S], advantage[S][K], visits[S], J;
} solution;

/* m y = b by elimination with pivots; y replaces b. */
static void solve(double m[S][S], double b[S]) {
    for (int c = 0; c < S; c++) {
        int pivot = c;
        for (int i = c + 1; i < S; i++) pivot = fabs(m[i][c]) > fabs(m[pivot][c]) ? i : pivot;
        for (int j = 0; j < S; j++) {
            const double kept = m[c][j];
            m[c][j] = m[pivot][j];
            m[pivot][j] = kept;
        }
        const double kept = b[c];
        b[c] = b[pivot];
        b[pivot] = kept;
        for (int i = 0; i < S; i++) {
            const double factor = i == c ? 0.0 : m[i][c] / m[c][c];
            for (int j = c; j < S; j++) m[i][j] -= factor * m[c][j];
            b[i] -= factor * b[c];
        }
    }
    for (int i = 0; i < S; i++) b[i] /= m[i][i];
}

/* r(s,a) + gamma sum_s' P(s'|s,a) V(s') */
static double look_ahead(const double* value, int s, int a) {
    double q = reward(s, a);
    for (int next = 0; next < S; next++) q += GAMMA * transition(s, a, next) * value[next];
    return q;
}

/* P_pi(s'|s) and r_pi(s) */
static void average(double pi[S][K], double chain[S][S], double pay[S]) {
    memset(chain, 0, sizeof(double[S][S]));
    for (int s = 0; s < S; s++) {
        pay[s] = 0;
        for (int a = 0; a < K; a++) {
            pay[s] += pi[s][a] * reward(s, a);
            for (int next = 0; next < S; next++)
                chain[s][next] += pi[s][a] * transition(s, a, next);
        }
    }
}

/* V = (1 - gamma P)^-1 r,  d = (1 - gamma P^T)^-1 rho,  A(s,a) = r + gamma P V - V,  J = V(0): rho
 * is e_0 */
static solution solve_process(const double* theta) {
    solution m;
    double chain[S][S], forward[S][S], backward[S][S];
    for (int s = 0; s < S; s++) lp_softmax_policy_probs(D, K, theta, features[s], m.pi[s]);
    average(m.pi, chain, m.value);
    for (int s = 0; s < S; s++) {
        for (int next = 0; next < S; next++) {
            forward[s][next] = (s == next) - GAMMA * chain[s][next];
            backward[next][s] = forward[s][next];
        }
        m.visits[s] = s == 0;
    }
    solve(forward, m.value);
    solve(backward, m.visits);
    for (int s = 0; s < S; s++) {
        for (int a = 0; a < K; a++) m.advantage[s][a] = look_ahead(m.value, s, a) - m.value[s];
    }
    m.J = m.value[0];
    return m;
}

static double objective(const double* theta, const void* user) {
    (void)user;
    return solve_process(theta).J;
}

/* sum_s d(s) sum_a pi(a|s) A(s,a) grad log pi(a|s) */
static void theorem(const double* theta, double* grad) {
    const solution m = solve_process(theta);
    memset(grad, 0, D * K * sizeof *grad);
    for (int s = 0; s < S; s++) {
        for (int a = 0; a < K; a++) {
            double score[D * K];
            lp_softmax_policy_grad(D, K, features[s], m.pi[s], a, score);
            for (int i = 0; i < D * K; i++)
                grad[i] += m.visits[s] * m.pi[s][a] * m.advantage[s][a] * score[i];
        }
    }
}

/* ---- checked --------------------------------------------------------------------------------- */

static void show(lesson* l, const double* theta) {
    const solution m = solve_process(theta);
    lesson_text(l, "Three places lie on a ring. In each a walker may stay, go left or go right; a "
                   "move succeeds with "
                   "probability 0.8 and costs 0.1. The places pay 0, 1 and −1 a step. It starts at "
                   "place~0, what comes "
                   "later counts γ~=~0.9 as much, and of place s it knows x(s)~=~(1,~s~−~1). Its "
                   "policy is the "
                   "softmax of Θᵀx. Three states can be solved exactly, as linear equations:");
    lesson_formula(
        l, "V = (1 − γP)⁻¹ r,   d = (1 − γPᵀ)⁻¹ ρ,   A(s,a) = r(s,a) + γ Σ P(s'|s,a) V(s') − V(s)");
    if (l->out) fputc('\n', l->out);
    lesson_line(
        l,
        "place      π stay     left    right      A stay     left    right           V        d");
    for (int s = 0; s < S; s++)
        lesson_line(l, "%5d    %8.4f %8.4f %8.4f    %8.4f %8.4f %8.4f    %8.4f %8.4f", s,
                    m.pi[s][STAY], m.pi[s][LEFT], m.pi[s][RIGHT], m.advantage[s][STAY],
                    m.advantage[s][LEFT], m.advantage[s][RIGHT], m.value[s], m.visits[s]);
}

/* sum_t gamma^t (P^T)^t rho . r, as far as it matters */
static double unrolled(const double* theta) {
    const solution m = solve_process(theta);
    double chain[S][S], pay[S], at[S] = {1}, next[S], sum = 0, weight = 1, pi[S][K];
    memcpy(pi, m.pi, sizeof pi);
    average(pi, chain, pay);
    for (int t = 0; t < 1000; t++, weight *= GAMMA) {
        sum += weight * lesson_dot(S, at, pay);
        for (int s = 0; s < S; s++)
            next[s] = at[0] * chain[0][s] + at[1] * chain[1][s] + at[2] * chain[2][s];
        memcpy(at, next, sizeof at);
    }
    return sum;
}

static void check_solution(lesson* l, const double* theta) {
    const solution m = solve_process(theta);
    double mean[S] = {0}, zero[S] = {0};
    for (int s = 0; s < S; s++) mean[s] = lesson_dot(K, m.pi[s], m.advantage[s]);
    lesson_text(l, "Is that the solution? The return must be that of walking on step by step, "
                   "visits must add up to "
                   "1~+~γ~+~γ²~+~…, and the advantage, averaged over the actions, must vanish in "
                   "every place:");
    lesson_sides(l, "solved", "known");
    lesson_equal(l, m.J, unrolled(theta), 1e-12, "J = V(0), 1,000 steps");
    lesson_equal(l, m.visits[0] + m.visits[1] + m.visits[2], 1 / (1 - GAMMA), 1e-12,
                 "Σ d(s) = 1/(1 − γ)");
    lesson_farthest(l, S, mean, zero, 1e-12, "Σ π(a|s) A(s,a), the worst");
}

/* One walk that ends after each step with probability 1 - gamma: a step t is then reached with
 * probability gamma^t, so that sums over its steps have the discounted sums as means. Returns its
 * length. */
static int walk(lp_rng* rng, const solution* m, int* states, int* actions) {
    int length = 0, s = 0;
    do {
        states[length] = s;
        actions[length] = (int)lp_softmax_policy_sample(rng, K, m->pi[s]);
        const double p[S] = {transition(s, actions[length], 0), transition(s, actions[length], 1),
                             transition(s, actions[length], 2)};
        s = (int)lp_rng_choice_f64(rng, p, S);
        length++;
    } while (length < LONGEST && lp_rng_uniform(rng) < GAMMA);
    return length;
}

/* One walk's two estimates of grad J: sum_t A grad log pi, and sum_t (what was paid from t on) grad
 * log pi. */
static void estimate(lp_rng* rng, const solution* m, double* by_advantage, double* by_return) {
    int states[LONGEST], actions[LONGEST];
    double paid = 0;
    memset(by_advantage, 0, D * K * sizeof *by_advantage);
    memset(by_return, 0, D * K * sizeof *by_return);
    for (int t = walk(rng, m, states, actions) - 1; t >= 0; t--) {
        double score[D * K];
        lp_softmax_policy_grad(D, K, features[states[t]], m->pi[states[t]], actions[t], score);
        paid += reward(states[t], actions[t]);
        for (int i = 0; i < D * K; i++) {
            by_advantage[i] += m->advantage[states[t]][actions[t]] * score[i];
            by_return[i] += paid * score[i];
        }
    }
}

static void monte_carlo(lesson* l, const double* theta, const double* exact) {
    const solution m = solve_process(theta);
    lp_spread critic[D * K] = {0}, plain[D * K] = {0};
    lp_rng rng = lesson_rng(l, 1);
    for (int e = 0; e < EPISODES; e++) {
        double by_advantage[D * K], by_return[D * K];
        estimate(&rng, &m, by_advantage, by_return);
        for (int i = 0; i < D * K; i++) {
            lp_spread_add(&critic[i], by_advantage[i]);
            lp_spread_add(&plain[i], by_return[i]);
        }
    }
    lesson_text(
        l, "Nobody need know P for this: the sum is an expectation, and walking samples it. A walk "
           "that ends "
           "after each step with probability 1~−~γ lets later steps count γ as much. Of the sum of "
           "A~∇log~π along a walk, the mean over 200,000 walks, beside the differences of J:");
    lesson_sides(l, "walks", "differences of J");
    lesson_samples(l, D, K, critic, exact, "∂J/∂Θ");
    lesson_text(l, "Without A it works as well. What was paid from that step on takes its place "
                   "(REINFORCE), at the "
                   "price of more noise:");
    lesson_sides(l, "walks", "differences of J");
    lesson_samples(l, D, K, plain, exact, "∂J/∂Θ");
}

/* J of the best policy: V(s) = max_a r + gamma P V, repeated */
static double best(void) {
    double value[S] = {0}, next[S];
    for (int round = 0; round < 1000; round++) {
        for (int s = 0; s < S; s++)
            next[s] = fmax(look_ahead(value, s, STAY),
                           fmax(look_ahead(value, s, LEFT), look_ahead(value, s, RIGHT)));
        memcpy(value, next, sizeof value);
    }
    return value[0];
}

static void ascent(lesson* l, double* theta, double* grad) {
    const double eta = 0.1, tiny = 1e-5, first = objective(theta, NULL);
    double moved[D * K], before = first;
    for (int i = 0; i < D * K; i++) moved[i] = theta[i] + tiny * grad[i];
    lesson_text(l,
                "So the walker climbs. A tiny step raises J by η~|∇J|²; many steps of η~=~0.1 "
                "raise it on and on, but "
                "never past the best policy there is, J*~=~%.4f (by value iteration):",
                best());
    lesson_formula(l, "Θ ← Θ + η Σ_s d(s) Σ_a π(a|s) A(s,a) ∇log π(a|s)");
    lesson_sides(l, "rise", "expected");
    lesson_equal(l, (objective(moved, NULL) - first) / (tiny * lesson_dot(D * K, grad, grad)), 1,
                 1e-3, "rise / η |∇J|², η = 1e-5");
    lesson_sides(l, "J after", "J before");
    for (int step = 0, next = 1; next <= 1000; next *= 10) {
        for (; step < next; step++) {
            theorem(theta, grad);
            for (int i = 0; i < D * K; i++) theta[i] += eta * grad[i];
        }
        const double after = objective(theta, NULL);
        lesson_above(l, after, before, "%d step%s in all", next, next > 1 ? "s" : "");
        before = after;
    }
    lesson_below(l, before, best(), "1000 steps beside J*");
}

lp_status lesson_theorem(lesson* l) {
    lp_rng rng = lesson_rng(l, 0);
    double theta[D * K], grad[D * K], numeric[D * K];
    lesson_draw(&rng, D * K, theta);
    lesson_text(l, "A policy is judged by its return J(Θ): all rewards to come, discounted. Θ acts "
                   "on J in two ways: it "
                   "changes the actions, and through them the states that are visited. The theorem "
                   "says that the "
                   "second way need not be differentiated. With d(s)~=~Σ_t~γᵗ~P(s_t~=~s), the "
                   "discounted visits:");
    lesson_formula(l, "∇J(Θ) = Σ_s d(s) Σ_a π(a|s) A(s,a) ∇log π(a|s)");
    lesson_formula(l, "      = E[ Σ_t γᵗ A(s_t,a_t) ∇log π(a_t|s_t) ]");
    show(l, theta);
    check_solution(l, theta);
    theorem(theta, grad);
    lesson_gradient(objective, NULL, D * K, theta, numeric);
    lesson_text(l, "Now the theorem. On the left all of it, states, actions and visits, is in J, "
                   "solved anew with each "
                   "entry of Θ moved by ±1e-5. On the right only log π is differentiated:");
    lesson_sides(l, "differences of J", "the theorem's sum");
    lesson_matrix(l, D, K, numeric, grad, 1e-8, "∂J/∂Θ");
    monte_carlo(l, theta, numeric);
    ascent(l, theta, grad);
    return LP_OK;
}
