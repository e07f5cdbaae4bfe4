/*
 * control.c - SEQPACKET connections, descriptors and credentials
 *
 * Source    unix(7), cmsg(3). A packet with descriptors holds at least one byte; an empty packet would look like the
 *           end. The room for descriptors is always that for the kernel's maximum, so that MSG_CTRUNC can only mean
 *           that this process has none left (or that a security module refused), and a peer that sends more than we
 *           allow is seen rather than cut.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/net.h"
#include "runtime/wire.h"

enum { KERNEL_FDS = 253, BACKLOG = 256 };

static int
open_socket(const char *path, struct sockaddr_un *ret_address)
{
    int fd;

    memset(ret_address, 0, sizeof *ret_address);
    ret_address->sun_family = AF_UNIX;
    if (strlen(path) >= sizeof ret_address->sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(ret_address->sun_path, path, strlen(path));
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? -errno : fd;
}

int
trp_control_listen(const char *path)
{
    struct sockaddr_un address;
    int fd = open_socket(path, &address);

    if (fd >= 0 &&
        (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

int
trp_control_accept(int fd)
{
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    return client < 0 ? -errno : client;
}

int
trp_control_connect(const char *path)
{
    struct sockaddr_un address;
    int fd = open_socket(path, &address);

    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

int
trp_control_identify(int fd, trp_identity *ret_identity)
{
    struct ucred credentials;
    socklen_t size = sizeof credentials;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) < 0) {
        return -errno;
    }
    *ret_identity = (trp_identity){ .pid = credentials.pid, .uid = credentials.uid };
    return 0;
}

int
trp_control_send(int fd, const void *bytes, size_t size, const int *fds, unsigned n_fds)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * TRP_PACKET_FDS)];
        struct cmsghdr align;
    } room;
    struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
    ssize_t sent;

    if (n_fds > TRP_PACKET_FDS) {
        return -EINVAL;
    }
    if (n_fds > 0) {
        struct cmsghdr *head;

        memset(&room, 0, sizeof room);
        message.msg_control = room.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * n_fds);
    }
    do {
        sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Take what the kernel has installed; what is beyond our limit is closed, and the packet counts as cut. */
static void
collect(struct msghdr *message, trp_delivery *delivery)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        size_t n;

        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (delivery->n_fds < TRP_PACKET_FDS) {
                delivery->fds[delivery->n_fds++] = fd;
            } else {
                close(fd);
                delivery->is_cut = true;
            }
        }
    }
}

ssize_t
trp_control_receive(int fd, void *bytes, size_t size, trp_delivery *ret_delivery)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * KERNEL_FDS)];
        struct cmsghdr align;
    } room;
    struct iovec part = { .iov_base = bytes, .iov_len = size };
    struct msghdr message = { .msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = room.bytes,
                              .msg_controllen = sizeof room.bytes };
    ssize_t got;

    ret_delivery->n_fds = 0;
    ret_delivery->is_cut = false;
    do {
        got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        /* A connection that was closed with something unread says so once, before what it has brought. */
    } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    if (got < 0) {
        return -errno;
    }
    collect(&message, ret_delivery);
    if (message.msg_flags & MSG_CTRUNC) {
        ret_delivery->is_cut = true;
    }
    if (message.msg_flags &
        MSG_TRUNC) { /* longer than any packet of ours: for trp_packet_get to see */
        return (ssize_t)size;
    }
    return got;
}

void
trp_control_close(int fd)
{
    close(fd);
}

void
trp_net_refuse(const trp_net *net, int fd, int code, const char *reason)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_WIRE_REASON];
    size_t size = strlen(reason) < TRP_WIRE_REASON ? strlen(reason) : TRP_WIRE_REASON;

    trp_packet_put(packet, TRP_PACKET_REFUSE, (uint64_t)-code, size);
    memcpy(packet + TRP_PACKET_HEADER, reason, size);
    net->send(fd, packet, TRP_PACKET_HEADER + size, NULL, 0);
}
