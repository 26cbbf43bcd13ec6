/* Continuous batching. Every sequence has a lane while it is in the making: a slot of the cache and
 * a random stream of its own; one that ends makes room for the next. One pass of the model takes
 * the last token of each lane together with the prompts of those that have just got one. A prompt
 * of several sequences has a slot to itself, whose rows their lanes share, until the last has
 * ended. Nothing that a sequence computes depends on what else is in a pass. */
#include "lm/generate.h"

/* ---- who is in the batch --------------------------------------------------------------------- */

static void start(lp_generator* g) {
    g->free_lanes = g->free_bases = g->active_count = 0;
    for (int64_t i = g->batch; i-- > 0;) g->free_lane[g->free_lanes++] = (int32_t)i;
    for (int64_t i = g->bases; i-- > 0;) g->free_base[g->free_bases++] = (int32_t)i;
    for (int64_t i = 0; i < g->bases; i++) g->base[i].entry = -1;
    g->at = g->sample = 0;
    g->shared = -1;
}

static int32_t base_slot(const lp_generator* g, int32_t base) { return (int32_t)g->batch + base; }

/* A pass under construction: sequences, their tokens, and how many of these are of prompts. */
typedef struct pass {
    int64_t sequences, tokens, prompt_tokens;
} pass;

static int32_t add_to_pass(lp_generator* g, pass* p, int32_t slot, int64_t count,
                           const int32_t* tokens) {
    memcpy(g->pass_tokens + p->tokens, tokens, (size_t)count * sizeof *tokens);
    g->pass_slot[p->sequences] = slot;
    p->tokens += count;
    g->pass_offsets[p->sequences + 1] = p->tokens;
    return (int32_t)p->sequences++;
}

/* Adds a prompt, if the pass has room for it. */
static bool add_prompt(lp_generator* g, pass* p, int32_t slot, int32_t prompt, int32_t* entry) {
    const int64_t from = g->offsets[prompt], length = g->offsets[prompt + 1] - from;
    if (p->prompt_tokens > 0 && p->prompt_tokens + length > LP__PREFILL_TOKENS) return false;
    p->prompt_tokens += length;
    *entry = add_to_pass(g, p, slot, length, g->tokens + from);
    return true;
}

/* Makes sure that the prompt of a group has a base; `members` sequences are going to continue it.
 */
static bool find_base(lp_generator* g, pass* p, int32_t prompt, int64_t members) {
    if (g->shared >= 0) return true;
    if (g->free_bases == 0) return false;
    const int32_t index = g->free_base[g->free_bases - 1];
    lp__base* base = &g->base[index];
    if (!add_prompt(g, p, base_slot(g, index), prompt, &base->entry)) return false;
    g->free_bases--;
    base->pending = members;
    base->lanes = 0;
    g->shared = index;
    return true;
}

/* The next sequence gets a lane, if there is one and the pass has room for what it needs. */
static bool admit(lp_generator* g, pass* p) {
    const lp_generate_def* d = g->def;
    if (g->free_lanes == 0 || g->at == g->prompts) return false;
    const int32_t prompt = g->order[g->at], index = g->free_lane[g->free_lanes - 1];
    /* The group's first prompt comes first in the order, and finds the base for the others. */
    const bool shares = g->shared >= 0 || g->members[prompt] > 1;
    lp__lane* lane = &g->lane[index];
    *lane = (lp__lane){.sequence = prompt * g->samples + g->sample, .base = -1};
    if (shares ? !find_base(g, p, prompt, g->members[prompt])
               : !add_prompt(g, p, index, prompt, &lane->entry))
        return false;
    g->free_lanes--;
    g->active[g->active_count++] = index;
    memset(g->stop_state + (int64_t)index * d->stop_count, 0,
           (size_t)d->stop_count * sizeof *g->stop_state);
    lane->rng =
        lp_rng_philox(d->seed, LP_FOR_ACTION,
                      d->first_index + (uint64_t)prompt + ((uint64_t)g->sample << 32), d->round);
    if (shares) {
        lane->base = g->shared;
        g->base[g->shared].lanes++;
        if (--g->base[g->shared].pending == 0) g->shared = -1; /* the next is of another group */
    }
    if (++g->sample == g->samples) g->sample = 0, g->at++;
    return true;
}

