/*
 * peer.c - a second node for tests: see peer.h
 */
#include "links/peer.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "mailbox/type.h"
#include "runtime/rundir.h"

struct test_peer {
    char name[40];
    troupe_ref main;
    trp_process process;
    pthread_t thread;
    int result; /* the thread's */
};

#define JOB_FIELDS(field, T) field(T, u32, job) field(T, ref, who) field(T, i64, number)
TROUPE_MESSAGE(test_do, JOB_FIELDS);
#define COUNT_FIELDS(field, T) field(T, u64, type)
TROUPE_MESSAGE(test_count, COUNT_FIELDS);
#define COUNTED_FIELDS(field, T)                                                                   \
    field(T, i32, code) field(T, u64, sent) field(T, u64, arrived) field(T, u64, handled)          \
        field(T, u64, queued) field(T, u64, linked) field(T, u64, dead, 12)                        \
            field(T, u64, memory_bytes)
TROUPE_MESSAGE(test_counted, COUNTED_FIELDS);
TROUPE_SIGNAL(test_end);

static bool is_ipc;
static char **program;
void (*test_configure_peer)(troupe_config *config);

bool
test_is_ipc(void)
{
    return is_ipc;
}

/* ---- the peer's side ---- */

/* The type behind an id, as users have it: only its registered half is looked at. */
static int
count(troupe_self *self, uint64_t id, troupe_counts *counts)
{
    const trp_type *known = id ? trp_type_by_id(id) : NULL;
    troupe_type type = { 0 };

    if (!known) {
        return id ? -ENOENT : troupe_audit(self, NULL, counts);
    }
    type.name = known->name;
    type.known = known;
    return troupe_audit(self, &type, counts);
}

static void
answer_count(troupe_self *self, troupe_msg *msg)
{
    troupe_counts counts = { 0 };
    test_counted answer = { .code = count(self, troupe_body(msg, test_count)->type, &counts) };

    _Static_assert(TROUPE_DEAD_REASONS == 12, "as many as there are in test_counted");
    answer.sent = counts.sent;
    answer.arrived = counts.arrived;
    answer.handled = counts.handled;
    answer.queued = counts.queued;
    answer.linked = counts.linked;
    memcpy(answer.dead, counts.dead, sizeof answer.dead);
    answer.memory_bytes = counts.memory_bytes;
    if (answer.code < 0 && answer.code != -ENOENT) {
        fprintf(stderr, "the peer's audit: %s\n", troupe_last_error().text);
    }
    troupe_reply_value(self, msg, test_counted, &answer);
}

/* Do what we are told, until we are told to stop. */
static int
be_a_peer(const char *name)
{
    troupe_config config = { .node = name, .threads = 2 };
    troupe_self *self;
    bool ended = false;
    int rc;

    if (test_configure_peer) {
        test_configure_peer(&config);
    }
    self = troupe_start(&config);
    if (!self || troupe_register(self, "main") < 0) {
        fprintf(stderr, "the peer: %s\n", troupe_last_error().text);
        return -EIO;
    }
    while (!ended) {
        troupe_msg *msg = troupe_receive(self, TROUPE_FOREVER);

        if (troupe_is(msg, test_do)) {
            const test_do *body = troupe_body(msg, test_do);

            troupe_reply(self, msg, test_job_done,
                         .result = test_jobs[body->job](self, body->who, body->number));
        } else if (troupe_is(msg, test_count)) {
            answer_count(self, msg);
        } else {
            ended = troupe_is(msg, test_end);
        }
        troupe_release(msg);
    }
    rc = troupe_stop(self);
    if (rc < 0) {
        fprintf(stderr, "the peer's end: %s\n", troupe_last_error().text);
    }
    return rc;
}

static void *
thread_main(void *argument)
{
    test_peer *peer = argument;

    peer->result = be_a_peer(peer->name);
    return NULL;
}

/* ---- the test's side ---- */

