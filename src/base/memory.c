/* Blocks of memory that belong to a context. */
#include "base/ctx.h"

#include <stdlib.h>
#include <string.h>

#define LP__ALIGN ((size_t)64)

/* Sits in the 64 bytes before the block that the caller sees. */
struct lp__block {
    lp__block *prev, *next;
    void* raw; /* what the allocator gave */
    size_t raw_bytes;
    size_t bytes; /* what the caller asked for */
};
_Static_assert(sizeof(lp__block) <= 64, "the header must fit before an aligned block");

static lp__block* header_of(void* block) { return (lp__block*)(void*)((char*)block - LP__ALIGN); }

static char* aligned_block(void* raw) {
    uintptr_t address = (uintptr_t)raw + LP__ALIGN;
    size_t shift = (size_t)(-address & (LP__ALIGN - 1));
    return (char*)raw + LP__ALIGN + shift;
}

static void* give(lp_ctx* ctx, void* raw, size_t raw_bytes, size_t bytes) {
    char* block = aligned_block(raw);
    lp__block* header = header_of(block);
    *header = (lp__block){.next = ctx->blocks, .raw = raw, .raw_bytes = raw_bytes, .bytes = bytes};
    if (ctx->blocks) {
        ctx->blocks->prev = header;
    }
    ctx->blocks = header;
    ctx->memory.bytes += raw_bytes;
    ctx->memory.peak_bytes = LP__MAX(ctx->memory.peak_bytes, ctx->memory.bytes);
    return block;
}

static void unlink_block(lp_ctx* ctx, lp__block* header) {
    if (header->prev) {
        header->prev->next = header->next;
    } else {
        ctx->blocks = header->next;
    }
    if (header->next) {
        header->next->prev = header->prev;
    }
    ctx->memory.bytes -= header->raw_bytes;
}

static void* no_memory(lp_ctx* ctx, size_t bytes) {
    lp_fail(ctx, LP_NOMEM,
            "out of memory: %zu bytes asked for, %zu held already; use a smaller model or batch",
            bytes, ctx->memory.bytes);
    return NULL;
}

void* lp__alloc(lp_ctx* ctx, size_t bytes) {
    size_t raw_bytes;
    if (!lp__add_ok(bytes, 2 * LP__ALIGN, &raw_bytes) || raw_bytes > PTRDIFF_MAX) {
        return no_memory(ctx, bytes);
    }
    ctx->memory.allocations++;
    void* raw = ctx->alloc(ctx->alloc_user, NULL, 0, raw_bytes);
    return raw ? give(ctx, raw, raw_bytes, bytes) : no_memory(ctx, bytes);
}

void* lp__calloc(lp_ctx* ctx, size_t count, size_t size) {
    size_t bytes;
    if (!lp__mul_ok(count, size, &bytes)) {
        return no_memory(ctx, SIZE_MAX);
    }
    void* block = lp__alloc(ctx, bytes);
    if (block) {
        memset(block, 0, bytes);
    }
    return block;
}

void* lp__realloc(lp_ctx* ctx, void* block, size_t bytes) {
    if (!block) {
        return lp__alloc(ctx, bytes);
    }
    size_t raw_bytes;
    if (!lp__add_ok(bytes, 2 * LP__ALIGN, &raw_bytes) || raw_bytes > PTRDIFF_MAX) {
        return no_memory(ctx, bytes);
    }
    lp__block old = *header_of(block);
    size_t shift = (size_t)((char*)block - (char*)old.raw);
    ctx->memory.allocations++;
    void* raw = ctx->alloc(ctx->alloc_user, old.raw, old.raw_bytes, raw_bytes);
    if (!raw) {
        return no_memory(ctx, bytes);
    }
    /* The header moved with its block: the neighbours still point at the old place. */
    if (old.prev) {
        old.prev->next = old.next;
    } else {
        ctx->blocks = old.next;
    }
    if (old.next) {
        old.next->prev = old.prev;
    }
    ctx->memory.bytes -= old.raw_bytes;
    char* moved = (char*)raw + shift;
    char* wanted = aligned_block(raw);
    if (moved != wanted) {
        memmove(wanted, moved, LP__MIN(old.bytes, bytes));
    }
    return give(ctx, raw, raw_bytes, bytes);
}

void lp__free(lp_ctx* ctx, void* block) {
    if (!block) {
        return;
    }
    lp__block* header = header_of(block);
    unlink_block(ctx, header);
    ctx->alloc(ctx->alloc_user, header->raw, header->raw_bytes, 0);
}

void lp__free_all(lp_ctx* ctx) {
    while (ctx->blocks) {
        lp__block* header = ctx->blocks;
        unlink_block(ctx, header);
        ctx->alloc(ctx->alloc_user, header->raw, header->raw_bytes, 0);
    }
}

char* lp__strdup(lp_ctx* ctx, const char* text, size_t length) {
    size_t bytes;
    if (!lp__add_ok(length, (size_t)1, &bytes)) {
        return no_memory(ctx, length);
    }
    char* copy = lp__alloc(ctx, bytes);
    if (copy) {
        if (length) {
            memcpy(copy, text, length);
        }
        copy[length] = 0;
    }
    return copy;
}

void lp__note_null(lp_ctx* ctx) { ctx->null_given = true; }

bool lp__null_was_given(const lp_ctx* ctx) { return ctx->null_given; }
