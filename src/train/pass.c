/* Forward passes of the trainers of language models: packing sequences into micro-batches, and what
 * a model says about their response tokens. */
#include "train/pass.h"
#include <math.h>
#include <string.h>

enum { MICRO_TOKENS = 512, KL_ROWS = 64 };

lp_status lp__pass_begin(lp__pass* pass, lp_ctx* ctx, const lp_model* model) {
    *pass = (lp__pass){.ctx = ctx, .model = model, .group = 1, .temperature = 1.0};
    lp__arena_init(&pass->arena, ctx, 1 << 16);
    pass->tape = lp_tape_create(ctx, LP_F32);
    return pass->tape ? LP_OK : LP_NOMEM;
}

void lp__pass_end(lp__pass* pass) {
    lp_tape_destroy(pass->tape);
    if (pass->ctx) lp__arena_free(&pass->arena);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static int64_t query_length(const lp_generation* b, int64_t s) {
    return b->prompt_offsets[s + 1] - b->prompt_offsets[s];
}
static int64_t response_length(const lp_generation* b, int64_t s) {
    return b->response_offsets[s + 1] - b->response_offsets[s];
}

/* Tokens that a group which begins with sequence s puts in. */
static int64_t group_tokens(const lp__pass* pass, const lp_generation* b, const int32_t* list,
                            int64_t size) {
    int64_t tokens = pass->group > 1 ? query_length(b, list[0]) : 0;
    for (int64_t i = 0; i < size; i++)
        tokens += response_length(b, list[i]) + (pass->group > 1 ? 0 : query_length(b, list[i]));
    return tokens;
}

/* How many of list[0..count) make the next part: whole groups, at least one. */
static int64_t part_size(const lp__pass* pass, const lp_generation* b, const int32_t* list,
                         int64_t count) {
    int64_t tokens = 0, n = 0;
    while (n < count) {
        const int64_t size = LP__MIN(pass->group, count - n);
        tokens += group_tokens(pass, b, list + n, size);
        const bool full =
            pass->micro_batch_size > 0 ? n + size > pass->micro_batch_size : tokens > MICRO_TOKENS;
        if (n > 0 && full) break;
        n += size;
    }
    return n;
}

/* Packs tokens behind those that are there: into the last piece of the batch, or as another one. */
static void lengthen_piece(lp__part* part, const int32_t* tokens, int64_t count) {
    int64_t* end = &part->offsets[part->pieces];
    memcpy(part->tokens + *end, tokens, (size_t)count * sizeof *tokens);
    *end += count;
}
static void add_piece(lp__part* part, int64_t prefix, const int32_t* tokens, int64_t count) {
    part->prefix[part->pieces++] = prefix;
    part->offsets[part->pieces] = part->offsets[part->pieces - 1];
    lengthen_piece(part, tokens, count);
}

/* The kept sets of r response tokens, from `first` on, become those of the rows from `row` on. */
static void add_sets(lp__part* part, const lp_generation* b, int64_t row, int64_t first,
                     int64_t r) {
    const int64_t *from = b->kept_offsets + first, at = part->kept_offsets[row];
    if (from[r] > from[0])
        memcpy(part->kept + at, b->kept.ids + from[0],
               (size_t)(from[r] - from[0]) * sizeof *part->kept);
    for (int64_t j = 1; j <= r; j++) part->kept_offsets[row + j] = at + from[j] - from[0];
}

/* The input of a sequence is its query and its response but for the last token, which predicts
 * nothing. The last token of the query predicts the first of the response. */
static void fill_part(const lp__pass* pass, const lp_generation* b, const int32_t* list,
                      lp__part* part) {
    int64_t row = 0, prompt = -1;
    part->offsets[0] = part->row_offsets[0] = 0;
    if (part->kept_offsets) part->kept_offsets[0] = 0;
    for (int64_t i = 0; i < part->sequences; i++) {
        const int64_t r = response_length(b, list[i]);
        const int32_t* response = b->responses.ids + b->response_offsets[list[i]];
        if (i % pass->group == 0) {
            prompt = part->pieces;
            add_piece(part, -1, b->prompts.ids + b->prompt_offsets[list[i]],
                      query_length(b, list[i]));
        }
        const int64_t last = part->offsets[prompt + 1] - 1; /* token of the query */
        if (pass->group > 1)
            add_piece(part, prompt, response, r - 1);
        else
            lengthen_piece(part, response, r - 1);
        const int64_t end = part->offsets[part->pieces];
        for (int64_t j = 0; j < r; j++) {
            part->row[row + j] = (int32_t)(j == 0 ? last : end - r + j);
            part->target[row + j] = response[j];
        }
        part->first[i] = b->response_offsets[list[i]];
        part->count[i] = r;
        if (part->kept_offsets) add_sets(part, b, row, part->first[i], r);
        row += r;
        part->row_offsets[i + 1] = row;
    }
}

static lp_status part_build(lp__pass* pass, const lp_generation* b, const int32_t* list,
                            int64_t count, lp__part* part) {
    int64_t tokens = 0, rows = 0, entries = 0;
    for (int64_t i = 0; i < count; i++) {
        tokens += query_length(b, list[i]) + response_length(b, list[i]) - 1;
        rows += response_length(b, list[i]);
        if (pass->sets && b->kept_offsets)
            entries += b->kept_offsets[b->response_offsets[list[i] + 1]] -
                       b->kept_offsets[b->response_offsets[list[i]]];
    }
    lp__arena* arena = &pass->arena;
    lp__arena_reset(arena);
    *part = (lp__part){.sequences = count, .rows = rows};
    part->offsets = lp__arena_alloc(arena, (size_t)(2 * count + 1) * sizeof(int64_t));
    part->prefix = lp__arena_alloc(arena, (size_t)(2 * count) * sizeof(int64_t));
    part->row_offsets = lp__arena_alloc(arena, (size_t)(count + 1) * sizeof(int64_t));
    part->first = lp__arena_alloc(arena, (size_t)count * sizeof(int64_t));
    part->count = lp__arena_alloc(arena, (size_t)count * sizeof(int64_t));
    part->tokens = lp__arena_alloc(arena, (size_t)tokens * sizeof(int32_t));
    part->row = lp__arena_alloc(arena, (size_t)rows * sizeof(int32_t));
    part->target = lp__arena_alloc(arena, (size_t)rows * sizeof(int32_t));
    if (entries > 0) {
        part->kept_offsets = lp__arena_alloc(arena, (size_t)(rows + 1) * sizeof(int64_t));
        part->kept = lp__arena_alloc(arena, (size_t)entries * sizeof(int32_t));
    }
    if (!part->offsets || !part->prefix || !part->row_offsets || !part->first || !part->count ||
        !part->tokens || !part->row || !part->target ||
        (entries > 0 && (!part->kept_offsets || !part->kept)))
        return LP_NOMEM;
    fill_part(pass, b, list, part);
    return LP_OK;
}

lp_status lp__pass_parts(lp__pass* pass, const lp_generation* b, const int32_t* list, int64_t count,
                         lp__part_fn* each, void* user) {
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < count;) {
        lp__part part;
        const int64_t n = part_size(pass, b, list + i, count - i);
        status = part_build(pass, b, list + i, n, &part);
        if (status == LP_OK) status = each(user, &part);
        i += n;
    }
    return status;
}

