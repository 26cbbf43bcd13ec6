/* A tape when memory runs out: every allocation of a forward and a backward pass over a small
 * transformer layer fails in turn. The pass ends with LP_NOMEM, or (what was refused was a copy for
 * speed) with the bits of the undisturbed pass; the status sticks until the reset; a second try on
 * the same tape gives the bits of the undisturbed pass; nothing leaks. And the same layer on one,
 * two and three threads, and on rows that come with others or alone: one set of bits. */
#include "testing.h"

#include "base/base.h"
#include <logpi/pg.h>

enum { N = 20, VOCAB = 40, D = 16, KV = 8, FF = 24 };

/* An allocator that refuses one allocation, or all from it on. */
typedef struct refusal {
    int64_t countdown; /* allocations until then; negative: none is refused */
    bool for_good, refused;
    int64_t held; /* bytes */
} refusal;

static void* refusing_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    refusal* r = user;
    if (new_bytes > 0 && r->countdown >= 0) {
        if (r->countdown == 0) {
            r->refused = true;
            if (!r->for_good) r->countdown = -1;
            return NULL;
        }
        r->countdown--;
    }
    void* block = NULL;
    if (new_bytes == 0) {
        free(old);
    } else {
        block = realloc(old, new_bytes);
    }
    r->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

static const struct {
    const char* name;
    int64_t rows, cols;
} WEIGHTS[] = {{"embedding", VOCAB, D},
               {"norm", 1, D},
               {"q", D, D},
               {"k", KV, D},
               {"v", KV, D},
               {"o", D, D},
               {"gate", FF, D},
               {"up", FF, D},
               {"down", D, FF},
               {"value", 1, D},
               {"value.bias", 1, 1},
               {"mix", D, D}};
enum { COUNT = sizeof WEIGHTS / sizeof *WEIGHTS };

static lp_params* make_params(lp_ctx* ctx) {
    lp_params* params = lp_params_create(ctx, LP_F32, true);
    lp_rng rng = lp_rng_philox(3, LP_FOR_TEST, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        lp_tensor w =
            lp_param_randn(params, WEIGHTS[i].name, WEIGHTS[i].rows, WEIGHTS[i].cols, &rng);
        for (int64_t j = 0; j < w->rows * w->cols; j++) lp_f32(w)[j] *= 0.4f;
    }
    lp_param_tied(params, "head", lp_params_find(params, "embedding"));
    return params;
}

static const float FREQUENCIES[2] = {1, 0.1f}; /* of rotary positions */

/* Values [n, 1] of the packed sequences, and their log-probabilities [n, 1] unless log_prob is
 * NULL: most ops, and each that uses scratch. */
static void layer(lp_tape* t, lp_params* params, const int64_t* offsets, int64_t sequences,
                  lp_tensor* log_prob, lp_tensor* value, lp_tensor* entropy) {
    lp_tensor w[COUNT];
    int32_t token[N], target[N], position[N];
    const int64_t n = offsets[sequences];
    for (int i = 0; i < COUNT; i++) w[i] = lp_params_find(params, WEIGHTS[i].name);
    for (int64_t s = 0; s < sequences; s++) {
        for (int64_t i = offsets[s]; i < offsets[s + 1]; i++) {
            position[i] = (int32_t)(i - offsets[s]);
            token[i] = (int32_t)((7 * (offsets[s + 1] - offsets[s]) + 3 * position[i]) % VOCAB);
            target[i] = (token[i] + 11) % VOCAB;
        }
    }
    const lp_attention_def def = {
        .heads = 4, .kv_heads = 2, .sequences = sequences, .offsets = offsets};
    lp_tensor at = lp_const_i32(t, n, 1, position);
    lp_tensor x = lp_rows(t, w[0], lp_const_i32(t, n, 1, token));
    lp_tensor h = lp_rmsnorm(t, x, w[1], 1e-5);
    lp_tensor q = lp_rope(t, lp_linear(t, h, w[2], NULL), at, 4, FREQUENCIES, 1);
    lp_tensor k = lp_rope(t, lp_linear(t, h, w[3], NULL), at, 4, FREQUENCIES, 1);
    lp_tensor a = lp_attention(t, q, k, lp_linear(t, h, w[4], NULL), &def);
    x = lp_add(t, x, lp_linear(t, a, w[5], NULL));
    lp_tensor f = lp_swiglu(t, lp_linear(t, x, w[6], NULL), lp_linear(t, x, w[7], NULL));
    x = lp_add(t, x, lp_linear(t, f, w[8], NULL));
    x = lp_add(t, x, lp_matmul(t, lp_tanh(t, x), lp_transpose(t, w[11])));
    *value = lp_linear(t, x, w[9], w[10]);
    if (log_prob)
        *log_prob = lp_head_logp(t, x, lp_params_find(params, "head"),
                                 lp_const_i32(t, n, 1, target), 0.9, entropy);
}

