/* Context: creation and its failures, memory, errors, the instruction set, the number of threads.
 */
#include "base/ctx.h"
#include "testing.h"

#include <errno.h>

/* An allocator that fails from one call on and counts what is live. */
typedef struct heap {
    int calls, fail_at; /* fail_at: the number of the call that fails; 0: none */
    int blocks;
    size_t bytes;
} heap;

static void* heap_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    heap* h = user;
    if (new_bytes == 0) {
        assert_non_null(old);
        h->blocks--;
        h->bytes -= old_bytes;
        free(old);
        return NULL;
    }
    if (++h->calls == h->fail_at) return NULL;
    /* Every address that malloc promises is possible: always another one, and not always a multiple
     * of 64. */
    char* block = malloc(new_bytes);
    assert_non_null(block);
    if (old) {
        memcpy(block, old, old_bytes < new_bytes ? old_bytes : new_bytes);
        free(old);
        h->bytes -= old_bytes;
    } else {
        h->blocks++;
    }
    h->bytes += new_bytes;
    return block;
}

static lp_ctx_def def_of(heap* h, int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.alloc = heap_alloc;
    def.alloc_user = h;
    def.threads = threads;
    return def;
}

static void every_allocation_of_creation_fails_in_turn(void** state) {
    (void)state;
    int failures = 0;
    for (int fail_at = 1;; fail_at++) {
        heap h = {.fail_at = fail_at};
        char error[200];
        lp_ctx_def def = def_of(&h, 3);
        lp_ctx* ctx = lp_ctx_create(&def, error, sizeof error);
        if (ctx) {
            assert_string_equal(error, "");
            lp_ctx_destroy(ctx);
            assert_int_equal(h.blocks, 0);
            assert_int_equal(h.bytes, 0);
            break;
        }
        failures++;
        assert_non_null(strstr(error, "out of memory"));
        assert_int_equal(h.blocks, 0);
        assert_int_equal(h.bytes, 0);
    }
    assert_true(failures >= 2); /* the context and its pool */
}

static void destroy_frees_what_was_left(void** state) {
    (void)state;
    heap h = {0};
    lp_ctx_def def = def_of(&h, 2);
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(ctx);
    void* blocks[50];
    for (int i = 0; i < 50; i++) {
        blocks[i] = lp__alloc(ctx, (size_t)i * 10);
        assert_int_equal((uintptr_t)blocks[i] % 64, 0);
    }
    for (int i = 0; i < 50; i += 3) {
        lp__free(ctx, blocks[i]);
    }
    lp__free(ctx, NULL);
    assert_non_null(lp__arena_alloc(lp__scratch(ctx), 5000));
    assert_true(lp__worker_scratch_reserve(ctx, 100));
    assert_true(lp__worker_scratch_reserve(ctx, 100000));
    lp_memory memory = lp_ctx_memory(ctx);
    assert_int_equal(memory.bytes, h.bytes);
    assert_int_equal(memory.allocations, h.calls);
    assert_true(memory.peak_bytes > memory.bytes);
    lp_ctx_destroy(ctx);
    assert_int_equal(h.blocks, 0);
    lp_ctx_destroy(NULL);
}

typedef struct thing {
    lp__owned owned;
    lp_ctx* ctx;
    char name;
    char* order; /* names of those destroyed, in order */
} thing;

static void destroy_thing(lp__owned* owned) {
    const thing* t = (thing*)(void*)owned;
    assert_non_null(lp__alloc(t->ctx, 10)); /* the context is whole until all are gone */
    t->order[strlen(t->order)] = t->name;
}

static void what_a_context_owns_is_destroyed_with_it(void** state) {
    (void)state;
    char order[8] = "";
    heap h = {0};
    lp_ctx_def def = def_of(&h, 2);
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    thing* things[5];
    for (int i = 0; i < 5; i++) {
        things[i] = lp__calloc(ctx, 1, sizeof *things[i]);
        *things[i] = (thing){.ctx = ctx, .name = (char)('a' + i), .order = order};
        lp__own(ctx, &things[i]->owned, destroy_thing);
    }
    lp__disown(ctx, &things[4]->owned);
    lp__disown(ctx, &things[2]->owned);
    lp__disown(ctx, &things[0]->owned);
    lp__own(ctx, &things[2]->owned, destroy_thing);
    lp_ctx_destroy(ctx);
    assert_string_equal(order, "cdb"); /* the newest first */
    assert_int_equal(h.blocks, 0);
}

