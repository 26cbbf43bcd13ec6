/* A generator: its memory, which grows only, and its results. */
#include "lm/generate.h"

enum { DEFAULT_BATCH = 64, DEFAULT_CACHE_BYTES = 1 << 30 };

lp_generate_def lp_generate_def_default(void) {
    return (lp_generate_def){.cookie = LP__GENERATE_COOKIE,
                             .max_new_tokens = 32,
                             .num_return_sequences = 1,
                             .temperature = 1.0,
                             .top_p = 1.0};
}

lp_status lp_generator_create(const lp_model* model, lp_generator** out) {
    *out = NULL;
    lp_generator* g = lp__calloc(model->ctx, 1, sizeof *g);
    if (!g) return LP_NOMEM;
    g->ctx = model->ctx;
    g->model = model;
    g->tape = lp_tape_create(g->ctx, LP_F32);
    if (!g->tape) {
        lp_generator_destroy(g);
        return LP_NOMEM;
    }
    lp_tape_record(g->tape, false);
    *out = g;
    return LP_OK;
}

void lp_generator_destroy(lp_generator* g) {
    if (!g) return;
    lp_tape_destroy(g->tape);
    lp_kv_destroy(g->cache);
    lp_token_list_free(g->ctx, &g->pool);
    lp__free(g->ctx, g->block);
    lp__free(g->ctx, g);
}

/* ---- the arrays of a run --------------------------------------------------------------------- */

/* The next `count` elements of the block. */
static void* carve(char* block, size_t* used, int64_t count, size_t size) {
    void* part = block ? block + *used : NULL;
    *used += ((size_t)count * size + 63) / 64 * 64;
    return part;
}

/* Those that last for the whole run. Sizes cannot overflow: a model has no side, and a run no
 * number of sequences, above 2^24. */
static void lay_out_run(lp_generator* g, char* block, size_t* used, int64_t tokens) {
    const lp_generate_def* d = g->def;
    int64_t ends;
    lp_tokenizer_ends(g->model->tokenizer, &ends);
    g->offsets = carve(block, used, g->prompts + 1, sizeof *g->offsets);
    g->tokens = carve(block, used, tokens, sizeof *g->tokens);
    g->order = carve(block, used, g->prompts, sizeof *g->order);
    g->members = carve(block, used, g->prompts, sizeof *g->members);
    g->next = carve(block, used, g->prompts, sizeof *g->next);
    g->last = carve(block, used, g->prompts, sizeof *g->last);
    g->table = carve(block, used, (int64_t)g->table_mask + 1, sizeof *g->table);
    g->length = carve(block, used, g->n, sizeof *g->length);
    g->kept_at =
        carve(block, used, d->keep_sets ? g->n * d->max_new_tokens : 0, sizeof *g->kept_at);
    g->banned =
        carve(block, used, d->suppress_count + d->stop_token_count + ends, sizeof *g->banned);
    int32_t* room =
        carve(block, used, lp__stops_room(d->stop_count, d->stop), sizeof *g->stops.failure);
    if (block) g->stops = lp__stops_make(d->stop_count, d->stop, room);
}

/* Those of a batch; bases is the most that there may be. */
static void lay_out_batch(lp_generator* g, char* block, size_t* used, int64_t bases) {
    const int64_t batch = g->batch, width = g->model->shape.width;
    g->stop_state = carve(block, used, batch * g->def->stop_count, sizeof *g->stop_state);
    g->lane = carve(block, used, batch, sizeof *g->lane);
    g->free_lane = carve(block, used, batch, sizeof *g->free_lane);
    g->base = carve(block, used, bases, sizeof *g->base);
    g->free_base = carve(block, used, bases, sizeof *g->free_base);
    g->active = carve(block, used, batch, sizeof *g->active);
    g->pass_slot = carve(block, used, batch + bases, sizeof *g->pass_slot);
    g->pass_offsets = carve(block, used, batch + bases + 1, sizeof *g->pass_offsets);
    g->pass_tokens = carve(block, used, batch + g->pass_prompt_room, sizeof *g->pass_tokens);
    g->state = carve(block, used, batch * width, sizeof *g->state);
    g->base_state = carve(block, used, bases * width, sizeof *g->base_state);
    g->drawn = carve(block, used, batch, sizeof *g->drawn);
}

