/* Matrix products: right, and the same bits however the work is cut. */
#include "isas.h"

static const char* const TRANS[] = {"NN", "NT", "TN", "TT"};
static bool a_turned(lp__trans t) { return t == LP__TN || t == LP__TT; }
static bool b_turned(lp__trans t) { return t == LP__NT || t == LP__TT; }

enum { GUARD = 5 }; /* columns of C behind the last, which must stay */

/* One product against double, with leading dimensions larger than the rows. Tolerance: 1e-5 of sum
 * |a| |b|, and nothing else: a wrong index is off by about 1 / sqrt(k) of it. */
static void check_product(lp_ctx* ctx, lp__trans trans, int64_t m, int64_t n, int64_t k,
                          bool accumulate) {
    const int64_t lda = (a_turned(trans) ? m : k) + 3, ldb = (b_turned(trans) ? k : n) + 2;
    const int64_t ldc = n + GUARD;
    float* a = random_floats((a_turned(trans) ? k : m) * lda, 1);
    float* b = random_floats((b_turned(trans) ? n : k) * ldb, 2);
    float* c = random_floats(m * ldc, 3);
    float* before = random_floats(m * ldc, 3);

    assert_int_equal(lp__gemm(ctx, trans, m, n, k, a, lda, b, ldb, c, ldc, accumulate), LP_OK);
    for (int64_t i = 0; i < m; i++) {
        for (int64_t j = 0; j < n; j++) {
            double sum = accumulate ? (double)before[i * ldc + j] : 0.0, size = fabs(sum);
            for (int64_t p = 0; p < k; p++) {
                const double x = (double)a[a_turned(trans) ? p * lda + i : i * lda + p];
                const double y = (double)b[b_turned(trans) ? j * ldb + p : p * ldb + j];
                sum += x * y;
                size += fabs(x * y);
            }
            const double off = fabs((double)c[i * ldc + j] - sum);
            if (!(off <= 1e-5 * size))
                fail_msg("%s %s m %d n %d k %d: C[%d, %d] is %g, not %g",
                         lp__ctx_kernels(ctx)->name, TRANS[trans], (int)m, (int)n, (int)k, (int)i,
                         (int)j, (double)c[i * ldc + j], sum);
        }
        assert_memory_equal(c + i * ldc + n, before + i * ldc + n, GUARD * sizeof *c);
    }

    /* The packed form gives the same bits. */
    if (!a_turned(trans)) {
        float* packed = random_floats((int64_t)lp__packed_floats(ctx, k, n), 4);
        float* again = random_floats(m * ldc, 3);
        if (b_turned(trans))
            lp__pack_transposed(ctx, k, n, b, ldb, packed);
        else
            lp__pack_rows(ctx, k, n, b, ldb, packed);
        lp__gemm_packed(ctx, m, n, k, a, lda, packed, again, ldc, accumulate);
        assert_memory_equal(again, c, (size_t)(m * ldc) * sizeof *c);
        free(packed);
        free(again);
    }
    free(a), free(b), free(c), free(before);
}

static void products(const lp__kernels* table) {
    static const int64_t sizes[] = {0, 1, 2, 7, 16, 47, 48, 49, 97};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    lp_ctx* ctx = context_of(table, 2);
    for (int trans = LP__NN; trans <= LP__TT; trans++) {
        for (int i = 0; i < COUNT * COUNT * COUNT; i++)
            check_product(ctx, (lp__trans)trans, sizes[i % COUNT], sizes[i / COUNT % COUNT],
                          sizes[i / COUNT / COUNT], i % 2 == 1);
        /* More than one block of k, many panels, many rows. */
        check_product(ctx, (lp__trans)trans, 19, 53, 2500, true);
        check_product(ctx, (lp__trans)trans, 3, 800, 130, false);
        check_product(ctx, (lp__trans)trans, 333, 65, 70, false);
    }
    lp_ctx_destroy(ctx);
}
static void test_products(void** state) {
    (void)state;
    for_each_isa(products);
}

/* A row alone gives the bits it has among others: for each row of m rows, and for each column of n.
 */
static void batch_invariance(const lp__kernels* table) {
    enum { M = 37, N = 115, K = 1300 };
    lp_ctx* ctx = context_of(table, 2);
    float *a = random_floats(M * K, 1), *w = random_floats(N * K, 2);
    float *c = random_floats(M * N, 3), *alone = random_floats(M * N, 4);
    float* packed = random_floats((int64_t)lp__packed_floats(ctx, K, N), 5);
    lp__pack_transposed(ctx, K, N, w, K, packed);
    lp__gemm_packed(ctx, M, N, K, a, K, packed, c, N, false);
    for (int i = 0; i < M; i++)
        lp__gemm_packed(ctx, 1, N, K, a + i * K, K, packed, alone + i * N, N, false);
    assert_memory_equal(alone, c, sizeof(float) * M * N);
    for (int j = 0; j < N; j++)
        assert_int_equal(lp__gemm(ctx, LP__NT, M, 1, K, a, K, w + j * K, K, alone + j, N, false),
                         LP_OK);
    assert_memory_equal(alone, c, sizeof(float) * M * N);

    /* The same numbers stored the other way round. */
    float *at = random_floats(M * K, 6), *wt = random_floats(N * K, 7);
    for (int p = 0; p < K; p++) {
        for (int i = 0; i < M; i++) at[p * M + i] = a[i * K + p];
        for (int j = 0; j < N; j++) wt[p * N + j] = w[j * K + p];
    }
    for (int trans = LP__NN; trans <= LP__TT; trans++) {
        const bool ta = a_turned((lp__trans)trans), tb = b_turned((lp__trans)trans);
        memset(alone, 0, sizeof(float) * M * N);
        assert_int_equal(lp__gemm(ctx, (lp__trans)trans, M, N, K, ta ? at : a, ta ? M : K,
                                  tb ? w : wt, tb ? K : N, alone, N, false),
                         LP_OK);
        assert_memory_equal(alone, c, sizeof(float) * M * N);
    }
    free(a), free(w), free(c), free(alone), free(packed), free(at), free(wt);
    lp_ctx_destroy(ctx);
}
static void test_batch_invariance(void** state) {
    (void)state;
    for_each_isa(batch_invariance);
}

