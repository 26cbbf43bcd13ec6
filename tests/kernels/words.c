/* Rows of words: rounding to bf16 by its definition, over every upper half of a float with lower
 * halves below, at and above the tie; tails; and rows that become the steps of k of a product. */
#include "isas.h"

enum { GUARD = 40 };

/* Memory of n words that were never written look like this. */
static const float UNTOUCHED = -123.25f;
static lp__word* room_for(int64_t words) {
    lp__word* x = malloc((size_t)(words + GUARD) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < words + GUARD; i++) x[i] = UNTOUCHED;
    return x;
}
static void assert_untouched(const lp__word* x, int64_t from, int64_t to) {
    for (int64_t i = from; i < to; i++)
        if (x[i] != UNTOUCHED) fail_msg("word %lld was written", (long long)i);
}

static const lp__format* pairs_of(const lp__kernels* table) { return &table->format[LP__BF16]; }

static void rounding(const lp__kernels* table) {
    static const uint32_t low[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xc123, 0xffff};
    enum { LOW = sizeof low / sizeof *low, COUNT = 0x10000 * LOW };
    const lp__format* format = pairs_of(table);
    float *x = malloc(COUNT * sizeof *x), *back = malloc(COUNT * sizeof *back);
    lp__word* words = room_for(COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++) x[i] = float_of((i / LOW) << 16 | low[i % LOW]);
    format->store(COUNT, x, words);
    format->load(COUNT, words, back);
    for (uint32_t i = 0; i < COUNT; i++) {
        const uint16_t got = ((const uint16_t*)words)[i], want = nearest_half(table, x[i]);
        if (got != want) fail_msg("%08x becomes %04x, not %04x", bits_of(x[i]), got, want);
        assert_int_equal(bits_of(back[i]), (uint32_t)want << 16);
    }
    assert_untouched(words, COUNT / 2, COUNT / 2 + GUARD);

    /* The largest finite number rounds to infinity, half a step below it does not. */
    const float edge[2] = {float_of(0x7f7fffff), float_of(0x7f7f7fff)};
    format->store(2, edge, words);
    assert_true(isinf(number_at(format, words, 0)) && isfinite(number_at(format, words, 1)));
    free(x), free(back), free(words);
}
static void rounds_to_nearest_even(void** state) {
    (void)state;
    for_each_isa(rounding);
}

/* Weights: every bf16 number stays what it is, also infinities and NaN; any other becomes one of
 * its two neighbours, the upper one where the part cut off reaches its threshold; and rows that all
 * lie a tenth or nine tenths above a bf16 number have that mean, where nearest would stay or jump.
 */
static void weights(const lp__kernels* table) {
    enum { COUNT = 0x10000, MANY = 5000 };
    const lp__format* format = pairs_of(table);
    float* x = malloc(COUNT * sizeof *x);
    lp__word* words = room_for(COUNT / 2);
    for (uint32_t i = 0; i < COUNT; i++) x[i] = float_of(i << 16);
    format->store_weights(COUNT, 12345, x, words);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(((const uint16_t*)words)[i], nearest_half(table, x[i]));
    assert_untouched(words, COUNT / 2, COUNT / 2 + GUARD);
    const float nan = float_of(0x7f800001), largest = float_of(0x7f7fffff);
    format->store_weights(1, 7, &nan, words);
    assert_true(isnan(number_at(format, words, 0)));
    format->store_weights(1, 0, &largest, words); /* threshold 0: cut off */
    assert_int_equal(((const uint16_t*)words)[0], 0x7f7f);

    for (int tenth = 1; tenth < 10; tenth += 8) {
        double mean = 0;
        for (int i = 0; i < MANY; i++) x[i] = 1.0f + 0x1p-7f * 0.1f * (float)tenth;
        for (uint32_t first = 0; first < 100; first++) {
            format->store_weights(MANY, first * MANY, x, words);
            for (int i = 0; i < MANY; i++) {
                const float got = number_at(format, words, i);
                const uint64_t weyl = (first * MANY + (uint32_t)i) * 0x9e3779b9ull & 0xffffffffu;
                const bool up = (bits_of(x[i]) & 0xffff) + (weyl >> 16) >= 0x10000;
                assert_true(got == (up ? 1.0f + 0x1p-7f : 1.0f));
                mean += (double)(got - 1.0f) / (100.0 * MANY);
            }
        }
        assert_close(mean, 0x1p-7 * 0.1 * tenth, 0x1p-7 * 1e-4);
    }
    free(x), free(words);
}
static void weights_keep_their_mean(void** state) {
    (void)state;
    for_each_isa(weights);
}