/* Prompts that are shared at a time, at most. With half as many as lanes a batch of pairs is full
 * as long as both halves of a pair last; a sequence that finds none free waits. */
static int64_t most_bases(const lp_generator* g) { return LP__MAX(g->batch / 2, (int64_t)1); }

static size_t lay_out(lp_generator* g, char* block, int64_t tokens) {
    size_t used = 0;
    lay_out_run(g, block, &used, tokens);
    lay_out_batch(g, block, &used, most_bases(g));
    return used;
}

/* ---- equal prompts --------------------------------------------------------------------------- */

static bool same_prompt(const lp_generator* g, int64_t a, int64_t b) {
    const int64_t length = g->offsets[a + 1] - g->offsets[a];
    return length == g->offsets[b + 1] - g->offsets[b] &&
           memcmp(g->tokens + g->offsets[a], g->tokens + g->offsets[b],
                  (size_t)length * sizeof *g->tokens) == 0;
}

/* The first prompt that equals prompt i: i itself if none of those before does. */
static int32_t find_first(lp_generator* g, int64_t i) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a, a token at a time */
    for (int64_t j = g->offsets[i]; j < g->offsets[i + 1]; j++)
        hash = (hash ^ (uint32_t)g->tokens[j]) * 1099511628211u;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        int32_t* slot = &g->table[at & g->table_mask];
        if (*slot < 0) return *slot = (int32_t)i;
        if (same_prompt(g, *slot, i)) return *slot;
    }
}

static void find_groups(lp_generator* g) {
    for (uint64_t at = 0; at <= g->table_mask; at++) g->table[at] = -1;
    g->groups = 0;
    for (int64_t i = 0; i < g->prompts; i++) {
        const int32_t first = find_first(g, i);
        g->next[i] = -1;
        g->members[i] = 0;
        if (first != i) g->next[g->last[first]] = (int32_t)i;
        g->last[first] = (int32_t)i;
        g->members[first] += g->samples;
    }
    int64_t at = 0;
    for (int64_t i = 0; i < g->prompts; i++) {
        if (g->members[i] > 1) g->groups++;
        for (int32_t j = g->members[i] > 0 ? (int32_t)i : -1; j >= 0; j = g->next[j])
            g->order[at++] = j;
    }
}

/* ---- the beginning of a run ------------------------------------------------------------------ */

/* How many sequences are computed at a time. */
static int64_t choose_batch(const lp_generator* g, int64_t rows) {
    const lp_model_shape* s = &g->model->shape;
    int64_t batch = g->def->batch_size;
    if (batch == 0) {
        const int64_t number = lp_weights_precision(g->weights) == LP_BFLOAT16 ? 4 : 8;
        const double slot = (double)rows * (double)(number * s->layers * s->kv_heads * s->head_dim);
        batch = (int64_t)fmax(1.0, fmin(DEFAULT_BATCH, DEFAULT_CACHE_BYTES / slot));
    }
    return LP__MIN(batch, g->n);
}

static void find_banned(lp_generator* g) {
    const lp_generate_def* d = g->def;
    int64_t ends, n = 0;
    const int32_t* end = lp_tokenizer_ends(g->model->tokenizer, &ends);
    for (int64_t i = 0; i < d->suppress_count; i++) g->banned[n++] = d->suppress_tokens[i];
    g->banned_first = n;
    for (int64_t i = 0; i < ends; i++) g->banned[n++] = end[i];
    for (int64_t i = 0; i < d->stop_token_count; i++) g->banned[n++] = d->stop_tokens[i];
    g->banned_later = n;
}

/* The cache has a slot for each lane, and for each prompt that is shared. */
static lp_status begin_cache(lp_generator* g, int64_t rows) {
    const lp_precision precision = lp_weights_precision(g->weights);
    g->bases = LP__MIN(g->groups, most_bases(g));
    const int32_t slots = (int32_t)(g->batch + g->bases);
    return g->cache ? lp__kv_reshape(g->cache, (lp__number)precision, slots, rows)
                    : lp_model_cache(g->model, precision, slots, rows, &g->cache);
}

