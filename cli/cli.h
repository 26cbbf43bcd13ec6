/* What the verbs of the program share. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <logpi/logpi.h>
#include <stdio.h>

enum { EXIT_OK = 0, EXIT_FAILURE_ = 1, EXIT_USAGE = 2, EXIT_BAD_INPUT = 3, EXIT_IO = 4, EXIT_DIVERGED = 5 };

/* A verb: its name, what it does in a line, how it is called, its options, and the function. */
typedef struct verb {
    const char *name, *summary, *usage;
    lp_scope scope;
    bool threads, isa; /* whether it has these options; without --threads it runs on one */
    int (*run)(lp_ctx* ctx, const lp_options* options);
} verb;

extern const verb verb_step, verb_gradcheck, verb_info, verb_generate, verb_train_ppo, verb_bench,
    verb_lesson;

/* One line on stderr, "logpi: ..."; returns code. */
int cli_say(int code, const char* fmt, ...) LP_PRINTF(2, 3);
/* Says what is wrong with the command line. */
#define cli_usage(...) cli_say(EXIT_USAGE, __VA_ARGS__)
/* What went wrong: the message of the context, or the signal that stopped it; and its exit code. */
enum { REASON_BYTES = 2048 };
void cli_reason(const lp_ctx* ctx, lp_status status, char* to, size_t bytes);
int cli_exit_code(lp_status status);
/* Says it and returns the exit code. */
int cli_fail(const lp_ctx* ctx, lp_status status);

/* Opens the model that --model names: smollm2, tiny, or a path. */
lp_status cli_model_open(lp_ctx* ctx, const char* name, lp_model** model);
/* Prompts of --prompt and --prompts, in that order; freed by cli_texts_free. */
typedef struct texts {
    char** items; /* [count] */
    int* lines;   /* [count], in the file of --prompts; 0: from the command line */
    int count;
    const char* file;
} texts;
lp_status cli_prompts(lp_ctx* ctx, const lp_options* options, texts* out);
void cli_texts_free(texts* t);
/* The prompts as token ids (in the model's chat format with --chat), checked for generation with def. Needs no weights.
 * What is wrong with a prompt is said with its number and, if it is from a file, its line. */
lp_status cli_pack(lp_ctx* ctx, const lp_options* options, const lp_model* model, const lp_generate_def* def,
                   const texts* prompts, lp_prompts* packed);

/* Text from a file or a user: control characters, which could steer a terminal, become '?'. */
void cli_print_safe(FILE* to, const char* text);
/* What a model wrote, to stdout: as it is, but to a terminal without control characters other than newline and tab. */
void cli_print_response(const char* text, size_t bytes);
/* Prints a JSON object on a line of its own and frees it. digits: of numbers. */
lp_status cli_print_json(lp_ctx* ctx, json_t* object, int digits);
/* A number; null if it is not finite, which JSON has no word for. */
json_t* cli_json_number(double x);
/* Numbers to stdout: a list as JSON, a matrix [rows, cols] as a list of its rows, a matrix as NumPy prints it.
 * LP_CANCELLED, LP_NOMEM: the rest is missing. */
lp_status cli_print_json_vector(const lp_ctx* ctx, const double* x, int64_t n, int digits);
lp_status cli_print_json_matrix(const lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits);
lp_status cli_print_matrix(const lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits);

#endif
