/*
 * links_parts.h - what the five files of a node's links share
 *
 *     links.c           the table, what is due, beginning and end
 *     links_dial.c      finding a node's link, or dialing it
 *     links_visitors.c  those who dial us, until they have said who they are
 *     links_health.c    how they are; being found after the run directory was removed
 *     links_router.c    the one socket that receives data, and who may connect to it
 */
#ifndef TRP_LINKS_PARTS_H
#define TRP_LINKS_PARTS_H

#include "runtime/links.h"

/* ---- links.c ---- */

/* The link to a node, one that is over until its server has served all; or NULL. Under links_lock. */
trp_link *trp_links_by_id(const trp_links *links, uint64_t node_id);
/* A new link, in the table and with its server; NULL and the error. The reference is the table's. Under links_lock. */
trp_link *trp_links_add(trp_links *links, trp_context *ctx, uint64_t node_id, const char *name);

/* Watch the listener. Under links_lock. */
int trp_links_watch_listener(trp_links *links);

/* ---- links_visitors.c ---- */

/* Let one in; false: no more of them now. */
bool trp_visitor_accept(trp_links *links);
/* A visitor has said something: it had better be a hello. */
void trp_visitor_hear(trp_links *links, trp_context *ctx, uint64_t serial, uint32_t stamp);
/* A stranger was not let in. */
static inline void
trp_links_count_refused(trp_links *links)
{
    trp_fetch_add_relaxed(&links->n_refused, 1); /* a counter */
}
/* Send away those whose time is up; returns when that of the next is. */
int64_t trp_visitors_drop(trp_links *links, int64_t older_than_ns);

/* ---- links_health.c ---- */

/* Look, when it is time, whether we are still to be found, and register again when not; returns when to look next. */
int64_t trp_links_register(trp_links *links, int64_t now_ns);
/* We are registered: look later. */
void trp_links_register_later(trp_links *links);

/* ---- links_router.c ---- */

/* Are the files of the endpoint at which data connections arrive still there, if it was bound? */
bool trp_links_has_door(trp_links *links);
/* They are not: it is bound anew when somebody is expected. */
void trp_links_forget_door(trp_links *links);

/* Take what has come, and hand it to the links. True: there may be more. */
bool trp_links_receive(trp_links *links, trp_context *ctx);
void trp_links_close_router(trp_links *links);

#endif
