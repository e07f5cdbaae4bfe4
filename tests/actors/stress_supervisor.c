/*
 * stress_supervisor.c - a tree of supervisors in a storm
 *
 * Monkeys fail, end, retire and kill children and whole supervisors at random, ask for children and have them
 * stopped, while inits refuse now and then. When the storm is over and the root has retired, nobody is left: as many
 * actors have ended as have begun, and the law holds.
 */
#include "support/guard.h"

#include <stdatomic.h>

#include <troupe/troupe.h>

enum { MONKEYS = 4, PLACES = 32, BRANCHES = 3 };

#define SHARE(field, T) field(T, u64, steps) field(T, u64, seed)
TROUPE_MESSAGE(storm, SHARE);
#define TOTAL(field, T) field(T, u64, started) field(T, u64, stopped) field(T, u64, refused)
TROUPE_MESSAGE(total, TOTAL);

TROUPE_SIGNAL(next);
TROUPE_SIGNAL(end);
TROUPE_SIGNAL(fail);

static _Atomic uint64_t table[PLACES]; /* slot and generation of who was there last */
static _Atomic uint64_t n_inits;
static uint64_t salt;

/* ---- children ---- */

static int
init_child(troupe_self *self, const void *args)
{
    troupe_ref us = troupe_self_ref(self);
    uint64_t n = atomic_fetch_add(&n_inits, 1), mixed = (n ^ salt) * 0x9e3779b97f4a7c15u;

    if ((mixed >> 32) % 8 == 0) {
        return -EBUSY;
    }
    atomic_store(&table[*(const uint32_t *)args % PLACES], (uint64_t)us.generation << 32 | us.slot);
    return 0;
}

static void
on_end(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 1, "in the storm");
}

static const troupe_behavior child_behavior = {
    .name = "child",
    .init = init_child,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(end, on_end), TROUPE_ON(fail, on_fail)),
};

/* ---- the tree ---- */

