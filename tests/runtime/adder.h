/*
 * adder.h - somebody in another simulated process who is asked: adds one to each number
 */
#ifndef TEST_ADDER_H
#define TEST_ADDER_H

#include <troupe/troupe.h>

#define NUMBER_FIELDS(field, T) field(T, u64, value)
TROUPE_MESSAGE(number, NUMBER_FIELDS);

static unsigned adder_served; /* so many, since the test has set it to 0 */

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    adder_served++;
    troupe_reply(self, msg, number, .value = troupe_body(msg, number)->value + 1);
}

static int
adder_init(troupe_self *self, const void *args)
{
    return troupe_register(self, "adder");
}

static const troupe_behavior adder = {
    .name = "adder",
    .init = adder_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

#endif
