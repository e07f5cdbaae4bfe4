/*
 * request.c - what a client wants: the head of a request of HTTP/1.0 or 1.1 (RFC 9112)
 *
 * A request with a body is answered, and then the connection ends: so nobody has to know where the body does.
 */
#include "request.h"

#include <string.h>
#include <strings.h>

/* A piece of the head. */
struct piece {
    const char *at;
    size_t size;
};

static bool
equals(struct piece piece, const char *text)
{
    return piece.size == strlen(text) && memcmp(piece.at, text, piece.size) == 0;
}

static bool
equals_whatever_case(struct piece piece, const char *text)
{
    return piece.size == strlen(text) && strncasecmp(piece.at, text, piece.size) == 0;
}

/* What comes before `end`, which is skipped; all there is when there is none. */
static struct piece
split(struct piece *rest, char end)
{
    const char *found = rest->size ? memchr(rest->at, end, rest->size) : NULL;
    struct piece piece = { rest->at, found ? (size_t)(found - rest->at) : rest->size };
    size_t skipped = piece.size + (found != NULL);

    rest->at += skipped;
    rest->size -= skipped;
    return piece;
}

static struct piece
trim(struct piece piece)
{
    while (piece.size > 0 && (*piece.at == ' ' || *piece.at == '\t')) {
        piece.at++;
        piece.size--;
    }
    while (piece.size > 0 && strchr(" \t\r", piece.at[piece.size - 1])) {
        piece.size--;
    }
    return piece;
}

/* `http://host/path?query` and `/path?query` are both `/path`. */
static bool
read_target(struct piece target, struct request *request)
{
    if (target.size > 7 && strncasecmp(target.at, "http://", 7) == 0) {
        const char *slash = memchr(target.at + 7, '/', target.size - 7);

        if (!slash) {
            return false;
        }
        target.size -= (size_t)(slash - target.at);
        target.at = slash;
    }
    if (target.size == 0 || *target.at != '/') {
        return false;
    }
    target = split(&target, '?');
    request->target = target.at;
    request->target_size = target.size;
    return true;
}

static bool
read_first_line(struct piece line, struct request *request, bool *ret_is_1_1)
{
    static const char *const others[] = { "POST",  "PUT",   "DELETE", "OPTIONS",
                                          "PATCH", "TRACE", "CONNECT" };
    struct piece method = split(&line, ' '), target = split(&line, ' '), version = trim(line);

    *ret_is_1_1 = equals(version, "HTTP/1.1");
    if ((!*ret_is_1_1 && !equals(version, "HTTP/1.0")) || !read_target(target, request)) {
        return false;
    }
    request->is_head = equals(method, "HEAD");
    if (!request->is_head && !equals(method, "GET")) {
        request->status = 400;
        for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
            request->status = equals(method, others[i]) ? 405 : request->status;
        }
    }
    return request->status != 400;
}

/* False: a line that is none. */
static bool
read_field(struct piece line, struct request *request, bool *has_host, bool *has_body)
{
    const char *colon = memchr(line.at, ':', line.size);
    struct piece name = split(&line, ':'), value = trim(line);

    if (!colon || name.size == 0 || strchr(" \t", name.at[0]) ||
        strchr(" \t", name.at[name.size - 1])) {
        return false;
    }
    if (equals_whatever_case(name, "host")) {
        *has_host = true;
    } else if (equals_whatever_case(name, "content-length")) {
        *has_body |= !equals(value, "0");
    } else if (equals_whatever_case(name, "transfer-encoding")) {
        *has_body = true;
    } else if (equals_whatever_case(name, "connection")) {
        while (value.size > 0) {
            struct piece option = trim(split(&value, ','));

            if (equals_whatever_case(option, "close")) {
                request->keeps = false;
            } else if (equals_whatever_case(option, "keep-alive")) {
                request->keeps = true;
            }
        }
    }
    return true;
}

static void
refuse(struct request *request, int status)
{
    request->status = status;
    request->keeps = false;
}

static void
read_head(struct piece head, struct request *request)
{
    bool is_1_1, has_host = false, has_body = false;

    if (memchr(head.at, '\0', head.size) ||
        !read_first_line(split(&head, '\n'), request, &is_1_1)) {
        refuse(request, 400);
        return;
    }
    request->keeps = is_1_1;
    while (head.size > 0) {
        struct piece line = split(&head, '\n');

        if (line.size == 0 || equals(line, "\r")) {
            break;
        }
        if (!read_field(line, request, &has_host, &has_body)) {
            refuse(request, 400);
            return;
        }
    }
    if (is_1_1 && !has_host) {
        refuse(request, 400);
    }
    request->keeps &= !has_body;
}

/* Where the head ends, behind an empty line; 0: it does not yet. */
static size_t
head_size(const char *bytes, size_t size)
{
    const char *at = bytes, *end = bytes + size;

    while ((at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        if (at < end && *at == '\n') {
            return (size_t)(at + 1 - bytes);
        }
        if (end - at >= 2 && at[0] == '\r' && at[1] == '\n') {
            return (size_t)(at + 2 - bytes);
        }
    }
    return 0;
}

bool
request_read(const char *bytes, size_t size, struct request *ret_request)
{
    size_t skipped = 0, length;
    struct request request = { .status = 200 };

    while (skipped < size && (bytes[skipped] == '\r' || bytes[skipped] == '\n')) {
        skipped++; /* some send an empty line too many */
    }
    length = head_size(bytes + skipped, size - skipped);
    if (length == 0 && size < REQUEST_MAX) {
        return false;
    }
    request.size = length ? skipped + length : size;
    if (length == 0) {
        refuse(&request, 431);
    } else {
        read_head((struct piece){ bytes + skipped, length }, &request);
    }
    *ret_request = request;
    return true;
}
