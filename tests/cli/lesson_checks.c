/* The lessons, one case each: every check holds, and what is said fits its columns. That a check
 * can fail is held, too: a lesson that could not would teach nothing. */
#include "testing.h"

#include "lessons/lesson.h"

static lesson ran;

static void run(int number, uint64_t seed, FILE* out) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(ctx);
    assert_int_equal(lesson_run(ctx, number, seed, out, &ran), LP_OK);
    lp_ctx_destroy(ctx);
}

/* characters of UTF-8 text */
static int columns(const char* text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void one_lesson(void** state) {
    const int number = 1 + (int)((const lesson_entry*)*state - lesson_table);
    run(number, 0, NULL);
    assert_true(ran.check_count >= 10 && ran.check_count < LESSON_CHECKS);
    assert_true(ran.formula_count >= 1 && ran.formula_count < LESSON_FORMULAS);
    for (int i = 0; i < ran.check_count; i++) {
        const lesson_check* c = &ran.checks[i];
        if (columns(c->name) > 28 || columns(c->left_name) > 18 || columns(c->right_name) > 18)
            fail_msg("too wide for its column: %s (%s, %s)", c->name, c->left_name, c->right_name);
        if (!c->holds)
            print_error("lesson %d: %s: %s %.12g, %s %.12g, bound %.3g\n", number, c->name,
                        c->left_name, c->left, c->right_name, c->right, c->bound);
    }
    assert_int_equal(ran.failed, 0);
}

/* The same seed gives the same numbers, another seed others. */
static void seeds(void** state) {
    (void)state;
    static lesson first;
    run(3, 5, NULL);
    first = ran;
    run(3, 5, NULL);
    for (int i = 0; i < ran.check_count; i++)
        assert_true(ran.checks[i].left == first.checks[i].left);
    run(3, 6, NULL);
    for (int i = 0; i < ran.check_count; i++)
        assert_true(ran.checks[i].left != first.checks[i].left);
}

/* Each relation on either side of its edge, and NaN on either side of the table. */
static void relations(void** state) {
    (void)state;
    lesson l = {.number = 1};
    const double nan = (double)NAN, three[3] = {1, 2, 3}, off[3] = {1, 2.5, 3},
                 unknown[3] = {1, nan, 3};
    const lp_spread near = {.n = 100, .mean = 0.39, .square = 99},
                    far = {.n = 100, .mean = 0.41, .square = 99};
    lesson_sides(&l, "left", "right");
    lesson_equal(&l, 1, 1.5, 0.5, "holds");
    lesson_sampled(&l, &near, 0, "holds: four standard errors are 0.4");
    lesson_apart(&l, 1, 1.5, 0.5, "holds");
    lesson_below(&l, 1, 1.5, "holds");
    lesson_above(&l, 1.5, 1, "holds");
    lesson_undefined(&l, nan, 1, "holds");
    lesson_undefined(&l, -(double)INFINITY, 1, "holds");
    lesson_farthest(&l, 3, three, off, 0.5, "holds");
    const int held = l.check_count;
    lesson_equal(&l, 1, 1.5, 0.49, "fails");
    lesson_equal(&l, nan, nan, 1, "fails");
    lesson_sampled(&l, &far, 0, "fails");
    lesson_apart(&l, 1, 1.5, 0.51, "fails");
    lesson_apart(&l, nan, 1, 0, "fails");
    lesson_below(&l, 1, 1, "fails");
    lesson_below(&l, nan, 1, "fails");
    lesson_above(&l, 1, 1, "fails");
    lesson_undefined(&l, 1, 1, "fails");
    lesson_undefined(&l, nan, nan, "fails");
    lesson_farthest(&l, 3, three, off, 0.49, "fails");
    lesson_farthest(&l, 3, three, unknown, 1e9, "fails");
    for (int i = 0; i < l.check_count; i++) {
        if (l.checks[i].holds != (i < held))
            fail_msg("relation %d, check %d", (int)l.checks[i].relation, i);
    }
    assert_int_equal(l.failed, l.check_count - held);
}

/* One check more than there is room for fails, and nothing is written past the end. */
static void too_many_checks(void** state) {
    (void)state;
    lesson l = {.number = 1};
    for (int i = 0; i < LESSON_CHECKS; i++) lesson_equal(&l, 1, 1, 0, "holds");
    assert_int_equal(l.failed, 0);
    lesson_equal(&l, 1, 1, 0, "no room");
    assert_int_equal(l.failed, 1);
    assert_int_equal(l.check_count, LESSON_CHECKS);
}

/* What the lessons compute with, beside what is known. */
static double cube(double x, const void* user) {
    (void)user;
    return x * x * x;
}
static double bowl(const double* theta, const void* user) {
    (void)user;
    return theta[0] * theta[0] + 3 * theta[0] * theta[1];
}
static void numerics(void** state) {
    (void)state;
    const double at[2] = {2, -1};
    double grad[2];
    assert_close(lesson_slope(cube, NULL, 2), 12, 1e-9);
    assert_close(lesson_integral(cube, NULL, 1, 3), 20, 1e-12);
    lesson_gradient(bowl, NULL, 2, at, grad);
    assert_close(grad[0], 1, 1e-9);
    assert_close(grad[1], 6, 1e-9);
}

int main(void) {
    static char names[LESSONS][16];
    struct CMUnitTest lessons[LESSONS];
    const struct CMUnitTest tests[] = {cmocka_unit_test(seeds), cmocka_unit_test(relations),
                                       cmocka_unit_test(too_many_checks),
                                       cmocka_unit_test(numerics)};
    for (int i = 0; i < LESSONS; i++) {
        snprintf(names[i], sizeof names[i], "lesson_%d", i + 1);
        lessons[i] = (struct CMUnitTest){names[i], one_lesson, NULL, NULL, (void*)&lesson_table[i]};
    }
    const int failed = cmocka_run_group_tests(lessons, NULL, NULL);
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
