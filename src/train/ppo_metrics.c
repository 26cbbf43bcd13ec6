/* The table of PPO's metrics. */
#include <logpi/train.h>
#include <stddef.h>

static const struct {
    const char *name, *meaning;
    size_t offset;
} table[] = {
#define ROW(field, name, meaning) {name, meaning, offsetof(lp_ppo_metrics, field)},
    LP_PPO_METRICS(ROW)
#undef ROW
};

int lp_ppo_metrics_count(void) { return (int)(sizeof table / sizeof *table); }
const char* lp_ppo_metrics_name(int index) { return table[index].name; }
const char* lp_ppo_metrics_meaning(int index) { return table[index].meaning; }

double lp_ppo_metrics_get(const lp_ppo_metrics* metrics, int index) {
    return *(const double*)(const void*)((const char*)metrics + table[index].offset);
}
