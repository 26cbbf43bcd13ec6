/* Rows of a transformer and what finishes a tile, beside the formulas in double: every length of
 * tail, guards behind it. Derivatives are compared with central differences of the exact function.
 * Tolerances: a few roundings of numbers below 8; in bf16 half a unit of its 8 bits more. */
#include "isas.h"

enum { N = 83, GUARD = 16 };

typedef struct row {
    float *x, *before;
    int n;
} row;
static row row_make(int n, uint64_t seed) {
    return (row){random_floats(n + GUARD, seed), random_floats(n + GUARD, seed), n};
}
/* Nothing behind the row was written; frees it. */
static void row_end(row* r) {
    assert_memory_equal(r->x + r->n, r->before + r->n, GUARD * sizeof *r->x);
    free(r->x), free(r->before);
}

static void plain_rows(const lp__kernels* table) {
    for (int n = 0; n <= N; n++) {
        row x = row_make(n, 1), y = row_make(n, 2), z = row_make(n, 3);
        table->add(n, x.x, y.x, z.x);
        double sum = 0;
        for (int i = 0; i < n; i++) {
            const float added = x.x[i] + y.x[i];
            assert_int_equal(bits_of(z.x[i]), bits_of(added));
            sum += (double)x.x[i];
        }
        assert_close(table->sum(n, x.x), sum, 1e-12);
        table->add(n, x.x, y.x, y.x); /* in place */
        assert_memory_equal(y.x, z.x, (size_t)n * sizeof *z.x);
        table->scale(n, -0.3f, y.x);
        for (int i = 0; i < n; i++) {
            const float scaled = -0.3f * z.x[i];
            assert_int_equal(bits_of(y.x[i]), bits_of(scaled));
        }
        row_end(&x), row_end(&y), row_end(&z);
    }
}
static void test_plain_rows(void** state) {
    (void)state;
    for_each_isa(plain_rows);
}

/* The n numbers of a row of words. */
static double* numbers_of(const lp__format* format, int n, const lp__word* words) {
    float* x = malloc((size_t)(n + 1) * sizeof *x);
    double* wide = malloc((size_t)(n + 1) * sizeof *wide);
    assert_non_null(x), assert_non_null(wide);
    format->load(n, words, x);
    for (int i = 0; i < n; i++) wide[i] = (double)x[i];
    free(x);
    return wide;
}

static int padded(int n) { return (n + LP__PADDING - 1) / LP__PADDING * LP__PADDING; }

/* Scores up to 30 from each other; p in double, its sum and its base-2 logarithm. Behind n lies
 * NaN, which must not be looked at. */
static double exact_softmax(int n, float scale, const float* s, double* p, double* log_sum) {
    double max = -HUGE_VAL, sum = 0;
    for (int i = 0; i < n; i++) max = fmax(max, (double)scale * (double)s[i]);
    for (int i = 0; i < n; i++) sum += p[i] = exp2((double)scale * (double)s[i] - max);
    *log_sum = max + log2(sum);
    return sum;
}

/* Of numbers in bf16 half a unit of 8 bits. */
static double half_unit(const lp__format* format) { return format->numbers == 2 ? 0x1p-8 : 0; }

static void softmax_rows(const lp__kernels* table) {
    const float scale = 1.7f;
    for (int n = 1; n <= N; n++) {
        for (int number = 0; number < 2; number++) {
            const lp__format* format = &table->format[number];
            const int room = padded(n), more = room + 5 * LP__PADDING;
            row s = row_make(room, 1), p = row_make(room, 2), again = row_make(more, 1);
            row q = row_make(more, 3);
            double want[N], log_sum;
            float max, other_max;
            for (int i = 0; i < n; i++) again.x[i] = s.x[i] *= 10;
            for (int i = n; i < room; i++) s.x[i] = NAN;
            for (int i = n; i < more; i++) again.x[i] = NAN;
            const double total = exact_softmax(n, scale, s.x, want, &log_sum);
            const double sum = format->soften(n, room, scale, s.x, p.x, &max);
            assert_close(sum / total, 1, 1e-6);
            assert_close((double)scale * (double)max + log2(sum), log_sum, 3e-6);
            double* got = numbers_of(format, room, p.x);
            for (int i = 0; i < room; i++) {
                const double exact = i < n ? want[i] : 0;
                assert_close(got[i], exact, (3e-6 + half_unit(format)) * exact);
            }
            /* the same bits with more padding */
            assert_true(format->soften(n, more, scale, again.x, q.x, &other_max) == sum);
            assert_int_equal(bits_of(other_max), bits_of(max));
            assert_memory_equal(q.x, p.x, (size_t)(room / format->numbers) * sizeof *p.x);
            row_end(&s), row_end(&p), row_end(&again), row_end(&q);
            free(got);
        }
    }
}
static void test_softmax_rows(void** state) {
    (void)state;
    for_each_isa(softmax_rows);
}

