/*
 * handles_support.h - what the tests about handles share: files that are handed over, strangers, and false nodes
 */
#ifndef HANDLES_SUPPORT_H
#define HANDLES_SUPPORT_H

#include "support/guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/handles.h"
#include "runtime/wire.h"

enum { PATH_SIZE = 108 };

/* ---- handles ---- */

static TROUPE_UNUSED int
file_of(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

/* It is what file_of() made, and closed on exec; closes it. */
static TROUPE_UNUSED void
assert_file(int fd, const char *text)
{
    char found[100] = "";

    if (fd < 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(pread(fd, found, sizeof found - 1, 0), strlen(text));
    assert_string_equal(found, text);
    close(fd);
}

static TROUPE_UNUSED troupe_handle
handle_of(troupe_self *me, const char *text)
{
    troupe_handle handle;
    int fd = file_of(text);

    if (troupe_reduce_handle(me, fd, &handle) != 0) {
        fail_msg("%s", troupe_last_error().text);
    }
    close(fd);
    return handle;
}

static TROUPE_UNUSED void
expect_refusal(troupe_self *me, const char *text, int code, const char *part)
{
    assert_int_equal(troupe_rebuild_handle(me, text, TEST_PATIENCE_MS), code);
    test_assert_error(code, part);
}

static TROUPE_UNUSED trp_token
token_of(troupe_handle handle)
{
    trp_token token;

    assert_true(trp_token_parse(handle.text, &token));
    return token;
}

static TROUPE_UNUSED troupe_handle
text_of(trp_token token)
{
    troupe_handle handle;

    trp_token_format(&token, handle.text);
    return handle;
}

static TROUPE_UNUSED void
socket_path(troupe_handle handle, char path[PATH_SIZE])
{
    trp_token token = token_of(handle);

    snprintf(path, PATH_SIZE, "%.40s/troupe/%.16s/%.16s.%016llx.h", getenv("XDG_RUNTIME_DIR"),
             token.cluster, token.node, (unsigned long long)token.incarnation);
}

/* ---- strangers ---- */

static TROUPE_UNUSED int
connect_to(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    memcpy(address.sun_path, path, strlen(path));
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -errno;
    }
    return fd;
}

/* What it is told before the end: the errno of a refusal, 0 when there is none. */
static TROUPE_UNUSED int
told(int fd)
{
    unsigned char bytes[200];
    trp_packet packet;
    ssize_t size;
    int error = 0;

    while ((size = recv(fd, bytes, sizeof bytes, 0)) > 0 || (size < 0 && errno == ECONNRESET)) {
        if (size > 0 && !trp_packet_get(bytes, (size_t)size, &packet) &&
            packet.kind == TRP_PACKET_REFUSE) {
            error = (int)packet.number;
        }
    }
    close(fd);
    return error;
}

/* ---- those who only seem to be nodes ---- */

/* A socket where a handle of "fake" is asked for. */
static TROUPE_UNUSED int
listen_as_fake(troupe_handle *ret_handle)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    trp_token token = { .cluster = "default", .node = "fake", .incarnation = 7 };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    char path[PATH_SIZE];

    *ret_handle = text_of(token);
    socket_path(*ret_handle, path);
    memcpy(address.sun_path, path, sizeof path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    return fd;
}

static TROUPE_UNUSED void
remove_fake(int listener, troupe_handle handle)
{
    char path[PATH_SIZE];

    close(listener);
    socket_path(handle, path);
    assert_int_equal(unlink(path), 0);
}

/* The handle is asked for, as it should be; the connection. */
static TROUPE_UNUSED int
asked(int listener)
{
    unsigned char bytes[100];
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(recv(fd, bytes, sizeof bytes, 0), TRP_PACKET_HEADER + TRP_SECRET_SIZE);
    return fd;
}

static TROUPE_UNUSED void
expect_rebuilt(troupe_self *me, int code, const char *part)
{
    troupe_msg *msg = test_receive(me, troupe_rebuilt);
    const troupe_rebuilt *rebuilt = troupe_body(msg, troupe_rebuilt);

    if (rebuilt->code != code || !strstr(rebuilt->text, part)) {
        fail_msg("%d: %s", rebuilt->code, rebuilt->text);
    }
    assert_int_equal(rebuilt->fd, -1);
    troupe_release(msg);
}

#endif
