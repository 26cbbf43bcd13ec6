/* What lessons are made of. A lesson states formulas, computes both sides of each before the
 * reader's eyes, and has the two numbers compared; everything that it says also goes into a record,
 * of which JSON and the tests are made. */
#ifndef LESSON_H
#define LESSON_H

#include <logpi/logpi.h>
#include <stdio.h>

enum { LESSONS = 12, LESSON_CHECKS = 96, LESSON_FORMULAS = 24 };

/* What must hold between the two sides of a check. */
typedef enum lesson_relation {
    LESSON_EQUAL,    /* |left - right| <= bound */
    LESSON_SAMPLED,  /* the same, with a bound of four standard errors of left */
    LESSON_APART,    /* |left - right| >= bound */
    LESSON_BELOW,    /* left < right */
    LESSON_ABOVE,    /* left > right */
    LESSON_UNDEFINED /* left is no finite number, right is */
} lesson_relation;

typedef struct lesson_check {
    char name[64];
    const char *left_name, *right_name;
    double left, right, bound;
    lesson_relation relation;
    bool holds;
} lesson_check;

/* A lesson while it runs, and what came of it. */
typedef struct lesson {
    lp_ctx* ctx;
    uint64_t seed;
    int number;
    FILE* out;          /* where it is read; NULL: nowhere */
    bool after_formula; /* formulas that follow each other stand together */
    const char *left_name, *right_name;
    const char* formulas[LESSON_FORMULAS];
    lesson_check checks[LESSON_CHECKS];
    int formula_count, check_count, failed;
} lesson;

/* The twelve, in order. */
typedef struct lesson_entry {
    const char* title;
    lp_status (*run)(lesson* l);
} lesson_entry;
extern const lesson_entry lesson_table[LESSONS];

/* Runs lesson `number` (1..LESSONS) into *l. A failed check is no failure of the run: see
 * l->failed. */
lp_status lesson_run(lp_ctx* ctx, int number, uint64_t seed, FILE* out, lesson* l);

/* ---- what a lesson says ---------------------------------------------------------------------- */

/* A paragraph, broken into lines at blanks, but not at "~", which is printed as one; a line that
 * stays as it is; a formula on a line of its own. The formula and the names of sides are kept by
 * pointer. */
void lesson_text(lesson* l, const char* fmt, ...) LP_PRINTF(2, 3);
void lesson_line(lesson* l, const char* fmt, ...) LP_PRINTF(2, 3);
void lesson_formula(lesson* l, const char* formula);

/* Begins a table of checks: how the left and the right side were computed, in at most 18 characters
 * each. */
void lesson_sides(lesson* l, const char* left, const char* right);

/* The rows of a table, each a check. The name of a row has at most 28 characters. */
void lesson_equal(lesson* l, double left, double right, double tolerance, const char* fmt, ...)
    LP_PRINTF(5, 6);
/* The mean of samples beside the exact value. */
void lesson_sampled(lesson* l, const lp_spread* samples, double right, const char* fmt, ...)
    LP_PRINTF(4, 5);
void lesson_apart(lesson* l, double left, double right, double least, const char* fmt, ...)
    LP_PRINTF(5, 6);
void lesson_below(lesson* l, double left, double right, const char* fmt, ...) LP_PRINTF(4, 5);
void lesson_above(lesson* l, double left, double right, const char* fmt, ...) LP_PRINTF(4, 5);
void lesson_undefined(lesson* l, double left, double right, const char* fmt, ...) LP_PRINTF(4, 5);
/* Of two arrays [n] the entry where they are farthest apart, in one row. */
void lesson_farthest(lesson* l, int64_t n, const double* left, const double* right,
                     double tolerance, const char* fmt, ...) LP_PRINTF(6, 7);
/* Of two matrices [rows, cols] every entry, in a row of its own, as name[i,j]. */
void lesson_matrix(lesson* l, int64_t rows, int64_t cols, const double* left, const double* right,
                   double tolerance, const char* name);
/* Likewise, samples [rows * cols] of each entry on the left. */
void lesson_samples(lesson* l, int64_t rows, int64_t cols, const lp_spread* left,
                    const double* right, const char* name);

/* ---- what lessons compute with --------------------------------------------------------------- */

/* A random stream of this lesson alone. */
lp_rng lesson_rng(const lesson* l, uint32_t stream);
/* Numbers in [-1, 1] of two decimals, so that what is printed is what is computed with. They keep
 * every action of the policies here likely enough to be sampled. */
void lesson_draw(lp_rng* rng, int64_t n, double* out);

typedef double (*lesson_of_vector)(const double* theta, const void* user);
typedef double (*lesson_of_number)(double x, const void* user);

/* Central differences: df/dtheta_i = (f(theta + h e_i) - f(theta - h e_i)) / 2h, h = 1e-5, into
 * grad [n]. */
void lesson_gradient(lesson_of_vector f, const void* user, int64_t n, const double* theta,
                     double* grad);
double lesson_slope(lesson_of_number f, const void* user, double x);
/* The integral of f from a to b, by Simpson's rule in 4,000 pieces. */
double lesson_integral(lesson_of_number f, const void* user, double a, double b);
double lesson_dot(int64_t n, const double* a, const double* b);

/* log p_a as a function of Theta [d, k], for lesson_gradient. */
typedef struct lesson_choice {
    int64_t d, k, a;
    const double* x;
} lesson_choice;
double lesson_log_prob(const double* theta, const void* choice);
/* x (e_a - p)^T, by lp_softmax_policy_grad, at the probabilities of Theta. */
void lesson_score(int64_t d, int64_t k, const double* theta, const double* x, int64_t a,
                  double* grad);

enum { LESSON_MAX_PARAMETERS = 16, LESSON_MAX_ACTIONS = 8 }; /* of the policies here */

#endif