/* Far below the maximum a weight is 0, however large the scores; one that is NaN, or an infinite
 * maximum, is seen. */
static void softmax_extremes(const lp__kernels* table) {
    for (int at = 0; at < 3 * LP__PADDING; at++) {
        float s[3 * LP__PADDING], p[3 * LP__PADDING], max;
        for (int i = 0; i < 3 * LP__PADDING; i++) s[i] = i == at ? 0.0f : -130.0f;
        const lp__format* format = &table->format[LP__F32];
        assert_true(format->soften(3 * LP__PADDING, 3 * LP__PADDING, 1, s, p, &max) == 1.0);
        for (int i = 0; i < 3 * LP__PADDING; i++) assert_true(p[i] == (i == at ? 1.0f : 0.0f));
        for (int i = 0; i < 3 * LP__PADDING; i++) s[i] = i == at ? 1.7e33f : -3e38f;
        assert_true(format->soften(3 * LP__PADDING, 3 * LP__PADDING, 0.18f, s, p, &max) == 1.0);
        assert_true(p[at] == 1.0f);
        s[at] = at % 2 ? NAN : INFINITY;
        assert_true(isnan(format->soften(3 * LP__PADDING, 3 * LP__PADDING, 1, s, p, &max)));
    }
}
static void test_softmax_extremes(void** state) {
    (void)state;
    for_each_isa(softmax_extremes);
}

static void softmax_back_rows(const lp__kernels* table) {
    const float scale = 1.7f, factor = 0.35f;
    for (int n = 1; n <= N; n++) {
        for (int number = 0; number < 2; number++) {
            const lp__format* format = &table->format[number];
            const int room = padded(n);
            row s = row_make(room, 1), d = row_make(room, 2), p = row_make(room, 3);
            row ds = row_make(room, 4);
            double want[N], log_sum, mean = 0;
            for (int i = 0; i < n; i++) s.x[i] *= 3;
            for (int i = n; i < room; i++) s.x[i] = d.x[i] = NAN;
            const double sum = exact_softmax(n, scale, s.x, want, &log_sum);
            for (int i = 0; i < n; i++) want[i] /= sum, mean += want[i] * (double)d.x[i];
            const float max = 0.7f, weight = (float)exp2((double)scale * (double)max - log_sum);
            format->soften_back(n, room, scale, max, weight, factor, s.x, d.x, p.x, ds.x);
            double *got = numbers_of(format, room, p.x), *back = numbers_of(format, room, ds.x);
            for (int i = 0; i < room; i++) {
                const double exact = i < n ? want[i] : 0;
                const double slope =
                    i < n ? (double)factor * exact * ((double)d.before[i] - mean) : 0;
                assert_close(got[i], exact, (2e-6 + half_unit(format)) * exact);
                assert_close(back[i], slope, 1e-6 * exact + half_unit(format) * fabs(slope));
            }
            row_end(&s), row_end(&d), row_end(&p), row_end(&ds);
            free(got), free(back);
        }
    }
}
static void test_softmax_back_rows(void** state) {
    (void)state;
    for_each_isa(softmax_back_rows);
}

/* y of a norm in double; layer: with the mean, else without. */
static void exact_norm(int n, const double* x, const float* w, bool layer, double eps, double* y,
                       double* mean, double* r) {
    double sum = 0, square = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    *mean = layer ? sum / n : 0.0;
    for (int i = 0; i < n; i++) square += (x[i] - *mean) * (x[i] - *mean);
    *r = 1.0 / sqrt(square / n + eps);
    for (int i = 0; i < n; i++) y[i] = (x[i] - *mean) * *r * (double)w[i];
}

