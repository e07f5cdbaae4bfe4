/*
 * tested - a behavior and its tests: one message at a time, and three hours in virtual time
 *
 *     $ ./tested
 *     ok   a knock extends the session
 *     ok   a silent session ends
 *     ok   its owner is told, hours later
 *
 * A session ends when nobody has knocked for 30 minutes, and tells its owner. The tests need no framework; with one,
 * troupe_on_unexpected() tells it what went wrong, and where.
 */
#include <stdio.h>
#include <troupe/testing.h>
#include <troupe/troupe.h>

enum { MINUTE_MS = 60000, PATIENCE_MS = 30 * MINUTE_MS };

TROUPE_SIGNAL(knock);
#define OVER(field, T) field(T, u32, knocks)
TROUPE_MESSAGE(over, OVER);

struct session {
    troupe_ref owner;
    unsigned knocks;
};

static int
session_init(troupe_self *self, const void *owner)
{
    ((struct session *)troupe_state(self))->owner = *(const troupe_ref *)owner;
    return troupe_idle(self, PATIENCE_MS);
}

static void
on_knock(troupe_self *self, troupe_msg *msg)
{
    ((struct session *)troupe_state(self))->knocks++;
}

static void
on_idled(troupe_self *self, troupe_msg *msg)
{
    struct session *session = troupe_state(self);

    troupe_send(self, session->owner, over, .knocks = session->knocks);
    troupe_exit(self);
}

static const troupe_behavior session_behavior = {
    .name = "session",
    .state_size = sizeof(struct session),
    .init = session_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(knock, on_knock), TROUPE_ON(troupe_idled, on_idled)),
};

static bool
check(bool holds, const char *what)
{
    printf("%s %s\n", holds ? "ok  " : "FAIL", what);
    if (!holds) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
    }
    return holds;
}

int
main(void)
{
    /* By hand: what has happened when a call returns has happened. */
    troupe_drive *drive = troupe_drive_new();
    troupe_ref owner = drive ? troupe_drive_other(drive, "owner") : TROUPE_NOBODY;
    bool good = drive && !troupe_is_nobody(troupe_drive_spawn_with(
                             drive, &session_behavior, .args = &owner, .args_size = sizeof owner));
    const over *told;
    troupe_sim *sim;
    troupe_self *me;

    good = check(good && troupe_drive_pass(drive, 29 * MINUTE_MS) == 0 &&
                     troupe_drive_send(drive, knock) == 0 &&
                     troupe_drive_pass(drive, 29 * MINUTE_MS) == 0 &&
                     troupe_drive_expect_nothing(drive) == 0,
                 "a knock extends the session") &&
           troupe_drive_pass(drive, MINUTE_MS) == 0;
    told = good ? troupe_drive_expect_to(drive, owner, over) : NULL;
    good = check(told && told->knocks == 1 && troupe_drive_has_ended(drive, NULL),
                 "a silent session ends");
    troupe_drive_free(drive);

    /* In a node, as it will run, but the time is virtual. */
    sim = good ? troupe_sim_begin(&(troupe_simulation){ .seed = 42 }) : NULL;
    me = sim ? troupe_start(NULL) : NULL;
    owner = me ? troupe_self_ref(me) : TROUPE_NOBODY;
    good = me && troupe_spawn_with(me, &session_behavior, .args = &owner).generation != 0 &&
           troupe_sim_run(sim, 3 * 60 * MINUTE_MS) == 0 && troupe_expect(me, 0, over);
    good = check(good, "its owner is told, hours later") && troupe_stop(me) == 0;
    return good && troupe_sim_end(sim) == 0 ? 0 : 1;
}
