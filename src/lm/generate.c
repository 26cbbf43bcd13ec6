/* Batched generation with a key-value cache. Each sequence has a slot and a random stream of its own; a finished one
 * leaves the batch. Equal prompts are computed once and copied. */
#include "lm/model.h"
#include "lm/sampler.h"
#include "tensor/tape.h"

enum { COOKIE = 0x67656e21, PREFILL_TOKENS = 1024 };

lp_generate_def lp_generate_def_default(void) {
    return (lp_generate_def){.cookie = COOKIE, .max_new_tokens = 32, .temperature = 1.0, .top_p = 1.0};
}

/* One call of lp_generate. */
typedef struct run {
    const lp_model* model;
    const lp_weights* weights;
    const lp_generate_def* def;
    lp_ctx* ctx;
    int64_t n;
    const int64_t* offsets;
    const int32_t* tokens;
    lp__sampler sampler;
    lp_tape* tape;
    lp_kv* cache;
    int64_t* leader;  /* [n]: the first sequence with the same prompt */
    float* state;     /* [n, width]: last hidden state of each prompt */
    lp_rng* rng;      /* [n] */
    int32_t* drawn;   /* [n, max_new_tokens] */
    float* log_prob;  /* [n, max_new_tokens] */
    int64_t* length;  /* [n] */
    int32_t* active;  /* [active_count], rising */
    int64_t active_count;
    /* the batch of a decoding step */
    int64_t* step_offsets; /* [n + 1] */
    int32_t* step_tokens;  /* [n] */
    float* logits;         /* of the active sequences, while they are drawn from */
    bool failed;           /* some row was not finite */
} run;

static lp_status check_def(const run* r) {
    const lp_generate_def* d = r->def;
    const lp_model_shape* s = &r->model->shape;
    if (!LP__REQUIRE(r->ctx, d->cookie == COOKIE, "begin with lp_generate_def_default")) return LP_INVALID;
    if (!(d->temperature == 0 || (d->temperature >= 1e-4 && d->temperature <= 1e6)))
        return lp__fail(r->ctx, LP_INVALID, "temperature is %g: it must be 0 (the most likely token) or in [1e-4, 1e6]",
                        d->temperature);
    if (!(d->top_p > 0 && d->top_p <= 1))
        return lp__fail(r->ctx, LP_INVALID, "top_p is %g: it must lie in (0, 1]", d->top_p);
    if (d->top_k < 0) return lp__fail(r->ctx, LP_INVALID, "top_k is %lld: it must not be negative", (long long)d->top_k);
    if (d->max_new_tokens < 1 || d->max_new_tokens >= s->context)
        return lp__fail(r->ctx, LP_INVALID,
                        "max_new_tokens is %lld: it must lie in 1..%lld, one less than the context of the model",
                        (long long)d->max_new_tokens, (long long)s->context - 1);
    if (r->n < 0 || r->n > 1 << 24)
        return lp__fail(r->ctx, LP_INVALID, "%lld sequences at once are too many", (long long)r->n);
    if (d->min_new_tokens < 0 || d->min_new_tokens > d->max_new_tokens)
        return lp__fail(r->ctx, LP_INVALID, "min_new_tokens is %lld: it must lie in 0..max_new_tokens",
                        (long long)d->min_new_tokens);
    for (int64_t i = 0; i < r->n; i++) {
        const int64_t length = r->offsets[i + 1] - r->offsets[i];
        if (length < 1) return lp__fail(r->ctx, LP_INVALID, "prompt %lld is empty", (long long)i + 1);
        if (length > s->context - d->max_new_tokens)
            return lp__fail(r->ctx, LP_INVALID,
                            "prompt %lld has %lld tokens and max_new_tokens is %lld: together more than the context "
                            "of %lld; shorten one of them",
                            (long long)i + 1, (long long)length, (long long)d->max_new_tokens, (long long)s->context);
        for (int64_t j = r->offsets[i]; j < r->offsets[i + 1]; j++) {
            if (r->tokens[j] < 0 || r->tokens[j] >= s->vocab)
                return lp__fail(r->ctx, LP_INVALID, "prompt %lld has token %d, outside the vocabulary",
                                (long long)i + 1,
                                (int)r->tokens[j]);
        }
    }
    return LP_OK;
}

static void* run_alloc(run* r, int64_t count, size_t size) {
    return lp__calloc(r->ctx, (size_t)LP__MAX(count, (int64_t)1), size);
}

