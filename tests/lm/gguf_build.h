/* Builds GGUF files in memory, right and wrong ones. */
#ifndef GGUF_BUILD_H
#define GGUF_BUILD_H

#include "testing.h"

#include "lm/gguf.h"

#ifndef GGUF_BYTES_ROOM
#define GGUF_BYTES_ROOM 8192
#endif

typedef struct gguf_bytes {
    uint8_t data[GGUF_BYTES_ROOM];
    size_t n;
} gguf_bytes;

static inline void put(gguf_bytes* b, const void* bytes, size_t n) {
    assert_true(b->n + n <= sizeof b->data);
    memcpy(b->data + b->n, bytes, n);
    b->n += n;
}

static inline void put_u8(gguf_bytes* b, uint8_t x) { put(b, &x, 1); }
static inline void put_u32(gguf_bytes* b, uint32_t x) { put(b, &x, 4); }
static inline void put_u64(gguf_bytes* b, uint64_t x) { put(b, &x, 8); }

static inline void put_string(gguf_bytes* b, const char* text) {
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_key(gguf_bytes* b, const char* key, uint32_t type) {
    put_string(b, key);
    put_u32(b, type);
}

static inline void put_array(gguf_bytes* b, const char* key, uint32_t element, uint64_t count) {
    put_key(b, key, LP__GGUF_ARRAY);
    put_u32(b, element);
    put_u64(b, count);
}

static inline void put_header(gguf_bytes* b, uint64_t tensors, uint64_t keys) {
    b->n = 0;
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, keys);
}

static inline void put_tensor(gguf_bytes* b, const char* name, uint32_t n_dims,
                              const uint64_t* dims, uint32_t type, uint64_t offset) {
    put_string(b, name);
    put_u32(b, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) put_u64(b, dims[d]);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Zeroes up to the alignment, then n bytes of data. */
static inline void put_data(gguf_bytes* b, size_t alignment, size_t n) {
    while (b->n % alignment) put_u8(b, 0);
    for (size_t i = 0; i < n; i++) put_u8(b, (uint8_t)(i * 37 + 11));
}

#endif
