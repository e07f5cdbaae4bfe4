/*
 * plain.h - the same count by one thread, without actors and without chunks: what the other must equal
 */
#ifndef PLAIN_H
#define PLAIN_H

#include "words.h"

struct plain {
    struct words *words;
    uint64_t bytes, files, problems;
    int code; /* negative: it could not be finished */
};

/* paths and skip as for walk_files(). words_free() is the caller's. */
struct plain plain_count(char *const *paths, const char *skip);

#endif
