/*
 * test_launch.c - processes that are launched, die, are started again, and stop
 *
 * The launched program is this one, with "serve" as its argument.
 */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/guard.h"

#include "mailbox/memory.h"
#include "runtime/process.h"

/* ---- what launched processes do ---- */

#define WHO_FIELDS(field, T) field(T, i64, pid) field(T, u64, number)
TROUPE_MESSAGE(who_are_you, WHO_FIELDS);
TROUPE_MESSAGE(i_am, WHO_FIELDS);
#define DO_FIELDS(field, T) field(T, text, what, 16) field(T, i32, number)
TROUPE_MESSAGE(do_it, DO_FIELDS);

static void
on_who(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, i_am, .pid = getpid(), .number = troupe_body(msg, who_are_you)->number);
}

static void
on_do(troupe_self *self, troupe_msg *msg)
{
    const do_it *order = troupe_body(msg, do_it);

    if (strcmp(order->what, "exit") == 0) {
        _exit(order->number); /* with nothing undone */
    } else if (strcmp(order->what, "say") == 0) {
        fprintf(stderr, "I was told %d\nand this has no end", order->number);
        _exit(0);
    } else if (strcmp(order->what, "babble") == 0) { /* as a program does that has gone mad */
        static char line[5000];

        memset(line, 'x', sizeof line);
        for (int i = 0; i < order->number; i++) {
            fwrite(line, 1, sizeof line, stderr);
        }
        fwrite("\n\033[2Ja\0b\177\n", 1, 10, stderr);
        _exit(0);
    } else if (strcmp(order->what, "raise") == 0) {
        signal(order->number, SIG_DFL); /* sanitizers have handlers */
        raise(order->number);
    } else {
        for (;;) {
            pause();
        }
    }
}

static const troupe_behavior worker = {
    .name = "worker",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(who_are_you, on_who), TROUPE_ON(do_it, on_do)),
};
TROUPE_EXPORT(worker);

static int
refuse(troupe_self *self, const void *args)
{
    troupe_fail(self, EDOM, "not in the mood");
    return -EDOM;
}

static const troupe_behavior refuser = { .name = "refuser", .init = refuse };
TROUPE_EXPORT(refuser);
static const troupe_behavior unknown = { .name = "unknown" };

/* ---- the launcher's side ---- */

static const char *const serve[] = { "/proc/self/exe", "serve", NULL };

