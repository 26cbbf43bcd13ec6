/* The kinds of broken files that llama.cpp's test-gguf makes, built here by a generator of our own:
 * random metadata and random tensors of every type, with one thing wrong. Each has a status of its
 * own; nothing crashes, hangs, or stays allocated. */
#define GGUF_BYTES_ROOM (4 << 20)
#include "lm/gguf_build.h"

/* kind, what comes of it */
#define KINDS(X)                                                                                   \
    X(HEADER_BAD_MAGIC, LP_FORMAT)                                                                 \
    X(HEADER_BAD_VERSION_0, LP_UNSUPPORTED)                                                        \
    X(HEADER_BAD_VERSION_1, LP_UNSUPPORTED)                                                        \
    X(HEADER_BAD_VERSION_FUTURE, LP_UNSUPPORTED)                                                   \
    X(HEADER_BIG_ENDIAN, LP_UNSUPPORTED)                                                           \
    X(HEADER_BAD_N_TENSORS, LP_FORMAT)                                                             \
    X(HEADER_BAD_N_KV, LP_FORMAT)                                                                  \
    X(HEADER_EMPTY, LP_OK)                                                                         \
    X(KV_BAD_KEY_SIZE, LP_FORMAT)                                                                  \
    X(KV_EMPTY_KEY, LP_FORMAT)                                                                     \
    X(KV_BAD_TYPE, LP_FORMAT)                                                                      \
    X(KV_BAD_VALUE_SIZE, LP_FORMAT)                                                                \
    X(KV_DUPLICATE_KEY, LP_FORMAT)                                                                 \
    X(KV_NESTED_ARRAY, LP_UNSUPPORTED)                                                             \
    X(KV_ALIGN_0, LP_FORMAT)                                                                       \
    X(KV_BAD_ALIGN, LP_FORMAT)                                                                     \
    X(KV_HUGE_ALIGN, LP_FORMAT)                                                                    \
    X(KV_WRONG_TYPE_ALIGN, LP_FORMAT)                                                              \
    X(KV_SUCCESS, LP_OK)                                                                           \
    X(TENSORS_BAD_NAME_SIZE, LP_FORMAT)                                                            \
    X(TENSORS_BAD_N_DIMS, LP_FORMAT)                                                               \
    X(TENSORS_BAD_SHAPE, LP_FORMAT)                                                                \
    X(TENSORS_ZERO_DIM, LP_FORMAT)                                                                 \
    X(TENSORS_BLOCK_MISFIT, LP_FORMAT)                                                             \
    X(TENSORS_NE_TOO_BIG, LP_FORMAT)                                                               \
    X(TENSORS_NBYTES_TOO_BIG, LP_FORMAT)                                                           \
    X(TENSORS_BAD_TYPE, LP_UNSUPPORTED)                                                            \
    X(TENSORS_BAD_OFFSET, LP_FORMAT)                                                               \
    X(TENSORS_DUPLICATE_NAME, LP_FORMAT)                                                           \
    X(TENSORS_INCONSISTENT_ALIGN, LP_FORMAT)                                                       \
    X(TENSORS_WITHOUT_DATA, LP_FORMAT)                                                             \
    X(DATA_NOT_ENOUGH_DATA, LP_FORMAT)                                                             \
    X(DATA_MEM_SIZE_OVERFLOW, LP_FORMAT)                                                           \
    X(DATA_SUCCESS, LP_OK)                                                                         \
    X(DATA_CUSTOM_ALIGN, LP_OK)

typedef enum kind {
#define NAME(name, status) name,
    KINDS(NAME)
#undef NAME
        KIND_COUNT
} kind;

static const struct {
    const char* name;
    lp_status status;
} kinds[] = {
#define ROW(name, status) {#name, status},
    KINDS(ROW)
#undef ROW
};

static const struct {
    uint32_t type, bytes;
} value_types[] = {
#define ROW(name, value, bytes) {value, bytes},
    LP__GGUF_TYPE_MAP(ROW)
#undef ROW
};
static const struct {
    uint32_t type, elements, bytes;
} tensor_types[] = {
#define ROW(name, value, elements, bytes) {value, elements, bytes},
    LP__GGML_TYPE_MAP(ROW)
#undef ROW
};
#define COUNT(table) (uint32_t)(sizeof table / sizeof *table)

static void put_random(gguf_bytes* b, lp_rng* rng, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) put_u8(b, (uint8_t)(1 + lp_rng_below(rng, 255)));
}

static void put_random_string(gguf_bytes* b, lp_rng* rng, bool too_long) {
    const uint64_t n = lp_rng_below(rng, 64);
    put_u64(b, too_long ? (uint64_t)1 << 62 : n);
    put_random(b, rng, n);
}

