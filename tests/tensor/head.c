/* The vocabulary head: kept sets beside renormalising by hand in double; sums of W's gradient that
 * do not depend on batches, on what forward kept, or on threads; bf16 beside fp32. */
#include "testing.h"

#include "tensor/params.h"
#include <logpi/tensor.h>

typedef struct head_rig {
    lp_ctx* ctx;
    lp_params* params;
    lp_tensor w, h; /* [vocab, d], [rows, d] */
    lp_tape* t;
    int32_t* target;
    float* weight; /* of a row's log-probability in the loss */
} head_rig;

static head_rig head_rig_make(int threads, int64_t rows, int64_t vocab, int64_t d, int number) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    head_rig r = {.ctx = lp_ctx_create(&def, NULL, 0)};
    assert_non_null(r.ctx);
    r.params = lp_params_create(r.ctx, LP_F32, true);
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, 0, 0);
    r.w = lp_param_randn(r.params, "w", vocab, d, &rng);
    r.h = lp_param_randn(r.params, "h", rows, d, &rng);
    lp__param_set_number(r.w, (lp__number)number);
    r.t = lp_tape_create(r.ctx, LP_F32);
    r.target = malloc((size_t)rows * sizeof *r.target);
    r.weight = malloc((size_t)rows * sizeof *r.weight);
    for (int64_t i = 0; i < rows; i++) {
        r.target[i] = (int32_t)(i * 7919 % vocab);
        r.weight[i] = (float)(lp_rng_uniform(&rng) - 0.3);
    }
    return r;
}
static void head_rig_free(head_rig* r) {
    free(r->target), free(r->weight);
    lp_ctx_destroy(r->ctx);
}

/* One pass over rows [from, to); gradients are added, log-probabilities and entropies written. The
 * rows are taken out of h by lp_rows, whose gradient goes back to them. */
static void pass(head_rig* r, const lp_head_def* def, int64_t from, int64_t to, float* log_prob,
                 float* entropy) {
    lp_tape_reset(r->t);
    const int64_t n = to - from;
    int32_t* index = malloc((size_t)(n + 1) * sizeof *index);
    for (int64_t i = 0; i < n; i++) index[i] = (int32_t)(from + i);
    lp_tensor h = lp_rows(r->t, r->h, lp_const_i32(r->t, n, 1, index)), e = NULL;
    lp_tensor y = lp_head(r->t, h, r->w, lp_const_i32(r->t, n, 1, r->target + from), def,
                          entropy ? &e : NULL);
    assert_non_null(y);
    lp_tensor loss = lp_sum(r->t, lp_mul(r->t, y, lp_const_f32(r->t, n, 1, r->weight + from)));
    memcpy(log_prob + from, y->data, (size_t)n * sizeof *log_prob);
    if (entropy) memcpy(entropy + from, e->data, (size_t)n * sizeof *entropy);
    assert_int_equal(lp_backward(r->t, loss), LP_OK);
    free(index);
}

static float* gradient(lp_tensor x) {
    float* copy = malloc((size_t)(x->rows * x->cols) * sizeof *copy);
    memcpy(copy, x->grad, (size_t)(x->rows * x->cols) * sizeof *copy);
    return copy;
}

/* ---- kept sets ------------------------------------------------------------------------------- */

enum { ROWS = 11, VOCAB = 103, D = 10 };
static const double T = 0.7;

typedef struct kept_sets {
    int64_t offsets[ROWS + 1];
    int32_t ids[ROWS * VOCAB];
} kept_sets;

/* Every third row keeps all (none is named), the others a set with the target, from it alone to
 * nearly everything; told by what they lack if left_out. */
static kept_sets sets_make(const int32_t* target, bool left_out) {
    kept_sets k = {.offsets = {0}};
    int64_t at = 0;
    for (int32_t i = 0; i < ROWS; i++) {
        for (int32_t j = 0; i % 3 != 0 && j < VOCAB; j++) {
            const bool in = j == target[i] || (i != 1 && (j * 31 + i) % 12 < i);
            if (in != left_out) k.ids[at++] = left_out ? -1 - j : j;
        }
        k.offsets[i + 1] = at;
    }
    return k;
}
static bool keeps(const kept_sets* k, int64_t row, int32_t token) {
    const int64_t from = k->offsets[row], to = k->offsets[row + 1];
    const bool left_out = from == to || k->ids[from] < 0;
    bool found = false;
    for (int64_t i = from; i < to; i++) found |= k->ids[i] == (left_out ? -1 - token : token);
    return found != left_out;
}

