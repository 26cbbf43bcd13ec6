/* Writing files: whole or not at all, and by appending. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* All bytes, or the errno of the failure. */
static int write_all(lp_ctx* ctx, int fd, const char* bytes, size_t count, uint64_t* written) {
    size_t done = 0;
    while (done < count) {
        int64_t put = ctx->io.write(ctx->io.user, fd, bytes + done, count - done);
        if (put == -EINTR) continue;
        if (put < 0) return (int)-put;
        if (put == 0) return EIO; /* no progress: trying again would never end */
        done += (size_t)put;
        *written += (uint64_t)put;
    }
    return 0;
}

static int sync_fd(lp_ctx* ctx, int fd) {
    int error;
    do {
        error = -ctx->io.fsync(ctx->io.user, fd);
    } while (error == EINTR);
    return error;
}

static void forget(lp__writer* writer) {
    lp__free(writer->ctx, writer->path);
    lp__free(writer->ctx, writer->temp_path);
    writer->path = writer->temp_path = NULL;
    writer->fd = -1;
}

/* Whether what has the temporary name is as long as what was written: not so once another writer
 * took the name for itself. Two writers of one file at once are a mistake, of two programs maybe;
 * this keeps the one from putting half a file of the other in place. */
static bool still_ours(const lp__writer* writer) {
    lp_ctx* ctx = writer->ctx;
    int fd = lp__file_open_raw(ctx, writer->temp_path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return false;
    int64_t size = ctx->io.size(ctx->io.user, fd);
    lp__file_close(ctx, fd);
    return size >= 0 && (uint64_t)size == writer->written;
}

/* Closes and removes the temporary file. */
static void discard(lp__writer* writer) {
    lp_ctx* ctx = writer->ctx;
    if (writer->fd >= 0) lp__file_close(ctx, writer->fd);
    if (still_ours(writer)) ctx->io.unlink(ctx->io.user, writer->temp_path);
    forget(writer);
}

/* A rename would replace a device or a folder by a file: refuse what exists and is not regular. */
static lp_status check_target(lp_ctx* ctx, const char* path) {
    int fd = lp__file_open_raw(ctx, path, O_RDONLY | O_NONBLOCK, 0);
    if (fd < 0) return LP_OK;
    int64_t size = ctx->io.size(ctx->io.user, fd);
    lp__file_close(ctx, fd);
    return size < 0 ? lp__file_fail(ctx, "write", path, (int)-size) : LP_OK;
}

lp_status lp__writer_open(lp_ctx* ctx, lp__writer* writer, const char* path) {
    *writer = (lp__writer){.ctx = ctx, .fd = -1};
    writer->status = check_target(ctx, path);
    if (writer->status) return writer->status;
    static const char ending[] = ".logpi.tmp";
    size_t length = strlen(path), room = length + sizeof ending;
    writer->path = lp__strdup(ctx, path, length);
    char* temp = writer->path ? lp__alloc(ctx, room) : NULL;
    if (!temp) {
        forget(writer);
        return writer->status = LP_NOMEM;
    }
    /* One name, so that saves which were killed leave one file at most. It is removed and made anew,
     * not truncated: who has the old one open must not write into ours. */
    snprintf(temp, room, "%s%s", path, ending);
    ctx->io.unlink(ctx->io.user, temp);
    int fd = lp__file_open_raw(ctx, temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (fd < 0) {
        writer->status = lp__file_fail(ctx, "create", temp, -fd);
        lp__free(ctx, temp);
        forget(writer);
        return writer->status;
    }
    writer->fd = fd;
    writer->temp_path = temp;
    return LP_OK;
}

lp_status lp__writer_write(lp__writer* writer, const void* bytes, size_t count) {
    if (writer->status) return writer->status;
    int error = write_all(writer->ctx, writer->fd, bytes, count, &writer->written);
    if (error) {
        writer->status = lp__file_fail(writer->ctx, "write", writer->path, error);
        discard(writer);
    }
    return writer->status;
}

/* Makes the new name of a file in its folder durable. A filesystem that cannot is no failure. */
static int sync_folder(lp_ctx* ctx, char* path) {
    char* slash = strrchr(path, '/');
    const char* folder = !slash ? "." : slash == path ? "/" : path;
    if (slash && slash != path) *slash = 0;
    int fd = lp__file_open_raw(ctx, folder, O_RDONLY | O_DIRECTORY, 0);
    if (slash && slash != path) *slash = '/';
    if (fd < 0) return 0;
    int error = sync_fd(ctx, fd);
    lp__file_close(ctx, fd);
    return error == EINVAL || error == ENOTSUP || error == EBADF ? 0 : error;
}

lp_status lp__writer_commit(lp__writer* writer) {
    lp_ctx* ctx = writer->ctx;
    if (writer->status) return writer->status;
    int error = sync_fd(ctx, writer->fd);
    const char* verb = "write";
    if (!error) {
        error = -ctx->io.close(ctx->io.user, writer->fd);
        writer->fd = -1;               /* closed, whatever it answered */
        if (error == EINTR) error = 0; /* the data were synced already */
    }
    if (!error && !still_ours(writer)) {
        writer->status = lp__fail(ctx, LP_IO,
                                  "cannot write %s: another writer has taken its temporary file; "
                                  "save again",
                                  writer->path);
        discard(writer);
        return writer->status;
    }
    if (!error) {
        verb = "rename the temporary file to";
        error = -ctx->io.rename(ctx->io.user, writer->temp_path, writer->path);
    }
    if (error) {
        writer->status = lp__file_fail(ctx, verb, writer->path, error);
        discard(writer);
        return writer->status;
    }
    error = sync_folder(ctx, writer->path);
    if (error) writer->status = lp__file_fail(ctx, "sync the folder of", writer->path, error);
    forget(writer);
    return writer->status;
}

void lp__writer_abort(lp__writer* writer) {
    if (!writer->temp_path) return; /* failed or committed already */
    discard(writer);
    writer->status = LP_CANCELLED;
}

lp_status lp__file_append(lp_ctx* ctx, const char* path, const void* bytes, size_t count) {
    /* O_NONBLOCK: opening a FIFO that nobody reads must not wait; size refuses what is no regular file */
    int fd = lp__file_open_raw(ctx, path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0666);
    if (fd < 0) return lp__file_fail(ctx, "open", path, -fd);
    uint64_t written = 0;
    const int64_t size = ctx->io.size(ctx->io.user, fd);
    int error = size < 0 ? (int)-size : write_all(ctx, fd, bytes, count, &written);
    int close_error = -ctx->io.close(ctx->io.user, fd);
    if (!error && close_error != EINTR) error = close_error;
    return error ? lp__file_fail(ctx, "append to", path, error) : LP_OK;
}