static int
launch(troupe_self *me, const char *node)
{
    int pid = troupe_launch(me, &(troupe_process){ .node = node, .argv = serve, .threads = 1 });

    if (pid < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    return pid;
}

static troupe_ref
spawn_on(troupe_self *me, const char *node)
{
    troupe_ref who = troupe_spawn_on(me, node, &worker);

    if (troupe_is_nobody(who)) {
        fail_msg("%s", troupe_last_error().text);
    }
    return who;
}

static int
pid_of(troupe_self *me, troupe_ref who)
{
    troupe_msg *msg = troupe_call(me, who, TEST_PATIENCE_MS, who_are_you, .number = 7);
    int pid;

    if (!msg) {
        fail_msg("%s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(msg, i_am)->number, 7);
    pid = (int)troupe_body(msg, i_am)->pid;
    troupe_release(msg);
    return pid;
}

/* The next DOWN must be of a node, and say that. */
static void
expect_down(troupe_self *me, const char *words)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    assert_int_equal(down->reason, TROUPE_REASON_NODE);
    if (!strstr(down->text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", down->text, words);
    }
    troupe_release(msg);
}

/* Files of a node in the run directory, but for its lock. */
static unsigned
files_of(const char *node)
{
    char path[200];
    unsigned n = 0;
    struct dirent *entry;
    DIR *dir;

    snprintf(path, sizeof path, "%s/troupe/default", getenv("XDG_RUNTIME_DIR"));
    dir = opendir(path);
    while (dir && (entry = readdir(dir)) != NULL) {
        n += strncmp(entry->d_name, node, strlen(node)) == 0 &&
             entry->d_name[strlen(node)] == '.' && !strstr(entry->d_name, ".lock");
    }
    if (dir) {
        closedir(dir);
    }
    return n;
}

/* ---- tests ---- */

static void
a_launched_process_serves_a_node(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    int first = launch(me, "one"), second = launch(me, "two");

    assert_int_not_equal(first, second);
    assert_int_equal(pid_of(me, spawn_on(me, "one")), first);
    assert_int_equal(pid_of(me, spawn_on(me, "two")), second);
    assert_int_equal(getpgid(first), first); /* the terminal's signals are not for it */
    test_stop(me);
    assert_int_equal(kill(first, 0), -1);
    assert_int_equal(kill(second, 0), -1);
}

static void
a_node_without_a_name_launches_as_well(void **state)
{
    troupe_self *me = test_start(.threads = 2);
    int pid = launch(me, "child");

    assert_int_equal(pid_of(me, spawn_on(me, "child")), pid);
    test_stop(me);
}

static const troupe_behavior launcher; /* below */

static int
launch_in_init(troupe_self *self, const void *args)
{
    return troupe_launch(self, &(troupe_process){ .node = "inner", .argv = serve });
}

static const troupe_behavior launcher = { .name = "launcher", .init = launch_in_init };

static void
what_cannot_be_launched_is_told(void **state)
{
    static const char *const missing[] = { "/no/such/program", NULL };
    static const char *const empty[] = { NULL };
    static const char *const loser[] = { "sh", "-c", "echo no such luck >&2; exit 3", NULL };
    static const char *const sleeper[] = { "sleep", "1000", NULL };
    troupe_self *me = test_start(.node = "boss");
    unsigned fds;

    assert_int_equal(troupe_launch(me, &(troupe_process){ .argv = serve }), -EINVAL);
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "A", .argv = serve }), -EINVAL);
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "boss", .argv = serve }),
                     -EADDRINUSE);
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "a", .argv = empty }), -EINVAL);
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "a", .argv = missing }), -ENOENT);
    test_assert_error(-ENOENT, "/no/such/program");
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "a", .argv = loser }), -ECHILD);
    test_assert_error(-ECHILD, "exited with status 3");
    test_assert_error(-ECHILD, "no such luck");
    fds = test_open_fds();
    assert_int_equal(
        troupe_launch(me, &(troupe_process){ .node = "a", .argv = sleeper, .timeout_ms = 50 }),
        -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "process a");
    assert_int_equal(test_open_fds(), fds);
    launch(me, "a");
    assert_int_equal(troupe_launch(me, &(troupe_process){ .node = "a", .argv = serve }),
                     -EADDRINUSE);
    test_assert_error(-EADDRINUSE, "runs already");
    assert_true(troupe_is_nobody(troupe_spawn(me, &launcher)));
    assert_int_equal(troupe_last_error().code, -EDEADLK);
    test_stop(me);
}

static void
without_descriptors_nothing_is_launched(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    struct rlimit before, few;
    unsigned refused = 0;
    int rc = -1;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = test_open_fds();
    for (; rc < 0 && refused < 100; few.rlim_cur++) {
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rc = troupe_launch(
            me, &(troupe_process){ .node = "poor", .argv = serve, .timeout_ms = TEST_PATIENCE_MS });
        if (rc < 0) {
            assert_true(rc == -EMFILE || rc == -ECHILD); /* ours, or its own */
            refused++;
        }
    }
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    print_message("  refused %u times\n", refused);
    assert_true(rc > 0);
    assert_int_equal(pid_of(me, spawn_on(me, "poor")), rc);
    test_stop(me);
}

static void
order(troupe_self *me, troupe_ref who, const char *what, int number)
{
    do_it it = { .number = number };

    snprintf(it.what, sizeof it.what, "%s", what);
    assert_int_equal(troupe_send_value(me, who, do_it, &it), 0);
}

static void
an_end_is_told_in_words(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    static const struct {
        const char *what;
        int number;
        const char *words;
    } ends[] = {
        { "raise", SIGKILL, "node victim: killed by SIGKILL" },
        { "raise", SIGSEGV, "node victim: killed by SIGSEGV" },
        { "raise", SIGABRT, "node victim: killed by SIGABRT" },
        { "exit", 3, "node victim: exited with status 3" },
    };

    for (size_t i = 0; i < TEST_COUNT(ends); i++) {
        troupe_ref who;

        launch(me, "victim");
        who = spawn_on(me, "victim");
        assert_int_not_equal(troupe_monitor(me, who), 0);
        order(me, who, ends[i].what, ends[i].number);
        expect_down(me, ends[i].words);
        assert_int_equal(files_of("victim"), 0);
        assert_int_not_equal(troupe_monitor(me, who), 0); /* too late, and told at once */
        expect_down(me, "");
        assert_null(troupe_call(me, who, TROUPE_FOREVER, who_are_you, .number = 1));
    }
    test_stop(me);
}

