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
#include "explorer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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

struct explorer explorer;

/* ---- failure ---- */

void
model_fail(const char *complaint, const char *file, int line)
{
    if (!explorer.result.failed) {
        explorer_note_failure(complaint, file, line);
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
    return explorer.n_steps < explorer.n_replay ? explorer.replay_threads[explorer.n_steps]
                                                : NOBODY;
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
            explorer.threads[explorer.running].priority = i;
        }
    }
    for (unsigned t = best + 1; t < explorer.n_threads; t++) {
        if (enabled & 1u << t && explorer.threads[t].priority > explorer.threads[best].priority) {
            best = t;
        }
    }
    return best;
}

/* The depth-first search: repeat a decision, or make one, `prefer`, and remember the others. */
static unsigned
decide(unsigned outcomes, unsigned prefer)
{
    struct decision *decision = &explorer.decisions[explorer.n_made];

    TRP_ASSERT(explorer.n_made < TRP_COUNT(explorer.decisions));
    if (explorer.n_made == explorer.n_decisions) {
        decision->chosen = (uint8_t)prefer;
        decision->untried = (uint8_t)(outcomes & ~(1u << prefer));
        explorer.n_decisions++;
    }
    explorer.n_made++;
    if (!(outcomes & 1u << decision->chosen)) {
        model_fail("the model is not deterministic", __FILE__, __LINE__);
    }
    return decision->chosen;
}

static unsigned
choose_in_order(unsigned enabled)
{
    bool can_stay = explorer.running != NOBODY && enabled & 1u << explorer.running;
    unsigned prefer = can_stay ? explorer.running : (unsigned)__builtin_ctz(enabled);
    unsigned chosen;

    if (can_stay && explorer.preemptions_left == 0) { /* all spent */
        return prefer;
    }
    if ((enabled & (enabled - 1)) == 0) {
        return prefer; /* there is only this one */
    }
    chosen = decide(enabled, prefer);
    if (can_stay && chosen != explorer.running) {
        explorer.preemptions_left--;
    }
    return chosen;
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
    return explorer.runs ? choose_by_priority(enabled) : choose_in_order(enabled);
}

static unsigned
pick(unsigned outcomes)
{
    if (explorer.runs) {
        unsigned n = (unsigned)__builtin_popcount(outcomes), skip = next_random(2 * n);

        if (skip >= n) { /* the newest value is as likely as all others together, and more */
            return 0;
        }
        for (; skip > 0; skip--) {
            outcomes &= outcomes - 1;
        }
        return (unsigned)__builtin_ctz(outcomes);
    }
    return decide(outcomes, 0);
}

unsigned
model_pick(unsigned outcomes)
{
    struct step *step = &explorer.steps[explorer.n_steps - 1];

    if (explorer.n_steps == 0 || step->has_picked) {
        return 0; /* one choice a step */
    }
    step->has_picked = true;
    if (explorer.model->replay) {
        unsigned stale =
            explorer.n_steps <= explorer.n_replay ? explorer.replay_stale[explorer.n_steps - 1] : 0;

        step->stale = outcomes & 1u << stale ? (uint8_t)stale : 0;
    } else if (explorer.stale_left > 0 && outcomes != 1) {
        step->stale = (uint8_t)pick(outcomes);
        explorer.stale_left -= step->stale > 0;
    }
    return step->stale;
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
        (struct step){ self->file, self->line, (uint8_t)explorer.running, 0, false };
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
     * after the last yield, so in that case the caller looks once more before it waits; and so does one that
     * may have seen an old value. */
    if (!model_memory_was_stale(explorer.running) && others_steps == self->others_steps) {
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

void
model_settle(void)
{
    explorer.preemptions_left = explorer.stale_left = 0;
}

const char *
model_file(void)
{
    return explorer_base_name(explorer.steps[explorer.n_steps - 1].file);
}

int
model_line(void)
{
    return explorer.steps[explorer.n_steps - 1].line;
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

/* Prepare a PCT run: distinct priorities in random order, all above those that the changes give, and the steps at
 * which they change. */
static void
draw_priorities(void)
{
    uint32_t longest = explorer.result.longest ? explorer.result.longest : 20;

    explorer.lowest = -1;
    for (unsigned t = 0; t < explorer.n_threads; t++) {
        unsigned with = next_random(t + 1);

        explorer.threads[t].priority = explorer.threads[with].priority;
        explorer.threads[with].priority = TRP_COUNT(explorer.changes) + t;
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
    explorer.stale_left = explorer.model->stale;
    explorer.running = NOBODY;
    model_memory_begin(explorer.model->stale > 0, explorer.model->weakening);
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
    return explorer.runs ? explorer.result.executions == explorer.runs : !next_schedule();
}

static uint64_t
environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text ? strtoull(text, NULL, 0) : otherwise;
}

static void
begin_search(const struct model *model)
{
    memset(&explorer, 0, sizeof explorer);
    explorer.model = model;
    while (explorer.n_threads < MODEL_THREADS && model->threads[explorer.n_threads]) {
        explorer.n_threads++;
    }
    explorer.random = 1; /* drawn from, but not used */
    if (model->replay) {
        explorer_read_schedule(model->replay);
    } else if (model->random_runs) {
        explorer.seed = environment("TRP_SEED", model->seed);
        explorer.runs = model->random_runs * environment("TRP_SCALE", 1);
        explorer.random = (explorer.seed + 1) * UINT64_C(0x9e3779b97f4a7c15) | 1;
        explorer.n_changes = (uint32_t)model->preemptions;
        if (explorer.n_changes > TRP_COUNT(explorer.changes)) {
            explorer.n_changes = TRP_COUNT(explorer.changes);
        }
    }
}

struct model_result
model_run(const struct model *model)
{
    const size_t size = (size_t)(MODEL_THREADS + 1) * STACK_SIZE;
    unsigned ids[MODEL_THREADS + 1]; /* of the stacks, for valgrind */

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
    for (size_t i = 0; i < TRP_COUNT(ids); i++) {
        ids[i] = VALGRIND_STACK_REGISTER(explorer.stacks + i * STACK_SIZE,
                                         explorer.stacks + (i + 1) * STACK_SIZE - 1);
    }
    do {
        execute();
    } while (!is_over());
    for (size_t i = 0; i < TRP_COUNT(ids); i++) {
        VALGRIND_STACK_DEREGISTER(ids[i]);
    }
    munmap(explorer.stacks, size);
    if (model->is_silent) {
        return explorer.result;
    }
    if (explorer.result.failed) {
        explorer_print_failure();
    } else {
        explorer_print_bounds();
    }
    fflush(stdout);
    return explorer.result;
}
