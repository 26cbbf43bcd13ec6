/* The arithmetic of PPO beside TRL 0.11.4's own code (tests/oracles/trl_ppo_fixtures.py): 1e-5 in
 * float. */
#include "json.h"

#include <logpi/pg.h>

enum { ROOM = 256 };
static const double TOLERANCE = 1e-5;

/* |a - b| <= 1e-5 max(1, |b|) */
static void same(const char* what, const char* which, const float* got, const double* want,
                 int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - want[i]) / fmax(1.0, fabs(want[i]));
        if (!(error <= TOLERANCE) && !(isnan((double)got[i]) && isnan(want[i])))
            fail_msg("%s, %s[%d]: %.9g, TRL %.9g", which, what, (int)i, (double)got[i], want[i]);
    }
}

/* One case: its arrays, ragged. */
typedef struct ppo_case {
    const char* name;
    int64_t sequences, n, offsets[32];
    double scores[32], kl_coef, gamma, lambda, clip, clip_value, vf_coef, threshold;
    bool whiten_rewards;
    lp_kl_penalty penalty;
    float old_log_prob[ROOM], ref_log_prob[ROOM], old_value[ROOM];
    float kl[ROOM], reward[ROOM], advantage[ROOM], returns[ROOM];
    float new_log_prob[ROOM], new_value[ROOM], entropy[ROOM], token[ROOM];
    float new_logits[ROOM * 16]; /* [n, vocab] */
    int64_t vocab;
} ppo_case;

static lp_kl_penalty penalty_of(const char* name) {
    static const char* const names[] = {"kl", "abs", "mse", "full"};
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) return (lp_kl_penalty)i;
    }
    fail_msg("unknown penalty %s", name);
    return LP_KL_K1;
}

static void read_case(json_t* json, ppo_case* c) {
    json_t *config = json_at(json, "config"), *inputs = json_at(json, "inputs");
    double lengths[32];
    *c = (ppo_case){.name = json_string_value(json_at(json, "name"))};
    c->sequences = json_flatten(json_at(json, "response_lens"), lengths, 32);
    for (int64_t i = 0; i < c->sequences; i++)
        c->offsets[i + 1] = c->offsets[i] + (int64_t)lengths[i];
    c->n = c->offsets[c->sequences];
    json_flatten(json_at(json, "scores"), c->scores, 32);
    c->kl_coef = json_real_at(config, "init_kl_coef");
    c->gamma = json_real_at(config, "gamma");
    c->lambda = json_real_at(config, "lam");
    c->clip = json_real_at(config, "cliprange");
    c->clip_value = json_real_at(config, "cliprange_value");
    c->vf_coef = json_real_at(config, "vf_coef");
    c->threshold = json_real_at(config, "ratio_threshold");
    c->whiten_rewards = json_is_true(json_at(config, "whiten_rewards"));
    c->penalty = penalty_of(json_string_value(json_at(config, "kl_penalty")));
    assert_int_equal(json_floats(json_at(inputs, "logprobs"), c->old_log_prob, ROOM), c->n);
    assert_int_equal(json_floats(json_at(inputs, "ref_logprobs"), c->ref_log_prob, ROOM), c->n);
    assert_int_equal(json_floats(json_at(inputs, "values"), c->old_value, ROOM), c->n);
    assert_int_equal(json_floats(json_at(inputs, "new_values"), c->new_value, ROOM), c->n);
}

/* log softmax at the response tokens and entropies, from the fixture's new logits; full KL from
 * those of policy and reference. */
static void log_probs_of_logits(lp_ctx* ctx, json_t* json, ppo_case* c, float* full) {
    json_t* inputs = json_at(json, "inputs");
    static double z[ROOM * 16];
    double tokens[ROOM];
    json_flatten(json_at(inputs, "tokens"), tokens, ROOM);
    lp_tape* t = lp_tape_create(ctx, LP_F64);
    const int64_t numbers = json_flatten(json_at(inputs, "new_logits"), z, ROOM * 16),
                  vocab = numbers / c->n;
    lp_tensor log_p = lp_log_softmax(t, lp_const_f64(t, c->n, vocab, z));
    lp_tensor entropy = lp_entropy(t, lp_categorical(t, lp_const_f64(t, c->n, vocab, z)));
    for (int64_t i = 0; i < c->n; i++) {
        c->new_log_prob[i] = (float)lp_at(log_p, i, (int64_t)tokens[i]);
        c->entropy[i] = (float)lp_at(entropy, i, 0);
        c->token[i] = (float)tokens[i];
    }
    c->vocab = vocab;
    for (int64_t i = 0; i < numbers; i++) c->new_logits[i] = (float)z[i];
    if (c->penalty == LP_KL_FULL) {
        json_flatten(json_at(inputs, "old_logits"), z, ROOM * 16);
        lp_dist p = lp_categorical(t, lp_const_f64(t, c->n, vocab, z));
        json_flatten(json_at(inputs, "ref_logits"), z, ROOM * 16);
        lp_tensor kl = lp_kl(t, p, lp_categorical(t, lp_const_f64(t, c->n, vocab, z)));
        for (int64_t i = 0; i < c->n; i++) full[i] = (float)lp_at(kl, i, 0);
    }
    lp_tape_destroy(t);
}

