/*
 * stress_sim_net.c - the simulated sockets under random operations, against what must hold
 *
 * Three processes listen, dial, send, receive, close, die, are cut off and parted, as a seed says. Each packet and
 * each frame has a number. Of every stream the numbers that come are 0, 1, 2, ...: none is twice, none is missing before one
 * that comes. None comes early, or while the two are parted. All come that nothing has happened to. The same seed gives
 * the same run, whatever the descriptors' numbers are. TRP_SEED=n repeats a run, TRP_SCALE=n makes it n times as long.
 */
#include "runtime/sim_alone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    PROCESSES = ALONE_PROCESSES,
    STREAMS = 4000,
    ENDS = 60,
    DEALERS = 30,
    OPERATIONS = 1000,
    BACKLOG = 256,
};

/* What goes from one to the other over one connection. */
struct stream {
    int from, to;
    unsigned sent, received;
    bool is_broken; /* something may be lost: its end, or that of a process, or a cut */
    bool has_ended;
    int64_t sent_ns[BACKLOG]; /* of the last ones */
};

/* What each packet and frame says. */
struct word {
    unsigned stream, number;
};

struct end {
    int fd; /* -1: none */
    int process;
    int in, out; /* streams; -1: not known until the first packet has come */
};

struct dealer {
    trp_dealer *dealer; /* NULL: none */
    unsigned stream;
};

static const trp_net *const net = &trp_net_sim;
static struct stream streams[STREAMS];
static unsigned n_streams, n_lives, n_given, n_back;
static struct end ends[ENDS];
static struct dealer dealers[DEALERS];
static int listeners[PROCESSES];
static trp_router *routers[PROCESSES];
static char endpoints[PROCESSES][40], paths[PROCESSES][40];
static int64_t parted_ns[PROCESSES][PROCESSES]; /* since when; 0: not parted */
static uint64_t hash;

/* ---- what happens ---- */

static void
note(uint64_t what, uint64_t more)
{
    hash = (hash ^ what) * 0x100000001b3u;
    hash = (hash ^ more ^ (uint64_t)alone.now_ns) * 0x100000001b3u;
}

static int
new_stream(int from, int to)
{
    assert_true(n_streams < STREAMS);
    streams[n_streams] = (struct stream){ .from = from, .to = to };
    return (int)n_streams++;
}

static struct word
next_word(unsigned stream)
{
    struct stream *s = &streams[stream];

    s->sent_ns[s->sent % BACKLOG] = alone.now_ns;
    return (struct word){ stream, s->sent };
}

static void
has_come(struct word word, int to)
{
    struct stream *stream = &streams[word.stream];
    int64_t parted = parted_ns[stream->from][stream->to];
    int64_t sent = stream->sent_ns[word.number % BACKLOG];

    note(word.stream, word.number);
    assert_true(word.stream < n_streams);
    assert_int_equal(stream->to, to);
    assert_int_equal(word.number, stream->received);
    assert_true(word.number < stream->sent);
    assert_false(stream->has_ended);
    if (stream->sent - word.number <= BACKLOG) {
        assert_true(sent + alone.latency_ns <= alone.now_ns);
        assert_true(parted == 0 || sent < parted);
    }
    stream->received++;
}

static void
start(int process)
{
    alone.acting = &alone_processes[process];
    snprintf(paths[process], sizeof paths[process], "/%u.c", ++n_lives);
    snprintf(endpoints[process], sizeof endpoints[process], "%s//%u",
             n_lives % 4 ? "ipc:" : "inproc:", n_lives);
    listeners[process] = net->listen(paths[process]);
    assert_true(listeners[process] >= 0);
    assert_int_equal(net->router_open(&routers[process]), 0);
    assert_int_equal(net->router_bind(routers[process], endpoints[process]), 0);
}

static struct end *
free_end(void)
{
    for (int i = 0; i < ENDS; i++) {
        if (ends[i].fd < 0) {
            return &ends[i];
        }
    }
    return NULL;
}

/* ---- operations on control connections ---- */

static void
send_packet(struct end *end)
{
    struct word word = next_word((unsigned)end->out);
    struct stream *stream = &streams[end->out];
    unsigned n_fds = (unsigned)alone_random(3);
    int fds[2] = { 0, end->fd };
    int rc = net->send(end->fd, &word, sizeof word, fds, n_fds);

    note(3, (uint64_t)(int64_t)rc);
    if (rc == 0) {
        stream->sent++;
    } else if (rc == -EAGAIN) {
        assert_int_equal(stream->sent - stream->received, BACKLOG);
    } else {
        assert_int_equal(rc, -EPIPE);
        assert_true(end->in < 0 || streams[end->in].is_broken);
    }
}

