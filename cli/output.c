/* Printing: JSON, matrices as NumPy prints them, and progress. */
#include "cli.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

/* Bytes of the UTF-8 character that text begins with; 0 if it begins with none. */
static size_t character(const unsigned char* text, size_t bytes) {
    const unsigned char c = text[0];
    const size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < n; i++) {
        if (i >= bytes || (text[i] & 0xc0) != 0x80) return 0;
    }
    return n;
}

/* C0, DEL, C1 (U+0080 to U+009F), and bytes that are no UTF-8, which some terminals read as C1. */
static bool is_control(const unsigned char* text, size_t n) {
    return n == 0 || (n == 1 && (text[0] < 0x20 || text[0] == 0x7f)) ||
           (n == 2 && text[0] == 0xc2 && text[1] < 0xa0);
}

/* Characters of `kept` stay although they are control characters. */
static void print_masked(FILE* to, const char* text, size_t bytes, const char* kept) {
    for (size_t i = 0; i < bytes;) {
        const unsigned char* at = (const unsigned char*)text + i;
        const size_t n = character(at, bytes - i), step = n ? n : 1;
        if (is_control(at, n) && !(*at && strchr(kept, *at))) {
            fputc('?', to);
        } else {
            fwrite(at, 1, step, to);
        }
        i += step;
    }
}

void cli_print_safe(FILE* to, const char* text) { print_masked(to, text, strlen(text), ""); }

void cli_print_response(const char* text, size_t bytes) {
    if (isatty(STDOUT_FILENO)) {
        print_masked(stdout, text, bytes, "\n\t");
    } else {
        fwrite(text, 1, bytes, stdout);
    }
}

lp_status cli_flush(lp_ctx* ctx) {
    const bool lost = ferror(stdout) != 0;
    return fflush(stdout) == 0 && !lost ? LP_OK
                                        : lp_fail(ctx, LP_IO, "could not write to standard output");
}

/* A terminal gets ASCII only; jansson takes DEL for a character to be shown. */
static void put_json(const char* text, bool terminal) {
    for (; terminal && *text; text++) {
        if (*text == 0x7f) {
            fputs("\\u007f", stdout);
        } else {
            putchar(*text);
        }
    }
    puts(text);
}

lp_status cli_print_json(lp_ctx* ctx, json_t* object, int digits) {
    const bool terminal = isatty(STDOUT_FILENO) != 0;
    const size_t flags =
        JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits) | (terminal ? JSON_ENSURE_ASCII : 0);
    char* text = object ? json_dumps(object, flags) : NULL;
    json_decref(object);
    if (!text) return lp_fail(ctx, LP_NOMEM, "out of memory while writing JSON");
    put_json(text, terminal);
    free(text);
    return cli_flush(ctx);
}

json_t* cli_json_number(double x) {
    return isfinite(x) ? json_real(x == 0 ? 0.0 : x) : json_null();
}

double cli_plain(double x, int digits) {
    if (isnan(x)) return (double)NAN;
    return fabs(x) < 0.5 * pow(10, -digits) ? 0.0 : x;
}

/* Whether there is any use in printing on. */
static lp_status look(lp_ctx* ctx) {
    if (lp_cancelled(ctx)) return LP_CANCELLED;
    return ferror(stdout) ? cli_flush(ctx) : LP_OK;
}

lp_status cli_print_json_vector(lp_ctx* ctx, const double* x, int64_t n, int digits) {
    enum { PIECE = 4096 };
    putchar('[');
    for (int64_t i = 0, m; i < n; i += m) {
        const lp_status status = look(ctx);
        if (status != LP_OK) return status;
        m = n - i < PIECE ? n - i : PIECE;
        json_t* list = json_array();
        for (int64_t j = i; j < i + m; j++) json_array_append_new(list, cli_json_number(x[j]));
        char* text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits));
        json_decref(list);
        if (!text) return LP_NOMEM;
        printf("%s%.*s", i > 0 ? "," : "", (int)strlen(text) - 2,
               text + 1); /* without its brackets */
        free(text);
    }
    putchar(']');
    return LP_OK;
}

lp_status cli_print_json_matrix(lp_ctx* ctx, const double* x, int64_t rows, int64_t cols,
                                int digits) {
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < rows; i++) {
        putchar(i > 0 ? ',' : '[');
        status = cli_print_json_vector(ctx, x + i * cols, cols, digits);
    }
    putchar(']');
    return status;
}

lp_status cli_print_matrix(lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits) {
    int width = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        if (i % 4096 == 0 && lp_cancelled(ctx)) return LP_CANCELLED;
        const int w = snprintf(NULL, 0, "%.*f", digits, x[i]);
        width = w > width ? w : width;
    }
    for (int64_t i = 0; i < rows; i++) {
        printf("%s[", i == 0 ? "[" : " ");
        for (int64_t j = 0; j < cols; j++) {
            const lp_status status = j % 4096 == 0 ? look(ctx) : LP_OK;
            if (status != LP_OK) return status;
            printf("%*.*f%s", width, digits, x[i * cols + j], j + 1 < cols ? ", " : "]");
        }
        puts(i + 1 < rows ? "," : "]");
    }
    return LP_OK;
}

/* ---- progress -------------------------------------------------------------------------------- */

double cli_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Over the line before: a longer one leaves no rest, and one that is wider than the screen would
 * not be gone over. */
static void rewrite(progress* p) {
    p->pending = false;
    if (!p->terminal) {
        fprintf(stderr, "%s\n", p->line);
        return;
    }
    struct winsize size;
    const int columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1
                            ? size.ws_col - 1
                            : INT32_MAX;
    const int length = (int)strlen(p->line), shown = length < columns ? length : columns;
    const int padding = p->width > shown && p->width <= columns ? p->width - shown : 0;
    fprintf(stderr, "\r%.*s%*s", shown, p->line, padding, "");
    p->width = shown;
    p->open = true;
}

void cli_progress(progress* p, const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->line, sizeof p->line, fmt, args);
    va_end(args);
    p->terminal = isatty(STDERR_FILENO);
    const double time = cli_now(), pause = p->terminal ? 0.1 : p->every ? 0 : 1;
    p->pending = p->shown > 0 && time < p->shown + pause;
    if (p->pending) return;
    rewrite(p);
    p->shown = time;
}

void cli_progress_end(progress* p) {
    if (p->pending) rewrite(p);
    if (p->open) fputc('\n', stderr);
    *p = (progress){0};
}
