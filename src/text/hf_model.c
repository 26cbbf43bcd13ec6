/* tokenizer.json: the vocabulary, the merges, the added tokens; and the two older files, vocab.json
 * and merges.txt. */
#include "text/hf.h"

#include <string.h>

bool lp__hf_grow(lp_ctx* ctx, void** items, size_t* room, size_t count, size_t item_bytes) {
    if (count < *room) return true;
    const size_t more = LP__MAX(2 * *room, (size_t)256);
    size_t bytes;
    if (!lp__mul_ok(more, item_bytes, &bytes)) {
        lp_fail(ctx, LP_NOMEM, "a list of %zu items does not fit in memory", more);
        return false;
    }
    void* grown = lp__realloc(ctx, *items, bytes);
    if (!grown) return false;
    *items = grown;
    *room = more;
    return true;
}

/* ---- vocabulary ------------------------------------------------------------------------------ */

static lp_status check_id(lp__json* j, lp__string content, int64_t id) {
    if (j->status != LP_OK) return j->status;
    if (id >= 0 && id < LP__VOCABULARY_LIMIT) return LP_OK;
    return j->status =
               lp_fail(j->ctx, LP_FORMAT, "token \"%.*s\" has the id %lld, which is not in 0 to %d",
                       LP__SHOWN(content), (long long)id, LP__VOCABULARY_LIMIT - 1);
}

lp_status lp__hf_read_vocab(lp__hf* hf, lp__json* j) {
    lp__hf_token token;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &token.content)) {
        (void)lp__json_int(j, &token.id);
        if (check_id(j, token.content, token.id) != LP_OK) break;
        if (hf->token_count == LP__VOCABULARY_LIMIT)
            return lp__json_fail(j, LP_FORMAT, "more than 2000000 tokens");
        if (!LP__HF_ROOM(hf, tokens, token_room, token_count)) return j->status = LP_NOMEM;
        hf->tokens[hf->token_count++] = token;
    }
    return j->status;
}

/* ---- merges ---------------------------------------------------------------------------------- */

static lp_status too_many_merges(lp_ctx* ctx) {
    return lp_fail(ctx, LP_FORMAT, "more than %d merges", LP__MERGES_LIMIT);
}

static lp_status add_pair(lp__hf* hf, lp__string left, lp__string right) {
    if (hf->pair_count == 2 * (size_t)LP__MERGES_LIMIT) return too_many_merges(hf->ctx);
    /* The room is even, so it is enough for two. */
    if (!LP__HF_ROOM(hf, pairs, pair_room, pair_count)) return LP_NOMEM;
    hf->pairs[hf->pair_count++] = left;
    hf->pairs[hf->pair_count++] = right;
    return LP_OK;
}

/* "left right"; false if there is not exactly one space. */
static bool split_merge(lp__string text, lp__string* left, lp__string* right) {
    const char* space = text.bytes > 0 ? memchr(text.data, ' ', text.bytes) : NULL;
    if (!space) return false;
    *left = (lp__string){text.data, (size_t)(space - text.data)};
    *right = (lp__string){space + 1, text.bytes - left->bytes - 1};
    return !memchr(right->data, ' ', right->bytes);
}

static lp_status read_merges(lp__hf* hf, lp__json* j) {
    lp__json_begin(j, LP__JSON_ARRAY);
    while (lp__json_element(j)) {
        lp__string left = {"", 0}, right = {"", 0}, text;
        if (lp__json_peek(j) == LP__JSON_STRING) {
            if (lp__json_string(j, &text) == LP_OK && !split_merge(text, &left, &right))
                return lp__json_fail(j, LP_FORMAT, "a merge that is not \"left right\"");
        } else {
            int n = 0;
            lp__json_begin(j, LP__JSON_ARRAY);
            for (; lp__json_element(j); n++)
                (void)(n < 2 ? lp__json_string(j, n == 0 ? &left : &right) : lp__json_skip(j));
            if (n != 2) (void)lp__json_fail(j, LP_FORMAT, "a merge that is not two tokens");
        }
        if (j->status == LP_OK) j->status = add_pair(hf, left, right);
    }
    return j->status;
}

