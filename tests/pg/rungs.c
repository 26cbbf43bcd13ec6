/* Rung 1 beside the NumPy program (1e-12), rung 2 beside the PyTorch program (gradient 1e-6), every
 * action equal (tests/oracles/torch_ops_fixtures.py); and the closed-form gradient beside finite
 * differences and the tape. */
#include "json.h"

#include <logpi/pg.h>

enum { MAX = 64 };

static void numpy_program(void** state) {
    (void)state;
    json_t *root = fixture_load("step_numpy.json"), *c;
    size_t i;
    json_array_foreach(json_at(root, "cases"), i, c) {
        const int64_t d = (int64_t)json_real_at(c, "d"), k = (int64_t)json_real_at(c, "k");
        double theta[MAX], x[MAX], p[MAX], want[MAX];
        lp_rng rng = lp_rng_numpy((uint32_t)json_real_at(c, "seed"));
        lp_rng_normal_f64(&rng, theta, d * k);
        lp_rng_normal_f64(&rng, x, d);
        lp_softmax_policy_probs(d, k, theta, x, p);
        const int64_t a = lp_softmax_policy_sample(&rng, k, p);
        assert_int_equal(a, (int64_t)json_real_at(c, "action"));
        lp_softmax_policy_update(d, k, theta, x, p, a, 0.01, 1.0);
        json_flatten(json_at(c, "theta"), want, MAX);
        for (int64_t j = 0; j < d * k; j++) assert_close(theta[j], want[j], 1e-12);
    }
    assert_true(i >= 100);
    json_decref(root);
}

static void torch_program(void** state) {
    (void)state;
    json_t *root = fixture_load("step_torch.json"), *c;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t i;
    json_array_foreach(json_at(root, "cases"), i, c) {
        const int64_t d = (int64_t)json_real_at(c, "d"), k = (int64_t)json_real_at(c, "k");
        double want[MAX];
        lp_rng rng = lp_rng_torch((uint64_t)json_real_at(c, "seed"));
        lp_tape* t = lp_tape_create(ctx, LP_F32);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_tensor x = lp_randn(t, &rng, 1, d);
        lp_tensor theta = lp_param_randn(params, "theta", d, k, &rng);
        lp_dist pi = lp_categorical(t, lp_matmul(t, x, theta));
        lp_tensor a = lp_sample(t, pi, &rng);
        assert_int_equal(lp_backward(t, lp_scale(t, lp_log_prob(t, pi, a), -1.0)), LP_OK);
        assert_int_equal((int64_t)lp_item(a), (int64_t)json_real_at(c, "action"));
        json_flatten(json_at(c, "grad"), want, MAX);
        for (int64_t j = 0; j < d * k; j++) assert_close(lp_grad_at(theta, 0, j), want[j], 1e-6);
        lp_params_destroy(params);
        lp_tape_destroy(t);
    }
    assert_true(i >= 100);
    lp_ctx_destroy(ctx);
    json_decref(root);
}

/* grad log p_a: closed form = central differences = tape, 1e-8 */
static void closed_form(void** state) {
    (void)state;
    enum { D = 5, K = 4 };
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_rng rng = lp_rng_philox(7, LP_FOR_TEST, 0, 0);
    for (int64_t a = 0; a < K; a++) {
        double theta[D * K], x[D], p[K], grad[D * K];
        lp_rng_normal_f64(&rng, theta, D * K);
        lp_rng_normal_f64(&rng, x, D);
        lp_softmax_policy_probs(D, K, theta, x, p);
        lp_softmax_policy_grad(D, K, x, p, a, grad);
        assert_close(lp_softmax_policy_log_prob(D, K, theta, x, a), log(p[a]), 1e-12);
        lp_tape* t = lp_tape_create(ctx, LP_F64);
        lp_tensor parameter = lp_input_f64(t, D, K, theta);
        const int32_t action = (int32_t)a;
        lp_dist pi = lp_categorical(t, lp_matmul(t, lp_const_f64(t, 1, D, x), parameter));
        assert_int_equal(lp_backward(t, lp_log_prob(t, pi, lp_const_i32(t, 1, 1, &action))), LP_OK);
        for (int64_t j = 0; j < D * K; j++) {
            const double kept = theta[j], h = 1e-6;
            theta[j] = kept + h;
            const double up = lp_softmax_policy_log_prob(D, K, theta, x, a);
            theta[j] = kept - h;
            const double down = lp_softmax_policy_log_prob(D, K, theta, x, a);
            theta[j] = kept;
            assert_close(grad[j], (up - down) / (2 * h), 1e-8);
            assert_close(grad[j], lp_grad_at(parameter, 0, j), 1e-12);
        }
        lp_tape_destroy(t);
    }
    lp_ctx_destroy(ctx);
}

