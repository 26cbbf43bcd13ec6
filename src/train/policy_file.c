/* Policies as files: safetensors whose metadata say what the numbers do not. */
#include "tensor/safetensors.h"
#include "train/policy.h"
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 64 };
static const char FORMAT[] = "logpi policy 1";
static const char* const activations[] = {"tanh", "relu"};

lp_status lp_policy_save(const lp_policy* p, const lp_env_type* type, const char* path) {
    const bool box = p->def.action.kind == LP_SPACE_BOX;
    const char* const metadata[] = {"format",     FORMAT,
                                    "env",        type->name,
                                    "activation", activations[p->def.activation],
                                    "action",     box ? "box" : "discrete",
                                    NULL};
    return lp_params_save(p->params, path, NULL, metadata);
}

/* One of two words of the metadata. */
static lp_status read_word(lp_ctx* ctx, const lp__safetensors* f, const char* path, const char* key,
                           const char* zero, const char* one, int* value) {
    const char* word = lp__safetensors_metadata(f, key);
    if (word && (strcmp(word, zero) == 0 || strcmp(word, one) == 0)) {
        *value = strcmp(word, one) == 0;
        return LP_OK;
    }
    return lp_fail(ctx, LP_FORMAT, "%s: %s is \"%.40s\": it must be %s or %s", path, key,
                   word ? word : "missing", zero, one);
}

/* Checks layer l of a network against the width below it, and gives its own. */
static lp_status read_layer(lp_ctx* ctx, const lp__safetensors* f, const char* path,
                            const char* network, int l, int64_t below, int64_t* width) {
    char name[NAME_BYTES];
    int64_t cols, bias_rows, bias;
    snprintf(name, sizeof name, "%s.%d.weight", network, l);
    lp_status status = lp__safetensors_shape(f, name, width, &cols);
    snprintf(name, sizeof name, "%s.%d.bias", network, l);
    if (status == LP_OK) status = lp__safetensors_shape(f, name, &bias_rows, &bias);
    if (status != LP_OK || (cols == below && bias_rows == 1 && bias == *width)) return status;
    return lp_fail(ctx, LP_FORMAT,
                   "%s: layer %d of the %s does not fit the one below it, or its bias", path, l,
                   network);
}

/* The shape of the networks from those of all their tensors, before memory is asked for. */
static lp_status read_shape(lp_ctx* ctx, const lp__safetensors* f, const char* path,
                            lp_policy_def* def) {
    const int64_t tensors = lp__safetensors_count(f) - (def->action.kind == LP_SPACE_BOX);
    const int64_t layers = tensors / 4; /* weight and bias, actor and critic */
    if (tensors % 4 || layers < 1 || layers > LP_MLP_LAYERS)
        return lp_fail(ctx, LP_FORMAT, "%s: %lld tensors are no actor and critic", path,
                       (long long)lp__safetensors_count(f));
    def->hidden_layers = (int)layers - 1;
    int64_t rows;
    lp_status status = lp__safetensors_shape(f, "actor.0.weight", &rows, &def->observation.n);
    for (int side = 0; status == LP_OK && side < 2; side++) {
        int64_t below = def->observation.n;
        for (int l = 0; status == LP_OK && l < (int)layers; l++) {
            const bool last = l + 1 == (int)layers;
            int64_t width = 0;
            status = read_layer(ctx, f, path, side ? "critic" : "actor", l, below, &width);
            const int64_t wanted = side == 0 ? width : last ? 1 : def->hidden[l];
            if (status == LP_OK && width != wanted)
                status =
                    lp_fail(ctx, LP_FORMAT, "%s: layer %d of actor and critic differ", path, l);
            if (side == 0 && last) def->action.n = width;
            if (side == 0 && !last) def->hidden[l] = width;
            below = width;
        }
    }
    return status;
}

static lp_status read_numbers(const lp__safetensors* f, lp_policy* p) {
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < lp_params_count(p->params); i++)
        status = lp__safetensors_read(f, lp_params_name(p->params, i), lp_params_get(p->params, i));
    lp_params_changed(p->params);
    if (status == LP_OK && !lp_params_finite(p->params))
        status = lp_fail(p->ctx, LP_FORMAT,
                         "a weight of the policy is no finite number: it has diverged");
    return status;
}

static lp_status load(lp_ctx* ctx, const lp__safetensors* f, const char* path, lp_policy** out) {
    const char* format = lp__safetensors_metadata(f, "format");
    if (!format || strcmp(format, FORMAT) != 0)
        return lp_fail(ctx, LP_FORMAT, "%s: it is no policy (its format is \"%.40s\", not \"%s\")",
                       path, format ? format : "missing", FORMAT);
    static const lp_env_type none = {.name = ""};
    lp_policy_def def = lp_policy_def_default(&none);
    def.observation.kind = LP_SPACE_BOX;
    int activation = 0, box = 0;
    lp_status status =
        read_word(ctx, f, path, "activation", activations[0], activations[1], &activation);
    if (status == LP_OK) status = read_word(ctx, f, path, "action", "discrete", "box", &box);
    if (status != LP_OK) return status;
    def.activation = (lp_activation)activation;
    def.action.kind = box ? LP_SPACE_BOX : LP_SPACE_DISCRETE;
    status = read_shape(ctx, f, path, &def);
    if (status == LP_OK) status = lp__policy_make(ctx, &def, false, out);
    if (status == LP_INVALID)
        return lp__fail_at(ctx, LP_FORMAT, "%s", path); /* a size that is none */
    if (status == LP_OK) status = read_numbers(f, *out);
    return status == LP_FORMAT && !strstr(lp_error(ctx), path)
               ? lp__fail_at(ctx, status, "%s", path)
               : status;
}

lp_status lp_policy_load(lp_ctx* ctx, const char* path, lp_policy** out, const lp_env_type** type) {
    *out = NULL;
    lp__safetensors* f;
    lp_status status = lp__safetensors_open(ctx, path, &f);
    if (status != LP_OK) return status;
    status = load(ctx, f, path, out);
    const char* name = lp__safetensors_metadata(f, "env");
    if (type) *type = name ? lp_env_find(name) : NULL;
    lp__safetensors_close(f);
    if (status == LP_OK) return LP_OK;
    lp_policy_destroy(*out);
    *out = NULL;
    return status;
}
