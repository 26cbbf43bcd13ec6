/* Sampling from a row of logits: which rows are refused, in every mode and with every instruction
 * set. */
#include "lm/rig.h"

#include "base/base.h"
#include "lm/sampler.h"

enum { VOCAB = 203 };

static const struct {
    const char* name;
    double temperature, top_p;
    int64_t top_k;
    double min_p;
} modes[] = {{"greedy", 0, 1, 0, 0},
             {"plain", 1, 1, 0, 0},
             {"warm", 1.7, 1, 0, 0},
             {"top_k", 1, 1, 7, 0},
             {"one", 1, 1, 1, 0},
             {"top_k of all", 1, 1, VOCAB, 0},
             {"top_p", 0.8, 0.9, 0, 0},
             {"min_p", 1, 1, 0, 0.4},
             {"top_p and top_k", 1, 0.5, 30, 0},
             {"min_p and top_k", 1, 1, 4, 0.3},
             {"all", 1.2, 0.9, 50, 0.1},
             {"top_p of nearly all", 1, 1 - 1e-9, 0, 0}};

/* Draws from wave-like logits, one of which is replaced. */
static int32_t draw(const struct lp__kernels* kernels, int mode, int64_t at, float value) {
    const lp__sampler sampler = {.kernels = kernels,
                                 .vocab = VOCAB,
                                 .temperature = modes[mode].temperature,
                                 .top_p = modes[mode].top_p,
                                 .min_p = modes[mode].min_p,
                                 .top_k = modes[mode].top_k};
    float z[VOCAB];
    void* scratch = malloc(lp__sampler_scratch(&sampler));
    for (int i = 0; i < VOCAB; i++) z[i] = sinf(0.7f * (float)i) - 0.01f * (float)(i % 13);
    z[at] = value;
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, (uint64_t)at, 0);
    const lp__drawn drawn = lp__sampler_draw(&sampler, z, 0, NULL, scratch, &rng);
    free(scratch);
    if (drawn.token >= 0) assert_true(isfinite(drawn.log_prob) && drawn.log_prob <= 0);
    return drawn.token;
}

static void rows_with_a_nan_are_refused(void** state) {
    (void)state;
    for (int isa = 0; isa < LP_ISA_COUNT; isa++) {
        if (!lp__isa_available((lp_isa)isa)) continue;
        const struct lp__kernels* kernels = lp__kernels_get((lp_isa)isa);
        for (int mode = 0; mode < (int)(sizeof modes / sizeof *modes); mode++) {
            for (int64_t at = 0; at < VOCAB; at++) {
                const char* what = modes[mode].name;
                if (draw(kernels, mode, at, NAN) != -1)
                    fail_msg("%s: NaN at %d was accepted", what, (int)at);
                if (draw(kernels, mode, at, -NAN) != -1)
                    fail_msg("%s: -NaN at %d was accepted", what, (int)at);
                if (draw(kernels, mode, at, INFINITY) != -1)
                    fail_msg("%s: inf at %d was accepted", what, (int)at);
                const int32_t token = draw(kernels, mode, at, -INFINITY); /* banned */
                if (token < 0 || token == at)
                    fail_msg("%s: token %d without %d", what, (int)token, (int)at);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(rows_with_a_nan_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
