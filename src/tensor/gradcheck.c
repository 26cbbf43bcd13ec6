/* Gradient check: the tape's gradient of sum(loss * r) + sum(x^2) over the inputs x, r a fixed
 * random matrix, in double against central differences in every element of every input, and in
 * float against the one in double. The squares come last, so that backward finds a gradient in
 * every input already, which it must add to and not replace. */
#include "tensor/tape.h"

static const double STEP = 1e-5;

typedef struct check {
    lp_ctx* ctx;
    lp_tape* tape;
    const lp_gradcheck_case* c;
    double* values[LP__MAX_INPUTS]; /* [rows, cols] of each input */
    double* weights;                /* r */
    int64_t outputs;
} check;

/* sum(loss * r) + sum(x^2); the inputs of this evaluation go to `in`. NULL after a failure. */
static lp_tensor evaluate(check* k, lp_tensor* in) {
    for (int i = 0; i < k->c->inputs; i++)
        in[i] = lp_input_f64(k->tape, k->c->shape[i][0], k->c->shape[i][1], k->values[i]);
    lp_tensor y = k->c->loss(k->tape, in);
    if (!y) return NULL;
    if (!k->weights) { /* the first evaluation shows how large the output is */
        k->outputs = y->rows * y->cols;
        k->weights = lp__alloc(k->ctx, (size_t)k->outputs * sizeof(double));
        if (!k->weights) return lp__tape_fail(k->tape, LP_NOMEM);
        lp_rng rng = lp_rng_philox(1, LP_FOR_TEST, 99, 0);
        for (int64_t j = 0; j < k->outputs; j++)
            k->weights[j] = (double)(float)(lp_rng_uniform(&rng) + 0.5);
    }
    lp_tensor sum =
        lp_sum(k->tape, lp_mul(k->tape, y, lp_const_f64(k->tape, y->rows, y->cols, k->weights)));
    for (int i = 0; i < k->c->inputs; i++)
        sum = lp_add(k->tape, sum, lp_sum(k->tape, lp_square(k->tape, in[i])));
    return sum;
}

static double value_at(check* k, double* element, double x) {
    lp_tensor in[LP__MAX_INPUTS];
    const double old = *element;
    *element = x;
    lp_tape_reset(k->tape);
    const double y = lp_item(evaluate(k, in));
    *element = old;
    return y;
}

/* The gradients of all inputs, computed on a tape of this type. */
static lp_status differentiate(check* k, lp_dtype type, double* const* grads) {
    lp_tensor in[LP__MAX_INPUTS];
    lp_tape* tape = lp_tape_create(k->ctx, type);
    if (!tape) return LP_NOMEM;
    lp_tape* own = k->tape;
    k->tape = tape;
    const lp_status status = lp_backward(tape, evaluate(k, in));
    k->tape = own;
    for (int i = 0; status == LP_OK && i < k->c->inputs; i++) {
        for (int64_t j = 0; j < in[i]->rows * in[i]->cols; j++)
            grads[i][j] = lp_grad_at(in[i], 0, j);
    }
    lp_tape_destroy(tape);
    return status;
}

static int64_t input_size(const check* k, int i) { return k->c->shape[i][0] * k->c->shape[i][1]; }

static double or_infinite(double error) { return isnan(error) ? (double)INFINITY : error; }

static void compare_numeric(check* k, double* const* grads, lp_gradcheck_result* result) {
    for (int i = 0; i < k->c->inputs; i++) {
        const int64_t cols = k->c->shape[i][1];
        for (int64_t j = 0; j < input_size(k, i); j++) {
            double* x = &k->values[i][j];
            const double numeric =
                (value_at(k, x, *x + STEP) - value_at(k, x, *x - STEP)) / (2 * STEP);
            const double error =
                or_infinite(fabs(grads[i][j] - numeric) / fmax(1.0, fabs(numeric)));
            if (error <= result->worst) continue;
            result->worst = error;
            result->input = i;
            result->row = j / cols;
            result->col = j % cols;
        }
    }
}

static void compare_float(const check* k, double* const* grads, double* const* in_float,
                          lp_gradcheck_result* result) {
    for (int i = 0; i < k->c->inputs; i++) {
        double largest = 1, worst = 0;
        for (int64_t j = 0; j < input_size(k, i); j++) {
            largest = fmax(largest, fabs(grads[i][j]));
            worst = fmax(worst, or_infinite(fabs(in_float[i][j] - grads[i][j])));
        }
        if (worst / largest <= result->float_worst) continue;
        result->float_worst = worst / largest;
        result->float_input = i;
    }
}

lp_status lp_gradcheck_run(lp_ctx* ctx, const lp_gradcheck_case* c, uint64_t seed,
                           lp_gradcheck_result* result) {
    *result = (lp_gradcheck_result){0};
    if (!LP__REQUIRE(ctx, c->inputs >= 1 && c->inputs <= LP__MAX_INPUTS,
                     "a case has 1 to 4 inputs"))
        return LP_INVALID;
    check k = {.ctx = ctx, .c = c, .tape = lp_tape_create(ctx, LP_F64)};
    double *grads[LP__MAX_INPUTS] = {0}, *in_float[LP__MAX_INPUTS] = {0};
    lp_status status = k.tape ? LP_OK : LP_NOMEM;
    lp_rng rng = lp_rng_philox(seed, LP_FOR_TEST, 0, 0);
    for (int i = 0; status == LP_OK && i < c->inputs; i++) {
        const size_t n = (size_t)input_size(&k, i);
        k.values[i] = lp__calloc(ctx, n, sizeof(double));
        grads[i] = lp__calloc(ctx, n, sizeof(double));
        in_float[i] = lp__calloc(ctx, n, sizeof(double));
        if (!k.values[i] || !grads[i] || !in_float[i]) status = LP_NOMEM;
        for (size_t j = 0; status == LP_OK && j < n; j++)
            k.values[i][j] = (double)(float)(c->low + (c->high - c->low) * lp_rng_uniform(&rng));
    }
    if (status == LP_OK) status = differentiate(&k, LP_F64, grads);
    if (status == LP_OK) status = differentiate(&k, LP_F32, in_float);
    if (status == LP_OK) {
        compare_float(&k, grads, in_float, result);
        compare_numeric(&k, grads, result);
        status = lp_tape_status(k.tape);
    }
    for (int i = 0; i < c->inputs; i++) {
        lp__free(ctx, k.values[i]);
        lp__free(ctx, grads[i]);
        lp__free(ctx, in_float[i]);
    }
    lp__free(ctx, k.weights);
    lp_tape_destroy(k.tape);
    return status;
}
