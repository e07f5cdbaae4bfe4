/*
 * testing.c - what is expected of the messages that come to a thread
 *
 * A probe is an attached identity more of the thread: so what holds for threads holds for probes. One that answers by
 * itself has an actor in front, for somebody must run the answer while the thread waits for something else; the actor
 * passes on what it was sent, without copying, so that sender, question and deadline stay.
 */
#include "actors/testing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "actors/post.h"
#include "actors/testing_world.h"
#include "actors/thread.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

enum { TEXT_SIZE = 600, FRONT_MESSAGES = 1 << 26 };

/* ---- telling ---- */

static struct {
    troupe_unexpected_fn report;
    void *context;
} listener; /* set before the tests */

void
troupe_on_unexpected(troupe_unexpected_fn report, void *context)
{
    listener.report = report;
    listener.context = context;
}

int
trp_unexpected(const char *file, int line, int code, const char *format, ...)
{
    char text[2 * TEXT_SIZE];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    trp_fail(code, "%s", text);
    if (listener.report) {
        listener.report(listener.context, file, line, troupe_last_error().text);
    }
    return code;
}

/* Something else than an unmet expectation: the error is set already. */
static int
pass_on_error(const char *file, int line)
{
    char text[TEXT_SIZE];

    snprintf(text, sizeof text, "%s", troupe_last_error().text);
    return trp_unexpected(file, line, troupe_last_error().code, "%s", text);
}

/* ---- what an identity has expected ---- */

static trp_probe *
probe_of(troupe_self *self)
{
    if (!self->thread->probe) {
        self->thread->probe = trp_alloc(sizeof *self->thread->probe);
        if (!self->thread->probe) {
            trp_fail(-ENOMEM, "no memory to expect messages");
        }
    }
    return self->thread->probe;
}

void
trp_probe_leave(troupe_self *self, trp_context *ctx)
{
    trp_probe *probe = self->thread->probe;

    if (!probe) {
        return;
    }
    self->thread->probe = NULL;
    if (probe->expected) {
        troupe_release(probe->expected);
    }
    if (!troupe_is_nobody(probe->front) && !trp_load_acquire(&ctx->rt->stopping)) {
        troupe_kill(self, probe->front);
    }
    trp_free(probe);
}

static void
set_expected(trp_probe *probe, troupe_msg *msg)
{
    troupe_msg *before = probe->expected;

    probe->expected = msg;
    troupe_release(before);
}

troupe_msg *
troupe_expected(troupe_self *self)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_expected", "the message being handled");

    return ctx && self->thread->probe ? self->thread->probe->expected : NULL;
}

int
troupe_ignore_of(troupe_self *self, const troupe_type *type)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_ignore", "no handler");
    const trp_type *known = ctx ? trp_type_of(type) : NULL;
    trp_probe *probe = known ? probe_of(self) : NULL;

    if (!probe) {
        return troupe_last_error().code;
    }
    for (unsigned i = 0; i < probe->n_ignored; i++) {
        if (probe->ignored[i] == known) {
            return 0;
        }
    }
    if (probe->n_ignored == TRP_COUNT(probe->ignored)) {
        return trp_fail(-ENOSPC, "troupe_ignore of %s: %zu types are ignored already", known->name,
                        TRP_COUNT(probe->ignored));
    }
    probe->ignored[probe->n_ignored++] = known;
    return 0;
}

static bool
is_ignored(const trp_probe *probe, const troupe_msg *msg)
{
    for (unsigned i = 0; i < probe->n_ignored; i++) {
        if (probe->ignored[i] == msg->type) {
            return true;
        }
    }
    return false;
}

/* ---- expecting ---- */

/* One expectation: until when it waits, and what it has met. */
struct wait {
    troupe_self *self;
    trp_context *ctx;
    trp_probe *probe;
    int64_t timeout_ms, until_ns; /* TRP_NEVER; 0: only looks */
};

