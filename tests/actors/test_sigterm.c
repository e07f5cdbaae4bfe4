/*
 * test_sigterm.c - whole programs that are asked to stop: at once, in the middle of work, and twice
 */
#include "support/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/troupe.h>

TROUPE_SIGNAL(leave);
TROUPE_SIGNAL(work);

/* ---- whole programs ---- */

static char self_path[4096];

/* As a program of its own: work until SIGTERM, then stop; or, `stubborn`, wait for the next one. */
static int
run_as_program(bool stubborn)
{
    troupe_self *me = troupe_start(NULL);
    int rc;

    if (!me || write(1, "r", 1) != 1) {
        return 3;
    }
    rc = troupe_wait_signal(me);
    if (write(1, rc == SIGTERM ? "t" : rc == SIGINT ? "i" : "?", 1) != 1) {
        return 4;
    }
    while (stubborn) {
        pause();
    }
    return troupe_stop(me);
}

/* ---- a program that is busy when the signal comes ---- */

enum { SOURCES = 4, ENOUGH = 2000 };

#define ITEM(field, T) field(T, u64, n) field(T, flag, last)
TROUPE_MESSAGE(item, ITEM);
#define TOTAL(field, T) field(T, u64, sent) field(T, u64, received)
TROUPE_MESSAGE(total, TOTAL);

struct source {
    troupe_ref sink;
    uint64_t n;
    bool leaving;
};

static int
source_init(troupe_self *self, const void *args)
{
    struct source *source = troupe_state(self);

    source->sink = *(const troupe_ref *)args;
    return troupe_send(self, troupe_self_ref(self), work);
}

static void
source_work(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    troupe_send(self, source->sink, item, .n = ++source->n, .last = source->leaving);
    if (source->leaving) {
        troupe_exit(self);
    } else {
        troupe_send(self, troupe_self_ref(self), work);
    }
}

static void
source_leave(troupe_self *self, troupe_msg *msg)
{
    ((struct source *)troupe_state(self))->leaving = true;
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .init = source_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(work, source_work), TROUPE_ON(leave, source_leave)),
};

struct sink {
    troupe_ref to;
    uint64_t sent, received;
    unsigned ended;
};

static int
sink_init(troupe_self *self, const void *args)
{
    ((struct sink *)troupe_state(self))->to = *(const troupe_ref *)args;
    return 0;
}

static void
on_item(troupe_self *self, troupe_msg *msg)
{
    struct sink *sink = troupe_state(self);

    if (++sink->received == ENOUGH && write(1, "r", 1) != 1) { /* now it is under way */
        troupe_fail(self, errno, "nobody listens");
    }
    if (troupe_body(msg, item)->last) {
        sink->sent += troupe_body(msg, item)->n;
        if (++sink->ended == SOURCES) {
            troupe_send(self, sink->to, total, .sent = sink->sent, .received = sink->received);
        }
    }
}

static const troupe_behavior sink_behavior = {
    .name = "sink",
    .state_size = sizeof(struct sink),
    .init = sink_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(item, on_item)),
};

struct chief {
    troupe_ref sources[SOURCES];
};

static int
chief_init(troupe_self *self, const void *args)
{
    *(struct chief *)troupe_state(self) = *(const struct chief *)args;
    return troupe_watch_signal(self, SIGTERM);
}

static void
on_term(troupe_self *self, troupe_msg *msg)
{
    const struct chief *chief = troupe_state(self);

    for (unsigned i = 0; i < SOURCES; i++) {
        troupe_send(self, chief->sources[i], leave);
    }
    troupe_exit(self);
}

static const troupe_behavior chief_behavior = {
    .name = "chief",
    .state_size = sizeof(struct chief),
    .init = chief_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_signal, on_term)),
};

/* A thread that is not troupe's, and blocks no signal: a read of it must not fail with -EINTR. */
static void *
read_to_the_end(void *argument)
{
    char byte;

    return (void *)(intptr_t)(read(*(int *)argument, &byte, 1) == 0 ? 0 : errno);
}

/* Spawn everybody; 0, or what went wrong. */
static int
start_work(troupe_self *me, struct chief *chief, bool actor_watches)
{
    troupe_ref to = troupe_self_ref(me), sink;

    sink = troupe_spawn_with(me, &sink_behavior, .args = &to, .args_size = sizeof to);
    for (unsigned i = 0; i < SOURCES; i++) {
        chief->sources[i] =
            troupe_spawn_with(me, &source_behavior, .args = &sink, .args_size = sizeof sink);
    }
    return actor_watches && troupe_is_nobody(troupe_spawn_with(me, &chief_behavior, .args = chief,
                                                               .args_size = sizeof *chief));
}

