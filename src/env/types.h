/* The tables of src/env/types.inc, one a file. */
#ifndef LP__ENV_TYPES_H
#define LP__ENV_TYPES_H

#include <logpi/env.h>

#define LP__ENV(name) extern const lp_env_type lp__env_##name;
#include "env/types.inc"
#undef LP__ENV

#endif
