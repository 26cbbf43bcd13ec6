/* The folder of a training run: what is in it already, whether it can be written to, and what a run leaves there. */
#include "cli.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TEMPORARY[] = ".logpi.tmp"; /* what a file that is being written is called by */

lp_status cli_folder_name(run_folder* f, const char* path, const char* const* files, int count) {
    const struct {
        char** path;
        const char* name;
    } parts[] = {
        {&f->metrics, "metrics.jsonl"}, {&f->config, "config.yaml"}, {&f->final, "final"}, {&f->diverged, "diverged"}};
    *f = (run_folder){.files = files, .count = count, .path = strdup(path)};
    bool ok = f->path != NULL;
    for (size_t i = 0; ok && i < sizeof parts / sizeof *parts; i++) {
        ok = asprintf(parts[i].path, "%s/%s", path, parts[i].name) >= 0;
        if (!ok) *parts[i].path = NULL;
    }
    return ok ? LP_OK : LP_NOMEM;
}

void cli_folder_free(run_folder* f) {
    char* const paths[] = {f->path, f->metrics, f->config, f->final, f->diverged};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) free(paths[i]);
    *f = (run_folder){0};
}

/* Whether a name is that of a file of ours, whole or half written. */
static bool is_ours(const run_folder* f, const char* name) {
    for (int i = 0; i < f->count; i++) {
        const size_t n = strlen(f->files[i]);
        if (strncmp(name, f->files[i], n) == 0 && (!name[n] || strcmp(name + n, TEMPORARY) == 0)) return true;
    }
    return false;
}