lp_status lp__hf_read_merges(lp__hf* hf, lp__string text) {
    const int64_t bad = lp__utf8_error(text.data, text.bytes);
    if (bad >= 0) return lp_fail(hf->ctx, LP_FORMAT, "invalid UTF-8 at byte %lld", (long long)bad);
    int64_t number = 0;
    for (size_t at = 0; at < text.bytes;) {
        const char* end = memchr(text.data + at, '\n', text.bytes - at);
        const size_t stop = end ? (size_t)(end - text.data) : text.bytes;
        lp__string line = {text.data + at, stop - at}, left, right;
        at = stop + 1;
        number++;
        if (line.bytes > 0 && line.data[line.bytes - 1] == '\r') line.bytes--;
        if (number == 1 && line.bytes >= 8 && memcmp(line.data, "#version", 8) == 0) continue;
        if (line.bytes == 0 && at >= text.bytes) break;
        if (!split_merge(line, &left, &right)) {
            return lp_fail(hf->ctx, LP_FORMAT,
                           "line %lld, \"%.*s\", is not two tokens with one space between",
                           (long long)number, LP__SHOWN(line));
        }
        lp_status status = add_pair(hf, left, right);
        if (status != LP_OK) return status;
    }
    return LP_OK;
}

/* ---- the model ------------------------------------------------------------------------------- */

static lp_status refuse(lp__json* j, const char* what) {
    return lp__json_fail(j, LP_UNSUPPORTED, what);
}

/* null, false, 0 or "": as if the key were not there. */
static bool is_nothing(lp__json* j) {
    lp__string text;
    bool flag;
    const lp__json_kind kind = lp__json_peek(j);
    const size_t start = j->at;
    switch (kind) {
    case LP__JSON_NULL: return lp__json_skip(j) == LP_OK;
    case LP__JSON_BOOL: return lp__json_bool(j, &flag) == LP_OK && !flag;
    case LP__JSON_STRING: return lp__json_string(j, &text) == LP_OK && text.bytes == 0;
    case LP__JSON_NUMBER:
        if (lp__json_skip(j) != LP_OK) return false;
        for (size_t i = start; i < j->at; i++) {
            if (j->data[i] >= '1' && j->data[i] <= '9') return false;
        }
        return true;
    default: return false;
    }
}

static lp_status require_nothing(lp__json* j, const char* otherwise) {
    const bool nothing = is_nothing(j);
    return nothing || j->status != LP_OK ? j->status : refuse(j, otherwise);
}

static lp_status read_model(lp__hf* hf, lp__json* j) {
    static const char* const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "continuing_subword_prefix",
                                       "end_of_word_suffix",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "ignore_merges",
                                       "vocab",
                                       "merges"};
    uint32_t seen = 0;
    lp__string key, text;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        switch (lp__json_key(j, key, keys, 10, &seen)) {
        case 0:
            if (lp__json_string(j, &text) == LP_OK &&
                !lp__string_equal(text, lp__string_of("BPE"))) {
                return j->status = lp_fail(j->ctx, LP_UNSUPPORTED,
                                           "the model is \"%.*s\"; byte-level BPE is supported",
                                           LP__SHOWN(text));
            }
            break;
        case 1: (void)require_nothing(j, "model.dropout (random merges) is not supported"); break;
        case 2:
            if (lp__json_peek(j) == LP__JSON_STRING) {
                (void)lp__json_string(j, &hf->unknown);
            } else {
                (void)require_nothing(j, "model.unk_token is no text");
            }
            break;
        case 3: (void)require_nothing(j, "model.continuing_subword_prefix is not supported"); break;
        case 4: (void)require_nothing(j, "model.end_of_word_suffix is not supported"); break;
        case 5: (void)lp__json_bool(j, &hf->fuse_unknown); break;
        case 6:
            (void)require_nothing(j, "model.byte_fallback, as of SentencePiece (Llama 2), is "
                                     "not supported; byte-level BPE is");
            break;
        case 7: (void)lp__json_bool(j, &hf->ignore_merges); break;
        case 8: /* Other models have lists here; their "type" may come later. */
            if (lp__json_peek(j) == LP__JSON_ARRAY)
                return refuse(j,
                              "model.vocab is a list, as of Unigram (SentencePiece), which is not "
                              "supported; byte-level BPE is");
            (void)lp__hf_read_vocab(hf, j);
            break;
        case 9: (void)read_merges(hf, j); break;
        default: (void)lp__json_skip(j); break;
        }
    }
    if (j->status == LP_OK && !(seen & 1u << 8))
        return lp__json_fail(j, LP_FORMAT, "the model has no \"vocab\"");
    if (j->status == LP_OK && !(seen & 1u << 9))
        return lp__json_fail(j, LP_UNSUPPORTED,
                             "the model has no \"merges\"; byte-level BPE has them");
    return j->status;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

