/* Names of statuses, and the record of the last failure. */
#include "base/ctx.h"

#include <stdio.h>
#include <string.h>

int lp_version(void) {
    return LP_VERSION_MAJOR * 10000 + LP_VERSION_MINOR * 100 + LP_VERSION_PATCH;
}

const char* lp_status_name(lp_status status) {
    switch (status) {
#define LP__CASE(name, value, text)                                                                \
    case LP_##name: return #name;
        LP_STATUS_MAP(LP__CASE)
#undef LP__CASE
    }
    return "UNKNOWN";
}

const char* lp_status_text(lp_status status) {
    switch (status) {
#define LP__CASE(name, value, text)                                                                \
    case LP_##name: return text;
        LP_STATUS_MAP(LP__CASE)
#undef LP__CASE
    }
    return "UNKNOWN";
}

const char* lp_error(const lp_ctx* ctx) { return ctx ? ctx->error : ""; }

lp_status lp_error_status(const lp_ctx* ctx) { return ctx ? ctx->error_status : LP_OK; }

static lp_status record(lp_ctx* ctx, lp_status status, const char* fmt, va_list args) {
    /* Formatted apart first: an argument may be the old message. */
    char text[sizeof ctx->error];
    vsnprintf(text, sizeof text, fmt, args);
    memcpy(ctx->error, text, sizeof text);
    ctx->error_status = status;
    return status;
}

lp_status lp_fail(lp_ctx* ctx, lp_status status, const char* fmt, ...) {
    va_list args;
    va_start(args, fmt);
    record(ctx, status, fmt, args);
    va_end(args);
    return status;
}

lp_status lp__fail_at(lp_ctx* ctx, lp_status status, const char* fmt, ...) {
    char text[sizeof ctx->error];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    /* The old message moves up behind the prefix; what does not fit is cut at its end. */
    size_t prefix = length < 0 ? 0 : LP__MIN((size_t)length, sizeof text - 1);
    size_t colon = LP__MIN((size_t)2, sizeof text - 1 - prefix);
    size_t rest = LP__MIN(strlen(ctx->error), sizeof text - 1 - prefix - colon);
    memmove(ctx->error + prefix + colon, ctx->error, rest);
    memcpy(ctx->error, text, prefix);
    memcpy(ctx->error + prefix, ": ", colon);
    ctx->error[prefix + colon + rest] = 0;
    ctx->error_status = status;
    return status;
}

void lp__assertion(lp_ctx* ctx, const char* condition, const char* where, const char* message) {
    if (!ctx || !ctx->assertion) {
        __builtin_trap();
    }
    lp_fail(ctx, LP_INVALID, "%s (%s, %s)", message, condition, where);
    ctx->assertion(ctx->assert_user, condition, where, message);
}

lp_status lp__ranges_check(lp_ctx* ctx, const lp__range* ranges, size_t count) {
    for (const lp__range* r = ranges; r < ranges + count; r++) {
        if (!(r->value >= r->low && r->value <= r->high))
            return lp_fail(ctx, LP_INVALID, "%s is %g: it must lie in [%g, %g]", r->name, r->value,
                           r->low, r->high);
    }
    return LP_OK;
}
