/* Sharing out the rows, columns or elements of an op to the threads: each output is computed by one
 * of them. */
#ifndef LP__RANGES_H
#define LP__RANGES_H

#include "tensor/tape.h"

static inline bool lp__is_f64(const lp__node* node) { return node->t.type == LP_F64; }

typedef struct lp__range_job lp__range_job;
struct lp__range_job {
    lp__node* node;
    void *out, *out2;
    int64_t n, grain;
    void (*run)(const lp__range_job* job, int64_t from, int64_t to);
};

static inline void lp__range_task(void* user, int64_t index, int worker) {
    (void)worker;
    const lp__range_job* job = user;
    const int64_t from = index * job->grain;
    job->run(job, from, LP__MIN(from + job->grain, job->n));
}

/* Runs job->run over [0, n) in pieces of about `work` elements, each of `width` of them per index.
 */
static inline void lp__for_ranges(lp__range_job* job, int64_t n, int64_t width) {
    enum { PIECE = 1 << 13 };
    job->n = n;
    job->grain = LP__MAX(PIECE / LP__MAX(width, 1), 1);
    lp__parallel_for(lp__node_ctx(job->node), (n + job->grain - 1) / job->grain, lp__range_task,
                     job);
}

#endif
