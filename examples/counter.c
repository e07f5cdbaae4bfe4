/*
 * counter - many senders, one total, no lock
 *
 *     $ ./counter 8 1000
 *     8 adders, 1000 numbers each: total 4004000
 *
 * Every adder sends 1 + 2 + ... + n to one tally, all at once. The tally needs no lock, because an
 * actor handles one message at a time; and since messages from one actor to another arrive in the
 * order sent, the last number of an adder is behind all of its others.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <troupe/troupe.h>

#define BEGIN(field, T) field(T, ref, tally) field(T, u32, count)
TROUPE_MESSAGE(begin, BEGIN);
#define NUMBER(field, T) field(T, u64, value) field(T, flag, last)
TROUPE_MESSAGE(number, NUMBER);
#define TOTAL(field, T) field(T, u64, value)
TROUPE_MESSAGE(total, TOTAL);

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    const begin *order = troupe_body(msg, begin);

    for (uint32_t i = 1; i <= order->count; i++) {
        troupe_send(self, order->tally, number, .value = i, .last = i == order->count);
    }
    troupe_exit(self);
}

static const troupe_behavior adder_behavior = {
    .name = "adder",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(begin, on_begin)),
};

struct tally {
    troupe_ref watcher;
    uint64_t total;
    uint32_t adders_left;
};

static int
tally_init(troupe_self *self, const void *args)
{
    struct tally *state = troupe_state(self);

    *state = *(const struct tally *)args;
    return 0;
}

static void
on_number(troupe_self *self, troupe_msg *msg)
{
    struct tally *state = troupe_state(self);

    state->total += troupe_body(msg, number)->value;
    if (troupe_body(msg, number)->last && --state->adders_left == 0) {
        troupe_send(self, state->watcher, total, .value = state->total);
    }
}

static const troupe_behavior tally_behavior = {
    .name = "tally",
    .state_size = sizeof(struct tally),
    .init = tally_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(number, on_number)),
};

int
main(int argc, char **argv)
{
    uint32_t adders = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 8;
    uint32_t count = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000;
    troupe_self *me = troupe_start(NULL);

    if (!me || adders == 0 || count == 0) {
        fprintf(stderr, "counter: %s\n", me ? "nothing to add" : troupe_last_error().text);
        return 1;
    }
    struct tally fresh = { .watcher = troupe_self_ref(me), .adders_left = adders };
    troupe_ref tally =
        troupe_spawn_with(me, &tally_behavior, .args = &fresh, .args_size = sizeof(fresh));

    for (uint32_t i = 0; i < adders; i++) {
        troupe_send(me, troupe_spawn(me, &adder_behavior), begin, .tally = tally, .count = count);
    }
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

    if (troupe_is(msg, total)) {
        printf("%" PRIu32 " adders, %" PRIu32 " numbers each: total %" PRIu64 "\n", adders, count,
               troupe_body(msg, total)->value);
    }
    troupe_release(msg);
    return troupe_stop(me) == 0 ? 0 : 1;
}
