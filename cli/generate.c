/* logpi generate: sample from a model. */
#include "cli.h"
#include <stdio.h>
#include <stdlib.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_generate = {.name = "generate",
                            .summary = "sample from a language model",
                            .usage = "generate --prompt TEXT [OPTIONS]",
                            .scope = LP_SCOPE_GENERATE,
                            .threads = true,
                            .isa = true,
                            .run = run};

enum { MAX_SEQUENCES = 65536, MAX_STOPS = 64 };

/* What the settings of a generation point to. */
typedef struct lists {
    const char* stop[MAX_STOPS];
    int32_t stop_tokens[MAX_STOPS];
} lists;

static lp_status read_def(lp_ctx* ctx, const lp_options* options, lists* l, lp_generate_def* def) {
    int64_t ids[MAX_STOPS];
    *def = lp_generate_def_default();
    def->max_new_tokens = lp_options_int(options, "max_new_tokens");
    def->min_new_tokens = lp_options_int(options, "min_new_tokens");
    def->num_return_sequences = lp_options_int(options, "num_return_sequences");
    def->temperature = lp_options_real(options, "temperature");
    def->top_k = lp_options_int(options, "top_k");
    def->top_p = lp_options_real(options, "top_p");
    def->min_p = lp_options_real(options, "min_p");
    def->batch_size = lp_options_int(options, "batch_size");
    def->seed = (uint64_t)lp_options_int(options, "seed");
    def->stop = l->stop;
    def->stop_count = lp_options_count(options, "stop");
    def->stop_tokens = l->stop_tokens;
    def->stop_token_count = lp_options_ints(options, "stop_token_ids", ids, MAX_STOPS);
    if (def->stop_count > MAX_STOPS || def->stop_token_count > MAX_STOPS)
        return lp_fail(ctx, LP_INVALID, "more than %d of --stop, or of --stop_token_ids",
                       (int)MAX_STOPS);
    for (int i = 0; i < def->stop_count; i++) l->stop[i] = lp_options_item(options, "stop", i);
    for (int i = 0; i < (int)def->stop_token_count; i++) l->stop_tokens[i] = (int32_t)ids[i];
    return LP_OK;
}

/* Leaves one prompt of those that there are, with the random stream that it has among them. */
static lp_status pick(lp_ctx* ctx, const lp_options* options, texts* prompts,
                      lp_generate_def* def) {
    if (!lp_options_given(options, "prompt_index")) return LP_OK;
    const int64_t index = lp_options_int(options, "prompt_index");
    if (index >= prompts->count)
        return lp_fail(
            ctx, LP_INVALID, "--prompt_index is %lld: it must lie in 0..%d, of %d prompt%s",
            (long long)index, prompts->count - 1, prompts->count, prompts->count == 1 ? "" : "s");
    char* const text = prompts->items[index];
    prompts->items[index] = prompts->items[0];
    prompts->items[0] = text;
    prompts->lines[0] = prompts->lines[index];
    while (prompts->count > 1) free(prompts->items[--prompts->count]);
    def->first_index = (uint64_t)index;
    return LP_OK;
}

/* {"prompt", "text", "tokens", "logprobs", "finish_reason"} */
static lp_status print_object(lp_ctx* ctx, const lp_generation* g, int64_t s, const char* prompt,
                              const lp_text* text) {
    json_t *tokens = json_array(), *logprobs = json_array();
    for (int64_t i = g->response_offsets[s]; i < g->response_offsets[s + 1]; i++) {
        json_array_append_new(tokens, json_integer(g->responses.ids[i]));
        json_array_append_new(logprobs, cli_json_number((double)g->log_probs[i]));
    }
    json_t* object =
        json_pack("{s:s, s:o, s:o, s:o, s:s}", "prompt", prompt, "text",
                  json_stringn(text->data, text->bytes), "tokens", tokens, "logprobs", logprobs,
                  "finish_reason", g->finish[s] == LP_FINISH_STOP ? "stop" : "length");
    return cli_print_json(ctx, object, 9);
}

/* The text of response s, up to a stop string; raw has the bytes that its tokens stand for. */
static lp_status read_text(lp_ctx* ctx, const lp_model* model, const lp_generation* g, int64_t s,
                           lp_text* raw, lp_text* text) {
    raw->bytes = text->bytes = 0;
    lp_status status =
        lp_tokenizer_decode(lp_model_tokenizer(model), g->responses.ids + g->response_offsets[s],
                            g->response_offsets[s + 1] - g->response_offsets[s],
                            LP_DECODE_SKIP_SPECIAL | LP_DECODE_SKIP_UNKNOWN, raw);
    const size_t bytes = g->text_bytes[s] >= 0 ? (size_t)g->text_bytes[s] : raw->bytes;
    if (status == LP_OK) status = lp_text_add_lossy(ctx, text, raw->data, bytes);
    return status;
}

static lp_status print_all(lp_ctx* ctx, const lp_options* options, const lp_model* model,
                           const lp_generation* g, const texts* prompts, int64_t copies) {
    lp_text raw = {0}, text = {0};
    lp_status status = lp_text_add(ctx, &text, "", 0); /* even an empty response has data */
    if (status == LP_OK) status = lp_text_add(ctx, &raw, "", 0);
    for (int64_t s = 0; status == LP_OK && s < g->sequences; s++) {
        status = read_text(ctx, model, g, s, &raw, &text);
        if (status != LP_OK) break;
        if (lp_options_flag(options, "json")) {
            status = print_object(ctx, g, s, prompts->items[s / copies], &text);
        } else {
            cli_print_response(text.data, text.bytes);
            putchar('\n');
            status = cli_flush(ctx);
        }
    }
    lp_text_free(ctx, &text);
    lp_text_free(ctx, &raw);
    return status;
}

static lp_status generate(lp_ctx* ctx, const lp_options* options, texts* prompts) {
    lists l;
    lp_generate_def def;
    lp_model* model = NULL;
    lp_weights* weights = NULL;
    lp_prompts packed = {0};
    lp_generation generation = {0};
    lp_status status = read_def(ctx, options, &l, &def);
    if (status == LP_OK) status = pick(ctx, options, prompts, &def);
    const int64_t copies = def.num_return_sequences;
    if (status == LP_OK) status = cli_model_open(ctx, lp_options_text(options, "model"), &model);
    if (status == LP_OK && prompts->count * copies > MAX_SEQUENCES)
        status = lp_fail(ctx, LP_INVALID,
                         "%d prompts, %d samples of each: more than %d at once; use several runs",
                         prompts->count, (int)copies, (int)MAX_SEQUENCES);
    if (status == LP_OK) status = cli_pack(ctx, options, model, &def, prompts, &packed);
    if (status == LP_OK) status = lp_model_load_weights(model, false, &weights);
    status = cli_go_on(ctx, status);
    if (status != LP_OK) return status;
    if (lp_options_choice(options, "dtype") == 1) lp_weights_set_precision(weights, LP_BFLOAT16);
    status = lp_generate(model, weights, &def, packed.count, packed.offsets, packed.tokens.ids,
                         &generation);
    return status == LP_OK ? print_all(ctx, options, model, &generation, prompts, copies) : status;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("generate takes no argument \"%.60s\"; --prompt TEXT?",
                         lp_options_positional(options, 0));
    texts prompts;
    lp_status status = cli_prompts(ctx, options, &prompts);
    if (status != LP_OK) return cli_fail(ctx, status);
    status = generate(ctx, options, &prompts);
    cli_texts_free(&prompts);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}
