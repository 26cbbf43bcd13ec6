/* logpi/base.h - context, errors, memory, threads, files, random numbers.
 *
 * A context (lp_ctx) owns everything that the library makes: memory, threads, the last error.
 * Nothing is global, so two contexts never meet. One thread at a time may use a context;
 * lp_cancel() alone may be called from anywhere, a signal handler included.
 *
 * Two kinds of failure. The world's (a file, memory, a NaN) is a negative lp_status, and
 * lp_error(ctx) says what, where and what to do. A programmer's mistake (NULL, a shape that cannot
 * fit) calls the assert hook of the context, whose default traps. */
#ifndef LOGPI_BASE_H
#define LOGPI_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LP_API               __attribute__((visibility("default")))
#define LP_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define LP_API
#define LP_PRINTF(fmt, args)
#endif

#define LP_VERSION_MAJOR 0
#define LP_VERSION_MINOR 1
#define LP_VERSION_PATCH 0

/* The version of the library that is linked: major * 10000 + minor * 100 + patch. */
LP_API int lp_version(void);

/* ---- status ---------------------------------------------------------------------------------- */

/* Every status: name, value, one-line meaning. */
#define LP_STATUS_MAP(X)                                                                           \
    X(OK, 0, "ok")                                                                                 \
    X(CANCELLED, -1, "cancelled")                                                                  \
    X(NOMEM, -2, "out of memory")                                                                  \
    X(IO, -3, "input/output error")                                                                \
    X(NOT_FOUND, -4, "not found")                                                                  \
    X(FORMAT, -5, "malformed file or text")                                                        \
    X(UNSUPPORTED, -6, "well formed, but not supported")                                           \
    X(INVALID, -7, "value out of range, or values that do not fit each other")                     \
    X(NONFINITE, -8, "NaN or infinity where a number is needed")                                   \
    X(CALLBACK, -9, "a callback of the caller failed")

typedef enum lp_status {
#define LP__STATUS_ENUM(name, value, text) LP_##name = (value),
    LP_STATUS_MAP(LP__STATUS_ENUM)
#undef LP__STATUS_ENUM
} lp_status;

/* The name of a status as written in the table ("NOMEM"), and its meaning. Static strings;
 * "UNKNOWN" for a value that is not in the table. */
LP_API const char* lp_status_name(lp_status status);
LP_API const char* lp_status_text(lp_status status);

/* ---- files ----------------------------------------------------------------------------------- */

/* Every file call of the library goes through one of these tables, so that a test or an embedding
 * program can replace them. Each returns what the POSIX call of its name returns, except that an
 * error is the negative errno (-ENOENT) and never -1. */
typedef struct lp_io {
    void* user;
    int (*open)(void* user, const char* path, int flags, unsigned mode);
    int (*close)(void* user, int fd);
    int64_t (*size)(void* user,
                    int fd); /* bytes; -EISDIR for a folder, -ESPIPE if not a regular file */
    int64_t (*pread)(void* user, int fd, void* buffer, size_t bytes, int64_t offset);
    int64_t (*write)(void* user, int fd, const void* buffer, size_t bytes);
    int (*fsync)(void* user, int fd);
    int (*rename)(void* user, const char* from, const char* to);
    int (*unlink)(void* user, const char* path);
    int (*mkdir)(void* user, const char* path, unsigned mode);
    int (*lock)(void* user, int fd); /* exclusive, until close or the end of the process;
                                        -EWOULDBLOCK at once if another has it */
} lp_io;

/* The operating system's calls. */
LP_API lp_io lp_io_system(void);

/* ---- context --------------------------------------------------------------------------------- */

typedef struct lp_ctx lp_ctx;

/* Instruction sets, in rising order. Every kernel exists for LP_ISA_SCALAR, the reference. */
typedef enum lp_isa {
    LP_ISA_SCALAR,
    LP_ISA_AVX2,        /* with FMA */
    LP_ISA_AVX512,      /* F, DQ, BW, VL; products of bf16 by widening */
    LP_ISA_AVX512_BF16, /* and products of bf16 by the processor */
    LP_ISA_COUNT
} lp_isa;

