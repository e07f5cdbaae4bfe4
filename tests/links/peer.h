/*
 * peer.h - a second node for tests, in this process or in another, as the test program is told
 *
 *     $ test_away inproc      the second node runs on a thread of this process
 *     $ test_away ipc         it is a process, this program again, told by its arguments
 *
 *     static void
 *     a_message_arrives_there(void **state)
 *     {
 *         troupe_self *me = test_start(.node = "here");
 *         test_peer *peer = test_peer_start(me, "there");
 *         ...
 *         test_peer_stop(me, peer);
 *         test_stop(me);
 *     }
 *
 * The peer's own thread waits for what the test tells it: to run one of the test program's jobs, to count, to stop. It
 * answers under the name "main". Jobs run on a thread that is no test's: they report by what they return.
 */
#ifndef TEST_PEER_H
#define TEST_PEER_H

#include "support/guard.h"

#include "runtime/process.h"

/* What a peer can be told to do, by its place in test_jobs. */
typedef int64_t (*test_job)(troupe_self *self, troupe_ref who, int64_t number);

/* What a test program says of itself. */
extern const test_job test_jobs[];
extern const size_t test_n_jobs;

typedef struct test_peer test_peer;

/* Changes the configuration of peers before they start; NULL: as it is. Set it before test_links_main(). */
extern void (*test_configure_peer)(troupe_config *config);

/* main(): runs the tests, or is a peer. */
#define test_links_main(argc, argv, tests)                                                         \
    test_links_run((argc), (argv), (tests), TEST_COUNT(tests))
int test_links_run(int argc, char **argv, const struct CMUnitTest *tests, size_t n_tests);

/* Are peers processes? Then they can be killed. */
bool test_is_ipc(void);
#define test_needs_ipc()                                                                           \
    do {                                                                                           \
        if (!test_is_ipc()) {                                                                      \
            print_message("  skipped: this is about a process that ends\n");                       \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* Start a node of that name; returns when it is there. The first without waiting for it: it cannot be told anything
 * until test_peer_meet(). */
test_peer *test_peer_begin(const char *name);
void test_peer_meet(troupe_self *me, test_peer *peer);
test_peer *test_peer_start(troupe_self *me, const char *name);

const char *test_peer_name(const test_peer *peer);
troupe_ref test_peer_main(const test_peer *peer);
pid_t test_peer_pid(const test_peer *peer);

/* Have its thread run a job, and wait for what it returns. */
int64_t test_peer_run(troupe_self *me, test_peer *peer, test_job job, troupe_ref who,
                      int64_t number);
/* Have it run one, and do not wait: a test_job_done comes. */
void test_peer_tell(troupe_self *me, test_peer *peer, test_job job, troupe_ref who, int64_t number);
#define TEST_DONE_FIELDS(field, T) field(T, i64, result)
TROUPE_MESSAGE(test_job_done, TEST_DONE_FIELDS);

/* What it has counted, of all types or one (by name; it must have used it); its law holds. */
troupe_counts test_peer_counts(troupe_self *me, test_peer *peer, const troupe_type *type);

/* Nothing is under way between the two, and nothing was lost: all that one has handed to its link the other has got. */
void test_peer_settle(troupe_self *me, test_peer *peer, const troupe_type *type);

/* Tell it to stop; it must return 0 (or `expected`). A peer that is a process leaves nothing behind either. */
void test_peer_stop(troupe_self *me, test_peer *peer);
void test_peer_stop_expecting(troupe_self *me, test_peer *peer, int expected);

/* The same, without waiting for it. */
void test_peer_end(troupe_self *me, test_peer *peer);

/* It has been told to stop, or has been killed: wait for its end. `signal` 0: by itself, returning `expected`. */
void test_peer_await(test_peer *peer, int signal, int expected);
/* Kill it, and wait until it has ended. */
void test_peer_kill(test_peer *peer, int signal);
/* Remove what the dead have left in the run directory: test_peer_kill() does. */
void test_clean_up(void);

#endif
