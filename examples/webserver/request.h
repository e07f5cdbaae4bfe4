/*
 * request.h - what a client wants: the head of a request of HTTP/1.0 or 1.1
 */
#ifndef REQUEST_H
#define REQUEST_H

#include <stdbool.h>
#include <stddef.h>

enum { REQUEST_MAX = 8192 }; /* bytes of a head */

struct request {
    int status;         /* 200, or what is wrong with it */
    bool is_head;       /* HEAD, and not GET */
    bool keeps;         /* the connection is to stay open */
    size_t size;        /* bytes of the head */
    const char *target; /* of target_size bytes in the head; without scheme, host and query */
    size_t target_size;
};

/* The request at the front of these bytes. False: it is not whole yet. */
bool request_read(const char *bytes, size_t size, struct request *ret_request);

#endif