static void
dial(int process)
{
    int to = (int)alone_random(PROCESSES);
    struct end *end = free_end();

    if (end) {
        alone.acting = &alone_processes[process];
        *end = (struct end){ net->connect(paths[to]), process, 0, 0 };
        assert_true(end->fd >= 0);
        end->out = new_stream(process, to);
        end->in = new_stream(to, process); /* its number is that + 1 */
        send_packet(end);
    }
}

static void
accept_one(int process)
{
    struct end *end = free_end();

    if (end) {
        int fd;

        alone.acting = &alone_processes[process];
        fd = net->accept(listeners[process]);
        note(4, fd >= 0);
        if (fd >= 0) {
            *end = (struct end){ fd, process, -1, -1 };
        } else {
            assert_int_equal(fd, -EAGAIN);
        }
    }
}

/* False: nothing is there. */
static bool
receive_packet(struct end *end)
{
    trp_delivery delivery;
    struct word word;
    ssize_t size = net->receive(end->fd, &word, sizeof word, &delivery);

    for (unsigned i = 0; i < delivery.n_fds; i++) {
        close(delivery.fds[i]);
    }
    note(5, (uint64_t)size);
    if (size == sizeof word) {
        if (end->in < 0) {
            end->in = (int)word.stream;
            end->out = end->in + 1;
        }
        assert_int_equal(word.stream, end->in);
        has_come(word, end->process);
        return true;
    }
    if (size == 0 && end->in >= 0) {
        assert_true(streams[end->in].is_broken);
        streams[end->in].has_ended = true;
    } else if (size != 0) {
        assert_int_equal(size, -EAGAIN);
    }
    return false;
}

static void
close_end(struct end *end)
{
    net->close(end->fd);
    end->fd = -1;
    if (end->in >= 0) {
        streams[end->in].is_broken = streams[end->out].is_broken = true;
    }
}

/* ---- operations on data ---- */

static void
given_back(void *bytes, void *hint)
{
    n_back++;
    free(bytes);
}

static void
send_frame(struct dealer *dealer)
{
    struct stream *stream = &streams[dealer->stream];
    struct word *word = malloc(sizeof *word);
    int rc;

    assert_non_null(word);
    *word = next_word(dealer->stream);
    n_given++;
    rc = net->dealer_send(dealer->dealer, word, sizeof *word, given_back, NULL);
    note(6, (uint64_t)(int64_t)rc);
    stream->sent += rc == 0;
    assert_true(rc == 0 || (rc == -EAGAIN && stream->is_broken));
}

static void
open_dealer(int process)
{
    int to = (int)alone_random(PROCESSES);
    unsigned char token[TRP_TOKEN_SIZE] = { 0 };

    for (int i = 0; i < DEALERS; i++) {
        if (!dealers[i].dealer) {
            dealers[i].stream = (unsigned)new_stream(process, to);
            memcpy(token, &dealers[i].stream, sizeof dealers[i].stream);
            alone.acting = &alone_processes[process];
            assert_int_equal(net->dealer_open(token, endpoints[to], &dealers[i].dealer), 0);
            return;
        }
    }
}

static void
close_dealer(struct dealer *dealer)
{
    net->dealer_close(dealer->dealer);
    dealer->dealer = NULL;
    streams[dealer->stream].is_broken = true;
}

static void
receive_frames(int process)
{
    trp_parcel *parcel;

    while (net->router_receive(routers[process], &parcel) == 0) {
        struct word word;
        unsigned stream;

        memcpy(&word, parcel->bytes, sizeof word);
        memcpy(&stream, parcel->token, sizeof stream);
        assert_int_equal(stream, word.stream);
        has_come(word, process);
        net->parcel_free(parcel);
    }
}

/* ---- faults ---- */

static void
break_streams(int a, int b)
{
    for (unsigned i = 0; i < n_streams; i++) {
        struct stream *stream = &streams[i];

        stream->is_broken |= (stream->from == a && stream->to == b) ||
                             (stream->from == b && stream->to == a) ||
                             (b < 0 && (stream->from == a || stream->to == a));
    }
}

static void
part(int a, int b, bool is_parted)
{
    alone_part(a, b, is_parted);
    parted_ns[a][b] = parted_ns[b][a] = is_parted ? alone.now_ns : 0;
    if (!is_parted) {
        trp_sim_net_heal();
    }
}

/* It dies, is cleared up after or not, and another life begins. */
static void
kill_one(int process)
{
    trp_sim_net_kill(&alone_processes[process]);
    break_streams(process, -1);
    for (int i = 0; i < ENDS; i++) {
        if (ends[i].fd >= 0 && ends[i].process == process) {
            close_end(&ends[i]);
        }
    }
    for (int i = 0; i < DEALERS; i++) {
        if (dealers[i].dealer && streams[dealers[i].stream].from == process) {
            dealers[i].dealer = NULL; /* the dead one's: until all ends */
        }
    }
    if (alone_random(2)) {
        net->close(listeners[process]);
        net->router_close(routers[process]);
    }
    start(process);
}

