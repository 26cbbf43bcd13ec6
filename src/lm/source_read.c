/* The numbers of a tensor as fp32, where the weights want them. The file is read by the calling
 * thread, piece by piece; a piece is converted, checked and put in place by all threads, while it
 * is in the cache. */
#include "lm/source.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
    PIECE = 1 << 19, /* numbers */
    GRAIN = 1 << 15, /* of a thread's turn */
    TILE = 16        /* rows and columns */
};

/* A piece: rows [first, first + count) of the tensor as the file has it. */
typedef struct piece {
    const lp__stored* tensor;
    const lp__target* target;
    const uint8_t* raw;
    float* numbers;  /* [count, cols] of a tensor that is transposed */
    float* in_place; /* the piece is here already, and only to be checked */
    int64_t first, count, row_bytes;
    int64_t grain;       /* rows of a turn */
    _Atomic int64_t bad; /* index in the piece of the first number that is not finite; INT64_MAX */
} piece;

static void note_bad(piece* p, int64_t index) {
    int64_t before = atomic_load(&p->bad);
    while (index < before && !atomic_compare_exchange_weak(&p->bad, &before, index)) {
    }
}

static void check(piece* p, const float* x, int64_t n, int64_t index) {
    uint32_t bad = 0;
    for (int64_t j = 0; j < n; j++) {
        uint32_t bits;
        memcpy(&bits, &x[j], sizeof bits);
        bad |= (bits & 0x7fffffffu) >= 0x7f800000u;
    }
    for (int64_t j = 0; bad && j < n; j++) {
        if (!isfinite(x[j])) {
            note_bad(p, index + j);
            return;
        }
    }
}

/* Where row r of the whole goes. GGUF stores the rows of a rotary head as (0, half, 1, half + 1,
 * ...): row 2 i + j of a head goes to row j half + i. */
static float* row_of(const lp__target* t, int64_t r) {
    int part = 0;
    while (r >= t->rows[part]) r -= t->rows[part++];
    if (t->head_dim > 0) {
        const int64_t head = r / t->head_dim * t->head_dim, in = r - head;
        r = head + in % 2 * (t->head_dim / 2) + in / 2;
    }
    return t->to[part] + r * t->cols;
}

/* Where row r of the piece is converted to. */
static float* row_start(const piece* p, int64_t r) {
    const int64_t cols = p->tensor->cols;
    return p->in_place  ? p->in_place + r * cols
           : p->numbers ? p->numbers + r * cols
                        : row_of(p->target, p->first + r);
}

static void convert_rows(void* user, int64_t index, int worker) {
    (void)worker;
    piece* p = user;
    const int64_t from = index * p->grain, to = LP__MIN(from + p->grain, p->count);
    const int64_t cols = p->tensor->cols;
    for (int64_t r = from; r < to; r++) {
        float* x = row_start(p, r);
        if (!p->in_place)
            (void)lp__ggml_to_f32(p->tensor->type, p->raw + r * p->row_bytes, cols, x);
        check(p, x, cols, r * cols);
    }
}

/* Columns of the file are rows here: each turn writes some of them, in tiles that stay in the
 * cache. */
static void transpose_rows(void* user, int64_t index, int worker) {
    (void)worker;
    const piece* p = user;
    const int64_t cols = p->tensor->cols, from = index * TILE, to = LP__MIN(from + TILE, cols);
    float* row[TILE];
    for (int64_t r = from; r < to; r++) row[r - from] = row_of(p->target, r) + p->first;
    for (int64_t first = 0; first < p->count; first += TILE) {
        const int64_t last = LP__MIN(first + TILE, p->count);
        for (int64_t r = from; r < to; r++) {
            for (int64_t i = first; i < last; i++) row[r - from][i] = p->numbers[i * cols + r];
        }
    }
}

static lp_status say_bad(const lp__source* s, const piece* p, int64_t index, float value) {
    const int64_t row = p->first + index / p->tensor->cols, col = index % p->tensor->cols;
    return lp_fail(s->ctx, LP_FORMAT,
                   "%s: tensor \"%.200s\" has %s at [%lld, %lld]: the file is damaged, or its "
                   "training has diverged",
                   p->tensor->path, p->tensor->name, isnan(value) ? "a NaN" : "an infinity",
                   (long long)row, (long long)col);
}

