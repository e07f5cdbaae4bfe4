/*
 * file.h - the file that a target means, and nothing outside of the directory that is served
 */
#ifndef FILE_H
#define FILE_H

#include <stddef.h>
#include <sys/types.h>

struct file {
    int fd; /* the caller's, for a status of 200; else -1 */
    off_t size;
    const char *type; /* its media type */
};

/* An HTTP status: 200; 301 for a directory without a slash behind its name; 400, 403, 404, 503. */
int file_find(int root, const char *target, size_t target_size, struct file *ret_file);

#endif
