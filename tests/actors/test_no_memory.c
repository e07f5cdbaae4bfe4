/*
 * test_no_memory.c - every single allocation may fail: a clear error or a success, and no harm
 *
 * The same things are done again and again, and the n-th allocation is refused, for n = 1, 2, ... until
 * there were fewer than n.
 */
#include "support/guard.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "mailbox/memory.h"

#define NUMBER(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER);
#define PARCEL(field, T) field(T, fd, file) field(T, blob, data)
TROUPE_MESSAGE(parcel, PARCEL);

TROUPE_SIGNAL(fail);

/* ---- refusing ---- */

enum whose { MINE, EVERYBODYS };

static const struct mode {
    const char *name;
    enum whose whose;
    bool all_after;
} modes[] = {
    { "one allocation of the test's thread", MINE, false },
    { "all of the test's thread from one on", MINE, true },
    { "one allocation of any thread", EVERYBODYS, false },
    { "all of any thread from one on", EVERYBODYS, true },
};

static __thread bool is_test_thread;
static struct {
    _Atomic bool on;
    _Atomic unsigned left; /* until the one to be refused */
    _Atomic unsigned n_refused;
    _Atomic(const struct mode *) mode;
} plan;

static bool
refuse(void *context, size_t size)
{
    const struct mode *mode = atomic_load(&plan.mode);
    unsigned left;

    if (!atomic_load(&plan.on) || (mode->whose == MINE && !is_test_thread)) {
        return false;
    }
    left = atomic_load(&plan.left);
    while (left > 0 && !atomic_compare_exchange_weak(&plan.left, &left, left - 1)) {
    }
    if (left == 1 || (left == 0 && mode->all_after)) {
        atomic_fetch_add(&plan.n_refused, 1);
        return true;
    }
    return false;
}

static void
refuse_from(const struct mode *mode, unsigned n)
{
    atomic_store(&plan.mode, mode);
    atomic_store(&plan.left, n);
    atomic_store(&plan.n_refused, 0);
    atomic_store(&plan.on, true);
}

/* How many were refused. */
static unsigned
refuse_no_more(void)
{
    atomic_store(&plan.on, false);
    return atomic_load(&plan.n_refused);
}

static int
begin(void **state)
{
    int rc = test_guard_begin(state);

    is_test_thread = true;
    atomic_store(&plan.on, false);
    trp_memory_refuse(refuse, NULL); /* no node is there yet */
    return rc;
}

#define refusing(test) cmocka_unit_test_setup_teardown(test, begin, test_guard_end)

/* ---- starting ---- */

static void
a_start_without_memory_says_so_and_leaves_nothing(void **state)
{
    unsigned fds = test_open_fds();

    for (size_t i = 0; i < TEST_COUNT(modes); i++) {
        troupe_self *me = NULL;
        unsigned n = 0, refused;

        print_message("  %s\n", modes[i].name);
        do {
            refuse_from(&modes[i], ++n);
            me = troupe_start(&(troupe_config){ .node = "poor", .threads = 2 });
            refused = refuse_no_more();
            if (!me) {
                assert_int_equal(troupe_last_error().code, -ENOMEM);
                assert_int_equal(test_open_fds(), fds);
            } else {
                test_stop(me);
            }
        } while (refused > 0);
        assert_non_null(me);
        assert_true(n > 5);
        print_message("    %u allocations\n", n - 1);
    }
}

/* ---- everything else ---- */

static int
init_number(troupe_self *self, const void *args)
{
    if (troupe_state(self)) {
        *(unsigned char *)troupe_state(self) = 1;
    }
    return 0;
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    /* Without memory there is no answer; nothing else may happen. */
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static void
on_fail(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, 1, "as told");
}

static void
on_parcel(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_on handlers[] = {
    TROUPE_ON(number, on_number),
    TROUPE_ON(fail, on_fail),
    TROUPE_ON(parcel, on_parcel),
    { NULL, NULL, false },
};

/* Such an actor has one allocation more. */
static const troupe_on handlers_urgent[] = {
    TROUPE_ON(number, on_number),
    TROUPE_ON(fail, on_fail),
    TROUPE_ON_URGENT(parcel, on_parcel),
    { NULL, NULL, false },
};

/* It worked, or there was no memory. True: it worked. */
static bool
or_no_memory(bool worked, const char *what)
{
    if (!worked && troupe_last_error().code != -ENOMEM) {
        fail_msg("%s: %s", what, troupe_last_error().text);
    }
    return worked;
}

static void
spawn_one(troupe_self *me, const troupe_behavior *behavior)
{
    troupe_ref ref = troupe_spawn(me, behavior);

    if (or_no_memory(!troupe_is_nobody(ref), "spawn")) {
        or_no_memory(troupe_kill(me, ref) == 0, "kill");
    }
}

static void
send_a_parcel(troupe_self *me, troupe_ref to)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    troupe_blob *blob = troupe_blob_new(me, 100);

    or_no_memory(blob != NULL, "blob");
    if (!or_no_memory(troupe_send(me, to, parcel, .file = fd, .data = blob) == 0, "parcel")) {
        assert_true(fcntl(fd, F_GETFD) >= 0); /* still ours, both */
        close(fd);
        troupe_blob_release(blob);
    }
}

