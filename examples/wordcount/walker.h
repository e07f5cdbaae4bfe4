/*
 * walker.h - finds the files, and cuts what is in them into chunks
 */
#ifndef WALKER_H
#define WALKER_H

#include <troupe/troupe.h>

struct walk {
    char *const *paths; /* NULL behind the last; they outlive the walker */
    const char *skip;   /* a pattern of names that are not counted, or NULL */
    uint64_t chunk_bytes;
    troupe_ref problems_to;
};

/* An actor that answers each next_chunk with a chunk, and has problems told to problems_to. args: a walk. */
extern const troupe_behavior walker_behavior;

/* To be offloaded: answers with a `sized`. args: a walk. */
void size_up(troupe_job *job, const void *args);

/* The regular files whose names do not match the pattern, one after the other. Directories are walked, links are not followed unless they are given. What
 * cannot be read is told to on_problem. 0; or a negative errno: it did not begin. */
int walk_files(char *const *paths, const char *skip,
               bool (*on_file)(void *context, const char *path, uint64_t size),
               void (*on_problem)(void *context, const char *path, int code), void *context);

#endif
