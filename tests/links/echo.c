/*
 * echo.c - the node that client.py talks to: `links_echo NAME`, until SIGTERM
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define NUMBER_FIELDS(field, T) field(T, u64, n)
TROUPE_MESSAGE(ping, NUMBER_FIELDS);
TROUPE_MESSAGE(pong, NUMBER_FIELDS);
#define GIVE_FIELDS(field, T) field(T, fd, fd) field(T, u64, n)
TROUPE_MESSAGE(give, GIVE_FIELDS);
#define WANT_FIELDS(field, T) field(T, text, words, 32)
TROUPE_MESSAGE(want, WANT_FIELDS);
#define GOT_FIELDS(field, T) field(T, text, handle, TROUPE_HANDLE_SIZE)
TROUPE_MESSAGE(got, GOT_FIELDS);
#define SHEET_FIELDS(field, T) field(T, blob, paper)
TROUPE_MESSAGE(sheet, SHEET_FIELDS);

static void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, pong, .n = troupe_body(msg, ping)->n + 1);
}

static void
on_give(troupe_self *self, troupe_msg *msg)
{
    dprintf(troupe_body(msg, give)->fd, "%" PRIu64 "\n", troupe_body(msg, give)->n);
}

/* A handle of a file with these words. */
static void
on_want(troupe_self *self, troupe_msg *msg)
{
    const char *words = troupe_body(msg, want)->words;
    int ends[2];
    troupe_handle handle;
    got answer;

    if (pipe2(ends, O_CLOEXEC) == 0) {
        dprintf(ends[1], "%s", words);
        close(ends[1]);
        if (troupe_reduce_handle(self, ends[0], &handle) == 0) {
            memcpy(answer.handle, handle.text, sizeof answer.handle);
            troupe_reply_value(self, msg, got, &answer);
        }
        close(ends[0]);
    }
}

/* How many bytes, and the last of them. */
static void
on_sheet(troupe_self *self, troupe_msg *msg)
{
    const troupe_blob *paper = troupe_body(msg, sheet)->paper;
    const unsigned char *bytes = troupe_blob_data(paper);
    size_t size = troupe_blob_size(paper);

    troupe_reply(self, msg, pong, .n = bytes ? size << 8 | bytes[size - 1] : 0);
}

static const troupe_behavior echo = {
    .name = "echo",
    .handlers = TROUPE_HANDLERS(TROUPE_ON(ping, on_ping), TROUPE_ON(give, on_give),
                                TROUPE_ON(want, on_want), TROUPE_ON(sheet, on_sheet)),
};
TROUPE_EXPORT(echo);

int
main(int argc, char **argv)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = argc > 1 ? argv[1] : "echo" });

    if (!me) {
        fprintf(stderr, "%s\n", troupe_last_error().text);
        return 1;
    }
    troupe_wait_signal(me);
    return troupe_stop(me) < 0;
}
