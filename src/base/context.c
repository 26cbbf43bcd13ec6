/* Creating and destroying a context, and what it answers about itself. */
#include "base/ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LP__CTX_COOKIE    0x6c706374u /* "lpct" */
#define LP__SCRATCH_CHUNK ((size_t)1 << 20)

/* Weights and activations: with small pages a short run spends a third of its time in page faults.
 */
static void advise_huge(void* block, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    enum { LARGE = 4 << 20, PAGE = 4096 };
    if (!block || bytes < LARGE) return;
    const uintptr_t first = ((uintptr_t)block + PAGE - 1) / PAGE * PAGE;
    madvise((void*)first, (uintptr_t)block + bytes - first,
            MADV_HUGEPAGE); /* advice: may be refused */
#else
    (void)block, (void)bytes;
#endif
}

static void* system_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)user;
    (void)old_bytes;
    if (new_bytes == 0) {
        free(old);
        return NULL;
    }
    void* block = realloc(old, new_bytes);
    advise_huge(block, new_bytes);
    return block;
}

const char* lp_isa_name(lp_isa isa) {
    switch (isa) {
    case LP_ISA_SCALAR: return "scalar";
    case LP_ISA_AVX2: return "avx2";
    case LP_ISA_AVX512: return "avx512";
    case LP_ISA_AVX512_BF16: return "avx512_bf16";
    case LP_ISA_COUNT: break;
    }
    return "unknown";
}

lp_ctx_def lp_ctx_def_default(void) {
    return (lp_ctx_def){.cookie = LP__CTX_COOKIE, .isa = -1, .io = lp_io_system()};
}

/* The instruction set that the definition, else LOGPI_ISA, else the CPU asks for. */
static lp_status choose_isa(lp_ctx* ctx, int wanted) {
    char available[128] = "";
    for (int i = 0; i < LP_ISA_COUNT; i++) {
        if (lp__isa_available((lp_isa)i)) {
            size_t length = strlen(available);
            snprintf(available + length, sizeof available - length, "%s%s", length ? ", " : "",
                     lp_isa_name((lp_isa)i));
        }
    }
    const char* name = wanted < 0 ? getenv("LOGPI_ISA") : NULL;
    if (name && *name) {
        for (int i = 0; i < LP_ISA_COUNT && wanted < 0; i++) {
            wanted = strcmp(name, lp_isa_name((lp_isa)i)) == 0 ? i : -1;
        }
        if (wanted < 0) {
            return lp_fail(ctx, LP_INVALID,
                           "LOGPI_ISA=%.64s names no instruction set; available here: %s", name,
                           available);
        }
    } else if (wanted < 0) {
        wanted = (int)lp__isa_best();
    }
    if (wanted >= LP_ISA_COUNT) {
        return lp_fail(ctx, LP_INVALID, "instruction set %d does not exist; available here: %s",
                       wanted, available);
    }
    ctx->isa = (lp_isa)wanted;
    ctx->kernels = lp__isa_available(ctx->isa) ? lp__kernels_get(ctx->isa) : NULL;
    if (!ctx->kernels) {
        return lp_fail(ctx, LP_UNSUPPORTED,
                       "instruction set %s is not available; available here: %s",
                       lp_isa_name(ctx->isa), available);
    }
    return LP_OK;
}

static lp_status start(lp_ctx* ctx, const lp_ctx_def* def) {
    lp_status status = choose_isa(ctx, def->isa);
    if (status) {
        return status;
    }
    ctx->threads = def->threads ? def->threads : lp__cpu_count(&ctx->io);
    return lp__pool_start(ctx);
}

static void say(char* error, size_t error_bytes, const char* text) {
    if (error && error_bytes) {
        snprintf(error, error_bytes, "%s", text);
    }
}

lp_ctx* lp_ctx_create(const lp_ctx_def* given, char* error, size_t error_bytes) {
    say(error, error_bytes, "");
    lp_ctx_def def = given ? *given : lp_ctx_def_default();
    if (def.cookie != LP__CTX_COOKIE) {
        say(error, error_bytes,
            "lp_ctx_def has no cookie: fill it with lp_ctx_def_default() first");
        return NULL;
    }
    if (def.threads < 0 || def.threads > LP__MAX_THREADS) {
        say(error, error_bytes, "threads must be 1 to 256, or 0 for as many as the machine allows");
        return NULL;
    }
    const lp_io* io = &def.io;
    if (!io->open || !io->close || !io->size || !io->pread || !io->write || !io->fsync ||
        !io->rename || !io->unlink || !io->mkdir || !io->lock) {
        say(error, error_bytes, "lp_ctx_def.io lacks a function: start from lp_io_system()");
        return NULL;
    }
    lp_alloc_fn alloc = def.alloc ? def.alloc : system_alloc;
    lp_ctx* ctx = alloc(def.alloc_user, NULL, 0, sizeof *ctx);
    if (!ctx) {
        say(error, error_bytes, "out of memory: the context itself could not be allocated");
        return NULL;
    }
    memset(ctx, 0, sizeof *ctx);
    ctx->alloc = alloc;
    ctx->alloc_user = def.alloc_user;
    ctx->assertion = def.assertion;
    ctx->assert_user = def.assert_user;
    ctx->io = def.io;
    ctx->threads = 1;
    ctx->memory = (lp_memory){sizeof *ctx, sizeof *ctx, 1};
    atomic_init(&ctx->cancelled, 0);
    lp__arena_init(&ctx->scratch, ctx, LP__SCRATCH_CHUNK);
    if (start(ctx, &def) != LP_OK) {
        say(error, error_bytes, ctx->error);
        lp_ctx_destroy(ctx);
        return NULL;
    }
    return ctx;
}

void lp__own(lp_ctx* ctx, lp__owned* owned, void (*destroy)(lp__owned* self)) {
    *owned = (lp__owned){.next = ctx->owned, .destroy = destroy};
    if (ctx->owned) ctx->owned->prev = owned;
    ctx->owned = owned;
}

void lp__disown(lp_ctx* ctx, lp__owned* owned) {
    *(owned->prev ? &owned->prev->next : &ctx->owned) = owned->next;
    if (owned->next) owned->next->prev = owned->prev;
}

void lp_ctx_destroy(lp_ctx* ctx) {
    if (!ctx) {
        return;
    }
    while (ctx->owned) {
        lp__owned* owned = ctx->owned;
        lp__disown(ctx, owned);
        owned->destroy(owned);
    }
    lp__pool_stop(ctx);
    lp__free_all(ctx);
    ctx->alloc(ctx->alloc_user, ctx, sizeof *ctx, 0);
}

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "lp_cancel must be safe in a signal handler");

void lp_cancel(lp_ctx* ctx) { atomic_store_explicit(&ctx->cancelled, 1, memory_order_release); }

void lp_cancel_clear(lp_ctx* ctx) {
    atomic_store_explicit(&ctx->cancelled, 0, memory_order_release);
}

bool lp_cancelled(const lp_ctx* ctx) {
    return atomic_load_explicit(&ctx->cancelled, memory_order_acquire) != 0;
}

int lp_ctx_threads(const lp_ctx* ctx) { return ctx->threads; }

lp_isa lp_ctx_isa(const lp_ctx* ctx) { return ctx->isa; }

lp_memory lp_ctx_memory(const lp_ctx* ctx) { return ctx->memory; }

const lp_io* lp__ctx_io(const lp_ctx* ctx) { return &ctx->io; }

const struct lp__kernels* lp__ctx_kernels(const lp_ctx* ctx) { return ctx->kernels; }