/* log p of row i renormalised on its set, and the entropy there, with numbers in double. */
static double by_hand(const kept_sets* k, int64_t i, int32_t target, const double* h,
                      const double* w, double* entropy) {
    double z[VOCAB], max = -1e300, sum = 0, mean = 0;
    for (int32_t j = 0; j < VOCAB; j++) {
        z[j] = 0;
        for (int l = 0; l < D; l++) z[j] += h[i * D + l] * w[j * D + l] / T;
        if (keeps(k, i, j)) max = fmax(max, z[j]);
    }
    for (int32_t j = 0; j < VOCAB; j++) {
        if (!keeps(k, i, j)) continue;
        sum += exp(z[j] - max);
        mean += exp(z[j] - max) * z[j];
    }
    if (entropy) *entropy = max + log(sum) - mean / sum;
    return z[target] - max - log(sum);
}

static double loss_by_hand(const kept_sets* k, const head_rig* r, const double* h,
                           const double* w) {
    double loss = 0;
    for (int64_t i = 0; i < ROWS; i++)
        loss += (double)r->weight[i] * by_hand(k, i, r->target[i], h, w, NULL);
    return loss;
}

/* Central differences of the function by hand beside the gradient; all entries of h, W. */
static void check_gradient(const kept_sets* k, const head_rig* r, double* h, double* w,
                           double tolerance) {
    const double step = 1e-5;
    double* x[2] = {h, w};
    const lp_tensor param[2] = {r->h, r->w};
    for (int which = 0; which < 2; which++) {
        double largest = 0, worst = 0;
        for (int64_t i = 0; i < param[which]->rows * D; i++) {
            const double old = x[which][i];
            x[which][i] = old + step;
            const double up = loss_by_hand(k, r, h, w);
            x[which][i] = old - step;
            const double slope = (up - loss_by_hand(k, r, h, w)) / (2 * step);
            x[which][i] = old;
            largest = fmax(largest, fabs(slope));
            worst = fmax(worst, fabs(lp_grad_at(param[which], 0, i) - slope));
        }
        if (!(worst <= tolerance * largest))
            fail_msg("gradient of %s is off by %g of %g", which ? "W" : "h", worst, largest);
    }
}

static void kept_sets_by_hand(void** state) {
    (void)state;
    for (int way = 0; way < 4; way++) {
        const int number = way / 2;
        head_rig r = head_rig_make(2, ROWS, VOCAB, D, number);
        const kept_sets k = sets_make(r.target, way % 2 == 1);
        const int64_t sequences[] = {0, 4, 4, ROWS};
        const lp_head_def def = {T, 3, sequences, k.offsets, k.ids};
        float log_prob[ROWS], entropy[ROWS];
        double h[ROWS * D], w[VOCAB * D];
        for (int i = 0; i < ROWS * D; i++) h[i] = lp_at(r.h, 0, i);
        for (int i = 0; i < VOCAB * D; i++) w[i] = lp_at(r.w, 0, i);
        pass(&r, &def, 0, ROWS, log_prob, entropy);
        for (int64_t i = 0; i < ROWS; i++) {
            double e;
            const double want = by_hand(&k, i, r.target[i], h, w, &e);
            assert_close(log_prob[i], want, number == LP__F32 ? 5e-6 : 0.1);
            assert_close(entropy[i], e, number == LP__F32 ? 5e-6 : 0.1);
        }
        assert_true(log_prob[1] == 0.0f && entropy[1] == 0.0f); /* the target alone */
        check_gradient(&k, &r, h, w, number == LP__F32 ? 5e-6 : 3e-2);

        /* Outside of a row's set nothing flows: the gradient of W is zero to the bit. */
        for (int64_t row = 0; row < ROWS; row++) {
            lp_params_zero_grad(r.params);
            float* weight = r.weight;
            float only[ROWS] = {0};
            only[row] = 1;
            r.weight = only;
            pass(&r, &def, 0, ROWS, log_prob, NULL);
            r.weight = weight;
            for (int32_t j = 0; j < VOCAB; j++) {
                double size = 0;
                for (int l = 0; l < D; l++) size += fabs(lp_grad_at(r.w, j, l));
                assert_true(row == 1 || keeps(&k, row, j) ? size > 0 || row == 1 : size == 0);
            }
        }
        head_rig_free(&r);
    }
}

