/*
 * testing_drive.c - one actor, given messages one by one, and what it does
 */
#include <troupe/testing.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/behavior.h"
#include "actors/post.h"
#include "actors/testing.h"
#include "actors/testing_world.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { MAILBOX_MESSAGES = 1 << 26, WHO_SIZE = 120, TEXT_SIZE = 500 };

struct other {
    troupe_ref ref;
    char name[TROUPE_NAME_SIZE]; /* "": none */
    struct other *next;
};

struct troupe_drive {
    trp_stage stage;
    uint64_t owner;           /* the token of the thread */
    troupe_ref stranger;      /* from whom sends and asks are */
    struct other *others;     /* without the stranger */
    struct trp_sent expected; /* last; msg NULL: nothing */
};

/* Nobody runs it: its mailbox is what the test looks at. */
static void
be_nobody(troupe_self *self, troupe_msg *msg)
{
}

static const troupe_behavior other_behavior = {
    .name = "other",
    .otherwise = be_nobody,
    .mailbox_messages = MAILBOX_MESSAGES,
};

/* Is it the calling thread's? */
static int
check(const troupe_drive *drive)
{
    if (!drive) {
        return trp_fail(-EINVAL, "no drive: it is NULL");
    }
    if (drive->owner != trp_thread_now.token) {
        return trp_fail(-EPERM, "this drive belongs to the thread that has made it");
    }
    if (drive->stage.is_busy) {
        return trp_fail(-EDEADLK,
                        "drive: inside a handler of %s, or it was left by longjmp(): then "
                        "troupe_drive_free() is all that is possible",
                        drive->stage.driven ? drive->stage.driven->behavior->user.name
                                            : "its actor");
    }
    return 0;
}

/* ---- begin and end ---- */

troupe_drive *
troupe_drive_new(void)
{
    troupe_drive *drive = trp_alloc(sizeof *drive);

    trp_stage_left();
    if (!drive) {
        trp_fail(-ENOMEM, "no memory for a drive");
        return NULL;
    }
    if (trp_stage_start(&drive->stage) < 0) {
        trp_free(drive);
        return NULL;
    }
    drive->owner = trp_thread_token();
    drive->stranger = troupe_spawn(drive->stage.me, &other_behavior);
    if (troupe_is_nobody(drive->stranger)) {
        trp_stage_stop(&drive->stage);
        trp_free(drive);
        return NULL;
    }
    return drive;
}

static void
drop_expected(troupe_drive *drive)
{
    if (drive->expected.msg) {
        trp_drop(drive->stage.ctx, drive->expected.msg);
    }
    drive->expected = (struct trp_sent){ .msg = NULL };
}

void
troupe_drive_free(troupe_drive *drive)
{
    if (drive) {
        trp_stage_left();
        drive->stage.is_busy = false;
    }
    if (!drive || check(drive) < 0) {
        return;
    }
    drop_expected(drive);
    trp_stage_stop(&drive->stage);
    while (drive->others) {
        struct other *other = drive->others;

        drive->others = other->next;
        trp_free(other);
    }
    trp_free(drive);
}

troupe_self *
trp_drive_self(troupe_drive *drive)
{
    return drive->stage.me;
}

troupe_ref
troupe_drive_other(troupe_drive *drive, const char *name)
{
    struct other *other = check(drive) == 0 ? trp_alloc(sizeof *other) : NULL;
    bool was_recording;

    if (!other) {
        return check(drive) < 0 ? TROUPE_NOBODY
                                : (trp_fail(-ENOMEM, "no memory for an address"), TROUPE_NOBODY);
    }
    was_recording = drive->stage.is_recording;
    drive->stage.is_recording = false;
    other->ref = troupe_spawn_with(drive->stage.me, &other_behavior, .name = name);
    drive->stage.is_recording = was_recording;
    if (troupe_is_nobody(other->ref)) {
        trp_free(other);
        return TROUPE_NOBODY;
    }
    snprintf(other->name, sizeof other->name, "%s", name ? name : "");
    other->next = drive->others;
    drive->others = other;
    return other->ref;
}

/* ---- doing something in the name of somebody ---- */

static bool
lives(const troupe_drive *drive)
{
    return drive->stage.driven != NULL;
}

/* The identity with a ref; the stranger's when there is nobody (any more). */
static troupe_self *
self_of(troupe_drive *drive, troupe_ref ref)
{
    troupe_ref who = trp_stage_lives(&drive->stage, ref) ? ref : drive->stranger;

    return trp_self_of_cell(trp_cell_at(&drive->stage.rt->cells, who.slot));
}

