/* From a tokenizer to the texts of tokenizer.json and tokenizer_config.json. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <string.h>

/* The first failure stays; it can only be LP_NOMEM. */
typedef struct output {
    lp_ctx* ctx;
    lp_text* text;
    lp_status status;
} output;

static void put_bytes(output* o, const char* data, size_t bytes) {
    if (o->status == LP_OK) o->status = lp_text_add(o->ctx, o->text, data, bytes);
}

static void put(output* o, const char* text) { put_bytes(o, text, strlen(text)); }

static void put_int(output* o, int64_t value) {
    char digits[24];
    snprintf(digits, sizeof digits, "%lld", (long long)value);
    put(o, digits);
}

static void put_bool(output* o, bool value) { put(o, value ? "true" : "false"); }

/* A JSON string; valid UTF-8 stays as it is. */
static void put_string(output* o, lp__string s) {
    put(o, "\"");
    size_t from = 0;
    for (size_t i = 0; i < s.bytes; i++) {
        const uint8_t c = (uint8_t)s.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        char escape[8];
        if (c < 0x20) {
            snprintf(escape, sizeof escape, "\\u%04x", c);
        } else {
            snprintf(escape, sizeof escape, "\\%c", c);
        }
        put_bytes(o, s.data + from, i - from);
        put(o, escape);
        from = i + 1;
    }
    put_bytes(o, s.data + from, s.bytes - from);
    put(o, "\"");
}

static bool is_added(const lp_tokenizer* t, int32_t id) {
    return t->kinds[id] == LP__TOKEN_CONTROL || t->kinds[id] == LP__TOKEN_USER_DEFINED;
}

static void put_added(output* o, const lp_tokenizer* t) {
    const char* before = "\n    ";
    put(o, "  \"added_tokens\": [");
    for (int32_t i = 0; i < t->size; i++) {
        if (!is_added(t, i) || t->spellings[i].bytes == 0) continue;
        put(o, before);
        put(o, "{\"id\": ");
        put_int(o, i);
        put(o, ", \"content\": ");
        put_string(o, t->spellings[i]);
        put(o, ", \"single_word\": false, \"lstrip\": ");
        put_bool(o, t->flags[i] & LP__TOKEN_LSTRIP);
        put(o, ", \"rstrip\": ");
        put_bool(o, t->flags[i] & LP__TOKEN_RSTRIP);
        put(o, ", \"normalized\": ");
        put_bool(o, t->flags[i] & LP__TOKEN_NORMALIZED);
        put(o, ", \"special\": ");
        put_bool(o, t->kinds[i] == LP__TOKEN_CONTROL);
        put(o, "}");
        before = ",\n    ";
    }
    put(o, "\n  ],\n");
}

#define BYTE_LEVEL(prefix, regex)                                                                  \
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": " prefix                                      \
    ", \"trim_offsets\": false, \"use_regex\": " regex "}"

