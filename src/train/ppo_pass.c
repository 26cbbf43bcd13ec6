/* Forward passes of the PPO trainer: packing sequences into micro-batches, and what policy and
 * reference say about their response tokens. */
#include "train/ppo.h"
#include <math.h>
#include <string.h>

enum { MICRO_TOKENS = 512, KL_ROWS = 64 };

static int64_t query_length(const lp_generation* b, int64_t s) {
    return b->prompt_offsets[s + 1] - b->prompt_offsets[s];
}
static int64_t response_length(const lp_generation* b, int64_t s) {
    return b->response_offsets[s + 1] - b->response_offsets[s];
}

int64_t lp__part_size(const lp_ppo* ppo, const lp_generation* b, const int32_t* list,
                      int64_t count) {
    if (ppo->def.micro_batch_size > 0) return LP__MIN(count, ppo->def.micro_batch_size);
    int64_t tokens = 0, n = 0;
    while (n < count) {
        tokens += query_length(b, list[n]) + response_length(b, list[n]);
        if (n > 0 && tokens > MICRO_TOKENS) break;
        n++;
    }
    return n;
}

/* The input of a sequence is its query and its response but for the last token, which predicts
 * nothing. */
lp_status lp__part_build(lp_ppo* ppo, const lp_generation* b, const int32_t* list, int64_t count,
                         lp__part* part) {
    int64_t tokens = 0, rows = 0;
    for (int64_t i = 0; i < count; i++) {
        tokens += query_length(b, list[i]) + response_length(b, list[i]) - 1;
        rows += response_length(b, list[i]);
    }
    lp__arena_reset(&ppo->arena);
    *part = (lp__part){.sequences = count, .rows = rows};
    part->offsets = lp__arena_alloc(&ppo->arena, (size_t)(count + 1) * sizeof(int64_t));
    part->first = lp__arena_alloc(&ppo->arena, (size_t)count * sizeof(int64_t));
    part->count = lp__arena_alloc(&ppo->arena, (size_t)count * sizeof(int64_t));
    part->tokens = lp__arena_alloc(&ppo->arena, (size_t)tokens * sizeof(int32_t));
    part->row = lp__arena_alloc(&ppo->arena, (size_t)rows * sizeof(int32_t));
    part->target = lp__arena_alloc(&ppo->arena, (size_t)rows * sizeof(int32_t));
    if (!part->offsets || !part->first || !part->count || !part->tokens || !part->row ||
        !part->target)
        return LP_NOMEM;
    int64_t at = 0, row = 0;
    for (int64_t i = 0; i < count; i++) {
        const int64_t q = query_length(b, list[i]), r = response_length(b, list[i]);
        const int32_t* response = b->responses.ids + b->response_offsets[list[i]];
        part->offsets[i] = at;
        part->first[i] = b->response_offsets[list[i]];
        part->count[i] = r;
        memcpy(part->tokens + at, b->prompts.ids + b->prompt_offsets[list[i]],
               (size_t)q * sizeof(int32_t));
        memcpy(part->tokens + at + q, response, (size_t)(r - 1) * sizeof(int32_t));
        for (int64_t j = 0; j < r; j++, row++) {
            part->row[row] = (int32_t)(at + q - 1 + j);
            part->target[row] = response[j];
        }
        at += q + r - 1;
    }
    part->offsets[count] = at;
    return LP_OK;
}

/* The states that predict the response tokens, [rows, width]. */
static lp_tensor predicting_states(lp_ppo* ppo, const lp_weights* weights, const lp__part* part) {
    const lp_batch batch = {
        .sequences = part->sequences, .offsets = part->offsets, .tokens = part->tokens};
    lp_tensor hidden = lp_model_hidden(ppo->tape, ppo->model, weights, &batch);
    return lp_rows(ppo->tape, hidden, lp_const_i32(ppo->tape, part->rows, 1, part->row));
}