/* Everybody has stopped, and what was sent was received; 0, or what went wrong. */
static int
end_work(troupe_self *me)
{
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);
    troupe_counts counts;
    bool lost = !troupe_is(msg, total) || troupe_body(msg, total)->received < ENOUGH ||
                troupe_body(msg, total)->sent != troupe_body(msg, total)->received;

    troupe_release(msg);
    return lost || troupe_audit(me, NULL, &counts) < 0 || counts.dead_total > 0;
}

/* Four sources fill a sink as fast as it goes. At SIGTERM they stop, what is under way is handled, and then the node
 * stops: 0, or where it went wrong. */
static int
work_until_term(bool actor_watches, bool all_block)
{
    troupe_self *me;
    struct chief chief;
    pthread_t reader;
    sigset_t term;
    int fds[2];
    void *reader_said;

    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    if (all_block) {
        pthread_sigmask(SIG_BLOCK, &term, NULL);
    }
    me = troupe_start(&(troupe_config){ .threads = 2 });
    if (!me || pipe2(fds, O_CLOEXEC) < 0 ||
        pthread_create(&reader, NULL, read_to_the_end, &fds[0]) != 0 ||
        start_work(me, &chief, actor_watches) != 0) {
        return 3;
    }
    if (!actor_watches && troupe_wait_signal(me) != SIGTERM) {
        return 4;
    }
    for (unsigned i = 0; !actor_watches && i < SOURCES; i++) {
        troupe_send(me, chief.sources[i], leave);
    }
    if (end_work(me) != 0) {
        return 5;
    }
    close(fds[1]);
    pthread_join(reader, &reader_said);
    close(fds[0]);
    return reader_said ? 6 : troupe_stop(me) == 0 ? 0 : 7;
}

static pid_t
start_program(const char *what, int *ret_output)
{
    char *argv[] = { self_path, (char *)what, NULL };
    posix_spawn_file_actions_t actions;
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    posix_spawn_file_actions_addclose(&actions, fds[0]);
    posix_spawn_file_actions_addclose(&actions, fds[1]);
    assert_int_equal(posix_spawn(&pid, self_path, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    *ret_output = fds[0];
    return pid;
}

static void
expect_byte(int fd, char expected)
{
    char byte = 0;

    assert_int_equal(read(fd, &byte, 1), 1);
    assert_int_equal(byte, expected);
}

static void
a_program_stops_in_order_at_a_signal(void **state)
{
    static const int signals[] = { SIGTERM, SIGINT };

    test_needs_threads();
    for (size_t i = 0; i < TEST_COUNT(signals); i++) {
        int output, status;
        pid_t pid = start_program("obedient", &output);

        expect_byte(output, 'r');
        test_await_catching(pid, signals[i]);
        kill(pid, signals[i]);
        expect_byte(output, signals[i] == SIGTERM ? 't' : 'i');
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        close(output);
    }
}

static void
a_signal_in_the_middle_of_work_loses_nothing(void **state)
{
    static const char *const programs[] = { "busy", "busy-actor", "busy-blocked",
                                            "busy-actor-blocked" };

    test_needs_threads();
    for (size_t i = 0; i < 5 * TEST_COUNT(programs); i++) {
        const char *name = programs[i % TEST_COUNT(programs)];
        int output, status;
        pid_t pid = start_program(name, &output);

        expect_byte(output, 'r');
        test_await_catching(pid, SIGTERM);
        kill(pid, SIGTERM);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        if (status != 0) {
            print_error("%s: status %#x\n", name, (unsigned)status);
        }
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        close(output);
    }
}

static void
a_second_signal_ends_a_program_that_does_not_stop(void **state)
{
    int output, status;
    pid_t pid;

    test_needs_threads();
    pid = start_program("stubborn", &output);
    expect_byte(output, 'r');
    test_await_catching(pid, SIGTERM);
    kill(pid, SIGTERM);
    expect_byte(output, 't');
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    close(output);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_program_stops_in_order_at_a_signal),
        guarded(a_signal_in_the_middle_of_work_loses_nothing),
        guarded(a_second_signal_ends_a_program_that_does_not_stop),
    };

    if (argc > 1 && strcmp(argv[1], "obedient") == 0) {
        return run_as_program(false);
    }
    if (argc > 1 && strcmp(argv[1], "stubborn") == 0) {
        return run_as_program(true);
    }
    if (argc > 1 && strncmp(argv[1], "busy", 4) == 0) {
        return work_until_term(strstr(argv[1], "actor") != NULL,
                               strstr(argv[1], "blocked") != NULL);
    }
    if (readlink("/proc/self/exe", self_path, sizeof self_path - 1) <
        0) { /* valgrind runs no link */
        return 3;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
