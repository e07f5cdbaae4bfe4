/*
 * links.c - what memory itself does: the limits for blobs between two processes
 *
 *     bench_memory WORKLOAD-SIZE MESSAGES      SIZE as in 1m, 16m
 *
 *     memcpy   one process: filled, copied, and the copy read
 *     again    two processes: filled in a memfd, of which two take turns, and read there; a byte says "yours"
 *     fresh    the same with a new memfd each time, sent by SCM_RIGHTS, mapped, read and unmapped
 */
#include "pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* What a blob filled with the n-th byte sums up to. */
static uint64_t
sum_wanted(uint64_t n, size_t size)
{
    return n % 256 * UINT64_C(0x0101010101010101) * (size / 8);
}

/* ---- memcpy ---- */

static void
near_memcpy(const struct pair_run *run)
{
    size_t size = pair_blob_size(run);
    char *from = malloc(size), *to = malloc(size);
    uint64_t begin = 0, good = 0;

    pair_check(from && to, "malloc");
    for (uint64_t i = 0; i < run->messages + 8; i++) {
        if (i == 8) {
            begin = pair_now_ns();
            good = 0;
        }
        memset(from, (int)(i % 256), size);
        memcpy(to, from, size);
        good += pair_sum(to, size) == sum_wanted(i, size);
    }
    pair_check(good == run->messages, "sums");
    pair_report(run, pair_now_ns() - begin);
    free(from);
    free(to);
}

static void
far_nothing(const struct pair_run *run)
{
}

/* ---- memfds ---- */

static void *
map(int fd, size_t size, int protection)
{
    void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);

    pair_check(memory != MAP_FAILED, "mmap");
    return memory;
}

static int
new_memfd(size_t size)
{
    int fd = memfd_create("bench", MFD_CLOEXEC);

    pair_check(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "memfd_create");
    return fd;
}

static void
send_fd(int line, int fd)
{
    char byte = 0, room[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room
    };
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(head), &fd, sizeof fd);
    pair_check(sendmsg(line, &message, 0) == 1, "sendmsg");
}

static int
receive_fd(int line)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = { &byte, 1 };
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room
    };
    int fd;

    pair_check(recvmsg(line, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message),
               "recvmsg");
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

enum { TURNS = 2 };

static void
near_again(const struct pair_run *run)
{
    size_t size = pair_blob_size(run);
    void *memory[TURNS];
    uint64_t begin = 0;

    for (int i = 0; i < TURNS; i++) {
        int fd = new_memfd(size);

        memory[i] = map(fd, size, PROT_READ | PROT_WRITE);
        send_fd(run->line, fd);
        close(fd);
    }
    for (uint64_t i = 0; i < run->messages + 8; i++) {
        if (i == 8) {
            begin = pair_now_ns();
        }
        if (i >= TURNS) {
            pair_hear(run); /* it has been read */
        }
        memset(memory[i % TURNS], (int)(i % 256), size);
        pair_tell(run, sum_wanted(i, size));
    }
    for (int i = 0; i < TURNS; i++) {
        pair_hear(run);
    }
    pair_report(run, pair_now_ns() - begin);
}

static void
far_again(const struct pair_run *run)
{
    size_t size = pair_blob_size(run);
    void *memory[TURNS];

    for (int i = 0; i < TURNS; i++) {
        int fd = receive_fd(run->line);

        memory[i] = map(fd, size, PROT_READ);
        close(fd);
    }
    for (uint64_t i = 0; i < run->messages + 8; i++) {
        uint64_t wanted = pair_hear(run);

        pair_check(pair_sum(memory[i % TURNS], size) == wanted, "sums");
        pair_tell(run, i);
    }
}

static void
near_fresh(const struct pair_run *run)
{
    size_t size = pair_blob_size(run);
    uint64_t begin = 0;

    for (uint64_t i = 0; i < run->messages + 8; i++) {
        int fd = new_memfd(size);
        void *memory = map(fd, size, PROT_READ | PROT_WRITE);

        if (i == 8) {
            begin = pair_now_ns();
        }
        if (i >= TURNS) {
            pair_hear(run);
        }
        memset(memory, (int)(i % 256), size);
        munmap(memory, size);
        send_fd(run->line, fd);
        pair_tell(run, sum_wanted(i, size));
        close(fd);
    }
    for (int i = 0; i < TURNS; i++) {
        pair_hear(run);
    }
    pair_report(run, pair_now_ns() - begin);
}

static void
far_fresh(const struct pair_run *run)
{
    size_t size = pair_blob_size(run);

    for (uint64_t i = 0; i < run->messages + 8; i++) {
        int fd = receive_fd(run->line);
        uint64_t wanted = pair_hear(run);
        void *memory = map(fd, size, PROT_READ);

        pair_check(pair_sum(memory, size) == wanted, "sums");
        munmap(memory, size);
        close(fd);
        pair_tell(run, i);
    }
}

int
main(int argc, char **argv)
{
    static const struct pair_workload workloads[] = {
        { "memcpy-64k", near_memcpy, far_nothing }, { "memcpy-1m", near_memcpy, far_nothing },
        { "memcpy-16m", near_memcpy, far_nothing }, { "again-1m", near_again, far_again },
        { "again-16m", near_again, far_again },     { "fresh-1m", near_fresh, far_fresh },
        { "fresh-16m", near_fresh, far_fresh },     { NULL, NULL, NULL },
    };

    return pair_main(argc, argv, workloads);
}
