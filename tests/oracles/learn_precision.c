/* Supervised training of a model on a text, once in fp32 and once in bf16, on the same batches,
 * none of them twice: the mean losses of the last steps are within 1 %, lower than those of the
 * untrained model on the same tokens, and the process does not grow after the second step.
 * (Repeating a short text until it is known by heart is not a comparison: weights that are bf16
 * numbers, as published ones are, move in bf16 only after several small steps, in any framework.)
 * usage: learn_precision MODEL TEXT [STEPS=200]; exit code 1 if any of it does not hold. */
#include <logpi/lm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEQUENCES = 4, LENGTH = 32, TAIL = 20 };
static const double RATE = 1e-5, CLOSE = 0.01, GROWTH_MB = 16;

static _Noreturn void die(const char* message) {
    fprintf(stderr, "learn_precision: %s\n", message);
    exit(2);
}

static char* read_text(const char* path) {
    FILE* f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END) != 0) die("cannot read the text");
    const long bytes = ftell(f);
    char* text = calloc((size_t)bytes + 1, 1);
    rewind(f);
    if (!text || fread(text, 1, (size_t)bytes, f) != (size_t)bytes) die("cannot read the text");
    fclose(f);
    return text;
}

static double resident_mb(void) {
    long total = 0, resident = 0;
    FILE* f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &total, &resident) != 2) die("no /proc/self/statm");
    fclose(f);
    return 1e-6 * (double)resident * (double)sysconf(_SC_PAGESIZE);
}

/* What a training came to: mean losses of the last batches, without training and with. */
typedef struct outcome {
    double untrained, last, growth_mb;
} outcome;

/* The loss of the tokens from `tokens` on: sequences one after the other, each row predicts the
 * next.
 */
static lp_tensor loss_of(lp_tape* t, const lp_model* model, const lp_weights* weights,
                         const int32_t* tokens) {
    enum { ROWS = SEQUENCES * LENGTH };
    int64_t offsets[SEQUENCES + 1];
    for (int s = 0; s <= SEQUENCES; s++) offsets[s] = s * LENGTH;
    const lp_batch batch = {.sequences = SEQUENCES, .offsets = offsets, .tokens = tokens};
    const lp_head_def head = {.temperature = 1, .sequences = SEQUENCES, .offsets = offsets};
    lp_tape_reset(t);
    lp_tensor h = lp_model_hidden(t, model, weights, &batch);
    lp_tensor y = lp_model_score(t, weights, h, lp_const_i32(t, ROWS, 1, tokens + 1), &head, NULL);
    lp_tensor loss = lp_neg(t, lp_mean(t, y));
    if (!loss) die(lp_error(lp_tape_ctx(t)));
    return loss;
}

static outcome learn(const char* path, const char* text, lp_precision precision, int steps) {
    lp_ctx_def def = lp_ctx_def_default();
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    lp_model* model;
    lp_weights* weights;
    lp_optim* optim;
    lp_token_list ids = {0};
    lp_optim_def adamw = lp_optim_def_default(LP_ADAMW);
    adamw.learning_rate = RATE;
    adamw.max_grad_norm = 1;
    if (!ctx) die("no context");
    if (lp_model_open(ctx, path, &model) || lp_model_load_weights(model, true, &weights) ||
        lp_tokenizer_encode(lp_model_tokenizer(model), text, strlen(text), 0, &ids) ||
        lp_optim_create(lp_weights_params(weights), &adamw, &optim))
        die(lp_error(ctx));
    lp_weights_set_precision(weights, precision);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    const int size = SEQUENCES * LENGTH;
    outcome out = {0};
    if (ids.count < (int64_t)steps * size + 1) die("the text is too short");
    lp_tape_record(t, false);
    for (int step = steps - TAIL; step < steps; step++)
        out.untrained += lp_item(loss_of(t, model, weights, ids.ids + step * size)) / TAIL;
    lp_tape_record(t, true);
    double begun = 0;
    for (int step = 0; step < steps; step++) {
        lp_tensor loss = loss_of(t, model, weights, ids.ids + step * size);
        if (step >= steps - TAIL) out.last += lp_item(loss) / TAIL;
        if (lp_backward(t, loss) != LP_OK || lp_optim_step(optim, NULL) != LP_OK)
            die(lp_error(ctx));
        if (step == 1) begun = resident_mb();
    }
    out.growth_mb = resident_mb() - begun;
    lp_ctx_destroy(ctx);
    return out;
}

int main(int argc, char** argv) {
    const int steps = argc > 3 ? atoi(argv[3]) : 200;
    if (argc < 3 || steps < 2 * TAIL) die("usage: learn_precision MODEL TEXT [STEPS=200]");
    char* text = read_text(argv[2]);
    const outcome fp32 = learn(argv[1], text, LP_FLOAT32, steps);
    const outcome bf16 = learn(argv[1], text, LP_BFLOAT16, steps);
    free(text);
    const double apart = fabs(bf16.last / fp32.last - 1);
    printf("%d steps: fp32 %.4f -> %.4f, bf16 %.4f -> %.4f, %.2f %% apart; resident memory grew by "
           "%.1f and %.1f MB\n",
           steps, fp32.untrained, fp32.last, bf16.untrained, bf16.last, 100 * apart, fp32.growth_mb,
           bf16.growth_mb);
    const bool ok = apart < CLOSE && fp32.last < fp32.untrained && bf16.last != fp32.last &&
                    fp32.growth_mb < GROWTH_MB && bf16.growth_mb < GROWTH_MB;
    return ok ? 0 : 1;
}
