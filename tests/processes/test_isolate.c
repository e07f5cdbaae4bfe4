/*
 * test_isolate.c - children of supervisors that are processes
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/guard.h"

extern char **environ;

/* ---- what runs in the processes ---- */

#define DOCUMENT_FIELDS(field, T) field(T, text, what, 16) field(T, i32, number)
TROUPE_MESSAGE(document, DOCUMENT_FIELDS);
#define PARSED_FIELDS(field, T) field(T, i64, pid) field(T, i64, child) field(T, i32, number)
TROUPE_MESSAGE(parsed, PARSED_FIELDS);
TROUPE_SIGNAL(blow_up);

struct parser_args {
    char in_init[16], in_stop[16]; /* what to do then */
    char path[64];                 /* of a file to make in init, or that must be there; "" */
};

struct parser {
    struct parser_args args;
    int32_t n;
};

static void
die_by(int signo)
{
    signal(signo, SIG_DFL); /* sanitizers have handlers */
    raise(signo);
}

static int64_t
start_grandchild(void)
{
    char *const argv[] = { "sleep", "1000", NULL };
    pid_t pid = 0;

    return posix_spawnp(&pid, "sleep", NULL, NULL, argv, environ) == 0 ? pid : 0;
}

/* One more than there may be. */
static bool
opens_too_many(int limit)
{
    int fds[256], n = 0;

    while (n < limit && n < 256 && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        n++;
    }
    for (int i = 0; i < n; i++) {
        close(fds[i]);
    }
    return n == limit || n == 256;
}

static void
obey(troupe_self *self, const char *what, int number)
{
    if (strcmp(what, "raise") == 0) {
        die_by(number);
    } else if (strcmp(what, "exit") == 0) {
        _exit(number);
    } else if (strcmp(what, "fail") == 0) {
        troupe_fail(self, number, "it is no document");
    } else if (strcmp(what, "quit") == 0) {
        troupe_exit(self);
    } else if (strcmp(what, "hog") == 0) {
        for (;;) {
            char *volatile piece = malloc(1 << 20); /* else compilers leave it out */

            if (!piece) {
                die_by(SIGABRT);
            }
            memset(piece, 1, 1 << 20);
        }
    } else if (strcmp(what, "spin") == 0) {
        for (volatile unsigned i = 0;; i++) {
        }
    } else if (strcmp(what, "hang") == 0) {
        for (;;) {
            pause();
        }
    }
}

static int
parser_init(troupe_self *self, const void *args)
{
    struct parser *state = troupe_state(self);
    int fd;

    if (args) {
        state->args = *(const struct parser_args *)args;
    }
    if (strcmp(state->args.in_init, "refuse") == 0) {
        troupe_fail(self, EDOM, "not in the mood");
        return -EDOM;
    }
    obey(self, state->args.in_init, SIGSEGV);
    if (state->args.path[0]) {
        fd = open(state->args.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (fd < 0) {
            return -errno;
        }
        close(fd);
    }
    return 0;
}

static void
parser_stop(troupe_self *self)
{
    const struct parser *state = troupe_state(self);

    obey(self, state->args.in_stop, SIGSEGV);
}

static void
on_document(troupe_self *self, troupe_msg *msg)
{
    struct parser *state = troupe_state(self);
    const document *it = troupe_body(msg, document);
    int64_t child = strcmp(it->what, "spawn") == 0  ? start_grandchild()
                    : strcmp(it->what, "open") == 0 ? opens_too_many(100)
                                                    : 0;

    if (strcmp(it->what, "fail") == 0 || strcmp(it->what, "quit") == 0) {
        obey(self, it->what, it->number); /* and nothing is said */
        return;
    }
    obey(self, it->what, it->number);
    troupe_reply(self, msg, parsed, .pid = getpid(), .child = child, .number = ++state->n);
}

static void
on_blow_up(troupe_self *self, troupe_msg *msg)
{
    die_by(SIGSEGV);
}

static const troupe_behavior parser = {
    .name = "parser",
    .state_size = sizeof(struct parser),
    .init = parser_init,
    .stop = parser_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(document, on_document), TROUPE_ON(blow_up, on_blow_up)),
};
TROUPE_EXPORT(parser);

