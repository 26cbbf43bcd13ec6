#include "text/tokenizer.h"

#include "text/byte_alphabet.h"
#include <string.h>

lp__tokenizer_spec lp__tokenizer_spec_default(void) {
    return (lp__tokenizer_spec){
        .bos = -1, .eos = -1, .eot = -1, .pad = -1, .unk = -1, .unknown_byte = -1};
}

/* ---- creation -------------------------------------------------------------------------------- */

static lp_status check_spec(lp_ctx* ctx, const lp__tokenizer_spec* spec) {
    if (spec->token_count < 1 || spec->token_count > LP__VOCABULARY_LIMIT) {
        return lp_fail(ctx, LP_FORMAT, "the tokenizer has %lld tokens; 1 to %d are possible",
                       (long long)spec->token_count, LP__VOCABULARY_LIMIT);
    }
    if (spec->merge_count < 1) {
        return lp_fail(ctx, LP_FORMAT, "the tokenizer has no merges; byte-level BPE needs them");
    }
    if (spec->merge_count > LP__MERGES_LIMIT) {
        return lp_fail(ctx, LP_FORMAT, "the tokenizer has %lld merges; at most %d are possible",
                       (long long)spec->merge_count, LP__MERGES_LIMIT);
    }
    if (spec->chat_template.bytes > LP__CHAT_TEMPLATE_LIMIT) {
        return lp_fail(ctx, LP_FORMAT, "the chat template has %zu bytes; at most %d are possible",
                       spec->chat_template.bytes, LP__CHAT_TEMPLATE_LIMIT);
    }
    const int32_t ids[] = {spec->bos, spec->eos, spec->eot,
                           spec->pad, spec->unk, spec->unknown_byte};
    const char* const names[] = {"bos", "eos", "eot", "pad", "unknown", "unknown byte's"};
    for (int i = 0; i < 6; i++) {
        if (ids[i] < -1 || ids[i] >= spec->token_count) {
            return lp_fail(ctx, LP_FORMAT,
                           "the tokenizer's %s token is %d, but there are %lld tokens", names[i],
                           ids[i], (long long)spec->token_count);
        }
    }
    return LP_OK;
}

static bool is_whole(int kind) {
    return kind == LP__TOKEN_CONTROL || kind == LP__TOKEN_USER_DEFINED;
}

static lp_status check_token(lp_ctx* ctx, const lp__tokenizer_spec* spec, int64_t id) {
    lp__string token = spec->tokens[id];
    if (token.bytes > LP__TOKEN_BYTES_LIMIT) {
        return lp_fail(ctx, LP_FORMAT, "token %lld has %zu bytes; at most %d are possible",
                       (long long)id, token.bytes, LP__TOKEN_BYTES_LIMIT);
    }
    int64_t bad = lp__utf8_error(token.data, token.bytes);
    if (bad >= 0) {
        return lp_fail(ctx, LP_FORMAT, "token %lld is not valid UTF-8 (at its byte %lld)",
                       (long long)id, (long long)bad);
    }
    if (spec->kinds && (spec->kinds[id] < 0 || spec->kinds[id] >= LP__TOKEN_KINDS)) {
        return lp_fail(ctx, LP_FORMAT, "token %lld has the unknown type %d", (long long)id,
                       spec->kinds[id]);
    }
    if (is_whole(spec->kinds ? spec->kinds[id] : LP__TOKEN_NORMAL) &&
        token.bytes > LP__WHOLE_BYTES_LIMIT) {
        return lp_fail(ctx, LP_UNSUPPORTED,
                       "token %lld, which is matched whole, has %zu bytes; at most %d are possible",
                       (long long)id, token.bytes, LP__WHOLE_BYTES_LIMIT);
    }
    return LP_OK;
}

