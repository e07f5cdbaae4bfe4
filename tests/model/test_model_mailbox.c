/*
 * test_model_mailbox.c - the mailbox in every order of steps
 *
 * Each scenario lets a few threads send to one mailbox. Whoever gets the right to run it does so on
 * the spot, so ownership moves between the threads all the time. Recorded on the way, checked at once:
 *
 *     - at most one thread owns the mailbox
 *     - every message is handled once, those of one sender in the order sent
 *     - a node that its owner was told is free is not written to or read any more: it is buried, with
 *       `next` pointing to a grave that nobody may touch
 *     - in the end all is handled and the mailbox is parked
 *
 * The bounds keep a run short. Without any, two senders with two messages each take 781,090 executions
 * and three with one 1,365,876: they hold, too (a few seconds; put MODEL_ALL to see it again).
 *
 * The second half gives the explorer mailboxes with planted bugs, which it must find.
 */
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "mailbox/mailbox.h"

enum { LETTERS_MAX = 10, SENDERS = MODEL_THREADS };

struct letter {
    trp_node node;
    unsigned sender, number;
    bool is_buried;
};

/* The mailbox under test, so that broken ones can take its place. */
struct mailbox_kind {
    bool (*push_chain)(trp_mailbox *box, trp_node *first, trp_node *last);
    bool (*claim)(trp_mailbox *box);
    enum trp_next (*next)(trp_mailbox *box, trp_node **ret_node);
    bool (*park)(trp_mailbox *box);
    bool (*detach)(trp_mailbox *box);
};

static const struct mailbox_kind sound = {
    .push_chain = trp_mailbox_push_chain,
    .claim = trp_mailbox_claim,
    .next = trp_mailbox_next,
    .park = trp_mailbox_park,
    .detach = trp_mailbox_detach,
};

static struct {
    const struct mailbox_kind *kind; /* kept over executions, as is the next */
    bool detaches;                   /* owners detach each message and bury it while they run */
    bool resends;                    /* owners send each message to the mailbox once more */

    trp_mailbox box;
    struct letter letters[LETTERS_MAX];
    unsigned n_letters, n_handled;
    unsigned n_sent[SENDERS], n_seen[SENDERS];
    unsigned n_owners;
    unsigned n_claims;
    trp_node grave;
} world;

/* ---- what the threads do ---- */

static void
bury(struct letter *letter)
{
    if (letter) {
        MODEL_CHECK(!letter->is_buried);
        letter->is_buried = true;
        atomic_store_explicit(&letter->node.next, &world.grave, memory_order_relaxed);
    }
}

static struct letter *
write_letter(unsigned sender)
{
    struct letter *letter = &world.letters[world.n_letters++];

    model_writes(letter);
    letter->sender = sender;
    letter->number = ++world.n_sent[sender];
    return letter;
}

static void
check_order(struct letter *letter)
{
    model_reads(letter);
    MODEL_CHECK(!letter->is_buried);
    MODEL_CHECK(letter->number == world.n_seen[letter->sender] + 1);
    world.n_seen[letter->sender]++;
    world.n_handled++;
}

/* Take the message being handled out of the list. */
static void
detach(void)
{
    while (!world.kind->detach(&world.box)) {
        model_yield();
    }
}

/* Handle one message; returns it if it is still the list's end. */
static struct letter *
handle(trp_node *node)
{
    struct letter *letter = TRP_CONTAINER_OF(node, struct letter, node);

    MODEL_CHECK(node != &world.grave && node != &world.box.stub);
    check_order(letter);
    if (world.resends && letter->number == 1) {
        detach();
        model_writes(letter);
        letter->number = ++world.n_sent[letter->sender];
        MODEL_CHECK(!world.kind->push_chain(&world.box, node, node)); /* it is not parked: we run */
        return NULL;
    }
    if (world.detaches) {
        detach();
        bury(letter);
        return NULL;
    }
    return letter;
}

