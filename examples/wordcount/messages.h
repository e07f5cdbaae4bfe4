/*
 * messages.h - who says what to whom
 *
 *     main --spawns--> coordinator --next_chunk--> walker         (this process: which files there are)
 *                      coordinator <-----chunk----
 *                      coordinator --chunk--> counter             (a worker process: what is in them)
 *                                             counter --offloads--> read_chunk()
 *                                             counter <--contents--
 *                      coordinator <--counted--
 *                      coordinator --shown, say--> screen         (this process: standard error)
 *     main <--share, finished-- coordinator
 */
#ifndef MESSAGES_H
#define MESSAGES_H

#include <troupe/troupe.h>

/* The next part of the text, please. */
TROUPE_SIGNAL(next_chunk);

/* A part of the text: slices of files, packed as slices.h says. No slices: there is no more. */
#define CHUNK(field, T) field(T, u64, bytes) field(T, blob, slices)
TROUPE_MESSAGE(chunk, CHUNK);

/* What has been read of a chunk: texts, packed as slices.h says. */
#define CONTENTS(field, T) field(T, u64, bytes) field(T, u64, files) field(T, blob, texts)
TROUPE_MESSAGE(contents, CONTENTS);

/* What is in a chunk. words: packed as by words_pack(). problems: files that could not be read, each as its errno in
 * four bytes and its path with a NUL. Both come together, or not at all. */
#define COUNTED(field, T)                                                                          \
    field(T, u64, bytes) field(T, u64, files) field(T, i64, pid) field(T, blob, words)             \
        field(T, blob, problems)
TROUPE_MESSAGE(counted, COUNTED);

/* How much there is in all. */
#define SIZED(field, T) field(T, u64, bytes) field(T, u64, files)
TROUPE_MESSAGE(sized, SIZED);

/* A file or directory that could not be read; its path is in the variable part. */
#define PROBLEM(field, T) field(T, i32, code)
TROUPE_MESSAGE(problem, PROBLEM);

/* For people: a line, in the variable part. */
TROUPE_SIGNAL(say);

/* How far we are; total 0: not known yet. */
#define SHOWN(field, T)                                                                            \
    field(T, u64, bytes) field(T, u64, total) field(T, u64, files) field(T, u32, counters)         \
        field(T, u64, elapsed_ms)
TROUPE_MESSAGE(shown, SHOWN);
TROUPE_SIGNAL(clear); /* take the progress line away, and answer the same */

/* What one process has done. */
#define SHARE(field, T)                                                                            \
    field(T, text, node, 48) field(T, i64, pid) field(T, u64, chunks) field(T, u64, bytes)         \
        field(T, u64, files) field(T, u32, deaths)
TROUPE_MESSAGE(share, SHARE);

/* All of it; words as in counted. */
#define FINISHED(field, T)                                                                         \
    field(T, u64, bytes) field(T, u64, files) field(T, u64, chunks) field(T, u64, redone)          \
        field(T, u64, problems) field(T, u64, elapsed_ms) field(T, blob, words)
TROUPE_MESSAGE(finished, FINISHED);

#endif