/* Logits of 1,000 neither overflow nor lose the sum. */
static void large_logits(void** state) {
    (void)state;
    const double theta[3] = {1000, 999, -1000}, x[1] = {1};
    double p[3];
    lp_softmax_policy_probs(1, 3, theta, x, p);
    assert_close(p[0] + p[1] + p[2], 1.0, 1e-15);
    assert_close(p[0], 1 / (1 + exp(-1.0)), 1e-15);
    assert_close(lp_softmax_policy_log_prob(1, 3, theta, x, 2), -2000 - log1p(exp(-1.0)), 1e-9);
}

static void check(const char* what, lp_tensor got, json_t* want, double tolerance) {
    double numbers[MAX];
    const int64_t n = json_flatten(want, numbers, MAX);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(lp_at(got, 0, i) - numbers[i]) <= tolerance))
            fail_msg("%s[%d] is %.17g, PyTorch has %.17g", what, (int)i, lp_at(got, 0, i),
                     numbers[i]);
    }
}

/* The gradient that x got from the sum of y over its rows. */
static void check_grad(lp_tape* t, const char* what, lp_tensor y, lp_tensor x, json_t* want) {
    double numbers[MAX];
    const int64_t n = json_flatten(want, numbers, MAX);
    assert_int_equal(n, x->rows * x->cols);
    assert_int_equal(lp_backward(t, lp_sum(t, y)), LP_OK);
    for (int64_t i = 0; i < n; i++) {
        if (!(fabs(lp_grad_at(x, 0, i) - numbers[i]) <= 1e-11 * fmax(1.0, fabs(numbers[i]))))
            fail_msg("%s[%d] is %.17g, PyTorch has %.17g", what, (int)i, lp_grad_at(x, 0, i),
                     numbers[i]);
    }
}

static lp_tensor input(lp_tape* t, json_t* list) {
    double x[MAX];
    const int64_t n = json_flatten(list, x, MAX), rows = (int64_t)json_array_size(list);
    return lp_input_f64(t, rows, n / rows, x);
}

static void categorical(void** state) {
    (void)state;
    json_t *root = fixture_load("torch_ops.json"), *c;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t i;
    json_array_foreach(json_at(root, "categorical"), i, c) {
        lp_tape* t = lp_tape_create(ctx, LP_F64);
        lp_tensor z = input(t, json_at(c, "logits"));
        lp_dist p = lp_categorical(t, z),
                q = lp_categorical(t, input(t, json_at(c, "other_logits")));
        double a[MAX];
        int32_t action[MAX];
        const int64_t n = json_flatten(json_at(c, "action"), a, MAX);
        for (int64_t j = 0; j < n; j++) action[j] = (int32_t)a[j];
        check("log_prob", lp_log_prob(t, p, lp_const_i32(t, n, 1, action)), json_at(c, "log_prob"),
              1e-12);
        check("entropy", lp_entropy(t, p), json_at(c, "entropy"), 1e-12);
        check("kl", lp_kl(t, p, q), json_at(c, "kl"), 1e-12);
        lp_tape_destroy(t);
        for (int g = 0; g < 4; g++) {
            static const char* const names[] = {"grad_log_prob", "grad_entropy", "grad_kl",
                                                "grad_kl_other"};
            t = lp_tape_create(ctx, LP_F64);
            lp_tensor own = input(t, json_at(c, "logits")),
                      other = input(t, json_at(c, "other_logits"));
            p = lp_categorical(t, own), q = lp_categorical(t, other);
            lp_tensor y = g == 0   ? lp_log_prob(t, p, lp_const_i32(t, n, 1, action))
                          : g == 1 ? lp_entropy(t, p)
                                   : lp_kl(t, p, q);
            check_grad(t, names[g], y, g < 3 ? own : other, json_at(c, names[g]));
            lp_tape_destroy(t);
        }
    }
    assert_true(i >= 3);
    lp_ctx_destroy(ctx);
    json_decref(root);
}