/* A set has the same bits by its tokens and by what it lacks, also where backward computes the
 * probabilities again. */
static void two_ways_to_tell_a_set(void** state) {
    (void)state;
    for (int way = 0; way < 4; way++) {
        const int number = way / 2;
        const int64_t vocab = way % 2 ? 2000000 : VOCAB; /* more than is kept for backward */
        float log_prob[2][ROWS], entropy[2][ROWS];
        float* gradients[2][2];
        for (int left_out = 0; left_out < 2; left_out++) {
            head_rig r = head_rig_make(2, ROWS, vocab, 2, number);
            for (int i = 0; i < ROWS; i++) r.target[i] %= VOCAB;
            kept_sets* k = malloc(sizeof *k);
            *k = sets_make(r.target, left_out);
            int64_t at = 0;
            int32_t* ids = calloc((size_t)(ROWS * vocab), sizeof *ids);
            for (int i = 0; i < ROWS; i++) { /* beyond VOCAB nothing is left out */
                const int64_t from = k->offsets[i], n = k->offsets[i + 1] - from;
                k->offsets[i] = at;
                memcpy(ids + at, k->ids + from, (size_t)n * sizeof *ids);
                at += n;
                for (int64_t j = VOCAB; n > 0 && !left_out && j < vocab; j++)
                    ids[at++] = (int32_t)j;
            }
            k->offsets[ROWS] = at;
            const lp_head_def def = {T, 0, NULL, k->offsets, ids};
            pass(&r, &def, 0, ROWS, log_prob[left_out], entropy[left_out]);
            gradients[left_out][0] = gradient(r.h), gradients[left_out][1] = gradient(r.w);
            free(ids), free(k);
            head_rig_free(&r);
        }
        assert_memory_equal(log_prob[0], log_prob[1], sizeof log_prob[0]);
        assert_memory_equal(entropy[0], entropy[1], sizeof entropy[0]);
        assert_memory_equal(gradients[0][0], gradients[1][0], ROWS * 2 * sizeof(float));
        assert_memory_equal(gradients[0][1], gradients[1][1], (size_t)vocab * 2 * sizeof(float));
        for (int i = 0; i < 4; i++) free(gradients[i / 2][i % 2]);
    }
}

/* With nothing more to say lp_head is lp_head_logp. */
static void plain_head(void** state) {
    (void)state;
    head_rig r = head_rig_make(2, ROWS, VOCAB, D, LP__F32);
    const lp_head_def def = {.temperature = T};
    float log_prob[ROWS], entropy[ROWS];
    pass(&r, &def, 0, ROWS, log_prob, entropy);
    lp_tape_reset(r.t);
    lp_tensor e, y = lp_head_logp(r.t, r.h, r.w, lp_const_i32(r.t, ROWS, 1, r.target), T, &e);
    assert_memory_equal(y->data, log_prob, sizeof log_prob);
    assert_memory_equal(e->data, entropy, sizeof entropy);
    /* no rows at all */
    lp_tape_reset(r.t);
    const int64_t none[] = {0};
    const lp_head_def empty = {.temperature = T, .sequences = 0, .offsets = none};
    y = lp_head(r.t, lp_zeros(r.t, 0, D), r.w, lp_const_i32(r.t, 0, 1, r.target), &empty, &e);
    assert_non_null(y);
    assert_int_equal(y->rows, 0);
    assert_int_equal(lp_backward(r.t, lp_sum(r.t, y)), LP_OK);
    head_rig_free(&r);
}

/* ---- bits ------------------------------------------------------------------------------------ */

/* Sequences of odd and even lengths; all at once, in two and in many batches, on one to three
 * threads: one set of bits for log-probabilities, dh and dW. */
