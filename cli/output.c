/* Printing: JSON, and matrices as NumPy prints them. */
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    return n == 0 || (n == 1 && (text[0] < 0x20 || text[0] == 0x7f)) || (n == 2 && text[0] == 0xc2 && text[1] < 0xa0);
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

lp_status cli_print_json(lp_ctx* ctx, json_t* object, int digits) {
    char* text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits)) : NULL;
    json_decref(object);
    if (!text) return lp_fail(ctx, LP_NOMEM, "out of memory while writing JSON");
    puts(text);
    free(text);
    return LP_OK;
}

json_t* cli_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

lp_status cli_print_json_vector(const lp_ctx* ctx, const double* x, int64_t n, int digits) {
    enum { PIECE = 4096 };
    putchar('[');
    for (int64_t i = 0, m; i < n; i += m) {
        if (lp_cancelled(ctx)) return LP_CANCELLED;
        m = n - i < PIECE ? n - i : PIECE;
        json_t* list = json_array();
        for (int64_t j = i; j < i + m; j++) json_array_append_new(list, cli_json_number(x[j]));
        char* text = json_dumps(list, JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits));
        json_decref(list);
        if (!text) return LP_NOMEM;
        printf("%s%.*s", i > 0 ? "," : "", (int)strlen(text) - 2, text + 1); /* without its brackets */
        free(text);
    }
    putchar(']');
    return LP_OK;
}

lp_status cli_print_json_matrix(const lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits) {
    lp_status status = LP_OK;
    for (int64_t i = 0; status == LP_OK && i < rows; i++) {
        putchar(i > 0 ? ',' : '[');
        status = cli_print_json_vector(ctx, x + i * cols, cols, digits);
    }
    putchar(']');
    return status;
}

lp_status cli_print_matrix(const lp_ctx* ctx, const double* x, int64_t rows, int64_t cols, int digits) {
    int width = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        if (i % 4096 == 0 && lp_cancelled(ctx)) return LP_CANCELLED;
        const int w = snprintf(NULL, 0, "%.*f", digits, x[i]);
        width = w > width ? w : width;
    }
    for (int64_t i = 0; i < rows; i++) {
        printf("%s[", i == 0 ? "[" : " ");
        for (int64_t j = 0; j < cols; j++) {
            if (j % 4096 == 0 && lp_cancelled(ctx)) return LP_CANCELLED;
            printf("%*.*f%s", width, digits, x[i * cols + j], j + 1 < cols ? ", " : "]");
        }
        puts(i + 1 < rows ? "," : "]");
    }
    return LP_OK;
}