lp_status lp__hf_read_added(lp__hf* hf, lp__json* j, bool has_id, lp__hf_added* added) {
    (void)hf;
    static const char* const keys[] = {"content", "id",         "single_word", "lstrip",
                                       "rstrip",  "normalized", "special"};
    bool flags[7] = {[5] = true};
    uint32_t seen = 0;
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        const int which = lp__json_key(j, key, keys, 7, &seen);
        if (which == 0) {
            (void)lp__json_string(j, &added->content);
        } else if (which == 1 && has_id) {
            (void)lp__json_int(j, &added->id);
        } else if (which > 1) {
            (void)lp__json_bool(j, &flags[which]);
        } else {
            (void)lp__json_skip(j);
        }
    }
    if (j->status == LP_OK && (!(seen & 1u) || added->content.bytes == 0))
        return lp__json_fail(j, LP_FORMAT, "an added token without \"content\"");
    if (j->status == LP_OK && has_id && !(seen & 2u))
        return lp__json_fail(j, LP_FORMAT, "an added token without \"id\"");
    added->special = flags[6];
    added->single_word = flags[2];
    /* As in Hugging Face's AddedToken: a special token is not normalised unless it says so. */
    const bool normalized = seen & 1u << 5 ? flags[5] : !flags[6];
    added->flags = (uint8_t)((flags[3] ? LP__TOKEN_LSTRIP : 0) | (flags[4] ? LP__TOKEN_RSTRIP : 0) |
                             (normalized ? LP__TOKEN_NORMALIZED : 0));
    return has_id ? check_id(j, added->content, added->id) : j->status;
}

static lp_status read_all_added(lp__hf* hf, lp__json* j) {
    lp__json_begin(j, LP__JSON_ARRAY);
    while (lp__json_element(j)) {
        lp__hf_added added = {0};
        if (lp__hf_read_added(hf, j, true, &added) != LP_OK) break;
        if (!LP__HF_ROOM(hf, added, added_room, added_count)) return j->status = LP_NOMEM;
        hf->added[hf->added_count++] = added;
    }
    return j->status;
}

lp_status lp__hf_read_tokenizer(lp__hf* hf, lp__json* j) {
    static const char* const keys[] = {"added_tokens",   "normalizer", "pre_tokenizer",
                                       "post_processor", "decoder",    "model"};
    uint32_t seen = 0;
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        const int which = lp__json_key(j, key, keys, 6, &seen);
        switch (which) {
        case 0: (void)read_all_added(hf, j); break;
        case 1: (void)lp__hf_read_normalizer(hf, j); break;
        case 2: (void)lp__hf_read_pre_tokenizer(hf, j); break;
        case 3: (void)lp__hf_read_post_processor(hf, j); break;
        case 4: (void)lp__hf_read_decoder(hf, j); break;
        case 5: (void)read_model(hf, j); break;
        default: (void)lp__json_skip(j); break;
        }
    }
    for (int i = 2; i < 6; i++) {
        if (i == 3 || seen & 1u << i || j->status != LP_OK) continue;
        return j->status = lp_fail(j->ctx, LP_FORMAT, "the key \"%s\" is missing", keys[i]);
    }
    return lp__json_finish(j);
}
