/* Products of packed operands: the bits of the register tile alone, element by element, however
 * products are grouped, cut, finished and shared out to threads; and the operands themselves. */
#include "kernels/product.h"

#include "isas.h"

static lp__word* random_words(const lp__format* format, int64_t words, uint64_t seed) {
    float* x = random_floats(words * format->numbers, seed);
    lp__word* out = malloc((size_t)words * sizeof *out);
    assert_non_null(out);
    format->store(words * format->numbers, x, out);
    free(x);
    return out;
}

/* ---- operands -------------------------------------------------------------------------------- */

/* Every word of both sides of W [rows, cols]. */
static void check_weight(lp_ctx* ctx, int number, int64_t rows, int64_t cols) {
    const lp__kernels* table = lp__ctx_kernels(ctx);
    const lp__format* format = &table->format[number];
    const int64_t panel = table->panel, in_word = format->numbers;
    float* w = random_floats(rows * cols, 1);
    float* rounded = malloc((size_t)(rows * cols + 1) * sizeof *rounded);
    for (int64_t i = 0; i < rows * cols; i++) { /* each on its own as among the others */
        lp__word word[1];
        format->store_weights(1, (uint32_t)i, w + i, word);
        rounded[i] = number_at(format, word, 0);
    }
    for (int side = 0; side < 2; side++) { /* 0: W^T, k along cols */
        const int64_t n = side == 0 ? rows : cols, k = side == 0 ? cols : rows;
        const int64_t words = lp__words(format, k), panels = (n + panel - 1) / panel;
        const size_t count = lp__weight_words(ctx, (lp__number)number, rows, cols, side == 0);
        assert_int_equal(count, panels * panel * words);
        lp__word* packed = random_words(format, (int64_t)count + 1, 2);
        const lp__word guard = packed[count];
        assert_int_equal(lp__weight_pack(ctx, (lp__number)number, rows, cols, w,
                                         side == 0 ? packed : NULL, side == 1 ? packed : NULL),
                         LP_OK);
        assert_memory_equal(&guard, packed + count, sizeof guard);
        for (int64_t j = 0; j < panels * panel; j++) {
            for (int64_t p = 0; p < words * in_word; p++) {
                const int64_t row = side == 0 ? j : p, col = side == 0 ? p : j;
                const float want = row < rows && col < cols ? rounded[row * cols + col] : 0.0f;
                const lp__word* word =
                    packed + (j / panel * words + p / in_word) * panel + j % panel;
                if (number_at(format, word, p % in_word) != want)
                    fail_msg("%s: side %d of [%d, %d] is wrong at [%d, %d]", table->name, side,
                             (int)rows, (int)cols, (int)row, (int)col);
            }
        }
        free(packed);
    }
    /* Both at once are the same. */
    const size_t counts[2] = {lp__weight_words(ctx, (lp__number)number, rows, cols, true),
                              lp__weight_words(ctx, (lp__number)number, rows, cols, false)};
    lp__word *one[2], *both[2];
    for (int side = 0; side < 2; side++) {
        one[side] = calloc(counts[side] + 1, sizeof(lp__word));
        both[side] = calloc(counts[side] + 1, sizeof(lp__word));
    }
    (void)lp__weight_pack(ctx, (lp__number)number, rows, cols, w, both[0], both[1]);
    (void)lp__weight_pack(ctx, (lp__number)number, rows, cols, w, one[0], NULL);
    (void)lp__weight_pack(ctx, (lp__number)number, rows, cols, w, NULL, one[1]);
    for (int side = 0; side < 2; side++) {
        assert_memory_equal(one[side], both[side], counts[side] * sizeof(lp__word));
        free(one[side]), free(both[side]);
    }
    free(w), free(rounded);
}

