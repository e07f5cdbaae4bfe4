/*
 * fan_in.c - many senders, one receiver
 *
 * Each sender sends a batch, then a message to itself to go on with the next batch, so that senders
 * and receiver take turns on one thread and no sender floods the mailbox without limit.
 *
 * fan-in never fills the mailbox, which has the default limit; fan-in-parked does the same with a limit that three of the
 * eight senders reach in one turn, so that senders are held and let go all the time.
 */
#include "bench.h"

#define SAMPLE(field, T) field(T, u64, value)
TROUPE_MESSAGE(sample, SAMPLE);
TROUPE_SIGNAL(go_on);

struct sink {
    uint64_t expected, seen;
    troupe_ref watcher;
};

struct source {
    uint64_t left, batch;
    troupe_ref sink;
};

static int
sink_init(troupe_self *self, const void *args)
{
    struct sink *sink = troupe_state(self);

    *sink = *(const struct sink *)args;
    return 0;
}

static void
on_sample(troupe_self *self, troupe_msg *msg)
{
    struct sink *sink = troupe_state(self);

    if (++sink->seen == sink->expected) {
        troupe_send(self, sink->watcher, finished, .count = sink->seen);
    }
}

static int
source_init(troupe_self *self, const void *args)
{
    struct source *source = troupe_state(self);

    *source = *(const struct source *)args;
    return 0;
}

static void
on_go_on(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    for (uint64_t i = 0; i < source->batch && source->left > 0; i++) {
        troupe_send(self, source->sink, sample, .value = source->left--);
    }
    if (source->left > 0) {
        troupe_send(self, troupe_self_ref(self), go_on);
    }
}

static const troupe_behavior sink_behavior = {
    .name = "sink",
    .state_size = sizeof(struct sink),
    .init = sink_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(sample, on_sample)),
};

static const troupe_behavior narrow_sink_behavior = {
    .name = "narrow sink",
    .state_size = sizeof(struct sink),
    .init = sink_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(sample, on_sample)),
    .mailbox_messages = 256,
};

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .init = source_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go_on, on_go_on)),
};

static void
fan_in(const struct bench_run *run, const troupe_behavior *behavior)
{
    troupe_self *me = bench_start(run);
    uint64_t each = run->messages / run->actors, begin, end;
    struct sink sink = { .expected = each * run->actors, .watcher = troupe_self_ref(me) };
    struct source source = { .left = each, .batch = run->width };

    source.sink = bench_spawn(me, behavior, &sink, sizeof sink);
    begin = bench_now_ns();
    for (uint64_t i = 0; i < run->actors; i++) {
        troupe_send(me, bench_spawn(me, &source_behavior, &source, sizeof source), go_on);
    }
    bench_expect("samples", bench_await(me, 1), sink.expected);
    end = bench_now_ns();

    bench_expect_handled(me, TROUPE_TYPE_OF(sample), sink.expected);
    bench_stop(me);
    bench_report(run, sink.expected, end - begin, NULL);
}

void
bench_fan_in(const struct bench_run *run)
{
    fan_in(run, &sink_behavior);
}

void
bench_fan_in_parked(const struct bench_run *run)
{
    fan_in(run, &narrow_sink_behavior);
}
