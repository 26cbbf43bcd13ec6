/* logpi envs: the environments of the library. */
#include "cli.h"
#include <stdio.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_envs = {.name = "envs",
                        .summary = "the environments there are",
                        .usage = "envs [--json]",
                        .scope = LP_SCOPE_ENVS,
                        .run = run};

static json_t* bounds(const float* x, int64_t n) {
    json_t* list = x ? json_array() : json_null();
    for (int64_t i = 0; x && i < n; i++) json_array_append_new(list, cli_json_number((double)x[i]));
    return list;
}

static json_t* space(const lp_space* s) {
    if (s->kind == LP_SPACE_DISCRETE)
        return json_pack("{s:s, s:I}", "kind", "discrete", "n", (json_int_t)s->n);
    return json_pack("{s:s, s:I, s:o, s:o}", "kind", "box", "n", (json_int_t)s->n, "low",
                     bounds(s->low, s->n), "high", bounds(s->high, s->n));
}

static lp_status print_json(lp_ctx* ctx, const lp_env_type* const* types, int count) {
    json_t* list = json_array();
    for (int i = 0; i < count; i++) {
        const lp_env_type* t = types[i];
        json_t* object =
            json_pack("{s:s, s:s, s:o, s:o, s:I, s:o}", "name", t->name, "summary", t->summary,
                      "observation", space(&t->observation), "action", space(&t->action),
                      "max_episode_steps", (json_int_t)t->max_episode_steps, "reward_threshold",
                      cli_json_number(t->reward_threshold));
        json_array_append_new(list, object);
    }
    return cli_print_json(ctx, list, 7); /* bounds are floats */
}

enum { WORDS = 64 };

static void describe(const lp_space* s, char* to) {
    snprintf(to, WORDS,
             s->kind == LP_SPACE_DISCRETE ? "one of %lld"
             : s->n == 1                  ? "%lld number"
                                          : "%lld numbers",
             (long long)s->n);
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("envs takes no argument \"%.60s\"", lp_options_positional(options, 0));
    int count;
    const lp_env_type* const* types = lp_env_types(&count);
    if (lp_options_flag(options, "json")) {
        const lp_status status = print_json(ctx, types, count);
        return status == LP_OK ? EXIT_OK : cli_fail(ctx, status);
    }
    printf("%-26s %-12s %-10s %10s %10s  %s\n", "name", "observation", "actions", "time limit",
           "solved at", "summary");
    for (int i = 0; i < count; i++) {
        const lp_env_type* t = types[i];
        char observation[WORDS], action[WORDS], limit[WORDS] = "none";
        describe(&t->observation, observation);
        describe(&t->action, action);
        if (t->max_episode_steps > 0)
            snprintf(limit, sizeof limit, "%lld", (long long)t->max_episode_steps);
        printf("%-26s %-12s %-10s %10s %10.6g  %s\n", t->name, observation, action, limit,
               t->reward_threshold, t->summary);
    }
    return EXIT_OK;
}
