/* logpi generate: sample from a model. */
#include "cli.h"
#include <stdio.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_generate = {.name = "generate",
                            .summary = "sample from a language model",
                            .usage = "generate --prompt TEXT [OPTIONS]",
                            .scope = LP_SCOPE_GENERATE,
                            .threads = true,
                            .isa = true,
                            .run = run};

enum { MAX_SEQUENCES = 65536 };

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

static lp_status print_all(lp_ctx* ctx, const lp_options* options, const lp_model* model,
                           const lp_generation* g, const texts* prompts, int copies) {
    lp_text text = {0};
    lp_status status = lp_text_add(ctx, &text, "", 0); /* even an empty response has data */
    for (int64_t s = 0; status == LP_OK && s < g->sequences; s++) {
        text.bytes = 0;
        status = lp_tokenizer_decode(lp_model_tokenizer(model),
                                     g->responses.ids + g->response_offsets[s],
                                     g->response_offsets[s + 1] - g->response_offsets[s],
                                     LP_DECODE_SKIP_SPECIAL | LP_DECODE_LOSSY, &text);
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
    return status;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("generate takes no argument \"%.60s\"; --prompt TEXT?",
                         lp_options_positional(options, 0));
    texts prompts;
    lp_status status = cli_prompts(ctx, options, &prompts);
    if (status != LP_OK) return cli_fail(ctx, status);
    const int copies = (int)lp_options_int(options, "num_return_sequences");
    lp_generate_def def = lp_generate_def_default();
    def.max_new_tokens = lp_options_int(options, "max_new_tokens");
    def.min_new_tokens = lp_options_int(options, "min_new_tokens");
    def.temperature = lp_options_real(options, "temperature");
    def.top_k = lp_options_int(options, "top_k");
    def.top_p = lp_options_real(options, "top_p");
    def.seed = (uint64_t)lp_options_int(options, "seed");
    lp_model* model = NULL;
    lp_weights* weights = NULL;
    lp_prompts packed = {0};
    lp_generation generation = {0};
    status = cli_model_open(ctx, lp_options_text(options, "model"), &model);
    if (status == LP_OK && (int64_t)prompts.count * copies > MAX_SEQUENCES)
        status = lp_fail(ctx, LP_INVALID,
                         "%d prompts, %d samples of each: more than %d at once; use several runs",
                         prompts.count, copies, (int)MAX_SEQUENCES);
    if (status == LP_OK) status = cli_pack(ctx, options, model, &def, &prompts, &packed);
    packed.count = packed.tokens.count = 0; /* once more, each as often as it is asked for */
    for (int i = 0; status == LP_OK && i < prompts.count * copies; i++)
        status = lp_prompts_add(ctx, &packed, model, prompts.items[i / copies],
                                lp_options_flag(options, "chat"));
    if (status == LP_OK) status = lp_model_load_weights(model, false, &weights);
    status = cli_go_on(ctx, status);
    if (status == LP_OK)
        status = lp_generate(model, weights, &def, packed.count, packed.offsets, packed.tokens.ids,
                             &generation);
    if (status == LP_OK) status = print_all(ctx, options, model, &generation, &prompts, copies);
    cli_texts_free(&prompts);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}
