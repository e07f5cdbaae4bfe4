/*
 * model.c - the explorer: one execution, and the search through all of them
 *
 * An execution: every thread runs to its first point. Then, at each point, `choose` says who takes
 * the next step, a step being all from one point to the next. It runs on the stack of the thread
 * that reached the point, so staying with that thread costs no switch.
 *
 * The search: a decision is a choice among several threads. Decisions are kept in order, each with
 * the threads not tried yet; after an execution the last one that has such gets the next of them, and
 * those behind it are forgotten. The next execution repeats the decisions kept and then prefers the
 * thread that is running.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "mailbox/assert.h"

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_STACK_REGISTER(start, end) 0
#define VALGRIND_STACK_DEREGISTER(id)       ((void)(id))
#endif

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

enum { STACK_SIZE = 128 << 10, NOBODY = MODEL_THREADS };

enum condition {
    READY,
    YIELDED, /* until somebody else makes a step */
    WAITING, /* until ready(context) */
    ENDED,
};

struct thread {
    ucontext_t context;
    enum condition condition;
    bool (*ready)(void *context);
    void *ready_context;
    const char *file; /* the point it is at */
    int line;
    uint32_t n_steps;      /* made by it */
    uint32_t others_steps; /* made by the others when it yielded last */
    uint32_t priority;     /* PCT: larger runs first */
};

struct step {
    const char *file;
    int line;
    uint8_t thread;
};

struct decision {
    uint8_t chosen;
    uint8_t untried; /* bit t: thread t could have been chosen, and was not yet */
};

static struct {
    const struct model *model;
    struct model_result result;
    char *stacks;
    ucontext_t main; /* the caller of model_run ... */
    ucontext_t root; /* ... its coroutine, in which setup and check run */

    /* this execution */
    struct thread threads[MODEL_THREADS];
    unsigned n_threads;
    unsigned running; /* or NOBODY */
    bool starting;    /* threads return to the root at their first point */
    int preemptions_left;
    struct step steps[MODEL_STEPS];
    uint32_t n_steps;
    uint32_t n_made; /* decisions made */

    /* the search */
    struct decision decisions[2 * MODEL_STEPS]; /* a yield is a decision without a step */
    uint32_t n_decisions;

    /* random runs */
    uint64_t random;
    uint32_t changes[16]; /* steps at which the running thread drops to the lowest priority */
    uint32_t n_changes;
    uint32_t lowest;
} explorer;

/* ---- failure ---- */

static const char *
base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

/* The steps made so far as "a3 b1 a2". */
static void
write_schedule(void)
{
    char *out = explorer.result.schedule;
    size_t room = sizeof explorer.result.schedule;

    *out = '\0';
    for (uint32_t i = 0, run; i < explorer.n_steps; i += run) {
        int n;

        for (run = 1; i + run < explorer.n_steps; run++) {
            if (explorer.steps[i + run].thread != explorer.steps[i].thread) {
                break;
            }
        }
        n = snprintf(out, room, "%s%c%u", i ? " " : "", 'a' + explorer.steps[i].thread, run);
        if (n < 0 || (size_t)n >= room) {
            return;
        }
        out += n;
        room -= (size_t)n;
    }
}

static void
note_failure(const char *complaint, const char *file, int line)
{
    explorer.result.failed = true;
    snprintf(explorer.result.complaint, sizeof explorer.result.complaint, "%s (%s:%d)", complaint,
             base_name(file), line);
    write_schedule();
}

static void
print_failure(void)
{
    const struct model_result *result = &explorer.result;

    if (!explorer.model->quiet) {
        uint32_t i = explorer.n_steps > 100 ? explorer.n_steps - 100 : 0;

        for (; i < explorer.n_steps; i++) {
            const struct step *step = &explorer.steps[i];

            printf("    %4u  %c  %s:%d\n", i + 1, 'a' + step->thread, base_name(step->file),
                   step->line);
        }
    }
    printf("    %s\n    execution %llu, .replay = \"%s\"\n", result->complaint,
           (unsigned long long)result->executions, result->schedule);
}

