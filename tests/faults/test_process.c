/*
 * test_process.c - rows of the table of failures about a process itself: it has no descriptors left, forks, starts programs, is
 * told to stop
 */
#include "faults/doubler.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- who is slow: it waits at a gate, a pipe that is closed when it may go on ---- */

static int gate = -1;

static void
on_slow_number(troupe_self *self, troupe_msg *msg)
{
    test_tally *tally = troupe_state(self);
    char byte;

    if (tally->n == 0 && read(gate, &byte, 1) < 0) {
        tally->wrong++;
    }
    tally->wrong += troupe_body(msg, number)->value != tally->n++;
}

static void
on_how_many(troupe_self *self, troupe_msg *msg)
{
    const test_tally *tally = troupe_state(self);

    troupe_reply_value(self, msg, test_tally, tally);
}

static const troupe_behavior slow = {
    .name = "slow",
    .state_size = sizeof(test_tally),
    .mailbox_messages = 16,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(number, on_slow_number), TROUPE_ON(test_how_many, on_how_many)),
};
TROUPE_EXPORT(slow);

/* ---- jobs ---- */

/* Give that one a descriptor; what came out of it. */
static int64_t
give(troupe_self *self, troupe_ref who, int64_t n)
{
    int ends[2], rc;
    char byte;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    rc = troupe_send(self, who, gift, .fd = ends[1]);
    if (rc < 0) {
        close(ends[1]);
    } else {
        rc = (int)read(ends[0], &byte, 1); /* 0: all ends were closed */
    }
    close(ends[0]);
    return rc;
}

static bool is_eperm;

#define MUST_FAIL(call) (is_eperm &= !(call) && troupe_last_error().code == -EPERM)

/* What users call most, of each header. */
static bool
all_calls_fail(troupe_self *self, troupe_ref who)
{
    troupe_handle handle;
    troupe_health health;
    troupe_counts counts;
    int ends[2];

    is_eperm = pipe(ends) == 0;
    MUST_FAIL(troupe_start(NULL) != NULL);
    MUST_FAIL(troupe_attach(self) != NULL);
    MUST_FAIL(troupe_send(self, who, number) == 0);
    MUST_FAIL(troupe_send_after(self, who, 1, number) != 0);
    MUST_FAIL(troupe_ask(self, who, 1, number) != 0);
    MUST_FAIL(troupe_call(self, who, 1, number) != NULL);
    MUST_FAIL(troupe_receive(self, 0) != NULL);
    MUST_FAIL(!troupe_is_nobody(troupe_spawn(self, &doubler)));
    MUST_FAIL(!troupe_is_nobody(troupe_spawn_on(self, "here", &doubler)));
    MUST_FAIL(troupe_spawn_on_later(self, "here", 1, &doubler) != 0);
    MUST_FAIL(troupe_launch(self, &(troupe_process){ .node = "another" }) >= 0);
    MUST_FAIL(troupe_monitor(self, who) != 0);
    MUST_FAIL(troupe_link(self, who) == 0);
    MUST_FAIL(troupe_retire(self, who) == 0);
    MUST_FAIL(troupe_kill(self, who) == 0);
    MUST_FAIL(troupe_register(self, "child") == 0);
    MUST_FAIL(!troupe_is_nobody(troupe_find(self, "main", 0)));
    MUST_FAIL(troupe_find_later(self, "main", 1) != 0);
    MUST_FAIL(troupe_blob_new(self, 1) != NULL);
    MUST_FAIL(troupe_reduce_handle(self, ends[0], &handle) == 0);
    MUST_FAIL(troupe_rebuild_handle(self, "x", 0) >= 0);
    MUST_FAIL(troupe_pollable(self) >= 0);
    MUST_FAIL(troupe_node_health(self, &health) == 0);
    MUST_FAIL(troupe_audit(self, NULL, &counts) == 0);
    MUST_FAIL(troupe_detach(self) == 0);
    MUST_FAIL(troupe_stop(self) == 0);
    return is_eperm;
}

/* Fork a child that tries everything and ends; 0: it could do nothing. */
static int64_t
fork_and_try(troupe_self *self, troupe_ref who, int64_t n)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(all_calls_fail(self, who) ? 0 : 1);
    }
    return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* Run this program again, which counts what it has open beside the standard three. */
static int64_t
count_inherited(int also)
{
    char *argv[] = { "/proc/self/exe", "--count", NULL };
    posix_spawn_file_actions_t actions;
    int status, rc;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    if (also >= 0) {
        posix_spawn_file_actions_adddup2(&actions, also, 100); /* passed on purpose */
    }
    rc = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    return rc == 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : -1;
}

static int64_t
run_a_program(troupe_self *self, troupe_ref who, int64_t n)
{
    return count_inherited(-1) * 1000 + count_inherited(STDERR_FILENO);
}

static int
count_open(void)
{
    DIR *open_fds = opendir("/proc/self/fd");
    struct dirent *entry;
    int n = 0;

    while (open_fds && (entry = readdir(open_fds)) != NULL) {
        int fd = atoi(entry->d_name);

        n += fd > 2 && fd != dirfd(open_fds);
    }
    if (open_fds) {
        closedir(open_fds);
    }
    return n;
}

