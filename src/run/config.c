/* config.yaml: the settings of a run. Scalars are written so that YAML 1.1 and 1.2 read them alike:
 * 1e-05 has a point, and a text that could be taken for something else has quotes. */
#include "run/options.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A short decimal number that is x again. */
static void write_real(FILE* f, double x) {
    char text[40];
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtod(text, NULL) == x) break;
    }
    char* exponent = strchr(text, 'e');
    const char* point = strchr(text, '.') ? "" : ".0";
    if (exponent) *exponent++ = 0;
    fprintf(f, "%s%s%s%s", text, point, exponent ? "e" : "", exponent ? exponent : "");
}

/* The character that text begins with; *bytes: of how many. A byte that begins none stands for
 * itself. */
static unsigned long character(const char* text, size_t* bytes) {
    const unsigned char lead = (unsigned char)text[0];
    const size_t n = lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    *bytes = 1;
    if (n == 1 || strnlen(text, n) < n || lp__utf8_error(text, n) >= 0) return lead;
    unsigned long code = lead & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) code = code << 6 | ((unsigned char)text[i] & 0x3fu);
    *bytes = n;
    return code;
}

static void write_quoted(FILE* f, const char* text) {
    fputc('"', f);
    for (size_t bytes; *text; text += bytes) {
        const unsigned long c = character(text, &bytes);
        if (c == '"' || c == '\\') {
            fprintf(f, "\\%c", (int)c);
        } else if (c >= 0x20 && c < 0x7f) {
            fputc((int)c, f);
        } else {
            fprintf(f, c < 0x100 ? "\\x%02lX" : c < 0x10000 ? "\\u%04lX" : "\\U%08lX", c);
        }
    }
    fputc('"', f);
}

/* A word that YAML cannot take for a number, a truth value, null, or its own signs. */
static bool is_plain(const char* text) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ",
                      more[] = "0123456789_-./";
    static const char* const reserved[] = {"y",   "n",    "yes",   "no",  "on",
                                           "off", "true", "false", "null"};
    for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        if (strcasecmp(text, reserved[i]) == 0) return false;
    }
    if (!*text || (!strchr(letters, *text) && *text != '/')) return false;
    for (const char* at = text; *at; at++) {
        if (!strchr(letters, *at) && !strchr(more, *at)) return false;
    }
    return true;
}

static void write_text(FILE* f, const char* text) {
    if (is_plain(text)) {
        fputs(text, f);
    } else {
        write_quoted(f, text);
    }
}

static void write_schedule(FILE* f, const char* text) {
    bool linear;
    const double x = lp__schedule_read(text, &linear);
    if (linear) fputs("lin_", f);
    write_real(f, x);
}

static void write_ints(FILE* f, const char* text) {
    fputc('[', f);
    for (const char* at = text; *at;) {
        char* end;
        fprintf(f, "%s%lld", at == text ? "" : ", ", strtoll(at, &end, 10));
        at = end + (*end == ',');
    }
    fputc(']', f);
}

static void write_list(FILE* f, const lp_options* options, const char* name) {
    fputc('[', f);
    for (int i = 0; i < lp_options_count(options, name); i++) {
        fputs(i > 0 ? ", " : "", f);
        write_quoted(f, lp_options_item(options, name, i));
    }
    fputc(']', f);
}

static void write_value(FILE* f, const lp_options* options, const lp__option* o, const char* text) {
    if (o->type == LIST) {
        write_list(f, options, o->name);
    } else if (!text) {
        fputs(o->type == FLAG ? "false" : "null", f);
    } else if (o->type == INT) {
        fprintf(f, "%lld", strtoll(text, NULL, 10));
    } else if (o->type == REAL) {
        write_real(f, strtod(text, NULL));
    } else if (o->type == SCHEDULE) {
        write_schedule(f, text);
    } else if (o->type == INTS) {
        write_ints(f, text);
    } else if (o->type == FLAG) {
        fputs(text, f);
    } else {
        write_text(f, text);
    }
}

static const char* find_setting(const lp_setting* more, int count, const char* name) {
    for (int i = 0; i < count; i++) {
        if (strcmp(more[i].name, name) == 0) return more[i].value;
    }
    return NULL;
}

static bool is_option(const lp_options* options, const char* name) {
    const lp__option* o;
    for (int i = 0; (o = lp__options_row(options, i)); i++) {
        if (strcmp(o->name, name) == 0) return true;
    }
    return false;
}

static void write_all(FILE* f, const lp_options* options, const lp_setting* more, int count) {
    for (int i = 0; i < count; i++) {
        if (is_option(options, more[i].name)) continue;
        fprintf(f, "%s: ", more[i].name);
        write_text(f, more[i].value);
        fputc('\n', f);
    }
    const lp__option* o;
    for (int i = 0; (o = lp__options_row(options, i)); i++) {
        const char* instead = find_setting(more, count, o->name);
        fprintf(f, "%s: ", o->name);
        write_value(f, options, o, instead ? instead : lp_options_text(options, o->name));
        fputc('\n', f);
    }
}

lp_status lp_options_save(lp_ctx* ctx, const lp_options* options, const lp_setting* more, int count,
                          const char* path) {
    char* text = NULL;
    size_t bytes = 0;
    FILE* f = open_memstream(&text, &bytes);
    if (f) write_all(f, options, more, count);
    const bool failed = !f || ferror(f);
    lp_status status = LP_OK;
    if ((f && fclose(f) != 0) || failed)
        status = lp_fail(ctx, LP_NOMEM, "out of memory while writing %s", path);
    lp__writer writer;
    if (status == LP_OK) status = lp__writer_open(ctx, &writer, path);
    if (status == LP_OK) {
        lp__writer_write(&writer, text, bytes);
        status = lp__writer_commit(&writer);
    }
    free(text);
    return status;
}