static void weights(const lp__kernels* table) {
    static const int64_t sizes[] = {1, 2, 7, 47, 48, 49, 97, 130};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    lp_ctx* ctx = context_of(table, 2);
    for (int number = LP__F32; number <= LP__BF16; number++)
        for (int i = 0; i < COUNT * COUNT; i++)
            check_weight(ctx, number, sizes[i % COUNT], sizes[i / COUNT]);
    lp_ctx_destroy(ctx);
}
static void weights_are_packed(void** state) {
    (void)state;
    for_each_isa(weights);
}

/* Rows as steps of k: pairs, rows alone, gaps, and rows in another order. */
static void check_cut(lp_ctx* ctx, int number, int64_t n, bool blocks) {
    enum { ROWS = 150, STEPS = 90 };
    const lp__kernels* table = lp__ctx_kernels(ctx);
    const lp__format* format = &table->format[number];
    const int64_t width = blocks ? table->tile_rows : table->panel;
    const int64_t ld = lp__words(format, n) + 2, pieces = (n + width - 1) / width;
    lp__word* rows = random_words(format, ROWS * ld, 3);
    int32_t first[STEPS], second[STEPS];
    for (int p = 0; p < STEPS; p++) {
        first[p] = p % 11 == 10 ? -1 : (p * 53 + 7) % ROWS;
        second[p] = p % 3 == 2 ? -1 : (p * 31 + 2) % ROWS;
    }
    const lp__steps steps = {STEPS, first, number == LP__BF16 ? second : NULL};
    const int64_t count = lp__cut_words(ctx, STEPS, n, blocks);
    assert_int_equal(count, pieces * width * STEPS);
    lp__word* out = random_words(format, count + 1, 4);
    const lp__word guard = out[count];
    lp__cut_rows(ctx, (lp__number)number, &steps, n, rows, ld, blocks, out);
    assert_memory_equal(&guard, out + count, sizeof guard);
    for (int64_t j = 0; j < pieces * width; j++) {
        for (int64_t p = 0; p < STEPS; p++) {
            const lp__word* word = out + (j / width * STEPS + p) * width + j % width;
            for (int h = 0; h < format->numbers; h++) {
                const int32_t row = h == 0 ? first[p] : second[p];
                const float want = row >= 0 && j < n ? number_at(format, rows + row * ld, j) : 0.0f;
                if (number_at(format, word, h) != want)
                    fail_msg("%s: step %d, column %d of %d is wrong", table->name, (int)p, (int)j,
                             (int)n);
            }
        }
    }
    free(rows), free(out);
}

static void cuts(const lp__kernels* table) {
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 48, 49, 100, 577};
    lp_ctx* ctx = context_of(table, 3);
    for (int number = LP__F32; number <= LP__BF16; number++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            for (int blocks = 0; blocks < 2; blocks++) check_cut(ctx, number, sizes[i], blocks);
    lp_ctx_destroy(ctx);
}
static void rows_are_cut(void** state) {
    (void)state;
    for_each_isa(cuts);
}

/* ---- products -------------------------------------------------------------------------------- */

/* One element as one chain over all terms: the register tile with one row and one column. */
static float element(const lp__kernels* table, int number, const lp__product* p,
                     const lp__word* twin, int64_t i, int64_t j, float from) {
    const lp__format* format = &table->format[number];
    float c = from;
    for (int t = 0; t < p->terms; t++) {
        const lp__term* term = &p->term[t];
        const int64_t depth = term->panel_words ? term->panel_words : term->words;
        const lp__word* b = (twin ? twin : term->b) + j / table->panel * depth * table->panel;
        lp__word* a = malloc((size_t)(term->words + 1) * sizeof *a);
        lp__word* column = calloc((size_t)((term->words + 1) * table->panel), sizeof *column);
        for (int64_t w = 0; w < term->words; w++) {
            memcpy(a + w,
                   p->blocks
                       ? term->a + (i / table->tile_rows * term->words + w) * table->tile_rows +
                             i % table->tile_rows
                       : term->a + i * term->lda + w,
                   sizeof *a);
            memcpy(column + w * table->panel, b + w * table->panel + j % table->panel, sizeof *a);
        }
        format->tile(1, 1, term->words, a, term->words, column, table->panel, &c, 1, true, NULL);
        free(a), free(column);
    }
    return c;
}

