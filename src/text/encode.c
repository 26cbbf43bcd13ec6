/* Text to ids: cut at whole tokens, then into pieces, then byte pairs. */
#include "text/tokenizer.h"

/* The longest token of whole at the start of text: its id, or -1. Narrows the sorted list by one
 * byte at a time, so the cost does not grow with the number of tokens that share a start. */
static int32_t whole_at(const lp_tokenizer* t, const char* text, size_t bytes, bool parse_special,
                        size_t* length) {
    int32_t low = 0, high = t->whole_count, best = -1;
    for (size_t depth = 0; depth < bytes && low < high; depth++) {
        uint8_t c = (uint8_t)text[depth];
        /* Within [low, high) the first `depth` bytes agree with the text, and shorter tokens come
         * first. */
        for (int side = 0; side < 2; side++) {
            int32_t from = low, to = high;
            while (from < to) {
                int32_t middle = from + (to - from) / 2;
                lp__string token = t->spellings[t->whole[middle]];
                int next = depth < token.bytes ? (uint8_t)token.data[depth] : -1;
                if (next < c + side) {
                    from = middle + 1;
                } else {
                    to = middle;
                }
            }
            if (side == 0) {
                low = from;
            } else {
                high = from;
            }
        }
        if (low >= high) break;
        int32_t id = t->whole[low];
        bool usable = parse_special || t->kinds[id] != LP__TOKEN_CONTROL;
        if (t->spellings[id].bytes == depth + 1 && usable) {
            best = id;
            *length = depth + 1;
        }
    }
    return best;
}

typedef struct sink {
    const lp_tokenizer* tokenizer;
    lp_token_list* list;
} sink;

static lp_status encode_piece(void* user, const char* piece, size_t bytes) {
    sink* s = user;
    const lp_tokenizer* t = s->tokenizer;
    lp_token_list* list = s->list;
    lp_status status =
        lp__token_list_reserve(t->ctx, list, (int64_t)bytes); /* one id a byte at most */
    if (status != LP_OK) return status;
    int32_t count;
    status =
        lp__bpe_encode(t->ctx, &t->bpe, piece, (int32_t)bytes, list->ids + list->count, &count);
    if (status == LP_OK) list->count += count;
    return status;
}

lp_status lp__encode_text(const lp_tokenizer* t, const char* text, size_t bytes, bool parse_special,
                          lp_token_list* list) {
    sink s = {t, list};
    size_t start = 0; /* of the ordinary text not yet encoded */
    for (size_t at = 0; at < bytes;) {
        size_t length = 0;
        int32_t id = -1;
        if (t->whole_start[(uint8_t)text[at]])
            id = whole_at(t, text + at, bytes - at, parse_special, &length);
        if (id < 0) {
            at++;
            continue;
        }
        lp_status status =
            lp__pretokenize(t->pretokenizer, text + start, at - start, encode_piece, &s);
        if (status == LP_OK) status = lp_token_list_add(t->ctx, list, &id, 1);
        if (status != LP_OK) return status;
        at += length;
        start = at;
    }
    return lp__pretokenize(t->pretokenizer, text + start, bytes - start, encode_piece, &s);
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
