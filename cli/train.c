/* logpi train ALGORITHM: which trainer is meant. PPO has two, told apart by what is trained. */
#include "cli.h"
#include <stdio.h>
#include <string.h>

static const struct {
    const char* name;
    const verb* verb;
} algorithms[] = {{"reinforce", &verb_train_reinforce},
                  {"a2c", &verb_train_a2c},
                  {"ppo", &verb_train_ppo},
                  {"grpo", &verb_train_grpo}};
enum { ALGORITHMS = sizeof algorithms / sizeof *algorithms };

/* Whether a word is "--NAME" or "--NAME=..."; *value: its value is the next word. */
static bool is_option(const char* word, const char* name, bool* value) {
    const size_t length = strlen(name);
    if (strncmp(word, "--", 2) != 0 || strncmp(word + 2, name, length) != 0) return false;
    *value = word[2 + length] == 0;
    return *value || word[2 + length] == '=';
}

/* Which options tell what PPO is to train. */
static void what_for(int argc, char** argv, bool* env, bool* model) {
    static const char* const of_models[] = {"model", "prompt", "prompts", "reward"};
    *env = *model = false;
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
        bool value = false, found = is_option(argv[i], "env", &value);
        *env |= found;
        for (size_t j = 0; !found && j < sizeof of_models / sizeof *of_models; j++)
            *model |= found = is_option(argv[i], of_models[j], &value);
        i += value;
    }
}

static const verb* find_ppo(int argc, char** argv, int* code) {
    bool env, model;
    what_for(argc, argv, &env, &model);
    if (env != model) return env ? &verb_train_ppo : &verb_train_ppo_lm;
    if (lp_options_want_help(LP_SCOPE_PPO, argc, argv) &&
        lp_options_want_help(LP_SCOPE_PPO_LM, argc, argv))
        return &verb_train_ppo;
    *code =
        env ? cli_usage("train ppo is given an environment (--env) and a language model (--model, "
                        "--prompt, "
                        "--reward): it trains one of them")
            : cli_usage(
                  "train ppo needs something to train: --env ENV, or --model MODEL --prompt TEXT "
                  "--reward contains:WORD");
    return NULL;
}

static void print_help(void) {
    const verb* const all[] = {&verb_train_reinforce, &verb_train_a2c, &verb_train_ppo,
                               &verb_train_ppo_lm, &verb_train_grpo};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        printf("%s logpi %s\n", i == 0 ? "usage:" : "      ", all[i]->usage);
    puts("");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        printf("  %-16s %s\n", all[i]->name, all[i]->summary);
    puts("\nlogpi train ALGORITHM --help lists the options.");
}

const verb* cli_train_verb(int argc, char** argv, int* code) {
    const char* names[ALGORITHMS];
    for (int i = 0; i < ALGORITHMS; i++) {
        names[i] = algorithms[i].name;
        if (argc == 0 || strcmp(argv[0], names[i]) != 0) continue;
        return algorithms[i].verb == &verb_train_ppo ? find_ppo(argc - 1, argv + 1, code)
                                                     : algorithms[i].verb;
    }
    if (argc == 0) {
        *code = cli_usage("train needs an algorithm: reinforce, a2c, ppo, grpo");
    } else if (cli_is_help(argv[0])) {
        print_help();
        *code = EXIT_OK;
    } else {
        const char* nearest = lp_nearest(argv[0], names, ALGORITHMS);
        *code = nearest ? cli_usage("unknown algorithm \"%.60s\"; did you mean \"%s\"?", argv[0],
                                    nearest)
                        : cli_usage("unknown algorithm \"%.60s\"; known: reinforce, a2c, ppo, grpo",
                                    argv[0]);
    }
    return NULL;
}
