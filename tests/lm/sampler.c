/* Sampling from a row of logits, in every mode and with every instruction set: which rows are
 * refused, which tokens are kept, which is drawn, and what its log-probability is. */
#include "lm/rig.h"

#include "base/base.h"
#include "lm/sampler.h"
#include "tensor/tape.h"

enum { VOCAB = 203 };

static const struct {
    const char* name;
    double temperature, top_p;
    int64_t top_k;
    double min_p;
} modes[] = {{"greedy", 0, 1, 0, 0},
             {"plain", 1, 1, 0, 0},
             {"warm", 1.7, 1, 0, 0},
             {"top_k", 1, 1, 7, 0},
             {"one", 1, 1, 1, 0},
             {"top_k of all", 1, 1, VOCAB, 0},
             {"top_p", 0.8, 0.9, 0, 0},
             {"min_p", 1, 1, 0, 0.4},
             {"top_p and top_k", 1, 0.5, 30, 0},
             {"min_p and top_k", 1, 1, 4, 0.3},
             {"all", 1.2, 0.9, 50, 0.1},
             {"top_p of nearly all", 1, 1 - 1e-9, 0, 0}};

/* Draws from wave-like logits, one of which is replaced. */
static int32_t draw(const struct lp__kernels* kernels, int mode, int64_t at, float value) {
    const lp__sampler sampler = {.kernels = kernels,
                                 .vocab = VOCAB,
                                 .temperature = modes[mode].temperature,
                                 .top_p = modes[mode].top_p,
                                 .min_p = modes[mode].min_p,
                                 .top_k = modes[mode].top_k};
    float z[VOCAB];
    void* scratch = malloc(lp__sampler_scratch(&sampler));
    for (int i = 0; i < VOCAB; i++) z[i] = sinf(0.7f * (float)i) - 0.01f * (float)(i % 13);
    z[at] = value;
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, (uint64_t)at, 0);
    const lp__drawn drawn = lp__sampler_draw(&sampler, z, 0, NULL, scratch, &rng);
    free(scratch);
    if (drawn.token >= 0) assert_true(isfinite(drawn.log_prob) && drawn.log_prob <= 0);
    return drawn.token;
}

static void rows_with_a_nan_are_refused(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        const struct lp__kernels* kernels = lp__kernels_get((lp_isa)isa);
        for (int mode = 0; mode < (int)(sizeof modes / sizeof *modes); mode++) {
            for (int64_t at = 0; at < VOCAB; at++) {
                const char* what = modes[mode].name;
                if (draw(kernels, mode, at, NAN) != -1)
                    fail_msg("%s: NaN at %d was accepted", what, (int)at);
                if (draw(kernels, mode, at, -NAN) != -1)
                    fail_msg("%s: -NaN at %d was accepted", what, (int)at);
                if (draw(kernels, mode, at, INFINITY) != -1)
                    fail_msg("%s: inf at %d was accepted", what, (int)at);
                const int32_t token = draw(kernels, mode, at, -INFINITY); /* banned */
                if (token < 0 || token == at)
                    fail_msg("%s: token %d without %d", what, (int)token, (int)at);
            }
        }
    }
}

/* ---- what is kept and drawn, beside a sort and sums in double -------------------------------- */

