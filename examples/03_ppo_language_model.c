/* Rung 3, the TRL program: a PPO step on a language model. usage: 03_ppo_language_model MODEL.gguf */
#include <logpi/train.h>
#include <stdio.h>

static lp_status ppo(lp_ctx* ctx, const char* path) {
    lp_model* model;
    lp_weights *policy, *reference;
    lp_ppo* trainer;
    lp_prompts queries = {0};
    lp_generation batch = {0};
    lp_text text = {0};
    lp_status e = lp_model_open(ctx, path, &model);
    if (e || (e = lp_model_load_weights(model, true, &policy)) || (e = lp_weights_clone(policy, false, &reference)))
        return e;
    lp_ppo_def config = lp_ppo_def_default();
    config.learning_rate = 1e-5;
    config.init_kl_coef = 0.01;
    const char* prompt = "This is a test. Generate a sentence that includes the word:";
    if ((e = lp_ppo_create(model, policy, reference, &config, &trainer)) ||
        (e = lp_prompts_add(ctx, &queries, model, prompt, false)) || (e = lp_ppo_generate(trainer, &queries, &batch)) ||
        (e = lp_tokenizer_decode(lp_model_tokenizer(model), batch.responses.ids, batch.responses.count,
                                 LP_DECODE_SKIP_SPECIAL | LP_DECODE_LOSSY, &text)))
        return e;
    const double reward = lp_reward_contains(text.data ? text.data : "", "reward");
    fputs("Generated response: ", stdout);
    const char* c = text.data; /* a terminal would obey control characters: C0, DEL, C1 */
    for (size_t i = 0; i < text.bytes; i++)
        putchar(!(c[i] & 0xe0) || c[i] == 127 || (i && c[i - 1] == '\xc2' && !(c[i] & 0x20)) ? '?' : c[i]);
    printf("\nReward: %.1f\n", reward);
    if ((e = lp_ppo_step(trainer, &batch, &reward, NULL, NULL)) == LP_OK) puts("PPO update step completed.");
    return e;
}

int main(int argc, char** argv) {
    lp_ctx* ctx = lp_ctx_create(NULL, NULL, 0);
    const lp_status status = argc > 1 ? ppo(ctx, argv[1]) : lp_fail(ctx, LP_INVALID, "a model file is needed");
    if (status != LP_OK) fprintf(stderr, "%s\n", lp_error(ctx));
    lp_ctx_destroy(ctx);
    return status != LP_OK;
}
