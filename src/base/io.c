/* The operating system's file calls, in the form of an lp_io. */
#include <logpi/base.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int system_open(void* user, const char* path, int flags, unsigned mode) {
    (void)user;
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    return fd < 0 ? -errno : fd;
}

static int system_close(void* user, int fd) {
    (void)user;
    return close(fd) ? -errno : 0;
}

static int64_t system_size(void* user, int fd) {
    (void)user;
    struct stat info;
    if (fstat(fd, &info)) {
        return -errno;
    }
    if (S_ISDIR(info.st_mode)) {
        return -EISDIR;
    }
    return S_ISREG(info.st_mode) ? (int64_t)info.st_size : -ESPIPE;
}

static int64_t system_pread(void* user, int fd, void* buffer, size_t bytes, int64_t offset) {
    (void)user;
    ssize_t got = pread(fd, buffer, bytes, (off_t)offset);
    return got < 0 ? -errno : got;
}

static int64_t system_write(void* user, int fd, const void* buffer, size_t bytes) {
    (void)user;
    ssize_t put = write(fd, buffer, bytes);
    return put < 0 ? -errno : put;
}

static int system_fsync(void* user, int fd) {
    (void)user;
    return fsync(fd) ? -errno : 0;
}

static int system_rename(void* user, const char* from, const char* to) {
    (void)user;
    return rename(from, to) ? -errno : 0;
}

static int system_unlink(void* user, const char* path) {
    (void)user;
    return unlink(path) ? -errno : 0;
}

static int system_mkdir(void* user, const char* path, unsigned mode) {
    (void)user;
    return mkdir(path, (mode_t)mode) ? -errno : 0;
}

static int system_lock(void* user, int fd) {
    (void)user;
    return flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
}

lp_io lp_io_system(void) {
    return (lp_io){NULL,          system_open,  system_close, system_size,
                   system_pread,  system_write, system_fsync, system_rename,
                   system_unlink, system_mkdir, system_lock};
}
