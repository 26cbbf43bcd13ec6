/* From Hugging Face's files to a tokenizer. */
#include "text/hf.h"

#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include <string.h>

/* ---- ids ------------------------------------------------------------------------------------- */

typedef struct table {
    lp_ctx* ctx;
    lp__names ids;      /* spelling to id */
    lp__string* tokens; /* [size]; data == NULL: a gap */
    int32_t* kinds;     /* [size] */
    uint8_t* flags;     /* [size] */
    int64_t size, count;
} table;

static void table_free(table* v) {
    lp__names_free(&v->ids);
    lp__free(v->ctx, v->tokens);
    lp__free(v->ctx, v->kinds);
    lp__free(v->ctx, v->flags);
}

static lp_status name_tokens(const lp__hf* hf, table* v) {
    for (size_t i = 0; i < hf->token_count; i++) {
        const lp__hf_token token = hf->tokens[i];
        v->size = LP__MAX(v->size, token.id + 1);
        if (!lp__names_add(&v->ids, token.content, token.id)) {
            return lp_fail(hf->ctx, LP_FORMAT, "token \"%.*s\" is in the vocabulary twice",
                           LP__SHOWN(token.content));
        }
    }
    v->count = (int64_t)hf->token_count;
    return LP_OK;
}

/* Hugging Face's loader does not read the id of an added token: a known text keeps its id, a new
 * one gets the next. A file that says otherwise has other ids there than here. */
static lp_status name_added(const lp__hf* hf, table* v) {
    int64_t last = -1;
    const int64_t known = v->count;
    for (size_t i = 0; i < hf->added_count; i++) {
        const lp__hf_added added = hf->added[i];
        int64_t id = lp__names_find(&v->ids, added.content);
        if (id < 0) id = LP__MAX(last + 1, known);
        if (id != added.id) {
            return lp_fail(hf->ctx, LP_FORMAT,
                           "added token \"%.*s\" has the id %lld; by the vocabulary and the added "
                           "tokens before it, it would be %lld",
                           LP__SHOWN(added.content), (long long)added.id, (long long)id);
        }
        last = LP__MAX(last, id);
        v->size = LP__MAX(v->size, id + 1);
        if (lp__names_add(&v->ids, added.content, id)) v->count++;
    }
    return LP_OK;
}

static lp_status place(table* v, lp__string content, int64_t id) {
    if (v->tokens[id].data && !lp__string_equal(v->tokens[id], content)) {
        return lp_fail(v->ctx, LP_FORMAT, "tokens \"%.*s\" and \"%.*s\" both have the id %lld",
                       LP__SHOWN(v->tokens[id]), LP__SHOWN(content), (long long)id);
    }
    v->tokens[id] = content;
    v->kinds[id] = LP__TOKEN_NORMAL;
    return LP_OK;
}

/* Of a token that is added twice the first description counts, as in Hugging Face's loader. */
static lp_status place_added(table* v, const lp__hf* hf, const lp__hf_added* added) {
    lp_status status = LP_OK;
    const int32_t kind = v->kinds[added->id];
    const bool again = kind == LP__TOKEN_CONTROL || kind == LP__TOKEN_USER_DEFINED;
    if (again && lp__string_equal(v->tokens[added->id], added->content)) return LP_OK;
    status = place(v, added->content, added->id);
    if (status != LP_OK) return status;
    v->kinds[added->id] = added->special ? LP__TOKEN_CONTROL : LP__TOKEN_USER_DEFINED;
    v->flags[added->id] = added->flags;
    if (added->single_word) {
        return lp_fail(v->ctx, LP_UNSUPPORTED,
                       "added token \"%.*s\" matches single words only (single_word), which is not "
                       "supported",
                       LP__SHOWN(added->content));
    }
    if (!hf->pre.nfc || !(added->flags & LP__TOKEN_NORMALIZED)) return LP_OK;
    lp_text normal = {0};
    status = lp__nfc(v->ctx, added->content.data, added->content.bytes, &normal);
    if (status == LP_OK &&
        !lp__string_equal((lp__string){normal.data, normal.bytes}, added->content)) {
        status = lp_fail(v->ctx, LP_UNSUPPORTED,
                         "added token \"%.*s\" is not in the form that the normalizer gives",
                         LP__SHOWN(added->content));
    }
    lp_text_free(v->ctx, &normal);
    return status;
}

