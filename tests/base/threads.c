/* The pool: every index once, every size of pool, nested calls, sleeping and spinning threads. */
#include "base/base.h"
#include "testing.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static lp_ctx* create(int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    char error[200];
    lp_ctx* ctx = lp_ctx_create(&def, error, sizeof error);
    if (!ctx) fail_msg("%s", error);
    assert_int_equal(lp_ctx_threads(ctx), threads);
    return ctx;
}

typedef struct job {
    lp_ctx* ctx;
    int* seen; /* [n], without atomics: a race detector finds an index that runs twice */
    int64_t n;
    int threads;
    atomic_int wrong, inner;
    int64_t* per_worker; /* [threads], each written by its worker alone */
} job;

static void mark(void* user, int64_t i, int worker) {
    job* j = user;
    if (i < 0 || i >= j->n || worker < 0 || worker >= j->threads) {
        atomic_fetch_add(&j->wrong, 1);
        return;
    }
    j->seen[i]++;
    j->per_worker[worker]++;
}

static void every_index_once(void** state) {
    (void)state;
    int pools[] = {1, 2, 3, 8};
    int64_t sizes[] = {0, 1, 2, 3, 7, 64, 1000, 20000};
    for (int p = 0; p < 4; p++) {
        lp_ctx* ctx = create(pools[p]);
        for (int round = 0; round < 200; round++) {
            int64_t n = sizes[round % 8];
            int seen[20000] = {0};
            int64_t per_worker[8] = {0};
            job j = {.seen = seen, .n = n, .threads = pools[p], .per_worker = per_worker};
            lp__parallel_for(ctx, n, mark, &j);
            assert_int_equal(j.wrong, 0);
            int64_t sum = 0;
            for (int64_t i = 0; i < n; i++) assert_int_equal(seen[i], 1);
            for (int w = 0; w < 8; w++) sum += per_worker[w];
            assert_int_equal(sum, n);
        }
        lp_ctx_destroy(ctx);
    }
}

static void pause_us(long us) {
    struct timespec t = {0, us * 1000};
    nanosleep(&t, NULL);
}

static void slow(void* user, int64_t i, int worker) {
    mark(user, i, worker);
    pause_us(i % 3 == 0 ? 200 : 0);
}

/* Pauses of the caller put the threads to sleep, slow tasks the caller: each must be woken again.
 */
static void sleepers_wake(void** state) {
    (void)state;
    lp_ctx* ctx = create(3);
    for (int round = 0; round < 150; round++) {
        int seen[9] = {0};
        int64_t per_worker[3] = {0};
        job j = {.seen = seen, .n = 9, .threads = 3, .per_worker = per_worker};
        if (round % 2) pause_us(100);
        lp__parallel_for(ctx, round % 9 + 1, slow, &j);
        for (int i = 0; i <= round % 9; i++) assert_int_equal(seen[i], 1);
    }
    lp_ctx_destroy(ctx);
}

/* Each of the two tasks waits for the other: only two threads at once can end this. */
static void meet(void* user, int64_t i, int worker) {
    (void)i;
    (void)worker;
    job* j = user;
    atomic_fetch_add(&j->inner, 1);
    for (int k = 0; k < 50000 && atomic_load(&j->inner) < 2; k++) pause_us(100);
    if (atomic_load(&j->inner) < 2) atomic_fetch_add(&j->wrong, 1);
}

static void tasks_run_at_once(void** state) {
    (void)state;
    lp_ctx* ctx = create(2);
    for (int round = 0; round < 20; round++) {
        job j = {0};
        lp__parallel_for(ctx, 2, meet, &j);
        assert_int_equal(j.wrong, 0);
        if (round % 3 == 0) pause_us(300);
    }
    lp_ctx_destroy(ctx);
}

typedef struct inner_job {
    job* outer;
    int64_t i;
    int worker;
    pthread_t thread;
    int count;
} inner_job;

static void inner(void* user, int64_t i, int worker) {
    inner_job* in = user;
    job* j = in->outer;
    /* Inline: the same thread, under the same worker, in order. */
    if (worker != in->worker || !pthread_equal(pthread_self(), in->thread) || i != in->count++) {
        atomic_fetch_add(&j->wrong, 1);
    }
    atomic_fetch_add(&j->inner, 1);
}

