/*
 * walker.c - finds the files, and cuts what is in them into chunks
 *
 * A chunk is about the same number of bytes, however large the files: many small ones together, or a part of a large
 * one. The walker goes on only when it is asked, so that it is never further ahead than there is work under way; it
 * has a thread of its own, for reading directories blocks.
 */
#include "walker.h"

#include <errno.h>
#include <fnmatch.h>
#include <fts.h>
#include <string.h>
#include <sys/stat.h>

#include "messages.h"
#include "slices.h"

enum { SLICES_MAX = 1000, PATHS_MAX = 256 << 10, PATH_ROOM = 64 << 10 };

/* The next regular file that is not skipped; NULL: that was the last. */
static FTSENT *
next_file(FTS *fts, const char *skip, void (*on_problem)(void *context, const char *path, int code),
          void *context)
{
    FTSENT *entry;

    while ((entry = fts_read(fts)) != NULL) {
        if (entry->fts_info == FTS_F && S_ISREG(entry->fts_statp->st_mode) &&
            (!skip || fnmatch(skip, entry->fts_name, 0) != 0)) {
            return entry;
        }
        if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR || entry->fts_info == FTS_NS) {
            on_problem(context, entry->fts_path, entry->fts_errno);
        }
    }
    return NULL;
}

static FTS *
open_walk(char *const *paths)
{
    return fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR, NULL);
}

int
walk_files(char *const *paths, const char *skip,
           bool (*on_file)(void *context, const char *path, uint64_t size),
           void (*on_problem)(void *context, const char *path, int code), void *context)
{
    FTS *fts = open_walk(paths);
    bool goes_on = true;
    FTSENT *entry;

    if (!fts) {
        return -errno;
    }
    while (goes_on && (entry = next_file(fts, skip, on_problem, context)) != NULL) {
        goes_on = on_file(context, entry->fts_path, (uint64_t)entry->fts_statp->st_size);
    }
    fts_close(fts);
    return 0;
}

/* ---- how much there is ---- */

struct sizing {
    troupe_job *job;
    uint64_t bytes, files;
};

static bool
add_size(void *context, const char *path, uint64_t size)
{
    struct sizing *sizing = context;

    sizing->bytes += size;
    sizing->files++;
    return !troupe_job_is_cancelled(sizing->job);
}

/* The walker meets them as well, and says so. */
static void
ignore_problem(void *context, const char *path, int code)
{
}

void
size_up(troupe_job *job, const void *args)
{
    const struct walk *walk = args;
    struct sizing sizing = { .job = job };

    walk_files(walk->paths, walk->skip, add_size, ignore_problem, &sizing);
    troupe_finish(job, sized, .bytes = sizing.bytes, .files = sizing.files);
}

/* ---- the actor ---- */

struct walker {
    struct walk walk;
    FTS *fts;
    FTSENT *file; /* the one that has not been given away in full */
    uint64_t offset;
    troupe_self *self;
    char slices[PATHS_MAX + PATH_ROOM]; /* of the chunk that is being made */
};

static int
walker_init(troupe_self *self, const void *args)
{
    struct walker *walker = troupe_state(self);

    walker->walk = *(const struct walk *)args;
    walker->self = self;
    walker->fts = open_walk(walker->walk.paths);
    return walker->fts ? 0 : -errno;
}

static void
walker_stop(troupe_self *self)
{
    fts_close(((struct walker *)troupe_state(self))->fts);
}

static void
tell_problem(void *context, const char *path, int code)
{
    struct walker *walker = context;

    troupe_send_bytes(walker->self, walker->walk.problems_to, path, strlen(path), problem,
                      .code = code);
}

/* Take the next slice, of at most `bytes`; false: there is none. An empty file is an empty slice. */
static bool
next_slice(struct walker *walker, uint64_t bytes, struct slice *ret_slice)
{
    uint64_t rest;

    if (!walker->file) {
        walker->file = next_file(walker->fts, walker->walk.skip, tell_problem, walker);
        walker->offset = 0;
        if (!walker->file) {
            return false;
        }
    }
    rest = (uint64_t)walker->file->fts_statp->st_size - walker->offset;
    *ret_slice = (struct slice){ .offset = walker->offset,
                                 .size = rest < bytes ? rest : bytes,
                                 .path = walker->file->fts_path };
    walker->offset += ret_slice->size;
    return true;
}

static void
on_next_chunk(troupe_self *self, troupe_msg *msg)
{
    struct walker *walker = troupe_state(self);
    char *end = walker->slices;
    chunk next = { .bytes = 0 };

    for (unsigned n = 0; n < SLICES_MAX && next.bytes < walker->walk.chunk_bytes &&
                         end - walker->slices < PATHS_MAX;
         n++) {
        struct slice slice;

        if (!next_slice(walker, walker->walk.chunk_bytes - next.bytes, &slice)) {
            break;
        }
        end = slice_put(end, &slice);
        next.bytes += slice.size;
        if (walker->offset == (uint64_t)walker->file->fts_statp->st_size) {
            walker->file = NULL;
        }
    }
    next.slices = troupe_blob_new(self, (size_t)(end - walker->slices));
    if (!next.slices) {
        troupe_fail(self, ENOMEM, "%s", troupe_last_error().text);
        return;
    }
    memcpy(troupe_blob_edit(next.slices), walker->slices, (size_t)(end - walker->slices));
    if (troupe_reply_value(self, msg, chunk, &next) < 0) {
        troupe_blob_release(next.slices);
    }
}

const troupe_behavior walker_behavior = {
    .name = "walker",
    .state_size = sizeof(struct walker),
    .init = walker_init,
    .stop = walker_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(next_chunk, on_next_chunk)),
};
