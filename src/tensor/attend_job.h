/* What attention forward and backward have in common. */
#ifndef LP__ATTEND_JOB_H
#define LP__ATTEND_JOB_H

#include "kernels/fetch.h"
#include "tensor/attend.h"

enum { LP__ATTEND_TILE = 64 }; /* query rows of an item of work */

typedef struct lp__attend_job {
    const lp__attend* a;
    const lp__kernels* kernels;
    const lp__format* format;
    int64_t threads;
    int64_t hdw;         /* words of a row of a head */
    int64_t panel_words; /* of a panel of values */
    int64_t d_panel;     /* columns of a head that are multiplied at a time: panels, evenly wide */
    lp__word* store;     /* without a cache: keys and values of all sequences */
    int64_t* at;         /* [sequences + 1]: rows of the store before a sequence */
    int64_t* tiles;      /* [sequences + 1]: tiles of queries before a sequence */
    int64_t longest;     /* keys */
    int64_t* roots;      /* [root_count]: sequences that are no continuation */
    int64_t root_count;
    lp__word* o;
    int64_t ldo;
    const lp__word* d;
    int64_t ldd;
    float *dq, *dk, *dv;
} lp__attend_job;

static inline int64_t lp__attend_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

/* Floats from a row of scores to the next: room for `padded`, and an odd number of lines, so that
 * rows do not meet in one set of the cache. */
static inline int64_t lp__attend_score_room(int64_t padded) { return padded | LP__PADDING; }

/* log2(e) / sqrt(head_dim): scores are powers of two. */
float lp__attend_scale(const lp__attend* a);

static inline int64_t lp__attend_keys(const lp__span* span) { return span->past + span->count; }

/* Rows of words, ld words apart, are asked for; to be written. */
static inline void lp__attend_fetch(int64_t rows, int64_t words, const void* x, int64_t ld) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < words; i += LP__LINE / (int64_t)sizeof(lp__word))
            lp__fetch((const lp__word*)x + r * ld + i);
}
static inline void lp__attend_fetch_write(int64_t rows, int64_t words, const void* x, int64_t ld) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < words; i += LP__LINE / (int64_t)sizeof(lp__word))
            lp__fetch_write((const lp__word*)x + r * ld + i);
}

/* Fills what both directions need; the arrays are in `scratch`. */
bool lp__attend_prepare(lp__attend_job* job, const lp__attend* a, lp__arena* scratch);

/* s [rows, lds] = q k^T for keys 0..n and what fills up their vectors; rows <=
 * kernels->tile_rows. Meanwhile the values, unless NULL, are asked for. */
void lp__attend_scores(const lp__attend_job* job, const lp__kv_view* v, int64_t rows,
                       const lp__word* q, int64_t ldq, int64_t n, float* s, int64_t lds);
/* c [rows, head_dim] (+)= a b of `words` steps of k; b has steps of head_dim words. Meanwhile lines
 * from `ahead` on, one for each step, are asked for; NULL: none. */
void lp__attend_wide(const lp__attend_job* job, int64_t rows, int64_t words, const lp__word* a,
                     int64_t lda, const lp__word* b, float* c, int64_t ldc, bool accumulate,
                     const lp__word* ahead);

#endif
