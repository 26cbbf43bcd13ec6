/* Both precisions of a model: scores with a cache and without are the same bits; bf16 learns what
 * fp32 learns; a training loop takes its memory once. */
#include "rig.h"

#include "base/base.h"
#include <unistd.h>

static const lp_precision PRECISIONS[] = {LP_FLOAT32, LP_BFLOAT16};
static const char* const NAMES[] = {"fp32", "bf16"};

/* ---- scores ---------------------------------------------------------------------------------- */

/* Sequences, their rows packed; row i is scored on target[i], under a kept set if i is even. */
enum { SEQUENCES = 5, ROWS = 250, VOCAB = 512 };
static const int64_t OFFSETS[] = {0, 1, 50, 99, 101, ROWS};

typedef struct scored {
    int32_t token[ROWS], target[ROWS];
    int64_t kept_offsets[ROWS + 1];
    int32_t kept[ROWS * VOCAB];
    float log_prob[ROWS], entropy[ROWS];
} scored;

static void draw(scored* s) {
    int64_t at = 0;
    for (int32_t i = 0; i < ROWS; i++) {
        s->token[i] = (i * 131 + i / 7) % VOCAB;
        s->target[i] = (i * 89 + 5) % VOCAB;
        for (int32_t j = 0; i % 2 == 0 && j < VOCAB; j++)
            if (j == s->target[i] || (i + j) % 9 == 0) s->kept[at++] = j;
        s->kept_offsets[i + 1] = at;
    }
}

/* n sequences of packed tokens; rows of the result belong at row[i] of s. */
static void score(rig* r, lp_tape* t, const lp_batch* batch, const int64_t* row, const scored* s,
                  float* log_prob, float* entropy) {
    const int64_t n = batch->offsets[batch->sequences];
    int32_t* target = malloc((size_t)n * sizeof *target);
    int64_t* kept_offsets = calloc((size_t)n + 1, sizeof *kept_offsets);
    int32_t* kept = malloc(sizeof s->kept);
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = s->kept_offsets[row[i]], count = s->kept_offsets[row[i] + 1] - from;
        target[i] = s->target[row[i]];
        memcpy(kept + kept_offsets[i], s->kept + from, (size_t)count * sizeof *kept);
        kept_offsets[i + 1] = kept_offsets[i] + count;
    }
    const lp_head_def def = {.temperature = 0.8,
                             .sequences = batch->sequences,
                             .offsets = batch->offsets,
                             .kept_offsets = kept_offsets,
                             .kept = kept};
    lp_tape_reset(t);
    lp_tensor e, h = lp_model_hidden(t, r->model, r->weights, batch);
    lp_tensor y = lp_model_score(t, r->weights, h, lp_const_i32(t, n, 1, target), &def, &e);
    assert_int_equal(lp_tape_status(t), LP_OK);
    for (int64_t i = 0; i < n; i++) {
        log_prob[row[i]] = lp_f32(y)[i];
        entropy[row[i]] = lp_f32(e)[i];
    }
    free(target), free(kept_offsets), free(kept);
}

/* All in one recording; then one row after the other of all sequences that still have one, after a
 * prompt of 30 rows for the longest. */
static void the_cache_changes_no_bit(void** state) {
    (void)state;
    scored* s = malloc(sizeof *s);
    *s = (scored){0};
    draw(s);
    for (size_t p = 0; p < 2; p++) {
        rig r = set_up(2);
        lp_weights_set_precision(r.weights, PRECISIONS[p]);
        assert_int_equal(lp_weights_precision(r.weights), PRECISIONS[p]);
        lp_tape* t = lp_tape_create(r.ctx, LP_F32);
        int64_t row[ROWS];
        for (int64_t i = 0; i < ROWS; i++) row[i] = i;
        const lp_batch whole = {.sequences = SEQUENCES, .offsets = OFFSETS, .tokens = s->token};
        score(&r, t, &whole, row, s, s->log_prob, s->entropy);
        for (int i = 0; i < ROWS; i++)
            assert_true(isfinite(s->log_prob[i]) && s->log_prob[i] <= 0 && s->entropy[i] >= 0);

        lp_kv* cache;
        float log_prob[ROWS], entropy[ROWS];
        assert_int_equal(lp_model_cache(r.model, PRECISIONS[p], SEQUENCES, ROWS, &cache), LP_OK);
        lp_tape_record(t, false);
        int64_t done[SEQUENCES] = {0};
        for (bool more = true; more;) {
            int64_t offsets[SEQUENCES + 1] = {0}, n = 0, sequences = 0;
            int32_t tokens[ROWS], slot[SEQUENCES];
            for (int32_t q = SEQUENCES - 1; q >= 0; q--) {
                const int64_t left = OFFSETS[q + 1] - OFFSETS[q] - done[q];
                const int64_t rows = LP__MIN(left, q == 4 && done[q] == 0 ? 30 : 1);
                if (rows == 0) continue;
                slot[sequences] = q;
                for (int64_t i = 0; i < rows; i++, n++, done[q]++) {
                    row[n] = OFFSETS[q] + done[q];
                    tokens[n] = s->token[row[n]];
                }
                offsets[++sequences] = n;
            }
            more = n > 0;
            const lp_batch batch = {.sequences = sequences,
                                    .offsets = offsets,
                                    .tokens = tokens,
                                    .cache = cache,
                                    .slot = slot};
            if (more) score(&r, t, &batch, row, s, log_prob, entropy);
        }
        if (memcmp(log_prob, s->log_prob, sizeof log_prob) != 0 ||
            memcmp(entropy, s->entropy, sizeof entropy) != 0)
            fail_msg("%s: the cache changes bits", NAMES[p]);
        lp_kv_destroy(cache);
        lp_ctx_destroy(r.ctx);
    }
    free(s);
}

