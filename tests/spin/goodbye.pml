/*
 * goodbye.pml - two nodes part, and nothing is lost; or one of them dies
 *
 * After docs/wire.md ("Parting, and an end without") and runtime/link_control.c. Each side has records for the
 * other, a stream for them (ZeroMQ) and a control connection, which know nothing of each other. Whoever wants to
 * leave, or hears goodbye, appends nothing more, sends what waits, and says goodbye with the number of the last.
 * When all that the other's goodbye announced has been taken: farewell. When farewell has been said and heard:
 * close. What comes over the control connection ends with the other side's close, or death, after all it had said.
 *
 * With DEATH side 1 is killed at any moment. Of its stream any first part may still come; side 0 drains that, and only
 * then is the link over and its end told. What it sent and has not heard to be taken is in doubt.
 *
 * Bounds    three records each way, a window of two; side 0 leaves at any time, side 1 too, or not by itself.
 * Holds     asserts  records are taken in order, once, and none after the end was told; who parts has had all of its
 *                    own taken, and has taken all that was announced; what is in doubt is what the
 *                    other side has not said to have taken; everybody comes to an end
 *           ends     that happens (weak fairness)
 * Planted   EARLY_FAREWELL  farewell is said before all has been taken
 *           EARLY_CLOSE     closed when farewell has been said, and not heard
 *           EARLY_GOODBYE   goodbye is said while records wait
 *           NO_ANSWER       who hears goodbye does not leave
 *           TELLS_FIRST     the end is told before the stream is drained
 */
#define RECORDS 3
#define WINDOW  2
#define OTHER   (1 - me)

#ifdef EARLY_GOODBYE
#define ALL_IS_SENT true
#else
#define ALL_IS_SENT (sent[me] == appended)
#endif
#ifdef EARLY_FAREWELL
#define ALL_IS_TAKEN true
#else
#define ALL_IS_TAKEN (taken[me] >= their_last)
#endif
#ifdef EARLY_CLOSE
#define MAY_CLOSE said_farewell
#else
#define MAY_CLOSE (said_farewell && heard_farewell)
#endif

mtype = { TAKEN, GOODBYE, FAREWELL };

chan data[2] = [WINDOW] of { byte };           /* to side i */
chan control[2] = [8] of { mtype, byte };      /* to side i */
bool ended[2];                                 /* side i's end of the control connection is closed */
bool dead[2];
bool over[2];                                  /* side i is done with the link */
bool parted[2];                                /* ... and by a goodbye */
byte sent[2], acknowledged[2], taken[2];
byte in_doubt[2];

inline say_taken()
{
    control[OTHER]!TAKEN(taken[me])
}

inline close_link()
{
    ended[me] = true;
    over[me] = true
}

proctype side(byte me)
{
    byte appended, number, their_last;
    bool leaving, said_goodbye, heard_goodbye, said_farewell, heard_farewell, broken;
    bool stays;

    if
    :: me == 1 -> stays = true
    :: skip
    fi;
    do
    /* ---- its actors ---- */
    :: !leaving && !broken && appended < RECORDS -> appended++
    :: !leaving && !broken && !stays -> leaving = true /* the node stops */

    /* ---- what goes out ---- */
    :: atomic {
           !broken && sent[me] < appended && sent[me] - acknowledged[me] < WINDOW &&
           len(data[OTHER]) < WINDOW && !said_goodbye ->
           sent[me]++;
           data[OTHER]!sent[me]
       }
    :: atomic {
           leaving && !said_goodbye && !broken && ALL_IS_SENT ->
           said_goodbye = true;
           control[OTHER]!GOODBYE(sent[me])
       }
    :: atomic {
           said_goodbye && heard_goodbye && !said_farewell && !broken && ALL_IS_TAKEN ->
           said_farewell = true;
           control[OTHER]!FAREWELL(taken[me])
       }

    /* ---- what comes in ---- */
    :: atomic {
           data[me]?number ->
           assert(!over[me] && number == taken[me] + 1);
           taken[me] = number
       };
       if
       :: !broken -> say_taken()
       :: broken
       fi;
       number = 0
    :: atomic {
           !broken && control[me]?[TAKEN, _] ->
           control[me]?TAKEN(number);
           acknowledged[me] = (number > acknowledged[me] -> number : acknowledged[me]);
           number = 0
       }
    :: atomic {
           !broken && control[me]?[GOODBYE, _] ->
           control[me]?GOODBYE(number);
           heard_goodbye = true;
           their_last = number;
#ifndef NO_ANSWER
           leaving = true;
#endif
           number = 0
       }
    :: atomic {
           !broken && control[me]?[FAREWELL, _] ->
           control[me]?FAREWELL(number);
           heard_farewell = true;
           acknowledged[me] = (number > acknowledged[me] -> number : acknowledged[me]);
           number = 0
       }

    /* ---- the end ---- */
    :: atomic {
           MAY_CLOSE && !broken ->
           assert(acknowledged[me] == appended && sent[me] == appended);
           assert(taken[me] == their_last && taken[me] == sent[OTHER]);
           parted[me] = true;
           close_link();
           goto done
       }
    :: atomic { /* the connection has ended, and all that was said before has been heard */
           !broken && ended[OTHER] && len(control[me]) == 0 && !(said_farewell && heard_farewell) ->
           broken = true;
#ifdef TELLS_FIRST
           over[me] = true
#endif
       }
    :: atomic { /* trp_links_drain: nothing will come any more */
           broken && len(data[me]) == 0 ->
           assert(dead[OTHER]); /* nobody else breaks a link */
           in_doubt[me] = sent[me] - acknowledged[me];
           assert(in_doubt[me] <= WINDOW);
           close_link();
           goto done
       }
#ifdef DEATH
    :: atomic {
           me == 1 ->
           dead[me] = true;
           over[me] = true;
           /* Any first part of what it had sent comes, and no more. */
           if
           :: true
           :: do
              :: len(data[OTHER]) > 0 -> data[OTHER]?number
              :: len(data[OTHER]) == 0 -> break
              od
           :: len(data[OTHER]) == 2 ->
              data[OTHER]?number;
              data[OTHER]?_;
              data[OTHER]!number
           fi;
           number = 0;
           ended[me] = true;
           goto done
       }
#endif
    od;
done:
    skip
}

/* Nobody can do anything any more. */
proctype judge()
{
    timeout ->
    assert(over[0] && over[1]);
    assert(parted[0] || dead[1]);
    /* Nothing is lost: what was sent was taken, or is in doubt, or died with the other side. */
    assert(dead[1] || (taken[0] == sent[1] && taken[1] == sent[0]));
    assert(parted[0] || taken[1] - acknowledged[0] <= in_doubt[0])
}

init {
    atomic {
        run side(0);
        run side(1);
        run judge()
    }
}

ltl ends { <> (over[0] && over[1]) }
