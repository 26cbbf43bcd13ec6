/* From GGUF metadata to a tokenizer. */
#include "lm/gguf.h"
#include "text/tokenizer.h"

#define KEY(name) "tokenizer.ggml." name

/* An optional id: -1 if the key is missing, or if it is the all-ones that some converters write for
 * "none". */
static lp_status optional_id(const lp__gguf* gguf, const char* key, int32_t* out) {
    uint32_t id = UINT32_MAX;
    lp_status status = lp__gguf_u32_if(gguf, key, &id);
    if (status != LP_OK || id == UINT32_MAX) return status;
    if (id > INT32_MAX)
        return lp_fail(gguf->ctx, LP_FORMAT, "%s: key \"%s\" is %u, which is no token", gguf->path,
                       key, id);
    *out = (int32_t)id;
    return LP_OK;
}

static lp_status read_spec(const lp__gguf* gguf, lp__tokenizer_spec* spec) {
    lp__string model;
    lp_status status = lp__gguf_string(gguf, KEY("model"), &model);
    if (status != LP_OK) return status;
    if (!lp__string_equal(model, lp__string_of("gpt2"))) {
        return lp_fail(gguf->ctx, LP_UNSUPPORTED,
                       "%s: tokenizer \"%.80s\" is not supported; byte-level BPE (\"gpt2\") is",
                       gguf->path, model.data);
    }
    if (!lp__gguf_find(gguf, KEY("merges"))) {
        return lp_fail(gguf->ctx, LP_FORMAT,
                       "%s: the tokenizer has no merges (key \"" KEY("merges") "\")", gguf->path);
    }
    if (!lp__gguf_find(gguf, KEY("pre"))) {
        return lp_fail(gguf->ctx, LP_UNSUPPORTED,
                       "%s: the file does not name its pre-tokenizer (key \"" KEY(
                           "pre") "\"); convert the model again",
                       gguf->path);
    }
    int64_t kind_count = 0;
    status = lp__gguf_strings(gguf, KEY("tokens"), &spec->tokens, &spec->token_count);
    if (status == LP_OK)
        status = lp__gguf_strings(gguf, KEY("merges"), &spec->merges, &spec->merge_count);
    if (status == LP_OK) status = lp__gguf_string(gguf, KEY("pre"), &spec->pre);
    if (status == LP_OK && lp__gguf_find(gguf, KEY("token_type"))) {
        status = lp__gguf_i32s(gguf, KEY("token_type"), &spec->kinds, &kind_count);
        if (status == LP_OK && kind_count != spec->token_count) {
            status = lp_fail(gguf->ctx, LP_FORMAT, "%s: %lld tokens, but %lld token types",
                             gguf->path, (long long)spec->token_count, (long long)kind_count);
        }
    }
    if (status == LP_OK) status = optional_id(gguf, KEY("bos_token_id"), &spec->bos);
    if (status == LP_OK) status = optional_id(gguf, KEY("eos_token_id"), &spec->eos);
    if (status == LP_OK) status = optional_id(gguf, KEY("eot_token_id"), &spec->eot);
    if (status == LP_OK) status = optional_id(gguf, KEY("padding_token_id"), &spec->pad);
    if (status == LP_OK) status = optional_id(gguf, KEY("unknown_token_id"), &spec->unk);
    if (status == LP_OK) status = lp__gguf_bool_if(gguf, KEY("add_bos_token"), &spec->add_bos);
    if (status == LP_OK) status = lp__gguf_bool_if(gguf, KEY("add_eos_token"), &spec->add_eos);
    if (status == LP_OK && lp__gguf_find(gguf, "tokenizer.chat_template")) {
        status = lp__gguf_string(gguf, "tokenizer.chat_template", &spec->chat_template);
    }
    return status;
}

lp_status lp__gguf_tokenizer(lp_ctx* ctx, const lp__gguf* gguf, lp_tokenizer** out) {
    lp__tokenizer_spec spec = lp__tokenizer_spec_default();
    lp_status status = read_spec(gguf, &spec);
    if (status != LP_OK) return status;
    status = lp__tokenizer_create(ctx, &spec, out);
    return status == LP_OK ? LP_OK : lp__fail_at(ctx, status, "%s", gguf->path);
}