static const uint32_t places[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
#define CHILD(n) .behavior = &child_behavior, .args = &places[n], .args_size = sizeof places[n]

static const troupe_child leaves[BRANCHES][3] = {
    { { CHILD(0) }, { CHILD(1), .stop = TROUPE_STOP_KILL }, { CHILD(2) } },
    { { CHILD(3) }, { CHILD(4), .restart = TROUPE_TRANSIENT }, { CHILD(5) } },
    { { CHILD(6) }, { CHILD(7), .restart = TROUPE_TEMPORARY }, { CHILD(8) } },
};

#define BRANCH(n, how)                                                                             \
    {                                                                                              \
        .strategy = (how), .children = leaves[n], .n_children = 3, .max_restarts = 8,              \
        .within_ms = 50, .backoff_ms = 1, .backoff_max_ms = 2                                      \
    }

static const troupe_supervisor branches[BRANCHES] = {
    BRANCH(0, TROUPE_ONE_FOR_ONE),
    BRANCH(1, TROUPE_ONE_FOR_ALL),
    BRANCH(2, TROUPE_REST_FOR_ONE),
};

static const troupe_pool_options workers = {
    .behavior = &child_behavior,
    .size = 3,
    .args = &places[9],
    .args_size = sizeof places[9],
    .backoff_ms = 1,
    .backoff_max_ms = 2,
};

static const troupe_child trunk[] = {
    { .supervisor = &branches[0], .name = "branch-0" },
    { .supervisor = &branches[1], .name = "branch-1" },
    { .supervisor = &branches[2], .name = "branch-2" },
    { .pool = &workers, .name = "branch-3" },
};

/* Inits refuse now and then, so the whole may not start at first. */
static troupe_ref
plant(troupe_self *me)
{
    const troupe_supervisor root = { .children = trunk,
                                     .n_children = TEST_COUNT(trunk),
                                     .max_restarts = TROUPE_UNLIMITED,
                                     .backoff_ms = 1,
                                     .backoff_max_ms = 2 };

    for (unsigned tries = 0; tries < 10000; tries++) {
        troupe_ref who = troupe_supervise(me, &root);

        if (!troupe_is_nobody(who)) {
            return who;
        }
        test_assert_error(-EBUSY, "init refused");
        test_quiet(me); /* the names are free again when those that had started are gone */
    }
    fail_msg("never started");
    return TROUPE_NOBODY;
}

/* ---- monkeys ---- */

struct monkey {
    uint64_t steps, random;
    troupe_ref parent;
    uint64_t n_asked;
    total total;
};

static troupe_ref
somebody(troupe_self *self, uint64_t random)
{
    uint64_t packed = atomic_load(&table[random % PLACES]);

    return (troupe_ref){ .node = troupe_self_ref(self).node,
                         .slot = (uint32_t)packed,
                         .generation = (uint32_t)(packed >> 32) };
}

static troupe_ref
some_branch(troupe_self *self, uint64_t random)
{
    char name[16];

    snprintf(name, sizeof name, "branch-%u", (unsigned)(random % TEST_COUNT(trunk)));
    return troupe_find(self, name, 0);
}

static void
ask_for_a_child(troupe_self *self, struct monkey *monkey, troupe_ref branch, uint64_t random)
{
    uint32_t place = 12 + (uint32_t)random % (PLACES - 12);
    troupe_child child = { .behavior = &child_behavior,
                           .restart = (troupe_restart)(random % 3),
                           .args = &place,
                           .args_size = sizeof place };

    monkey->n_asked += troupe_start_child_later(self, branch, TROUPE_FOREVER, &child) != 0;
}

static void
step(troupe_self *self, struct monkey *monkey)
{
    uint64_t random = test_random(&monkey->random);
    troupe_ref who = somebody(self, random >> 8), branch = some_branch(self, random >> 24);

    if (troupe_is_nobody(who) || troupe_is_nobody(branch)) {
        return; /* is about to return */
    }
    switch (random % 16) {
    case 0:
    case 1:
    case 2:
        troupe_send(self, who, fail);
        break;
    case 3:
        troupe_send(self, who, end);
        break;
    case 4:
    case 5:
        troupe_kill(self, who);
        break;
    case 6:
        troupe_retire(self, who);
        break;
    case 7:
    case 8:
    case 9:
        ask_for_a_child(self, monkey, branch, random >> 32);
        break;
    case 10:
    case 11:
        monkey->n_asked += troupe_stop_child_later(self, branch, TROUPE_FOREVER, who) != 0;
        break;
    case 12:
        if (random >> 40 & 7) {
            troupe_kill(self, branch);
        }
        break;
    case 13:
        if (random >> 40 & 7) {
            troupe_retire(self, branch);
        }
        break;
    default:
        break;
    }
}

static void
rest_if_done(troupe_self *self, struct monkey *monkey)
{
    if (monkey->steps == 0 && monkey->n_asked == 0) {
        troupe_send_value(self, monkey->parent, total, &monkey->total);
    }
}

static void
on_storm(troupe_self *self, troupe_msg *msg)
{
    struct monkey *monkey = troupe_state(self);

    monkey->steps = troupe_body(msg, storm)->steps;
    monkey->random = troupe_body(msg, storm)->seed | 1;
    monkey->parent = troupe_sender(msg);
    troupe_send(self, troupe_self_ref(self), next);
}

static void
on_next(troupe_self *self, troupe_msg *msg)
{
    struct monkey *monkey = troupe_state(self);

    for (unsigned i = 0; i < 4 && monkey->steps > 0; i++, monkey->steps--) {
        step(self, monkey);
    }
    if (monkey->steps > 0) { /* now and then a pause, for those that wait to return */
        troupe_send_after(self, troupe_self_ref(self), monkey->steps % 16 == 0, next);
    } else {
        rest_if_done(self, monkey);
    }
}

static void
on_started(troupe_self *self, troupe_msg *msg)
{
    struct monkey *monkey = troupe_state(self);

    monkey->n_asked--;
    monkey->total.started += troupe_body(msg, troupe_child_started)->code == 0;
    monkey->total.refused += troupe_body(msg, troupe_child_started)->code != 0;
    rest_if_done(self, monkey);
}

static void
on_stopped(troupe_self *self, troupe_msg *msg)
{
    struct monkey *monkey = troupe_state(self);

    monkey->n_asked--;
    monkey->total.stopped += troupe_body(msg, troupe_child_stopped)->code == 0;
    rest_if_done(self, monkey);
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    struct monkey *monkey = troupe_state(self);

    monkey->n_asked--;
    monkey->total.refused++;
    rest_if_done(self, monkey);
}

static const troupe_behavior monkey_behavior = {
    .name = "monkey",
    .state_size = sizeof(struct monkey),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(storm, on_storm), TROUPE_ON(next, on_next),
                                TROUPE_ON(troupe_child_started, on_started),
                                TROUPE_ON(troupe_child_stopped, on_stopped),
                                TROUPE_ON(troupe_unanswered, on_unanswered)),
};

static void
nobody_is_left_after_a_storm(void **state)
{
    uint64_t random = test_is_simulated() ? 1 : test_seed(), steps = test_scaled(4000);
    troupe_self *me = test_start(.threads = 2);
    total sum = { 0 };
    troupe_counts counts;
    troupe_ref root;

    salt = test_random(&random);
    root = plant(me);
    for (unsigned i = 0; i < MONKEYS; i++) {
        troupe_send(me, troupe_spawn(me, &monkey_behavior), storm, .steps = steps,
                    .seed = test_random(&random));
    }
    for (unsigned i = 0; i < MONKEYS; i++) {
        troupe_msg *msg = test_receive(me, total);

        sum.started += troupe_body(msg, total)->started;
        sum.stopped += troupe_body(msg, total)->stopped;
        sum.refused += troupe_body(msg, total)->refused;
        assert_int_equal(troupe_retire(me, troupe_sender(msg)), 0);
        troupe_release(msg);
    }
    troupe_monitor(me, root);
    assert_int_equal(troupe_retire(me, root), 0);
    test_await(me, troupe_down);
    test_quiet(me);
    test_no_message(me);
    counts = test_audit(me);
    print_message("  %llu actors; of those asked for %llu started, %llu were stopped, %llu "
                  "answers were no\n",
                  (unsigned long long)counts.spawned, (unsigned long long)sum.started,
                  (unsigned long long)sum.stopped, (unsigned long long)sum.refused);
    assert_int_equal(counts.spawned, counts.exited);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(nobody_is_left_after_a_storm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
