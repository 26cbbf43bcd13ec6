/* What every layer of the library shares, and no user sees. */
#ifndef LP__BASE_H
#define LP__BASE_H

#include <logpi/base.h>
#include <stdarg.h>
#include <stdatomic.h>

/* ---- errors ---------------------------------------------------------------------------------- */

/* Puts "prefix: " before the recorded message; for a caller that knows where (a path, a step). */
lp_status lp__fail_at(lp_ctx* ctx, lp_status status, const char* fmt, ...) LP_PRINTF(3, 4);

/* A programmer's mistake: calls the assert hook. */
void lp__assertion(lp_ctx* ctx, const char* condition, const char* where, const char* message);
#define LP__STR2(x) #x
#define LP__STR(x)  LP__STR2(x)
/* Evaluates to whether the condition holds, after telling the hook if it does not. */
#define LP__REQUIRE(ctx, condition, message)                                                       \
    ((condition) ||                                                                                \
     (lp__assertion((ctx), #condition, __FILE__ ":" LP__STR(__LINE__), (message)), false))

/* A setting and the range that it must lie in; NaN lies in none. */
typedef struct lp__range {
    const char* name;
    double value, low, high;
} lp__range;
/* LP_INVALID after naming the first setting that is outside. */
lp_status lp__ranges_check(lp_ctx* ctx, const lp__range* ranges, size_t count);

/* ---- checked arithmetic: false on overflow, *out is then unspecified ------------------------- */
#define lp__add_ok(a, b, out) (!__builtin_add_overflow((a), (b), (out)))
#define lp__sub_ok(a, b, out) (!__builtin_sub_overflow((a), (b), (out)))
#define lp__mul_ok(a, b, out) (!__builtin_mul_overflow((a), (b), (out)))

#define LP__MIN(a, b) ((a) < (b) ? (a) : (b))
#define LP__MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- memory: blocks aligned to 64 bytes, freed with the context at the latest ---------------- */
void* lp__alloc(lp_ctx* ctx,
                size_t bytes); /* NULL after lp_fail(NOMEM); bytes == 0 gives a valid block */
void* lp__calloc(lp_ctx* ctx, size_t count, size_t size); /* zeroed; the product is checked */
void* lp__realloc(lp_ctx* ctx, void* block,
                  size_t bytes);         /* contents kept; NULL and old block stays on failure */
void lp__free(lp_ctx* ctx, void* block); /* NULL allowed */
char* lp__strdup(lp_ctx* ctx, const char* text, size_t length); /* copy, terminated */
/* How much room to make for `need` where there was room for `old`: a quarter more than that at
 * least, so that a loop whose sizes vary soon has enough. */
static inline size_t lp__grown(size_t need, size_t old) { return LP__MAX(need, old + old / 4); }

/* ---- what more than memory must be given back for: an open file ------------------------------ */
typedef struct lp__owned lp__owned;
struct lp__owned {
    lp__owned *prev, *next;
    void (*destroy)(lp__owned* self);
};
/* `destroy` is called when the context dies, the newest first, while all memory is still there;
 * lp__disown takes that back. owned lies in a block of the context. */
void lp__own(lp_ctx* ctx, lp__owned* owned, void (*destroy)(lp__owned* self));
void lp__disown(lp_ctx* ctx, lp__owned* owned);

/* A constructor whose result goes straight into a formula (a parameter) notes here that it gave
 * NULL for want of memory: a NULL that arrives in an op is then no mistake of the programmer. */
void lp__note_null(lp_ctx* ctx);
bool lp__null_was_given(const lp_ctx* ctx);

/* The random stream of the count-th event of an index below 2^32; count < 2^56. */
static inline lp_rng lp__stream(uint64_t seed, lp_purpose purpose, uint64_t index, uint64_t count) {
    return lp_rng_philox(seed, purpose, index | (count >> 32) << 32, (uint32_t)count);
}

/* ---- arena: allocation is a bump, reset is free ---------------------------------------------- */
typedef struct lp__chunk lp__chunk;
typedef struct lp__arena {
    lp_ctx* ctx;
    lp__chunk *first, *current;
    size_t used, high_water; /* bytes handed out since the reset; the most ever */
    size_t chunk_bytes;      /* least size of a new chunk */
    size_t planned;          /* of the next first chunk */
} lp__arena;
typedef struct lp__mark {
    lp__chunk* chunk;
    size_t chunk_used, used;
} lp__mark;

void lp__arena_init(lp__arena* arena, lp_ctx* ctx, size_t chunk_bytes);
void* lp__arena_alloc(lp__arena* arena,
                      size_t bytes); /* 64-byte aligned, not cleared; NULL after lp_fail */
lp__mark lp__arena_mark(const lp__arena* arena);
void lp__arena_release(lp__arena* arena, lp__mark mark); /* frees all that came after the mark */
/* Keeps the memory: a loop that repeats allocates nothing. Several chunks give way to one that would
 * have held it all, so that the next round needs no more in whatever order it asks. */
void lp__arena_reset(lp__arena* arena);
/* Of an arena of which nothing is in use: the next rounds will need up to so many bytes, which are
 * taken at once when the first is asked for. */
void lp__arena_plan(lp__arena* arena, size_t bytes);
void lp__arena_free(lp__arena* arena);

/* Scratch of the context, for one call: mark, allocate, release in that order. */
lp__arena* lp__scratch(lp_ctx* ctx);

/* ---- threads --------------------------------------------------------------------------------- */
typedef void (*lp__task_fn)(void* user, int64_t index, int worker);

/* Runs fn(user, i, worker) for every i in [0, n), on all threads of the context; returns when all
 * are done. worker is in [0, threads); the calling thread is worker 0. Which worker takes which
 * index is not fixed: results must not depend on it. A call from inside a task runs inline, under
 * that task's worker number; one task alone (n
 * == 1) is no job, and calls from inside it may use all threads. Tasks must not call lp_fail, nor
 * allocate. */
void lp__parallel_for(lp_ctx* ctx, int64_t n, lp__task_fn fn, void* user);

/* The context's allocation-free scratch of one worker: grows on the calling thread only. Makes sure
 * that each worker has at least `bytes`; false after lp_fail(NOMEM). */
bool lp__worker_scratch_reserve(lp_ctx* ctx, size_t bytes);
void* lp__worker_scratch(lp_ctx* ctx, int worker);

/* ---- kernels: the table chosen at creation ---------------------------------------------------- *
 * A context holds the table and never looks into it; the three functions that find it are defined
 * by the next layer. */
struct lp__kernels;
/* Whether this CPU can run isa; the best that it can. */
bool lp__isa_available(lp_isa isa);
lp_isa lp__isa_best(void);
/* The table of isa; NULL if it was not built or the CPU lacks it. */
const struct lp__kernels* lp__kernels_get(lp_isa isa);
const struct lp__kernels* lp__ctx_kernels(const lp_ctx* ctx);

/* ---- files ----------------------------------------------------------------------------------- */
const lp_io* lp__ctx_io(const lp_ctx* ctx);

/* Opens for reading; *size is the length. Negative fd never returned with LP_OK. */
lp_status lp__file_open(lp_ctx* ctx, const char* path, int* fd, uint64_t* size);
/* Reads exactly bytes at offset: handles short reads and EINTR; an early end is LP_FORMAT
 * ("truncated"). */
lp_status lp__file_read(lp_ctx* ctx, int fd, const char* path, void* buffer, size_t bytes,
                        uint64_t offset);
void lp__file_close(lp_ctx* ctx, int fd);
/* The whole of a file of at most limit bytes, terminated by a zero that *size does not count. */
lp_status lp__file_slurp(lp_ctx* ctx, const char* path, size_t limit, char** text, size_t* size);

/* A file that appears whole or not at all: written beside its name as PATH.logpi.tmp, synced, then
 * renamed over it. One writer a file at a time, on this machine: a second is refused (LP_IO) as
 * long as the first lives. */
typedef struct lp__writer {
    lp_ctx* ctx;
    int fd;
    char *path, *temp_path;
    uint64_t written;
    lp_status status; /* the first failure; later writes do nothing */
} lp__writer;
lp_status lp__writer_open(lp_ctx* ctx, lp__writer* writer, const char* path);
lp_status lp__writer_write(lp__writer* writer, const void* bytes, size_t count);
lp_status lp__writer_commit(
    lp__writer* writer); /* sync, close, rename; on any failure the temporary is removed */
void lp__writer_abort(lp__writer* writer);
/* Appends to a file (made if missing), with one write per call and no sync. */
lp_status lp__file_append(lp_ctx* ctx, const char* path, const void* bytes, size_t count);
/* Makes a folder, and its parents; one that exists is no error. */
lp_status lp__mkdirs(lp_ctx* ctx, const char* path);
/* "folder/name", to be freed; NULL after lp_fail(NOMEM). */
char* lp__path(lp_ctx* ctx, const char* folder, const char* name);

/* ---- text ------------------------------------------------------------------------------------ */
/* Offset of the first byte that is not part of valid UTF-8 (no overlong forms, surrogates, or
 * values past U+10FFFF), or -1 if all is valid. */
int64_t lp__utf8_error(const char* text, size_t bytes);

#endif
