/*
 * there.h - what tests do with the second node: make actors there, count what came, have it not listen
 */
#ifndef TEST_THERE_H
#define TEST_THERE_H

#include "links/peer.h"

/* An actor on that node. */
troupe_ref test_make(troupe_self *me, const char *node, const troupe_behavior *behavior);

/* Receivers that count tell it when they are asked. */
#define TEST_TALLY_FIELDS(field, T) field(T, u64, n) field(T, u64, wrong)
TROUPE_MESSAGE(test_tally, TEST_TALLY_FIELDS);
TROUPE_SIGNAL(test_how_many);

/* A job: send it test_steps from 1 to `n`, for counting whether all come, in order. 0, or why the next could not be sent. */
#define TEST_STEP_FIELDS(field, T) field(T, u64, step)
TROUPE_MESSAGE(test_step, TEST_STEP_FIELDS);
int64_t test_send_steps(troupe_self *self, troupe_ref who, int64_t n);

/* Wait until one has had so many, none of them wrong. */
void test_expect_tally(troupe_self *me, troupe_ref who, uint64_t n);

/* The peer's thread receives nothing until test_hear(): then a test_job_done comes. For programs with test_be_deaf among
 * their jobs; one at a time. */
void test_deafen(troupe_self *me, test_peer *peer);
void test_hear(void);
int64_t test_be_deaf(troupe_self *self, troupe_ref who, int64_t number);

/* Jobs: have only so many descriptors more than now, 0: as many as at first; tell how many are open. */
int64_t test_limit_fds(troupe_self *self, troupe_ref who, int64_t n);
int64_t test_count_fds(troupe_self *self, troupe_ref who, int64_t n);
/* Wait until the peer has as many as `before`, when acknowledgements have come and closed those that were sent. For programs
 * with test_count_fds() among their jobs. */
void test_expect_fds(troupe_self *me, test_peer *peer, int64_t before);

#endif
