/* How much memory a run will take, from the shapes: what the code that runs will ask for, counted
 * with the same functions. */
#include "lm/model.h"
#include "tensor/tape.h"

enum {
    HEAD_ROWS = 128,      /* of logits at a time, see ops_head.c */
    HEAD_KEPT = 64 << 20, /* bytes of probabilities kept for backward */
    MICRO_TOKENS = 512    /* of a trainer's micro-batch */
};

typedef struct count {
    const lp_model* model;
    const lp_model_shape* s;
    const lp__kernels* kernels;
    const lp__format* format;
    lp__number number;
} count;

static size_t times(int64_t n, int64_t size) { return (size_t)n * (size_t)size; }

/* Both packed copies of a matrix [rows, cols], or the first only. */
static size_t operands(const count* c, int64_t rows, int64_t cols, bool both) {
    const lp_ctx* ctx = c->model->ctx;
    size_t words = lp__weight_words(ctx, c->number, rows, cols, true);
    if (both) words += lp__weight_words(ctx, c->number, rows, cols, false);
    return words * sizeof(lp__word);
}

static size_t model_operands(const count* c, bool both) {
    const lp_model_shape* s = c->s;
    const int64_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;
    const bool gated = c->model->arch->mlp == LP__MLP_SWIGLU;
    const size_t layer = operands(c, q, s->width, both) + 2 * operands(c, kv, s->width, both) +
                         operands(c, s->width, q, both) +
                         operands(c, s->width, s->intermediate, both) +
                         (gated ? 2 : 1) * operands(c, s->intermediate, s->width, both);
    return (size_t)s->layers * layer + operands(c, s->vocab, s->width, both);
}

/* Bytes that a block keeps for backward of a token, and those that one block needs at a time. */
static size_t kept_bytes(const count* c) {
    const lp_model_shape* s = c->s;
    const int64_t q = lp__words(c->format, s->heads * s->head_dim);
    const int64_t kv = lp__words(c->format, s->kv_heads * s->head_dim);
    const int64_t mlp = lp__words(c->format, s->intermediate);
    const bool gated = c->model->arch->mlp == LP__MLP_SWIGLU;
    return times(2 * q + 2 * kv + (gated ? 2 : 1) * mlp + s->width + 4, 4) + times(s->heads, 8);
}
static size_t working_bytes(const count* c) {
    const lp_model_shape* s = c->s;
    const int64_t mlp = lp__words(c->format, s->intermediate);
    const int64_t q = s->heads * s->head_dim + 2 * s->kv_heads * s->head_dim;
    return times(2 * s->width + 5 * mlp + 2 * q, 4);
}

static size_t head_bytes(const count* c, int64_t rows, bool train) {
    const int64_t at_once = LP__MIN(rows, (int64_t)HEAD_ROWS);
    const size_t row = times(lp__words(c->format, c->s->vocab), 4);
    const size_t logits = times(at_once, 4 * c->s->vocab);
    if (!train) return logits;
    const int64_t kept = LP__MIN(rows, (int64_t)(HEAD_KEPT / LP__MAX(row, 1)));
    return logits + (size_t)kept * row + (kept < rows ? (size_t)at_once * row : 0);
}

lp_forecast_def lp_forecast_def_default(void) {
    return (lp_forecast_def){.batch = 4, .prompt_tokens = 32, .new_tokens = 96};
}

lp_status lp_model_forecast(const lp_model* m, const lp_forecast_def* def, lp_forecast* out) {
    *out = (lp_forecast){0};
    const lp__range ranges[] = {
        {"batch", (double)def->batch, 1, 1 << 20},
        {"prompt_tokens", (double)def->prompt_tokens, 1, 1 << 24},
        {"new_tokens", (double)def->new_tokens, 1, 1 << 24},
        {"group", (double)def->group, 0, 1 << 20},
        {"tokens at once",
         (double)LP__MAX(def->group, 1) * (double)(def->prompt_tokens + def->new_tokens), 1,
         1 << 26},
    };
    lp_status status = lp__ranges_check(m->ctx, ranges, sizeof ranges / sizeof *ranges);
    if (status != LP_OK) return status;
    const lp__number number = def->precision == LP_BFLOAT16 ? LP__BF16 : LP__F32;
    const lp__kernels* kernels = lp__ctx_kernels(m->ctx);
    const count c = {m, &m->shape, kernels, &kernels->format[number], number};
    const size_t p = times(m->shape.parameters, 4);
    const int64_t length = def->prompt_tokens + def->new_tokens;
    /* what goes through at once: whole sequences, or whole groups, of about 512 tokens */
    const int64_t piece =
        def->group > 1 ? def->prompt_tokens + def->group * def->new_tokens : length;
    const int64_t all = def->batch * length;
    const int64_t tokens = LP__MIN(all, LP__MAX(piece, MICRO_TOKENS / piece * piece));
    const int64_t rows = def->samples ? tokens / length * def->new_tokens : tokens;
    out->weights = p;
    out->operands = model_operands(&c, def->train);
    const size_t working = working_bytes(&c);
    if (def->train) {
        out->gradients = p;
        out->optimizer = 2 * p;
        const size_t between = times(m->shape.width, 4); /* blocks */
        const size_t kept = def->recompute ? between : kept_bytes(&c) + between;
        out->activations = times(tokens, 1) * ((size_t)m->shape.layers * kept + 6 * between) +
                           times(tokens, 1) * (working + (def->recompute ? kept_bytes(&c) : 0));
        out->head = head_bytes(&c, rows, true);
    } else {
        const int64_t at_once = LP__MAX(LP__MIN(all, 1024), def->batch);
        out->activations =
            times(at_once, 1) * (working + times((m->shape.layers + 4) * m->shape.width, 4));
        out->head = times(def->batch, 4 * m->shape.vocab);
    }
    if (def->samples) {
        const int64_t rounded = (length + kernels->panel - 1) / kernels->panel * kernels->panel;
        const int64_t hdw = lp__words(c.format, m->shape.head_dim);
        out->cache = times(def->batch * m->shape.layers * m->shape.kv_heads, 8 * rounded * hdw);
    }
    if (def->reference) out->reference = p + model_operands(&c, false);
    if (def->savepoint) out->savepoint = 3 * p;
    out->resident = lp_ctx_memory(m->ctx).bytes;
    out->total = out->weights + out->gradients + out->optimizer + out->operands + out->activations +
                 out->head + out->cache + out->reference + out->savepoint + out->resident;
    return LP_OK;
}