test_peer *
test_peer_begin(const char *name)
{
    test_peer *peer = calloc(1, sizeof *peer);
    const char *argv[] = { program[0], "--peer", name, NULL };

    assert_non_null(peer);
    snprintf(peer->name, sizeof peer->name, "%s", name);
    if (!is_ipc) {
        assert_int_equal(pthread_create(&peer->thread, NULL, thread_main, peer), 0);
    } else if (trp_process_start(
                   &(struct trp_process_options){ .argv = argv, .world = trp_world_real() },
                   &peer->process) < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    return peer;
}

void
test_peer_meet(troupe_self *me, test_peer *peer)
{
    char name[80];

    snprintf(name, sizeof name, "main@%s", peer->name);
    peer->main = troupe_find(me, name, TEST_PATIENCE_MS);
    if (troupe_is_nobody(peer->main)) {
        fail_msg("no peer: %s", troupe_last_error().text);
    }
}

test_peer *
test_peer_start(troupe_self *me, const char *name)
{
    test_peer *peer = test_peer_begin(name);

    test_peer_meet(me, peer);
    return peer;
}

const char *
test_peer_name(const test_peer *peer)
{
    return peer->name;
}

troupe_ref
test_peer_main(const test_peer *peer)
{
    return peer->main;
}

pid_t
test_peer_pid(const test_peer *peer)
{
    return is_ipc ? peer->process.pid : getpid();
}

static uint32_t
number_of(test_job job)
{
    for (uint32_t i = 0; i < test_n_jobs; i++) {
        if (test_jobs[i] == job) {
            return i;
        }
    }
    fail_msg("a job that is not in test_jobs");
    return 0;
}

int64_t
test_peer_run(troupe_self *me, test_peer *peer, test_job job, troupe_ref who, int64_t number)
{
    troupe_msg *answer = troupe_call(me, peer->main, TEST_PATIENCE_MS, test_do,
                                     .job = number_of(job), .who = who, .number = number);
    int64_t result;

    if (!answer) {
        fail_msg("a job of %s: %s", peer->name, troupe_last_error().text);
    }
    result = troupe_body(answer, test_job_done)->result;
    troupe_release(answer);
    return result;
}

void
test_peer_tell(troupe_self *me, test_peer *peer, test_job job, troupe_ref who, int64_t number)
{
    assert_int_equal(
        troupe_send(me, peer->main, test_do, .job = number_of(job), .who = who, .number = number),
        0);
}

troupe_counts
test_peer_counts(troupe_self *me, test_peer *peer, const troupe_type *type)
{
    troupe_counts counts = { 0 };
    troupe_msg *answer = troupe_call(me, peer->main, TEST_PATIENCE_MS, test_count,
                                     .type = type ? troupe_type_id(type) : 0);
    const test_counted *body;

    if (!answer) {
        fail_msg("counts of %s: %s", peer->name, troupe_last_error().text);
    }
    body = troupe_body(answer, test_counted);
    if (body->code < 0 && body->code != -ENOENT) {
        fail_msg("the law does not hold at %s: %d", peer->name, body->code);
    }
    counts.sent = body->sent;
    counts.arrived = body->arrived;
    counts.handled = body->handled;
    counts.queued = body->queued;
    counts.linked = body->linked;
    memcpy(counts.dead, body->dead, sizeof counts.dead);
    for (int i = 0; i < TROUPE_DEAD_REASONS; i++) {
        counts.dead_total += counts.dead[i];
    }
    counts.memory_bytes = body->memory_bytes;
    troupe_release(answer);
    return counts;
}

void
test_peer_settle(troupe_self *me, test_peer *peer, const troupe_type *type)
{
    troupe_counts here, there;

    for (int i = 0; i < TEST_PATIENCE_MS; i++) {
        here = test_counts_of(me, type);
        there = test_peer_counts(me, peer, type);
        if (here.linked == there.arrived && there.linked == here.arrived && here.queued == 0 &&
            there.queued == 0) {
            return;
        }
        usleep(1000); /* what is under way has no event of its own */
    }
    fail_msg("%s: linked here %llu, arrived there %llu; linked there %llu, arrived here %llu",
             troupe_type_name(type), (unsigned long long)here.linked,
             (unsigned long long)there.arrived, (unsigned long long)there.linked,
             (unsigned long long)here.arrived);
}

static void
await_process(test_peer *peer, int signal, int expected)
{
    struct pollfd ended = { .fd = peer->process.pidfd, .events = POLLIN };
    struct trp_process_end end;
    char text[TRP_PROCESS_END_SIZE];

    if (poll(&ended, 1, TEST_PATIENCE_MS) != 1) {
        kill(peer->process.pid, SIGABRT);
        poll(&ended, 1, TEST_PATIENCE_MS);
        signal = -1; /* of which it could die */
    }
    assert_int_equal(trp_process_reap(trp_world_real(), &peer->process, &end), 0);
    trp_process_close(&peer->process);
    trp_process_describe_end(&end, NULL, text);
    if (signal < 0) {
        fail_msg("the process of %s did not end", peer->name);
    } else if (signal > 0 ? end.how != TRP_PROCESS_KILLED || end.code != signal
                          : end.how != TRP_PROCESS_EXITED || end.code != -expected) {
        fail_msg("the process of %s %s", peer->name, text);
    }
}

void
test_peer_await(test_peer *peer, int signal, int expected)
{
    if (is_ipc) {
        await_process(peer, signal, expected);
    } else {
        pthread_join(peer->thread, NULL);
        assert_int_equal(peer->result, expected);
    }
    free(peer);
}

void
test_peer_end(troupe_self *me, test_peer *peer)
{
    assert_int_equal(troupe_send(me, peer->main, test_end), 0);
}

void
test_peer_stop_expecting(troupe_self *me, test_peer *peer, int expected)
{
    test_peer_end(me, peer);
    test_peer_await(peer, 0, expected);
}

void
test_peer_stop(troupe_self *me, test_peer *peer)
{
    test_peer_stop_expecting(me, peer, 0);
}

/* What the dead leave in the run directory, anybody may remove: there is nothing else then. */
void
test_clean_up(void)
{
    trp_rundir dir;

    assert_int_equal(
        trp_rundir_open(&dir, &(struct trp_rundir_options){ .world = trp_world_real() }), 0);
    assert_true(trp_rundir_sweep(&dir) >= 0);
    trp_rundir_close(&dir);
}

void
test_peer_kill(test_peer *peer, int signal)
{
    assert_true(is_ipc);
    assert_int_equal(kill(peer->process.pid, signal), 0);
    await_process(peer, signal, 0);
    free(peer);
    test_clean_up();
}

/* ---- main ---- */

int
test_links_run(int argc, char **argv, const struct CMUnitTest *tests, size_t n_tests)
{
    program = argv;
    if (argc == 3 && strcmp(argv[1], "--peer") == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* the test has failed, or was interrupted */
        is_ipc = true;
        return -be_a_peer(argv[2]) & 255;
    }
    if (argc < 2 || (strcmp(argv[1], "inproc") != 0 && strcmp(argv[1], "ipc") != 0)) {
        fprintf(stderr, "usage: %s inproc|ipc [TEST]\n", argv[0]);
        return 2;
    }
    is_ipc = strcmp(argv[1], "ipc") == 0;
    if (is_ipc && !test_has_pidfds()) {
        return 77;
    }
    if (argc > 2) {
        cmocka_set_test_filter(argv[2]);
    }
    return _cmocka_run_group_tests(is_ipc ? "ipc" : "inproc", tests, n_tests, NULL, NULL);
}
