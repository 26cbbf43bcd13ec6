/* Optimizers beside torch.optim (float32, 1e-6 of the parameter), clipping, and the steps that must be refused. */
#include "json.h"

#include <logpi/tensor.h>

enum { N = 12, STEPS = 10 };

static double setting(json_t* settings, const char* key, double standard) {
    json_t* value = json_object_get(settings, key);
    return json_is_number(value) ? json_number_value(value) : standard;
}

static lp_optim_def def_of(json_t* run) {
    static const char* const kinds[] = {"sgd", "adam", "adamw", "rmsprop"};
    const char* kind = json_string_value(json_at(run, "kind"));
    json_t* s = json_at(run, "settings");
    lp_optim_def def = {0};
    for (int i = 0; i < 4; i++) {
        if (strcmp(kind, kinds[i]) == 0) def = lp_optim_def_default((lp_optim_kind)i);
    }
    def.learning_rate = setting(s, "lr", def.learning_rate);
    def.momentum = setting(s, "momentum", 0);
    def.weight_decay = setting(s, "weight_decay", def.weight_decay);
    def.alpha = setting(s, "alpha", def.alpha);
    def.eps = setting(s, "eps", def.eps);
    json_t* betas = json_object_get(s, "betas");
    if (betas) {
        def.beta1 = json_number_value(json_array_get(betas, 0));
        def.beta2 = json_number_value(json_array_get(betas, 1));
    }
    return def;
}

static void set(lp_tensor x, const double* from, bool grad) {
    for (int64_t i = 0; i < x->rows * x->cols; i++) {
        if (x->type == LP_F64) {
            ((double*)(grad ? x->grad : x->data))[i] = from[i];
        } else {
            ((float*)(grad ? x->grad : x->data))[i] = (float)from[i];
        }
    }
}

static void torch_runs(void** state) {
    (void)state;
    json_t *root = fixture_load("torch_ops.json"), *all = json_at(root, "optimizers"), *run;
    double start[N], grads[STEPS * N], first[N], final[N];
    assert_int_equal(json_flatten(json_at(all, "start"), start, N), N);
    assert_int_equal(json_flatten(json_at(all, "grads"), grads, STEPS * N), STEPS * N);
    size_t i;
    json_array_foreach(json_at(all, "runs"), i, run) {
        json_flatten(json_at(run, "first"), first, N);
        json_flatten(json_at(run, "final"), final, N);
        const lp_optim_def def = def_of(run);
        for (int type = LP_F32; type <= LP_F64; type++) {
            lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
            lp_params* params = lp_params_create(ctx, (lp_dtype)type, true);
            lp_tensor w = lp_param(params, "w", 3, 4);
            lp_optim* optim;
            set(w, start, false);
            assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
            for (int step = 0; step < STEPS; step++) {
                set(w, grads + step * N, true);
                assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
                for (int j = 0; step == 0 && j < N; j++)
                    assert_close(lp_at(w, 0, j), first[j], 1e-6 * fmax(1, fabs(first[j])));
            }
            for (int j = 0; j < N; j++) {
                if (!(fabs(lp_at(w, 0, j) - final[j]) <= 2e-6 * fmax(1, fabs(final[j]))))
                    fail_msg("run %d (%s): w[%d] is %.9g, torch has %.9g", (int)i,
                             json_string_value(json_at(run, "kind")), j, lp_at(w, 0, j), final[j]);
            }
            lp_ctx_destroy(ctx);
        }
    }
    assert_true(i >= 8);
    json_decref(root);
}

static void clipping(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor w = lp_param(params, "w", 1, 2);
    lp_optim_def def = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    double norm;
    def.learning_rate = 1;
    def.max_grad_norm = 1;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
    const double g[2] = {3, 4};
    set(w, g, true);
    assert_int_equal(lp_optim_step(optim, &norm), LP_OK);
    assert_close(norm, 5, 1e-12);
    assert_close(lp_at(w, 0, 0), -0.6, 1e-6);
    assert_close(lp_at(w, 0, 1), -0.8, 1e-6);
    assert_close(lp_grad_at(w, 0, 1), 0, 0); /* cleared */
    lp_ctx_destroy(ctx);
}

/* A NaN or an infinity in any gradient: refused, named, and no number of any parameter moves. */
static void nonfinite_gradient(void** state) {
    (void)state;
    const double bad[] = {NAN, INFINITY, -INFINITY};
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        for (int b = 0; b < 3; b++) {
            lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
            lp_params* params = lp_params_create(ctx, LP_F32, true);
            lp_tensor first = lp_param(params, "first", 1, 3), second = lp_param(params, "second", 2, 2);
            const lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
            lp_optim* optim;
            assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
            for (int j = 0; j < 3; j++) lp_grad_f32(first)[j] = 1;
            lp_grad_f32(second)[3] = (float)bad[b];
            assert_int_equal(lp_optim_step(optim, NULL), LP_NONFINITE);
            assert_non_null(strstr(lp_error(ctx), "second"));
            assert_non_null(strstr(lp_error(ctx), "[1, 1]"));
            for (int j = 0; j < 3; j++) assert_close(lp_at(first, 0, j), 0, 0);
            lp_ctx_destroy(ctx);
        }
    }
}

static void zero_learning_rate(void** state) {
    (void)state;
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
        lp_tensor w = lp_param_randn(params, "w", 40, 40, &rng);
        float before[1600];
        memcpy(before, w->data, sizeof before);
        lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        lp_optim* optim;
        def.learning_rate = 0;
        assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
        lp_rng_normal_f32(&rng, w->grad, 1600);
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
        assert_memory_equal(before, w->data, sizeof before);
        lp_ctx_destroy(ctx);
    }
}

static void bad_settings(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_optim* optim;
    lp_optim_def def = lp_optim_def_default(LP_ADAM);
    def.learning_rate = -1;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_INVALID);
    assert_non_null(strstr(lp_error(ctx), "learning_rate"));
    def = lp_optim_def_default(LP_ADAM);
    def.beta2 = NAN;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_INVALID);
    assert_null(optim);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_runs),         cmocka_unit_test(clipping),     cmocka_unit_test(nonfinite_gradient),
        cmocka_unit_test(zero_learning_rate), cmocka_unit_test(bad_settings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
