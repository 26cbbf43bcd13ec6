/* The inside of a policy of environments. */
#ifndef LP__TRAIN_POLICY_H
#define LP__TRAIN_POLICY_H

#include "base/base.h"
#include <logpi/train.h>

struct lp_policy {
    lp_ctx* ctx;
    lp_policy_def def;
    lp_params* params;
    lp_mlp actor, critic;
    lp_tensor log_std; /* [1, n] of a box, else NULL */
};

/* lp_policy_create; weights that are not drawn are 0, to be read from a file. */
lp_status lp__policy_make(lp_ctx* ctx, const lp_policy_def* def, bool drawn, lp_policy** policy);

/* What it says about observations [n, obs]. */
lp_dist lp__policy_dist(lp_tape* t, const lp_policy* policy, lp_tensor observation);
lp_tensor lp__policy_value(lp_tape* t, const lp_policy* policy, lp_tensor observation); /* [n, 1] */

/* Whether it can act in environments of a type; otherwise says why. */
lp_status lp__policy_fits(const lp_policy* policy, const lp_env_type* type);

/* Numbers in an action: 1 for a discrete one. */
int64_t lp__action_width(const lp_policy* policy);

/* n rows of actions as a constant of the tape: from int32_t [n], or float [n, width]. */
lp_tensor lp__policy_actions(lp_tape* t, const lp_policy* policy, int64_t n, const void* actions);

/* Who draws an action, so that its random numbers depend on nothing else. */
typedef struct lp__draw {
    uint64_t seed;
    const int32_t* index;  /* [n]: environments */
    const uint64_t* steps; /* [environments]: steps that each has made */
    bool deterministic;    /* the mode instead */
} lp__draw;

/* Actions for n rows of a distribution, into int32_t [n] or float [n, width]. LP_NONFINITE: no
 * probability is finite. */
lp_status lp__policy_draw(lp_tape* t, const lp_policy* policy, lp_dist pi, int64_t n,
                          const lp__draw* draw, void* actions);

#endif
