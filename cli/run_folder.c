/* The folder of a training run: what is in it already, whether it can be written to, and what a run
 * leaves there. */
#include "cli.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TEMPORARY[] = ".logpi.tmp"; /* what a file that is being written is called by */

static const char* const of_every_run[] = {"metrics.jsonl", "config.yaml"};
enum { OF_EVERY_RUN = sizeof of_every_run / sizeof *of_every_run };

lp_status cli_folder_name(run_folder* f, const char* path, const char* const* files, int count) {
    const struct {
        char** path;
        const char* name;
    } parts[] = {{&f->metrics, "metrics.jsonl"},
                 {&f->config, "config.yaml"},
                 {&f->final, "final"},
                 {&f->diverged, "diverged"},
                 {&f->lock, ".lock"}};
    *f = (run_folder){.files = files, .count = count, .path = strdup(path)};
    bool ok = f->path != NULL;
    for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++) {
        ok = asprintf(parts[i].path, "%s/%s", path, parts[i].name) >= 0;
        if (!ok) *parts[i].path = NULL;
    }
    return ok ? LP_OK : LP_NOMEM;
}

void cli_folder_free(run_folder* f) {
    char* const paths[] = {f->path, f->metrics, f->config, f->final, f->diverged, f->lock};
    if (f->locked) close(f->lock_file);
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) free(paths[i]);
    *f = (run_folder){0};
}

/* The file stays behind when the lock ends with the run: one that is removed could be locked by
 * two. Without `make` a file that cannot be opened is no error. A file system that knows no locks
 * gives none. */