/* 1, 2 and 3 threads; and a sum over k cut into pieces that continue each other. */
static void thread_invariance(const lp__kernels* table) {
    static const int64_t shapes[][3] = {
        {1, 576, 576}, {130, 200, 1100}, {577, 50, 64}, {64, 7, 3000}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        const int64_t m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
        const size_t bytes = (size_t)(m * n) * sizeof(float);
        float *a = random_floats(m * k, 1), *b = random_floats(n * k, 2);
        for (int trans = LP__NN; trans <= LP__TT; trans++) {
            const lp__trans t = (lp__trans)trans;
            const int64_t lda = a_turned(t) ? m : k, ldb = b_turned(t) ? k : n;
            float* first = random_floats(m * n, 3);
            for (int threads = 1; threads <= 3; threads++) {
                lp_ctx* ctx = context_of(table, threads);
                float* c = random_floats(m * n, 3);
                assert_int_equal(
                    lp__gemm(ctx, t, m, n, k, a, lda, b, ldb, threads == 1 ? first : c, n, true),
                    LP_OK);
                if (threads > 1) assert_memory_equal(c, first, bytes);
                free(c);

                float* pieces = random_floats(m * n, 3);
                for (int64_t p = 0, step = 1; p < k; p += step, step = 3 * step + 1) {
                    const int64_t count = LP__MIN(step, k - p);
                    assert_int_equal(lp__gemm(ctx, t, m, n, count, a + (a_turned(t) ? p * lda : p),
                                              lda, b + (b_turned(t) ? p : p * ldb), ldb, pieces, n,
                                              true),
                                     LP_OK);
                }
                assert_memory_equal(pieces, first, bytes);
                free(pieces);
                lp_ctx_destroy(ctx);
            }
            free(first);
        }
        free(a), free(b);
    }
}
static void test_thread_invariance(void** state) {
    (void)state;
    for_each_isa(thread_invariance);
}

/* A training loop repeats its shapes: after the first round nothing is allocated. */
static void no_allocation(const lp__kernels* table) {
    lp_ctx* ctx = context_of(table, 2);
    float *a = random_floats(200 * 300, 1), *b = random_floats(300 * 100, 2);
    float* c = random_floats(200 * 100, 3);
    uint64_t after_first = 0;
    for (int round = 0; round < 3; round++) {
        for (int trans = LP__NN; trans <= LP__TT; trans++)
            (void)lp__gemm(ctx, (lp__trans)trans, 200, 100, 300, a,
                           a_turned((lp__trans)trans) ? 200 : 300, b,
                           b_turned((lp__trans)trans) ? 300 : 100, c, 100, round > 0);
        if (round == 0) after_first = lp_ctx_memory(ctx).allocations;
    }
    assert_int_equal(lp_ctx_memory(ctx).allocations, after_first);
    free(a), free(b), free(c);
    lp_ctx_destroy(ctx);
}
static void test_no_allocation(void** state) {
    (void)state;
    for_each_isa(no_allocation);
}

/* The whole packed operand, element by element: zero beyond the last column. */
static void packing(const lp__kernels* table) {
    enum { K = 1041, N = 77, LD = 1050 };
    lp_ctx* ctx = context_of(table, 2);
    float* source = random_floats(LD * LD, 1);
    const int64_t panel = table->panel, panels = (N + panel - 1) / panel;
    const int64_t count = (int64_t)lp__packed_floats(ctx, K, N);
    assert_int_equal(count, panels * panel * K);
    float *turned = random_floats(count, 2), *straight = random_floats(count, 3);
    lp__pack_transposed(ctx, K, N, source, LD, turned);
    lp__pack_rows(ctx, K, N, source, LD, straight);
    for (int64_t j = 0; j < panels * panel; j++)
        for (int64_t p = 0; p < K; p++) {
            const int64_t at = (j / panel * K + p) * panel + j % panel;
            const float want_turned = j < N ? source[j * LD + p] : 0.0f;
            const float want_straight = j < N ? source[p * LD + j] : 0.0f;
            assert_true(turned[at] == want_turned && straight[at] == want_straight);
        }
    free(source), free(turned), free(straight);
    lp_ctx_destroy(ctx);
}
static void test_packing(void** state) {
    (void)state;
    for_each_isa(packing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packing),          cmocka_unit_test(test_products),
        cmocka_unit_test(test_batch_invariance), cmocka_unit_test(test_thread_invariance),
        cmocka_unit_test(test_no_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
