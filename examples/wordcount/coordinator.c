/*
 * coordinator.c - gives the chunks away, has those of the dead counted again, and adds up what comes back
 *
 * Problem   A process may die at any moment, with chunks in it: half counted, counted and not yet told, or just told.
 * Idea      A chunk is a question. Exactly one message comes for it: what was counted, all of it in one message, or
 *           that nobody will answer; then it is asked again, of somebody else. Only an answer is added to the result.
 *           So a chunk is in the result once, whoever dies when.
 * Bounded   Each counter has COUNTER_WINDOW chunks, and a few more wait here: what must be remembered for the case that
 *           somebody dies. The walker is asked for more when those become few.
 */
#include "coordinator.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "counter.h"
#include "messages.h"
#include "screen.h"
#include "walker.h"
#include "words.h"

enum {
    PREFETCH = 4,  /* chunks asked of the walker ahead */
    TRIES_MAX = 5, /* of one chunk, see are_too_many() */
    ANSWER_MS = 120000,
    SPAWN_MS = 10000,
    RETRY_MS = 50, /* until somebody is spawned again in a process that died, and how often */
    RETRIES_MAX = 200,
    SHOW_MS = 200,
    PROBLEMS_SHOWN = 10,
};

TROUPE_SIGNAL(begin);
TROUPE_SIGNAL(show);
#define RETRY(field, T) field(T, u32, counter)
TROUPE_MESSAGE(retry, RETRY);

/* A process that counts. */
struct place {
    share share;
    bool is_down; /* and that was said */
};

enum state { AWAY, COMING, READY, LOST, GIVEN_UP };

struct counter {
    unsigned place;
    enum state state; /* LOST: it does not answer, and its end is told in a moment */
    troupe_ref ref;   /* when READY or LOST */
    uint64_t request; /* when COMING */
    unsigned open;    /* chunks that it has */
    unsigned retries;
};

/* Something to be counted. */
struct part {
    troupe_blob *slices; /* ours; NULL: none */
    uint64_t bytes;
    unsigned tries;
};

/* A chunk that somebody has. */
struct task {
    uint64_t request; /* 0: free */
    struct part part;
    struct counter *counter;
    troupe_ref ref; /* of the one that was there then */
};

struct coordinator {
    const struct job *job;
    troupe_ref boss, screen, walker;
    struct place *places;
    struct counter *counters;
    struct task *tasks;
    struct part *waiting; /* the last one goes first */
    unsigned n_places, n_counters, n_tasks, n_waiting, n_open;
    unsigned asked; /* of the walker, and not answered */
    uint64_t sizing;
    bool is_walked, is_killed;
    struct words *words;
    uint64_t total; /* bytes there are; 0: not known yet */
    finished sum;
    struct timespec began;
};

/* ---- small things ---- */

static uint64_t
elapsed_ms(const struct coordinator *all)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)((now.tv_sec - all->began.tv_sec) * 1000 +
                      (now.tv_nsec - all->began.tv_nsec) / 1000000);
}

static unsigned
count_ready(const struct coordinator *all)
{
    unsigned n = 0;

    for (unsigned i = 0; i < all->n_counters; i++) {
        n += all->counters[i].state == READY;
    }
    return n;
}

static struct task *
find_task(struct coordinator *all, uint64_t request)
{
    for (unsigned i = 0; i < all->n_tasks; i++) {
        if (all->tasks[i].request == request) {
            return &all->tasks[i];
        }
    }
    return NULL;
}

static struct counter *
find_coming(struct coordinator *all, uint64_t request)
{
    for (unsigned i = 0; i < all->n_counters; i++) {
        if (all->counters[i].state == COMING && all->counters[i].request == request) {
            return &all->counters[i];
        }
    }
    return NULL;
}

/* One file, or directory, that could not be read. */
static void
note_problem(troupe_self *self, const char *path, size_t size, int code)
{
    struct coordinator *all = troupe_state(self);

    if (++all->sum.problems <= PROBLEMS_SHOWN) {
        screen_say(self, all->screen, "%.*s: %s (skipped)", (int)size, path, strerror(code));
    }
}

/* ---- giving work away ---- */

/* Who has the fewest chunks, and room for another; NULL: nobody. */
static struct counter *
choose_counter(struct coordinator *all)
{
    struct counter *best = NULL;

    for (unsigned i = 0; i < all->n_counters; i++) {
        struct counter *counter = &all->counters[i];

        if (counter->state == READY && counter->open < COUNTER_WINDOW &&
            (!best || counter->open < best->open)) {
            best = counter;
        }
    }
    return best;
}

