/*
 * stress_offload.c - offloading, cancelling, timing out, ending and stopping, all at once
 *
 * Owners with and without a thread of their own offload functions that answer, say nothing, answer with descriptors
 * or dawdle; they cancel some of them at a random moment, and end while others are under way. In the end each
 * request has had exactly one outcome: its message, a cancel, or its owner's end; each copy of arguments was used or
 * discarded exactly once; and the law holds.
 */
#include "support/guard.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include <troupe/troupe.h>

#define ANSWER(field, T) field(T, u64, value)
TROUPE_MESSAGE(answer, ANSWER);
#define FILE_FIELDS(field, T) field(T, fd, file)
TROUPE_MESSAGE(file, FILE_FIELDS);
#define LEFT(field, T)                                                                             \
    field(T, u64, n_offloaded) field(T, u64, n_answered) field(T, u64, n_unanswered)               \
        field(T, u64, n_cancelled) field(T, u64, n_open) field(T, u64, n_strange)
TROUPE_MESSAGE(left, LEFT);
TROUPE_SIGNAL(step);

enum { OPEN_MAX = 16 };

static _Atomic unsigned n_used, n_discarded;

/* Simulated, the simulator's seed is the only one: equal seeds must give equal runs. */
static uint64_t
first_random(void)
{
    return test_is_simulated() ? 1 : test_seed();
}

/* What an owner and a function need. */
struct work {
    uint64_t random;
};

static void
dawdle(troupe_job *job, const void *args)
{
    uint64_t random = ((const struct work *)args)->random;

    atomic_fetch_add(&n_used, 1);
    if (random % 8 == 0) {
        usleep((useconds_t)(test_random(&random) % 3000));
    }
    switch (test_random(&random) % 8) {
    case 0:
        return;
    case 1:
    case 2: {
        file body = { .file = open("/dev/null", O_RDONLY | O_CLOEXEC) };

        if (troupe_finish_value(job, file, &body) < 0) {
            close(body.file);
        }
        break;
    }
    default:
        troupe_finish(job, answer, .value = random);
    }
    if (random % 16 == 0 && !troupe_job_is_cancelled(job)) {
        usleep(100);
    }
}

static void
discard(const void *args)
{
    atomic_fetch_add(&n_discarded, 1);
}

struct owner {
    struct work work;
    troupe_ref report_to;
    uint64_t requests[OPEN_MAX]; /* under way; 0: none */
    left left;
    unsigned steps;
};

static int
init_owner(troupe_self *self, const void *args)
{
    struct owner *owner = troupe_state(self);

    *owner = *(const struct owner *)args;
    return troupe_send(self, troupe_self_ref(self), step);
}

static void
offload_one(troupe_self *self, struct owner *owner, uint64_t *place)
{
    struct work args = { .random = test_random(&owner->work.random) };

    if (*place != 0) {
        return;
    }
    *place = troupe_offload(self, &(troupe_work){ .function = dawdle,
                                                  .args = &args,
                                                  .args_size = sizeof args,
                                                  .discard = discard,
                                                  .timeout_ms = (int64_t)(args.random % 4),
                                                  .name = "dawdle" });
    owner->left.n_offloaded += *place != 0;
}

static void
cancel_one(troupe_self *self, struct owner *owner, uint64_t *place)
{
    if (*place != 0 && troupe_cancel(self, *place)) {
        owner->left.n_cancelled++;
        *place = 0;
    }
}

static void
on_step(troupe_self *self, troupe_msg *msg)
{
    struct owner *owner = troupe_state(self);

    for (unsigned i = 0; i < 3; i++) {
        uint64_t *place = &owner->requests[test_random(&owner->work.random) % OPEN_MAX];

        if (test_random(&owner->work.random) % 4 == 0) {
            cancel_one(self, owner, place);
        } else {
            offload_one(self, owner, place);
        }
    }
    if (--owner->steps == 0) {
        troupe_exit(self);
    } else if (owner->steps % 4 == 0) {
        troupe_send_after(self, troupe_self_ref(self), 1, step);
    } else {
        troupe_send(self, troupe_self_ref(self), step);
    }
}

