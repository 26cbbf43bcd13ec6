/* What may be wrong with the settings and the prompts of a generation. */
#include "lm/generate.h"

static lp_status check_length(const lp_model* m, const lp_generate_def* d) {
    lp_ctx* ctx = m->ctx;
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
    if (d->num_return_sequences < 1 || d->num_return_sequences > 1 << 24)
        return lp_fail(ctx, LP_INVALID, "num_return_sequences is %lld: it must lie in 1..%d",
                       (long long)d->num_return_sequences, 1 << 24);
    if (d->batch_size < 0 || d->batch_size > 1 << 16)
        return lp_fail(ctx, LP_INVALID, "batch_size is %lld: it must lie in 0..%d",
                       (long long)d->batch_size, 1 << 16);
    return LP_OK;
}

static lp_status check_sampling(lp_ctx* ctx, const lp_generate_def* d) {
    if (!(d->temperature == 0 || (d->temperature >= 1e-4 && d->temperature <= 1e6)))
        return lp_fail(ctx, LP_INVALID,
                       "temperature is %g: it must be 0 (the most likely token) or in [1e-4, 1e6]",
                       d->temperature);
    if (!(d->top_p > 0 && d->top_p <= 1))
        return lp_fail(ctx, LP_INVALID, "top_p is %g: it must lie in (0, 1]", d->top_p);
    if (!(d->min_p >= 0 && d->min_p <= 1))
        return lp_fail(ctx, LP_INVALID, "min_p is %g: it must lie in [0, 1]", d->min_p);
    if (d->top_k < 0)
        return lp_fail(ctx, LP_INVALID, "top_k is %lld: it must not be negative",
                       (long long)d->top_k);
    return LP_OK;
}

static lp_status check_ids(const lp_model* m, const char* name, int64_t count, const int32_t* ids) {
    if (count < 0 || count > m->shape.vocab)
        return lp_fail(m->ctx, LP_INVALID,
                       "%lld %s: it must be 0..%lld, the size of the vocabulary", (long long)count,
                       name, (long long)m->shape.vocab);
    if (!LP__REQUIRE(m->ctx, count == 0 || ids, "a list of tokens is NULL")) return LP_INVALID;
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= m->shape.vocab)
            return lp_fail(m->ctx, LP_INVALID, "%s has %d: tokens are 0..%lld", name, (int)ids[i],
                           (long long)m->shape.vocab - 1);
    }
    return LP_OK;
}

static lp_status check_stops(lp_ctx* ctx, const lp_generate_def* d) {
    if (d->stop_count < 0 || d->stop_count > LP__STOP_STRINGS)
        return lp_fail(ctx, LP_INVALID, "%d stop strings: it must be 0..%d", d->stop_count,
                       (int)LP__STOP_STRINGS);
    if (!LP__REQUIRE(ctx, d->stop_count == 0 || d->stop, "the list of stop strings is NULL"))
        return LP_INVALID;
    for (int i = 0; i < d->stop_count; i++) {
        if (!LP__REQUIRE(ctx, d->stop[i], "a stop string is NULL")) return LP_INVALID;
        const size_t bytes = strnlen(d->stop[i], LP__STOP_BYTES + 1);
        if (bytes == 0)
            return lp_fail(ctx, LP_INVALID,
                           "stop string %d is empty: every text would end at once; leave it out",
                           i + 1);
        if (bytes > LP__STOP_BYTES)
            return lp_fail(ctx, LP_INVALID, "stop string %d has more than %d bytes", i + 1,
                           (int)LP__STOP_BYTES);
        const int64_t wrong = lp__utf8_error(d->stop[i], bytes);
        if (wrong >= 0)
            return lp_fail(ctx, LP_INVALID, "stop string %d: invalid UTF-8 at byte %lld", i + 1,
                           (long long)wrong + 1);
    }
    return LP_OK;
}

static lp_status check_def(const lp_model* m, const lp_generate_def* d) {
    lp_ctx* ctx = m->ctx;
    if (!LP__REQUIRE(ctx, d && d->cookie == LP__GENERATE_COOKIE,
                     "begin with lp_generate_def_default"))
        return LP_INVALID;
    lp_status status = check_sampling(ctx, d);
    if (status == LP_OK) status = check_length(m, d);
    if (status == LP_OK) status = check_stops(ctx, d);
    if (status == LP_OK)
        status = check_ids(m, "suppress_tokens", d->suppress_count, d->suppress_tokens);
    if (status == LP_OK) status = check_ids(m, "stop_tokens", d->stop_token_count, d->stop_tokens);
    if (status != LP_OK) return status;
    int64_t ends;
    lp_tokenizer_ends(m->tokenizer, &ends);
    /* Names that come twice are counted twice: it takes a strange list to be refused for that. */
    if (d->suppress_count + (d->min_new_tokens > 0 ? ends + d->stop_token_count : 0) >=
        m->shape.vocab)
        return lp_fail(
            ctx, LP_INVALID,
            "suppress_tokens, and what min_new_tokens keeps from ending a response, leave "
            "no token of the vocabulary to draw");
    return LP_OK;
}

static lp_status check_prompt(const lp_model* m, int64_t max_new, int64_t i, int64_t length,
                              const int32_t* tokens) {
    if (length > m->shape.context - max_new)
        return lp_fail(m->ctx, LP_INVALID,
                       "prompt %lld has %lld tokens and max_new_tokens is %lld: together more "
                       "than the context of %lld; shorten one of them",
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

lp_status lp_generate_check(const lp_model* m, const lp_generate_def* def, int64_t prompts,
                            const int64_t* offsets, const int32_t* tokens) {
    lp_status status = check_def(m, def);
    if (status != LP_OK || prompts == 0) return status;
    if (prompts < 0 || prompts > (1 << 24) / def->num_return_sequences)
        return lp_fail(m->ctx, LP_INVALID,
                       "%lld prompts, %lld sequences for each at once: there must be 0..%d "
                       "sequences in all",
                       (long long)prompts, (long long)def->num_return_sequences, 1 << 24);
    if (!LP__REQUIRE(m->ctx, offsets && tokens && offsets[0] >= 0,
                     "prompts need tokens and offsets into them"))
        return LP_INVALID;
    for (int64_t i = 0; status == LP_OK && i < prompts; i++) {
        if (offsets[i + 1] <= offsets[i])
            return lp_fail(m->ctx, LP_INVALID, "prompt %lld is empty", (long long)i + 1);
        status = check_prompt(m, def->max_new_tokens, i, offsets[i + 1] - offsets[i],
                              tokens + offsets[i]);
    }
    return status;
}