static void
say_when_open(const char *text)
{
    char path[80];
    int fd;

    snprintf(path, sizeof path, "%.60s/says", getenv("XDG_RUNTIME_DIR"));
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        dprintf(fd, "%s", text);
        close(fd);
    }
}

/* Send up to so many, wait for SIGTERM, and stop as a program does; what troupe_stop() said comes through a pipe with a name. */
static int64_t
work_until_term(troupe_self *self, troupe_ref who, int64_t n)
{
    troupe_error error;
    char text[300];
    int64_t sent = 0;
    int rc;

    /* As many as can go now: the other's mailbox may say that it is full. */
    troupe_send_timeout(self, 0);
    while (sent < n && troupe_send(self, who, number, .value = (uint64_t)sent) == 0) {
        sent++;
    }
    signal(SIGTERM, SIG_DFL);
    snprintf(text, sizeof text, "%lld\n", (long long)sent);
    say_when_open(text);
    if (troupe_wait_signal(self) != SIGTERM) {
        return -EINTR;
    }
    say_when_open("stopping\n");
    rc = troupe_stop(self);
    error = troupe_last_error();
    snprintf(text, sizeof text, "%d %s\n", rc, rc < 0 ? error.text : "in peace");
    say_when_open(text);
    _exit(rc < 0);
}

const test_job test_jobs[] = { give, fork_and_try, run_a_program, work_until_term };
const size_t test_n_jobs = TEST_COUNT(test_jobs);

/* ---- rows ---- */

