/* What log pi is of, in PPO and GRPO on the tiny model. Of what was sampled from: then the ratio of
 * sampling and learning is 1, exactly, whatever limits sampling, in any micro-batches, on any
 * number of threads, in both precisions, and the gradient is that of the expected reward, by
 * enumeration. Of the other distributions: beside a direct computation. What must be refused. */
#include "testing.h"

#include "base/base.h"
#include <logpi/train.h>

enum { PROMPTS = 3, GROUP = 4, SEQUENCES = PROMPTS * GROUP, NEW = 9, BANNED = 3 };

typedef struct rig {
    lp_ctx* ctx;
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* ppo; /* one of the two */
    lp_grpo* grpo;
    lp_prompts prompts;
    lp_generation batch;
    double rewards[SEQUENCES];
} rig;

static void no_assertion(void* user, const char* condition, const char* where,
                         const char* message) {
    (void)user;
    fail_msg("%s: %s (%s)", where, message, condition);
}

static const int32_t suppressed[BANNED] = {17, 300, 18};
static const struct mode {
    const char* name;
    double temperature, top_p, min_p;
    int64_t top_k, min_new_tokens, suppress;
} modes[] = {{"plain", 1, 1, 0, 0, 0, 0},
             {"temperature", 0.7, 1, 0, 0, 0, 0},
             {"top_k", 1, 1, 0, 20, 0, 0},
             {"top_p", 1.4, 0.8, 0, 0, 0, 0},
             {"min_p", 1, 1, 0.05, 0, 0, 0},
             {"min_new_tokens", 1, 1, 0, 0, 5, 0},
             {"suppressed tokens", 1.2, 1, 0, 0, 0, BANNED},
             {"all of them", 0.8, 0.9, 0.02, 100, 3, BANNED}};
enum { MODES = sizeof modes / sizeof *modes };

static void limit(lp_generate_def* def, const struct mode* m) {
    def->max_new_tokens = NEW;
    def->temperature = m->temperature;
    def->top_p = m->top_p;
    def->min_p = m->min_p;
    def->top_k = m->top_k;
    def->min_new_tokens = m->min_new_tokens;
    def->suppress_count = m->suppress;
    def->suppress_tokens = suppressed;
}

/* How a trainer is made; every one takes the same batches. */
typedef struct way {
    bool grpo;
    int threads;
    int64_t micro_batch_size;
    lp_precision precision;
    lp_logp logp;
} way;

static lp_ppo_def ppo_settings(const way* w, const struct mode* m) {
    lp_ppo_def def = lp_ppo_def_default();
    def.learning_rate = 1e-3;
    def.mini_batch_size = 6;
    def.ppo_epochs = 2;
    def.seed = 3;
    def.logp = w->logp;
    def.micro_batch_size = w->micro_batch_size;
    limit(&def.generate, m);
    return def;
}
static lp_grpo_def grpo_settings(const way* w, const struct mode* m) {
    lp_grpo_def def = lp_grpo_def_default();
    def.num_generations = GROUP;
    def.num_iterations = 2;
    def.learning_rate = 1e-3;
    def.beta = 0.04;
    def.exact_kl = true;
    def.seed = 3;
    def.logp = w->logp;
    def.micro_batch_size = w->micro_batch_size;
    limit(&def.generate, m);
    return def;
}

static void load(rig* r, const way* w) {
    static const char* const texts[PROMPTS] = {
        "One, two", "a much longer prompt, of quite a few more tokens", "x"};
    memset(r, 0, sizeof *r);
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = w->threads;
    def.assertion = no_assertion;
    r->ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(r->ctx);
    assert_int_equal(lp_model_open(r->ctx, LP_MODELS "/tiny.gguf", &r->model), LP_OK);
    assert_int_equal(lp_model_load_weights(r->model, true, &r->policy), LP_OK);
    assert_int_equal(lp_weights_clone(r->policy, false, &r->reference), LP_OK);
    lp_weights_set_precision(r->policy, w->precision);
    lp_weights_set_precision(r->reference, w->precision);
    for (int i = 0; i < (w->grpo ? PROMPTS : SEQUENCES); i++)
        assert_int_equal(lp_prompts_add(r->ctx, &r->prompts, r->model, texts[i % PROMPTS], false),
                         LP_OK);
    for (int i = 0; i < SEQUENCES; i++) r->rewards[i] = i % 3 == 0;
}

