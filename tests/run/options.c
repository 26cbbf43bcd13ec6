/* The option parser: numbers are read exactly and in decimal only, ranges hold at their ends; and
 * config.yaml, which has the same values. */
#include "testing.h"

#include <logpi/run.h>
#include <logpi/train.h>
#include <unistd.h>

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
    static char copy[256]; /* the options point into it */
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
    if (!strstr(lp_error(ctx), says))
        fail_msg("%s: \"%s\" does not say \"%s\"", word, lp_error(ctx), says);
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
                fail_msg("%s is read as %lld", cases[i].word,
                         (long long)lp_options_int(options, "seed"));
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
    static const char* const integers[] = {"",    " 4",  "4 ",  "0x4", "4.0", "1e3",
                                           "4.5", "nan", "inf", "abc", "+",   "-",
                                           "--4", "4,0", "\t4", "\n4", "4\n"};
    static const char* const reals[] = {"",    " 1",   "1 ",       "0x1p3",  "0x1", "nan", "NaN",
                                        "inf", "-inf", "infinity", "nan(1)", "1,5", "1e",  "e5",
                                        ".",   "+",    "-",        "\v1",    "1\n", "1d"};
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
    } cases[] = {{"--learning_rate=1e-5", 1e-5}, {"--learning_rate=-2.5", -2.5},
                 {"--learning_rate=.5", 0.5},    {"--learning_rate=5.", 5},
                 {"--learning_rate=+1E+2", 100}, {"--learning_rate=1000000", 1e6},
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
    static const char* const wrong[] = {
        "--rng=", "--rng=num", "--rng=numpyy", "--rng=numpy|torch", "--rng=|", "--rng=Numpy"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        refuse(LP_SCOPE_STEP, wrong[i], "it must be one of numpy|torch|philox");
}

/* One table, and a default for each algorithm: those of the library. */
static void defaults_are_those_of_the_library(void** state) {
    (void)state;
    static const lp_scope scopes[] = {LP_SCOPE_REINFORCE, LP_SCOPE_A2C,
                                      LP_SCOPE_PPO}; /* as lp_algorithm */
    for (int a = 0; a < LP_ALGORITHM_COUNT; a++) {
        const lp_on_policy_def def = lp_on_policy_def_default((lp_algorithm)a);
        bool linear;
        lp_options* o = parse(scopes[a], "--json");
        assert_non_null(o);
        assert_int_equal(lp_options_int(o, "n_timesteps"), def.n_timesteps);
        assert_int_equal(lp_options_int(o, "n_steps"), def.n_steps);
        assert_true(lp_options_schedule(o, "learning_rate", &linear) == def.learning_rate.initial &&
                    !linear);
        assert_true(lp_options_real(o, "gamma") == def.gamma);
        assert_true(lp_options_real(o, "gae_lambda") == def.gae_lambda);
        assert_true(lp_options_real(o, "ent_coef") == def.ent_coef);
        assert_true(lp_options_real(o, "vf_coef") == def.vf_coef);
        assert_true(lp_options_real(o, "max_grad_norm") == def.max_grad_norm);
        assert_true(lp_options_real(o, "optimizer_eps") == def.optimizer_eps);
        assert_int_equal(lp_options_flag(o, "normalize_advantage"), def.normalize_advantage);
        assert_int_equal(lp_options_choice(o, "optimizer"), def.optimizer == LP_RMSPROP);
        if (a == LP_PPO) {
            assert_int_equal(lp_options_int(o, "batch_size"), def.batch_size);
            assert_int_equal(lp_options_int(o, "n_epochs"), def.n_epochs);
            assert_true(lp_options_schedule(o, "clip_range", &linear) == def.clip_range.initial &&
                        !linear);
            assert_true(lp_options_schedule(o, "clip_range_vf", &linear) ==
                            def.clip_range_vf.initial &&
                        !linear);
            assert_true(lp_options_real(o, "target_kl") == def.target_kl);
        }
        lp_options_destroy(o);
    }
    refuse(LP_SCOPE_A2C, "--n_epochs=3", "unknown option --n_epochs");
}

static void schedules(void** state) {
    (void)state;
    static const struct {
        const char* word;
        double value;
        bool linear;
    } cases[] = {
        {"--learning_rate=0.001", 0.001, false},      {"--learning_rate=lin_0.001", 0.001, true},
        {"--learning-rate=lin_2.5e-4", 2.5e-4, true}, {"--learning_rate=lin_0", 0, true},
        {"--learning_rate=lin_1000000", 1e6, true},   {"--learning_rate=1e-5", 1e-5, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool linear;
        lp_options* o = parse(LP_SCOPE_PPO, cases[i].word);
        if (!o) fail_msg("%s: %s", cases[i].word, lp_error(ctx));
        assert_true(lp_options_schedule(o, "learning_rate", &linear) == cases[i].value);
        assert_int_equal(linear, cases[i].linear);
        lp_options_destroy(o);
    }
    static const char* const malformed[] = {
        "",         "lin_",        "lin_x",       "lin",     "lin_lin_1", "lin 0.1", "LIN_0.001",
        "lin_ 0.1", "linear_0.01", "lin_0.1lin_", "0.1lin_", "lin_nan",   "lin_0x1"};
    char word[64];
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        snprintf(word, sizeof word, "--clip_range=%s", malformed[i]);
        refuse(LP_SCOPE_PPO, word,
               "must be a number in decimal digits (0.001), or lin_ and a number");
    }
    refuse(LP_SCOPE_PPO, "--clip_range=-0.1", "is -0.1: it must lie in [0, 1000000000]");
    refuse(LP_SCOPE_PPO, "--clip_range=lin_-0.1", "is lin_-0.1: it must lie in [0, 1000000000]");
    refuse(LP_SCOPE_PPO, "--learning_rate=lin_1000000.1", "must lie in [0, 1000000]");
}

static void lists_of_numbers(void** state) {
    (void)state;
    static const struct {
        const char* word;
        int count;
        int64_t values[3];
    } cases[] = {{"--net_arch=64,64", 2, {64, 64}},
                 {"--net_arch=1", 1, {1}},
                 {"--net_arch=", 0, {0}},
                 {"--json", 2, {64, 64}},
                 {"--net_arch=256,128,1048576", 3, {256, 128, 1048576}},
                 {"--net_arch=7,8,9,10", 4, {7, 8, 9}}}; /* what there is no room for is counted */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t values[3] = {0};
        lp_options* o = parse(LP_SCOPE_A2C, cases[i].word);
        if (!o) fail_msg("%s: %s", cases[i].word, lp_error(ctx));
        assert_int_equal(lp_options_ints(o, "net_arch", values, 3), cases[i].count);
        for (int j = 0; j < 3; j++) assert_int_equal(values[j], cases[i].values[j]);
        lp_options_destroy(o);
    }
    static const char* const wrong[] = {"64,,64",
                                        ",64",
                                        "64,",
                                        ",",
                                        "64;64",
                                        "64, 64",
                                        "[64,64]",
                                        "64x",
                                        "0",
                                        "64,-1",
                                        "1048577",
                                        "6.4",
                                        "64,99999999999999999999",
                                        "64,000000000000000000000000000000000000064"};
    char word[64];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(word, sizeof word, "--net_arch=%s", wrong[i]);
        refuse(LP_SCOPE_PPO, word,
               "it must be whole numbers in [1, 1048576] with a comma in between");
    }
}

