/* CartPole-v1: a pole on a cart that is pushed left or right.
 *
 * A. Barto, R. Sutton, C. Anderson, "Neuronlike adaptive elements that can solve difficult learning
 * control problems", 1983, as Gymnasium 1.4.0 computes it
 * (gymnasium/envs/classic_control/cartpole.py): every expression below is evaluated in that
 * program's order, so that the numbers are the same to the last bit wherever the C library's sin
 * and cos are NumPy's. */
#include "env/cartpole.h"
#include "env/types.h"

#include <math.h>

static const double gravity = 9.8, mass_pole = 0.1, length = 0.5 /* half the pole's */;
static const double force_mag = 10.0, tau = 0.02 /* seconds a step */;
static const double total_mass = 0.1 + 1.0, pole_mass_length = 0.1 * 0.5;
#define X_LIMIT     2.4
#define THETA_LIMIT (12 * 2 * M_PI / 360)

/* Uniform in [-0.05, 0.05). The difference is exact, so that the upper end is never reached. */
static void reset(void* state, lp_rng* rng) {
    double draw[4];
    for (int i = 0; i < 4; i++) draw[i] = 0.1 * (lp_rng_uniform(rng) - 0.5);
    *(lp__cartpole*)state = (lp__cartpole){draw[0], draw[1], draw[2], draw[3]};
}

static void observe(const void* state, float* observation) {
    const lp__cartpole* s = state;
    observation[0] = (float)s->x;
    observation[1] = (float)s->x_dot;
    observation[2] = (float)s->theta;
    observation[3] = (float)s->theta_dot;
}

/* With m the pole's mass, M that of both, l half the pole's length, F the force:
 *     temp   = (F + m l theta'^2 sin theta) / M
 *     theta" = (g sin theta - cos theta temp) / (l (4/3 - m cos^2 theta / M))
 *     x"     = temp - m l theta" cos theta / M
 * and a step of Euler's method, all four from the old state. */
static double step(void* state, const void* action, bool* terminated) {
    lp__cartpole* s = state;
    const double force = *(const int32_t*)action == 1 ? force_mag : -force_mag;
    const double cos_theta = cos(s->theta), sin_theta = sin(s->theta);
    const double temp =
        (force + pole_mass_length * (s->theta_dot * s->theta_dot) * sin_theta) / total_mass;
    const double theta_acc =
        (gravity * sin_theta - cos_theta * temp) /
        (length * (4.0 / 3.0 - mass_pole * (cos_theta * cos_theta) / total_mass));
    const double x_acc = temp - pole_mass_length * theta_acc * cos_theta / total_mass;
    s->x += tau * s->x_dot;
    s->x_dot += tau * x_acc;
    s->theta += tau * s->theta_dot;
    s->theta_dot += tau * theta_acc;
    *terminated =
        s->x < -X_LIMIT || s->x > X_LIMIT || s->theta < -THETA_LIMIT || s->theta > THETA_LIMIT;
    return 1.0; /* for the step that ends the episode, too */
}

/* Twice the limits, so that the observation that ends an episode lies inside. */
static const float high[] = {(float)(2 * X_LIMIT), INFINITY, (float)(2 * THETA_LIMIT), INFINITY};
static const float low[] = {(float)(-2 * X_LIMIT), -INFINITY, (float)(-2 * THETA_LIMIT), -INFINITY};

const lp_env_type lp__env_cartpole = {
    .name = "CartPole-v1",
    .summary = "push a cart left or right so that the pole on it stays upright",
    .observation = {LP_SPACE_BOX, 4, low, high},
    .action = {.kind = LP_SPACE_DISCRETE, .n = 2},
    .state_bytes = sizeof(lp__cartpole),
    .max_episode_steps = 500,
    .reward_threshold = 475.0,
    .reset = reset,
    .observe = observe,
    .step = step,
};
