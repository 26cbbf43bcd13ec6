/* logpi info MODEL: what is in a model's file or folder. */
#include "cli.h"
#include <stdio.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_info = {.name = "info",
                        .summary = "what is in this model",
                        .usage = "info FILE|FOLDER|NAME [--train] [OPTIONS]",
                        .scope = LP_SCOPE_INFO,
                        .run = run};

/* The parts of a forecast, by name. */
typedef struct part {
    const char* name;
    size_t bytes;
} part;
enum { PARTS = 11 };

static lp_status forecast(const lp_model* model, const lp_options* options, part parts[PARTS]) {
    const int algorithm = lp_options_choice(options, "algorithm"); /* sft, ppo, grpo */
    lp_forecast_def def = lp_forecast_def_default();
    def.precision = cli_precision(options);
    def.train = true;
    def.recompute = lp_options_flag(options, "recompute");
    def.samples = def.reference = algorithm > 0;
    def.savepoint = algorithm == 1;
    def.group = algorithm == 2 ? lp_options_int(options, "num_generations") : 0;
    def.batch = lp_options_int(options, "batch");
    def.prompt_tokens = lp_options_int(options, "prompt_tokens");
    def.new_tokens = lp_options_int(options, "new_tokens");
    lp_forecast f;
    const lp_status status = lp_model_forecast(model, &def, &f);
    const part all[PARTS] = {{"weights", f.weights},
                             {"gradients", f.gradients},
                             {"optimizer", f.optimizer},
                             {"packed", f.operands},
                             {"activations", f.activations},
                             {"head", f.head},
                             {"cache", f.cache},
                             {"reference", f.reference},
                             {"savepoint", f.savepoint},
                             {"tokenizer", f.resident},
                             {"total", f.total}};
    for (int i = 0; i < PARTS; i++) parts[i] = all[i];
    return status;
}

static int print_forecast(lp_ctx* ctx, const lp_options* options, const part parts[PARTS]) {
    if (!lp_options_flag(options, "json")) {
        for (int i = 0; i < PARTS; i++)
            if (parts[i].bytes)
                printf("%-12s%8.3f GB\n", parts[i].name, 1e-9 * (double)parts[i].bytes);
        return EXIT_OK;
    }
    json_t* object = json_object();
    for (int i = 0; i < PARTS; i++)
        json_object_set_new(object, parts[i].name, json_integer((json_int_t)parts[i].bytes));
    const lp_status status = cli_print_json(ctx, object, 9);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) != 1)
        return cli_usage("info needs one model: logpi info FILE, FOLDER or NAME");
    lp_model* model;
    lp_status status = cli_model_open(ctx, lp_options_positional(options, 0), &model);
    status = cli_go_on(ctx, status);
    part parts[PARTS];
    if (status == LP_OK) status = forecast(model, options, parts);
    if (status != LP_OK) return cli_fail(ctx, status);
    if (lp_options_flag(options, "train")) return print_forecast(ctx, options, parts);
    const lp_model_shape s = lp_model_get_shape(model);
    const lp_tokenizer* tokenizer = lp_model_tokenizer(model);
    const bool chat = lp_tokenizer_chat_format(tokenizer) == LP_CHAT_CHATML;
    const size_t training = parts[PARTS - 1].bytes;
    if (lp_options_flag(options, "json")) {
        json_t* object = json_pack(
            "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:b, s:i, "
            "s:i, s:s, s:I}",
            "architecture", s.architecture, "name", s.name, "types", s.types, "parameters",
            (json_int_t)s.parameters, "layers", (json_int_t)s.layers, "width", (json_int_t)s.width,
            "heads", (json_int_t)s.heads, "kv_heads", (json_int_t)s.kv_heads, "head_dim",
            (json_int_t)s.head_dim, "intermediate", (json_int_t)s.intermediate, "vocab",
            (json_int_t)s.vocab, "context", (json_int_t)s.context, "norm_eps",
            cli_json_number(s.norm_eps), "rope_base", cli_json_number(s.rope_base), "tied",
            (int)s.tied, "bos", (int)lp_tokenizer_bos(tokenizer), "eos",
            (int)lp_tokenizer_eos(tokenizer), "chat", chat ? "chatml" : "none", "training_bytes",
            (json_int_t)training);
        status = cli_print_json(ctx, object, 9);
        return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
    }
    cli_print_safe(stdout, s.name);
    printf("%s%s, %.1f M parameters\n", s.name[0] ? ": " : "", s.architecture,
           1e-6 * (double)s.parameters);
    printf("layers      %lld, width %lld, MLP %lld\n", (long long)s.layers, (long long)s.width,
           (long long)s.intermediate);
    printf("numbers     %s\n", s.types);
    printf("attention   %lld heads of %lld, %lld key-value heads, ", (long long)s.heads,
           (long long)s.head_dim, (long long)s.kv_heads);
    if (s.rope_base > 0) {
        printf("rotary base %g\n", s.rope_base);
    } else {
        printf("learned positions\n");
    }
    printf("vocabulary  %lld%s, context %lld\n", (long long)s.vocab,
           s.tied ? ", embedding and head tied" : "", (long long)s.context);
    printf("tokenizer   byte-level BPE, begins with %d, ends with %d, chat: %s\n",
           (int)lp_tokenizer_bos(tokenizer), (int)lp_tokenizer_eos(tokenizer),
           chat ? "ChatML" : "none");
    printf("memory      %.2f GB to generate in fp32, %.1f GB to train (info --train says more)\n",
           1e-9 * 8 * (double)s.parameters, 1e-9 * (double)training);
    return EXIT_OK;
}
