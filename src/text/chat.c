/* Chat prompts. A template is recognised, not executed: nothing in a model's file is ever run. */
#include "text/tokenizer.h"

#include <string.h>

#define START "<|im_start|>"
#define END   "<|im_end|>"

/* ---- recognising a template ------------------------------------------------------------------ */

/* Jinja source in one spelling: within {% %} and {{ }} blanks go, string literals keep theirs with
 * \n as a line feed, quotes are all '. Text outside of tags stays. */
static lp_status canonical(lp_ctx* ctx, lp__string source, lp_text* out) {
    bool tag = false;
    char quote = 0;
    for (size_t i = 0; i < source.bytes; i++) {
        char c = source.data[i], next = i + 1 < source.bytes ? source.data[i + 1] : '\0';
        if (quote && c == '\\' && next == 'n') {
            c = '\n';
            i++;
        } else if (quote && c == quote) {
            c = '\'';
            quote = 0;
        } else if (tag && !quote && (c == '\'' || c == '"')) {
            quote = c;
            c = '\'';
        } else if (tag && !quote && (c == ' ' || c == '\n' || c == '\t' || c == '\r')) {
            continue;
        } else if (!tag && c == '{' && (next == '%' || next == '{')) {
            tag = true;
        } else if (tag && !quote && (c == '%' || c == '}') && next == '}') {
            lp_status status = lp_text_add(ctx, out, (char[]){c, '}'}, 2);
            if (status != LP_OK) return status;
            tag = false;
            i++;
            continue;
        }
        if (lp_text_add(ctx, out, &c, 1)) return LP_NOMEM;
    }
    return LP_OK;
}

/* If *rest starts with prefix, moves past it. */
static bool skip(lp__string* rest, const char* prefix) {
    size_t n = strlen(prefix);
    if (rest->bytes < n || memcmp(rest->data, prefix, n) != 0) return false;
    rest->data += n;
    rest->bytes -= n;
    return true;
}

/* ChatML as models publish it, in canonical spelling: an optional default for
 * add_generation_prompt, an optional clause that puts a system message first, the loop, the opening
 * of the answer. */
static bool is_chatml(lp__string rest, lp__string* system) {
    *system = (lp__string){0};
    (void)skip(
        &rest,
        "{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}{%endif%}");
    if (!skip(&rest, "{%formessageinmessages%}")) return false;
    if (skip(&rest, "{%ifloop.firstandmessages[0]['role']!='system'%}{{'" START "system\n")) {
        const char* end = strstr(rest.data, END); /* the text is terminated */
        if (!end) return false;
        *system = (lp__string){rest.data, (size_t)(end - rest.data)};
        if (memchr(system->data, '\'', system->bytes) || memchr(system->data, '\\', system->bytes))
            return false;
        rest.bytes -= system->bytes;
        rest.data = end;
        if (!skip(&rest, END "\n'}}{%endif%}")) return false;
    }
    return skip(&rest, "{{'" START "'+message['role']+'\n'+message['content']+'" END
                       "'+'\n'}}{%endfor%}") &&
           skip(&rest, "{%ifadd_generation_prompt%}{{'" START "assistant\n'}}{%endif%}") &&
           rest.bytes == 0;
}

lp_status lp__chat_template_read(lp_ctx* ctx, lp__string source, lp_chat_format* format,
                                 char** system) {
    *format = LP_CHAT_NONE;
    *system = NULL;
    lp_text text = {0};
    lp_status status = canonical(ctx, source, &text);
    /* Jinja drops the line feed that ends a template. */
    if (text.bytes > 0 && text.data[text.bytes - 1] == '\n') text.data[--text.bytes] = '\0';
    lp__string first;
    if (status == LP_OK && text.bytes > 0 &&
        is_chatml((lp__string){text.data, text.bytes}, &first)) {
        if (first.data) *system = lp__strdup(ctx, first.data, first.bytes);
        if (first.data && !*system) status = LP_NOMEM;
        if (status == LP_OK) *format = LP_CHAT_CHATML;
    }
    lp_text_free(ctx, &text);
    return status;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* Role, line feed and content are one stretch of text between control tokens, and must be cut as
 * one. */
static lp_status add_message(const lp_tokenizer* t, const char* role, const char* content,
                             lp_text* text, lp_token_list* list) {
    text->bytes = 0;
    lp_status status = lp_token_list_add(t->ctx, list, &t->im_start, 1);
    if (status == LP_OK) status = lp_text_add(t->ctx, text, role, strlen(role));
    if (status == LP_OK) status = lp_text_add(t->ctx, text, "\n", 1);
    if (status == LP_OK && content) status = lp_text_add(t->ctx, text, content, strlen(content));
    if (status == LP_OK) status = lp_tokenizer_encode(t, text->data, text->bytes, 0, list);
    if (status != LP_OK || !content) return status;
    status = lp_token_list_add(t->ctx, list, &t->im_end, 1);
    return status == LP_OK ? lp__encode_text(t, "\n", 1, false, list) : status;
}

lp_status lp_chat_encode(const lp_tokenizer* t, const lp_message* messages, int count,
                         bool generation_prompt, lp_token_list* list) {
    if (!LP__REQUIRE(t->ctx, list && count >= 0 && (messages || count == 0),
                     "messages and a list are needed")) {
        return LP_INVALID;
    }
    if (count == 0) return lp_fail(t->ctx, LP_INVALID, "a conversation needs at least one message");
    for (int i = 0; i < count; i++) {
        if (!LP__REQUIRE(t->ctx, messages[i].role && messages[i].content,
                         "a message needs role and content")) {
            return LP_INVALID;
        }
        int64_t bad = lp__utf8_error(messages[i].content, strlen(messages[i].content));
        if (bad >= 0) {
            return lp_fail(t->ctx, LP_FORMAT, "message %d: invalid UTF-8 at byte %lld", i + 1,
                           (long long)bad);
        }
    }
    if (t->chat != LP_CHAT_CHATML) {
        return lp_fail(
            t->ctx, LP_UNSUPPORTED,
            "the model has no chat template, or one that is not ChatML; give it plain prompts");
    }
    int64_t before = list->count;
    lp_text text = {0};
    lp_status status = LP_OK;
    if (t->default_system && strcmp(messages[0].role, "system") != 0) {
        status = add_message(t, "system", t->default_system, &text, list);
    }
    for (int i = 0; i < count && status == LP_OK; i++) {
        status = add_message(t, messages[i].role, messages[i].content, &text, list);
        if (status != LP_OK) (void)lp__fail_at(t->ctx, status, "message %d", i + 1);
    }
    if (status == LP_OK && generation_prompt)
        status = add_message(t, "assistant", NULL, &text, list);
    if (status != LP_OK) list->count = before;
    lp_text_free(t->ctx, &text);
    return status;
}
