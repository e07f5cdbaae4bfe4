/*
 * links_parts.h - what the four files of a node's links share
 *
 *     links.c           the table, what is due, beginning and end
 *     links_dial.c      finding a node's link, or dialing it
 *     links_visitors.c  those who dial us, until they have said who they are
 *     links_router.c    the one socket that receives data, and who may connect to it
 */
#ifndef TRP_LINKS_PARTS_H
#define TRP_LINKS_PARTS_H

#include "runtime/links.h"

/* ---- links.c ---- */

/* The link to a node, one that is not over; or NULL. Under links_lock. */
trp_link *trp_links_by_id(const trp_links *links, uint64_t node_id);
/* A new link, in the table and with its server; NULL and the error. The reference is the table's. Under links_lock. */
trp_link *trp_links_add(trp_links *links, trp_context *ctx, uint64_t node_id, const char *name);

/* ---- links_visitors.c ---- */

/* Let one in; false: no more of them now. */
bool trp_visitor_accept(trp_links *links);
/* A visitor has said something: it had better be a hello. */
void trp_visitor_hear(trp_links *links, trp_context *ctx, uint64_t serial);
/* Send away those whose time is up; returns when that of the next is. */
int64_t trp_visitors_drop(trp_links *links, int64_t older_than_ns);

/* ---- links_router.c ---- */

/* Take what has come, and hand it to the links. True: there may be more. */
bool trp_links_receive(trp_links *links, trp_context *ctx);
void trp_links_close_router(trp_links *links);

#endif
