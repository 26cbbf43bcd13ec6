/* Reading files and making folders, on the table of file calls of the context. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char* advice(int error) {
    switch (error) {
    case ENOENT: return "; check the path";
    case EACCES:
    case EPERM: return "; check its permissions";
    case ENOSPC:
    case EDQUOT: return "; free some space";
    case EISDIR: return "; name a file in it";
    case EMFILE:
    case ENFILE: return "; close some files or raise ulimit -n";
    case EROFS: return "; choose another folder";
    default: return "";
    }
}

/* strerror_r has two forms: glibc's returns the text, which need not be in the buffer; POSIX's
 * returns 0. */
static const char* reason(int error, char* buffer, size_t bytes) {
    if (error == ESPIPE) return "not a regular file"; /* from lp_io.size */
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(error, buffer, bytes);
#else
    return strerror_r(error, buffer, bytes) == 0 ? buffer : "unknown error";
#endif
}

lp_status lp__file_fail(lp_ctx* ctx, const char* verb, const char* path, int error) {
    char buffer[128];
    const char* text = reason(error, buffer, sizeof buffer);
    lp_status status = error == ENOENT || error == ENOTDIR ? LP_NOT_FOUND
                       : error == ENOMEM                   ? LP_NOMEM
                                                           : LP_IO;
    return lp_fail(ctx, status, "cannot %s %s: %s%s", verb, path, text, advice(error));
}

int lp__file_open_raw(lp_ctx* ctx, const char* path, int flags, unsigned mode) {
    int fd;
    do {
        fd = ctx->io.open(ctx->io.user, path, flags, mode);
    } while (fd == -EINTR);
    return fd;
}

lp_status lp__file_open(lp_ctx* ctx, const char* path, int* fd, uint64_t* size) {
    /* Without O_NONBLOCK, opening a pipe would wait for its writer. */
    int opened = lp__file_open_raw(ctx, path, O_RDONLY | O_NONBLOCK, 0);
    if (opened < 0) return lp__file_fail(ctx, "open", path, -opened);
    int64_t bytes = ctx->io.size(ctx->io.user, opened);
    if (bytes < 0) {
        lp__file_close(ctx, opened);
        return lp__file_fail(ctx, "read", path, (int)-bytes);
    }
    *fd = opened;
    *size = (uint64_t)bytes;
    return LP_OK;
}

void lp__file_close(lp_ctx* ctx, int fd) { ctx->io.close(ctx->io.user, fd); }

/* At most `bytes` bytes, fewer only at the end of the file; the negative errno on failure. */
static int64_t read_up_to(lp_ctx* ctx, int fd, char* buffer, size_t bytes, uint64_t offset) {
    size_t done = 0;
    while (done < bytes) {
        uint64_t at;
        if (!lp__add_ok(offset, (uint64_t)done, &at) || at > INT64_MAX) return -EOVERFLOW;
        int64_t got = ctx->io.pread(ctx->io.user, fd, buffer + done, bytes - done, (int64_t)at);
        if (got == -EINTR) continue;
        if (got < 0) return got;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (int64_t)done;
}

lp_status lp__file_read(lp_ctx* ctx, int fd, const char* path, void* buffer, size_t bytes,
                        uint64_t offset) {
    int64_t got = read_up_to(ctx, fd, buffer, bytes, offset);
    if (got < 0) return lp__file_fail(ctx, "read", path, (int)-got);
    if ((size_t)got < bytes) {
        return lp_fail(ctx, LP_FORMAT,
                       "%s: truncated: %zu bytes needed at offset %llu, only %llu are there; "
                       "fetch the file again",
                       path, bytes, (unsigned long long)offset, (unsigned long long)got);
    }
    return LP_OK;
}

lp_status lp__file_slurp(lp_ctx* ctx, const char* path, size_t limit, char** text, size_t* size) {
    int fd;
    uint64_t bytes;
    lp_status status = lp__file_open(ctx, path, &fd, &bytes);
    if (status) return status;
    char* buffer = NULL;
    if (bytes > limit || bytes >= SIZE_MAX) {
        status = lp_fail(ctx, LP_FORMAT, "%s: %llu bytes, of which at most %zu are allowed here",
                         path, (unsigned long long)bytes, limit);
    } else {
        buffer = lp__alloc(ctx, (size_t)bytes + 1);
        status = buffer ? lp__file_read(ctx, fd, path, buffer, (size_t)bytes, 0) : LP_NOMEM;
    }
    lp__file_close(ctx, fd);
    if (status) {
        lp__free(ctx, buffer);
        return status;
    }
    buffer[bytes] = 0;
    *text = buffer;
    *size = (size_t)bytes;
    return LP_OK;
}

char* lp__path(lp_ctx* ctx, const char* folder, const char* name) {
    size_t length = strlen(folder), bytes = strlen(name) + 1;
    char* path = lp__alloc(ctx, length + 1 + bytes);
    if (!path) return NULL;
    memcpy(path, folder, length);
    path[length] = '/';
    memcpy(path + length + 1, name, bytes);
    return path;
}

/* Makes one folder; 0 if it is there afterwards, else errno. */
static int make_folder(lp_ctx* ctx, const char* path) {
    int error;
    do {
        error = -ctx->io.mkdir(ctx->io.user, path, 0777);
    } while (error == EINTR);
    if (!error) return 0;
    /* Whatever the reason (it exists, a read-only or automounted parent): a folder that is there is
     * enough. */
    int fd = lp__file_open_raw(ctx, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd >= 0) {
        lp__file_close(ctx, fd);
        return 0;
    }
    return error == EEXIST && fd == -ENOTDIR ? ENOTDIR : error == EEXIST ? 0 : error;
}

lp_status lp__mkdirs(lp_ctx* ctx, const char* path) {
    size_t length = strlen(path);
    char* part = lp__strdup(ctx, path, length);
    if (!part) return LP_NOMEM;
    int error = length ? 0 : ENOENT;
    for (size_t end = 1; end <= length && !error; end++) {
        if ((path[end] == '/' || path[end] == 0) && path[end - 1] != '/') {
            part[end] = 0;
            error = make_folder(ctx, part);
            part[end] = path[end];
        }
    }
    lp__free(ctx, part);
    return error ? lp__file_fail(ctx, "make folder", path, error) : LP_OK;
}
