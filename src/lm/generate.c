/* Batched generation with a key-value cache. Each sequence has a slot and a random stream of its
 * own; a finished one leaves the batch. Equal prompts are computed once and copied. */
#include "lm/model.h"
#include "lm/sampler.h"
#include "tensor/tape.h"
#include "text/tokenizer.h"

enum { COOKIE = 0x67656e21, PREFILL_TOKENS = 1024 };

lp_generate_def lp_generate_def_default(void) {
    return (lp_generate_def){
        .cookie = COOKIE, .max_new_tokens = 32, .temperature = 1.0, .top_p = 1.0};
}

/* ---- checks ---------------------------------------------------------------------------------- */

static lp_status check_def(const lp_model* m, const lp_generate_def* d) {
    lp_ctx* ctx = m->ctx;
    if (!LP__REQUIRE(ctx, d && d->cookie == COOKIE, "begin with lp_generate_def_default"))
        return LP_INVALID;
    if (!(d->temperature == 0 || (d->temperature >= 1e-4 && d->temperature <= 1e6)))
        return lp_fail(ctx, LP_INVALID,
                       "temperature is %g: it must be 0 (the most likely token) or in [1e-4, 1e6]",
                       d->temperature);
    if (!(d->top_p > 0 && d->top_p <= 1))
        return lp_fail(ctx, LP_INVALID, "top_p is %g: it must lie in (0, 1]", d->top_p);
    if (d->top_k < 0)
        return lp_fail(ctx, LP_INVALID, "top_k is %lld: it must not be negative",
                       (long long)d->top_k);
    if (m->shape.context < 2)
        return lp_fail(
            ctx, LP_INVALID,
            "the context of this model is %lld token: no prompt and response fit into it",
            (long long)m->shape.context);
    if (d->max_new_tokens < 1 || d->max_new_tokens >= m->shape.context)
        return lp_fail(ctx, LP_INVALID,
                       "max_new_tokens is %lld: it must lie in 1..%lld, one less than the context "
                       "of the model",
                       (long long)d->max_new_tokens, (long long)m->shape.context - 1);
    if (d->min_new_tokens < 0 || d->min_new_tokens > d->max_new_tokens)
        return lp_fail(ctx, LP_INVALID, "min_new_tokens is %lld: it must lie in 0..max_new_tokens",
                       (long long)d->min_new_tokens);
    return LP_OK;
}

static lp_status check_prompt(const lp_model* m, int64_t max_new, int64_t i, int64_t length,
                              const int32_t* tokens) {
    if (length > m->shape.context - max_new)
        return lp_fail(m->ctx, LP_INVALID,
                       "prompt %lld has %lld tokens and max_new_tokens is %lld: together more "
                       "than the context "
                       "of %lld; shorten one of them",
                       (long long)i + 1, (long long)length, (long long)max_new,
                       (long long)m->shape.context);
    for (int64_t j = 0; j < length; j++) {
        if (tokens[j] < 0 || tokens[j] >= m->shape.vocab)
            return lp_fail(m->ctx, LP_INVALID,
                           "prompt %lld has token %d, outside the vocabulary of %lld",
                           (long long)i + 1, (int)tokens[j], (long long)m->shape.vocab);
    }
    return LP_OK;
}

lp_status lp_generate_check(const lp_model* m, const lp_generate_def* def, int64_t sequences,
                            const int64_t* offsets, const int32_t* tokens) {
    lp_status status = check_def(m, def);
    if (status != LP_OK || sequences == 0) return status;
    if (sequences < 0 || sequences > 1 << 24)
        return lp_fail(m->ctx, LP_INVALID, "%lld sequences at once: it must be 0..%d",
                       (long long)sequences, 1 << 24);
    if (!LP__REQUIRE(m->ctx, offsets && tokens && offsets[0] >= 0,
                     "prompts need tokens and offsets into them"))
        return LP_INVALID;
    for (int64_t i = 0; status == LP_OK && i < sequences; i++) {
        if (offsets[i + 1] <= offsets[i])
            return lp_fail(m->ctx, LP_INVALID, "prompt %lld is empty", (long long)i + 1);
        status = check_prompt(m, def->max_new_tokens, i, offsets[i + 1] - offsets[i],
                              tokens + offsets[i]);
    }
    return status;
}