/* The whole way back through a norm, as the block takes it: dx of the loss sum(dy y). */
static void norms(const lp__kernels* table) {
    const double eps = 1e-5, h = 1e-5;
    for (int n = 2; n <= N; n++) {
        for (int layer = 0; layer < 2; layer++) {
            row x = row_make(n, 1), w = row_make(n, 2), b = row_make(n, 3), y = row_make(n, 4);
            row dy = row_make(n, 5), dx = row_make(n, 6), dw = row_make(n, 7);
            double wide[N], want[N], mean, r, sums[2], g_sum = 0, gh_sum = 0;
            for (int i = 0; i < n; i++) x.x[i] += 0.3f;
            for (int i = 0; i < n; i++) wide[i] = (double)x.x[i];
            exact_norm(n, wide, w.x, layer, eps, want, &mean, &r);
            table->norm(n, x.x, (float)mean, (float)r, w.x, NULL, y.x);
            for (int i = 0; i < n; i++) assert_close(y.x[i], want[i], 3e-6);
            table->norm(n, x.x, (float)mean, (float)r, w.x, b.x, y.x);
            for (int i = 0; i < n; i++) assert_close(y.x[i], want[i] + (double)b.x[i], 3e-6);

            table->norm_sums(n, x.x, (float)mean, (float)r, w.x, dy.x, sums);
            for (int i = 0; i < n; i++) {
                const double g = (double)w.x[i] * (double)dy.x[i];
                g_sum += g, gh_sum += g * (wide[i] - mean) * r;
            }
            assert_close(sums[0], g_sum, 1e-5);
            assert_close(sums[1], gh_sum, 1e-4);
            table->norm_dx(n, x.x, (float)mean, (float)r, w.x, dy.x,
                           layer ? (float)(sums[0] / n) : 0.0f, (float)(sums[1] / n), dx.x);
            table->norm_dw(n, x.x, (float)mean, (float)r, dy.x, dw.x);
            for (int i = 0; i < n; i++) {
                double loss[2] = {0, 0}, other_mean, other_r, other[N];
                for (int side = 0; side < 2; side++) {
                    wide[i] = (double)x.x[i] + (side ? h : -h);
                    exact_norm(n, wide, w.x, layer, eps, other, &other_mean, &other_r);
                    for (int j = 0; j < n; j++) loss[side] += (double)dy.x[j] * other[j];
                }
                wide[i] = (double)x.x[i];
                /* n = 2: a small variance, r up to 1 / sqrt(eps) */
                assert_close(dx.x[i], (double)dx.before[i] + (loss[1] - loss[0]) / (2 * h),
                             2e-6 * fmax(1.0, r * r * r));
                assert_close(dw.x[i], (double)dw.before[i] + (double)dy.x[i] * (wide[i] - mean) * r,
                             1e-6 * fmax(1.0, r));
            }
            row_end(&x), row_end(&w), row_end(&b), row_end(&y), row_end(&dy), row_end(&dx);
            row_end(&dw);
        }
    }
}
static void test_norms(void** state) {
    (void)state;
    for_each_isa(norms);
}

/* (u, v) -> (u c - v s, v c + u s); the same angle back with the halves changed gives what was. */
static void rotations(const lp__kernels* table) {
    for (int n = 0; n <= N; n++) {
        row u = row_make(n, 1), v = row_make(n, 2);
        float c[N], s[N];
        for (int i = 0; i < n; i++) {
            c[i] = (float)cos(0.7 * i);
            s[i] = (float)sin(0.7 * i);
        }
        table->rotate(n, c, s, u.x, v.x);
        for (int i = 0; i < n; i++) {
            const double a = (double)u.before[i], b = (double)v.before[i];
            assert_close(u.x[i], a * (double)c[i] - b * (double)s[i], 2e-7);
            assert_close(v.x[i], b * (double)c[i] + a * (double)s[i], 2e-7);
        }
        table->rotate(n, c, s, v.x, u.x);
        for (int i = 0; i < n; i++) {
            assert_close(u.x[i], u.before[i], 5e-7);
            assert_close(v.x[i], v.before[i], 5e-7);
        }
        row_end(&u), row_end(&v);
    }
}
static void test_rotations(void** state) {
    (void)state;
    for_each_isa(rotations);
}

