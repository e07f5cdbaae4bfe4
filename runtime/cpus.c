/*
 * cpus.c - what this process may use: the CPUs we may run on and the time we may use of them, which say how many workers
 * make sense; and memory, which says how much of it messages may take
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/world.h"

/* CPUs in our affinity mask; also right on machines with more than CPU_SETSIZE of them. */
static unsigned
cpus_by_affinity(void)
{
    cpu_set_t set;
    long online;

    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        return (unsigned)CPU_COUNT(&set);
    }
    online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

/* Whole CPUs that a cgroup's cpu.max ("quota period" or "max period") allows; 0: no limit. */
static uint64_t
cpus_of_cgroup(FILE *file)
{
    unsigned long quota, period;

    return fscanf(file, "%lu %lu", &quota, &period) == 2 && period > 0
               ? (quota + period - 1) / period
               : 0;
}

/* Bytes that a cgroup's memory.max (a number or "max") allows; 0: no limit. */
static uint64_t
memory_of_cgroup(FILE *file)
{
    unsigned long long bytes;

    return fscanf(file, "%llu", &bytes) == 1 ? bytes : 0;
}

/* What `name` says in the directory of one cgroup; 0: nothing. */
static uint64_t
read_limit(const char *cgroup, const char *name, uint64_t (*read)(FILE *file))
{
    char path[600];
    uint64_t limit;
    FILE *file;

    snprintf(path, sizeof path, "/sys/fs/cgroup%s/%s", cgroup, name);
    file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    limit = read(file);
    fclose(file);
    return limit;
}

/* The strictest limit from our own cgroup (version 2) up to the root; 0: none. */
static uint64_t
limit_by_cgroup(const char *name, uint64_t (*read)(FILE *file))
{
    char line[512];
    uint64_t least = 0;
    FILE *file = fopen("/proc/self/cgroup", "re");

    if (!file) {
        return 0;
    }
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::", 3) != 0) {
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        for (char *end = line + strlen(line); end >= line + 3; end--) {
            uint64_t limit;

            if (*end != '/' && *end != '\0') {
                continue;
            }
            *end = '\0';
            limit = read_limit(line + 3, name, read);
            if (limit > 0 && (least == 0 || limit < least)) {
                least = limit;
            }
        }
        break;
    }
    fclose(file);
    return least;
}

unsigned
trp_cpus_available(void)
{
    unsigned cpus = cpus_by_affinity();
    uint64_t quota = limit_by_cgroup("cpu.max", cpus_of_cgroup);

    if (quota > 0 && quota < cpus) {
        cpus = (unsigned)quota;
    }
    return cpus > 0 ? cpus : 1;
}

uint64_t
trp_memory_available(void)
{
    uint64_t cgroup = limit_by_cgroup("memory.max", memory_of_cgroup);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t least = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT32_MAX;
    struct rlimit space;

    if (cgroup > 0 && cgroup < least) {
        least = cgroup;
    }
    if (getrlimit(RLIMIT_AS, &space) == 0 && space.rlim_cur != RLIM_INFINITY &&
        space.rlim_cur < least) {
        least = space.rlim_cur;
    }
    return least;
}
