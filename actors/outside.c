/*
 * outside.c - ties to the outside: made at first use, undone at the end
 */
#include "actors/outside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "actors/post.h"
#include "mailbox/error.h"
#include "mailbox/memory.h"

struct trp_outside *
trp_outside_of(troupe_self *self, const char *what)
{
    if (!self->outside) {
        self->outside = trp_alloc(sizeof *self->outside);
    }
    if (!self->outside) {
        trp_fail(-ENOMEM, "%s: no memory", what);
    }
    return self->outside;
}

void
trp_outside_undo(troupe_self *self, trp_context *ctx)
{
    struct trp_outside *outside = self->outside;

    trp_watches_drop(ctx->rt, &outside->descriptors);
    trp_signals_undo(self, ctx);
    trp_children_undo(self, ctx);
    if (outside->own) {
        trp_own_end(self, outside);
    }
    trp_free(outside);
    self->outside = NULL;
}

troupe_msg *
trp_make_notice(trp_context *ctx, const trp_type *type, const void *value, size_t extra)
{
    troupe_msg *msg = trp_pool_take_beyond(ctx->pool, type->size + extra);

    if (msg) {
        msg->source = TROUPE_NOBODY;
        msg->type = type;
        msg->id = trp_message_id(ctx);
        msg->reply_id = 0;
        msg->deadline_ns = 0;
        msg->size = type->size;
        msg->flags = TRP_MSG_SYSTEM;
        memcpy(msg->body, value, type->size);
    }
    return msg;
}

const char *
trp_name_of(trp_context *ctx, troupe_ref who, char *out, size_t size)
{
    trp_cell *cell = trp_cell_at(&ctx->rt->cells, who.slot);
    struct trp_task_view view = { .behavior = "an actor" };

    if (cell) {
        ctx->rt->hooks->view(&cell->task, &view);
    }
    snprintf(out, size, "%s %u.%u", view.behavior, who.slot, who.generation);
    return out;
}