static lp_status make_table(const lp__hf* hf, table* v) {
    *v = (table){.ctx = hf->ctx};
    lp_status status = lp__names_init(hf->ctx, &v->ids, hf->token_count + hf->added_count);
    if (status == LP_OK) status = name_tokens(hf, v);
    if (status == LP_OK) status = name_added(hf, v);
    if (status != LP_OK) return status;
    if (v->size > 2 * v->count) {
        return lp_fail(hf->ctx, LP_FORMAT,
                       "the highest id is %lld, but there are only %lld tokens: most ids are "
                       "missing",
                       (long long)v->size - 1, (long long)v->count);
    }
    v->tokens = lp__calloc(hf->ctx, (size_t)v->size, sizeof *v->tokens);
    v->kinds = lp__calloc(hf->ctx, (size_t)v->size, sizeof *v->kinds);
    v->flags = lp__calloc(hf->ctx, (size_t)v->size, sizeof *v->flags);
    if (!v->tokens || !v->kinds || !v->flags) return LP_NOMEM;
    for (int64_t i = 0; i < v->size; i++) v->kinds[i] = LP__TOKEN_UNUSED;
    for (size_t i = 0; i < hf->token_count && status == LP_OK; i++)
        status = place(v, hf->tokens[i].content, hf->tokens[i].id);
    for (size_t i = 0; i < hf->added_count && status == LP_OK; i++)
        status = place_added(v, hf, &hf->added[i]);
    return status;
}

/* ---- special tokens -------------------------------------------------------------------------- */

/* GPT-2's release has no tokenizer_config.json: its class knows the token. What the post-processor
 * puts around a text comes first. */
static void apply_defaults(lp__hf* hf, const table* v) {
    const bool gpt2 = hf->class_name.bytes == 0 ||
                      (hf->class_name.bytes >= 4 && memcmp(hf->class_name.data, "GPT2", 4) == 0);
    const lp__string end = lp__string_of("<|endoftext|>");
    if (!gpt2 || lp__names_find(&v->ids, end) < 0) return;
    for (int i = 0; i < LP__HF_NAMED; i++) {
        const bool around =
            (i == LP__HF_BOS && hf->first.data) || (i == LP__HF_EOS && hf->last.data);
        if (i != LP__HF_PAD && !hf->named[i].given && !around) hf->named[i].content = end;
    }
}

