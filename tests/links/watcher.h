/*
 * watcher.h - one on another node who watches somebody here, and tells what it was told
 */
#ifndef TEST_WATCHER_H
#define TEST_WATCHER_H

#include "links/peer.h"

#include <errno.h>
#include <unistd.h>

#define SEEN_FIELDS(field, T) field(T, u32, downs) field(T, text, text, 120)
TROUPE_MESSAGE(seen, SEEN_FIELDS);
TROUPE_SIGNAL(tell_seen);

static int
watcher_init(troupe_self *self, const void *args)
{
    return troupe_monitor(self, *(const troupe_ref *)args) ? 0 : -ENOMEM;
}

static void
on_down(troupe_self *self, troupe_msg *msg)
{
    seen *state = troupe_state(self);

    state->downs++;
    snprintf(state->text, sizeof state->text, "%s", troupe_body(msg, troupe_down)->text);
}

static void
on_tell(troupe_self *self, troupe_msg *msg)
{
    const seen *state = troupe_state(self);

    troupe_reply_value(self, msg, seen, state);
}

static const troupe_behavior watcher = {
    .name = "watcher",
    .state_size = sizeof(seen),
    .init = watcher_init,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(troupe_down, on_down), TROUPE_ON(tell_seen, on_tell)),
};
TROUPE_EXPORT(watcher);

/* Have one made on that node, which watches `whom`. */
static troupe_ref
watch_from(troupe_self *me, const char *node, troupe_ref whom)
{
    troupe_ref who =
        troupe_spawn_on_with(me, node, &watcher, .args = &whom, .args_size = sizeof whom);

    if (troupe_is_nobody(who)) {
        fail_msg("%s", troupe_last_error().text);
    }
    return who;
}

/* What it has been told so far. */
static seen
ask_seen(troupe_self *me, troupe_ref who)
{
    troupe_msg *answer = NULL;
    seen copy;

    for (int i = 0; !answer && i < TEST_PATIENCE_MS / 10; i++) { /* until a link begins anew */
        answer = troupe_call(me, who, TEST_PATIENCE_MS, tell_seen);
        usleep(answer ? 0 : 10000);
    }
    if (!answer) {
        fail_msg("%s", troupe_last_error().text);
    }
    copy = *troupe_body(answer, seen);
    troupe_release(answer);
    return copy;
}

#endif