static void
do_fault(void)
{
    int a = (int)alone_random(PROCESSES), b = (int)alone_random(PROCESSES);

    switch (alone_random(6)) {
    case 0:
        note(7, trp_sim_net_cut(&alone_processes[a], &alone_processes[b],
                                (int64_t)alone_random(5 * ALONE_MS)));
        break_streams(a, b);
        break;
    case 1:
        kill_one(a);
        break;
    case 2:
    case 3:
        if (parted_ns[a][b] == 0) {
            part(a, b, true);
        }
        break;
    default:
        part(a, b, false);
    }
}

/* ---- a run ---- */

static void
do_one(void)
{
    int process = (int)alone_random(PROCESSES);
    struct end *end = &ends[alone_random(ENDS)];
    struct dealer *dealer = &dealers[alone_random(DEALERS)];
    unsigned n = (unsigned)alone_random(20);

    switch (alone_random(16)) {
    case 0:
    case 1:
        dial(process);
        break;
    case 2:
    case 3:
        accept_one(process);
        break;
    case 4:
        open_dealer(process);
        break;
    case 5:
    case 6:
        for (; end->fd >= 0 && end->out >= 0 && n > 0; n--) {
            send_packet(end);
        }
        break;
    case 7:
    case 8:
        for (; dealer->dealer && n > 0; n--) {
            send_frame(dealer);
        }
        break;
    case 9:
    case 10:
        while (end->fd >= 0 && n > 0 && receive_packet(end)) {
            n--;
        }
        break;
    case 11:
        receive_frames(process);
        break;
    case 12:
        if (n < 6 && end->fd >= 0 && end->in >= 0) {
            close_end(end);
        } else if (n < 12 && dealer->dealer) {
            close_dealer(dealer);
        }
        break;
    case 13:
        if (n < 4) {
            do_fault();
        }
        break;
    default:
        alone_run((int64_t)alone_random(2 * ALONE_MS));
    }
}

/* The faults are over, and everybody reads: what is not broken has come. */
static void
finish(void)
{
    for (int a = 0; a < PROCESSES; a++) {
        for (int b = 0; b < PROCESSES; b++) {
            part(a, b, false);
        }
    }
    alone_run_all();
    for (int i = 0; i < PROCESSES; i++) {
        receive_frames(i);
        for (int n = 0; n < ENDS; n++) {
            accept_one(i);
        }
    }
    for (int i = 0; i < ENDS; i++) {
        while (ends[i].fd >= 0 && receive_packet(&ends[i])) {
        }
        assert_true(ends[i].fd < 0 || ends[i].in < 0 || streams[ends[i].in].is_broken ||
                    streams[ends[i].in].received == streams[ends[i].in].sent);
    }
    for (int i = 0; i < DEALERS; i++) {
        struct stream *stream = &streams[dealers[i].stream];

        assert_true(!dealers[i].dealer || stream->is_broken || stream->received == stream->sent);
    }
}

static uint64_t
run(uint64_t seed)
{
    alone_begin(seed);
    alone.jitter_ns = 3 * ALONE_MS;
    alone.chosen = UINT64_MAX;
    n_streams = n_lives = n_given = n_back = 0;
    hash = 0;
    memset(parted_ns, 0, sizeof parted_ns);
    memset(dealers, 0, sizeof dealers);
    for (int i = 0; i < ENDS; i++) {
        ends[i].fd = -1;
    }
    for (int i = 0; i < PROCESSES; i++) {
        start(i);
    }
    for (int i = 0; i < OPERATIONS; i++) {
        do_one();
    }
    finish();
    for (int i = 0; i < ENDS; i++) { /* the rest is closed by the end of all */
        if (ends[i].fd >= 0 && alone_random(2)) {
            close_end(&ends[i]);
        }
    }
    alone_end();
    assert_int_equal(n_back, n_given);
    return hash;
}

static void
every_stream_comes_in_order_and_every_seed_is_repeatable(void **state)
{
    const char *wanted = getenv("TRP_SEED"), *scale = getenv("TRP_SCALE");
    uint64_t seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)time(NULL);
    int runs = wanted ? 1 : 30 * (scale ? atoi(scale) : 1);

    for (int i = 0; i < runs; i++) {
        uint64_t first, second;
        int others[7];

        print_message("  TRP_SEED=%llu\n", (unsigned long long)seed + (unsigned)i);
        first = run(seed + (unsigned)i);
        for (int n = 0; n < 7; n++) { /* other numbers, the other way round */
            others[n] = dup(0);
        }
        for (int n = 0; n < 7; n += 2) {
            close(others[n]);
        }
        second = run(seed + (unsigned)i);
        for (int n = 1; n < 7; n += 2) {
            close(others[n]);
        }
        assert_int_equal(first, second);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_stream_comes_in_order_and_every_seed_is_repeatable),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
