/*
 * reader.h - reading the slices of a chunk, which may block: to be offloaded
 */
#ifndef READER_H
#define READER_H

#include <troupe/troupe.h>

struct read_args {
    troupe_blob *slices; /* ours */
    uint64_t bytes;
};

/* Answers with `contents`. */
void read_chunk(troupe_job *job, const void *args);
/* It will not run. */
void drop_chunk(const void *args);

#endif