static void check_cuts(int number, int64_t vocab, const int64_t* offsets, int64_t sequences,
                       int64_t d) {
    const int64_t rows = offsets[sequences];
    float *want_w = NULL, *want_h = NULL, *want = malloc((size_t)rows * sizeof *want);
    for (int way = 0; way < 5; way++) {
        head_rig r = head_rig_make(way == 1 ? 1 : way == 2 ? 3 : 2, rows, vocab, d, number);
        float* log_prob = malloc((size_t)rows * sizeof *log_prob);
        const int64_t batch = way <= 2 ? sequences : way == 3 ? (sequences + 1) / 2 : 1;
        for (int64_t s = 0; s < sequences; s += batch) {
            const int64_t n = LP__MIN(batch, sequences - s);
            int64_t own[64];
            for (int64_t i = 0; i <= n; i++) own[i] = offsets[s + i] - offsets[s];
            const lp_head_def def = {.temperature = 0.9, .sequences = n, .offsets = own};
            pass(&r, &def, offsets[s], offsets[s + n], log_prob, NULL);
        }
        if (way == 0) {
            want_w = gradient(r.w), want_h = gradient(r.h);
            memcpy(want, log_prob, (size_t)rows * sizeof *want);
        }
        assert_memory_equal(log_prob, want, (size_t)rows * sizeof *want);
        assert_memory_equal(r.h->grad, want_h, (size_t)(rows * d) * sizeof(float));
        assert_memory_equal(r.w->grad, want_w, (size_t)(vocab * d) * sizeof(float));
        free(log_prob);
        head_rig_free(&r);
    }
    free(want_w), free(want_h), free(want);
}

static void batches_change_no_bit(void** state) {
    (void)state;
    static const int64_t offsets[] = {0, 1, 4, 4, 66, 69, 198, 261, 300};
    for (int number = LP__F32; number <= LP__BF16; number++)
        check_cuts(number, 517, offsets, 8, 24);
}

/* 1000 rows of so large a vocabulary that forward keeps the probabilities of a part of them only:
 * backward computes the rest again. In batches all are kept. */
static void what_is_kept_changes_no_bit(void** state) {
    (void)state;
    static const int64_t offsets[] = {0, 201, 334, 501, 700, 1000};
    check_cuts(LP__F32, 20000, offsets, 5, 8);
    check_cuts(LP__BF16, 40000, offsets, 5, 8);
}

/* Without offsets every row is a step of its own: then any cut will do, the numbers are the same to
 * rounding. */
/* What a step has used up is written over, not added to: rate 0 moves no weight, so the second
 * gradient is the first. More rows than are summed at once. */
static void gradients_after_a_step(void** state) {
    (void)state;
    enum { MANY_ROWS = 1200, FEW_WORDS = 40, NARROW = 9 };
    const int64_t offsets[] = {0, 501, 501, MANY_ROWS};
    const lp_head_def def = {.temperature = 1, .sequences = 3, .offsets = offsets};
    for (int number = 0; number < 2; number++) {
        head_rig r = head_rig_make(2, MANY_ROWS, FEW_WORDS, NARROW, number);
        lp_optim_def sgd = lp_optim_def_default(LP_SGD);
        sgd.learning_rate = 0;
        lp_optim* optim;
        assert_int_equal(lp_optim_create(r.params, &sgd, &optim), LP_OK);
        float* log_prob = malloc(MANY_ROWS * sizeof *log_prob);
        float* first = NULL;
        for (int step = 0; step < 3; step++) {
            pass(&r, &def, 0, MANY_ROWS, log_prob, NULL);
            float* now = gradient(r.w);
            if (first) assert_memory_equal(first, now, FEW_WORDS * NARROW * sizeof *now);
            free(first);
            first = now;
            assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
            assert_true(lp_grad_at(r.w, 1, 1) == 0);
            assert_true(step < 2 || lp_grad_f32(r.w)[1] == 0); /* it can be asked for */
        }
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK); /* without a gradient: zero */
        free(first), free(log_prob);
        head_rig_free(&r);
    }
}