void
model_fail(const char *complaint, const char *file, int line)
{
    if (!explorer.result.failed) {
        note_failure(complaint, file, line);
    }
    setcontext(&explorer.main); /* the threads are left where they are */
    abort();
}

/* What TRP_ASSERT calls: a broken invariant is a finding. */
void
trp_assert_failed(const char *condition, const char *file, int line)
{
    char text[120];

    snprintf(text, sizeof text, "broken invariant `%s`", condition);
    model_fail(text, file, line);
}

/* ---- choosing ---- */

static bool
is_enabled(const struct thread *thread)
{
    return thread->condition == READY ||
           (thread->condition == WAITING && thread->ready(thread->ready_context));
}

static unsigned
enabled_threads(void)
{
    unsigned enabled = 0;

    for (unsigned t = 0; t < explorer.n_threads; t++) {
        enabled |= is_enabled(&explorer.threads[t]) ? 1u << t : 0;
    }
    return enabled;
}

/* The thread that `replay` wants for the next step; NOBODY: the schedule is over. */
static unsigned
replayed(void)
{
    const char *at = explorer.model->replay;
    uint32_t step = 0;
    char name;
    unsigned run;
    int used;

    while (sscanf(at, " %c%u%n", &name, &run, &used) == 2) {
        step += run;
        if (explorer.n_steps < step) {
            return (unsigned)(name - 'a');
        }
        at += used;
    }
    return NOBODY;
}

static unsigned
next_random(unsigned limit)
{
    explorer.random ^= explorer.random << 13; /* xorshift64 */
    explorer.random ^= explorer.random >> 7;
    explorer.random ^= explorer.random << 17;
    return (unsigned)((explorer.random >> 20) % limit);
}

static unsigned
choose_by_priority(unsigned enabled)
{
    unsigned best = (unsigned)__builtin_ctz(enabled);

    for (uint32_t i = 0; i < explorer.n_changes; i++) {
        if (explorer.changes[i] == explorer.n_steps && explorer.running != NOBODY) {
            explorer.threads[explorer.running].priority = explorer.lowest--;
        }
    }
    for (unsigned t = best + 1; t < explorer.n_threads; t++) {
        if (enabled & 1u << t && explorer.threads[t].priority > explorer.threads[best].priority) {
            best = t;
        }
    }
    return best;
}

/* The next of the depth-first search: repeat a decision, or make one. */
static unsigned
choose_in_order(unsigned enabled)
{
    bool can_stay = explorer.running != NOBODY && enabled & 1u << explorer.running;
    unsigned prefer = can_stay ? explorer.running : (unsigned)__builtin_ctz(enabled);
    struct decision *decision = &explorer.decisions[explorer.n_made];

    if (can_stay && explorer.preemptions_left == 0) {
        return prefer;
    }
    if ((enabled & (enabled - 1)) == 0) {
        return prefer; /* there is only this one */
    }
    TRP_ASSERT(explorer.n_made < TRP_COUNT(explorer.decisions));
    if (explorer.n_made == explorer.n_decisions) {
        decision->chosen = (uint8_t)prefer;
        decision->untried = (uint8_t)(enabled & ~(1u << prefer));
        explorer.n_decisions++;
    }
    explorer.n_made++;
    if (!(enabled & 1u << decision->chosen)) {
        model_fail("the model is not deterministic", __FILE__, __LINE__);
    }
    if (can_stay && decision->chosen != explorer.running) {
        explorer.preemptions_left--;
    }
    return decision->chosen;
}

