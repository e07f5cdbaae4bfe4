/*
 * sim_alone.c - a clock, a list of events, and what else the simulated sockets ask for
 */
#include "runtime/sim_alone.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct event {
    int64_t at_ns;
    uint64_t serial; /* those of one time happen in the order made */
    void (*happen)(void *what, uint64_t number);
    void *what;
    uint64_t number;
};

alone_world alone;
trp_sim_process alone_processes[ALONE_PROCESSES] = { { "a", TRP_SIM_PID + 1 },
                                                     { "b", TRP_SIM_PID + 2 },
                                                     { "c", TRP_SIM_PID + 3 } };

static struct event *events;
static unsigned events_room, fds_before;
static uint64_t last_serial;

static unsigned
open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (dir && readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

uint64_t
alone_random(uint64_t n)
{
    alone.random ^= alone.random << 13; /* xorshift64 */
    alone.random ^= alone.random >> 7;
    alone.random ^= alone.random << 17;
    return n ? alone.random % n : 0;
}

void
alone_begin(uint64_t seed)
{
    alone = (alone_world){
        .acting = &alone_processes[0], .latency_ns = ALONE_MS, .now_ns = 1, .random = seed * 2 + 1
    };
    fds_before = open_fds();
}

void
alone_part(int a, int b, bool is_parted)
{
    alone.is_parted[a][b] = alone.is_parted[b][a] = is_parted;
}

/* The next event, if it is due by then. */
static bool
happen_next(int64_t until_ns)
{
    struct event *first = NULL, event;

    for (unsigned i = 0; i < alone.n_events; i++) {
        struct event *at = &events[i];

        if (!first || at->at_ns < first->at_ns ||
            (at->at_ns == first->at_ns && at->serial < first->serial)) {
            first = at;
        }
    }
    if (!first || first->at_ns > until_ns) {
        return false;
    }
    event = *first;
    *first = events[--alone.n_events];
    alone.now_ns = event.at_ns > alone.now_ns ? event.at_ns : alone.now_ns;
    event.happen(event.what, event.number);
    return true;
}

void
alone_run(int64_t ns)
{
    int64_t until = alone.now_ns + ns;

    while (happen_next(until)) {
    }
    alone.now_ns = until;
}

void
alone_run_all(void)
{
    while (happen_next(TRP_NEVER)) {
    }
}

void
alone_end(void)
{
    trp_sim_net_end();
    alone_run_all(); /* events that come too late find nothing */
    free(events);
    events = NULL;
    events_room = 0;
    assert_int_equal(open_fds(), fds_before);
}

/* ---- what the simulated sockets ask for ---- */

trp_sim_process *
trp_sim_acting(void)
{
    return alone.acting;
}

int64_t
trp_sim_clock(void)
{
    return alone.now_ns;
}

uint64_t
trp_sim_choose(uint64_t n)
{
    return alone.chosen == UINT64_MAX ? alone_random(n) : alone.chosen < n ? alone.chosen : n - 1;
}

void
trp_sim_at(int64_t at_ns, void (*happen)(void *what, uint64_t number), void *what, uint64_t number)
{
    if (alone.n_events == events_room) {
        events_room = events_room ? 2 * events_room : 64;
        events = realloc(events, events_room * sizeof *events);
        assert_non_null(events);
    }
    events[alone.n_events++] = (struct event){ at_ns, ++last_serial, happen, what, number };
}

void
trp_sim_note(const char *format, ...)
{
    alone.n_noted++;
}

const char *
trp_sim_name_of(const trp_sim_process *process)
{
    return process->name;
}

pid_t
trp_sim_pid_of(const trp_sim_process *process)
{
    return process->pid;
}

int
trp_sim_fails(const char *call)
{
    if (alone.failing && strcmp(call, alone.failing) == 0) {
        alone.failing = NULL;
        return alone.failure;
    }
    return 0;
}

int64_t
trp_sim_latency(const trp_sim_process *from, const trp_sim_process *to)
{
    return alone.latency_ns + (int64_t)alone_random((uint64_t)alone.jitter_ns);
}

bool
trp_sim_is_parted(const trp_sim_process *a, const trp_sim_process *b)
{
    return alone.is_parted[a - alone_processes][b - alone_processes];
}

int
trp_sim_bell_open(trp_sim_bell *bell)
{
    int theirs;

    bell->is_rung = false;
    bell->ours = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    theirs = bell->ours < 0 ? -1 : fcntl(bell->ours, F_DUPFD_CLOEXEC, 0);
    if (theirs < 0) {
        trp_sim_bell_close(bell);
        return -EMFILE;
    }
    return theirs;
}

void
trp_sim_bell_set(trp_sim_bell *bell, bool is_rung)
{
    uint64_t count = 1;

    if (bell->is_rung != is_rung) {
        bell->is_rung = is_rung;
        assert_int_equal(is_rung ? write(bell->ours, &count, sizeof count)
                                 : read(bell->ours, &count, sizeof count),
                         sizeof count);
    }
}

void
trp_sim_bell_close(trp_sim_bell *bell)
{
    if (bell->ours >= 0) {
        close(bell->ours);
        bell->ours = -1;
    }
}
