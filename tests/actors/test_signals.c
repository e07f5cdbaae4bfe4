/*
 * test_signals.c - signals: as messages, to all that watch them, and nobody else's business afterwards
 */
#include "support/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/troupe.h>

#include "mailbox/memory.h"

#define NUMBER(field, T) field(T, i64, value)
TROUPE_MESSAGE(number, NUMBER);
#define SEEN(field, T) field(T, i32, signal) field(T, u32, count) field(T, i32, pid)
TROUPE_MESSAGE(seen, SEEN);

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(raise_term);
TROUPE_SIGNAL(work);

/* ---- one that watches ---- */

struct watcher {
    troupe_ref to;
    int signo;
};

static int
watcher_init(troupe_self *self, const void *args)
{
    struct watcher *watcher = troupe_state(self);

    *watcher = *(const struct watcher *)args;
    return troupe_watch_signal(self, watcher->signo);
}

static void
on_signal(troupe_self *self, troupe_msg *msg)
{
    const troupe_signal *signal = troupe_body(msg, troupe_signal);

    troupe_send(self, ((struct watcher *)troupe_state(self))->to, seen, .signal = signal->signal,
                .count = signal->count, .pid = signal->pid);
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior watcher_behavior = {
    .name = "watcher",
    .state_size = sizeof(struct watcher),
    .init = watcher_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_signal, on_signal), TROUPE_ON(leave, on_leave)),
};

static troupe_ref
spawn_watcher(troupe_self *me, int signo)
{
    return troupe_spawn_with(me, &watcher_behavior,
                             .args = &(struct watcher){ troupe_self_ref(me), signo },
                             .args_size = sizeof(struct watcher));
}

static void
expect_seen(troupe_self *me, int signo)
{
    troupe_msg *msg = test_receive(me, seen);

    assert_int_equal(troupe_body(msg, seen)->signal, signo);
    assert_int_equal(troupe_body(msg, seen)->count, 1);
    assert_int_equal(troupe_body(msg, seen)->pid, getpid());
    troupe_release(msg);
}

static void
expect_signal(troupe_self *me, int signo)
{
    troupe_msg *msg = test_receive(me, troupe_signal);

    assert_int_equal(troupe_body(msg, troupe_signal)->signal, signo);
    troupe_release(msg);
}

static void (*handler_of(int signo))(int)
{
    struct sigaction now;

    sigaction(signo, NULL, &now);
    return now.sa_handler;
}

/* ---- being told ---- */

static void
a_signal_comes_as_a_message(void **state)
{
    troupe_self *me = test_start();

    assert_false(troupe_is_nobody(spawn_watcher(me, SIGUSR1)));
    for (int i = 0; i < 10; i++) {
        kill(getpid(), SIGUSR1);
        expect_seen(me, SIGUSR1);
    }
    test_quiet(me);
    test_stop(me);
}

static void
all_that_watch_a_signal_are_told(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    troupe_ref who[10];

    for (size_t i = 0; i < TEST_COUNT(who); i++) {
        who[i] = spawn_watcher(me, i < 5 ? SIGUSR1 : SIGUSR2);
    }
    kill(getpid(), SIGUSR1);
    for (int i = 0; i < 5; i++) {
        expect_seen(me, SIGUSR1);
    }
    for (size_t i = 5; i < TEST_COUNT(who) - 1; i++) {
        assert_int_equal(troupe_send(me, who[i], leave), 0);
    }
    test_quiet(me);
    kill(getpid(), SIGUSR2);
    expect_seen(me, SIGUSR2);
    test_quiet(me);
    test_no_message(me);
    test_stop(me);
}

static void
nodes_of_one_process_are_all_told(void **state)
{
    troupe_self *nodes[3];

    for (size_t i = 0; i < TEST_COUNT(nodes); i++) {
        nodes[i] = test_start();
        spawn_watcher(nodes[i], SIGUSR1);
    }
    kill(getpid(), SIGUSR1);
    for (size_t i = 0; i < TEST_COUNT(nodes); i++) {
        expect_seen(nodes[i], SIGUSR1);
    }
    test_stop(nodes[1]);
    kill(getpid(), SIGUSR1);
    expect_seen(nodes[0], SIGUSR1);
    expect_seen(nodes[2], SIGUSR1);
    test_stop(nodes[0]);
    test_stop(nodes[2]);
    assert_ptr_equal(handler_of(SIGUSR1), SIG_DFL);
}

