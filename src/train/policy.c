/* Policies of environments: actor and critic, and drawing from them. */
#include "train/policy.h"
#include <math.h>
#include <string.h>

enum { COOKIE = 0x706f6c69 };

lp_policy_def lp_policy_def_default(const lp_env_type* type) {
    return (lp_policy_def){.cookie = COOKIE,
                           .observation = type->observation,
                           .action = type->action,
                           .hidden_layers = 2,
                           .hidden = {64, 64},
                           .activation = LP_TANH};
}

/* drawn: its weights are; otherwise they are 0. */
static lp_status make_network(lp_policy* p, const char* name, int64_t outputs, double output_gain,
                              uint64_t stream, bool drawn, lp_mlp* network) {
    lp_mlp_def def = lp_mlp_def_default();
    def.inputs = p->def.observation.n;
    def.outputs = outputs;
    def.hidden_layers = p->def.hidden_layers;
    memcpy(def.hidden, p->def.hidden, sizeof def.hidden);
    def.activation = p->def.activation;
    def.output_gain = output_gain;
    lp_rng rng = lp_rng_philox(p->def.seed, LP_FOR_INIT, stream, 0);
    return lp_mlp_create(p->params, name, &def, drawn ? &rng : NULL, network);
}

static lp_status make_log_std(lp_policy* p) {
    if (p->def.action.kind != LP_SPACE_BOX) return LP_OK;
    p->log_std = lp_param(p->params, "log_std", 1, p->def.action.n);
    if (!p->log_std) return LP_NOMEM;
    for (int64_t i = 0; i < p->def.action.n; i++)
        lp_f32(p->log_std)[i] = (float)p->def.log_std_init;
    return LP_OK;
}

lp_status lp__policy_make(lp_ctx* ctx, const lp_policy_def* def, bool drawn, lp_policy** out) {
    *out = NULL;
    if (!LP__REQUIRE(ctx, def->cookie == COOKIE, "begin with lp_policy_def_default") ||
        !LP__REQUIRE(ctx, def->observation.kind == LP_SPACE_BOX, "observations are a box"))
        return LP_INVALID;
    const lp__range ranges[] = {
        {"numbers in an observation", (double)def->observation.n, 1, 1 << 20},
        {"actions", (double)def->action.n, 1, 1 << 20},
        {"log_std_init", def->log_std_init, -20, 20}};
    lp_status status = lp__ranges_check(ctx, ranges, sizeof ranges / sizeof *ranges);
    if (status != LP_OK) return status;
    lp_policy* p = lp__calloc(ctx, 1, sizeof *p);
    if (!p) return LP_NOMEM;
    p->ctx = ctx;
    p->def = *def;
    p->def.observation.low = p->def.observation.high = p->def.action.low = p->def.action.high =
        NULL;
    p->params = lp_params_create(ctx, LP_F32, true);
    status = p->params ? LP_OK : LP_NOMEM;
    if (status == LP_OK)
        status = make_network(p, "actor", def->action.n, 0.01, 0, drawn, &p->actor);
    if (status == LP_OK) status = make_network(p, "critic", 1, 1.0, 1, drawn, &p->critic);
    if (status == LP_OK) status = make_log_std(p);
    if (status != LP_OK) {
        lp_policy_destroy(p);
        return status;
    }
    *out = p;
    return LP_OK;
}

lp_status lp_policy_create(lp_ctx* ctx, const lp_policy_def* def, lp_policy** out) {
    return lp__policy_make(ctx, def, true, out);
}

void lp_policy_destroy(lp_policy* p) {
    if (!p) return;
    lp_params_destroy(p->params);
    lp__free(p->ctx, p);
}

lp_params* lp_policy_params(const lp_policy* policy) { return policy->params; }

int64_t lp__action_width(const lp_policy* p) {
    return p->def.action.kind == LP_SPACE_BOX ? p->def.action.n : 1;
}