/* Until leave(), `ref` is who acts, and what is sent is not the actor's. */
static troupe_self *
enter(troupe_drive *drive, troupe_ref ref)
{
    troupe_self *self = self_of(drive, ref);

    drive->stage.is_recording = false;
    drive->stage.is_lost = false;
    self->ctx = drive->stage.ctx;
    return self;
}

/* Let the actor act on it. `rc`: what came of it so far. */
static int
leave(troupe_drive *drive, troupe_self *self, int rc)
{
    self->ctx = NULL;
    self->after = 0; /* it is not held, whatever it has filled */
    drive->stage.is_recording = true;
    if (rc < 0) {
        return rc;
    }
    rc = trp_stage_settle(&drive->stage);
    if (rc == 0 && drive->stage.is_lost) {
        rc = trp_fail(-EOPNOTSUPP, "it was not handled: %s", drive->stage.lost);
    }
    return rc;
}

static int
refuse_absent(const troupe_drive *drive, const char *what)
{
    return trp_fail(-ENOENT, "%s: %s%s", what,
                    drive->stage.has_ended ? "the actor has ended: "
                                           : "there is no actor: troupe_drive_spawn() makes one",
                    drive->stage.has_ended ? troupe_reason_name(drive->stage.why.reason) : "");
}

troupe_ref
troupe_drive_spawn_sized(troupe_drive *drive, const troupe_behavior *behavior,
                         const troupe_spawn_options *options, size_t size)
{
    trp_stage *stage = &drive->stage;
    troupe_self *stranger;
    troupe_ref ref;

    if (check(drive) < 0) {
        return TROUPE_NOBODY;
    }
    if (lives(drive)) {
        trp_fail(-EBUSY, "drive: a %s lives: troupe_drive_stop() ends it",
                 stage->driven->behavior->user.name);
        return TROUPE_NOBODY;
    }
    drop_expected(drive);
    trp_stage_forget(stage);
    stage->n_children = 0;
    stage->has_ended = false;
    stage->ref = TROUPE_NOBODY;
    stage->is_recording = true;
    stage->is_busy = true;
    ref = troupe_spawn_sized(stage->me, behavior, options, size);
    stage->is_busy = false;
    if (troupe_is_nobody(ref)) {
        trp_stage_settle(stage); /* what its init has sent */
        trp_stage_forget(stage);
        stage->n_children = 0;
        return TROUPE_NOBODY;
    }
    stage->ref = ref;
    stage->driven = self_of(drive, ref);
    stranger = enter(drive, drive->stranger);
    stage->monitor = troupe_monitor(stranger, ref);
    if (leave(drive, stranger, stage->monitor ? 0 : -ENOMEM) < 0) {
        return TROUPE_NOBODY;
    }
    return ref;
}

int
troupe_drive_send_of(troupe_drive *drive, troupe_ref from, const troupe_type *type,
                     const void *value)
{
    troupe_self *self;

    if (check(drive) < 0) {
        return troupe_last_error().code;
    }
    if (!lives(drive)) {
        return refuse_absent(drive, "drive, send");
    }
    self = enter(drive, from);
    return leave(drive, self, troupe_send_of(self, drive->stage.ref, type, value));
}

uint64_t
troupe_drive_ask_of(troupe_drive *drive, const troupe_type *type, const void *value)
{
    troupe_self *self;
    uint64_t request;

    if (check(drive) < 0) {
        return 0;
    }
    if (!lives(drive)) {
        refuse_absent(drive, "drive, ask");
        return 0;
    }
    self = enter(drive, drive->stranger);
    request = troupe_ask_of(self, drive->stage.ref, TROUPE_FOREVER, type, value);
    return leave(drive, self, request ? 0 : troupe_last_error().code) < 0 ? 0 : request;
}

int
troupe_drive_reply_of(troupe_drive *drive, const troupe_type *type, const void *value)
{
    troupe_self *self;

    if (check(drive) < 0) {
        return troupe_last_error().code;
    }
    if (!drive->expected.msg) {
        return trp_fail(-EINVAL, "drive, reply: nothing was expected that could be answered");
    }
    if (!lives(drive)) {
        return refuse_absent(drive, "drive, reply");
    }
    self = enter(drive, drive->expected.to);
    return leave(drive, self, troupe_reply_of(self, drive->expected.msg, type, value));
}