static void set_up(rig* r, const way* w, const struct mode* m) {
    load(r, w);
    const lp_ppo_def ppo = ppo_settings(w, m);
    const lp_grpo_def grpo = grpo_settings(w, m);
    assert_int_equal(w->grpo ? lp_grpo_create(r->model, r->policy, r->reference, &grpo, &r->grpo)
                             : lp_ppo_create(r->model, r->policy, r->reference, &ppo, &r->ppo),
                     LP_OK);
}

static void generate(rig* r) {
    assert_int_equal(r->grpo ? lp_grpo_generate(r->grpo, &r->prompts, &r->batch)
                             : lp_ppo_generate(r->ppo, &r->prompts, &r->batch),
                     LP_OK);
    assert_int_equal(r->batch.sequences, SEQUENCES);
}

/* What a step logs that is looked at here. */
typedef struct said {
    double ratio_max_dev, kl, clipped, entropy;
} said;
static lp_status try_step(rig* r, said* s) {
    lp_grpo_metrics g = {0};
    lp_ppo_metrics p = {0};
    const lp_status status = r->grpo ? lp_grpo_step(r->grpo, &r->batch, r->rewards, &g)
                                     : lp_ppo_step(r->ppo, &r->batch, r->rewards, NULL, &p);
    *s = r->grpo ? (said){g.ratio_max_dev, g.kl_exact, g.clip_region_mean, g.entropy}
                 : (said){p.ratio_max_dev, p.objective_kl, p.policy_clipfrac, p.policy_entropy};
    return status;
}
static said step(rig* r) {
    said s;
    const lp_status status = try_step(r, &s);
    if (status != LP_OK) fail_msg("%s", lp_error(r->ctx));
    return s;
}

/* Of each response token, old policy and reference. */
static const float* old_log_probs(const rig* r) {
    return r->grpo ? lp_grpo_last_dists(r->grpo).old_log_probs
                   : lp_ppo_last_dists(r->ppo).log_probs;
}
static const float* ref_log_probs(const rig* r) {
    return r->grpo ? lp_grpo_last_dists(r->grpo).ref_log_probs
                   : lp_ppo_last_dists(r->ppo).ref_log_probs;
}

/* FNV-1a over all numbers of the policy */
static uint64_t digest(const rig* r) {
    const lp_params* params = lp_weights_params(r->policy);
    uint64_t hash = 0xcbf29ce484222325u;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        lp_tensor x = lp_params_get(params, i);
        const uint8_t* bytes = x->data;
        for (size_t j = 0; j < (size_t)(x->rows * x->cols) * sizeof(float); j++)
            hash = (hash ^ bytes[j]) * 0x100000001b3u;
    }
    return hash;
}

/* ---- sampled --------------------------------------------------------------------------------- */

/* Two steps; the first from a policy that is its reference. */
static uint64_t two_steps(const way* w, const struct mode* m) {
    rig r;
    set_up(&r, w, m);
    for (int i = 0; i < 2; i++) {
        generate(&r);
        const size_t bytes = (size_t)r.batch.responses.count * sizeof(float);
        const said s = step(&r);
        if (s.ratio_max_dev != 0)
            fail_msg("%s, %s, %d threads: ratio_max_dev is %g", m->name, w->grpo ? "grpo" : "ppo",
                     w->threads, s.ratio_max_dev);
        assert_memory_equal(old_log_probs(&r), r.batch.log_probs, bytes);
        if (i > 0) continue;
        assert_memory_equal(ref_log_probs(&r), r.batch.log_probs, bytes);
        assert_close(s.kl, 0.0, 0.0);
    }
    const uint64_t hash = digest(&r);
    lp_ctx_destroy(r.ctx);
    return hash;
}

