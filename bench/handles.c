/*
 * bench_handles - descriptors fetched by another process with the text of a handle
 *
 *     $ ./bench_handles 64 --messages 20000
 *     workload=handles threads=1 actors=2 messages=20000 width=64 seconds=0.5 per_second=40000
 *
 * One actor makes handles and tells their texts to an actor of another process, which fetches each and closes
 * it: 1 at a time, or up to 64. bench/compare --processes runs this beside Python's DupFd. The second process is this
 * program again: its troupe_start() serves the node and never returns.
 */
#include "bench.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOLD(field, T) field(T, text, text, TROUPE_HANDLE_SIZE)
TROUPE_MESSAGE(told, TOLD);
#define FETCHED(field, T) field(T, i32, code)
TROUPE_MESSAGE(fetched, FETCHED);
TROUPE_SIGNAL(go);

/* Ends the program: a benchmark that went wrong has no result. */
static void
fail(const char *what)
{
    fprintf(stderr, "bench_handles: %s: %s\n", what, troupe_last_error().text);
    exit(1);
}

/* ---- on the other node ----------------------------------------------------------------------- */

/* Whom to tell what came of it: the one who has told all of them. */
struct fetcher {
    troupe_ref source;
};

static void
on_told(troupe_self *self, troupe_msg *msg)
{
    struct fetcher *fetcher = troupe_state(self);

    fetcher->source = troupe_sender(msg);
    if (troupe_rebuild_handle_later(self, troupe_body(msg, told)->text, 10000) == 0) {
        fprintf(stderr, "bench_handles: %s\n", troupe_last_error().text);
        troupe_send(self, fetcher->source, fetched, .code = troupe_last_error().code);
    }
}

static void
on_rebuilt(troupe_self *self, troupe_msg *msg)
{
    struct fetcher *fetcher = troupe_state(self);
    int fd = troupe_take_fd(msg, troupe_rebuilt, fd);

    if (fd >= 0) {
        close(fd);
    } else {
        fprintf(stderr, "bench_handles: %s\n", troupe_body(msg, troupe_rebuilt)->text);
    }
    troupe_send(self, fetcher->source, fetched, .code = troupe_body(msg, troupe_rebuilt)->code);
}

static const troupe_behavior fetcher_behavior = {
    .name = "fetcher",
    .state_size = sizeof(struct fetcher),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(told, on_told), TROUPE_ON(troupe_rebuilt, on_rebuilt)),
};
TROUPE_EXPORT(fetcher_behavior);

/* ---- here ------------------------------------------------------------------------------------ */

struct source {
    troupe_ref fetcher, watcher;
    uint64_t left, open, width, done;
    int fd;
};

static int
source_init(troupe_self *self, const void *args)
{
    *(struct source *)troupe_state(self) = *(const struct source *)args;
    return 0;
}

static void
tell_more(troupe_self *self, struct source *source)
{
    for (; source->left > 0 && source->open < source->width; source->left--, source->open++) {
        troupe_handle handle;
        told message;

        if (troupe_reduce_handle(self, source->fd, &handle) < 0) {
            fail("a handle");
        }
        memcpy(message.text, handle.text, sizeof message.text);
        troupe_send_value(self, source->fetcher, told, &message);
    }
}

static void
on_go(troupe_self *self, troupe_msg *msg)
{
    tell_more(self, troupe_state(self));
}

static void
on_fetched(troupe_self *self, troupe_msg *msg)
{
    struct source *source = troupe_state(self);

    source->open--;
    source->done += troupe_body(msg, fetched)->code == 0;
    tell_more(self, source);
    if (source->left == 0 && source->open == 0) {
        troupe_send(self, source->watcher, finished, .count = source->done);
    }
}

static const troupe_behavior source_behavior = {
    .name = "source",
    .state_size = sizeof(struct source),
    .init = source_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(go, on_go), TROUPE_ON(fetched, on_fetched)),
};

static void
measure(troupe_self *me, const char *node, const struct bench_run *run)
{
    struct source args = { .watcher = troupe_self_ref(me),
                           .left = run->messages,
                           .width = run->width,
                           .fd = open("/dev/null", O_RDONLY | O_CLOEXEC) };
    troupe_ref source;
    uint64_t begin;

    args.fetcher = troupe_spawn_on(me, node, &fetcher_behavior);
    if (troupe_is_nobody(args.fetcher) || args.fd < 0) {
        fail("spawning on the other node");
    }
    source = bench_spawn(me, &source_behavior, &args, sizeof args);
    begin = bench_now_ns();
    troupe_send(me, source, go);
    bench_expect("handles", bench_await(me, 1), run->messages);
    bench_report(run, run->messages, bench_now_ns() - begin, NULL);
    close(args.fd);
}

int
main(int argc, char **argv)
{
    struct bench_run run = { .workload = "handles", .threads = 1, .actors = 2, .messages = 20000 };
    char near[32], far[32];
    troupe_self *me;

    run.width = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    if (argc == 4 && strcmp(argv[2], "--messages") == 0) {
        run.messages = strtoull(argv[3], NULL, 10);
    }
    if ((argc != 2 && argc != 4) || run.width == 0 || run.width > 256 || run.messages == 0) {
        fprintf(stderr, "usage: bench_handles AT-A-TIME [--messages N]\n"
                        "  AT-A-TIME  how many are told and not yet fetched, 1 to 256\n");
        return 2;
    }
    snprintf(near, sizeof near, "bench-%d", (int)getpid());
    snprintf(far, sizeof far, "bench-%d-far", (int)getpid());
    me = troupe_start(&(troupe_config){ .node = near, .threads = run.threads });
    if (!me) {
        fail("troupe_start");
    }
    if (troupe_launch(me, &(troupe_process){ .node = far }) < 0) {
        fail("troupe_launch");
    }
    measure(me, far, &run);
    bench_stop(me);
    return 0;
}