static void
a_death_is_told_with_what_was_handled(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_msg *msg;
    troupe_ref who;
    int pid;

    launch(me, "victim");
    who = spawn_on(me, "victim");
    troupe_monitor(me, who);
    order(me, who, "raise", SIGSEGV);
    msg = test_receive(me, troupe_down);
    assert_int_equal(troupe_body(msg, troupe_down)->code, SIGSEGV);
    assert_non_null(strstr(troupe_body(msg, troupe_down)->text, "SIGSEGV while worker "));
    assert_non_null(strstr(troupe_body(msg, troupe_down)->text, " handled do_it"));
    troupe_release(msg);
    pid = launch(me, "victim"); /* and one that does nothing dies of nothing */
    who = spawn_on(me, "victim");
    troupe_monitor(me, who);
    assert_int_equal(kill(pid, SIGKILL), 0);
    msg = test_receive(me, troupe_down);
    assert_string_equal(troupe_body(msg, troupe_down)->text, "node victim: killed by SIGKILL");
    assert_int_equal(troupe_body(msg, troupe_down)->code, SIGKILL);
    troupe_release(msg);
    test_stop(me);
}

static void
its_error_output_comes_line_by_line(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    char path[] = "/tmp/troupe-stderr-XXXXXX", text[8192] = "";
    int file = mkstemp(path), saved = dup(2);
    troupe_ref who;

    assert_true(file >= 0 && saved >= 0);
    launch(me, "talker");
    who = spawn_on(me, "talker");
    troupe_monitor(me, who);
    dup2(file, 2);
    order(me, who, "say", 42);
    expect_down(me, "exited with status 0");
    dup2(saved, 2);
    close(saved);
    assert_true(pread(file, text, sizeof text - 1, 0) > 0);
    close(file);
    unlink(path);
    assert_non_null(strstr(text, "[talker] I was told 42\n"));
    assert_non_null(
        strstr(text, "[talker] and this has no end")); /* the watchdog may go on there */
    test_stop(me);
}

static void
whatever_it_says_comes_in_lines(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    char path[] = "/tmp/troupe-stderr-XXXXXX", line[2000];
    int copy = mkstemp(path), saved = dup(2);
    FILE *file = fdopen(copy, "r");
    size_t n_xs = 0;
    bool said = false;
    troupe_ref who;

    assert_true(file && saved >= 0);
    launch(me, "talker");
    who = spawn_on(me, "talker");
    troupe_monitor(me, who);
    dup2(copy, 2);
    order(me, who, "babble", 200);
    expect_down(me, "exited with status 0");
    dup2(saved, 2);
    close(saved);
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        assert_true(strlen(line) < 1100);
        if (strncmp(line, "[talker] ", 9) == 0) {
            n_xs += strspn(line + 9, "x");
            said |= strcmp(line, "[talker] ?[2Ja?b?\n") == 0;
        }
    }
    assert_true(said);
    assert_int_equal(n_xs, 200 * 5000); /* all of it, however little was kept at a time */
    fclose(file);
    unlink(path);
    test_stop(me);
}

static void
one_that_restarts_is_there_again(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    int pid =
        troupe_launch(me, &(troupe_process){ .node = "phoenix", .argv = serve, .restarts = true });

    assert_true(pid > 0);
    for (int i = 0; i < 3; i++) {
        troupe_ref who = spawn_on(me, "phoenix"), next = TROUPE_NOBODY;

        assert_int_equal(pid_of(me, who), pid);
        troupe_monitor(me, who);
        kill(pid, SIGKILL);
        expect_down(me, "SIGKILL");
        for (int tries = 0; troupe_is_nobody(next) && tries < TEST_PATIENCE_MS; tries++) {
            next = troupe_spawn_on(me, "phoenix", &worker);
            usleep(troupe_is_nobody(next) ? 1000 : 0);
        }
        assert_false(troupe_is_nobody(next));
        assert_int_not_equal(pid_of(me, next), pid);
        pid = pid_of(me, next);
    }
    test_stop(me);
}

