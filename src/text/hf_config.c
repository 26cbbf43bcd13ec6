/* tokenizer_config.json: which tokens are special, and the chat template. */
#include "text/hf.h"

#include <string.h>

/* "token", {"content": "token", ...}, or null. A token without an id of its own may be described
 * here only. */
static lp_status read_named(lp__hf* hf, lp__json* j, lp__hf_named* named) {
    lp__hf_added added = {0};
    named->given = true;
    switch (lp__json_peek(j)) {
    case LP__JSON_NULL: return lp__json_skip(j);
    case LP__JSON_STRING: return lp__json_string(j, &named->content);
    default:
        (void)lp__hf_read_added(hf, j, false, &added);
        named->content = added.content;
        return j->status;
    }
}

/* A bool, or null for false. */
static lp_status read_flag(lp__json* j, bool* flag) {
    return lp__json_peek(j) == LP__JSON_NULL ? lp__json_skip(j) : lp__json_bool(j, flag);
}

/* A text; or a list of {"name", "template"}, of which the one named "default" counts. */
static lp_status read_chat_template(lp__hf* hf, lp__json* j) {
    if (lp__json_peek(j) == LP__JSON_NULL) return lp__json_skip(j);
    if (lp__json_peek(j) == LP__JSON_STRING) return lp__json_string(j, &hf->chat_template);
    lp__json_begin(j, LP__JSON_ARRAY);
    while (lp__json_element(j)) {
        static const char* const keys[] = {"name", "template"};
        uint32_t seen = 0;
        lp__string key, fields[2] = {{"", 0}, {NULL, 0}};
        lp__json_begin(j, LP__JSON_OBJECT);
        while (lp__json_member(j, &key)) {
            const int which = lp__json_key(j, key, keys, 2, &seen);
            (void)(which >= 0 ? lp__json_string(j, &fields[which]) : lp__json_skip(j));
        }
        if (lp__string_equal(fields[0], lp__string_of("default"))) hf->chat_template = fields[1];
    }
    return j->status;
}

/* The id of a key like "50256". */
static bool parse_id(lp__string key, int64_t* id) {
    *id = 0;
    for (size_t i = 0; i < key.bytes; i++) {
        if (key.data[i] < '0' || key.data[i] > '9' || i == 7) return false;
        *id = *id * 10 + (key.data[i] - '0');
    }
    return key.bytes > 0 && *id < LP__VOCABULARY_LIMIT;
}

/* {"50256": {"content": ...}, ...} */
static lp_status read_decoder_tokens(lp__hf* hf, lp__json* j) {
    lp__string key;
    if (lp__json_peek(j) == LP__JSON_NULL) return lp__json_skip(j);
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        lp__hf_added added = {0};
        if (!parse_id(key, &added.id))
            return lp__json_fail(j, LP_FORMAT, "a key of added_tokens_decoder that is no id");
        if (lp__hf_read_added(hf, j, false, &added) != LP_OK) break;
        if (!LP__HF_ROOM(hf, added, added_room, added_count)) return j->status = LP_NOMEM;
        hf->added[hf->added_count++] = added;
    }
    return j->status;
}

lp_status lp__hf_read_config(lp__hf* hf, lp__json* j) {
    static const char* const keys[] = {
        "bos_token",      "eos_token",     "pad_token",     "unk_token",
        "add_bos_token",  "add_eos_token", "chat_template", "added_tokens_decoder",
        "tokenizer_class"};
    uint32_t seen = 0;
    lp__string key;
    lp__json_begin(j, LP__JSON_OBJECT);
    while (lp__json_member(j, &key)) {
        const int which = lp__json_key(j, key, keys, 9, &seen);
        switch (which) {
        case LP__HF_BOS:
        case LP__HF_EOS:
        case LP__HF_PAD:
        case LP__HF_UNK: (void)read_named(hf, j, &hf->named[which]); break;
        case 4: (void)read_flag(j, &hf->add_bos); break;
        case 5: (void)read_flag(j, &hf->add_eos); break;
        case 6: (void)read_chat_template(hf, j); break;
        case 7: (void)read_decoder_tokens(hf, j); break;
        case 8:
            (void)(lp__json_peek(j) == LP__JSON_NULL ? lp__json_skip(j)
                                                     : lp__json_string(j, &hf->class_name));
            break;
        default: (void)lp__json_skip(j); break;
        }
    }
    hf->adds_given = seen & (1u << 4 | 1u << 5);
    return lp__json_finish(j);
}
