/* Optimizers beside torch.optim (float32, 1e-6 of the parameter), clipping, and the steps that must
 * be refused. */
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
    assert_close(lp_grad_at(w, 0, 1), 0, 0);                /* cleared */
    const double zero[2] = {0, 0}, small[2] = {0.03, 0.04}; /* below the limit: as it is */
    set(w, zero, false);
    set(w, small, true);
    assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    assert_close(lp_at(w, 0, 0), -0.03, 1e-8);
    assert_close(lp_at(w, 0, 1), -0.04, 1e-8);
    lp_ctx_destroy(ctx);
}

/* A set of two parameters with weights, and an optimizer of it. */
typedef struct pair {
    lp_ctx* ctx;
    lp_params* params;
    lp_tensor first, second; /* [1, 3], [2, 2] */
    lp_optim* optim;
} pair;

static pair pair_make(lp_dtype type, const lp_optim_def* def) {
    pair p = {.ctx = lp_ctx_create(NULL, NULL, 0)};
    const double weights[4] = {0.5, -1.5, 2.0, -0.25};
    p.params = lp_params_create(p.ctx, type, true);
    p.first = lp_param(p.params, "first", 1, 3);
    p.second = lp_param(p.params, "second", 2, 2);
    set(p.first, weights, false);
    set(p.second, weights, false);
    assert_int_equal(lp_optim_create(p.params, def, &p.optim), LP_OK);
    return p;
}

static lp_status pair_step(const pair* p, double last) {
    const double g[4] = {0.1, -0.2, 0.3, last};
    set(p->first, g, true);
    set(p->second, g, true);
    return lp_optim_step(p->optim, NULL);
}

/* A NaN or an infinity in any gradient: refused, named, and nothing moves: no weight, and no moment
 * either, so that the steps after it are those of an optimizer that never saw it. */
static void nonfinite_gradient(void** state) {
    (void)state;
    const double bad[] = {(double)NAN, (double)INFINITY, (double)-INFINITY};
    for (int i = 0; i < 4 * 3 * 2; i++) {
        lp_optim_def def = lp_optim_def_default((lp_optim_kind)(i / 6));
        const lp_dtype type = i % 2 ? LP_F64 : LP_F32;
        if (def.kind == LP_SGD || def.kind == LP_RMSPROP) def.momentum = 0.9;
        pair p = pair_make(type, &def), clean = pair_make(type, &def);
        const size_t bytes = type == LP_F64 ? sizeof(double) : sizeof(float);
        for (int step = 0; step < 3; step++) {
            assert_int_equal(pair_step(&clean, 0.4), LP_OK);
            assert_int_equal(pair_step(&p, bad[i / 2 % 3]), LP_NONFINITE);
            assert_non_null(strstr(lp_error(p.ctx), "second"));
            assert_non_null(strstr(lp_error(p.ctx), "[1, 1]"));
            assert_int_equal(pair_step(&p, 0.4), LP_OK);
            assert_memory_equal(p.first->data, clean.first->data, 3 * bytes);
            assert_memory_equal(p.second->data, clean.second->data, 4 * bytes);
        }
        lp_ctx_destroy(p.ctx);
        lp_ctx_destroy(clean.ctx);
    }
}

enum { MANY = 1600 };

/* Two steps at the given rate and one at 0.01, from the same weights, some of them 0 and -0, with
 * the same gradients. after: the weights in the end. Rate 0 must not have changed a bit before, not
 * even the sign of a zero: -0 - (-0) would be +0. */
