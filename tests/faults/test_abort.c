/*
 * test_abort.c - row "libzmq assertion": libzmq ends the process when a descriptor is missing; its supervisor starts another
 */
#include "support/guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zmq.h>

#define ORDER_FIELDS(field, T) field(T, u32, aborts)
TROUPE_MESSAGE(order, ORDER_FIELDS);
#define RECEIPT_FIELDS(field, T) field(T, i64, pid)
TROUPE_MESSAGE(receipt, RECEIPT_FIELDS);

/* Fewer and fewer descriptors for a context's first socket, until libzmq does not bear it. */
static void
have_libzmq_abort(void)
{
    for (rlim_t room = 40; room > 0; room--) {
        void *context = zmq_ctx_new();
        int next = open("/dev/null", O_RDONLY | O_CLOEXEC);
        struct rlimit limit;
        void *socket;

        close(next);
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = (rlim_t)next + room;
        setrlimit(RLIMIT_NOFILE, &limit);
        socket = zmq_socket(context, ZMQ_DEALER);
        if (socket) {
            zmq_close(socket);
        }
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        zmq_ctx_term(context);
    }
}

static void
on_order(troupe_self *self, troupe_msg *msg)
{
    if (troupe_body(msg, order)->aborts) {
        have_libzmq_abort();
    }
    troupe_reply(self, msg, receipt, .pid = getpid());
}

static const troupe_behavior clerk = {
    .name = "clerk",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(order, on_order)),
};
TROUPE_EXPORT(clerk);

static troupe_ref
find_clerk(troupe_self *me, troupe_ref not_that_one)
{
    troupe_ref who = TROUPE_NOBODY;

    for (int i = 0; i < TEST_PATIENCE_MS; i++) {
        who = troupe_find(me, "clerk", TEST_PATIENCE_MS);
        if (!troupe_is_nobody(who) && !troupe_ref_equal(who, not_that_one)) {
            return who;
        }
        usleep(1000);
    }
    fail_msg("the clerk is not there again");
    return who;
}

static int64_t
pid_of(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, order, .aborts = 0);
    int64_t pid;

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    pid = troupe_body(answer, receipt)->pid;
    troupe_release(answer);
    return pid;
}

static void
libzmq_abort(void **state)
{
    static char text[1 << 16];
    troupe_self *me = test_start(.node = "boss", .threads = 2);
    troupe_child child = { .behavior = &clerk,
                           .name = "clerk",
                           .isolate = &(troupe_process){ .node = NULL } };
    troupe_ref keeper = troupe_supervise(
        me, &(troupe_supervisor){ .children = &child, .n_children = 1, .max_restarts = 3 });
    troupe_ref who, next;
    troupe_msg *msg;
    const troupe_down *down;
    int64_t pid;
    int before, heard;
    ssize_t n;

    if (troupe_is_nobody(keeper)) {
        fail_msg("%s", troupe_last_error().text);
    }
    who = find_clerk(me, TROUPE_NOBODY);
    pid = pid_of(me, who);
    assert_true(pid != getpid());
    assert_true(troupe_monitor(me, who) != 0);
    before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    heard = memfd_create("stderr", MFD_CLOEXEC);
    assert_true(before >= 0 && heard >= 0 && dup2(heard, STDERR_FILENO) >= 0);
    assert_null(troupe_call(me, who, TEST_PATIENCE_MS, order, .aborts = 1));
    msg = test_receive(me, troupe_down);
    next = find_clerk(me, who);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    n = pread(heard, text, sizeof text - 1, 0);
    close(before);
    close(heard);
    text[n > 0 ? n : 0] = '\0';
    down = troupe_body(msg, troupe_down);
    assert_int_equal(down->reason, TROUPE_REASON_SIGNAL);
    assert_non_null(strstr(down->text, "SIGABRT"));
    print_message("  seen: %s; its last words here: %s", down->text, text);
    troupe_release(msg);
    assert_non_null(strstr(text, "Too many open files"));
    assert_non_null(strstr(text, "clerk"));
    assert_true(pid_of(me, next) != pid && !troupe_ref_equal(next, who));
    troupe_retire(me, keeper);
    test_calm(me);
    test_stop(me);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { guarded(libzmq_abort) };

    if (getenv("TROUPE_CHILD")) { /* launched: we are run as we were started */
        troupe_start(NULL);
        return 1;
    }
    if (!test_has_pidfds()) {
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