static void compare(json_t* per_token, const ppo_case* c, const char* what, const float* got) {
    double want[ROOM];
    assert_int_equal(json_flatten(json_at(per_token, what), want, ROOM), c->n);
    same(what, c->name, got, want, c->n);
}

static void take(const ppo_case* c, const float* from, json_t* rows, float* to) {
    int64_t at = 0;
    size_t i;
    json_t* row;
    json_array_foreach(rows, i, row) {
        const int64_t s = json_integer_value(row);
        for (int64_t j = c->offsets[s]; j < c->offsets[s + 1]; j++) to[at++] = from[j];
    }
}

/* The arrays of a minibatch, from those of the case. */
typedef struct minibatch {
    int64_t n;
    float old_log_prob[ROOM], old_value[ROOM], advantage[ROOM], returns[ROOM];
    float log_prob[ROOM], value[ROOM], entropy[ROOM], token[ROOM];
    double logits[ROOM * 16];
} minibatch;

static void take_minibatch(const ppo_case* c, json_t* rows, minibatch* m) {
    const struct {
        const float* from;
        float* to;
    } arrays[] = {{c->old_log_prob, m->old_log_prob}, {c->old_value, m->old_value},
                  {c->advantage, m->advantage},       {c->returns, m->returns},
                  {c->new_log_prob, m->log_prob},     {c->new_value, m->value},
                  {c->entropy, m->entropy},           {c->token, m->token}};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        take(c, arrays[i].from, rows, arrays[i].to);
    m->n = 0;
    size_t i;
    json_t* row;
    json_array_foreach(rows, i, row) {
        const int64_t s = json_integer_value(row);
        for (int64_t j = c->offsets[s]; j < c->offsets[s + 1]; j++, m->n++) {
            for (int64_t k = 0; k < c->vocab; k++)
                m->logits[m->n * c->vocab + k] = (double)c->new_logits[j * c->vocab + k];
        }
    }
}

static void compare_grad(const char* what, const ppo_case* c, lp_tensor x, json_t* list) {
    static double want[ROOM * 16];
    static float got[ROOM * 16];
    const int64_t n = json_flatten(list, want, ROOM * 16);
    assert_int_equal(n, x->rows * x->cols);
    for (int64_t i = 0; i < n; i++) got[i] = (float)lp_grad_at(x, 0, i);
    if (isfinite(want[0])) same(what, c->name, got, want, n);
}

/* One minibatch: loss, gradients to the log-probabilities, values and logits, statistics. Above the
 * ratio threshold TRL multiplies the loss by 0 and keeps the other statistics; that is the
 * trainer's part. */