static void rows_without_sequences(void** state) {
    (void)state;
    static const int64_t offsets[] = {0, 33, 70};
    float log_prob[70];
    float* dw[3];
    for (int way = 0; way < 3; way++) {
        head_rig r = head_rig_make(2, 70, 300, 16, LP__BF16);
        lp_head_def def = {.temperature = 0.9};
        if (way == 0) {
            def.sequences = 2, def.offsets = offsets;
            pass(&r, &def, 0, 70, log_prob, NULL);
        } else if (way == 1) {
            pass(&r, &def, 0, 70, log_prob, NULL);
        } else {
            pass(&r, &def, 0, 20, log_prob, NULL);
            pass(&r, &def, 20, 51, log_prob, NULL);
            pass(&r, &def, 51, 70, log_prob, NULL);
        }
        dw[way] = gradient(r.w);
        head_rig_free(&r);
    }
    assert_memory_equal(dw[1], dw[2], 300 * 16 * sizeof(float));
    double largest = 0, worst = 0;
    for (int i = 0; i < 300 * 16; i++) {
        largest = fmax(largest, fabs((double)dw[0][i]));
        worst = fmax(worst, fabs((double)dw[0][i] - (double)dw[1][i]));
    }
    assert_true(largest > 0 && worst <= 1e-6 * largest);
    for (int way = 0; way < 3; way++) free(dw[way]);
}

/* Twice the rows take twice their own memory, not that of rows x vocabulary: what is kept has a
 * limit, and forward alone keeps nothing. */
static void memory_of_rows_and_vocabulary(void** state) {
    (void)state;
    enum { V = 50000, FEW = 700, MANY = 1400 };
    const size_t limit = (size_t)64 << 20, matrix = (size_t)(MANY - FEW) * V * sizeof(float);
    for (int number = LP__F32; number <= LP__BF16; number++) {
        for (int learns = 0; learns < 2; learns++) {
            size_t peak[2];
            for (int many = 0; many < 2; many++) {
                const int64_t rows = many ? MANY : FEW;
                head_rig r = head_rig_make(2, rows, V, 4, number);
                const int64_t offsets[] = {0, 333, rows};
                const lp_head_def def = {.temperature = 1, .sequences = 2, .offsets = offsets};
                float log_prob[MANY];
                lp_tape_record(r.t, learns);
                const size_t before = lp_ctx_memory(r.ctx).peak_bytes;
                if (learns)
                    pass(&r, &def, 0, rows, log_prob, NULL);
                else
                    assert_non_null(
                        lp_head(r.t, r.h, r.w, lp_const_i32(r.t, rows, 1, r.target), &def, NULL));
                peak[many] = lp_ctx_memory(r.ctx).peak_bytes - before;
                head_rig_free(&r);
            }
            assert_true(peak[1] < peak[0] + matrix / 100 + (learns ? limit / 8 : 0));
            assert_true(peak[1] < (learns ? 3 * limit : limit));
        }
    }
}

/* ---- bf16 ------------------------------------------------------------------------------------ */

static void half_precision(void** state) {
    (void)state;
    enum { N = 200, V = 1100, WIDTH = 64 };
    float *log_prob[2], *dh[2], *dw[2];
    for (int number = LP__F32; number <= LP__BF16; number++) {
        head_rig r = head_rig_make(2, N, V, WIDTH, number);
        for (int i = 0; i < N * WIDTH; i++) lp_f32(r.h)[i] *= 0.3f;
        const int64_t offsets[] = {0, 77, N};
        const lp_head_def def = {.temperature = 1, .sequences = 2, .offsets = offsets};
        log_prob[number] = malloc(N * sizeof(float));
        pass(&r, &def, 0, N, log_prob[number], NULL);
        dh[number] = gradient(r.h), dw[number] = gradient(r.w);
        head_rig_free(&r);
    }
    const float* pairs[2][2] = {{dh[0], dh[1]}, {dw[0], dw[1]}};
    const int64_t counts[2] = {N * WIDTH, V * WIDTH};
    for (int which = 0; which < 2; which++) {
        double off = 0, size = 0;
        for (int64_t i = 0; i < counts[which]; i++) {
            const double a = (double)pairs[which][0][i], b = (double)pairs[which][1][i];
            off += (a - b) * (a - b), size += a * a;
        }
        assert_true(off > 0); /* it is another arithmetic */
        assert_true(sqrt(off) <= 2e-2 * sqrt(size));
    }
    for (int i = 0; i < N; i++) assert_close(log_prob[1][i], log_prob[0][i], 0.05);
    for (int i = 0; i < 2; i++) free(log_prob[i]), free(dh[i]), free(dw[i]);
}

