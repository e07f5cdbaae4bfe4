/*
 * weak.c - memory in which a load may see an old value, where C11 lets it
 *
 * Problem   In an explorer that runs one step after another, a relaxed store is as good as a release store, and
 *           a fence does nothing. A mistake in an order would never be found.
 * Idea      Every place (an atomic object) keeps its last values, in the order in which they were stored. Every thread
 *           has a view: for each place, the oldest value that it may still see. A load takes any value that is not
 *           older; which one is a decision like that of who is next. Then the view grows:
 *
 *           own store, or load of a value      the view of that place goes up to it (coherence)
 *           release store, RMW                 the value carries the thread's view ...
 *           acquire load, RMW                  ... which becomes part of the reader's
 *           relaxed RMW                        passes on what the value before carried (release sequence)
 *           seq_cst fence                      joins the thread's view with one that all such fences share; a
 *                                              relaxed load before it counts as acquire, a relaxed store behind it as
 *                                              release, of what was known at the fence
 *           seq_cst store, load                go by that shared view for their own place alone
 *           lock, unlock                       acquire, release
 *
 *           A view also has a clock for each thread, so it says what happened before: model_reads() and
 *           model_writes() find plain data that two threads use without an order (a data race).
 *
 * Leaves out    A store becomes the newest value at once: no store is put before one that is already there, so what
 *           needs two threads' stores to two places to be seen in opposite orders (2+2W), or a load that sees a store
 *           which comes later (load buffering), does not occur. RMWs and the kernel see the newest value, as they
 *           must. Only the last VALUES_MAX values can be seen. Stores without an order of their own may
 *           not be seen by anybody late enough to matter to model_wait(), which looks at memory itself.
 * Source    ISO C11 5.1.2.4 and 7.17.3; operational as in J. Kang et al., "A Promising Semantics for Relaxed-Memory
 *           Concurrency", POPL 2017, without promises; B. Norris, B. Demsky, "CDSChecker", OOPSLA 2013.
 */
#include "model.h"

#include <stdio.h>

#include "mailbox/assert.h"

enum {
    PLACES_MAX = 250,
    VALUES_MAX = 6,
    LOCKS_MAX = 16,
    PLAIN_MAX = 64,
    BUCKETS = 1024,
    SITES_MAX = 100
};

/* For each place the number of the oldest value that may be seen; for each thread how far it had come. */
struct view {
    uint16_t seen[MODEL_THREADS + PLACES_MAX];
};

struct value {
    uint64_t raw;
    struct view view; /* what comes with it */
};

struct place {
    const volatile void *at;
    uint16_t oldest, newest;         /* numbers of the values that are kept */
    struct value values[VALUES_MAX]; /* number n is in n % VALUES_MAX */
};

/* A lock's `owner`, or MODEL_THREADS. */
struct lock {
    const void *at;
    unsigned owner;
    struct view view;
};

/* Who used it last, and when by his clock. */
struct plain {
    const void *at;
    unsigned writer;
    uint16_t written, read[MODEL_THREADS];
};

/* An operation with an order, met in file and line. */
struct site {
    const char *file;
    int line;
    memory_order order;
    bool is_fence;
};

static struct {
    struct site sites[SITES_MAX];
    unsigned n_sites;
    bool is_collecting;
} orders;

static struct {
    bool is_weak;
    const struct model_weakening *weakening;
    struct view now[MODEL_THREADS];
    struct view at_fence[MODEL_THREADS]; /* what a relaxed store publishes */
    struct view loaded[MODEL_THREADS];   /* what a fence will acquire */
    struct view total;                   /* of seq_cst */
    bool was_stale[MODEL_THREADS];
    unsigned n_places, n_locks, n_plain;
    uint16_t buckets[BUCKETS]; /* 1 + place */
    struct place places[PLACES_MAX];
    struct lock locks[LOCKS_MAX];
    struct plain plain[PLAIN_MAX];
} memory;

/* ---- views ---- */

static void
join(struct view *view, const struct view *other)
{
    unsigned n = MODEL_THREADS + memory.n_places;

    for (unsigned i = 0; i < n; i++) {
        view->seen[i] = view->seen[i] < other->seen[i] ? other->seen[i] : view->seen[i];
    }
}

