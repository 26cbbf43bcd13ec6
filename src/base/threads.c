/* The pool of threads of a context.
 *
 * A job is open while threads may join it. Threads and caller take indices from one atomic counter.
 * The caller closes the job when no index is left and waits only for the threads that joined: one
 * that sleeps through a short job is not waited for. The state of it all is one word:
 *
 *     gate = generation << 16 | open << 15 | threads inside
 *
 * so that joining (open, inside + 1) is one compare-and-swap, and the job's fields are written only
 * while the gate is closed and nobody is inside.
 *
 * Who waits spins first, then sleeps on a condition. Sleepers announce themselves in a counter and
 * look at the gate again; who changes the gate looks at the counter afterwards. All four accesses
 * are sequentially consistent, so one of the two sees the other. */
#include "base/ctx.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define LP__OPEN       ((uint64_t)1 << 15)
#define LP__INSIDE     (LP__OPEN - 1)
#define LP__GENERATION ((uint64_t)1 << 16)
#define LP__SPIN_NS    20000

typedef struct lp__worker {
    lp__pool* pool;
    int index;
    pthread_t thread;
} lp__worker;

struct lp__pool {
    _Alignas(64) atomic_uint_fast64_t gate;
    _Alignas(64) _Atomic int64_t next; /* index to be taken */
    _Alignas(64) lp__task_fn fn;
    void* user;
    int64_t n;
    bool running; /* a job runs: a call from inside a task */
    atomic_bool stop;
    _Alignas(64) atomic_int sleeping; /* threads that wait for a job */
    atomic_int waiting;               /* 1: the caller sleeps until nobody is inside */
    pthread_mutex_t mutex;
    pthread_cond_t work, done;
    int started; /* threads, numbered from 1; the caller is 0 */
    lp__worker workers[];
};

static inline void pause_cpu(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool has_job(lp__pool* pool, uint64_t last, memory_order order) {
    uint64_t gate = atomic_load_explicit(&pool->gate, order);
    return ((gate & LP__OPEN) && gate / LP__GENERATION != last) ||
           atomic_load_explicit(&pool->stop, order);
}

static bool nobody_inside(lp__pool* pool, memory_order order) {
    return (atomic_load_explicit(&pool->gate, order) & LP__INSIDE) == 0;
}

/* Returns when a job other than `last` is open, or the pool stops. */
static void wait_for_job(lp__pool* pool, uint64_t last) {
    int64_t begin = now_ns();
    do {
        for (int i = 0; i < 32; i++) {
            if (has_job(pool, last, memory_order_acquire)) return;
            pause_cpu();
        }
    } while (now_ns() - begin < LP__SPIN_NS);

    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->sleeping, 1);
    while (!has_job(pool, last, memory_order_seq_cst)) {
        pthread_cond_wait(&pool->work, &pool->mutex);
    }
    atomic_fetch_sub(&pool->sleeping, 1);
    pthread_mutex_unlock(&pool->mutex);
}

/* Returns when nobody is inside the job, which is closed. */
static void wait_for_workers(lp__pool* pool) {
    if (nobody_inside(pool, memory_order_acquire)) return;
    int64_t begin = now_ns();
    do {
        for (int i = 0; i < 32; i++) {
            if (nobody_inside(pool, memory_order_acquire)) return;
            pause_cpu();
        }
    } while (now_ns() - begin < LP__SPIN_NS);

    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->waiting, 1);
    while (!nobody_inside(pool, memory_order_seq_cst)) {
        pthread_cond_wait(&pool->done, &pool->mutex);
    }
    atomic_store(&pool->waiting, 0);
    pthread_mutex_unlock(&pool->mutex);
}

static void run_indices(lp__pool* pool, int worker) {
    lp__task_fn fn = pool->fn;
    void* user = pool->user;
    int64_t n = pool->n;
    for (;;) {
        int64_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (i >= n) return;
        fn(user, i, worker);
    }
}

/* Enters the open job, if there still is one; its generation is then *last. */
static bool join(lp__pool* pool, uint64_t* last) {
    uint64_t gate = atomic_load_explicit(&pool->gate, memory_order_acquire);
    while ((gate & LP__OPEN) && gate / LP__GENERATION != *last) {
        if (atomic_compare_exchange_weak_explicit(&pool->gate, &gate, gate + 1,
                                                  memory_order_acquire, memory_order_acquire)) {
            *last = gate / LP__GENERATION;
            return true;
        }
    }
    return false;
}

static void leave(lp__pool* pool) {
    uint64_t gate = atomic_fetch_sub(&pool->gate, 1) - 1;
    if ((gate & (LP__INSIDE | LP__OPEN)) == 0 && atomic_load(&pool->waiting)) {
        pthread_mutex_lock(&pool->mutex);
        pthread_cond_signal(&pool->done);
        pthread_mutex_unlock(&pool->mutex);
    }
}

