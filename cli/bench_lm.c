/* logpi bench prefill|generate|train|grpo|lmppo: language models, beside the machine's measured
 * peak. Prompts and texts are random tokens, and every response has all of its tokens, so that the
 * work is the same each time. */
#include "bench.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_bench_lm = {.name = "bench",
                            .summary = "language models and matrix products: bench prefill, "
                                       "generate, train, grpo, lmppo, gemm",
                            .usage = "bench prefill|generate|train|grpo|lmppo|gemm [OPTIONS]",
                            .scope = LP_SCOPE_BENCH_LM,
                            .threads = true,
                            .isa = true,
                            .run = run};

enum { LEAST_ROUNDS = 3, MOST_ROUNDS = 1000 };

/* A bench at work. */
typedef struct lm_bench {
    lp_ctx* ctx;
    const lp_options* options;
    lp_precision precision;
    lp_model* model;
    lp_model_shape shape;
    lp_weights *weights, *reference;
    int64_t batch, prompt_tokens, new_tokens, sequence, num_prompts, num_generations;
    lp_prompts prompts; /* random; offsets are malloc's */
    lp_generation generation;
    double* rewards;
    lp_generator* generator; /* prefill, generate */
    lp_tape* tape;           /* train */
    lp_optim* optim;
    int32_t *rows, *targets;
    int64_t predicted, *row_offsets; /* rows that predict; [batch + 1]: of each sequence */
    lp_grpo* grpo;
    lp_ppo* ppo;
    lp_rng rng;
} lm_bench;

/* Seconds of a round; prompt: those of the same with one new token only (generate). Infinite share
 * of the peak: this processor has none of that precision. */
typedef struct timing {
    double whole, prompt, share;
} timing;

/* ---- work -------------------------------------------------------------------------------------
 */

/* Multiplications and additions of a forward pass: each weight of the layers once a token, the
 * vocabulary head once a row that predicts, and causal attention. */
static double body(const lm_bench* b) {
    const double table = (double)b->shape.vocab * (double)b->shape.width;
    return 2.0 * ((double)b->shape.parameters - (b->shape.tied ? 1 : 2) * table);
}
static double head(const lm_bench* b) {
    return 2.0 * (double)b->shape.vocab * (double)b->shape.width;
}
/* Of tokens [from, to) of a sequence. */
static double attention(const lm_bench* b, int64_t from, int64_t to) {
    const double width = (double)b->shape.heads * (double)b->shape.head_dim;
    const double pairs = 0.5 * ((double)to * (double)(to + 1) - (double)from * (double)(from + 1));
    return 4.0 * (double)b->shape.layers * width * pairs;
}

/* `groups` prompts, each computed once, and `size` responses of each with all of their tokens but
 * the last one run, each predicted. */
static double responses(const lm_bench* b, double groups, double size) {
    const int64_t p = b->prompt_tokens, n = b->new_tokens;
    return groups * ((double)p * body(b) + attention(b, 0, p)) +
           groups * size *
               ((double)(n - 1) * body(b) + (double)n * head(b) + attention(b, p, p + n - 1));
}

static double prefill_flops(const lm_bench* b) {
    return (double)b->batch *
           ((double)b->prompt_tokens * body(b) + head(b) + attention(b, 0, b->prompt_tokens));
}
static double decode_flops(const lm_bench* b) {
    return responses(b, (double)b->batch, 1) - prefill_flops(b);
}
static double train_flops(const lm_bench* b) {
    return 3.0 * (double)b->batch *
           ((double)b->sequence * body(b) + (double)(b->sequence - 1) * head(b) +
            attention(b, 0, b->sequence));
}
/* generation, reference, and forward and backward of the one update */
static double grpo_flops(const lm_bench* b) {
    return 5.0 * responses(b, (double)b->num_prompts, (double)b->num_generations);
}
/* generation, policy and reference, and forward and backward of four epochs */
static double lmppo_flops(const lm_bench* b) {
    return (3.0 + 4 * 3.0) * responses(b, (double)b->batch, 1);
}

static double prefill_tokens(const lm_bench* b) { return (double)(b->batch * b->prompt_tokens); }
static double decode_tokens(const lm_bench* b) { return (double)(b->batch * (b->new_tokens - 1)); }
static double train_tokens(const lm_bench* b) { return (double)(b->batch * b->sequence); }
static double grpo_tokens(const lm_bench* b) {
    return (double)(b->num_prompts * b->num_generations * b->new_tokens);
}
static double lmppo_tokens(const lm_bench* b) { return (double)(b->batch * b->new_tokens); }

