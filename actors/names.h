/*
 * names.h - who has which name, and who waits for one
 *
 * Problem   A name must be free before anybody is told that its holder ended; those who wait for a name get
 *           exactly one answer, though registering, the time-out and their own end may come in any order.
 * Idea      One table behind one lock. An entry stands for a name that somebody has, or that somebody waits for.
 *           The names of an actor are also in a list of its own, so that its end finds them.
 *           A wait is an alarm (alarms.h) that holds the answer "nobody", as an ask is; its number is the
 *           request. Whoever takes the alarm out decides: the one that registers the name fills in who it is
 *           and posts the answer, time posts it as it is, the asker's end throws it away.
 *
 *           entry "shop" {who}  --> waiting: request, request, ...        (only while nobody has it)
 *
 * Order     names_lock, then alarms_lock: a wait is entered together with its alarm, so that the alarm cannot end
 *           it before it is there. Nobody takes them the other way round.
 */
#ifndef TRP_NAMES_H
#define TRP_NAMES_H

#include <pthread.h>

#include "actors/self.h"

typedef struct trp_name trp_name;

typedef struct trp_names {
    pthread_mutex_t names_lock; /* guards everything here and all entries */
    trp_name **buckets;         /* a power of two of them, from the first name on */
    uint32_t n_buckets, n_names;
} trp_names;

void trp_names_init(trp_names *names);
void trp_names_fini(trp_names *names);

/* Give all names of an actor back: at its end, before its ref goes stale. */
void trp_names_undo_slow(troupe_self *self, trp_context *ctx);

static inline void
trp_names_undo(troupe_self *self, trp_context *ctx)
{
    if (trp_unlikely(self->names != NULL)) { /* ours alone */
        trp_names_undo_slow(self, ctx);
    }
}

/* A wait is over, by time or because its asker undoes it: its alarm has been taken out, and held `found`. */
void trp_names_forget(trp_context *ctx, const troupe_msg *found);

#endif
