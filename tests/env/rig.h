/* What the tests of the environments share: a context that counts its assertions, and counts and
 * refuses memory. */
#ifndef TESTS_ENV_RIG_H
#define TESTS_ENV_RIG_H

#include "testing.h"

#include <logpi/env.h>

typedef struct rig {
    lp_ctx* ctx;
    int assertions;
    char message[200]; /* of the last one */
    int64_t held;      /* bytes */
    int64_t countdown; /* allocations that still succeed; negative: all do */
} rig;

static inline void rig_assertion(void* user, const char* condition, const char* where,
                                 const char* message) {
    (void)condition, (void)where;
    rig* r = user;
    r->assertions++;
    snprintf(r->message, sizeof r->message, "%s", message);
}

/* malloc, but more than 2^40 bytes are never there: some allocators end the program for that. */
static inline void* rig_alloc(void* user, void* old, size_t old_bytes, size_t new_bytes) {
    rig* r = user;
    if (new_bytes > (size_t)1 << 40) return NULL;
    if (new_bytes > 0 && r->countdown == 0) return NULL;
    if (new_bytes > 0 && r->countdown > 0) r->countdown--;
    void* block = NULL;
    if (new_bytes == 0) {
        free(old);
    } else if (!(block = realloc(old, new_bytes))) {
        return NULL;
    }
    r->held += (int64_t)new_bytes - (int64_t)old_bytes;
    return block;
}

static inline void rig_open(rig* r, int threads) {
    *r = (rig){.countdown = -1};
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    def.alloc = rig_alloc;
    def.alloc_user = r;
    def.assertion = rig_assertion;
    def.assert_user = r;
    r->ctx = lp_ctx_create(&def, NULL, 0);
    assert_non_null(r->ctx);
}

/* Nothing is left, and no assertion was told that the test did not take. */
static inline void rig_close(rig* r) {
    assert_int_equal(r->assertions, 0);
    lp_ctx_destroy(r->ctx);
    assert_int_equal(r->held, 0);
}

static inline lp_envs* rig_envs(rig* r, const lp_env_type* type, int64_t count, uint64_t seed) {
    lp_envs_def def = lp_envs_def_default(type);
    def.count = count;
    def.seed = seed;
    lp_envs* envs = NULL;
    if (lp_envs_create(r->ctx, &def, &envs) != LP_OK) fail_msg("%s", lp_error(r->ctx));
    return envs;
}

static inline lp_env_results receive(rig* r, lp_envs* envs) {
    lp_env_results results;
    if (lp_envs_receive(envs, &results) != LP_OK) fail_msg("%s", lp_error(r->ctx));
    return results;
}

#endif
