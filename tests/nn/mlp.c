/* Perceptrons: the op beside the same layers one by one (1e-6 of the largest entry), its bits, and
 * how parameters begin. */
#include "testing.h"

#include <logpi/nn.h>

enum { IN = 5, WIDE = 70, OUT = 3, ROWS = 150 };

static lp_ctx* context(int threads, int isa) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    def.isa = isa;
    return lp_ctx_create(&def, NULL, 0);
}

static lp_mlp make(lp_params* params, lp_activation activation) {
    lp_mlp_def def = lp_mlp_def_default();
    def.inputs = IN;
    def.outputs = OUT;
    def.hidden[0] = WIDE;
    def.hidden[1] = 33;
    def.activation = activation;
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    lp_mlp mlp;
    assert_int_equal(lp_mlp_create(params, "net", &def, &rng, &mlp), LP_OK);
    for (int l = 0; l < 3; l++) lp_rng_normal_f32(&rng, mlp.bias[l]->data, mlp.bias[l]->cols);
    lp_params_changed(params);
    return mlp;
}

static lp_tensor one_by_one(lp_tape* t, const lp_mlp* mlp, lp_tensor x) {
    for (int l = 0; l < mlp->layers; l++) {
        x = lp_linear(t, x, mlp->weight[l], mlp->bias[l]);
        if (l + 1 < mlp->layers) x = mlp->activation == LP_TANH ? lp_tanh(t, x) : lp_relu(t, x);
    }
    return x;
}

static void compare(const float* got, const float* want, int64_t n) {
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        largest = fmax(largest, fabs((double)want[i]));
        worst = fmax(worst, fabs((double)got[i] - (double)want[i]));
    }
    assert_true(largest > 0);
    assert_true(worst <= 1e-6 * fmax(1.0, largest));
}

static void layers_one_by_one(void** state) {
    (void)state;
    for (int activation = LP_TANH; activation <= LP_RELU; activation++) {
        lp_ctx* ctx = context(2, -1);
        lp_params* params = lp_params_create(ctx, LP_F32, true);
        const lp_mlp mlp = make(params, (lp_activation)activation);
        float *grads[2][7], y[2][ROWS * OUT];
        for (int way = 0; way < 2; way++) {
            lp_tape* t = lp_tape_create(ctx, LP_F32);
            lp_rng rng = lp_rng_philox(2, LP_FOR_TEST, 0, 0);
            double x[ROWS * IN];
            lp_rng_normal_f64(&rng, x, ROWS * IN);
            lp_tensor in = lp_input_f64(t, ROWS, IN, x);
            lp_tensor out = way ? one_by_one(t, &mlp, in) : lp_mlp_forward(t, &mlp, in);
            memcpy(y[way], out->data, sizeof y[way]);
            lp_params_zero_grad(params);
            assert_int_equal(lp_backward(t, lp_mean(t, lp_square(t, out))), LP_OK);
            for (int k = 0; k < 7; k++) {
                lp_tensor p = k < 6 ? lp_params_get(params, k) : in;
                const size_t bytes = (size_t)(p->rows * p->cols) * sizeof(float);
                grads[way][k] = malloc(bytes);
                memcpy(grads[way][k], p->grad, bytes);
            }
            lp_tape_destroy(t);
        }
        compare(y[0], y[1], ROWS * OUT);
        for (int k = 0; k < 7; k++) {
            const int64_t n =
                k < 6 ? lp_params_get(params, k)->rows * lp_params_get(params, k)->cols : ROWS * IN;
            compare(grads[0][k], grads[1][k], n);
            free(grads[0][k]);
            free(grads[1][k]);
        }
        lp_ctx_destroy(ctx);
    }
}

/* A row alone has the bits that it has in company; gradients have the same bits on any number of
 * threads. */