static void put_random_value(gguf_bytes* b, lp_rng* rng, kind k, uint32_t type, uint32_t bytes) {
    if (type == LP__GGUF_STRING) {
        put_random_string(b, rng, k == KV_BAD_VALUE_SIZE);
    } else if (type == LP__GGUF_BOOL) {
        put_u8(b, (uint8_t)lp_rng_below(rng, 2));
    } else {
        put_random(b, rng, bytes);
    }
}

static void put_random_key(gguf_bytes* b, lp_rng* rng, kind k, int index) {
    char name[32] = "";
    if (k != KV_EMPTY_KEY)
        snprintf(name, sizeof name, "my_key_%d", k == KV_DUPLICATE_KEY ? index / 2 : index);
    if (k == KV_BAD_KEY_SIZE) {
        put_u64(b, UINT64_MAX);
        put(b, name, strlen(name));
    } else {
        put_string(b, name);
    }
    uint32_t t = lp_rng_below(rng, COUNT(value_types));
    if (k == KV_NESTED_ARRAY) t = LP__GGUF_ARRAY;
    if (k == KV_BAD_VALUE_SIZE) t = LP__GGUF_STRING;
    put_u32(b, k == KV_BAD_TYPE ? COUNT(value_types) : value_types[t].type);
    if (value_types[t].type != LP__GGUF_ARRAY) {
        put_random_value(b, rng, k, value_types[t].type, value_types[t].bytes);
        return;
    }
    uint32_t e = lp_rng_below(rng, COUNT(value_types));
    while (value_types[e].type == LP__GGUF_ARRAY) e = lp_rng_below(rng, COUNT(value_types));
    if (k == KV_NESTED_ARRAY) e = LP__GGUF_ARRAY;
    const uint64_t n = lp_rng_below(rng, 17);
    put_u32(b, value_types[e].type);
    put_u64(b, n);
    for (uint64_t i = 0; i < n; i++)
        put_random_value(b, rng, k, value_types[e].type, value_types[e].bytes);
}

static bool has_alignment(kind k) {
    return k == KV_ALIGN_0 || k == KV_BAD_ALIGN || k == KV_HUGE_ALIGN || k == KV_WRONG_TYPE_ALIGN ||
           k == DATA_CUSTOM_ALIGN;
}

static void put_alignment(gguf_bytes* b, kind k) {
    put_key(b, "general.alignment", k == KV_WRONG_TYPE_ALIGN ? LP__GGUF_I32 : LP__GGUF_U32);
    put_u32(b, k == KV_ALIGN_0            ? 0
               : k == KV_BAD_ALIGN        ? 13
               : k == KV_HUGE_ALIGN       ? 1u << 31
               : k == KV_WRONG_TYPE_ALIGN ? 32
                                          : 8);
}

/* Returns where the next one begins. */
static uint64_t put_random_tensor(gguf_bytes* b, lp_rng* rng, kind k, int index, uint64_t at,
                                  uint64_t alignment) {
    uint32_t t = lp_rng_below(rng, COUNT(tensor_types));
    uint64_t dims[5];
    const uint32_t n_dims = 1 + lp_rng_below(rng, 4);
    uint64_t rows = 1;
    if (k == TENSORS_BLOCK_MISFIT) { /* only some types have blocks */
        while (tensor_types[t].elements == 1) t = lp_rng_below(rng, COUNT(tensor_types));
    }
    dims[0] = (1 + lp_rng_below(rng, 3)) * tensor_types[t].elements;
    const uint64_t bytes = dims[0] / tensor_types[t].elements * tensor_types[t].bytes;
    for (uint32_t d = 1; d < 5; d++) {
        dims[d] = 1 + lp_rng_below(rng, 5);
        if (d < n_dims) rows *= dims[d];
    }
    if (k == TENSORS_BAD_SHAPE) dims[n_dims - 1] = (uint64_t)-1;
    if (k == TENSORS_ZERO_DIM) dims[lp_rng_below(rng, n_dims)] = 0;
    if (k == TENSORS_BLOCK_MISFIT) dims[0]++;
    if (k == TENSORS_NE_TOO_BIG) dims[0] = dims[1] = dims[2] = dims[3] = (uint64_t)1 << 32;
    if (k == TENSORS_NBYTES_TOO_BIG) dims[0] = (uint64_t)1 << 62;
    if (k == DATA_MEM_SIZE_OVERFLOW) dims[0] = 0x7FFFFFFFFFFFFFC0;
    const bool huge = k == TENSORS_NE_TOO_BIG || k == TENSORS_NBYTES_TOO_BIG;
    char name[1200];
    memset(name, 'n', sizeof name);
    snprintf(name + (k == TENSORS_BAD_NAME_SIZE ? 1100 : 0), 64, "my_tensor_%d",
             k == TENSORS_DUPLICATE_NAME ? 0 : index);
    const uint32_t type = k == TENSORS_BAD_TYPE         ? 999
                          : k == DATA_MEM_SIZE_OVERFLOW ? LP__GGML_I8
                          : huge                        ? LP__GGML_I64
                                                        : tensor_types[t].type;
    const uint32_t said = k == TENSORS_BAD_N_DIMS       ? 5
                          : k == TENSORS_NE_TOO_BIG     ? 4
                          : k == DATA_MEM_SIZE_OVERFLOW ? 1
                                                        : n_dims;
    const uint64_t offset = k == TENSORS_BAD_OFFSET && index == 1 ? at + alignment / 2 : at;
    put_tensor(b, name, said, dims, type, offset);
    return at + (rows * bytes + alignment - 1) / alignment * alignment;
}