static const troupe_behavior hidden = { .name = "hidden" };

/* One that lives here, and starts only when a file is there. */
static int
follower_init(troupe_self *self, const void *args)
{
    const struct parser_args *given = args;
    struct stat it;

    return stat(given->path, &it) == 0 ? 0 : -ENOENT;
}

static const troupe_behavior follower = { .name = "follower", .init = follower_init };

/* ---- the supervisor's side ---- */

static const troupe_process alone; /* whatever is the default */

static troupe_ref
supervise(troupe_self *me, const troupe_child *children, size_t n)
{
    troupe_ref who = troupe_supervise(
        me, &(troupe_supervisor){ .children = children, .n_children = n, .max_restarts = 10 });

    if (troupe_is_nobody(who)) {
        fail_msg("%s", troupe_last_error().text);
    }
    return who;
}

static troupe_ref
supervise_one(troupe_self *me)
{
    static const troupe_child child = { .behavior = &parser, .name = "parser", .isolate = &alone };

    return supervise(me, &child, 1);
}

static parsed
ask(troupe_self *me, troupe_ref who, const char *what)
{
    document question = { .number = 0 };
    troupe_msg *msg;
    parsed answer;

    snprintf(question.what, sizeof question.what, "%s", what);
    msg = troupe_call_value(me, who, TEST_PATIENCE_MS, document, &question);
    if (!msg) {
        fail_msg("%s", troupe_last_error().text);
    }
    answer = *troupe_body(msg, parsed);
    troupe_release(msg);
    return answer;
}

static int
pid_of(troupe_self *me, troupe_ref who)
{
    return (int)ask(me, who, "hello").pid;
}

static troupe_ref
find(troupe_self *me, const char *name)
{
    troupe_ref who = troupe_find(me, name, TEST_PATIENCE_MS);

    assert_false(troupe_is_nobody(who));
    return who;
}

/* The one that has come in its place. */
static troupe_ref
find_next(troupe_self *me, const char *name, troupe_ref former)
{
    troupe_ref who = find(me, name);

    while (troupe_ref_equal(who, former)) {
        usleep(1000);
        who = find(me, name);
    }
    return who;
}

static void
order(troupe_self *me, troupe_ref who, const char *what, int number)
{
    document it = { .number = number };

    snprintf(it.what, sizeof it.what, "%s", what);
    assert_int_equal(troupe_send_value(me, who, document, &it), 0);
}

static void
expect_down(troupe_self *me, troupe_ref who, troupe_reason reason, int code, const char *words)
{
    troupe_msg *msg = test_receive(me, troupe_down);
    const troupe_down *down = troupe_body(msg, troupe_down);

    print_message("  %s\n", down->text);
    assert_true(troupe_ref_equal(down->who, who));
    assert_int_equal(down->reason, reason);
    assert_int_equal(down->code, code);
    if (!strstr(down->text, words)) {
        fail_msg("\"%s\" does not say \"%s\"", down->text, words);
    }
    troupe_release(msg);
}

static void
retire(troupe_self *me, troupe_ref who)
{
    assert_int_not_equal(troupe_monitor(me, who), 0);
    assert_int_equal(troupe_retire(me, who), 0);
    test_await(me, troupe_down);
}

/* ---- tests ---- */

static void
an_isolated_child_is_an_actor_with_a_name(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = find(me, "parser");
    int pid = pid_of(me, who);

    assert_int_not_equal(pid, getpid());
    assert_int_equal(kill(pid, 0), 0);
    for (int i = 2; i <= 100; i++) {
        assert_int_equal(ask(me, who, "hello").number, i);
    }
    retire(me, keeper);
    assert_int_equal(kill(pid, 0), -1); /* it has ended before its supervisor */
    assert_null(troupe_call(me, who, TROUPE_FOREVER, document, .what = "hello"));
    test_stop(me);
}

