/* NumPy's and PyTorch's generators, call for call, against what they gave
 * (tests/oracles/rng_fixtures.py). */
#include <logpi/base.h>

#include "testing.h"

#include <jansson.h>

#define F64_TOLERANCE 2e-15
#define F32_TOLERANCE 1e-6

typedef struct counts {
    int values, choices, integers;
} counts;

static double real_at(const json_t* list, size_t i) {
    return json_number_value(json_array_get(list, i));
}

static void check_call(lp_rng* rng, const json_t* call, counts* c) {
    enum { MOST = 64 };
    const char* name = json_string_value(json_object_get(call, "call"));
    int64_t n = json_integer_value(json_object_get(call, "n"));
    const json_t *out = json_object_get(call, "out"), *p = json_object_get(call, "p");
    size_t size = json_array_size(out);
    assert_true(size >= 1 && size <= MOST && json_array_size(p) <= MOST);
    double f64[MOST], p64[MOST];
    float f32[MOST], p32[MOST];
    for (size_t i = 0; i < json_array_size(p); i++) {
        p64[i] = real_at(p, i);
        p32[i] = (float)p64[i];
    }
    if (strcmp(name, "normal_f64") == 0 || strcmp(name, "uniform") == 0) {
        if (name[0] == 'n') {
            lp_rng_normal_f64(rng, f64, n);
        } else {
            for (int64_t i = 0; i < n; i++) f64[i] = lp_rng_uniform(rng);
        }
        for (size_t i = 0; i < size; i++) assert_close(f64[i], real_at(out, i), F64_TOLERANCE);
        c->values += (int)size;
    } else if (strcmp(name, "normal_f32") == 0) {
        lp_rng_normal_f32(rng, f32, n);
        for (size_t i = 0; i < size; i++) assert_close(f32[i], real_at(out, i), F32_TOLERANCE);
        c->values += (int)size;
    } else if (strcmp(name, "choice_f64") == 0) {
        assert_int_equal(lp_rng_choice_f64(rng, p64, n),
                         json_integer_value(json_array_get(out, 0)));
        c->choices++;
    } else if (strcmp(name, "choice_f32") == 0) {
        assert_int_equal(lp_rng_choice_f32(rng, p32, n),
                         json_integer_value(json_array_get(out, 0)));
        c->choices++;
    } else if (strcmp(name, "below") == 0) {
        assert_int_equal(lp_rng_below(rng, (uint32_t)n),
                         json_integer_value(json_array_get(out, 0)));
        c->integers++;
    } else if (strcmp(name, "permutation") == 0) {
        int32_t order[MOST];
        lp_rng_permutation(rng, order, (int32_t)n);
        for (size_t i = 0; i < size; i++) {
            assert_int_equal(order[i], json_integer_value(json_array_get(out, i)));
        }
        c->integers += (int)size;
    } else {
        fail_msg("unknown call %s", name);
    }
}

static counts check_file(const char* path, bool torch) {
    json_error_t error;
    json_t* root = json_load_file(path, 0, &error);
    if (!root) fail_msg("%s: %s", path, error.text);
    counts c = {0};
    const json_t* cases = json_object_get(root, "cases");
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t* one = json_array_get(cases, i);
        json_int_t seed = json_integer_value(json_object_get(one, "seed"));
        lp_rng rng = torch ? lp_rng_torch((uint64_t)seed) : lp_rng_numpy((uint32_t)seed);
        const json_t* calls = json_object_get(one, "calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            check_call(&rng, json_array_get(calls, k), &c);
        }
    }
    json_decref(root);
    return c;
}

static void numpy_call_for_call(void** state) {
    (void)state;
    counts c = check_file(fixture_path("rng_numpy.json"), false);
    assert_true(c.values > 600 && c.choices > 150 && c.integers > 500);
}

static void torch_call_for_call(void** state) {
    (void)state;
    counts c = check_file(fixture_path("rng_torch.json"), true);
    assert_true(c.values > 2500 && c.choices > 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numpy_call_for_call),
        cmocka_unit_test(torch_call_for_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
