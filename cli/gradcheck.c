/* logpi gradcheck: every op, distribution and loss against central differences, in double. */
#include "cli.h"
#include <stdio.h>

static int run(lp_ctx* ctx, const lp_options* options);

const verb verb_gradcheck = {.name = "gradcheck",
                             .summary = "every op and loss against finite differences",
                             .usage = "gradcheck [OPTIONS]",
                             .scope = LP_SCOPE_GRADCHECK,
                             .run = run};

static int run(lp_ctx* ctx, const lp_options* options) {
    if (lp_options_positionals(options) > 0)
        return cli_usage("gradcheck takes no argument \"%.60s\"", lp_options_positional(options, 0));
    const double tolerance = lp_options_real(options, "tolerance");
    const uint64_t seed = (uint64_t)lp_options_int(options, "seed");
    const bool json = lp_options_flag(options, "json");
    json_t* all = json_object();
    int passed = 0, failed = 0;
    for (int set = 0; set < 2; set++) {
        const lp_gradcheck_case* cases;
        const int n = set == 0 ? lp_gradcheck_cases(&cases) : lp_pg_gradcheck_cases(&cases);
        for (int i = 0; i < n; i++) {
            lp_gradcheck_result result;
            lp_status status = lp_gradcheck_run(ctx, &cases[i], seed, &result);
            if (status != LP_OK) {
                json_decref(all);
                return cli_fail(ctx, status);
            }
            const bool ok = result.worst <= tolerance;
            passed += ok;
            failed += !ok;
            json_object_set_new(all, cases[i].name, cli_json_number(result.worst));
            if (!json && ok) printf("%-24s %.1e\n", cases[i].name, result.worst);
            if (!json && !ok)
                printf("%-24s %.1e  WRONG: input %d, element [%lld, %lld]\n", cases[i].name, result.worst,
                       result.input, (long long)result.row, (long long)result.col);
        }
    }
    if (json) {
        cli_print_json(json_pack("{s:o, s:i, s:i, s:f}", "errors", all, "passed", passed, "failed", failed,
                                 "tolerance", tolerance),
                       6);
    } else {
        json_decref(all);
        printf("%d passed, %d failed, tolerance %g\n", passed, failed, tolerance);
    }
    return failed ? EXIT_FAILURE_ : EXIT_OK;
}