static void warm_up(lp_dtype type, lp_optim_kind kind, double rate, double* after) {
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = lp_params_create(ctx, type, true);
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    lp_tensor w = lp_param_randn(params, "w", 40, MANY / 40, &rng);
    double before[MANY], start[MANY], grads[MANY];
    lp_rng_normal_f64(&rng, grads, MANY);
    for (int64_t j = 0; j < MANY; j++) start[j] = j % 7 ? lp_at(w, 0, j) : j % 2 ? -0.0 : 0.0;
    set(w, start, false);
    const size_t bytes = MANY * (type == LP_F64 ? sizeof(double) : sizeof(float));
    memcpy(before, w->data, bytes);
    lp_optim_def def = lp_optim_def_default(kind);
    lp_optim* optim;
    def.learning_rate = rate;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
    for (int step = 0; step < 2; step++) {
        set(w, grads, true);
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    }
    if (rate == 0) assert_memory_equal(before, w->data, bytes);
    set(w, grads, true);
    lp_optim_set_learning_rate(optim, 0.01);
    assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    for (int64_t j = 0; j < MANY; j++) after[j] = lp_at(w, 0, j);
    lp_ctx_destroy(ctx);
}

/* The moments go on at rate 0: a rate that rises later steps as after one that was too small to
 * see, within 1e-6. */
static void zero_learning_rate(void** state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        double zero[MANY], tiny[MANY];
        warm_up(i % 2 ? LP_F64 : LP_F32, (lp_optim_kind)(i / 2), 0, zero);
        warm_up(i % 2 ? LP_F64 : LP_F32, (lp_optim_kind)(i / 2), 1e-30, tiny);
        for (int64_t j = 0; j < MANY; j++) assert_close(zero[j], tiny[j], 1e-6);
    }
}

/* float steps beside double ones, from weights of 0 so that the step itself is what is seen: 1e-6
 * of the way that the largest weight went. (1 - 0.999f is wrong in its fifth digit: it would show
 * as 6e-6.) */
static void float_follows_double(void** state) {
    (void)state;
    enum { SIZE = 997 };
    lp_optim_def defs[6];
    for (int i = 0; i < 4; i++) defs[i] = lp_optim_def_default((lp_optim_kind)i);
    defs[0].momentum = defs[3].momentum = 0.9;
    defs[4] = defs[5] = lp_optim_def_default(LP_ADAM);
    defs[4].weight_decay = 0.01;
    defs[5].max_grad_norm = 0.5;
    for (int i = 0; i < 6; i++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_rng rng = lp_rng_philox(4, LP_FOR_TEST, 0, 0);
        lp_tensor w[2];
        lp_optim* optim[2];
        for (int type = LP_F32; type <= LP_F64; type++) {
            lp_params* params = lp_params_create(ctx, (lp_dtype)type, true);
            w[type] = lp_param(params, "w", 1, SIZE);
            assert_int_equal(lp_optim_create(params, &defs[i], &optim[type]), LP_OK);
        }
        for (int step = 0; step < 5; step++) {
            float narrow[SIZE];
            double grads[SIZE], worst = 0, largest = 0;
            lp_rng_normal_f32(&rng, narrow, SIZE);
            for (int j = 0; j < SIZE; j++) grads[j] = (double)narrow[j];
            for (int type = LP_F32; type <= LP_F64; type++) {
                set(w[type], grads, true);
                assert_int_equal(lp_optim_step(optim[type], NULL), LP_OK);
            }
            for (int j = 0; j < SIZE; j++) {
                worst = fmax(worst, fabs(lp_at(w[LP_F32], 0, j) - lp_at(w[LP_F64], 0, j)));
                largest = fmax(largest, fabs(lp_at(w[LP_F64], 0, j)));
            }
            if (!(worst <= 1e-6 * largest))
                fail_msg("settings %d, step %d: off by %g of %g", i, step, worst, largest);
        }
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
    def.beta2 = (double)NAN;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_INVALID);
    assert_null(optim);
    lp_ctx_destroy(ctx);
}

