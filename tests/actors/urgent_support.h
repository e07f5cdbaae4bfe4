/*
 * urgent_support.h - guards: actors that tell their host what they handle, in its order
 *
 * What is a `fire` or a troupe_down is urgent to them.
 */
#ifndef TEST_URGENT_SUPPORT_H
#define TEST_URGENT_SUPPORT_H

#include "support/guard.h"

#include <stdatomic.h>

#include <troupe/troupe.h>

#include "actors/node.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define ALARM(field, T) field(T, u64, value)
TROUPE_MESSAGE(fire, ALARM);
#define SEEN(field, T) field(T, flag, urgent) field(T, u64, value)
TROUPE_MESSAGE(seen, SEEN);
#define FLOOD(field, T) field(T, ref, to) field(T, u64, count)
TROUPE_MESSAGE(flood, FLOOD);
#define GO(field, T) field(T, u64, count) field(T, u64, seed)
TROUPE_MESSAGE(go, GO);

#define WHOM(field, T) field(T, ref, who)
TROUPE_MESSAGE(observe, WHOM);

TROUPE_SIGNAL(shut);
TROUPE_SIGNAL(open_up);
TROUPE_SIGNAL(question);
TROUPE_SIGNAL(ask_it);
TROUPE_SIGNAL(end);

/* ---- a guard: tells its host what it handles, in its order ---- */

struct guard {
    troupe_ref host;
};

static inline int
guard_init(troupe_self *self, const void *args)
{
    ((struct guard *)troupe_state(self))->host = *(const troupe_ref *)args;
    return 0;
}

static inline void
on_number(troupe_self *self, troupe_msg *msg)
{
    const struct guard *guard = troupe_state(self);

    troupe_send(self, guard->host, seen, .value = troupe_body(msg, number)->value);
}

static inline void
on_fire(troupe_self *self, troupe_msg *msg)
{
    const struct guard *guard = troupe_state(self);

    troupe_send(self, guard->host, seen, .urgent = true, .value = troupe_body(msg, fire)->value);
}

static inline void
on_observe(troupe_self *self, troupe_msg *msg)
{
    troupe_monitor(self, troupe_body(msg, observe)->who);
}

static inline void
on_down(troupe_self *self, troupe_msg *msg)
{
    const struct guard *guard = troupe_state(self);

    troupe_send(self, guard->host, seen, .urgent = true, .value = 1000);
}

/* It fills somebody's mailbox, and is held. */
static inline void
on_flood(troupe_self *self, troupe_msg *msg)
{
    const flood *order = troupe_body(msg, flood);

    for (uint64_t i = 0; i < order->count; i++) {
        troupe_send(self, order->to, number, .value = i);
    }
}

static inline void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

/* Anything from 10 on opens it again. */
static inline void
put_fire_aside(troupe_self *self, troupe_msg *msg)
{
    if (troupe_body(msg, fire)->value < 10) {
        troupe_stash(self, msg);
    } else {
        troupe_unstash(self);
        troupe_become(self, NULL);
    }
}

static inline void
put_aside(troupe_self *self, troupe_msg *msg)
{
    troupe_stash(self, msg);
}

static inline void
on_open(troupe_self *self, troupe_msg *msg)
{
    troupe_unstash(self);
    troupe_become(self, NULL);
}

static inline void
on_shut(troupe_self *self, troupe_msg *msg)
{
    const troupe_on *handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, put_aside), TROUPE_ON_URGENT(fire, put_fire_aside),
                        TROUPE_ON(open_up, on_open));

    if (troupe_become(self, handlers) < 0) {
        troupe_fail(self, 1, "%s", troupe_last_error().text);
    }
}

static inline void
on_ask_it(troupe_self *self, troupe_msg *msg)
{
    troupe_ask(self, troupe_sender(msg), TEST_PATIENCE_MS, question);
}

#define GUARD(guard_name, ...)                                                                     \
    {                                                                                              \
        .name = guard_name, .state_size = sizeof(struct guard), .init = guard_init,                \
        .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON_URGENT(fire, on_fire), \
                                    TROUPE_ON_URGENT(troupe_down, on_down),                        \
                                    TROUPE_ON(flood, on_flood), TROUPE_ON(shut, on_shut),          \
                                    TROUPE_ON(open_up, on_open), TROUPE_ON(ask_it, on_ask_it),     \
                                    TROUPE_ON(observe, on_observe), TROUPE_ON(end, on_end)),       \
        __VA_ARGS__                                                                                \
    }
static const troupe_behavior guard_behavior = GUARD("guard", .mailbox_messages = 0);
static const troupe_behavior small_behavior = GUARD("small", .mailbox_messages = 8);
static const troupe_behavior strict_behavior =
    GUARD("strict", .mailbox_messages = 8, .when_full = TROUPE_REJECT);
static const troupe_behavior newest_behavior =
    GUARD("newest", .mailbox_messages = 8, .when_full = TROUPE_DROP_NEWEST);
static const troupe_behavior forgetful_behavior =
    GUARD("forgetful", .when_full = TROUPE_DROP_OLDEST);

static inline troupe_ref
spawn_guard(troupe_self *me, const troupe_behavior *behavior)
{
    troupe_ref here = troupe_self_ref(me);
    troupe_ref guard =
        troupe_spawn_with(me, behavior, .args = &here, .args_size = sizeof here, .worker = 1);

    assert_false(troupe_is_nobody(guard));
    return guard;
}

static inline void
expect_seen(troupe_self *me, bool urgent, uint64_t value)
{
    troupe_msg *msg = test_receive(me, seen);

    assert_int_equal(troupe_body(msg, seen)->urgent, urgent);
    assert_int_equal(troupe_body(msg, seen)->value, value);
    troupe_release(msg);
}

/* ---- a worker that stands still, so that what is sent meanwhile waits (simulated, it does anyway) ---- */

static _Atomic bool stand, stands;

static inline void
on_go(troupe_self *self, troupe_msg *msg)
{
    atomic_store(&stands, true);
    while (atomic_load(&stand)) {
    }
}

static const troupe_behavior statue_behavior = {
    .name = "statue",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go, on_go)),
};

static inline void
stand_still(troupe_self *me)
{
    if (!test_is_simulated()) {
        atomic_store(&stands, false);
        atomic_store(&stand, true);
        assert_int_equal(troupe_send(me, troupe_spawn_with(me, &statue_behavior, .worker = 1), go),
                         0);
        while (!atomic_load(&stands)) {
        }
    }
}

static inline void
go_on(void)
{
    atomic_store(&stand, false);
}

static inline void
pass_time(troupe_self *me)
{
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 20, end), 0);
    test_await(me, end);
}

#endif
