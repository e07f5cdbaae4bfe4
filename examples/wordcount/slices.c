/*
 * slices.c - which parts of which files, and what is in them, as bytes in a blob
 */
#include "slices.h"

#include <string.h>

enum { SLICE_HEAD = 2 * sizeof(uint64_t) };

size_t
slice_room(const char *path)
{
    return SLICE_HEAD + strlen(path) + 1;
}

char *
slice_put(char *at, const struct slice *slice)
{
    size_t size = strlen(slice->path) + 1;

    memcpy(at, &slice->offset, sizeof slice->offset);
    memcpy(at + sizeof slice->offset, &slice->size, sizeof slice->size);
    memcpy(at + SLICE_HEAD, slice->path, size);
    return at + SLICE_HEAD + size;
}

bool
slice_next(const char **at, const char *end, struct slice *ret_slice)
{
    const char *path = *at + SLICE_HEAD, *nul;

    if (end - *at <= SLICE_HEAD || !(nul = memchr(path, '\0', (size_t)(end - path)))) {
        return false;
    }
    memcpy(&ret_slice->offset, *at, sizeof ret_slice->offset);
    memcpy(&ret_slice->size, *at + sizeof ret_slice->offset, sizeof ret_slice->size);
    ret_slice->path = path;
    *at = nul + 1;
    return true;
}

bool
text_next(const char **at, const char *end, struct text_head *ret_head, const char **ret_text)
{
    size_t left = (size_t)(end - *at);

    if (left < sizeof *ret_head) {
        return false;
    }
    memcpy(ret_head, *at, sizeof *ret_head);
    left -= sizeof *ret_head;
    if ((uint64_t)ret_head->lead + ret_head->size + ret_head->tail > left) {
        return false;
    }
    *ret_text = *at + sizeof *ret_head + ret_head->lead;
    *at = *ret_text + ret_head->size + ret_head->tail;
    return true;
}
