/* The tables of metrics: of a trainer on environments, and of PPO and GRPO on a
 * language model. */
#include <logpi/train.h>
#include <stddef.h>

typedef struct row {
    const char *name, *meaning;
    size_t offset; /* of a double in the metrics */
} row;

static double number_at(const void* metrics, size_t offset) {
    return *(const double*)(const void*)((const char*)metrics + offset);
}

/* clang-format off */
/* The functions PREFIX_count, _name, _meaning and _get on a table of rows. */
#define METRICS(prefix, table)                                                                     \
    int prefix##_count(void) { return (int)(sizeof table / sizeof *table); }                       \
    const char* prefix##_name(int index) { return table[index].name; }                             \
    const char* prefix##_meaning(int index) { return table[index].meaning; }                       \
    double prefix##_get(const prefix* metrics, int index) {                                        \
        return number_at(metrics, table[index].offset);                                            \
    }

static const row ppo[] = {
#define ROW(field, name, meaning) {name, meaning, offsetof(lp_ppo_metrics, field)},
    LP_PPO_METRICS(ROW)
#undef ROW
};
METRICS(lp_ppo_metrics, ppo)

static const row grpo[] = {
#define ROW(field, name, meaning) {name, meaning, offsetof(lp_grpo_metrics, field)},
    LP_GRPO_METRICS(ROW)
#undef ROW
};
METRICS(lp_grpo_metrics, grpo)

static const row on_policy[] = {
#define ROW(field, name, meaning) {name, meaning, offsetof(lp_on_policy_metrics, field)},
    LP_ON_POLICY_METRICS(ROW)
#undef ROW
};
METRICS(lp_on_policy_metrics, on_policy)
/* clang-format on */
