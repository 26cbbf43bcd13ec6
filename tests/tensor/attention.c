/* Attention in float beside the double op: ragged sequences that end before, at and behind the
 * edges of panels and tiles, grouped heads of many widths, prefixes; for every instruction set of
 * this machine. Tolerance: 1e-5 of the largest entry for values, 2e-5 for gradients. And bits:
 * whatever the company, the number of threads, and whether a prefix is shared or written out. */
#include "testing.h"

#include "base/base.h"
#include <logpi/tensor.h>

enum { MAX_SEQUENCES = 8 };

typedef struct shape {
    int64_t heads, kv_heads, head_dim, sequences;
    int64_t length[MAX_SEQUENCES], prefix[MAX_SEQUENCES];
    bool prefixes;
} shape;

typedef struct numbers {
    int64_t rows, width, kv_width;
    int64_t offsets[MAX_SEQUENCES + 1];
    double *q, *k, *v, *r; /* r: of the loss sum(r y) */
} numbers;

/* What a tape made of them. */
typedef struct found {
    double *y, *dq, *dk, *dv;
} found;

static double* draw(lp_rng* rng, int64_t count, double scale) {
    double* x = malloc((size_t)(count + 1) * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (double)(float)(scale * (2 * lp_rng_uniform(rng) - 1));
    return x;
}

static numbers numbers_make(const shape* s, uint64_t seed) {
    lp_rng rng = lp_rng_philox(seed, LP_FOR_TEST, 0, 0);
    numbers n = {.width = s->heads * s->head_dim, .kv_width = s->kv_heads * s->head_dim};
    for (int64_t i = 0; i < s->sequences; i++) n.offsets[i + 1] = n.offsets[i] + s->length[i];
    n.rows = n.offsets[s->sequences];
    n.q = draw(&rng, n.rows * n.width, 2);
    n.k = draw(&rng, n.rows * n.kv_width, 2);
    n.v = draw(&rng, n.rows * n.kv_width, 2);
    n.r = draw(&rng, n.rows * n.width, 0.5);
    return n;
}
static void numbers_free(numbers* n) { free(n->q), free(n->k), free(n->v), free(n->r); }

static double* copy(lp_tensor x, bool grad) {
    double* to = malloc((size_t)(x->rows * x->cols + 1) * sizeof *to);
    assert_non_null(to);
    for (int64_t i = 0; i < x->rows * x->cols; i++)
        to[i] = grad ? lp_grad_at(x, 0, i) : lp_at(x, 0, i);
    return to;
}

static found attend(const shape* s, const numbers* n, lp_dtype type, int isa, int threads) {
    lp_ctx_def ctx_def = lp_ctx_def_default();
    ctx_def.isa = isa;
    ctx_def.threads = threads;
    lp_ctx* ctx = lp_ctx_create(&ctx_def, NULL, 0);
    assert_non_null(ctx);
    lp_tape* t = lp_tape_create(ctx, type);
    const lp_attention_def def = {.heads = s->heads,
                                  .kv_heads = s->kv_heads,
                                  .sequences = s->sequences,
                                  .offsets = n->offsets,
                                  .prefix = s->prefixes ? s->prefix : NULL};
    lp_tensor q = lp_input_f64(t, n->rows, n->width, n->q),
              k = lp_input_f64(t, n->rows, n->kv_width, n->k),
              v = lp_input_f64(t, n->rows, n->kv_width, n->v);
    lp_tensor y = lp_attention(t, q, k, v, &def);
    lp_tensor loss = lp_sum(t, lp_mul(t, y, lp_const_f64(t, n->rows, n->width, n->r)));
    assert_int_equal(lp_backward(t, loss), LP_OK);
    const found f = {copy(y, false), copy(q, true), copy(k, true), copy(v, true)};
    lp_ctx_destroy(ctx);
    return f;
}
static void found_free(found* f) { free(f->y), free(f->dq), free(f->dk), free(f->dv); }

static void near(const char* what, int isa, const double* got, const double* want, int64_t count,
                 double tolerance) {
    double worst = 0, largest = 1e-30;
    for (int64_t i = 0; i < count; i++) {
        const double off = fabs(got[i] - want[i]);
        worst = off <= worst ? worst : off; /* a NaN stays */
        largest = fmax(largest, fabs(want[i]));
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s, instruction set %d: off by %g of %g", what, isa, worst, largest);
}
static void same_bits(const double* got, const double* want, int64_t count) {
    assert_memory_equal(got, want, (size_t)count * sizeof *got);
}

/* heads, kv_heads, head_dim, sequences, their rows */
static const shape SHAPES[] = {
    {6, 2, 16, 7, {1, 47, 48, 49, 0, 130, 2}, {0}, false},
    {2, 2, 64, 4, {63, 64, 65, 97}, {0}, false},
    {3, 1, 8, 3, {145, 3, 16}, {0}, false},
    {2, 1, 20, 3, {17, 33, 100}, {0}, false},
    {2, 1, 80, 2, {50, 129}, {0}, false}, /* a head wider than a panel */
    {66, 1, 4, 2, {1, 70}, {0}, false},   /* more heads in a group than a tile has rows */
    {4, 4, 1, 2, {5, 60}, {0}, false},
    {4, 2, 16, 8, {100, 5, 1, 33, 96, 48, 0, 7}, {-1, 0, 0, -1, 0, 3, 3, -1}, true},
    {3, 1, 12, 6, {0, 5, 48, 1, 47, 70}, {-1, 0, -1, 2, 2, 2}, true},
};
enum { COUNT = sizeof SHAPES / sizeof *SHAPES };

static void float_beside_double(void** state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const shape* s = &SHAPES[i];
        numbers n = numbers_make(s, 1);
        found want = attend(s, &n, LP_F64, -1, 1);
        const int64_t q = n.rows * n.width, kv = n.rows * n.kv_width;
        for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
            if (!lp__isa_available((lp_isa)isa)) continue;
            found got = attend(s, &n, LP_F32, isa, 2);
            near("y", isa, got.y, want.y, q, 1e-5);
            near("dq", isa, got.dq, want.dq, q, 2e-5);
            near("dk", isa, got.dk, want.dk, kv, 2e-5);
            near("dv", isa, got.dv, want.dv, kv, 2e-5);
            found_free(&got);
        }
        found_free(&want);
        numbers_free(&n);
    }
}

