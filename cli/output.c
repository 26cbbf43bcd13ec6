/* Printing: JSON, and matrices as NumPy prints them. */
#include "cli.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void cli_print_safe(FILE* to, const char* text) {
    for (; *text; text++) fputc((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text, to);
}

int cli_print_json(json_t* object, int digits) {
    char* text = object ? json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION((size_t)digits)) : NULL;
    json_decref(object);
    if (!text) {
        fputs("logpi: out of memory while writing JSON\n", stderr);
        return EXIT_FAILURE_;
    }
    puts(text);
    free(text);
    return EXIT_OK;
}

json_t* cli_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t* cli_json_vector(const double* x, int64_t n) {
    json_t* list = json_array();
    for (int64_t i = 0; i < n; i++) json_array_append_new(list, cli_json_number(x[i]));
    return list;
}

json_t* cli_json_matrix(const double* x, int64_t rows, int64_t cols) {
    json_t* list = json_array();
    for (int64_t i = 0; i < rows; i++) json_array_append_new(list, cli_json_vector(x + i * cols, cols));
    return list;
}

void cli_print_matrix(const double* x, int64_t rows, int64_t cols, int digits) {
    int width = 0;
    for (int64_t i = 0; i < rows * cols; i++) {
        const int w = snprintf(NULL, 0, "%.*f", digits, x[i]);
        width = w > width ? w : width;
    }
    for (int64_t i = 0; i < rows; i++) {
        printf("%s[", i == 0 ? "[" : " ");
        for (int64_t j = 0; j < cols; j++)
            printf("%*.*f%s", width, digits, x[i * cols + j], j + 1 < cols ? ", " : "]");
        puts(i + 1 < rows ? "," : "]");
    }
}
