/*
 * counter - many senders, one total, no lock
 *
 *     $ ./counter
 *     8 adders made 4004000
 *
 * The tally needs no lock: an actor handles one message at a time. And since messages from one
 * actor to another arrive in the order sent, an adder's last number comes after its others.
 */
#include <inttypes.h>
#include <stdio.h>
#include <troupe/troupe.h>

enum { ADDERS = 8, NUMBERS = 1000 };

#define BEGIN(field, T) field(T, ref, tally)
TROUPE_MESSAGE(begin, BEGIN);
#define NUMBER(field, T) field(T, u64, value) field(T, flag, last)
TROUPE_MESSAGE(number, NUMBER);
#define TOTAL(field, T) field(T, u64, value)
TROUPE_MESSAGE(total, TOTAL);

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    troupe_ref tally = troupe_body(msg, begin)->tally;

    for (unsigned i = 1; i <= NUMBERS; i++) {
        troupe_send(self, tally, number, .value = i, .last = i == NUMBERS);
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
    unsigned adders_left;
};

static int
tally_init(troupe_self *self, const void *args)
{
    *(struct tally *)troupe_state(self) = *(const struct tally *)args;
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
main(void)
{
    troupe_self *me = troupe_start(NULL);

    if (!me) {
        fprintf(stderr, "counter: %s\n", troupe_last_error().text);
        return 1;
    }
    struct tally fresh = { .watcher = troupe_self_ref(me), .adders_left = ADDERS };
    troupe_ref tally =
        troupe_spawn_with(me, &tally_behavior, .args = &fresh, .args_size = sizeof(fresh));

    for (unsigned i = 0; i < ADDERS; i++) {
        troupe_ref adder = troupe_spawn(me, &adder_behavior);

        if (troupe_is_nobody(tally) || troupe_is_nobody(adder)) {
            fprintf(stderr, "counter: %s\n", troupe_last_error().text);
            return 1;
        }
        troupe_send(me, adder, begin, .tally = tally);
    }
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);

    if (troupe_is(msg, total)) {
        printf("%d adders made %" PRIu64 "\n", ADDERS, troupe_body(msg, total)->value);
    }
    troupe_release(msg);
    return troupe_stop(me) == 0 ? 0 : 1;
}