/* It hangs, so it cannot end by itself: its launcher kills it, and another is there. */
static void
one_that_hangs_is_killed_and_started_again(void **state)
{
    troupe_self *me = test_start(.node = "boss", .down_ms = 500);
    int pid =
        troupe_launch(me, &(troupe_process){ .node = "phoenix", .argv = serve, .restarts = true });
    troupe_ref who, next = TROUPE_NOBODY;

    assert_true(pid > 0);
    who = spawn_on(me, "phoenix");
    troupe_monitor(me, who);
    kill(pid, SIGSTOP);
    expect_down(me, "no sign of life for 1500 ms"); /* six of its beats */
    for (int tries = 0; troupe_is_nobody(next) && tries < TEST_PATIENCE_MS; tries++) {
        next = troupe_spawn_on(me, "phoenix", &worker);
        usleep(troupe_is_nobody(next) ? 1000 : 0);
    }
    assert_false(troupe_is_nobody(next));
    assert_int_not_equal(pid_of(me, next), pid);
    test_stop(me);
}

/* Launch one that ends at once, again and again, as soon as its name is free; how often the answer was none that can
 * be. */
static unsigned
launch_losers(troupe_self *self)
{
    static const char *const loser[] = { "false", NULL };
    unsigned n_wrong = 0;

    for (unsigned n = 0; n < test_scaled(20);) {
        int rc = troupe_launch(self, &(troupe_process){ .node = "twin", .argv = loser });

        n += rc != -EADDRINUSE;
        n_wrong += rc != -ECHILD && rc != -EADDRINUSE;
        sched_yield();
    }
    return n_wrong;
}

static void *
launch_twins(void *argument)
{
    troupe_self *self = troupe_attach(argument);
    unsigned n_wrong = self ? launch_losers(self) : 1;

    return (void *)(uintptr_t)(n_wrong + (self && troupe_detach(self) < 0));
}

static void
a_name_is_launched_by_two_at_once(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    pthread_t other;
    void *n_wrong;

    assert_int_equal(pthread_create(&other, NULL, launch_twins, me), 0);
    assert_int_equal(launch_losers(me), 0);
    assert_int_equal(pthread_join(other, &n_wrong), 0);
    assert_null(n_wrong);
    test_stop(me);
}

static atomic_uint allocations; /* until the one that is refused; 0: none is */

static bool
refuse_keepers(void *context, size_t size)
{
    char name[16] = "";
    unsigned left = atomic_load(&allocations);

    pthread_getname_np(pthread_self(), name, sizeof name);
    return left > 0 && strstr(name, "process") && atomic_fetch_sub(&allocations, 1) == 1;
}

/* Whatever there is no memory for when it is started again: it is there at last, and nothing is left behind. */
static void
one_that_restarts_does_so_without_memory(void **state)
{
    troupe_self *me;
    int pid;

    trp_memory_refuse(refuse_keepers, NULL); /* no node is there yet */
    me = test_start(.node = "boss");
    pid = troupe_launch(
        me, &(troupe_process){ .node = "phoenix", .argv = serve, .threads = 1, .restarts = true });
    assert_true(pid > 0);
    for (unsigned n = 1; n <= 8; n++) {
        int before = pid;

        print_message("  %u\n", n);
        atomic_store(&allocations, n);
        assert_int_equal(kill(pid, SIGKILL), 0);
        for (int i = 0; i < TEST_PATIENCE_MS && pid == before; i++) {
            troupe_ref who = troupe_spawn_on(me, "phoenix", &worker);

            pid = troupe_is_nobody(who) ? before : pid_of(me, who);
            usleep(1000);
        }
        assert_int_not_equal(pid, before);
        atomic_store(&allocations, 0);
    }
    test_stop(me);
    trp_memory_refuse(NULL, NULL);
}

