/*
 * wheel.h - timers by the million: add and cancel in constant time
 *
 * Problem   Every ask has a deadline and nearly every one is cancelled again, so adding and cancelling
 *           must cost next to nothing. A sleeping node must know when to wake without looking at all
 *           of them, and a long sleep must not be paid for tick by tick.
 * Idea      Varghese and Lauck's hierarchical wheel, with a nanosecond as the tick and a radix of 64:
 *           a deadline and the current time, written in base 64, first differ in some digit; that
 *           digit's position is the timer's level and its value the slot. As time enters a slot,
 *           the timers in it agree with the time in one more digit and move to lower levels, until no
 *           digit differs: then they are due.
 *
 *           time      0 . 0 . 3 .17        deadline 0 . 0 . 3 .42  -> level 0, slot 42
 *                                          deadline 0 . 0 . 9 . 5  -> level 1, slot 9
 *
 * Cost      Add, cancel: constant. Next wake-up: constant. Advance: constant for any gap in which
 *           nothing is due, and otherwise a move per level for each timer, at most 10 in its life
 *           (a timer alone in its slot moves once). 11 KiB per wheel, 32 bytes per timer, no
 *           allocation. One bit a slot and one a level say what is occupied.
 *
 * Always    I1  A pending timer's level and slot follow from its deadline and the wheel's time alone.
 *               So timers of equal deadline share a list at all times, in the order they were added.
 *           I2  Slots in use come after the time's own digit on their level (on level 0: not before
 *               it), and a lower level comes before a higher one. So the lowest bit of the lowest
 *               level in use is the earliest slot, and no index ever wraps.
 *           I3  slot.earliest_ns is at or before every deadline in the slot; exact unless the earliest
 *               was cancelled.
 *           Therefore timers never expire early, and with a caller that advances in time not late
 *           either: there is no rounding, and expiry is in deadline order by itself.
 * Not here  The clock and the lock: the caller gives the time and sees to it that calls come one at a
 *           time. That makes the same wheel serve the simulator's virtual time.
 * Source    G. Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987, scheme 7;
 *           placing by the first differing digit as in a radix heap (Ahuja et al., JACM 1990).
 *           Tested against a sorted list by tests/runtime/test_wheel.c.
 */
#ifndef TRP_WHEEL_H
#define TRP_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TRP_WHEEL_BITS = 6,                    /* of time in a level ... */
    TRP_WHEEL_SLOTS = 1 << TRP_WHEEL_BITS, /* ... so that a word has a bit for each of its slots */
    TRP_WHEEL_LEVELS = 11,                 /* 66 bits: every int64_t */
};

/* Embedded in what has a deadline. All zero is a timer at rest. */
typedef struct trp_timer {
    struct trp_timer *next, *prev; /* ring of one slot's timers */
    int64_t deadline_ns;           /* as given to trp_wheel_add */
    uint32_t place;                /* which slot, counted from 1; 0: not pending */
} trp_timer;

struct trp_wheel_slot {
    trp_timer *first;    /* its `prev` is the last */
    int64_t earliest_ns; /* I3; meaningless when empty */
};

typedef struct trp_wheel {
    int64_t now_ns;    /* the time it was advanced to */
    uint64_t count;    /* pending timers */
    uint32_t occupied; /* bit l: level l has timers */
    uint64_t slots_occupied[TRP_WHEEL_LEVELS];
    struct trp_wheel_slot slots[TRP_WHEEL_LEVELS * TRP_WHEEL_SLOTS];
    struct trp_wheel_slot expired; /* due, and not yet popped */
} trp_wheel;

/* An empty wheel at `now_ns`, which is not negative. */
void trp_wheel_init(trp_wheel *wheel, int64_t now_ns);

/* Let `timer`, which is not pending, expire at `deadline_ns`. A deadline that is not in the future
 * counts as now: it expires in the next advance. INT64_MAX is as good as never. The wheel refers to
 * the timer until it is popped or cancelled. */
void trp_wheel_add(trp_wheel *wheel, trp_timer *timer, int64_t deadline_ns);

/* Forget `timer`. True: it was pending, also when it is due but was not popped; the wheel no longer
 * refers to it. False: it was not pending. */
bool trp_wheel_cancel(trp_wheel *wheel, trp_timer *timer);

/* Time passes; what is due by `now_ns` waits for trp_wheel_pop. An earlier time than before is taken
 * for the same. */
void trp_wheel_advance(trp_wheel *wheel, int64_t now_ns);

/* The next expired timer, by deadline and among equal ones in the order they were added, no longer
 * pending; NULL: that was the last. In between, timers may be added and cancelled at will; those
 * added wait for another advance, so the loop ends. */
trp_timer *trp_wheel_pop(trp_wheel *wheel);

/* When to advance next: INT64_MAX when nothing is pending. Exact, except that a cancelled timer may
 * cause one call too early. */
int64_t trp_wheel_next_ns(const trp_wheel *wheel);

static inline uint64_t
trp_wheel_count(const trp_wheel *wheel)
{
    return wheel->count;
}

static inline bool
trp_timer_is_pending(const trp_timer *timer)
{
    return timer->place != 0;
}

#endif