static void
its_death_is_told_and_it_is_there_again(void **state)
{
    static const struct {
        const char *what;
        int number;
        troupe_reason reason;
        const char *words;
    } deaths[] = {
        { "raise", SIGSEGV, TROUPE_REASON_SIGNAL, "node boss-parser: killed by SIGSEGV" },
        { "raise", SIGABRT, TROUPE_REASON_SIGNAL, "node boss-parser: killed by SIGABRT" },
        { "raise", SIGKILL, TROUPE_REASON_SIGNAL, "node boss-parser: killed by SIGKILL" },
        { "exit", 3, TROUPE_REASON_FAILED, "node boss-parser: exited with status 3" },
    };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = find(me, "parser");

    for (size_t i = 0; i < TEST_COUNT(deaths); i++) {
        assert_int_not_equal(pid_of(me, who), getpid());
        assert_int_not_equal(troupe_monitor(me, who), 0);
        order(me, who, deaths[i].what, deaths[i].number);
        expect_down(me, who, deaths[i].reason, deaths[i].number, deaths[i].words);
        who = find_next(me, "parser", who);
    }
    troupe_monitor(me, who);
    order(me, who, "exit", 4);
    expect_down(me, who, TROUPE_REASON_FAILED, 4, " handled document"); /* in the middle of that */
    who = find_next(me, "parser", who);
    assert_int_equal(ask(me, who, "hello").number, 1);
    retire(me, keeper);
    test_stop(me);
}

static void
from_outside_it_dies_of_nothing(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = find(me, "parser");
    int pid = pid_of(me, who);

    troupe_monitor(me, who);
    assert_int_equal(kill(pid, SIGKILL), 0);
    expect_down(me, who, TROUPE_REASON_SIGNAL, SIGKILL, "node boss-parser: killed by SIGKILL");
    who = find_next(me, "parser", who);
    assert_int_not_equal(pid_of(me, who), pid);
    retire(me, keeper);
    test_stop(me);
}

static void
it_may_end_by_itself(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = find(me, "parser");
    int pid = pid_of(me, who);

    troupe_monitor(me, who);
    order(me, who, "fail", EILSEQ);
    expect_down(me, who, TROUPE_REASON_FAILED, EILSEQ, "it is no document");
    test_wait_until_gone(pid);
    who = find_next(me, "parser", who);
    pid = pid_of(me, who);
    troupe_monitor(me, who);
    order(me, who, "quit", 0);
    expect_down(me, who, TROUPE_REASON_NORMAL, 0, "");
    test_wait_until_gone(pid);
    find_next(me, "parser", who);
    retire(me, keeper);
    test_stop(me);
}

