/*
 * links.cpp - the workloads of two processes with the middleman of CAF (0.17)
 *
 *     bench_caf_io rtt|oneway MESSAGES
 *
 * The far process publishes an actor on a port of the loopback interface; the near one connects.
 * Messages are strings of 64 bytes. CAF does not slow a remote sender down: what is not sent yet
 * is kept in memory.
 */
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include <csignal>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <caf/all.hpp>
#include <caf/io/all.hpp>

using namespace caf;

using go_on_atom = atom_constant<atom("goOn")>;
using count_atom = atom_constant<atom("count")>;

static constexpr int64_t warm_up = 200, batch = 100;

static int64_t
now_ns()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

[[noreturn]] static void
fail(const char *what)
{
    std::fprintf(stderr, "bench_caf_io: %s\n", what);
    std::_Exit(1);
}

/* ---- the far process ------------------------------------------------------------------------- */

/* Sends each message back; counts those of `oneway` and tells when all have come. */
static behavior
echo(event_based_actor *)
{
    return { [](std::string &ball) { return std::move(ball); } };
}

struct counting {
    int64_t seen = 0, expected = -1;
    actor watcher;
};

static behavior
sink(stateful_actor<counting> *self)
{
    auto tell = [self] {
        if (self->state.seen == self->state.expected) {
            self->send(self->state.watcher, self->state.seen);
        }
    };
    return {
        [=](const std::string &) {
            self->state.seen++;
            tell();
        },
        [=](count_atom, int64_t expected, const actor &watcher) {
            self->state.expected = expected;
            self->state.watcher = watcher;
            self->send(watcher, count_atom::value);
            tell();
        },
    };
}

static void
run_far(actor_system_config &config, bool counts, int line)
{
    actor_system system{ config };
    actor published = counts ? system.spawn(sink) : system.spawn(echo);
    auto port = system.middleman().publish(published, 0, "127.0.0.1");
    if (!port) {
        fail("cannot publish");
    }
    if (write(line, &*port, sizeof *port) != sizeof *port) {
        fail("the other process");
    }
    pause(); /* the near process ends this one */
}

/* ---- the near process ------------------------------------------------------------------------ */

struct throwing {
    std::vector<int64_t> times;
    int64_t left = 0, before = 0;
};

/* Throws the ball as often as it is told, then sends the times that were needed. */
static behavior
pitcher(stateful_actor<throwing> *self, actor far, actor watcher)
{
    return {
        [=](int64_t trips) {
            self->state.left = trips;
            self->state.times.clear();
            self->state.times.reserve(trips);
            self->state.before = now_ns();
            self->send(far, std::string(64, '.'));
        },
        [=](std::string &ball) {
            auto after = now_ns();
            self->state.times.push_back(after - self->state.before);
            self->state.before = after;
            if (--self->state.left > 0) {
                self->send(far, std::move(ball));
            } else {
                self->send(watcher, std::move(self->state.times));
            }
        },
    };
}

static void
print_line(const char *workload, int64_t messages, int64_t ns)
{
    std::printf("workload=%s messages=%lld seconds=%.6f per_second=%.0f", workload,
                static_cast<long long>(messages), ns / 1e9, messages * 1e9 / ns);
}

static void
rtt(actor_system &system, actor far, int64_t messages)
{
    scoped_actor me{ system };
    actor player = system.spawn(pitcher, far, actor_cast<actor>(me));
    std::vector<int64_t> times;
    int64_t begin = 0, end = 0;

    for (int64_t trips : { warm_up, messages }) {
        begin = now_ns();
        me->send(player, trips);
        me->receive([&](std::vector<int64_t> &found) { times = std::move(found); });
        end = now_ns();
    }
    std::sort(times.begin(), times.end());
    print_line("rtt", messages, end - begin);
    std::printf(" p50_us=%.1f p99_us=%.1f\n", times[messages / 2] / 1e3,
                times[messages - 1 - messages / 100] / 1e3);
}

/* Sends a batch, then a message to itself to go on with the next. */
static behavior
source(stateful_actor<int64_t> *self, actor far, int64_t messages)
{
    self->state = messages;
    return { [=](go_on_atom) {
        for (int64_t i = 0; i < batch && self->state > 0; i++, self->state--) {
            self->send(far, std::string(64, '.'));
        }
        if (self->state > 0) {
            self->send(self, go_on_atom::value);
        }
    } };
}

static void
oneway(actor_system &system, actor far, int64_t messages)
{
    scoped_actor me{ system };
    actor sender = system.spawn(source, far, messages);
    int64_t counted = 0;

    me->send(far, count_atom::value, messages, actor_cast<actor>(me));
    me->receive([](count_atom) {}); /* the connection is there */
    auto begin = now_ns();
    me->send(sender, go_on_atom::value);
    me->receive([&](int64_t count) { counted = count; });
    auto end = now_ns();
    if (counted != messages) {
        fail("not all arrived");
    }
    print_line("oneway", messages, end - begin);
    std::putchar('\n');
}

[[noreturn]] static void
run_near(actor_system_config &config, bool counts, int line, int64_t messages, pid_t child)
{
    uint16_t port = 0;
    if (read(line, &port, sizeof port) != sizeof port) {
        fail("the other process");
    }
    actor_system system{ config };
    auto far = system.middleman().remote_actor("127.0.0.1", port);
    if (!far) {
        fail("cannot connect");
    }
    (counts ? oneway : rtt)(system, *far, messages);
    std::fflush(stdout);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    /* CAF would wait for the actors, which never end. */
    std::_Exit(0);
}

int
main(int argc, char **argv)
{
    int64_t messages = argc == 3 ? std::atoll(argv[2]) : 0;
    int lines[2];

    if (messages <= 0) {
        std::fprintf(stderr, "usage: bench_caf_io rtt|oneway MESSAGES\n");
        return 2;
    }
    bool counts = std::strcmp(argv[1], "oneway") == 0;
    if (!counts && std::strcmp(argv[1], "rtt") != 0) {
        std::fprintf(stderr, "CAF has no workload '%s'\n", argv[1]);
        return 77;
    }
    if (pipe(lines) != 0) {
        fail("pipe");
    }
    pid_t far = fork(); /* before any thread is there */
    if (far < 0) {
        fail("fork");
    }
    actor_system_config config;
    config.load<io::middleman>();
    if (far == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_far(config, counts, lines[1]);
    }
    close(lines[1]);
    run_near(config, counts, lines[0], messages, far);
}
