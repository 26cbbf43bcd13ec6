/* The state of CartPole, for the test that replays Gymnasium's episodes. */
#ifndef LP__ENV_CARTPOLE_H
#define LP__ENV_CARTPOLE_H

typedef struct lp__cartpole {
    double x, x_dot;         /* of the cart, in m and m/s */
    double theta, theta_dot; /* of the pole, from upright, in rad and rad/s */
} lp__cartpole;

#endif