/* Copies spellings, their bytes and kinds, and makes the two dictionaries. */
static lp_status copy_vocabulary(lp_tokenizer* t, const lp__tokenizer_spec* spec) {
    size_t n = (size_t)t->size, total = 0;
    for (size_t i = 0; i < n; i++) {
        lp_status status = check_token(t->ctx, spec, (int64_t)i);
        if (status != LP_OK) return status;
        total += spec->tokens[i].bytes + 1; /* at most 2,000,000 * 65,537 */
    }
    t->spellings = lp__calloc(t->ctx, n, sizeof *t->spellings);
    t->bytes = lp__calloc(t->ctx, n, sizeof *t->bytes);
    t->kinds = lp__calloc(t->ctx, n, 1);
    t->flags = lp__calloc(t->ctx, n, 1);
    t->spelling_block = lp__alloc(t->ctx, total);
    t->bytes_block = lp__alloc(t->ctx, total);
    if (!t->spellings || !t->bytes || !t->kinds || !t->flags || !t->spelling_block ||
        !t->bytes_block)
        return LP_NOMEM;
    if (lp__names_init(t->ctx, &t->by_spelling, n)) return LP_NOMEM;
    if (lp__names_init(t->ctx, &t->by_bytes, n)) return LP_NOMEM;
    char *spelling = t->spelling_block, *bytes = t->bytes_block;
    for (size_t i = 0; i < n; i++) {
        lp__string token = spec->tokens[i];
        if (token.bytes > 0) memcpy(spelling, token.data, token.bytes);
        spelling[token.bytes] = '\0';
        t->spellings[i] = (lp__string){spelling, token.bytes};
        size_t length = lp__spelled_bytes(t->spellings[i], bytes);
        bytes[length] = '\0';
        t->bytes[i] = (lp__string){bytes, length};
        t->kinds[i] = (uint8_t)(spec->kinds ? spec->kinds[i] : LP__TOKEN_NORMAL);
        if (spec->flags) t->flags[i] = spec->flags[i];
        t->longest = LP__MAX(t->longest, token.bytes);
        spelling += token.bytes + 1;
        bytes += length + 1;
        if (token.bytes == 0) continue; /* a filler; nothing can produce it */
        if (!lp__names_add(&t->by_spelling, t->spellings[i], (int64_t)i)) {
            return lp_fail(t->ctx, LP_FORMAT, "token %zu, \"%.80s\", is in the vocabulary twice", i,
                           t->spellings[i].data);
        }
        (void)lp__names_add(&t->by_bytes, t->bytes[i], (int64_t)i);
    }
    return LP_OK;
}

static lp_status collect_whole(lp_tokenizer* t) {
    for (int set = 0; set < 2; set++) {
        lp__whole* whole = &t->whole[set];
        for (int pass = 0; pass < 2; pass++) {
            whole->count = 0;
            for (int32_t i = 0; i < t->size; i++) {
                const bool normalized = t->flags[i] & LP__TOKEN_NORMALIZED;
                if (!is_whole(t->kinds[i]) || t->spellings[i].bytes == 0 || normalized != set)
                    continue;
                if (pass == 1) whole->ids[whole->count] = i;
                whole->count++;
            }
            if (pass == 0)
                whole->ids = lp__calloc(t->ctx, (size_t)whole->count, sizeof *whole->ids);
            if (!whole->ids) return LP_NOMEM;
        }
        lp__whole_sort(whole, t->spellings);
    }
    return LP_OK;
}

static lp_status set_chat(lp_tokenizer* t, lp__string source) {
    if (!source.data) return LP_OK;
    t->chat_template = lp__strdup(t->ctx, source.data, source.bytes);
    if (!t->chat_template) return LP_NOMEM;
    t->chat_template_bytes = source.bytes;
    if (t->im_start < 0 || t->im_end < 0) return LP_OK;
    return lp__chat_template_read(t->ctx, source, &t->chat, &t->default_system);
}

