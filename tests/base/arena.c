/* Arena: alignment, marks, and that a repeated pass allocates nothing. */
#include "base/base.h"
#include "testing.h"

static lp_ctx* create(void) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(ctx);
    return ctx;
}

/* One pass of a loop that allocates, releases and exceeds its chunks. */
static void pass(lp__arena* arena) {
    lp_rng rng = lp_rng_philox(7, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < 300; i++) {
        size_t bytes = lp_rng_below(&rng, 50) == 0 ? 9000 : lp_rng_below(&rng, 700);
        char* block = lp__arena_alloc(arena, bytes);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, i, bytes);
        if (i % 10 == 9) {
            lp__mark mark = lp__arena_mark(arena);
            size_t used = arena->used;
            for (int j = 0; j < 5; j++) {
                assert_non_null(lp__arena_alloc(arena, lp_rng_below(&rng, 6000)));
            }
            lp__arena_release(arena, mark);
            assert_int_equal(arena->used, used);
        }
    }
}

static void third_pass_allocates_nothing(void** state) {
    (void)state;
    lp_ctx* ctx = create();
    lp__arena arena;
    lp__arena_init(&arena, ctx, 4096);
    pass(&arena);
    uint64_t allocations = lp_ctx_memory(ctx).allocations;
    size_t high_water = arena.high_water;
    assert_true(allocations > 3); /* there is something to join */
    lp__arena_reset(&arena);
    pass(&arena);
    assert_int_equal(lp_ctx_memory(ctx).allocations, ++allocations); /* one chunk for all */
    for (int i = 0; i < 20; i++) {
        lp__arena_reset(&arena);
        pass(&arena);
        assert_int_equal(lp_ctx_memory(ctx).allocations, allocations);
    }
    assert_int_equal(arena.high_water, high_water);
    lp__arena_free(&arena);
    lp_ctx_destroy(ctx);
}

/* Live blocks keep their bytes through marks, releases and new chunks. */
static void blocks_do_not_overlap(void** state) {
    (void)state;
    lp_ctx* ctx = create();
    lp__arena arena;
    lp__arena_init(&arena, ctx, 1024);
    enum { N = 200 };
    unsigned char* blocks[N];
    size_t sizes[N];
    lp_rng rng = lp_rng_philox(8, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < N; i++) {
        sizes[i] = lp_rng_below(&rng, 500);
        blocks[i] = lp__arena_alloc(&arena, sizes[i]);
        memset(blocks[i], i, sizes[i]);
        lp__mark mark = lp__arena_mark(&arena);
        size_t extra = lp_rng_below(&rng, 3000);
        memset(lp__arena_alloc(&arena, extra), 255, extra);
        lp__arena_release(&arena, mark);
    }
    for (int i = 0; i < N; i++) {
        for (size_t j = 0; j < sizes[i]; j++) {
            assert_int_equal(blocks[i][j], i);
        }
    }
    lp__arena_free(&arena);
    lp_ctx_destroy(ctx);
}

static void* capped_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    (void)old_bytes;
    if (new_bytes > *(const size_t*)user) return NULL;
    if (new_bytes > 0) return realloc(old, new_bytes);
    free(old);
    return NULL;
}

/* What was there in pieces may not be there in one: then pieces do. */
static void a_plan_that_fails_is_dropped(void** state) {
    (void)state;
    size_t limit = 1 << 20;
    lp_ctx_def def = lp_ctx_def_default();
    def.alloc = capped_alloc;
    def.alloc_user = &limit;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp__arena arena;
    lp__arena_init(&arena, ctx, 1024);
    pass(&arena);
    limit = arena.high_water - 1;
    for (int i = 0; i < 5; i++) {
        lp__arena_reset(&arena);
        assert_non_null(lp__arena_alloc(&arena, 10));
        pass(&arena);
    }
    lp_ctx_destroy(ctx);
}

static void free_gives_back(void** state) {
    (void)state;
    lp_ctx* ctx = create();
    size_t before = lp_ctx_memory(ctx).bytes;
    lp__arena arena;
    lp__arena_init(&arena, ctx, 100);
    pass(&arena);
    assert_true(lp_ctx_memory(ctx).bytes > before + 100000);
    lp__arena_free(&arena);
    assert_int_equal(lp_ctx_memory(ctx).bytes, before);
    assert_non_null(lp__arena_alloc(&arena, 10)); /* and it can be used again */
    lp_ctx_destroy(ctx);
}

static void too_much_fails(void** state) {
    (void)state;
    lp_ctx* ctx = create();
    size_t sizes[] = {SIZE_MAX, SIZE_MAX - 63, SIZE_MAX - 64, SIZE_MAX - 127, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_null(lp__arena_alloc(lp__scratch(ctx), sizes[i]));
        assert_int_equal(lp_error_status(ctx), LP_NOMEM);
    }
    assert_non_null(lp__arena_alloc(lp__scratch(ctx), 0));
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(third_pass_allocates_nothing),
        cmocka_unit_test(blocks_do_not_overlap),
        cmocka_unit_test(a_plan_that_fails_is_dropped),
        cmocka_unit_test(free_gives_back),
        cmocka_unit_test(too_much_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