lp_status lp__policy_fits(const lp_policy* p, const lp_env_type* type) {
    if (type->observation.n == p->def.observation.n && type->action.kind == p->def.action.kind &&
        type->action.n == p->def.action.n)
        return LP_OK;
    return lp_fail(
        p->ctx, LP_INVALID,
        "the policy takes %lld numbers and gives %s of %lld; %s has %lld numbers and %s of %lld",
        (long long)p->def.observation.n, p->def.action.kind == LP_SPACE_BOX ? "a box" : "one",
        (long long)p->def.action.n, type->name, (long long)type->observation.n,
        type->action.kind == LP_SPACE_BOX ? "a box" : "one", (long long)type->action.n);
}

/* ---- on a tape ------------------------------------------------------------------------------- */

lp_dist lp__policy_dist(lp_tape* t, const lp_policy* p, lp_tensor observation) {
    lp_tensor y = lp_mlp_forward(t, &p->actor, observation);
    return p->def.action.kind == LP_SPACE_BOX ? lp_gaussian(t, y, p->log_std)
                                              : lp_categorical(t, y);
}

lp_tensor lp__policy_value(lp_tape* t, const lp_policy* p, lp_tensor observation) {
    return lp_mlp_forward(t, &p->critic, observation);
}

lp_tensor lp__policy_actions(lp_tape* t, const lp_policy* p, int64_t n, const void* actions) {
    return p->def.action.kind == LP_SPACE_BOX ? lp_const_f32(t, n, p->def.action.n, actions)
                                              : lp_const_i32(t, n, 1, actions);
}

/* ---- drawing --------------------------------------------------------------------------------- */

static lp_status draw_discrete(const lp_policy* p, lp_tensor probability, int64_t n,
                               const lp__draw* draw, int32_t* actions) {
    const int64_t k = p->def.action.n;
    for (int64_t i = 0; i < n; i++) {
        const int32_t env = draw->index[i];
        lp_rng rng = lp__stream(draw->seed, LP_FOR_ACTION, (uint64_t)env, draw->steps[env]);
        const int64_t a = lp_rng_choice_f32(&rng, lp_f32(probability) + i * k, k);
        if (a < 0)
            return lp_fail(p->ctx, LP_NONFINITE,
                           "environment %d: no action has a finite probability: the weights have "
                           "diverged; lower the "
                           "learning rate",
                           (int)env);
        actions[i] = (int32_t)a;
    }
    return LP_OK;
}

static void draw_box(const lp_policy* p, lp_tensor mean, int64_t n, const lp__draw* draw,
                     float* actions) {
    const int64_t k = p->def.action.n;
    for (int64_t i = 0; i < n; i++) {
        const int32_t env = draw->index[i];
        float* a = actions + i * k;
        lp_rng rng = lp__stream(draw->seed, LP_FOR_ACTION, (uint64_t)env, draw->steps[env]);
        lp_rng_normal_f32(&rng, a, k);
        for (int64_t j = 0; j < k; j++)
            a[j] = (float)(lp_at(mean, i, j) + exp(lp_at(p->log_std, 0, j)) * (double)a[j]);
    }
}

lp_status lp__policy_draw(lp_tape* t, const lp_policy* p, lp_dist pi, int64_t n,
                          const lp__draw* draw, void* actions) {
    const bool box = p->def.action.kind == LP_SPACE_BOX;
    lp_tensor from = draw->deterministic ? lp_mode(t, pi) : box ? pi.mean : lp_exp(t, pi.log_p);
    if (!from) return lp_tape_status(t);
    if (draw->deterministic) {
        memcpy(actions, from->data,
               (size_t)(n * lp__action_width(p)) * (box ? sizeof(float) : sizeof(int32_t)));
    } else if (box) {
        draw_box(p, from, n, draw, actions);
    } else {
        return draw_discrete(p, from, n, draw, actions);
    }
    return LP_OK;
}