static void residuals(const lp__kernels* table) {
    const int rows = table->tile_rows, ldt = table->panel;
    for (int cols = 1; cols <= table->panel; cols++) {
        for (int biased = 0; biased < 2; biased++) {
            const int ldc = cols + 3;
            float *tile = random_floats(rows * ldt, 1), *from = random_floats(rows * ldc, 2);
            float *bias = random_floats(cols, 3), *c = random_floats(rows * ldc, 4);
            float* before = random_floats(rows * ldc, 4);
            table->add_tile(rows, cols, tile, ldt, from, biased ? bias : NULL, c, ldc);
            for (int r = 0; r < rows; r++) {
                for (int j = 0; j < ldc; j++) {
                    float want = before[r * ldc + j];
                    if (j < cols) want = from[r * ldc + j] + tile[r * ldt + j];
                    if (j < cols && biased) want += bias[j];
                    assert_int_equal(bits_of(c[r * ldc + j]), bits_of(want));
                }
            }
            free(tile), free(from), free(bias), free(c), free(before);
        }
    }
}
static void test_residuals(void** state) {
    (void)state;
    for_each_isa(residuals);
}

/* ---- activations ------------------------------------------------------------------------------
 */

static double silu(double g) { return g / (1.0 + exp(-g)); }
static double gelu(double x) {
    return x / 2 * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

/* A tile of an activation, there and back. */
typedef struct gate_rig {
    const lp__kernels* table;
    const lp__format* format;
    int rows, cols;
    int64_t ldt, ldw, words;
    float *gate, *up, *d;
    lp__word *kept_gate, *kept_up, *h, *again, *blank;
} gate_rig;

static lp__word* blank_words(int64_t words) {
    lp__word* x = malloc((size_t)words * sizeof *x);
    for (int64_t i = 0; i < words; i++) x[i] = -123.25f;
    return x;
}

static gate_rig gate_rig_make(const lp__kernels* table, int number, int cols) {
    gate_rig g = {.table = table, .format = &table->format[number], .cols = cols};
    g.rows = table->tile_rows, g.ldt = table->panel;
    g.ldw = lp__words(g.format, cols) + 2, g.words = g.rows * g.ldw;
    g.gate = random_floats(g.rows * g.ldt, 1);
    g.up = random_floats(g.rows * g.ldt, 2);
    g.d = random_floats(g.rows * g.ldt, 3);
    for (int64_t i = 0; i < g.rows * g.ldt; i++) g.gate[i] *= 6.0f, g.up[i] *= 4.0f;
    g.kept_gate = blank_words(g.words), g.kept_up = blank_words(g.words);
    g.h = blank_words(g.words), g.again = blank_words(g.words), g.blank = blank_words(g.words);
    return g;
}
static void gate_rig_free(gate_rig* g) {
    free(g->gate), free(g->up), free(g->d), free(g->kept_gate), free(g->kept_up);
    free(g->h), free(g->again), free(g->blank);
}

/* Number [r, j] of words, and that row r has nothing but zero behind its numbers in its last word,
 * and nothing written behind that. */
static double word_at(const gate_rig* g, const lp__word* x, int r, int j) {
    return (double)number_at(g->format, x + r * g->ldw, j);
}
static void check_ends(const gate_rig* g, const lp__word* x) {
    const int64_t words = lp__words(g->format, g->cols);
    for (int r = 0; r < g->rows; r++) {
        if (g->cols < words * g->format->numbers) assert_true(word_at(g, x, r, g->cols) == 0);
        for (int64_t w = words; w < g->ldw; w++) assert_true(x[r * g->ldw + w] == -123.25f);
    }
}
/* Rounding errors of float, and of bf16. */
static double allowed(const gate_rig* g, double size) {
    return 1e-6 * fmax(size, 1.0) + (g->format->numbers == 2 ? size * 0x1p-8 : 0.0);
}

static void swiglu_tiles(const lp__kernels* table, int number, int cols) {
    gate_rig g = gate_rig_make(table, number, cols);
    const lp__format* f = g.format;
    f->swiglu(g.rows, cols, g.gate, g.up, g.ldt, g.kept_gate, g.kept_up, g.h, g.ldw);
    f->swiglu(g.rows, cols, g.gate, g.up, g.ldt, NULL, NULL, g.again, g.ldw);
    assert_memory_equal(g.again, g.h, (size_t)g.words * sizeof *g.h);
    check_ends(&g, g.h), check_ends(&g, g.kept_gate), check_ends(&g, g.kept_up);
    f->store_tile(g.rows, cols, g.gate, g.ldt, g.blank, g.ldw);
    assert_memory_equal(g.kept_gate, g.blank, (size_t)g.words * sizeof *g.h);
    f->store_tile(g.rows, cols, g.up, g.ldt, g.blank, g.ldw);
    assert_memory_equal(g.kept_up, g.blank, (size_t)g.words * sizeof *g.h);
    lp__word* kept_gate = blank_words(g.words);
    memcpy(kept_gate, g.kept_gate, (size_t)g.words * sizeof *g.h);
    f->swiglu_back(g.rows, cols, g.d, g.ldt, g.kept_gate, g.kept_up, g.again, g.ldw);
    check_ends(&g, g.again), check_ends(&g, g.kept_gate), check_ends(&g, g.kept_up);
    for (int r = 0; r < g.rows; r++) {
        for (int j = 0; j < cols; j++) {
            const double x = (double)g.gate[r * g.ldt + j], u = (double)g.up[r * g.ldt + j];
            const double d = (double)g.d[r * g.ldt + j], e = 1e-5;
            assert_close(word_at(&g, g.h, r, j), silu(x) * u, allowed(&g, fabs(silu(x) * u)));
            /* back begins from what was kept */
            const double k = word_at(&g, kept_gate, r, j), v = word_at(&g, g.blank, r, j);
            const double slope = (silu(k + e) - silu(k - e)) / (2 * e);
            assert_close(word_at(&g, g.again, r, j), silu(k) * v, allowed(&g, fabs(silu(k) * v)));
            assert_close(word_at(&g, g.kept_gate, r, j), d * v * slope,
                         allowed(&g, fabs(d * v * slope)));
            assert_close(word_at(&g, g.kept_up, r, j), d * silu(k), allowed(&g, fabs(d * silu(k))));
        }
    }
    free(kept_gate);
    gate_rig_free(&g);
}

static void gelu_tiles(const lp__kernels* table, int number, int cols) {
    gate_rig g = gate_rig_make(table, number, cols);
    const lp__format* f = g.format;
    f->gelu(g.rows, cols, g.up, g.ldt, g.kept_up, g.h, g.ldw);
    f->gelu(g.rows, cols, g.up, g.ldt, NULL, g.again, g.ldw);
    assert_memory_equal(g.again, g.h, (size_t)g.words * sizeof *g.h);
    check_ends(&g, g.h), check_ends(&g, g.kept_up);
    f->store_tile(g.rows, cols, g.up, g.ldt, g.blank, g.ldw);
    assert_memory_equal(g.kept_up, g.blank, (size_t)g.words * sizeof *g.h);
    f->gelu_back(g.rows, cols, g.d, g.ldt, g.kept_up, g.again, g.ldw);
    check_ends(&g, g.again), check_ends(&g, g.kept_up);
    for (int r = 0; r < g.rows; r++) {
        for (int j = 0; j < cols; j++) {
            const double x = (double)g.up[r * g.ldt + j], d = (double)g.d[r * g.ldt + j];
            const double k = word_at(&g, g.blank, r, j), e = 1e-5;
            const double slope = (gelu(k + e) - gelu(k - e)) / (2 * e);
            assert_close(word_at(&g, g.h, r, j), gelu(x), allowed(&g, fabs(gelu(x))));
            assert_close(word_at(&g, g.again, r, j), gelu(k), allowed(&g, fabs(gelu(k))));
            assert_close(word_at(&g, g.kept_up, r, j), d * slope, allowed(&g, fabs(d * slope)));
        }
    }
    gate_rig_free(&g);
}

static void activations(const lp__kernels* table) {
    for (int number = LP__F32; number <= LP__BF16; number++) {
        for (int cols = 1; cols <= table->panel; cols++) {
            swiglu_tiles(table, number, cols);
            gelu_tiles(table, number, cols);
        }
    }
}
static void test_activations(void** state) {
    (void)state;
    for_each_isa(activations);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_rows),       cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rotations),        cmocka_unit_test(test_residuals),
        cmocka_unit_test(test_activations),      cmocka_unit_test(test_softmax_rows),
        cmocka_unit_test(test_softmax_extremes), cmocka_unit_test(test_softmax_back_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