/* The lane is free again, and with the last of a group its prompt. */
static void leave(lp_generator* g, int32_t index) {
    const int32_t base = g->lane[index].base;
    lp_kv_clear(g->cache, index);
    g->free_lane[g->free_lanes++] = index;
    if (base < 0) return;
    if (--g->base[base].lanes > 0 || g->base[base].pending > 0) return;
    lp_kv_clear(g->cache, base_slot(g, base));
    g->free_base[g->free_bases++] = base;
}

/* ---- a pass ---------------------------------------------------------------------------------- */

/* Keeps the last states of the prompts that are shared. */
static void keep_states(lp_generator* g, const float* hidden) {
    const int64_t width = g->model->shape.width;
    for (int64_t i = 0; i < g->bases; i++) {
        if (g->base[i].entry < 0) continue;
        const int64_t row = g->pass_offsets[g->base[i].entry + 1] - 1;
        memcpy(g->base_state + i * width, hidden + row * width, (size_t)width * sizeof *hidden);
        g->base[i].entry = -1;
    }
}

/* The states that the active lanes are to be drawn from: of the first `old` they are the first rows
 * of hidden. */
static void gather_states(lp_generator* g, int64_t old, const float* hidden) {
    const int64_t width = g->model->shape.width;
    const size_t bytes = (size_t)width * sizeof *hidden;
    if (old > 0) memcpy(g->state, hidden, (size_t)old * bytes);
    for (int64_t k = old; k < g->active_count; k++) {
        const lp__lane* lane = &g->lane[g->active[k]];
        const float* from = lane->base >= 0
                                ? g->base_state + lane->base * width
                                : hidden + (g->pass_offsets[lane->entry + 1] - 1) * width;
        memcpy(g->state + k * width, from, bytes);
        if (lane->base >= 0) lp_kv_fork(g->cache, base_slot(g, lane->base), g->active[k]);
    }
}

static lp_status draw(lp_generator* g, lp_tensor hidden);

/* Runs what the active lanes need and draws a token for each. */
static lp_status step(lp_generator* g) {
    const int64_t old = g->active_count, width = g->model->shape.width;
    pass p = {0};
    g->pass_offsets[0] = 0;
    for (int64_t k = 0; k < old; k++)
        add_to_pass(g, &p, g->active[k], 1, &g->lane[g->active[k]].token);
    while (admit(g, &p)) {
    }
    lp_tensor hidden = NULL;
    lp_tape_reset(g->tape);
    if (p.sequences > 0) {
        const lp_batch batch = {.sequences = p.sequences,
                                .offsets = g->pass_offsets,
                                .tokens = g->pass_tokens,
                                .cache = g->cache,
                                .slot = g->pass_slot};
        hidden = lp_model_hidden(g->tape, g->model, g->weights, &batch);
        if (!hidden) return lp_tape_status(g->tape);
        keep_states(g, lp_f32(hidden));
    }
    if (g->active_count > old || !hidden) {
        gather_states(g, old, lp_f32(hidden));
        hidden = lp_const_f32(g->tape, g->active_count, width, g->state);
    }
    return hidden ? draw(g, hidden) : lp_tape_status(g->tape);
}

