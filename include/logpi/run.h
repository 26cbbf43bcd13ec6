/* logpi/run.h - options, and what a run writes down. */
#ifndef LOGPI_RUN_H
#define LOGPI_RUN_H

#include <logpi/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- options: one table, src/run/options.inc ------------------------------------------------- */

/* What a verb understands. A row of the table belongs to one scope, so that one name may have
 * another default or range elsewhere. */
typedef enum lp_scope {
    LP_SCOPE_STEP,
    LP_SCOPE_GRADCHECK,
    LP_SCOPE_INFO,
    LP_SCOPE_CONVERT,
    LP_SCOPE_GENERATE,
    LP_SCOPE_PPO_LM,
    LP_SCOPE_GRPO,
    LP_SCOPE_REINFORCE, /* on environments, and so the next two */
    LP_SCOPE_A2C,
    LP_SCOPE_PPO,
    LP_SCOPE_EVAL,
    LP_SCOPE_ENVS,
    LP_SCOPE_BENCH,
    LP_SCOPE_BENCH_LM,
    LP_SCOPE_LESSON,
    LP_SCOPE_COUNT
} lp_scope;

typedef struct lp_options lp_options;

/* Reads "--name value", "--name=value" and, for flags, "--name" and "--no-name"; "-" and "_" in
 * names are the same;
 * "--" ends the options. What is no option is a positional argument. LP_INVALID: an unknown name
 * (the message gives the nearest), a value missing, malformed or out of range. argv must outlive
 * the result. */
LP_API lp_status lp_options_parse(lp_ctx* ctx, lp_scope scope, int argc, char* const* argv,
                                  lp_options** options);
LP_API void lp_options_destroy(lp_options* options);
/* Whether one of the words asks for help, "--help" or "-h"; the value of an option and what follows
 * "--" do not. */
LP_API bool lp_options_want_help(lp_scope scope, int argc, char* const* argv);

/* The value given, or the default. The name must be in the scope's table and of that type. */
LP_API bool lp_options_given(const lp_options* options, const char* name);
LP_API int64_t lp_options_int(const lp_options* options, const char* name);
LP_API double lp_options_real(const lp_options* options, const char* name);
LP_API bool lp_options_flag(const lp_options* options, const char* name);
/* Which of the words of the table, counted from 0; -1: not given, no default. */
LP_API int lp_options_choice(const lp_options* options, const char* name);
/* A number that may fall to 0 with the steps that are left, "0.001" or "lin_0.001": its first
 * value; whether it falls. */
LP_API double lp_options_schedule(const lp_options* options, const char* name, bool* linear);
/* Whole numbers with commas in between: how many, of which the first `room` go to values. */
LP_API int lp_options_ints(const lp_options* options, const char* name, int64_t* values, int room);
LP_API const char* lp_options_text(const lp_options* options,
                                   const char* name); /* NULL: not given, no default */
/* The values of an option that may be repeated. */
LP_API int lp_options_count(const lp_options* options, const char* name);
LP_API const char* lp_options_item(const lp_options* options, const char* name, int index);
LP_API int lp_options_positionals(const lp_options* options);
LP_API const char* lp_options_positional(const lp_options* options, int index);

/* The help of a scope: a line an option, with its default. Allocated from ctx. NULL when out of
 * memory. */
LP_API char* lp_options_help(lp_ctx* ctx, lp_scope scope);

/* Of `count` words the one nearest to `word`, whatever its capitals, or NULL if none is near. */
LP_API const char* lp_nearest(const char* word, const char* const* words, int count);

/* ---- config.yaml ----------------------------------------------------------------------------- */

/* A setting as text. */
typedef struct lp_setting {
    const char *name, *value;
} lp_setting;

/* Writes a YAML file, "name: value" a line: first those of `more` that are no options, then every
 * option of the scope in the order of the table, with the value that `more` has for it, else the
 * one given, else the default, else null. Numbers and lists are read back as such, and text as the
 * same text (bytes that are no UTF-8 as Latin-1). The file is written whole or not at all. LP_IO,
 * LP_NOMEM. */
LP_API lp_status lp_options_save(lp_ctx* ctx, const lp_options* options, const lp_setting* more,
                                 int count, const char* path);

/* ---- metrics.jsonl --------------------------------------------------------------------------- */

/* One named number, or (n > 0) several. A number that is not finite becomes null. */
typedef struct lp_metric {
    const char* name;
    double value;
    const double* values; /* [n] */
    int64_t n;
} lp_metric;

/* Appends one JSON object, a line, to a file that is made if missing. */
LP_API lp_status lp_metrics_append(lp_ctx* ctx, const char* path, const lp_metric* metrics,
                                   int count);

/* Makes a folder and its parents; one that exists is no error. */
LP_API lp_status lp_make_folder(lp_ctx* ctx, const char* path);
/* Appends bytes to a file that is made if missing. */
LP_API lp_status lp_append(lp_ctx* ctx, const char* path, const void* bytes, size_t count);
/* Reads a text file of at most 64 MiB, terminated; allocated from ctx, freed by lp_release. */
LP_API lp_status lp_read_text(lp_ctx* ctx, const char* path, char** text, size_t* bytes);
LP_API void lp_release(lp_ctx* ctx, void* block);

#ifdef __cplusplus
}
#endif
#endif
