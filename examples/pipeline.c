/*
 * pipeline - a fast source, a slow stage: the source is slowed down, and memory stays flat
 *
 *     $ ./pipeline
 *     2000 items came through in order; 18 at most were ahead of the slow stage: yes
 *     20000 items came through in order; 18 at most were ahead of the slow stage: yes
 *     ten times as many items took more memory: no
 *
 * The slow stage has room for 8 messages. When that is full the source is not run again until half of it is
 * handled; nobody writes a loop for that. It sends 10 a turn, so 8 + 10 is the most.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <troupe/troupe.h>

enum { ROOM = 8, BATCH = 10, ITEMS = 20000 };

#define START(field, T)                                                                            \
    field(T, u32, next) field(T, u32, all) field(T, ref, stage) field(T, ref, end)
TROUPE_MESSAGE(start, START);
#define ITEM(field, T) field(T, u32, number) field(T, flag, is_last) field(T, ref, end)
TROUPE_MESSAGE(item, ITEM);
#define RESULT(field, T) field(T, u32, in_order)
TROUPE_MESSAGE(result, RESULT);

static _Atomic int64_t ahead, most_ahead; /* instruments: actors themselves share nothing */

static void
on_start(troupe_self *self, troupe_msg *msg)
{
    start job = *troupe_body(msg, start);

    for (int i = 0; i < BATCH && job.next < job.all; i++, job.next++) {
        int64_t now = atomic_fetch_add(&ahead, 1) + 1;

        atomic_store(&most_ahead, now > atomic_load(&most_ahead) ? now : atomic_load(&most_ahead));
        troupe_send(self, job.stage, item, .number = job.next, .is_last = job.next + 1 == job.all,
                    .end = job.end);
    }
    if (job.next < job.all) {
        troupe_send_value(self, troupe_self_ref(self), start, &job); /* the rest in another turn */
    }
}

static void
on_item(troupe_self *self, troupe_msg *msg)
{
    uint32_t *in_order = troupe_state(self);
    const item *it = troupe_body(msg, item);

    atomic_fetch_sub(&ahead, 1);
    for (volatile int work = 0; work < 3000; work++) { /* this is what makes it slow */
    }
    *in_order += *in_order == it->number;
    if (it->is_last) {
        troupe_send(self, it->end, result, .in_order = *in_order);
    }
}

static const troupe_behavior source = { .name = "source",
                                        .handlers = TROUPE_HANDLERS(TROUPE_ON(start, on_start)) };
static const troupe_behavior slow_stage = {
    .name = "slow stage",
    .state_size = sizeof(uint32_t),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(item, on_item)),
    .mailbox_messages = ROOM,
};

/* So many items from end to end; returns the bytes that messages take afterwards, 0 when something went wrong. */
static uint64_t
run(troupe_self *self, uint32_t items)
{
    troupe_counts counts;
    troupe_msg *msg;

    troupe_send(self, troupe_spawn(self, &source), start, .all = items,
                .stage = troupe_spawn(self, &slow_stage), .end = troupe_self_ref(self));
    msg = troupe_receive(self, TROUPE_FOREVER);
    printf("%u items came through in order; %d at most were ahead of the slow stage: %s\n",
           troupe_is(msg, result) ? troupe_body(msg, result)->in_order : 0, ROOM + BATCH,
           atomic_load(&most_ahead) <= ROOM + BATCH ? "yes" : "no");
    troupe_release(msg);
    return troupe_audit(self, NULL, &counts) == 0 ? counts.memory_bytes : 0;
}

int
main(void)
{
    troupe_self *self = troupe_start(&(troupe_config){ .node = "pipeline", .threads = 2 });

    if (!self) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    uint64_t few = run(self, ITEMS / 10), many = run(self, ITEMS);

    printf("ten times as many items took more memory: %s\n", many > few + 100000 ? "yes" : "no");
    return troupe_stop(self) == 0 && few > 0 && many > 0 ? 0 : 1;
}
