/* logpi gradcheck: every op, distribution and loss: the gradient in double against central
 * differences, in float (the kernels) against the one in double. */
#include "cli.h"
#include <stdio.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_gradcheck = {.name = "gradcheck",
                             .summary = "every op and loss against finite differences",
                             .usage = "gradcheck [OPTIONS]",
                             .scope = LP_SCOPE_GRADCHECK,
                             .run = run};

/* What a run found so far. */
typedef struct tally {
    json_t *errors, *float_errors;
    double tolerance;
    bool json;
    int passed, failed;
} tally;

static void count(tally* t, const char* name, const lp_gradcheck_result* r) {
    const bool ok = r->worst <= t->tolerance, float_ok = r->float_worst <= t->tolerance;
    t->passed += ok && float_ok;
    t->failed += !(ok && float_ok);
    json_object_set_new(t->errors, name, cli_json_number(r->worst));
    json_object_set_new(t->float_errors, name, cli_json_number(r->float_worst));
    if (t->json) return;
    printf("%-24s %.1e  %.1e", name, r->worst, r->float_worst);
    if (!ok)
        printf("  WRONG: input %d, element [%lld, %lld]", r->input, (long long)r->row,
               (long long)r->col);
    if (!float_ok) printf("  WRONG IN FLOAT: input %d", r->float_input);
    putchar('\n');
}

static lp_status check_all(lp_ctx* ctx, uint64_t seed, tally* t) {
    for (int set = 0; set < 2; set++) {
        const lp_gradcheck_case* cases;
        const int n = set == 0 ? lp_gradcheck_cases(&cases) : lp_pg_gradcheck_cases(&cases);
        for (int i = 0; i < n; i++) {
            lp_gradcheck_result result;
            lp_status status = lp_gradcheck_run(ctx, &cases[i], seed, &result);
            status = cli_go_on(ctx, status);
            if (status != LP_OK) return status;
            count(t, cases[i].name, &result);
        }
    }
    return LP_OK;
}

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("gradcheck takes no argument \"%.60s\"",
                         lp_options_positional(options, 0));
    tally t = {.errors = json_object(),
               .float_errors = json_object(),
               .tolerance = lp_options_real(options, "tolerance"),
               .json = lp_options_flag(options, "json")};
    if (!t.json)
        printf("largest error beside finite differences, in double; of float (%s) beside double\n",
               lp_isa_name(lp_ctx_isa(ctx)));
    lp_status status = check_all(ctx, (uint64_t)lp_options_int(options, "seed"), &t);
    if (status == LP_OK && t.json) {
        json_t* object = json_pack("{s:O, s:O, s:i, s:i, s:f}", "errors", t.errors, "float_errors",
                                   t.float_errors, "passed", t.passed, "failed", t.failed,
                                   "tolerance", t.tolerance);
        status = cli_print_json(ctx, object, 6);
    } else if (status == LP_OK) {
        printf("%d passed, %d failed, tolerance %g\n", t.passed, t.failed, t.tolerance);
    }
    json_decref(t.errors);
    json_decref(t.float_errors);
    if (status != LP_OK) return cli_fail(ctx, status);
    return t.failed ? EXIT_FAILURE_ : EXIT_OK;
}
