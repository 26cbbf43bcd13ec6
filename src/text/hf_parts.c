/* tokenizer.json: what happens to a text before the model sees it, and to its ids after. */
#include "text/hf.h"

static bool is(lp__string text, const char* word) {
    return lp__string_equal(text, lp__string_of(word));
}

static lp_status unsupported(lp__json* j, const char* part, lp__string type) {
    if (j->status != LP_OK) return j->status;
    return j->status = lp_fail(j->ctx, LP_UNSUPPORTED, "byte %zu: %s \"%.*s\" is not supported",
                               j->at, part, LP__SHOWN(type));
}

/* Steps over null. */
static bool is_null(lp__json* j) {
    return lp__json_peek(j) == LP__JSON_NULL && lp__json_skip(j) == LP_OK;
}

/* ---- normalizer ------------------------------------------------------------------------------ */

lp_status lp__hf_read_normalizer(lp__hf* hf, lp__json* j) {
    static const char* const keys[] = {"type", "normalizers"};
    uint32_t seen = 0;
    lp__string key, type = {"", 0};
    if (is_null(j)) return j->status;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        switch (lp__json_key(j, key, keys, 2, &seen)) {
        case 0: (void)lp__json_string(j, &type); break;
        case 1:
            lp__json_begin(j, LP__JSON_ARRAY);
            while (lp__json_element(j)) (void)lp__hf_read_normalizer(hf, j);
            break;
        default: (void)lp__json_skip(j); break;
        }
    }
    if (is(type, "NFC")) {
        hf->pre.nfc = true;
    } else if (!is(type, "Sequence")) {
        return unsupported(j, "the normalizer", type);
    }
    return j->status;
}

/* ---- pre-tokenizer --------------------------------------------------------------------------- */

typedef struct pre_fields {
    lp__string type, regex, literal, behavior;
    bool add_prefix_space, use_regex, individual_digits, invert;
} pre_fields;

static lp_status read_pattern(lp__json* j, pre_fields* f) {
    static const char* const keys[] = {"Regex", "String"};
    uint32_t seen = 0;
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        switch (lp__json_key(j, key, keys, 2, &seen)) {
        case 0: (void)lp__json_string(j, &f->regex); break;
        case 1: (void)lp__json_string(j, &f->literal); break;
        default: (void)lp__json_skip(j); break;
        }
    }
    return j->status;
}

static lp_status add_step(lp__hf* hf, lp__json* j, lp__pre_step step) {
    if (hf->pre.count == LP__PRE_STEPS)
        return lp__json_fail(j, LP_UNSUPPORTED, "a pre-tokenizer of more than 4 steps");
    hf->pre.steps[hf->pre.count++] = step;
    return LP_OK;
}

/* Matches and what lies between must all stay, each a piece: "Isolated"; or, since the patterns
 * leave nothing between, what is between removed. */
static lp_status add_split(lp__hf* hf, lp__json* j, const pre_fields* f) {
    const int step = lp__pre_by_pattern(f->regex);
    if (step < 0) {
        return j->status = lp_fail(
                   j->ctx, LP_UNSUPPORTED,
                   "byte %zu: the pre-tokenizer splits at \"%.*s\", which is none of the patterns "
                   "of GPT-2, Llama 3 and Qwen2; others are not run",
                   j->at, LP__SHOWN(f->regex.bytes > 0 ? f->regex : f->literal));
    }
    const bool isolated = is(f->behavior, "Isolated") && !f->invert;
    if (!isolated && !(is(f->behavior, "Removed") && f->invert))
        return unsupported(j, "the pre-tokenizer's behavior", f->behavior);
    return add_step(hf, j, (lp__pre_step)step);
}