/* "scalar", "avx2" (with FMA), "avx512" (F, DQ, BW, VL). */
LP_API const char* lp_isa_name(lp_isa isa);

/* Resizes a block like realloc: old == NULL allocates, new_bytes == 0 frees and returns NULL. A
 * block must be aligned for any scalar type. NULL for new_bytes > 0 means out of memory; the old
 * block then stays. */
typedef void* (*lp_alloc_fn)(void* user, void* old, size_t old_bytes, size_t new_bytes);

/* Called for a programmer's mistake. If it returns, the call that found the mistake goes on with
 * LP_INVALID. */
typedef void (*lp_assert_fn)(void* user, const char* condition, const char* where,
                             const char* message);

typedef struct lp_ctx_def {
    uint32_t cookie; /* set by lp_ctx_def_default; anything else is refused */
    int threads;     /* 1..256; 0: as many as the affinity mask and the cgroup's CPU quota allow */
    int isa;         /* an lp_isa; -1: LOGPI_ISA from the environment, else the best this CPU has */
    lp_alloc_fn alloc; /* NULL: malloc */
    void* alloc_user;
    lp_assert_fn assertion; /* NULL: print nothing, trap */
    void* assert_user;
    lp_io io; /* default: lp_io_system() */
} lp_ctx_def;

LP_API lp_ctx_def lp_ctx_def_default(void);

/* Creates a context; def may be NULL (the defaults). On failure returns NULL and, if error is not
 * NULL, writes a message of at most error_bytes bytes, terminated, to it. */
LP_API lp_ctx* lp_ctx_create(const lp_ctx_def* def, char* error, size_t error_bytes);

/* Frees the context and everything created with it, and closes the files that it holds open. NULL
 * is allowed. */
LP_API void lp_ctx_destroy(lp_ctx* ctx);

/* The message of the last failure: what, where, what to do; "" if none. Valid until the next call
 * that uses ctx. */
LP_API const char* lp_error(const lp_ctx* ctx);
LP_API lp_status lp_error_status(const lp_ctx* ctx);
/* Records a failure of the caller's own (a callback, a file that it reads) as if the library had
 * failed, and returns status. The message is cut at 1,000 bytes or so. */
LP_API lp_status lp_fail(lp_ctx* ctx, lp_status status, const char* fmt, ...) LP_PRINTF(3, 4);

/* Asks whatever runs in the context to stop: long calls return LP_CANCELLED soon, with everything
 * consistent. Async-signal-safe. Stays set until lp_cancel_clear. */
LP_API void lp_cancel(lp_ctx* ctx);
LP_API void lp_cancel_clear(lp_ctx* ctx);
LP_API bool lp_cancelled(const lp_ctx* ctx);

LP_API int lp_ctx_threads(const lp_ctx* ctx);
LP_API lp_isa lp_ctx_isa(const lp_ctx* ctx);

/* Memory that the context holds now, and the most it has held, in bytes; and how often it has asked
 * the allocator for memory so far (a training loop must not raise it after its first step). */
typedef struct lp_memory {
    size_t bytes, peak_bytes;
    uint64_t allocations;
} lp_memory;
LP_API lp_memory lp_ctx_memory(const lp_ctx* ctx);

/* ---- the machine ----------------------------------------------------------------------------- */

/* What the machine does at this moment with the threads of a context, measured. */
typedef struct lp_machine {
    double barrier_ns;  /* an empty job handed to all threads, and its end: about 100 with a shared
                           cache, 40 on two threads of one core (then all else is halved), 400 or
                           more across caches. 0: one thread */
    double fp32_gflops; /* multiply-adds from registers and the first level of the cache */
    double bf16_gflops; /* the same of bf16 with fp32 sums; 0: the instruction set has none */
    double read_gbps;   /* reading memory, 10^9 bytes a second */
} lp_machine;