static void nearest_words(void** state) {
    (void)state;
    static const char* const names[] = {"CartPole-v1", "Acrobot-v1", "MountainCar-v0"};
    static const char* const cases[][2] = {{"cartpole", "CartPole-v1"},
                                           {"CartPole-v0", "CartPole-v1"},
                                           {"Cart_Pole-v1", "CartPole-v1"},
                                           {"ACROBOT-V1", "Acrobot-v1"},
                                           {"mountaincar", "MountainCar-v0"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char* found = lp_nearest(cases[i][0], names, 3);
        if (!found || strcmp(found, cases[i][1]) != 0)
            fail_msg("%s: %s", cases[i][0], found ? found : "none");
    }
    assert_null(lp_nearest("xyz", names, 3));
    assert_null(lp_nearest("", names, 3));
}

/* The file that lp_options_save writes for these words. */
static char* saved(lp_scope scope, int argc, char* const* argv, const lp_setting* more, int count) {
    char path[] = "/tmp/logpi-config-XXXXXX", *text;
    size_t bytes;
    lp_options* o;
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    if (lp_options_parse(ctx, scope, argc, argv, &o) != LP_OK) fail_msg("%s", lp_error(ctx));
    if (lp_options_save(ctx, o, more, count, path) != LP_OK) fail_msg("%s", lp_error(ctx));
    if (lp_read_text(ctx, path, &text, &bytes) != LP_OK) fail_msg("%s", lp_error(ctx));
    lp_options_destroy(o);
    unlink(path);
    return text;
}

/* Every option with its value, and each value in the one form that YAML 1.1 and 1.2 read alike. */
static void settings_are_yaml(void** state) {
    (void)state;
    char* const words[] = {
        "--env=CartPole-v1",    "--n_envs=008", "--n_timesteps=+2000", "--learning_rate=lin_1e-3",
        "--clip_range_vf=1e9",  "--gamma=.98",  "--net_arch=032,+16",  "--max_grad_norm=1000",
        "--optimizer_eps=1e-8", "--json"};
    const lp_setting more[] = {{"algo", "ppo"}, {"output_dir", "runs/a b"}, {"isa", "avx2"}};
    char* text = saved(LP_SCOPE_PPO, sizeof words / sizeof *words, words, more, 3);
    assert_string_equal(text, "algo: ppo\n"
                              "env: CartPole-v1\n"
                              "n_envs: 8\n"
                              "n_timesteps: 2000\n"
                              "n_steps: 2048\n"
                              "batch_size: 64\n"
                              "n_epochs: 10\n"
                              "learning_rate: lin_0.001\n"
                              "gamma: 0.98\n"
                              "gae_lambda: 0.95\n"
                              "clip_range: 0.2\n"
                              "clip_range_vf: 1.0e+09\n"
                              "ent_coef: 0.0\n"
                              "vf_coef: 0.5\n"
                              "max_grad_norm: 1000.0\n"
                              "normalize_advantage: true\n"
                              "target_kl: 0.0\n"
                              "net_arch: [32, 16]\n"
                              "activation_fn: tanh\n"
                              "optimizer: adam\n"
                              "optimizer_eps: 1.0e-08\n"
                              "seed: 0\n"
                              "threads: 0\n"
                              "isa: avx2\n"
                              "output_dir: \"runs/a b\"\n"
                              "overwrite: false\n"
                              "eval_episodes: 0\n"
                              "log_interval: 1\n"
                              "json: true\n");
    lp_release(ctx, text);
    char* const lists[] = {"--prompt=a, \"b\"", "--prompt=yes", "--lam=0.30000000000000004"};
    text = saved(LP_SCOPE_PPO_LM, 3, lists, NULL, 0);
    assert_non_null(strstr(text, "\nprompt: [\"a, \\\"b\\\"\", \"yes\"]\n"));
    assert_non_null(strstr(text, "\nprompts: null\n"));
    assert_non_null(strstr(text, "\nlam: 0.30000000000000004\n"));
    lp_release(ctx, text);
}

static void text_is_quoted_when_needed(void** state) {
    (void)state;
    static const char* const cases[][2] = {{"CartPole-v1", "CartPole-v1"},
                                           {"", "\"\""},
                                           {"No", "\"No\""},
                                           {"y", "\"y\""},
                                           {"null", "\"null\""},
                                           {"nullable", "nullable"},
                                           {"/tmp/a-b_c.d", "/tmp/a-b_c.d"},
                                           {"./a", "\"./a\""},
                                           {"~", "\"~\""},
                                           {"12", "\"12\""},
                                           {"1e5", "\"1e5\""},
                                           {".5", "\".5\""},
                                           {"-", "\"-\""},
                                           {"a: b", "\"a: b\""},
                                           {"a #b", "\"a #b\""},
                                           {"a\\b\"c", "\"a\\\\b\\\"c\""},
                                           {"a\nb\tc", "\"a\\x0Ab\\x09c\""},
                                           {"\x7f", "\"\\x7F\""},
                                           {"Gr\xc3\xb6\xc3\x9f"
                                            "e",
                                            "\"Gr\\xF6\\xDFe\""},
                                           {"\xcf\x80", "\"\\u03C0\""},
                                           {"\xe2\x80\xa8", "\"\\u2028\""},
                                           {"\xf0\x9f\x98\x80", "\"\\U0001F600\""},
                                           {"\xf6z", "\"\\xF6z\""},
                                           {"\xe2\x80", "\"\\xE2\\x80\""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lp_setting more = {"output_dir", cases[i][0]};
        char expected[128];
        snprintf(expected, sizeof expected, "\noutput_dir: %s\n", cases[i][1]);
        char* text = saved(LP_SCOPE_A2C, 0, NULL, &more, 1);
        if (!strstr(text, expected)) fail_msg("no \"%s\" in %s", expected, text);
        lp_release(ctx, text);
    }
}

/* A call for help is a word of its own, not the value of an option. */
static void help_is_a_word(void** state) {
    (void)state;
    static const struct {
        const char* words[3];
        bool want;
    } cases[] = {{{"--prompt", "--help", "--chat"}, false},
                 {{"--prompt", "-h", "-h"}, true},
                 {{"--prompt=a", "--help", "x"}, true},
                 {{"--chat", "-h", "x"}, true},
                 {{"--", "--help", "-h"}, false},
                 {{"--num-return-sequences", "--help", "3"}, false},
                 {{"--nothing", "--help", "x"}, true},
                 {{"a", "b", "--seed"}, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char* argv[3];
        for (int j = 0; j < 3; j++) argv[j] = (char*)(uintptr_t)cases[i].words[j];
        if (lp_options_want_help(LP_SCOPE_GENERATE, 3, argv) != cases[i].want)
            fail_msg("case %d", (int)i);
    }
    refuse(LP_SCOPE_PPO_LM, "--no-adap_kl_ctrl=false",
           "--no-adap_kl_ctrl takes no value; --adap_kl_ctrl=true");
    refuse(LP_SCOPE_PPO_LM, "--no_seed", "unknown option --no_seed");
    refuse(LP_SCOPE_PPO_LM, "--no_seed=1", "unknown option --no_seed");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_numbers_are_exact),
                                       cmocka_unit_test(numbers_are_decimal),
                                       cmocka_unit_test(numbers_are_read),
                                       cmocka_unit_test(choices),
                                       cmocka_unit_test(defaults_are_those_of_the_library),
                                       cmocka_unit_test(schedules),
                                       cmocka_unit_test(lists_of_numbers),
                                       cmocka_unit_test(nearest_words),
                                       cmocka_unit_test(settings_are_yaml),
                                       cmocka_unit_test(help_is_a_word),
                                       cmocka_unit_test(text_is_quoted_when_needed)};
    return cmocka_run_group_tests(tests, start, stop);
}