enum { LARGE = 5000, ROWS = 40 };
static const int64_t sizes[] = {1, 2, 63, 64, 65, 203, LARGE};
static const float* order_by;
static int falling(const void* a, const void* b) {
    const int32_t i = *(const int32_t*)a, j = *(const int32_t*)b;
    if (order_by[i] != order_by[j]) return order_by[i] > order_by[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}
static int rising(const void* a, const void* b) {
    const int32_t i = *(const int32_t*)a, j = *(const int32_t*)b;
    return (i > j) - (i < j);
}

/* Rows of several kinds: normal, with many equals, all equal, and with few that matter. */
static void make_row(int row, int64_t n, float* z) {
    lp_rng rng = lp_rng_philox(8, LP_FOR_TEST, (uint64_t)row, (uint32_t)n);
    lp_rng_normal_f32(&rng, z, n);
    for (int64_t i = 0; i < n; i++) {
        z[i] *= row % 4 == 3 ? 12.0f : 3.0f;
        if (row % 4 == 1) z[i] = floorf(z[i]);
        if (row % 4 == 2) z[i] = row % 8 == 2 ? 0.5f : (float)(i % 2) * 0.0f - 0.0f;
    }
}

/* The kept set the slow way, rising. A boundary that rounding may move is no test: *sharp is false.
 */
static int64_t keep_slowly(const lp__sampler* s, const float* z, int64_t banned_count,
                           const int32_t* banned, int32_t* ids, bool* sharp) {
    int64_t n = 0;
    double total = 0, sum = 0;
    *sharp = true;
    for (int64_t i = 0; i < s->vocab; i++) {
        bool ban = false;
        for (int64_t j = 0; j < banned_count; j++) ban |= banned[j] == i;
        if (!ban) ids[n++] = (int32_t)i;
    }
    order_by = z;
    qsort(ids, (size_t)n, sizeof *ids, falling);
    if (s->temperature <= 0) goto done;
    if (s->top_k > 0) n = LP__MIN(n, s->top_k);
    const double best = (double)z[ids[0]];
    for (int64_t i = 0; i < n; i++) total += exp((double)z[ids[i]] - best);
    for (int64_t i = 0; i < n && s->top_p < 1; i++) {
        sum += exp((double)z[ids[i]] - best);
        if (fabs(sum / total - s->top_p) < 1e-6) *sharp = false;
        if (sum >= s->top_p * total) n = i + 1;
    }
    for (int64_t i = 0; i < n; i++) {
        const double share = exp((double)z[ids[i]] - best);
        if (fabs(share - s->min_p) < 1e-6 * s->min_p) *sharp = false;
        if (share < s->min_p) n = i;
    }
done:
    qsort(ids, (size_t)n, sizeof *ids, rising);
    return n;
}

/* The set ids[0..n) as it is to be told, in entries: by its tokens, or if it has more than half of
 * them by what it lacks. */
static int32_t entries[LARGE];
static int64_t tell(int64_t vocab, int64_t n, const int32_t* ids) {
    const bool left_out = 2 * n > vocab;
    int64_t told = 0;
    for (int32_t j = 0, at = 0; j < vocab; j++) {
        const bool in = at < n && ids[at] == j;
        at += in;
        if (in != left_out) entries[told++] = left_out ? -1 - j : j;
    }
    assert_true(2 * told <= vocab);
    return told;
}

static int compared;
static void compare(const lp__sampler* s, int row, int64_t banned_count, const int32_t* banned,
                    const char* what) {
    static float z[LARGE], x[LARGE], scratch[LARGE];
    static int32_t ids[LARGE];
    static double space[LARGE * 2 + LP__SELECT_TABLE];
    bool sharp;
    assert_true(lp__sampler_scratch(s) <= sizeof space);
    make_row(row, s->vocab, z);
    if (s->temperature > 0) {
        const float factor = (float)(1.0 / s->temperature);
        for (int64_t i = 0; i < s->vocab; i++) scratch[i] = z[i] * factor;
    } else {
        memcpy(scratch, z, sizeof z);
    }
    const int64_t n = keep_slowly(s, scratch, banned_count, banned, ids, &sharp);
    for (int64_t i = 0; i < n; i++) x[i] = scratch[ids[i]];
    lp_rng rng = lp_rng_philox(9, LP_FOR_TEST, (uint64_t)row, 0), same = rng;
    const lp__drawn drawn = lp__sampler_draw(s, z, banned_count, banned, space, &rng);
    if (!sharp) return;
    compared++;
    const int64_t told = tell(s->vocab, n, ids);
    if (drawn.kept != told)
        fail_msg("%s, row %d of %d: %d are told, not %d", what, row, (int)s->vocab, drawn.kept,
                 (int)told);
    assert_memory_equal(z, entries, (size_t)told * sizeof *entries);
    int64_t at = 0;
    while (at < n && ids[at] != drawn.token) at++;
    assert_true(at < n);
    const lp__row_stats stats = lp__logits_stats(s->kernels, n, x, NULL); /* as lp_head */
    const float want = (float)((double)x[at] - stats.lse);
    assert_memory_equal(&drawn.log_prob, &want, sizeof want);
    if (s->temperature <= 0) {
        for (int64_t i = 0; i < n; i++) assert_true(i < at ? x[i] < x[at] : x[i] <= x[at]);
        return;
    }
    const double u = lp_rng_uniform(&same);
    double below = 0;
    for (int64_t i = 0; i < at; i++) below += exp((double)x[i] - stats.lse);
    assert_true(u >= below - 1e-6 && u <= below + exp((double)x[at] - stats.lse) + 1e-6);
}

static void kept_sets_and_draws(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        compared = 0;
        int rows = 0;
        for (int mode = 0; mode < (int)(sizeof modes / sizeof *modes); mode++) {
            for (size_t size = 0; size < sizeof sizes / sizeof *sizes; size++) {
                const lp__sampler sampler = {.kernels = lp__kernels_get((lp_isa)isa),
                                             .vocab = sizes[size],
                                             .temperature = modes[mode].temperature,
                                             .top_p = modes[mode].top_p,
                                             .min_p = modes[mode].min_p,
                                             .top_k = modes[mode].top_k};
                for (int row = 0; row < ROWS; row++, rows++) {
                    const int32_t banned[] = {0, (int32_t)(sizes[size] - 1),
                                              (int32_t)(row % sizes[size])};
                    compare(&sampler, row, sizes[size] > 3 && row % 2 ? 3 : 0, banned,
                            modes[mode].name);
                }
            }
        }
        assert_true(compared > rows * 8 / 10);
    }
}

/* A uniform number at the very end of its range ends at a token that can be drawn. */
static void the_tail_is_never_drawn(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        for (uint64_t index = 0; index < 300; index++) {
            static float z[LARGE];
            static double space[LARGE * 2 + LP__SELECT_TABLE];
            const lp__sampler sampler = {.kernels = lp__kernels_get((lp_isa)isa),
                                         .vocab = LARGE,
                                         .temperature = 1,
                                         .top_p = 1};
            for (int i = 0; i < LARGE; i++) z[i] = -300.0f; /* e^-300 is 0 */
            z[100] = z[130] = 0.25f;
            lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, index, 0);
            const lp__drawn drawn = lp__sampler_draw(&sampler, z, 0, NULL, space, &rng);
            assert_true(drawn.token == 100 || drawn.token == 130);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_with_a_nan_are_refused),
        cmocka_unit_test(kept_sets_and_draws),
        cmocka_unit_test(the_tail_is_never_drawn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