/* False: the error was told. */
static bool
begin_wait(struct wait *wait, troupe_self *self, const char *what, int64_t timeout_ms,
           const char *file, int line)
{
    wait->self = self;
    wait->ctx = trp_enter_waiting(self, what, "a test's own thread");
    wait->probe = wait->ctx ? probe_of(self) : NULL;
    wait->timeout_ms = timeout_ms;
    if (!wait->probe) {
        pass_on_error(file, line);
        return false;
    }
    wait->until_ns =
        timeout_ms < 0 || timeout_ms > TRP_NEVER / 1000000 / 2 ? TRP_NEVER : timeout_ms * 1000000;
    if (wait->until_ns > 0 && wait->until_ns != TRP_NEVER) {
        wait->until_ns += trp_now(wait->ctx->rt);
    }
    set_expected(wait->probe, NULL);
    return true;
}

/* The next message that counts; NULL and the error. */
static troupe_msg *
next(const struct wait *wait)
{
    for (;;) {
        int64_t left_ns = wait->until_ns;
        troupe_msg *msg;

        if (left_ns > 0 && left_ns != TRP_NEVER) {
            left_ns -= trp_now(wait->ctx->rt);
        }
        msg = troupe_receive(wait->self, left_ns == TRP_NEVER ? TROUPE_FOREVER
                                         : left_ns > 0        ? (left_ns + 999999) / 1000000
                                                              : 0);
        if (!msg || !is_ignored(wait->probe, msg)) {
            return msg;
        }
        troupe_release(msg);
    }
}

/* " within 100 ms" */
static const char *
within(const struct wait *wait, char out[48])
{
    out[0] = '\0';
    if (wait->timeout_ms >= 0) {
        snprintf(out, 48, " within %lld ms", (long long)wait->timeout_ms);
    }
    return out;
}

/* "order{cups:2} from 1f00..:12.3" */
static void
describe(const troupe_msg *msg, char out[TEXT_SIZE])
{
    int size = troupe_format(msg, out, TEXT_SIZE - 80);
    size_t n = strlen(out);

    if (size >= TEXT_SIZE - 80) {
        n += (size_t)snprintf(out + n, TEXT_SIZE - n, "...");
    }
    if (troupe_is_nobody(msg->source)) {
        snprintf(out + n, TEXT_SIZE - n, " from nobody");
    } else {
        snprintf(out + n, TEXT_SIZE - n, " from %04x..:%u.%u", (unsigned)(msg->source.node >> 48),
                 msg->source.slot, msg->source.generation);
    }
}

/* Nothing came: a time-out that counts, or another error. */
static void
miss(const struct wait *wait, const char *what, const char *met, const char *file, int line)
{
    char time[48];

    if (troupe_last_error().code == -ETIMEDOUT) {
        trp_unexpected(file, line, -ETIMEDOUT, "expected %s%s, but %s", what, within(wait, time),
                       met);
    } else {
        pass_on_error(file, line);
    }
}

static void
refuse(troupe_msg *msg, const char *what, const char *file, int line)
{
    char came[TEXT_SIZE];

    describe(msg, came);
    troupe_release(msg);
    trp_unexpected(file, line, -EPROTOTYPE, "expected %s, but %s came", what, came);
}

const void *
troupe_expect_of(troupe_self *self, int64_t timeout_ms, const troupe_type *type, bool skips,
                 const char *file, int line)
{
    const trp_type *known = trp_type_of(type);
    char met[TEXT_SIZE + 100], last[TEXT_SIZE];
    unsigned n_skipped = 0;
    struct wait wait;
    troupe_msg *msg;

    if (!known) {
        pass_on_error(file, line);
        return NULL;
    }
    if (!begin_wait(&wait, self, "troupe_expect", timeout_ms, file, line)) {
        return NULL;
    }
    while ((msg = next(&wait)) != NULL && msg->type != known && skips) {
        n_skipped++;
        describe(msg, last);
        troupe_release(msg);
    }
    if (msg && msg->type == known) {
        set_expected(wait.probe, msg);
        return msg->body;
    }
    if (msg) {
        refuse(msg, known->name, file, line);
        return NULL;
    }
    snprintf(met, sizeof met, "nothing came");
    if (n_skipped > 0) {
        snprintf(met, sizeof met, "only %u of other types came, the last of them %s", n_skipped,
                 last);
    }
    miss(&wait, known->name, met, file, line);
    return NULL;
}

