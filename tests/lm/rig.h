/* The tiny model with its weights, and what tests of models share. */
#ifndef TESTS_LM_RIG_H
#define TESTS_LM_RIG_H

#include "testing.h"

#include <dirent.h>
#include <logpi/lm.h>

typedef struct rig {
    lp_ctx* ctx;
    lp_model* model;
    lp_weights* weights;
} rig;

static inline rig set_up_model(const lp_ctx_def* def, const char* path) {
    rig r;
    r.ctx = lp_ctx_create(def, NULL, 0);
    assert_non_null(r.ctx);
    if (lp_model_open(r.ctx, path, &r.model) != LP_OK) fail_msg("%s", lp_error(r.ctx));
    assert_int_equal(lp_model_load_weights(r.model, true, &r.weights), LP_OK);
    return r;
}

static inline rig set_up_with(const lp_ctx_def* def) {
    return set_up_model(def, LP_MODELS "/tiny.gguf");
}

static inline rig set_up(int threads) {
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = threads;
    return set_up_with(&def);
}

/* How many files this process has open. */
static inline int open_files(void) {
    int count = 0;
    DIR* dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) count++;
    closedir(dir);
    return count - 3; /* ".", ".." and the folder itself */
}

#endif