static void check_minibatch(lp_ctx* ctx, const ppo_case* c, json_t* b, int* above) {
    static minibatch m;
    double wide[ROOM];
    int32_t token[ROOM];
    take_minibatch(c, json_at(b, "rows"), &m);
    const int64_t n = m.n;
    const lp_ppo_loss_def def = {c->clip,        c->clip_value, c->vf_coef,  (double)n,
                                 m.old_log_prob, m.old_value,   m.advantage, m.returns};
    lp_ppo_sums sums = {0};
    const int64_t part = n / 2; /* in two parts: sums go on */
    lp_ppo_sums_add(&sums, part, m.log_prob, m.value, m.entropy, &def);
    const lp_ppo_loss_def rest = {c->clip,
                                  c->clip_value,
                                  c->vf_coef,
                                  (double)n,
                                  m.old_log_prob + part,
                                  m.old_value + part,
                                  m.advantage + part,
                                  m.returns + part};
    lp_ppo_sums_add(&sums, n - part, m.log_prob + part, m.value + part, m.entropy + part, &rest);
    const bool skipped = sums.ratio / (double)n > c->threshold;
    *above += skipped;
    lp_tape* t = lp_tape_create(ctx, LP_F32);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)m.log_prob[i];
    lp_tensor lp = lp_input_f64(t, n, 1, wide);
    for (int64_t i = 0; i < n; i++) wide[i] = (double)m.value[i];
    lp_tensor v = lp_input_f64(t, n, 1, wide);
    lp_tensor loss = lp_ppo_loss(t, lp, v, &def);
    assert_int_equal(lp_backward(t, loss), LP_OK);
    if (skipped) {
        json_t* zeros[] = {json_at(b, "grad_new_logprobs"), json_at(b, "grad_new_values"),
                           json_at(b, "grad_new_logits")};
        for (int i = 0; i < 3; i++) {
            static double want[ROOM * 16];
            const int64_t count = json_flatten(zeros[i], want, ROOM * 16);
            for (int64_t j = 0; j < count; j++) assert_close(want[j], 0.0, 0.0);
        }
    } else {
        compare_grad("gradient of log-probabilities", c, lp, json_at(b, "grad_new_logprobs"));
        compare_grad("gradient of values", c, v, json_at(b, "grad_new_values"));
        lp_tape* wider = lp_tape_create(ctx, LP_F64); /* and through the softmax */
        lp_tensor logits = lp_input_f64(wider, n, c->vocab, m.logits);
        for (int64_t i = 0; i < n; i++) token[i] = (int32_t)m.token[i];
        lp_tensor picked =
            lp_log_prob(wider, lp_categorical(wider, logits), lp_const_i32(wider, n, 1, token));
        lp_tensor again = lp_ppo_loss(wider, picked, lp_const_f32(wider, n, 1, m.value), &def);
        assert_int_equal(lp_backward(wider, again), LP_OK);
        compare_grad("gradient of logits", c, logits, json_at(b, "grad_new_logits"));
        lp_tape_destroy(wider);
    }
    const double count = (double)n, loss_scale = skipped ? 0.0 : 1.0;
    const struct {
        const char* name;
        double value;
    } table[] = {{"loss/policy", loss_scale * sums.policy_loss / count},
                 {"loss/value", loss_scale * sums.value_loss / count},
                 {"loss/total", loss_scale * lp_item(loss)},
                 {"policy/entropy", sums.entropy / count},
                 {"policy/approxkl", sums.approx_kl / count},
                 {"policy/policykl", sums.policy_kl / count},
                 {"policy/clipfrac", sums.clipped / count},
                 {"policy/advantages_mean", sums.advantage / count},
                 {"returns/mean", sums.returns.mean},
                 {"returns/var", lp_spread_var(&sums.returns)},
                 {"val/vpred", sums.new_value / count},
                 {"val/error", sums.value_error / count},
                 {"val/clipfrac", sums.value_clipped / count},
                 {"val/mean", sums.value.mean},
                 {"val/var", lp_spread_var(&sums.value)}};
    json_t* stats = json_at(b, "stats");
    assert_int_equal(json_object_size(stats), sizeof table / sizeof *table);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const float got = (float)table[i].value;
        const double trl = json_real_at(stats, table[i].name);
        /* with one token in the whole batch TRL's advantage is NaN, logpi's is 0 */
        if (!isnan(trl) || c->n > 1) same(table[i].name, c->name, &got, &trl, 1);
    }
    lp_tape_destroy(t);
}

static void cases(void** state) {
    (void)state;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    json_t *root = fixture_load("trl_ppo.json"), *json, *b;
    size_t i, j;
    int minibatches = 0, above = 0;
    json_array_foreach(json_at(root, "cases"), i, json) {
        static ppo_case c;
        static float full[ROOM];
        read_case(json, &c);
        log_probs_of_logits(ctx, json, &c, full);
        json_t* per_token = json_at(json, "per_token");
        lp_kl_per_token(c.penalty, c.n, c.old_log_prob, c.ref_log_prob, full, c.kl);
        compare(per_token, &c, "kls", c.kl);
        const double nothing[32] = {0};
        lp_token_rewards(c.sequences, c.offsets, c.kl, c.kl_coef, nothing, c.reward);
        compare(per_token, &c, "non_score_reward", c.reward);
        lp_token_rewards(c.sequences, c.offsets, c.kl, c.kl_coef, c.scores, c.reward);
        compare(per_token, &c, "rewards", c.reward);
        if (c.whiten_rewards) lp_whiten(c.n, c.reward, false);
        lp_gae(c.sequences, c.offsets, c.reward, c.old_value, c.gamma, c.lambda, c.advantage,
               c.returns);
        compare(per_token, &c, "returns", c.returns);
        lp_whiten(c.n, c.advantage, true);
        if (c.n > 1) {
            compare(per_token, &c, "advantages", c.advantage);
        } else {
            assert_close(c.advantage[0], 0.0, 0.0); /* TRL: NaN */
        }
        json_array_foreach(json_at(json, "minibatches"), j, b) {
            check_minibatch(ctx, &c, b, &above);
            minibatches++;
        }
    }
    assert_true(i >= 14);
    assert_true(minibatches >= 18);
    assert_int_equal(above, 1); /* one is made so */
    json_decref(root);
    lp_ctx_destroy(ctx);
}