/* A bit of everything; `behaviors` are used for the first time. */
static void
do_everything(troupe_self *me, troupe_ref ref, const troupe_behavior *behaviors)
{
    static const char large[70000];
    troupe_self *other;
    troupe_msg *answer;
    uint64_t timer;

    spawn_one(me, &behaviors[0]);
    spawn_one(me, &behaviors[1]);
    or_no_memory(troupe_send(me, ref, number, .value = 1) == 0, "send");
    or_no_memory(troupe_send_bytes(me, ref, large, sizeof large, number, .value = 2) == 0, "bytes");
    send_a_parcel(me, ref);
    send_a_parcel(me, TROUPE_NOBODY);
    or_no_memory(troupe_ask(me, ref, 20, number, .value = 3) != 0, "ask");
    or_no_memory(troupe_ask(me, TROUPE_NOBODY, TROUPE_FOREVER, number, .value = 3) != 0, "ask");
    timer = troupe_send_after(me, ref, 0, number, .value = 4);
    or_no_memory(timer != 0, "timer");
    timer = troupe_send_after(me, ref, 1000, number, .value = 5);
    if (or_no_memory(timer != 0, "timer")) {
        assert_true(troupe_cancel(me, timer));
    }
    or_no_memory(troupe_spawn_on_later(me, troupe_node_name(me), 20, &behaviors[0]) != 0,
                 "spawn later");
    answer = troupe_call(me, ref, 20, number, .value = 6);
    if (!answer) {
        assert_true(troupe_last_error().code == -ENOMEM || troupe_last_error().code == -ETIMEDOUT);
    }
    troupe_release(answer);
    other = troupe_attach(me);
    if (or_no_memory(other != NULL, "attach")) {
        or_no_memory(troupe_send(other, ref, number, .value = 7) == 0, "send");
        assert_int_equal(troupe_detach(other), 0);
    }
    or_no_memory(troupe_send(me, ref, fail) == 0, "fail");
}

static void
without_memory_everything_says_so_and_the_law_holds(void **state)
{
    enum { MOST = 200 };
    static troupe_behavior behaviors[MOST][3];

    for (size_t i = 0; i < TEST_COUNT(modes); i++) {
        unsigned n = 0, refused;

        print_message("  %s\n", modes[i].name);
        do {
            troupe_self *me = test_start(.threads = 2);
            troupe_msg *msg;
            troupe_ref ref;
            bool is_last;

            assert_true(n < MOST);
            for (unsigned b = 0; b < 3; b++) {
                behaviors[n][b] =
                    (troupe_behavior){ .name = "frugal",
                                       .state_size = b ? 1000 : 8,
                                       .init = init_number,
                                       .handlers = b == 1 ? handlers : handlers_urgent };
            }
            ref = troupe_spawn(me, &behaviors[n][2]);
            refuse_from(&modes[i], ++n);
            do_everything(me, ref, behaviors[n - 1]);
            refused = refuse_no_more();
            /* What came of it comes, or not. With memory again, all is well. */
            assert_int_not_equal(troupe_send_after(me, troupe_self_ref(me), 30, fail), 0);
            do {
                msg = troupe_receive(me, TEST_PATIENCE_MS);
                assert_non_null(msg);
                assert_true(troupe_is(msg, fail) || troupe_is(msg, number) ||
                            troupe_is(msg, troupe_unanswered) || troupe_is(msg, troupe_spawned));
                is_last = troupe_is(msg, fail);
                troupe_release(msg);
            } while (!is_last);
            test_calm(me); /* some of it may be late */
            test_no_message(me);
            test_stop(me);
        } while (refused > 0);
        print_message("    %u allocations\n", n - 1);
        assert_true(n > 5);
    }
}

static void
many_actors_are_spawned_until_there_is_no_memory(void **state)
{
    static const troupe_behavior small = { .name = "small",
                                           .state_size = 16,
                                           .handlers = handlers };
    static const troupe_behavior large = { .name = "large",
                                           .state_size = 200,
                                           .handlers = handlers };
    troupe_self *me = test_start();
    unsigned n = 0;

    assert_false(troupe_is_nobody(troupe_spawn(me, &small)));
    refuse_from(&modes[1], 1); /* what is mapped already may be used */
    while (!troupe_is_nobody(troupe_spawn(me, &small))) {
        n++;
    }
    test_assert_error(-ENOMEM, "small");
    print_message("  %u more\n", n);
    assert_true(n >= 8000);
    refuse_no_more();
    assert_false(troupe_is_nobody(troupe_spawn(me, &small)));
    assert_false(troupe_is_nobody(troupe_spawn(me, &large)));
    refuse_from(&modes[1], 1);
    assert_true(troupe_is_nobody(troupe_spawn(me, &large)));
    test_assert_error(-ENOMEM, "large");
    refuse_no_more();
    assert_int_equal(test_audit(me).spawned, n + 3);
    test_stop(me);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        refusing(a_start_without_memory_says_so_and_leaves_nothing),
        refusing(without_memory_everything_says_so_and_the_law_holds),
        refusing(many_actors_are_spawned_until_there_is_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