/* Takes about a tenth of a second and, for as long as it lasts, 128 MB. LP_NOMEM, LP_CANCELLED. */
LP_API lp_status lp_machine_probe(lp_ctx* ctx, lp_machine* machine);
/* The same without reading memory (read_gbps is 0): about 10 ms. */
LP_API lp_status lp_machine_probe_compute(lp_ctx* ctx, lp_machine* machine);

/* ---- random numbers -------------------------------------------------------------------------- */

/* What a stream is for: streams of different purposes never overlap. */
typedef enum lp_purpose {
    LP_FOR_USER,
    LP_FOR_INIT,    /* initial weights */
    LP_FOR_ACTION,  /* sampled actions and tokens */
    LP_FOR_SHUFFLE, /* permutations of a batch */
    LP_FOR_ENV,
    LP_FOR_TEST
} lp_purpose;

typedef enum lp_rng_kind { LP_RNG_PHILOX, LP_RNG_NUMPY, LP_RNG_TORCH } lp_rng_kind;

/* A random stream: plain bytes, owned by the caller, copied by assignment, needing no destruction.
 * Its fields are private.
 *
 * Philox streams are counter-based (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC'11; Philox4x32-10) and keyed by (seed, purpose, index, step), so that no order of work can
 * change them. The other two exist for parity only: NumPy's legacy RandomState and PyTorch's CPU
 * generator, both MT19937. */
typedef struct lp_rng {
    uint32_t kind;
    uint32_t key[2], counter[4], block[4];
    uint32_t used;    /* words of block already handed out */
    uint32_t mt[624]; /* state of MT19937 */
    uint32_t mt_index;
    uint32_t has_normal; /* a second normal variate waits in normal */
    double normal;
} lp_rng;

/* index < 2^56; a stream has 2^34 words. */
LP_API lp_rng lp_rng_philox(uint64_t seed, lp_purpose purpose, uint64_t index, uint32_t step);
LP_API lp_rng lp_rng_numpy(uint32_t seed); /* np.random.seed(seed) */
LP_API lp_rng lp_rng_torch(uint64_t seed); /* torch.manual_seed(seed) */

/* 32 random bits. */
LP_API uint32_t lp_rng_u32(lp_rng* rng);

/* Uniform on [0, 1), 53 bits: NumPy's random_sample, PyTorch's uniform in double. */
LP_API double lp_rng_uniform(lp_rng* rng);

/* Standard normal variates. NumPy: legacy randn (polar method). PyTorch: torch.randn(n), float32,
 * whose algorithm differs below and from 16 elements on; the f64 call follows torch.randn(n,
 * dtype=float64). Philox: Box-Muller in double, one pair of uniforms for two variates. */
LP_API void lp_rng_normal_f32(lp_rng* rng, float* out, int64_t n);
LP_API void lp_rng_normal_f64(lp_rng* rng, double* out, int64_t n);

/* Index in [0, k) drawn with the probabilities p (k >= 1, non-negative, summing to 1 up to
 * rounding). NumPy: np.random.choice(k, p=p). PyTorch: torch.multinomial(p, 1), argmax of p / q in
 * the type of p with q = -log1p(-u). Philox: the inverse of the cumulative sum. Returns -1 if no
 * entry of p is positive and finite. */
LP_API int64_t lp_rng_choice_f32(lp_rng* rng, const float* p, int64_t k);
LP_API int64_t lp_rng_choice_f64(lp_rng* rng, const double* p, int64_t k);

/* Uniform integer in [0, n), n >= 1, without bias. NumPy: np.random.randint(n). */
LP_API uint32_t lp_rng_below(lp_rng* rng, uint32_t n);

/* A uniformly random permutation of 0..n-1 (Fisher-Yates). NumPy: np.random.permutation(n). */
LP_API void lp_rng_permutation(lp_rng* rng, int32_t* out, int32_t n);

#ifdef __cplusplus
}
#endif
#endif