/* ---- prompts ----------------------------------------------------------------------------------
 */

static lp_status draw_prompts(lm_bench* b, int64_t count, int64_t length) {
    lp_prompts* p = &b->prompts;
    p->offsets = calloc((size_t)count + 1, sizeof *p->offsets);
    if (!p->offsets) return LP_NOMEM;
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < count * length; i++) {
        const int32_t id = (int32_t)lp_rng_below(&b->rng, (uint32_t)b->shape.vocab);
        status = lp_token_list_add(b->ctx, &p->tokens, &id, 1);
    }
    for (int64_t i = 0; i < count; i++) p->offsets[i + 1] = p->offsets[i] + length;
    p->count = count;
    return status;
}

static lp_status make_rewards(lm_bench* b, int64_t count) {
    b->rewards = calloc((size_t)count, sizeof *b->rewards);
    for (int64_t i = 0; b->rewards && i < count; i++) b->rewards[i] = 0.01 * (double)(i % 3);
    return b->rewards ? LP_OK : LP_NOMEM;
}

static lp_generate_def all_tokens(int64_t count) {
    lp_generate_def def = lp_generate_def_default();
    def.max_new_tokens = def.min_new_tokens = count;
    return def;
}

static lp_status load(lm_bench* b, bool trainable, bool reference) {
    lp_status status = lp_model_load_weights(b->model, trainable, &b->weights);
    if (status == LP_OK) lp_weights_set_precision(b->weights, b->precision);
    if (status != LP_OK || !reference) return status;
    status = lp_weights_clone(b->weights, false, &b->reference);
    if (status == LP_OK) lp_weights_set_precision(b->reference, b->precision);
    return status;
}

/* ---- prefill, generate ------------------------------------------------------------------------
 */

static lp_status generate_start(lm_bench* b) {
    lp_status status = load(b, false, false);
    if (status == LP_OK) status = draw_prompts(b, b->batch, b->prompt_tokens);
    return status == LP_OK ? lp_generator_create(b->model, &b->generator) : status;
}

static lp_status generate_some(lm_bench* b, int64_t tokens, double* seconds) {
    const lp_generate_def def = all_tokens(tokens);
    const double start = cli_now();
    const lp_status status =
        lp_generator_run(b->generator, b->weights, &def, b->batch, b->prompts.offsets,
                         b->prompts.tokens.ids, &b->generation);
    *seconds = cli_now() - start;
    return status;
}

static lp_status prefill_once(lm_bench* b, timing* t) { return generate_some(b, 1, &t->whole); }

static lp_status generate_once(lm_bench* b, timing* t) {
    const lp_status status = generate_some(b, b->new_tokens, &t->whole);
    return status == LP_OK ? generate_some(b, 1, &t->prompt) : status;
}

/* ---- train ------------------------------------------------------------------------------------
 */

static lp_status train_start(lm_bench* b) {
    lp_optim_def adamw = lp_optim_def_default(LP_ADAMW);
    adamw.learning_rate = 1e-6;
    lp_status status = load(b, true, false);
    if (status == LP_OK) status = draw_prompts(b, b->batch, b->sequence);
    if (status == LP_OK) status = lp_optim_create(lp_weights_params(b->weights), &adamw, &b->optim);
    if (status != LP_OK) return status;
    b->tape = lp_tape_create(b->ctx, LP_F32);
    if (b->tape) lp_tape_recompute(b->tape, lp_options_flag(b->options, "recompute"));
    b->rows = calloc((size_t)(b->batch * b->sequence), sizeof *b->rows);
    b->targets = calloc((size_t)(b->batch * b->sequence), sizeof *b->targets);
    b->row_offsets = calloc((size_t)b->batch + 1, sizeof *b->row_offsets);
    if (!b->tape || !b->rows || !b->targets || !b->row_offsets) return LP_NOMEM;
    for (int64_t s = 0; s < b->batch; s++)
        b->row_offsets[s + 1] = b->row_offsets[s] + b->sequence - 1;
    for (int64_t i = 0; i < b->batch * b->sequence; i++) {
        if ((i + 1) % b->sequence == 0) continue; /* the last token predicts nothing */
        b->rows[b->predicted] = (int32_t)i;
        b->targets[b->predicted++] = b->prompts.tokens.ids[i + 1];
    }
    return LP_OK;
}

