/*
 * pipes.h - descriptors to send that tell what became of them: one end of a pipe goes, the other stays
 *
 *     expect_end(ends[0])     everybody, in whatever process, has closed the end that was sent
 */
#ifndef TEST_PIPES_H
#define TEST_PIPES_H

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "support/guard.h"

/* The reading end of a pipe in which a number waits. */
static inline int
pipe_with(uint64_t number)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_int_equal(write(ends[1], &number, sizeof number), sizeof number);
    close(ends[1]);
    return ends[0];
}

/* Is it the reading end of a pipe in which that waits? */
static inline bool
holds(int fd, uint64_t number)
{
    uint64_t found = 0;

    return read(fd, &found, sizeof found) == sizeof found && found == number;
}

/* A pipe whose reading end stays here, *ret_stays; the writing end is to go. */
static inline int
pipe_to(int *ret_stays)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    *ret_stays = ends[0];
    return ends[1];
}

/* It has been closed by everybody who had the other end. Closes this one. */
static inline void
expect_end(int fd)
{
    struct pollfd item = { .fd = fd, .events = POLLIN };
    char byte;

    assert_int_equal(poll(&item, 1, TEST_PATIENCE_MS), 1);
    assert_int_equal(read(fd, &byte, 1), 0);
    close(fd);
}

#endif
