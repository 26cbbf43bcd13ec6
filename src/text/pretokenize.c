#include "text/pretokenize.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* The patterns as published, but \s spelled out as Unicode's White_Space: PCRE2's own \s also takes
 * U+180E, which lost that property in Unicode 6.3. */
#define SPACE                                                                                      \
    "\\t-\\r\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}"                                           \
    "\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define GPT2_PATTERN                                                                               \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE "\\p{L}\\p{N}]+|[" SPACE              \
    "]+(?![^" SPACE "])|[" SPACE "]+"
#define LLAMA3_PATTERN(number)                                                                     \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number "| ?[^" SPACE             \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" SPACE "]*[\\r\\n]+|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]+"
#define GPT2_PUBLISHED                                                                             \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3_PUBLISHED(number)                                                                   \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" number                           \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
/* Numbers, with those that Unicode 15 to 17 added: the library may be older, and Hugging Face's
 * tables are not. */
#define DIGIT_PATTERN                                                                              \
    "[\\p{N}\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11de0}-\\x{11de9}"  \
    "\\x{11f50}-\\x{11f59}\\x{16130}-\\x{16139}\\x{16d70}-\\x{16d79}\\x{16ff4}-\\x{16ff6}"         \
    "\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}]"

/* By step: as PCRE2 gets it, and as it was published. */
static const struct {
    const char *pattern, *published;
} steps[LP__PRE_STEP_COUNT] = {
    [LP__PRE_GPT2] = {GPT2_PATTERN, GPT2_PUBLISHED},
    [LP__PRE_LLAMA3] = {LLAMA3_PATTERN("\\p{N}{1,3}"), LLAMA3_PUBLISHED("\\p{N}{1,3}")},
    [LP__PRE_QWEN2] = {LLAMA3_PATTERN("\\p{N}"), LLAMA3_PUBLISHED("\\p{N}")},
    [LP__PRE_DIGIT] = {DIGIT_PATTERN, NULL},
    [LP__PRE_DIGITS] = {DIGIT_PATTERN "+", NULL},
};

/* As GGUF names them. */
static const struct {
    const char* name;
    lp__pre pre;
    bool ignore_merges;
} named[] = {
    {"gpt-2", {{LP__PRE_GPT2}, 1, false}, false},
    {"smollm", {{LP__PRE_DIGIT, LP__PRE_GPT2}, 2, false}, false},
    {"llama-bpe", {{LP__PRE_LLAMA3}, 1, false}, true},
    {"qwen2", {{LP__PRE_QWEN2}, 1, true}, false},
};
enum { NAMED = sizeof named / sizeof *named };

/* A pattern takes a few steps a character of its piece, and no heap: more means a broken library.
 */
#define MATCH_LIMIT    4000000000u
#define HEAP_LIMIT_KIB (64u * 1024u)

struct lp__pretokenizer {
    lp_ctx* ctx;
    pcre2_general_context* general;
    pcre2_match_context* limits;
    pcre2_match_data* match;
    pcre2_code* steps[LP__PRE_STEPS]; /* [count] */
    int count;
};

/* ---- names ----------------------------------------------------------------------------------- */

lp_status lp__pre_by_name(lp_ctx* ctx, lp__string name, lp__pre* pre, bool* ignore_merges) {
    for (int i = 0; i < NAMED; i++) {
        if (!lp__string_equal(name, lp__string_of(named[i].name))) continue;
        *pre = named[i].pre;
        *ignore_merges = named[i].ignore_merges;
        return LP_OK;
    }
    return lp_fail(ctx, LP_UNSUPPORTED,
                   "pre-tokenizer \"%.*s\" is not supported; \"gpt-2\", \"smollm\", \"llama-bpe\" "
                   "and \"qwen2\" are",
                   (int)LP__MIN(name.bytes, (size_t)80), name.data);
}

const char* lp__pre_name(const lp__pre* pre, bool ignore_merges) {
    for (int i = 0; i < NAMED; i++) {
        const lp__pre* other = &named[i].pre;
        bool same = other->count == pre->count && other->nfc == pre->nfc &&
                    named[i].ignore_merges == ignore_merges;
        for (int k = 0; same && k < pre->count; k++) same = other->steps[k] == pre->steps[k];
        if (same) return named[i].name;
    }
    return NULL;
}

int lp__pre_by_pattern(lp__string pattern) {
    for (int i = 0; i < LP__PRE_STEP_COUNT; i++) {
        const char* published = steps[i].published;
        if (published && lp__string_equal(pattern, lp__string_of(published))) return i;
    }
    return -1;
}

