/* Reductions: right, and the same bits for the same numbers wherever they lie. */
#include "isas.h"

enum { N = 1000, SPACE = N + 32 };

static void values(const lp__kernels* table) {
    static const int64_t counts[] = {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 200, N};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const int64_t n = counts[c];
        float *x = random_floats(n, 1), *y = random_floats(n, 2), *e = random_floats(n, 3);
        double dot = 0, size = 0, squares = 0, sum = 0;
        float largest = -INFINITY;
        for (int64_t i = 0; i < n; i++) {
            dot += (double)x[i] * (double)y[i];
            size += fabs((double)x[i] * (double)y[i]);
            squares += (double)x[i] * (double)x[i];
            sum += exp((double)x[i] - 0.25);
            largest = fmaxf(largest, x[i]);
        }
        assert_close(table->dot(n, x, y), dot, 1e-6 * size);
        assert_close(table->dot_f64(n, x, y), dot, 1e-14 * size);
        assert_close(table->sum_squares(n, x), squares, 1e-14 * squares);
        assert_true(table->max(n, x) == largest);

        /* Each term is within 2 ulp of e^(x - 1/4), whose argument was rounded once. */
        const double total = table->sum_exp(n, x, 0.25f, NULL);
        assert_close(total, sum, 2.5e-7 * sum);
        assert_true(table->sum_exp(n, x, 0.25f, e) == total);
        double written = 0;
        for (int64_t i = 0; i < n; i++) {
            float shifted = x[i] - 0.25f, alone;
            table->exp(1, &shifted, &alone);
            assert_true(e[i] == alone);
            written += (double)e[i];
        }
        assert_close(total, written, 1e-14 * written);
        free(x), free(y), free(e);
    }
}
static void test_values(void** state) {
    (void)state;
    for_each_isa(values);
}

static void special_values(const lp__kernels* table) {
    float* x = random_floats(100, 1);
    for (int i = 0; i < 100; i++) {
        const float kept = x[i];
        x[i] = 7.0f;
        assert_true(table->max(100, x) == 7.0f);
        for (int n = 1; n <= 100;
             n++) /* a maximum of negative numbers is not the 0 of a masked lane */
            if (n == 1 || n == 17 || n == i + 1) {
                float negative[100];
                for (int j = 0; j < n; j++) negative[j] = -2.0f - fabsf(x[j]);
                negative[n - 1] = -1.5f;
                assert_true(table->max(n, negative) == -1.5f);
            }
        x[i] = NAN;
        assert_true(isnan(table->max(100, x)));
        x[i] = INFINITY;
        assert_true(table->max(100, x) == INFINITY);
        x[i] = -INFINITY;
        assert_true(table->sum_exp(1, x + i, 0.0f, NULL) == 0.0);
        x[i] = kept;
    }
    free(x);
}
static void test_special_values(void** state) {
    (void)state;
    for_each_isa(special_values);
}

static void alignment(const lp__kernels* table) {
    float x[SPACE], y[SPACE], e[SPACE];
    float *from_x = random_floats(N, 1), *from_y = random_floats(N, 2);
    for (int n = 0; n <= N; n += n < 140 ? 1 : 43) {
        const float dot = table->dot(n, from_x, from_y), largest = table->max(n, from_x);
        const double dot64 = table->dot_f64(n, from_x, from_y);
        const double squares = table->sum_squares(n, from_x);
        const double sum = table->sum_exp(n, from_x, 1.5f, NULL);
        for (int offset = 0; offset < 17; offset++) {
            memcpy(x + offset, from_x, (size_t)n * sizeof *x);
            memcpy(y + 16 - offset, from_y, (size_t)n * sizeof *y);
            assert_true(bits_of(table->dot(n, x + offset, y + 16 - offset)) == bits_of(dot));
            assert_true(table->dot_f64(n, x + offset, y + 16 - offset) == dot64);
            assert_true(table->sum_squares(n, x + offset) == squares);
            assert_true(table->max(n, x + offset) == largest);
            assert_true(table->sum_exp(n, x + offset, 1.5f, e + offset) == sum);
        }
    }
    free(from_x), free(from_y);
}
static void test_alignment(void** state) {
    (void)state;
    for_each_isa(alignment);
}

static void blocks(const lp__kernels* table) {
    for (int n = 0; n <= N; n += n < 140 ? 1 : 43) {
        float* x = random_floats(n, 4);
        float max[N / LP__BLOCK + 1];
        double sums[N / LP__BLOCK + 1];
        for (int i = 0; i < n; i++) x[i] -= 4.0f; /* a maximum is not the 0 of a masked lane */
        table->block_max(n, x, max);
        table->block_sums(n, x, sums);
        for (int from = 0; from < n; from += LP__BLOCK) {
            double sum = 0, size = 0;
            float largest = -INFINITY;
            for (int i = from; i < n && i < from + LP__BLOCK; i++) {
                sum += (double)x[i];
                size += fabs((double)x[i]);
                largest = fmaxf(largest, x[i]);
            }
            assert_true(max[from / LP__BLOCK] == largest);
            assert_close(sums[from / LP__BLOCK], sum, 1e-14 * size);
        }
        for (int i = 0; i < n; i++) {
            int first = 0;
            while (x[first] != x[i]) first++;
            assert_int_equal(table->find(n, x, x[i]), first);
        }
        assert_int_equal(table->find(n, x, 77.0f), n);
        free(x);
    }
}
static void test_blocks(void** state) {
    (void)state;
    for_each_isa(blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_alignment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