static lp_status take_lock(lp_ctx* ctx, run_folder* f, bool make) {
    if (f->locked) return LP_OK;
    const int file = open(f->lock, O_RDWR | O_CLOEXEC | O_NONBLOCK | (make ? O_CREAT : 0), 0666);
    if (file < 0)
        return make ? lp_fail(ctx, LP_IO, "%.300s cannot be written: %s", f->lock, strerror(errno))
                    : LP_OK;
    if (flock(file, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(file);
        return lp_fail(
            ctx, LP_IO,
            "another run is using %.300s: wait for its end, or choose another --output_dir",
            f->path);
    }
    f->locked = true;
    f->lock_file = file;
    return LP_OK;
}

/* Whether a name is that of a file of ours, whole or half written. */
static bool is_ours(const run_folder* f, const char* name) {
    for (int i = 0; i < f->count; i++) {
        const size_t n = strlen(f->files[i]);
        if (strncmp(name, f->files[i], n) == 0 && (!name[n] || strcmp(name + n, TEMPORARY) == 0))
            return true;
    }
    return false;
}

/* Whether anything lies in the folder. The name of what is not ours goes to `other`, which is else
 * left alone. */
static bool look_into(const run_folder* f, const char* path, char* other, size_t bytes) {
    DIR* folder = opendir(path);
    bool found = false;
    for (const struct dirent* e; folder && (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        found = true;
        if (!is_ours(f, e->d_name))
            snprintf(other, bytes, "%s/%s", strrchr(path, '/') + 1, e->d_name);
    }
    if (folder) closedir(folder);
    return found;
}

typedef lp_status file_call(lp_ctx* ctx, const char* path);

/* Calls it for files of a folder, until one fails. */
static lp_status for_names(lp_ctx* ctx, const char* folder, const char* const* names, int count,
                           const char* ending, file_call* call) {
    lp_status status = LP_OK;
    for (int i = 0; status == LP_OK && i < count; i++) {
        char* path;
        if (asprintf(&path, "%s/%s%s", folder, names[i], ending) < 0) return LP_NOMEM;
        status = call(ctx, path);
        free(path);
    }
    return status;
}

/* Calls it for all that a run may leave, with that ending. */
static lp_status for_files(lp_ctx* ctx, const run_folder* f, const char* ending, file_call* call) {
    lp_status status = for_names(ctx, f->path, of_every_run, OF_EVERY_RUN, ending, call);
    if (status == LP_OK) status = for_names(ctx, f->final, f->files, f->count, ending, call);
    if (status == LP_OK) status = for_names(ctx, f->diverged, f->files, f->count, ending, call);
    return status;
}

static lp_status check_regular(lp_ctx* ctx, const char* path) {
    struct stat info;
    if (lstat(path, &info) != 0 || S_ISREG(info.st_mode) || S_ISLNK(info.st_mode)) return LP_OK;
    return lp_fail(ctx, LP_IO, "%.300s is there and is no regular file: remove it", path);
}

static lp_status remove_file(lp_ctx* ctx, const char* path) {
    if (unlink(path) == 0 || errno == ENOENT || errno == ENOTDIR) return LP_OK;
    return lp_fail(ctx, LP_IO, "%.300s cannot be removed: %s", path, strerror(errno));
}

lp_status cli_folder_check(lp_ctx* ctx, run_folder* f, bool overwrite) {
    char other[512] = "";
    struct stat info;
    if (!f->path[0]) return lp_fail(ctx, LP_INVALID, "the name of --output_dir is empty");
    lp_status status = take_lock(ctx, f, false);
    if (status != LP_OK) return status;
    const bool final = look_into(f, f->final, other, sizeof other);
    const bool diverged = look_into(f, f->diverged, other, sizeof other);
    const bool metrics = stat(f->metrics, &info) == 0 && info.st_size > 0;
    if ((final || diverged || metrics) && !overwrite)
        return lp_fail(ctx, LP_INVALID,
                       "%.300s holds a run already: choose another --output_dir, or --overwrite it",
                       f->path);
    if (*other)
        return lp_fail(
            ctx, LP_INVALID,
            "%.300s has a file %.300s of another kind of run: choose another --output_dir", f->path,
            other);
    status = for_files(ctx, f, "", check_regular);
    return status == LP_OK ? for_files(ctx, f, TEMPORARY, check_regular) : status;
}

/* Makes a file and removes it again. */
static lp_status probe(lp_ctx* ctx, const char* path) {
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file < 0) return lp_fail(ctx, LP_IO, "%.300s cannot be written: %s", path, strerror(errno));
    close(file);
    unlink(path);
    return LP_OK;
}

/* Which file has that name in a folder; 0: none. */
static ino_t which_file(const char* folder, const char* name) {
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return lstat(path, &info) == 0 && S_ISREG(info.st_mode) ? info.st_ino : 0;
}

static lp_status make_all(lp_ctx* ctx, run_folder* f) {
    lp_status status = for_files(ctx, f, TEMPORARY, remove_file); /* of a run that was killed */
    if (status == LP_OK) status = lp_make_folder(ctx, f->final);
    if (status == LP_OK) status = lp_make_folder(ctx, f->diverged);
    if (status == LP_OK)
        status = for_files(ctx, f, TEMPORARY, probe); /* as the ones that will be renamed */
    rmdir(f->diverged);                               /* there is none unless something is in it */
    if (status == LP_OK) status = lp_append(ctx, f->metrics, "", 0);
    for (int i = 0; i < f->count && i < RUN_FILES; i++) {
        f->old[0][i] = which_file(f->final, f->files[i]);
        f->old[1][i] = which_file(f->diverged, f->files[i]);
    }
    return status;
}

static lp_status io(lp_ctx* ctx, lp_status status) {
    return status == LP_OK || status == LP_NOMEM ? status
                                                 : lp_fail(ctx, LP_IO, "%s", lp_error(ctx));
}

lp_status cli_folder_make(lp_ctx* ctx, run_folder* f, bool overwrite) {
    lp_status status = io(ctx, lp_make_folder(ctx, f->path));
    if (status == LP_OK) status = take_lock(ctx, f, true);
    if (status == LP_OK)
        status = cli_folder_check(ctx, f, overwrite); /* a run may have ended since */
    return status == LP_OK ? io(ctx, make_all(ctx, f)) : status;
}

/* The first line: the old files go as the new ones come. */
static lp_status begin_log(lp_ctx* ctx, run_folder* f, const lp_metric* row, int count) {
    char* path;
    if (asprintf(&path, "%s%s", f->metrics, TEMPORARY) < 0) return LP_NOMEM;
    lp_status status = lp_metrics_append(ctx, path, row, count);
    if (status == LP_OK)
        status = f->save_config ? f->save_config(f->user, f->config) : remove_file(ctx, f->config);
    if (status == LP_OK && rename(path, f->metrics) != 0)
        status = lp_fail(ctx, LP_IO, "%.300s cannot be replaced: %s", f->metrics, strerror(errno));
    if (status != LP_OK) unlink(path);
    free(path);
    f->begun = status == LP_OK;
    return status;
}

lp_status cli_folder_log(lp_ctx* ctx, run_folder* f, const lp_metric* row, int count) {
    return f->begun ? lp_metrics_append(ctx, f->metrics, row, count)
                    : begin_log(ctx, f, row, count);
}

/* ---- the end of a run ------------------------------------------------------------------------ */

/* Which of the files in a folder this run has written, with commas in between. A file that takes
 * the place of another is made while that one is still there: it has another number. *old: whether
 * others are of the run before. */
static void list_files(const run_folder* f, bool diverged, char* to, size_t bytes, bool* old) {
    size_t at = 0;
    *to = 0;
    *old = false;
    for (int i = 0; i < f->count && i < RUN_FILES && at < bytes; i++) {
        const ino_t file = which_file(diverged ? f->diverged : f->final, f->files[i]);
        *old |= file && file == f->old[diverged][i];
        if (!file || file == f->old[diverged][i]) continue;
        at += (size_t)snprintf(to + at, bytes - at, "%s%s", at > 0 ? ", " : "", f->files[i]);
    }
}

/* What the run before left in the other folder goes. */
static lp_status remove_other(lp_ctx* ctx, const run_folder* f, bool diverged) {
    const char* other = diverged ? f->final : f->diverged;
    const lp_status status = for_names(ctx, other, f->files, f->count, "", remove_file);
    if (!diverged) rmdir(other);
    return status;
}

/* `said`: what became of the result. */
static lp_status save(lp_ctx* ctx, const run_folder* f, const run_result* r, bool diverged,
                      char* said, size_t bytes) {
    const char* folder = diverged ? f->diverged : f->final;
    char written[256];
    bool old;
    if (!r->what[0]) {
        snprintf(said, bytes, "no step was finished: no %s saved", r->noun);
        return LP_OK;
    }
    lp_cancel_clear(ctx);
    lp_status status = lp_make_folder(ctx, folder);
    if (status == LP_OK) status = r->save(r->user, folder);
    if (status == LP_OK) {
        const bool one = f->count == 1;
        const bool removed = remove_other(ctx, f, diverged) == LP_OK;
        snprintf(said, bytes, "%s in %s%s%s%s%s", r->what, folder, one ? "/" : "",
                 one ? f->files[0] : "", removed ? "" : "; ", removed ? "" : lp_error(ctx));
        return removed ? LP_OK : LP_IO;
    }
    list_files(f, diverged, written, sizeof written, &old);
    snprintf(said, bytes, "%s not %ssaved: %s%s%s%s%s%s", r->what, *written ? "all " : "",
             lp_error(ctx)[0] ? lp_error(ctx) : lp_status_text(status), *written ? "; only " : "",
             written, *written ? " was written to " : "", *written ? folder : "",
             old ? "; what else is there is of the run before" : "");
    return status == LP_NOMEM ? status : LP_IO;
}

int cli_folder_finish(lp_ctx* ctx, const run_folder* f, const run_result* r, lp_status status) {
    char reason[REASON_BYTES], said[REASON_BYTES];
    cli_reason(ctx, status, reason, sizeof reason);
    const lp_status saved = save(ctx, f, r, status == LP_NONFINITE, said, sizeof said);
    if (status == LP_OK)
        return cli_say(saved == LP_OK ? EXIT_OK : cli_exit_code(saved), "%s", said);
    return cli_say(cli_exit_code(saved == LP_OK ? status : saved), "%s; %s", reason, said);
}
