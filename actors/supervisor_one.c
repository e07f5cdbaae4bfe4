/*
 * supervisor_one.c - one child of a supervisor: started, stopped, killed
 */
#include "actors/supervisor_parts.h"

#include <stdio.h>

#include <troupe/life.h>
#include <troupe/process.h>
#include <troupe/send.h>
#include <troupe/supervise.h>

#include "actors/node.h"
#include "actors/report.h"
#include "mailbox/error.h"

/* ---- timers ---- */

void
trp_supervisor_clear_timer(troupe_self *self, uint64_t *timer)
{
    if (*timer) {
        troupe_cancel(self, *timer);
        *timer = 0;
    }
}

uint64_t
trp_supervisor_set_timer(troupe_self *self, uint32_t number, uint64_t serial, int64_t delay_ms)
{
    return troupe_send_after(self, troupe_self_ref(self), delay_ms, troupe_own_supervisor_tick,
                             .number = number, .serial = serial);
}

/* ---- starting and stopping one ---- */

bool
trp_child_start(troupe_self *self, struct trp_child *child)
{
    const struct trp_spec *spec = child->spec;
    troupe_spawn_options options = { .args = trp_spec_args(spec),
                                     .args_size = spec->args_size,
                                     .worker = spec->worker,
                                     .name = trp_spec_name(spec),
                                     .own_thread = spec->own_thread };
    struct trp_adoption adoption = { .tag = child->number };
    struct trp_inner *inner = NULL;
    bool is_later = false;
    int code = 0;

    if (spec->has_inner) {
        inner = (struct trp_inner *)(void *)(child->spec + 1);
        inner->ret_code = &code;
        inner->ret_later = &is_later;
        inner->parent = troupe_self_ref(self);
        inner->number = child->number;
        inner->within_ms = ((const struct supervisor *)troupe_state(self))->plan.within_ms;
    }
    child->ref = trp_spawn(self, self->ctx, spec->behavior, &options, &adoption);
    if (inner) {
        inner->ret_code = NULL;
        inner->ret_later = NULL;
        trp_say_code(code);
    }
    child->monitor = adoption.monitor;
    child->started_ns = trp_supervisor_now(self);
    child->state = troupe_is_nobody(child->ref) ? TRP_CHILD_DOWN
                   : is_later                   ? TRP_CHILD_STARTING
                                                : TRP_CHILD_UP;
    child->is_new &= child->state != TRP_CHILD_UP;
    return child->state != TRP_CHILD_DOWN;
}

/* Look at the children that are stopping at this time, or earlier. Most of them stop long before, one after the
 * other: so one timer serves them all, and is not set anew for each. False: no memory. */
static bool
look_at(troupe_self *self, struct supervisor *s, int64_t when_ns)
{
    int64_t delay_ms = (when_ns - trp_supervisor_now(self) + 999999) / 1000000;

    if (s->stop_timer && s->stop_due_ns <= when_ns) {
        return true;
    }
    trp_supervisor_clear_timer(self, &s->stop_timer);
    s->stop_due_ns = when_ns;
    s->stop_timer = trp_supervisor_set_timer(self, STOP_TICK, 0, delay_ms > 0 ? delay_ms : 0);
    return s->stop_timer;
}

void
trp_child_stop(troupe_self *self, struct supervisor *s, struct trp_child *child)
{
    const struct trp_spec *spec = child->spec;
    bool gently = spec->stop == TROUPE_STOP_RETIRE;

    child->state = TRP_CHILD_STOPPING;
    child->stop_ns = trp_supervisor_now(self);
    child->kill_ns = TRP_NEVER;
    if (gently && spec->stop_timeout_ms) {
        child->kill_ns = child->stop_ns + (int64_t)spec->stop_timeout_ms * 1000000;
        gently = look_at(self, s, child->kill_ns);
    }
    if (!gently || troupe_retire(self, child->ref) < 0) { /* no memory to be gentle */
        trp_monitor_kill(self->ctx, child->monitor);
    }
}

void
trp_child_wait_no_more(troupe_self *self, struct trp_child *child)
{
    if (child->state == TRP_CHILD_WAITING) {
        trp_supervisor_clear_timer(self, &child->timer);
        child->state = TRP_CHILD_DOWN;
    }
}

void
trp_supervisor_tell_begun(troupe_self *self, struct supervisor *s, int code, const char *text)
{
    troupe_spawned news = { .who = troupe_self_ref(self), .code = code };

    if (s->asker) {
        snprintf(news.text, sizeof news.text, "%.119s", text);
        troupe_reply_value(self, s->asker, troupe_spawned, &news);
        troupe_release(s->asker);
        s->asker = NULL;
    }
}

void
trp_child_answer_starter(troupe_self *self, struct trp_child *child, int code, const char *text)
{
    if (child->starter) {
        trp_answer_start(self, child->starter, code < 0 ? TROUPE_NOBODY : child->ref, code, text);
        troupe_release(child->starter);
        child->starter = NULL;
    }
}

void
trp_supervisor_hurry(troupe_self *self, struct supervisor *s)
{
    int64_t now = trp_supervisor_now(self), next = TRP_NEVER;

    s->stop_timer = 0;
    for (struct trp_child *child = s->children.first; child; child = child->next) {
        if (child->state == TRP_CHILD_STOPPING && child->kill_ns <= now) {
            child->kill_ns = TRP_NEVER;
            trp_report_late_child(self, child->ref, trp_child_name(child),
                                  child->spec->stop_timeout_ms);
            trp_monitor_kill(self->ctx, child->monitor);
        } else if (child->state == TRP_CHILD_STOPPING && child->kill_ns < next) {
            next = child->kill_ns;
        }
    }
    if (next != TRP_NEVER && !look_at(self, s, next)) { /* no memory for the timer */
        for (struct trp_child *child = s->children.first; child; child = child->next) {
            if (child->state == TRP_CHILD_STOPPING && child->kill_ns != TRP_NEVER) {
                child->kill_ns = TRP_NEVER;
                trp_monitor_kill(self->ctx, child->monitor);
            }
        }
    }
}
