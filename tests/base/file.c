/* Files under faults: EINTR, short reads and writes, a full disk, and an error at each call in
 * turn. */
#include "base/base.h"
#include "testing.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The system's calls with faults put in, and counts. */
typedef struct faults {
    lp_io io;
    int calls, fail_at, error; /* call number fail_at answers -error; 0: none */
    bool interrupt;            /* every call that may be interrupted is so, every other time */
    int interrupts;
    size_t most;  /* bytes of one read or write; 0: no limit */
    int64_t disk; /* bytes that can still be written; -1: no limit */
    int open_files;
    char last[16]; /* name of the call that failed */
} faults;

static bool fails(faults* f, const char* name) {
    if (++f->calls != f->fail_at) return false;
    snprintf(f->last, sizeof f->last, "%s", name);
    return true;
}

static bool interrupted(faults* f) { return f->interrupt && ++f->interrupts % 2 == 1; }

static int f_open(void* user, const char* path, int flags, unsigned mode) {
    faults* f = user;
    if (interrupted(f)) return -EINTR;
    if (fails(f, "open")) return -f->error;
    int fd = f->io.open(NULL, path, flags, mode);
    f->open_files += fd >= 0;
    return fd;
}

static int f_close(void* user, int fd) {
    faults* f = user;
    f->open_files--;
    int result = f->io.close(NULL, fd); /* closed even if it answers with an error, as Linux does */
    if (interrupted(f)) return -EINTR;
    return fails(f, "close") ? -f->error : result;
}

static int64_t f_size(void* user, int fd) {
    faults* f = user;
    return fails(f, "size") ? -f->error : f->io.size(NULL, fd);
}

static int64_t f_pread(void* user, int fd, void* buffer, size_t bytes, int64_t offset) {
    faults* f = user;
    if (interrupted(f)) return -EINTR;
    if (fails(f, "pread")) return -f->error;
    if (f->most && bytes > f->most) bytes = f->most;
    return f->io.pread(NULL, fd, buffer, bytes, offset);
}

static int64_t f_write(void* user, int fd, const void* buffer, size_t bytes) {
    faults* f = user;
    if (interrupted(f)) return -EINTR;
    if (fails(f, "write")) return -f->error;
    if (f->most && bytes > f->most) bytes = f->most;
    if (f->disk >= 0) {
        if (f->disk == 0) return -ENOSPC;
        if ((int64_t)bytes > f->disk) bytes = (size_t)f->disk;
        f->disk -= (int64_t)bytes;
    }
    return f->io.write(NULL, fd, buffer, bytes);
}

static int f_fsync(void* user, int fd) {
    faults* f = user;
    if (interrupted(f)) return -EINTR;
    return fails(f, "fsync") ? -f->error : f->io.fsync(NULL, fd);
}

static int f_rename(void* user, const char* from, const char* to) {
    faults* f = user;
    return fails(f, "rename") ? -f->error : f->io.rename(NULL, from, to);
}

static int f_unlink(void* user, const char* path) {
    faults* f = user;
    return f->io.unlink(NULL, path);
}

static int f_lock(void* user, int fd) {
    faults* f = user;
    return f->io.lock(NULL, fd);
}

static int f_mkdir(void* user, const char* path, unsigned mode) {
    faults* f = user;
    if (interrupted(f)) return -EINTR;
    return fails(f, "mkdir") ? -f->error : f->io.mkdir(NULL, path, mode);
}

typedef struct fixture {
    faults faults;
    lp_ctx* ctx;
    char folder[64];
    char path[128];
} fixture;

static int setup(void** state) {
    fixture* x = calloc(1, sizeof *x);
    x->faults.io = lp_io_system();
    x->faults.disk = -1;
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.io = (lp_io){&x->faults, f_open,   f_close,  f_size,  f_pread, f_write,
                     f_fsync,    f_rename, f_unlink, f_mkdir, f_lock};
    x->ctx = lp_ctx_create(&def, NULL, 0);
    strcpy(x->folder, "/tmp/logpi-file-XXXXXX");
    if (!x->ctx || !mkdtemp(x->folder)) return -1;
    snprintf(x->path, sizeof x->path, "%s/data.bin", x->folder);
    *state = x;
    return 0;
}

