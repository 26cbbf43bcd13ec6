/* Rung 1, the NumPy program: one policy-gradient update of a linear softmax policy, gradient
 * written out by hand. usage: 01_softmax [SEED], after np.random.seed(SEED) */
#include <logpi/pg.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
    enum { D = 4, K = 2 };
    const double learning_rate = 0.01, A = 1.0;
    double theta[D * K], x[D], p[K];
    lp_rng rng = lp_rng_numpy(argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0);

    lp_rng_normal_f64(&rng, theta, D * K); /* theta = np.random.randn(d, k) */
    lp_rng_normal_f64(&rng, x, D);         /* x = np.random.randn(d) */

    lp_softmax_policy_probs(D, K, theta, x, p);             /* p = softmax(theta^T x) */
    const int64_t a = lp_softmax_policy_sample(&rng, K, p); /* a ~ p */
    lp_softmax_policy_update(D, K, theta, x, p, a, learning_rate,
                             A); /* theta += eta A x (e_a - p)^T */

    puts("Updated theta:");
    for (int i = 0; i < D; i++) printf(" [% .8f % .8f]\n", theta[i * K], theta[i * K + 1]);
    return 0;
}