static void bits(void** state) {
    (void)state;
    for (int isa = LP_ISA_SCALAR; isa < LP_ISA_COUNT; isa++) {
        float first[WIDE * IN];
        for (int threads = 1; threads <= 3; threads++) {
            lp_ctx* ctx = context(threads, isa);
            if (!ctx) break; /* an instruction set that this machine lacks */
            lp_params* params = lp_params_create(ctx, LP_F32, true);
            const lp_mlp mlp = make(params, LP_TANH);
            lp_tape* t = lp_tape_create(ctx, LP_F32);
            lp_rng rng = lp_rng_philox(2, LP_FOR_TEST, 0, 0);
            static float x[1000 * IN];
            lp_rng_normal_f32(&rng, x, 1000 * IN);
            lp_tensor y = lp_mlp_forward(t, &mlp, lp_const_f32(t, 1000, IN, x));
            for (int row = 0; row < 1000; row += 111) {
                lp_tensor alone = lp_mlp_forward(t, &mlp, lp_const_f32(t, 1, IN, x + row * IN));
                assert_memory_equal(alone->data, lp_f32(y) + row * OUT, OUT * sizeof(float));
            }
            assert_int_equal(lp_backward(t, lp_sum(t, lp_square(t, y))), LP_OK);
            lp_tensor w = lp_params_find(params, "net.0.weight");
            if (threads == 1) memcpy(first, w->grad, sizeof first);
            assert_memory_equal(w->grad, first, sizeof first);
            lp_ctx_destroy(ctx);
        }
    }
}

/* Rows (or columns) of an orthogonal matrix are orthonormal up to the gain; and it is not the same
 * matrix each time. */
static void orthogonal(void** state) {
    (void)state;
    lp_ctx* ctx = context(1, -1);
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, 0, 0);
    static const int64_t shapes[][2] = {{4, 9}, {9, 4}, {6, 6}, {1, 5}, {64, 64}};
    for (size_t k = 0; k < 5; k++) {
        for (int type = LP_F32; type <= LP_F64; type++) {
            lp_params* params = lp_params_create(ctx, (lp_dtype)type, true);
            lp_tensor w = lp_param(params, "w", shapes[k][0], shapes[k][1]);
            assert_int_equal(lp_init_orthogonal(ctx, w, 1.5, &rng), LP_OK);
            const bool wide = w->rows <= w->cols;
            const int64_t n = wide ? w->rows : w->cols, m = wide ? w->cols : w->rows;
            for (int64_t i = 0; i < n; i++) {
                for (int64_t j = 0; j <= i; j++) {
                    double dot = 0;
                    for (int64_t l = 0; l < m; l++)
                        dot += wide ? lp_at(w, i, l) * lp_at(w, j, l)
                                    : lp_at(w, l, i) * lp_at(w, l, j);
                    assert_close(dot, i == j ? 2.25 : 0, type == LP_F64 ? 1e-12 : 1e-6);
                }
            }
            const double corner = lp_at(w, 0, 0);
            assert_int_equal(lp_init_orthogonal(ctx, w, 1.5, &rng), LP_OK);
            assert_true(lp_at(w, 0, 0) != corner);
        }
    }
    lp_ctx_destroy(ctx);
}

/* A large matrix takes long: it looks whether to stop. */
static void cancelled(void** state) {
    (void)state;
    lp_ctx* ctx = context(1, -1);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_tensor w = lp_param(params, "w", 3, 3);
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, 0, 0);
    lp_cancel(ctx);
    assert_int_equal(lp_init_orthogonal(ctx, w, 1, &rng), LP_CANCELLED);
    for (int i = 0; i < 9; i++) assert_close(lp_at(w, 0, i), 0, 0);
    lp_ctx_destroy(ctx);
}

/* Parameters that are there already are left alone; sizes out of range are named. */
static void creation(void** state) {
    (void)state;
    lp_ctx* ctx = context(1, -1);
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    const lp_mlp mlp = make(params, LP_TANH), again = make(params, LP_TANH);
    assert_int_equal(lp_params_count(params), 6);
    for (int l = 0; l < 3; l++) assert_ptr_equal(mlp.weight[l], again.weight[l]);
    lp_mlp_def def = lp_mlp_def_default();
    lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 0, 0);
    lp_mlp none;
    def.inputs = 2;
    assert_int_equal(lp_mlp_create(params, "other", &def, &rng, &none), LP_INVALID);
    assert_non_null(strstr(lp_error(ctx), "outputs"));
    def.outputs = 2;
    def.hidden[1] = 0;
    assert_int_equal(lp_mlp_create(params, "other", &def, &rng, &none), LP_INVALID);
    def.hidden_layers = LP_MLP_LAYERS;
    assert_int_equal(lp_mlp_create(params, "other", &def, &rng, &none), LP_INVALID);
    assert_int_equal(lp_params_count(params), 6);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(layers_one_by_one), cmocka_unit_test(bits),
                                       cmocka_unit_test(orthogonal), cmocka_unit_test(cancelled),
                                       cmocka_unit_test(creation)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