static void clear_folder(const char* folder) {
    DIR* dir = opendir(folder);
    for (struct dirent* e; dir && (e = readdir(dir));) {
        char path[400];
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && remove(path) != 0) {
            clear_folder(path);
            remove(path);
        }
    }
    if (dir) closedir(dir);
}

static int teardown(void** state) {
    fixture* x = *state;
    int leaked = x->faults.open_files;
    lp_ctx_destroy(x->ctx);
    clear_folder(x->folder);
    remove(x->folder);
    free(x);
    return leaked;
}

static int entries(const char* folder) {
    DIR* dir = opendir(folder);
    int count = 0;
    while (readdir(dir)) count++;
    closedir(dir);
    return count - 2;
}

/* What the system's own calls find in the file. */
static void assert_holds(const char* path, const char* want, size_t bytes) {
    char* got = malloc(bytes + 1);
    FILE* file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fread(got, 1, bytes + 1, file), bytes);
    fclose(file);
    assert_memory_equal(got, want, bytes);
    free(got);
}

enum { BIG = 10000 };

static void fill(char* text, int seed) {
    for (int i = 0; i < BIG; i++) text[i] = (char)(i * 31 + i / 256 + seed);
}

/* The file as three writes, one of them empty. */
static lp_status save(lp_ctx* ctx, const char* path, const char* text, size_t bytes) {
    lp__writer w;
    lp_status status = lp__writer_open(ctx, &w, path);
    if (status) return status;
    size_t half = bytes / 2;
    lp__writer_write(&w, text, half);
    lp__writer_write(&w, text, 0);
    lp__writer_write(&w, text + half, bytes - half);
    if (!w.status) assert_int_equal(w.written, bytes);
    return lp__writer_commit(&w);
}

static void writes_and_reads(void** state) {
    fixture* x = *state;
    char text[BIG], other[BIG];
    fill(text, 0);
    fill(other, 1);
    for (int round = 0; round < 3; round++) {
        x->faults.interrupt = round > 0;
        x->faults.most = round == 2 ? 7 : 0;
        const char* now = round % 2 ? other : text;
        assert_int_equal(save(x->ctx, x->path, now, BIG), LP_OK);
        assert_holds(x->path, now, BIG);
        assert_int_equal(entries(x->folder), 1);
        char* got = NULL;
        size_t size = 0;
        assert_int_equal(lp__file_slurp(x->ctx, x->path, BIG, &got, &size), LP_OK);
        assert_int_equal(size, BIG);
        assert_memory_equal(got, now, BIG);
        assert_int_equal(got[BIG], 0);
        lp__free(x->ctx, got);
        int fd;
        uint64_t length;
        assert_int_equal(lp__file_open(x->ctx, x->path, &fd, &length), LP_OK);
        assert_int_equal(length, BIG);
        char part[100];
        assert_int_equal(lp__file_read(x->ctx, fd, x->path, part, 100, BIG - 100), LP_OK);
        assert_memory_equal(part, now + BIG - 100, 100);
        assert_int_equal(lp__file_read(x->ctx, fd, x->path, part, 100, BIG - 99), LP_FORMAT);
        assert_non_null(strstr(lp_error(x->ctx), "truncated"));
        assert_int_equal(lp__file_read(x->ctx, fd, x->path, part, 1, UINT64_MAX), LP_IO);
        assert_int_equal(lp__file_read(x->ctx, fd, x->path, part, 0, BIG), LP_OK);
        lp__file_close(x->ctx, fd);
    }
    assert_true(x->faults.interrupts > 100);
    struct stat info;
    assert_int_equal(stat(x->path, &info), 0);
    assert_int_equal(info.st_mode & 0600, 0600);
}

