/*
 * links_health.c - how the links of a node are, and being found when the run directory was removed
 *
 * Problem   Somebody clears a directory of temporary files, and a node that lives can be found by nobody any more, while a second
 *           one can take its name.
 * Idea      Look every LOOK_NS, by four stat(2), and register again: the directory is made, the lock taken, the record
 *           written, under the same name and incarnation. Links that there are need no files, and notice nothing.
 */
#include "runtime/links_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mailbox/error.h"

#include "runtime/link_parts.h"
#include "runtime/runtime.h"

enum { LOOK_NS = 2000000000, RETRY_NS = 500000000 };

/* ---- being found ---- */

/* The socket at which others knock, with its file. Under links_lock. */
static int
listen_anew(trp_links *links)
{
    char path[TRP_SOCKET_PATH_SIZE];
    int fd;

    trp_rundir_remove_socket(&links->rundir, TRP_SOCKET_CONTROL);
    trp_rundir_socket_path(&links->rundir, links->rt->name, links->rt->node_id, TRP_SOCKET_CONTROL,
                           path);
    fd = links->net->listen(path);
    if (fd < 0) {
        return trp_fail(fd, "node %s cannot listen at %s: %s", links->rt->name, path,
                        strerror(-fd));
    }
    trp_watches_drop(links->rt, &links->watch);
    links->net->close(links->listener);
    links->listener = fd;
    return trp_links_watch_listener(links);
}

/* 0, or the error: then others do not find us. Under links_lock. */
static int
register_again(trp_links *links)
{
    int rc = trp_rundir_renew(&links->rundir);

    if (rc == 0) {
        rc = listen_anew(links);
    }
    if (rc == 0) {
        trp_links_forget_door(links);
        rc = trp_rundir_publish(&links->rundir, links->rt->node_id);
    }
    links->is_unfound = rc < 0;
    snprintf(links->unfound_why, sizeof links->unfound_why, "%s",
             rc < 0 ? troupe_last_error().text : "");
    return rc;
}

int64_t
trp_links_register(trp_links *links, int64_t now_ns)
{
    bool was_found, is_wanted;
    char path[TRP_RUNDIR_PATH_SIZE];
    int64_t next;
    int rc = 0;

    pthread_mutex_lock(&links->links_lock);
    was_found = !links->is_unfound;
    is_wanted = now_ns >= links->register_ns && links->listener >= 0; /* else about to stop */
    if (is_wanted) {
        links->register_ns = now_ns + LOOK_NS;
        is_wanted =
            !was_found || !trp_rundir_is_there(&links->rundir) || !trp_links_has_door(links);
    }
    if (is_wanted) {
        rc = register_again(links);
        links->register_ns = rc < 0 ? now_ns + RETRY_NS : links->register_ns;
    }
    next = links->listener >= 0 ? links->register_ns : TRP_NEVER;
    memcpy(path, links->rundir.path, sizeof path);
    pthread_mutex_unlock(&links->links_lock);
    if (rc < 0 && was_found) {
        trp_links_complain(links, "others do not find it any more: %s", troupe_last_error().text);
    } else if (rc == 0 && is_wanted) {
        trp_links_complain(links, "it was gone from %s, and is registered there again", path);
    }
    return next;
}

void
trp_links_register_later(trp_links *links)
{
    if (links->rt->world->sim) { /* nobody removes anything there */
        return;
    }
    pthread_mutex_lock(&links->links_lock);
    links->register_ns = trp_now(links->rt) + LOOK_NS;
    pthread_mutex_unlock(&links->links_lock);
    trp_links_hurry(links, trp_now(links->rt) + LOOK_NS);
}

/* ---- how they are ---- */

static void
add_link(trp_link *link, troupe_health *health)
{
    enum trp_link_state state;

    pthread_mutex_lock(&link->link_lock);
    state = trp_link_state(link);
    if (link->has_joined && state <= TRP_LINK_LEAVING) {
        health->linked++;
        health->broken += link->cut_ns != 0;
        health->suspect += link->cut_ns == 0 && link->heart.health != TRP_HEALTH_FINE;
    }
    pthread_mutex_unlock(&link->link_lock);
}

/* Under links_lock. */
static void
say_what_is_wrong(trp_links *links, troupe_health *health)
{
    if (links->is_unfound) {
        health->is_degraded = true;
        snprintf(health->why, sizeof health->why, "others do not find node %.32s: %s",
                 links->rt->name, links->unfound_why);
    } else if (trp_load_relaxed(&links->listen_again_ns) != 0 || /* a moment's truth */
               trp_descriptors_spare(TRP_LINK_RESERVE_FDS) < 0) {
        health->is_degraded = true;
        snprintf(health->why, sizeof health->why,
                 "node %s has fewer than %d descriptors left: it links no other node",
                 links->rt->name, TRP_LINK_RESERVE_FDS);
    }
}

void
trp_links_health(trp_links *links, troupe_health *ret_health)
{
    pthread_mutex_lock(&links->links_lock);
    for (uint32_t i = 0; i < links->n_links; i++) {
        if (links->table[i]) {
            add_link(links->table[i], ret_health);
        }
    }
    say_what_is_wrong(links, ret_health);
    pthread_mutex_unlock(&links->links_lock);
    ret_health->lost = trp_load_relaxed(&links->n_lost); /* counters, all of them */
    ret_health->in_doubt = trp_load_relaxed(&links->n_in_doubt);
    ret_health->violations = trp_load_relaxed(&links->n_violations);
    ret_health->refused = trp_load_relaxed(&links->n_refused);
    ret_health->strays = trp_load_relaxed(&links->n_stray);
    ret_health->resumed = trp_load_relaxed(&links->n_healed);
}
