/*
 * key.c - reading the cluster's key, passing it on, forgetting it
 */
#include "runtime/key.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sodium.h>

#include "mailbox/error.h"
#include "runtime/sim.h"

static int
take(trp_key *ret_key, const char *what, const void *bytes, size_t size)
{
    if (size < TRP_KEY_MIN || size > TRP_KEY_MAX) {
        return trp_fail(-EINVAL, "%s: the cluster's key has %zu bytes, not %d to %d", what, size,
                        TRP_KEY_MIN, TRP_KEY_MAX);
    }
    if (sodium_init() < 0) {
        return trp_fail(-ENOSYS, "%s: libsodium does not work here", what);
    }
    if (size > TRP_KEY_SIZE) {
        crypto_hash_sha256(ret_key->bytes, bytes, size);
        ret_key->size = crypto_hash_sha256_BYTES;
    } else {
        memcpy(ret_key->bytes, bytes, size);
        ret_key->size = (uint32_t)size;
    }
    return 0;
}

/* ---- from a file ---- */

/* May it be used: is it a file that nobody else can read? */
static int
check_file(int fd, const char *path)
{
    struct stat it;

    if (fstat(fd, &it) < 0) {
        return trp_fail(-errno, "%s: %s", path, strerror(errno));
    }
    if (!S_ISREG(it.st_mode)) {
        return trp_fail(-EINVAL, "%s: the cluster's key must be in a regular file", path);
    }
    if (it.st_uid != geteuid() && it.st_uid != 0) {
        return trp_fail(-EACCES, "%s: the file with the cluster's key belongs to user %u", path,
                        (unsigned)it.st_uid);
    }
    if (it.st_mode & 077) {
        return trp_fail(
            -EACCES,
            "%s: the file with the cluster's key has mode %04o, so that others may read "
            "or write it: chmod 600",
            path, (unsigned)it.st_mode & 07777);
    }
    return 0;
}

/* As many as there are, up to `room`; or a negative errno. */
static ssize_t
read_all(int fd, unsigned char *bytes, size_t room)
{
    size_t size = 0;
    ssize_t n = 1;

    while (size < room && (n > 0 || errno == EINTR)) {
        n = read(fd, bytes + size, room - size);
        if (n == 0) {
            break;
        }
        size += n > 0 ? (size_t)n : 0;
    }
    return n < 0 ? -errno : (ssize_t)size;
}

static int
read_file(trp_key *ret_key, int fd, const char *path)
{
    unsigned char bytes[TRP_KEY_MAX + 2]; /* one more than may be, and the end of a line */
    ssize_t size;
    int rc = check_file(fd, path);

    if (rc < 0) {
        return rc;
    }
    size = read_all(fd, bytes, sizeof bytes);
    if (size < 0) {
        return trp_fail((int)size, "%s: the cluster's key cannot be read: %s", path,
                        strerror((int)-size));
    }
    size -= size > 0 && bytes[size - 1] == '\n';
    rc = take(ret_key, path, bytes, (size_t)size);
    sodium_memzero(bytes, sizeof bytes);
    return rc;
}

static int
load_file(trp_key *ret_key, const char *path, trp_world *world)
{
    int fd = world->sim ? trp_sim_fails("open") : 0, rc;

    if (fd == 0) {
        /* not blocking: a FIFO is refused, not waited for */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        fd = fd < 0 ? -errno : fd;
    }
    if (fd < 0) {
        return trp_fail(fd, "%s: the cluster's key cannot be read: %s", path, strerror(-fd));
    }
    rc = read_file(ret_key, fd, path);
    close(fd);
    return rc;
}

int
trp_key_load(trp_key *ret_key, const troupe_config *config, trp_world *world)
{
    const char *path = config->cluster_key_file;

    ret_key->size = 0;
    if (config->cluster_key && path && *path) {
        return trp_fail(-EINVAL, "cluster_key and cluster_key_file: one of the two");
    }
    if (!config->cluster_key && config->cluster_key_size > 0) {
        return trp_fail(-EINVAL, "cluster_key_size without a cluster_key");
    }
    if (config->cluster_key) {
        return take(ret_key, "cluster_key", config->cluster_key, config->cluster_key_size);
    }
    path = path ? path : getenv(TRP_KEY_VARIABLE);
    return path && *path ? load_file(ret_key, path, world) : 0;
}

/* ---- to a process that is started ---- */

int
trp_key_pass(const trp_key *key, trp_world *world)
{
    int ends[2], rc = world->sim ? trp_sim_fails("pipe2") : 0;

    if (rc == 0 && pipe2(ends, O_CLOEXEC) < 0) {
        rc = -errno;
    }
    if (rc == 0 && write(ends[1], key->bytes, key->size) != (ssize_t)key->size) {
        rc = -EIO; /* an empty pipe has room for it */
        close(ends[0]);
        close(ends[1]);
    }
    if (rc < 0) {
        return trp_fail(rc, "no pipe for the cluster's key: %s", strerror(-rc));
    }
    close(ends[1]);
    return ends[0];
}

int
trp_key_receive(trp_key *ret_key, int fd)
{
    struct stat it;
    bool is_pipe = fstat(fd, &it) == 0 && S_ISFIFO(it.st_mode);
    ssize_t size = 0;

    if (is_pipe) {
        fcntl(fd, F_SETFL, O_NONBLOCK);                         /* it is there, or never will be */
        size = read(fd, ret_key->bytes, sizeof ret_key->bytes); /* written at once */
        close(fd);
    }
    if (size < TRP_KEY_MIN) {
        return trp_fail(-EBADF, "descriptor %d is not the one with the cluster's key", fd);
    }
    ret_key->size = (uint32_t)size;
    return 0;
}

void
trp_key_forget(trp_key *key)
{
    sodium_memzero(key, sizeof *key);
}