static void
a_process_that_does_not_end_is_killed_and_named(void **state)
{
    troupe_self *me = test_start(.node = "boss", .stop_timeout_ms = 800);
    int stopped = launch(me, "frozen"), stuck = launch(me, "busy");

    order(me, spawn_on(me, "busy"), "loop", 0);
    pid_of(me, spawn_on(me, "frozen"));
    kill(stopped, SIGSTOP);
    assert_int_equal(troupe_stop(me), -ETIMEDOUT);
    test_assert_error(-ETIMEDOUT, "frozen");
    assert_int_equal(kill(stopped, 0), -1);
    assert_int_equal(kill(stuck, 0), -1);
}

static void
sigterm_ends_it_in_peace(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    int pid = launch(me, "calm");
    troupe_ref who = spawn_on(me, "calm");

    troupe_monitor(me, who);
    kill(pid, SIGTERM);
    expect_down(me, ""); /* it has said goodbye */
    test_wait_until_gone(pid);
    test_stop(me);
}

static void
one_that_survives_goes_on(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    int pid =
        troupe_launch(me, &(troupe_process){ .node = "hardy", .argv = serve, .survives = true });
    int status;

    assert_true(pid > 0);
    test_stop(me);
    assert_int_equal(kill(pid, 0), 0);
    me = test_start(.node = "boss");
    assert_int_equal(pid_of(me, spawn_on(me, "hardy")), pid);
    kill(pid, SIGTERM);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    test_stop(me);
}

static void
nobody_outlives_a_launcher_that_is_killed(void **state)
{
    static const char *const boss[] = { "/proc/self/exe", "launch", "orphan", NULL };
    troupe_self *me = test_start(.node = "watcher");
    struct trp_process_options options = { .argv = boss };
    troupe_ref who = TROUPE_NOBODY;
    trp_process process;
    int pid, status;

    options.world = trp_world_choose();
    assert_int_equal(trp_process_start(&options, &process), 0);
    for (int i = 0; troupe_is_nobody(who) && i < TEST_PATIENCE_MS; i++) {
        who = troupe_spawn_on(me, "orphan", &worker);
        usleep(troupe_is_nobody(who) ? 1000 : 0);
    }
    pid = pid_of(me, who);
    troupe_monitor(me, who);
    kill(process.pid, SIGKILL);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    trp_process_close(&process);
    expect_down(me, "");
    test_wait_until_gone(pid);
    test_stop(me);
    test_stop(test_start(.node = "bad-boss")); /* a successor removes what it left */
}

static void
worker_processes_are_a_pool_and_come_back(void **state)
{
    troupe_self *me = test_start(.node = "front", .processes = 2);
    troupe_ref pool = troupe_pool(
        me,
        &(troupe_pool_options){ .behavior = &worker, .size = 4, .place = TROUPE_EVERY_PROCESS });
    int pids[2], again[2] = { 0, 0 };

    assert_false(troupe_is_nobody(pool));
    pids[0] = pid_of(me, pool);
    pids[1] = pid_of(me, pool);
    assert_int_not_equal(pids[0], pids[1]);
    assert_int_not_equal(pids[0], getpid());
    for (int i = 0; i < 40; i++) {
        int pid = pid_of(me, pool);

        assert_true(pid == pids[0] || pid == pids[1]);
    }
    kill(pids[0], SIGKILL);
    while (again[0] == 0 || again[1] == 0) { /* until both answer, one of them new */
        troupe_msg *msg = troupe_call(me, pool, TEST_PATIENCE_MS, who_are_you, .number = 7);
        int pid = msg ? (int)troupe_body(msg, i_am)->pid : pids[0];

        if (pid == pids[1]) {
            again[1] = pid;
        } else if (pid != pids[0]) {
            again[0] = pid;
        }
        if (msg) {
            troupe_release(msg);
        }
    }
    assert_int_equal(troupe_retire(me, pool), 0);
    test_stop(me);
}

/* How many different processes answer within so many questions. */
static unsigned
count_processes(troupe_self *me, troupe_ref pool, int pids[], unsigned n_most, unsigned questions)
{
    unsigned n = 0;

    for (unsigned i = 0; i < questions; i++) {
        troupe_msg *msg = troupe_call(me, pool, TEST_PATIENCE_MS, who_are_you, .number = 7);
        int pid = msg ? (int)troupe_body(msg, i_am)->pid : 0;
        unsigned at = 0;

        if (msg) {
            troupe_release(msg);
        }
        while (at < n && pids[at] != pid) {
            at++;
        }
        if (pid && at == n && n < n_most) {
            pids[n++] = pid;
        }
    }
    return n;
}