typedef struct finished {
    const lp__kernels* table;
    float *c, *twin;
    int64_t n;
    int32_t* times; /* that each element came by */
} finished;

static void note_tile(const lp__product* p, int64_t row, int rows, int64_t col, int cols,
                      float* tile, float* twin) {
    const finished* f = p->user;
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < cols; j++) {
            const int64_t at = (row + r) * f->n + col + j;
            f->c[at] = tile[r * f->table->panel + j];
            if (p->twin) f->twin[at] = twin[r * f->table->panel + j];
            f->times[at]++;
        }
    }
}

enum { LDC_SLACK = 3, MANY = 11 };
typedef struct shape {
    int64_t m, n;
    int terms;
    int64_t words[LP__TERMS], deeper; /* words of the panels that are not taken */
    bool blocks, twin, finish, accumulate;
} shape;

/* More at once than one job takes, all kinds among them. */
static const shape SHAPES[MANY] = {
    {1, 200, 1, {96}, 0, false, false, false, false},
    {33, 130, 1, {70}, 5, false, false, false, true},
    {0, 40, 1, {8}, 0, false, false, false, false},
    {130, 97, 3, {17, 40, 3}, 0, false, false, false, false},
    {40, 300, 1, {64}, 0, false, true, true, false},
    {65, 50, 2, {30, 31}, 0, false, false, true, false},
    {77, 101, 1, {50}, 0, true, false, false, true},
    {8, 0, 1, {5}, 0, false, false, false, false},
    {29, 48, 2, {21, 9}, 4, true, false, false, false},
    {50, 49, 1, {0}, 0, false, false, false, true},
    {300, 16, 1, {40}, 2, true, true, true, false},
};

typedef struct made {
    lp__product p;
    finished f;
    lp__word *a[LP__TERMS], *b[LP__TERMS], *twin;
    float* before;
    int64_t floats;
} made;

static made make(const lp__kernels* table, int number, const shape* s, uint64_t seed) {
    const lp__format* format = &table->format[number];
    const int64_t panels = (s->n + table->panel - 1) / table->panel;
    const int64_t blocks = (s->m + table->tile_rows - 1) / table->tile_rows;
    made x = {.p = {.m = s->m, .n = s->n, .terms = s->terms, .blocks = s->blocks}};
    for (int t = 0; t < s->terms; t++) {
        const int64_t words = s->words[t], depth = words + s->deeper;
        const int64_t lda = words + 1;
        x.a[t] = random_words(
            format, s->blocks ? blocks * words * table->tile_rows + 1 : s->m * lda + 1, seed + 1);
        x.b[t] = random_words(format, panels * depth * table->panel + 1, seed + 2);
        x.p.term[t] = (lp__term){x.a[t], lda, x.b[t], words, s->deeper ? depth : 0};
        seed += 2;
    }
    if (s->twin)
        x.p.twin = x.twin =
            random_words(format, panels * (s->words[0] + s->deeper) * table->panel + 1, seed + 3);
    x.p.ldc = s->n + LDC_SLACK;
    x.p.accumulate = s->accumulate;
    x.floats = s->m * x.p.ldc;
    x.p.c = random_floats(x.floats, 99);
    x.before = random_floats(x.floats, 99);
    if (s->finish) {
        const size_t count = (size_t)(s->m * s->n + 1);
        x.f = (finished){table, calloc(count, 4), calloc(count, 4), s->n, calloc(count, 4)};
        x.p.finish = note_tile;
        x.p.fetch[0] = x.before; /* prefetching changes nothing */
        x.p.fetch_bytes = x.p.ldc * 4;
        x.p.number_bytes = 4;
    }
    return x;
}

static void made_free(made* x) {
    for (int t = 0; t < LP__TERMS; t++) free(x->a[t]), free(x->b[t]);
    free(x->twin), free(x->p.c), free(x->before), free(x->f.c), free(x->f.twin), free(x->f.times);
}

