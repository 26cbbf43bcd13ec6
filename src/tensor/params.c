/* Parameter sets: named leaves that outlive tapes. */
#include "tensor/params.h"

#include <math.h>

lp_params* lp_params_create(lp_ctx* ctx, lp_dtype type, bool trainable) {
    if (!LP__REQUIRE(ctx, type == LP_F32 || type == LP_F64, "parameters are LP_F32 or LP_F64"))
        return NULL;
    lp_params* params = lp__calloc(ctx, 1, sizeof *params);
    if (!params) return NULL;
    params->ctx = ctx;
    lp__arena_init(&params->arena, ctx, 1 << 12);
    params->type = type;
    params->trainable = trainable;
    return params;
}

static void pending_free(lp_ctx* ctx, lp__pending* p);

void lp_params_destroy(lp_params* params) {
    if (!params) return;
    for (int64_t i = 0; i < params->count; i++) {
        lp__free(params->ctx, params->items[i].name);
        pending_free(params->ctx, params->items[i].node->pending);
        lp__free(params->ctx, params->items[i].node);
    }
    lp__arena_free(&params->arena);
    lp__free(params->ctx, params->items);
    lp__free(params->ctx, params);
}

lp_ctx* lp_params_ctx(const lp_params* params) { return params->ctx; }

static lp__item* find(const lp_params* params, const char* name) {
    for (int64_t i = 0; i < params->count; i++) {
        if (strcmp(params->items[i].name, name) == 0) return &params->items[i];
    }
    return NULL;
}

/* Zeros, until the set is destroyed. */
static void* zeros(lp_params* params, int64_t rows, int64_t cols) {
    size_t bytes;
    if (!lp__mul_ok((size_t)rows, (size_t)cols, &bytes) ||
        !lp__mul_ok(bytes, lp__dtype_bytes(params->type), &bytes))
        bytes = SIZE_MAX;
    void* block = lp__arena_alloc(&params->arena, bytes);
    if (block) memset(block, 0, bytes);
    return block;
}

/* A new entry with everything but its data. */
static lp__node* item_add(lp_params* params, const char* name, int64_t rows, int64_t cols) {
    lp_ctx* ctx = params->ctx;
    if (params->count == params->capacity) {
        const int64_t capacity = params->capacity ? 2 * params->capacity : 16;
        lp__item* items = lp__realloc(ctx, params->items, (size_t)capacity * sizeof *items);
        if (!items) return NULL;
        params->items = items;
        params->capacity = capacity;
    }
    lp__node* node = lp__calloc(ctx, 1, sizeof *node);
    char* copy = lp__strdup(ctx, name, strlen(name));
    if (!node || !copy) goto failed;
    node->t.rows = rows;
    node->t.cols = cols;
    node->t.type = params->type;
    node->arena = &params->arena;
    node->t.needs_grad = params->trainable;
    params->items[params->count].name = copy;
    params->items[params->count].node = node;
    params->count++;
    return node;
failed:
    lp__free(ctx, copy);
    lp__free(ctx, node);
    return NULL;
}

static lp_tensor no_memory(const lp_params* params) {
    lp__note_null(params->ctx);
    return NULL;
}

lp_tensor lp_param(lp_params* params, const char* name, int64_t rows, int64_t cols) {
    const lp__item* item = find(params, name);
    if (item) {
        const bool same = item->node->t.rows == rows && item->node->t.cols == cols;
        return LP__REQUIRE(params->ctx, same, "a parameter of this name has another shape")
                   ? &item->node->t
                   : NULL;
    }
    if (!LP__REQUIRE(params->ctx, rows >= 0 && cols >= 0, "a parameter has no negative size"))
        return NULL;
    size_t count;
    if (!lp__mul_ok((size_t)rows, (size_t)cols, &count)) {
        lp_fail(params->ctx, LP_NOMEM, "parameter %s of %lld x %lld is too large", name,
                (long long)rows, (long long)cols);
        return no_memory(params);
    }
    void* data = zeros(params, rows, cols);
    void* grad = data && params->trainable ? zeros(params, rows, cols) : NULL;
    lp__node* node =
        data && (grad || !params->trainable) ? item_add(params, name, rows, cols) : NULL;
    if (!node) return no_memory(params);
    node->t.data = data;
    node->t.grad = grad;
    return &node->t;
}

lp_tensor lp_param_randn(lp_params* params, const char* name, int64_t rows, int64_t cols,
                         lp_rng* rng) {
    const bool made = !find(params, name);
    lp_tensor x = lp_param(params, name, rows, cols);
    if (!x || !made) return x;
    if (params->type == LP_F64) {
        lp_rng_normal_f64(rng, x->data, rows * cols);
    } else {
        lp_rng_normal_f32(rng, x->data, rows * cols);
    }
    return x;
}