static void threads_change_no_bit(void** state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const shape* s = &SHAPES[i];
        numbers n = numbers_make(s, 2);
        const int64_t q = n.rows * n.width, kv = n.rows * n.kv_width;
        found one = attend(s, &n, LP_F32, -1, 1);
        for (int threads = 2; threads <= 3; threads++) {
            found more = attend(s, &n, LP_F32, -1, threads);
            same_bits(more.y, one.y, q), same_bits(more.dq, one.dq, q);
            same_bits(more.dk, one.dk, kv), same_bits(more.dv, one.dv, kv);
            found_free(&more);
        }
        found_free(&one);
        numbers_free(&n);
    }
}

/* Each sequence alone, values and gradients. */
static void company_changes_no_bit(void** state) {
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        const shape* s = &SHAPES[i];
        if (s->prefixes) continue;
        numbers n = numbers_make(s, 3);
        found all = attend(s, &n, LP_F32, -1, 2);
        for (int64_t j = 0; j < s->sequences; j++) {
            const int64_t rows = s->length[j], q = n.offsets[j] * n.width,
                          kv = n.offsets[j] * n.kv_width;
            shape alone = *s;
            alone.sequences = 1, alone.length[0] = rows;
            numbers part = n;
            part.rows = part.offsets[1] = rows;
            part.q += q, part.k += kv, part.v += kv, part.r += q;
            found f = attend(&alone, &part, LP_F32, -1, 2);
            same_bits(f.y, all.y + q, rows * n.width);
            same_bits(f.dq, all.dq + q, rows * n.width);
            same_bits(f.dk, all.dk + kv, rows * n.kv_width);
            same_bits(f.dv, all.dv + kv, rows * n.kv_width);
            found_free(&f);
        }
        found_free(&all);
        numbers_free(&n);
    }
}