int
troupe_expect_count_of(troupe_self *self, int64_t timeout_ms, unsigned n, const troupe_type *type,
                       const char *file, int line)
{
    const trp_type *known = trp_type_of(type);
    char what[TROUPE_NAME_MAX + 40], met[60];
    struct wait wait;

    if (!known) {
        return pass_on_error(file, line);
    }
    if (!begin_wait(&wait, self, "troupe_expect_count", timeout_ms, file, line)) {
        return troupe_last_error().code;
    }
    for (unsigned i = 0; i < n; i++) {
        troupe_msg *msg = next(&wait);

        if (!msg) {
            snprintf(what, sizeof what, "%u of %s", n, known->name);
            snprintf(met, sizeof met, "only %u came", i);
            miss(&wait, what, met, file, line);
            return troupe_last_error().code;
        }
        if (msg->type != known) {
            snprintf(what, sizeof what, "%u of %s", n, known->name);
            snprintf(what + strlen(what), sizeof what - strlen(what), ", had %u", i);
            refuse(msg, what, file, line);
            return troupe_last_error().code;
        }
        troupe_release(msg);
    }
    return 0;
}

int
troupe_expect_nothing_in(troupe_self *self, int64_t timeout_ms, const char *file, int line)
{
    char what[80] = "nothing", time[48];
    struct wait wait;
    troupe_msg *msg;

    if (!begin_wait(&wait, self, "troupe_expect_nothing", timeout_ms, file, line)) {
        return troupe_last_error().code;
    }
    msg = next(&wait);
    if (msg) {
        snprintf(what, sizeof what, "nothing%s", within(&wait, time));
        refuse(msg, what, file, line);
        return troupe_last_error().code;
    }
    return troupe_last_error().code == -ETIMEDOUT ? 0 : pass_on_error(file, line);
}

/* ---- the end of somebody ---- */

static bool
is_down_of(const troupe_msg *msg, troupe_ref who)
{
    return msg->type == trp_type_of(TROUPE_TYPE_OF(troupe_down)) &&
           troupe_ref_equal(((const troupe_down *)(const void *)msg->body)->who, who);
}

/* Among what was put aside before. */
static troupe_msg *
take_saved(troupe_self *self, troupe_ref who)
{
    trp_thread_self *thread = self->thread;
    trp_node *before = NULL, *found;

    pthread_mutex_lock(&thread->own_lock);
    for (found = thread->saved_first; found && !is_down_of(trp_msg_of(found), who);
         found = trp_load_relaxed(&found->next)) { /* under the lock, as below */
        before = found;
    }
    if (found) {
        trp_node *behind = trp_load_relaxed(&found->next);

        if (before) {
            trp_store_relaxed(&before->next, behind);
        } else {
            thread->saved_first = behind;
        }
        if (!behind) {
            thread->saved_last = before;
        }
    }
    pthread_mutex_unlock(&thread->own_lock);
    return found ? trp_msg_of(found) : NULL;
}

static bool
lives(const trp_context *ctx, troupe_ref who)
{
    const trp_cell *cell = who.node == ctx->node_id ? trp_cell_at(&ctx->rt->cells, who.slot) : NULL;

    return cell && trp_load_acquire(&cell->generation) == who.generation; /* a moment's truth */
}

