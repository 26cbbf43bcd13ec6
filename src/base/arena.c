/* Arena: chunks in the order in which they are filled. Those after `current` are empty and wait. */
#include "base/ctx.h"

#define LP__ALIGN ((size_t)64)

struct lp__chunk {
    lp__chunk* next;
    size_t capacity, used;
    _Alignas(64) char data[];
};

void lp__arena_init(lp__arena* arena, lp_ctx* ctx, size_t chunk_bytes) {
    *arena = (lp__arena){.ctx = ctx, .chunk_bytes = chunk_bytes};
}

static void* take(lp__arena* arena, lp__chunk* chunk, size_t bytes) {
    void* block = chunk->data + chunk->used;
    chunk->used += bytes;
    arena->used += bytes;
    arena->high_water = LP__MAX(arena->high_water, arena->used);
    return block;
}

/* Makes `chunk`, which is empty, the current one. */
static void enter(lp__arena* arena, lp__chunk* chunk) {
    lp__chunk** link = arena->current ? &arena->current->next : &arena->first;
    if (*link != chunk) {
        chunk->next = *link;
        *link = chunk;
    }
    chunk->used = 0;
    arena->current = chunk;
}

/* The first waiting chunk that has room, unlinked unless it is the next anyway; NULL if there is
 * none. */
static lp__chunk* find_waiting(lp__arena* arena, size_t bytes) {
    lp__chunk** link = arena->current ? &arena->current->next : &arena->first;
    for (lp__chunk** at = link; *at; at = &(*at)->next) {
        lp__chunk* chunk = *at;
        if (chunk->capacity >= bytes) {
            if (at != link) {
                *at = chunk->next;
            }
            return chunk;
        }
    }
    return NULL;
}

void* lp__arena_alloc(lp__arena* arena, size_t bytes) {
    size_t padded;
    if (!lp__add_ok(bytes, LP__ALIGN - 1, &padded)) {
        lp_fail(arena->ctx, LP_NOMEM, "out of memory: %zu bytes asked for", bytes);
        return NULL;
    }
    padded &= ~(LP__ALIGN - 1);
    lp__chunk* chunk = arena->current;
    if (chunk && chunk->capacity - chunk->used >= padded) {
        return take(arena, chunk, padded);
    }
    chunk = find_waiting(arena, padded);
    if (!chunk) {
        /* An eighth of all that is in use bounds the number of chunks, and with it the waste. */
        size_t capacity = LP__MAX(LP__MAX(padded, arena->chunk_bytes), arena->used / 8);
        if (!arena->current) capacity = LP__MAX(capacity, arena->planned);
        size_t total;
        if (!lp__add_ok(capacity, LP__ALIGN - 1, &capacity) ||
            !lp__add_ok(capacity &= ~(LP__ALIGN - 1), sizeof(lp__chunk), &total)) {
            lp_fail(arena->ctx, LP_NOMEM, "out of memory: %zu bytes asked for", bytes);
            return NULL;
        }
        chunk = lp__alloc(arena->ctx, total);
        if (!chunk && !arena->current && arena->planned > 0) {
            arena->planned = 0; /* what was there in pieces may not be there in one */
            return lp__arena_alloc(arena, bytes);
        }
        if (!chunk) {
            return NULL;
        }
        chunk->next = NULL;
        chunk->capacity = capacity;
    }
    enter(arena, chunk);
    return take(arena, chunk, padded);
}

lp__mark lp__arena_mark(const lp__arena* arena) {
    lp__chunk* chunk = arena->current;
    return (lp__mark){.chunk = chunk, .chunk_used = chunk ? chunk->used : 0, .used = arena->used};
}

static void free_chunks(lp__arena* arena) {
    while (arena->first) {
        lp__chunk* next = arena->first->next;
        lp__free(arena->ctx, arena->first);
        arena->first = next;
    }
}

/* Nothing is in use. */
static void begin_anew(lp__arena* arena) {
    arena->current = NULL;
    arena->used = 0;
    if (!arena->first || !arena->first->next) return;
    free_chunks(arena);
    arena->planned = arena->high_water + arena->high_water / 8;
}

void lp__arena_plan(lp__arena* arena, size_t bytes) {
    if (!LP__REQUIRE(arena->ctx, !arena->current, "memory is planned while nothing is in use"))
        return;
    if (arena->first && arena->first->capacity >= bytes) return;
    free_chunks(arena);
    arena->planned = LP__MAX(arena->planned, bytes);
}

void lp__arena_release(lp__arena* arena, lp__mark mark) {
    if (!mark.chunk) {
        begin_anew(arena);
        return;
    }
    arena->current = mark.chunk;
    mark.chunk->used = mark.chunk_used;
    arena->used = mark.used;
}

void lp__arena_reset(lp__arena* arena) { begin_anew(arena); }

void lp__arena_free(lp__arena* arena) {
    free_chunks(arena);
    lp__arena_reset(arena);
}

lp__arena* lp__scratch(lp_ctx* ctx) { return &ctx->scratch; }