/* Is there no room? Nothing ends, and everything goes on when there is. */
static void
fd_exhaustion(void **state)
{
    troupe_self *me;
    test_peer *peer, *newcomer;
    troupe_ref there, ours;
    row_fds all;
    int ends[2];
    uint64_t lost;

    if (test_slowness() >= 50) {
        row_skip("valgrind has limits of its own");
    }
    me = test_start(.node = "here", .threads = 2);
    peer = test_peer_start(me, "there");
    there = test_make(me, "there", &doubler);
    ours = troupe_spawn(me, &doubler);
    newcomer = test_peer_begin("new");
    while (troupe_is_nobody(troupe_find(me, "never@new", 0)) &&
           troupe_last_error().code == -ENOTCONN) {
        usleep(1000); /* until it listens; that is a link */
    }
    test_peer_meet(me, newcomer);
    test_peer_stop(me, newcomer);
    newcomer = test_peer_begin("newer");
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(test_peer_run(me, peer, give, ours, 0), 1);
    lost = row_health(me).lost;
    row_use_up(&all, 0);
    expect_double(me, there); /* the links that there are */
    assert_true(row_health(me).is_degraded);
    row_saw("%s", row_health(me).why);
    assert_true(troupe_is_nobody(troupe_find(me, "main@newer", 0)));
    assert_int_equal(test_peer_run(me, peer, give, ours, 0), 0); /* it was closed */
    assert_int_equal(test_dead(me, TROUPE_DEAD_FD_LOST), 1);
    expect_double(me, there);
    row_give_back(&all);
    assert_int_equal(row_health(me).lost, lost);
    test_peer_meet(me, newcomer);
    while (row_health(me).is_degraded) {
        usleep(1000);
    }
    assert_int_equal(test_peer_run(me, peer, give, ours, 0), 1);
    row_saw(
        "the link went on, a message with a descriptor was a dead letter (%s), a new node was not "
        "linked; and all of it works again",
        troupe_dead_name(TROUPE_DEAD_FD_LOST));
    close(ends[0]);
    close(ends[1]);
    test_peer_stop(me, newcomer);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
fork_in_user_code(void **state)
{
    enum { TIMES = 5 };
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_ref there = test_make(me, "there", &doubler);

    for (int i = 0; i < TIMES; i++) {
        assert_int_equal(test_peer_run(me, peer, fork_and_try, troupe_self_ref(me), 0), 0);
        expect_double(me, there);
    }
    assert_true(row_health(me).linked == 1 && row_health(me).lost == 0 &&
                row_health(me).resumed == 0);
    row_saw("26 calls of %d forked children: -EPERM, and their parent serves on", TIMES);
    test_peer_stop(me, peer);
    test_stop(me);
}

static void
spawn_inherits_nothing(void **state)
{
    troupe_self *me = test_start(.node = "here", .threads = 2);
    test_peer *peer = test_peer_start(me, "there");
    troupe_handle handle;

    assert_int_equal(troupe_reduce_handle(me, STDERR_FILENO, &handle), 0);
    assert_true(test_open_fds() > 10);
    assert_int_equal(test_peer_run(me, peer, run_a_program, TROUPE_NOBODY, 0), 1);
    assert_int_equal(close(troupe_rebuild_handle(me, handle.text, TEST_PATIENCE_MS)), 0);
    row_saw("a program that is run beside linked nodes has nothing open, but one that was passed");
    test_peer_stop(me, peer);
    test_stop(me);
}

/* ---- SIGTERM ---- */

static char says[80];
static int hears = -1;

/* The next line that it says. */
static const char *
listen_to_it(void)
{
    static char text[400];
    struct pollfd readable = { .fd = hears, .events = POLLIN };
    size_t n = 0;

    do {
        assert_int_equal(poll(&readable, 1, TEST_PATIENCE_MS), 1);
        assert_int_equal(read(hears, &text[n++], 1), 1);
    } while (text[n - 1] != '\n' && n < sizeof text - 1);
    text[n] = '\0';
    return text;
}

static void
stop_listening(void)
{
    close(hears);
    unlink(says);
}

/* One that has sent up to `n` to the slow one, and waits for a signal; how many. */
static test_peer *
start_worker(troupe_self *me, troupe_ref who, int64_t n, int *ret_sent)
{
    test_peer *peer;

    snprintf(says, sizeof says, "%.60s/says", getenv("XDG_RUNTIME_DIR"));
    assert_int_equal(mkfifo(says, 0600), 0);
    hears = open(says, O_RDWR | O_CLOEXEC); /* it never ends: nothing is lost between two lines */
    assert_true(hears >= 0);
    peer = test_peer_start(me, "there");
    test_peer_tell(me, peer, work_until_term, who, n);
    *ret_sent = atoi(listen_to_it());
    assert_true(*ret_sent > 16); /* than the mailbox has room for */
    return peer;
}

static void
sigterm_drains(void **state)
{
    enum { MOST = 3000 };
    troupe_self *me = test_start(.node = "here", .threads = 2);
    troupe_ref who = troupe_spawn_with(me, &slow, .own_thread = true);
    test_peer *peer;
    int ends[2], sent;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    gate = ends[0];
    peer = start_worker(me, who, MOST, &sent);
    test_await_catching(test_peer_pid(peer), SIGTERM);
    assert_int_equal(kill(test_peer_pid(peer), SIGTERM), 0);
    assert_string_equal(listen_to_it(), "stopping\n");
    close(ends[1]); /* now that one handles them */
    assert_string_equal(listen_to_it(), "0 in peace\n");
    test_peer_await(peer, 0, 0);
    test_expect_tally(me, who, (uint64_t)sent);
    assert_true(row_health(me).lost == 0 && row_health(me).linked == 0);
    stop_listening();
    close(ends[0]);
    row_saw(
        "all of %d messages that waited came after SIGTERM, in order, and it ended with a goodbye",
        sent);
    test_stop(me);
}

/* Nobody takes them in time: the process that should is stopped. */
static void
sigterm_reports_what_is_left(void **state)
{
    enum { MOST = 3000 };
    troupe_self *me = test_start(.node = "here", .down_ms = 600000);
    test_peer *stopped = test_peer_start(me, "stopped"), *peer;
    troupe_ref who = test_make(me, "stopped", &slow);
    const char *text;
    char words[100];
    int sent;
    int64_t began;

    row_pause(stopped);
    peer = start_worker(me, who, MOST, &sent);
    test_await_catching(test_peer_pid(peer), SIGTERM);
    assert_int_equal(kill(test_peer_pid(peer), SIGTERM), 0);
    assert_string_equal(listen_to_it(), "stopping\n");
    began = test_now_ms();
    text = listen_to_it();
    row_saw("after %d ms: %s", (int)(test_now_ms() - began), text);
    snprintf(words, sizeof words, "node stopped did not part in time, %d messages were not taken",
             sent);
    if (!strstr(text, words) || atoi(text) != -ETIMEDOUT) {
        fail_msg("\"%s\" does not say how many were not delivered to whom", text);
    }
    test_peer_await(peer, 0, -1);
    test_peer_kill(stopped, SIGKILL);
    stop_listening();
    test_stop(me);
}

static void
second_sigterm(void **state)
{
    enum { MOST = 3000 };
    troupe_self *me = test_start(.node = "here", .threads = 2);
    troupe_ref who = troupe_spawn_with(me, &slow, .own_thread = true);
    test_peer *peer;
    int64_t began;
    int ends[2], sent;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    gate = ends[0];
    peer = start_worker(me, who, MOST, &sent);
    test_await_catching(test_peer_pid(peer), SIGTERM);
    assert_int_equal(kill(test_peer_pid(peer), SIGTERM), 0);
    assert_string_equal(listen_to_it(), "stopping\n");
    began = test_now_ms();
    test_peer_kill(peer, SIGTERM);
    row_saw("killed by the second SIGTERM in the middle of stopping, within %d ms",
            (int)(test_now_ms() - began));
    close(ends[1]);
    stop_listening();
    test_calm(me);
    close(ends[0]);
    test_stop(me);
}

/* Those who are stopped here are not taken for dead. */
static void
configure(troupe_config *config)
{
    config->down_ms = 600000;
    config->stop_timeout_ms = 2000;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(fd_exhaustion),
        guarded(fork_in_user_code),
        guarded(spawn_inherits_nothing),
        guarded(sigterm_drains),
        guarded(sigterm_reports_what_is_left),
        guarded(second_sigterm),
    };

    if (argc > 1 && strcmp(argv[1], "--count") == 0) {
        return count_open();
    }
    test_configure_peer = configure;
    return row_main(argc, argv, tests);
}