static void realloc_keeps_contents_and_alignment(void** state) {
    (void)state;
    heap h = {0};
    lp_ctx_def def = def_of(&h, 1);
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    unsigned char* first = lp__calloc(ctx, 7, 3);
    for (int i = 0; i < 21; i++) assert_int_equal(first[i], 0);
    unsigned char* block = lp__realloc(ctx, NULL, 1);
    unsigned char* last = lp__alloc(ctx, 5);
    size_t size = 1;
    block[0] = 0;
    for (int i = 0; i < 200; i++) {
        size_t bytes = ((uint32_t)i * 2654435761u) % 3000;
        block = lp__realloc(ctx, block, bytes);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        for (size_t j = 0; j < (bytes < size ? bytes : size); j++) {
            assert_int_equal(block[j], (unsigned char)j);
        }
        for (size_t j = 0; j < bytes; j++) block[j] = (unsigned char)j;
        assert_int_equal(lp_ctx_memory(ctx).bytes, h.bytes);
        size = bytes;
    }
    /* A failure leaves the old block. */
    block = lp__realloc(ctx, block, 100);
    for (int i = 0; i < 100; i++) block[i] = (unsigned char)i;
    h.fail_at = h.calls + 1;
    assert_null(lp__realloc(ctx, block, 1000));
    assert_int_equal(lp_error_status(ctx), LP_NOMEM);
    assert_null(lp__realloc(ctx, block, SIZE_MAX - 100));
    assert_null(lp__alloc(ctx, SIZE_MAX));
    assert_null(lp__alloc(ctx, (size_t)PTRDIFF_MAX));
    assert_null(lp__calloc(ctx, SIZE_MAX / 2, 3));
    assert_null(lp__strdup(ctx, "", SIZE_MAX));
    assert_int_equal(block[99], 99);
    char* copy = lp__strdup(ctx, "abcdef", 3);
    assert_string_equal(copy, "abc");
    lp__free(ctx, block);
    lp__free(ctx, last);
    lp__free(ctx, first);
    lp__free(ctx, copy);
    assert_int_equal(h.blocks, 1); /* the context */
    lp_ctx_destroy(ctx);
}

static void definition_is_checked(void** state) {
    (void)state;
    char error[200];
    lp_ctx_def def = lp_ctx_def_default();
    def.cookie ^= 1;
    assert_null(lp_ctx_create(&def, error, sizeof error));
    assert_non_null(strstr(error, "lp_ctx_def_default"));
    int bad_threads[] = {-1, 257};
    for (int i = 0; i < 2; i++) {
        def = lp_ctx_def_default();
        def.threads = bad_threads[i];
        assert_null(lp_ctx_create(&def, error, sizeof error));
        assert_non_null(strstr(error, "256"));
    }
    def = lp_ctx_def_default();
    def.io.rename = NULL;
    assert_null(lp_ctx_create(&def, error, sizeof error));
    assert_non_null(strstr(error, "lp_io_system"));
    char one[1] = {'x'};
    assert_null(lp_ctx_create(&def, one, 1));
    assert_int_equal(one[0], 0);
    assert_null(lp_ctx_create(&def, NULL, 0));
    lp_ctx* ctx = lp_ctx_create(NULL, error, sizeof error);
    assert_non_null(ctx);
    assert_true(lp_ctx_threads(ctx) >= 1);
    lp_ctx_destroy(ctx);
}