static void ratios_are_one(void** state) {
    (void)state;
    static const struct {
        int threads;
        int64_t micro;
    } ways[] = {{1, 0}, {3, 1}, {2, 5}, {1, 7}};
    for (int kind = 0; kind < 4; kind++) {
        way w = {.grpo = kind % 2, .precision = kind < 2 ? LP_FLOAT32 : LP_BFLOAT16};
        for (int i = 0; i < MODES; i++) {
            uint64_t want = 0;
            for (int k = 0; k < 4; k++) {
                if (k > 0 && k != 1 + i % 3) continue; /* each mode in two ways */
                w.threads = ways[k].threads;
                w.micro_batch_size = ways[k].micro;
                const uint64_t hash = two_steps(&w, &modes[i]);
                if (k == 0) want = hash;
                assert_true(hash == want);
            }
        }
    }
}

/* A log-probability that is another one is noticed, also on a kept set. */
static void a_stale_batch_shows(void** state) {
    (void)state;
    for (int grpo = 0; grpo < 2; grpo++) {
        rig r;
        const way w = {.grpo = grpo, .threads = 1};
        set_up(&r, &w, &modes[MODES - 1]);
        generate(&r);
        r.batch.log_probs[5] -= 0.125f;
        assert_close(step(&r).ratio_max_dev, exp(0.125) - 1, 1e-5);
        lp_ctx_destroy(r.ctx);
    }
}

/* The most likely token: log pi is as at temperature 1, without what is banned. */
static void greedy(void** state) {
    (void)state;
    struct mode m = {"greedy", 0, 0.5, 0.5, 3, 0, BANNED};
    for (int banned = 0; banned < 2; banned++) {
        rig r;
        const way w = {.threads = 2};
        m.suppress = banned ? BANNED : 0;
        set_up(&r, &w, &m);
        generate(&r);
        assert_true((r.batch.kept_offsets != NULL) == (banned == 1));
        assert_close(step(&r).ratio_max_dev, 0.0, 0.0);
        lp_ctx_destroy(r.ctx);
    }
}

/* ---- beside a direct computation ---------------------------------------------------------------
 */

static bool keeps(const lp_generation* b, int64_t i, int32_t token) {
    const int64_t from = b->kept_offsets[i], to = b->kept_offsets[i + 1];
    const bool left_out = from == to || b->kept.ids[from] < 0;
    bool found = false;
    for (int64_t j = from; j < to; j++) found |= b->kept.ids[j] == (left_out ? -1 - token : token);
    return found != left_out;
}

/* log pi of response token i in double, from a row of logits z, and the entropy there. */
static double by_hand(const lp_generation* b, int64_t i, const float* z, int64_t vocab,
                      lp_logp logp, double temperature, double* entropy) {
    const double t = logp == LP_LOGP_RAW ? 1 : temperature;
    double sum = 0, mean = 0;
    for (int32_t j = 0; j < vocab; j++) {
        if (logp == LP_LOGP_SAMPLED && !keeps(b, i, j)) continue;
        sum += exp((double)z[j] / t);
        mean += exp((double)z[j] / t) * (double)z[j] / t;
    }
    *entropy = log(sum) - mean / sum;
    return (double)z[b->responses.ids[i]] / t - log(sum);
}

/* Fills log pi of all response tokens; returns the mean of the entropy. */
static double all_by_hand(const rig* r, lp_logp logp, double temperature, double* log_prob) {
    const lp_generation* b = &r->batch;
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    lp_tape_record(t, false);
    double entropy = 0;
    for (int64_t s = 0; s < b->sequences; s++) {
        const int64_t q = b->prompt_offsets[s + 1] - b->prompt_offsets[s];
        const int64_t first = b->response_offsets[s], n = b->response_offsets[s + 1] - first;
        const int64_t offsets[] = {0, q + n};
        int32_t tokens[256];
        memcpy(tokens, b->prompts.ids + b->prompt_offsets[s], (size_t)q * sizeof *tokens);
        memcpy(tokens + q, b->responses.ids + first, (size_t)n * sizeof *tokens);
        const lp_batch text = {.sequences = 1, .offsets = offsets, .tokens = tokens};
        lp_tape_reset(t);
        lp_tensor z = lp_model_logits(t, r->policy, lp_model_hidden(t, r->model, r->policy, &text));
        for (int64_t i = 0; i < n; i++) {
            double e;
            log_prob[first + i] = by_hand(b, first + i, lp_f32(z) + (q - 1 + i) * z->cols, z->cols,
                                          logp, temperature, &e);
            entropy += e / (double)b->responses.count;
        }
    }
    lp_tape_destroy(t);
    return entropy;
}