/* An error at each call of a save in turn: either the old file or the whole new one, no temporary
 * file, no open file, no memory held. */
static void every_call_fails_in_turn(void** state) {
    fixture* x = *state;
    char before[BIG], after[BIG];
    fill(before, 0);
    fill(after, 1);
    char seen[300] = "";
    x->faults.error = EIO;
    for (int k = 1;; k++) {
        x->faults.fail_at = 0;
        assert_int_equal(save(x->ctx, x->path, before, 100), LP_OK);
        size_t held = lp_ctx_memory(x->ctx).bytes;
        x->faults.calls = 0;
        x->faults.fail_at = k;
        x->faults.last[0] = 0;
        lp_status status = save(x->ctx, x->path, after, BIG);
        assert_int_equal(lp_ctx_memory(x->ctx).bytes, held);
        assert_int_equal(entries(x->folder), 1);
        assert_int_equal(x->faults.open_files, 0);
        if (!x->faults.last[0]) { /* fewer calls than k: none failed */
            assert_int_equal(status, LP_OK);
            break;
        }
        snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s%s ", x->faults.last,
                 status ? "!" : "");
        struct stat info;
        assert_int_equal(stat(x->path, &info), 0);
        if (info.st_size == 100) {
            assert_int_equal(status, LP_IO);
            assert_non_null(strstr(lp_error(x->ctx), x->path));
            assert_holds(x->path, before, 100);
        } else {
            assert_holds(x->path, after, BIG);
        }
    }
    /* Which calls there were, and which of them may fail without failing the save: looking at the
     * old file, closing the new one after its rename, and opening or closing the folder, whose name
     * is new already. */
    assert_string_equal(seen, "open size! close open! size! write! write! fsync! rename! close "
                              "open fsync! close ");
}

static void full_disk_leaves_the_old_file(void** state) {
    fixture* x = *state;
    char text[BIG];
    fill(text, 3);
    assert_int_equal(save(x->ctx, x->path, "old", 3), LP_OK);
    x->faults.disk = 7000;
    assert_int_equal(save(x->ctx, x->path, text, BIG), LP_IO);
    assert_non_null(strstr(lp_error(x->ctx), "free some space"));
    assert_holds(x->path, "old", 3);
    assert_int_equal(entries(x->folder), 1);
}

static void writer_after_failure_and_abort(void** state) {
    fixture* x = *state;
    lp__writer w;
    assert_int_equal(save(x->ctx, x->path, "old", 3), LP_OK);
    assert_int_equal(lp__writer_open(x->ctx, &w, x->path), LP_OK);
    assert_int_equal(lp__writer_write(&w, "new", 3), LP_OK);
    assert_int_equal(entries(x->folder), 2);
    lp__writer_abort(&w);
    assert_int_equal(entries(x->folder), 1);
    assert_int_equal(lp__writer_write(&w, "new", 3), LP_CANCELLED);
    assert_int_equal(lp__writer_commit(&w), LP_CANCELLED);
    lp__writer_abort(&w);
    assert_holds(x->path, "old", 3);

    /* The status of the first failure stays, and nothing is written any more. */
    x->faults.disk = 2;
    assert_int_equal(lp__writer_open(x->ctx, &w, x->path), LP_OK);
    assert_int_equal(lp__writer_write(&w, "new", 3), LP_IO);
    x->faults.disk = -1;
    int calls = x->faults.calls;
    assert_int_equal(lp__writer_write(&w, "new", 3), LP_IO);
    assert_int_equal(lp__writer_commit(&w), LP_IO);
    lp__writer_abort(&w);
    assert_int_equal(x->faults.calls, calls);
    assert_int_equal(w.status, LP_IO);

    /* Two writers of one file do not mix: the second is refused until the first is done. Files of
     * one length. */
    for (int order = 0; order < 2; order++) {
        lp__writer v;
        assert_int_equal(lp__writer_open(x->ctx, &w, x->path), LP_OK);
        lp__writer_write(&w, "fir", 3);
        assert_int_equal(lp__writer_open(x->ctx, &v, x->path), LP_IO);
        assert_non_null(strstr(lp_error(x->ctx), "another program"));
        lp__writer_write(&w, "st.", 3);
        if (order == 0) assert_int_equal(lp__writer_commit(&w), LP_OK);
        if (order == 1) lp__writer_abort(&w);
        assert_holds(x->path, order ? "old" : "first.", order ? 3 : 6);
        assert_int_equal(lp__writer_open(x->ctx, &v, x->path), LP_OK);
        lp__writer_write(&v, "second", 6);
        assert_int_equal(lp__writer_commit(&v), LP_OK);
        assert_holds(x->path, "second", 6);
        assert_int_equal(entries(x->folder), 1);
        assert_int_equal(save(x->ctx, x->path, "old", 3), LP_OK);
    }
}

