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

static uint32_t load_u32(const uint8_t* at) {
    return (uint32_t)load_u16(at) | (uint32_t)load_u16(at + 2) << 16;
}

/* IEEE half to single: exact, without branches. A subnormal m 2^-24 is (1 + m 2^-10) 2^-14 - 2^-14;
 * infinity and NaN keep their payload. */
static float f16_to_f32(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, rest = (uint32_t)(half & 0x7fffu) << 13;
    const uint32_t exponent = rest & 0x0f800000u;
    const uint32_t normal = rest + (112u << 23);
    const uint32_t special = rest | 0x7f800000u;
    const float small = bits_to_f32(rest + (113u << 23)) - 0x1p-14f;
    uint32_t small_bits;
    memcpy(&small_bits, &small, sizeof small_bits);
    return bits_to_f32(sign | (exponent == 0             ? small_bits
                               : exponent == 0x0f800000u ? special
                                                         : normal));
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

/* Block of 32: scale d (half), a fifth bit for each element, nibbles as in Q4_0; w = d (q - 16). */
static void q5_0(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 22, out += 32) {
        const float d = f16_to_f32(load_u16(block));
        const uint32_t high = load_u32(block + 2);
        for (int j = 0; j < 16; j++) {
            const int low = block[6 + j];
            out[j] = d * (float)(((low & 15) | (int)(high >> j & 1) << 4) - 16);
            out[16 + j] = d * (float)((low >> 4 | (int)(high >> (16 + j) & 1) << 4) - 16);
        }
    }
}

/* Block of 32: d and m (halves), then as Q5_0; w = d q + m, rounded twice. */
static void q5_1(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 24, out += 32) {
        const float d = f16_to_f32(load_u16(block)), m = f16_to_f32(load_u16(block + 2));
        const uint32_t high = load_u32(block + 4);
        for (int j = 0; j < 16; j++) {
            const int low = block[8 + j];
            out[j] = d * (float)((low & 15) | (int)(high >> j & 1) << 4) + m;
            out[16 + j] = d * (float)(low >> 4 | (int)(high >> (16 + j) & 1) << 4) + m;
        }
    }
}

/* The i-th of eight pairs of 6 bits in 12 bytes: of scale and minimum. */
static void scale_min(const uint8_t* s, int i, float* scale, float* min) {
    if (i < 4) {
        *scale = (float)(s[i] & 63);
        *min = (float)(s[4 + i] & 63);
    } else {
        *scale = (float)((s[4 + i] & 15) | (s[i - 4] >> 2 & 48));
        *min = (float)(s[4 + i] >> 4 | (s[i] >> 2 & 48));
    }
}

/* Block of 256 in eight runs of 32: d and dmin (halves), scales and minima of the runs, for Q5_K a
 * fifth bit for each element (bit r of byte j is of run r), nibbles: those of runs 2 g and 2 g + 1
 * are the low and the high ones of 32 bytes. w = (d scale) q - (dmin min). */
static void q45_k(const uint8_t* block, int64_t blocks, bool fifth, float* out) {
    const int bytes = fifth ? 176 : 144;
    for (; blocks > 0; blocks--, block += bytes, out += 256) {
        const float d = f16_to_f32(load_u16(block)), dmin = f16_to_f32(load_u16(block + 2));
        const uint8_t *high = block + 16, *low = block + (fifth ? 48 : 16);
        for (int run = 0; run < 8; run++) {
            float scale, min;
            scale_min(block + 4, run, &scale, &min);
            const float a = d * scale, b = dmin * min;
            const uint8_t* nibbles = low + run / 2 * 32;
            const int shift = run % 2 * 4;
            for (int j = 0; j < 32; j++) {
                const int fifth_bit = fifth ? (high[j] >> run & 1) << 4 : 0;
                out[run * 32 + j] = a * (float)((nibbles[j] >> shift & 15) | fifth_bit) - b;
            }
        }
    }
}

/* Block of 256 in two halves of four runs of 32: low nibbles, two high bits, 16 signed scales for
 * 16 elements each, d (half); w = (d scale) (q - 32). */
static void q6_k(const uint8_t* block, int64_t blocks, float* out) {
    for (; blocks > 0; blocks--, block += 210, out += 256) {
        const float d = f16_to_f32(load_u16(block + 208));
        for (int run = 0; run < 8; run++) {
            const int half = run / 4, r = run % 4;
            const uint8_t *low = block + half * 64 + r % 2 * 32, *high = block + 128 + half * 32;
            for (int j = 0; j < 32; j++) {
                const float a = d * (float)(int8_t)block[192 + run * 2 + j / 16];
                const int q = (low[j] >> (r / 2 * 4) & 15) | (high[j] >> (2 * r) & 3) << 4;
                out[run * 32 + j] = a * (float)(q - 32);
            }
        }
    }
}

static void f16(const uint8_t* bytes, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = f16_to_f32(half);
    }
}

static void bf16(const uint8_t* bytes, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i++) {
        uint16_t half;
        memcpy(&half, bytes + 2 * i, sizeof half);
        out[i] = bits_to_f32((uint32_t)half << 16);
    }
}

bool lp__ggml_to_f32(uint32_t type, const void* blocks, int64_t count, float* out) {
    const uint8_t* bytes = blocks;
    switch (type) {
    case LP__GGML_F32: memcpy(out, bytes, (size_t)count * sizeof *out); return true;
    case LP__GGML_F16: f16(bytes, count, out); return true;
    case LP__GGML_BF16: bf16(bytes, count, out); return true;
    case LP__GGML_Q8_0: q8_0(bytes, count / 32, out); return true;
    case LP__GGML_Q4_0: q4_0(bytes, count / 32, out); return true;
    case LP__GGML_Q4_1: q4_1(bytes, count / 32, out); return true;
    case LP__GGML_Q5_0: q5_0(bytes, count / 32, out); return true;
    case LP__GGML_Q5_1: q5_1(bytes, count / 32, out); return true;
    case LP__GGML_Q4_K: q45_k(bytes, count / 256, false, out); return true;
    case LP__GGML_Q5_K: q45_k(bytes, count / 256, true, out); return true;
    case LP__GGML_Q6_K: q6_k(bytes, count / 256, out); return true;
    default: return false;
    }
}
