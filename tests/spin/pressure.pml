/*
 * pressure.pml - actors that send to each other in a circle, with full mailboxes
 *
 * After actors/pressure.h, which has the argument, and pressure.c. A sender that has filled its receiver's mailbox is held
 * after its handler, if, looked at under the lock, (a) it is not at its own limit, (b) the receiver is above its low mark
 * and not parked, and (c) the receiver is not itself held. The receiver takes off what it has handled at the end
 * of a turn, and then looks whether anybody waits. Whoever fills the mailbox of one that is held releases it.
 *
 * Actor 0 begins with balls. Each that is passed on becomes FAN of them, as often as it has hops; so the load of all
 * mailboxes grows over the limit.
 *
 * Holds     asserts  when nobody can go on any more, everything has been handled and nobody is held; a load never is
 *                    less than nothing; and nobody is held who is at its own limit
 *           served   that comes (weak fairness)
 * Planted   NO_LOOK         a holder does not look at the receiver again after it said that it waits (b)
 *           LOOKS_FIRST     a receiver looks whether somebody waits before it takes off: the fence of (1) is missing
 *           NO_CIRCLE_RULE  rule (c) is left out
 *           NO_OWN_LIMIT    rule (a) is left out
 *           NO_RELEASE      who fills the mailbox of one that is held does not let it go
 */
#ifdef THREE
#define ACTORS 3
#else
#define ACTORS 2
#endif
#ifndef BALLS
#define BALLS 2
#endif
#ifndef HOPS
#define HOPS 2
#endif
#define FAN   2
#define LIMIT 3
#define LOW   1

#define NEXT(i) ((i + 1) % ACTORS)

byte queued0[ACTORS], queued1[ACTORS], queued2[ACTORS]; /* balls with so many hops left */
byte load[ACTORS];
bool parked[ACTORS];
bool waited[ACTORS];
bool held[ACTORS];     /* HELD; written under the lock */
bool runnable[ACTORS];
bool locked;
bool filling[ACTORS];  /* its sender has added to its load, and not yet looked whether it is held */
byte left = BALLS;     /* that are not handled */

#define EMPTY(i) (queued0[i] == 0 && queued1[i] == 0 && queued2[i] == 0)

inline lock() { atomic { !locked -> locked = true } }
inline unlock() { locked = false }

inline let_go(who) /* under the lock */
{
    atomic {
        if
        :: held[who] -> held[who] = false; assert(!runnable[who]); runnable[who] = true
        :: else
        fi
    }
}

/* One that is at its own limit runs. While the lock is taken somebody may be about to decide that. */
inline check_bound(who)
{
    assert(locked || filling[who] || !held[who] || load[who] < LIMIT)
}

inline send(hops) /* trp_post_user: the load first, then the push */
{
    atomic { load[NEXT(me)]++; filling[NEXT(me)] = true };
    fills = (load[NEXT(me)] >= LIMIT);
    if
    :: fills ->
        /* fence (3) */
#ifndef NO_RELEASE
        if
        :: held[NEXT(me)] -> lock(); let_go(NEXT(me)); unlock()
        :: else
        fi;
#endif
        wants_hold = true
    :: else
    fi;
    atomic {
        filling[NEXT(me)] = false;
        check_bound(NEXT(me));
        if
        :: hops == 0 -> queued0[NEXT(me)]++
        :: hops == 1 -> queued1[NEXT(me)]++
        fi;
        if
        :: parked[NEXT(me)] -> parked[NEXT(me)] = false; runnable[NEXT(me)] = true
        :: else
        fi;
        fills = false
    }
}

inline take_off()
{
    if
    :: drained > 0 ->
#ifdef LOOKS_FIRST
        seen = waited[me];
        load[me] = load[me] - drained;
#else
        atomic {
            assert(load[me] >= drained);
            load[me] = load[me] - drained
        };
        /* fence (1) */
        seen = waited[me];
#endif
        drained = 0;
        if
        :: seen && load[me] <= LOW -> /* trp_pressure_drained */
            lock();
            waited[me] = false;
            /* who waits for us, and no other: the one before us */
            let_go((me + ACTORS - 1) % ACTORS);
            unlock()
        :: else
        fi;
        seen = false
    :: else
    fi
}

inline hold() /* trp_pressure_hold */
{
    lock();
    held[me] = true;
    waited[NEXT(me)] = true;
    /* fence (1)(3) */
    enters = true;
#ifndef NO_LOOK
    if
    :: load[NEXT(me)] <= LOW || parked[NEXT(me)] -> enters = false
    :: else
    fi;
#endif
#ifndef NO_CIRCLE_RULE
    if
    :: held[NEXT(me)] -> enters = false
    :: else
    fi;
#endif
#ifndef NO_OWN_LIMIT
    if
    :: load[me] >= LIMIT -> enters = false
    :: else
    fi;
#endif
    if
    :: !enters -> held[me] = false
    :: else
    fi;
    atomic { unlock(); check_bound(me) }
}

proctype actor(byte me)
{
    bool fills, wants_hold, seen, enters;
    byte drained, hops;

end_idle:
    atomic { runnable[me] -> runnable[me] = false };
turn:
    if
    :: wants_hold ->
        wants_hold = false;
        take_off();
        hold();
        if
        :: enters -> enters = false; goto end_idle
        :: else
        fi
    :: else
    fi;
    atomic {
        if
        :: queued2[me] > 0 -> queued2[me]--; hops = 2
        :: queued1[me] > 0 -> queued1[me]--; hops = 1
        :: queued0[me] > 0 -> queued0[me]--; hops = 0
        :: EMPTY(me) -> goto rest
        fi;
        drained++;
        left = left - 1 + (hops > 0 -> FAN : 0)
    };
    if
    :: hops > 0 -> send(hops - 1); send(hops - 1)
    :: else
    fi;
    hops = 0;
    goto turn;
rest:
    take_off();
    atomic { /* trp_mailbox_park */
        if
        :: EMPTY(me) -> parked[me] = true; goto end_idle
        :: else -> goto turn
        fi
    }
}

proctype judge()
{
    byte i;

    timeout ->
    assert(left == 0);
    i = 0;
    do
    :: i < ACTORS -> assert(!held[i] && load[i] == 0 && parked[i]); i++
    :: else -> break
    od
}

init {
    atomic {
        queued2[0] = BALLS;
        load[0] = BALLS;
        runnable[0] = true;
        parked[1] = true;
#ifdef THREE
        parked[2] = true;
        run actor(2);
#endif
        run actor(0);
        run actor(1);
        run judge()
    }
}

ltl served { <> (left == 0) }
