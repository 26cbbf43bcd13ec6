/* What a lesson says: paragraphs, formulas and tables of checks, in 100 columns. */
#include "lesson.h"
#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { TEXT_WIDTH = 96, NAME_WIDTH = 28, SIDE_WIDTH = 19, APART_WIDTH = 9 };

/* Columns that UTF-8 text takes: its characters, each of which is one column wide here. */
static int columns(const char* text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void spaces(FILE* to, int n) {
    for (; n > 0; n--) fputc(' ', to);
}

static void left_aligned(FILE* to, const char* text, int width) {
    fputs(text, to);
    spaces(to, width - columns(text));
}

static void right_aligned(FILE* to, const char* text, int width) {
    spaces(to, width - columns(text));
    fputs(text, to);
}

/* ---- paragraphs ------------------------------------------------------------------------------ */

/* A word, with the blanks that hold a formula together. */
static void put_word(FILE* to, const char* word) {
    for (; *word; word++) fputc(*word == '~' ? ' ' : *word, to);
}

/* Words of a paragraph, on lines of TEXT_WIDTH columns. */
static void wrap(FILE* to, char* text) {
    int at = 0;
    for (char* word = strtok(text, " \n"); word; word = strtok(NULL, " \n")) {
        const int width = columns(word);
        if (at > 0 && at + 1 + width > TEXT_WIDTH) {
            fputc('\n', to);
            at = 0;
        }
        fputs(at == 0 ? "  " : " ", to);
        put_word(to, word);
        at += width + (at == 0 ? 2 : 1);
    }
    fputc('\n', to);
}

void lesson_text(lesson* l, const char* fmt, ...) {
    char text[2048];
    l->after_formula = false;
    if (!l->out) return;
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fputc('\n', l->out);
    wrap(l->out, text);
}

void lesson_line(lesson* l, const char* fmt, ...) {
    l->after_formula = false;
    if (!l->out) return;
    va_list args;
    va_start(args, fmt);
    fputs("    ", l->out);
    vfprintf(l->out, fmt, args);
    fputc('\n', l->out);
    va_end(args);
}

void lesson_formula(lesson* l, const char* formula) {
    if (l->formula_count < LESSON_FORMULAS) l->formulas[l->formula_count++] = formula;
    if (l->out) fprintf(l->out, "%s      %s\n", l->after_formula ? "" : "\n", formula);
    l->after_formula = true;
}

/* ---- tables ---------------------------------------------------------------------------------- */

void lesson_sides(lesson* l, const char* left, const char* right) {
    l->left_name = left;
    l->right_name = right;
    l->after_formula = false;
    if (!l->out) return;
    fputc('\n', l->out);
    spaces(l->out, 4 + NAME_WIDTH);
    right_aligned(l->out, left, SIDE_WIDTH);
    right_aligned(l->out, right, SIDE_WIDTH);
    right_aligned(l->out, "apart", APART_WIDTH);
    fputs("  must be\n", l->out);
}

static void print_number(FILE* to, double x, bool sampled) {
    char text[48];
    const double size = fabs(x);
    x += 0.0; /* -0 becomes 0 */
    if (!isfinite(x)) {
        snprintf(text, sizeof text, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    } else if (size == 0 || (size >= 1e-4 && size < 1e6)) {
        snprintf(text, sizeof text, "%.*f", sampled ? 6 : 10, x);
    } else {
        snprintf(text, sizeof text, "%.*e", size < 1e-8 ? 1 : 9, x);
    }
    right_aligned(to, text, SIDE_WIDTH);
}

/* How far apart the sides are: without a sign where only the distance matters. */
static void print_apart(FILE* to, const lesson_check* c) {
    char text[48];
    const double apart = c->left - c->right;
    const bool ordered = c->relation == LESSON_BELOW || c->relation == LESSON_ABOVE;
    if (apart == 0) {
        snprintf(text, sizeof text, "0");
    } else if (!isfinite(apart)) {
        snprintf(text, sizeof text, "%s", isnan(apart) ? "nan" : "inf");
    } else {
        snprintf(text, sizeof text, ordered ? "%+.1e" : "%.1e", ordered ? apart : fabs(apart));
    }
    right_aligned(to, text, APART_WIDTH);
}

static void print_bound(FILE* to, const lesson_check* c) {
    switch (c->relation) {
    case LESSON_EQUAL: fprintf(to, "  ≤ %.2g\n", c->bound); break;
    case LESSON_SAMPLED: fprintf(to, "  ≤ %.1e (4 s.e.)\n", c->bound); break;
    case LESSON_APART: fprintf(to, "  ≥ %.2g\n", c->bound); break;
    case LESSON_BELOW: fputs("  < 0\n", to); break;
    case LESSON_ABOVE: fputs("  > 0\n", to); break;
    case LESSON_UNDEFINED: fputs("  left undefined\n", to); break;
    }
}

static void print_check(FILE* to, const lesson_check* c) {
    const bool sampled = c->relation == LESSON_SAMPLED;
    fputs(c->holds ? "  ✓ " : "  ✗ ", to);
    left_aligned(to, c->name, NAME_WIDTH);
    print_number(to, c->left, sampled);
    print_number(to, c->right, sampled);
    print_apart(to, c);
    print_bound(to, c);
}

/* NaN holds nowhere but on the left of LESSON_UNDEFINED. */
static bool holds(const lesson_check* c) {
    const double apart = fabs(c->left - c->right);
    switch (c->relation) {
    case LESSON_EQUAL:
    case LESSON_SAMPLED: return apart <= c->bound;
    case LESSON_APART: return apart >= c->bound;
    case LESSON_BELOW: return c->left < c->right;
    case LESSON_ABOVE: return c->left > c->right;
    case LESSON_UNDEFINED: return !isfinite(c->left) && isfinite(c->right);
    }
    return false;
}

/* A check too many has no place in the record; it counts as failed, so that LESSON_CHECKS is
 * raised. */
static void check(lesson* l, lesson_relation relation, double left, double right, double bound,
                  const char* fmt, va_list args) {
    lesson_check c = {.left_name = l->left_name,
                      .right_name = l->right_name,
                      .left = left,
                      .right = right,
                      .bound = bound,
                      .relation = relation};
    vsnprintf(c.name, sizeof c.name, fmt, args);
    c.holds = holds(&c) && l->check_count < LESSON_CHECKS;
    if (!c.holds) l->failed++;
    if (l->check_count < LESSON_CHECKS) l->checks[l->check_count++] = c;
    if (l->out) print_check(l->out, &c);
}

#define CHECK(relation, left, right, bound)                                                        \
    do {                                                                                           \
        va_list args;                                                                              \
        va_start(args, fmt);                                                                       \
        check(l, relation, (left), (right), (bound), fmt, args);                                   \
        va_end(args);                                                                              \
    } while (0)

void lesson_equal(lesson* l, double left, double right, double tolerance, const char* fmt, ...) {
    CHECK(LESSON_EQUAL, left, right, tolerance);
}

void lesson_sampled(lesson* l, const lp_spread* samples, double right, const char* fmt, ...) {
    CHECK(LESSON_SAMPLED, samples->mean, right,
          4.0 * sqrt(lp_spread_var(samples) / (double)samples->n));
}

void lesson_apart(lesson* l, double left, double right, double least, const char* fmt, ...) {
    CHECK(LESSON_APART, left, right, least);
}

void lesson_below(lesson* l, double left, double right, const char* fmt, ...) {
    CHECK(LESSON_BELOW, left, right, 0);
}

void lesson_above(lesson* l, double left, double right, const char* fmt, ...) {
    CHECK(LESSON_ABOVE, left, right, 0);
}

void lesson_undefined(lesson* l, double left, double right, const char* fmt, ...) {
    CHECK(LESSON_UNDEFINED, left, right, 0);
}

void lesson_farthest(lesson* l, int64_t n, const double* left, const double* right,
                     double tolerance, const char* fmt, ...) {
    int64_t at = 0;
    for (int64_t i = 1; i < n && !isnan(left[at] - right[at]);
         i++) { /* a NaN is as far as can be */
        if (!(fabs(left[i] - right[i]) <= fabs(left[at] - right[at]))) at = i;
    }
    CHECK(LESSON_EQUAL, left[at], right[at], tolerance);
}

void lesson_matrix(lesson* l, int64_t rows, int64_t cols, const double* left, const double* right,
                   double tolerance, const char* name) {
    for (int64_t i = 0; i < rows * cols; i++)
        lesson_equal(l, left[i], right[i], tolerance, "%s[%d,%d]", name, (int)(i / cols),
                     (int)(i % cols));
}

void lesson_samples(lesson* l, int64_t rows, int64_t cols, const lp_spread* left,
                    const double* right, const char* name) {
    for (int64_t i = 0; i < rows * cols; i++)
        lesson_sampled(l, &left[i], right[i], "%s[%d,%d]", name, (int)(i / cols), (int)(i % cols));
}