static void
a_pool_keeps_its_size_whoever_dies_under_load(void **state)
{
    troupe_self *me = test_start(.node = "front", .processes = 3);
    troupe_ref pool = troupe_pool(
        me,
        &(troupe_pool_options){ .behavior = &worker, .size = 6, .place = TROUPE_EVERY_PROCESS });
    uint64_t random = test_seed();
    int pids[3];

    assert_false(troupe_is_nobody(pool));
    assert_int_equal(count_processes(me, pool, pids, 3, 6), 3);
    for (unsigned round = 0; round < 5; round++) {
        for (int i = 0; i < 500; i++) {
            troupe_send(me, pool, who_are_you, .number = 7);
        }
        assert_int_equal(kill(pids[test_random(&random) % 3], SIGKILL), 0);
        if (round == 4) { /* all of them */
            for (int i = 0; i < 3; i++) {
                kill(pids[i], SIGKILL);
            }
        }
        while (count_processes(me, pool, pids, 3, 12) < 3) { /* until all are there again */
        }
        for (troupe_msg *msg; (msg = troupe_receive(me, 0)) != NULL;) {
            troupe_release(msg);
        }
    }
    assert_int_equal(count_processes(me, pool, pids, 3, 6), 3); /* each of six workers once */
    assert_int_equal(troupe_retire(me, pool), 0);
    test_stop(me);
}

static void
anywhere_is_where_fewest_live(void **state)
{
    troupe_self *me = test_start(.node = "front", .processes = 2, .threads = 1);
    unsigned n_here = 0, n_first = 0, n_second = 0;
    int first = pid_of(me, spawn_on(me, "front-1")), second = pid_of(me, spawn_on(me, "front-2"));
    troupe_ref who = TROUPE_NOBODY;

    for (int i = 0; i < 60; i++) {
        int pid = pid_of(me, spawn_on(me, TROUPE_ANYWHERE));

        n_here += pid == getpid();
        n_first += pid == first;
        n_second += pid == second;
    }
    print_message("  %u here, %u and %u there\n", n_here, n_first, n_second);
    assert_int_equal(n_here + n_first + n_second, 60);
    assert_true(n_here >= 15 && n_first >= 15 && n_second >= 15);
    for (int i = 0; i < 40; i++) { /* where there are many, no more go */
        assert_int_equal(pid_of(me, spawn_on(me, "front-1")), first);
    }
    for (int i = 0; i < 30; i++) {
        assert_int_not_equal(pid_of(me, spawn_on(me, TROUPE_ANYWHERE)), first);
    }
    for (int i = 0; i < 30; i++) { /* also when nobody waits for the last one */
        assert_int_not_equal(troupe_spawn_on_later(me, TROUPE_ANYWHERE, TEST_PATIENCE_MS, &worker),
                             0);
    }
    for (int i = 0; i < 30; i++) {
        troupe_msg *msg = test_receive(me, troupe_spawned);

        assert_int_equal(troupe_body(msg, troupe_spawned)->code, 0);
        who = troupe_body(msg, troupe_spawned)->who;
        troupe_release(msg);
    }
    assert_false(troupe_is_nobody(who));
    test_stop(me);
}

/* Until one answers: what is sent before the pool has heard of a death goes to the dead. */
static void
await_worker(troupe_self *me, troupe_ref pool)
{
    troupe_msg *msg = NULL;

    while (!msg) {
        msg = troupe_call(me, pool, TEST_PATIENCE_MS, who_are_you, .number = 7);
        assert_true(msg || troupe_last_error().code == -ENOENT);
    }
    troupe_release(msg);
}

static void
questions_passed_on_end_with_the_process(void **state)
{
    troupe_self *me = test_start(.node = "front", .processes = 1);
    troupe_ref pool = troupe_pool(
        me, &(troupe_pool_options){ .behavior = &worker, .place = TROUPE_EVERY_PROCESS });
    uint64_t request;
    troupe_msg *msg;

    request = troupe_ask(me, pool, TROUPE_FOREVER, do_it, .what = "raise", .number = SIGKILL);
    msg = test_receive(me, troupe_unanswered);
    assert_int_equal(troupe_body(msg, troupe_unanswered)->request, request);
    assert_true(troupe_ref_equal(troupe_body(msg, troupe_unanswered)->who, pool));
    assert_true(troupe_is_nobody(troupe_sender(msg)));
    troupe_release(msg);
    await_worker(me, pool);
    assert_null(troupe_call(me, pool, TROUPE_FOREVER, do_it, .what = "raise", .number = SIGKILL));
    assert_int_equal(troupe_last_error().code, -ENOENT);
    await_worker(me, pool);
    test_stop(me);
}

