/*
 * counter_1.c - the first version: each replica tells the others how much more it is
 *
 * What was added here is owed to each peer until that says "got"; when no answer comes, it is told again.
 */
#include "counter.h"

enum { ANSWER_MS = 200 };

#define MORE(field, T) field(T, u64, amount)
TROUPE_MESSAGE(more, MORE);
TROUPE_SIGNAL(got);

struct peer {
    uint64_t owed;            /* added here, and not known to be known there */
    uint64_t told;            /* of it, in the question that is open */
    uint64_t finding, asking; /* requests, 0: none */
};

struct replica {
    uint64_t total, *shows;
    struct peer peers[REPLICAS]; /* the one at our own index is not used */
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
on_add(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);
    uint32_t amount = troupe_body(msg, add)->amount;

    *replica->shows = replica->total += amount;
    for (unsigned i = 0; i < REPLICAS; i++) {
        replica->peers[i].owed += amount;
    }
    troupe_reply(self, msg, added);
}

static void
on_tick(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);

    for (unsigned i = 0; i < REPLICAS; i++) {
        struct peer *peer = &replica->peers[i];

        if (i != replica->index && peer->owed > 0 && !peer->finding && !peer->asking) {
            peer->finding = troupe_find_later(self, replica_names[i], TELL_MS);
        }
    }
}

static void
on_found(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);
    const troupe_found *found = troupe_body(msg, troupe_found);

    for (unsigned i = 0; i < REPLICAS; i++) {
        struct peer *peer = &replica->peers[i];

        if (peer->finding == found->request) {
            peer->finding = 0;
            if (!troupe_is_nobody(found->who)) {
                peer->told = peer->owed;
                peer->asking = troupe_ask(self, found->who, ANSWER_MS, more, .amount = peer->told);
            }
        }
    }
}

static void
on_more(troupe_self *self, troupe_msg *msg)
{
    struct replica *replica = troupe_state(self);

    *replica->shows = replica->total += troupe_body(msg, more)->amount;
    troupe_reply(self, msg, got);
}

/* It knows, or there was no answer: then it is owed still. */
static void
close_question(struct replica *replica, uint64_t request, bool is_got)
{
    for (unsigned i = 0; i < REPLICAS; i++) {
        struct peer *peer = &replica->peers[i];

        if (peer->asking == request) {
            peer->asking = 0;
            peer->owed -= is_got ? peer->told : 0;
        }
    }
}

static void
on_got(troupe_self *self, troupe_msg *msg)
{
    close_question(troupe_state(self), troupe_request(msg), true);
}

static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    close_question(troupe_state(self), troupe_body(msg, troupe_unanswered)->request, false);
}

const troupe_behavior counter_1 = {
    .name = "counter-1",
    .state_size = sizeof(struct replica),
    .init = start,
    .handlers =
        TROUPE_HANDLERS(TROUPE_ON(add, on_add), TROUPE_ON(tick, on_tick),
                        TROUPE_ON(troupe_found, on_found), TROUPE_ON(more, on_more),
                        TROUPE_ON(got, on_got), TROUPE_ON(troupe_unanswered, on_unanswered)),
};