/* Old and reference log-probabilities and the entropy, at a learning rate of 0, in each convention;
 * and whether they are compared with those of sampling. */
static void conventions(void** state) {
    (void)state;
    static const struct mode mixed = {"mixed", 0.7, 1, 0, 30, 2, 0};
    const struct mode* const chosen[] = {&modes[0], &modes[1], &mixed};
    static const bool compared[3][3] = {{1, 1, 1}, {1, 1, 0}, {1, 0, 0}}; /* mode, logp */
    for (int kind = 0; kind < 18; kind++) {
        const way w = {.grpo = kind % 2, .threads = 2, .logp = (lp_logp)(kind / 2 % 3)};
        const struct mode* m = chosen[kind / 6];
        rig r;
        double want[SEQUENCES * NEW];
        load(&r, &w);
        lp_ppo_def ppo = ppo_settings(&w, m);
        lp_grpo_def grpo = grpo_settings(&w, m);
        ppo.learning_rate = grpo.learning_rate = 0;
        ppo.generate.keep_sets = grpo.generate.keep_sets = true; /* also where they are not used */
        if (w.grpo)
            assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &grpo, &r.grpo), LP_OK);
        else
            assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &ppo, &r.ppo), LP_OK);
        generate(&r);
        const double entropy = all_by_hand(&r, w.logp, m->temperature, want);
        const said s = step(&r);
        for (int64_t i = 0; i < r.batch.responses.count; i++) {
            assert_close(old_log_probs(&r)[i], want[i], 2e-5);
            assert_true(old_log_probs(&r)[i] == ref_log_probs(&r)[i]);
        }
        if (w.grpo) assert_close(s.entropy, entropy, 1e-4);
        assert_close(s.clipped, 0.0, 0.0);
        if (compared[kind / 6][w.logp])
            assert_close(s.ratio_max_dev, 0.0, 0.0);
        else
            assert_true(isnan(s.ratio_max_dev));
        lp_ctx_destroy(r.ctx);
    }
}

/* ---- the gradient of the expected reward -------------------------------------------------------
 */

enum { KEPT = 3, PAIRS = KEPT * KEPT };
static const double SAMPLING_T = 0.7;

/* Logits after a prompt and `more` tokens, [1, vocab], on the tape. */
static lp_tensor logits_after(const rig* r, lp_tape* t, const int32_t* more, int64_t count) {
    int32_t tokens[64];
    const int64_t n = r->prompts.offsets[1];
    memcpy(tokens, r->prompts.tokens.ids, (size_t)n * sizeof *tokens);
    if (count > 0) memcpy(tokens + n, more, (size_t)count * sizeof *tokens);
    const int64_t offsets[] = {0, n + count};
    const lp_batch text = {.sequences = 1, .offsets = offsets, .tokens = tokens};
    const int32_t last = (int32_t)(n + count - 1);
    lp_tensor h = lp_model_hidden(t, r->model, r->policy, &text);
    return lp_model_logits(t, r->policy, lp_rows(t, h, lp_const_i32(t, 1, 1, &last)));
}

/* The ids of the KEPT largest of a row, rising. */
static void largest(lp_tensor z, int32_t* ids) {
    bool taken[1024] = {0};
    assert_true(z->cols <= 1024);
    for (int k = 0; k < KEPT; k++) {
        int64_t best = -1;
        for (int64_t j = 0; j < z->cols; j++)
            if (!taken[j] && (best < 0 || lp_at(z, 0, j) > lp_at(z, 0, best))) best = j;
        taken[best] = true;
    }
    for (int32_t j = 0, k = 0; j < z->cols; j++)
        if (taken[j]) ids[k++] = j;
}

/* Log-probabilities of the tokens ids, [1, KEPT], of softmax(z / T) on them alone, by small ops. */
static lp_tensor log_pi(lp_tape* t, lp_tensor z, const int32_t* ids) {
    lp_tensor some = lp_rows(t, lp_transpose(t, z), lp_const_i32(t, KEPT, 1, ids));
    return lp_log_softmax(t, lp_scale(t, lp_transpose(t, some), 1 / SAMPLING_T));
}

