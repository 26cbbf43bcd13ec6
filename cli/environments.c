/* What the verbs of environments share. */
#include "cli.h"
#include <math.h>
#include <stdlib.h>

lp_status cli_env(lp_ctx* ctx, const char* name, const lp_env_type** type) {
    int count;
    const lp_env_type* const* types = lp_env_types(&count);
    *type = lp_env_find(name);
    if (*type) return LP_OK;
    const char** names = calloc((size_t)count, sizeof *names);
    for (int i = 0; names && i < count; i++) names[i] = types[i]->name;
    const char* nearest = names ? lp_nearest(name, names, count) : NULL;
    free(names);
    return nearest ? lp_fail(ctx, LP_INVALID, "unknown environment \"%.60s\"; did you mean \"%s\"?",
                             name, nearest)
                   : lp_fail(ctx, LP_INVALID,
                             "unknown environment \"%.60s\"; logpi envs lists them", name);
}

lp_status cli_evaluate(lp_ctx* ctx, lp_policy* policy, const lp_env_type* type,
                       const evaluation* how, lp_evaluation* result) {
    const uint64_t seed =
        (uint64_t)how->seed | (uint64_t)1 << 63; /* seeds of the command line are below 2^63 */
    lp_envs_def def = lp_envs_def_default(type);
    def.count = how->n_envs;
    def.seed = seed;
    lp_envs* envs;
    lp_status status = lp_envs_create(ctx, &def, &envs);
    if (status != LP_OK) return status;
    status = lp_evaluate(policy, envs, how->episodes, how->deterministic, seed, NULL, result);
    lp_envs_destroy(envs);
    return status;
}
