/*
 * slices.h - which parts of which files, and what is in them, as bytes in a blob
 */
#ifndef SLICES_H
#define SLICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* size bytes of a file, from offset on. */
struct slice {
    uint64_t offset;
    uint64_t size;
    const char *path;
};

/* Write one at `at`, where there is room for slice_room(path) bytes; returns where the next goes. */
size_t slice_room(const char *path);
char *slice_put(char *at, const struct slice *slice);

/* The next one, whose path lies in the bytes, and `*at` behind it. False: there is no more, or that is none. */
bool slice_next(const char **at, const char *end, struct slice *ret_slice);

/* What was read of a slice: `size` bytes, `lead` before and `tail` behind it, as words_count() wants them. */
struct text_head {
    int32_t error; /* errno: it could not be read, all of it or the rest */
    uint32_t lead, size, tail;
};

/* The same for texts: `*ret_text` are the `size` bytes. */
bool text_next(const char **at, const char *end, struct text_head *ret_head, const char **ret_text);

#endif