static void
what_cannot_begin_is_told(void **state)
{
    static const struct parser_args crash = { .in_init = "raise" },
                                    refuse = { .in_init = "refuse" }, hang = { .in_init = "hang" };
    static const char *const missing[] = { "/no/such/program", NULL };
    static const char *const loser[] = { "sh", "-c", "echo no luck >&2; exit 3", NULL };
    static const troupe_process impatient = { .timeout_ms = 300 }, of_nothing = { .argv = missing },
                                of_loser = { .argv = loser }, restarting = { .restarts = true },
                                misnamed = { .node = "A b" };
    static const troupe_pool_options crowd = { .behavior = &parser };
    static const struct {
        troupe_child child;
        int code;
        const char *words;
    } cases[] = {
        { { .behavior = &parser, .isolate = &alone, .args = &crash, .args_size = sizeof crash },
          -ECHILD,
          "killed by SIGSEGV" },
        { { .behavior = &parser, .isolate = &alone, .args = &refuse, .args_size = sizeof refuse },
          -ECANCELED,
          "not in the mood" },
        { { .behavior = &parser, .isolate = &impatient, .args = &hang, .args_size = sizeof hang },
          -ETIMEDOUT,
          "not begun within 300 ms" },
        { { .behavior = &parser, .isolate = &of_nothing }, -ENOENT, "/no/such/program" },
        { { .behavior = &parser, .isolate = &of_loser }, -ECHILD, "exited with status 3" },
        { { .behavior = &hidden, .isolate = &alone }, -EINVAL, "TROUPE_EXPORT" },
        { { .behavior = &parser, .isolate = &restarting }, -EINVAL, "restarts" },
        { { .behavior = &parser, .isolate = &misnamed }, -EINVAL, "A b" },
        { { .pool = &crowd, .isolate = &alone }, -EINVAL, "isolated" },
    };
    troupe_self *me = test_start(.node = "boss");

    for (size_t i = 0; i < TEST_COUNT(cases); i++) {
        troupe_child children[2] = { { .behavior = &parser, .name = "first", .isolate = &alone } };

        print_message("  %s\n", cases[i].words);
        children[1] = cases[i].child;
        assert_true(troupe_is_nobody(
            troupe_supervise(me, &(troupe_supervisor){ .children = children, .n_children = 2 })));
        test_assert_error(cases[i].code, cases[i].words);
        assert_true(troupe_is_nobody(troupe_find(me, "first", 0))); /* none lives on */
    }
    for (int i = 0; i < 20; i++) { /* also when it is known before anybody has asked */
        assert_true(troupe_is_nobody(troupe_supervise(
            me, &(troupe_supervisor){ .children = &cases[3].child, .n_children = 1 })));
        test_assert_error(-ENOENT, "/no/such/program");
    }
    test_stop(me);
}

static void
those_behind_it_wait_until_it_has_begun(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    struct parser_args args = { .in_init = "" };
    troupe_ref keeper, who;

    snprintf(args.path, sizeof args.path, "/tmp/troupe-isolate-%d", (int)getpid());
    {
        const troupe_child children[] = {
            { .behavior = &parser,
              .name = "parser",
              .isolate = &alone,
              .args = &args,
              .args_size = sizeof args },
            { .behavior = &follower, .name = "follower", .args = &args, .args_size = sizeof args },
        };

        keeper = troupe_supervise(me, &(troupe_supervisor){ .children = children,
                                                            .n_children = 2,
                                                            .strategy = TROUPE_ONE_FOR_ALL });
    }
    assert_false(troupe_is_nobody(keeper));
    who = find(me, "follower");
    unlink(args.path); /* again, and in the same order, or its second start fails */
    order(me, find(me, "parser"), "raise", SIGSEGV);
    find_next(me, "follower", who);
    assert_int_equal(ask(me, find(me, "parser"), "hello").number, 1);
    retire(me, keeper);
    unlink(args.path);
    test_stop(me);
}

static void
one_that_does_not_stop_is_killed(void **state)
{
    static const struct parser_args crash = { .in_stop = "raise" };
    static const troupe_child frozen = {
        .behavior = &parser, .name = "frozen", .isolate = &alone, .stop_timeout_ms = 200
    };
    static const troupe_child brittle = { .behavior = &parser,
                                          .name = "brittle",
                                          .isolate = &alone,
                                          .args = &crash,
                                          .args_size = sizeof crash };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise(me, NULL, 0), who;
    int pid;

    who = troupe_start_child(me, keeper, TEST_PATIENCE_MS, &frozen);
    assert_false(troupe_is_nobody(who));
    pid = pid_of(me, who);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, who), 0);
    who = troupe_start_child(me, keeper, TEST_PATIENCE_MS, &frozen); /* the name is free again */
    assert_false(troupe_is_nobody(who));
    test_wait_until_gone(pid);
    order(me, who, "hang", 0);
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, who), 0);
    who = troupe_start_child(me, keeper, TEST_PATIENCE_MS, &brittle);
    troupe_monitor(me, who);
    assert_int_equal(troupe_stop_child(me, keeper, TEST_PATIENCE_MS, who), 0);
    expect_down(me, who, TROUPE_REASON_SIGNAL, SIGSEGV, "while it stopped");
    retire(me, keeper);
    test_stop(me);
}

