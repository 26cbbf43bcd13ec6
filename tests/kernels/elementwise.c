/* axpy, SwiGLU and Adam against double, at every length of tail. */
#include "isas.h"

enum { N = 83, GUARD = 16 };

static void axpy(const lp__kernels* table) {
    for (int n = 0; n <= N; n++) {
        float *x = random_floats(n, 1), *y = random_floats(n + GUARD, 2);
        float* before = random_floats(n + GUARD, 2);
        table->axpy(n, 0.7f, x, y);
        for (int i = 0; i < n; i++)
            assert_close(y[i], (double)0.7f * (double)x[i] + (double)before[i], 1.2e-7);
        assert_memory_equal(y + n, before + n, GUARD * sizeof *y);
        free(x), free(y), free(before);
    }
}
static void test_axpy(void** state) {
    (void)state;
    for_each_isa(axpy);
}

/* Tolerance: a few roundings of numbers below 8. The gradients are checked against central
 * differences of the exact function besides, so that the formula in the test is not the kernel's
 * own. */
static double silu(double g) { return g / (1.0 + exp(-g)); }

static void swiglu(const lp__kernels* table) {
    for (int n = 0; n <= N; n++) {
        float *gate = random_floats(n, 1), *up = random_floats(n, 2), *dy = random_floats(n, 3);
        float *y = random_floats(n + GUARD, 4), *dgate = random_floats(n + GUARD, 5);
        float *dup = random_floats(n + GUARD, 6), *y0 = random_floats(n + GUARD, 4);
        float *dgate0 = random_floats(n + GUARD, 5), *dup0 = random_floats(n + GUARD, 6);
        for (int i = 0; i < n; i++) gate[i] *= 6.0f;
        table->swiglu(n, gate, up, y);
        table->swiglu_backward(n, gate, up, dy, dgate, dup);
        for (int i = 0; i < n; i++) {
            const double g = (double)gate[i], u = (double)up[i], d = (double)dy[i], h = 1e-5;
            assert_close(y[i], silu(g) * u, 1e-6);
            const double slope = (silu(g + h) - silu(g - h)) / (2 * h);
            assert_close(dgate[i], (double)dgate0[i] + d * u * slope, 1e-6);
            assert_close(dup[i], (double)dup0[i] + d * silu(g), 1e-6);
        }
        assert_memory_equal(y + n, y0 + n, GUARD * sizeof *y);
        assert_memory_equal(dgate + n, dgate0 + n, GUARD * sizeof *y);
        assert_memory_equal(dup + n, dup0 + n, GUARD * sizeof *y);
        free(gate), free(up), free(dy), free(y), free(dgate), free(dup);
        free(y0), free(dgate0), free(dup0);
    }
}
static void test_swiglu(void** state) {
    (void)state;
    for_each_isa(swiglu);
}

/* Ten steps of AdamW beside the same in double. 2e-6 is about ten roundings of weights below 1; a
 * beta2 rounded to float before it is subtracted from 1 would move v by 1.3e-5 of itself. */
static void adam(const lp__kernels* table) {
    const double lr = 0.01, b1 = 0.9, b2 = 0.999, eps = 1e-8, weight_decay = 0.1, scale = 0.5;
    float *w = random_floats(N + GUARD, 1), *w0 = random_floats(N + GUARD, 1);
    float m[N + GUARD] = {0}, v[N + GUARD] = {0};
    double exact_w[N], exact_m[N] = {0}, exact_v[N] = {0};
    for (int i = 0; i < N; i++) exact_w[i] = (double)w[i];
    for (int t = 1; t <= 10; t++) {
        float* g = random_floats(N, 100 + (uint64_t)t);
        const double bias1 = 1.0 - pow(b1, t), root2 = sqrt(1.0 - pow(b2, t));
        table->adam(N, w, g, m, v, (float)scale, b1, b2, (float)(lr / bias1), (float)root2,
                    (float)eps, (float)(lr * weight_decay));
        for (int i = 0; i < N; i++) {
            const double gi = (double)g[i] * scale;
            exact_m[i] = b1 * exact_m[i] + (1.0 - b1) * gi;
            exact_v[i] = b2 * exact_v[i] + (1.0 - b2) * gi * gi;
            exact_w[i] = exact_w[i] * (1.0 - lr * weight_decay) -
                         lr / bias1 * exact_m[i] / (sqrt(exact_v[i]) / root2 + eps);
            assert_close(m[i], exact_m[i], 1e-7);
            assert_close(v[i], exact_v[i], 5e-7 * exact_v[i]);
            assert_close(w[i], exact_w[i], 2e-6);
        }
        free(g);
    }
    assert_memory_equal(w + N, w0 + N, GUARD * sizeof *w);
    for (int i = N; i < N + GUARD; i++) assert_true(m[i] == 0.0f && v[i] == 0.0f);

    /* A weight has the same bits wherever it stands. */
    float *g = random_floats(N, 9), *a = random_floats(N, 1), *b = random_floats(N, 1);
    float ma[N] = {0}, va[N] = {0}, mb[N] = {0}, vb[N] = {0};
    table->adam(N, a, g, ma, va, 1.0f, b1, b2, 0.1f, 0.03f, 1e-8f, 0.0f);
    for (int i = 0; i < N; i++)
        table->adam(1, b + i, g + i, mb + i, vb + i, 1.0f, b1, b2, 0.1f, 0.03f, 1e-8f, 0.0f);
    assert_memory_equal(a, b, N * sizeof *a);
    assert_memory_equal(va, vb, sizeof va);
    free(g), free(a), free(b), free(w), free(w0);
}
static void test_adam(void** state) {
    (void)state;
    for_each_isa(adam);
}

/* The slope of tanh, rounded like the plain formula; and sums of rows, each column one chain: to
 * the bit, whatever the width. */
static void slopes_and_rows(const lp__kernels* table) {
    enum { ROWS = 5 };
    float y[ROWS * N], d[ROWS * N], want[N + GUARD], got[N + GUARD];
    for (int i = 0; i < ROWS * N; i++) {
        y[i] = 2.0f * (float)(i * 37 % 101) / 101.0f - 1.0f;
        d[i] = (float)(i * 53 % 89) - 44.5f;
    }
    for (int n = 0; n <= N; n++) {
        for (int j = 0; j < N + GUARD; j++) got[j] = want[j] = 0.25f * (float)j;
        for (int r = 0; r < ROWS; r++) {
            for (int j = 0; j < n; j++) want[j] += d[r * n + j];
        }
        table->add_rows(ROWS, n, d, got);
        assert_memory_equal(got, want, sizeof got);
        memcpy(got, d, sizeof got);
        memcpy(want, d, sizeof want);
        for (int j = 0; j < n; j++) {
            const float square = y[j] * y[j], slope = 1.0f - square;
            want[j] = d[j] * slope;
        }
        table->tanh_backward(n, y, got);
        assert_memory_equal(got, want, sizeof got);
    }
}
static void slopes_and_rows_of_all(void** state) {
    (void)state;
    for_each_isa(slopes_and_rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_axpy),
        cmocka_unit_test(test_swiglu),
        cmocka_unit_test(slopes_and_rows_of_all),
        cmocka_unit_test(test_adam),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
