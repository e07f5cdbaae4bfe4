/*
 * file.c - the file that a target means, and nothing outside of the directory that is served
 *
 * The path is walked name by name, each opened in the directory before. A name is never "..", and no symbolic link is
 * followed: so there is no way out, whatever is encoded how, and whatever is moved meanwhile.
 */
#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static int
digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* With %41 as A. False: it is too long, or no such encoding, or has a NUL. */
static bool
decode(const char *target, size_t size, char *path)
{
    size_t length = 0;

    for (size_t i = 0; i < size; i++) {
        char c = target[i];

        if (c == '%') {
            int high = i + 2 < size ? digit(target[i + 1]) : -1;
            int low = i + 2 < size ? digit(target[i + 2]) : -1;

            if (high < 0 || low < 0) {
                return false;
            }
            c = (char)(high * 16 + low);
            i += 2;
        }
        if (c == '\0' || length == PATH_BYTES - 1) {
            return false;
        }
        path[length++] = c;
    }
    path[length] = '\0';
    return true;
}

static const char *
type_of(const char *path)
{
    static const char *const types[][2] = {
        { "html", "text/html; charset=utf-8" },
        { "htm", "text/html; charset=utf-8" },
        { "txt", "text/plain; charset=utf-8" },
        { "md", "text/markdown; charset=utf-8" },
        { "css", "text/css; charset=utf-8" },
        { "js", "text/javascript; charset=utf-8" },
        { "json", "application/json" },
        { "xml", "application/xml" },
        { "svg", "image/svg+xml" },
        { "png", "image/png" },
        { "jpg", "image/jpeg" },
        { "jpeg", "image/jpeg" },
        { "gif", "image/gif" },
        { "webp", "image/webp" },
        { "ico", "image/vnd.microsoft.icon" },
        { "pdf", "application/pdf" },
        { "wasm", "application/wasm" },
        { "gz", "application/gzip" },
        { "c", "text/plain; charset=utf-8" },
        { "h", "text/plain; charset=utf-8" },
    };
    const char *name = strrchr(path, '/'), *dot = strrchr(name ? name : path, '.');

    for (size_t i = 0; dot && i < sizeof types / sizeof *types; i++) {
        if (strcasecmp(dot + 1, types[i][0]) == 0) {
            return types[i][1];
        }
    }
    return "application/octet-stream";
}

static int
status_of(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
        return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return 503;
    default:
        return 404; /* a link (ELOOP), and a file where there should be a directory (ENOTDIR), included */
    }
}

/* Open the name in `dir`, which is closed unless it is the root; a negative errno. */
static int
step(int root, int dir, const char *name, int flags)
{
    int fd = strcmp(name, "..") == 0
                 ? -1
                 : openat(dir, name, O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | flags);
    int rc = fd >= 0 ? fd : strcmp(name, "..") == 0 ? -ENOENT : -errno;

    if (dir != root) {
        close(dir);
    }
    return rc;
}

/* Open what the path means; a negative errno. `path` is taken to pieces. */
static int
walk(int root, char *path)
{
    int dir = root;
    char *rest = path, *name;

    while ((name = strsep(&rest, "/")) != NULL) {
        bool is_last = !rest || rest[strspn(rest, "/")] == '\0';

        if (*name == '\0' || strcmp(name, ".") == 0) {
            continue;
        }
        dir = step(root, dir, name, is_last ? O_RDONLY : O_PATH | O_DIRECTORY);
        if (dir < 0) {
            return dir;
        }
    }
    return dir == root ? step(root, root, ".", O_RDONLY | O_DIRECTORY) : dir;
}

int
file_find(int root, const char *target, size_t target_size, struct file *ret_file)
{
    char path[PATH_BYTES], pieces[PATH_BYTES];
    bool has_slash = target_size > 0 && target[target_size - 1] == '/';
    struct stat status;
    int fd;

    *ret_file = (struct file){ .fd = -1 };
    if (!decode(target, target_size, path)) {
        return 400;
    }
    strcpy(pieces, path);
    fd = walk(root, pieces);
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
        if (!has_slash) {
            close(fd);
            return 301;
        }
        fd = step(-1, fd, "index.html", O_RDONLY);
        strcpy(path, "index.html");
    } else if (fd >= 0 && has_slash) {
        close(fd);
        return 404;
    }
    if (fd < 0) {
        return status_of(-fd);
    }
    if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return 404;
    }
    *ret_file = (struct file){ .fd = fd, .size = status.st_size, .type = type_of(path) };
    return 200;
}