/* A parameter of several pieces and a rest: every element takes the same step. */
static void every_element_moves(void** state) {
    (void)state;
    enum { COLS = 100003 };
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_tensor w = lp_param(params, "w", 1, COLS);
        const lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        lp_optim* optim;
        double norm;
        assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
        for (int j = 0; j < COLS; j++) lp_grad_f32(w)[j] = 0.5f;
        assert_int_equal(lp_optim_step(optim, &norm), LP_OK);
        assert_close(norm, 0.5 * sqrt(COLS), 1e-9 * COLS);
        assert_true(lp_at(w, 0, 0) < 0);
        for (int j = 1; j < COLS; j++) assert_close(lp_at(w, 0, j), lp_at(w, 0, 0), 1e-9);
        lp_ctx_destroy(ctx);
    }
}

/* torch.optim's standard settings */
static void standard_settings(void** state) {
    (void)state;
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        const lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        assert_close(def.weight_decay, kind == LP_ADAMW ? 0.01 : 0.0, 0);
        assert_close(def.learning_rate, 1e-3, 0);
        assert_close(def.beta1, 0.9, 0);
        assert_close(def.beta2, 0.999, 0);
        assert_close(def.eps, 1e-8, 0);
        assert_close(def.alpha, 0.99, 0);
    }
}

/* w . w by the packed copy of w, beside the sum over its elements */
static void assert_packed_follows(lp_ctx* ctx, lp_tensor w) {
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    double square = 0;
    for (int64_t j = 0; j < w->cols; j++) square += lp_at(w, 0, j) * lp_at(w, 0, j);
    assert_close(lp_item(lp_linear(t, w, w, NULL)), square, 1e-3 * square);
    lp_tape_destroy(t);
}

/* Back at a savepoint everything is as it was: the same gradients lead to the same bits once more,
 * from the count of steps that Adam corrects by to the packed copy of a weight. */
static void savepoints(void** state) {
    (void)state;
    enum { COLS = 70001 };
    for (int kind = LP_SGD; kind <= LP_RMSPROP; kind++) {
        lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        lp_rng rng = lp_rng_philox(4, LP_FOR_TEST, 0, 0);
        lp_tensor w = lp_param_randn(params, "w", 1, COLS, &rng),
                  b = lp_param_randn(params, "b", 1, 3, &rng);
        lp_optim_def def = lp_optim_def_default((lp_optim_kind)kind);
        def.momentum = 0.9;
        def.learning_rate = 0.1;
        lp_optim* optim;
        assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
        float *course[3][2], *grad = malloc(COLS * sizeof(float));
        lp_rng_normal_f32(&rng, grad, COLS);
        for (int round = 0; round < 3;
             round++) { /* two steps; back; the same two; back; the same two */
            if (round == 0) {
                memcpy(lp_grad_f32(w), grad, COLS * sizeof(float));
                assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
                assert_int_equal(lp_optim_savepoint(optim), LP_OK);
            } else {
                lp_optim_rollback(optim);
            }
            assert_packed_follows(ctx, w);
            for (int step = 0; step < 2; step++) {
                memcpy(lp_grad_f32(w), grad, COLS * sizeof(float));
                lp_grad_f32(b)[0] = 1;
                assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
            }
            for (int i = 0; i < 2; i++) {
                lp_tensor x = i == 0 ? w : b;
                const size_t bytes = (size_t)x->cols * sizeof(float);
                course[round][i] = malloc(bytes);
                memcpy(course[round][i], x->data, bytes);
                assert_memory_equal(course[round][i], course[0][i], bytes);
            }
            assert_packed_follows(ctx, w);
        }
        for (int i = 0; i < 6; i++) free(course[i / 2][i % 2]);
        free(grad);
        lp_ctx_destroy(ctx);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(torch_runs),           cmocka_unit_test(clipping),
        cmocka_unit_test(every_element_moves),  cmocka_unit_test(standard_settings),
        cmocka_unit_test(savepoints),           cmocka_unit_test(nonfinite_gradient),
        cmocka_unit_test(zero_learning_rate),   cmocka_unit_test(bad_settings),
        cmocka_unit_test(float_follows_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
