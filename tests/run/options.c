/* The option parser: numbers are read exactly and in decimal only, ranges hold at their ends. */
#include "testing.h"

#include <logpi/run.h>
#include <logpi/train.h>

static lp_ctx* ctx;

static int start(void** state) {
    (void)state;
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    ctx = lp_ctx_create(&def, NULL, 0);
    return ctx ? 0 : -1;
}

static int stop(void** state) {
    (void)state;
    lp_ctx_destroy(ctx);
    return 0;
}

/* Parses one option of a scope; NULL if it is refused. */
static lp_options* parse(lp_scope scope, const char* word) {
    char copy[256];
    snprintf(copy, sizeof copy, "%s", word);
    char* argv[] = {copy};
    lp_options* options;
    const lp_status status = lp_options_parse(ctx, scope, 1, argv, &options);
    assert_true(status == LP_OK || status == LP_INVALID);
    assert_int_equal(status == LP_OK, options != NULL);
    return options;
}

static void refuse(lp_scope scope, const char* word, const char* says) {
    lp_options* options = parse(scope, word);
    if (options) fail_msg("%s is accepted", word);
    if (!strstr(lp_error(ctx), says)) fail_msg("%s: \"%s\" does not say \"%s\"", word, lp_error(ctx), says);
}

/* Past 2^53 not every whole number is a double. */
static void whole_numbers_are_exact(void** state) {
    (void)state;
    static const struct {
        const char* word;
        int64_t value;
    } cases[] = {{"--seed=9007199254740993", 9007199254740993},
                 {"--seed=9223372036854775807", INT64_MAX},
                 {"--seed=9223372036854775806", INT64_MAX - 1},
                 {"--seed=007", 7},
                 {"--seed=+7", 7},
                 {"--seed=-0", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int scope = 0; scope < 2; scope++) {
            lp_options* options = parse(scope ? LP_SCOPE_GENERATE : LP_SCOPE_PPO_LM, cases[i].word);
            if (!options) fail_msg("%s: %s", cases[i].word, lp_error(ctx));
            if (lp_options_int(options, "seed") != cases[i].value)
                fail_msg("%s is read as %lld", cases[i].word, (long long)lp_options_int(options, "seed"));
            lp_options_destroy(options);
        }
    }
    refuse(LP_SCOPE_GENERATE, "--seed=9223372036854775808", "must lie in [0, 9223372036854775807]");
    refuse(LP_SCOPE_GENERATE, "--seed=99999999999999999999999", "must lie in");
    refuse(LP_SCOPE_GENERATE, "--seed=-1", "must lie in");
    refuse(LP_SCOPE_GENERATE, "--seed=-99999999999999999999999", "must lie in");
}

static void numbers_are_decimal(void** state) {
    (void)state;
    static const char* const integers[] = {"",    " 4", "4 ", "0x4", "4.0", "1e3", "4.5", "nan", "inf",
                                           "abc", "+",  "-",  "--4", "4,0", "\t4", "\n4", "4\n"};
    static const char* const reals[] = {"",     " 1",   "1 ",   "0x1p3", "0x1", "nan", "NaN", "inf",  "-inf", "infinity",
                                        "nan(1)", "1,5", "1e", "e5",  ".",   "+",   "-",   "\v1", "1\n", "1d"};
    char word[64];
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        snprintf(word, sizeof word, "--d=%s", integers[i]);
        refuse(LP_SCOPE_STEP, word, "must be a whole number");
    }
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        snprintf(word, sizeof word, "--learning_rate=%s", reals[i]);
        refuse(LP_SCOPE_STEP, word, "must be a number");
    }
}

static void numbers_are_read(void** state) {
    (void)state;
    static const struct {
        const char* word;
        double value;
    } cases[] = {{"--learning_rate=1e-5", 1e-5}, {"--learning_rate=-2.5", -2.5},   {"--learning_rate=.5", 0.5},
                 {"--learning_rate=5.", 5},      {"--learning_rate=+1E+2", 100},   {"--learning_rate=1000000", 1e6},
                 {"--learning_rate=-1e6", -1e6}, {"--learning_rate=0.1", 0.1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lp_options* options = parse(LP_SCOPE_STEP, cases[i].word);
        if (!options) fail_msg("%s: %s", cases[i].word, lp_error(ctx));
        assert_true(lp_options_real(options, "learning_rate") == cases[i].value);
        lp_options_destroy(options);
    }
    refuse(LP_SCOPE_STEP, "--learning_rate=1000000.1", "must lie in [-1000000, 1000000]");
    refuse(LP_SCOPE_STEP, "--learning_rate=1e999", "must lie in");
    refuse(LP_SCOPE_STEP, "--d=0", "must lie in [1, 1048576]");
    refuse(LP_SCOPE_STEP, "--d=1048577", "must lie in [1, 1048576]");
}

/* The words stand in the order of the enumerations that they name. */
static void choices(void** state) {
    (void)state;
    static const struct {
        lp_scope scope;
        const char *word, *name;
        int index;
    } cases[] = {{LP_SCOPE_STEP, "--rng=numpy", "rng", 0},
                 {LP_SCOPE_STEP, "--rng=torch", "rng", 1},
                 {LP_SCOPE_STEP, "--rng=philox", "rng", 2},
                 {LP_SCOPE_STEP, "--json", "rng", 2},
                 {LP_SCOPE_BENCH, "--isa=scalar", "isa", LP_ISA_SCALAR},
                 {LP_SCOPE_GENERATE, "--isa=avx2", "isa", LP_ISA_AVX2},
                 {LP_SCOPE_PPO_LM, "--isa=avx512", "isa", LP_ISA_AVX512},
                 {LP_SCOPE_BENCH, "--json", "isa", -1},
                 {LP_SCOPE_PPO_LM, "--kl-penalty=kl", "kl_penalty", LP_KL_K1},
                 {LP_SCOPE_PPO_LM, "--kl_penalty=abs", "kl_penalty", LP_KL_ABS},
                 {LP_SCOPE_PPO_LM, "--kl_penalty=mse", "kl_penalty", LP_KL_MSE},
                 {LP_SCOPE_PPO_LM, "--kl_penalty=full", "kl_penalty", LP_KL_FULL},
                 {LP_SCOPE_PPO_LM, "--v_head_init=uniform", "v_head_init", LP_VALUE_UNIFORM},
                 {LP_SCOPE_PPO_LM, "--v_head_init=zeros", "v_head_init", LP_VALUE_ZEROS}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lp_options* options = parse(cases[i].scope, cases[i].word);
        if (!options) fail_msg("%s: %s", cases[i].word, lp_error(ctx));
        assert_int_equal(lp_options_choice(options, cases[i].name), cases[i].index);
        lp_options_destroy(options);
    }
    static const char* const wrong[] = {"--rng=", "--rng=num", "--rng=numpyy", "--rng=numpy|torch", "--rng=|", "--rng=Numpy"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(LP_SCOPE_STEP, wrong[i], "it must be one of numpy|torch|philox");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_numbers_are_exact), cmocka_unit_test(numbers_are_decimal),
                                       cmocka_unit_test(numbers_are_read), cmocka_unit_test(choices)};
    return cmocka_run_group_tests(tests, start, stop);
}
