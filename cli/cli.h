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
/* Says what went wrong in the context and returns the exit code of the status. */
int cli_fail(const lp_ctx* ctx, lp_status status);
/* A context with so many threads (0: as many as the machine gives) and an instruction set (an lp_isa; -1: LOGPI_ISA,
 * else the best); NULL after saying why. SIGINT, SIGTERM and SIGHUP cancel it. */
lp_ctx* cli_context(int threads, int isa);
/* The signal that asked to stop, or 0. */
int cli_signal(void);

/* Opens the model that --model names: smollm2, tiny, or a path. */
lp_status cli_model_open(lp_ctx* ctx, const char* name, lp_model** model);
/* Prompts of --prompt and --prompts, in that order; texts (one a prompt) is freed by cli_texts_free. */
typedef struct texts {
    char** items;
    int count;
} texts;
lp_status cli_prompts(lp_ctx* ctx, const lp_options* options, texts* out);
void cli_texts_free(texts* t);

/* Text from a file or a user: control characters, which could steer a terminal, become '?'. */
void cli_print_safe(FILE* to, const char* text);
/* What a model wrote, to stdout: as it is, but to a terminal without control characters other than newline and tab. */
void cli_print_response(const char* text, size_t bytes);
/* Prints a JSON object on a line of its own and frees it. digits: of numbers. */
int cli_print_json(json_t* object, int digits);
/* A number; null if it is not finite, which JSON has no word for. */
json_t* cli_json_number(double x);
/* A matrix [rows, cols] as JSON rows; a vector as one list. */
json_t* cli_json_vector(const double* x, int64_t n);
json_t* cli_json_matrix(const double* x, int64_t rows, int64_t cols);
/* A matrix as NumPy prints it. */
void cli_print_matrix(const double* x, int64_t rows, int64_t cols, int digits);

#endif