static void outer(void* user, int64_t i, int worker) {
    job* j = user;
    inner_job in = {.outer = j, .i = i, .worker = worker, .thread = pthread_self()};
    lp__parallel_for(j->ctx, 5, inner, &in);
    lp__parallel_for(
        j->ctx, 1, mark,
        &(job){.seen = (int[]){0}, .n = 1, .threads = j->threads, .per_worker = (int64_t[8]){0}});
    if (i % 2) pause_us(50);
}

static void nested_calls_run_inline(void** state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads++) {
        lp_ctx* ctx = create(threads);
        for (int round = 0; round < 20; round++) {
            job j = {.ctx = ctx, .threads = threads};
            lp__parallel_for(ctx, 30, outer, &j);
            assert_int_equal(j.inner, 150);
            assert_int_equal(j.wrong, 0);
        }
        lp_ctx_destroy(ctx);
    }
}

static void scribble(void* user, int64_t i, int worker) {
    job* j = user;
    unsigned char* scratch = lp__worker_scratch(j->ctx, worker);
    memset(scratch, (int)i, 1000);
    pause_us(20);
    for (int k = 0; k < 1000; k++) {
        if (scratch[k] != (unsigned char)i) atomic_fetch_add(&j->wrong, 1);
    }
    if ((uintptr_t)scratch % 64) atomic_fetch_add(&j->wrong, 1);
}

static void worker_scratch_is_private(void** state) {
    (void)state;
    lp_ctx* ctx = create(3);
    assert_true(lp__worker_scratch_reserve(ctx, 1000));
    uint64_t allocations = lp_ctx_memory(ctx).allocations;
    job j = {.ctx = ctx};
    for (int round = 0; round < 10; round++) {
        assert_true(lp__worker_scratch_reserve(ctx, (size_t)(1000 - round)));
        lp__parallel_for(ctx, 30, scribble, &j);
    }
    assert_int_equal(j.wrong, 0);
    assert_int_equal(lp_ctx_memory(ctx).allocations, allocations);
    assert_false(lp__worker_scratch_reserve(ctx, SIZE_MAX));
    assert_false(lp__worker_scratch_reserve(ctx, SIZE_MAX / 3));
    assert_int_equal(lp_error_status(ctx), LP_NOMEM);
    lp__parallel_for(ctx, 30, scribble, &j); /* the old scratch stays */
    assert_int_equal(j.wrong, 0);
    lp_ctx_destroy(ctx);
}

static void check_mask(void* user, int64_t i, int worker) {
    (void)i;
    job* j = user;
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    bool blocked =
        sigismember(&mask, SIGINT) && sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1);
    if (blocked != (worker > 0)) atomic_fetch_add(&j->wrong, 1);
    atomic_fetch_or(&j->inner, 1 << worker);
    pause_us(100);
}

static void pool_takes_no_signals(void** state) {
    (void)state;
    lp_ctx* ctx = create(2);
    job j = {0};
    for (int round = 0; round < 100 && j.inner != 3; round++)
        lp__parallel_for(ctx, 10, check_mask, &j);
    assert_int_equal(j.wrong, 0);
    assert_int_equal(j.inner, 3); /* both were looked at */
    lp_ctx_destroy(ctx);
}

/* Contexts come and go without a job, and two of them do not meet. */
static void contexts_are_apart(void** state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        lp_ctx *a = create(3), *b = create(2);
        if (i % 2) {
            int seen[10] = {0};
            int64_t per_worker[3] = {0};
            job j = {.seen = seen, .n = 10, .threads = 3, .per_worker = per_worker};
            lp__parallel_for(a, 5, mark, &j);
            lp__parallel_for(b, 10, mark, &j);
            for (int k = 0; k < 10; k++) assert_int_equal(seen[k], k < 5 ? 2 : 1);
        }
        lp_ctx_destroy(a);
        lp_ctx_destroy(b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_once),          cmocka_unit_test(sleepers_wake),
        cmocka_unit_test(tasks_run_at_once),         cmocka_unit_test(nested_calls_run_inline),
        cmocka_unit_test(worker_scratch_is_private), cmocka_unit_test(pool_takes_no_signals),
        cmocka_unit_test(contexts_are_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
