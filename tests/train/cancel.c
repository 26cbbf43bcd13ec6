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

static uint64_t policy_digest(const rig* r) { return digest(lp_weights_params(r->policy)); }

/* The weights before and after a step that nothing stops; returns how many seconds it took. */
static double undisturbed(uint64_t* before, uint64_t* after) {
    struct timespec from, to;
    rig r;
    const lp_ppo_def def = one_update_an_epoch(EPOCHS);
    set_up(&r, 2, &def);
    *before = policy_digest(&r);
    clock_gettime(CLOCK_MONOTONIC, &from);
    assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    clock_gettime(CLOCK_MONOTONIC, &to);
    *after = policy_digest(&r);
    assert_true(*before != *after);
    lp_ctx_destroy(r.ctx);
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

/* Cancels a step after so many seconds. It must have left no trace, although it had made updates:
 * weights and KL coefficient are the old ones, gradients are zero, it does not count, and taken
 * again it gives the bits of one that was never stopped. Returns the updates that were undone. */
static int cancelled_after(double seconds, uint64_t before, uint64_t after) {
    rig r;
    const lp_ppo_def def = one_update_an_epoch(EPOCHS);
    set_up(&r, 2, &def);
    alarm_clock a = {r.ctx, seconds};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_later, &a), 0);
    const lp_status status = lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL);
    pthread_join(thread, NULL);
    lp_cancel_clear(r.ctx);
    int updates = 1;
    if (status == LP_CANCELLED) {
        sscanf(lp_error(r.ctx), "step 1, update %d of", &updates);
        assert_true(policy_digest(&r) == before);
        assert_close(lp_params_grad_norm(lp_weights_params(r.policy)), 0.0, 0.0);
        assert_int_equal(lp_ppo_steps(r.ppo), 0);
        assert_close(lp_ppo_kl_coef(r.ppo), def.init_kl_coef, 0.0);
        assert_int_equal(lp_ppo_step(r.ppo, &r.batch, r.scores, NULL, NULL), LP_OK);
    } else {
        assert_int_equal(status, LP_OK);
    }
    assert_true(policy_digest(&r) == after);
    lp_ctx_destroy(r.ctx);
    return updates - 1;
}

/* Eight moments spread over the length of a step; more, on a machine so busy that none fell
 * between two updates. */
static void at_any_moment(void** state) {
    (void)state;
    uint64_t before, after;
    const double seconds = undisturbed(&before, &after);
    int within = 0;
    for (int i = 0; i < EPOCHS || (within == 0 && i < 30 * EPOCHS); i++)
        within += cancelled_after(seconds * (i % EPOCHS) / EPOCHS, before, after) > 0;
    assert_true(within > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(before_it_begins),
                                       cmocka_unit_test(at_any_moment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