/* Who takes the next step? NOBODY: all have ended. */
static unsigned
choose(void)
{
    unsigned enabled = enabled_threads();
    unsigned wanted;

    if (!enabled) {
        for (unsigned t = 0; t < explorer.n_threads; t++) {
            if (explorer.threads[t].condition != ENDED) {
                model_fail("nobody can go on", explorer.threads[t].file, explorer.threads[t].line);
            }
        }
        return NOBODY;
    }
    if (explorer.model->replay) {
        wanted = replayed();
        if (wanted == NOBODY) { /* its last step was the last before the failure */
            return enabled & 1u << explorer.running ? explorer.running
                                                    : (unsigned)__builtin_ctz(enabled);
        }
        if (wanted > NOBODY || !(enabled & 1u << wanted)) {
            model_fail("the schedule to replay does not fit", __FILE__, __LINE__);
        }
        return wanted;
    }
    return explorer.model->random_runs ? choose_by_priority(enabled) : choose_in_order(enabled);
}

/* ---- one execution ---- */

/* Leave the running thread for `next`, or for the root when all have ended. */
static void
switch_to(unsigned next)
{
    struct thread *old = &explorer.threads[explorer.running];

    if (next == explorer.running) {
        return;
    }
    explorer.running = next;
    swapcontext(&old->context, next == NOBODY ? &explorer.root : &explorer.threads[next].context);
}

/* The running thread is at a point, waits or has ended. Returns when it is its turn. */
static void
let_others_go(void)
{
    struct thread *self = &explorer.threads[explorer.running];

    if (explorer.starting) {
        swapcontext(&self->context, &explorer.root);
        return;
    }
    switch_to(choose());
}

/* The running thread takes its step. */
static void
begin_step(void)
{
    struct thread *self = &explorer.threads[explorer.running];

    self->n_steps++;
    if (explorer.n_steps == MODEL_STEPS) {
        model_fail("an execution without end", self->file, self->line);
    }
    explorer.steps[explorer.n_steps++] =
        (struct step){ self->file, self->line, (uint8_t)explorer.running };
    for (unsigned t = 0; t < explorer.n_threads; t++) {
        if (t != explorer.running && explorer.threads[t].condition == YIELDED) {
            explorer.threads[t].condition = READY;
        }
    }
}

void
model_point(const char *file, int line)
{
    struct thread *self = &explorer.threads[explorer.running];

    if (explorer.running == NOBODY) {
        return; /* setup, check, teardown */
    }
    self->file = file;
    self->line = line;
    let_others_go();
    begin_step();
}

/* The point of code that was compiled without this header. */
void
trp_model_point(void)
{
    model_point("?", 0);
}

void
model_yield(void)
{
    struct thread *self = &explorer.threads[explorer.running];
    uint32_t others_steps = explorer.n_steps - self->n_steps;

    /* A step that came between the caller's look and this call must not be waited for again. It came
     * after the last yield, so in that case the caller looks once more before it waits. */
    if (others_steps == self->others_steps) {
        self->condition = YIELDED;
        self->priority = explorer.lowest--; /* PCT: let others go first */
        let_others_go();
    }
    self->others_steps = others_steps;
}

void
model_wait(bool (*ready)(void *context), void *context)
{
    struct thread *self = &explorer.threads[explorer.running];

    self->ready = ready;
    self->ready_context = context;
    self->condition = WAITING;
    let_others_go();
    self->condition = READY;
}

unsigned
model_self(void)
{
    return explorer.running;
}

/* The bottom of every thread's stack. */
static void
run_thread(void)
{
    unsigned self = explorer.running;

    explorer.model->threads[self]();
    explorer.threads[self].condition = ENDED;
    let_others_go();
}

static void
make_coroutine(ucontext_t *context, unsigned stack, void (*entry)(void))
{
    getcontext(context);
    context->uc_stack.ss_sp = explorer.stacks + (size_t)stack * STACK_SIZE;
    context->uc_stack.ss_size = STACK_SIZE;
    context->uc_link = &explorer.main; /* where the root returns to; threads never return */
    makecontext(context, entry, 0);
}

/* Let thread `t` run to its first point. */
static void
start_thread(unsigned t)
{
    struct thread *thread = &explorer.threads[t];

    memset(thread, 0, sizeof *thread);
    thread->file = "(start)";
    make_coroutine(&thread->context, t, run_thread);
    explorer.running = t;
    swapcontext(&explorer.root, &thread->context);
    explorer.running = NOBODY;
}