static void normal(void** state) {
    (void)state;
    json_t *root = fixture_load("torch_ops.json"), *c;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t i;
    json_array_foreach(json_at(root, "normal"), i, c) {
        lp_tape* t = lp_tape_create(ctx, LP_F64);
        lp_dist p = lp_gaussian(t, input(t, json_at(c, "mean")), input(t, json_at(c, "log_std")));
        lp_dist q = lp_gaussian(t, input(t, json_at(c, "other_mean")),
                                input(t, json_at(c, "other_log_std")));
        check("log_prob", lp_log_prob(t, p, input(t, json_at(c, "action"))), json_at(c, "log_prob"),
              1e-12);
        check("entropy", lp_entropy(t, p), json_at(c, "entropy"), 1e-12);
        check("kl", lp_kl(t, p, q), json_at(c, "kl"), 1e-12);
        lp_tape_destroy(t);
        for (int g = 0; g < 7; g++) {
            static const struct {
                const char* name;
                int of, by; /* log_prob, entropy, kl; mean, log_std, and those of the other */
            } grads[] = {{"grad_log_prob_mean", 0, 0},   {"grad_log_prob_log_std", 0, 1},
                         {"grad_entropy_log_std", 1, 1}, {"grad_kl_mean", 2, 0},
                         {"grad_kl_log_std", 2, 1},      {"grad_kl_other_mean", 2, 2},
                         {"grad_kl_other_log_std", 2, 3}};
            t = lp_tape_create(ctx, LP_F64);
            lp_tensor in[] = {input(t, json_at(c, "mean")), input(t, json_at(c, "log_std")),
                              input(t, json_at(c, "other_mean")),
                              input(t, json_at(c, "other_log_std"))};
            p = lp_gaussian(t, in[0], in[1]), q = lp_gaussian(t, in[2], in[3]);
            lp_tensor y = grads[g].of == 0   ? lp_log_prob(t, p, input(t, json_at(c, "action")))
                          : grads[g].of == 1 ? lp_entropy(t, p)
                                             : lp_kl(t, p, q);
            check_grad(t, grads[g].name, y, in[grads[g].by], json_at(c, grads[g].name));
            lp_tape_destroy(t);
        }
    }
    assert_true(i >= 2);
    lp_ctx_destroy(ctx);
    json_decref(root);
}

/* Frequencies of 40,000 samples: chi-square with 4 degrees of freedom stays below 23.5 (p = 1e-4).
 * Gaussian: mean and variance within 5 standard errors. */
static void sampling(void** state) {
    (void)state;
    enum { N = 40000, K = 5 };
    static const double logits[K] = {0.1, -1.0, 1.5, 0.0, -0.3};
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    lp_dist pi = lp_categorical(t, lp_const_f64(t, 1, K, logits));
    const lp_rng rngs[] = {lp_rng_philox(1, LP_FOR_TEST, 0, 0), lp_rng_torch(1), lp_rng_numpy(1)};
    for (int r = 0; r < 3; r++) {
        lp_rng rng = rngs[r];
        int counts[K] = {0};
        double chi = 0;
        for (int i = 0; i < N; i++) counts[(int)lp_item(lp_sample(t, pi, &rng))]++;
        for (int j = 0; j < K; j++) {
            const double expected = N * exp(lp_at(pi.log_p, 0, j));
            chi += (counts[j] - expected) * (counts[j] - expected) / expected;
        }
        assert_true(chi < 23.5);
    }
    lp_rng rng = lp_rng_philox(2, LP_FOR_TEST, 0, 0);
    lp_dist gaussian = lp_gaussian(t, lp_shift(t, lp_zeros(t, N, 1), 2.0), lp_scalar(t, log(0.5)));
    lp_tensor x = lp_sample(t, gaussian, &rng);
    const double mean = lp_item(lp_mean(t, x));
    const double variance = lp_item(lp_mean(t, lp_square(t, lp_shift(t, x, -mean))));
    assert_close(mean, 2.0, 5 * 0.5 / sqrt(N));
    assert_close(variance, 0.25, 5 * 0.25 * sqrt(2.0 / N));
    lp_ctx_destroy(ctx);
}

/* The mode of a tie is the first of its entries; of a Gaussian, its mean. Neither lets a gradient
 * pass. */
static void mode(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const double z[9] = {0, 1, 1, 2, -1, 2, -3, -2, -1};
    const int want[3] = {1, 0, 2};
    lp_tensor in = lp_input_f64(t, 3, 3, z);
    lp_tensor best = lp_mode(t, lp_categorical(t, in)),
              mean = lp_mode(t, lp_gaussian(t, in, lp_scalar(t, 0.3)));
    for (int i = 0; i < 3; i++) assert_int_equal((int)lp_at(best, i, 0), want[i]);
    for (int i = 0; i < 9; i++) assert_close(lp_at(mean, 0, i), z[i], 0);
    assert_false(best->needs_grad || mean->needs_grad);
    lp_ctx_destroy(ctx);
}