static bool
give(troupe_self *self, struct coordinator *all, struct counter *counter, struct part part)
{
    chunk ask = { .bytes = part.bytes, .slices = troupe_blob_keep(part.slices) };
    struct task *task = find_task(all, 0);

    task->request = troupe_ask_value(self, counter->ref, ANSWER_MS, chunk, &ask);
    if (task->request == 0) {
        troupe_blob_release(ask.slices);
        troupe_fail(self, -troupe_last_error().code, "%s", troupe_last_error().text);
        return false;
    }
    part.tries++;
    task->part = part;
    task->counter = counter;
    task->ref = counter->ref;
    counter->open++;
    all->n_open++;
    return true;
}

static void
tell_progress(troupe_self *self, const struct coordinator *all)
{
    troupe_send(self, all->screen, shown, .bytes = all->sum.bytes, .total = all->total,
                .files = all->sum.files, .counters = count_ready(all),
                .elapsed_ms = elapsed_ms(all));
}

/* All is counted: say so, and end. */
static void
conclude(troupe_self *self, struct coordinator *all)
{
    finished *sum = &all->sum;

    tell_progress(self, all);
    for (unsigned i = 0; i < all->n_places; i++) {
        troupe_send_value(self, all->boss, share, &all->places[i].share);
    }
    if (sum->problems > PROBLEMS_SHOWN) {
        screen_say(self, all->screen, "and %" PRIu64 " more that could not be read",
                   sum->problems - PROBLEMS_SHOWN);
    }
    if (all->job->kill_one && !all->is_killed) {
        screen_say(self, all->screen, "nobody was killed: there was too little to do");
    }
    sum->elapsed_ms = elapsed_ms(all);
    sum->words = troupe_blob_new(self, words_packed_size(all->words));
    if (!sum->words) {
        troupe_fail(self, ENOMEM, "%s", troupe_last_error().text);
        return;
    }
    words_pack(all->words, troupe_blob_edit(sum->words));
    if (troupe_send_value(self, all->boss, finished, sum) < 0) {
        troupe_blob_release(sum->words);
    }
    troupe_exit(self);
}

/* Whatever can be done now. */
static void
go_on(troupe_self *self)
{
    struct coordinator *all = troupe_state(self);
    struct counter *counter;

    while (all->n_waiting > 0 && (counter = choose_counter(all)) != NULL) {
        if (!give(self, all, counter, all->waiting[all->n_waiting - 1])) {
            return;
        }
        all->n_waiting--;
    }
    while (!all->is_walked && all->n_waiting + all->asked < PREFETCH) {
        if (troupe_ask(self, all->walker, TROUPE_FOREVER, next_chunk) == 0) {
            troupe_fail(self, -troupe_last_error().code, "%s", troupe_last_error().text);
            return;
        }
        all->asked++;
    }
    if (all->is_walked && all->asked == 0 && all->n_waiting == 0 && all->n_open == 0) {
        conclude(self, all);
    }
}

/* The walker has found something, or no more. */
static void
on_chunk(troupe_self *self, troupe_msg *msg)
{
    const chunk *body = troupe_body(msg, chunk);
    struct coordinator *all = troupe_state(self);

    all->asked--;
    if (troupe_blob_size(body->slices) == 0) {
        all->is_walked = true;
    } else {
        all->waiting[all->n_waiting++] =
            (struct part){ .slices = troupe_blob_keep(body->slices), .bytes = body->bytes };
    }
    go_on(self);
}

/* ---- taking results ---- */

/* In the middle, somebody who has something to lose. */
static void
kill_somebody(struct coordinator *all)
{
    if (!all->job->kill_one || all->is_killed || all->total == 0 ||
        all->sum.bytes < all->total / 3) {
        return;
    }
    for (unsigned i = 0; i < all->n_tasks && !all->is_killed; i++) {
        const struct task *task = &all->tasks[i];
        int64_t pid = task->request ? all->places[task->counter->place].share.pid : 0;

        if (pid > 0 && kill((pid_t)pid, SIGKILL) == 0) {
            all->is_killed = true;
        }
    }
}

/* Nobody has this chunk any more. */
static struct part
take_back(struct coordinator *all, struct task *task)
{
    struct part part = task->part;

    task->request = 0;
    task->counter->open--;
    all->n_open--;
    return part;
}

static void
note_problems(troupe_self *self, const troupe_blob *problems)
{
    const char *at = troupe_blob_data(problems), *end = at + troupe_blob_size(problems);
    int32_t code;

    while (end - at > (ptrdiff_t)sizeof code) {
        size_t size = strnlen(at + sizeof code, (size_t)(end - at) - sizeof code);

        memcpy(&code, at, sizeof code);
        note_problem(self, at + sizeof code, size, code);
        at += sizeof code + size + 1;
    }
}

