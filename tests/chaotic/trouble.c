/*
 * trouble.c - kills, stops and cuts, as a seed has it
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "chaotic/keeper.h"
#include "chaotic/sockets.h"
#include "chaotic/witness.h"

/* One that is stopped now. */
static struct {
    uint32_t life;
    int64_t until_ns;
} stopped[NODES_MAX];

/* One that is to be killed as soon as that. */
static struct {
    uint32_t node; /* 0: nobody */
    int64_t at_ns;
} doomed;

uint32_t
keeper_life_of(uint32_t node)
{
    for (uint32_t n = atomic_load(&witness->n_lives); n-- > 1;) {
        if (atomic_load(&witness->lives[n].node) == node && atomic_load(&witness->lives[n].pid)) {
            return n;
        }
    }
    return 0;
}

/* Is this process a child of ours? Then its number is no other's. */
static bool
is_ours(pid_t pid)
{
    char path[40], line[200];
    bool is_it = false;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        is_it |= strncmp(line, "PPid:", 5) == 0 && atoi(line + 5) == (int)getpid();
    }
    if (file) {
        fclose(file);
    }
    return is_it;
}

/* By its pidfd, so that it is never another process that gets it. */
static bool
signal_life(uint32_t life, int number)
{
    pid_t pid = (pid_t)atomic_load(&witness->lives[life].pid);
    int fd = pid ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
    bool is_done =
        fd >= 0 && is_ours(pid) && syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) == 0;

    if (fd >= 0) {
        close(fd);
    }
    return is_done;
}

static bool
end_life(uint32_t life, int number)
{
    int64_t now = chaos_now();

    if (number == SIGKILL) {
        atomic_store(&witness->lives[life].killed_ns, now);
    } else {
        atomic_store(&witness->lives[life].asked_ns, now);
    }
    if (!signal_life(life, number)) {
        return false;
    }
    witness_event("%s to life %u (node %u)", number == SIGKILL ? "SIGKILL" : "SIGTERM", life,
                  witness->lives[life].node);
    return true;
}

static bool
stop_life(struct trouble *trouble, uint32_t life, int64_t now_ns)
{
    bool is_long = trouble->has_long_stops && draw_below(&trouble->random, 4) == 0;
    int64_t ms = is_long ? 4700 + draw_below(&trouble->random, 3300)
                         : 20 + draw_below(&trouble->random, trouble->has_long_stops ? 3000 : 500);

    for (unsigned i = 0; i < witness->n_nodes; i++) {
        if (stopped[i].life == life) {
            return false;
        }
    }
    for (unsigned i = 0; i < (witness->n_nodes + 1) / 2; i++) {
        if (stopped[i].life == 0) {
            atomic_store(&witness->lives[life].stopped_ns, now_ns);
            if (signal_life(life, SIGSTOP)) {
                stopped[i].life = life;
                stopped[i].until_ns = now_ns + ms * 1000000;
                trouble->n_stops++;
                trouble->n_long_stops += is_long;
                witness_event("SIGSTOP to life %u (node %u) for %d ms", life,
                              witness->lives[life].node, (int)ms);
            }
            return true;
        }
    }
    return false;
}

static void
let_go_on(unsigned i)
{
    signal_life(stopped[i].life, SIGCONT);
    witness_event("SIGCONT to life %u", stopped[i].life);
    stopped[i].life = 0;
}

static void
cut_something(struct trouble *trouble, uint32_t node)
{
    uint32_t kinds = 1 + draw_below(&trouble->random, 3), life = keeper_life_of(node);

    kinds |= draw_below(&trouble->random, 4) == 0 ? CUT_HALF : 0;
    if (life) {
        atomic_store(&witness->lives[life].cut_wanted, kinds);
        trouble->n_cuts++;
    }
}

static void
make_one(struct trouble *trouble, int64_t now_ns)
{
    uint32_t what = draw_below(&trouble->random, 100);
    uint32_t node = 1 + draw_below(&trouble->random, witness->n_nodes);
    uint32_t life = keeper_life_of(node), hermit = keeper_life_of(HERMIT);

    if (what < 25) {
        trouble->n_kills += life && end_life(life, SIGKILL);
    } else if (what < 33) {
        trouble->n_hermit_kills += hermit && end_life(hermit, SIGKILL);
    } else if (what < 41) { /* and its successor, while it is beginning */
        trouble->n_kills += life && end_life(life, SIGKILL);
        doomed.node = node;
        doomed.at_ns = now_ns + (5 + draw_below(&trouble->random, 120)) * INT64_C(1000000);
    } else if (what < 56) {
        if (draw_below(&trouble->random, 4) ==
            0) { /* it is stopped while it heals, or before it has cut */
            cut_something(trouble, node);
        }
        stop_life(trouble, life, now_ns);
    } else if (what < 64) {
        if (draw_below(&trouble->random, 2) == 0) { /* while it parts */
            cut_something(trouble, node);
        }
        trouble->n_asked += life && end_life(life, SIGTERM);
    } else {
        cut_something(trouble, draw_below(&trouble->random, witness->n_nodes + 1));
    }
}

int64_t
trouble_make(struct trouble *trouble, int64_t now_ns)
{
    if (now_ns >= trouble->next_ns) {
        uint32_t ms = trouble->shortest_ms +
                      draw_below(&trouble->random, trouble->longest_ms - trouble->shortest_ms);

        make_one(trouble, now_ns);
        trouble->next_ns = now_ns + (int64_t)ms * 1000000;
    }
    for (unsigned i = 0; i < NODES_MAX; i++) {
        if (stopped[i].life && now_ns >= stopped[i].until_ns) {
            let_go_on(i);
        }
    }
    if (doomed.node && now_ns >= doomed.at_ns) {
        uint32_t life = keeper_life_of(doomed.node);

        trouble->n_kills += !witness->lives[life].killed_ns && end_life(life, SIGKILL);
        doomed.node = 0;
    }
    return trouble->next_ns;
}

void
trouble_end(void)
{
    for (unsigned i = 0; i < NODES_MAX; i++) {
        if (stopped[i].life) {
            let_go_on(i);
        }
    }
    doomed.node = 0;
}