static lp_status read_pre(lp__hf* hf, lp__json* j, bool* byte_level) {
    static const char* const keys[] = {"type",      "pretokenizers",    "pattern",
                                       "behavior",  "invert",           "add_prefix_space",
                                       "use_regex", "individual_digits"};
    uint32_t seen = 0;
    pre_fields f = {.type = {"", 0}, .use_regex = true};
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        switch (lp__json_key(j, key, keys, 8, &seen)) {
        case 0: (void)lp__json_string(j, &f.type); break;
        case 1:
            lp__json_begin(j, LP__JSON_ARRAY);
            while (lp__json_element(j)) (void)read_pre(hf, j, byte_level);
            break;
        case 2: (void)read_pattern(j, &f); break;
        case 3: (void)lp__json_string(j, &f.behavior); break;
        case 4: (void)lp__json_bool(j, &f.invert); break;
        case 5: (void)lp__json_bool(j, &f.add_prefix_space); break;
        case 6: (void)lp__json_bool(j, &f.use_regex); break;
        case 7: (void)lp__json_bool(j, &f.individual_digits); break;
        default: (void)lp__json_skip(j); break;
        }
    }
    if (j->status != LP_OK || is(f.type, "Sequence")) return j->status;
    if (*byte_level)
        return lp__json_fail(j, LP_UNSUPPORTED, "a pre-tokenizer's step behind ByteLevel");
    if (is(f.type, "Digits"))
        return add_step(hf, j, f.individual_digits ? LP__PRE_DIGIT : LP__PRE_DIGITS);
    if (is(f.type, "Split")) return add_split(hf, j, &f);
    if (!is(f.type, "ByteLevel")) return unsupported(j, "the pre-tokenizer", f.type);
    if (f.add_prefix_space)
        return lp__json_fail(j, LP_UNSUPPORTED,
                             "the pre-tokenizer's add_prefix_space is not supported");
    *byte_level = true;
    return f.use_regex ? add_step(hf, j, LP__PRE_GPT2) : LP_OK;
}

lp_status lp__hf_read_pre_tokenizer(lp__hf* hf, lp__json* j) {
    bool byte_level = false;
    if (!is_null(j)) (void)read_pre(hf, j, &byte_level);
    if (j->status == LP_OK && !byte_level) {
        return lp__json_fail(j, LP_UNSUPPORTED,
                             "the pre-tokenizer has no ByteLevel step: this is no byte-level BPE");
    }
    return j->status;
}

/* ---- post-processor -------------------------------------------------------------------------- */

/* One element of a template: {"SpecialToken": {"id": "<s>", ...}} or {"Sequence": {"id": "A"}}. */
static lp_status read_template_part(lp__json* j, lp__string* special, bool* sequence) {
    static const char* const keys[] = {"SpecialToken", "Sequence"};
    uint32_t seen = 0, seen_id = 0;
    lp__string key, inner;
    *special = (lp__string){0};
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        const int which = lp__json_key(j, key, keys, 2, &seen);
        if (which < 0) {
            (void)lp__json_skip(j);
            continue;
        }
        lp__json_begin(j, LP__JSON_OBJECT);
        while (lp__json_member(j, &inner)) {
            if (which == 0 && lp__json_key(j, inner, (const char* const[]){"id"}, 1, &seen_id) == 0)
                (void)lp__json_string(j, special);
            else
                (void)lp__json_skip(j);
        }
    }
    *sequence = seen & 2u;
    return j->status;
}

static lp_status read_template(lp__hf* hf, lp__json* j) {
    bool behind = false;
    lp__json_begin(j, LP__JSON_ARRAY);
    while (lp__json_element(j)) {
        lp__string special;
        bool sequence;
        if (read_template_part(j, &special, &sequence) != LP_OK) break;
        lp__string* place = behind ? &hf->last : &hf->first;
        if (sequence) {
            behind = true;
        } else if (special.data && !place->data) {
            *place = special;
        } else {
            return lp__json_fail(j, LP_UNSUPPORTED,
                                 "the post-processor puts more than one token on one side");
        }
    }
    return j->status;
}

lp_status lp__hf_read_post_processor(lp__hf* hf, lp__json* j) {
    static const char* const keys[] = {"type", "processors", "single"};
    uint32_t seen = 0;
    lp__string key, type = {"", 0};
    if (is_null(j)) return j->status;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        switch (lp__json_key(j, key, keys, 3, &seen)) {
        case 0: (void)lp__json_string(j, &type); break;
        case 1:
            lp__json_begin(j, LP__JSON_ARRAY);
            while (lp__json_element(j)) (void)lp__hf_read_post_processor(hf, j);
            break;
        case 2: (void)read_template(hf, j); break;
        default: (void)lp__json_skip(j); break;
        }
    }
    if (is(type, "ByteLevel") || is(type, "TemplateProcessing") || is(type, "Sequence"))
        return j->status;
    return unsupported(j, "the post-processor", type);
}

/* ---- decoder --------------------------------------------------------------------------------- */

lp_status lp__hf_read_decoder(lp__hf* hf, lp__json* j) {
    (void)hf;
    uint32_t seen = 0;
    lp__string key, type = {"null", 4};
    if (is_null(j)) return unsupported(j, "the decoder", type);
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        if (lp__json_key(j, key, (const char* const[]){"type"}, 1, &seen) == 0)
            (void)lp__json_string(j, &type);
        else
            (void)lp__json_skip(j);
    }
    return is(type, "ByteLevel") ? j->status : unsupported(j, "the decoder", type);
}