static void
on_counted(troupe_self *self, troupe_msg *msg)
{
    const counted *body = troupe_body(msg, counted);
    struct coordinator *all = troupe_state(self);
    struct task *task = find_task(all, troupe_request(msg));
    share *done = task ? &all->places[task->counter->place].share : NULL;
    int rc;

    if (!task) {
        return; /* none of ours */
    }
    troupe_blob_release(take_back(all, task).slices);
    rc = words_add_packed(all->words, troupe_blob_data(body->words), troupe_blob_size(body->words));
    if (rc < 0) {
        troupe_fail(self, -rc, "what %s has counted cannot be added: %s", done->node,
                    strerror(-rc));
        return;
    }
    note_problems(self, body->problems);
    all->sum.chunks++;
    all->sum.bytes += body->bytes;
    all->sum.files += body->files;
    done->pid = body->pid;
    done->chunks++;
    done->bytes += body->bytes;
    done->files += body->files;
    kill_somebody(all);
    go_on(self);
}

/* ---- counters come and go ---- */

static void
retry_later(troupe_self *self, struct coordinator *all, struct counter *counter)
{
    counter->state = AWAY;
    if (++counter->retries <= RETRIES_MAX) {
        troupe_send_after(self, troupe_self_ref(self), RETRY_MS, retry,
                          .counter = (uint32_t)(counter - all->counters));
        return;
    }
    counter->state = GIVEN_UP;
    screen_say(self, all->screen, "no counter in %s: %s", all->places[counter->place].share.node,
               troupe_last_error().text);
    for (unsigned i = 0; i < all->n_counters; i++) {
        if (all->counters[i].state != GIVEN_UP) {
            return; /* somebody is left */
        }
    }
    troupe_fail(self, ECHILD, "nobody is left to count");
}

static void
send_for(troupe_self *self, struct coordinator *all, struct counter *counter)
{
    counter->request = troupe_spawn_on_later(self, all->places[counter->place].share.node, SPAWN_MS,
                                             &counter_behavior);
    counter->state = COMING;
    if (counter->request == 0) {
        retry_later(self, all, counter);
    }
}

static void
on_retry(troupe_self *self, troupe_msg *msg)
{
    struct coordinator *all = troupe_state(self);

    send_for(self, all, &all->counters[troupe_body(msg, retry)->counter]);
}

static void
on_spawned(troupe_self *self, troupe_msg *msg)
{
    const troupe_spawned *body = troupe_body(msg, troupe_spawned);
    struct coordinator *all = troupe_state(self);
    struct counter *counter = find_coming(all, troupe_request(msg));

    if (!counter) {
        return;
    }
    if (troupe_is_nobody(body->who) || troupe_monitor(self, body->who) == 0) {
        retry_later(self, all, counter);
        return;
    }
    counter->ref = body->who;
    counter->state = READY;
    counter->retries = 0;
    all->places[counter->place].is_down = false;
    go_on(self);
}

/* A counter has ended, or its process. Its chunks come back by a troupe_unanswered each. */
static void
on_down(troupe_self *self, troupe_msg *msg)
{
    const troupe_down *body = troupe_body(msg, troupe_down);
    struct coordinator *all = troupe_state(self);

    for (unsigned i = 0; i < all->n_counters; i++) {
        struct counter *counter = &all->counters[i];
        struct place *place = &all->places[counter->place];

        if ((counter->state != READY && counter->state != LOST) ||
            !troupe_ref_equal(counter->ref, body->who)) {
            continue;
        }
        if (!place->is_down) {
            place->is_down = true;
            place->share.deaths++;
            screen_say(self, all->screen, "%s; what it had is counted again",
                       body->text[0] ? body->text : troupe_reason_name(body->reason));
        }
        retry_later(self, all, counter);
        return;
    }
}

/* Then it is the chunk that kills. Every counter there is may have been dead already when it was given the chunk. */
static bool
are_too_many(const struct coordinator *all, unsigned tries)
{
    return tries >= TRIES_MAX + all->n_counters;
}

/* A chunk comes back uncounted, or nobody could be spawned in time. */
static void
on_unanswered(troupe_self *self, troupe_msg *msg)
{
    const troupe_unanswered *body = troupe_body(msg, troupe_unanswered);
    struct coordinator *all = troupe_state(self);
    struct task *task = find_task(all, body->request);
    struct counter *coming = find_coming(all, body->request);

    if (body->request == all->sizing) {
        return; /* a progress line without per cent will do */
    }
    if (coming) {
        retry_later(self, all, coming);
    } else if (task) {
        if (task->counter->state == READY && troupe_ref_equal(task->ref, task->counter->ref)) {
            task->counter->state = LOST;
        }
        if (body->code == -ETIMEDOUT) {
            troupe_kill(self, task->ref);
        }
        if (are_too_many(all, task->part.tries)) {
            troupe_fail(self, EIO, "%u times nobody lived to tell what is in a chunk",
                        task->part.tries);
            return;
        }
        all->sum.redone++;
        all->waiting[all->n_waiting++] = take_back(all, task);
        go_on(self);
    } else {
        troupe_fail(self, EIO, "the walker has ended: %s", troupe_strerror(body->code));
    }
}

