/* logpi lesson: policy gradient step by step, every formula with both of its sides computed and
 * compared. */
#include "lessons/lesson.h"
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_lesson = {
    .name = "lesson",
    .summary = "policy gradient in twelve lessons, each formula computed on both sides",
    .usage = "lesson all|NUMBER... [OPTIONS]",
    .scope = LP_SCOPE_LESSON,
    .run = run};

/* What a run found so far. */
typedef struct tally {
    json_t* lessons;
    int count, checks, failed_checks, failed_lessons;
    bool failed[LESSONS + 1];
} tally;

/* ---- which ----------------------------------------------------------------------------------- */

/* 1..LESSONS of a word in decimal digits; 0: it is none. */
static int number_of(const char* word) {
    const size_t digits = strspn(word, "0123456789");
    if (digits == 0 || digits > 3 || word[digits]) return 0;
    const int number = atoi(word);
    return number <= LESSONS ? number : 0;
}

/* Marks wanted[1..LESSONS]; EXIT_USAGE after saying why. */
static int choose(const lp_options* options, bool* wanted) {
    const int words = lp_options_positionals(options);
    if (words == 0)
        return cli_usage("lesson needs a number from 1 to %d, or all; --list lists them", LESSONS);
    for (int i = 0; i < words; i++) {
        const char* word = lp_options_positional(options, i);
        const bool all = strcmp(word, "all") == 0;
        const int number = number_of(word);
        if (!all && !number)
            return cli_usage("no lesson \"%.60s\": there are 1 to %d, or all; --list lists them",
                             word, LESSONS);
        for (int n = 1; n <= LESSONS; n++) wanted[n] |= all || n == number;
    }
    return EXIT_OK;
}

static int list(lp_ctx* ctx, bool json) {
    json_t* lessons = json_array();
    for (int n = 1; n <= LESSONS; n++) {
        if (!json) printf("%3d  %s\n", n, lesson_table[n - 1].title);
        json_array_append_new(
            lessons, json_pack("{s:i, s:s}", "lesson", n, "title", lesson_table[n - 1].title));
    }
    if (!json) {
        json_decref(lessons);
        return EXIT_OK;
    }
    const lp_status status = cli_print_json(ctx, json_pack("{s:o}", "lessons", lessons), 6);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static json_t* check_json(const lesson_check* c) {
    static const char* const relations[] = {"equal", "sampled", "apart",
                                            "below", "above",   "left undefined"};
    const bool bounded = c->relation <= LESSON_APART;
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:b}", "name", c->name, "left_is",
                     c->left_name, "right_is", c->right_name, "left", cli_json_number(c->left),
                     "right", cli_json_number(c->right), "apart",
                     cli_json_number(fabs(c->left - c->right)), "must_be", relations[c->relation],
                     "tolerance", bounded ? cli_json_number(c->bound) : json_null(), "holds",
                     (int)c->holds);
}

static json_t* lesson_json(const lesson* l) {
    json_t *formulas = json_array(), *checks = json_array();
    for (int i = 0; i < l->formula_count; i++)
        json_array_append_new(formulas, json_string(l->formulas[i]));
    for (int i = 0; i < l->check_count; i++)
        json_array_append_new(checks, check_json(&l->checks[i]));
    return json_pack("{s:i, s:s, s:o, s:o, s:b}", "lesson", l->number, "title",
                     lesson_table[l->number - 1].title, "formulas", formulas, "checks", checks,
                     "holds", (int)(l->failed == 0));
}

/* ---- running --------------------------------------------------------------------------------- */

static lp_status run_one(lp_ctx* ctx, int number, uint64_t seed, bool json, tally* t) {
    static lesson l; /* tens of kilobytes */
    const lp_status status = lesson_run(ctx, number, seed, json ? NULL : stdout, &l);
    if (status != LP_OK) return status;
    if (json)
        json_array_append_new(t->lessons, lesson_json(&l));
    else
        fputs("\n\n", stdout);
    t->count++;
    t->checks += l.check_count;
    t->failed_checks += l.failed;
    t->failed_lessons += l.failed > 0;
    t->failed[number] = l.failed > 0;
    return lp_cancelled(ctx) ? LP_CANCELLED : LP_OK;
}

static void print_end(const tally* t) {
    printf("%d lesson%s, %d checks: ", t->count, t->count == 1 ? "" : "s", t->checks);
    if (t->failed_checks == 0) {
        puts("all hold");
        return;
    }
    printf("%d failed, in lesson%s", t->failed_checks, t->failed_lessons == 1 ? "" : "s");
    for (int n = 1, listed = 0; n <= LESSONS; n++) {
        if (t->failed[n]) printf("%s %d", listed++ ? "," : "", n);
    }
    putchar('\n');
}

static int run(lp_ctx* ctx, const lp_options* options) {
    const uint64_t seed = (uint64_t)lp_options_int(options, "seed");
    const bool json = lp_options_flag(options, "json");
    bool wanted[LESSONS + 1] = {0};
    if (lp_options_flag(options, "list")) {
        if (lp_options_positionals(options) > 0) return cli_usage("--list takes no lesson");
        return list(ctx, json);
    }
    const int code = choose(options, wanted);
    if (code != EXIT_OK) return code;
    tally t = {.lessons = json_array()};
    lp_status status = LP_OK;
    for (int n = 1; n <= LESSONS && status == LP_OK; n++) {
        if (wanted[n]) status = run_one(ctx, n, seed, json, &t);
    }
    if (status == LP_OK && json) {
        json_t* object = json_pack("{s:I, s:O, s:i, s:i, s:b}", "seed", (json_int_t)seed, "lessons",
                                   t.lessons, "checks", t.checks, "failed", t.failed_checks,
                                   "holds", (int)(t.failed_checks == 0));
        status = cli_print_json(ctx, object, 17);
    } else if (status == LP_OK) {
        print_end(&t);
    }
    json_decref(t.lessons);
    if (status != LP_OK) return cli_fail(ctx, status);
    return t.failed_checks ? EXIT_FAILURE_ : EXIT_OK;
}