static bool
acquires(memory_order order)
{
    return order == memory_order_acquire || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

static bool
releases(memory_order order)
{
    return order == memory_order_release || order == memory_order_acq_rel ||
           order == memory_order_seq_cst;
}

/* ---- orders ---- */

static void
collect(memory_order order, bool is_fence)
{
    const char *file = model_file();
    int line = model_line();

    for (unsigned i = 0; i < orders.n_sites; i++) {
        const struct site *site = &orders.sites[i];

        if (site->line == line && site->is_fence == is_fence && strcmp(site->file, file) == 0) {
            return;
        }
    }
    TRP_ASSERT(orders.n_sites < SITES_MAX);
    orders.sites[orders.n_sites++] = (struct site){ file, line, order, is_fence };
}

/* The order of the operation under way, which is weaker where the model wants that. */
static memory_order
in_force(memory_order order, bool is_fence)
{
    const struct model_weakening *weakening = memory.weakening;

    if (order != memory_order_relaxed && orders.is_collecting) {
        collect(order, is_fence);
    }
    if (weakening && order != memory_order_relaxed && strcmp(weakening->file, model_file()) == 0 &&
        (weakening->line == model_line() ||
         (weakening->line == 0 && order == memory_order_seq_cst))) {
        return weakening->order;
    }
    return order;
}

/* ---- places ---- */

uint64_t
model_peek(const volatile void *at, size_t size)
{
    uint64_t raw = 0;

    memcpy(&raw, (const void *)at, size);
    return raw;
}

void
model_poke(volatile void *at, size_t size, uint64_t raw)
{
    memcpy((void *)at, &raw, size);
}

static struct value *
value_of(struct place *place, unsigned number)
{
    return &place->values[number % VALUES_MAX];
}

static unsigned
seen_of(const struct place *place)
{
    return MODEL_THREADS + (unsigned)(place - memory.places);
}

static struct place *
find_place(const volatile void *at, size_t size)
{
    unsigned i = (unsigned)(((uintptr_t)at >> 1) * 2654435761u >> 7) % BUCKETS;
    struct place *place;

    while (memory.buckets[i] && memory.places[memory.buckets[i] - 1].at != at) {
        i = (i + 1) % BUCKETS;
    }
    if (!memory.buckets[i]) {
        if (memory.n_places == PLACES_MAX) {
            model_fail("more atomic objects than weak.c has places for", __FILE__, __LINE__);
        }
        memory.buckets[i] = (uint16_t)++memory.n_places;
        place = &memory.places[memory.n_places - 1];
        place->at = at;
        place->oldest = place->newest = 0;
        *value_of(place, 0) = (struct value){ .raw = model_peek(at, size) };
        return place;
    }
    place = &memory.places[memory.buckets[i] - 1];
    if (value_of(place, place->newest)->raw !=
        model_peek(at, size)) { /* made anew, by a plain store */
        place->oldest = ++place->newest;
        *value_of(place, place->newest) = (struct value){ .raw = model_peek(at, size) };
    }
    return place;
}

/* The running thread sees this value. */
static void
see(const struct place *place, const struct value *value, unsigned number, memory_order order)
{
    unsigned self = model_self();

    memory.now[self].seen[seen_of(place)] = (uint16_t)number;
    join(acquires(order) ? &memory.now[self] : &memory.loaded[self], &value->view);
}

/* The running thread stores; `before`: the value that an RMW replaces, or NULL. */
static void
append(struct place *place, size_t size, uint64_t raw, memory_order order,
       const struct value *before)
{
    unsigned self = model_self();
    struct view view = releases(order) ? memory.now[self] : memory.at_fence[self];
    struct value *value;

    if (before) {
        join(&view, &before->view);
    }
    TRP_ASSERT(place->newest < UINT16_MAX);
    place->newest++;
    if (place->newest - place->oldest >= VALUES_MAX) {
        place->oldest++;
    }
    value = value_of(place, place->newest);
    value->raw = raw;
    value->view = view;
    value->view.seen[seen_of(place)] = place->newest;
    memory.now[self].seen[seen_of(place)] = place->newest;
    if (order == memory_order_seq_cst) {
        memory.total.seen[seen_of(place)] = place->newest;
    }
    model_poke((volatile void *)place->at, size, raw);
}

/* Which value does the running thread see? Not an old one that equals `*but`. */
static unsigned
choose_value(struct place *place, memory_order order, const uint64_t *but)
{
    unsigned self = model_self(), slot = seen_of(place), from = memory.now[self].seen[slot];
    unsigned outcomes = 1, back;

    if (order == memory_order_seq_cst && from < memory.total.seen[slot]) {
        from = memory.total.seen[slot];
    }
    from = from < place->oldest ? place->oldest : from;
    for (back = 1; back < VALUES_MAX && place->newest >= from + back; back++) {
        if (!but || value_of(place, place->newest - back)->raw != *but) {
            outcomes |= 1u << back;
        }
    }
    back = model_pick(outcomes);
    if (back > 0) {
        memory.was_stale[self] = true;
    }
    return place->newest - back;
}

/* ---- operations ---- */

static bool
is_plain(void)
{
    return !memory.is_weak || model_self() == MODEL_THREADS;
}

uint64_t
model_load(const volatile void *at, size_t size, memory_order order)
{
    struct place *place;
    unsigned number;

    if (is_plain()) {
        return model_peek(at, size);
    }
    order = in_force(order, false);
    place = find_place(at, size);
    number = choose_value(place, order, NULL);
    see(place, value_of(place, number), number, order);
    return value_of(place, number)->raw;
}

void
model_store(volatile void *at, size_t size, uint64_t value, memory_order order)
{
    if (is_plain()) {
        model_poke(at, size, value);
    } else {
        append(find_place(at, size), size, value, in_force(order, false), NULL);
    }
}

static uint64_t
changed(uint64_t was, enum model_change change, uint64_t operand, size_t size)
{
    uint64_t now = operand;

    switch (change) {
    case MODEL_EXCHANGE:
        break;
    case MODEL_ADD:
        now = was + operand;
        break;
    case MODEL_SUB:
        now = was - operand;
        break;
    case MODEL_OR:
        now = was | operand;
        break;
    case MODEL_AND:
        now = was & operand;
    }
    return size < sizeof now ? now & ((UINT64_C(1) << size * 8) - 1) : now;
}

/* Replace the newest value. */
static void
replace(struct place *place, size_t size, uint64_t raw, memory_order order)
{
    struct value before = *value_of(place, place->newest);

    see(place, &before, place->newest, order);
    append(place, size, raw, order, &before);
}

uint64_t
model_modify(volatile void *at, size_t size, enum model_change change, uint64_t operand,
             memory_order order)
{
    uint64_t was = model_peek(at, size), now = changed(was, change, operand, size);

    if (is_plain()) {
        model_poke(at, size, now);
    } else {
        replace(find_place(at, size), size, now, in_force(order, false));
    }
    return was;
}

bool
model_cas(volatile void *at, size_t size, uint64_t *expected, uint64_t value, memory_order order,
          memory_order failure)
{
    uint64_t was = model_peek(at, size);
    struct place *place;
    unsigned number;

    if (is_plain()) {
        if (was != *expected) {
            *expected = was;
            return false;
        }
        model_poke(at, size, value);
        return true;
    }
    order = in_force(order, false);
    failure = acquires(order) ? failure : memory_order_relaxed;
    place = find_place(at, size);
    number = choose_value(place, failure, expected);
    if (value_of(place, number)->raw == *expected) {
        replace(place, size, value, order);
        return true;
    }
    see(place, value_of(place, number), number, failure);
    *expected = value_of(place, number)->raw;
    return false;
}

void
model_fence(memory_order order)
{
    unsigned self = model_self();

    if (is_plain() || (order = in_force(order, true)) == memory_order_relaxed) {
        return;
    }
    join(&memory.now[self], &memory.loaded[self]);
    if (order == memory_order_seq_cst) {
        join(&memory.now[self], &memory.total);
        memory.total = memory.now[self];
    }
    memory.at_fence[self] =
        memory.now[self]; /* the core has no fences but seq_cst and, here, acq_rel */
}

/* ---- plain data ---- */

static struct plain *
find_plain(const void *data)
{
    unsigned i = 0;

    while (i < memory.n_plain && memory.plain[i].at != data) {
        i++;
    }
    if (i == memory.n_plain) {
        if (memory.n_plain == PLAIN_MAX) {
            model_fail("more plain data than weak.c has room for", __FILE__, __LINE__);
        }
        memory.plain[memory.n_plain++] = (struct plain){ .at = data };
    }
    return &memory.plain[i];
}

static void
check_after(unsigned other, uint16_t time)
{
    if (memory.now[model_self()].seen[other] < time) {
        model_fail("a data race: nothing orders this after what another thread did", __FILE__,
                   __LINE__);
    }
}

void
model_reads(const void *data)
{
    unsigned self = model_self();
    struct plain *plain;

    if (is_plain()) {
        return;
    }
    plain = find_plain(data);
    check_after(plain->writer, plain->written);
    plain->read[self] = ++memory.now[self].seen[self];
}

void
model_writes(const void *data)
{
    unsigned self = model_self();
    struct plain *plain;

    if (is_plain()) {
        return;
    }
    plain = find_plain(data);
    check_after(plain->writer, plain->written);
    for (unsigned t = 0; t < MODEL_THREADS; t++) {
        check_after(t, plain->read[t]);
    }
    plain->writer = self;
    plain->written = ++memory.now[self].seen[self];
}

/* ---- locks ---- */

static struct lock *
find_lock(const void *at)
{
    unsigned i = 0;

    while (i < memory.n_locks && memory.locks[i].at != at) {
        i++;
    }
    if (i == memory.n_locks) {
        TRP_ASSERT(i < LOCKS_MAX);
        memory.locks[memory.n_locks++] = (struct lock){ .at = at, .owner = MODEL_THREADS };
    }
    return &memory.locks[i];
}

static bool
is_free(void *context)
{
    return find_lock(context)->owner == MODEL_THREADS;
}

int
model_lock(const void *at)
{
    unsigned self = model_self();
    struct lock *lock;

    if (self == MODEL_THREADS) {
        return 0;
    }
    model_wait(is_free, (void *)at);
    lock = find_lock(at);
    lock->owner = self;
    join(&memory.now[self], &lock->view);
    return 0;
}

int
model_unlock(const void *at)
{
    unsigned self = model_self();
    struct lock *lock;

    if (self == MODEL_THREADS) {
        return 0;
    }
    lock = find_lock(at);
    TRP_ASSERT(lock->owner == self);
    lock->owner = MODEL_THREADS;
    join(&lock->view, &memory.now[self]);
    return 0;
}

/* ---- for the explorer ---- */

void
model_memory_begin(bool is_weak, const struct model_weakening *weakening)
{
    memory.is_weak = is_weak;
    memory.weakening = weakening;
    memory.n_locks = memory.n_plain = 0;
    if (is_weak) {
        memset(memory.now, 0, sizeof memory.now);
        memset(memory.at_fence, 0, sizeof memory.at_fence);
        memset(memory.loaded, 0, sizeof memory.loaded);
        memset(&memory.total, 0, sizeof memory.total);
        memset(memory.was_stale, 0, sizeof memory.was_stale);
        memset(memory.buckets, 0, sizeof memory.buckets);
        memory.n_places = 0;
    }
}

bool
model_memory_was_stale(unsigned thread)
{
    bool was = memory.was_stale[thread];

    memory.was_stale[thread] = false;
    return was;
}

/* ---- what if ---- */

static const char *
name_of(memory_order order)
{
    switch (order) {
    case memory_order_relaxed:
        return "relaxed";
    case memory_order_acquire:
        return "acquire";
    case memory_order_release:
        return "release";
    case memory_order_acq_rel:
        return "acq_rel";
    default:
        return "seq_cst";
    }
}

/* One degree weaker; there may be two ways. How many. */
static unsigned
weaker_than(memory_order order, bool is_fence, memory_order ret_orders[2])
{
    ret_orders[0] = memory_order_relaxed;
    if (order == memory_order_acq_rel) {
        ret_orders[0] = memory_order_acquire;
        ret_orders[1] = memory_order_release;
        return 2;
    }
    if (order == memory_order_seq_cst && !is_fence) {
        ret_orders[0] = memory_order_acq_rel;
    }
    return 1;
}

static bool
is_noticed(const struct model *models, size_t n_models, const struct model_weakening *weakening)
{
    for (size_t i = 0; i < n_models; i++) {
        struct model model = models[i];

        model.weakening = weakening;
        model.is_silent = true;
        if (model_run(&model).failed) {
            return true;
        }
    }
    return false;
}

unsigned
model_weaken_each(const struct model *models, size_t n_models, const char *files,
                  unsigned *ret_weakenings)
{
    unsigned n_unnoticed = 0;

    orders.n_sites = *ret_weakenings = 0;
    orders.is_collecting = true;
    for (size_t i = 0; i < n_models; i++) {
        TRP_ASSERT(!model_run(&models[i]).failed);
    }
    orders.is_collecting = false;
    for (unsigned i = 0; i < orders.n_sites; i++) {
        const struct site *site = &orders.sites[i];
        bool is_fence = site->is_fence;
        memory_order weaker[2];
        unsigned n = weaker_than(site->order, is_fence, weaker);

        if (!strstr(files, site->file)) {
            continue;
        }
        for (unsigned w = 0; w < n; w++) {
            struct model_weakening weakening = { site->file, site->line, weaker[w] };
            bool noticed = is_noticed(models, n_models, &weakening);

            printf("    %s:%d%s %s, made %s: %s\n", site->file, site->line,
                   is_fence ? " fence" : "", name_of(site->order),
                   is_fence ? "nothing" : name_of(weaker[w]), noticed ? "noticed" : "NOT NOTICED");
            ++*ret_weakenings;
            n_unnoticed += !noticed;
        }
    }
    return n_unnoticed;
}