/* ---- for people ---- */

static void
on_problem(troupe_self *self, troupe_msg *msg)
{
    size_t size;
    const char *path = troupe_tail(msg, &size);

    note_problem(self, path, size, troupe_body(msg, problem)->code);
}

static void
on_sized(troupe_self *self, troupe_msg *msg)
{
    struct coordinator *all = troupe_state(self);

    all->total = troupe_body(msg, sized)->bytes;
}

static void
on_show(troupe_self *self, troupe_msg *msg)
{
    tell_progress(self, troupe_state(self));
}

/* ---- its life ---- */

static void
name_places(troupe_self *self, struct coordinator *all)
{
    for (unsigned i = 0; i < all->n_places; i++) {
        share *did = &all->places[i].share;

        if (all->job->processes == 0) {
            snprintf(did->node, sizeof did->node, "%s", troupe_node_name(self));
        } else {
            snprintf(did->node, sizeof did->node, "%s-%u", troupe_node_name(self), i + 1);
        }
    }
    for (unsigned i = 0; i < all->n_counters; i++) {
        all->counters[i].place = i % all->n_places;
    }
}

static void
coordinator_stop(troupe_self *self)
{
    struct coordinator *all = troupe_state(self);

    for (unsigned i = 0; i < all->n_tasks; i++) {
        if (all->tasks[i].request != 0) {
            troupe_blob_release(all->tasks[i].part.slices);
        }
    }
    for (unsigned i = 0; i < all->n_waiting; i++) {
        troupe_blob_release(all->waiting[i].slices);
    }
    troupe_kill(self, all->walker);
    words_free(all->words);
    free(all->places);
    free(all->counters);
    free(all->tasks);
    free(all->waiting);
}

static int
coordinator_init(troupe_self *self, const void *args)
{
    const struct coordinator_args *given = args;
    struct coordinator *all = troupe_state(self);
    const struct job *job = given->job;
    struct walk walk = { job->paths, job->skip, job->chunk_bytes, troupe_self_ref(self) };
    int rc;

    *all = (struct coordinator){ .job = job, .boss = given->boss, .screen = given->screen };
    all->n_places = job->processes ? job->processes : 1;
    all->n_counters = all->n_places * job->threads;
    all->n_tasks = all->n_counters * COUNTER_WINDOW;
    all->places = calloc(all->n_places, sizeof *all->places);
    all->counters = calloc(all->n_counters, sizeof *all->counters);
    all->tasks = calloc(all->n_tasks, sizeof *all->tasks);
    all->waiting = calloc(all->n_tasks + PREFETCH, sizeof *all->waiting);
    all->words = words_new();
    all->walker = troupe_spawn_with(self, &walker_behavior, .args = &walk, .args_size = sizeof walk,
                                    .own_thread = true);
    if (troupe_is_nobody(all->walker)) {
        rc = troupe_last_error().code;
    } else if (!all->places || !all->counters || !all->tasks || !all->waiting || !all->words) {
        rc = -ENOMEM;
    } else {
        name_places(self, all);
        rc = troupe_send(self, troupe_self_ref(self), begin);
    }
    if (rc < 0) {
        all->n_tasks = 0;
        coordinator_stop(self);
    }
    return rc;
}

static void
on_begin(troupe_self *self, troupe_msg *msg)
{
    struct coordinator *all = troupe_state(self);
    struct walk walk = { .paths = all->job->paths, .skip = all->job->skip };

    clock_gettime(CLOCK_MONOTONIC, &all->began);
    if (all->job->shows_progress || all->job->kill_one) {
        all->sizing = troupe_offload(self, &(troupe_work){ .function = size_up,
                                                           .args = &walk,
                                                           .args_size = sizeof walk,
                                                           .name = "size_up" });
        troupe_send_every(self, troupe_self_ref(self), SHOW_MS, show);
    }
    for (unsigned i = 0; i < all->n_counters; i++) {
        send_for(self, all, &all->counters[i]);
    }
    go_on(self);
}

const troupe_behavior coordinator_behavior = {
    .name = "coordinator",
    .state_size = sizeof(struct coordinator),
    .init = coordinator_init,
    .stop = coordinator_stop,
    .handlers = TROUPE_HANDLERS(
        TROUPE_ON(begin, on_begin), TROUPE_ON(chunk, on_chunk), TROUPE_ON(counted, on_counted),
        TROUPE_ON(troupe_spawned, on_spawned), TROUPE_ON(troupe_down, on_down),
        TROUPE_ON(troupe_unanswered, on_unanswered), TROUPE_ON(retry, on_retry),
        TROUPE_ON(problem, on_problem), TROUPE_ON(sized, on_sized), TROUPE_ON(show, on_show)),
};