static void
crashing_again_and_again_ends_by_intensity(void **state)
{
    static const troupe_child child = { .behavior = &parser, .name = "parser", .isolate = &alone };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = troupe_supervise(
        me, &(troupe_supervisor){
                .children = &child, .n_children = 1, .max_restarts = 2, .within_ms = 60000 });
    troupe_ref who = TROUPE_NOBODY;

    troupe_monitor(me, keeper);
    for (int i = 0; i < 3; i++) {
        who = find_next(me, "parser", who);
        troupe_send(me, who, blow_up); /* has no content, so it is never in quarantine */
    }
    expect_down(me, keeper, TROUPE_REASON_FAILED, SIGSEGV, "failed more than 2 times");
    test_stop(me);
}

static void
what_kills_twice_is_in_quarantine(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = TROUPE_NOBODY;

    for (int i = 0; i < 2; i++) {
        who = find_next(me, "parser", who);
        assert_null(
            troupe_call(me, who, TROUPE_FOREVER, document, .what = "raise", .number = SIGSEGV));
    }
    who = find_next(me, "parser", who);
    for (int i = 0; i < 5; i++) {
        assert_null(
            troupe_call(me, who, TROUPE_FOREVER, document, .what = "raise", .number = SIGSEGV));
        assert_int_equal(ask(me, who, "hello").number, i + 1); /* it has not been touched */
    }
    assert_int_equal(test_dead(me, TROUPE_DEAD_QUARANTINE), 5);
    assert_null(troupe_call(me, who, TROUPE_FOREVER, document, .what = "raise",
                            .number = SIGABRT)); /* another content */
    who = find_next(me, "parser", who);
    assert_int_equal(ask(me, who, "hello").number, 1);
    assert_int_equal(test_dead(me, TROUPE_DEAD_QUARANTINE), 5);
    retire(me, keeper);
    test_stop(me);
}

static void
quarantine_can_be_done_without(void **state)
{
    static const troupe_child child = { .behavior = &parser,
                                        .name = "parser",
                                        .isolate = &alone,
                                        .quarantine_after = TROUPE_UNLIMITED };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise(me, &child, 1), who = TROUPE_NOBODY;

    for (int i = 0; i < 4; i++) {
        who = find_next(me, "parser", who);
        assert_null(
            troupe_call(me, who, TROUPE_FOREVER, document, .what = "raise", .number = SIGSEGV));
    }
    assert_int_equal(test_dead(me, TROUPE_DEAD_QUARANTINE), 0);
    retire(me, keeper);
    test_stop(me);
}

static void
what_it_has_started_goes_with_it(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me), who = find(me, "parser");
    parsed answer = ask(me, who, "spawn");

    assert_true(answer.child > 0);
    assert_int_equal(kill((pid_t)answer.child, 0), 0);
    order(me, who, "raise", SIGKILL);
    test_wait_until_gone((int)answer.pid);
    test_wait_until_gone((int)answer.child);
    find_next(me, "parser", who);
    retire(me, keeper);
    test_stop(me);
}

