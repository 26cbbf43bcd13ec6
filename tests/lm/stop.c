/* Stop strings are found where a search of the whole text finds them, however it is cut. */
#include "testing.h"

#include "lm/stop.h"

enum { LENGTH = 40 };

static void beside_a_plain_search(void** state) {
    (void)state;
    static const char* const lists[][3] = {{"ab", "ba", "aab"},      {"a", "b", "abab"},
                                           {"aaaa", "aba", "bbb"},   {"abaab", "abaaab", "aabaab"},
                                           {"bbbbbbb", "c", "aaba"}, {"ababab", "babb", "bab"}};
    for (int trial = 0; trial < 3000; trial++) {
        const char* const* list = lists[trial % 6];
        lp_rng rng = lp_rng_philox(4, LP_FOR_TEST, (uint64_t)trial, 0);
        char text[LENGTH + 1] = {0};
        int32_t room[64], progress[3] = {0};
        assert_true(lp__stops_room(3, list) <= 64);
        const lp__stops stops = lp__stops_make(3, list, room);
        for (int i = 0; i < LENGTH; i++) text[i] = lp_rng_below(&rng, 2) ? 'a' : 'b';
        for (int64_t at = 0; at < LENGTH;) {
            const int64_t drawn = lp_rng_below(&rng, 6), n = LP__MIN(drawn, LENGTH - at);
            /* The first that begins of those that end within the new bytes. */
            int64_t want = -1;
            for (int64_t end = at + 1; end <= at + n; end++) {
                for (int i = 0; i < 3; i++) {
                    const int64_t begin = end - (int64_t)strlen(list[i]);
                    if (begin >= 0 && memcmp(text + begin, list[i], strlen(list[i])) == 0 &&
                        (want < 0 || begin < want))
                        want = begin;
                }
            }
            assert_int_equal(lp__stops_feed(&stops, progress, at, text + at, (size_t)n), want);
            at += n;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(beside_a_plain_search)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
