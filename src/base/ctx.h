/* The inside of a context: only files of this folder look at it. */
#ifndef LP__BASE_CTX_H
#define LP__BASE_CTX_H

#include "base/base.h"

#define LP__MAX_THREADS 256

typedef struct lp__block lp__block;
typedef struct lp__pool lp__pool;

struct lp_ctx {
    lp_alloc_fn alloc;
    void* alloc_user;
    lp_assert_fn assertion;
    void* assert_user;
    lp_io io;
    lp_isa isa;
    const struct lp__kernels* kernels;
    atomic_int cancelled;

    lp__block* blocks; /* every live block, newest first */
    lp__owned* owned;  /* newest first */
    lp_memory memory;
    lp__arena scratch;

    int threads;
    lp__pool* pool; /* NULL with one thread */
    char* worker_scratch;
    size_t worker_stride;

    bool null_given; /* see lp__note_null */
    lp_status error_status;
    char error[1024];
};

/* How many threads may run at once here: the affinity mask, cut by the CPU quota of the control
 * group. */
int lp__cpu_count(const lp_io* io);

/* Starts ctx->threads - 1 threads. */
lp_status lp__pool_start(lp_ctx* ctx);
void lp__pool_stop(lp_ctx* ctx);

/* Frees every block of the context. */
void lp__free_all(lp_ctx* ctx);

#endif
