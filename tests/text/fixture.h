/* The tokenizer of models/tiny.gguf, and the fixture that an oracle wrote for it. */
#ifndef TEXT_FIXTURE_H
#define TEXT_FIXTURE_H

#include "testing.h"

#include "lm/gguf.h"
#include <jansson.h>
#include <logpi/text.h>

typedef struct fixture {
    lp_ctx* ctx;
    lp_tokenizer* tokenizer;
    json_t* json;
} fixture;

static inline int fixture_open(void** state) {
    static fixture f;
    f.ctx = lp_ctx_create(NULL, NULL, 0);
    lp__gguf* gguf = NULL;
    if (!f.ctx || lp__gguf_open(f.ctx, LP_MODELS "/tiny.gguf", &gguf) ||
        lp__gguf_tokenizer(f.ctx, gguf, &f.tokenizer)) {
        print_error("%s\n", lp_error(f.ctx));
        return -1;
    }
    lp__gguf_close(gguf);
    json_error_t error;
    f.json = json_load_file(fixture_path("tokenizer_tiny.json"), JSON_ALLOW_NUL, &error);
    if (!f.json) print_error("%s\n", error.text);
    *state = &f;
    return f.json ? 0 : -1;
}

static inline int fixture_close(void** state) {
    fixture* f = *state;
    json_decref(f->json);
    lp_tokenizer_destroy(f->tokenizer);
    lp_ctx_destroy(f->ctx);
    return 0;
}

/* Fails unless ids are the numbers of the JSON array want. */
static inline void assert_ids(const lp_token_list* list, const json_t* want, const char* what) {
    bool same = (size_t)list->count == json_array_size(want);
    for (size_t i = 0; same && i < json_array_size(want); i++) {
        same = list->ids[i] == json_integer_value(json_array_get(want, i));
    }
    if (!same) {
        print_error("%s\n  got ", what);
        for (int64_t i = 0; i < list->count; i++) print_error(" %d", list->ids[i]);
        print_error("\n  want");
        for (size_t i = 0; i < json_array_size(want); i++) {
            print_error(" %d", (int)json_integer_value(json_array_get(want, i)));
        }
        print_error("\n");
    }
    assert_true(same);
}

#endif