static void controllers(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_ppo.json"), *c;
    size_t i;
    json_array_foreach(json_at(root, "controllers"), i, c) {
        double kl[ROOM], want[ROOM], coef = json_real_at(c, "init_kl_coef");
        const int64_t n = json_flatten(json_at(c, "kl"), kl, ROOM);
        json_flatten(json_at(c, "kl_coef"), want, ROOM);
        for (int64_t j = 0; j < n; j++) {
            coef = lp_adaptive_kl(coef, kl[j], json_real_at(c, "target"),
                                  json_real_at(c, "n_steps"), json_real_at(c, "horizon"));
            assert_close(coef, want[j], 1e-12);
        }
    }
    json_decref(root);
}

static void whitening(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_ppo.json"), *f;
    size_t i;
    json_array_foreach(json_at(root, "functions"), i, f) {
        float x[ROOM], keep[ROOM];
        double want[ROOM];
        const int64_t n = json_floats(json_at(f, "x"), x, ROOM);
        json_floats(json_at(f, "x"), keep, ROOM);
        lp_whiten(n, x, true);
        json_flatten(json_at(f, "whiten"), want, ROOM);
        same("whiten", "functions", x, want, n);
        lp_whiten(n, keep, false);
        json_flatten(json_at(f, "whiten_keep_mean"), want, ROOM);
        same("whiten_keep_mean", "functions", keep, want, n);
    }
    json_decref(root);
}

/* entropy_from_logits */
static void entropies(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_ppo.json"), *f;
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    size_t i;
    json_array_foreach(json_at(root, "functions"), i, f) {
        double z[ROOM * 4], want[ROOM];
        const int64_t numbers = json_flatten(json_at(f, "logits"), z, ROOM * 4);
        const int64_t n = json_flatten(json_at(f, "entropy"), want, ROOM);
        for (int64_t j = 0; j < numbers; j++) z[j] = (double)(float)z[j]; /* they were float32 */
        lp_tape* t = lp_tape_create(ctx, LP_F64);
        lp_tensor entropy = lp_entropy(t, lp_categorical(t, lp_const_f64(t, n, numbers / n, z)));
        for (int64_t j = 0; j < n; j++) assert_close(lp_at(entropy, j, 0), want[j], 1e-12);
        lp_tape_destroy(t);
    }
    assert_true(i >= 1);
    lp_ctx_destroy(ctx);
    json_decref(root);
}

static void moments(void** state) {
    (void)state;
    json_t *root = fixture_load("trl_ppo.json"), *m;
    lp_moments running = lp_moments_start();
    size_t i;
    json_array_foreach(json_at(root, "running_moments"), i, m) {
        double scores[ROOM];
        const int64_t n = json_flatten(json_at(m, "scores"), scores, ROOM);
        lp_moments_add(&running, n, scores);
        assert_close(running.mean, json_real_at(m, "mean"), 1e-5);
        assert_close(running.std, json_real_at(m, "std"), 1e-5);
        assert_close(running.count, json_real_at(m, "count"), 1e-9);
    }
    json_decref(root);
}

/* A single score has no deviation: it is left as it is, and not divided by infinity. */
static void one_score(void** state) {
    (void)state;
    lp_moments running = lp_moments_start();
    const double score = 3;
    lp_moments_add(&running, 1, &score);
    assert_close(running.mean, 3, 1e-12);
    assert_close(running.std, 1, 0);
    for (int i = 0; i < 3; i++) lp_moments_add(&running, 1, &score); /* nor have equal ones */
    assert_close(running.std, 1, 0);
    const double other = 5;
    lp_moments_add(&running, 1, &other);
    assert_close(running.std, sqrt(0.8), 1e-9);
    float one = 2.5f;
    lp_whiten(1, &one, false); /* its mean is put back */
    assert_close(one, 2.5, 0);
    lp_whiten(1, &one, true);
    assert_close(one, 0, 0);
}

/* Numbers that are large beside their spread keep it. */
static void spreads(void** state) {
    (void)state;
    lp_spread s = {0};
    assert_true(isnan(lp_spread_var(&s)));
    for (int i = 0; i < 3; i++) lp_spread_add(&s, 1e9 + i);
    assert_close(s.mean, 1e9 + 1, 0);
    assert_close(lp_spread_var(&s), 1, 1e-9);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(cases),     cmocka_unit_test(controllers),
                                       cmocka_unit_test(whitening), cmocka_unit_test(entropies),
                                       cmocka_unit_test(moments),   cmocka_unit_test(one_score),
                                       cmocka_unit_test(spreads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
