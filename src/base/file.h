/* Shared by the readers and the writers of files. */
#ifndef LP__BASE_FILE_H
#define LP__BASE_FILE_H

#include "base/ctx.h"

/* Records "cannot VERB PATH: REASON; ADVICE"; error is a positive errno. */
lp_status lp__file_fail(lp_ctx* ctx, const char* verb, const char* path, int error);

/* Opens, again after EINTR; the negative errno on failure. */
int lp__file_open_raw(lp_ctx* ctx, const char* path, int flags, unsigned mode);

#endif
