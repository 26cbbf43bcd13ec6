/* What every test includes: cmocka, and how close two numbers must be. */
#ifndef TESTING_H
#define TESTING_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Fails unless |got - want| <= tolerance; NaN fails. */
#define assert_close(got, want, tolerance)                                                         \
    assert_close_at((double)(got), (double)(want), (tolerance), #got, __FILE__, __LINE__)

/* tests/fixtures/NAME, or the one made anew in the folder LOGPI_FIXTURES. Valid until the next
 * call. */
static inline const char* fixture_path(const char* name) {
    static char path[4096];
    const char* folder = getenv("LOGPI_FIXTURES");
    snprintf(path, sizeof path, "%s/%s", folder ? folder : LP_FIXTURES, name);
    return path;
}

static inline void assert_close_at(double got, double want, double tolerance, const char* what,
                                   const char* file, int line) {
    if (fabs(got - want) <= tolerance || got == want) return;
    print_error("%s is %.9g, not %.9g: off by %.3g, allowed %.3g\n", what, got, want,
                fabs(got - want), tolerance);
    _fail(file, line);
}

#endif