/* The policy of two tokens, each from the three most likely. */
typedef struct tree {
    int32_t first[KEPT], second[KEPT][KEPT];
    double p[PAIRS], reward[PAIRS], value; /* value: the expected reward */
} tree;

/* The expected reward as a function of the weights, [1, 1], and its gradient in them. */
static void enumerate(const rig* r, tree* tr) {
    lp_tape* t = lp_tape_create(r->ctx, LP_F32);
    lp_tensor z = logits_after(r, t, NULL, 0), value = NULL;
    largest(z, tr->first);
    lp_tensor one = log_pi(t, z, tr->first);
    for (int32_t a = 0; a < KEPT; a++) {
        lp_tensor after = logits_after(r, t, &tr->first[a], 1);
        largest(after, tr->second[a]);
        lp_tensor two = log_pi(t, after, tr->second[a]);
        lp_tensor p = lp_exp(t, lp_add(t, two, lp_pick(t, one, lp_const_i32(t, 1, 1, &a))));
        float rewards[KEPT];
        for (int b = 0; b < KEPT; b++) {
            tr->reward[a * KEPT + b] = (double)(rewards[b] = (float)((7 * a + 5 * b) % 4));
            tr->p[a * KEPT + b] = lp_at(p, 0, b);
        }
        lp_tensor sum = lp_sum(t, lp_mul(t, p, lp_const_f32(t, 1, KEPT, rewards)));
        value = value ? lp_add(t, value, sum) : sum;
    }
    tr->value = lp_item(value);
    assert_int_equal(lp_backward(t, value), LP_OK);
    lp_tape_destroy(t);
}

/* All pairs as a batch of one group, with the sets that they are drawn from; one of them told by
 * what it lacks. */
static void all_pairs(const rig* r, const tree* tr, lp_generation* b) {
    static int64_t prompts[PAIRS + 1], responses[PAIRS + 1], kept[2 * PAIRS + 1];
    const int64_t n = r->prompts.offsets[1], vocab = lp_model_get_shape(r->model).vocab;
    *b = (lp_generation){.sequences = PAIRS,
                         .prompt_offsets = prompts,
                         .response_offsets = responses,
                         .kept_offsets = kept};
    for (int s = 0; s < PAIRS; s++) {
        const int32_t* sets[2] = {tr->first, tr->second[s / KEPT]};
        const int32_t tokens[2] = {tr->first[s / KEPT], tr->second[s / KEPT][s % KEPT]};
        assert_int_equal(lp_token_list_add(r->ctx, &b->prompts, r->prompts.tokens.ids, n), LP_OK);
        assert_int_equal(lp_token_list_add(r->ctx, &b->responses, tokens, 2), LP_OK);
        prompts[s + 1] = b->prompts.count;
        responses[s + 1] = b->responses.count;
        for (int i = 0; i < 2; i++) {
            for (int32_t j = 0, at = 0; j < (s == 4 ? vocab : KEPT); j++) {
                const bool in = at < KEPT && sets[i][at] == j;
                const int32_t entry = s == 4 ? -1 - j : sets[i][j];
                at += in;
                if (s != 4 || !in)
                    assert_int_equal(lp_token_list_add(r->ctx, &b->kept, &entry, 1), LP_OK);
            }
            kept[2 * s + i + 1] = b->kept.count;
        }
    }
}

/* All numbers of the policy. */
enum { NUMBERS = 1 << 18 };
static double old_weights[NUMBERS], new_weights[NUMBERS], gradient[NUMBERS];
static int64_t weights_copy(const rig* r, double* to) {
    const lp_params* params = lp_weights_params(r->policy);
    int64_t n = 0;
    for (int64_t i = 0; i < lp_params_count(params); i++) {
        lp_tensor x = lp_params_get(params, i);
        assert_true(n + x->rows * x->cols <= NUMBERS);
        for (int64_t j = 0; j < x->rows * x->cols; j++) to[n++] = lp_at(x, 0, j);
    }
    return n;
}