/* Forward and backward of `count` sequences from the first-th on, all as long as the first: their
 * part of the mean loss of all tokens. */
static lp_status train_piece(lm_bench* b, int64_t first, int64_t count) {
    lp_tape* t = b->tape;
    const int64_t rows = count * (b->sequence - 1);
    const lp_batch batch = {.sequences = count,
                            .offsets = b->prompts.offsets,
                            .tokens = b->prompts.tokens.ids + first * b->sequence};
    const lp_head_def head = {.temperature = 1.0, .sequences = count, .offsets = b->row_offsets};
    lp_tape_reset(t);
    lp_tensor states = lp_rows(t, lp_model_hidden(t, b->model, b->weights, &batch),
                               lp_const_i32(t, rows, 1, b->rows));
    lp_tensor target = lp_const_i32(t, rows, 1, b->targets + first * (b->sequence - 1));
    lp_tensor log_prob = lp_model_score(t, b->weights, states, target, &head, NULL);
    return lp_backward(t, lp_scale(t, lp_sum(t, log_prob), -1.0 / (double)b->predicted));
}

/* Forward, the mean loss of the tokens, backward, AdamW; about 512 tokens at a time. */
static lp_status train_once(lm_bench* b, timing* time) {
    enum { TOKENS = 512 };
    const double start = cli_now();
    int64_t size = TOKENS / b->sequence < 1 ? 1 : TOKENS / b->sequence;
    lp_status status = LP_OK;
    for (int64_t first = 0; status == LP_OK && first < b->batch; first += size) {
        if (size > b->batch - first) size = b->batch - first;
        status = train_piece(b, first, size);
    }
    if (status == LP_OK) status = lp_optim_step(b->optim, NULL);
    time->whole = cli_now() - start;
    return status;
}

/* ---- grpo, lmppo ------------------------------------------------------------------------------
 */

static lp_status grpo_start(lm_bench* b) {
    lp_grpo_def def = lp_grpo_def_default();
    def.num_generations = b->num_generations;
    def.learning_rate = 1e-5;
    def.beta = 0.01;
    def.generate = all_tokens(b->new_tokens);
    lp_status status = load(b, true, true);
    if (status == LP_OK) status = draw_prompts(b, b->num_prompts, b->prompt_tokens);
    if (status == LP_OK) status = make_rewards(b, b->num_prompts * b->num_generations);
    if (status == LP_OK)
        status = lp_grpo_create(b->model, b->weights, b->reference, &def, &b->grpo);
    return status;
}

static lp_status grpo_once(lm_bench* b, timing* t) {
    const double start = cli_now();
    lp_status status = lp_grpo_generate(b->grpo, &b->prompts, &b->generation);
    if (status == LP_OK) status = lp_grpo_step(b->grpo, &b->generation, b->rewards, NULL);
    t->whole = cli_now() - start;
    return status;
}

static lp_status lmppo_start(lm_bench* b) {
    lp_ppo_def def = lp_ppo_def_default();
    def.learning_rate = 1e-5;
    def.mini_batch_size = b->batch;
    def.init_kl_coef = 0.01;
    def.generate = all_tokens(b->new_tokens);
    lp_status status = load(b, true, true);
    if (status == LP_OK) status = draw_prompts(b, b->batch, b->prompt_tokens);
    if (status == LP_OK) status = make_rewards(b, b->batch);
    if (status == LP_OK) status = lp_ppo_create(b->model, b->weights, b->reference, &def, &b->ppo);
    return status;
}

static lp_status lmppo_once(lm_bench* b, timing* t) {
    const double start = cli_now();
    lp_status status = lp_ppo_generate(b->ppo, &b->prompts, &b->generation);
    if (status == LP_OK) status = lp_ppo_step(b->ppo, &b->generation, b->rewards, NULL, NULL);
    t->whole = cli_now() - start;
    return status;
}

/* ---- the table --------------------------------------------------------------------------------
 */

typedef struct kind {
    const char* name;
    lp_status (*start)(lm_bench*);
    lp_status (*once)(lm_bench*, timing*);
    double (*flops)(const lm_bench*);
    double (*tokens)(const lm_bench*); /* that a rate is of */
    /* defaults of the shape; 0: it has no such option */
    int64_t batch, prompt_tokens, new_tokens, sequence, num_prompts, num_generations;
} kind;

