/*
 * support.h - what the rows of TRANSPORT's table of failures share
 *
 * Each row is a test with a name of its own (tests/meson.build): `meson test --suite faults`. It says in one line what was
 * seen, and is skipped, with the reason, where the circumstances cannot be made.
 */
#ifndef FAULTS_SUPPORT_H
#define FAULTS_SUPPORT_H

#include "links/there.h"

/* main(): as test_links_main(), but 77 when the test that was asked for was skipped. */
#define row_main(argc, argv, tests) row_run((argc), (argv), (tests), TEST_COUNT(tests))
int row_run(int argc, char **argv, const struct CMUnitTest *tests, size_t n_tests);

/* What was seen: one line. */
void row_saw(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* It cannot be tested here. Ends the test. */
void row_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));

troupe_health row_health(troupe_self *me);

/* The next message must be the end of whom we monitor, because of its node. */
troupe_down row_expect_down(troupe_self *me, int code, const char *part);

/* Stop it; returns when none of its threads runs any more. */
void row_pause(test_peer *peer);

/* ---- standard error, to be looked at ---- */

void row_listen(void);
/* What has been said since then; the caller's until the next. */
const char *row_heard(void);
/* How often is that in it? */
unsigned row_count(const char *text, const char *part);

/* ---- descriptors ---- */

/* All but so many are used up. */
typedef struct row_fds {
    int fds[512];
    int n;
    uint64_t limit; /* that there was before */
} row_fds;
void row_use_up(row_fds *all, int spare);
void row_give_back(row_fds *all);

#endif
