/* The state of an environment, for tests. */
#ifndef LP__ENVS_H
#define LP__ENVS_H

#include <logpi/env.h>

void* lp__envs_state(lp_envs* envs, int64_t environment);

#endif
