/*
 * counter_2.c - the second version: each replica tells the others all it knows
 *
 * A replica keeps one sum for each replica: what was added there, as far as it knows. Only its own does it ever add
 * to; of another's it takes the larger of what it has and what it is told. So it is all the same how often
 * something is told, and in which order; and what got lost is told again with the next tick.
 *
 * Source: Shapiro, Preguica, Baquero, Zawirski, "A comprehensive study of Convergent and Commutative Replicated
 * Data Types" (2011), specification 6: the G-Counter.
 */
#include "counter.h"

#define SUMS(field, T) field(T, u64, of, REPLICAS)
TROUPE_MESSAGE(sums, SUMS);

struct replica {
    struct sums sums;
    uint64_t *shows;
    unsigned index;
};

static int
start(troupe_self *self, const void *args)
{
    const struct replica_args *given = args;
    struct replica *replica = troupe_state(self);

    replica->index = given->index;
    replica->shows = given->shows;
    if (!troupe_send_every(self, troupe_self_ref(self), TELL_MS, tick)) {
        return troupe_last_error().code;
    }
    return troupe_register(self, "counter");
}

static void
show(struct replica *replica)
{
    *replica->shows = 0;
    for (unsigned i = 0; i < REPLICAS; i++) {
        *replica->shows += replica->sums.of[i];
    }
}

static void
on_add(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);

    replica->sums.of[replica->index] += troupe_body(msg, add)->amount;
    show(replica);
    troupe_reply(self, msg, added);
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);

    for (unsigned i = 0; i < REPLICAS; i++) {
        if (i != replica->index) {
            troupe_find_later(self, replica_names[i], TELL_MS);
        }
    }
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);
    troupe_ref peer = troupe_body(msg, troupe_found)->who;

    if (!troupe_is_nobody(peer)) {
        troupe_send_value(self, peer, sums, &replica->sums);
    }
}

static void
on_sums(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);
    const uint64_t *told = troupe_body(msg, sums)->of;

    for (unsigned i = 0; i < REPLICAS; i++) {
        if (replica->sums.of[i] < told[i]) {
            replica->sums.of[i] = told[i];
        }
    }
    show(replica);
}

const troupe_behavior counter_2 = {
    .name = "counter-2",
    .state_size = sizeof(struct replica),
    .init = start,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(add, on_add), TROUPE_ON(tick, on_tick),
                                TROUPE_ON(troupe_found, on_found), TROUPE_ON(sums, on_sums)),
};
