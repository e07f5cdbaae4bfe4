/* A user's program in C; prints "5050". Built against an installed troupe by run_install_test.sh. */
#include <inttypes.h>
#include <stdio.h>
#include <troupe/troupe.h>

#define ADD(field, T) field(T, i64, amount)
TROUPE_MESSAGE(add, ADD);
#define SUM(field, T) field(T, i64, value)
TROUPE_MESSAGE(sum, SUM);
TROUPE_SIGNAL(get);

static void
on_add(troupe_self *self, troupe_msg *msg)
{
    *(int64_t *)troupe_state(self) += troupe_body(msg, add)->amount;
}

static void
on_get(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, sum, .value = *(int64_t *)troupe_state(self));
}

static const troupe_behavior adder = {
    .name = "adder",
    .state_size = sizeof(int64_t),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(add, on_add), TROUPE_ON(get, on_get)),
};

int
main(void)
{
    troupe_self *me = troupe_start(NULL);

    if (!me) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    troupe_ref ref = troupe_spawn(me, &adder);

    for (int64_t i = 1; i <= 100; i++) {
        troupe_send(me, ref, add, .amount = i);
    }
    troupe_msg *answer = troupe_call(me, ref, 5000 /* ms */, get);

    if (!troupe_is(answer, sum)) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    printf("%" PRId64 "\n", troupe_body(answer, sum)->value);
    troupe_release(answer);
    return troupe_stop(me) == 0 ? 0 : 1;
}