/* A process that dies in the middle of a save leaves its temporary file; no second one comes to it,
 * and the next save takes it away. */
static void killed_saves_do_not_pile_up(void** state) {
    fixture* x = *state;
    assert_int_equal(save(x->ctx, x->path, "old", 3), LP_OK);
    for (int i = 0; i < 3; i++) {
        const pid_t child = fork();
        if (child == 0) {
            lp__writer w;
            lp__writer_open(x->ctx, &w, x->path);
            lp__writer_write(&w, "half", 4);
            _exit(0);
        }
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_int_equal(entries(x->folder), 2);
        assert_holds(x->path, "old", 3);
    }
    assert_int_equal(save(x->ctx, x->path, "new", 3), LP_OK);
    assert_holds(x->path, "new", 3);
    assert_int_equal(entries(x->folder), 1);
}

static void what_is_no_file_is_refused(void** state) {
    fixture* x = *state;
    int fd;
    uint64_t size;
    char *text, pipe_path[160], missing[160], below[160];
    size_t length;
    snprintf(pipe_path, sizeof pipe_path, "%s/pipe", x->folder);
    snprintf(missing, sizeof missing, "%s/none/file", x->folder);
    snprintf(below, sizeof below, "%s/file", x->path);
    assert_int_equal(mkfifo(pipe_path, 0600), 0);
    assert_int_equal(save(x->ctx, x->path, "abc", 3), LP_OK);

    assert_int_equal(lp__file_open(x->ctx, missing, &fd, &size), LP_NOT_FOUND);
    assert_non_null(strstr(lp_error(x->ctx), missing));
    assert_non_null(strstr(lp_error(x->ctx), "No such file"));
    assert_int_equal(lp__file_open(x->ctx, below, &fd, &size), LP_NOT_FOUND);
    assert_int_equal(lp__file_open(x->ctx, x->folder, &fd, &size), LP_IO);
    assert_int_equal(lp__file_open(x->ctx, pipe_path, &fd, &size), LP_IO);
    assert_non_null(strstr(lp_error(x->ctx), "not a regular file"));
    assert_int_equal(lp__file_slurp(x->ctx, x->path, 2, &text, &length), LP_FORMAT);
    assert_non_null(strstr(lp_error(x->ctx), "at most 2"));
    assert_int_equal(lp__file_slurp(x->ctx, x->path, 3, &text, &length), LP_OK);
    assert_string_equal(text, "abc");
    lp__free(x->ctx, text);

    /* A pipe stands for all that is no file: a test that tried a device would destroy it when it
     * fails. */
    assert_int_equal(save(x->ctx, pipe_path, "abc", 3), LP_IO);
    assert_int_equal(save(x->ctx, x->folder, "abc", 3), LP_IO);
    assert_int_equal(save(x->ctx, missing, "abc", 3), LP_NOT_FOUND);
    struct stat info;
    assert_int_equal(stat(pipe_path, &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
}

/* A file that shrinks after its size was asked: truncated, not a wait and not garbage. */
static int64_t too_large(void* user, int fd) {
    (void)user;
    (void)fd;
    return 1000;
}

static void a_file_shorter_than_its_size(void** state) {
    fixture* x = *state;
    assert_int_equal(save(x->ctx, x->path, "abc", 3), LP_OK);
    lp_ctx_def def = lp_ctx_def_default();
    def.threads = 1;
    def.io.size = too_large;
    lp_ctx* ctx = lp_ctx_create(&def, NULL, 0);
    char* text;
    size_t length;
    assert_int_equal(lp__file_slurp(ctx, x->path, 1000, &text, &length), LP_FORMAT);
    assert_non_null(strstr(lp_error(ctx), "truncated"));
    lp_ctx_destroy(ctx);
}

static void appends(void** state) {
    fixture* x = *state;
    for (int round = 0; round < 2; round++) {
        x->faults.interrupt = round > 0;
        assert_int_equal(lp__file_append(x->ctx, x->path, "one\n", 4), LP_OK);
    }
    assert_holds(x->path, "one\none\n", 8);
    x->faults.interrupt = false;
    x->faults.calls = 0;
    assert_int_equal(lp__file_append(x->ctx, x->path, "two\n", 4), LP_OK);
    assert_int_equal(x->faults.calls, 4); /* open, size, one write, close */
    x->faults.disk = 0;
    assert_int_equal(lp__file_append(x->ctx, x->path, "three\n", 6), LP_IO);
    x->faults.disk = -1;
    assert_holds(x->path, "one\none\ntwo\n", 12);
    assert_int_equal(lp__file_append(x->ctx, x->folder, "x", 1), LP_IO);
}

static void makes_folders(void** state) {
    fixture* x = *state;
    char deep[256];
    struct stat info;
    const char* forms[] = {"%s/a/b/c", "%s/a/b/c", "%s//d///e/", "%s/a/b/c/", "%s/a/./b/../f"};
    for (int i = 0; i < 5; i++) {
        x->faults.interrupt = i % 2;
        snprintf(deep, sizeof deep, forms[i], x->folder);
        assert_int_equal(lp__mkdirs(x->ctx, deep), LP_OK);
        assert_int_equal(stat(deep, &info), 0);
        assert_true(S_ISDIR(info.st_mode));
    }
    assert_int_equal(lp__mkdirs(x->ctx, "/"), LP_OK);
    assert_int_equal(lp__mkdirs(x->ctx, "."), LP_OK);
    assert_int_equal(lp__mkdirs(x->ctx, ""), LP_NOT_FOUND);
    assert_int_equal(save(x->ctx, x->path, "abc", 3), LP_OK);
    assert_int_equal(lp__mkdirs(x->ctx, x->path), LP_NOT_FOUND); /* a file stands there */
    snprintf(deep, sizeof deep, "%s/below", x->path);
    assert_int_equal(lp__mkdirs(x->ctx, deep), LP_NOT_FOUND);
    x->faults.interrupt = false;
    x->faults.error = ENOSPC;
    x->faults.calls = 0;
    x->faults.fail_at = 1;
    snprintf(deep, sizeof deep, "%s/new", x->folder);
    while (true) { /* the failure must reach the folder that is missing, the last call but one */
        lp_status status = lp__mkdirs(x->ctx, deep);
        if (status) {
            assert_int_equal(status, LP_IO);
            assert_non_null(strstr(lp_error(x->ctx), "free some space"));
            break;
        }
        assert_int_equal(rmdir(deep), 0);
        x->faults.calls = 0;
        x->faults.fail_at++;
        assert_true(x->faults.fail_at < 50);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(writes_and_reads),
        TEST(every_call_fails_in_turn),
        TEST(full_disk_leaves_the_old_file),
        TEST(writer_after_failure_and_abort),
        TEST(killed_saves_do_not_pile_up),
        TEST(what_is_no_file_is_refused),
        TEST(a_file_shorter_than_its_size),
        TEST(appends),
        TEST(makes_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
