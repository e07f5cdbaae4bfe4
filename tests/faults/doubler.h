/*
 * doubler.h - somebody on another node who answers, and takes descriptors: of who lives in the rows of failures
 */
#ifndef FAULTS_DOUBLER_H
#define FAULTS_DOUBLER_H

#include "faults/support.h"

#include <unistd.h>

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);
#define GIFT_FIELDS(field, T) field(T, fd, fd)
TROUPE_MESSAGE(gift, GIFT_FIELDS);

/* Twice as much. */
static void
on_number(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, number, .value = 2 * troupe_body(msg, number)->value);
}

/* The descriptor is good for one byte. */
static void
on_gift(troupe_self *self, troupe_msg *msg)
{
    int fd = troupe_take_fd(msg, gift, fd);

    if (fd >= 0) {
        troupe_reply(self, msg, number, .value = write(fd, "x", 1) == 1);
        close(fd);
    }
}

static const troupe_behavior doubler = {
    .name = "doubler",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number), TROUPE_ON(gift, on_gift)),
};
TROUPE_EXPORT(doubler);

/* It lives, and answers. */
static void
expect_double(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = troupe_call(me, who, TEST_PATIENCE_MS, number, .value = 4);

    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    assert_int_equal(troupe_body(answer, number)->value, 8);
    troupe_release(answer);
}

#endif
