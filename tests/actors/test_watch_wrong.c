/*
 * test_watch_wrong.c - descriptors that cannot be watched, are closed or another by now, and no memory for the message
 */
#include "actors/watch_support.h"

#include "runtime/world.h"

/* ---- bad input ---- */

static void
what_cannot_be_watched_is_refused_with_the_reason(void **state)
{
    troupe_self *me = test_start();
    int closed = dup(0), file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct pair pair = open_pair();

    close(closed);
    assert_int_equal(troupe_watch(me, closed, TROUPE_READABLE), -EBADF);
    test_assert_error(-EBADF, "is not open");
    assert_int_equal(troupe_watch(me, -1, TROUPE_READABLE), -EBADF);
    assert_int_equal(troupe_watch(me, INT32_MAX, TROUPE_READABLE), -EBADF);
    assert_int_equal(troupe_watch(me, file, TROUPE_READABLE), -EPERM);
    test_assert_error(-EPERM, "always ready");
    assert_int_equal(troupe_watch(me, pair.ours, 0), -EINVAL);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_HANGUP), -EINVAL);
    assert_int_equal(troupe_watch(me, pair.ours, 1u << 20), -EINVAL);
    assert_int_equal(troupe_watch(NULL, pair.ours, TROUPE_READABLE), -EINVAL);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    assert_int_equal(troupe_unwatch(me, -1), -ENOENT);
    assert_int_equal(troupe_unwatch(NULL, pair.ours), -EINVAL);
    test_stop(me);
    close_pair(pair);
    close(file);
}

static void
descriptors_of_troupe_are_not_for_watching(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair();
    unsigned refused = 0;

    for (int fd = 3; fd < pair.ours; fd++) {
        int rc = troupe_watch(me, fd, TROUPE_READABLE);

        refused += rc == -EINVAL;
        if (rc == 0) {
            assert_int_equal(troupe_unwatch(me, fd), 0);
        }
    }
    assert_true(refused >= 2); /* epoll and the wake-up */
    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
}

static void
one_watches_at_a_time_and_the_other_is_named(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), -EBUSY);
    test_assert_error(-EBUSY, "watcher");
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    assert_int_equal(tell_watch(me, who, pair.ours, 0), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), -EBUSY);
    test_stop(me);
    close_pair(pair);
}

/* ---- what is stale ---- */

static void
a_notice_about_what_is_watched_no_more_is_dropped(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);

    print_message("  watched again: only the new one counts\n");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(troupe_unwatch(me, pair.ours), 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 2);

    print_message("  watched for something else: the old one is not told, the new one is\n");
    await_notice(me);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_WRITABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_WRITABLE));
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 3);
    test_stop(me);
    close_pair(pair);
}

static void
a_notice_about_a_closed_descriptor_is_not_one_about_the_next_of_its_number(void **state)
{
    troupe_self *me = test_start();
    struct pair pair = open_pair(), next = open_pair();

    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    await_notice(me);
    assert_int_equal(dup3(next.theirs, pair.ours, O_CLOEXEC), pair.ours); /* without unwatch */
    test_no_message(me);
    assert_int_equal(test_dead(me, TROUPE_DEAD_EXPIRED), 1);
    assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT); /* it ended with the descriptor */
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    let_time_pass(me);
    test_no_message(me);
    put(next.ours, "y");
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
    close_pair(next);
}

static void
a_number_may_go_to_and_fro_between_descriptors(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair old = open_pair(), new = open_pair();
    int kept = dup(old.ours), place = old.ours;

    assert_int_equal(tell_watch(me, who, place, TROUPE_READABLE), 0);
    assert_int_equal(dup3(new.ours, place, O_CLOEXEC), place);
    assert_int_equal(troupe_watch(me, place, TROUPE_READABLE), 0); /* it is not watched any more */
    put(old.theirs, "x"); /* the kernel still knows the old one, through `kept` */
    let_time_pass(me);
    test_no_message(me);
    put(new.theirs, "y");
    troupe_release(receive_ready(me, place, TROUPE_READABLE));

    assert_int_equal(dup3(kept, place, O_CLOEXEC), place); /* and back again */
    assert_int_equal(troupe_unwatch(me, place), 0);
    assert_int_equal(troupe_watch(me, place, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, place, TROUPE_READABLE));
    assert_int_equal(troupe_unwatch(me, place), 0);
    let_time_pass(me);
    test_stop(me);
    close(kept);
    close_pair(old);
    close_pair(new);
}

static void
the_end_of_an_actor_ends_its_watches(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair pair = open_pair();

    assert_int_equal(tell_watch(me, who, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_send(me, who, leave), 0);
    test_quiet(me);
    put(pair.theirs, "x");
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 0);
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
}

static int
init_that_refuses(troupe_self *self, const void *args)
{
    int rc = troupe_watch(self, *(const int *)args, TROUPE_READABLE);

    return rc < 0 ? rc : -ECONNREFUSED;
}

