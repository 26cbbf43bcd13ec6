/* logpi eval RUN|FILE: how well a policy does. */
#include "cli.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_eval = {.name = "eval",
                        .summary = "returns of a policy that was learnt in an environment",
                        .usage = "eval RUN|FILE.safetensors [--episodes N] [OPTIONS]",
                        .scope = LP_SCOPE_EVAL,
                        .threads = true,
                        .isa = true,
                        .run = run};

/* The file of the policy: that of a run's folder, or the name itself. To be freed. */
static lp_status find_file(lp_ctx* ctx, const char* name, char** path) {
    struct stat info;
    const bool folder = stat(name, &info) == 0 && S_ISDIR(info.st_mode);
    if (asprintf(path, folder ? "%s/final/policy.safetensors" : "%s", name) < 0) {
        *path = NULL;
        return LP_NOMEM;
    }
    if (!folder || stat(*path, &info) == 0) return LP_OK;
    return lp_fail(
        ctx, LP_NOT_FOUND,
        "%s is a folder without final/policy.safetensors: the folder of a run (logpi train "
        "reinforce|a2c|ppo --env ENV --output_dir DIR) or a .safetensors file is expected",
        name);
}

/* The policy, and the environment: that of --env, or the one that the file names. */
static lp_status load(lp_ctx* ctx, const lp_options* options, const char* path, lp_policy** policy,
                      const lp_env_type** type) {
    const char* name = lp_options_text(options, "env");
    const lp_env_type* other = NULL;
    lp_status status = name ? cli_env(ctx, name, &other) : LP_OK;
    if (status == LP_OK) status = lp_policy_load(ctx, path, policy, type);
    if (status == LP_OK && other) *type = other;
    if (status == LP_OK && !*type)
        status = lp_fail(ctx, LP_FORMAT,
                         "%s: its environment is none that logpi has; --env ENV says which", path);
    return status;
}

static lp_status print(lp_ctx* ctx, const lp_options* options, const lp_env_type* type,
                       const lp_evaluation* e) {
    const bool deterministic = !lp_options_flag(options, "stochastic");
    if (lp_options_flag(options, "json")) {
        json_t* object = json_pack(
            "{s:o, s:o, s:I, s:s, s:b, s:o, s:I, s:I}", "mean", cli_json_number(e->mean_reward),
            "std", cli_json_number(e->std_reward), "n", (json_int_t)e->episodes, "env", type->name,
            "deterministic", (int)deterministic, "mean_length", cli_json_number(e->mean_length),
            "seed", (json_int_t)lp_options_int(options, "seed"), "n_envs",
            (json_int_t)lp_options_int(options, "n_envs"));
        return cli_print_json(ctx, object, 9);
    }
    printf("%s, %s actions: mean %.2f, std %.2f, n %lld, mean length %.1f\n", type->name,
           deterministic ? "the most likely" : "sampled", cli_plain(e->mean_reward, 2),
           e->std_reward, (long long)e->episodes, e->mean_length);
    return LP_OK;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) != 1)
        return cli_usage("eval needs one policy: the folder of a run, or a .safetensors file");
    const evaluation how = {lp_options_int(options, "episodes"), lp_options_int(options, "n_envs"),
                            lp_options_int(options, "seed"),
                            !lp_options_flag(options, "stochastic")};
    char* path;
    lp_policy* policy = NULL;
    const lp_env_type* type = NULL;
    lp_evaluation result;
    lp_status status = find_file(ctx, lp_options_positional(options, 0), &path);
    if (status == LP_OK) status = load(ctx, options, path, &policy, &type);
    status = cli_go_on(ctx, status);
    if (status == LP_OK) status = cli_evaluate(ctx, policy, type, &how, &result);
    if (status == LP_INVALID && policy &&
        !lp_options_given(options, "env")) /* the file contradicts itself */
        status = lp_fail(ctx, LP_FORMAT, "%s: %s", path, lp_error(ctx));
    if (status == LP_OK) status = print(ctx, options, type, &result);
    free(path);
    return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
}
