/*
 * timers - once, again and again, no more, and nothing at all
 *
 *     $ ./timers
 *     once, after a while
 *     tick 1
 *     tick 2
 *     tick 3, that will do
 *     nothing to do: going home
 *     late: 1 tick of one clock, all of the other
 *
 * A cook sets three timers: one fires once, one ticks until it is cancelled, one is cancelled before it fires. Main waits
 * until it has nothing to do, and finds its own clocks: one has left out what was missed, one has caught up.
 */
#include <stdio.h>
#include <troupe/troupe.h>

enum { SOON_MS = 5, PERIOD_MS = 20, IDLE_MS = 100, CLOCK_MS = 10 };

TROUPE_SIGNAL(dinner);
TROUPE_SIGNAL(once);
#define TICK(field, T) field(T, u8, clock)
TROUPE_MESSAGE(tick, TICK);

struct cook {
    troupe_msg *order;
    uint64_t ticking;
    unsigned n_ticks;
};

static void
on_dinner(troupe_self *self, troupe_msg *msg)
{
    struct cook *cook = troupe_state(self);
    troupe_ref me = troupe_self_ref(self);
    uint64_t twice = troupe_send_after(self, me, PERIOD_MS, once);

    cook->order = troupe_keep(msg);
    cook->ticking = troupe_send_every(self, me, PERIOD_MS, tick);
    if (!troupe_send_after(self, me, SOON_MS, once) || !troupe_cancel(self, twice) ||
        !cook->ticking || troupe_idle(self, IDLE_MS) < 0) {
        troupe_fail(self, 1, "%s", troupe_last_error().text);
    }
}

static void
on_once(troupe_self *self, troupe_msg *msg)
{
    puts("once, after a while");
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct cook *cook = troupe_state(self);
    bool enough = ++cook->n_ticks == 3 && troupe_cancel(self, cook->ticking);

    printf("tick %u%s\n", cook->n_ticks, enough ? ", that will do" : "");
}

static void
on_idled(troupe_self *self, troupe_msg *msg)
{
    struct cook *cook = troupe_state(self);

    puts("nothing to do: going home");
    troupe_reply(self, cook->order, dinner);
    troupe_release(cook->order);
    troupe_exit(self);
}

static const troupe_behavior cook_behavior = {
    .name = "cook",
    .state_size = sizeof(struct cook),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(dinner, on_dinner), TROUPE_ON(once, on_once),
                                TROUPE_ON(tick, on_tick), TROUPE_ON(troupe_idled, on_idled)),
};

int
main(void)
{
    static const troupe_every all = { CLOCK_MS, .when_late = TROUPE_CATCH_UP };
    troupe_self *me = troupe_start(NULL);
    troupe_ref here = me ? troupe_self_ref(me) : TROUPE_NOBODY;
    uint64_t one = me ? troupe_send_every(me, here, CLOCK_MS, tick, .clock = 0) : 0;
    uint64_t two = me ? troupe_send_every_with(me, here, &all, tick, .clock = 1) : 0;
    troupe_msg *msg = me ? troupe_call(me, troupe_spawn(me, &cook_behavior), 60000, dinner) : NULL;
    unsigned n[2] = { 0 };

    if (!msg || !troupe_cancel(me, one) || !troupe_cancel(me, two)) {
        fprintf(stderr, "timers: %s\n", troupe_last_error().text);
        return 1;
    }
    for (troupe_release(msg); (msg = troupe_receive(me, 0)) != NULL; troupe_release(msg)) {
        n[troupe_body(msg, tick)->clock]++;
    }
    printf("late: %u tick of one clock, %s of the other\n", n[0], n[1] < 6 ? "few" : "all");
    return troupe_stop(me) == 0 ? 0 : 1;
}