lp_tensor lp_param_tied(lp_params* params, const char* name, lp_tensor base) {
    if (!base) return no_memory(params); /* it could not be made */
    const lp__item* item = find(params, name);
    if (item)
        return LP__REQUIRE(params->ctx, item->node->tied_to == lp__node_of(base),
                           "this name has another parameter")
                   ? &item->node->t
                   : NULL;
    lp__node* node = item_add(params, name, base->rows, base->cols);
    if (!node) return no_memory(params);
    node->t.data = base->data;
    node->tied_to = lp__node_of(base);
    node->number = node->tied_to->number;
    return &node->t;
}

int64_t lp_params_count(const lp_params* params) {
    int64_t count = 0;
    for (int64_t i = 0; i < params->count; i++) count += !params->items[i].node->tied_to;
    return count;
}

/* The index-th entry that owns its numbers. */
static const lp__item* owner(const lp_params* params, int64_t index) {
    for (int64_t i = 0; i < params->count; i++) {
        if (!params->items[i].node->tied_to && index-- == 0) return &params->items[i];
    }
    return NULL;
}

lp_tensor lp_params_get(const lp_params* params, int64_t index) {
    const lp__item* item = owner(params, index);
    return item ? &item->node->t : NULL;
}

const char* lp_params_name(const lp_params* params, int64_t index) {
    const lp__item* item = owner(params, index);
    return item ? item->name : NULL;
}

lp_tensor lp_params_find(const lp_params* params, const char* name) {
    const lp__item* item = find(params, name);
    return item ? &item->node->t : NULL;
}

int64_t lp_params_size(const lp_params* params) {
    int64_t size = 0;
    for (int64_t i = 0; i < params->count; i++) {
        if (!params->items[i].node->tied_to) size += lp__size(params->items[i].node);
    }
    return size;
}

/* ---- gradients of rows ------------------------------------------------------------------------
 */

struct lp__pending {
    int64_t count, room;
    int32_t* row; /* [room] */
    float* d;     /* [room, cols] */
};

bool lp__pending_add(lp_ctx* ctx, lp__node* tied, int64_t n, const int32_t* row, const float* d) {
    const int64_t cols = tied->t.cols;
    if (!tied->pending) tied->pending = lp__calloc(ctx, 1, sizeof *tied->pending);
    lp__pending* p = tied->pending;
    if (!p) return false;
    if (n == 0) return true;
    if (p->count + n > p->room) {
        const size_t room = lp__grown((size_t)(p->count + n), (size_t)p->room);
        int32_t* rows = lp__realloc(ctx, p->row, room * sizeof *rows);
        if (rows) p->row = rows;
        float* ds = lp__realloc(ctx, p->d, room * (size_t)cols * sizeof *ds);
        if (ds) p->d = ds;
        if (!rows || !ds) return false;
        p->room = (int64_t)room;
    }
    memcpy(p->row + p->count, row, (size_t)n * sizeof *row);
    memcpy(p->d + p->count * cols, d, (size_t)(n * cols) * sizeof *d);
    p->count += n;
    return true;
}

static void pending_fold(lp_ctx* ctx, lp__node* node) {
    lp__pending* p = node->pending;
    const int64_t cols = node->t.cols;
    float* grad = p->count > 0 ? lp__grad(node->tied_to) : NULL;
    for (int64_t i = 0; i < p->count; i++)
        lp__ctx_kernels(ctx)->axpy(cols, 1.0f, p->d + i * cols, grad + p->row[i] * cols);
    p->count = 0;
}

static void pending_free(lp_ctx* ctx, lp__pending* p) {
    if (!p) return;
    lp__free(ctx, p->row);
    lp__free(ctx, p->d);
    lp__free(ctx, p);
}

void lp_params_zero_grad(lp_params* params) {
    for (int64_t i = 0; i < params->count; i++) {
        lp__node* node = params->items[i].node;
        if (node->pending) node->pending->count = 0;
        if (node->t.grad)
            memset(node->t.grad, 0, (size_t)lp__size(node) * lp__dtype_bytes(node->t.type));
    }
}

void lp_params_changed(lp_params* params) {
    for (int64_t i = 0; i < params->count; i++) {
        bool* valid = params->items[i].node->operand_valid;
        valid[LP__TRANSPOSED] = valid[LP__PLAIN] = false;
    }
}

void lp_params_fold(lp_params* params) {
    for (int64_t i = 0; i < params->count; i++) {
        lp__node* node = params->items[i].node;
        if (node->tied_to && node->pending) pending_fold(params->ctx, node);
        if (!node->tied_to || !node->t.grad) continue;
        const int64_t n = lp__size(node);
        if (params->type == LP_F64) {
            double *to = lp__grad(node->tied_to), *from = node->t.grad;
            for (int64_t j = 0; j < n; j++) to[j] += from[j];
        } else {
            float *to = lp__grad(node->tied_to), *from = node->t.grad;
            for (int64_t j = 0; j < n; j++) to[j] += from[j];
        }
        memset(node->t.grad, 0, (size_t)n * lp__dtype_bytes(params->type));
    }
}