/* Makes room and copies the prompts, which may lie in the result that is about to be replaced. */
static lp_status begin(lp_generator* g, const int64_t* offsets, const int32_t* tokens) {
    const lp_generate_def* d = g->def;
    const int64_t total = offsets[g->prompts] - offsets[0];
    int64_t longest = 0;
    for (int64_t i = 0; i < g->prompts; i++)
        longest = LP__MAX(longest, offsets[i + 1] - offsets[i]);
    const int64_t rows = longest + d->max_new_tokens;
    g->samples = d->num_return_sequences;
    g->n = g->prompts * g->samples;
    g->batch = choose_batch(g, rows);
    g->pass_prompt_room = LP__MIN(total, LP__MAX(longest, (int64_t)LP__PREFILL_TOKENS));
    g->table_mask = 1;
    while ((int64_t)g->table_mask < 2 * g->prompts) g->table_mask = 2 * g->table_mask + 1;
    const size_t need = lay_out(g, NULL, total);
    if (need > g->room) {
        const size_t bytes = lp__grown(need, g->room);
        lp__free(g->ctx, g->block);
        g->block = lp__alloc(g->ctx, bytes);
        g->room = g->block ? bytes : 0;
        if (!g->block) return LP_NOMEM;
    }
    lay_out(g, g->block, total);
    if (g->prompts > 0) memcpy(g->tokens, tokens + offsets[0], (size_t)total * sizeof *tokens);
    for (int64_t i = 0; i <= g->prompts; i++) g->offsets[i] = offsets[i] - offsets[0];
    find_groups(g);
    find_banned(g);
    g->pool.count = 0;
    g->sampler = (lp__sampler){.kernels = lp__ctx_kernels(g->ctx),
                               .vocab = g->model->shape.vocab,
                               .temperature = d->temperature,
                               .top_p = d->top_p,
                               .min_p = d->min_p,
                               .top_k = d->top_k};
    return g->prompts > 0 ? begin_cache(g, rows) : LP_OK;
}

/* ---- the result ------------------------------------------------------------------------------ */

static void empty(lp_generation* out) {
    out->sequences = out->prompts.count = out->responses.count = out->kept.count = 0;
}

/* Makes an array longer; false: out of memory, and it is as it was. */
static bool grow(lp_ctx* ctx, void* array, size_t count, size_t size) {
    void* old;
    memcpy(&old, array, sizeof old);
    void* grown = lp__realloc(ctx, old, count * size);
    if (grown) memcpy(array, &grown, sizeof grown);
    return grown != NULL;
}

/* Room for all sequences, each as long as it may become, so that no other run of these sizes asks
 * for more. */
static lp_status reserve(lp_generator* g, lp_generation* out) {
    lp_ctx* ctx = g->ctx;
    const int64_t n = g->n, tokens = n * g->def->max_new_tokens;
    if (n + 1 > out->sequence_room) {
        const size_t room = lp__grown((size_t)n + 1, (size_t)out->sequence_room);
        if (!grow(ctx, &out->prompt_offsets, room, sizeof *out->prompt_offsets) ||
            !grow(ctx, &out->response_offsets, room, sizeof *out->response_offsets) ||
            !grow(ctx, &out->finish, room, sizeof *out->finish) ||
            !grow(ctx, &out->text_bytes, room, sizeof *out->text_bytes))
            return LP_NOMEM;
        out->sequence_room = (int64_t)room;
    }
    if (tokens > out->token_room) {
        const size_t room = lp__grown((size_t)tokens, (size_t)out->token_room);
        if (!grow(ctx, &out->log_probs, room, sizeof *out->log_probs)) return LP_NOMEM;
        out->token_room = (int64_t)room;
    }
    if (!g->def->keep_sets) {
        lp__free(ctx, out->kept_offsets);
        out->kept_offsets = NULL;
        out->kept_room = 0;
    } else if (tokens + 1 > out->kept_room) {
        const size_t room = lp__grown((size_t)tokens + 1, (size_t)out->kept_room);
        if (!grow(ctx, &out->kept_offsets, room, sizeof *out->kept_offsets)) return LP_NOMEM;
        out->kept_room = (int64_t)room;
    }
    lp_status status =
        lp__token_list_reserve(ctx, &out->prompts, g->offsets[g->prompts] * g->samples);
    return status == LP_OK ? lp__token_list_reserve(ctx, &out->responses, tokens) : status;
}