static const int64_t OFFSETS[] = {0, 9, 9, 20};

/* A pass: the loss, and the gradients of all weights. Without the head, whose blocks of logits are
 * the first to take scratch, the products are. */
static lp_status pass(lp_tape* t, lp_params* params, bool head, float* loss) {
    float zeros[N] = {0}, advantage[N], old[N];
    lp_tensor log_prob, value, entropy;
    lp_tape_reset(t);
    lp_params_zero_grad(params);
    for (int i = 0; i < N; i++) {
        advantage[i] = (float)(i % 5) - 1.7f;
        old[i] = -3.5f - 0.05f * (float)i;
    }
    layer(t, params, OFFSETS, 3, head ? &log_prob : NULL, &value, &entropy);
    if (!head) log_prob = entropy = lp_tanh(t, value);
    const lp_ppo_loss_def def = {0.2, 0.2, 0.5, N, old, zeros, advantage, advantage};
    lp_tensor y = lp_ppo_loss(t, log_prob, value, &def);
    y = lp_add(t, y, lp_scale(t, lp_mean(t, lp_entropy(t, lp_categorical(t, value))), 0.1));
    y = lp_sub(t, y, lp_mean(t, lp_mul(t, log_prob, entropy)));
    const lp_status status = lp_tape_status(t) == LP_OK ? lp_backward(t, y) : lp_tape_status(t);
    if (status == LP_OK) *loss = (float)lp_item(y);
    lp_params_fold(params);
    assert_int_equal(lp__scratch(lp_tape_ctx(t))->used,
                     0); /* scratch is given back, whatever happened */
    return status;
}

static bool same_gradients(const lp_params* one, const lp_params* other) {
    bool same = true;
    for (int i = 0; i < COUNT; i++) {
        lp_tensor x = lp_params_get(one, i), y = lp_params_get(other, i);
        same = same && memcmp(x->grad, y->grad, (size_t)(x->rows * x->cols) * sizeof(float)) == 0;
    }
    return same;
}

/* An undisturbed pass on so many threads. */
typedef struct reference {
    lp_ctx* ctx;
    lp_params* params;
    float loss;
} reference;

static reference reference_make(int threads, bool head) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    reference r = {.ctx = lp_ctx_create(&def, NULL, 0)};
    r.params = make_params(r.ctx);
    assert_int_equal(pass(lp_tape_create(r.ctx, LP_F32), r.params, head, &r.loss), LP_OK);
    assert_true(isfinite(r.loss));
    for (int i = 0; head && i < COUNT; i++) { /* every weight takes part */
        lp_tensor w = lp_params_get(r.params, i);
        double sum = 0;
        for (int64_t j = 0; j < w->rows * w->cols; j++) sum += fabs(lp_grad_at(w, 0, j));
        assert_true(sum > 0);
    }
    return r;
}

