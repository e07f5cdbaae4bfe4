/*
 * report.h - in words: who would not end, what it was doing, and what was lost
 *
 * What troupe_stop() says when it does not return 0. Each list names a few and counts the rest: an error is a
 * sentence. Actors of supervisors are looked at when nobody runs any more; handlers that run, senders that are held and
 * threads may be looked at always.
 */
#ifndef TRP_REPORT_H
#define TRP_REPORT_H

#include "actors/self.h"

enum { TRP_REPORT_NAMED = 3, TRP_REPORT_SIZE = 480 };

/* A list in words. */
typedef struct trp_report {
    char text[TRP_REPORT_SIZE]; /* "" at first */
    size_t used;
    unsigned n; /* things listed, the unnamed ones as well */
} trp_report;

/* One more thing, behind ", ". True: it is to be named, by trp_report_say(). */
bool trp_report_next(trp_report *report);
void trp_report_say(trp_report *report, const char *format, ...) TROUPE_PRINTF(2, 3);
/* "and so many more", when some were not named. */
void trp_report_close(trp_report *report);

/* Handlers that have not returned, since the stop began at `began_ns` or longer, and senders that are held. */
void trp_report_stuck(trp_report *report, trp_runtime *rt, int64_t began_ns);
/* Attached threads other than `self`. */
void trp_report_threads(trp_report *report, trp_runtime *rt, const troupe_self *self);
/* Whom the roots of trees still wait for. Only when nobody runs any more. */
void trp_report_trees(trp_report *report, trp_runtime *rt);

/* User messages by type that ended as dead letters for `reason`, less those in `before` (by type index; NULL: none).
 * Returns how many in all. */
uint64_t trp_report_lost(trp_report *report, trp_runtime *rt, const uint64_t *before);
/* What trp_report_lost() is to take off: dead letters for actors that had ended. trp_free() it; NULL: no memory. */
uint64_t *trp_report_lost_before(trp_runtime *rt);

/* A child has not retired in its time, and is killed now: on standard error, or in what the node's stop says. */
void trp_report_late_child(const troupe_self *supervisor, troupe_ref child, const char *name,
                           int64_t timeout_ms);

#endif