static void
pools_elsewhere_say_what_is_wrong(void **state)
{
    troupe_self *me = test_start(.node = "front", .processes = 1);

    assert_true(troupe_is_nobody(troupe_pool(
        me, &(troupe_pool_options){ .behavior = &unknown, .place = TROUPE_EVERY_PROCESS })));
    test_assert_error(-ENOENT, "unknown");
    assert_true(troupe_is_nobody(troupe_pool(
        me, &(troupe_pool_options){ .behavior = &refuser, .place = TROUPE_EVERY_PROCESS })));
    test_assert_error(-ECANCELED, "not in the mood");
    test_stop(me);
}

static void
actors_elsewhere_can_be_asked_for_by_messages(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    uint64_t request;
    troupe_msg *msg;

    launch(me, "there");
    assert_int_equal(troupe_spawn_on_later(me, "nowhere", 1000, &worker), 0);
    test_assert_error(-ENOTCONN, "nowhere");
    request = troupe_spawn_on_later(me, "there", TEST_PATIENCE_MS, &worker);
    msg = test_receive(me, troupe_spawned);
    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, troupe_spawned)->code, 0);
    pid_of(me, troupe_body(msg, troupe_spawned)->who);
    troupe_release(msg);
    request = troupe_spawn_on_later(me, "there", TEST_PATIENCE_MS, &unknown);
    msg = test_receive(me, troupe_spawned);
    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(troupe_body(msg, troupe_spawned)->code, -ENOENT);
    troupe_release(msg);
    request = troupe_spawn_on_later(me, "boss", TEST_PATIENCE_MS, &worker); /* that is here */
    msg = test_receive(me, troupe_spawned);
    assert_int_equal(troupe_request(msg), request);
    assert_int_equal(pid_of(me, troupe_body(msg, troupe_spawned)->who), getpid());
    troupe_release(msg);
    test_stop(me);
}

/* The program "launch NAME": a launcher that waits to be killed. */
static int
be_launcher(const char *name)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "bad-boss", .threads = 1 });

    if (!me || troupe_launch(me, &(troupe_process){ .node = name, .argv = serve }) < 0) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    for (;;) {
        pause();
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        guarded(a_launched_process_serves_a_node),
        guarded(a_node_without_a_name_launches_as_well),
        guarded(what_cannot_be_launched_is_told),
        guarded(without_descriptors_nothing_is_launched),
        guarded(an_end_is_told_in_words),
        guarded(a_death_is_told_with_what_was_handled),
        guarded(its_error_output_comes_line_by_line),
        guarded(whatever_it_says_comes_in_lines),
        guarded(one_that_restarts_is_there_again),
        guarded(one_that_hangs_is_killed_and_started_again),
        guarded(a_name_is_launched_by_two_at_once),
        guarded(one_that_restarts_does_so_without_memory),
        guarded(a_process_that_does_not_end_is_killed_and_named),
        guarded(sigterm_ends_it_in_peace),
        guarded(one_that_survives_goes_on),
        guarded(nobody_outlives_a_launcher_that_is_killed),
        guarded(worker_processes_are_a_pool_and_come_back),
        guarded(a_pool_keeps_its_size_whoever_dies_under_load),
        guarded(anywhere_is_where_fewest_live),
        guarded(questions_passed_on_end_with_the_process),
        guarded(pools_elsewhere_say_what_is_wrong),
        guarded(actors_elsewhere_can_be_asked_for_by_messages),
    };

    if (argc > 1 && strcmp(argv[1], "launch") == 0) {
        return be_launcher(argv[2]);
    }
    if (getenv("TROUPE_CHILD")) { /* .processes runs us as we were started */
        troupe_start(NULL);
        return 1;
    }
    if (!test_has_pidfds()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
