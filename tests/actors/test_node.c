/*
 * test_node.c - starting and stopping: what is refused, what is reported, what is left behind
 */
#include "support/guard.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);

TROUPE_SIGNAL(get);
TROUPE_SIGNAL(hello);
TROUPE_SIGNAL(block);
TROUPE_SIGNAL(farewell);

static void
ignore(troupe_self *self, troupe_msg *msg)
{
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static const troupe_behavior adder = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(farewell, ignore)),
};

/* ---- starting ---- */

static void
a_config_that_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *name;
        troupe_config config;
        const char *says;
    } cases[] = {
        { "an empty name", { .node = "" }, "node name" },
        { "capitals", { .node = "Boss" }, "Boss" },
        { "a slash", { .node = "../boss" }, "../boss" },
        { "33 characters", { .node = "abcdefghijklmnopqrstuvwxyz0123456" }, "32" },
        { "too many threads", { .threads = 241 }, "241" },
        { "far too many threads", { .threads = UINT32_MAX }, "threads" },
    };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        print_message("  %s\n", cases[i].name);
        assert_null(troupe_start(&cases[i].config));
        test_assert_error(-EINVAL, cases[i].says);
    }
}

static void
a_seed_that_is_no_number_is_refused(void **state)
{
    static const char *const seeds[] = { "abc", "1x", "99999999999999999999999999", " " };
    char before[64] = "";

    if (test_is_simulated()) {
        snprintf(before, sizeof before, "%s", getenv("TROUPE_SIMULATE"));
    }
    for (size_t i = 0; i < TEST_COUNT(seeds); i++) {
        print_message("  \"%s\"\n", seeds[i]);
        setenv("TROUPE_SIMULATE", seeds[i], 1);
        assert_null(troupe_start(NULL));
        test_assert_error(-EINVAL, "TROUPE_SIMULATE");
    }
    if (*before) {
        setenv("TROUPE_SIMULATE", before, 1);
    } else {
        unsetenv("TROUPE_SIMULATE");
    }
}

static void
all_defaults_make_a_node(void **state)
{
    troupe_self *me = troupe_start(NULL);
    char name[64];

    assert_non_null(me);
    snprintf(name, sizeof name, "node-%d", (int)getpid());
    assert_string_equal(troupe_node_name(me), name);
    assert_false(troupe_is_nobody(troupe_self_ref(me)));
    test_stop(me);

    print_message("  the longest name, and a caller who knows fewer options\n");
    me = troupe_start_sized(
        &(troupe_config){ .node = "abcdefghijklmnopqrstuvwxyz012345", .threads = 1000 },
        offsetof(troupe_config, threads));
    assert_non_null(me);
    assert_string_equal(troupe_node_name(me), "abcdefghijklmnopqrstuvwxyz012345");
    test_stop(me);
}

static void
nodes_start_and_stop_again_and_again(void **state)
{
    for (unsigned i = 0; i < 300 / test_slowness(); i++) {
        troupe_self *me = test_start(.threads = 1 + i % 4);
        troupe_msg *answer;

        answer = troupe_call(me, troupe_spawn(me, &adder), TEST_PATIENCE_MS, number, .value = i);
        assert_non_null(answer);
        assert_int_equal(troupe_body(answer, number)->value, i + 1);
        troupe_release(answer);
        test_stop(me);
    }
}

static void
a_start_without_descriptors_says_so_and_leaves_nothing(void **state)
{
    unsigned highest = (unsigned)dup(0); /* the first free one */
    struct rlimit before, few;
    troupe_self *me = NULL;
    unsigned refused = 0;

    close((int)highest);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    for (unsigned room = 0; !me && room < 20; room++) {
        few = (struct rlimit){ .rlim_cur = highest + room, .rlim_max = before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        me = troupe_start(&(troupe_config){ .node = "poor", .threads = 1 });
        if (!me) {
            refused++;
            test_assert_error(-EMFILE, "poor");
        }
    }
    assert_non_null(me);
    assert_true(refused > 0);
    print_message("  refused %u times\n", refused);
    if (!test_is_simulated()) {
        few.rlim_cur = (rlim_t)dup(0); /* starting needed more than running does */
        close((int)few.rlim_cur);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        assert_int_equal(troupe_pollable(me), -EMFILE); /* one descriptor more */
        test_assert_error(-EMFILE, "poor");
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(troupe_pollable(me) >= 0);
    test_stop(me);
}

/* ---- stopping ---- */

static void
a_node_stops_in_peace_when_nothing_is_undone(void **state)
{
    troupe_self *me = test_start(.threads = 2);

    for (unsigned i = 0; i < 1000; i++) {
        assert_false(troupe_is_nobody(troupe_spawn(me, &adder)));
    }
    assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 3600000, hello), 0);
    assert_int_not_equal(troupe_ask(me, troupe_spawn(me, &adder), TROUPE_FOREVER, farewell), 0);
    test_quiet(me);
    test_stop(me);
}