static const kind kinds[] = {
    {"prefill", generate_start, prefill_once, prefill_flops, prefill_tokens, 1, 512, 0, 0, 0, 0},
    {"generate", generate_start, generate_once, decode_flops, decode_tokens, 8, 32, 64, 0, 0, 0},
    {"train", train_start, train_once, train_flops, train_tokens, 4, 0, 0, 128, 0, 0},
    {"grpo", grpo_start, grpo_once, grpo_flops, grpo_tokens, 0, 12, 64, 0, 1, 8},
    {"lmppo", lmppo_start, lmppo_once, lmppo_flops, lmppo_tokens, 1, 12, 32, 0, 0, 0}};
enum { KINDS = sizeof kinds / sizeof *kinds };

/* Each shape: of the option, or the default; an option that a bench has not says nothing to it. */
static lp_status read_shape(lm_bench* b, const kind* k) {
    const struct {
        const char* option;
        int64_t standard;
        int64_t* to;
    } rows[] = {{"batch", k->batch, &b->batch},
                {"prompt_tokens", k->prompt_tokens, &b->prompt_tokens},
                {"new_tokens", k->new_tokens, &b->new_tokens},
                {"sequence", k->sequence, &b->sequence},
                {"num_prompts", k->num_prompts, &b->num_prompts},
                {"num_generations", k->num_generations, &b->num_generations}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const bool given = lp_options_given(b->options, rows[i].option);
        if (given && rows[i].standard == 0)
            return lp_fail(b->ctx, LP_INVALID, "bench %s has no option --%s", k->name,
                           rows[i].option);
        *rows[i].to = given ? lp_options_int(b->options, rows[i].option) : rows[i].standard;
    }
    return LP_OK;
}

static lp_status check_context(const lm_bench* b) {
    const int64_t longest = b->sequence + b->prompt_tokens + b->new_tokens;
    return longest <= b->shape.context
               ? LP_OK
               : lp_fail(b->ctx, LP_INVALID,
                         "sequences of %lld tokens: the model was made for %lld at most",
                         (long long)longest, (long long)b->shape.context);
}

/* Rounds after one to warm up, until the time is over: the medians. The peak is measured around
 * each round, so that its share says something on a machine that others use too. */
static lp_status measure(lm_bench* b, const kind* k, timing* median) {
    double* list = calloc(3 * MOST_ROUNDS, sizeof *list);
    double *whole = list, *prompt = list + MOST_ROUNDS, *share = list + 2 * MOST_ROUNDS;
    timing t = {0};
    lp_machine machine[2]; /* before and after */
    if (!list) return LP_NOMEM;
    lp_status status = k->once(b, &t);
    const double until = cli_now() + lp_options_real(b->options, "seconds");
    int n = 0;
    for (; status == LP_OK && n < MOST_ROUNDS && (n < LEAST_ROUNDS || cli_now() < until); n++) {
        status = lp_machine_probe_compute(b->ctx, &machine[0]);
        if (status == LP_OK) status = cli_go_on(b->ctx, k->once(b, &t));
        if (status == LP_OK) status = lp_machine_probe_compute(b->ctx, &machine[1]);
        if (status != LP_OK) break;
        const double peak =
            0.5 * (bench_peak(&machine[0], b->precision) + bench_peak(&machine[1], b->precision));
        whole[n] = t.whole;
        prompt[n] = t.prompt;
        share[n] = k->flops(b) / (t.whole - t.prompt) * 1e-9 / peak;
    }
    if (status == LP_OK)
        *median = (timing){bench_median(whole, n), bench_median(prompt, n), bench_median(share, n)};
    free(list);
    return status;
}