/* The two precisions are two arithmetics, near each other. */
static void bf16_is_near_fp32(void** state) {
    (void)state;
    scored* s = malloc(sizeof *s);
    *s = (scored){0};
    draw(s);
    float log_prob[2][ROWS], entropy[ROWS];
    int64_t row[ROWS];
    for (int64_t i = 0; i < ROWS; i++) row[i] = i;
    double worst = 0;
    for (size_t p = 0; p < 2; p++) {
        rig r = set_up(2);
        lp_weights_set_precision(r.weights, PRECISIONS[p]);
        lp_tape* t = lp_tape_create(r.ctx, LP_F32);
        const lp_batch whole = {.sequences = SEQUENCES, .offsets = OFFSETS, .tokens = s->token};
        score(&r, t, &whole, row, s, log_prob[p], entropy);
        lp_ctx_destroy(r.ctx);
    }
    for (int i = 0; i < ROWS; i++)
        worst = fmax(worst, fabs((double)log_prob[0][i] - (double)log_prob[1][i]));
    assert_true(worst > 0 && worst < 0.05);
    free(s);
}

/* ---- learning -------------------------------------------------------------------------------- */

enum { STEPS = 200, BATCH = 6, TOKENS = 199, TAIL = 20 };
static const int64_t LENGTHS[BATCH] = {64, 33, 1, 17, 48, 36};

/* A text without end: each token is followed by one of four, half of the time by the same. */
static int32_t next_token(uint64_t* state, int32_t token) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    const int32_t choice = (int32_t)(*state >> 61);
    return (token * 7 + 3 + (choice < 4 ? 0 : (choice - 3) * 11)) % 64;
}

static double resident_mib(void) {
    long total, resident = 0;
    FILE* f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%ld %ld", &total, &resident), 2);
    fclose(f);
    return (double)resident * (double)sysconf(_SC_PAGESIZE) / 1048576.0;
}

/* Steps of AdamW; the first loss and the mean of the last TAIL. Memory is all there after two. */
static double learn(lp_precision precision, double* first) {
    rig r = set_up(2);
    lp_weights_set_precision(r.weights, precision);
    lp_optim_def def = lp_optim_def_default(LP_ADAMW);
    def.learning_rate = 2e-3;
    def.max_grad_norm = 1;
    lp_optim* optim;
    assert_int_equal(lp_optim_create(lp_weights_params(r.weights), &def, &optim), LP_OK);
    lp_tape* t = lp_tape_create(r.ctx, LP_F32);
    uint64_t state = 1;
    int32_t text[TOKENS + 1] = {1};
    lp_memory after_two = {0};
    double mib = 0, last = 0;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < TOKENS; i++) text[i + 1] = next_token(&state, text[i]);
        int64_t offsets[BATCH + 1] = {0};
        for (int s = 0; s < BATCH; s++) offsets[s + 1] = offsets[s] + LENGTHS[(s + step) % BATCH];
        assert_int_equal(offsets[BATCH], TOKENS);
        const lp_batch batch = {.sequences = BATCH, .offsets = offsets, .tokens = text};
        const lp_head_def head = {.temperature = 1, .sequences = BATCH, .offsets = offsets};
        lp_tape_reset(t);
        lp_tensor h = lp_model_hidden(t, r.model, r.weights, &batch);
        lp_tensor y =
            lp_model_score(t, r.weights, h, lp_const_i32(t, TOKENS, 1, text + 1), &head, NULL);
        lp_tensor loss = lp_neg(t, lp_mean(t, y));
        const double now = lp_item(loss);
        assert_int_equal(lp_backward(t, loss), LP_OK);
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
        if (step == 0) *first = now;
        if (step >= STEPS - TAIL) last += now / TAIL;
        if (step == 1) after_two = lp_ctx_memory(r.ctx), mib = resident_mib();
        text[0] = text[TOKENS];
    }
    const lp_memory end = lp_ctx_memory(r.ctx);
    assert_int_equal(end.allocations, after_two.allocations);
    assert_int_equal(end.peak_bytes, after_two.peak_bytes);
    assert_int_equal(end.bytes, after_two.bytes);
    assert_true(resident_mib() - mib < 1.0);
    lp_ctx_destroy(r.ctx);
    return last;
}

/* 200 steps end within 1 % of each other, far below where they began. */
static void bf16_learns_like_fp32(void** state) {
    (void)state;
    double first[2], last[2];
    for (int p = 0; p < 2; p++) last[p] = learn(PRECISIONS[p], &first[p]);
    print_message("           loss %.4f -> %.4f (fp32), %.4f -> %.4f (bf16)\n", first[0], last[0],
                  first[1], last[1]);
    assert_true(last[0] < 0.5 * first[0]);
    assert_true(last[0] != last[1]); /* another arithmetic */
    assert_close(last[1], last[0], 0.01 * last[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cache_changes_no_bit),
        cmocka_unit_test(bf16_is_near_fp32),
        cmocka_unit_test(bf16_learns_like_fp32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