/* The number of refusals that ended a pass. */
static void refuse_each(const reference* want, bool head, bool for_good, int* ended) {
    for (int64_t n = 0;; n++) {
        refusal r = {.countdown = -1, .for_good = for_good};
        lp_ctx_def def = lp_ctx_def_default();
        def.threads = 2;
        def.alloc = refusing_alloc;
        def.alloc_user = &r;
        lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
        lp_params* params = make_params(ctx);
        lp_tape* t = lp_tape_create(ctx, LP_F32);
        float loss = 0;
        r.countdown = n;
        const lp_status status = pass(t, params, head, &loss);
        r.countdown = -1;
        if (status == LP_OK) {
            assert_memory_equal(&loss, &want->loss, sizeof loss);
            assert_true(same_gradients(params, want->params));
        } else {
            assert_int_equal(status, LP_NOMEM);
            assert_int_equal(lp_error_status(ctx), LP_NOMEM);
            assert_true(strlen(lp_error(ctx)) > 0);
            assert_true(r.refused);
            /* memory is there again, but the status stays, and nothing is computed */
            assert_null(lp_scalar(t, 1.0));
            assert_null(lp_linear(t, NULL, lp_params_get(params, 2), NULL));
            assert_int_equal(lp_tape_status(t), LP_NOMEM);
            assert_int_equal(lp_backward(t, NULL), LP_NOMEM);
            ++*ended;
        }
        assert_int_equal(pass(t, params, head, &loss), LP_OK);
        assert_memory_equal(&loss, &want->loss, sizeof loss);
        assert_true(same_gradients(params, want->params));
        lp_ctx_destroy(ctx);
        assert_int_equal(r.held, 0);
        if (!r.refused) return;
    }
}

static void every_allocation_fails_once(void** state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        const bool head = i % 2, for_good = i / 2;
        const reference want = reference_make(2, head);
        int ended = 0;
        refuse_each(&want, head, for_good, &ended);
        assert_true(ended >= 4); /* chunks of the tape, scratch of attention and of products */
        lp_ctx_destroy(want.ctx);
    }
}

static void threads_change_no_bit(void** state) {
    (void)state;
    const reference one = reference_make(1, true);
    for (int threads = 2; threads <= 5; threads++) {
        const reference more = reference_make(threads, true);
        assert_memory_equal(&one.loss, &more.loss, sizeof one.loss);
        assert_true(same_gradients(one.params, more.params));
        lp_ctx_destroy(more.ctx);
    }
    lp_ctx_destroy(one.ctx);
}

/* A sequence alone has the bits that it has in company. */
static void company_changes_no_bit(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = make_params(ctx);
    lp_tape *t = lp_tape_create(ctx, LP_F32), *alone = lp_tape_create(ctx, LP_F32);
    lp_tensor all[3], some[3];
    layer(t, params, OFFSETS, 3, &all[0], &all[1], &all[2]);
    for (int s = 0; s < 3; s++) {
        const int64_t n = OFFSETS[s + 1] - OFFSETS[s], offsets[] = {0, n};
        lp_tape_reset(alone);
        lp_tape_record(alone, s == 0); /* nor does recording */
        layer(alone, params, offsets, 1, &some[0], &some[1], &some[2]);
        for (int i = 0; i < 3; i++)
            assert_memory_equal(lp_f32(all[i]) + OFFSETS[s], lp_f32(some[i]),
                                (size_t)n * sizeof(float));
    }
    lp_ctx_destroy(ctx);
}

/* A loop over batches that shrink and grow back allocates nothing once the largest has been seen.
 */
static void a_loop_allocates_nothing(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    lp_params* params = make_params(ctx);
    lp_optim_def def = lp_optim_def_default(LP_ADAM);
    lp_optim* optim;
    assert_int_equal(lp_optim_create(params, &def, &optim), LP_OK);
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    float loss;
    uint64_t before = 0;
    for (int step = 0; step < 12; step++) {
        if (step == 2) before = lp_ctx_memory(ctx).allocations;
        assert_int_equal(pass(t, params, true, &loss), LP_OK);
        assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
        lp_tensor log_prob, value;
        const int64_t offsets[] = {0, 1 + step % 9};
        lp_tape_reset(t);
        layer(t, params, offsets, 1, &log_prob, &value, NULL);
        assert_int_equal(lp_tape_status(t), LP_OK);
    }
    assert_int_equal(lp_ctx_memory(ctx).allocations, before);
    lp_ctx_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(threads_change_no_bit),
        cmocka_unit_test(company_changes_no_bit),
        cmocka_unit_test(a_loop_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
