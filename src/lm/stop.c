#include "lm/stop.h"
#include <string.h>

int64_t lp__stops_room(int count, const char* const* text) {
    int64_t room = count;
    for (int i = 0; i < count; i++) room += (int64_t)strlen(text[i]);
    return room;
}

/* How much of the string a text ends with that ended with `state` bytes of it, after one more. */
static int32_t advance(const char* text, const int32_t* failure, int32_t state, char byte) {
    while (state > 0 && text[state] != byte) state = failure[state - 1];
    return text[state] == byte ? state + 1 : 0;
}

lp__stops lp__stops_make(int count, const char* const* text, int32_t* room) {
    const lp__stops stops = {count, text, room, room + count};
    int32_t* failure = stops.failure;
    for (int i = 0; i < count; i++) {
        const int32_t n = stops.length[i] = (int32_t)strlen(text[i]);
        failure[0] = 0;
        for (int32_t j = 1; j < n; j++)
            failure[j] = advance(text[i], failure, failure[j - 1], text[i][j]);
        failure += n;
    }
    return stops;
}

int64_t lp__stops_feed(const lp__stops* stops, int32_t* state, int64_t before, const char* bytes,
                       size_t n) {
    int64_t first = -1;
    const int32_t* failure = stops->failure;
    for (int i = 0; i < stops->count; i++) {
        const int32_t length = stops->length[i];
        for (size_t j = 0; j < n; j++) {
            state[i] = advance(stops->text[i], failure, state[i], bytes[j]);
            if (state[i] < length) continue;
            const int64_t begin = before + (int64_t)j + 1 - length;
            if (first < 0 || begin < first) first = begin;
            state[i] = failure[length - 1];
        }
        failure += length;
    }
    return first;
}