static lp_status find_named(const lp__hf* hf, table* v, int32_t ids[LP__HF_NAMED]) {
    static const char* const names[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    for (int i = 0; i < LP__HF_NAMED; i++) {
        const lp__string content = hf->named[i].content;
        ids[i] = -1;
        if (!content.data) continue;
        const int64_t id = lp__names_find(&v->ids, content);
        if (id < 0) {
            return lp_fail(hf->ctx, LP_FORMAT,
                           "%s \"%.*s\" of tokenizer_config.json is not in the vocabulary",
                           names[i], LP__SHOWN(content));
        }
        ids[i] = (int32_t)id;
        if (v->kinds[id] != LP__TOKEN_CONTROL) v->flags[id] = 0;
        v->kinds[id] = LP__TOKEN_CONTROL; /* transformers makes it one, if it is not */
    }
    return LP_OK;
}

/* What stands before and behind a text: tokenizer_config.json decides, if it says anything, else
 * the post-processor. */
static lp_status find_around(const lp__hf* hf, const table* v, lp__tokenizer_spec* spec) {
    spec->add_bos = hf->add_bos;
    spec->add_eos = hf->add_eos;
    if (hf->adds_given) return LP_OK;
    const lp__string around[] = {hf->first, hf->last};
    int32_t* const ids[] = {&spec->bos, &spec->eos};
    bool* const adds[] = {&spec->add_bos, &spec->add_eos};
    for (int i = 0; i < 2; i++) {
        if (!around[i].data) continue;
        const int64_t id = lp__names_find(&v->ids, around[i]);
        if (id < 0) {
            return lp_fail(hf->ctx, LP_FORMAT,
                           "the post-processor's token \"%.*s\" is not in the vocabulary",
                           LP__SHOWN(around[i]));
        }
        if (*ids[i] < 0) *ids[i] = (int32_t)id;
        if (*ids[i] != id) {
            return lp_fail(hf->ctx, LP_UNSUPPORTED,
                           "the post-processor puts \"%.*s\" %s a text, which is not the %s token",
                           LP__SHOWN(around[i]), i == 0 ? "before" : "behind",
                           i == 0 ? "bos" : "eos");
        }
        *adds[i] = true;
    }
    return LP_OK;
}

/* The model's unknown token matters only if some byte has no token. */
static lp_status find_unknown(const lp__hf* hf, const table* v, int32_t* unknown) {
    bool complete = true;
    for (int b = 0; b < 256; b++) {
        char spelling[2];
        const size_t n = (size_t)lp__byte_spelling((uint8_t)b, spelling);
        complete = complete && lp__names_find(&v->ids, (lp__string){spelling, n}) >= 0;
    }
    if (complete || !hf->unknown.data) return LP_OK;
    const int64_t id = lp__names_find(&v->ids, hf->unknown);
    if (id < 0) {
        return lp_fail(hf->ctx, LP_FORMAT,
                       "model.unk_token \"%.*s\" is not in the vocabulary, and bytes are missing "
                       "there",
                       LP__SHOWN(hf->unknown));
    }
    if (hf->fuse_unknown) {
        return lp_fail(hf->ctx, LP_UNSUPPORTED,
                       "model.fuse_unk is not supported for a vocabulary that lacks bytes");
    }
    *unknown = (int32_t)id;
    return LP_OK;
}

static lp_status make(lp__hf* hf, lp_tokenizer** out) {
    table v;
    int32_t named[LP__HF_NAMED];
    lp__tokenizer_spec spec = lp__tokenizer_spec_default();
    lp_status status = make_table(hf, &v);
    if (status == LP_OK) {
        apply_defaults(hf, &v);
        status = find_named(hf, &v, named);
    }
    if (status == LP_OK) {
        spec.bos = named[LP__HF_BOS];
        spec.eos = named[LP__HF_EOS];
        spec.pad = named[LP__HF_PAD];
        spec.unk = named[LP__HF_UNK];
        status = find_around(hf, &v, &spec);
    }
    if (status == LP_OK) status = find_unknown(hf, &v, &spec.unknown_byte);
    if (status == LP_OK) {
        spec.tokens = v.tokens;
        spec.kinds = v.kinds;
        spec.flags = v.flags;
        spec.token_count = v.size;
        spec.pairs = hf->pairs;
        spec.merge_count = (int64_t)hf->pair_count / 2;
        spec.steps = hf->pre;
        spec.ignore_merges = hf->ignore_merges;
        spec.chat_template = hf->chat_template;
        status = lp__tokenizer_create(hf->ctx, &spec, out);
    }
    table_free(&v);
    return status;
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Reads one JSON file, whose strings live as long as json. */
static lp_status read_json(lp__hf* hf, lp__json* json, lp__string text, const char* name,
                           lp_status (*read)(lp__hf*, lp__json*)) {
    *json = (lp__json){.ctx = hf->ctx};
    if (!text.data) return LP_OK;
    lp_status status = lp__json_open(hf->ctx, json, text);
    if (status == LP_OK) status = read(hf, json);
    return status == LP_OK ? LP_OK : lp__fail_at(hf->ctx, status, "%s", name);
}

static lp_status read_vocab_file(lp__hf* hf, lp__json* json) {
    lp_status status = lp__hf_read_vocab(hf, json);
    return status == LP_OK ? lp__json_finish(json) : status;
}

static lp_status read_files(lp__hf* hf, const lp__hf_files* files, lp__json json[2]) {
    const char* name = files->tokenizer.data ? "tokenizer.json" : "vocab.json";
    lp_status status;
    if (files->tokenizer.data) {
        status = read_json(hf, &json[0], files->tokenizer, name, lp__hf_read_tokenizer);
    } else {
        hf->pre = (lp__pre){.steps = {LP__PRE_GPT2}, .count = 1};
        status = read_json(hf, &json[0], files->vocab, name, read_vocab_file);
        if (status == LP_OK) {
            status = lp__hf_read_merges(hf, files->merges);
            if (status != LP_OK) (void)lp__fail_at(hf->ctx, status, "merges.txt");
        }
    }
    if (status == LP_OK)
        status =
            read_json(hf, &json[1], files->config, "tokenizer_config.json", lp__hf_read_config);
    if (status != LP_OK || !files->chat_template.data) return status;
    hf->chat_template = files->chat_template;
    const int64_t bad = lp__utf8_error(hf->chat_template.data, hf->chat_template.bytes);
    return bad < 0 ? LP_OK
                   : lp_fail(hf->ctx, LP_FORMAT, "chat_template.jinja: invalid UTF-8 at byte %lld",
                             (long long)bad);
}

lp_status lp__tokenizer_from_hf(lp_ctx* ctx, const lp__hf_files* files, lp_tokenizer** out) {
    *out = NULL;
    if (!LP__REQUIRE(ctx, files->tokenizer.data || (files->vocab.data && files->merges.data),
                     "tokenizer.json, or vocab.json and merges.txt"))
        return LP_INVALID;
    lp__hf hf = {.ctx = ctx};
    lp__json json[2] = {{.ctx = ctx}, {.ctx = ctx}};
    lp_status status = read_files(&hf, files, json);
    if (status == LP_OK) {
        status = make(&hf, out);
        if (status != LP_OK)
            (void)lp__fail_at(ctx, status, files->tokenizer.data ? "tokenizer.json" : "vocab.json");
    }
    lp__json_close(&json[0]);
    lp__json_close(&json[1]);
    lp__free(ctx, hf.tokens);
    lp__free(ctx, hf.pairs);
    lp__free(ctx, hf.added);
    return status;
}