static void
an_init_that_refuses_has_watched_nothing(void **state)
{
    static const troupe_behavior behavior = { .name = "refusing", .init = init_that_refuses };
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    for (int i = 0; i < 10; i++) {
        assert_true(troupe_is_nobody(
            troupe_spawn_with(me, &behavior, .args = &pair.ours, .args_size = sizeof pair.ours)));
        test_assert_error(-ECONNREFUSED, "refusing");
    }
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    test_stop(me);
    close_pair(pair);
}

static int
init_that_watches(troupe_self *self, const void *args)
{
    return troupe_watch(self, *(const int *)args, TROUPE_READABLE);
}

static void
one_without_a_handler_is_told_once(void **state)
{
    static const troupe_behavior behavior = { .name = "deaf", .init = init_that_watches };
    troupe_self *me = test_start();
    struct pair pair = open_pair();

    put(pair.theirs, "x");
    assert_false(troupe_is_nobody(
        troupe_spawn_with(me, &behavior, .args = &pair.ours, .args_size = sizeof pair.ours)));
    while (test_dead(me, TROUPE_DEAD_NO_HANDLER) == 0) {
        let_time_pass(me);
    }
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 1);
    test_stop(me);
    close_pair(pair);
}

/* ---- the number and what it stands for ---- */

static void
one_that_is_closed_while_watched_is_told_no_more(void **state)
{
    static const struct {
        const char *name;
        bool kept_open, told; /* through another number; a message is on its way */
    } cases[] = { { "closed", false, false },
                  { "closed, and open under another number", true, false },
                  { "closed with a message on its way", false, true },
                  { "the same, and open under another number", true, true } };

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_self *me = test_start();
        struct pair pair = open_pair();
        int kept = cases[i].kept_open ? dup(pair.ours) : -1;

        print_message("  %s\n", cases[i].name);
        assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
        if (cases[i].told) {
            put(pair.theirs, "x");
            await_notice(me);
        }
        close(pair.ours);
        if (cases[i].kept_open) {
            put(pair.theirs, "y");
        }
        let_time_pass(me);
        test_no_message(me);
        troupe_unwatch(me, pair.ours); /* 0 or -ENOENT: it depends on who noticed */
        assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
        assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), -EBADF);
        test_stop(me);
        close(pair.theirs);
        if (kept >= 0) {
            close(kept);
        }
    }
}

static void
a_number_used_anew_is_free_for_others(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = spawn_watcher(me, false);
    struct pair old = open_pair(), new;
    troupe_msg *msg;
    char byte;

    assert_int_equal(tell_watch(me, who, old.ours, TROUPE_READABLE), 0);
    close(old.ours); /* without unwatch */
    new = open_pair();
    assert_int_equal(new.ours, old.ours);
    put(new.theirs, "x");
    assert_int_equal(troupe_watch(me, new.ours, TROUPE_READABLE), 0);
    assert_int_equal(tell_watch(me, who, new.ours, 0),
                     -ENOENT); /* and not ended by the one before */
    msg = receive_ready(me, new.ours, TROUPE_READABLE);
    assert_int_equal(read(new.ours, &byte, 1), 1);
    troupe_release(msg);
    assert_int_equal(troupe_send(me, who, leave), 0);
    test_quiet(me);
    put(new.theirs, "y");
    troupe_release(receive_ready(me, new.ours, TROUPE_READABLE));
    test_stop(me);
    close(old.theirs);
    close_pair(new);
}

static void
every_node_watches_for_itself(void **state)
{
    troupe_self *one = test_start(), *two = test_start();
    struct pair pair = open_pair();

    assert_int_equal(troupe_watch(one, pair.ours, TROUPE_READABLE), 0);
    assert_int_equal(troupe_watch(two, pair.ours, TROUPE_READABLE), 0);
    put(pair.theirs, "x");
    troupe_release(receive_ready(one, pair.ours, TROUPE_READABLE));
    troupe_release(receive_ready(two, pair.ours, TROUPE_READABLE));
    test_stop(one);
    troupe_release(receive_ready(two, pair.ours, TROUPE_READABLE));
    test_stop(two);
    close_pair(pair);
}

/* ---- no room in the kernel ---- */

static int refusal;
static int (*real_control)(trp_world *world, int epoll_fd, int operation, int fd,
                           struct epoll_event *event);

static int
refuse_to_add(trp_world *world, int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    return operation == EPOLL_CTL_ADD ? refusal
                                      : real_control(world, epoll_fd, operation, fd, event);
}