static lp_status build(lp_tokenizer* t, const lp__tokenizer_spec* spec) {
    t->pre = spec->steps;
    t->ignore_merges = spec->ignore_merges;
    lp_status status = LP_OK;
    if (spec->pre.data) status = lp__pre_by_name(t->ctx, spec->pre, &t->pre, &t->ignore_merges);
    if (status == LP_OK) status = copy_vocabulary(t, spec);
    if (status == LP_OK) {
        status = lp__bpe_init(t->ctx, &t->bpe, &t->by_spelling, spec->merges, spec->pairs,
                              spec->merge_count, spec->unknown_byte);
    }
    if (status == LP_OK) status = lp__pretokenizer_create(t->ctx, &t->pre, &t->pretokenizer);
    if (status == LP_OK) status = collect_whole(t);
    if (status != LP_OK) return status;
    t->im_start = (int32_t)lp__names_find(&t->by_spelling, lp__string_of("<|im_start|>"));
    t->im_end = (int32_t)lp__names_find(&t->by_spelling, lp__string_of("<|im_end|>"));
    if (t->eot < 0) t->eot = t->im_end;
    if (t->eos >= 0) status = lp_tokenizer_add_end(t, t->eos);
    if (status == LP_OK && t->eot >= 0) status = lp_tokenizer_add_end(t, t->eot);
    return status == LP_OK ? set_chat(t, spec->chat_template) : status;
}

lp_status lp__tokenizer_create(lp_ctx* ctx, const lp__tokenizer_spec* spec, lp_tokenizer** out) {
    lp_status status = check_spec(ctx, spec);
    if (status != LP_OK) return status;
    lp_tokenizer* t = lp__calloc(ctx, 1, sizeof *t);
    if (!t) return LP_NOMEM;
    t->ctx = ctx;
    t->size = (int32_t)spec->token_count;
    t->bos = spec->bos;
    t->eos = spec->eos;
    t->eot = spec->eot;
    t->pad = spec->pad;
    t->unk = spec->unk;
    t->unknown_byte = spec->unknown_byte;
    t->add_bos = spec->add_bos;
    t->add_eos = spec->add_eos;
    status = build(t, spec);
    if (status != LP_OK) {
        lp_tokenizer_destroy(t);
        return status;
    }
    *out = t;
    return LP_OK;
}

void lp_tokenizer_destroy(lp_tokenizer* t) {
    if (!t) return;
    lp_ctx* ctx = t->ctx;
    lp__free(ctx, t->spellings);
    lp__free(ctx, t->bytes);
    lp__free(ctx, t->spelling_block);
    lp__free(ctx, t->bytes_block);
    lp__free(ctx, t->kinds);
    lp__free(ctx, t->flags);
    for (int set = 0; set < 2; set++) lp__free(ctx, t->whole[set].ids);
    lp_token_list_free(ctx, &t->ends);
    lp__free(ctx, t->default_system);
    lp__free(ctx, t->chat_template);
    lp__names_free(&t->by_spelling);
    lp__names_free(&t->by_bytes);
    lp__bpe_free(ctx, &t->bpe);
    lp__pretokenizer_destroy(t->pretokenizer);
    lp__free(ctx, t);
}

/* ---- questions ------------------------------------------------------------------------------- */

int32_t lp_tokenizer_size(const lp_tokenizer* t) { return t->size; }
int32_t lp_tokenizer_bos(const lp_tokenizer* t) { return t->bos; }
int32_t lp_tokenizer_eos(const lp_tokenizer* t) { return t->eos; }
int32_t lp_tokenizer_eot(const lp_tokenizer* t) { return t->eot; }
int32_t lp_tokenizer_pad(const lp_tokenizer* t) { return t->pad; }
int32_t lp_tokenizer_unk(const lp_tokenizer* t) { return t->unk; }
lp_chat_format lp_tokenizer_chat_format(const lp_tokenizer* t) { return t->chat; }
const char* lp_tokenizer_default_system(const lp_tokenizer* t) { return t->default_system; }
const char* lp__tokenizer_chat_template(const lp_tokenizer* t) { return t->chat_template; }
const char* lp__tokenizer_pre(const lp_tokenizer* t) {
    return lp__pre_name(&t->pre, t->ignore_merges);
}
int64_t lp__tokenizer_merge_count(const lp_tokenizer* t) { return t->bpe.merge_count; }

