/* Text to ids: cut at whole tokens, then into pieces, then byte pairs. */
#include "text/byte_alphabet.h"
#include "text/normalize.h"
#include "text/tokenizer.h"

typedef struct walk {
    const lp_tokenizer* tokenizer;
    lp_token_list* list;
    bool parse_special;
} walk;

/* ---- pieces ---------------------------------------------------------------------------------- */

/* The ordinary token that a piece is as a whole, or -1. */
static lp_status token_of_piece(const lp_tokenizer* t, const char* piece, size_t bytes,
                                int32_t* id) {
    *id = -1;
    if (bytes > t->longest) return LP_OK;
    lp__arena* arena = lp__scratch(t->ctx);
    const lp__mark mark = lp__arena_mark(arena);
    char* spelling = lp__arena_alloc(arena, 2 * bytes);
    if (!spelling) return LP_NOMEM;
    size_t n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += (size_t)lp__byte_spelling((uint8_t)piece[i], spelling + n);
    const int64_t found = lp__names_find(&t->by_spelling, (lp__string){spelling, n});
    if (found >= 0 && t->kinds[found] == LP__TOKEN_NORMAL) *id = (int32_t)found;
    lp__arena_release(arena, mark);
    return LP_OK;
}

static lp_status encode_piece(void* user, const char* piece, size_t bytes) {
    const walk* w = user;
    const lp_tokenizer* t = w->tokenizer;
    lp_token_list* list = w->list;
    /* one id a byte at most */
    lp_status status = lp__token_list_reserve(t->ctx, list, (int64_t)bytes);
    int32_t whole = -1;
    if (status == LP_OK && t->ignore_merges) status = token_of_piece(t, piece, bytes, &whole);
    if (status != LP_OK) return status;
    if (whole >= 0) {
        list->ids[list->count++] = whole;
        return LP_OK;
    }
    int32_t count;
    status =
        lp__bpe_encode(t->ctx, &t->bpe, piece, (int32_t)bytes, list->ids + list->count, &count);
    if (status == LP_OK) list->count += count;
    return status;
}

/* ---- whole tokens ---------------------------------------------------------------------------- */

static lp_status cut_at(const walk* w, int set, const char* text, size_t bytes);

/* What lies between the whole tokens of one set. */
static lp_status encode_between(const walk* w, int set, const char* text, size_t bytes) {
    const lp_tokenizer* t = w->tokenizer;
    if (bytes == 0) return LP_OK;
    if (set == 1) return lp__pretokenize(t->pretokenizer, text, bytes, encode_piece, (void*)w);
    if (!t->pre.nfc || lp__nfc_plain(text, bytes)) return cut_at(w, 1, text, bytes);
    lp_text normal = {0};
    lp_status status = lp__nfc(t->ctx, text, bytes, &normal);
    if (status == LP_OK && normal.bytes > INT32_MAX) {
        status = lp_fail(t->ctx, LP_INVALID, "a text of %zu bytes, normalised, is too long",
                         normal.bytes);
    }
    if (status == LP_OK) status = cut_at(w, 1, normal.data, normal.bytes);
    lp_text_free(t->ctx, &normal);
    return status;
}

/* As Hugging Face's AddedVocabulary: the leftmost match, the longest there; white space beside it
 * goes with it where its flags say so; a control token that shall not be parsed is ordinary text,
 * and so is all within it. Linear: white space is looked at once for each side of a match. */
static lp_status cut_at(const walk* w, int set, const char* text, size_t bytes) {
    const lp_tokenizer* t = w->tokenizer;
    const lp__whole* whole = &t->whole[set];
    size_t start = 0, run = 0; /* of the text not yet encoded; where the last white space ended */
    for (size_t at = 0; whole->count > 0 && at < bytes;) {
        size_t length = 0;
        int32_t id = -1;
        if (whole->start[(uint8_t)text[at]])
            id = lp__whole_at(whole, t->spellings, text + at, bytes - at, &length);
        if (id < 0) {
            at++;
            continue;
        }
        const size_t from = at;
        at += length;
        if (!w->parse_special && t->kinds[id] == LP__TOKEN_CONTROL) continue;
        lp_status status = LP_OK;
        if (from > start) {
            size_t between = from - start;
            if (t->flags[id] & LP__TOKEN_LSTRIP) between -= lp__space_before(text + start, between);
            status = encode_between(w, set, text + start, between);
        }
        if (status == LP_OK) status = lp_token_list_add(t->ctx, w->list, &id, 1);
        if (status != LP_OK) return status;
        start = at;
        if (t->flags[id] & LP__TOKEN_RSTRIP) {
            if (at >= run) run = at + lp__space_after(text + at, bytes - at);
            start = run;
        }
    }
    return start < bytes ? encode_between(w, set, text + start, bytes - start) : LP_OK;
}

lp_status lp__encode_text(const lp_tokenizer* t, const char* text, size_t bytes, bool parse_special,
                          lp_token_list* list) {
    const walk w = {t, list, parse_special};
    return cut_at(&w, 0, text, bytes);
}

lp_status lp_tokenizer_encode(const lp_tokenizer* t, const char* text, size_t bytes, unsigned flags,
                              lp_token_list* list) {
    if (!LP__REQUIRE(t->ctx, list && (text || bytes == 0), "a text and a list are needed"))
        return LP_INVALID;
    if (bytes > INT32_MAX) {
        return lp_fail(t->ctx, LP_INVALID,
                       "a text of %zu bytes is too long to encode; cut it below 2 GiB", bytes);
    }
    int64_t bad = lp__utf8_error(text, bytes);
    if (bad >= 0) {
        return lp_fail(t->ctx, LP_FORMAT, "invalid UTF-8 at byte %lld of a text of %zu",
                       (long long)bad, bytes);
    }
    int64_t before = list->count;
    bool bos = (flags & LP_ENCODE_ADD_SPECIAL) && t->add_bos && t->bos >= 0;
    bool eos = (flags & LP_ENCODE_ADD_SPECIAL) && t->add_eos && t->eos >= 0;
    lp_status status = LP_OK;
    if (bos) status = lp_token_list_add(t->ctx, list, &t->bos, 1);
    if (status == LP_OK)
        status = lp__encode_text(t, text, bytes, flags & LP_ENCODE_PARSE_SPECIAL, list);
    if (status == LP_OK && eos) status = lp_token_list_add(t->ctx, list, &t->eos, 1);
    if (status != LP_OK) list->count = before;
    return status;
}
