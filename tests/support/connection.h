/*
 * connection.h - which of our descriptors are connections of nodes, to be cut
 */
#ifndef TEST_CONNECTION_H
#define TEST_CONNECTION_H

#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { CUT_CONTROL = 1, CUT_DATA = 2 };

/* Which connection of nodes it is; 0: none (or it may be about to listen). */
static inline uint32_t
test_connection_kind(int fd)
{
    struct sockaddr_un names[2];
    int domain = 0, type = 0, listens = 0;
    socklen_t size = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain != AF_UNIX) {
        return 0;
    }
    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size);
    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size);
    memset(names, 0, sizeof names);
    size = sizeof *names;
    getsockname(fd, (struct sockaddr *)&names[0], &size);
    size = sizeof *names;
    if (getpeername(fd, (struct sockaddr *)&names[1], &size) < 0 || listens ||
        !(strstr(names[0].sun_path, "/troupe/") || strstr(names[1].sun_path, "/troupe/"))) {
        return 0;
    }
    return type == SOCK_SEQPACKET ? CUT_CONTROL : CUT_DATA;
}

#endif
