/* Advantages of rollouts of environments. */
#include <logpi/pg.h>
#include <math.h>

/* RolloutBuffer.compute_returns_and_advantage */
void lp_gae_rollout(int64_t T, int64_t N, const float* reward, const float* value,
                    const bool* ended, const float* last_value, double gamma, double lambda,
                    float* advantage, float* returns) {
    for (int64_t i = 0; i < N; i++) {
        double next_advantage = 0, next_value = (double)last_value[i];
        for (int64_t t = T - 1; t >= 0; t--) {
            const int64_t at = t * N + i;
            const double goes_on = ended[at] ? 0.0 : 1.0, v = (double)value[at];
            const double delta = (double)reward[at] + gamma * next_value * goes_on - v;
            next_advantage = delta + gamma * lambda * goes_on * next_advantage;
            next_value = v;
            advantage[at] = (float)next_advantage;
            returns[at] = (float)(next_advantage + v);
        }
    }
}

void lp_standardise(int64_t n, float* x) {
    if (n < 2) return;
    lp_spread spread = {0};
    for (int64_t i = 0; i < n; i++) lp_spread_add(&spread, (double)x[i]);
    const double scale = 1.0 / (sqrt(lp_spread_var(&spread)) + 1e-8);
    for (int64_t i = 0; i < n; i++) x[i] = (float)(((double)x[i] - spread.mean) * scale);
}