static void isa_is_chosen(void** state) {
    (void)state;
    char error[300];
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    assert_int_equal(setenv("LOGPI_ISA", "avx9", 1), 0);
    assert_null(lp_ctx_create(&def, error, sizeof error));
    assert_non_null(strstr(error, "avx9"));
    assert_non_null(strstr(error, "scalar"));
    setenv("LOGPI_ISA", "scalar", 1);
    lp_ctx* ctx = lp_ctx_create(&def, error, sizeof error);
    assert_int_equal(lp_ctx_isa(ctx), LP_ISA_SCALAR);
    assert_non_null(lp__ctx_kernels(ctx));
    lp_ctx_destroy(ctx);
    /* The definition wins over the environment. */
    setenv("LOGPI_ISA", "avx9", 1);
    for (int i = 0; i <= LP_ISA_COUNT; i++) {
        def.isa = i;
        ctx = lp_ctx_create(&def, error, sizeof error);
        bool available = i < LP_ISA_COUNT && lp__isa_available((lp_isa)i);
        assert_int_equal(ctx != NULL, available);
        if (ctx) {
            assert_int_equal(lp_ctx_isa(ctx), i);
        } else {
            assert_non_null(strstr(error, "available here: scalar"));
        }
        lp_ctx_destroy(ctx);
    }
    def.isa = -1;
    setenv("LOGPI_ISA", "", 1);
    ctx = lp_ctx_create(&def, error, sizeof error);
    assert_int_equal(lp_ctx_isa(ctx), lp__isa_best());
    lp_ctx_destroy(ctx);
    unsetenv("LOGPI_ISA");
    assert_string_equal(lp_isa_name(LP_ISA_AVX512), "avx512");
    assert_string_equal(lp_isa_name((lp_isa)99), "unknown");
}

typedef struct hook {
    int calls;
    char message[64];
} hook;

static void on_assertion(void* user, const char* condition, const char* where,
                         const char* message) {
    hook* h = user;
    h->calls++;
    assert_string_equal(condition, "1 > 2");
    assert_non_null(strstr(where, "context.c:"));
    snprintf(h->message, sizeof h->message, "%s", message);
}

