/*
 * call.c - the main thread asks an actor and waits for the answer, again and again
 *
 * Each question wakes a worker and each answer wakes the main thread: this measures how a waiting
 * thread is woken, not what a message costs.
 */
#include "bench.h"

#define QUESTION(field, T) field(T, u64, number)
TROUPE_MESSAGE(question, QUESTION);

static void
on_question(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, finished, .count = troupe_body(msg, question)->number);
}

static const troupe_behavior oracle_behavior = {
    .name = "oracle",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(question, on_question)),
};

void
bench_call(const struct bench_run *run)
{
    troupe_self *me = bench_start(run);
    troupe_ref oracle = bench_spawn(me, &oracle_behavior, NULL, 0);
    uint64_t begin = bench_now_ns(), right = 0, end;

    for (uint64_t i = 0; i < run->messages; i++) {
        troupe_msg *answer = troupe_call(me, oracle, TROUPE_FOREVER, question, .number = i);

        right += troupe_is(answer, finished) && troupe_body(answer, finished)->count == i;
        troupe_release(answer);
    }
    end = bench_now_ns();
    bench_expect("right answers", right, run->messages);
    bench_stop(me);
    bench_report(run, run->messages, end - begin, NULL);
}
