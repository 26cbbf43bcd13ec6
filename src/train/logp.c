/* What log pi of the trainers of language models is of: see lp_logp. */
#include "tensor/tape.h"
#include "train/pass.h"

lp_status lp__logp_check_def(lp_ctx* ctx, lp_logp logp, const lp_generate_def* d) {
    const lp__range range = {"logp", (double)logp, LP_LOGP_SAMPLED, LP_LOGP_RAW};
    const lp_status status = lp__ranges_check(ctx, &range, 1);
    if (status == LP_OK && logp == LP_LOGP_TEMPERED && d->temperature == 0)
        return lp_fail(ctx, LP_INVALID,
                       "logp is tempered, and the temperature 0: logits cannot be divided by it; "
                       "sample at a positive temperature, or let logp be sampled or raw");
    return status;
}

double lp__logp_temperature(lp_logp logp, const lp_generate_def* d) {
    return logp == LP_LOGP_RAW || d->temperature == 0 ? 1.0 : d->temperature;
}

/* Whether tokens are drawn from the whole vocabulary; the most likely one is, but for those that
 * are banned. */
static bool draws_from_all(const lp_generate_def* d) {
    return d->min_new_tokens == 0 && d->suppress_count == 0 &&
           (d->temperature == 0 || (d->top_k == 0 && d->top_p >= 1.0 && d->min_p == 0));
}

bool lp__logp_needs_sets(lp_logp logp, const lp_generate_def* d) {
    return logp == LP_LOGP_SAMPLED && !draws_from_all(d);
}

bool lp__logp_was_sampled(lp_logp logp, const lp_generate_def* d) {
    if (logp == LP_LOGP_SAMPLED) return true;
    const bool divided = d->temperature != 0 && d->temperature != 1.0;
    return draws_from_all(d) && (logp == LP_LOGP_TEMPERED || !divided);
}

/* Whether the entries of response token i are there, and tell a set that has it. */
static bool set_ok(const lp_generation* b, int64_t i, int64_t vocab) {
    const int64_t from = b->kept_offsets[i], to = b->kept_offsets[i + 1];
    if (from < 0 || from > to || to > b->kept.count) return false;
    return from == to || lp__kept_ok(to - from, b->kept.ids + from, vocab, b->responses.ids[i]);
}

lp_status lp__logp_check_batch(const lp__pass* pass, lp_logp logp, const lp_generate_def* d,
                               const lp_generation* b) {
    const int64_t vocab = lp_model_get_shape(pass->model).vocab;
    if (logp != LP_LOGP_SAMPLED) return LP_OK;
    if (!b->kept_offsets && lp__logp_needs_sets(logp, d))
        return lp_fail(pass->ctx, LP_INVALID,
                       "the batch does not say which tokens it was drawn from (kept_offsets is "
                       "NULL), though top_k, top_p, min_p, min_new_tokens or suppress_tokens leave "
                       "some out: log pi cannot be known; generate it by the trainer or with "
                       "keep_sets, or let logp be tempered or raw");
    for (int64_t s = 0; b->kept_offsets && s < b->sequences; s++) {
        for (int64_t i = b->response_offsets[s]; i < b->response_offsets[s + 1]; i++) {
            if (set_ok(b, i, vocab)) continue;
            return lp_fail(pass->ctx, LP_INVALID,
                           "the kept set of response token %lld of sequence %lld is none: it needs "
                           "ids of the vocabulary, rising, the token among them; or, as -1 - id, "
                           "rising ids without it",
                           (long long)(i - b->response_offsets[s]), (long long)s);
        }
    }
    return LP_OK;
}

double lp__ratio_dev(int64_t n, const float* log_prob, const float* old) {
    double dev = 0;
    for (int64_t i = 0; i < n; i++)
        dev = fmax(dev, fabs(exp((double)log_prob[i] - (double)old[i]) - 1.0));
    return dev;
}
