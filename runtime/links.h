/*
 * links.h - the links of a node: finding, dialing, listening, ending
 *
 *     listener --accept--> visitor --hello--> link
 *     a message for a node without a link --> run directory --> dial --> link
 *
 * Two nodes that dial each other at once: the dial of the one with the lower id counts; the other's is refused
 * (-EALREADY) or given up, whichever comes first, and its link goes on with the connection that remains.
 */
#ifndef TRP_LINKS_H
#define TRP_LINKS_H

#include <troupe/node.h>

#include "runtime/link.h"
#include "runtime/rundir.h"
#include "runtime/runtime.h"

enum { TRP_LINKS_MAX = 1024, TRP_VISITORS_MAX = 64 };

struct trp_visitor;

struct trp_links {
    trp_runtime *rt;
    const trp_net *net;
    const struct trp_link_hooks *hooks;
    trp_rundir rundir;
    trp_pulse pulse;                 /* signs of life: link_heart.h */
    uint64_t process;                /* the same for all nodes of one process */
    _Atomic int64_t listen_again_ns; /* out of descriptors until then; 0: listening */
    trp_watch_list watch;            /* the listener's; under the watch table's lock */
    _Atomic int64_t due_ns;          /* when trp_links_tend() is wanted */

    pthread_mutex_t links_lock; /* guards all below */
    bool is_closed;             /* no new links */
    int listener;               /* -1: none, not yet or no more */
    trp_link *table[TRP_LINKS_MAX];
    uint32_t n_links; /* the highest index in use, + 1 */
    uint64_t last_serial;
    int64_t register_ns; /* when to look whether we are still to be found */
    bool is_unfound;     /* we are not, because: */
    char unfound_why[160];
    struct trp_visitor *visitors;
    uint32_t n_visitors;
    struct {
        uint64_t node_id;
        int64_t until_ns;
    } unknown[16]; /* whom nobody was lately: not looked for again so soon */
    struct trp_shunned {
        uint64_t node_id;
        int64_t until_ns;
        unsigned n; /* times, one soon behind the other */
        int code;
        char why[TRP_WIRE_REASON];
    } shunned
        [16]; /* with whom there will be no link until one of the two changes: not dialed again so soon */

    pthread_mutex_t
        receive_lock; /* from receiving to the inboxes: keeps the order; taken before all others */
    pthread_mutex_t router_lock; /* guards all below; taken after links_lock and link_lock */
    trp_router *router;
    int router_fd;
    trp_watch_list router_watch;
    bool is_bound, is_hidden; /* the ipc endpoint; see router_hide() */
    unsigned n_expected;      /* data connections that are to come */
    char ipc[TRP_WIRE_ENDPOINT], inproc[TRP_WIRE_ENDPOINT];
    _Atomic bool
        is_receive_due; /* there was no memory for what has come; relaxed: hurried after it was set */
    _Atomic uint64_t n_stray; /* frames of nobody, or of connections that are no more */
    _Atomic uint64_t n_cut,
        n_healed; /* connections that have ended and the links not; those that were taken up again */
    _Atomic uint64_t n_again;                                     /* frames that were sent again */
    _Atomic uint64_t n_lost, n_violations, n_in_doubt, n_refused; /* as in troupe_health */

    pthread_mutex_t complaints_lock; /* guards all below */
    int64_t complaints_ns;
    unsigned n_complaints; /* since then */
    uid_t stranger_uid;    /* who was spoken of last, ... */
    int64_t stranger_ns;   /* ... and is not again until then */
    struct {
        char name[TRP_WIRE_NAME];
        int64_t until_ns;
    } told[16]; /* of whom it was said lately that there is no link */
};

/* Begin to listen under the node's name. 0, or the error: nothing is left behind. */
int trp_links_start(trp_runtime *rt, const struct trp_link_hooks *hooks);
/* Say goodbye to everybody, until `deadline_ns`; false: some did not answer, *ret_name is one of them, and they have not
 * taken *ret_left messages. */
bool trp_links_leave(trp_links *links, trp_context *ctx, int64_t deadline_ns, char *ret_name,
                     size_t size, uint64_t *ret_left);
/* The process has died: nobody is told anything any more, and no link begins. */
void trp_links_abandon(trp_links *links);
/* Free everything; the workers have ended. */
void trp_links_free(trp_links *links);

/* When trp_links_tend() is wanted; TRP_NEVER: not at all. */
static inline int64_t
trp_links_due(trp_runtime *rt)
{
    trp_links *links = trp_load_acquire(&rt->links); /* pairs: trp_links_start */

    return links ? trp_load_relaxed(&links->due_ns)
                 : TRP_NEVER; /* looked at again soon, or hurried */
}

/* The link to a node, dialed if there is none; NULL: there is no such node (the error is set). Any thread;
 * borrowed: valid until the calling context asks for another. */
trp_link *trp_links_to(trp_context *ctx, uint64_t node_id);
/* The same by name; -ENOTCONN. [gives] a reference. */
trp_link *trp_links_named(trp_context *ctx, const char *name);

/* The link to the node of this name in this process, when hello has been exchanged, or NULL. [gives] a reference. Any thread. */
trp_link *trp_links_of_process(trp_links *links, const char *name, pid_t pid);
/* Is there one? */
bool trp_links_is_joined(trp_links *links, const char *name, pid_t pid);
/* What its cluster is called. */
const char *trp_links_cluster(const trp_links *links);

/* Say something about the links on standard error: at most a few times a second, the rest is counted. */
void trp_links_complain(trp_links *links, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same of a node with which there is no link, once a minute for each. */
void trp_links_complain_of(trp_links *links, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What is due. By whoever lets time pass. */
void trp_links_tend(trp_context *ctx, int64_t now_ns);
/* Something will be due at that time. Any thread. */
void trp_links_hurry(trp_links *links, int64_t at_ns);

/* What a context has appended and not flushed. */
void trp_links_flush(trp_context *ctx);

/* How they are: links_health.c. */
void trp_links_health(trp_links *links, troupe_health *ret_health);

/* For link.c */
int trp_links_expect(trp_links *links, trp_link *link, trp_attach *ret_attach);
bool trp_links_expected(trp_links *links,
                        trp_link *link); /* it has come, or will not; true: it was to */
bool trp_links_is_expected(trp_links *links, const trp_link *link); /* is it still to come? */
bool trp_links_drain(trp_links *links, trp_context *ctx,
                     trp_link *link); /* true: nothing will come from it */
/* The link to an earlier node of this name, of those before `serial`; NULL: there is none. Whoever watches that one has not been
 * told of its end yet. Under links_lock. */
trp_link *trp_links_predecessor(const trp_links *links, const char *name, uint64_t node_id,
                                uint64_t serial);
/* Its name is another's: it will not be heard of. One that was joined ends by itself. */
void trp_links_end_predecessor(trp_link *link, trp_context *ctx);
/* On this connection the other side has said no, with an errno from outside and a reason. */
void trp_links_refused(trp_link *link, trp_context *ctx, int control_fd, uint64_t error,
                       const char *reason);
/* There is no link to that node, and would be none if it were dialed again at once. */
void trp_links_shun(trp_links *links, uint64_t node_id, int code, const char *why);
void trp_links_remove(trp_links *links, trp_link *link);
bool trp_links_ready(trp_context *ctx, troupe_ref to, int fd, uint32_t stamp, uint32_t events);

#endif
