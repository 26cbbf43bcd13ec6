/* Rung 2, the PyTorch program: the same gradient by automatic differentiation.
 * usage: 02_autograd [SEED], after torch.manual_seed(SEED) */
#include <logpi/pg.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
    enum { D = 4, K = 3 };
    const double reward = 1.0;
    lp_rng rng = lp_rng_torch(argc > 1 ? strtoull(argv[1], NULL, 10) : 0);
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_params* params = lp_params_create(ctx, LP_F32, true);

    lp_tensor x = lp_randn(t, &rng, 1, D); /* x = torch.randn(d) */
    lp_tensor theta =
        lp_param_randn(params, "theta", D, K, &rng); /* theta = Parameter(torch.randn(d, k)) */
    lp_dist pi = lp_categorical(t, lp_matmul(t, x, theta)); /* Categorical(softmax(x @ theta)) */
    lp_tensor a = lp_sample(t, pi, &rng);
    lp_tensor loss = lp_scale(t, lp_log_prob(t, pi, a), -reward); /* -log pi(a|x) * reward */
    const lp_status status = lp_backward(t, loss);

    puts("Gradient stored in theta.grad:");
    for (int i = 0; i < D; i++)
        printf(" [% .4f % .4f % .4f]\n", lp_grad_at(theta, i, 0), lp_grad_at(theta, i, 1),
               lp_grad_at(theta, i, 2));
    if (status != LP_OK) fprintf(stderr, "%s\n", lp_error(ctx));
    lp_ctx_destroy(ctx);
    return status != LP_OK;
}