static lp_status begin(run* r) {
    const lp_model_shape* s = &r->model->shape;
    const int64_t n = r->n, max_new = r->def->max_new_tokens;
    int64_t longest = 0;
    for (int64_t i = 0; i < n; i++) longest = LP__MAX(longest, r->offsets[i + 1] - r->offsets[i]);
    r->sampler = (lp__sampler){.kernels = lp__ctx_kernels(r->ctx),
                               .vocab = s->vocab,
                               .temperature = r->def->temperature,
                               .top_p = r->def->top_p,
                               .top_k = r->def->top_k};
    r->tape = lp_tape_create(r->ctx, LP_F32);
    r->leader = run_alloc(r, n, sizeof *r->leader);
    r->state = run_alloc(r, n * s->width, sizeof *r->state);
    r->rng = run_alloc(r, n, sizeof *r->rng);
    r->drawn = run_alloc(r, n * max_new, sizeof *r->drawn);
    r->log_prob = run_alloc(r, n * max_new, sizeof *r->log_prob);
    r->length = run_alloc(r, n, sizeof *r->length);
    r->active = run_alloc(r, n, sizeof *r->active);
    r->step_offsets = run_alloc(r, n + 1, sizeof *r->step_offsets);
    r->step_tokens = run_alloc(r, n, sizeof *r->step_tokens);
    if (!r->tape || !r->leader || !r->state || !r->rng || !r->drawn || !r->log_prob || !r->length || !r->active ||
        !r->step_offsets || !r->step_tokens)
        return LP_NOMEM;
    lp_tape_record(r->tape, false);
    for (int64_t i = 0; i < n; i++) {
        r->rng[i] = lp_rng_philox(r->def->seed, LP_FOR_ACTION, r->def->first_index + (uint64_t)i, r->def->round);
        r->active[i] = (int32_t)i;
    }
    r->active_count = n;
    return n > 0 ? lp_model_cache(r->model, (int32_t)n, longest + max_new, &r->cache) : LP_OK;
}

static void end(run* r) {
    lp_tape_destroy(r->tape);
    lp_kv_destroy(r->cache);
    void* blocks[] = {r->leader, r->state,  r->rng,          r->drawn,      r->log_prob,
                      r->length, r->active, r->step_offsets, r->step_tokens};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) lp__free(r->ctx, blocks[i]);
}

/* ---- prompts --------------------------------------------------------------------------------------- */

static int64_t prompt_length(const run* r, int64_t i) { return r->offsets[i + 1] - r->offsets[i]; }

static bool same_prompt(const run* r, int64_t a, int64_t b) {
    return prompt_length(r, a) == prompt_length(r, b) &&
           memcmp(r->tokens + r->offsets[a], r->tokens + r->offsets[b],
                  (size_t)prompt_length(r, a) * sizeof *r->tokens) == 0;
}

/* Runs the prompts of the sequences list[0..count) and keeps their last states. */
static lp_status prefill_chunk(run* r, const int32_t* list, int64_t count, int64_t* offsets, int32_t* tokens) {
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t length = prompt_length(r, list[i]);
        memcpy(tokens + offsets[i], r->tokens + r->offsets[list[i]], (size_t)length * sizeof *tokens);
        offsets[i + 1] = offsets[i] + length;
    }
    const lp_batch batch = {count, offsets, tokens, r->cache, list};
    lp_tape_reset(r->tape);
    lp_tensor hidden = lp_model_hidden(r->tape, r->model, r->weights, &batch);
    if (!hidden) return lp_tape_status(r->tape);
    const int64_t width = r->model->shape.width;
    for (int64_t i = 0; i < count; i++)
        memcpy(r->state + list[i] * width, lp_f32(hidden) + (offsets[i + 1] - 1) * width,
               (size_t)width * sizeof(float));
    return LP_OK;
}

static lp_status prefill(run* r) {
    int32_t* list = run_alloc(r, r->n, sizeof *list);
    int64_t* offsets = run_alloc(r, r->n + 1, sizeof *offsets);
    int32_t* tokens = run_alloc(r, r->offsets[r->n], sizeof *tokens);
    lp_status status = list && offsets && tokens ? LP_OK : LP_NOMEM;
    int64_t count = 0, total = 0;
    for (int64_t i = 0; status == LP_OK && i < r->n; i++) {
        r->leader[i] = i;
        /* equal prompts usually come one after the other: looking at the last leader finds them */
        if (i > 0 && same_prompt(r, i, r->leader[i - 1])) {
            r->leader[i] = r->leader[i - 1];
            continue;
        }
        if (count > 0 && total + prompt_length(r, i) > PREFILL_TOKENS) {
            status = prefill_chunk(r, list, count, offsets, tokens);
            count = total = 0;
        }
        list[count++] = (int32_t)i;
        total += prompt_length(r, i);
    }
    if (status == LP_OK && count > 0) status = prefill_chunk(r, list, count, offsets, tokens);
    for (int64_t i = 0; status == LP_OK && i < r->n; i++) {
        if (r->leader[i] == i) continue;
        const int64_t width = r->model->shape.width;
        lp_kv_fork(r->cache, (int32_t)r->leader[i], (int32_t)i);
        memcpy(r->state + i * width, r->state + r->leader[i] * width, (size_t)width * sizeof(float));
    }
    lp__free(r->ctx, list);
    lp__free(r->ctx, offsets);
    lp__free(r->ctx, tokens);
    return status;
}

/* ---- decoding -------------------------------------------------------------------------------------- */

