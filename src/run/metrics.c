/* metrics.jsonl, and the few file calls that a program on top of the library needs. */
#include "base/base.h"
#include <jansson.h>
#include <logpi/run.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t* number(double x) {
    if (!isfinite(x)) return json_null();
    return x == floor(x) && fabs(x) < 1e15 ? json_integer((json_int_t)x) : json_real(x);
}

static json_t* object(const lp_metric* metrics, int count) {
    json_t* root = json_object();
    int bad = root == NULL;
    for (int i = 0; i < count && !bad; i++) {
        json_t* value = metrics[i].n > 0 ? json_array() : number(metrics[i].value);
        for (int64_t j = 0; j < metrics[i].n; j++)
            bad |= json_array_append_new(value, number(metrics[i].values[j]));
        bad |= json_object_set_new(root, metrics[i].name, value);
    }
    if (!bad) return root;
    json_decref(root);
    return NULL;
}

lp_status lp_metrics_append(lp_ctx* ctx, const char* path, const lp_metric* metrics, int count) {
    json_t* root = object(metrics, count);
    char* line = root ? json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(root);
    if (!line) return lp_fail(ctx, LP_NOMEM, "out of memory while writing %s", path);
    /* one write for the line and its end: a crash leaves whole lines */
    const size_t length = strlen(line);
    char* whole = lp__alloc(ctx, length + 1);
    lp_status status = whole ? LP_OK : LP_NOMEM;
    if (whole) {
        memcpy(whole, line, length);
        whole[length] = '\n';
        status = lp__file_append(ctx, path, whole, length + 1);
    }
    lp__free(ctx, whole);
    free(line);
    return status;
}

lp_status lp_make_folder(lp_ctx* ctx, const char* path) { return lp__mkdirs(ctx, path); }

lp_status lp_append(lp_ctx* ctx, const char* path, const void* bytes, size_t count) {
    return lp__file_append(ctx, path, bytes, count);
}

lp_status lp_read_text(lp_ctx* ctx, const char* path, char** text, size_t* bytes) {
    return lp__file_slurp(ctx, path, (size_t)64 << 20, text, bytes);
}

void lp_release(lp_ctx* ctx, void* block) { lp__free(ctx, block); }
