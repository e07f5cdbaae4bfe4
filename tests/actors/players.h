/*
 * players.h - children that tell a test what happens to them, and how the test listens
 *
 * A player sends its parent a note when it starts, refuses to, or stops. What it is told, it does.
 */
#ifndef TEST_PLAYERS_H
#define TEST_PLAYERS_H

#include "support/guard.h"

#include <time.h>

#include <troupe/troupe.h>

#include "actors/node.h"

#define NOTE(field, T) field(T, text, what, 64)
TROUPE_MESSAGE(note, NOTE);
#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(flood, WHOM);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);
TROUPE_SIGNAL(dawdle);

/* ---- a child that tells its parent what happens to it ---- */

struct role {
    char name[16];
    troupe_ref parent;
    unsigned refuse_from; /* which of its starts are refused; 0: none */
};

static unsigned n_starts;

static inline void
tell(troupe_self *self, const struct role *role, const char *what)
{
    note body;

    snprintf(body.what, sizeof body.what, "%s %s", what, role->name);
    troupe_send_value(self, role->parent, note, &body);
}

static inline int
init_player(troupe_self *self, const void *args)
{
    struct role *role = troupe_state(self);

    *role = *(const struct role *)args;
    n_starts++;
    if (role->refuse_from && n_starts >= role->refuse_from) {
        tell(self, role, "refuse");
        return -EBUSY;
    }
    tell(self, role, "start");
    return 0;
}

static inline void
stop_player(troupe_self *self)
{
    tell(self, troupe_state(self), "stop");
}

static inline void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 7, "forgot the text");
}

static inline void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static inline void
on_get(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 1);
}

/* More than fits: it is held until the other one has received most of it. */
static inline void
on_flood(troupe_self *self, troupe_msg *msg)
{
    for (uint64_t i = 0; i < 5000; i++) {
        troupe_send(self, troupe_body(msg, flood)->who, number, .value = i);
    }
}

static inline void
on_dawdle(troupe_self *self, troupe_msg *msg)
{
    const struct timespec a_while = { .tv_nsec = 20000000 };

    nanosleep(&a_while, NULL);
}

static const troupe_behavior player = {
    .name = "player",
    .state_size = sizeof(struct role),
    .init = init_player,
    .stop = stop_player,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(fail, on_fail), TROUPE_ON(end, on_end), TROUPE_ON(get, on_get),
                        TROUPE_ON(dawdle, on_dawdle), TROUPE_ON(flood, on_flood)),
};

static inline struct role
role_of(troupe_self *me, const char *name)
{
    struct role role = { .parent = troupe_self_ref(me) };

    snprintf(role.name, sizeof role.name, "%s", name);
    n_starts = 0;
    return role;
}

#define AS(role)                                                                                   \
    .behavior = &player, .args = &(role), .args_size = sizeof(role), .name = (role).name

static inline void
expect_note(troupe_self *me, const char *what)
{
    troupe_msg *msg = test_receive(me, note);

    assert_string_equal(troupe_body(msg, note)->what, what);
    troupe_release(msg);
}

static inline troupe_ref
find(troupe_self *me, const char *name)
{
    troupe_ref who = troupe_find(me, name, TEST_PATIENCE_MS);

    assert_false(troupe_is_nobody(who));
    return who;
}

/* A down notice; its text is compared with `text` as far as that goes. */
static inline void
expect_down(troupe_self *me, troupe_ref who, troupe_reason reason, const char *text)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    assert_true(troupe_ref_equal(down->who, who));
    assert_string_equal(troupe_reason_name(down->reason), troupe_reason_name(reason));
    if (!strstr(down->text, text)) {
        fail_msg("\"%s\" should say \"%s\"", down->text, text);
    }
    troupe_release(msg);
}

/* Retire a supervisor and wait for its end; its children's notes are not looked at. */
static inline void
retire(troupe_self *me, troupe_ref keeper)
{
    troupe_msg *msg;
    bool over = false;

    assert_int_not_equal(troupe_monitor(me, keeper), 0);
    assert_int_equal(troupe_retire(me, keeper), 0);
    while (!over) {
        msg = troupe_receive(me, TEST_PATIENCE_MS);
        assert_non_null(msg);
        over = troupe_is(msg, troupe_down);
        troupe_release(msg);
    }
}

/* Whatever has come is not of interest. */
static inline void
forget_all(troupe_self *me)
{
    troupe_msg *msg;

    while ((msg = troupe_receive(me, 0)) != NULL) {
        troupe_release(msg);
    }
}

static inline int64_t
now_ms(troupe_self *me)
{
    return trp_now(me->ctx->rt) / 1000000;
}

#endif
