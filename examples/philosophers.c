/*
 * philosophers - five of them dine with five forks, and nobody starves
 *
 *     $ ./philosophers
 *     meals: 1000 1000 1000 1000 1000, and 5 forks are back on the table
 *
 * A fork is a message, so only one has it at a time. Who has two eats, then hands both on. At first each
 * lies with the lower number of its two philosophers: that makes no circle of waiting, and handing on makes
 * none either, so there is always one who can eat (Chandy and Misra, 1984).
 */
#include <stdio.h>
#include <troupe/troupe.h>

enum { SEATS = 5, MEALS = 1000 };

#define SIT(field, T)                                                                              \
    field(T, u32, number) field(T, ref, table) field(T, ref, left) field(T, ref, right)
TROUPE_MESSAGE(sit, SIT);
TROUPE_SIGNAL(seated);
TROUPE_SIGNAL(fork_for_you);
#define EATEN(field, T) field(T, u32, number)
TROUPE_MESSAGE(eaten, EATEN);

struct philosopher {
    sit place;
    unsigned forks, meals;
};

static void
on_sit(troupe_self *self, troupe_msg *msg)
{
    struct philosopher *my = troupe_state(self);

    my->place = *troupe_body(msg, sit);
    troupe_reply(self, msg, seated);
}

static void
on_fork(troupe_self *self, troupe_msg *msg)
{
    struct philosopher *my = troupe_state(self);

    if (my->meals == MEALS) {
        troupe_forward(self, my->place.table, msg); /* done: the fork goes back */
    } else if (++my->forks == 2) {
        my->forks = 0;
        my->meals++;
        troupe_send(self, my->place.table, eaten, .number = my->place.number);
        troupe_send(self, my->place.left, fork_for_you);
        troupe_send(self, my->place.right, fork_for_you);
    }
}

static const troupe_behavior philosopher_behavior = {
    .name = "philosopher",
    .state_size = sizeof(struct philosopher),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(sit, on_sit), TROUPE_ON(fork_for_you, on_fork)),
};

int
main(void)
{
    troupe_self *me = troupe_start(NULL);
    troupe_ref at[SEATS];
    unsigned meals[SEATS] = { 0 }, forks = 0;

    if (!me) {
        fprintf(stderr, "philosophers: %s\n", troupe_last_error().text);
        return 1;
    }
    for (unsigned i = 0; i < SEATS; i++) {
        at[i] = troupe_spawn(me, &philosopher_behavior);
    }
    for (unsigned i = 0; i < SEATS; i++) { /* a call: all sit before the first eats */
        troupe_msg *msg =
            troupe_call(me, at[i], 1000 /* ms */, sit, .number = i, .table = troupe_self_ref(me),
                        .left = at[(i + SEATS - 1) % SEATS], .right = at[(i + 1) % SEATS]);

        if (!msg) {
            fprintf(stderr, "philosophers: %s\n", troupe_last_error().text);
            return 1;
        }
        troupe_release(msg);
        troupe_send(me, at[i < SEATS - 1 ? i : 0], fork_for_you); /* the last makes two for 0 */
    }
    for (unsigned left = SEATS * MEALS + SEATS; left > 0; left--) {
        troupe_msg *msg = troupe_receive(me, 10000 /* ms */);

        if (troupe_is(msg, eaten)) {
            meals[troupe_body(msg, eaten)->number]++;
        }
        forks += troupe_is(msg, fork_for_you);
        troupe_release(msg);
    }
    printf("meals: %u %u %u %u %u, and %u forks are back on the table\n", meals[0], meals[1],
           meals[2], meals[3], meals[4], forks);
    return troupe_stop(me) == 0 ? 0 : 1;
}
