/*
 * sim_net_plug.c - a descriptor that is readable and writable as we say
 *
 * Problem   Whoever watches a descriptor does it with epoll, as always. An eventfd can be made readable, but not
 *           unwritable without being readable.
 * Idea      One end of a real socket pair, of which nobody sees the bytes. One from our end makes it readable; its own
 *           send buffer, stuffed, makes it not writable.
 */
#include "runtime/sim_net_control.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int
trp_sim_plug_open(trp_sim_plug *plug)
{
    int pair[2], least = 1;
    struct stat status;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        return -errno;
    }
    setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof least);
    *plug = (trp_sim_plug){ .ours = pair[1] };
    plug->inode = fstat(pair[0], &status) == 0 ? status.st_ino : 0;
    return pair[0];
}

void
trp_sim_plug_set_readable(trp_sim_plug *plug, int fd, bool is_readable)
{
    char byte = 0;

    if (plug->ours >= 0 && plug->is_readable != is_readable) {
        plug->is_readable = is_readable;
        if (is_readable) {
            send(plug->ours, &byte, 1, MSG_NOSIGNAL);
        } else {
            recv(fd, &byte, 1, 0);
        }
    }
}

void
trp_sim_plug_set_writable(trp_sim_plug *plug, int fd, bool is_writable)
{
    char bytes[64] = { 0 };

    if (plug->ours >= 0 && plug->is_stuffed == is_writable) {
        plug->is_stuffed = !is_writable;
        while (is_writable ? recv(plug->ours, bytes, sizeof bytes, 0) > 0
                           : send(fd, bytes, sizeof bytes, MSG_NOSIGNAL) > 0) {
        }
    }
}

bool
trp_sim_plug_is(const trp_sim_plug *plug, int fd)
{
    struct stat status;

    return fd >= 0 && fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) &&
           status.st_ino == plug->inode;
}

void
trp_sim_plug_close(trp_sim_plug *plug, int fd)
{
    if (trp_sim_plug_is(plug, fd)) {
        close(fd);
    }
    if (plug->ours >= 0) {
        close(plug->ours);
    }
    plug->ours = -1;
}