int
troupe_drive_pass(troupe_drive *drive, int64_t ms)
{
    if (check(drive) < 0) {
        return troupe_last_error().code;
    }
    if (ms < 0 || ms > TRP_NEVER / 1000000 / 4) {
        return trp_fail(-EINVAL, "drive, pass %lld ms: not a time", (long long)ms);
    }
    return trp_stage_pass(&drive->stage, ms * 1000000);
}

int
troupe_drive_stop(troupe_drive *drive)
{
    troupe_self *self;

    if (check(drive) < 0) {
        return troupe_last_error().code;
    }
    if (!lives(drive)) {
        return refuse_absent(drive, "drive, stop");
    }
    self = enter(drive, drive->stranger);
    return leave(drive, self, troupe_retire(self, drive->stage.ref));
}

/* ---- what it did ---- */

/* `"kitchen"`, `a stranger`, `cook 1f00..:12.3` */
static void
name_of(const troupe_drive *drive, troupe_ref ref, char out[WHO_SIZE])
{
    const trp_stage *stage = &drive->stage;
    const char *what = "";

    if (troupe_is_nobody(ref)) {
        snprintf(out, WHO_SIZE, "nobody");
        return;
    }
    if (troupe_ref_equal(ref, drive->stranger)) {
        snprintf(out, WHO_SIZE, "a stranger");
        return;
    }
    for (const struct other *other = drive->others; other; other = other->next) {
        if (troupe_ref_equal(ref, other->ref) && other->name[0]) {
            snprintf(out, WHO_SIZE, "\"%s\"", other->name);
            return;
        }
    }
    for (size_t i = 0; i < stage->n_children; i++) {
        if (troupe_ref_equal(ref, stage->children[i].ref)) {
            what = stage->children[i].behavior->name;
        }
    }
    snprintf(out, WHO_SIZE, "%.60s%s%04x..:%u.%u", what, *what ? " " : "",
             (unsigned)(ref.node >> 48), ref.slot, ref.generation);
}

static void
describe(const troupe_drive *drive, const struct trp_sent *sent, char out[TEXT_SIZE])
{
    char who[WHO_SIZE];
    int size = troupe_format(sent->msg, out, TEXT_SIZE - WHO_SIZE - 20);
    size_t n = strlen(out);

    name_of(drive, sent->to, who);
    snprintf(out + n, TEXT_SIZE - n, "%s to %s", (size_t)size > n ? "..." : "", who);
}

/* Takes what was sent next to be looked at; NULL: the error was told. */
static const struct trp_sent *
next_sent(troupe_drive *drive, const char *what, const char *file, int line)
{
    char why[TEXT_SIZE];
    int rc = check(drive);

    if (rc < 0) {
        snprintf(why, sizeof why, "%s", troupe_last_error().text);
        trp_unexpected(file, line, rc, "expected %s, but %s", what, why);
        return NULL;
    }
    drop_expected(drive);
    if (troupe_drive_sent(drive) == 0) {
        trp_unexpected(file, line, -ENOENT, "expected %s, but nothing more was sent%s%.120s", what,
                       drive->stage.has_ended ? "; the actor has ended: " : "",
                       !drive->stage.has_ended    ? ""
                       : drive->stage.why.text[0] ? drive->stage.why.text
                                                  : troupe_reason_name(drive->stage.why.reason));
        return NULL;
    }
    drive->expected = trp_stage_take(&drive->stage);
    return &drive->expected;
}

/* `to`: to whom it must have been sent; NULL: to anybody. */
static const void *
expect(troupe_drive *drive, const troupe_ref *to, const troupe_type *type, const char *file,
       int line)
{
    const trp_type *known = trp_type_of(type);
    char what[TROUPE_NAME_MAX + WHO_SIZE + 8], came[TEXT_SIZE], who[WHO_SIZE];
    const struct trp_sent *sent;

    snprintf(what, sizeof what, "%s", type->name);
    if (!known) {
        trp_unexpected(file, line, troupe_last_error().code, "expected %s, which is no type", what);
        return NULL;
    }
    if (to) {
        name_of(drive, *to, who);
        snprintf(what, sizeof what, "%s to %s", known->name, who);
    }
    sent = next_sent(drive, what, file, line);
    if (!sent) {
        return NULL;
    }
    if (sent->msg->type == known && (!to || troupe_ref_equal(sent->to, *to))) {
        return sent->msg->body;
    }
    describe(drive, sent, came);
    drop_expected(drive);
    trp_unexpected(file, line, -EPROTOTYPE, "expected %s, but it sent %s", what, came);
    return NULL;
}