/* An outcome that is ruled out (a logit of -inf) adds nothing to entropy and divergence, nor to
 * their gradients; where only q rules it out the divergence is infinite. As
 * torch.distributions.Categorical. */
static void ruled_out(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    for (int type = LP_F32; type <= LP_F64; type++) {
        lp_tape* t = lp_tape_create(ctx, (lp_dtype)type);
        const double z[3] = {0, -(double)INFINITY, log(3)},
                     other[3] = {log(2), -(double)INFINITY, 0}, all[3] = {0, 0, 0};
        lp_tensor in = lp_input_f64(t, 1, 3, z), in_q = lp_input_f64(t, 1, 3, other);
        lp_dist p = lp_categorical(t, in), q = lp_categorical(t, in_q),
                r = lp_categorical(t, lp_const_f64(t, 1, 3, all));
        lp_tensor entropy = lp_entropy(t, p), kl = lp_kl(t, p, q);
        const double h = -0.25 * log(0.25) - 0.75 * log(0.75);
        const double d = 0.25 * log(0.25 / (2.0 / 3)) + 0.75 * log(0.75 / (1.0 / 3));
        assert_close(lp_item(entropy), h, 1e-6);
        assert_close(lp_item(kl), d, 1e-6);
        assert_close(lp_item(lp_kl(t, p, r)), log(3) - h, 1e-6);
        assert_true(isinf(lp_item(lp_kl(t, r, p))));
        lp_tape* masked =
            lp_tape_create(ctx, (lp_dtype)type); /* an infinite divergence that does not count */
        lp_tensor in_r = lp_input_f64(masked, 1, 3, all);
        lp_tensor infinite = lp_kl(masked, lp_categorical(masked, in_r),
                                   lp_categorical(masked, lp_const_f64(masked, 1, 3, z)));
        assert_int_equal(lp_backward(masked, lp_clamp(masked, infinite, 0, 10)), LP_OK);
        for (int j = 0; j < 3; j++) assert_close(lp_grad_at(in_r, 0, j), 0, 0);
        lp_tape_destroy(masked);
        assert_int_equal(lp_backward(t, lp_add(t, entropy, kl)), LP_OK);
        /* dH/dz_j = -p_j (log p_j + H);  dD/dz_j = p_j (log p_j/q_j - D);  dD/dzq_j = q_j - p_j */
        const double pj[3] = {0.25, 0, 0.75}, qj[3] = {2.0 / 3, 0, 1.0 / 3};
        for (int j = 0; j < 3; j++) {
            const double want =
                j == 1 ? 0 : -pj[j] * (log(pj[j]) + h) + pj[j] * (log(pj[j] / qj[j]) - d);
            assert_close(lp_grad_at(in, 0, j), want, 1e-6);
            assert_close(lp_grad_at(in_q, 0, j), qj[j] - pj[j], 1e-6);
        }
        lp_tape_destroy(t);
    }
    lp_ctx_destroy(ctx);
}

/* The entropy of a Gaussian does not know its mean, be it infinite. */
static void entropy_without_the_mean(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const double mean[2] = {(double)INFINITY, 1}, log_std[2] = {0.3, -0.2};
    lp_dist pi = lp_gaussian(t, lp_const_f64(t, 1, 2, mean), lp_const_f64(t, 1, 2, log_std));
    assert_close(lp_item(lp_entropy(t, pi)), 1.0 + log(2 * acos(-1)) + 0.1, 1e-12);
    lp_ctx_destroy(ctx);
}

/* NaN logits: no action, a status, and later ops do nothing. */
static void nan_logits(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    lp_rng rng = lp_rng_philox(0, LP_FOR_TEST, 0, 0);
    const float z[2] = {0, NAN};
    lp_tensor a = lp_sample(t, lp_categorical(t, lp_const_f32(t, 1, 2, z)), &rng);
    assert_null(a);
    assert_int_equal(lp_tape_status(t), LP_NONFINITE);
    assert_null(lp_scalar(t, 1.0));
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numpy_program),
        cmocka_unit_test(torch_program),
        cmocka_unit_test(closed_form),
        cmocka_unit_test(large_logits),
        cmocka_unit_test(categorical),
        cmocka_unit_test(normal),
        cmocka_unit_test(sampling),
        cmocka_unit_test(mode),
        cmocka_unit_test(nan_logits),
        cmocka_unit_test(ruled_out),
        cmocka_unit_test(entropy_without_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
