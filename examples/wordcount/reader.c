/*
 * reader.c - reading the slices of a chunk, which may block: to be offloaded
 *
 * A file may have changed since the walker saw it: what is there now is read, but no more than the slice.
 */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"
#include "slices.h"
#include "words.h"

/* As many bytes as there are. */
static ssize_t
read_all(int fd, char *into, size_t size, uint64_t offset)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = pread(fd, into + have, size - have, (off_t)(offset + have));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -errno;
        }
        if (n == 0) {
            break;
        }
        have += (size_t)n;
    }
    return (ssize_t)have;
}

/* The bytes of a slice, one before it and those behind that belong to its last word. */
static void
read_slice(const struct slice *slice, char *into, struct text_head *head)
{
    int fd = open(slice->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    uint32_t lead = slice->offset > 0;
    ssize_t n =
        fd < 0 ? -errno
               : read_all(fd, into, lead + (size_t)slice->size + WORD_MAX, slice->offset - lead);

    *head = (struct text_head){ .error = n < 0 ? (int32_t)-n : 0 };
    if (n > (ssize_t)lead) {
        uint64_t rest = (uint64_t)n - lead;

        head->lead = lead;
        head->size = (uint32_t)(rest < slice->size ? rest : slice->size);
        head->tail = (uint32_t)(rest - head->size);
    }
    if (fd >= 0) {
        close(fd);
    }
}

/* How much room the texts of all slices may take. */
static size_t
room_for(const troupe_blob *slices)
{
    const char *at = troupe_blob_data(slices), *end = at + troupe_blob_size(slices);
    struct slice slice;
    size_t room = 0;

    while (slice_next(&at, end, &slice)) {
        room += sizeof(struct text_head) + 1 + (size_t)slice.size + WORD_MAX;
    }
    return room;
}

void
read_chunk(troupe_job *job, const void *args)
{
    const struct read_args *wanted = args;
    const char *at = troupe_blob_data(wanted->slices), *end = at + troupe_blob_size(wanted->slices);
    troupe_blob *texts = troupe_job_blob(job, room_for(wanted->slices));
    char *into = texts ? troupe_blob_edit(texts) : NULL;
    uint64_t bytes = 0, files = 0;
    struct slice slice;

    while (texts && !troupe_job_is_cancelled(job) && slice_next(&at, end, &slice)) {
        struct text_head head;

        read_slice(&slice, into + sizeof head, &head);
        memcpy(into, &head, sizeof head);
        into += sizeof head + head.lead + head.size + head.tail;
        bytes += head.size;
        files += slice.offset == 0 && head.error == 0;
    }
    troupe_blob_release(wanted->slices);
    if (texts && troupe_finish(job, contents, .bytes = bytes, .files = files, .texts = texts) < 0) {
        troupe_blob_release(texts);
    }
}

void
drop_chunk(const void *args)
{
    troupe_blob_release(((const struct read_args *)args)->slices);
}
