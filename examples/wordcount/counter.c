/*
 * counter.c - counts the words of one chunk after the other, wherever it is spawned
 *
 * It has each chunk read by a function that may block, on a thread of the offload pool, and counts what comes of
 * it. A question that it cannot answer ends it: who asked is told, and asks another.
 */
#include "counter.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"
#include "reader.h"
#include "slices.h"
#include "words.h"

struct counter {
    struct words *words;
    struct {
        uint64_t request; /* of the reading; 0: free */
        troupe_msg *chunk;
    } pending[COUNTER_WINDOW];
};

static int
counter_init(troupe_self *self, const void *args)
{
    struct counter *counter = troupe_state(self);

    counter->words = words_new();
    return counter->words ? 0 : -ENOMEM;
}

static void
counter_stop(troupe_self *self)
{
    struct counter *counter = troupe_state(self);

    for (unsigned i = 0; i < COUNTER_WINDOW; i++) {
        troupe_release(counter->pending[i].chunk); /* who asked for it is told */
    }
    words_free(counter->words);
}

static void
on_chunk(troupe_self *self, troupe_msg *msg)
{
    const chunk *body = troupe_body(msg, chunk);
    struct counter *counter = troupe_state(self);
    struct read_args args = { troupe_blob_keep(body->slices), body->bytes };
    unsigned place = 0;

    while (place < COUNTER_WINDOW && counter->pending[place].request != 0) {
        place++;
    }
    if (place == COUNTER_WINDOW) {
        troupe_blob_release(args.slices);
        troupe_fail(self, EOVERFLOW, "more than %d chunks at a time", COUNTER_WINDOW);
        return;
    }
    counter->pending[place].request = troupe_offload(self, &(troupe_work){ .function = read_chunk,
                                                                           .args = &args,
                                                                           .args_size = sizeof args,
                                                                           .discard = drop_chunk,
                                                                           .name = "read_chunk" });
    if (counter->pending[place].request == 0) {
        troupe_blob_release(args.slices);
        troupe_fail(self, -troupe_last_error().code, "%s", troupe_last_error().text);
        return;
    }
    counter->pending[place].chunk = troupe_keep(msg);
}

/* The chunk that this is the answer about. */
static troupe_msg *
take_pending(struct counter *counter, uint64_t request)
{
    for (unsigned i = 0; i < COUNTER_WINDOW; i++) {
        if (counter->pending[i].request == request) {
            counter->pending[i].request = 0;
            troupe_msg *msg = counter->pending[i].chunk;
            counter->pending[i].chunk = NULL;
            return msg;
        }
    }
    return NULL;
}

/* Count all texts; how many bytes their problems take. */
static int
count_texts(struct words *words, const troupe_blob *slices, const troupe_blob *texts,
            size_t *ret_problems_size)
{
    const char *at = troupe_blob_data(slices), *end = at + troupe_blob_size(slices);
    const char *text_at = troupe_blob_data(texts), *text_end = text_at + troupe_blob_size(texts);
    struct slice slice;

    *ret_problems_size = 0;
    words_clear(words);
    while (slice_next(&at, end, &slice)) {
        struct text_head head;
        const char *bytes;

        if (!text_next(&text_at, text_end, &head, &bytes)) {
            return -ENODATA;
        }
        if (words_count(words, bytes, head.lead, head.size, head.tail) < 0) {
            return -ENOMEM;
        }
        if (head.error != 0 && slice.offset == 0) { /* one of a file */
            *ret_problems_size += sizeof head.error + strlen(slice.path) + 1;
        }
    }
    return 0;
}

static void
put_problems(const troupe_blob *slices, const troupe_blob *texts, char *into)
{
    const char *at = troupe_blob_data(slices), *end = at + troupe_blob_size(slices);
    const char *text_at = troupe_blob_data(texts), *text_end = text_at + troupe_blob_size(texts);
    struct text_head head;
    struct slice slice;
    const char *bytes;

    while (slice_next(&at, end, &slice) && text_next(&text_at, text_end, &head, &bytes)) {
        if (head.error != 0 && slice.offset == 0) {
            memcpy(into, &head.error, sizeof head.error);
            into = stpcpy(into + sizeof head.error, slice.path) + 1;
        }
    }
}

/* Answer the question for `asked` with what is in `read`. */
static int
answer(troupe_self *self, struct words *words, const troupe_msg *asked, const contents *read)
{
    const troupe_blob *slices = troupe_body(asked, chunk)->slices;
    size_t problems_size;
    int rc = count_texts(words, slices, read->texts, &problems_size);
    counted answer = { .bytes = read->bytes, .files = read->files, .pid = getpid() };

    if (rc < 0) {
        return rc;
    }
    answer.words = troupe_blob_new(self, words_packed_size(words));
    answer.problems = troupe_blob_new(self, problems_size);
    if (answer.words && answer.problems) {
        words_pack(words, troupe_blob_edit(answer.words));
        put_problems(slices, read->texts, troupe_blob_edit(answer.problems));
        rc = troupe_reply_value(self, asked, counted, &answer);
    } else {
        rc = -ENOMEM;
    }
    if (rc < 0) {
        troupe_blob_release(answer.words);
        troupe_blob_release(answer.problems);
    }
    return rc;
}

static void
on_contents(troupe_self *self, troupe_msg *msg)
{
    struct counter *counter = troupe_state(self);
    troupe_msg *asked = take_pending(counter, troupe_request(msg));
    int rc = asked ? answer(self, counter->words, asked, troupe_body(msg, contents)) : 0;

    if (rc < 0) {
        troupe_fail(self, -rc, "a chunk could not be counted: %s", troupe_strerror(rc));
    }
    troupe_release(asked);
}

static void
on_unread(troupe_self *self, troupe_msg *msg)
{
    troupe_fail(self, ENOMEM, "a chunk could not be read: no memory");
}

const troupe_behavior counter_behavior = {
    .name = "counter",
    .state_size = sizeof(struct counter),
    .init = counter_init,
    .stop = counter_stop,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(chunk, on_chunk), TROUPE_ON(contents, on_contents),
                                TROUPE_ON(troupe_unanswered, on_unread)),
};
TROUPE_EXPORT(counter_behavior);
