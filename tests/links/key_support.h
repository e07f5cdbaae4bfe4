/*
 * key_support.h - what the tests of clusters with a key share: another node, on a thread of its own
 */
#ifndef KEY_SUPPORT_H
#define KEY_SUPPORT_H

#include "support/guard.h"

#include <pthread.h>

#include "actors/node.h"
#include "runtime/links.h"
#include "runtime/runtime.h"

static const char key[] = "0123456789abcdef, and the rest of it";
static const char wrong_key[] = "0123456789abcdef, and another rest";

TROUPE_SIGNAL(ping);

static inline void
on_ping(troupe_self *self, troupe_msg *msg)
{
    troupe_reply(self, msg, ping);
}

static const troupe_behavior echo = { .name = "echo",
                                      .handlers = TROUPE_HANDLERS(TROUPE_ON(ping, on_ping)) };
TROUPE_EXPORT(echo);

static inline trp_links *
links_of(troupe_self *me)
{
    return trp_load_acquire(&me->ctx->rt->links); /* pairs: trp_links_start */
}

static inline uint64_t
n_refused(troupe_self *me)
{
    return trp_load_relaxed(&links_of(me)->n_refused);
}

/* ---- another node, on a thread of its own ---- */

struct other {
    troupe_config config;
    pthread_t thread;
    pthread_barrier_t has_begun, is_over;
    troupe_self *self;
    troupe_ref ref;
    uint64_t n_refused;
    int rc;
};

static void *
be_other(void *argument)
{
    struct other *it = argument;

    it->self = troupe_start(&it->config);
    if (it->self) {
        it->ref = troupe_self_ref(it->self);
    }
    pthread_barrier_wait(&it->has_begun);
    pthread_barrier_wait(&it->is_over);
    if (it->self) {
        it->n_refused = n_refused(it->self);
        it->rc = troupe_stop(it->self);
    }
    return NULL;
}

static inline void
begin_other(struct other *it, const void *its_key, size_t size)
{
    it->config.node = "there";
    it->config.threads = 1;
    it->config.cluster_key = its_key;
    it->config.cluster_key_size = size;
    pthread_barrier_init(&it->has_begun, NULL, 2);
    pthread_barrier_init(&it->is_over, NULL, 2);
    assert_int_equal(pthread_create(&it->thread, NULL, be_other, it), 0);
    pthread_barrier_wait(&it->has_begun);
    assert_non_null(it->self);
}

static inline void
end_other(struct other *it)
{
    pthread_barrier_wait(&it->is_over);
    pthread_join(it->thread, NULL);
    pthread_barrier_destroy(&it->has_begun);
    pthread_barrier_destroy(&it->is_over);
    assert_int_equal(it->rc, 0);
}

static inline void
assert_linked(troupe_self *me, const char *node)
{
    troupe_ref who = troupe_spawn_on(me, node, &echo);

    assert_false(troupe_is_nobody(who));
    assert_int_equal(troupe_send(me, who, ping), 0);
    test_await(me, ping);
    troupe_kill(me, who);
}

#endif
