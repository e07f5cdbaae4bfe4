/*
 * guard.h - what every test of troupe runs under, and what they share
 *
 *     static void
 *     a_message_is_handled(void **state)
 *     {
 *         troupe_self *me = test_start(.threads = 2);
 *         ...
 *         test_stop(me);
 *     }
 *
 *     cmocka_run_group_tests(...guarded(a_message_is_handled)...)
 *
 * A guarded test leaves as many open descriptors, threads and children as it found, and no file in the run directory,
 * which is its own: nodes of tests that run at the same time do not meet. A node that is stopped by test_stop() has obeyed the conservation law. Asserting is for the test's own thread: handlers
 * report by messages.
 */
#ifndef TEST_GUARD_H
#define TEST_GUARD_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <troupe/troupe.h>

#define TEST_COUNT(array) (sizeof(array) / sizeof *(array))

/* How long an event may take that must come: generous, for it is only waited out by a failing test. */
enum { TEST_PATIENCE_MS = 60000 };

/* ---- the guard ---- */

#define guarded(test) cmocka_unit_test_setup_teardown(test, test_guard_begin, test_guard_end)

int test_guard_begin(void **state);
int test_guard_end(void **state);

unsigned test_open_fds(void);
unsigned test_threads(void);

/* ---- nodes ---- */

/* Start a node with these members of troupe_config; one worker unless they say otherwise. */
#define test_start(...) test_start_node(TROUPE_INIT_(troupe_config, __VA_ARGS__))
troupe_self *test_start_node(const troupe_config *config);

/* The law holds; then stop, which must return 0 (or `expected`). */
void test_stop(troupe_self *me);
void test_stop_expecting(troupe_self *me, int expected);

/* What was counted; asserts the law for every type. */
troupe_counts test_audit(troupe_self *me);
/* The same for one type. */
#define test_counts(me, type) test_counts_of((me), TROUPE_TYPE_OF(type))
troupe_counts test_counts_of(troupe_self *me, const troupe_type *type);

/* How many messages of all types ended so until now. */
uint64_t test_dead(troupe_self *me, troupe_dead reason);

/* Wait until nothing is queued anywhere and nothing runs: what was to happen has happened. */
void test_quiet(troupe_self *me);
/* The same, whatever comes meanwhile; that is thrown away. */
void test_calm(troupe_self *me);

/* ---- events ---- */

/* The next message, which must be of that type; to be released. */
#define test_receive(me, type) test_receive_of((me), TROUPE_TYPE_OF(type))
troupe_msg *test_receive_of(troupe_self *me, const troupe_type *type);

/* As above, released at once. */
#define test_await(me, type) troupe_release(test_receive((me), type))

/* Nothing is in the mailbox now. */
void test_no_message(troupe_self *me);

/* The last error has this code, and its sentence says `part`. */
void test_assert_error(int code, const char *part);

/* ---- circumstances ---- */

/* TROUPE_SIMULATE is set: one thread, virtual time. */
bool test_is_simulated(void);

/* Are there pidfds, which starting processes needs? Says so when not: old versions of valgrind have none, and a test program
 * that needs them returns 77. */
bool test_has_pidfds(void);

/* Skip the rest of a test that is about threads, the kernel or real time when it is simulated. */
#define test_needs_threads()                                                                       \
    do {                                                                                           \
        if (test_is_simulated()) {                                                                 \
            print_message("  skipped: simulated, and this is about real threads or time\n");       \
            skip();                                                                                \
        }                                                                                          \
    } while (0)

/* How much slower than usual this runs: 1; under sanitizers and valgrind more. Divide counts by it. */
unsigned test_slowness(void);
/* How often to do what a stress test does `n` times: less where it is slow, TRP_SCALE times as often. */
unsigned test_scaled(unsigned n);

/* The kernel's monotonic clock, in milliseconds: for what is itself about time. */
int64_t test_now_ms(void);

/* Wait until there is no process of that number. */
void test_wait_until_gone(int pid);

/* Wait until the process catches that signal: a moment after it has said that it is ready. */
void test_await_catching(int pid, int signo);

/* ---- random decisions ---- */

/* The seed of TRP_SEED, or a new one; printed, so that it can be repeated. */
uint64_t test_seed(void);
/* The next number of a sequence; never 0 when *random is not. */
uint64_t test_random(uint64_t *random);

#endif