/* GPT-2's pattern is ByteLevel's own, where it comes last. */
static void put_pre_tokenizer(output* o, const lp_tokenizer* t) {
    const lp__pre* pre = &t->pre;
    const bool own = pre->count > 0 && pre->steps[pre->count - 1] == LP__PRE_GPT2;
    put(o, t->pre.nfc ? "  \"normalizer\": {\"type\": \"NFC\"},\n" : "  \"normalizer\": null,\n");
    put(o, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
    for (int i = 0; i < pre->count - own; i++) {
        const char* pattern = lp__pre_pattern(pre->steps[i]);
        if (pattern) {
            put(o, "\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ");
            put_string(o, lp__string_of(pattern));
            put(o, "}, \"behavior\": \"Isolated\", \"invert\": false},");
        } else {
            put(o, "\n    {\"type\": \"Digits\", \"individual_digits\": ");
            put_bool(o, pre->steps[i] == LP__PRE_DIGIT);
            put(o, "},");
        }
    }
    put(o, own ? "\n    " BYTE_LEVEL("false", "true") : "\n    " BYTE_LEVEL("false", "false"));
    put(o, "\n  ]},\n");
}

static void put_special(output* o, const lp_tokenizer* t, int32_t id, int type) {
    put(o, "{\"SpecialToken\": {\"id\": ");
    put_string(o, t->spellings[id]);
    put(o, type ? ", \"type_id\": 1}}" : ", \"type_id\": 0}}");
}

static void put_sequence(output* o, const lp_tokenizer* t, bool bos, bool eos, int type) {
    if (bos) {
        put_special(o, t, t->bos, type);
        put(o, ", ");
    }
    put(o, type ? "{\"Sequence\": {\"id\": \"B\", \"type_id\": 1}}"
                : "{\"Sequence\": {\"id\": \"A\", \"type_id\": 0}}");
    if (eos) {
        put(o, ", ");
        put_special(o, t, t->eos, type);
    }
}

static void put_template_token(output* o, const lp_tokenizer* t, int32_t id) {
    put_string(o, t->spellings[id]);
    put(o, ": {\"id\": ");
    put_string(o, t->spellings[id]);
    put(o, ", \"ids\": [");
    put_int(o, id);
    put(o, "], \"tokens\": [");
    put_string(o, t->spellings[id]);
    put(o, "]}");
}

static void put_post_processor(output* o, const lp_tokenizer* t) {
    const bool bos = t->add_bos && t->bos >= 0, eos = t->add_eos && t->eos >= 0;
    put(o, "  \"post_processor\": ");
    if (bos || eos) {
        put(o, "{\"type\": \"TemplateProcessing\", \"single\": [");
        put_sequence(o, t, bos, eos, 0);
        put(o, "], \"pair\": [");
        put_sequence(o, t, bos, eos, 0);
        put(o, ", ");
        put_sequence(o, t, bos, eos, 1);
        put(o, "], \"special_tokens\": {");
        if (bos) put_template_token(o, t, t->bos);
        if (bos && eos && t->bos != t->eos) put(o, ", ");
        if (eos && !(bos && t->bos == t->eos)) put_template_token(o, t, t->eos);
        put(o, "}},\n");
    } else {
        put(o, BYTE_LEVEL("true", "true") ",\n");
    }
    put(o, "  \"decoder\": " BYTE_LEVEL("true", "true") ",\n");
}

static void put_model(output* o, const lp_tokenizer* t) {
    put(o, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (t->unknown_byte >= 0) {
        put_string(o, t->spellings[t->unknown_byte]);
    } else {
        put(o, "null");
    }
    put(o, ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n"
           "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n    \"ignore_merges\": ");
    put_bool(o, t->ignore_merges);
    put(o, ",\n    \"vocab\": {");
    const char* before = "\n      ";
    for (int32_t i = 0; i < t->size; i++) {
        if (t->spellings[i].bytes == 0) continue;
        put(o, before);
        put_string(o, t->spellings[i]);
        put(o, ": ");
        put_int(o, i);
        before = ",\n      ";
    }
    put(o, "\n    },\n    \"merges\": [");
    before = "\n      [";
    for (int64_t rank = 0; rank < lp__tokenizer_merge_count(t); rank++) {
        lp__string left, right;
        if (!lp__tokenizer_merge(t, rank, &left, &right)) continue;
        put(o, before);
        put_string(o, left);
        put(o, ", ");
        put_string(o, right);
        put(o, "]");
        before = ",\n      [";
    }
    put(o, "\n    ]\n  }\n}\n");
}

static void put_config(output* o, const lp_tokenizer* t) {
    const struct {
        const char* name;
        int32_t id;
    } named[] = {
        {"bos_token", t->bos}, {"eos_token", t->eos}, {"pad_token", t->pad}, {"unk_token", t->unk}};
    put(o, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n");
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        put(o, "  \"");
        put(o, named[i].name);
        put(o, "\": ");
        if (named[i].id >= 0) {
            put_string(o, t->spellings[named[i].id]);
        } else {
            put(o, "null");
        }
        put(o, ",\n");
    }
    if (t->chat_template) {
        put(o, "  \"chat_template\": ");
        put_string(o, (lp__string){t->chat_template, t->chat_template_bytes});
        put(o, ",\n");
    }
    put(o, "  \"clean_up_tokenization_spaces\": false\n}\n");
}

lp_status lp__tokenizer_to_hf(const lp_tokenizer* t, lp_text* tokenizer_json, lp_text* config) {
    output o = {t->ctx, tokenizer_json, LP_OK};
    put(&o, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(&o, t);
    put_pre_tokenizer(&o, t);
    put_post_processor(&o, t);
    put_model(&o, t);
    if (o.status != LP_OK) return o.status;
    o.text = config;
    put_config(&o, t);
    return o.status;
}
