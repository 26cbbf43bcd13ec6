/* The lessons, and how one is run. */
#include "lessons.h"
#include <string.h>

const lesson_entry lesson_table[LESSONS] = {
    {"Gradient descent on a loss", lesson_descent},
    {"The policy gradient theorem", lesson_theorem},
    {"Two stochastic gradients", lesson_stochastic},
    {"Loss and reward", lesson_loss_and_reward},
    {"Logistic regression and the sigmoid", lesson_logistic},
    {"The softmax", lesson_softmax},
    {"The chain rule", lesson_chain_rule},
    {"The gradient of log p", lesson_grad_log_p},
    {"The two updates side by side", lesson_side_by_side},
    {"The derivative of a logarithm", lesson_log_derivative},
    {"The derivative of a density", lesson_density},
    {"Expectations and integrals", lesson_expectation},
};

lp_status lesson_run(lp_ctx* ctx, int number, uint64_t seed, FILE* out, lesson* l) {
    const lesson_entry* entry = &lesson_table[number - 1];
    memset(l, 0, sizeof *l);
    l->ctx = ctx;
    l->seed = seed;
    l->number = number;
    l->out = out;
    if (out) {
        const int width = fprintf(out, "Lesson %d. %s\n", number, entry->title) - 1;
        for (int i = 0; i < width; i++) fputs("─", out);
        fputc('\n', out);
    }
    return entry->run(l);
}
