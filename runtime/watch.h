/*
 * watch.h - descriptors that somebody waits for
 *
 * Problem   An actor wants to know when a descriptor is ready, without a thread of its own, without being
 *           told a thousand times, and never about another descriptor that has got the same number since.
 * Idea      A table by descriptor number behind one lock. Each watch has a stamp that is never used
 *           again; the kernel keeps it beside the number, the notice carries it, and whoever acts on either
 *           compares it with the table. In the kernel a watch fires once (EPOLLONESHOT) and is armed again
 *           when its owner is done with the notice, so there is one notice at a time, and a
 *           descriptor that is still ready fires again: level-triggered, never a flood.
 *
 *           ARMED --ready--> TOLD --owner is done--> ARMED
 *             |                `--no memory--> STARVED --10 ms later--> told again
 *             `--sent away in a message--> AWAY --send refused--> ARMED
 *
 * Always    I1  at most one notice of a watch is on its way.
 *           I2  what is registered in the kernel under a number has the stamp in the table, or its readiness
 *               is thrown away: once, for it is then disarmed.
 *           I3  nothing of troupe's is called and nothing is posted with the lock held.
 * Not here  What a notice is: the watcher's `ready` function (actors/watch.c, signals.c, child_exit.c). Who
 *           waits in the kernel: poller.c.
 */
#ifndef TRP_WATCH_H
#define TRP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include <troupe/base.h>

#include "mailbox/atomic.h"
#include "runtime/fair.h"

typedef struct trp_context trp_context;
typedef struct trp_runtime trp_runtime;

/* The descriptor is ready: make a notice for `to`. False: no memory, ask again later. By the poller. */
typedef bool (*trp_watch_fn)(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp,
                             uint32_t events);

/* The watches of one owner: 1 + the first descriptor. Under watch_lock. */
typedef uint32_t trp_watch_list;

struct trp_watch;

typedef struct trp_watches {
    trp_fair watch_lock;       /* guards everything here and the owners' lists */
    struct trp_watch **chunks; /* by descriptor; mapped at the first watch */
    uint32_t last_stamp;
    uint32_t starved;         /* 1 + the first descriptor whose notice found no memory */
    _Atomic uint32_t count;   /* 0: nobody needs to poll. A hint for workers */
    _Atomic int64_t retry_ns; /* when to try again for the starved; TRP_NEVER: there are none */
} trp_watches;

/* Who watches what, and how to tell. */
struct trp_watcher {
    trp_watch_list *list; /* the owner's; stays where it is until trp_watches_drop() */
    troupe_ref to;
    trp_watch_fn ready;
};

void trp_watches_init(trp_watches *watches);
void trp_watches_fini(trp_watches *watches);

/* Watch `fd` for `wanted` (TROUPE_READABLE, TROUPE_WRITABLE); again: change what for. 0; -EBUSY: *ret_owner watches
 * it; or what the kernel says: -EBADF, -EPERM, -ENOSPC, -ENOMEM. No error text is set. */
int trp_watch_set(trp_runtime *rt, struct trp_watcher watcher, int fd, uint32_t wanted,
                  troupe_ref *ret_owner);
/* No more. -ENOENT: `list` has no such watch. */
int trp_watch_end(trp_runtime *rt, trp_watch_list *list, int fd);
/* All of an owner's. */
void trp_watches_drop(trp_runtime *rt, trp_watch_list *list);

/* Is this notice still about what is watched? Asked by the owner before it acts on one. */
bool trp_watch_is_current(trp_runtime *rt, int fd, uint32_t stamp, uint32_t events);
/* The owner is done with a notice: arm the watch again, if it is still the same. Any thread. */
void trp_watch_again(trp_runtime *rt, int fd, uint32_t stamp);

/* The descriptor goes away in a message: whoever watches it does so no more. And it was not sent after all. */
void trp_watch_away(trp_runtime *rt, int fd);
void trp_watch_back(trp_runtime *rt, int fd);

/* What the kernel said, by the poller: `data` as registered. */
void trp_watch_tell(trp_context *ctx, uint64_t data, uint32_t epoll_events);
/* Tell those for whom there was no memory. */
void trp_watches_retry(trp_context *ctx, int64_t now_ns);

#endif