/* ---- a generator and its memory -------------------------------------------------------------- */

struct lp_generator {
    lp_ctx* ctx;
    const lp_model* model;
    lp_tape* tape;
    lp_kv* cache; /* NULL before the first run */
    char* block;  /* all arrays of a run, see lay_out */
    size_t room;  /* its bytes */
    /* the run at hand */
    const lp_weights* weights;
    const lp_generate_def* def;
    lp__sampler sampler;
    int64_t n;        /* sequences */
    int64_t* offsets; /* [n + 1], from 0 */
    int32_t* tokens;  /* [offsets[n]]: the prompts */
    int32_t* leader;  /* [n]: the first sequence with the same prompt */
    int32_t* table;   /* [table_mask + 1]: leaders by the hash of their prompts; -1: free */
    uint64_t table_mask;
    float* state;    /* [n, width]: last hidden state of each prompt */
    lp_rng* rng;     /* [n] */
    int64_t* length; /* [n]: tokens drawn */
    int32_t* active; /* [active_count], rising: the sequences of the batch at hand */
    int64_t active_count;
    int64_t* batch_offsets; /* [n + 1] */
    int32_t* batch_tokens;
    int32_t* drawn;  /* [n, max_new_tokens], in the result */
    float* log_prob; /* the same */
    float* logits;   /* of the active sequences, while they are drawn from */
};

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
    lp__free(g->ctx, g->block);
    lp__free(g->ctx, g);
}

/* The next `count` elements of the block. */
static void* carve(char* block, size_t* used, int64_t count, size_t size) {
    void* part = block ? block + *used : NULL;
    *used += ((size_t)count * size + 63) / 64 * 64;
    return part;
}

/* Places the arrays of a run one behind the other; returns their bytes. block may be NULL. Sizes
 * cannot overflow: a model has no side, and a run no number of sequences, above 2^24. */
static size_t lay_out(lp_generator* g, char* block, int64_t tokens, int64_t longest) {
    const int64_t n = g->n, prefill = LP__MIN(tokens, LP__MAX(longest, (int64_t)PREFILL_TOKENS));
    size_t used = 0;
    g->offsets = carve(block, &used, n + 1, sizeof *g->offsets);
    g->tokens = carve(block, &used, tokens, sizeof *g->tokens);
    g->leader = carve(block, &used, n, sizeof *g->leader);
    g->table = carve(block, &used, (int64_t)g->table_mask + 1, sizeof *g->table);
    g->state = carve(block, &used, n * g->model->shape.width, sizeof *g->state);
    g->rng = carve(block, &used, n, sizeof *g->rng);
    g->length = carve(block, &used, n, sizeof *g->length);
    g->active = carve(block, &used, n, sizeof *g->active);
    g->batch_offsets = carve(block, &used, n + 1, sizeof *g->batch_offsets);
    g->batch_tokens = carve(block, &used, LP__MAX(n, prefill), sizeof *g->batch_tokens);
    return used;
}

