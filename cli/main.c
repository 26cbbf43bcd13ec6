/* logpi: the command line. */
#include "cli.h"
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const verb* const verbs[] = {&verb_lesson,     &verb_step,      &verb_train_reinforce,
                                    &verb_train_a2c,  &verb_train_ppo, &verb_train_ppo_lm,
                                    &verb_train_grpo, &verb_eval,      &verb_envs,
                                    &verb_generate,   &verb_info,      &verb_convert,
                                    &verb_gradcheck,  &verb_bench};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* ---- signals: the first asks the context to stop, the second ends the program ---------------- */

static const int stopping[] = {SIGINT, SIGTERM, SIGHUP};
enum { STOPPING = sizeof stopping / sizeof *stopping };
static lp_ctx* running;
static volatile sig_atomic_t caught;

static void on_signal(int signal) {
    if (caught) _exit(128 + signal);
    caught = signal;
    lp_cancel(running);
    static const char text[] = "\nlogpi: stopping (once more: at once)\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

/* A context with so many threads (0: as many as the machine gives) and an instruction set (an
 * lp_isa; -1: LOGPI_ISA, else the best), which SIGINT, SIGTERM and SIGHUP cancel. NULL, and the
 * exit code, after saying why not. */
static lp_ctx* start_context(int threads, int isa, int* code) {
    lp_ctx_def def = lp_ctx_def_default();
    char error[512] = "";
    def.threads = threads;
    def.isa = isa;
    running = lp_ctx_create(&def, error, sizeof error);
    if (!running) {
        def.isa = LP_ISA_SCALAR; /* if this will do, the instruction set was the mistake */
        lp_ctx* plain = lp_ctx_create(&def, NULL, 0);
        *code = cli_say(plain ? EXIT_USAGE : EXIT_FAILURE_, "%s", error);
        lp_ctx_destroy(plain);
        return NULL;
    }
    const struct sigaction action = {.sa_handler = on_signal};
    for (int i = 0; i < STOPPING; i++) {
        struct sigaction
            old; /* what is ignored from the start (nohup, background jobs of a script) stays so */
        if (sigaction(stopping[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(stopping[i], &action, NULL);
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    return running;
}

/* A signal from now on ends the program: none may find a context that is gone. */
static void end_context(void) {
    for (int i = 0; i < STOPPING; i++) {
        struct sigaction old;
        if (sigaction(stopping[i], NULL, &old) == 0 && old.sa_handler == on_signal)
            signal(stopping[i], SIG_DFL);
    }
    lp_ctx_destroy(running);
    running = NULL;
}

/* ---- failures -------------------------------------------------------------------------------- */

int cli_say(int code, const char* fmt, ...) {
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fputs("logpi: ", stderr);
    cli_print_safe(stderr, text);
    fputc('\n', stderr);
    return code;
}

int cli_exit_code(lp_status status) {
    switch (status) {
    case LP_INVALID: return EXIT_USAGE;
    case LP_NOT_FOUND:
    case LP_FORMAT:
    case LP_UNSUPPORTED: return EXIT_BAD_INPUT;
    case LP_IO:
    case LP_CALLBACK: return EXIT_IO;
    case LP_NONFINITE: return EXIT_DIVERGED;
    case LP_CANCELLED: return caught ? 128 + (int)caught : EXIT_FAILURE_;
    case LP_OK: /* whoever fails with it does not end well */
    case LP_NOMEM: break;
    }
    return EXIT_FAILURE_;
}

void cli_reason(const lp_ctx* ctx, lp_status status, char* to, size_t bytes) {
    if (status == LP_CANCELLED && caught) {
        snprintf(to, bytes, "stopped by signal %d", (int)caught);
    } else {
        snprintf(to, bytes, "%s", lp_error(ctx)[0] ? lp_error(ctx) : lp_status_text(status));
    }
}

lp_status cli_go_on(lp_ctx* ctx, lp_status status) {
    return status == LP_OK && lp_cancelled(ctx) ? lp_fail(ctx, LP_CANCELLED, "cancelled") : status;
}

int cli_fail(const lp_ctx* ctx, lp_status status) {
    char reason[REASON_BYTES];
    cli_reason(ctx, status, reason, sizeof reason);
    return cli_say(cli_exit_code(status), "%s", reason);
}

/* ---- help ------------------------------------------------------------------------------------ */

static void print_usage(FILE* to) {
    fputs(
        "logpi (log π): policy-gradient training in C, on a CPU\n\nusage: logpi VERB [OPTIONS]\n\n",
        to);
    for (int i = 0; i < VERBS; i++) fprintf(to, "  %-16s %s\n", verbs[i]->name, verbs[i]->summary);
    fputs("\nlogpi VERB --help lists the options of a verb; --version says what this build is.\n",
          to);
}

static int print_help(lp_ctx* ctx, const verb* v) {
    printf("usage: logpi %s\n", v->usage);
    if (v->also) printf("       logpi %s\n", v->also->usage);
    for (const verb* shown = v; shown; shown = shown == v ? v->also : NULL) {
        char* help = lp_options_help(ctx, shown->scope);
        if (!help) return cli_fail(ctx, LP_NOMEM);
        printf("\n%s\n\n%s", shown->summary, help);
    }
    return EXIT_OK;
}

static int print_version(void) {
    int code;
    const lp_ctx* ctx = start_context(0, -1, &code);
    if (!ctx) return code;
    const int version = lp_version();
    printf("logpi %d.%d.%d, %s, %d threads\n", version / 10000, version / 100 % 100, version % 100,
           lp_isa_name(lp_ctx_isa(ctx)), lp_ctx_threads(ctx));
    end_context();
    return EXIT_OK;
}

static int unknown_verb(const char* word) {
    const char* names[VERBS];
    for (int i = 0; i < VERBS; i++)
        names[i] = strncmp(verbs[i]->name, "train ", 6) == 0 ? "train" : verbs[i]->name;
    const char* nearest = lp_nearest(word, names, VERBS);
    return nearest ? cli_usage("unknown verb \"%.60s\"; did you mean \"%s\"?", word, nearest)
                   : cli_usage("unknown verb \"%.60s\"; see logpi --help", word);
}

bool cli_is_help(const char* word) {
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

/* The verb that argv begins with, and how many words that took. NULL, and the exit code, after
 * saying why not. */
static const verb* find_verb(int argc, char** argv, int* words, int* code) {
    *words = 1;
    if (strcmp(argv[0], "bench") == 0) return cli_bench_verb(argc - 1, argv + 1);
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(argv[0], verbs[i]->name) == 0) return verbs[i];
    }
    if (strcmp(argv[0], "train") != 0) {
        *code = unknown_verb(argv[0]);
        return NULL;
    }
    *words = 2;
    return cli_train_verb(argc - 1, argv + 1, code);
}

/* Results that did not reach stdout are a failure. */
static int close_stdout(int code) {
    const bool lost = ferror(stdout) != 0;
    const bool failed = fflush(stdout) != 0 || lost;
    return failed && code == EXIT_OK ? cli_say(EXIT_IO, "could not write to standard output")
                                     : code;
}

static int run_verb(const verb* v, int argc, char** argv) {
    /* the command line is read in a context of its own: it says what the real one must be */
    char error[512] = "";
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.isa = LP_ISA_SCALAR;
    lp_ctx* parsing = lp_ctx_create(&def, error, sizeof error);
    if (!parsing) return cli_say(EXIT_FAILURE_, "%s", error);
    lp_options* options;
    int code;
    lp_status status = lp_options_parse(parsing, v->scope, argc, argv, &options);
    if (lp_options_want_help(v->scope, argc, argv)) {
        code = print_help(parsing, v);
    } else if (status != LP_OK) {
        code = cli_fail(parsing, status);
    } else {
        lp_ctx* ctx = start_context(v->threads ? (int)lp_options_int(options, "threads") : 1,
                                    v->isa ? lp_options_choice(options, "isa") : -1, &code);
        if (ctx) code = v->run(ctx, options);
        end_context();
    }
    lp_ctx_destroy(parsing);
    return code;
}

int main(int argc, char** argv) {
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (cli_is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return close_stdout(EXIT_OK);
    }
    if (strcmp(argv[1], "--version") == 0)
        return argc > 2 ? cli_usage("--version takes no argument \"%.60s\"", argv[2])
                        : close_stdout(print_version());
    int words, code;
    const verb* v = find_verb(argc - 1, argv + 1, &words, &code);
    if (!v) return close_stdout(code);
    return close_stdout(run_verb(v, argc - 1 - words, argv + 1 + words));
}
