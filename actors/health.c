/*
 * health.c - how a node and its links are
 */
#include <errno.h>
#include <string.h>

#include "actors/node.h"
#include "mailbox/error.h"
#include "runtime/links.h"

int
troupe_node_health_sized(troupe_self *self, troupe_health *ret_health, size_t size)
{
    trp_context *ctx = trp_enter(self);
    troupe_health health = { .is_degraded = false };
    trp_links *links;

    if (!ctx) {
        return troupe_last_error().code;
    }
    if (!ret_health) {
        return trp_fail(-EINVAL, "troupe_node_health: nowhere to put it");
    }
    links = trp_load_acquire(&ctx->rt->links); /* pairs: trp_links_start */
    if (links) {
        trp_links_health(links, &health);
    }
    memcpy(ret_health, &health, size < sizeof health ? size : sizeof health);
    return 0;
}