lp__said lp__part_forward(lp_ppo* ppo, const lp_weights* weights, const lp__part* part,
                          unsigned ask) {
    lp__said said = {.states = predicting_states(ppo, weights, part)};
    lp_tensor target = lp_const_i32(ppo->tape, part->rows, 1, part->target);
    lp_tensor* entropy = ask & LP__ASK_ENTROPY ? &said.entropy : NULL;
    said.log_prob = lp_model_log_prob(ppo->tape, weights, said.states, target, 1.0, entropy);
    if (ask & LP__ASK_VALUE)
        said.value = lp_linear(ppo->tape, said.states, ppo->value_weight, ppo->value_bias);
    return lp_tape_status(ppo->tape) == LP_OK ? said : (lp__said){0};
}

/* Puts a column of a part back to where its sequences stand in the rollout. */
static void scatter(const lp__part* part, const float* column, float* to) {
    for (int64_t i = 0; i < part->sequences; i++) {
        memcpy(to + part->first[i], column, (size_t)part->count[i] * sizeof(float));
        column += part->count[i];
    }
}

/* A copy of states in the trainer's arena; NULL when out of memory. */
static float* keep(lp_ppo* ppo, lp_tensor states) {
    const size_t bytes = (size_t)(states->rows * states->cols) * sizeof(float);
    float* kept = lp__arena_alloc(&ppo->arena, bytes);
    if (kept) memcpy(kept, states->data, bytes);
    return kept;
}

/* KL(policy || reference) over the whole vocabulary, for each response token of a part, into the
 * rollout, from the states of both. The tape holds the logits of a few rows at a time. */
static lp_status full_kl(lp_ppo* ppo, const lp__part* part, const float* h, const float* h_ref) {
    lp_tape* t = ppo->tape;
    const int64_t width = lp_model_get_shape(ppo->model).width;
    float* kl = lp__arena_alloc(&ppo->arena, (size_t)part->rows * sizeof(float));
    if (!kl) return LP_NOMEM;
    for (int64_t from = 0; from < part->rows; from += KL_ROWS) {
        const int64_t n = LP__MIN(part->rows - from, (int64_t)KL_ROWS);
        lp_tape_reset(t);
        lp_tensor z = lp_model_logits(t, ppo->policy, lp_const_f32(t, n, width, h + from * width));
        lp_tensor z_ref =
            lp_model_logits(t, ppo->reference, lp_const_f32(t, n, width, h_ref + from * width));
        lp_tensor d = lp_kl(t, lp_categorical(t, z), lp_categorical(t, z_ref));
        if (!d) return lp_tape_status(t);
        memcpy(kl + from, lp_f32(d), (size_t)n * sizeof(float));
    }
    scatter(part, kl, ppo->rollout.kl);
    return LP_OK;
}

static lp_status score_part(lp_ppo* ppo, const lp__part* part) {
    lp__rollout* r = &ppo->rollout;
    const bool full = ppo->def.kl_penalty == LP_KL_FULL;
    lp_tape_reset(ppo->tape);
    const lp__said said = lp__part_forward(ppo, ppo->policy, part, LP__ASK_VALUE);
    if (!said.log_prob) return lp_tape_status(ppo->tape);
    scatter(part, lp_f32(said.log_prob), r->log_prob);
    scatter(part, lp_f32(said.value), r->value);
    const float* h = full ? keep(ppo, said.states) : NULL;
    lp_tape_reset(ppo->tape);
    const lp__said ref = lp__part_forward(ppo, ppo->reference, part, LP__ASK_LOG_PROB);
    if (!ref.log_prob) return lp_tape_status(ppo->tape);
    scatter(part, lp_f32(ref.log_prob), r->ref_log_prob);
    if (!full) return LP_OK;
    const float* h_ref = keep(ppo, ref.states);
    return h && h_ref ? full_kl(ppo, part, h, h_ref) : LP_NOMEM;
}

lp_status lp__ppo_score_pass(lp_ppo* ppo, const lp_generation* b) {
    for (int64_t i = 0; i < b->sequences; i++) ppo->rollout.order[i] = (int32_t)i;
    lp_status status = LP_OK;
    lp_tape_record(ppo->tape, false);
    for (int64_t i = 0; status == LP_OK && i < b->sequences;) {
        lp__part part;
        const int64_t n = lp__part_size(ppo, b, ppo->rollout.order + i, b->sequences - i);
        status = lp__part_build(ppo, b, ppo->rollout.order + i, n, &part);
        if (status == LP_OK) status = score_part(ppo, &part);
        i += n;
    }
    lp_tape_record(ppo->tape, true);
    return status;
}
