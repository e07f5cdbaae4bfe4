/*
 * link_heart.h - signs of life of the node at the other end of a link
 *
 * Problem   A process that is stopped, or whose threads all hang, keeps its connections: nobody is told of anything,
 *           and those who wait for its actors wait for ever. But a machine that was suspended, or we ourselves when we were
 *           stopped, must not take everybody else for dead afterwards.
 * Idea      Once a beat each side looks at the link. If it has sent nothing since its last look, it sends a heartbeat, with how far
 *           its scheduler has come; if something has come since, whatever it is, the other is alive.
 *
 *           fine --suspect_ns of silence--> suspect --down_ns--> down: the link is ended, the other is told why
 *            ^---- anything ---------------------'
 *
 * Silence   is not a difference of two times of the clock. It is the sum of what passed between our own looks, of which
 *           none counts for more than two beats: so that while we did not run, nobody was silent. After a pause of our own, however
 *           long, the other has all of its deadline left but two beats, and what it has sent meanwhile is read first.
 * Progress  The number in a heartbeat is twice how many turns the workers of the node have run, plus 1 when something waits
 *           for them. Who sends it is a worker: one that cannot run anything says nothing. An odd number that stays the same is a node whose
 *           workers stand still although one of them looks after its links; that counts as silence.
 * When      Looks are at multiples of a beat by the clock, which is the same for all processes of a host: so that a node looks at all its
 *           links at once, and is awake when the others' heartbeats come.
 * Source    Dadgar, Phillips, Currey, "Lifeguard: Local Health Awareness for More Accurate Failure Detection" (2018), for
 *           distrusting oneself first; docs/design/0027.
 */
#ifndef TRP_LINK_HEART_H
#define TRP_LINK_HEART_H

#include <stdbool.h>
#include <stdint.h>

#include "mailbox/atomic.h"

/* How often a sign of life is sent, and after how much silence the other is suspect, and down. */
typedef struct trp_pulse {
    int64_t beat_ns, suspect_ns, down_ns;
} trp_pulse;

enum trp_health { TRP_HEALTH_FINE, TRP_HEALTH_SUSPECT, TRP_HEALTH_DOWN };

typedef struct trp_heart {
    _Atomic bool
        has_heard; /* since the last look; by whoever receives. Relaxed: looked at once a beat */
    /* under the lock of its link */
    bool has_said;          /* since the last look */
    bool is_mute;           /* the other never promised to beat: its silence means nothing */
    trp_pulse pulse;        /* with which we judge this one */
    int64_t next_ns;        /* when to look next; 0: there is nobody yet */
    int64_t looked_ns;      /* when we last did */
    int64_t silent_ns;      /* how long nothing had come by then, in time that we were there */
    int64_t still_ns;       /* how long its workers had stood still */
    uint64_t progress;      /* what it last said of them */
    enum trp_health health; /* as of the last look */
} trp_heart;

/* What a look has found. */
struct trp_heart_look {
    bool beats;             /* a heartbeat is to be sent */
    bool is_still;          /* it is its workers that count, not silence */
    enum trp_health before; /* at the last look */
    enum trp_health health; /* now */
};

/* The times of a node with this configuration, in milliseconds, 0 where it has the default. */
trp_pulse trp_pulse_of(uint32_t heartbeat_ms, uint32_t suspect_ms, uint32_t down_ms);

/* The other is there, and beats every so many milliseconds; 0: never. */
void trp_heart_begin(trp_heart *heart, trp_pulse ours, uint32_t their_beat_ms, int64_t now_ns);

/* A heartbeat has come, with this number. */
void trp_heart_hear(trp_heart *heart, uint64_t progress);

/* It is next_ns, or later. */
struct trp_heart_look trp_heart_look(trp_heart *heart, int64_t now_ns);

/* What a heartbeat says: so many turns have been run, and something waits. */
static inline uint64_t
trp_progress(uint64_t turns, bool is_waiting)
{
    return turns << 1 | is_waiting;
}

#endif
