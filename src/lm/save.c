/* Writing a model: its numbers, in the order and the type of a file. */
#include "lm/save.h"
#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum { PIECE = 1 << 19, TURN = 16 }; /* numbers of a piece; rows of a thread's turn */

const char* lp__file_type_name(lp_file_type type) {
    static const char* const names[] = {"float32", "float16", "bfloat16"};
    return names[type];
}

uint32_t lp__file_type_ggml(lp_file_type type) {
    return type == LP_FILE_F16 ? LP__GGML_F16 : type == LP_FILE_BF16 ? LP__GGML_BF16 : LP__GGML_F32;
}

size_t lp__file_type_bytes(lp_file_type type) { return type == LP_FILE_F32 ? 4 : 2; }

/* ---- to two bytes, to nearest even ----------------------------------------------------------- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint16_t to_bf16(float x) {
    const uint32_t bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 0x40); /* NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/* Below 2^-14 an addition of 0.5 leaves the rounded mantissa in its last bits. */
static uint16_t to_f16(float x) {
    const uint32_t sign = bits_of(x) >> 16 & 0x8000u, rest = bits_of(x) & 0x7fffffffu;
    uint32_t half;
    if (rest > 0x7f800000u) {
        half = 0x7e00;
    } else if (rest >= 0x47800000u) {
        half = 0x7c00;
    } else if (rest < 0x38800000u) {
        half = bits_of(float_of(rest) + 0.5f) - bits_of(0.5f);
    } else {
        half = (rest - (112u << 23) + 0xfffu + (rest >> 13 & 1)) >> 13;
    }
    return (uint16_t)(sign | half);
}

/* False if a finite number became infinite. */
static bool narrow(lp_file_type type, int64_t n, const float* x, uint16_t* to) {
    bool fits = true;
    for (int64_t i = 0; i < n; i++) {
        to[i] = type == LP_FILE_F16 ? to_f16(x[i]) : to_bf16(x[i]);
        const uint16_t infinity = type == LP_FILE_F16 ? 0x7c00 : 0x7f80;
        if ((to[i] & 0x7fff) == infinity && isfinite(x[i])) fits = false;
    }
    return fits;
}

/* ---- a piece: rows [first, first + count) of the file ---------------------------------------- */

typedef struct piece {
    const lp__slot* slot;
    const float* part[LP__PARTS];
    lp_file_type type;
    bool turned;                      /* the file has columns as rows */
    int64_t head_dim;                 /* rows of rotary heads go pair by pair; 0: as they are */
    int64_t rows, cols, first, count; /* of the file */
    float* numbers;                   /* [count, cols] */
    uint16_t* halves;                 /* the same, narrow */
    atomic_bool overflow;
} piece;

/* Row r of the file in the order of the weights; see row_of in source_read.c, which is the way
 * back. */
static const float* own_row(const piece* p, int64_t r, int64_t width) {
    int part = 0;
    while (r >= p->slot->part_rows[part]) r -= p->slot->part_rows[part++];
    if (p->head_dim > 0) {
        const int64_t head = r / p->head_dim * p->head_dim, in = r - head;
        r = head + in % 2 * (p->head_dim / 2) + in / 2;
    }
    return p->part[part] + r * width;
}

static void gather(const piece* p, int64_t from, int64_t to) {
    const int64_t cols = p->cols;
    if (p->slot->vector) {
        for (int64_t j = 0; j < cols; j++) p->numbers[j] = *own_row(p, j, 1);
    } else if (!p->turned) {
        for (int64_t r = from; r < to; r++)
            memcpy(p->numbers + r * cols, own_row(p, p->first + r, cols),
                   (size_t)cols * sizeof *p->numbers);
    } else {
        for (int64_t j = 0; j < cols; j++) {
            const float* row = own_row(p, j, p->rows) + p->first;
            for (int64_t r = from; r < to; r++) p->numbers[r * cols + j] = row[r];
        }
    }
}

