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

/* Removes and closes the temporary file, in this order: once it is closed its name may be another
 * writer's. */
static void discard(lp__writer* writer) {
    lp_ctx* ctx = writer->ctx;
    ctx->io.unlink(ctx->io.user, writer->temp_path);
    lp__file_close(ctx, writer->fd);
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

/* Opens the temporary file under a lock, empty. There is one name for a file, so that saves which
 * were killed leave one at most; its lock tells a live writer from a dead one. What is not empty is
 * what a dead one left, or has just been renamed into place: the name is removed, and made anew.
 * Returns the descriptor, or the negative errno. */
static int open_temporary(lp_ctx* ctx, const char* path) {
    for (;;) {
        const int fd =
            lp__file_open_raw(ctx, path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOFOLLOW, 0666);
        if (fd < 0) return fd;
        int error = ctx->io.lock(ctx->io.user, fd);
        if (error == -EWOULDBLOCK) {
            lp__file_close(ctx, fd);
            return error;
        }
        const int64_t size =
            ctx->io.size(ctx->io.user, fd); /* a filesystem without locks is used without */
        if (size == 0) return fd;
        error = ctx->io.unlink(ctx->io.user, path);
        lp__file_close(ctx, fd);
        if (size < 0) return (int)size;
        if (error && error != -ENOENT) return error;
    }
}

lp_status lp__writer_open(lp_ctx* ctx, lp__writer* writer, const char* path) {
    *writer = (lp__writer){.ctx = ctx, .fd = -1};
    writer->status = check_target(ctx, path);
    if (writer->status) return writer->status;
    static const char ending[] = ".logpi.tmp";
    size_t length = strlen(path), room = length + sizeof ending;
    writer->path = lp__strdup(ctx, path, length);
    writer->temp_path = writer->path ? lp__alloc(ctx, room) : NULL;
    if (!writer->temp_path) {
        forget(writer);
        return writer->status = LP_NOMEM;
    }
    snprintf(writer->temp_path, room, "%s%s", path, ending);
    writer->fd = open_temporary(ctx, writer->temp_path);
    if (writer->fd >= 0) return LP_OK;
    writer->status =
        writer->fd == -EWOULDBLOCK
            ? lp_fail(ctx, LP_IO, "cannot write %s: another program is writing it", path)
            : lp__file_fail(ctx, "create", writer->temp_path, -writer->fd);
    forget(writer);
    return writer->status;
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
        verb = "rename the temporary file to";
        error = -ctx->io.rename(ctx->io.user, writer->temp_path, writer->path);
    }
    if (error) {
        writer->status = lp__file_fail(ctx, verb, writer->path, error);
        discard(writer);
        return writer->status;
    }
    lp__file_close(ctx, writer->fd); /* not before: its lock keeps others from the name. The data
                                        are synced already */
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
    /* O_NONBLOCK: opening a FIFO that nobody reads must not wait; size refuses what is no regular
     * file */
    int fd = lp__file_open_raw(ctx, path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK, 0666);
    if (fd < 0) return lp__file_fail(ctx, "open", path, -fd);
    uint64_t written = 0;
    const int64_t size = ctx->io.size(ctx->io.user, fd);
    int error = size < 0 ? (int)-size : write_all(ctx, fd, bytes, count, &written);
    int close_error = -ctx->io.close(ctx->io.user, fd);
    if (!error && close_error != EINTR) error = close_error;
    return error ? lp__file_fail(ctx, "append to", path, error) : LP_OK;
}
