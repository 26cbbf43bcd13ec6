/* The environments of the library, by name. */
#include "env/types.h"

#include <string.h>

static const lp_env_type* const types[] = {
#define LP__ENV(name) &lp__env_##name,
#include "env/types.inc"
#undef LP__ENV
};
enum { COUNT = sizeof types / sizeof *types };

const lp_env_type* const* lp_env_types(int* count) {
    if (count) *count = COUNT;
    return types;
}

const lp_env_type* lp_env_find(const char* name) {
    for (int i = 0; name && i < COUNT; i++) {
        if (strcmp(types[i]->name, name) == 0) return types[i];
    }
    return NULL;
}