/* We have the right: run the mailbox until it is parked. */
static void
run_mailbox(void)
{
    struct letter *end = NULL;
    trp_node *node;

    MODEL_CHECK(world.n_owners++ == 0);
    model_writes(&world.box.end); /* the actor: each owner sees what the last one did */
    for (;;) {
        switch (world.kind->next(&world.box, &node)) {
        case TRP_NEXT_NODE:
            bury(end);
            end = handle(node);
            break;
        case TRP_NEXT_SOON:
            model_yield();
            break;
        case TRP_NEXT_EMPTY:
            model_writes(&world.box.end);
            if (world.kind->park(&world.box)) {
                world.n_owners--; /* no point since the CAS: nobody was in between */
                bury(end);
                return;
            }
        }
    }
}

static void
send(struct letter *first, struct letter *last)
{
    if (world.kind->push_chain(&world.box, &first->node, &last->node)) {
        run_mailbox();
    }
}

static void
send_one(void)
{
    struct letter *letter = write_letter(model_self());

    send(letter, letter);
}

static void
send_two(void)
{
    send_one();
    send_one();
}

static void
send_chain_of_two(void)
{
    struct letter *first = write_letter(model_self());
    struct letter *second = write_letter(model_self());

    atomic_store_explicit(&first->node.next, &second->node, memory_order_relaxed);
    send(first, second);
}

static void
claim_it(void)
{
    if (world.kind->claim(&world.box)) {
        world.n_claims++;
        run_mailbox();
    }
}

/* ---- the world ---- */

static void
begin(void)
{
    world.n_letters = world.n_handled = world.n_owners = world.n_claims = 0;
    memset(world.letters, 0, sizeof world.letters);
    memset(world.n_sent, 0, sizeof world.n_sent);
    memset(world.n_seen, 0, sizeof world.n_seen);
    atomic_store_explicit(&world.grave.next, &world.grave, memory_order_relaxed);
    trp_mailbox_init(&world.box);
}

static void
begin_parked(void)
{
    begin();
    MODEL_CHECK(trp_mailbox_park(&world.box));
}

static void
check_rest(void)
{
    unsigned sent = 0;

    for (unsigned s = 0; s < SENDERS; s++) {
        sent += world.n_sent[s];
    }
    MODEL_CHECK(world.n_handled == sent);
    MODEL_CHECK(world.n_owners == 0);
    MODEL_CHECK(trp_mailbox_claim(&world.box)); /* it was parked */
    MODEL_CHECK(trp_mailbox_is_empty(&world.box));
    for (unsigned i = 0; i < world.n_letters; i++) {
        MODEL_CHECK(world.letters[i].is_buried);
        MODEL_CHECK(atomic_load(&world.letters[i].node.next) == &world.grave);
    }
    MODEL_CHECK(atomic_load(&world.grave.next) == &world.grave);
}

/* The usual mailbox, with nothing special done to messages. */
static int
be_plain(void **state)
{
    world.kind = &sound;
    world.detaches = world.resends = false;
    return 0;
}

static void
must_hold(struct model model)
{
    model.check = check_rest;
    assert_false(model_run(&model).failed);
}

/* ---- what must hold ---- */

static void
two_senders_with_a_message_each_in_all_orders(void **state)
{
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_one, send_one }, .preemptions = MODEL_ALL });
}

static void
two_senders_with_two_messages_each(void **state)
{
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_two, send_two }, .preemptions = 6 });
}

static void
three_senders_with_a_message_each(void **state)
{
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_one, send_one, send_one }, .preemptions = 5 });
}

static void
an_owner_that_runs_while_two_send(void **state)
{
    must_hold((struct model){
        .setup = begin, .threads = { run_mailbox, send_two, send_one }, .preemptions = 4 });
}