lp_status lp__generate_all(lp_generator* g) {
    lp_status status = LP_OK;
    start(g);
    while (status == LP_OK && (g->active_count > 0 || g->at < g->prompts)) status = step(g);
    return status;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void draw_row(void* user, int64_t index, int worker) {
    lp_generator* g = user;
    lp__lane* lane = &g->lane[g->active[index]];
    const bool early = lane->length < g->def->min_new_tokens;
    g->drawn[index] = lp__sampler_draw(&g->sampler, g->logits + index * g->sampler.vocab,
                                       early ? g->banned_later : g->banned_first, g->banned,
                                       lp__worker_scratch(g->ctx, worker), &lane->rng);
}

/* Keeps the set that the token of active lane k was drawn from, which is in the place of its
 * logits.
 */
static lp_status keep_set(lp_generator* g, int64_t k, int64_t at) {
    const int32_t count = g->drawn[k].kept;
    g->kept_at[at] = count > 0 ? g->pool.count : -1;
    if (count == 0) return LP_OK;
    lp_status status = lp_token_list_add(g->ctx, &g->pool, &count, 1);
    if (status == LP_OK)
        status = lp_token_list_add(g->ctx, &g->pool,
                                   (const int32_t*)(const void*)(g->logits + k * g->sampler.vocab),
                                   count);
    return status;
}

static bool ends(const lp_generator* g, int32_t token) {
    for (int64_t i = g->banned_first; i < g->banned_later; i++) {
        if (g->banned[i] == token) return true;
    }
    return false;
}

/* Whether a stop string is complete with the lane's last token; it is looked for in any case. */
static bool stops(lp_generator* g, int32_t index) {
    lp__lane* lane = &g->lane[index];
    const lp_tokenizer* tokenizer = g->model->tokenizer;
    if (g->stops.count == 0 || lp_tokenizer_is_special(tokenizer, lane->token)) return false;
    size_t n;
    const char* bytes = lp_tokenizer_bytes(tokenizer, lane->token, &n);
    const int64_t begin = lp__stops_feed(&g->stops, g->stop_state + (int64_t)index * g->stops.count,
                                         lane->bytes, bytes, n);
    lane->bytes += (int64_t)n;
    if (begin < 0 || lane->length < g->def->min_new_tokens) return false;
    g->out->text_bytes[lane->sequence] = begin;
    return true;
}

/* Takes down the token that active lane k drew; *done: it was the last. */
static lp_status take(lp_generator* g, int64_t k, bool* done) {
    const int32_t index = g->active[k];
    const lp__drawn drawn = g->drawn[k];
    lp__lane* lane = &g->lane[index];
    const int64_t max_new = g->def->max_new_tokens, at = lane->sequence * max_new + lane->length;
    if (drawn.token < 0)
        return lp_fail(
            g->ctx, LP_NONFINITE,
            "sequence %lld: the logits of token %lld are not finite: the weights have "
            "diverged or are damaged; go back to earlier ones, and lower the learning rate",
            (long long)lane->sequence + 1, (long long)lane->length + 1);
    lane->token = g->ids[at] = drawn.token;
    lane->length++;
    g->log_prob[at] = drawn.log_prob;
    g->out->text_bytes[lane->sequence] = -1;
    const lp_status status = g->def->keep_sets ? keep_set(g, k, at) : LP_OK;
    const bool stopped = stops(g, index) || ends(g, drawn.token);
    *done = stopped || lane->length == max_new;
    g->length[lane->sequence] = lane->length;
    g->out->finish[lane->sequence] = stopped ? LP_FINISH_STOP : LP_FINISH_LENGTH;
    return status;
}

/* Draws a token for each active lane from its row of hidden; those that are done leave. */
static lp_status draw(lp_generator* g, lp_tensor hidden) {
    lp_tensor logits = lp_model_logits(g->tape, g->weights, hidden);
    if (!logits) return lp_tape_status(g->tape);
    if (!lp__worker_scratch_reserve(g->ctx, lp__sampler_scratch(&g->sampler))) return LP_NOMEM;
    g->logits = lp_f32(logits);
    lp__parallel_for(g->ctx, g->active_count, draw_row, g);
    int64_t left = 0;
    for (int64_t k = 0; k < g->active_count; k++) {
        const int32_t index = g->active[k];
        bool done = false;
        const lp_status status = take(g, k, &done);
        if (status != LP_OK) return status;
        if (done)
            leave(g, index);
        else
            g->active[left++] = index;
    }
    g->active_count = left;
    return LP_OK;
}
