/* Reading fixtures: arrays of numbers out of JSON. Everything is freed with the program. */
#ifndef TESTS_JSON_H
#define TESTS_JSON_H

#include "testing.h"

#include <jansson.h>

static inline json_t* fixture_load(const char* name) {
    json_error_t error;
    json_t* root = json_load_file(fixture_path(name), 0, &error);
    if (!root) fail_msg("fixture %s: %s (line %d)", name, error.text, error.line);
    return root;
}

static inline json_t* json_at(json_t* object, const char* key) {
    json_t* value = json_object_get(object, key);
    if (!value) fail_msg("the fixture lacks %s", key);
    return value;
}

/* null is NaN */
static inline double json_real_at(json_t* object, const char* key) {
    json_t* value = json_at(object, key);
    if (json_is_boolean(value)) return json_is_true(value);
    return json_is_null(value) ? (double)NAN : json_number_value(value);
}

/* A list of numbers, or a list of lists of them put one behind the other. */
static inline int64_t json_flatten(json_t* list, double* to, int64_t room) {
    int64_t n = 0;
    size_t i;
    json_t* item;
    json_array_foreach(list, i, item) {
        if (json_is_array(item)) {
            n += json_flatten(item, to + n, room - n);
        } else {
            if (n >= room) fail_msg("a list of the fixture is too long");
            to[n++] = json_is_null(item) ? (double)NAN : json_number_value(item);
        }
    }
    return n;
}

static inline int64_t json_floats(json_t* list, float* to, int64_t room) {
    double wide[4096];
    const int64_t n = json_flatten(list, wide, room < 4096 ? room : 4096);
    for (int64_t i = 0; i < n; i++) to[i] = (float)wide[i];
    return n;
}

#endif