/* ---- mistakes -------------------------------------------------------------------------------- */

static void count(void* user, const char* condition, const char* where, const char* message) {
    (void)condition, (void)where, (void)message;
    ++*(int*)user;
}

static void bad_definitions(void** state) {
    (void)state;
    int mistakes = 0;
    lp_ctx_def ctx_def = lp_ctx_def_default();
    ctx_def.assertion = count;
    ctx_def.assert_user = &mistakes;
    lp_ctx* ctx = lp_ctx_create(&ctx_def, NULL, 0);
    const int64_t short_rows[] = {0, 2}, falling[] = {0, 2, 1, 3}, three[] = {0, 3};
    const int64_t one_each[] = {0, 1, 2, 3}, two[] = {0, 2, 2, 2}, backward[] = {0, 2, 1, 1};
    const int32_t target[] = {1, 4, 0}, other[] = {1, 3, 0}, outside[] = {1, 5, 0};
    const int32_t falls[] = {4, 1}, twice[] = {1, 1}, mixed[] = {-1, 1}, good[] = {1, 4, 0};
    const int32_t out[] = {-1, -3}, out_mixed[] = {-1, 2}, out_falls[] = {-3, -1};
    const int32_t out_twice[] = {-1, -1}, out_target[] = {-1, -2}, out_far[] = {-1, -6};
    const int32_t out_least[] = {-1, INT32_MIN};
    const struct {
        lp_head_def def;
        lp_dtype type;
        bool fine;
    } rows[] = {{{1, 1, three, one_each, good}, LP_F32, true},
                {{1, 1, short_rows, NULL, NULL}, LP_F32, false},
                {{1, 3, falling, NULL, NULL}, LP_F32, false},
                {{1, -1, three, NULL, NULL}, LP_F32, false},
                {{1, 1, three, one_each, other}, LP_F32, false}, /* without the target */
                {{1, 1, three, one_each, outside}, LP_F32, false},
                {{1, 1, three, two, falls}, LP_F32, false},
                {{1, 1, three, two, twice}, LP_F32, false},
                {{1, 1, three, two, mixed}, LP_F32, false},
                {{1, 1, three, two, out}, LP_F32, true},
                {{1, 1, three, two, out_mixed}, LP_F32, false},
                {{1, 1, three, two, out_falls}, LP_F32, false},
                {{1, 1, three, two, out_twice}, LP_F32, false},
                {{1, 1, three, two, out_target}, LP_F32, false}, /* the target is left out */
                {{1, 1, three, two, out_far}, LP_F32, false},
                {{1, 1, three, two, out_least}, LP_F32, false},
                {{1, 1, three, backward, good}, LP_F32, false},
                {{1, 1, three, one_each, NULL}, LP_F32, false},
                {{1, 1, three, one_each, good}, LP_F64, true},
                {{1, 1, three, two, mixed}, LP_F64, false},
                {{-1, 1, three, NULL, NULL}, LP_F32, false},
                {{(double)NAN, 1, three, NULL, NULL}, LP_F32, false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lp_tape* t = lp_tape_create(ctx, rows[i].type);
        mistakes = 0;
        lp_tensor y = lp_head(t, lp_zeros(t, 3, 2), lp_zeros(t, 5, 2),
                              lp_const_i32(t, 3, 1, target), &rows[i].def, NULL);
        if ((y != NULL) != rows[i].fine || mistakes != !rows[i].fine)
            fail_msg("row %d: %d mistakes", (int)i, mistakes);
        assert_int_equal(lp_tape_status(t), rows[i].fine ? LP_OK : LP_INVALID);
        lp_tape_destroy(t);
    }
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_of_rows_and_vocabulary),
        cmocka_unit_test(kept_sets_by_hand),
        cmocka_unit_test(two_ways_to_tell_a_set),
        cmocka_unit_test(plain_head),
        cmocka_unit_test(batches_change_no_bit),
        cmocka_unit_test(what_is_kept_changes_no_bit),
        cmocka_unit_test(rows_without_sequences),
        cmocka_unit_test(gradients_after_a_step),
        cmocka_unit_test(half_precision),
        cmocka_unit_test(bad_definitions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
