/*
 * cpus.c - how many workers make sense: the CPUs we may run on, and the time we may use of them
 */
#include <sched.h>
#include <stdio.h>
#include <string.h>
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
static unsigned
cpus_of_cgroup(const char *path)
{
    unsigned long quota, period;
    FILE *file = fopen(path, "re");
    int fields;

    if (!file) {
        return 0;
    }
    fields = fscanf(file, "%lu %lu", &quota, &period);
    fclose(file);
    if (fields != 2 || period == 0) {
        return 0;
    }
    return (unsigned)((quota + period - 1) / period);
}

/* The strictest quota from our own cgroup (version 2) up to the root. */
static unsigned
cpus_by_quota(void)
{
    char line[512], path[600];
    unsigned least = 0;
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
            unsigned cpus;

            if (*end != '/' && *end != '\0') {
                continue;
            }
            *end = '\0';
            snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", line + 3);
            cpus = cpus_of_cgroup(path);
            if (cpus > 0 && (least == 0 || cpus < least)) {
                least = cpus;
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
    unsigned cpus = cpus_by_affinity(), quota = cpus_by_quota();

    if (quota > 0 && quota < cpus) {
        cpus = quota;
    }
    return cpus > 0 ? cpus : 1;
}
