/*
 * screen.c - standard error: lines for people, and one that shows how far we are
 *
 * It has a thread of its own, and messages that it cannot take are dropped: a terminal that is stopped stops nobody.
 */
#include "screen.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "messages.h"

struct screen {
    bool has_progress;
    bool
        is_terminal; /* the line is written over itself; elsewhere there is one line after the other */
    bool is_dirty; /* it stands there now */
};

/* Bytes of the character at the front, in UTF-8 and not a control character; 0: it is none. */
static size_t
character(const unsigned char *at, size_t size)
{
    size_t length = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;

    if (length == 0 || length > size || at[0] > 0xf4 || at[0] < 0x20 || at[0] == 0x7f) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((at[0] == 0xc2 && at[1] < 0xa0) || (at[0] == 0xe0 && at[1] < 0xa0) ||
        (at[0] == 0xed && at[1] > 0x9f) || (at[0] == 0xf0 && at[1] < 0x90) ||
        (at[0] == 0xf4 && at[1] > 0x8f)) {
        return 0;
    }
    return length;
}

void
make_printable(char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        size_t length = character((const unsigned char *)text + at, size - at);

        if (length == 0) {
            text[at] = '?';
            length = 1;
        }
        at += length;
    }
}

void
screen_say(troupe_self *self, troupe_ref screen, const char *format, ...)
{
    char line[8192];
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (length > 0) {
        size_t size = (size_t)length < sizeof line ? (size_t)length : sizeof line - 1;

        make_printable(line, size);
        troupe_send_bytes(self, screen, line, size, say);
    }
}

/* ---- the actor ---- */

static int
screen_init(troupe_self *self, const void *args)
{
    struct screen *screen = troupe_state(self);

    screen->has_progress = *(const bool *)args;
    screen->is_terminal = isatty(STDERR_FILENO);
    return 0;
}

static void
wipe(struct screen *screen)
{
    if (screen->is_dirty) {
        fputs("\r\033[K", stderr);
        screen->is_dirty = false;
    }
}

static void
on_say(troupe_self *self, troupe_msg *msg)
{
    size_t size;
    const char *line = troupe_tail(msg, &size);

    wipe(troupe_state(self));
    fprintf(stderr, "wordcount: %.*s\n", (int)size, line);
}

static void
on_shown(troupe_self *self, troupe_msg *msg)
{
    struct screen *screen = troupe_state(self);
    const shown *now = troupe_body(msg, shown);
    double seconds = (double)now->elapsed_ms / 1e3, mb = (double)now->bytes / 1e6;

    if (!screen->has_progress) {
        return;
    }
    wipe(screen);
    if (now->total > 0) {
        fprintf(stderr, "%3.0f %%  %.1f of %.1f MB", 100.0 * mb * 1e6 / (double)now->total, mb,
                (double)now->total / 1e6);
    } else {
        fprintf(stderr, "%.1f MB", mb);
    }
    fprintf(stderr, "  %" PRIu64 " files  %.0f MB/s  %" PRIu32 " counters%s", now->files,
            mb / (seconds + 1e-9), now->counters, screen->is_terminal ? "" : "\n");
    screen->is_dirty = screen->is_terminal;
    fflush(stderr);
}

static void
on_clear(troupe_self *self, troupe_msg *msg)
{
    wipe(troupe_state(self));
    troupe_reply(self, msg, clear);
}

const troupe_behavior screen_behavior = {
    .name = "screen",
    .state_size = sizeof(struct screen),
    .init = screen_init,
    .mailbox_messages = 1000,
    .when_full = TROUPE_DROP_NEWEST,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(say, on_say), TROUPE_ON(shown, on_shown),
                                TROUPE_ON(clear, on_clear)),
};
