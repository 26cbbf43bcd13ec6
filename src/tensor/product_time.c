/* The matrix products of a linear layer by themselves, to be timed. */
#include "base/clock.h"
#include "kernels/product.h"
#include <logpi/tensor.h>

typedef struct job {
    lp_ctx* ctx;
    const lp_product_def* def;
    lp__number number;
    lp__word *x, *dy, *weight; /* [rows] of in and out numbers; the packed weight */
    lp__word *blocks, *panels; /* of dW: dy and x cut along their rows */
    int32_t* steps;
    float* result;
    int64_t in_words, out_words;
} job;

/* Rows of small numbers, none of them denormal. */
static lp__word* numbers(const job* j, int64_t rows, int64_t cols, int64_t words) {
    lp__word* to = lp__calloc(j->ctx, (size_t)(rows * words), sizeof *to);
    float* row = lp__alloc(j->ctx, (size_t)cols * sizeof *row);
    for (int64_t c = 0; row && c < cols; c++) row[c] = (float)(c % 31) * 0.001f - 0.0155f;
    for (int64_t r = 0; to && row && r < rows; r++)
        lp__ctx_kernels(j->ctx)->format[j->number].store(cols, row, to + r * words);
    lp__free(j->ctx, row);
    if (row) return to;
    lp__free(j->ctx, to);
    return NULL;
}

/* The packed weight [out, in]: transposed for y = x W^T, plain for dx = dy W. */
static lp_status pack(job* j) {
    const lp_product_def* d = j->def;
    const bool forward = d->pass == LP_PRODUCT_FORWARD;
    const size_t words = lp__weight_words(j->ctx, j->number, d->out, d->in, forward);
    float* w = lp__calloc(j->ctx, (size_t)(d->out * d->in), sizeof *w);
    j->weight = lp__calloc(j->ctx, words, sizeof *j->weight);
    lp_status status = w && j->weight ? LP_OK : LP_NOMEM;
    for (int64_t i = 0; status == LP_OK && i < d->out * d->in; i++)
        w[i] = (float)(i % 29) * 0.001f - 0.0145f;
    if (status == LP_OK)
        status = lp__weight_pack(j->ctx, j->number, d->out, d->in, w, forward ? j->weight : NULL,
                                 forward ? NULL : j->weight);
    lp__free(j->ctx, w);
    return status;
}

static lp_status prepare(job* j) {
    const lp_product_def* d = j->def;
    const lp__format* format = &lp__ctx_kernels(j->ctx)->format[j->number];
    const int64_t steps = lp__words(format, d->rows);
    const bool dw = d->pass == LP_PRODUCT_DW;
    j->in_words = lp__words(format, d->in);
    j->out_words = lp__words(format, d->out);
    if (d->pass != LP_PRODUCT_DX && !(j->x = numbers(j, d->rows, d->in, j->in_words)))
        return LP_NOMEM;
    if (d->pass != LP_PRODUCT_FORWARD && !(j->dy = numbers(j, d->rows, d->out, j->out_words)))
        return LP_NOMEM;
    const int64_t result = dw ? d->out * d->in : d->rows * LP__MAX(d->out, d->in);
    j->result = lp__calloc(j->ctx, (size_t)result, sizeof *j->result);
    if (!j->result) return LP_NOMEM;
    if (!dw) return pack(j);
    j->blocks =
        lp__calloc(j->ctx, (size_t)lp__cut_words(j->ctx, steps, d->out, true), sizeof *j->blocks);
    j->panels =
        lp__calloc(j->ctx, (size_t)lp__cut_words(j->ctx, steps, d->in, false), sizeof *j->panels);
    j->steps = lp__alloc(j->ctx, (size_t)(2 * steps) * sizeof *j->steps);
    if (!j->blocks || !j->panels || !j->steps) return LP_NOMEM;
    for (int64_t p = 0; p < steps; p++) {
        const int64_t first = p * format->numbers, second = first + 1;
        j->steps[p] = (int32_t)first;
        j->steps[steps + p] = format->numbers > 1 && second < d->rows ? (int32_t)second : -1;
    }
    return LP_OK;
}

static void once(const job* j) {
    const lp_product_def* d = j->def;
    lp__product p = {.terms = 1, .c = j->result};
    if (d->pass == LP_PRODUCT_FORWARD) {
        p.m = d->rows;
        p.n = p.ldc = d->out;
        p.term[0] = (lp__term){.a = j->x, .lda = j->in_words, .b = j->weight, .words = j->in_words};
    } else if (d->pass == LP_PRODUCT_DX) {
        p.m = d->rows;
        p.n = p.ldc = d->in;
        p.term[0] =
            (lp__term){.a = j->dy, .lda = j->out_words, .b = j->weight, .words = j->out_words};
    } else {
        const lp__format* format = &lp__ctx_kernels(j->ctx)->format[j->number];
        const int64_t count = lp__words(format, d->rows);
        const lp__steps steps = {count, j->steps, format->numbers > 1 ? j->steps + count : NULL};
        lp__cut_rows(j->ctx, j->number, &steps, d->out, j->dy, j->out_words, true, j->blocks);
        lp__cut_rows(j->ctx, j->number, &steps, d->in, j->x, j->in_words, false, j->panels);
        p.m = d->out;
        p.n = p.ldc = d->in;
        p.term[0] = (lp__term){.a = j->blocks, .b = j->panels, .words = count};
        p.blocks = p.accumulate = true;
    }
    lp__products(j->ctx, j->number, &p, 1);
}

lp_status lp_product_time(lp_ctx* ctx, const lp_product_def* def, int repeats,
                          lp_product_timing* timing) {
    const lp__range ranges[] = {{"rows", (double)def->rows, 1, 1 << 24},
                                {"out", (double)def->out, 1, 1 << 24},
                                {"in", (double)def->in, 1, 1 << 24},
                                {"repeats", repeats, 1, 1e9},
                                {"pass", def->pass, LP_PRODUCT_FORWARD, LP_PRODUCT_DW},
                                {"precision", def->precision, LP_FLOAT32, LP_BFLOAT16}};
    lp_status status = lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
    if (status != LP_OK) return status;
    job j = {.ctx = ctx, .def = def, .number = def->precision == LP_FLOAT32 ? LP__F32 : LP__BF16};
    status = prepare(&j);
    lp_product_timing t = {0};
    if (status == LP_OK) status = lp_machine_probe_compute(ctx, &t.before);
    if (status == LP_OK) once(&j);
    const double start = lp__seconds();
    int done = 0;
    for (; status == LP_OK && done < repeats; done++) {
        if (lp_cancelled(ctx)) {
            status = lp_fail(ctx, LP_CANCELLED, "cancelled");
        } else {
            once(&j);
        }
    }
    t.seconds = (lp__seconds() - start) / repeats;
    if (status == LP_OK) status = lp_machine_probe_compute(ctx, &t.after);
    if (status == LP_OK) *timing = t;
    void* const blocks[] = {j.x, j.dy, j.weight, j.blocks, j.panels, j.steps, j.result};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(ctx, blocks[i]);
    return status;
}