/* Whether anything lies in the folder. The name of what is not ours goes to `other`, which is else left alone. */
static bool look_into(const run_folder* f, const char* path, char* other, size_t bytes) {
    DIR* folder = opendir(path);
    bool found = false;
    for (const struct dirent* e; folder && (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        found = true;
        if (!is_ours(f, e->d_name)) snprintf(other, bytes, "%s/%s", strrchr(path, '/') + 1, e->d_name);
    }
    if (folder) closedir(folder);
    return found;
}

/* Calls `each` for every file that a run may leave, also half written, until one fails. */
static lp_status for_files(lp_ctx* ctx, const run_folder* f, lp_status (*each)(lp_ctx* ctx, const char* path)) {
    const char* const folders[] = {f->final, f->diverged};
    lp_status status = each(ctx, f->metrics);
    if (status == LP_OK) status = each(ctx, f->config);
    for (int i = 0; status == LP_OK && i < 4 * f->count; i++) {
        char* path;
        const char* ending = i / 2 % 2 ? TEMPORARY : "";
        if (asprintf(&path, "%s/%s%s", folders[i % 2], f->files[i / 4], ending) < 0) return LP_NOMEM;
        status = each(ctx, path);
        free(path);
    }
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

lp_status cli_folder_check(lp_ctx* ctx, const run_folder* f, bool overwrite) {
    char other[512] = "";
    struct stat info;
    if (!f->path[0]) return lp_fail(ctx, LP_INVALID, "the name of --output_dir is empty");
    const bool final = look_into(f, f->final, other, sizeof other);
    const bool diverged = look_into(f, f->diverged, other, sizeof other);
    const bool metrics = stat(f->metrics, &info) == 0 && info.st_size > 0;
    if ((final || diverged || metrics) && !overwrite)
        return lp_fail(ctx, LP_INVALID, "%.300s holds a run already: choose another --output_dir, or --overwrite it",
                       f->path);
    if (*other)
        return lp_fail(ctx, LP_INVALID, "%.300s has a file %.300s of another kind of run: choose another --output_dir",
                       f->path, other);
    return for_files(ctx, f, check_regular);
}

/* Makes a file and removes it again, as the one that will be renamed to that name. */
static lp_status probe(lp_ctx* ctx, const char* folder, const char* name) {
    char* path;
    if (asprintf(&path, "%s/%s%s", folder, name, TEMPORARY) < 0) return LP_NOMEM;
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    const int error = errno;
    const lp_status status =
        file >= 0 ? LP_OK : lp_fail(ctx, LP_IO, "%.300s cannot be written: %s", path, strerror(error));
    if (file >= 0) {
        close(file);
        unlink(path);
    }
    free(path);
    return status;
}

/* Makes a folder and tries each file in it. */
static lp_status probe_folder(lp_ctx* ctx, const run_folder* f, const char* folder) {
    lp_status status = lp_make_folder(ctx, folder);
    for (int i = 0; status == LP_OK && i < f->count; i++) status = probe(ctx, folder, f->files[i]);
    return status;
}

lp_status cli_folder_make(lp_ctx* ctx, const run_folder* f) {
    lp_status status = for_files(ctx, f, remove_file);
    if (status == LP_OK) status = probe_folder(ctx, f, f->final);
    if (status == LP_OK) status = probe_folder(ctx, f, f->diverged);
    rmdir(f->diverged); /* there is none unless something is in it */
    if (status == LP_OK) status = lp_append(ctx, f->metrics, "", 0);
    return status == LP_OK || status == LP_NOMEM ? status : lp_fail(ctx, LP_IO, "%s", lp_error(ctx));
}

/* ---- the end of a run ------------------------------------------------------------------------------ */

/* Which of the files are in a folder, with commas in between. It was empty when the run began. */
static void list_files(const run_folder* f, const char* folder, char* to, size_t bytes) {
    size_t at = 0;
    *to = 0;
    for (int i = 0; i < f->count && at < bytes; i++) {
        char path[4096];
        struct stat info;
        snprintf(path, sizeof path, "%s/%s", folder, f->files[i]);
        if (lstat(path, &info) != 0 || !S_ISREG(info.st_mode)) continue;
        at += (size_t)snprintf(to + at, bytes - at, "%s%s", at > 0 ? ", " : "", f->files[i]);
    }
}

/* `said`: what became of the result. */
static lp_status save(lp_ctx* ctx, const run_folder* f, const run_result* r, bool diverged, char* said, size_t bytes) {
    const char* folder = diverged ? f->diverged : f->final;
    char written[256];
    if (!r->what[0]) {
        snprintf(said, bytes, "no step was finished: no %s saved", r->noun);
        return LP_OK;
    }
    if (!cli_all_finite(r->params)) {
        snprintf(said, bytes, "some weights are not finite: no %s saved", r->noun);
        return LP_NONFINITE;
    }
    lp_cancel_clear(ctx);
    lp_status status = lp_make_folder(ctx, folder);
    if (status == LP_OK) status = r->save(r->user, folder);
    if (status == LP_OK) {
        const bool one = f->count == 1;
        snprintf(said, bytes, "%s in %s%s%s", r->what, folder, one ? "/" : "", one ? f->files[0] : "");
        return LP_OK;
    }
    list_files(f, folder, written, sizeof written);
    snprintf(said, bytes, "%s not %ssaved: %s%s%s%s%s", r->what, *written ? "all " : "",
             lp_error(ctx)[0] ? lp_error(ctx) : lp_status_text(status), *written ? "; only " : "", written,
             *written ? " was written to " : "", *written ? folder : "");
    return status == LP_NOMEM ? status : LP_IO;
}

int cli_folder_finish(lp_ctx* ctx, const run_folder* f, const run_result* r, lp_status status) {
    char reason[REASON_BYTES], said[REASON_BYTES];
    cli_reason(ctx, status, reason, sizeof reason);
    const lp_status saved = save(ctx, f, r, status == LP_NONFINITE, said, sizeof said);
    if (status == LP_OK) return cli_say(saved == LP_OK ? EXIT_OK : cli_exit_code(saved), "%s", said);
    return cli_say(cli_exit_code(saved == LP_OK ? status : saved), "%s; %s", reason, said);
}
