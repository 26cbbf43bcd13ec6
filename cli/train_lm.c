/* What the verbs that train a language model share. */
#include "train_lm.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static lp_status read_reward(lm_run* r) {
    static const char prefix[] = "contains:";
    const char* reward = lp_options_text(r->options, "reward");
    if (!reward) return lp_fail(r->ctx, LP_INVALID, "a reward is needed: --reward contains:WORD");
    if (strncmp(reward, prefix, sizeof prefix - 1) != 0 || !reward[sizeof prefix - 1])
        return lp_fail(r->ctx, LP_INVALID, "unknown reward \"%.60s\"; known: contains:WORD",
                       reward);
    r->word = reward + sizeof prefix - 1;
    return LP_OK;
}

/* Writes the settings. */
static lp_status save_config(void* user, const char* path) {
    const lm_run* r = user;
    const lp_setting settings[] = {{"algo", r->algorithm},
                                   {"output_dir", r->folder.path},
                                   {"isa", lp_isa_name(lp_ctx_isa(r->ctx))}};
    return lp_options_save(r->ctx, r->options, settings, sizeof settings / sizeof *settings, path);
}

static lp_status check_folder(lm_run* r, const char* const* files, int file_count) {
    const char* path = lp_options_text(r->options, "output_dir");
    if (!path) return LP_OK;
    const lp_status status = cli_folder_name(&r->folder, path, files, file_count);
    r->folder.save_config = save_config;
    r->folder.user = r;
    return status == LP_OK
               ? cli_folder_check(r->ctx, &r->folder, lp_options_flag(r->options, "overwrite"))
               : status;
}

lp_status lm_begin(lm_run* r, const lp_generate_def* def, int64_t sequences, bool reference,
                   const char* const* files, int file_count) {
    lp_status status = read_reward(r);
    if (status == LP_OK) status = cli_prompts(r->ctx, r->options, &r->prompts);
    if (status == LP_OK)
        status = cli_model_open(r->ctx, lp_options_text(r->options, "model"), &r->model);
    if (status == LP_OK)
        status = cli_pack(r->ctx, r->options, r->model, def, &r->prompts, &r->packed);
    if (status == LP_OK) status = check_folder(r, files, file_count);
    r->scores = calloc((size_t)sequences, sizeof *r->scores);
    if (status == LP_OK && !r->scores) status = LP_NOMEM;
    if (status == LP_OK) status = lp_model_load_weights(r->model, true, &r->policy);
    status = cli_go_on(r->ctx, status);
    if (status == LP_OK) lp_weights_set_precision(r->policy, cli_precision(r->options));
    if (status == LP_OK && reference) status = lp_weights_clone(r->policy, false, &r->reference);
    if (r->reference) lp_weights_set_precision(r->reference, cli_precision(r->options));
    return cli_go_on(r->ctx, status);
}

lp_status lm_make_folder(lm_run* r, lp_status status) {
    status = cli_go_on(r->ctx, status);
    if (status == LP_OK && r->folder.path)
        status = cli_folder_make(r->ctx, &r->folder, lp_options_flag(r->options, "overwrite"));
    r->begun = status == LP_OK;
    return status;
}

void lm_end(lm_run* r) {
    cli_texts_free(&r->prompts);
    free(r->scores);
    cli_folder_free(&r->folder);
}

lp_status lm_prompts(lm_run* r, int64_t step, int64_t count) {
    r->packed.tokens.count = 0;
    r->packed.count = 0;
    lp_status status = LP_OK;
    for (int64_t j = 0; status == LP_OK && j < count; j++)
        status = lp_prompts_add(r->ctx, &r->packed, r->model,
                                r->prompts.items[(step * count + j) % r->prompts.count],
                                lp_options_flag(r->options, "chat"));
    return status;
}

/* ---- rewards --------------------------------------------------------------------------------- */

/* Response s as text, without special tokens, in r->text. */
static lp_status decode(lm_run* r, int64_t s) {
    const lp_generation* g = &r->batch;
    r->text.bytes = 0;
    lp_status status = lp_text_add(r->ctx, &r->text, "", 0); /* even an empty response has data */
    if (status != LP_OK) return status;
    return lp_tokenizer_decode(lp_model_tokenizer(r->model),
                               g->responses.ids + g->response_offsets[s],
                               g->response_offsets[s + 1] - g->response_offsets[s],
                               LP_DECODE_SKIP_SPECIAL | LP_DECODE_LOSSY, &r->text);
}

/* A response may have zero bytes, a word has none: the pieces between them are searched. */
static double reward(const lp_text* text, const char* word) {
    double found = 0; /* NaN: out of memory */
    for (size_t at = 0; found == 0 && at <= text->bytes; at += strlen(text->data + at) + 1)
        found = lp_reward_contains(text->data + at, word);
    return found;
}

bool lm_is_single(const lm_run* r) { return r->count == 1 && !lp_options_flag(r->options, "json"); }

lp_status lm_score(lm_run* r) {
    for (int64_t s = 0; s < r->batch.sequences; s++) {
        lp_status status = decode(r, s);
        if (status != LP_OK) return status;
        r->scores[s] = reward(&r->text, r->word);
        if (isnan(r->scores[s])) return lp_fail(r->ctx, LP_NOMEM, "out of memory for the reward");
        if (lm_is_single(r)) {
            fputs("Generated response: ", stdout);
            cli_print_response(r->text.data, r->text.bytes);
            printf("\nReward: %.1f\n", r->scores[s]);
            if ((status = cli_flush(r->ctx)) != LP_OK) return status;
        }
    }
    return LP_OK;
}

/* ---- what a step came to --------------------------------------------------------------------- */

lp_status lm_log(lm_run* r, const lp_metric* rows, int scalars, int count) {
    lp_status status = LP_OK;
    if (r->folder.metrics) status = cli_folder_log(r->ctx, &r->folder, rows, count);
    if (status == LP_OK && lp_options_flag(r->options, "json")) {
        json_t* object = json_pack("{s:I}", rows[0].name, (json_int_t)rows[0].value);
        for (int i = 1; i < scalars; i++)
            json_object_set_new(object, rows[i].name, cli_json_number(rows[i].value));
        return cli_print_json(r->ctx, object, 9);
    }
    if (status != LP_OK || !lm_is_single(r)) return status;
    for (const char* c = r->algorithm; *c; c++) putchar(toupper((unsigned char)*c));
    puts(" update step completed.");
    for (int i = 1; i < scalars; i++)
        printf("  %-28s %.6g\n", rows[i].name, cli_plain(rows[i].value, 300));
    return LP_OK;
}

int lm_finish(lm_run* r, lp_status status, int64_t steps,
              lp_status (*save)(void* user, const char* folder), void* user) {
    if (!r->folder.path || !r->begun) return status == LP_OK ? EXIT_OK : cli_fail(r->ctx, status);
    run_result result = {.noun = "weights are", .save = save, .user = user};
    if (steps > 0)
        snprintf(result.what, sizeof result.what, "the weights after %lld whole step%s are",
                 (long long)steps, steps == 1 ? "" : "s");
    return cli_folder_finish(r->ctx, &r->folder, &result, status);
}
