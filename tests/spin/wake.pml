/*
 * wake.pml - workers that fall asleep, and those who have something for them
 *
 * After runtime/schedule.h, worker.c (sleep_until_called, search), poller.h and poller.c. A worker announces that it
 * sleeps, looks once more, and sleeps: with the poller's token in the poll, else on its parker. Whoever pushes a
 * task looks afterwards who sleeps, and calls one, unless somebody is searching. Whoever sets an alarm looks how long
 * the one who polls means to sleep, and hurries it.
 *
 * A step here is one that others can see; the fences are what keeps two steps in the order written. So a fence that
 * is missing is two steps the other way around.
 *
 * Bounds    two workers; two tasks, one after the other, or as many as TASKS says; with ALARM one task and one alarm.
 * Holds     asserts  one polls at a time; when all sleep, one of them is in the poll or has been called; and when
 *                    nobody can do anything any more, every task has been run and every alarm met
 *           served   that comes (weak fairness)
 * Planted   LOOKS_FIRST     a sleeper looks, and announces itself after: its fence is missing
 *           NO_LOOK         it announces itself and sleeps
 *           PUSHES_LATE     the waker's fence is missing: it looks who sleeps before its task can be seen
 *           TOKEN_LOST      a parker keeps no token for one who is about to wait
 *           SIGNAL_LOST     the eventfd keeps no signal for one who is about to poll
 *           KEEPS_TOKEN     the poller's token is not given back
 *           HURRIES_FIRST   an alarm looks at the sleeper before it can be seen
 */
#define WORKERS 2
#ifdef ALARM
#define TASKS  1
#define ALARMS 1
#else
#ifndef TASKS
#define TASKS 2
#endif
#define ALARMS 0
#endif
#define NOBODY  WORKERS

byte count;             /* of the shared queue */
byte n_sleeping;
byte n_searching;
bool listed[WORKERS];   /* in the list of sleepers */
bool in_poll[WORKERS];  /* asleep_in_poll: how to wake it */
bool token[WORKERS];    /* of its parker */
bool asleep[WORKERS];   /* in the kernel */
bool polling[WORKERS];
byte holder = NOBODY;   /* of the poller's token */
bool event;             /* wake_fd */
bool announced;         /* until_ns: the holder means to sleep for ever */
bool alarm_set;         /* next_ns */
byte n_run, n_met;

#define ALL_ASLEEP (asleep[0] && asleep[1])
#define ANY_POLL   (polling[0] || polling[1])
#define ANY_TOKEN  (token[0] || token[1])

inline call_one() /* trp_wake_one, behind its fence */
{
    if
    :: n_searching > 0 || n_sleeping == 0 -> skip
    :: else ->
        atomic { /* under sleepers_lock */
            if
            :: listed[0] -> called = 0
            :: listed[1] -> called = 1
            :: !listed[0] && !listed[1] -> called = NOBODY
            fi;
            if
            :: called != NOBODY -> listed[called] = false; n_sleeping--
            :: else
            fi
        };
        if
        :: called != NOBODY && in_poll[called] ->
#ifdef SIGNAL_LOST
            if
            :: ANY_POLL -> event = true
            :: else
            fi
#else
            event = true
#endif
        :: called != NOBODY && !in_poll[called] ->
#ifdef TOKEN_LOST
            if
            :: asleep[called] -> token[called] = true
            :: else
            fi
#else
            token[called] = true
#endif
        :: else
        fi
    fi;
    called = NOBODY
}

inline take() /* grab_shared: under shared_lock */
{
    atomic {
        if
        :: count > 0 -> count--; n_run++; found = true
        :: else -> found = false
        fi
    }
}

inline meet_alarm()
{
    atomic {
        if
        :: alarm_set -> alarm_set = false; n_met++
        :: else
        fi
    }
}

inline enter_list()
{
    atomic {
        listed[me] = true;
        n_sleeping++
    }
}

inline sleep_in_poll() /* trp_poller_sleep */
{
    announced = true;
    /* fence (1) of poller.h */
    if
    :: count > 0
    :: else ->
#ifdef ALARM
        due = alarm_set; /* until = next_ns */
        if
        :: due -> announced = false
        :: else
        fi;
#endif
        atomic {
            assert(!ANY_POLL);
            polling[me] = true;
            asleep[me] = true;
            assert(!ALL_ASLEEP || ANY_POLL || ANY_TOKEN)
        };
end_poll:
        atomic {
            (event || due) -> /* a signal; or time passes until the alarm is due */
            polling[me] = false;
            asleep[me] = false
        }
    fi;
    announced = false;
    event = false
}

inline sleep_on_parker() /* real_rest */
{
    atomic {
        asleep[me] = !token[me];
        assert(!ALL_ASLEEP || ANY_POLL || ANY_TOKEN)
    };
end_rest:
    atomic {
        token[me] ->
        token[me] = false;
        asleep[me] = false
    }
}

proctype worker(byte me)
{
    bool found, polls, due;
    byte called = NOBODY;

again:
    take();
    if
    :: found -> goto again
    :: else
    fi;
    /* search, if not too many do */
    if
    :: n_searching <= WORKERS / 2 ->
        n_searching++;
        take();
        n_searching--;
        if
        :: found && count > 0 -> call_one()
        :: else
        fi
    :: else
    fi;
    if
    :: found -> goto again
    :: else
    fi;
    atomic { /* trp_poller_take */
        polls = (holder == NOBODY);
        if
        :: polls -> holder = me
        :: else
        fi;
        in_poll[me] = polls /* nobody sees it yet */
    };
#ifdef LOOKS_FIRST
    found = (count > 0);
    enter_list();
#else
    enter_list();
    /* the sleeper's fence */
    found = (count > 0);
#endif
#ifdef NO_LOOK
    found = false;
#endif
    if
    :: found
    :: !found && polls -> sleep_in_poll()
    :: !found && !polls -> sleep_on_parker()
    fi;
    atomic { /* leave_sleepers */
        if
        :: listed[me] -> listed[me] = false; n_sleeping--
        :: else
        fi;
        in_poll[me] = false
    };
    atomic {
#ifndef KEEPS_TOKEN
        if
        :: polls -> holder = NOBODY
        :: else
        fi;
#endif
        found = false; polls = false; due = false
    };
#ifdef ALARM
    meet_alarm();
#endif
    goto again
}

proctype pusher()
{
    byte i = 0, called = NOBODY;
    bool must;

    do
    :: i < TASKS ->
        i++;
#ifdef PUSHES_LATE
        must = (n_sleeping == WORKERS);
        count++;
        if
        :: must -> call_one()
        :: else
        fi;
#else
        count++;
        /* fence */
        must = (n_sleeping == WORKERS);
        if
        :: must -> call_one()
        :: !must -> call_one() /* when what waits is worth it */
        :: !must
        fi;
#endif
        must = false
    :: else -> break
    od
}

proctype timer()
{
    bool must;

#ifdef HURRIES_FIRST
    must = announced;
    alarm_set = true;
#else
    alarm_set = true;
    /* fence (2) of poller.h */
    must = announced;
#endif
    if
    :: must -> event = true
    :: else
    fi
}

/* Everybody sleeps for ever. */
proctype judge()
{
    timeout ->
    assert(n_run == TASKS && n_met == ALARMS)
}

init {
    atomic {
        run worker(0);
        run worker(1);
        run pusher();
#ifdef ALARM
        run timer();
#endif
        run judge()
    }
}

ltl served { <> (n_run == TASKS && n_met == ALARMS) }
