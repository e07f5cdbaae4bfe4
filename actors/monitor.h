/*
 * monitor.h - who is told when somebody ends
 *
 * Problem   An actor may end at any moment on any thread while others begin to watch it. Each of them must be
 *           told exactly once, after everything the actor has sent, even when memory is short just then;
 *           and those who are not watched, nearly all, must not pay for it.
 * Idea      A record for each pair, in the list of the watched one and in the list of the watcher, all behind one
 *           lock that is held for a few instructions. Whoever takes a record out decides what it becomes: the
 *           end of the watched (it is told), the end of the watcher, or its demonitor (it is not).
 *
 *           watched  self.watched_by -> [r] -> [r]          by:  next_by, prev_by
 *           watcher  self.watching   -> [r] -> [r]          of:  next_of, prev_of
 *           linked   self.links      -> [half] -> ...       a link is two halves that know each other (tag)
 *
 * Ends once  Watching and ending meet like this, all seq_cst:
 *
 *               watcher (under the lock)              the one that ends (trp_actor_end)
 *               (1) watched.marks |= WATCHED          (3) generation + 1
 *               (2) reads its generation              (4) reads marks; if WATCHED: lock, take all records out
 *
 *           If (2) reads the old generation, (1) comes before (3) in the single order, so (4) sees the mark and
 *           takes the lock; the record is in the list before the lock is free, and is found. If (2) reads the new
 *           one, no record is made and the watcher is told "nobody". There is no third case: one notice.
 *           Who was never watched reads one word at its end.
 *           A cell nobody lives in has the generation that its next actor will have; behavior and THREAD mark
 *           tell the difference.
 * After      Everything the watched one sent was pushed by the thread that had its right to run, and that
 *           same right comes before (3), so the notice is pushed later than any of it. Names are given back before (3).
 * Memory     A record is 60 bytes, in chunks that are kept. The notice is made when it is due. If there is no
 *           memory then, the record, which is taken out already, becomes a debt: it has room for whom, about
 *           whom, reason and code (only the words are lost). A kill that must be certain can be owed as well. Debts are tried again every few milliseconds by
 *           whoever lets time pass (trp_alarms_tend), which needs no memory; so a notice is late, never lost.
 * Place      Watching across nodes: a record's other side will be a link.
 */
#ifndef TRP_MONITOR_H
#define TRP_MONITOR_H

#include <pthread.h>

#include "actors/self.h"

/* In self.marks. */
enum {
    TRP_MARK_WATCHED = 1u << 0, /* somebody watches it, is linked to it, or tried to */
    TRP_MARK_THREAD = 1u << 1,  /* an attached thread lives here */
    TRP_MARK_HELD =
        1u << 2, /* as a sender that waits: written under pressure_lock, see pressure.h */
};

/* What a record is about. */
enum trp_monitor_kind {
    TRP_MONITOR_FREE = 0,
    TRP_MONITOR_DOWN,  /* the watcher gets a troupe_down */
    TRP_MONITOR_CHILD, /* that too; and when the watcher ends, the watched one is killed */
    TRP_MONITOR_LINK,  /* one half of a link: its watcher shares the fate of its watched */
    TRP_MONITOR_FAR, /* as DOWN; the watched lives on another node, and its link's server stands for it here */
    TRP_MONITOR_DUE, /* taken out: somebody is telling, or owes it */
};

struct trp_monitor;

enum { TRP_MONITOR_CHUNK = 1024, TRP_MONITOR_CHUNKS = 1 << 16, TRP_MONITOR_NODES = 1 << 20 };

typedef struct trp_monitors {
    pthread_mutex_t monitors_lock; /* guards everything here, all records and the lists in self.h */
    struct trp_monitor **chunks;   /* [TRP_MONITOR_CHUNKS], from the first monitor on */
    uint32_t n_chunks;
    uint32_t free;  /* 1 + the first free record */
    uint32_t debts; /* 1 + the first record whose notice is owed */
    uint64_t *
        nodes; /* [TRP_MONITOR_NODES], others of which somebody was ever watched: a FAR record's tag - 1 */
    uint32_t n_nodes;
} trp_monitors;

void trp_monitors_init(trp_monitors *monitors);
void trp_monitors_fini(trp_monitors *monitors);

/* Watch `who` for `self`; see troupe_monitor(). The notice carries `tag` as its reply_id. 0 and the error. */
uint64_t trp_monitor_add(troupe_self *self, trp_context *ctx, troupe_ref who,
                         enum trp_monitor_kind kind, uint32_t tag);

/* Watch `who`, of another node, to which `link` leads (NULL: to none). 0 and the error. */
uint64_t trp_monitor_add_far(troupe_self *self, trp_context *ctx, troupe_ref who,
                             struct trp_link *link);
/* One of those has ended: `monitor` is the number that its node was given. */
void trp_monitor_far_down(trp_context *ctx, uint64_t node_id, uint64_t monitor,
                          const trp_farewell *why);

/* The tag with which `self` watches a child; 0: it is none. */
uint32_t trp_monitor_tag(troupe_self *self, trp_context *ctx, troupe_ref child);

/* Kill the child of a TRP_MONITOR_CHILD, unless it has ended. Never fails: without memory it is a debt. */
void trp_monitor_kill(trp_context *ctx, uint64_t monitor);

/* The end of a watcher: forget whom it watches, kill its children. Before its ref goes stale. */
void trp_monitors_undo_slow(troupe_self *self, trp_context *ctx);

static inline void
trp_monitors_undo(troupe_self *self, trp_context *ctx)
{
    if (trp_unlikely(trp_load_relaxed(&self->watching) != 0)) { /* only we add to it */
        trp_monitors_undo_slow(self, ctx);
    }
}

/* The end of somebody, `who` until now, of a behavior called `name`: tell everybody. When its ref has gone
 * stale, before its right to run is given away. */
void trp_monitors_tell_slow(troupe_self *self, trp_context *ctx, troupe_ref who, const char *name,
                            const trp_farewell *why);

static inline void
trp_monitors_tell(troupe_self *self, trp_context *ctx, troupe_ref who, const char *name,
                  const trp_farewell *why)
{
    if (trp_unlikely(trp_load_seq_cst(&self->marks) & TRP_MARK_WATCHED)) { /* (4) */
        trp_monitors_tell_slow(self, ctx, who, name, why);
    }
}

/* Try again what could not be told for lack of memory. By whoever lets time pass. */
void trp_monitors_tend(trp_context *ctx);

#endif