static void* worker_main(void* argument) {
    lp__worker* worker = argument;
    lp__pool* pool = worker->pool;
    uint64_t last = 0;
    for (;;) {
        wait_for_job(pool, last);
        if (atomic_load_explicit(&pool->stop, memory_order_acquire)) return NULL;
        if (join(pool, &last)) {
            run_indices(pool, worker->index);
            leave(pool);
        }
    }
}

/* Which worker the running thread is: the caller, 0, if it is none of the pool's. */
static int worker_of_self(const lp__pool* pool) {
    pthread_t self = pthread_self();
    for (int i = 0; i < pool->started; i++) {
        if (pthread_equal(pool->workers[i].thread, self)) return i + 1;
    }
    return 0;
}

void lp__parallel_for(lp_ctx* ctx, int64_t n, lp__task_fn fn, void* user) {
    lp__pool* pool = ctx->pool;
    /* `running` is written by the caller alone, while nobody is inside: a task may read it. */
    if (!pool || n <= 1 || pool->running) {
        int worker = pool && pool->running ? worker_of_self(pool) : 0;
        for (int64_t i = 0; i < n; i++) {
            fn(user, i, worker);
        }
        return;
    }
    pool->running = true;
    pool->fn = fn;
    pool->user = user;
    pool->n = n;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    /* Closed and empty: nobody else changes the gate. */
    uint64_t gate = atomic_load_explicit(&pool->gate, memory_order_relaxed);
    atomic_store(&pool->gate, (gate + LP__GENERATION) | LP__OPEN);
    if (atomic_load(&pool->sleeping)) {
        pthread_mutex_lock(&pool->mutex);
        int64_t sleeping = atomic_load(&pool->sleeping);
        if (n - 1 < sleeping) {
            for (int64_t i = 0; i < n - 1; i++) {
                pthread_cond_signal(&pool->work);
            }
        } else {
            pthread_cond_broadcast(&pool->work);
        }
        pthread_mutex_unlock(&pool->mutex);
    }
    run_indices(pool, 0);
    atomic_fetch_and(&pool->gate, ~LP__OPEN);
    wait_for_workers(pool);
    pool->running = false;
}

lp_status lp__pool_start(lp_ctx* ctx) {
    int threads = ctx->threads;
    if (threads < 2) return LP_OK;
    size_t bytes = sizeof(lp__pool) + (size_t)(threads - 1) * sizeof(lp__worker);
    lp__pool* pool = lp__calloc(ctx, 1, bytes);
    if (!pool) return LP_NOMEM;
    atomic_init(&pool->gate, LP__GENERATION);
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    ctx->pool = pool;

    /* Signals are the program's: its own threads shall get them, with their masks and their stacks.
     */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int error = 0;
    for (int i = 0; i < threads - 1 && !error; i++) {
        lp__worker* worker = &pool->workers[i];
        worker->pool = pool;
        worker->index = i + 1;
        error = pthread_create(&worker->thread, NULL, worker_main, worker);
        if (!error) pool->started = i + 1;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error) {
        return lp_fail(ctx, LP_NOMEM,
                       "the system gave only %d of %d threads (error %d): ask for fewer threads",
                       pool->started + 1, threads, error);
    }
    return LP_OK;
}

void lp__pool_stop(lp_ctx* ctx) {
    lp__pool* pool = ctx->pool;
    if (!pool) return;
    pthread_mutex_lock(&pool->mutex);
    atomic_store(&pool->stop, true);
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->started; i++) {
        pthread_join(pool->workers[i].thread, NULL);
    }
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->mutex);
    ctx->pool = NULL;
    lp__free(ctx, pool);
}

bool lp__worker_scratch_reserve(lp_ctx* ctx, size_t bytes) {
    if (ctx->worker_scratch && bytes <= ctx->worker_stride) return true;
    size_t stride;
    if (!lp__add_ok(bytes, (size_t)63, &stride)) stride = SIZE_MAX;
    /* An odd number of lines between workers keeps their starts out of one set of the cache. */
    stride = (stride & ~(size_t)63) | 64;
    size_t total;
    if (!lp__mul_ok(stride, (size_t)ctx->threads, &total)) total = SIZE_MAX;
    char* block = lp__alloc(ctx, total);
    if (!block) return false;
    lp__free(ctx, ctx->worker_scratch);
    ctx->worker_scratch = block;
    ctx->worker_stride = stride;
    return true;
}

void* lp__worker_scratch(lp_ctx* ctx, int worker) {
    return ctx->worker_scratch + (size_t)worker * ctx->worker_stride;
}