/* Every length: what is written, that it is the same wherever a number stands, and what is not. */
static void lengths(const lp__kernels* table) {
    for (int number = LP__F32; number <= LP__BF16; number++) {
        const lp__format* format = &table->format[number];
        for (int64_t n = 0; n <= 70; n++) {
            const int64_t count = lp__words(format, n);
            float *x = random_floats(n, 1 + (uint64_t)n), *back = random_floats(n + GUARD, 2);
            float* before = random_floats(n + GUARD, 2);
            lp__word *plain = room_for(count), *scaled = room_for(count), *again = room_for(count);
            format->store(n, x, plain);
            format->store_scaled(n, 0.37f, x, scaled);
            format->store(n, x, again);
            format->scale(n, -1.7f, again);
            format->load(n, plain, back);
            for (int64_t i = 0; i < n; i++) {
                const float factor = 0.37f * x[i], kept = number_at(format, plain, i);
                const float product = -1.7f * kept;
                if (number == LP__F32) {
                    assert_int_equal(bits_of(kept), bits_of(x[i]));
                    assert_int_equal(bits_of(number_at(format, scaled, i)), bits_of(factor));
                    assert_int_equal(bits_of(number_at(format, again, i)), bits_of(product));
                } else {
                    const uint16_t* halves[] = {(uint16_t*)plain, (uint16_t*)scaled,
                                                (uint16_t*)again};
                    assert_int_equal(halves[0][i], nearest_half(table, x[i]));
                    assert_int_equal(halves[1][i], nearest_half(table, factor));
                    assert_int_equal(halves[2][i], nearest_half(table, product));
                }
                assert_int_equal(bits_of(back[i]), bits_of(kept));
            }
            if (n < count * format->numbers) { /* the half that is left over */
                assert_true(number_at(format, plain, n) == 0);
                assert_true(number_at(format, scaled, n) == 0);
                assert_true(number_at(format, again, n) == 0);
            }
            assert_memory_equal(back + n, before + n, GUARD * sizeof *back);
            assert_untouched(plain, count, count + GUARD);
            assert_untouched(scaled, count, count + GUARD);
            assert_untouched(again, count, count + GUARD);
            free(x), free(back), free(before), free(plain), free(scaled), free(again);
        }
    }
}
static void every_length(void** state) {
    (void)state;
    for_each_isa(lengths);
}

/* Rows of a tile, each like a row of its own. */
static void tiles(const lp__kernels* table) {
    for (int number = LP__F32; number <= LP__BF16; number++) {
        const lp__format* format = &table->format[number];
        for (int cols = 1; cols <= table->panel; cols++) {
            const int rows = table->tile_rows;
            const int64_t ldt = table->panel, ldw = lp__words(format, cols) + 3;
            float* tile = random_floats(rows * ldt, 5);
            lp__word *got = room_for(rows * ldw), *want = room_for(rows * ldw);
            format->store_tile(rows, cols, tile, ldt, got, ldw);
            for (int r = 0; r < rows; r++) format->store(cols, tile + r * ldt, want + r * ldw);
            assert_memory_equal(got, want, (size_t)(rows * ldw + GUARD) * sizeof *got);
            free(tile), free(got), free(want);
        }
    }
}
static void tiles_are_rows(void** state) {
    (void)state;
    for_each_isa(tiles);
}

static void check_interleave(const lp__kernels* table, const lp__format* format, int width,
                             int64_t n, bool has_first, bool has_second) {
    const int64_t pieces = (n + width - 1) / width, stride = width + 7;
    float *x = random_floats(n, 3), *y = random_floats(n, 4);
    lp__word *first = room_for(n), *second = room_for(n), *out = room_for(pieces * stride);
    format->store(n, x, first);
    format->store(n, y, second);
    format->interleave(width, n, has_first ? first : NULL, has_second ? second : NULL, out, stride);
    for (int64_t p = 0; p < pieces; p++) {
        for (int64_t j = 0; j < stride; j++) {
            const int64_t col = p * width + j;
            const lp__word* word = out + p * stride + j;
            if (j >= width) {
                assert_true(*word == UNTOUCHED);
                continue;
            }
            const float a = has_first && col < n ? number_at(format, first, col) : 0.0f;
            const float b = has_second && col < n ? number_at(format, second, col) : 0.0f;
            if (number_at(format, word, 0) != a ||
                (format->numbers == 2 && number_at(format, word, 1) != b))
                fail_msg("%s: width %d n %d, %d numbers a word: column %d is wrong", table->name,
                         width, (int)n, format->numbers, (int)col);
        }
    }
    assert_untouched(out, pieces * stride, pieces * stride + GUARD);
    free(x), free(y), free(first), free(second), free(out);
}

static void interleaving(const lp__kernels* table) {
    const int widths[] = {table->panel, table->tile_rows, 6, 64, 80};
    for (int number = LP__F32; number <= LP__BF16; number++) {
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            for (int64_t n = 0; n <= 150; n++) {
                const lp__format* format = &table->format[number];
                for (int rows = 0; rows < 4; rows++)
                    check_interleave(table, format, widths[w], n, rows & 1, rows & 2);
            }
        }
    }
}
static void rows_become_steps(void** state) {
    (void)state;
    for_each_isa(interleaving);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounds_to_nearest_even), cmocka_unit_test(weights_keep_their_mean),
        cmocka_unit_test(every_length),           cmocka_unit_test(tiles_are_rows),
        cmocka_unit_test(rows_become_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