/* ---- sums of squares: in fixed pieces, the pieces in order ----------------------------------- */

enum { PIECE = 1 << 16, PIECES = 64 }; /* numbers in a piece; pieces shared out at a time */

typedef struct squares_job {
    const void* x;
    lp_dtype type;
    int64_t size;
    const lp__kernels* kernels;
    int64_t first; /* piece of sums[0] */
    double sums[PIECES];
} squares_job;

static void squares_piece(void* user, int64_t index, int worker) {
    (void)worker;
    squares_job* job = user;
    const int64_t from = (job->first + index) * PIECE,
                  n = LP__MIN(job->size - from, (int64_t)PIECE);
    if (job->type == LP_F32) {
        job->sums[index] = job->kernels->sum_squares(n, (const float*)job->x + from);
        return;
    }
    const double* x = (const double*)job->x + from;
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
    job->sums[index] = sum;
}

/* Sum of the squares of the numbers of a node, or of their gradients, in double. */
static double square_sum(lp_ctx* ctx, const lp__node* node, const void* x) {
    squares_job job = {
        .x = x, .type = node->t.type, .size = lp__size(node), .kernels = lp__ctx_kernels(ctx)};
    const int64_t pieces = (job.size + PIECE - 1) / PIECE;
    double total = 0;
    for (; job.first < pieces; job.first += PIECES) {
        const int64_t n = LP__MIN(pieces - job.first, (int64_t)PIECES);
        lp__parallel_for(ctx, n, squares_piece, &job);
        for (int64_t i = 0; i < n; i++) total += job.sums[i];
    }
    return total;
}

double lp_params_grad_norm(lp_params* params) {
    lp_params_fold(params);
    double total = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const lp__node* node = params->items[i].node;
        if (node->t.grad && !node->tied_to) total += square_sum(params->ctx, node, node->t.grad);
    }
    return sqrt(total);
}

bool lp_params_finite(const lp_params* params) {
    bool finite = true;
    for (int64_t i = 0; finite && i < params->count; i++) {
        const lp__node* node = params->items[i].node;
        if (!node->tied_to) finite = isfinite(square_sum(params->ctx, node, node->t.data));
    }
    return finite;
}

/* The first parameter of `from` that `in` does not have in this shape and type; NULL if it has them
 * all. */
static const char* first_missing(const lp_params* in, const lp_params* from) {
    for (int64_t i = 0; i < from->count; i++) {
        const lp__item* item = &from->items[i];
        if (item->node->tied_to) continue;
        const lp__item* other = find(in, item->name);
        if (!other || other->node->tied_to || other->node->t.rows != item->node->t.rows ||
            other->node->t.cols != item->node->t.cols || in->type != from->type)
            return item->name;
    }
    return NULL;
}

lp_status lp_params_copy(lp_params* to, const lp_params* from) {
    const char* name = first_missing(to, from);
    if (!name) name = first_missing(from, to);
    if (name)
        return lp_fail(
            to->ctx, LP_INVALID,
            "nothing is copied: parameter %s is in one set only, or its shape or type differs",
            name);
    for (int64_t i = 0; i < from->count; i++) {
        const lp__node* node = from->items[i].node;
        if (node->tied_to) continue;
        memcpy(find(to, from->items[i].name)->node->t.data, node->t.data,
               (size_t)lp__size(node) * lp__dtype_bytes(from->type));
    }
    lp_params_changed(to);
    return LP_OK;
}

const lp__word* lp__weight_operand(lp_ctx* ctx, lp__node* w, lp__side side) {
    if (w->tape || w->t.type != LP_F32) return NULL;
    if (w->tied_to) return lp__weight_operand(ctx, w->tied_to, side);
    const int64_t rows = w->t.rows, cols = w->t.cols;
    const size_t words = lp__weight_words(ctx, w->number, rows, cols, side == LP__TRANSPOSED);
    if (!w->operand[side] || w->operand_words[side] < words) {
        w->operand_valid[side] = false;
        w->operand[side] = lp__arena_alloc(w->arena, words * sizeof(lp__word));
        w->operand_words[side] = words;
        if (!w->operand[side]) return NULL;
    }
    if (!w->operand_valid[side]) {
        lp__word* const to[2] = {side == LP__TRANSPOSED ? w->operand[side] : NULL,
                                 side == LP__PLAIN ? w->operand[side] : NULL};
        if (lp__weight_pack(ctx, w->number, rows, cols, w->t.data, to[LP__TRANSPOSED],
                            to[LP__PLAIN]) != LP_OK)
            return NULL;
        w->operand_valid[side] = true;
    }
    return w->operand[side];
}

void lp__param_set_number(lp_tensor param, lp__number number) {
    lp__node* node = lp__node_of(param);
    if (node->number == number) return;
    node->operand_valid[LP__TRANSPOSED] = node->operand_valid[LP__PLAIN] = false;
    node->number = number;
}
