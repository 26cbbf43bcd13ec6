/* Training speed of a language model in fp32: forward, mean token loss, backward, AdamW, on random
 * tokens; the work of any supervised step, and of one epoch of PPO. Then what a PPO step pays for
 * leaving no trace if it fails: a savepoint, and a look whether all weights are finite. usage:
 * bench_lm_train MODEL.gguf [SEQUENCES=4] [TOKENS=128] [STEPS=5] [THREADS=0] */
#include <logpi/lm.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void* a, const void* b) {
    const double x = *(const double*)a, y = *(const double*)b;
    return (x > y) - (x < y);
}

static int argument(int argc, char** argv, int i, int standard) {
    return argc > i ? atoi(argv[i]) : standard;
}

int main(int argc, char** argv) {
    enum { MAX_STEPS = 100 };
    const int sequences = argument(argc, argv, 2, 4), length = argument(argc, argv, 3, 128);
    const int steps = argument(argc, argv, 4, 5), tokens = sequences * length;
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = argument(argc, argv, 5, 0);
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_model* model;
    lp_weights* weights;
    lp_optim* optim;
    lp_optim_def adamw = lp_optim_def_default(LP_ADAMW);
    adamw.learning_rate = 1e-6;
    if (argc < 2 || steps < 1 || steps > MAX_STEPS || !ctx || lp_model_open(ctx, argv[1], &model) ||
        lp_model_load_weights(model, true, &weights) ||
        lp_optim_create(lp_weights_params(weights), &adamw, &optim)) {
        fprintf(stderr, "bench_lm_train: %s\n",
                ctx && argc > 1 ? lp_error(ctx) : "a model is needed");
        return 1;
    }
    int32_t* text = calloc((size_t)tokens, sizeof *text);
    int32_t* rows = calloc((size_t)tokens, sizeof *rows);
    int32_t* targets = calloc((size_t)tokens, sizeof *targets);
    int64_t* offsets = calloc((size_t)sequences + 1, sizeof *offsets);
    int64_t* row_offsets = calloc((size_t)sequences + 1, sizeof *row_offsets);
    if (argc > 6) lp_weights_set_precision(weights, LP_BFLOAT16);
    lp_rng rng = lp_rng_philox(0, LP_FOR_USER, 0, 0);
    int n = 0;
    for (int i = 0; i < tokens; i++)
        text[i] = (int32_t)lp_rng_below(&rng, (uint32_t)lp_model_get_shape(model).vocab);
    for (int s = 0; s < sequences; s++) {
        offsets[s + 1] = (s + 1) * length;
        row_offsets[s + 1] = (s + 1) * (length - 1);
        for (int i = 0; i + 1 < length; i++, n++) {
            rows[n] = s * length + i;
            targets[n] = text[rows[n] + 1];
        }
    }
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    const lp_batch batch = {.sequences = sequences, .offsets = offsets, .tokens = text};
    double seconds[MAX_STEPS];
    for (int step = -1; step < steps; step++) { /* the first is not timed */
        const double start = now();
        lp_tape_reset(t);
        lp_tensor states =
            lp_rows(t, lp_model_hidden(t, model, weights, &batch), lp_const_i32(t, n, 1, rows));
        const lp_head_def head = {1.0, sequences, row_offsets, NULL, NULL};
        lp_tensor lp = lp_model_score(t, weights, states, lp_const_i32(t, n, 1, targets), &head, NULL);
        if (lp_backward(t, lp_neg(t, lp_mean(t, lp))) || lp_optim_step(optim, NULL)) {
            fprintf(stderr, "bench_lm_train: %s\n", lp_error(ctx));
            return 1;
        }
        if (step >= 0) seconds[step] = now() - start;
    }
    qsort(seconds, (size_t)steps, sizeof *seconds, by_value);
    printf(
        "train %d x %d, %s, %s, %d threads: %.1f tokens/s, median %.3f s a step, peak %.2f GB\n",
        sequences, length, argc > 6 ? "bf16" : "fp32", lp_isa_name(lp_ctx_isa(ctx)), lp_ctx_threads(ctx),
        tokens / seconds[steps / 2], seconds[steps / 2],
        1e-9 * (double)lp_ctx_memory(ctx).peak_bytes);
    for (int i = 0; i < 2; i++) {
        const double start = now();
        if (lp_optim_savepoint(optim)) {
            fprintf(stderr, "bench_lm_train: %s\n", lp_error(ctx));
            return 1;
        }
        const double saved = now();
        const bool finite = lp_params_finite(lp_weights_params(weights));
        printf("%s savepoint %.3f s, weights %s, %.3f s\n", i ? "later" : "first", saved - start,
               finite ? "finite" : "not finite", now() - saved);
    }
    free(text), free(rows), free(targets), free(offsets), free(row_offsets);
    lp_ctx_destroy(ctx);
    return 0;
}