/* ---- what a model says ----------------------------------------------------------------------- */

/* The states that predict the response tokens, [rows, width]. */
static lp_tensor predicting_states(lp__pass* pass, const lp_weights* weights,
                                   const lp__part* part) {
    const lp_batch batch = {.sequences = part->pieces,
                            .offsets = part->offsets,
                            .tokens = part->tokens,
                            .prefix = part->prefix};
    lp_tensor hidden = lp_model_hidden(pass->tape, pass->model, weights, &batch);
    return lp_rows(pass->tape, hidden, lp_const_i32(pass->tape, part->rows, 1, part->row));
}

lp__said lp__part_forward(lp__pass* pass, const lp_weights* weights, const lp__part* part,
                          unsigned ask) {
    lp_tape* t = pass->tape;
    lp__said said = {.states = predicting_states(pass, weights, part)};
    lp_tensor target = lp_const_i32(t, part->rows, 1, part->target);
    lp_tensor* entropy = ask & LP__ASK_ENTROPY ? &said.entropy : NULL;
    const lp_head_def head = {.temperature = pass->temperature,
                              .sequences = part->sequences,
                              .offsets = part->row_offsets,
                              .kept_offsets = part->kept_offsets,
                              .kept = part->kept};
    said.log_prob = lp_model_score(t, weights, said.states, target, &head, entropy);
    if (ask & LP__ASK_VALUE)
        said.value = lp_linear(t, said.states, pass->value_weight, pass->value_bias);
    return lp_tape_status(t) == LP_OK ? said : (lp__said){0};
}

float* lp__part_keep(lp__pass* pass, lp_tensor states) {
    const size_t bytes = (size_t)(states->rows * states->cols) * sizeof(float);
    float* kept = lp__arena_alloc(&pass->arena, bytes);
    if (kept) memcpy(kept, states->data, bytes);
    return kept;
}

/* The tape holds the logits of a few rows at a time. */
lp_status lp__part_full_kl(lp__pass* pass, const lp_weights* policy, const lp_weights* reference,
                           const lp__part* part, const float* h, const float* h_ref, float* to) {
    lp_tape* t = pass->tape;
    const int64_t width = lp_model_get_shape(pass->model).width;
    float* kl = lp__arena_alloc(&pass->arena, (size_t)part->rows * sizeof(float));
    if (!kl) return LP_NOMEM;
    for (int64_t from = 0; from < part->rows; from += KL_ROWS) {
        const int64_t n = LP__MIN(part->rows - from, (int64_t)KL_ROWS);
        lp_tape_reset(t);
        lp_tensor z = lp_model_logits(t, policy, lp_const_f32(t, n, width, h + from * width));
        lp_tensor z_ref =
            lp_model_logits(t, reference, lp_const_f32(t, n, width, h_ref + from * width));
        lp_tensor d = lp_kl(t, lp_categorical(t, z), lp_categorical(t, z_ref));
        if (!d) return lp_tape_status(t);
        memcpy(kl + from, lp_f32(d), (size_t)n * sizeof(float));
    }
    lp__part_scatter(part, kl, to);
    return LP_OK;
}

/* ---- columns --------------------------------------------------------------------------------- */

void lp__part_scatter(const lp__part* part, const float* column, float* to) {
    for (int64_t i = 0; i < part->sequences; i++) {
        memcpy(to + part->first[i], column, (size_t)part->count[i] * sizeof(float));
        column += part->count[i];
    }
}

float* lp__part_gather(lp__pass* pass, const lp__part* part, const float* from) {
    float* column = lp__arena_alloc(&pass->arena, (size_t)part->rows * sizeof *column);
    if (!column) return NULL;
    int64_t at = 0;
    for (int64_t i = 0; i < part->sequences; i++) {
        memcpy(column + at, from + part->first[i], (size_t)part->count[i] * sizeof *column);
        at += part->count[i];
    }
    return column;
}

bool lp__grow_floats(lp_ctx* ctx, float** array, int64_t n) {
    float* bigger = lp__realloc(ctx, *array, (size_t)n * sizeof **array);
    if (bigger) *array = bigger;
    return bigger != NULL;
}