const void *
troupe_drive_expect_of(troupe_drive *drive, const troupe_type *type, const char *file, int line)
{
    return expect(drive, NULL, type, file, line);
}

const void *
troupe_drive_expect_to_of(troupe_drive *drive, troupe_ref to, const troupe_type *type,
                          const char *file, int line)
{
    if (drive && troupe_is_nobody(to)) {
        to = drive->stranger;
    }
    return expect(drive, drive ? &to : NULL, type, file, line);
}

int
troupe_drive_expect_nothing_in(troupe_drive *drive, const char *file, int line)
{
    const struct trp_sent *sent;
    char came[TEXT_SIZE];

    if (check(drive) == 0 && troupe_drive_sent(drive) == 0) {
        drop_expected(drive);
        return 0;
    }
    sent = next_sent(drive, "nothing", file, line);
    if (!sent) {
        return troupe_last_error().code;
    }
    describe(drive, sent, came);
    drop_expected(drive);
    return trp_unexpected(file, line, -EPROTOTYPE, "expected nothing, but it sent %s", came);
}

troupe_msg *
troupe_drive_expected(troupe_drive *drive, troupe_ref *ret_to)
{
    if (ret_to && drive->expected.msg) {
        *ret_to = drive->expected.to;
    }
    return drive->expected.msg;
}

size_t
troupe_drive_sent(const troupe_drive *drive)
{
    return drive->stage.n_sent - drive->stage.first_sent;
}

void
troupe_drive_forget(troupe_drive *drive)
{
    if (check(drive) == 0) {
        drop_expected(drive);
        trp_stage_forget(&drive->stage);
    }
}

/* What troupe_drive_timers() fills. */
struct shown {
    const troupe_drive *drive;
    troupe_drive_timer *timers;
    size_t n, max;
};

static void
show_timer(void *argument, const troupe_msg *msg, troupe_ref to, int64_t due_ns, int64_t period_ns)
{
    struct shown *shown = argument;
    int64_t left_ns = due_ns - shown->drive->stage.now_ns;
    troupe_drive_timer timer = { .msg = msg, .to = to, .period_ms = period_ns / 1000000 };
    size_t at;

    if (msg->flags & TRP_MSG_SYSTEM || msg->type->flags & TRP_TYPE_SYSTEM) {
        return;
    }
    timer.in_ms = left_ns > 0 ? (left_ns + 999999) / 1000000 : 0;
    at = shown->n < shown->max ? shown->n : shown->max;
    while (at > 0 && shown->timers[at - 1].in_ms > timer.in_ms) {
        if (at < shown->max) {
            shown->timers[at] = shown->timers[at - 1];
        }
        at--;
    }
    if (at < shown->max) {
        shown->timers[at] = timer;
    }
    shown->n++;
}

size_t
troupe_drive_timers(troupe_drive *drive, troupe_drive_timer *ret_timers, size_t max)
{
    struct shown shown = { .drive = drive, .timers = ret_timers, .max = ret_timers ? max : 0 };

    if (check(drive) == 0 && lives(drive)) {
        trp_alarms_show(drive->stage.rt, &drive->stage.driven->alarms, show_timer, &shown);
    }
    return shown.n;
}

size_t
troupe_drive_children(troupe_drive *drive, troupe_drive_child *ret_children, size_t max)
{
    const trp_stage *stage = &drive->stage;

    for (size_t i = 0; i < stage->n_children && i < max; i++) {
        ret_children[i] = (troupe_drive_child){ stage->children[i].ref, stage->children[i].behavior,
                                                trp_stage_lives(stage, stage->children[i].ref) };
    }
    return stage->n_children;
}

troupe_ref
troupe_drive_ref(const troupe_drive *drive)
{
    return lives(drive) ? drive->stage.ref : TROUPE_NOBODY;
}

void *
troupe_drive_state(const troupe_drive *drive)
{
    return lives(drive) ? drive->stage.driven->state : NULL;
}

bool
troupe_drive_has_ended(const troupe_drive *drive, troupe_down *ret_why)
{
    if (drive->stage.has_ended && ret_why) {
        *ret_why = drive->stage.why;
    }
    return drive->stage.has_ended;
}