static unsigned n_lost;

static void
count_lost(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    n_lost += reason == TROUPE_DEAD_SHUTDOWN;
}

static void
messages_that_were_not_handled_are_reported(void **state)
{
    troupe_self *me = test_start(.node = "hasty", .on_dead_letter = count_lost);
    unsigned n = 100;

    n_lost = 0;
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(troupe_send(me, troupe_self_ref(me), hello), 0);
    }
    test_stop_expecting(me, -ECANCELED);
    test_assert_error(-ECANCELED, "hasty");
    test_assert_error(-ECANCELED, "100");
    assert_int_equal(n_lost, n);
}

struct mourner {
    troupe_ref other, parent;
};

static int
init_mourner(troupe_self *self, const void *args)
{
    *(struct mourner *)troupe_state(self) = *(const struct mourner *)args;
    return 0;
}

/* Sends to everybody when it ends, and asks, and sets a timer, and spawns, and ends itself once more. */
static void
stop_mourner(troupe_self *self)
{
    struct mourner *mourner = troupe_state(self);

    troupe_send(self, mourner->other, farewell);
    troupe_send(self, troupe_self_ref(self), farewell);
    troupe_send(self, mourner->parent, farewell);
    troupe_send(self, TROUPE_NOBODY, farewell);
    troupe_ask(self, mourner->other, TROUPE_FOREVER, farewell);
    troupe_ask(self, TROUPE_NOBODY, TROUPE_FOREVER, farewell);
    troupe_send_after(self, mourner->other, 0, farewell);
    troupe_spawn(self, &adder);
    troupe_kill(self, mourner->other);
    troupe_exit(self);
    troupe_fail(self, 1, "once more");
}

static const troupe_behavior mourner_behavior = {
    .name = "mourner",
    .state_size = sizeof(struct mourner),
    .init = init_mourner,
    .stop = stop_mourner,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(farewell, ignore)),
};

static void
stop_functions_may_do_anything(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    struct mourner mourner = { .other = troupe_spawn(me, &adder), .parent = troupe_self_ref(me) };

    for (unsigned i = 0; i < 50; i++) {
        mourner.other = troupe_spawn_with(me, &mourner_behavior, .args = &mourner, .worker = i % 3);
        assert_false(troupe_is_nobody(mourner.other));
    }
    /* What they send is not handled any more. */
    test_stop_expecting(me, -ECANCELED);
}

/* ---- handlers that do not return, threads that do not detach ---- */

static sem_t gate, blocked;

static void
on_block(troupe_self *self, troupe_msg *msg)
{
    sem_post(&blocked);
    while (sem_wait(&gate) < 0) {
    }
}

static const troupe_behavior blocking = {
    .name = "blocking",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(block, on_block)),
};

static void
be_told(void *context, const char *behavior, troupe_ref actor, const char *type, uint64_t ms)
{
}

static void
a_handler_that_does_not_return_is_named_and_the_node_can_be_stopped_later(void **state)
{
    troupe_self *me;
    troupe_ref ref;

    test_needs_threads();
    sem_init(&gate, 0, 0);
    sem_init(&blocked, 0, 0);
    me = test_start(.threads = 2, .stop_timeout_ms = 30, .on_stuck = be_told);
    ref = troupe_spawn(me, &blocking);
    assert_int_equal(troupe_send(me, ref, block), 0);
    while (sem_wait(&blocked) < 0) {
    }
    print_message("  an audit gives up as well\n");
    assert_int_equal(troupe_audit(me, NULL, NULL), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "handler");
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "blocking");
    test_assert_error(-ETIMEDOUT, "block");
    sem_post(&gate);
    for (int rc = -ETIMEDOUT; rc == -ETIMEDOUT;) { /* it takes a moment to return */
        rc = troupe_stop(me);
        assert_true(rc == 0 || rc == -ETIMEDOUT);
    }
    sem_destroy(&gate);
    sem_destroy(&blocked);
}

struct guest {
    pthread_t thread;
    troupe_self *host;
    troupe_ref to;
    bool calls;
    int code;
};

/* Waits until the node stops. */
static void *
stay(void *argument)
{
    struct guest *guest = argument;
    troupe_self *self = troupe_attach(guest->host);
    troupe_msg *msg;

    troupe_pollable(self);
    troupe_send(self, guest->to, hello);
    msg = guest->calls ? troupe_call(self, guest->to, TROUPE_FOREVER, get)
                       : troupe_receive(self, TROUPE_FOREVER);
    guest->code = msg ? 0 : troupe_last_error().code;
    troupe_release(msg);
    troupe_detach(self);
    return NULL;
}

