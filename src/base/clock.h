/* Seconds, for metrics and measurements. */
#ifndef LP__BASE_CLOCK_H
#define LP__BASE_CLOCK_H

#include <time.h>

/* Monotonic clock. */
static inline double lp__seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