/* Makes room and copies the prompts, which may lie in the result that is about to be replaced. */
static lp_status begin(lp_generator* g, const int64_t* offsets, const int32_t* tokens) {
    const lp_model_shape* s = &g->model->shape;
    const int64_t n = g->n, total = offsets[n] - offsets[0];
    int64_t longest = 0;
    for (int64_t i = 0; i < n; i++) longest = LP__MAX(longest, offsets[i + 1] - offsets[i]);
    g->table_mask = 1;
    while ((int64_t)g->table_mask < 2 * n) g->table_mask = 2 * g->table_mask + 1;
    const size_t need = lay_out(g, NULL, total, longest);
    if (need > g->room) {
        const size_t bytes = lp__grown(need, g->room);
        lp__free(g->ctx, g->block);
        g->block = lp__alloc(g->ctx, bytes);
        g->room = g->block ? bytes : 0;
        if (!g->block) return LP_NOMEM;
    }
    lay_out(g, g->block, total, longest);
    if (n > 0) memcpy(g->tokens, tokens + offsets[0], (size_t)total * sizeof *tokens);
    for (int64_t i = 0; i <= n; i++) g->offsets[i] = offsets[i] - offsets[0];
    for (int64_t i = 0; i < n; i++) {
        g->rng[i] = lp_rng_philox(g->def->seed, LP_FOR_ACTION, g->def->first_index + (uint64_t)i,
                                  g->def->round);
        g->length[i] = 0;
    }
    g->sampler = (lp__sampler){.kernels = lp__ctx_kernels(g->ctx),
                               .vocab = s->vocab,
                               .temperature = g->def->temperature,
                               .top_p = g->def->top_p,
                               .top_k = g->def->top_k};
    const int64_t rows = longest + g->def->max_new_tokens;
    if (n == 0) return LP_OK;
    const lp_precision precision = lp_weights_precision(g->weights);
    return g->cache ? lp__kv_reshape(g->cache, (lp__number)precision, (int32_t)n, rows)
                    : lp_model_cache(g->model, precision, (int32_t)n, rows, &g->cache);
}

/* ---- prompts --------------------------------------------------------------------------------- */

static int64_t prompt_length(const lp_generator* g, int64_t i) {
    return g->offsets[i + 1] - g->offsets[i];
}

static bool same_prompt(const lp_generator* g, int64_t a, int64_t b) {
    return prompt_length(g, a) == prompt_length(g, b) &&
           memcmp(g->tokens + g->offsets[a], g->tokens + g->offsets[b],
                  (size_t)prompt_length(g, a) * sizeof *g->tokens) == 0;
}

/* The first sequence with the prompt of i: i itself if none of those before has it. */
static int32_t find_leader(lp_generator* g, int64_t i) {
    uint64_t hash = 14695981039346656037u; /* FNV-1a, a token at a time */
    for (int64_t j = g->offsets[i]; j < g->offsets[i + 1]; j++)
        hash = (hash ^ (uint32_t)g->tokens[j]) * 1099511628211u;
    for (uint64_t at = hash ^ hash >> 32;; at++) {
        int32_t* slot = &g->table[at & g->table_mask];
        if (*slot < 0) return *slot = (int32_t)i;
        if (same_prompt(g, *slot, i)) return *slot;
    }
}

/* Runs the prompts of the active sequences and keeps their last states. */
static lp_status prefill_chunk(lp_generator* g) {
    int64_t* offsets = g->batch_offsets;
    offsets[0] = 0;
    for (int64_t k = 0; k < g->active_count; k++) {
        const int64_t i = g->active[k], length = prompt_length(g, i);
        memcpy(g->batch_tokens + offsets[k], g->tokens + g->offsets[i],
               (size_t)length * sizeof *g->tokens);
        offsets[k + 1] = offsets[k] + length;
    }
    const lp_batch batch = {g->active_count, offsets, g->batch_tokens, g->cache, g->active, NULL};
    lp_tape_reset(g->tape);
    lp_tensor hidden = lp_model_hidden(g->tape, g->model, g->weights, &batch);
    if (!hidden) return lp_tape_status(g->tape);
    const int64_t width = g->model->shape.width;
    for (int64_t k = 0; k < g->active_count; k++)
        memcpy(g->state + g->active[k] * width, lp_f32(hidden) + (offsets[k + 1] - 1) * width,
               (size_t)width * sizeof(float));
    return LP_OK;
}

