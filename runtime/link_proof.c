/*
 * link_proof.c - what is said on a connection that we have dialed until the other side has proved that it knows the cluster's key
 *
 * The other side of the conversation is links_visitors.c, what is proved and how proof.h.
 */
#include "runtime/link_parts.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "runtime/links.h"
#include "runtime/links_parts.h"
#include "runtime/runtime.h"

uint32_t
trp_link_features(const trp_links *links)
{
    return TRP_FEATURES | (links->rt->key.size > 0 ? (uint32_t)TRP_FEATURE_KEY : 0);
}

/* Our hello as it goes over the connection: what is proved is all that was said. */
static void
put_hello(unsigned char packet[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE], const unsigned char *hello,
          size_t size)
{
    trp_packet_put(packet, TRP_PACKET_HELLO, 0, size);
    memcpy(packet + TRP_PACKET_HEADER, hello, size);
}

void
trp_link_await_proof(trp_link *link, const unsigned char *hello, size_t size)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE];

    put_hello(packet, hello, size);
    trp_proof_begin(&link->proof, link->node_id, packet);
}

void
trp_link_prove(trp_link *link, const trp_guest *guest, const unsigned char *hello, size_t size)
{
    unsigned char packet[TRP_PACKET_HEADER + TRP_HELLO_KEY_SIZE], proof[TRP_PROOF_SIZE];

    link->proof.step = TRP_PROOF_NOTHING; /* it has proved before it came in */
    put_hello(packet, hello, size);
    trp_proof_answer(guest->proof, &link->links->rt->key, packet, TRP_PACKET_HEADER + size, proof);
    trp_link_say(link, TRP_PACKET_PROOF, 0, proof, sizeof proof);
}

/* It does not know the key. Without the lock. */
static void
reject(trp_link *link, trp_context *ctx, int fd)
{
    static const char words[] = "node %s did not prove that it knows the cluster key";
    trp_links *links = link->links;
    char why[TRP_WIRE_REASON];

    snprintf(why, sizeof why, words, link->name);
    trp_links_count_refused(links);
    if (trp_link_is_at(link, fd)) {
        trp_net_refuse(links->net, fd, -EKEYREJECTED, why);
        trp_links_shun(links, link->node_id, -EKEYREJECTED, why);
    }
    trp_link_lose(link, fd, -EKEYREJECTED, words, link->name);
}

bool
trp_link_trusts(trp_link *link, trp_context *ctx, int fd, const trp_packet *packet)
{
    const trp_key *key = &link->links->rt->key;
    unsigned char ours[TRP_PROOF_SIZE];
    enum trp_proof_next next = TRP_PROOF_WAIT;
    const char *why = NULL;
    bool is_first = false;

    if (key->size == 0 || packet->kind == TRP_PACKET_REFUSE) {
        return true;
    }
    pthread_mutex_lock(&link->link_lock);
    if (fd != link->control_fd || link->proof.step == TRP_PROOF_NOTHING) {
        bool is_its =
            fd == link->control_fd; /* else it has another by now: it may not have proved */

        pthread_mutex_unlock(&link->link_lock);
        return is_its;
    }
    next = trp_proof_hear(&link->proof, key, packet, ours);
    if (next == TRP_PROOF_SAY) {
        trp_link_say(link, TRP_PACKET_PROOF, 0, ours, sizeof ours);
    } else if (next == TRP_PROOF_DONE) {
        why = trp_link_greeted(link, &link->proof.theirs, &is_first);
    }
    pthread_mutex_unlock(&link->link_lock);
    if (next == TRP_PROOF_FAIL) {
        reject(link, ctx, fd);
    } else if (why) {
        trp_link_lose(link, fd, -EPROTO, "node %s: %s", link->name, why);
    } else if (is_first) {
        link->links->hooks->joined(ctx, link);
    }
    return false;
}