static void
on_outcome(troupe_self *self, troupe_msg *msg)
{
    struct owner *owner = troupe_state(self);
    uint64_t request = troupe_request(msg);
    unsigned i = 0;

    while (i < OPEN_MAX && owner->requests[i] != request) {
        i++;
    }
    if (request == 0 || i == OPEN_MAX) {
        owner->left.n_strange++; /* cancelled, or a second one */
        return;
    }
    owner->requests[i] = 0;
    if (troupe_is(msg, troupe_unanswered)) {
        owner->left.n_unanswered++;
    } else {
        owner->left.n_answered++;
    }
}

static void
stop_owner(troupe_self *self)
{
    struct owner *owner = troupe_state(self);

    for (unsigned i = 0; i < OPEN_MAX; i++) {
        owner->left.n_open += owner->requests[i] != 0;
    }
    troupe_send_value(self, owner->report_to, left, &owner->left);
}

static const troupe_behavior owner_behavior = {
    .name = "owner",
    .state_size = sizeof(struct owner),
    .init = init_owner,
    .stop = stop_owner,
    .otherwise = on_outcome,
    .handlers = TROUPE_HANDLERS(TROUPE_ON(step, on_step)),
};

static void
every_request_has_exactly_one_outcome(void **state)
{
    unsigned n_owners = test_scaled(400), steps = 30, alive = 0;
    uint64_t random = first_random(), n_offloaded = 0, n_settled = 0;
    troupe_self *me = test_start(.threads = 2, .offload_threads = 6, .offload_queue = 40);

    n_used = n_discarded = 0;
    for (unsigned i = 0; i < n_owners || alive > 0;) {
        troupe_msg *msg;
        const left *l;

        if (i < n_owners && alive < 16) {
            struct owner args = { .work.random = test_random(&random),
                                  .report_to = troupe_self_ref(me),
                                  .steps = 1 + (unsigned)(test_random(&random) % steps) };

            assert_false(troupe_is_nobody(troupe_spawn_with(me, &owner_behavior, .args = &args,
                                                            .args_size = sizeof args,
                                                            .own_thread = i % 4 == 0)));
            i++;
            alive++;
            continue;
        }
        msg = test_receive(me, left);
        l = troupe_body(msg, left);
        assert_int_equal(l->n_strange, 0);
        assert_int_equal(l->n_offloaded,
                         l->n_answered + l->n_unanswered + l->n_cancelled + l->n_open);
        n_offloaded += l->n_offloaded;
        n_settled += l->n_answered + l->n_unanswered;
        troupe_release(msg);
        alive--;
    }
    print_message("  %llu offloaded, %llu answered or unanswered, %u run, %u discarded\n",
                  (unsigned long long)n_offloaded, (unsigned long long)n_settled, n_used,
                  n_discarded);
    while (n_used + n_discarded < n_offloaded) {
        test_quiet(me);
    }
    test_stop(me);
    assert_int_equal(n_used + n_discarded, n_offloaded);
}

static void
a_node_may_stop_in_the_middle_of_it(void **state)
{
    unsigned rounds = test_scaled(30);
    uint64_t random = first_random();

    for (unsigned round = 0; round < rounds; round++) {
        troupe_self *me = test_start(.threads = 2, .offload_threads = 3);
        int rc;

        for (unsigned i = 0; i < 8; i++) {
            struct owner args = { .work.random = test_random(&random),
                                  .report_to = troupe_self_ref(me),
                                  .steps = 1000 };

            troupe_spawn_with(me, &owner_behavior, .args = &args, .args_size = sizeof args,
                              .own_thread = i % 4 == 0);
        }
        troupe_release(troupe_receive(me, (int64_t)(test_random(&random) % 4)));
        rc = troupe_stop(me); /* what was answered and not handled was lost, as any message */
        if (rc != 0 && rc != -ECANCELED) {
            fail_msg("troupe_stop: %s", troupe_last_error().text);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(every_request_has_exactly_one_outcome),
        guarded(a_node_may_stop_in_the_middle_of_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
