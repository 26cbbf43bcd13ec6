/* Frequencies of rotary positions. */
#include "lm/rope.h"
#include <logpi/tensor.h>
#include <math.h>

/* Llama 3.1's: waves longer than original / low are divided by factor, those shorter than original
 * / high are not, and between the two 1 / divisor goes straight in original / wave. The formula of
 * transformers' "llama3". */
static double llama3(const lp__rope* r, double frequency) {
    const double wave = 2.0 * 3.14159265358979323846 / frequency;
    if (wave < r->original / r->high) return 1.0;
    if (wave > r->original / r->low) return r->factor;
    const double smooth = (r->original / wave - r->low) / (r->high - r->low);
    return 1.0 / ((1.0 - smooth) / r->factor + smooth);
}

void lp__rope_factors(const lp__rope* r, int64_t head_dim, double base, float* factors) {
    for (int64_t i = 0; i < head_dim / 2; i++) {
        const double frequency = pow(base, -2.0 * (double)i / (double)head_dim);
        switch (r->kind) {
        case LP__ROPE_PLAIN: factors[i] = 1; break;
        case LP__ROPE_LINEAR: factors[i] = (float)r->factor; break;
        case LP__ROPE_LLAMA3: factors[i] = (float)llama3(r, frequency); break;
        case LP__ROPE_FACTORS: factors[i] = r->factors[i]; break;
        }
    }
}

bool lp__rope_recognise(lp__rope* out, int64_t head_dim, double base, const float* factors) {
    float largest = 1;
    for (int64_t i = 0; i < head_dim / 2; i++) largest = LP__MAX(largest, factors[i]);
    /* Llama 3.1, 3.2, 3.3 and what was made from them differ in the factor only. */
    const lp__rope r = {LP__ROPE_LLAMA3, (double)largest, 1.0, 4.0, 8192.0, NULL};
    for (int64_t i = 0; i < head_dim / 2; i++) {
        const double want = llama3(&r, pow(base, -2.0 * (double)i / (double)head_dim));
        if (!(fabs(want - (double)factors[i]) <= 1e-4 * want)) return false;
    }
    *out = r;
    return true;
}

/* Factors are rounded to float, as GGUF has them, so that a folder and a file give the same bits.
 */
void lp__rope_make(const lp__rope* r, int64_t head_dim, double base, float* frequencies) {
    lp_rope_frequencies(head_dim, base, frequencies);
    for (int64_t i = 0; i < head_dim / 2 && r->kind != LP__ROPE_PLAIN; i++) {
        const double plain = pow(base, -2.0 * (double)i / (double)head_dim);
        const float factor = r->kind == LP__ROPE_LINEAR   ? (float)r->factor
                             : r->kind == LP__ROPE_LLAMA3 ? (float)llama3(r, plain)
                                                          : r->factors[i];
        frequencies[i] = (float)(plain / (double)factor);
    }
}