/* The gradient that is there, from a step down it, which is then taken back. */
static void gradient_step(const rig* r, const double* from, double* to) {
    lp_optim_def sgd = lp_optim_def_default(LP_SGD);
    lp_optim* optim;
    sgd.learning_rate = 1;
    assert_int_equal(lp_optim_create(lp_weights_params(r->policy), &sgd, &optim), LP_OK);
    assert_int_equal(lp_optim_savepoint(optim), LP_OK);
    assert_int_equal(lp_optim_step(optim, NULL), LP_OK);
    const int64_t n = weights_copy(r, to);
    for (int64_t i = 0; i < n; i++) to[i] = from[i] - to[i];
    lp_optim_rollback(optim);
    lp_optim_destroy(optim);
}

/* One GRPO update from every pair once, with advantages p (R - J) of their true weights, has the
 * gradient of J: sum_s p_s (R_s - J) grad log pi_s. An optimizer with a huge epsilon takes a step
 * of minus the gradient. The policy without its sets would not do. */
static void the_gradient_is_the_enumerated_one(void** state) {
    (void)state;
    double worst[2] = {0}, largest_grad = 0;
    for (int logp = LP_LOGP_SAMPLED; logp <= LP_LOGP_TEMPERED; logp++) {
        static const struct mode m = {"top_k", 0.7, 1, 0, KEPT, 0, 0};
        const way w = {.grpo = true, .threads = 2, .logp = (lp_logp)logp};
        rig r;
        tree tr;
        load(&r, &w);
        lp_grpo_def def = grpo_settings(&w, &m);
        def.num_generations = PAIRS;
        def.num_iterations = 1;
        def.beta = 0;
        def.scale_rewards = LP_SCALE_NONE;
        def.max_grad_norm = 0;
        def.learning_rate = def.adam_epsilon = 1e6;
        assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &def, &r.grpo), LP_OK);
        enumerate(&r, &tr);
        weights_copy(&r, old_weights);
        gradient_step(&r, old_weights, gradient);
        double total = 0, rewards[PAIRS];
        for (int s = 0; s < PAIRS; s++) {
            total += tr.p[s];
            rewards[s] = 2 * PAIRS * tr.p[s] * (tr.reward[s] - tr.value); /* of 2 PAIRS tokens */
        }
        assert_close(total, 1, 1e-6);
        lp_generation b;
        lp_grpo_metrics metrics;
        all_pairs(&r, &tr, &b);
        assert_int_equal(lp_grpo_step(r.grpo, &b, rewards, &metrics), LP_OK);
        assert_true(isnan(metrics.ratio_max_dev)); /* the batch has no log_probs */
        const int64_t n = weights_copy(&r, new_weights);
        for (int64_t i = 0; i < n; i++) {
            const double moved = new_weights[i] - old_weights[i];
            worst[logp] = fmax(worst[logp], fabs(moved - gradient[i]));
            largest_grad = fmax(largest_grad, fabs(gradient[i]));
        }
        lp_ctx_destroy(r.ctx);
    }
    print_message("gradient %g, off by %g; of the whole vocabulary by %g\n", largest_grad, worst[0],
                  worst[1]);
    assert_true(largest_grad > 0.01);
    assert_true(worst[0] < 1e-4 * largest_grad);
    assert_true(worst[1] > 0.05 * largest_grad);
}

/* ---- what must be refused ----------------------------------------------------------------------
 */

static void refuse(rig* r, const char* message) {
    const uint64_t before = digest(r);
    said s;
    assert_int_equal(try_step(r, &s), LP_INVALID);
    if (!strstr(lp_error(r->ctx), message)) fail_msg("%s", lp_error(r->ctx));
    assert_true(digest(r) == before);
}