static void do_turn(void* user, int64_t index, int worker) {
    (void)worker;
    piece* p = user;
    const int64_t from = index * TURN, to = LP__MIN(from + TURN, p->count);
    gather(p, from, to);
    if (p->type != LP_FILE_F32 && !narrow(p->type, (to - from) * p->cols,
                                          p->numbers + from * p->cols, p->halves + from * p->cols))
        atomic_store(&p->overflow, true);
}

static lp_status overflow(const lp__saving* s, const lp__slot* slot, const char* path) {
    return lp_fail(s->model->ctx, LP_NONFINITE,
                   "%s: tensor \"%s\" has a number that is too large for %s; bfloat16 and float32 "
                   "have room for it",
                   path, s->gguf ? slot->gguf : slot->hf, lp__file_type_name(s->type));
}

static lp_status put_pieces(const lp__saving* s, piece* p, int64_t most, lp__writer* writer) {
    lp_ctx* ctx = s->model->ctx;
    lp_status status = LP_OK;
    for (p->first = 0; status == LP_OK && p->first < p->rows; p->first += p->count) {
        if (lp_cancelled(ctx)) return lp_fail(ctx, LP_CANCELLED, "cancelled");
        p->count = LP__MIN(most, p->rows - p->first);
        lp__parallel_for(ctx, (p->count + TURN - 1) / TURN, do_turn, p);
        if (atomic_load(&p->overflow)) return overflow(s, p->slot, writer->path);
        const bool narrow_type = p->type != LP_FILE_F32;
        status = lp__writer_write(writer, narrow_type ? (void*)p->halves : (void*)p->numbers,
                                  (size_t)(p->count * p->cols) * lp__file_type_bytes(p->type));
    }
    return status;
}

lp_status lp__save_slot(const lp__saving* s, const lp__slot* slot, lp_file_type type,
                        lp__writer* writer) {
    const unsigned flags = slot->row->flags;
    const lp__arch* arch = s->model->arch;
    const bool turned = !s->gguf && (flags & LP__CONV1D);
    piece p = {.slot = slot,
               .type = type,
               .turned = turned,
               .head_dim = s->gguf && arch->gguf_pairs && (flags & LP__ROTARY)
                               ? s->model->shape.head_dim
                               : 0,
               .rows = turned ? slot->cols : slot->rows,
               .cols = turned ? slot->rows : slot->cols};
    for (int i = 0; i < slot->row->parts; i++)
        p.part[i] = lp_f32(*lp__slot_field(slot, s->weights, i));
    const int64_t most = LP__MIN(LP__MAX(PIECE / p.cols, 1), p.rows);
    lp__arena* arena = lp__scratch(s->model->ctx);
    const lp__mark mark = lp__arena_mark(arena);
    p.numbers = lp__arena_alloc(arena, (size_t)(most * p.cols) * sizeof *p.numbers);
    p.halves = lp__arena_alloc(arena, (size_t)(most * p.cols) * sizeof *p.halves);
    lp_status status = p.numbers && p.halves ? put_pieces(s, &p, most, writer) : LP_NOMEM;
    lp__arena_release(arena, mark);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

lp_status lp_model_save_as(const lp_model* m, const lp_weights* w, const char* path,
                           lp_file_type type) {
    const size_t n = strlen(path);
    const bool gguf = n > 5 && strcmp(path + n - 5, ".gguf") == 0;
    const lp__saving saving = {m, (lp_weights*)(uintptr_t)w, type, gguf};
    if (!LP__REQUIRE(m->ctx, type >= LP_FILE_F32 && type <= LP_FILE_BF16, "no type of files"))
        return LP_INVALID;
    return gguf ? lp__save_gguf(&saving, path) : lp__save_folder(&saving, path);
}

lp_status lp_model_save(const lp_model* m, const lp_weights* w, const char* folder) {
    const lp__saving saving = {m, (lp_weights*)(uintptr_t)w, LP_FILE_F32, false};
    return lp__save_folder(&saving, folder);
}