const char* lp__pre_pattern(lp__pre_step step) { return steps[step].published; }

/* ---- patterns -------------------------------------------------------------------------------- */

static void* pcre_alloc(size_t bytes, void* user) { return lp__alloc(user, bytes); }

static void pcre_free(void* block, void* user) { lp__free(user, block); }

/* Not compiled to machine code: PCRE2 keeps that in executable pages of its own, which would not be
 * freed with the context, and which hardened systems forbid. */
static pcre2_code* compile(lp__pretokenizer* p, const char* pattern) {
    pcre2_compile_context* settings = pcre2_compile_context_create(p->general);
    if (!settings) return NULL;
    int error;
    PCRE2_SIZE where;
    pcre2_code* code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &where, settings);
    pcre2_compile_context_free(settings);
    if (!code && error == PCRE2_ERROR_HEAP_FAILED) return NULL; /* the allocation has said so */
    if (!code) {
        lp_fail(p->ctx, LP_UNSUPPORTED,
                "this PCRE2 library refuses the tokenizer's pattern (error %d at %zu)", error,
                (size_t)where);
        return NULL;
    }
    return code;
}

lp_status lp__pretokenizer_create(lp_ctx* ctx, const lp__pre* pre, lp__pretokenizer** out) {
    lp__pretokenizer* p = lp__calloc(ctx, 1, sizeof *p);
    if (!p) return LP_NOMEM;
    p->ctx = ctx;
    p->general = pcre2_general_context_create(pcre_alloc, pcre_free, ctx);
    if (p->general) p->limits = pcre2_match_context_create(p->general);
    if (p->limits) p->match = pcre2_match_data_create(1, p->general);
    bool good = p->match;
    for (int i = 0; good && i < pre->count; i++) {
        p->steps[i] = compile(p, steps[pre->steps[i]].pattern);
        good = p->steps[i];
        p->count++;
    }
    if (!good) {
        lp__pretokenizer_destroy(p);
        return lp_error_status(ctx);
    }
    pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(p->limits, HEAP_LIMIT_KIB);
    *out = p;
    return LP_OK;
}

void lp__pretokenizer_destroy(lp__pretokenizer* p) {
    if (!p) return;
    for (int i = 0; i < p->count; i++) pcre2_code_free(p->steps[i]);
    pcre2_match_data_free(p->match);
    pcre2_match_context_free(p->limits);
    pcre2_general_context_free(p->general);
    lp__free(p->ctx, p);
}

/* The first match at or after start: [*from, *to); false if there is none. */
static lp_status find(lp__pretokenizer* p, const pcre2_code* code, const char* text, size_t bytes,
                      size_t start, bool* found, size_t* from, size_t* to) {
    int result =
        pcre2_match(code, (PCRE2_SPTR)text, bytes, start, PCRE2_NO_UTF_CHECK, p->match, p->limits);
    *found = result >= 0;
    if (result == PCRE2_ERROR_NOMATCH) return LP_OK;
    if (result == PCRE2_ERROR_NOMEMORY) return LP_NOMEM;
    if (result < 0) {
        return lp_fail(
            p->ctx, LP_INVALID,
            "the tokenizer's pattern gave up at byte %zu of a text of %zu (PCRE2 error %d)", start,
            bytes, result);
    }
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(p->match);
    *from = range[0];
    *to = range[1];
    return LP_OK;
}

/* The steps from the given one on. Each sees its piece alone: a lookahead ends where that does. */
static lp_status cut(lp__pretokenizer* p, int step, const char* text, size_t bytes,
                     lp__piece_fn piece, void* user) {
    if (step >= LP__PRE_STEPS || step == p->count) return piece(user, text, bytes);
    for (size_t at = 0; at < bytes;) {
        bool found;
        size_t from = bytes, to = bytes;
        lp_status status = find(p, p->steps[step], text, bytes, at, &found, &from, &to);
        if (status == LP_OK && !found) from = to = bytes;
        if (status == LP_OK && from > at)
            status = cut(p, step + 1, text + at, from - at, piece, user);
        if (status == LP_OK && to > from)
            status = cut(p, step + 1, text + from, to - from, piece, user);
        if (status != LP_OK) return status;
        at = to;
    }
    return LP_OK;
}

lp_status lp__pretokenize(lp__pretokenizer* p, const char* text, size_t bytes, lp__piece_fn piece,
                          void* user) {
    return bytes > 0 ? cut(p, 0, text, bytes, piece, user) : LP_OK;
}