static void
a_signal_that_every_thread_blocks_is_told_as_well(void **state)
{
    troupe_self *me;
    sigset_t set, before;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    me = test_start(.threads = 2);
    spawn_watcher(me, SIGUSR1);
    for (int i = 0; i < 10; i++) {
        kill(getpid(), SIGUSR1);
        expect_seen(me, SIGUSR1);
    }
    test_stop(me);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void
no_queued_signal_is_lost(void **state)
{
    unsigned n = 5000 / test_slowness(), told = 0;
    troupe_self *me = test_start(.threads = 2);

    assert_int_equal(troupe_watch_signal(me, SIGRTMIN), 0);
    assert_int_equal(troupe_watch_signal(me, SIGRTMIN), 0); /* once more is not twice */
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(kill(getpid(), SIGRTMIN), 0);
    }
    while (told < n) {
        troupe_msg *msg = test_receive(me, troupe_signal);

        assert_int_equal(troupe_body(msg, troupe_signal)->signal, SIGRTMIN);
        assert_int_equal(troupe_body(msg, troupe_signal)->pid, getpid());
        assert_int_equal(troupe_body(msg, troupe_signal)->uid, getuid());
        told += troupe_body(msg, troupe_signal)->count;
        troupe_release(msg);
    }
    assert_int_equal(told, n);
    assert_int_equal(troupe_unwatch_signal(me, SIGRTMIN), 0);
    assert_int_equal(troupe_unwatch_signal(me, SIGRTMIN), -ENOENT);
    test_assert_error(-ENOENT, "not watched");
    test_stop(me);
}

/* ---- what was before is again ---- */

static void
ignore(int signo)
{
}

static void
dispositions_are_put_back(void **state)
{
    static void (*const handlers[])(int) = { SIG_DFL, SIG_IGN, ignore };

    for (size_t i = 0; i < TEST_COUNT(handlers); i++) {
        void (*first)(int) = signal(SIGUSR1, handlers[i]);
        troupe_self *me = test_start();
        troupe_ref one = spawn_watcher(me, SIGUSR1), two = spawn_watcher(me, SIGUSR1);

        assert_ptr_not_equal(handler_of(SIGUSR1), handlers[i]);
        kill(getpid(), SIGUSR1);
        expect_seen(me, SIGUSR1);
        expect_seen(me, SIGUSR1);
        assert_int_equal(troupe_send(me, one, leave), 0);
        test_quiet(me);
        assert_ptr_not_equal(handler_of(SIGUSR1), handlers[i]);
        assert_int_equal(troupe_send(me, two, leave), 0);
        test_quiet(me);
        assert_ptr_equal(handler_of(SIGUSR1), handlers[i]);
        test_stop(me);
        signal(SIGUSR1, first);
    }
}

static void
one_that_was_changed_meanwhile_is_left_alone(void **state)
{
    troupe_self *me = test_start();

    assert_int_equal(troupe_watch_signal(me, SIGUSR1), 0);
    signal(SIGUSR1, SIG_IGN);
    test_stop(me);
    assert_ptr_equal(handler_of(SIGUSR1), SIG_IGN);
    signal(SIGUSR1, SIG_DFL);
}

