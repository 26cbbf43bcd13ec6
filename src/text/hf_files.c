/* The folder of a Hugging Face model: reading and writing its tokenizer. */
#include "text/tokenizer.h"

enum {
    VOCABULARY_FILE_LIMIT = 256 << 20, /* tokenizer.json, vocab.json, merges.txt */
    CONFIG_FILE_LIMIT = 16 << 20
};

/* A file that need not be there. */
static lp_status read_if(lp_ctx* ctx, const char* folder, const char* name, size_t limit,
                         lp__string* out) {
    char *path = lp__path(ctx, folder, name), *text = NULL;
    if (!path) return LP_NOMEM;
    lp_status status = lp__file_slurp(ctx, path, limit, &text, &out->bytes);
    lp__free(ctx, path);
    out->data = text;
    return status == LP_NOT_FOUND ? LP_OK : status;
}

static lp_status read_folder(lp_ctx* ctx, const char* folder, lp__hf_files* files) {
    lp_status status =
        read_if(ctx, folder, "tokenizer.json", VOCABULARY_FILE_LIMIT, &files->tokenizer);
    if (status == LP_OK && !files->tokenizer.data) {
        status = read_if(ctx, folder, "vocab.json", VOCABULARY_FILE_LIMIT, &files->vocab);
        if (status == LP_OK)
            status = read_if(ctx, folder, "merges.txt", VOCABULARY_FILE_LIMIT, &files->merges);
        if (status == LP_OK && (!files->vocab.data || !files->merges.data)) {
            status = lp_fail(ctx, LP_NOT_FOUND,
                             "%s: there is no tokenizer.json, nor vocab.json with merges.txt "
                             "(tokenizer.model, SentencePiece, is not supported)",
                             folder);
        }
    }
    if (status == LP_OK)
        status = read_if(ctx, folder, "tokenizer_config.json", CONFIG_FILE_LIMIT, &files->config);
    if (status == LP_OK) {
        status = read_if(ctx, folder, "chat_template.jinja", LP__CHAT_TEMPLATE_LIMIT,
                         &files->chat_template);
    }
    return status;
}

lp_status lp_tokenizer_open(lp_ctx* ctx, const char* folder, lp_tokenizer** out) {
    if (!LP__REQUIRE(ctx, folder && out, "a folder and a place for the tokenizer are needed"))
        return LP_INVALID;
    *out = NULL;
    lp__hf_files files = {0};
    lp_status status = read_folder(ctx, folder, &files);
    if (status == LP_OK) {
        status = lp__tokenizer_from_hf(ctx, &files, out);
        if (status != LP_OK) (void)lp__fail_at(ctx, status, "%s", folder);
    }
    const lp__string texts[] = {files.tokenizer, files.vocab, files.merges, files.config,
                                files.chat_template};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) lp__free(ctx, (void*)texts[i].data);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static lp_status write_file(lp_ctx* ctx, const char* folder, const char* name, lp__string text) {
    char* path = lp__path(ctx, folder, name);
    if (!path) return LP_NOMEM;
    lp__writer writer;
    lp_status status = lp__writer_open(ctx, &writer, path);
    if (status == LP_OK) {
        (void)lp__writer_write(&writer, text.data, text.bytes);
        status = lp__writer_commit(&writer);
    }
    lp__free(ctx, path);
    return status;
}

/* A template that another tokenizer left there would be taken for this one's. */
static lp_status remove_template(lp_ctx* ctx, const char* folder) {
    char* path = lp__path(ctx, folder, "chat_template.jinja");
    if (!path) return LP_NOMEM;
    const lp_io* io = lp__ctx_io(ctx);
    (void)io->unlink(io->user, path);
    lp__free(ctx, path);
    return LP_OK;
}

lp_status lp_tokenizer_save(const lp_tokenizer* t, const char* folder) {
    if (!LP__REQUIRE(t->ctx, folder, "a folder is needed")) return LP_INVALID;
    lp_ctx* ctx = t->ctx;
    lp_text tokenizer = {0}, config = {0};
    lp_status status = lp__tokenizer_to_hf(t, &tokenizer, &config);
    if (status == LP_OK) status = lp__mkdirs(ctx, folder);
    if (status == LP_OK) {
        status = t->chat_template
                     ? write_file(ctx, folder, "chat_template.jinja",
                                  (lp__string){t->chat_template, t->chat_template_bytes})
                     : remove_template(ctx, folder);
    }
    if (status == LP_OK) {
        status = write_file(ctx, folder, "tokenizer_config.json",
                            (lp__string){config.data, config.bytes});
    }
    if (status == LP_OK) {
        status = write_file(ctx, folder, "tokenizer.json",
                            (lp__string){tokenizer.data, tokenizer.bytes});
    }
    lp_text_free(ctx, &tokenizer);
    lp_text_free(ctx, &config);
    return status;
}
