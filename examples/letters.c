/*
 * letters - what happens to messages that nobody handles
 *
 *     $ ./letters
 *     dead letter: knock, because stopped
 *     dead letter: knock, because stopped
 *     the call ended at once: no such actor, name or file, or no longer
 *     knocks: 3 sent = 1 handled + 0 queued + 2 dead letters
 *
 * No message disappears in silence: each ends handled or as a dead letter with a reason, and
 * troupe_audit() checks that the sum is right.
 */
#include <inttypes.h>
#include <stdio.h>
#include <troupe/troupe.h>

TROUPE_SIGNAL(knock);
TROUPE_SIGNAL(leave);

static void
on_knock(troupe_self *self, troupe_msg *msg)
{
}

static void
on_leave(troupe_self *self, troupe_msg *msg)
{
    troupe_exit(self);
}

static const troupe_behavior lodger_behavior = {
    .name = "lodger",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(knock, on_knock), TROUPE_ON(leave, on_leave)),
};

static void
print_dead_letter(void *context, const troupe_msg *msg, troupe_ref to, troupe_dead reason)
{
    printf("dead letter: %s, because %s\n", troupe_msg_name(msg), troupe_dead_name(reason));
}

int
main(void)
{
    troupe_self *me = troupe_start(&(troupe_config){ .on_dead_letter = print_dead_letter });

    if (!me) {
        fprintf(stderr, "letters: %s\n", troupe_last_error().text);
        return 1;
    }
    troupe_ref lodger = troupe_spawn(me, &lodger_behavior);

    troupe_send(me, lodger, knock);
    troupe_send(me, lodger, leave);
    troupe_send(me, lodger, knock); /* no error: it becomes a dead letter */

    troupe_msg *answer = troupe_call(me, lodger, 1000 /* ms */, knock);

    if (!answer) {
        printf("the call ended at once: %s\n", troupe_strerror(troupe_last_error().code));
    }
    troupe_release(answer);

    troupe_counts counts;

    if (troupe_audit(me, TROUPE_TYPE_OF(knock), &counts) < 0) {
        fprintf(stderr, "letters: %s\n", troupe_last_error().text);
        return 1;
    }
    printf("knocks: %" PRIu64 " sent = %" PRIu64 " handled + %" PRIu64 " queued + %" PRIu64
           " dead letters\n",
           counts.sent, counts.handled, counts.queued, counts.dead_total);
    return troupe_stop(me) == 0 ? 0 : 1;
}
