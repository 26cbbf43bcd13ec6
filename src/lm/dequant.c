/* Quantised blocks to fp32. Every formula is computed in fp32 in the order that the gguf package
 * uses, so that the bits agree. */
#include "lm/gguf.h"

#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "GGUF data is used as it lies in the file");

const char* lp__ggml_type_name(uint32_t type) {
    switch (type) {
#define NAME(name, value, elements, bytes)                                                         \
    case value: return #name;
        LP__GGML_TYPE_MAP(NAME)
#undef NAME
    }
    return "unknown";
}

bool lp__ggml_type_block(uint32_t type, uint32_t* elements, uint32_t* bytes) {
    switch (type) {
#define BLOCK(name, value, block_elements, block_bytes)                                            \
    case value:                                                                                    \
        *elements = block_elements;                                                                \
        *bytes = block_bytes;                                                                      \
        return true;
        LP__GGML_TYPE_MAP(BLOCK)
#undef BLOCK
    }
    return false;
}

static float bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint16_t load_u16(const uint8_t* at) { return (uint16_t)(at[0] | at[1] << 8); }

/* IEEE half to single: exact. Subnormals are m 2^-24; infinity and NaN keep their payload. */
static float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 31u,
             mantissa = half & 1023u;
    if (exponent == 31) return bits_to_f32(sign | 0x7f800000u | mantissa << 13);
    if (exponent != 0) return bits_to_f32(sign | (exponent + 112u) << 23 | mantissa << 13);
    float magnitude = (float)mantissa * 0x1p-24f;
    return sign ? -magnitude : magnitude;
}

/* Block of 32: scale d (half), 32 signed bytes q; w = q d. */
static void q8_0(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 34, out += 32) {
        float d = f16_to_f32(load_u16(block));
        for (int j = 0; j < 32; j++) out[j] = (float)(int8_t)block[2 + j] * d;
    }
}

/* Block of 32: scale d (half), 16 bytes; the low nibbles are the first 16 elements, the high ones
 * the rest; w = d (q - 8). */
static void q4_0(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 18, out += 32) {
        float d = f16_to_f32(load_u16(block));
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)((block[2 + j] & 15) - 8);
            out[16 + j] = d * (float)((block[2 + j] >> 4) - 8);
        }
    }
}

/* Block of 32: scale d and minimum m (halves), nibbles as in Q4_0; w = d q + m, rounded twice. */
static void q4_1(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 20, out += 32) {
        float d = f16_to_f32(load_u16(block)), m = f16_to_f32(load_u16(block + 2));
        for (int j = 0; j < 16; j++) {
            out[j] = d * (float)(block[4 + j] & 15) + m;
            out[16 + j] = d * (float)(block[4 + j] >> 4) + m;
        }
    }
}

bool lp__ggml_to_f32(uint32_t type, const void* blocks, int64_t count, float* out) {
    const uint8_t* bytes = blocks;
    switch (type) {
    case LP__GGML_F32: memcpy(out, bytes, (size_t)count * sizeof *out); return true;
    case LP__GGML_F16:
        for (int64_t i = 0; i < count; i++) out[i] = f16_to_f32(load_u16(bytes + 2 * i));
        return true;
    case LP__GGML_BF16:
        for (int64_t i = 0; i < count; i++)
            out[i] = bits_to_f32((uint32_t)load_u16(bytes + 2 * i) << 16);
        return true;
    case LP__GGML_Q8_0: q8_0(bytes, count / 32, out); return true;
    case LP__GGML_Q4_0: q4_0(bytes, count / 32, out); return true;
    case LP__GGML_Q4_1: q4_1(bytes, count / 32, out); return true;
    default: return false;
    }
}