static void
threads_that_wait_are_told_that_the_node_stops(void **state)
{
    struct guest guests[6] = { { 0 } };

    test_needs_threads();
    for (unsigned round = 0; round < 30 / test_slowness() + 1; round++) {
        troupe_self *me = test_start();

        for (size_t i = 0; i < TEST_COUNT(guests); i++) {
            guests[i] = (struct guest){ .host = me, .to = troupe_self_ref(me), .calls = i % 2 };
            assert_int_equal(pthread_create(&guests[i].thread, NULL, stay, &guests[i]), 0);
        }
        for (size_t i = 0; i < TEST_COUNT(guests);) { /* the calls have arrived too, or will */
            troupe_msg *msg = troupe_receive(me, TEST_PATIENCE_MS);

            assert_non_null(msg);
            i += troupe_is(msg, hello);
            troupe_release(msg);
        }
        assert_int_not_equal(troupe_stop(me), -ETIMEDOUT);
        for (size_t i = 0; i < TEST_COUNT(guests); i++) {
            assert_int_equal(pthread_join(guests[i].thread, NULL), 0);
            assert_int_equal(guests[i].code, guests[i].code == -ENOENT ? -ENOENT : -ESHUTDOWN);
        }
    }
}

static void
a_thread_that_does_not_detach_is_reported_and_the_node_can_be_stopped_later(void **state)
{
    troupe_self *me = test_start(.stop_timeout_ms = 20), *other = troupe_attach(me);

    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "1 attached thread");
    assert_null(troupe_receive(other, TROUPE_FOREVER));
    test_assert_error(-ESHUTDOWN, "stopping");
    assert_null(troupe_attach(me));
    test_assert_error(-ESHUTDOWN, "stopping");
    assert_true(troupe_is_nobody(troupe_spawn(me, &adder)));
    test_assert_error(-ESHUTDOWN, "adder");
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(troupe_stop(me), 0);
}

/* ---- audits ---- */

/* Two that never stop talking. */
static void
on_hello(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, hello);
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    troupe_send(self, troupe_spawn(self, &adder), number, .value = 1);
    troupe_send(self, troupe_self_ref(self), hello);
}

static const troupe_behavior talking = {
    .name = "talking",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(hello, on_hello), TROUPE_ON(get, on_get)),
    .otherwise = ignore,
};

static void *
audit_often(void *argument)
{
    struct guest *guest = argument;
    troupe_self *self = troupe_attach(guest->host);

    for (unsigned i = 0; i < 300 / test_slowness() && guest->code == 0; i++) {
        guest->code = troupe_audit(self, NULL, NULL);
    }
    troupe_detach(self);
    return NULL;
}

static void
audits_hold_under_load_and_several_at_a_time(void **state)
{
    struct guest guests[3] = { { 0 } };
    troupe_self *me;

    test_needs_threads();
    me = test_start(.threads = 2);
    for (unsigned i = 0; i < 20; i++) {
        troupe_ref ref = troupe_spawn_with(me, &talking, .worker = i % 3);

        assert_int_equal(troupe_send(me, ref, get), 0);
    }
    for (size_t i = 0; i < TEST_COUNT(guests); i++) {
        guests[i].host = me;
        assert_int_equal(pthread_create(&guests[i].thread, NULL, audit_often, &guests[i]), 0);
    }
    for (size_t i = 0; i < TEST_COUNT(guests); i++) {
        assert_int_equal(pthread_join(guests[i].thread, NULL), 0);
        assert_int_equal(guests[i].code, 0);
    }
    test_stop_expecting(me, -ECANCELED);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_config_that_makes_no_sense_is_refused),
        guarded(a_seed_that_is_no_number_is_refused),
        guarded(all_defaults_make_a_node),
        guarded(nodes_start_and_stop_again_and_again),
        guarded(a_start_without_descriptors_says_so_and_leaves_nothing),
        guarded(a_node_stops_in_peace_when_nothing_is_undone),
        guarded(messages_that_were_not_handled_are_reported),
        guarded(stop_functions_may_do_anything),
        guarded(a_handler_that_does_not_return_is_named_and_the_node_can_be_stopped_later),
        guarded(threads_that_wait_are_told_that_the_node_stops),
        guarded(a_thread_that_does_not_detach_is_reported_and_the_node_can_be_stopped_later),
        guarded(audits_hold_under_load_and_several_at_a_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