static lp_status prefill(lp_generator* g) {
    lp_status status = LP_OK;
    int64_t total = 0;
    g->active_count = 0;
    for (uint64_t at = 0; at <= g->table_mask; at++) g->table[at] = -1;
    for (int64_t i = 0; status == LP_OK && i < g->n; i++) {
        g->leader[i] = find_leader(g, i);
        if (g->leader[i] != i) continue;
        if (g->active_count > 0 && total + prompt_length(g, i) > PREFILL_TOKENS) {
            status = prefill_chunk(g);
            g->active_count = total = 0;
        }
        g->active[g->active_count++] = (int32_t)i;
        total += prompt_length(g, i);
    }
    if (status == LP_OK) status = prefill_chunk(g);
    const int64_t width = g->model->shape.width;
    for (int64_t i = 0; status == LP_OK && i < g->n; i++) {
        if (g->leader[i] == i) continue;
        lp_kv_fork(g->cache, g->leader[i], (int32_t)i);
        memcpy(g->state + i * width, g->state + g->leader[i] * width,
               (size_t)width * sizeof(float));
    }
    return status;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void draw_row(void* user, int64_t index, int worker) {
    lp_generator* g = user;
    const int64_t i = g->active[index], at = i * g->def->max_new_tokens + g->length[i];
    float* z = g->logits + index * g->sampler.vocab;
    if (g->length[i] < g->def->min_new_tokens) {
        const lp_tokenizer* tokenizer = g->model->tokenizer;
        if (lp_tokenizer_eos(tokenizer) >= 0) z[lp_tokenizer_eos(tokenizer)] = -INFINITY;
        if (lp_tokenizer_eot(tokenizer) >= 0) z[lp_tokenizer_eot(tokenizer)] = -INFINITY;
    }
    g->drawn[at] = lp__sampler_draw(&g->sampler, z, lp__worker_scratch(g->ctx, worker), &g->rng[i],
                                    &g->log_prob[at]);
}

/* Draws a token for each active sequence from its row of hidden, and drops those that are done. */
static lp_status draw(lp_generator* g, lp_tensor hidden) {
    lp_tensor logits = lp_model_logits(g->tape, g->weights, hidden);
    if (!logits) return lp_tape_status(g->tape);
    if (!lp__worker_scratch_reserve(g->ctx, lp__sampler_scratch(&g->sampler))) return LP_NOMEM;
    g->logits = lp_f32(logits);
    lp__parallel_for(g->ctx, g->active_count, draw_row, g);
    int64_t left = 0;
    for (int64_t k = 0; k < g->active_count; k++) {
        const int32_t i = g->active[k];
        const int32_t token = g->drawn[i * g->def->max_new_tokens + g->length[i]];
        if (token < 0)
            return lp_fail(g->ctx, LP_NONFINITE,
                           "sequence %d: the logits of token %lld are not finite: the weights "
                           "have diverged or are "
                           "damaged; go back to earlier ones, and lower the learning rate",
                           (int)i + 1, (long long)g->length[i] + 1);
        g->length[i]++;
        g->batch_tokens[left] = token;
        if (!lp_model_ends(g->model, token) && g->length[i] < g->def->max_new_tokens)
            g->active[left++] = i;
    }
    g->active_count = left;
    return LP_OK;
}

static lp_status decode(lp_generator* g) {
    for (int64_t i = 0; i < g->n; i++) g->active[i] = (int32_t)i;
    for (int64_t i = 0; i <= g->n; i++) g->batch_offsets[i] = i;
    g->active_count = g->n;
    lp_tape_reset(g->tape);
    lp_status status = draw(g, lp_const_f32(g->tape, g->n, g->model->shape.width, g->state));
    while (status == LP_OK && g->active_count > 0) {
        const lp_batch batch = {g->active_count, g->batch_offsets, g->batch_tokens, g->cache,
                                g->active, NULL};
        lp_tape_reset(g->tape);
        lp_tensor hidden = lp_model_hidden(g->tape, g->model, g->weights, &batch);
        status = hidden ? draw(g, hidden) : lp_tape_status(g->tape);
    }
    return status;
}

/* ---- result ---------------------------------------------------------------------------------- */

static void empty(lp_generation* out) {
    out->sequences = out->prompts.count = out->responses.count = 0;
}

/* Room for n sequences, each as long as it may become, so that no other run of these sizes asks for
 * more. */
static lp_status reserve(lp_ctx* ctx, lp_generation* out, int64_t n, int64_t prompt_tokens,
                         int64_t max_new) {
    if (n + 1 > out->sequence_room) {
        const size_t room = lp__grown((size_t)n + 1, (size_t)out->sequence_room);
        int64_t* prompt_offsets =
            lp__realloc(ctx, out->prompt_offsets, room * sizeof *prompt_offsets);
        if (prompt_offsets) out->prompt_offsets = prompt_offsets;
        int64_t* response_offsets =
            lp__realloc(ctx, out->response_offsets, room * sizeof *response_offsets);
        if (response_offsets) out->response_offsets = response_offsets;
        lp_finish* finish = lp__realloc(ctx, out->finish, room * sizeof *finish);
        if (finish) out->finish = finish;
        if (!prompt_offsets || !response_offsets || !finish) return LP_NOMEM;
        out->sequence_room = (int64_t)room;
    }
    if (n * max_new > out->token_room) {
        const size_t room = lp__grown((size_t)(n * max_new), (size_t)out->token_room);
        float* log_probs = lp__realloc(ctx, out->log_probs, room * sizeof *log_probs);
        if (!log_probs) return LP_NOMEM;
        out->log_probs = log_probs;
        out->token_room = (int64_t)room;
    }
    lp_status status = lp__token_list_reserve(ctx, &out->prompts, prompt_tokens);
    return status == LP_OK ? lp__token_list_reserve(ctx, &out->responses, n * max_new) : status;
}

/* Moves the responses together. */
static void collect(const lp_generator* g, lp_generation* out) {
    const int64_t max_new = g->def->max_new_tokens;
    int64_t at = 0;
    out->sequences = g->n;
    out->prompts.count = g->offsets[g->n];
    if (g->n > 0) memcpy(out->prompts.ids, g->tokens, (size_t)g->offsets[g->n] * sizeof *g->tokens);
    for (int64_t i = 0; i < g->n; i++) {
        const size_t length = (size_t)g->length[i];
        memmove(g->drawn + at, g->drawn + i * max_new, length * sizeof *g->drawn);
        memmove(g->log_prob + at, g->log_prob + i * max_new, length * sizeof *g->log_prob);
        out->prompt_offsets[i] = g->offsets[i];
        out->response_offsets[i] = at;
        at += g->length[i];
        out->finish[i] =
            lp_model_ends(g->model, g->drawn[at - 1]) ? LP_FINISH_STOP : LP_FINISH_LENGTH;
    }
    out->prompt_offsets[g->n] = g->offsets[g->n];
    out->response_offsets[g->n] = out->responses.count = at;
}

lp_status lp_generator_run(lp_generator* g, const lp_weights* weights, const lp_generate_def* def,
                           int64_t sequences, const int64_t* offsets, const int32_t* tokens,
                           lp_generation* out) {
    static const int64_t none[] = {0};
    lp_status status = lp_generate_check(g->model, def, sequences, offsets, tokens);
    g->weights = weights;
    g->def = def;
    g->n = sequences;
    if (status == LP_OK) status = begin(g, sequences > 0 ? offsets : none, tokens);
    empty(out); /* and not before: the prompts may have been in it */
    if (status == LP_OK)
        status = reserve(g->ctx, out, sequences, g->offsets[sequences], def->max_new_tokens);
    g->drawn = out->responses.ids;
    g->log_prob = out->log_probs;
    if (status == LP_OK && sequences > 0) status = prefill(g);
    if (status == LP_OK && sequences > 0) status = decode(g);
    if (status == LP_OK) collect(g, out);
    return status;
}

lp_status lp_generate(const lp_model* model, const lp_weights* weights, const lp_generate_def* def,
                      int64_t sequences, const int64_t* offsets, const int32_t* tokens,
                      lp_generation* out) {
    lp_generator* g;
    lp_status status = lp_generator_create(model, &g);
    if (status == LP_OK) {
        status = lp_generator_run(g, weights, def, sequences, offsets, tokens, out);
        lp_generator_destroy(g);
    } else {
        empty(out);
    }
    return status;
}

void lp_generation_free(lp_ctx* ctx, lp_generation* g) {
    lp_token_list_free(ctx, &g->prompts);
    lp_token_list_free(ctx, &g->responses);
    lp__free(ctx, g->prompt_offsets);
    lp__free(ctx, g->response_offsets);
    lp__free(ctx, g->log_probs);
    lp__free(ctx, g->finish);
    *g = (lp_generation){0};
}