static void
an_owner_that_runs_while_one_sends_in_all_orders(void **state)
{
    must_hold((struct model){
        .setup = begin, .threads = { run_mailbox, send_two }, .preemptions = MODEL_ALL });
}

static void
chains_arrive_whole_and_in_order(void **state)
{
    must_hold((struct model){ .setup = begin_parked,
                              .threads = { send_chain_of_two, send_chain_of_two, send_one },
                              .preemptions = 3 });
}

static void
detached_messages_are_free_while_the_owner_goes_on(void **state)
{
    world.detaches = true;
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_one, send_one }, .preemptions = MODEL_ALL });
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_two, send_one, send_one }, .preemptions = 3 });
}

static void
a_detached_message_may_be_sent_to_the_same_mailbox(void **state)
{
    world.resends = true;
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_one, send_one }, .preemptions = 4 });
    must_hold((struct model){
        .setup = begin_parked, .threads = { send_one, send_one, send_one }, .preemptions = 2 });
}

static void
claim_and_push_never_both_win(void **state)
{
    must_hold((struct model){
        .setup = begin_parked, .threads = { claim_it, send_one }, .preemptions = MODEL_ALL });
    must_hold((struct model){
        .setup = begin_parked, .threads = { claim_it, send_two, claim_it }, .preemptions = 3 });
}

static void
many_messages_in_random_orders(void **state)
{
    must_hold((struct model){ .setup = begin_parked,
                              .threads = { send_two, send_two, send_two, send_two },
                              .preemptions = 4,
                              .random_runs = 20000,
                              .seed = 1 });
    world.detaches = true;
    must_hold((struct model){ .setup = begin_parked,
                              .threads = { send_two, send_chain_of_two, claim_it, send_two },
                              .preemptions = 4,
                              .random_runs = 20000,
                              .seed = 2 });
}

/* Five threads, 10 messages. */
static void
more_threads_in_random_orders(void **state)
{
    must_hold((struct model){ .setup = begin_parked,
                              .threads = { send_two, send_two, send_two, send_two, send_two },
                              .preemptions = 6,
                              .random_runs = 20000,
                              .seed = 3 });
    world.detaches = true;
    must_hold(
        (struct model){ .setup = begin_parked,
                        .threads = { send_two, claim_it, send_chain_of_two, send_two, claim_it },
                        .preemptions = 6,
                        .stale = 3,
                        .random_runs = 20000,
                        .seed = 4 });
}

/* ---- weak memory ---- */

static const struct model weak_models[] = {
    { .threads = { send_one, send_one }, .preemptions = 3, .stale = 2 },
    { .threads = { claim_it, send_one, send_one }, .preemptions = 2, .stale = 1 },
    { .threads = { send_chain_of_two, send_one }, .preemptions = 2, .stale = 2 },
    { .threads = { send_one, send_one, send_one }, .preemptions = 3, .stale = 1 },
};

static void
its_orders_are_enough_in_weak_memory(void **state)
{
    for (unsigned form = 0; form < 3; form++) {
        world.detaches = form == 1;
        world.resends = form == 2;
        for (size_t i = 0; i < TRP_COUNT(weak_models); i++) {
            struct model model = weak_models[i];

            model.setup = begin_parked;
            must_hold(model);
        }
    }
}

/* All but the releases of (1) and (5), which keep `next = NULL` before the store of whoever links behind: in weak.c
 * no store is put before an earlier one. */
static void
every_weaker_order_is_noticed(void **state)
{
    struct model models[TRP_COUNT(weak_models)];
    unsigned n;

    for (size_t i = 0; i < TRP_COUNT(models); i++) {
        models[i] = weak_models[i];
        models[i].setup = begin_parked;
        models[i].check = check_rest;
    }
    assert_int_equal(model_weaken_each(models, TRP_COUNT(models), "mailbox.h", &n), 1);
    assert_int_equal(n, 6);
    world.detaches = true;
    assert_int_equal(model_weaken_each(models, TRP_COUNT(models), "mailbox.h", &n), 2);
    assert_int_equal(n, 9);
}