bool lp__tokenizer_merge(const lp_tokenizer* t, int64_t rank, lp__string* left, lp__string* right) {
    *left = t->spellings[t->bpe.merges[rank].left];
    *right = t->spellings[t->bpe.merges[rank].right];
    return lp__bpe_counts(&t->bpe, rank);
}

static bool in_range(const lp_tokenizer* t, int32_t id) { return id >= 0 && id < t->size; }

int lp__tokenizer_kind(const lp_tokenizer* t, int32_t id) {
    return in_range(t, id) ? t->kinds[id] : LP__TOKEN_UNDEFINED;
}

const int32_t* lp_tokenizer_ends(const lp_tokenizer* t, int64_t* count) {
    *count = t->ends.count;
    return t->ends.ids;
}

bool lp_tokenizer_is_end(const lp_tokenizer* t, int32_t id) {
    for (int64_t i = 0; i < t->ends.count; i++) {
        if (t->ends.ids[i] == id) return true;
    }
    return false;
}

lp_status lp_tokenizer_add_end(lp_tokenizer* t, int32_t id) {
    if (!in_range(t, id)) {
        return lp_fail(t->ctx, LP_INVALID, "token %d cannot end a text: the vocabulary has 0 to %d",
                       id, t->size - 1);
    }
    return lp_tokenizer_is_end(t, id) ? LP_OK : lp_token_list_add(t->ctx, &t->ends, &id, 1);
}

bool lp_tokenizer_is_special(const lp_tokenizer* t, int32_t id) {
    return in_range(t, id) && t->kinds[id] == LP__TOKEN_CONTROL;
}

int32_t lp_tokenizer_find(const lp_tokenizer* t, const char* token, size_t bytes) {
    return (int32_t)lp__names_find(&t->by_bytes, (lp__string){token, bytes});
}

const char* lp_tokenizer_bytes(const lp_tokenizer* t, int32_t id, size_t* bytes) {
    *bytes = in_range(t, id) ? t->bytes[id].bytes : 0;
    return in_range(t, id) ? t->bytes[id].data : "";
}

const char* lp_tokenizer_spelling(const lp_tokenizer* t, int32_t id) {
    return in_range(t, id) ? t->spellings[id].data : "";
}

/* ---- ids to text ----------------------------------------------------------------------------- */

static lp_status decode_raw(const lp_tokenizer* t, const int32_t* ids, int64_t n, unsigned flags,
                            lp_text* out) {
    const bool skip_unknown = flags & (LP_DECODE_SKIP_UNKNOWN | LP_DECODE_LOSSY);
    for (int64_t i = 0; i < n; i++) {
        if (skip_unknown && ids[i] >= t->size) continue;
        if (!in_range(t, ids[i])) {
            return lp_fail(t->ctx, LP_INVALID, "token %lld is %d; the vocabulary has 0 to %d",
                           (long long)i, ids[i], t->size - 1);
        }
        if ((flags & LP_DECODE_SKIP_SPECIAL) && lp_tokenizer_is_special(t, ids[i])) continue;
        if (lp_text_add(t->ctx, out, t->bytes[ids[i]].data, t->bytes[ids[i]].bytes))
            return LP_NOMEM;
    }
    return LP_OK;
}

lp_status lp_tokenizer_decode(const lp_tokenizer* t, const int32_t* ids, int64_t n, unsigned flags,
                              lp_text* text) {
    if (!LP__REQUIRE(t->ctx, text && n >= 0 && (ids || n == 0), "a text and n ids are needed"))
        return LP_INVALID;
    size_t before = text->bytes;
    lp_text raw = {0};
    bool lossy = flags & LP_DECODE_LOSSY;
    lp_status status = decode_raw(t, ids, n, flags, lossy ? &raw : text);
    if (status == LP_OK && lossy) status = lp_text_add_lossy(t->ctx, text, raw.data, raw.bytes);
    lp_text_free(t->ctx, &raw);
    if (status != LP_OK) text->bytes = before;
    return status;
}