static void
a_forked_child_has_those_of_before(void **state)
{
    static void (*const handlers[])(int) = { SIG_DFL, SIG_IGN, ignore };

    for (size_t i = 0; i < TEST_COUNT(handlers); i++) {
        void (*first)(int) = signal(SIGUSR1, handlers[i]);
        troupe_self *me = test_start();
        int status;
        pid_t pid;

        assert_int_equal(troupe_watch_signal(me, SIGUSR1), 0);
        fflush(NULL);
        pid = fork();
        if (pid == 0) {
            alarm(60);
            _exit(handler_of(SIGUSR1) == handlers[i] ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_ptr_not_equal(handler_of(SIGUSR1), handlers[i]);
        kill(getpid(), SIGUSR1);
        test_await(me, troupe_signal);
        test_stop(me);
        signal(SIGUSR1, first);
    }
}

static void
what_came_for_others_is_not_told(void **state)
{
    troupe_self *one = test_start(), *two = test_start();

    assert_int_equal(troupe_watch_signal(one, SIGUSR1), 0);
    assert_int_equal(troupe_watch_signal(two, SIGUSR2), 0);
    kill(getpid(), SIGUSR1);
    assert_int_equal(troupe_watch_signal(two, SIGUSR1), 0);
    test_await(one, troupe_signal);
    kill(getpid(), SIGUSR2);
    expect_signal(two, SIGUSR2);
    test_no_message(two);
    test_stop(one);
    test_stop(two);
}

static int
init_that_refuses(troupe_self *self, const void *args)
{
    int rc = troupe_watch_signal(self, SIGUSR1);

    return rc < 0 ? rc : -ECONNREFUSED;
}

static void
an_init_that_refuses_has_watched_nothing(void **state)
{
    static const troupe_behavior behavior = { .name = "refusing", .init = init_that_refuses };
    troupe_self *me = test_start();
    unsigned fds = test_open_fds();

    assert_true(troupe_is_nobody(troupe_spawn(me, &behavior)));
    test_assert_error(-ECONNREFUSED, "refusing");
    assert_ptr_equal(handler_of(SIGUSR1), SIG_DFL);
    assert_int_equal(test_open_fds(), fds);
    test_stop(me);
}

/* ---- bad input, and nothing left ---- */

static void
what_is_no_message_is_refused(void **state)
{
    static const int signals[] = { 0,       -1,      65,     1000,   32,     33,      SIGKILL,
                                   SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP };
    troupe_self *me = test_start();

    for (size_t i = 0; i < TEST_COUNT(signals); i++) {
        assert_int_equal(troupe_watch_signal(me, signals[i]), -EINVAL);
        assert_int_equal(troupe_unwatch_signal(me, signals[i]), -ENOENT);
    }
    assert_int_equal(troupe_watch_signal(NULL, SIGUSR1), -EINVAL);
    assert_int_equal(troupe_unwatch_signal(NULL, SIGUSR1), -EINVAL);
    assert_int_equal(troupe_wait_signal(NULL), -EINVAL);
    test_stop(me);
}

static void
without_descriptors_it_is_refused_and_nothing_is_left(void **state)
{
    troupe_self *me = test_start();
    unsigned fds = test_open_fds();
    struct rlimit before, few;
    int free_fd = dup(0);

    close(free_fd);
    getrlimit(RLIMIT_NOFILE, &before);
    for (unsigned more = 0; more < 2; more++) {
        few = (struct rlimit){ (rlim_t)free_fd + more, before.rlim_max };
        setrlimit(RLIMIT_NOFILE, &few);
        assert_int_equal(troupe_watch_signal(me, SIGUSR1), -EMFILE);
        test_assert_error(-EMFILE, "Too many open files");
        assert_int_equal(troupe_wait_signal(me), -EMFILE);
        setrlimit(RLIMIT_NOFILE, &before);
        assert_int_equal(test_open_fds(), fds);
        assert_ptr_equal(handler_of(SIGUSR1), SIG_DFL);
    }
    assert_int_equal(troupe_watch_signal(me, SIGUSR1), 0);
    kill(getpid(), SIGUSR1);
    test_await(me, troupe_signal);
    test_stop(me);
}

static _Atomic int refuse_in; /* refuse the n-th allocation from now, and all behind it; 0: none */

static bool
refuse_from_nth(void *context, size_t size)
{
    int n = atomic_load(&refuse_in);

    if (n > 1) {
        atomic_store(&refuse_in, n - 1);
    }
    return n == 1;
}

static void
without_memory_it_is_refused_and_nothing_is_left(void **state)
{
    troupe_self *me, *other;
    unsigned refused = 0, fds;

    trp_memory_refuse(refuse_from_nth, NULL);
    me = test_start();
    other = troupe_attach(me);
    fds = test_open_fds();
    for (int n = 1;; n++) {
        int rc;

        refuse_in = n; /* nobody else runs now */
        rc = troupe_watch_signal(other, SIGUSR1);
        refuse_in = 0;
        if (rc == 0) {
            break;
        }
        assert_int_equal(rc, -ENOMEM);
        assert_int_equal(test_open_fds(), fds);
        assert_ptr_equal(handler_of(SIGUSR1), SIG_DFL);
        refused++;
    }
    assert_true(refused >= 3);
    kill(getpid(), SIGUSR1);
    test_await(other, troupe_signal);
    assert_int_equal(troupe_detach(other), 0);
    assert_int_equal(test_open_fds(), fds);
    test_stop(me);
}

static _Atomic int refuse_so_many;

static bool
refuse_some(void *context, size_t size)
{
    int n = atomic_load(&refuse_so_many);

    while (n > 0 && !atomic_compare_exchange_weak(&refuse_so_many, &n, n - 1)) {
    }
    return n > 0;
}

static void
a_signal_without_memory_is_told_later(void **state)
{
    troupe_self *me;

    trp_memory_refuse(refuse_some, NULL);
    me = test_start();
    assert_int_equal(troupe_watch_signal(me, SIGUSR1), 0);
    refuse_so_many = 3; /* the worker has made no message so far, so that it must allocate */
    kill(getpid(), SIGUSR1);
    test_await(me, troupe_signal);
    assert_int_equal(refuse_so_many, 0);
    test_quiet(me);
    test_stop(me);
}

/* ---- waiting ---- */

/* When somebody waits for it: before that it would end the test. */
static void
on_raise_term(troupe_self *self, troupe_msg *msg)
{
    if (handler_of(SIGTERM) == SIG_DFL) {
        troupe_send(self, troupe_self_ref(self), raise_term);
    } else {
        kill(getpid(), SIGTERM);
    }
}

static const troupe_behavior raiser = {
    .name = "raiser",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(raise_term, on_raise_term)),
};

static void
waiting_ends_with_the_signal_and_changes_nothing_else(void **state)
{
    troupe_self *me = test_start();
    troupe_ref who = troupe_spawn(me, &raiser);

    for (int i = 0; i < 20; i++) {
        assert_int_equal(troupe_send(me, who, raise_term), 0);
        assert_int_equal(troupe_send(me, troupe_self_ref(me), leave), 0);
        assert_int_equal(troupe_wait_signal(me), SIGTERM);
        assert_ptr_equal(handler_of(SIGTERM), SIG_DFL);
        assert_ptr_equal(handler_of(SIGINT), SIG_DFL);
        test_await(me, leave); /* messages wait meanwhile */
        test_no_message(me);
    }
    test_stop(me);
}

static void
on_work(troupe_self *self, troupe_msg *msg)
{
    int *rc = troupe_state(self);

    *rc = troupe_wait_signal(self);
    troupe_reply(self, msg, number, .value = *rc);
}

static const troupe_behavior waiter = {
    .name = "waiter",
    .state_size = sizeof(int),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(work, on_work)),
};