static void build(gguf_bytes* b, kind k, uint64_t seed) {
    lp_rng rng = lp_rng_philox(seed, LP_FOR_TEST, (uint64_t)k, 0);
    const int keys = k >= KV_BAD_KEY_SIZE ? 20 : 0, tensors = k >= TENSORS_BAD_NAME_SIZE ? 20 : 0;
    put_header(b, k == HEADER_BAD_N_TENSORS ? UINT64_MAX : (uint64_t)tensors,
               k == HEADER_BAD_N_KV ? UINT64_MAX : (uint64_t)(keys + has_alignment(k)));
    const uint32_t version = k == HEADER_BAD_VERSION_0        ? 0
                             : k == HEADER_BAD_VERSION_1      ? 1
                             : k == HEADER_BAD_VERSION_FUTURE ? 4
                             : k == HEADER_BIG_ENDIAN         ? 3u << 24
                                                              : 3;
    memcpy(b->data + 4, &version, sizeof version);
    if (k == HEADER_BAD_MAGIC) memcpy(b->data, "FUGG", 4);
    for (int i = 0; i < keys; i++) put_random_key(b, &rng, k, i);
    if (has_alignment(k)) put_alignment(b, k);
    uint64_t at = 0;
    const uint64_t own = k == DATA_CUSTOM_ALIGN ? 8 : k == TENSORS_INCONSISTENT_ALIGN ? 1 : 32;
    if (k == TENSORS_INCONSISTENT_ALIGN) at = 1;
    for (int i = 0; i < tensors; i++) at = put_random_tensor(b, &rng, k, i, at, own);
    if (k == TENSORS_WITHOUT_DATA) return;
    while (b->n % own) put_u8(b, 0);
    if (k == DATA_NOT_ENOUGH_DATA) at -= 33;
    if (at < 1 << 20) put_random(b, &rng, at);
}

static void every_kind(void** state) {
    (void)state;
    static gguf_bytes b;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const size_t held = lp_ctx_memory(ctx).bytes;
    assert_true(KIND_COUNT >= 33);
    for (int k = 0; k < KIND_COUNT; k++) {
        for (uint64_t seed = 0; seed < 20; seed++) {
            lp__gguf* g = NULL;
            build(&b, (kind)k, seed);
            uint8_t* exact = malloc(b.n); /* so that a read behind the end is found */
            memcpy(exact, b.data, b.n);
            const lp_status status = lp__gguf_parse(ctx, exact, b.n, &g);
            if (status != kinds[k].status)
                fail_msg("%s, seed %d: %s: %s", kinds[k].name, (int)seed, lp_status_name(status),
                         status ? lp_error(ctx) : "");
            if (status == LP_OK && k >= DATA_SUCCESS) assert_int_equal(g->tensor_count, 20);
            lp__gguf_close(g);
            free(exact);
            assert_int_equal(lp_ctx_memory(ctx).bytes, held);
        }
    }
    lp_ctx_destroy(ctx);
}

/* 43 bytes that claim an array of 2^63 elements. */
static void bomb(void** state) {
    (void)state;
    static gguf_bytes b;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp__gguf* g = NULL;
    for (uint32_t t = 0; t < COUNT(value_types); t++) {
        put_header(&b, 0, 1);
        put_array(&b, "key", value_types[t].type, (uint64_t)1 << 63);
        while (b.n < 43) put_u8(&b, 0);
        const size_t held = lp_ctx_memory(ctx).bytes;
        assert_int_equal(lp__gguf_parse(ctx, b.data, b.n, &g),
                         value_types[t].type == LP__GGUF_ARRAY ? LP_UNSUPPORTED : LP_FORMAT);
        assert_true(lp_ctx_memory(ctx).peak_bytes < held + (1 << 18));
        assert_int_equal(lp_ctx_memory(ctx).bytes, held);
    }
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind),
        cmocka_unit_test(bomb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