/* The kept sets in the order of the tokens. */
static lp_status collect_sets(const lp_generator* g, lp_generation* out) {
    lp_status status = lp__token_list_reserve(g->ctx, &out->kept, g->pool.count);
    int64_t token = 0;
    out->kept_offsets[0] = 0;
    for (int64_t i = 0; status == LP_OK && i < g->n; i++) {
        for (int64_t j = 0; j < g->length[i]; j++, token++) {
            const int64_t at = g->kept_at[i * g->def->max_new_tokens + j];
            if (at >= 0) {
                const int32_t count = g->pool.ids[at];
                memcpy(out->kept.ids + out->kept.count, g->pool.ids + at + 1,
                       (size_t)count * sizeof *out->kept.ids);
                out->kept.count += count;
            }
            out->kept_offsets[token + 1] = out->kept.count;
        }
    }
    return status;
}

/* Moves the responses together, and writes the prompts. */
static lp_status collect(const lp_generator* g, lp_generation* out) {
    const int64_t max_new = g->def->max_new_tokens;
    int64_t at = 0, prompt_at = 0;
    for (int64_t i = 0; i < g->n; i++) {
        const int64_t prompt = i / g->samples, length = g->length[i];
        const int64_t prompt_length = g->offsets[prompt + 1] - g->offsets[prompt];
        memmove(g->ids + at, g->ids + i * max_new, (size_t)length * sizeof *g->ids);
        memmove(g->log_prob + at, g->log_prob + i * max_new, (size_t)length * sizeof *g->log_prob);
        memcpy(out->prompts.ids + prompt_at, g->tokens + g->offsets[prompt],
               (size_t)prompt_length * sizeof *g->tokens);
        out->prompt_offsets[i] = prompt_at;
        out->response_offsets[i] = at;
        at += length;
        prompt_at += prompt_length;
    }
    out->prompt_offsets[g->n] = prompt_at;
    out->response_offsets[g->n] = at;
    const lp_status status = g->def->keep_sets ? collect_sets(g, out) : LP_OK;
    if (status != LP_OK) return status;
    out->sequences = g->n;
    out->prompts.count = prompt_at;
    out->responses.count = at;
    return LP_OK;
}

lp_status lp_generator_run(lp_generator* g, const lp_weights* weights, const lp_generate_def* def,
                           int64_t prompts, const int64_t* offsets, const int32_t* tokens,
                           lp_generation* out) {
    static const int64_t none[] = {0};
    lp_status status = lp_generate_check(g->model, def, prompts, offsets, tokens);
    g->weights = weights;
    g->def = def;
    g->prompts = prompts;
    g->out = out;
    if (status == LP_OK) status = begin(g, prompts > 0 ? offsets : none, tokens);
    empty(out); /* and not before: the prompts may have been in it */
    if (status == LP_OK) status = reserve(g, out);
    g->ids = out->responses.ids;
    g->log_prob = out->log_probs;
    if (status == LP_OK && prompts > 0) status = lp__generate_all(g);
    if (status == LP_OK) status = collect(g, out);
    if (status != LP_OK) empty(out);
    return status;
}

lp_status lp_generate(const lp_model* model, const lp_weights* weights, const lp_generate_def* def,
                      int64_t prompts, const int64_t* offsets, const int32_t* tokens,
                      lp_generation* out) {
    lp_generator* g;
    lp_status status = lp_generator_create(model, &g);
    if (status == LP_OK) {
        status = lp_generator_run(g, weights, def, prompts, offsets, tokens, out);
        lp_generator_destroy(g);
    } else {
        empty(out);
    }
    return status;
}

void lp_generation_free(lp_ctx* ctx, lp_generation* g) {
    lp_token_list_free(ctx, &g->prompts);
    lp_token_list_free(ctx, &g->responses);
    lp_token_list_free(ctx, &g->kept);
    lp__free(ctx, g->prompt_offsets);
    lp__free(ctx, g->response_offsets);
    lp__free(ctx, g->log_probs);
    lp__free(ctx, g->finish);
    lp__free(ctx, g->text_bytes);
    lp__free(ctx, g->kept_offsets);
    *g = (lp_generation){0};
}
