/* The option parser: the table, the command line, and help. */
#include "run/options.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef lp__option option;

#define RANGE_INT(low, high)  low, high, 0, 0
#define RANGE_REAL(low, high) 0, 0, low, high
#define RANGE_FLAG(low, high) 0, 0, 0, 0
#define RANGE_CHOICE          RANGE_FLAG
#define RANGE_TEXT            RANGE_FLAG
#define RANGE_LIST            RANGE_FLAG
#define RANGE_SCHEDULE        RANGE_REAL
#define RANGE_INTS            RANGE_INT
static const option table[] = {
#define LP_OPTION(scope, name, type, standard, low, high, argument, help)                          \
    {LP_SCOPE_##scope, name, type, standard, argument, help, RANGE_##type(low, high)},
#include "run/options.inc"
#undef LP_OPTION
};
enum { OPTIONS = sizeof table / sizeof *table, MAX_NAME = 64 };

/* One value that was given: of option `index` of the table, or a positional argument (-1). */
typedef struct given {
    int index;
    const char* text;
} given;

struct lp_options {
    lp_ctx* ctx;
    lp_scope scope;
    given* items;
    int count;
};

/* Whether two names are the same when '-' and '_' are; a ends after `length` bytes. */
static bool same_name(const char* a, size_t length, const char* b) {
    if (strlen(b) != length) return false;
    for (size_t i = 0; i < length; i++) {
        if ((a[i] == '-' ? '_' : a[i]) != b[i]) return false;
    }
    return true;
}

static int find(lp_scope scope, const char* name, size_t length) {
    for (int i = 0; i < (int)OPTIONS; i++) {
        if (table[i].scope == scope && same_name(name, length, table[i].name)) return i;
    }
    return -1;
}

/* A letter of a word to be compared: people type "-" for "_" and forget about capitals. */
static char plain(char c) { return c == '-' ? '_' : (char)tolower((unsigned char)c); }

/* Levenshtein's distance, of words shorter than MAX_NAME. */
static int distance(const char* a, const char* b) {
    const size_t n = strlen(a), m = strlen(b);
    int row[MAX_NAME + 1];
    if (n >= MAX_NAME || m >= MAX_NAME) return MAX_NAME;
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            const int change = diagonal + (plain(a[i - 1]) != plain(b[j - 1]));
            diagonal = row[j];
            row[j] = LP__MIN(change, LP__MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[m];
}

const char* lp_nearest(const char* word, const char* const* words, int count) {
    const char* best = NULL;
    const size_t length = strlen(word);
    int least = LP__MAX((int)length / 2, 1) + 1;
    for (int i = 0; i < count && length > 0; i++) {
        const bool begins =
            length > 1 && strncasecmp(words[i], word, length) == 0; /* an abbreviation */
        const int d = begins ? 1 : distance(word, words[i]);
        if (d < least) {
            least = d;
            best = words[i];
        }
    }
    return best;
}

static lp_status unknown(lp_ctx* ctx, lp_scope scope, const char* name, size_t length) {
    char word[MAX_NAME];
    snprintf(word, sizeof word, "%.*s", (int)LP__MIN(length, (size_t)MAX_NAME - 1), name);
    const char* names[OPTIONS];
    int count = 0;
    for (int i = 0; i < (int)OPTIONS; i++) {
        if (table[i].scope == scope) names[count++] = table[i].name;
    }
    const char* nearest = lp_nearest(word, names, count);
    return nearest
               ? lp_fail(ctx, LP_INVALID, "unknown option --%s; did you mean --%s?", word, nearest)
               : lp_fail(ctx, LP_INVALID, "unknown option --%s; see --help", word);
}

/* Whether a text is a number as people write it: a sign, digits and, if it need not be whole, a
 * point and an exponent. strtod and strtoll alone would take spaces in front, hexadecimal digits
 * and "nan". */
static bool is_decimal(const char* text, bool whole) {
    static const char digits[] = "0123456789";
    text += *text == '+' || *text == '-';
    size_t count = strspn(text, digits);
    text += count;
    if (!whole && *text == '.') {
        const size_t more = strspn(text + 1, digits);
        count += more;
        text += 1 + more;
    }
    if (!whole && count > 0 && (*text == 'e' || *text == 'E')) {
        text += text[1] == '+' || text[1] == '-' ? 2 : 1;
        const size_t exponent = strspn(text, digits);
        if (exponent == 0) return false;
        text += exponent;
    }
    return count > 0 && *text == 0;
}

/* Which of the words "a|b|c" a text is; -1: none. */
static int word_index(const char* words, const char* text) {
    const size_t length = strlen(text);
    for (int index = 0;; index++) {
        const size_t n = strcspn(words, "|");
        if (n == length && strncmp(words, text, n) == 0) return index;
        if (words[n] == 0) return -1;
        words += n + 1;
    }
}

static const char LINEAR[] = "lin_";

/* What comes after "lin_", if it begins so. */
static const char* schedule_number(const char* text, bool* linear) {
    *linear = strncmp(text, LINEAR, sizeof LINEAR - 1) == 0;
    return *linear ? text + sizeof LINEAR - 1 : text;
}

double lp__schedule_read(const char* text, bool* linear) {
    return strtod(schedule_number(text, linear), NULL);
}

static lp_status outside(lp_ctx* ctx, const option* o, const char* text) {
    return lp_fail(ctx, LP_INVALID, "--%s is %.60s: it must lie in [%.15g, %.15g]", o->name, text,
                   o->low, o->high);
}

static lp_status check_schedule(lp_ctx* ctx, const option* o, const char* text) {
    bool linear;
    const char* number = schedule_number(text, &linear);
    if (!is_decimal(number, false))
        return lp_fail(ctx, LP_INVALID,
                       "--%s is \"%.60s\": it must be a number in decimal digits (0.001), or lin_ "
                       "and a number "
                       "(lin_0.001), which falls to 0 with the steps that are left",
                       o->name, text);
    const double x = strtod(number, NULL);
    return x >= o->low && x <= o->high ? LP_OK : outside(ctx, o, text);
}

/* The next number of "64,64": into *value; *text moves behind it and its comma, and becomes NULL
 * after the last. */
static bool next_int(const option* o, const char** text, int64_t* value) {
    char word[32];
    const size_t length = strcspn(*text, ",");
    snprintf(word, sizeof word, "%.*s", (int)LP__MIN(length, sizeof word - 1), *text);
    *text = (*text)[length] ? *text + length + 1 : NULL;
    errno = 0;
    *value = strtoll(word, NULL, 10);
    return length < sizeof word && is_decimal(word, true) && !errno && *value >= o->least &&
           *value <= o->most;
}

static lp_status check_ints(lp_ctx* ctx, const option* o, const char* text) {
    int64_t value;
    for (const char* at = *text ? text : NULL; at;) { /* an empty list is one, too */
        if (next_int(o, &at, &value)) continue;
        return lp_fail(
            ctx, LP_INVALID,
            "--%s is \"%.60s\": it must be whole numbers in [%lld, %lld] with a comma in between",
            o->name, text, (long long)o->least, (long long)o->most);
    }
    return LP_OK;
}

static lp_status check_value(lp_ctx* ctx, const option* o, const char* text) {
    if (o->type == SCHEDULE) return check_schedule(ctx, o, text);
    if (o->type == INTS) return check_ints(ctx, o, text);
    if (o->type == FLAG && strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
        return lp_fail(ctx, LP_INVALID, "--%s is \"%.60s\": it must be true or false", o->name,
                       text);
    if (o->type == CHOICE && word_index(o->argument, text) < 0)
        return lp_fail(ctx, LP_INVALID, "--%s is \"%.60s\": it must be one of %s", o->name, text,
                       o->argument);
    if ((o->type == INT || o->type == REAL) && !is_decimal(text, o->type == INT))
        return lp_fail(ctx, LP_INVALID,
                       "--%s is \"%.60s\": it must be a %snumber in decimal digits", o->name, text,
                       o->type == INT ? "whole " : "");
    errno = 0; /* ERANGE: past int64, which some ranges reach to */
    const long long whole = o->type == INT ? strtoll(text, NULL, 10) : 0;
    if (o->type == INT && (errno || whole < o->least || whole > o->most))
        return lp_fail(ctx, LP_INVALID, "--%s is %.60s: it must lie in [%lld, %lld]", o->name, text,
                       (long long)o->least, (long long)o->most);
    const double real = o->type == REAL ? strtod(text, NULL) : 0;
    return o->type == REAL && !(real >= o->low && real <= o->high) ? outside(ctx, o, text) : LP_OK;
}

/* Reads the option at argv[*at]; *at moves on to its last word. */
static lp_status parse_one(lp_options* options, int argc, char* const* argv, int* at) {
    const char* name = argv[*at] + 2;
    const char* equals = strchr(name, '=');
    const size_t length = equals ? (size_t)(equals - name) : strlen(name);
    int index = find(options->scope, name, length);
    const char* text = equals ? equals + 1 : NULL;
    if (index < 0 && length > 3 && strncmp(name, "no", 2) == 0 &&
        (name[2] == '-' || name[2] == '_')) {
        index = find(options->scope, name + 3, length - 3);
        if (index >= 0 && table[index].type != FLAG) index = -1;
        if (index >= 0 && equals)
            return lp_fail(options->ctx, LP_INVALID,
                           "--no-%s takes no value; --%s=%.60s says it without \"no\"",
                           table[index].name, table[index].name,
                           strcmp(text, "false") == 0 ? "true" : "false");
        if (index >= 0) text = "false";
    }
    if (index < 0) return unknown(options->ctx, options->scope, name, length);
    const option* o = &table[index];
    if (!text && o->type == FLAG) text = "true";
    if (!text) {
        if (*at + 1 >= argc)
            return lp_fail(options->ctx, LP_INVALID, "--%s needs a value: %s", o->name,
                           o->argument);
        text = argv[++*at];
    }
    lp_status status = check_value(options->ctx, o, text);
    if (status != LP_OK) return status;
    if (o->type != LIST && lp_options_given(options, o->name))
        return lp_fail(options->ctx, LP_INVALID, "--%s is given twice", o->name);
    options->items[options->count++] = (given){index, text};
    return LP_OK;
}

bool lp_options_want_help(lp_scope scope, int argc, char* const* argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
        const int index =
            strncmp(argv[i], "--", 2) == 0 ? find(scope, argv[i] + 2, strlen(argv[i] + 2)) : -1;
        i += index >= 0 && table[index].type != FLAG; /* its value */
    }
    return false;
}

lp_status lp_options_parse(lp_ctx* ctx, lp_scope scope, int argc, char* const* argv,
                           lp_options** out) {
    *out = NULL;
    lp_options* options = lp__calloc(ctx, 1, sizeof *options);
    if (!options) return LP_NOMEM;
    *options = (lp_options){.ctx = ctx, .scope = scope};
    options->items = lp__calloc(ctx, (size_t)argc + 1, sizeof *options->items);
    lp_status status = options->items ? LP_OK : LP_NOMEM;
    bool words_only = false;
    for (int i = 0; status == LP_OK && i < argc; i++) {
        if (words_only || strncmp(argv[i], "--", 2) != 0) {
            if (!words_only && argv[i][0] == '-' && argv[i][1] != 0) {
                status = lp_fail(ctx, LP_INVALID, "unknown option %.60s: options begin with --",
                                 argv[i]);
            } else {
                options->items[options->count++] = (given){-1, argv[i]};
            }
        } else if (argv[i][2] == 0) {
            words_only = true;
        } else {
            status = parse_one(options, argc, argv, &i);
        }
    }
    if (status != LP_OK) {
        lp_options_destroy(options);
        return status;
    }
    *out = options;
    return LP_OK;
}

void lp_options_destroy(lp_options* options) {
    if (!options) return;
    lp__free(options->ctx, options->items);
    lp__free(options->ctx, options);
}

/* ---- values ---------------------------------------------------------------------------------- */

const option* lp__options_row(const lp_options* options, int index) {
    for (int i = 0; i < (int)OPTIONS; i++) {
        if (table[i].scope == options->scope && index-- == 0) return &table[i];
    }
    return NULL;
}

static const option* row(const lp_options* options, const char* name) {
    const int index = find(options->scope, name, strlen(name));
    return LP__REQUIRE(options->ctx, index >= 0, "no option of this name in this scope")
               ? &table[index]
               : NULL;
}

static const char* text_of(const lp_options* options, const option* o) {
    for (int i = 0; i < options->count; i++) {
        if (options->items[i].index == o - table) return options->items[i].text;
    }
    return o->standard;
}

bool lp_options_given(const lp_options* options, const char* name) {
    return lp_options_count(options, name) > 0;
}

double lp_options_real(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    const char* text = o ? text_of(options, o) : NULL;
    return text ? strtod(text, NULL) : 0.0;
}

int64_t lp_options_int(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    const char* text = o ? text_of(options, o) : NULL;
    return text ? strtoll(text, NULL, 10) : 0;
}

bool lp_options_flag(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    const char* text = o ? text_of(options, o) : NULL;
    return text && strcmp(text, "true") == 0;
}

int lp_options_choice(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    const char* text = o ? text_of(options, o) : NULL;
    return text ? word_index(o->argument, text) : -1;
}

double lp_options_schedule(const lp_options* options, const char* name, bool* linear) {
    const option* o = row(options, name);
    const char* text = o ? text_of(options, o) : NULL;
    *linear = false;
    return text ? lp__schedule_read(text, linear) : 0.0;
}

int lp_options_ints(const lp_options* options, const char* name, int64_t* values, int room) {
    const option* o = row(options, name);
    const char* at = o ? text_of(options, o) : NULL;
    int count = 0;
    for (at = at && *at ? at : NULL; at; count++) {
        int64_t value;
        next_int(o, &at, &value);
        if (count < room) values[count] = value;
    }
    return count;
}

const char* lp_options_text(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    return o ? text_of(options, o) : NULL;
}

static const char* item(const lp_options* options, int table_index, int index, int* count) {
    const char* found = NULL;
    *count = 0;
    for (int i = 0; i < options->count; i++) {
        if (options->items[i].index == table_index && (*count)++ == index)
            found = options->items[i].text;
    }
    return found;
}

int lp_options_count(const lp_options* options, const char* name) {
    const option* o = row(options, name);
    int count = 0;
    if (o) item(options, (int)(o - table), -1, &count);
    return count;
}

const char* lp_options_item(const lp_options* options, const char* name, int index) {
    const option* o = row(options, name);
    int count;
    return o ? item(options, (int)(o - table), index, &count) : NULL;
}

int lp_options_positionals(const lp_options* options) {
    int count;
    item(options, -1, -1, &count);
    return count;
}

const char* lp_options_positional(const lp_options* options, int index) {
    int count;
    return item(options, -1, index, &count);
}

/* ---- help ------------------------------------------------------------------------------------ */

static int help_line(char* to, size_t room, const option* o) {
    char left[MAX_NAME + 32], standard[MAX_NAME] = "";
    const bool on = o->type == FLAG && o->standard && strcmp(o->standard, "true") == 0;
    snprintf(left, sizeof left, "--%s%s%s%s", on ? "[no-]" : "", o->name, o->argument ? " " : "",
             o->argument ? o->argument : "");
    if (o->standard) snprintf(standard, sizeof standard, " [%s]", o->standard);
    return snprintf(to, room, "  %-28s %s%s\n", left, o->help, standard);
}

char* lp_options_help(lp_ctx* ctx, lp_scope scope) {
    size_t bytes = 1;
    for (int i = 0; i < (int)OPTIONS; i++) {
        if (table[i].scope == scope) bytes += (size_t)help_line(NULL, 0, &table[i]);
    }
    char* help = lp__alloc(ctx, bytes);
    if (!help) return NULL;
    size_t at = 0;
    help[0] = 0;
    for (int i = 0; i < (int)OPTIONS; i++) {
        if (table[i].scope == scope) at += (size_t)help_line(help + at, bytes - at, &table[i]);
    }
    return help;
}