static void draw_row(void* user, int64_t index, int worker) {
    run* r = user;
    const int64_t i = r->active[index], at = i * r->def->max_new_tokens + r->length[i];
    float* z = r->logits + index * r->sampler.vocab;
    if (r->length[i] < r->def->min_new_tokens) {
        const lp_tokenizer* tokenizer = r->model->tokenizer;
        if (lp_tokenizer_eos(tokenizer) >= 0) z[lp_tokenizer_eos(tokenizer)] = -INFINITY;
        if (lp_tokenizer_eot(tokenizer) >= 0) z[lp_tokenizer_eot(tokenizer)] = -INFINITY;
    }
    r->drawn[at] =
        lp__sampler_draw(&r->sampler, z, lp__worker_scratch(r->ctx, worker), &r->rng[i], &r->log_prob[at]);
}

/* Draws a token for each active sequence from its row of hidden, and drops those that are done. */
static lp_status draw(run* r, lp_tensor hidden) {
    lp_tensor logits = lp_model_logits(r->tape, r->weights, hidden);
    if (!logits) return lp_tape_status(r->tape);
    if (!lp__worker_scratch_reserve(r->ctx, lp__sampler_scratch(&r->sampler))) return LP_NOMEM;
    r->logits = lp_f32(logits);
    lp__parallel_for(r->ctx, r->active_count, draw_row, r);
    int64_t left = 0;
    for (int64_t k = 0; k < r->active_count; k++) {
        const int32_t i = r->active[k];
        const int32_t token = r->drawn[i * r->def->max_new_tokens + r->length[i]];
        if (token < 0)
            return lp__fail(r->ctx, LP_NONFINITE,
                            "sequence %d: the logits of token %lld are not finite: the weights have diverged or are damaged; "
                            "go back to earlier ones, and lower the learning rate",
                            (int)i + 1, (long long)r->length[i] + 1);
        r->length[i]++;
        r->step_tokens[left] = token;
        if (!lp_model_ends(r->model, token) && r->length[i] < r->def->max_new_tokens) r->active[left++] = i;
    }
    r->active_count = left;
    return LP_OK;
}

static lp_status decode(run* r) {
    lp_tape_reset(r->tape);
    lp_status status = draw(r, lp_const_f32(r->tape, r->n, r->model->shape.width, r->state));
    for (int64_t i = 0; i <= r->n; i++) r->step_offsets[i] = i;
    while (status == LP_OK && r->active_count > 0) {
        const lp_batch batch = {r->active_count, r->step_offsets, r->step_tokens, r->cache, r->active};
        lp_tape_reset(r->tape);
        lp_tensor hidden = lp_model_hidden(r->tape, r->model, r->weights, &batch);
        status = hidden ? draw(r, hidden) : lp_tape_status(r->tape);
    }
    return status;
}

/* ---- result ---------------------------------------------------------------------------------------- */

static lp_status collect(const run* r, lp_generation* out) {
    int64_t total = 0;
    for (int64_t i = 0; i < r->n; i++) total += r->length[i];
    out->sequences = r->n;
    out->prompt_offsets = lp__calloc(r->ctx, (size_t)r->n + 1, sizeof(int64_t));
    out->response_offsets = lp__calloc(r->ctx, (size_t)r->n + 1, sizeof(int64_t));
    out->log_probs = lp__calloc(r->ctx, (size_t)total + 1, sizeof(float));
    out->finish = lp__calloc(r->ctx, (size_t)r->n + 1, sizeof(lp_finish));
    if (!out->prompt_offsets || !out->response_offsets || !out->log_probs || !out->finish) return LP_NOMEM;
    memcpy(out->prompt_offsets, r->offsets, (size_t)(r->n + 1) * sizeof(int64_t));
    lp_status status = lp_token_list_add(r->ctx, &out->prompts, r->tokens, r->offsets[r->n]);
    for (int64_t i = 0; status == LP_OK && i < r->n; i++) {
        const int32_t* drawn = r->drawn + i * r->def->max_new_tokens;
        memcpy(out->log_probs + out->response_offsets[i], r->log_prob + i * r->def->max_new_tokens,
               (size_t)r->length[i] * sizeof(float));
        out->response_offsets[i + 1] = out->response_offsets[i] + r->length[i];
        out->finish[i] = lp_model_ends(r->model, drawn[r->length[i] - 1]) ? LP_FINISH_STOP : LP_FINISH_LENGTH;
        status = lp_token_list_add(r->ctx, &out->responses, drawn, r->length[i]);
    }
    return status;
}

lp_status lp_generate(const lp_model* model, const lp_weights* weights, const lp_generate_def* def, int64_t sequences,
                      const int64_t* offsets, const int32_t* tokens, lp_generation* out) {
    run r = {.model = model,
             .weights = weights,
             .def = def,
             .ctx = model->ctx,
             .n = sequences,
             .offsets = offsets,
             .tokens = tokens};
    lp_generation_free(r.ctx, out);
    lp_status status = check_def(&r);
    if (status != LP_OK) return status;
    status = begin(&r);
    if (status == LP_OK && sequences > 0) {
        status = prefill(&r);
        if (status == LP_OK) status = decode(&r);
        if (status == LP_OK) status = collect(&r, out);
    }
    if (status != LP_OK) lp_generation_free(r.ctx, out);
    end(&r);
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