static void
what_the_kernel_refuses_is_refused_by_name(void **state)
{
    static const struct {
        int code;
        const char *text;
    } cases[] = { { -ENOSPC, "max_user_watches" }, { -ENOMEM, "Cannot allocate memory" } };
    trp_world *world = trp_world_real();
    struct pair pair;
    troupe_self *me;

    test_needs_threads(); /* the simulated world has a copy of the functions */
    me = test_start();
    pair = open_pair();
    real_control = world->epoll_control;
    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        char name[32];

        snprintf(name, sizeof name, "descriptor %d", pair.ours);
        refusal = cases[i].code;
        world->epoll_control = refuse_to_add; /* the worker sleeps, and only arms */
        assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), cases[i].code);
        world->epoll_control = real_control;
        test_assert_error(cases[i].code, cases[i].text);
        test_assert_error(cases[i].code, name);
        assert_int_equal(troupe_unwatch(me, pair.ours), -ENOENT);
    }
    put(pair.theirs, "x");
    assert_int_equal(troupe_watch(me, pair.ours, TROUPE_READABLE), 0);
    troupe_release(receive_ready(me, pair.ours, TROUPE_READABLE));
    test_stop(me);
    close_pair(pair);
}

/* ---- no memory ---- */

static void
without_memory_a_watch_is_refused(void **state)
{
    struct pair pair = open_pair();
    troupe_self *me, *other;
    unsigned refused = 0;

    trp_memory_refuse(refuse_from_nth, NULL);
    me = test_start();
    other = troupe_attach(me);
    for (int n = 1;; n++) {
        int rc;

        refuse_in = n; /* nobody else runs now */
        rc = troupe_watch(other, pair.ours, TROUPE_READABLE);
        refuse_in = 0;
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        refused++;
    }
    assert_true(refused >= 2);
    print_message("  refused at each of %u allocations\n", refused);
    put(pair.theirs, "x");
    troupe_release(receive_ready(other, pair.ours, TROUPE_READABLE));
    assert_int_equal(troupe_detach(other), 0);
    test_stop(me);
    close_pair(pair);
}

static bool
refuse_some(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    while (n > 0 && !atomic_compare_exchange_weak(&refuse_in, &n, n - 1)) {
    }
    return n > 0;
}

static void
a_notice_without_memory_comes_later(void **state)
{
    struct pair pairs[100];
    troupe_self *me;

    trp_memory_refuse(refuse_some, NULL);
    me = test_start();
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        pairs[i] = open_pair();
        assert_int_equal(troupe_watch(me, pairs[i].ours, TROUPE_READABLE), 0);
    }
    refuse_in = 250; /* the worker has made no message so far, so that it must allocate */
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        put(pairs[i].theirs, "x");
    }
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        troupe_msg *msg = test_receive(me, troupe_ready);

        assert_int_equal(troupe_unwatch(me, troupe_body(msg, troupe_ready)->fd), 0);
        troupe_release(msg);
    }
    assert_int_equal(refuse_in, 0);
    test_quiet(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, TEST_COUNT(pairs));
    test_stop(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        close_pair(pairs[i]);
    }
}

static void
one_that_ends_while_there_is_no_memory_leaves_nothing(void **state)
{
    struct pair pairs[10];
    troupe_self *me, *other;

    trp_memory_refuse(refuse_some, NULL);
    me = test_start();
    other = troupe_attach(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        pairs[i] = open_pair();
        assert_int_equal(troupe_watch(other, pairs[i].ours, TROUPE_READABLE), 0);
    }
    refuse_in = INT32_MAX;
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        put(pairs[i].theirs, "x");
    }
    if (test_is_simulated()) {
        troupe_receive(me, 20);
    }
    while (refuse_in > INT32_MAX - 10) { /* until it has been tried for all */
        test_audit(me);
        if (test_is_simulated()) {
            troupe_receive(me, 20);
        }
    }
    for (size_t i = 0; i < TEST_COUNT(pairs); i += 2) {
        assert_int_equal(troupe_unwatch(other, pairs[i].ours), 0);
    }
    assert_int_equal(troupe_detach(other), 0);
    refuse_in = 0;
    let_time_pass(me);
    assert_int_equal(test_counts(me, troupe_ready).sent, 0);
    test_stop(me);
    for (size_t i = 0; i < TEST_COUNT(pairs); i++) {
        close_pair(pairs[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(what_cannot_be_watched_is_refused_with_the_reason),
        guarded(descriptors_of_troupe_are_not_for_watching),
        guarded(one_watches_at_a_time_and_the_other_is_named),
        guarded(a_notice_about_what_is_watched_no_more_is_dropped),
        guarded(a_notice_about_a_closed_descriptor_is_not_one_about_the_next_of_its_number),
        guarded(a_number_may_go_to_and_fro_between_descriptors),
        guarded(the_end_of_an_actor_ends_its_watches),
        guarded(an_init_that_refuses_has_watched_nothing),
        guarded(one_without_a_handler_is_told_once),
        guarded(without_memory_a_watch_is_refused),
        guarded(a_notice_without_memory_comes_later),
        guarded(one_that_ends_while_there_is_no_memory_leaves_nothing),
        guarded(one_that_is_closed_while_watched_is_told_no_more),
        guarded(a_number_used_anew_is_free_for_others),
        guarded(every_node_watches_for_itself),
        guarded(what_the_kernel_refuses_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