const troupe_down *
troupe_expect_down_of(troupe_self *self, int64_t timeout_ms, troupe_ref who, const char *file,
                      int line)
{
    struct wait wait;
    troupe_msg *msg;
    char what[80];

    if (!begin_wait(&wait, self, "troupe_expect_down", timeout_ms, file, line)) {
        return NULL;
    }
    msg = take_saved(self, who);
    while (!msg && (msg = trp_thread_next(self, wait.ctx, wait.until_ns)) != NULL &&
           !is_down_of(msg, who)) {
        trp_thread_save(self, wait.ctx, msg);
        msg = NULL;
    }
    if (msg) {
        trp_thread_deliver(self, wait.ctx, msg);
        set_expected(wait.probe, msg);
        return (const troupe_down *)(const void *)msg->body;
    }
    snprintf(what, sizeof what, "the end of %04x..:%u.%u", (unsigned)(who.node >> 48), who.slot,
             who.generation);
    miss(&wait, what,
         lives(wait.ctx, who) ? "it lives"
                              : "was not told: troupe_monitor() has not been called for it",
         file, line);
    return NULL;
}

/* ---- probes ---- */

/* What stands in front of a probe that answers. */
struct front {
    troupe_answer_fn answer;
    void *context;
    troupe_ref inbox;
};

static int
front_init(troupe_self *self, const void *args)
{
    *(struct front *)troupe_state(self) = *(const struct front *)args;
    return 0;
}

static void
on_any(troupe_self *self, troupe_msg *msg)
{
    struct front *front = troupe_state(self);

    front->answer(self, msg, front->context);
    if (!(self->after & TRP_AFTER_MOVED)) { /* else it has passed it on itself */
        troupe_forward(self, front->inbox, msg);
    }
}

static const troupe_behavior front_behavior = {
    .name = "probe",
    .state_size = sizeof(struct front),
    .init = front_init,
    .otherwise = on_any,
    .mailbox_messages = FRONT_MESSAGES,
};

/* 0 or the error. */
static int
put_in_front(troupe_self *self, trp_probe *probe, const troupe_probe_options *options)
{
    struct front front = { options->answer, options->context, troupe_self_ref(self) };

    if (options->answer) {
        probe->front = troupe_spawn_with(self, &front_behavior, .args = &front,
                                         .args_size = sizeof front, .name = options->name);
        return troupe_is_nobody(probe->front) ? troupe_last_error().code : 0;
    }
    return options->name ? troupe_register(self, options->name) : 0;
}

troupe_self *
troupe_probe_sized(troupe_self *self, const troupe_probe_options *options, size_t size)
{
    trp_context *ctx = trp_enter_waiting(self, "troupe_probe", "an actor");
    troupe_probe_options filled = { 0 };
    troupe_self *made;
    trp_probe *probe;

    trp_stage_left();
    made = ctx ? troupe_attach(self) : NULL;
    probe = made ? probe_of(made) : NULL;
    if (options) {
        memcpy(&filled, options, size < sizeof filled ? size : sizeof filled);
    }
    if (!probe || put_in_front(made, probe, &filled) < 0) {
        if (made) {
            trp_thread_detach(made);
        }
        return NULL;
    }
    probe->is_probe = true;
    return made;
}

troupe_ref
troupe_probe_ref(troupe_self *probe)
{
    trp_context *ctx = trp_enter_waiting(probe, "troupe_probe_ref", "troupe_self_ref");

    if (!ctx) {
        return TROUPE_NOBODY;
    }
    return probe->thread->probe && !troupe_is_nobody(probe->thread->probe->front)
               ? probe->thread->probe->front
               : trp_ref_of(probe, ctx->node_id);
}

/* A probe of the calling thread; NULL. Its identity stays until this thread gives it up. */
static troupe_self *
find_probe(trp_actors *actors, const troupe_self *self)
{
    troupe_self *found = NULL;

    pthread_mutex_lock(&actors->threads_lock);
    for (trp_thread_self *thread = actors->threads; thread && !found; thread = thread->next) {
        /* Whose it is decides whether we may look at the rest. */
        if (thread->owner == self->thread->owner && thread != self->thread && thread->probe &&
            thread->probe->is_probe) {
            found = thread->self;
        }
    }
    pthread_mutex_unlock(&actors->threads_lock);
    return found;
}

void
trp_probes_end(troupe_self *self, trp_context *ctx)
{
    troupe_self *probe;

    while ((probe = find_probe(trp_actors_of(ctx->rt), self)) != NULL) {
        trp_thread_detach(probe);
    }
}