/* fp32 in the order of the file goes where it belongs without a stop. NULL: it does not. */
static float* direct(const piece* p) {
    const lp__target* t = p->target;
    if (p->tensor->type != LP__GGML_F32 || t->transposed || t->head_dim > 0) return NULL;
    int64_t r = p->first;
    int part = 0;
    while (r >= t->rows[part]) r -= t->rows[part++];
    return r + p->count <= t->rows[part] ? t->to[part] + r * t->cols : NULL;
}

static lp_status do_piece(const lp__source* s, piece* p, void* raw) {
    const lp__stored* t = p->tensor;
    p->in_place = direct(p);
    p->raw = raw;
    atomic_store(&p->bad, INT64_MAX);
    lp_status status = lp__file_read(s->ctx, t->fd, t->path, p->in_place ? p->in_place : raw,
                                     (size_t)(p->count * p->row_bytes),
                                     t->offset + (uint64_t)(p->first * p->row_bytes));
    if (status != LP_OK) return status;
    p->grain = LP__MAX(GRAIN / t->cols, 1);
    lp__parallel_for(s->ctx, (p->count + p->grain - 1) / p->grain, convert_rows, p);
    const int64_t bad = atomic_load(&p->bad);
    if (bad != INT64_MAX) return say_bad(s, p, bad, row_start(p, bad / t->cols)[bad % t->cols]);
    if (p->target->transposed)
        lp__parallel_for(s->ctx, (t->cols + TILE - 1) / TILE, transpose_rows, p);
    return LP_OK;
}

static lp_status read_matrix(const lp__source* s, const lp__stored* t, const lp__target* target) {
    piece p = {.tensor = t, .target = target, .row_bytes = (int64_t)t->bytes / t->rows};
    const int64_t most = LP__MIN(LP__MAX(PIECE / t->cols, 1), t->rows);
    lp__arena* arena = lp__scratch(s->ctx);
    const lp__mark mark = lp__arena_mark(arena);
    void* raw = lp__arena_alloc(arena, (size_t)(most * p.row_bytes));
    if (target->transposed)
        p.numbers = lp__arena_alloc(arena, (size_t)(most * t->cols) * sizeof(float));
    lp_status status = raw && (p.numbers || !target->transposed) ? LP_OK : LP_NOMEM;
    for (p.first = 0; status == LP_OK && p.first < t->rows; p.first += p.count) {
        p.count = LP__MIN(most, t->rows - p.first);
        status = lp_cancelled(s->ctx) ? lp_fail(s->ctx, LP_CANCELLED, "cancelled")
                                      : do_piece(s, &p, raw);
    }
    lp__arena_release(arena, mark);
    return status;
}

static lp_status read_vector(const lp__source* s, const lp__stored* t, const lp__target* target) {
    lp__arena* arena = lp__scratch(s->ctx);
    const lp__mark mark = lp__arena_mark(arena);
    void* raw = lp__arena_alloc(arena, (size_t)t->bytes);
    float* x = lp__arena_alloc(arena, (size_t)t->cols * sizeof *x);
    lp_status status = raw && x ? LP_OK : LP_NOMEM;
    piece p = {.tensor = t, .target = target, .count = 1};
    atomic_store(&p.bad, INT64_MAX);
    if (status == LP_OK)
        status = lp__file_read(s->ctx, t->fd, t->path, raw, (size_t)t->bytes, t->offset);
    if (status == LP_OK) {
        (void)lp__ggml_to_f32(t->type, raw, t->cols, x);
        check(&p, x, t->cols, 0);
        const int64_t bad = atomic_load(&p.bad);
        if (bad != INT64_MAX) status = say_bad(s, &p, bad, x[bad]);
        for (int64_t r = 0; r < t->cols; r++) *row_of(target, r) = x[r];
    }
    lp__arena_release(arena, mark);
    return status;
}

lp_status lp__source_read(const lp__source* s, const lp__stored* t, const lp__target* target) {
    float none;
    if (!lp__ggml_to_f32(t->type, "", 0, &none))
        return lp_fail(s->ctx, LP_UNSUPPORTED,
                       "%s: tensor \"%.200s\" is of type %s, which is not read; convert it to F32, "
                       "F16 or BF16",
                       t->path, t->name, t->type_name);
    return target->vector ? read_vector(s, t, target) : read_matrix(s, t, target);
}
