/* logpi convert SRC DST: a model from one kind of file to another. */
#include "cli.h"
#include <stdio.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_convert = {.name = "convert",
                           .summary = "a model as a GGUF file, or as a Hugging Face folder",
                           .usage = "convert MODEL FILE.gguf|FOLDER [--dtype TYPE]",
                           .scope = LP_SCOPE_CONVERT,
                           .threads = true,
                           .run = run};

/* What most numbers of the model have, if that can be written. */
static lp_file_type own_type(const lp_model_shape* s) {
    const size_t n = strcspn(s->types, ",");
    if (n == 3 && strncmp(s->types, "F16", n) == 0) return LP_FILE_F16;
    if (n == 4 && strncmp(s->types, "BF16", n) == 0) return LP_FILE_BF16;
    return LP_FILE_F32;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) != 2)
        return cli_usage("convert needs a model and where to write it: logpi convert MODEL DST");
    const char *from = lp_options_positional(options, 0), *to = lp_options_positional(options, 1);
    lp_model* model;
    lp_weights* weights;
    lp_status status = cli_model_open(ctx, from, &model);
    if (cli_go_on(ctx, status) == LP_OK) status = lp_model_load_weights(model, false, &weights);
    status = cli_go_on(ctx, status);
    if (status != LP_OK) return cli_fail(ctx, status);
    const lp_model_shape s = lp_model_get_shape(model);
    const int given = lp_options_choice(options, "dtype");
    const lp_file_type type = given >= 0 ? (lp_file_type)given : own_type(&s);
    status = cli_go_on(ctx, lp_model_save_as(model, weights, to, type));
    if (status != LP_OK) return cli_fail(ctx, status);
    static const char* const names[] = {"float32", "float16", "bfloat16"};
    fprintf(stderr, "logpi: %s, %.1f M parameters as %s, is in ", s.architecture,
            1e-6 * (double)s.parameters, names[type]);
    cli_print_safe(stderr, to);
    fputc('\n', stderr);
    return EXIT_OK;
}
