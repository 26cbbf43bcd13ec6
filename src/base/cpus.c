/* How many threads this process may run at once. */
#include "base/ctx.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The start of a small text file, terminated; false if it cannot be read. No failure is recorded: a
 * system without control groups is no error. */
static bool read_text(const lp_io* io, const char* path, char* text, size_t capacity) {
    int fd;
    do {
        fd = io->open(io->user, path, O_RDONLY, 0);
    } while (fd == -EINTR);
    if (fd < 0) return false;
    size_t length = 0;
    while (length < capacity - 1) {
        int64_t got =
            io->pread(io->user, fd, text + length, capacity - 1 - length, (int64_t)length);
        if (got == -EINTR) continue;
        if (got <= 0) break;
        length += (size_t)got;
    }
    io->close(io->user, fd);
    text[length] = 0;
    return length > 0;
}

/* ceil(quota / period), or 0 for no limit. */
static int cpus_of(long long quota, long long period) {
    if (quota <= 0 || period <= 0) return 0;
    long long cpus = quota / period + (quota % period != 0);
    return cpus < LP__MAX_THREADS ? (int)cpus : LP__MAX_THREADS;
}

/* The quota of one group: "QUOTA PERIOD" or "max PERIOD" in cpu.max (version 2), two files in
 * version 1. */
static int group_quota(const lp_io* io, const char* root, const char* group, int version) {
    char path[1024], text[64];
    long long quota = 0, period = 0;
    if (version == 2) {
        snprintf(path, sizeof path, "%s%s/cpu.max", root, group);
        if (!read_text(io, path, text, sizeof text)) return 0;
        return sscanf(text, "%lld %lld", &quota, &period) == 2 ? cpus_of(quota, period) : 0;
    }
    snprintf(path, sizeof path, "%s%s/cpu.cfs_quota_us", root, group);
    if (!read_text(io, path, text, sizeof text)) return 0;
    quota = strtoll(text, NULL, 10);
    snprintf(path, sizeof path, "%s%s/cpu.cfs_period_us", root, group);
    if (!read_text(io, path, text, sizeof text)) return 0;
    period = strtoll(text, NULL, 10);
    return cpus_of(quota, period);
}

/* The least quota of a group and of all that contain it. In a container the path is often not
 * visible, and the root of the mount is the container's own group: the walk ends there. */
static int quota_upwards(const lp_io* io, const char* root, char* group, int version) {
    int least = 0;
    for (;;) {
        int cpus = group_quota(io, root, group, version);
        if (cpus && (!least || cpus < least)) least = cpus;
        char* slash = strrchr(group, '/');
        if (!slash) return least;
        *slash = 0;
    }
}

/* Whether the comma-separated list names the controller "cpu". */
static bool names_cpu(const char* list) {
    for (const char* at = list; at; at = strchr(at, ','), at = at ? at + 1 : NULL) {
        if (strncmp(at, "cpu", 3) == 0 && (at[3] == 0 || at[3] == ',')) return true;
    }
    return false;
}

/* Lines of /proc/self/cgroup are "id:controllers:path"; version 2 has no controllers. 0: no limit.
 */
static int cgroup_cpus(const lp_io* io) {
    char text[4096], root[256];
    if (!read_text(io, "/proc/self/cgroup", text, sizeof text)) return 0;
    int least = 0;
    char* rest = NULL;
    for (char* line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char* list = strchr(line, ':');
        char* group = list ? strchr(list + 1, ':') : NULL;
        if (!group) continue;
        *group++ = 0;
        list++;
        size_t length = strlen(group);
        if (length && group[length - 1] == '/') group[length - 1] = 0;
        int cpus = 0;
        if (!*list) {
            cpus = quota_upwards(io, "/sys/fs/cgroup", group, 2);
        } else if (names_cpu(list)) {
            snprintf(root, sizeof root, "/sys/fs/cgroup/%s", list);
            cpus = quota_upwards(io, root, group, 1);
        }
        if (cpus && (!least || cpus < least)) least = cpus;
    }
    return least;
}

static int affinity_cpus(void) {
    /* Room for 8192 processors; the kernel refuses a mask that is smaller than its own. */
    cpu_set_t mask[8];
    memset(mask, 0, sizeof mask);
    if (sched_getaffinity(0, sizeof mask, mask)) return 1;
    return CPU_COUNT_S(sizeof mask, mask);
}

int lp__cpu_count(const lp_io* io) {
    int cpus = affinity_cpus();
    int quota = cgroup_cpus(io);
    if (quota && quota < cpus) cpus = quota;
    return LP__MAX(1, LP__MIN(cpus, LP__MAX_THREADS));
}
