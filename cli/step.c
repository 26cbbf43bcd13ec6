/* logpi step: one policy-gradient update, as the NumPy program of "Policy Gradient 101" does it, or, with --autograd,
 * the gradient as its PyTorch program prints it. */
#include "cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_step = {.name = "step",
                        .summary = "one policy-gradient update of a linear softmax policy",
                        .usage = "step [--autograd] [OPTIONS]",
                        .scope = LP_SCOPE_STEP,
                        .run = run};

/* All that an update is made of, in double. */
typedef struct update {
    int64_t d, k, action;
    double *x, *theta_before, *p, *grad, *theta;
} update;

static int print_update(const update* u) {
    return cli_print_json(json_pack("{s:o, s:o, s:o, s:I, s:o, s:o}", "x", cli_json_vector(u->x, u->d), "theta_before",
                                    cli_json_matrix(u->theta_before, u->d, u->k), "probs", cli_json_vector(u->p, u->k),
                                    "action", (json_int_t)u->action, "grad", cli_json_matrix(u->grad, u->d, u->k),
                                    "theta", cli_json_matrix(u->theta, u->d, u->k)),
                          17);
}

/* theta = randn(d, k); x = randn(d); a ~ p; theta += eta A x (e_a - p)^T */
static int closed_form(const lp_options* options, lp_rng* rng, update* u) {
    lp_rng_normal_f64(rng, u->theta, u->d * u->k);
    lp_rng_normal_f64(rng, u->x, u->d);
    memcpy(u->theta_before, u->theta, (size_t)(u->d * u->k) * sizeof(double));
    lp_softmax_policy_probs(u->d, u->k, u->theta, u->x, u->p);
    u->action = lp_softmax_policy_sample(rng, u->k, u->p);
    lp_softmax_policy_grad(u->d, u->k, u->x, u->p, u->action, u->grad);
    lp_softmax_policy_update(u->d, u->k, u->theta, u->x, u->p, u->action, lp_options_real(options, "learning_rate"),
                             lp_options_real(options, "advantage"));
    if (lp_options_flag(options, "json")) return print_update(u);
    puts("Updated theta:");
    cli_print_matrix(u->theta, u->d, u->k, 8);
    return EXIT_OK;
}

/* x = randn(d); theta = Parameter(randn(d, k)); a ~ Categorical; loss = -log pi(a) reward; loss.backward() */
static int autograd(lp_ctx* ctx, const lp_options* options, lp_rng* rng, update* u) {
    const double reward = lp_options_real(options, "reward");
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_params* p = lp_params_create(ctx, LP_F32, true);
    if (!t || !p) return cli_fail(ctx, LP_NOMEM);
    lp_tensor x = lp_randn(t, rng, 1, u->d);
    lp_tensor theta = lp_param_randn(p, "theta", u->d, u->k, rng);
    lp_dist pi = lp_categorical(t, lp_matmul(t, x, theta));
    lp_tensor a = lp_sample(t, pi, rng);
    lp_tensor loss = lp_scale(t, lp_log_prob(t, pi, a), -reward);
    lp_status status = lp_backward(t, loss);
    if (status != LP_OK) return cli_fail(ctx, status);
    lp_tensor probs = lp_exp(t, pi.log_p);
    u->action = (int64_t)lp_item(a);
    for (int64_t i = 0; i < u->d; i++) u->x[i] = lp_at(x, 0, i);
    for (int64_t j = 0; j < u->k; j++) u->p[j] = lp_at(probs, 0, j);
    for (int64_t i = 0; i < u->d * u->k; i++) {
        u->theta_before[i] = u->theta[i] = lp_at(theta, 0, i);
        u->grad[i] = lp_grad_at(theta, 0, i);
    }
    if (lp_options_flag(options, "json")) return print_update(u);
    puts("Gradient stored in theta.grad:");
    cli_print_matrix(u->grad, u->d, u->k, 4);
    return EXIT_OK;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const uint64_t seed = (uint64_t)lp_options_int(options, "seed");
    if (lp_options_positionals(options) > 0)
        return cli_usage("step takes no argument \"%.60s\"", lp_options_positional(options, 0));
    const int kind = lp_options_choice(options, "rng"); /* numpy, torch, philox */
    if (kind == 0 && seed > UINT32_MAX)
        return cli_usage("--seed is %llu: with --rng numpy it must lie in [0, 4294967295]", (unsigned long long)seed);
    lp_rng rng = kind == 0   ? lp_rng_numpy((uint32_t)seed)
                 : kind == 1 ? lp_rng_torch(seed)
                             : lp_rng_philox(seed, LP_FOR_USER, 0, 0);
    update u = {.d = lp_options_int(options, "d"), .k = lp_options_int(options, "k")};
    const size_t d = (size_t)u.d, k = (size_t)u.k;
    u.x = calloc(d, sizeof(double));
    u.p = calloc(k, sizeof(double));
    u.theta_before = calloc(d * k, sizeof(double));
    u.grad = calloc(d * k, sizeof(double));
    u.theta = calloc(d * k, sizeof(double));
    int code;
    if (!u.x || !u.p || !u.theta_before || !u.grad || !u.theta) {
        code = cli_say(EXIT_FAILURE_, "out of memory for a parameter matrix of %lld x %lld", (long long)u.d,
                       (long long)u.k);
    } else {
        code = lp_options_flag(options, "autograd") ? autograd(ctx, options, &rng, &u)
                                                    : closed_form(options, &rng, &u);
    }
    free(u.x);
    free(u.p);
    free(u.theta_before);
    free(u.grad);
    free(u.theta);
    return code;
}
