/* The table of options, as the files of this layer see it. */
#ifndef LP__RUN_OPTIONS_H
#define LP__RUN_OPTIONS_H

#include "base/base.h"
#include <logpi/run.h>

typedef enum lp__option_type {
    INT,
    REAL,
    FLAG,
    CHOICE,
    TEXT,
    LIST,
    SCHEDULE,
    INTS
} lp__option_type;

typedef struct lp__option {
    lp_scope scope;
    const char* name;
    lp__option_type type;
    const char* standard; /* the default as text */
    const char *argument, *help;
    int64_t least, most; /* INT, INTS */
    double low, high;    /* REAL, SCHEDULE */
} lp__option;

/* Row `index` of the scope that options were read for; NULL after the last. */
const lp__option* lp__options_row(const lp_options* options, int index);

/* "lin_0.001", "0.001": the number, and whether it falls to 0. The text was checked when it was
 * read. */
double lp__schedule_read(const char* text, bool* linear);

#endif
