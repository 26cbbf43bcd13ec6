/* PPO on CartPole-v1 with rl-zoo's settings, and how well it does in 100 episodes. usage: 04_ppo_cartpole [STEPS] */
#include <logpi/train.h>
#include <stdio.h>
#include <stdlib.h>

static lp_status learn(lp_ctx* ctx, int64_t steps) {
    const lp_env_type* type = lp_env_find("CartPole-v1");
    lp_envs_def envs_def = lp_envs_def_default(type);
    const lp_policy_def policy_def = lp_policy_def_default(type); /* "MlpPolicy" */
    lp_on_policy_def def = lp_on_policy_def_default(LP_PPO);
    lp_envs* envs;
    lp_policy* policy;
    lp_on_policy* trainer;
    lp_evaluation result;
    lp_status e;
    envs_def.count = 8;
    def.n_timesteps = steps, def.n_steps = 32, def.batch_size = 256, def.n_epochs = 20;
    def.gamma = 0.98, def.gae_lambda = 0.8;
    def.learning_rate = (lp_schedule){0.001, true}; /* lin_0.001 */
    def.clip_range = (lp_schedule){0.2, true};
    if ((e = lp_envs_create(ctx, &envs_def, &envs)) || (e = lp_policy_create(ctx, &policy_def, &policy)) ||
        (e = lp_on_policy_create(envs, policy, &def, &trainer)))
        return e;
    while (lp_on_policy_timesteps(trainer) < steps && (e = lp_on_policy_step(trainer, NULL)) == LP_OK) continue;
    if (e || (e = lp_evaluate(policy, envs, 100, true, 0, NULL, &result))) return e;
    printf("100 episodes: mean return %.1f, std %.1f\n", result.mean_reward, result.std_reward);
    return LP_OK;
}

int main(int argc, char** argv) {
    char error[256] = "", *end = error;
    const int64_t steps = argc > 1 ? strtoll(argv[1], &end, 10) : 100000;
    if (*end) return fprintf(stderr, "STEPS is \"%s\": it must be a whole number\n", argv[1]), 2;
    lp_ctx* ctx = lp_ctx_create(NULL, error, sizeof error);
    if (!ctx) return fprintf(stderr, "%s\n", error), 1;
    const lp_status status = learn(ctx, steps);
    if (status != LP_OK) fprintf(stderr, "%s\n", lp_error(ctx));
    lp_ctx_destroy(ctx);
    return status != LP_OK;
}
