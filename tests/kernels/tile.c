/* The register tile of both formats: every number of rows, columns and a range of words, from rows
 * and from blocks, beside double on the numbers as they are stored. Tolerance: 1e-6 of sum |a||b|,
 * some ten roundings of the sums. */
#include "isas.h"

enum { GUARD = 5, WORDS = 37 };

typedef struct sides {
    int64_t lda;
    lp__word *rows, *block, *b; /* [tile_rows, lda], [WORDS][tile_rows], [WORDS][panel] */
} sides;

static lp__word* random_words(const lp__kernels* table, int number, int64_t words, uint64_t seed) {
    const lp__format* format = &table->format[number];
    float* x = random_floats(words * format->numbers, seed);
    lp__word* out = malloc((size_t)words * sizeof *out);
    assert_non_null(out);
    format->store(words * format->numbers, x, out);
    free(x);
    return out;
}

static sides sides_make(const lp__kernels* table, int number) {
    sides s = {.lda = WORDS + 3};
    s.rows = random_words(table, number, table->tile_rows * s.lda, 1);
    s.b = random_words(table, number, WORDS * table->panel, 2);
    s.block = malloc((size_t)(WORDS * table->tile_rows) * sizeof *s.block);
    for (int p = 0; p < WORDS; p++)
        for (int r = 0; r < table->tile_rows; r++)
            memcpy(s.block + p * table->tile_rows + r, s.rows + r * s.lda + p, sizeof *s.block);
    return s;
}

static void run(const lp__kernels* table, int number, const sides* s, bool packed, int rows, int n,
                int64_t from, int64_t to, float* c, int64_t ldc, bool accumulate) {
    const lp__format* format = &table->format[number];
    const lp__word* b = s->b + from * table->panel;
    if (packed)
        format->tile_packed(rows, n, to - from, s->block + from * table->tile_rows, b, table->panel,
                            c, ldc, accumulate);
    else
        format->tile(rows, n, to - from, s->rows + from, s->lda, b, table->panel, c, ldc,
                     accumulate, NULL);
}

static void check_tile(const lp__kernels* table, int number, const sides* s, int rows, int n,
                       int64_t words) {
    const lp__format* format = &table->format[number];
    const int64_t ldc = n + GUARD, size = (table->tile_rows + 1) * ldc;
    float* before = random_floats(size, 7);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        float *c = random_floats(size, 7), *other = random_floats(size, 7);
        run(table, number, s, false, rows, n, 0, words, c, ldc, accumulate);
        for (int64_t i = 0; i < table->tile_rows + 1; i++) {
            for (int64_t j = 0; j < ldc; j++) {
                if (i >= rows || j >= n) { /* whole guards */
                    assert_int_equal(bits_of(c[i * ldc + j]), bits_of(before[i * ldc + j]));
                    continue;
                }
                double sum = accumulate ? (double)before[i * ldc + j] : 0.0, most = fabs(sum);
                for (int64_t p = 0; p < words; p++) {
                    for (int h = 0; h < format->numbers; h++) {
                        const double product =
                            (double)number_at(format, s->rows + i * s->lda + p, h) *
                            (double)number_at(format, s->b + p * table->panel + j, h);
                        sum += product, most += fabs(product);
                    }
                }
                if (!(fabs((double)c[i * ldc + j] - sum) <= 1e-6 * most))
                    fail_msg("%s, format %d, %d x %d, %d words: [%d, %d] is %g, not %g",
                             table->name, number, rows, n, (int)words, (int)i, (int)j,
                             (double)c[i * ldc + j], sum);
            }
        }
        /* blocks, the same sums; and a sum in three pieces */
        run(table, number, s, true, rows, n, 0, words, other, ldc, accumulate);
        assert_memory_equal(other, c, (size_t)size * sizeof *c);
        memcpy(other, before, (size_t)size * sizeof *c);
        for (int packed = 0; packed < 2; packed++) {
            const int64_t a = words / 3, b = words - words / 4;
            memcpy(other, before, (size_t)size * sizeof *c);
            run(table, number, s, packed, rows, n, 0, a, other, ldc, accumulate);
            run(table, number, s, !packed, rows, n, a, b, other, ldc, true);
            run(table, number, s, packed, rows, n, b, words, other, ldc, true);
            assert_memory_equal(other, c, (size_t)size * sizeof *c);
        }
        free(c), free(other);
    }
    free(before);
}

static void every_size(const lp__kernels* table) {
    static const int64_t words[] = {0, 1, 2, 3, 8, WORDS};
    for (int number = LP__F32; number <= LP__BF16; number++) {
        const sides s = sides_make(table, number);
        for (int rows = 0; rows <= table->tile_rows; rows++)
            for (int n = 0; n <= table->panel; n++)
                for (size_t w = 0; w < sizeof words / sizeof *words; w++)
                    check_tile(table, number, &s, rows, n, words[w]);
        free(s.rows), free(s.block), free(s.b);
    }
}
static void every_tile(void** state) {
    (void)state;
    for_each_isa(every_size);
}

/* A half that is left over is zero and changes nothing, whatever stands on the other side. */
static void leftover(const lp__kernels* table) {
    const lp__format* format = &table->format[LP__BF16];
    sides s = sides_make(table, LP__BF16);
    for (int r = 0; r < table->tile_rows; r++) ((uint16_t*)(s.rows + r * s.lda + WORDS - 1))[1] = 0;
    float *c = random_floats(table->tile_rows * table->panel, 1),
          *again = random_floats(table->tile_rows * table->panel, 1);
    format->tile(table->tile_rows, table->panel, WORDS, s.rows, s.lda, s.b, table->panel, c,
                 table->panel, false, NULL);
    for (int j = 0; j < table->panel; j++)
        ((uint16_t*)(s.b + (WORDS - 1) * table->panel + j))[1] = 0x7f7f;
    format->tile(table->tile_rows, table->panel, WORDS, s.rows, s.lda, s.b, table->panel, again,
                 table->panel, false, NULL);
    assert_memory_equal(c, again, (size_t)(table->tile_rows * table->panel) * sizeof *c);
    free(c), free(again), free(s.rows), free(s.block), free(s.b);
}
static void half_a_word_changes_nothing(void** state) {
    (void)state;
    for_each_isa(leftover);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tile),
        cmocka_unit_test(half_a_word_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