static lp_status say(const lm_bench* b, const kind* k, const timing* t, const bench_machine* m) {
    const double counted = t->whole - t->prompt;
    const bench_result r = {k->name, "tokens/s", k->tokens(b) / counted, t->whole, t->share};
    const double total = (double)(b->batch * b->new_tokens) / t->whole;
    const bool generates = k->once == generate_once;
    if (lp_options_flag(b->options, "json")) {
        json_t* object = bench_object(b->ctx, &r);
        json_object_set_new(object, "model", json_string(lp_options_text(b->options, "model")));
        json_object_set_new(object, "dtype", json_string(cli_precision_name(b->precision)));
        if (generates) json_object_set_new(object, "rate_total", cli_json_number(total));
        const struct {
            const char* name;
            int64_t value;
        } shape[] = {{"batch", b->batch},
                     {"prompt_tokens", b->prompt_tokens},
                     {"new_tokens", b->new_tokens},
                     {"sequence", b->sequence},
                     {"num_prompts", b->num_prompts},
                     {"num_generations", b->num_generations}};
        for (size_t i = 0; i < sizeof shape / sizeof *shape; i++) {
            if (shape[i].value > 0)
                json_object_set_new(object, shape[i].name, json_integer(shape[i].value));
        }
        bench_add_machine(object, m);
        return cli_print_json(b->ctx, object, 6);
    }
    bench_print_machine("before", &m->before);
    printf("%s, %s, %s, %d thread%s: %.1f tokens/s", k->name, cli_precision_name(b->precision),
           lp_isa_name(lp_ctx_isa(b->ctx)), lp_ctx_threads(b->ctx),
           lp_ctx_threads(b->ctx) == 1 ? "" : "s", r.rate);
    if (generates) printf(" (with the prompts %.1f)", total);
    printf(", %.3f s a step, ", r.seconds);
    if (isfinite(r.peak_share)) printf("%.1f %% of the peak, ", 100 * r.peak_share);
    printf("peak memory %.2f GB\n", 1e-9 * (double)m->peak_rss);
    bench_print_machine("after", &m->after);
    return cli_flush(b->ctx);
}

/* What a step of several updates pays for leaving no trace if it fails: a savepoint, the first of
 * which takes its memory, and a look whether all weights are finite. */
static lp_status print_safety(const lm_bench* b) {
    double savepoint[2] = {0};
    lp_status status = LP_OK;
    for (int i = 0; status == LP_OK && i < 2; i++) {
        const double start = cli_now();
        status = lp_optim_savepoint(b->optim);
        savepoint[i] = cli_now() - start;
    }
    const double start = cli_now();
    const bool finite = lp_params_finite(lp_weights_params(b->weights));
    if (status == LP_OK)
        printf("savepoint %.3f s, later ones %.3f s; weights %s, %.3f s\n", savepoint[0],
               savepoint[1], finite ? "finite" : "not finite", cli_now() - start);
    return status;
}

static int run_lm(lp_ctx* ctx, const lp_options* options, const kind* k) {
    lm_bench b = {.ctx = ctx,
                  .options = options,
                  .precision = cli_precision(options),
                  .rng = lp_rng_philox(0, LP_FOR_USER, 0, 0)};
    bench_machine machine = {0};
    timing median = {0};
    lp_status status = read_shape(&b, k);
    if (status == LP_OK) status = cli_model_open(ctx, lp_options_text(options, "model"), &b.model);
    if (status == LP_OK) {
        b.shape = lp_model_get_shape(b.model);
        status = check_context(&b);
    }
    if (status == LP_OK) status = bench_before(ctx, &machine);
    if (status == LP_OK) status = k->start(&b);
    status = cli_go_on(ctx, status);
    if (status == LP_OK) status = measure(&b, k, &median);
    if (status == LP_OK) status = bench_after(ctx, &machine);
    if (status == LP_OK) status = say(&b, k, &median, &machine);
    if (status == LP_OK && k->once == train_once && !lp_options_flag(options, "json"))
        status = print_safety(&b);
    free(b.prompts.offsets);
    free(b.rewards);
    free(b.rows);
    free(b.targets);
    free(b.row_offsets);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}

static const kind* find(const char* name) {
    for (int i = 0; i < KINDS; i++) {
        if (strcmp(name, kinds[i].name) == 0) return &kinds[i];
    }
    return NULL;
}

bool bench_is_lm(const char* name) { return find(name) || strcmp(name, "gemm") == 0; }

static int run(lp_ctx* ctx, const lp_options* options) {
    const char* name =
        lp_options_positionals(options) == 1 ? lp_options_positional(options, 0) : "";
    const kind* k = find(name);
    if (k) return run_lm(ctx, options, k);
    if (strcmp(name, "gemm") == 0) return bench_gemm(ctx, options);
    return cli_usage("bench needs one of: linear, tape, env, ppo, prefill, generate, train, grpo, "
                     "lmppo, gemm");
}
