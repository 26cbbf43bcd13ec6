/* logpi step: one policy-gradient update, as the NumPy program of "Policy Gradient 101" does it,
 * or, with --autograd, the gradient as its PyTorch program prints it. */
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

/* Work between two looks at whether to stop: some milliseconds. */
enum { PIECE = 1 << 18 };

static lp_status stopped(lp_ctx* ctx) {
    return lp_cancelled(ctx) ? lp_fail(ctx, LP_CANCELLED, "cancelled") : LP_OK;
}

/* n standard normal numbers, to one of the two. They are those of a single call: a piece is a
 * multiple of the 16 that PyTorch's generator draws at a time, and the last one is no smaller. */
static lp_status draw(lp_ctx* ctx, lp_rng* rng, double* f64, float* f32, int64_t n) {
    lp_status status = LP_OK;
    for (int64_t at = 0, m; at < n && (status = stopped(ctx)) == LP_OK; at += m) {
        m = n - at < 2 * PIECE ? n - at : PIECE;
        if (f64) lp_rng_normal_f64(rng, f64 + at, m);
        if (f32) lp_rng_normal_f32(rng, f32 + at, m);
    }
    return status;
}

static lp_status print_json(lp_ctx* ctx, const update* u) {
    fputs("{\"x\":", stdout);
    lp_status status = cli_print_json_vector(ctx, u->x, u->d, 17);
    fputs(",\"theta_before\":", stdout);
    if (status == LP_OK) status = cli_print_json_matrix(ctx, u->theta_before, u->d, u->k, 17);
    fputs(",\"probs\":", stdout);
    if (status == LP_OK) status = cli_print_json_vector(ctx, u->p, u->k, 17);
    printf(",\"action\":%lld,\"grad\":", (long long)u->action);
    if (status == LP_OK) status = cli_print_json_matrix(ctx, u->grad, u->d, u->k, 17);
    fputs(",\"theta\":", stdout);
    if (status == LP_OK) status = cli_print_json_matrix(ctx, u->theta, u->d, u->k, 17);
    puts("}");
    return status;
}

/* theta = randn(d, k); x = randn(d); a ~ p; theta += eta A x (e_a - p)^T */
static lp_status closed_form(lp_ctx* ctx, const lp_options* options, lp_rng* rng, update* u) {
    lp_status status = draw(ctx, rng, u->theta, NULL, u->d * u->k);
    if (status == LP_OK) status = draw(ctx, rng, u->x, NULL, u->d);
    if (status != LP_OK) return status;
    lp_softmax_policy_probs(u->d, u->k, u->theta, u->x, u->p);
    u->action = lp_softmax_policy_sample(rng, u->k, u->p);
    const double eta = lp_options_real(options, "learning_rate"),
                 advantage = lp_options_real(options, "advantage");
    for (int64_t i = 0, n; i < u->d && (status = stopped(ctx)) == LP_OK;
         i += n) { /* row by row the same numbers */
        n = PIECE / u->k < 1 ? 1 : PIECE / u->k < u->d - i ? PIECE / u->k : u->d - i;
        double* theta = u->theta + i * u->k;
        memcpy(u->theta_before + i * u->k, theta, (size_t)(n * u->k) * sizeof *theta);
        lp_softmax_policy_grad(n, u->k, u->x + i, u->p, u->action, u->grad + i * u->k);
        lp_softmax_policy_update(n, u->k, theta, u->x + i, u->p, u->action, eta, advantage);
    }
    if (status != LP_OK) return status;
    if (lp_options_flag(options, "json")) return print_json(ctx, u);
    puts("Updated theta:");
    return cli_print_matrix(ctx, u->theta, u->d, u->k, 8);
}

/* x = randn(d); theta = Parameter(randn(d, k)); a ~ Categorical; loss = -log pi(a) reward;
 * loss.backward() */
static lp_status autograd(lp_ctx* ctx, const lp_options* options, lp_rng* rng, update* u) {
    const double reward = lp_options_real(options, "reward");
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_params* p = lp_params_create(ctx, LP_F32, true);
    if (!t || !p) return LP_NOMEM;
    lp_tensor x = lp_randn(t, rng, 1, u->d);
    lp_tensor theta = lp_param(p, "theta", u->d, u->k);
    if (!x || !theta) return LP_NOMEM;
    lp_status status = draw(ctx, rng, NULL, lp_f32(theta), u->d * u->k);
    if (status != LP_OK) return status;
    lp_params_changed(p);
    lp_dist pi = lp_categorical(t, lp_matmul(t, x, theta));
    lp_tensor a = lp_sample(t, pi, rng);
    lp_tensor loss = lp_scale(t, lp_log_prob(t, pi, a), -reward);
    status = lp_backward(t, loss);
    if (status != LP_OK) return status;
    lp_tensor probs = lp_exp(t, pi.log_p);
    u->action = (int64_t)lp_item(a);
    for (int64_t i = 0; i < u->d; i++) u->x[i] = lp_at(x, 0, i);
    for (int64_t j = 0; j < u->k; j++) u->p[j] = lp_at(probs, 0, j);
    for (int64_t i = 0; i < u->d && (status = stopped(ctx)) == LP_OK; i++) {
        for (int64_t j = 0; j < u->k; j++) {
            u->theta_before[i * u->k + j] = u->theta[i * u->k + j] = lp_at(theta, i, j);
            u->grad[i * u->k + j] = lp_grad_at(theta, i, j);
        }
    }
    if (status != LP_OK) return status;
    if (lp_options_flag(options, "json")) return print_json(ctx, u);
    puts("Gradient stored in theta.grad:");
    return cli_print_matrix(ctx, u->grad, u->d, u->k, 4);
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const uint64_t seed = (uint64_t)lp_options_int(options, "seed");
    if (lp_options_positionals(options) > 0)
        return cli_usage("step takes no argument \"%.60s\"", lp_options_positional(options, 0));
    const int kind = lp_options_choice(options, "rng"); /* numpy, torch, philox */
    if (kind == 0 && seed > UINT32_MAX)
        return cli_usage("--seed is %llu: with --rng numpy it must lie in [0, 4294967295]",
                         (unsigned long long)seed);
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
        code = cli_say(EXIT_FAILURE_, "out of memory for a parameter matrix of %lld x %lld",
                       (long long)u.d, (long long)u.k);
    } else {
        const lp_status status = lp_options_flag(options, "autograd")
                                     ? autograd(ctx, options, &rng, &u)
                                     : closed_form(ctx, options, &rng, &u);
        code = status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
    }
    free(u.x);
    free(u.p);
    free(u.theta_before);
    free(u.grad);
    free(u.theta);
    return code;
}
