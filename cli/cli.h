/* What the verbs of the program share. */
#ifndef CLI_H
#define CLI_H

#include <jansson.h>
#include <logpi/logpi.h>
#include <stdio.h>
#include <sys/types.h>

enum {
    EXIT_OK = 0,
    EXIT_FAILURE_ = 1,
    EXIT_USAGE = 2,
    EXIT_BAD_INPUT = 3,
    EXIT_IO = 4,
    EXIT_DIVERGED = 5
};

/* A verb: its name, what it does in a line, how it is called, its options, and the function. */
typedef struct verb {
    const char *name, *summary, *usage;
    lp_scope scope;
    bool threads, isa; /* whether it has these options; without --threads it runs on one */
    int (*run)(lp_ctx* ctx, const lp_options* options);
    const struct verb*
        also; /* a verb of the same name, which other options choose: help shows both */
} verb;

extern const verb verb_step, verb_gradcheck, verb_info, verb_convert, verb_generate,
    verb_train_reinforce, verb_train_a2c, verb_train_ppo, verb_train_ppo_lm, verb_train_grpo,
    verb_eval, verb_envs, verb_bench, verb_bench_lm, verb_lesson;

/* The verb that the words after "train" begin; NULL, and the exit code, after saying why not or
 * giving help. */
const verb* cli_train_verb(int argc, char** argv, int* code);
/* bench, or what it is of language models: one of the words names that. */
const verb* cli_bench_verb(int argc, char** argv);
bool cli_is_help(const char* word);

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
/* The precision of --dtype. */
lp_precision cli_precision(const lp_options* options);
const char* cli_precision_name(lp_precision precision);
/* Prompts of --prompt and --prompts, in that order; freed by cli_texts_free. */
typedef struct texts {
    char** items; /* [count] */
    int* lines;   /* [count], in the file of --prompts; 0: from the command line */
    int count;
    const char* file;
} texts;
lp_status cli_prompts(lp_ctx* ctx, const lp_options* options, texts* out);
void cli_texts_free(texts* t);
/* The prompts as token ids (in the model's chat format with --chat), checked for generation with
 * def. Needs no weights. What is wrong with a prompt is said with its number and, if it is from a
 * file, its line. */
lp_status cli_pack(lp_ctx* ctx, const lp_options* options, const lp_model* model,
                   const lp_generate_def* def, const texts* prompts, lp_prompts* packed);

/* ---- the folder of a training run ------------------------------------------------------------ */

enum { RUN_FILES = 7 };

/* DIR/metrics.jsonl, DIR/config.yaml; DIR/final has what a run learnt that ended well or was
 * stopped, DIR/diverged what one that diverged had learnt before: it may be ruined, and takes the
 * place of nothing. DIR/.lock is held while it runs. An old run stays until the new one has
 * something to put in its place. */
typedef struct run_folder {
    char *path, *metrics, *config, *final, *diverged, *lock;
    const char* const* files; /* [count], that final/ or diverged/ will have */
    int count;                /* RUN_FILES at most */
    lp_status (*save_config)(void* user,
                             const char* path); /* NULL: none. To be set after cli_folder_name */
    void* user;
    bool locked, begun; /* begun: metrics.jsonl is of this run */
    int lock_file;
    ino_t old[2][RUN_FILES]; /* the files that were in final/ and diverged/; 0: none */
} run_folder;
/* files: static. Freed by cli_folder_free, also after LP_NOMEM. */
lp_status cli_folder_name(run_folder* folder, const char* path, const char* const* files,
                          int count);
void cli_folder_free(run_folder* folder);
/* Two runs in one folder would be neither: LP_INVALID if one is there already and may not be
 * replaced, or is of another kind. LP_IO: another run is using it, or something is in the place of
 * a file. Changes nothing. */
lp_status cli_folder_check(lp_ctx* ctx, run_folder* folder, bool overwrite);
/* After that: makes the folders, locks, checks again, and sees now whether each file can be
 * written. LP_IO and as above. */
lp_status cli_folder_make(lp_ctx* ctx, run_folder* folder, bool overwrite);
/* A line of metrics.jsonl. The first one replaces that of an old run, and config.yaml. */
lp_status cli_folder_log(lp_ctx* ctx, run_folder* folder, const lp_metric* row, int count);
/* What a run has learnt, after its last whole step. */
typedef struct run_result {
    char what[80];    /* "the weights after 3 whole steps are"; "": no step was finished */
    const char* noun; /* "weights are" */
    lp_status (*save)(void* user, const char* folder);
    void* user;
} run_result;
/* Saves it, removes what is left of an old run, and ends the run, whatever it came to, with one
 * message: the exit code. */
int cli_folder_finish(lp_ctx* ctx, const run_folder* folder, const run_result* result,
                      lp_status status);

/* ---- environments ---------------------------------------------------------------------------- */

/* The environment of that name. */
lp_status cli_env(lp_ctx* ctx, const char* name, const lp_env_type** type);
/* Evaluates in `n_envs` environments of their own. Their random streams are none that training has
 * with any seed of the command line. */
typedef struct evaluation {
    int64_t episodes, n_envs, seed;
    bool deterministic;
} evaluation;
lp_status cli_evaluate(lp_ctx* ctx, lp_policy* policy, const lp_env_type* type,
                       const evaluation* how, lp_evaluation* result);
enum { EVAL_ENVS = 8 }; /* the default of logpi eval --n_envs */

/* Seconds of a clock that only goes forward. */
double cli_now(void);

/* A line on stderr about how far a run is. On a terminal it takes the place of the one before, ten
 * times a second at most; elsewhere lines follow each other, one a second at most. */
typedef struct progress {
    bool every;          /* elsewhere every line is wanted; set before the first */
    bool terminal, open; /* open: the cursor is behind a line */
    double shown;        /* when */
    int width;           /* of the line on the screen */
    char line[256];
    bool pending; /* line is newer than the screen */
} progress;
void cli_progress(progress* p, const char* fmt, ...) LP_PRINTF(2, 3);
/* The last line stays; what is printed next begins one of its own. */
void cli_progress_end(progress* p);

/* Text from a file or a user: control characters, which could steer a terminal, become '?'. */
void cli_print_safe(FILE* to, const char* text);
/* What a model wrote, to stdout: as it is, but to a terminal without control characters other than
 * newline and tab. */
void cli_print_response(const char* text, size_t bytes);
/* LP_IO if what was printed did not reach stdout: nobody reads it any more, or a disk is full. */
lp_status cli_flush(lp_ctx* ctx);
/* LP_CANCELLED instead of LP_OK if a signal came: to be looked at between two stages. */
lp_status cli_go_on(lp_ctx* ctx, lp_status status);
/* Prints a JSON object on a line of its own, flushes it, and frees the object. digits: of numbers.
 * LP_IO. */
lp_status cli_print_json(lp_ctx* ctx, json_t* object, int digits);
/* A number; null if it is not finite, which JSON has no word for. */
json_t* cli_json_number(double x);
/* x to be printed with so many digits after the point: without the sign of "-nan" and "-0". */
double cli_plain(double x, int digits);
/* Numbers to stdout: a list as JSON, a matrix [rows, cols] as a list of its rows, a matrix as NumPy
 * prints it. LP_CANCELLED, LP_NOMEM, LP_IO: the rest is missing. */
lp_status cli_print_json_vector(lp_ctx* ctx, const double* x, int64_t n, int digits);
lp_status cli_print_json_matrix(lp_ctx* ctx, const double* x, int64_t rows, int64_t cols,
                                int digits);
lp_status cli_print_matrix(lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits);

#endif