/* ---- planted bugs ---- */

/* Learns its predecessor before it takes its place: two senders may get the same one. */
static bool
push_in_two_steps(trp_mailbox *box, trp_node *first, trp_node *last)
{
    uintptr_t before = trp_load_acquire(&box->head);

    trp_store_relaxed(&last->next, NULL);
    trp_store_release(&box->head, (uintptr_t)last);
    trp_store_release(&((trp_node *)(before & ~TRP_PARKED))->next, first);
    return before & TRP_PARKED;
}

/* Asks whether the mailbox is parked before it appends: the owner may park in between. */
static bool
push_that_asks_first(trp_mailbox *box, trp_node *first, trp_node *last)
{
    bool is_parked = trp_load_acquire(&box->head) & TRP_PARKED;

    trp_mailbox_push_chain(box, first, last);
    return is_parked;
}

/* Takes what it saw last for the truth. */
static bool
park_without_looking(trp_mailbox *box)
{
    trp_mailbox_park(box);
    return true;
}

/* Overwrites whatever a sender put there. */
static bool
park_with_a_store(trp_mailbox *box)
{
    box->end = &box->stub;
    trp_store_relaxed(&box->stub.next, NULL);
    trp_store_release(&box->head, (uintptr_t)&box->stub | TRP_PARKED);
    return true;
}

/* Parks first and resets the stub after: the next owner is already there. */
static bool
park_that_touches_the_box_again(trp_mailbox *box)
{
    uintptr_t expected = (uintptr_t)box->end;

    if (!trp_cas_release(&box->head, &expected, (uintptr_t)&box->stub | TRP_PARKED)) {
        return false;
    }
    trp_store_relaxed(&box->stub.next, NULL);
    box->end = &box->stub;
    return true;
}

/* Sees nobody behind the node, and does not see the sender that is about to link there. */
static bool
detach_that_ignores_a_late_sender(trp_mailbox *box)
{
    trp_node *next = trp_load_acquire(&box->end->next);
    uintptr_t expected = (uintptr_t)box->end;

    trp_store_relaxed(&box->stub.next, next);
    if (next == NULL) {
        trp_cas_acq_rel(&box->head, &expected, (uintptr_t)&box->stub);
    }
    box->end = &box->stub;
    return true;
}

/* Two may find it idle. */
static bool
claim_in_two_steps(trp_mailbox *box)
{
    if (trp_load_acquire(&box->head) != ((uintptr_t)&box->stub | TRP_PARKED)) {
        return false;
    }
    trp_store_release(&box->head, (uintptr_t)&box->stub);
    return true;
}

/* The explorer must find the bug, and find it again when told the schedule. */
static void
must_be_found(struct mailbox_kind kind, struct model model)
{
    struct model_result found, again;

    world.kind = &kind;
    model.check = check_rest;
    model.quiet = true;
    found = model_run(&model);
    assert_true(found.failed);
    model.replay = found.schedule;
    again = model_run(&model);
    assert_true(again.failed);
    assert_string_equal(again.complaint, found.complaint);
    assert_int_equal(again.executions, 1);
}

static void
finds_a_push_that_reads_head_before_it_writes(void **state)
{
    struct mailbox_kind kind = sound;

    kind.push_chain = push_in_two_steps;
    must_be_found(kind, (struct model){ .setup = begin_parked,
                                        .threads = { send_one, send_one },
                                        .preemptions = 2 });
}

static void
finds_a_push_that_asks_before_it_appends(void **state)
{
    struct mailbox_kind kind = sound;

    kind.push_chain = push_that_asks_first;
    must_be_found(
        kind,
        (struct model){ .setup = begin, .threads = { run_mailbox, send_one }, .preemptions = 2 });
}