/* The same sequences with each prefix written out before what continues it; `from` [rows] says
 * where a row comes from; copies of a prefix's rows have no loss of their own. */
static numbers write_out(const shape* s, const numbers* n, shape* whole, int64_t* from) {
    *whole = *s;
    whole->prefixes = false;
    int64_t at = 0;
    numbers w = {.width = n->width, .kv_width = n->kv_width};
    bool copied[1024];
    for (int64_t i = 0; i < s->sequences; i++) {
        const int64_t p = s->prefix[i];
        for (int64_t j = 0; p >= 0 && j < s->length[p]; j++) {
            copied[at] = true;
            from[at++] = n->offsets[p] + j;
        }
        for (int64_t j = 0; j < s->length[i]; j++) {
            copied[at] = false;
            from[at++] = n->offsets[i] + j;
        }
        w.offsets[i + 1] = at;
        whole->length[i] = at - w.offsets[i];
    }
    assert_true(at <= 1024);
    w.rows = at;
    w.q = malloc((size_t)(at * n->width) * sizeof(double));
    w.r = malloc((size_t)(at * n->width) * sizeof(double));
    w.k = malloc((size_t)(at * n->kv_width) * sizeof(double));
    w.v = malloc((size_t)(at * n->kv_width) * sizeof(double));
    for (int64_t i = 0; i < at; i++) {
        for (int64_t j = 0; j < n->width; j++) {
            w.q[i * n->width + j] = n->q[from[i] * n->width + j];
            w.r[i * n->width + j] = copied[i] ? 0.0 : n->r[from[i] * n->width + j];
        }
        for (int64_t j = 0; j < n->kv_width; j++) {
            w.k[i * n->kv_width + j] = n->k[from[i] * n->kv_width + j];
            w.v[i * n->kv_width + j] = n->v[from[i] * n->kv_width + j];
        }
    }
    return w;
}

/* Adds up what the copies of a row got. */
static double* gather(const double* x, int64_t rows, int64_t cols, const int64_t* from,
                      int64_t to_rows) {
    double* sum = calloc((size_t)(to_rows * cols + 1), sizeof *sum);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) sum[from[i] * cols + j] += x[i * cols + j];
    return sum;
}

static void prefixes_written_out(void** state) {
    (void)state;
    int64_t from[1024];
    for (int i = 0; i < COUNT; i++) {
        const shape* s = &SHAPES[i];
        if (!s->prefixes) continue;
        numbers n = numbers_make(s, 4);
        shape whole;
        numbers w = write_out(s, &n, &whole, from);
        for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
            if (!lp__isa_available((lp_isa)isa)) continue;
            found got = attend(s, &n, LP_F32, isa, 2), want = attend(&whole, &w, LP_F32, isa, 2);
            for (int64_t row = 0; row < w.rows; row++) /* copies of a prefix included */
                same_bits(want.y + row * n.width, got.y + from[row] * n.width, n.width);
            double *dq = gather(want.dq, w.rows, n.width, from, n.rows),
                   *dk = gather(want.dk, w.rows, n.kv_width, from, n.rows),
                   *dv = gather(want.dv, w.rows, n.kv_width, from, n.rows);
            near("dq", isa, got.dq, dq, n.rows * n.width, 1e-5);
            near("dk", isa, got.dk, dk, n.rows * n.kv_width, 1e-5);
            near("dv", isa, got.dv, dv, n.rows * n.kv_width, 1e-5);
            free(dq), free(dk), free(dv);
            found_free(&got), found_free(&want);
        }
        numbers_free(&n), numbers_free(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_beside_double),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(prefixes_written_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