static void
a_handler_must_not_wait(void **state)
{
    troupe_self *me = test_start();
    troupe_msg *msg = troupe_call(me, troupe_spawn(me, &waiter), TEST_PATIENCE_MS, work);

    assert_int_equal(troupe_body(msg, number)->value, -EDEADLK);
    troupe_release(msg);
    test_stop(me);
}

struct starter {
    troupe_self *self;
    troupe_ref ref;
};

static void *
wait_until_stopped(void *argument)
{
    const struct starter *starter = argument;
    troupe_self *self = troupe_attach(starter->self);
    int rc;

    troupe_send(self, starter->ref, leave); /* from now on, stop waits for us */
    rc = troupe_wait_signal(self);
    troupe_detach(self);
    return (void *)(intptr_t)rc;
}

static void
the_end_of_the_node_ends_the_waiting(void **state)
{
    struct starter starter;
    pthread_t thread;
    void *rc;

    test_needs_threads();
    starter.self = test_start();
    starter.ref = troupe_self_ref(starter.self);
    pthread_create(&thread, NULL, wait_until_stopped, &starter);
    test_await(starter.self, leave);
    test_stop(starter.self);
    pthread_join(thread, &rc);
    assert_int_equal((int)(intptr_t)rc, -ESHUTDOWN);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(a_signal_comes_as_a_message),
        guarded(all_that_watch_a_signal_are_told),
        guarded(nodes_of_one_process_are_all_told),
        guarded(a_signal_that_every_thread_blocks_is_told_as_well),
        guarded(no_queued_signal_is_lost),
        guarded(dispositions_are_put_back),
        guarded(one_that_was_changed_meanwhile_is_left_alone),
        guarded(a_forked_child_has_those_of_before),
        guarded(what_came_for_others_is_not_told),
        guarded(an_init_that_refuses_has_watched_nothing),
        guarded(what_is_no_message_is_refused),
        guarded(without_descriptors_it_is_refused_and_nothing_is_left),
        guarded(without_memory_it_is_refused_and_nothing_is_left),
        guarded(a_signal_without_memory_is_told_later),
        guarded(waiting_ends_with_the_signal_and_changes_nothing_else),
        guarded(a_handler_must_not_wait),
        guarded(the_end_of_the_node_ends_the_waiting),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