static void
finds_a_park_that_ignores_a_failed_cas(void **state)
{
    struct mailbox_kind kind = sound;

    kind.park = park_without_looking;
    must_be_found(
        kind,
        (struct model){ .setup = begin, .threads = { run_mailbox, send_one }, .preemptions = 1 });
}

static void
finds_a_park_that_overwrites_head(void **state)
{
    struct mailbox_kind kind = sound;

    kind.park = park_with_a_store;
    must_be_found(
        kind,
        (struct model){ .setup = begin, .threads = { run_mailbox, send_one }, .preemptions = 1 });
}

static void
finds_a_park_that_touches_the_box_again(void **state)
{
    struct mailbox_kind kind = sound;

    kind.park = park_that_touches_the_box_again;
    must_be_found(kind, (struct model){ .setup = begin_parked,
                                        .threads = { send_one, send_one },
                                        .preemptions = 2 });
}

static void
finds_a_detach_that_ignores_a_late_sender(void **state)
{
    struct mailbox_kind kind = sound;

    kind.detach = detach_that_ignores_a_late_sender;
    world.detaches = true;
    must_be_found(kind, (struct model){ .setup = begin_parked,
                                        .threads = { send_one, send_one },
                                        .preemptions = 2 });
}

static void
finds_a_claim_in_two_steps(void **state)
{
    struct mailbox_kind kind = sound;

    kind.claim = claim_in_two_steps;
    must_be_found(kind, (struct model){ .setup = begin_parked,
                                        .threads = { claim_it, send_one },
                                        .preemptions = 2 });
}

static void
finds_a_bug_in_random_orders_too(void **state)
{
    struct mailbox_kind kind = sound;

    kind.detach = detach_that_ignores_a_late_sender;
    world.detaches = true;
    must_be_found(kind, (struct model){ .setup = begin_parked,
                                        .threads = { send_two, send_two, send_one },
                                        .preemptions = 2,
                                        .random_runs = 100000,
                                        .seed = 3 });
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(two_senders_with_a_message_each_in_all_orders, be_plain),
        cmocka_unit_test_setup(two_senders_with_two_messages_each, be_plain),
        cmocka_unit_test_setup(three_senders_with_a_message_each, be_plain),
        cmocka_unit_test_setup(an_owner_that_runs_while_two_send, be_plain),
        cmocka_unit_test_setup(an_owner_that_runs_while_one_sends_in_all_orders, be_plain),
        cmocka_unit_test_setup(chains_arrive_whole_and_in_order, be_plain),
        cmocka_unit_test_setup(detached_messages_are_free_while_the_owner_goes_on, be_plain),
        cmocka_unit_test_setup(a_detached_message_may_be_sent_to_the_same_mailbox, be_plain),
        cmocka_unit_test_setup(claim_and_push_never_both_win, be_plain),
        cmocka_unit_test_setup(many_messages_in_random_orders, be_plain),
        cmocka_unit_test_setup(more_threads_in_random_orders, be_plain),
        cmocka_unit_test_setup(its_orders_are_enough_in_weak_memory, be_plain),
        cmocka_unit_test_setup(every_weaker_order_is_noticed, be_plain),
        cmocka_unit_test_setup(finds_a_push_that_reads_head_before_it_writes, be_plain),
        cmocka_unit_test_setup(finds_a_push_that_asks_before_it_appends, be_plain),
        cmocka_unit_test_setup(finds_a_park_that_ignores_a_failed_cas, be_plain),
        cmocka_unit_test_setup(finds_a_park_that_overwrites_head, be_plain),
        cmocka_unit_test_setup(finds_a_park_that_touches_the_box_again, be_plain),
        cmocka_unit_test_setup(finds_a_detach_that_ignores_a_late_sender, be_plain),
        cmocka_unit_test_setup(finds_a_claim_in_two_steps, be_plain),
        cmocka_unit_test_setup(finds_a_bug_in_random_orders_too, be_plain),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
