/*
 * supervised - a worker that fails is back at once, as new
 *
 *     $ ./supervised
 *     1+2 makes 3, number 1 of this adder
 *     3+4 makes 7, number 2 of this adder
 *     the adder failed: five+6 is no sum
 *     7+8 makes 15, number 1 of this adder
 *
 * Who meets what it cannot handle says why and ends; nobody has to clean up behind it. Its supervisor starts
 * another one with the same name and fresh state. Who wants to know watches it, and is told the reason.
 */
#include <errno.h>
#include <stdio.h>
#include <troupe/troupe.h>

#define ADD(field, T) field(T, text, what, 16)
TROUPE_MESSAGE(add, ADD);
#define SUM(field, T) field(T, text, what, 16) field(T, i32, value) field(T, u32, number)
TROUPE_MESSAGE(sum, SUM);

struct adder {
    uint32_t n_sums;
};

static void
on_add(troupe_self *self, troupe_msg *msg)
{
    struct adder *adder = troupe_state(self);
    sum answer = { 0 };
    int a, b;

    troupe_set_text(answer.what, troupe_body(msg, add)->what);
    if (sscanf(answer.what, "%d+%d", &a, &b) != 2) {
        troupe_fail(self, EINVAL, "%s is no sum", answer.what);
        return;
    }
    answer.value = a + b;
    answer.number = ++adder->n_sums;
    troupe_reply_value(self, msg, sum, &answer);
}

static const troupe_behavior adder_behavior = {
    .name = "adder",
    .state_size = sizeof(struct adder),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(add, on_add)),
};

static const troupe_child children[] = {
    { .behavior = &adder_behavior, .name = "adder", .restart = TROUPE_PERMANENT },
};

/* Ask whoever is the adder now, and say what becomes of it. */
static int
try_adding(troupe_self *me, const char *text)
{
    troupe_ref adder = troupe_find(me, "adder", 1000 /* ms: it may be about to return */);
    uint64_t monitor = troupe_monitor(me, adder);
    troupe_msg *msg;
    add question;

    troupe_set_text(question.what, text);
    troupe_send_value(me, adder, add, &question);
    msg = troupe_receive(me, 1000 /* ms */);
    if (troupe_is(msg, sum)) {
        const sum *answer = troupe_body(msg, sum);

        printf("%s makes %d, number %u of this adder\n", answer->what, answer->value,
               answer->number);
        troupe_demonitor(me, monitor);
    } else if (troupe_is(msg, troupe_down)) {
        printf("the adder %s: %s\n", troupe_reason_name(troupe_body(msg, troupe_down)->reason),
               troupe_body(msg, troupe_down)->text);
    } else {
        fprintf(stderr, "supervised: %s\n", troupe_last_error().text);
        return -1;
    }
    troupe_release(msg);
    return 0;
}

int
main(void)
{
    static const char *const texts[] = { "1+2", "3+4", "five+6", "7+8" };
    const troupe_supervisor keeper = { .children = children, .n_children = 1 };
    troupe_self *me = troupe_start(NULL);

    if (!me || troupe_is_nobody(troupe_supervise(me, &keeper))) {
        fprintf(stderr, "supervised: %s\n", troupe_last_error().text);
        return 1;
    }
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (try_adding(me, texts[i]) < 0) {
            return 1;
        }
    }
    return troupe_stop(me) == 0 ? 0 : 1;
}
