/*
 * stress_mailbox.c - real threads, real weather
 *
 * Every thread sends to every mailbox, and whoever gets the right to run one does so at once. Nodes
 * come from malloc and are freed as soon as the rules allow, so that a sanitizer sees who is late. In
 * the end all that was sent was received, in order for each sender. TRP_SEED=n repeats the decisions,
 * though not the timing.
 */
#include "mailbox/mailbox.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { THREADS = 4, BOXES = 3, MESSAGES = 600000 };

struct letter {
    trp_node node;
    unsigned sender;
    uint32_t number; /* from 1, for each sender and mailbox */
};

/* A mailbox and what belongs to whoever has the right to run it: plain memory, so that the thread
 * sanitizer sees a hand-over that does not synchronise. */
struct office {
    alignas(TRP_CACHELINE) trp_mailbox box;
    uint32_t seen[THREADS];
    uint64_t n_received, n_disorders, n_runs, n_parks;
    uint64_t random;
    bool is_running;
};

static struct office offices[BOXES];
static pthread_barrier_t start;
static uint64_t seed;
static uint64_t n_sent[THREADS]; /* each written by its thread, read after the join */

static uint32_t
draw(uint64_t *state)
{
    *state ^= *state << 13; /* xorshift64 */
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 32);
}

static struct letter *
new_letter(unsigned sender, uint32_t number)
{
    struct letter *letter = malloc(sizeof *letter);

    if (!letter) {
        abort();
    }
    *letter = (struct letter){ .sender = sender, .number = number };
    return letter;
}

static void
receive(struct office *office, const struct letter *letter)
{
    office->n_disorders += letter->number != office->seen[letter->sender] + 1;
    office->seen[letter->sender] = letter->number;
    office->n_received++;
}

/* Handle one letter; returns it while it is the list's end. */
static struct letter *
handle(struct office *office, trp_node *node)
{
    struct letter *letter = TRP_CONTAINER_OF(node, struct letter, node);

    receive(office, letter);
    if (draw(&office->random) % 4 == 0) {
        while (!trp_mailbox_detach(&office->box)) {
            sched_yield(); /* the sender behind it will go on */
        }
        free(letter);
        return NULL;
    }
    return letter;
}

/* We have the right: run until parked. */
static void
run_office(struct office *office)
{
    struct letter *end = NULL;
    trp_node *node;

    office->n_disorders += office->is_running;
    office->is_running = true;
    office->n_runs++;
    for (;;) {
        switch (trp_mailbox_next(&office->box, &node)) {
        case TRP_NEXT_NODE:
            free(end);
            end = handle(office, node);
            break;
        case TRP_NEXT_SOON:
            sched_yield();
            break;
        case TRP_NEXT_EMPTY:
            office->is_running = false;
            office->n_parks++;
            if (trp_mailbox_park(&office->box)) {
                free(end);
                return;
            }
            office->n_parks--;
            office->is_running = true;
        }
    }
}

/* Send one letter, or a chain of three. Returns how many. */
static uint32_t
send_some(struct office *office, unsigned self, uint32_t *number, bool is_chain)
{
    struct letter *first = new_letter(self, ++*number), *last = first;
    uint32_t n = 1;

    for (; is_chain && n < 3; n++) {
        struct letter *next = new_letter(self, ++*number);

        trp_store_relaxed(&last->node.next, &next->node); /* private until the push */
        last = next;
    }
    if (trp_mailbox_push_chain(&office->box, &first->node, &last->node)) {
        run_office(office);
    }
    return n;
}

static void *
send_letters(void *argument)
{
    unsigned self = *(const unsigned *)argument;
    uint64_t random = (seed + self) * 2 + 1;
    uint32_t numbers[BOXES] = { 0 };

    pthread_barrier_wait(&start);
    while (n_sent[self] < MESSAGES) {
        uint32_t chance = draw(&random);
        unsigned to = chance % BOXES;

        if (chance >> 8 & 1 && trp_mailbox_claim(&offices[to].box)) {
            run_office(&offices[to]);
        }
        n_sent[self] += send_some(&offices[to], self, &numbers[to], (chance >> 9) % 8 == 0);
    }
    return NULL;
}

static void
all_letters_arrive_once_and_in_order(void **state)
{
    const char *wanted = getenv("TRP_SEED");
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    uint64_t sent = 0, received = 0, runs = 0;

    seed = wanted ? strtoull(wanted, NULL, 0) : (uint64_t)time(NULL);
    print_message("  TRP_SEED=%llu\n", (unsigned long long)seed);
    for (unsigned i = 0; i < BOXES; i++) {
        offices[i].random = seed * 2 + 3 + i * 2;
        trp_mailbox_init(&offices[i].box);
        assert_true(trp_mailbox_park(&offices[i].box));
    }
    pthread_barrier_init(&start, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, send_letters, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        sent += n_sent[i];
    }
    pthread_barrier_destroy(&start);

    for (unsigned i = 0; i < BOXES; i++) {
        assert_true(trp_mailbox_claim(&offices[i].box)); /* parked, all of them */
        assert_true(trp_mailbox_is_empty(&offices[i].box));
        assert_int_equal(offices[i].n_disorders, 0);
        assert_int_equal(offices[i].n_runs, offices[i].n_parks);
        received += offices[i].n_received;
        runs += offices[i].n_runs;
    }
    print_message("  sent %llu, received %llu, in %llu runs\n", (unsigned long long)sent,
                  (unsigned long long)received, (unsigned long long)runs);
    assert_int_equal(sent, received);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_letters_arrive_once_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
