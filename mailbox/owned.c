/*
 * owned.c - what the fields of a body own: descriptors and blobs, from the check at a send to their end
 */
#include "mailbox/type.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mailbox/blob.h"
#include "mailbox/error.h"
#include "mailbox/origin.h"

static int
fd_in(const void *body, const troupe_field *field)
{
    int fd;

    memcpy(&fd, (const char *)body + field->offset, sizeof fd);
    return fd;
}

static void
set_fd(void *body, const troupe_field *field, int fd)
{
    memcpy((char *)body + field->offset, &fd, sizeof fd);
}

static troupe_blob *
blob_in(const void *body, const troupe_field *field)
{
    troupe_blob *blob;

    memcpy(&blob, (const char *)body + field->offset, sizeof blob);
    return blob;
}

static int
check_text(const trp_type *type, const troupe_field *field, const void *body)
{
    if (memchr((const char *)body + field->offset, '\0', field->length) == NULL) {
        return trp_fail(-EMSGSIZE, "%s.%s: the text does not end within %zu bytes", type->name,
                        field->name, field->length);
    }
    return 0;
}

/* Open: 0, or 1 if it is a Unix socket; else -EBADF. One system call, but for O_PATH. */
static int
look_at(int fd)
{
    int domain = 0;
    socklen_t size = sizeof domain;

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0) {
        return domain == AF_UNIX;
    }
    return errno == EBADF && fcntl(fd, F_GETFD) < 0 ? -EBADF : 0;
}

static int
check_fd(const trp_type *type, const troupe_field *field, const void *body)
{
    int fd = fd_in(body, field), rc;

    if (fd < 0) {
        return 0;
    }
    rc = look_at(fd);
    if (rc < 0) {
        return trp_fail(rc, "%s.%s: %d is not an open descriptor", type->name, field->name, fd);
    }
    for (const troupe_field *other = type->fields; other < field; other++) {
        if (other->kind == TROUPE_KIND_FD && fd_in(body, other) == fd) {
            return trp_fail(-EINVAL, "%s.%s and %s.%s are one descriptor, %d: duplicate it",
                            type->name, other->name, type->name, field->name, fd);
        }
    }
    return rc;
}

int
trp_type_check_fields(const trp_type *type, const void *body)
{
    int found = 0;

    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];
        int rc = 0;

        if (field->kind == TROUPE_KIND_TEXT) {
            rc = check_text(type, field, body);
        } else if (field->kind == TROUPE_KIND_FD) {
            rc = check_fd(type, field, body);
        }
        if (rc < 0) {
            return rc;
        }
        found |= rc;
    }
    return found;
}

void
trp_type_drop_owned(const trp_type *type, void *body)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        if (field->kind == TROUPE_KIND_FD && fd_in(body, field) >= 0) {
            trp_origin_end(fd_in(body, field));
            close(fd_in(body, field));
        } else if (field->kind == TROUPE_KIND_BLOB) {
            troupe_blob_release(blob_in(body, field));
        }
    }
    trp_type_forget(type, body);
}

void
trp_type_share_blobs(const trp_type *type, const void *body)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        if (type->fields[i].kind == TROUPE_KIND_BLOB) {
            troupe_blob_keep(blob_in(body, &type->fields[i]));
        }
    }
}

void
trp_type_freeze_blobs(const trp_type *type, const void *body)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        if (type->fields[i].kind == TROUPE_KIND_BLOB) {
            trp_blob_freeze(blob_in(body, &type->fields[i]));
        }
    }
}

void
trp_type_forget(const trp_type *type, void *body)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        if (field->kind == TROUPE_KIND_FD) {
            set_fd(body, field, -1);
        } else if (field->kind == TROUPE_KIND_BLOB) {
            memset((char *)body + field->offset, 0, sizeof(troupe_blob *));
        }
    }
}

int
trp_type_take_fd(const trp_type *type, void *body, size_t offset)
{
    for (uint32_t i = 0; i < type->n_fields; i++) {
        const troupe_field *field = &type->fields[i];

        if (field->kind == TROUPE_KIND_FD && field->offset == offset) {
            int fd = fd_in(body, field);

            if (fd < 0) {
                return trp_fail(-EBADF, "%s.%s holds no descriptor, or it was taken before",
                                type->name, field->name);
            }
            trp_origin_end(fd);
            set_fd(body, field, -1);
            return fd;
        }
    }
    return trp_fail(-EINVAL, "%s has no fd field at offset %zu", type->name, offset);
}