static void check(const lp__kernels* table, int number, const made* x) {
    const lp__product* p = &x->p;
    for (int64_t i = 0; i < p->m; i++) {
        for (int64_t j = 0; j < p->ldc; j++) {
            const float old = x->before[i * p->ldc + j], got = p->c[i * p->ldc + j];
            if (p->finish || j >= p->n) { /* c is left alone, and what lies beside it */
                assert_int_equal(bits_of(got), bits_of(old));
                if (j >= p->n) continue;
            }
            const float want = element(table, number, p, NULL, i, j, p->accumulate ? old : 0.0f);
            const float have = p->finish ? x->f.c[i * p->n + j] : got;
            if (bits_of(have) != bits_of(want))
                fail_msg("%s, format %d, [%d, %d] of %d x %d: %.9g, not %.9g", table->name, number,
                         (int)i, (int)j, (int)p->m, (int)p->n, (double)have, (double)want);
            if (p->finish) assert_int_equal(x->f.times[i * p->n + j], 1);
            if (p->twin)
                assert_int_equal(bits_of(x->f.twin[i * p->n + j]),
                                 bits_of(element(table, number, p, p->twin, i, j, 0.0f)));
        }
    }
}

static void many_at_once(const lp__kernels* table) {
    for (int threads = 1; threads <= 5; threads++) {
        lp_ctx* ctx = context_of(table, threads);
        for (int number = LP__F32; number <= LP__BF16; number++) {
            made all[MANY];
            lp__product products[MANY];
            for (int i = 0; i < MANY; i++) {
                all[i] = make(table, number, &SHAPES[i], 10 * (uint64_t)i);
                products[i] = all[i].p;
                if (SHAPES[i].finish) products[i].user = &all[i].f;
            }
            lp__products(ctx, (lp__number)number, products, MANY);
            for (int i = 0; i < MANY; i++) {
                check(table, number, &all[i]);
                made_free(&all[i]);
            }
        }
        lp_ctx_destroy(ctx);
    }
}
static void many_products(void** state) {
    (void)state;
    for_each_isa(many_at_once);
}

/* A row among 512 has the bits that it has alone, and among 7. */
static void rows_alone(const lp__kernels* table) {
    static const int64_t shapes[][2] = {
        {576, 576}, {192, 576}, {1536, 576}, {576, 1536}, {2003, 65}};
    enum { M = 512 };
    lp_ctx* ctx = context_of(table, 2);
    for (int number = LP__F32; number <= LP__BF16; number++) {
        const lp__format* format = &table->format[number];
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
            const int64_t n = shapes[s][0], words = lp__words(format, shapes[s][1]);
            lp__word* a = random_words(format, M * words, 1);
            lp__word* b = random_words(
                format, (int64_t)lp__weight_words(ctx, (lp__number)number, n, shapes[s][1], true),
                2);
            float *all = random_floats(M * n, 3), *few = random_floats(M * n, 4);
            lp__product p = {
                .m = M, .n = n, .term = {{a, words, b, words, 0}}, .terms = 1, .c = all, .ldc = n};
            lp__products(ctx, (lp__number)number, &p, 1);
            for (int64_t step = 1; step <= 7; step += 6) {
                memset(few, 0, (size_t)(M * n) * sizeof *few);
                for (int64_t i = 0; i < M; i += step) {
                    p.m = LP__MIN(M - i, step);
                    p.term[0].a = a + i * words;
                    p.c = few + i * n;
                    lp__products(ctx, (lp__number)number, &p, 1);
                }
                assert_memory_equal(few, all, (size_t)(M * n) * sizeof *few);
            }
            free(a), free(b), free(all), free(few);
        }
    }
    lp_ctx_destroy(ctx);
}
static void rows_alone_and_in_company(void** state) {
    (void)state;
    for_each_isa(rows_alone);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_packed),
        cmocka_unit_test(rows_are_cut),
        cmocka_unit_test(many_products),
        cmocka_unit_test(rows_alone_and_in_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