/* Prepare a PCT run: distinct priorities in random order, and the steps at which they change. */
static void
draw_priorities(void)
{
    uint32_t longest = explorer.result.longest ? explorer.result.longest : 20;

    explorer.lowest = 1u << 30;
    for (unsigned t = 0; t < explorer.n_threads; t++) {
        unsigned with = next_random(t + 1);

        explorer.threads[t].priority = explorer.threads[with].priority;
        explorer.threads[with].priority = explorer.lowest + 1 + t;
    }
    for (uint32_t i = 0; i < explorer.n_changes; i++) {
        explorer.changes[i] = next_random(longest);
    }
}

/* The coroutine of an execution; a failure leaves it, from any thread, by model_fail. */
static void
run_root(void)
{
    explorer.model->setup();
    explorer.starting = true;
    for (unsigned t = 0; t < explorer.n_threads; t++) {
        start_thread(t);
    }
    explorer.starting = false;
    draw_priorities();
    explorer.running = choose();
    if (explorer.running != NOBODY) {
        swapcontext(&explorer.root, &explorer.threads[explorer.running].context);
    }
    explorer.model->check();
}

static void
execute(void)
{
    explorer.n_steps = explorer.n_made = 0;
    explorer.preemptions_left = explorer.model->preemptions;
    explorer.running = NOBODY;
    make_coroutine(&explorer.root, NOBODY, run_root);
    swapcontext(&explorer.main, &explorer.root);
    explorer.running = NOBODY;
    explorer.result.executions++;
    if (explorer.n_steps > explorer.result.longest) {
        explorer.result.longest = explorer.n_steps;
    }
    if (explorer.model->teardown) {
        explorer.model->teardown();
    }
}

/* ---- the search ---- */

/* Turn to the next schedule; false: all have been tried. */
static bool
next_schedule(void)
{
    while (explorer.n_decisions > 0) {
        struct decision *last = &explorer.decisions[explorer.n_decisions - 1];

        if (last->untried) {
            last->chosen = (uint8_t)__builtin_ctz(last->untried);
            last->untried &= (uint8_t)(last->untried - 1);
            return true;
        }
        explorer.n_decisions--;
    }
    return false;
}

static bool
is_over(void)
{
    const struct model *model = explorer.model;

    if (explorer.result.failed || model->replay) {
        return true;
    }
    return model->random_runs ? explorer.result.executions == model->random_runs : !next_schedule();
}

static void
begin_search(const struct model *model)
{
    memset(&explorer, 0, sizeof explorer);
    explorer.model = model;
    while (explorer.n_threads < MODEL_THREADS && model->threads[explorer.n_threads]) {
        explorer.n_threads++;
    }
    if (model->random_runs) {
        explorer.random = (model->seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        explorer.n_changes = (uint32_t)model->preemptions;
        if (explorer.n_changes > TRP_COUNT(explorer.changes)) {
            explorer.n_changes = TRP_COUNT(explorer.changes);
        }
    } else {
        explorer.random = 1; /* drawn from, but not used */
    }
}

struct model_result
model_run(const struct model *model)
{
    const size_t size = (size_t)(MODEL_THREADS + 1) * STACK_SIZE;
    unsigned id;

    if (UNDER_TSAN) {
        puts("skipped: the thread sanitizer loses its way on coroutines, and here is only one "
             "thread");
        exit(77);
    }
    begin_search(model);
    explorer.stacks = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (explorer.stacks == MAP_FAILED) {
        perror("model: no stacks");
        abort();
    }
    id = VALGRIND_STACK_REGISTER(explorer.stacks, explorer.stacks + size);
    do {
        execute();
    } while (!is_over());
    VALGRIND_STACK_DEREGISTER(id);
    munmap(explorer.stacks, size);
    if (explorer.result.failed) {
        print_failure();
    } else {
        printf("    %llu executions, the longest of %u steps\n",
               (unsigned long long)explorer.result.executions, explorer.result.longest);
    }
    fflush(stdout);
    return explorer.result;
}
