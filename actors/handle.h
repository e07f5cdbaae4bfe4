/*
 * handle.h - handles in a node: their table, and the actor that hands out what is in it
 *
 *     troupe_reduce_handle() --> table (runtime/handles.h), an alarm for its end
 *     a stranger --> socket --> actor "handles" --> the table says: give, or refuse
 *     troupe_rebuild_handle() --> asks, and an actor "handle taker" waits for the answer
 */
#ifndef TRP_ACTORS_HANDLE_H
#define TRP_ACTORS_HANDLE_H

#include "runtime/handles.h"
#include "runtime/runtime.h"
#include "runtime/sim.h"

typedef struct trp_node_handles {
    trp_handles table;
    trp_alarm_list alarms; /* of those that are open */
    troupe_ref server;     /* under begin_lock; nobody: there is none */
} trp_node_handles;

/* Have a server, listening. 0, or the error. */
int trp_handle_server_begin(troupe_self *self, trp_context *ctx, troupe_ref *ret_server);

/* What an alarm in `alarms` tells the server: this one may have expired. NULL and the error: no memory. */
troupe_msg *trp_handle_end_notice(trp_context *ctx, uint32_t place);

static inline const trp_net *
trp_net_of(const trp_runtime *rt)
{
    return rt->world->sim ? &trp_net_sim : &trp_net_real;
}

#endif
