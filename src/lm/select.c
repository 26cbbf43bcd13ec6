/* The largest of many numbers without sorting them: their bits, as whole numbers of the same order,
 * are sorted into a table by their upper 12 bits; the entry in which the limit is reached by the
 * next 10, and that by the last 10. What is left are equals. */
#include "lm/sampler.h"
#include <string.h>

/* Whole numbers in the order of the floats, which are not NaN; -0 is +0. */
static uint32_t key_of(float x) {
    uint32_t bits;
    x += 0.0f;
    memcpy(&bits, &x, sizeof bits);
    return bits ^ (bits >> 31 ? 0xffffffffu : 0x80000000u);
}

typedef struct level {
    int shift, bits;
} level;

/* Adds up what the entries count whose upper bits are those of prefix. */
static void fill(level l, uint32_t prefix, int64_t n, const float* x, const float* weight,
                 double* table) {
    const uint32_t mask = (1u << l.bits) - 1;
    memset(table, 0, sizeof *table << l.bits);
    for (int64_t i = 0; i < n; i++) {
        const uint32_t key = key_of(x[i]) >> l.shift;
        /* Shifted twice, because the first level has no bits above its own. */
        if (key >> l.bits == prefix) table[key & mask] += weight ? (double)weight[i] : 1.0;
    }
}

/* The entry of the table, from above, in which `*above` reaches the limit, or else the lowest that
 * counts anything; *above is then the sum over the higher ones. */
static uint32_t cross(level l, double limit, const double* table, double* above) {
    uint32_t lowest = 0;
    double before = *above;
    for (uint32_t b = 1u << l.bits; b-- > 0;) {
        if (table[b] == 0) continue;
        lowest = b;
        before = *above;
        if (*above + table[b] >= limit) break;
        *above += table[b];
    }
    *above = before;
    return lowest;
}

int64_t lp__select(int64_t n, float* x, int32_t* ids, float* weight, double limit, double* table) {
    static const level levels[] = {{20, 12}, {10, 10}, {0, 10}};
    uint32_t last = 0; /* the least key that is kept */
    double above = 0;
    for (int i = 0; i < 3; i++) {
        fill(levels[i], last, n, x, weight, table);
        last = last << levels[i].bits | cross(levels[i], limit, table, &above);
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t key = key_of(x[i]);
        if (key < last || (key == last && above >= limit)) continue;
        if (key == last) above += weight ? (double)weight[i] : 1.0;
        x[kept] = x[i];
        if (ids) ids[kept] = ids[i];
        if (weight) weight[kept] = weight[i];
        kept++;
    }
    return kept;
}