static void
what_it_uses_is_limited(void **state)
{
    static const troupe_process small = { .limits = { .memory_bytes = 256 << 20,
                                                      .no_core = true } },
                                brief = { .limits = { .cpu_seconds = 1 } },
                                poor = { .limits = { .descriptors = 100 } };
    static const troupe_child hog = { .behavior = &parser, .name = "hog", .isolate = &small },
                              spinner = { .behavior = &parser, .name = "spin", .isolate = &brief },
                              opener = { .behavior = &parser, .name = "open", .isolate = &poor };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper, who;

    keeper = supervise(me, &spinner, 1);
    who = find(me, "spin");
    troupe_monitor(me, who);
    order(me, who, "spin", 0);
    expect_down(me, who, TROUPE_REASON_SIGNAL, SIGXCPU, "SIGXCPU (limited to 1 s of CPU)");
    retire(me, keeper);
    keeper = supervise(me, &opener, 1);
    assert_int_equal(ask(me, find(me, "open"), "open").child, 0);
    retire(me, keeper);
    if (test_slowness() == 1) { /* sanitizers take more address space than there is */
        keeper = supervise(me, &hog, 1);
        who = find(me, "hog");
        troupe_monitor(me, who);
        order(me, who, "hog", 0);
        expect_down(me, who, TROUPE_REASON_SIGNAL, SIGABRT, " of 256 MiB used) while parser");
        retire(me, keeper);
    }
    test_stop(me);
}

#define SUPERVISE_FIELDS(field, T) field(T, ref, asker)
TROUPE_MESSAGE(supervise_it, SUPERVISE_FIELDS);

static void
on_supervise_it(troupe_self *self, troupe_msg *msg)
{
    supervise_one(self);
}

static const troupe_behavior manager = {
    .name = "manager",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(supervise_it, on_supervise_it)),
};

static void
a_handler_does_not_wait_for_it(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref who = troupe_spawn(me, &manager);

    troupe_send(me, who, supervise_it, .asker = troupe_self_ref(me));
    who = find(me, "parser"); /* and what is sent to it before it has begun waits */
    assert_int_equal(ask(me, who, "hello").number, 1);
    test_stop(me);
}

static void
a_supervisor_that_is_killed_takes_them_along(void **state)
{
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise_one(me);
    int pid = pid_of(me, find(me, "parser"));

    assert_int_equal(troupe_kill(me, keeper), 0);
    test_wait_until_gone(pid);
    test_stop(me);
}

static void
supervisors_within_supervisors_wait_as_well(void **state)
{
    static const troupe_child inner[] = {
        { .behavior = &parser, .name = "a", .isolate = &alone },
        { .behavior = &parser, .name = "b", .isolate = &alone },
    };
    static const troupe_supervisor group = { .children = inner, .n_children = 2 };
    static const troupe_child outer[] = {
        { .supervisor = &group },
        { .behavior = &parser, .name = "c", .isolate = &alone },
    };
    troupe_self *me = test_start(.node = "boss");
    troupe_ref keeper = supervise(me, outer, 2);
    int a = pid_of(me, find(me, "a")), b = pid_of(me, find(me, "b")), c = pid_of(me, find(me, "c"));

    assert_true(a != b && b != c && a != c);
    test_stop(me); /* which retires them */
    assert_int_equal(kill(a, 0), -1);
    assert_int_equal(kill(b, 0), -1);
    assert_int_equal(kill(c, 0), -1);
    (void)keeper;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(an_isolated_child_is_an_actor_with_a_name),
        guarded(its_death_is_told_and_it_is_there_again),
        guarded(from_outside_it_dies_of_nothing),
        guarded(it_may_end_by_itself),
        guarded(what_cannot_begin_is_told),
        guarded(those_behind_it_wait_until_it_has_begun),
        guarded(one_that_does_not_stop_is_killed),
        guarded(crashing_again_and_again_ends_by_intensity),
        guarded(what_kills_twice_is_in_quarantine),
        guarded(quarantine_can_be_done_without),
        guarded(what_it_has_started_goes_with_it),
        guarded(what_it_uses_is_limited),
        guarded(a_handler_does_not_wait_for_it),
        guarded(a_supervisor_that_is_killed_takes_them_along),
        guarded(supervisors_within_supervisors_wait_as_well),
    };

    if (getenv("TROUPE_CHILD")) { /* launched: we are run as we were started */
        troupe_start(NULL);
        return 1;
    }
    if (!test_has_pidfds()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