static void errors_are_recorded(void** state) {
    (void)state;
    hook h = {0};
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.assertion = on_assertion;
    def.assert_user = &h;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    assert_string_equal(lp_error(ctx), "");
    assert_int_equal(lp_error_status(ctx), LP_OK);
    assert_int_equal(lp_fail(ctx, LP_FORMAT, "line %d", 3), LP_FORMAT);
    assert_string_equal(lp_error(ctx), "line 3");
    assert_int_equal(lp__fail_at(ctx, LP_FORMAT, "%s", "a.json"), LP_FORMAT);
    assert_string_equal(lp_error(ctx), "a.json: line 3");
    lp_fail(ctx, LP_IO, "again: %s", lp_error(ctx)); /* its own old message as an argument */
    assert_string_equal(lp_error(ctx), "again: a.json: line 3");
    assert_int_equal(lp_error_status(ctx), LP_IO);
    /* Long messages and prefixes are cut, never overrun. */
    char long_text[3000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    lp_fail(ctx, LP_IO, "%s", long_text);
    size_t most = strlen(lp_error(ctx));
    assert_int_equal(most, 1023);
    lp__fail_at(ctx, LP_IO, "ab");
    assert_int_equal(strlen(lp_error(ctx)), most);
    assert_memory_equal(lp_error(ctx), "ab: xxx", 7);
    for (size_t cut = 1018; cut < 1030; cut++) {
        lp_fail(ctx, LP_IO, "end");
        lp__fail_at(ctx, LP_IO, "%.*s", (int)cut, long_text);
        size_t whole = cut + 5;
        assert_int_equal(strlen(lp_error(ctx)), whole < most ? whole : most);
    }
    assert_false(LP__REQUIRE(ctx, 1 > 2, "one is not more"));
    assert_true(LP__REQUIRE(ctx, 2 > 1, "never said"));
    assert_int_equal(h.calls, 1);
    assert_string_equal(h.message, "one is not more");
    assert_int_equal(lp_error_status(ctx), LP_INVALID);
    lp_ctx_destroy(ctx);
}

static void statuses_have_names(void** state) {
    (void)state;
    assert_string_equal(lp_status_name(LP_OK), "OK");
    assert_string_equal(lp_status_name(LP_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(lp_status_text(LP_NONFINITE), "NaN or infinity where a number is needed");
    assert_string_equal(lp_status_name((lp_status)7), "UNKNOWN");
    assert_string_equal(lp_status_text((lp_status)-99), "UNKNOWN");
    assert_int_equal(lp_version(),
                     LP_VERSION_MAJOR * 10000 + LP_VERSION_MINOR * 100 + LP_VERSION_PATCH);
}

static void cancel_stays_until_cleared(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    assert_false(lp_cancelled(ctx));
    lp_cancel(ctx);
    assert_true(lp_cancelled(ctx));
    assert_true(lp_cancelled(ctx));
    lp_cancel_clear(ctx);
    assert_false(lp_cancelled(ctx));
    lp_ctx_destroy(ctx);
}

/* A system of control groups made of paths and texts. */
typedef struct group_file {
    const char *path, *text;
} group_file;

static int group_open(void* user, const char* path, int flags, unsigned mode) {
    (void)flags;
    (void)mode;
    const group_file* files = user;
    for (int i = 0; files[i].path; i++) {
        if (strcmp(files[i].path, path) == 0) return i;
    }
    return -ENOENT;
}

static int group_close(void* user, int fd) {
    (void)user;
    (void)fd;
    return 0;
}

static int64_t group_pread(void* user, int fd, void* buffer, size_t bytes, int64_t offset) {
    const char* text = ((const group_file*)user)[fd].text;
    size_t left = strlen(text) - (size_t)offset;
    if (bytes > left) bytes = left;
    if (bytes > 3) bytes = 3; /* short reads */
    memcpy(buffer, text + offset, bytes);
    return (int64_t)bytes;
}

static int count_with(const group_file* files) {
    lp_io io = lp_io_system();
    io.user = (void*)(uintptr_t)files;
    io.open = group_open;
    io.close = group_close;
    io.pread = group_pread;
    return lp__cpu_count(&io);
}

static void cpu_quota_limits_threads(void** state) {
    (void)state;
    group_file none[] = {{NULL, NULL}};
    int all = count_with(none);
    assert_true(all >= 1);
    int two = all < 2 ? all : 2;
    group_file half[] = {{"/proc/self/cgroup", "0::/\n"},
                         {"/sys/fs/cgroup/cpu.max", "50000 100000\n"},
                         {NULL, NULL}};
    assert_int_equal(count_with(half), 1);
    half[1].text = "max 100000\n";
    assert_int_equal(count_with(half), all);
    half[1].text = "100001 100000\n"; /* rounded up */
    assert_int_equal(count_with(half), two);
    half[1].text = "garbage";
    assert_int_equal(count_with(half), all);
    group_file parents[] = {{"/proc/self/cgroup", "0::/a/b/c\n"},
                            {"/sys/fs/cgroup/a/b/c/cpu.max", "max 100000\n"},
                            {"/sys/fs/cgroup/a/cpu.max", "100000 100000\n"},
                            {NULL, NULL}};
    assert_int_equal(count_with(parents), 1);
    group_file hidden[] = {{"/proc/self/cgroup", "0::/docker/0123\n"}, /* not visible inside */
                           {"/sys/fs/cgroup/cpu.max", "30000 100000\n"},
                           {NULL, NULL}};
    assert_int_equal(count_with(hidden), 1);
    group_file old[] = {
        {"/proc/self/cgroup", "9:cpuset:/x\n4:cpu,cpuacct:/job\n1:name=systemd:/x\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us", "100000\n"},
        {"/sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"},
        {NULL, NULL}};
    assert_int_equal(count_with(old), 1);
    old[1].text = "-1\n";
    assert_int_equal(count_with(old), all);
}

int main(void) {
    unsetenv("LOGPI_ISA");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_of_creation_fails_in_turn),
        cmocka_unit_test(destroy_frees_what_was_left),
        cmocka_unit_test(what_a_context_owns_is_destroyed_with_it),
        cmocka_unit_test(realloc_keeps_contents_and_alignment),
        cmocka_unit_test(definition_is_checked),
        cmocka_unit_test(isa_is_chosen),
        cmocka_unit_test(errors_are_recorded),
        cmocka_unit_test(statuses_have_names),
        cmocka_unit_test(cancel_stays_until_cleared),
        cmocka_unit_test(cpu_quota_limits_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