static void bad_sets_are_refused(void** state) {
    (void)state;
    static const struct mode m = {"top_k", 1, 1, 0, 4, 0, 0};
    for (int grpo = 0; grpo < 2; grpo++) {
        rig r;
        way w = {.grpo = grpo, .threads = 1};
        set_up(&r, &w, &m);
        generate(&r);
        lp_generation* b = &r.batch;
        assert_non_null(b->kept_offsets);
        const int64_t i = b->response_offsets[2] + 1, at = b->kept_offsets[i];
        const char* message = "kept set of response token 1 of sequence 2 ";
        int32_t *ids = b->kept.ids + at, own[4], own_token = b->responses.ids[i];
        memcpy(own, ids, sizeof own);
        const struct {
            int at;
            int32_t value;
        } wrong[] = {{3, 512},       {3, INT32_MAX}, {0, -1},    {3, -4},
                     {0, INT32_MIN}, {1, own[0]},    {1, own[2]}};
        for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
            ids[wrong[k].at] = wrong[k].value;
            refuse(&r, message);
            memcpy(ids, own, sizeof own);
        }
        int32_t other = 0;
        while (other == own[0] || other == own[1] || other == own[2] || other == own[3]) other++;
        b->responses.ids[i] = other; /* not among them */
        refuse(&r, message);
        b->responses.ids[i] = own_token;
        for (int32_t j = 0; j < 4; j++) ids[j] = -1 - own[j]; /* left out, the token too */
        refuse(&r, message);
        memcpy(ids, own, sizeof own);
        const int64_t offsets[] = {-1, b->kept_offsets[i + 1] + 1, b->kept.count + 1, INT64_MAX};
        for (int k = 0; k < 4; k++) {
            b->kept_offsets[i] = offsets[k];
            refuse(&r, "kept set of response token ");
            b->kept_offsets[i] = at;
        }
        b->kept.count--; /* the last set has lost an entry */
        refuse(&r, "kept set of response token ");
        b->kept.count++;
        int64_t* all = b->kept_offsets;
        b->kept_offsets = NULL;
        refuse(&r, "log pi cannot be known");
        b->kept_offsets = all;
        step(&r); /* as it was */
        lp_ctx_destroy(r.ctx);

        /* the other conventions need no sets, and do not look at them */
        w.logp = LP_LOGP_TEMPERED;
        set_up(&r, &w, &m);
        generate(&r);
        assert_null(r.batch.kept_offsets);
        step(&r);
        lp_ctx_destroy(r.ctx);
    }
}

static void bad_settings_are_refused(void** state) {
    (void)state;
    rig r;
    way w = {.threads = 1, .logp = LP_LOGP_TEMPERED};
    static const struct mode greedy = {"greedy", 0, 1, 0, 0, 0, 0};
    load(&r, &w);
    lp_ppo_def ppo = ppo_settings(&w, &greedy);
    assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &ppo, &r.ppo), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "logp is tempered, and the temperature 0"));
    ppo.logp = (lp_logp)3;
    assert_int_equal(lp_ppo_create(r.model, r.policy, r.reference, &ppo, &r.ppo), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "logp"));
    lp_grpo_def grpo = grpo_settings(&w, &modes[0]);
    grpo.logp = (lp_logp)-1;
    assert_int_equal(lp_grpo_create(r.model, r.policy, r.reference, &grpo, &r.grpo), LP_INVALID);
    assert_non_null(strstr(lp_error(r.ctx), "logp"));
    lp_ctx_destroy(r.ctx);
}

/* Where only what ends a text is left out, a batch stays small. */
static void sets_of_nearly_all_are_small(void** state) {
    (void)state;
    static const struct mode m = {"min_new_tokens", 1, 1, 0, 0, NEW, 0};
    rig r;
    int64_t ends;
    const way w = {.grpo = true, .threads = 2};
    set_up(&r, &w, &m);
    generate(&r);
    lp_tokenizer_ends(lp_model_tokenizer(r.model), &ends);
    assert_true(ends > 0);
    assert_int_equal(r.batch.responses.count, SEQUENCES * NEW);
    assert_int_equal(r.batch.kept.count, SEQUENCES * NEW * ends);
    lp_ctx_destroy(r.ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratios_are_one),
        cmocka_unit_test(a_stale_batch_shows),
        cmocka_unit_test(greedy),
        cmocka_unit_test(conventions),
        cmocka_unit_test(the_gradient_is_the_enumerated_one),
        cmocka_unit_test(bad_sets_are_refused),
        cmocka_unit_test(bad_settings_are_refused),
        cmocka_unit_test(sets_of_nearly_all_are_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
