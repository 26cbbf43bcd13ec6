/* Cancelling a step: before it, and at any moment within it. */
#include "rig.h"

#include <pthread.h>
#include <time.h>

static void before_it_begins(void** state) {
    (void)state;
    rig r;
    const lp_ppo_def def = settings();
    set_up(&r, 2, &def);
    const uint64_t before = digest(lp_weights_params(r.policy));
    lp_cancel(r.ctx);
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_CANCELLED);
    assert_true(digest(lp_weights_params(r.policy)) == before);
    lp_generation other = {0};
    assert_int_equal(lp_ppo_generate(r.ppo, &r.prompts, &other), LP_CANCELLED);
    assert_int_equal(other.sequences, 0);
    lp_cancel_clear(r.ctx);
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    assert_true(digest(lp_weights_params(r.policy)) ==
                weights_after_a_step(2, 0, 4)); /* no trace */
    lp_ctx_destroy(r.ctx);
}

enum { EPOCHS = 8 };

static lp_ppo_def one_update_an_epoch(int64_t epochs) {
    lp_ppo_def def = settings();
    def.mini_batch_size = 8;
    def.ppo_epochs = epochs;
    return def;
}

/* hashes [EPOCHS + 1]: the weights after so many updates. Returns how many seconds the longest step
 * took. */
static double weights_after_epochs(uint64_t* hashes) {
    struct timespec from = {0}, to = {0};
    for (int epochs = 0; epochs <= EPOCHS; epochs++) {
        rig r;
        const lp_ppo_def def = one_update_an_epoch(epochs > 0 ? epochs : 1);
        set_up(&r, 2, &def);
        clock_gettime(CLOCK_MONOTONIC, &from);
        if (epochs > 0) assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
        clock_gettime(CLOCK_MONOTONIC, &to);
        hashes[epochs] = digest(lp_weights_params(r.policy));
        for (int i = 0; i < epochs; i++) assert_true(hashes[i] != hashes[epochs]);
        lp_ctx_destroy(r.ctx);
    }
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}

typedef struct alarm_clock {
    lp_ctx* ctx;
    double seconds;
} alarm_clock;

static void* cancel_later(void* user) {
    const alarm_clock* a = user;
    const struct timespec wait = {(time_t)a->seconds,
                                  (long)(1e9 * (a->seconds - floor(a->seconds)))};
    nanosleep(&wait, NULL);
    lp_cancel(a->ctx);
    return NULL;
}

/* Cancels a step after so many seconds. It must have stopped between two optimizer steps: its
 * weights are those after some number of updates, its gradients are zero, it does not count, and
 * the trainer goes on. Returns the updates. */
static int cancelled_after(double seconds, const uint64_t* hashes) {
    rig r;
    const lp_ppo_def def = one_update_an_epoch(EPOCHS);
    set_up(&r, 2, &def);
    alarm_clock a = {r.ctx, seconds};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &a), 0);
    const lp_status status = lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL);
    pthread_join(thread, NULL);
    lp_cancel_clear(r.ctx);
    lp_params* params = lp_weights_params(r.policy);
    const uint64_t hash = digest(params);
    int updates = 0;
    while (updates <= EPOCHS && hash != hashes[updates]) updates++;
    assert_true(updates <= EPOCHS);
    assert_close(lp_params_grad_norm(params), 0.0, 0.0);
    if (status == LP_CANCELLED) {
        assert_true(updates < EPOCHS);
        assert_int_equal(lp_ppo_steps(r.ppo), 0);
        assert_close(lp_ppo_kl_coef(r.ppo), def.init_kl_coef, 0.0);
    } else {
        assert_int_equal(status, LP_OK);
        assert_int_equal(updates, EPOCHS);
    }
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    lp_ctx_destroy(r.ctx);
    return updates;
}

/* Eight moments spread over the length of a step; more, on a machine so busy that none fell
 * between two updates. */
static void at_any_moment(void** state) {
    (void)state;
    uint64_t hashes[EPOCHS + 1];
    const double seconds = weights_after_epochs(hashes);
    int within = 0;
    for (int i = 0; i < EPOCHS || (within == 0 && i < 30 * EPOCHS); i++) {
        const int updates = cancelled_after(seconds * (i % EPOCHS) / EPOCHS, hashes);
        within += updates > 0 && updates < EPOCHS;
    }
    assert_true(within > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(before_it_begins),
                                       cmocka_unit_test(at_any_moment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
