/* exp, log, tanh, sigmoid against the C library in double. */
#include "isas.h"

/* Distance from the true value in units of the last place of float at that value. */
static double ulps(float got, double want) {
    if (isnan(want)) return isnan(got) ? 0.0 : HUGE_VAL;
    if (isnan(got)) return HUGE_VAL;
    if (isinf(got) || isinf((float)want)) {
        /* At the edge of the range, infinity counts as 2^128, and so does what lies beyond it. */
        const double g = isinf(got) ? copysign(0x1p128, (double)got) : (double)got;
        const double w = fabs(want) > 0x1p128 ? copysign(0x1p128, want) : want;
        return fabs(g - w) / 0x1p104;
    }
    int exponent;
    (void)frexp(want, &exponent);
    const double unit = ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
    return fabs((double)got - want) / unit;
}

static double exact_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

typedef struct function {
    const char* name;
    void (*kernel)(int64_t n, const float* x, float* y);
    double (*exact)(double x);
    double limit; /* ulp */
} function;

enum { STRIDE = 1021, BATCH = 4096 };

static void check_batch(const function* f, const float* x, float* y, int64_t n, double* worst,
                        float* where) {
    f->kernel(n, x, y);
    for (int64_t i = 0; i < n; i++) {
        const double off = ulps(y[i], f->exact((double)x[i]));
        if (off > *worst) *worst = off, *where = x[i];
    }
}

/* Every 1021st of all floats, denormals, infinities and NaNs of both signs among them, and the
 * special values. */
static void accuracy(const lp__kernels* table) {
    const function functions[] = {
        {"exp", table->exp, exp, 2.0},
        {"log", table->log, log, 2.0},
        {"tanh", table->tanh, tanh, 4.0},
        {"sigmoid", table->sigmoid, exact_sigmoid, 4.0},
    };
    static float x[BATCH], y[BATCH];
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const function* f = &functions[i];
        double worst = 0.0;
        float where = 0.0f;
        int64_t n = 0;
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE) {
            x[n++] = float_of((uint32_t)bits);
            if (n == BATCH) check_batch(f, x, y, n, &worst, &where), n = 0;
        }
        static const float special[] = {
            0.0f,      -0.0f,      1.0f,        INFINITY,  -INFINITY,
            NAN,       -1.0f,      0x1p-149f,   0x1p-126f, 0x1.fffffep127f,
            -87.3366f, -103.9721f, -103.97209f, 88.72283f, 88.722839f,
            88.72284f, 0.625f,     -0.625f,     9.01f,     0x1.6a09e6p-1f};
        memcpy(x + n, special, LP__MIN(sizeof special, (size_t)(BATCH - n) * sizeof *x));
        n = LP__MIN(BATCH, n + (int64_t)(sizeof special / sizeof *special));
        check_batch(f, x, y, n, &worst, &where);
        /* Where the cuts between formulas and the most used arguments lie: every float of some
         * ranges. */
        static const float starts[] = {0.62f, 0.70f, 1.41f, 0.999f, 0.3465f, 88.7f, -0.3466f};
        for (size_t s = 0; s < sizeof starts / sizeof *starts; s++)
            for (uint32_t part = 0; part < 40; part++) {
                for (uint32_t b = 0; b < BATCH; b++)
                    x[b] = float_of(bits_of(starts[s]) + part * BATCH + b);
                check_batch(f, x, y, BATCH, &worst, &where);
            }
        print_message("             %-8s worst %.3f ulp at %a (limit %g)\n", f->name, worst,
                      (double)where, f->limit);
        assert_true(worst <= f->limit);
    }
}
static void test_accuracy(void** state) {
    (void)state;
    for_each_isa(accuracy);
}

static void limits(const lp__kernels* table) {
    const float x[] = {INFINITY, -INFINITY, 0.0f, -0.0f, -1.0f, 100.0f, -200.0f};
    float y[7];
    table->exp(7, x, y);
    assert_true(y[0] == INFINITY && y[1] == 0.0f && y[2] == 1.0f && y[5] == INFINITY &&
                y[6] == 0.0f);
    table->log(7, x, y);
    assert_true(y[0] == INFINITY && isnan(y[1]) && y[2] == -INFINITY && y[3] == -INFINITY &&
                isnan(y[4]));
    table->tanh(7, x, y);
    assert_true(y[0] == 1.0f && y[1] == -1.0f && y[2] == 0.0f && signbit(y[3]) && y[5] == 1.0f);
    table->sigmoid(7, x, y);
    assert_true(y[0] == 1.0f && y[1] == 0.0f && y[2] == 0.5f && y[3] == 0.5f && y[6] == 0.0f);
    const float one = 1.0f;
    table->log(1, &one, y);
    assert_true(y[0] == 0.0f);
}
static void test_limits(void** state) {
    (void)state;
    for_each_isa(limits);
}

/* A result depends on its argument alone: not on where in an array it stands, nor on the array's
 * start or length; in place or not. Nothing is written behind the end. */
static void placement(const lp__kernels* table) {
    enum { N = 150 };
    void (*const kernels[])(int64_t, const float*, float*) = {table->exp, table->log, table->tanh,
                                                              table->sigmoid};
    float x[N], whole[N], y[N + 1];
    uint64_t seed = 7;
    for (int i = 0; i < N; i++) x[i] = next_random(&seed) * 12.0f;
    for (size_t f = 0; f < 4; f++) {
        kernels[f](N, x, whole);
        for (int start = 0; start < 40; start++)
            for (int n = 0; n <= 70; n++) {
                y[start + n] = 123.0f;
                kernels[f](n, x + start, y + start);
                assert_memory_equal(y + start, whole + start, (size_t)n * sizeof *y);
                assert_true(y[start + n] == 123.0f);
            }
        memcpy(y, x, sizeof x);
        kernels[f](N, y, y);
        assert_memory_equal(y, whole, sizeof whole);
    }
}
static void test_placement(void** state) {
    (void)state;
    for_each_isa(placement);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_accuracy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
