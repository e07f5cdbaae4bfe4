/*
 * links.c - two processes joined by a SEQPACKET socket, with nothing above it
 *
 *     bench_seqpacket rtt-poll|rtt-blocking|oneway|oneway-64|fds|fds-64 MESSAGES
 *
 * What the kernel allows. `fds` sends one descriptor a packet (`fds-64`: 64) by SCM_RIGHTS, always the same one;
 * each that arrives is a new one, and is closed.
 */
#define _GNU_SOURCE
#include "pair.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { BATCH = 64 };

struct end {
    int socket;
    int poll; /* wait by poll, as programs do that have more than one descriptor */
};

static struct end
open_end(const struct pair_run *run, int listens)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    struct end end = { .poll = strcmp(run->workload, "rtt-poll") == 0 };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    pair_check(fd >= 0, "socket");
    snprintf(name.sun_path, sizeof name.sun_path, "%s", run->address);
    if (listens) {
        pair_check(bind(fd, (struct sockaddr *)&name, sizeof name) == 0, "bind");
        pair_check(listen(fd, 1) == 0, "listen");
        pair_tell(run, 0);
        end.socket = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        pair_check(end.socket >= 0, "accept");
        close(fd);
    } else {
        pair_hear(run);
        pair_check(connect(fd, (struct sockaddr *)&name, sizeof name) == 0, "connect");
        end.socket = fd;
    }
    return end;
}

static size_t
take(const struct end *end, void *body, size_t size)
{
    struct pollfd item = { .fd = end->socket, .events = POLLIN };
    ssize_t got;

    if (end->poll) {
        pair_check(poll(&item, 1, -1) == 1, "poll");
    }
    got = recv(end->socket, body, size, 0);
    pair_check(got > 0, "recv");
    return (size_t)got;
}

static void
give(const struct end *end, const void *body, size_t size)
{
    pair_check(send(end->socket, body, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
}

static void
trip(void *context)
{
    char body[PAIR_SIZE] = { 0 };

    give(context, body, sizeof body);
    take(context, body, sizeof body);
}

static void
near_trips(const struct pair_run *run)
{
    struct end end = open_end(run, 0);

    pair_time_trips(run, trip, &end);
    close(end.socket);
}

static void
far_trips(const struct pair_run *run)
{
    struct end end = open_end(run, 1);
    char body[PAIR_SIZE];

    for (uint64_t i = 0; i < run->messages + PAIR_WARM_UP; i++) {
        give(&end, body, take(&end, body, sizeof body));
    }
    close(end.socket);
}

static void
near_oneway(const struct pair_run *run)
{
    struct end end = open_end(run, 0);
    char body[BATCH * PAIR_SIZE] = { 0 };
    uint64_t batch = strcmp(run->workload, "oneway") == 0 ? 1 : BATCH;
    uint64_t begin = pair_now_ns();

    for (uint64_t left = run->messages; left > 0;) {
        uint64_t n = left < batch ? left : batch;

        give(&end, body, n * PAIR_SIZE);
        left -= n;
    }
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    close(end.socket);
}

static void
far_oneway(const struct pair_run *run)
{
    struct end end = open_end(run, 1);
    char body[BATCH * PAIR_SIZE];
    uint64_t count = 0;

    while (count < run->messages) {
        count += take(&end, body, sizeof body) / PAIR_SIZE;
    }
    pair_tell(run, count);
    close(end.socket);
}

/* Room for a batch of descriptors; aligned as the kernel wants it. */
union room {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(BATCH * sizeof(int))];
};

static uint64_t
batch_of(const struct pair_run *run)
{
    return strcmp(run->workload, "fds") == 0 ? 1 : BATCH;
}

static void
give_fds(const struct end *end, int fd, size_t n)
{
    char body[PAIR_SIZE] = { 0 };
    union room room = { .bytes = { 0 } };
    struct iovec part = { .iov_base = body, .iov_len = sizeof body };
    struct msghdr packet = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &room,
                             .msg_controllen = CMSG_SPACE(n * sizeof fd) };
    struct cmsghdr *rights = CMSG_FIRSTHDR(&packet);

    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(n * sizeof fd);
    for (size_t i = 0; i < n; i++) {
        memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
    pair_check(sendmsg(end->socket, &packet, MSG_NOSIGNAL) == PAIR_SIZE, "sendmsg");
}

static void
near_fds(const struct pair_run *run)
{
    struct end end = open_end(run, 0);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint64_t begin = pair_now_ns();

    pair_check(fd >= 0, "/dev/null");
    for (uint64_t left = run->messages; left > 0;) {
        uint64_t n = left < batch_of(run) ? left : batch_of(run);

        give_fds(&end, fd, n);
        left -= n;
    }
    pair_hear_count(run);
    pair_report(run, pair_now_ns() - begin);
    close(fd);
    close(end.socket);
}

/* Receives a packet, and closes its descriptors; returns how many those were. */
static uint64_t
take_fds(const struct end *end)
{
    char body[PAIR_SIZE];
    union room room;
    struct iovec part = { .iov_base = body, .iov_len = sizeof body };
    struct msghdr packet = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof room
    };
    struct cmsghdr *rights;
    uint64_t n = 0;

    pair_check(recvmsg(end->socket, &packet, MSG_CMSG_CLOEXEC) == PAIR_SIZE, "recvmsg");
    rights = CMSG_FIRSTHDR(&packet);
    if (rights && rights->cmsg_type == SCM_RIGHTS) {
        for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= rights->cmsg_len; at += sizeof(int)) {
            int fd;

            memcpy(&fd, CMSG_DATA(rights) + at, sizeof fd);
            n += close(fd) == 0;
        }
    }
    pair_check(n > 0, "a packet without a descriptor");
    return n;
}

static void
far_fds(const struct pair_run *run)
{
    struct end end = open_end(run, 1);
    uint64_t count = 0;

    while (count < run->messages) {
        count += take_fds(&end);
    }
    pair_tell(run, count);
    close(end.socket);
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "rtt-poll", near_trips, far_trips },
        { "rtt-blocking", near_trips, far_trips },
        { "oneway", near_oneway, far_oneway },
        { "oneway-64", near_oneway, far_oneway },
        { "fds", near_fds, far_fds },
        { "fds-64", near_fds, far_fds },
        { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
