/*
 * chaos.c - processes under load that are killed, stopped, cut off and started again; then everything is counted
 *
 *     tests/chaos --seconds 60 --seed 7
 *
 * The keeper, this process, launches the others; a supervisor of it has an isolated child, the hermit. players.h says what they do,
 * trouble.c what is done to them, witness.h where everything is written down, verdict.c what must be true of it.
 */
#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chaotic/keeper.h"
#include "chaotic/players.h"
#include "chaotic/sockets.h"
#include "chaotic/verdict.h"
#include "chaotic/witness.h"
#include "mailbox/region.h"

#define WITNESS_VARIABLE "CHAOS_WITNESS"
#define NODE_VARIABLE    "CHAOS_NODE"

enum { SETTLE_S = 40, START_S = 60, REPORT_S = 60, SPAWN_MS = 3000, LONG_S = 20 };

static struct {
    unsigned seconds, processes, every_ms, down_ms;
    uint64_t seed;
    bool json, keeps;
    char directory[64];
} options = { .seconds = 10, .processes = 5 };

/* What the keeper knows of a node that it has launched. */
static struct node {
    troupe_ref director; /* nobody: it is to be made */
    uint64_t monitor, request;
    int64_t again_ns;
} nodes[NODES_MAX + 1];

static struct trouble trouble;

static unsigned
slowness(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return 6;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return 6;
#endif
#endif
    return 1;
}

static void
die(const char *what)
{
    fprintf(stderr, "chaos: %s: %s\n", what, troupe_last_error().text);
    exit(2);
}

/* ---- starting ---- */

static void
launch(troupe_self *me, uint32_t node)
{
    char name[16], variable[40];
    const char *const environment[] = { variable, NULL };

    chaos_node_name(node, name);
    snprintf(variable, sizeof variable, NODE_VARIABLE "=%u", node);
    if (troupe_launch(me, &(troupe_process){ .node = name,
                                             .environment = environment,
                                             .threads = 2,
                                             .timeout_ms = START_S * 1000,
                                             .restarts = true }) < 0) {
        die("a process cannot be launched");
    }
}

static void
supervise_hermit(troupe_self *me)
{
    static char variable[40];
    static const char *const environment[] = { variable, NULL };
    static const troupe_process process = { .environment = environment };
    const troupe_child child = { .behavior = &chaos_hermit,
                                 .name = "hermit",
                                 .isolate = &process,
                                 .stop_timeout_ms = witness->patience_ms };

    snprintf(variable, sizeof variable, NODE_VARIABLE "=%u", HERMIT);
    if (troupe_is_nobody(troupe_supervise(
            me, &(troupe_supervisor){
                    .children = &child, .n_children = 1, .max_restarts = TROUPE_UNLIMITED }))) {
        die("the hermit cannot be made");
    }
}

static void
make_director(troupe_self *me, uint32_t n, int64_t now_ns)
{
    struct director_args args = { .node = n };
    char name[16];

    chaos_node_name(n, name);
    nodes[n].request = troupe_spawn_on_later(me, name, SPAWN_MS, &chaos_director, .args = &args,
                                             .args_size = sizeof args, .name = "director");
    nodes[n].again_ns = now_ns + 20000000;
}

/* ---- what the keeper's thread hears ---- */

static void
is_there(troupe_self *me, struct node *node, troupe_ref who)
{
    node->director = who;
    node->request = 0;
    node->monitor = troupe_monitor(me, who);
}

static void
on_spawned(troupe_self *me, struct node *node, const troupe_spawned *answer)
{
    char name[40];

    node->request = 0;
    if (!troupe_is_nobody(answer->who)) {
        is_there(me, node, answer->who);
    } else if (answer->code == -EEXIST) { /* an answer was lost, or came too late */
        snprintf(name, sizeof name, "director@n%u", (unsigned)(node - nodes));
        node->request = troupe_find_later(me, name, SPAWN_MS);
    } else {
        witness_event("no director on n%u: %.60s", (unsigned)(node - nodes), answer->text);
    }
}

static void
on_down(struct node *node, const troupe_down *down)
{
    const char *by = strstr(down->text, "killed by ");

    witness_event("n%u: %.90s", (unsigned)(node - nodes), down->text);
    node->director = TROUPE_NOBODY;
    node->monitor = 0;
    if ((by && strncmp(by, "killed by SIGKILL", 17) != 0) || strstr(down->text, "exited with")) {
        witness_wrong(0, "%s", down->text);
    }
}

static void
hear(troupe_self *me, const troupe_msg *msg)
{
    for (uint32_t n = 1; n <= options.processes; n++) {
        struct node *node = &nodes[n];
        uint64_t request = troupe_request(msg);

        if (troupe_is(msg, troupe_down)) {
            const troupe_down *down = troupe_body(msg, troupe_down);

            if (node->monitor && node->monitor == down->monitor) {
                on_down(node, down);
            }
        } else if (troupe_is(msg, troupe_spawned)) {
            if (node->request && node->request == request) {
                on_spawned(me, node, troupe_body(msg, troupe_spawned));
            }
        } else if (troupe_is(msg, troupe_found)) {
            const troupe_found *found = troupe_body(msg, troupe_found);

            if (node->request && node->request == found->request) {
                node->request = 0;
                if (!troupe_is_nobody(found->who)) {
                    is_there(me, node, found->who);
                }
            }
        } else if (troupe_is(msg, troupe_unanswered)) {
            node->request =
                node->request == troupe_body(msg, troupe_unanswered)->request ? 0 : node->request;
        }
    }
}

/* Let so much time pass: hear what comes, and see to it that every node has a director. */
static void
keep(troupe_self *me, int64_t until_ns)
{
    int64_t now;

    while ((now = chaos_now()) < until_ns) {
        int64_t ms = (until_ns - now) / 1000000 + 1;
        troupe_msg *msg = troupe_receive(me, ms < 10 ? ms : 10);

        if (msg) {
            hear(me, msg);
            troupe_release(msg);
        }
        for (uint32_t n = 1; n <= options.processes; n++) {
            if (troupe_is_nobody(nodes[n].director) && nodes[n].request == 0 &&
                now >= nodes[n].again_ns) {
                make_director(me, n, now);
            }
        }
    }
}

/* ---- the run ---- */

static void
show_progress(int64_t now_ns)
{
    if (isatty(STDERR_FILENO)) {
        fprintf(stderr,
                "\r%4.0f s: %" PRIu64 " sent, %" PRIu64 " handled, %" PRIu64
                " dead letters, %u processes, %u wrong  ",
                (double)(now_ns - witness->began_ns) / 1e9, witness->n_sent, witness->n_handled,
                witness->n_dead, witness->n_lives - 1, witness->n_wrongs);
    }
}

static void
run(troupe_self *me)
{
    int64_t now = chaos_now(), end = now + (int64_t)options.seconds * 1000000000;
    int64_t second = now;

    trouble = (struct trouble){ .random = seed_for(options.seed, UINT64_C(1) << 32),
                                .next_ns = now + 300000000,
                                .shortest_ms = 20,
                                .longest_ms = 20 + 2 * options.every_ms,
                                .has_long_stops = options.seconds >= LONG_S };
    while ((now = chaos_now()) < end && atomic_load(&witness->n_lives) < LIVES_MAX - 20) {
        trouble_make(&trouble, now);
        if (now >= second) {
            show_progress(now);
            second += 1000000000;
        }
        keep(me, now + 5000000);
    }
    trouble_end();
    witness_event("the load ends");
}

static bool
all_are_up(void)
{
    for (uint32_t n = 1; n <= options.processes; n++) {
        uint32_t life = keeper_life_of(n);

        if (troupe_is_nobody(nodes[n].director) || !life || !witness->lives[life].is_up) {
            return false;
        }
    }
    return witness->lives[keeper_life_of(HERMIT)].is_up;
}

/* Until nothing is pending, or nothing changes any more. */
static void
settle(troupe_self *me)
{
    uint64_t pending = 0, last = 0;
    int64_t changed = chaos_now(), began = changed;
    char text[200] = "";

    while (!all_are_up()) {
        if (chaos_now() - began > (int64_t)START_S * slowness() * 1000000000) {
            witness_wrong(0, "not all processes are there again after %u s", START_S * slowness());
            break;
        }
        keep(me, chaos_now() + 50000000);
    }
    atomic_store(&witness->phase, SETTLE);
    changed = chaos_now();
    do {
        keep(me, chaos_now() + 100000000);
        pending = verdict_pending(text, sizeof text);
        if (pending != last) {
            last = pending;
            changed = chaos_now();
        }
        show_progress(chaos_now());
    } while (pending > 0 && chaos_now() - changed < (int64_t)SETTLE_S * slowness() * 1000000000);
    if (pending > 0) {
        witness_event("not settled: %.80s", text);
    }
    keep(me, chaos_now() + 200000000); /* what comes twice would come now */
    atomic_store(&witness->phase, REST);
    keep(me, chaos_now() + 200000000);
}

static void
have_all_report(troupe_self *me, troupe_ref director)
{
    int64_t until = chaos_now() + (int64_t)REPORT_S * slowness() * 1000000000;
    bool is_done = false;

    for (uint32_t n = 1; n <= options.processes; n++) {
        troupe_send(me, nodes[n].director, chaos_report);
    }
    troupe_send(me, director, chaos_report); /* the last: who counts does so while nobody sends */
    while (!is_done && chaos_now() < until) {
        keep(me, chaos_now() + 20000000);
        is_done = true;
        for (uint32_t n = 0; n <= options.processes; n++) {
            is_done &= witness->lives[keeper_life_of(n)].has_reported != 0;
        }
    }
}

/* ---- what is left ---- */

static int
look_at_file(const char *path, const struct stat *status, int type, struct FTW *where)
{
    if (S_ISSOCK(status->st_mode) || (type == FTW_F && strstr(path, ".node"))) {
        witness_wrong(0, "left behind: %s", path);
    }
    return 0;
}

static int
remove_file(const char *path, const struct stat *status, int type, struct FTW *where)
{
    return remove(path);
}

static void
look_at_what_is_left(struct open_files before)
{
    struct open_files after = sockets_count();
    int status;

    nftw(options.directory, look_at_file, 8, FTW_PHYS);
    if (waitpid(-1, &status, WNOHANG) != -1 || errno != ECHILD) {
        witness_wrong(0, "left behind: a child process");
    }
    if (after.pipes + after.memory + after.sockets + after.others !=
        before.pipes + before.memory + before.sockets + before.others) {
        witness_wrong(0,
                      "left behind by the keeper: pipes %d, memfds %d, sockets %d, other files %d",
                      (int)(after.pipes - before.pipes), (int)(after.memory - before.memory),
                      (int)(after.sockets - before.sockets), (int)(after.others - before.others));
    }
}

/* ---- telling ---- */

static void
print_json(const struct verdict *verdict)
{
    const struct verdict_sums *all = &verdict->sums[ALL];

    printf("{\"seed\": %" PRIu64
           ", \"seconds\": %u, \"nodes\": %u, \"processes\": %u, \"actors\": %u, "
           "\"kills\": %u, \"stops\": %u, \"asked\": %u, \"cuts\": %u, \"sent\": %" PRIu64
           ", \"handled\": %" PRIu64 ", \"dead\": %" PRIu64 ", \"lost\": %" PRIu64
           ", \"in_doubt\": %" PRIu64 ", \"refused\": %" PRIu64 ", \"downs\": %" PRIu64
           ", \"wrong\": %u}\n",
           options.seed, options.seconds, options.processes, witness->n_lives - 1,
           witness->n_actors - 1, trouble.n_kills + trouble.n_hermit_kills, trouble.n_stops,
           trouble.n_asked, trouble.n_cuts, all->sent, all->handled, all->dead, all->lost,
           all->in_doubt, all->refused, verdict->downs, witness->n_wrongs);
}

static void
print_text(const struct verdict *verdict)
{
    uint64_t cut = 0, healed = 0, again = 0, n_cut = 0;

    for (uint32_t n = 1; n < witness->n_lives; n++) {
        cut += witness->lives[n].n_links_cut;
        healed += witness->lives[n].n_links_healed;
        again += witness->lives[n].n_frames_again;
        n_cut += witness->lives[n].n_cut;
    }
    printf("%u nodes in %u processes, %u actors; %u killed, %u of them the isolated one, %u "
           "stopped, %u of them for about 5 s or "
           "more, %u asked to stop; %" PRIu64 " connections cut\n",
           options.processes, witness->n_lives - 1, witness->n_actors - 1,
           trouble.n_kills + trouble.n_hermit_kills, trouble.n_hermit_kills, trouble.n_stops,
           trouble.n_long_stops, trouble.n_asked, n_cut);
    printf("those that lived to the end: %" PRIu64 " links broken, %" PRIu64
           " taken up again, %" PRIu64 " frames sent again\n",
           cut, healed, again);
    verdict_print(verdict, stdout);
    if (witness->n_wrongs) {
        printf("the last events:\n");
        verdict_print_events(stdout, 60);
    }
    printf("%s: %u wrong; seed %" PRIu64 "\n", witness->n_wrongs ? "FAILED" : "all is right",
           witness->n_wrongs, options.seed);
}

/* ---- beginning and end ---- */

static void
read_options(int argc, char **argv)
{
    static const struct option known[] = {
        { "seconds", required_argument, NULL, 's' },
        { "seed", required_argument, NULL, 'S' },
        { "processes", required_argument, NULL, 'p' },
        { "every", required_argument, NULL, 'e' },
        { "down", required_argument, NULL, 'd' },
        { "json", no_argument, NULL, 'j' },
        { "keep", no_argument, NULL, 'k' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    while ((option = getopt_long(argc, argv, "h", known, NULL)) != -1) {
        switch (option) {
        case 's':
            options.seconds = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'S':
            options.seed = strtoull(optarg, NULL, 0);
            break;
        case 'p':
            options.processes = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'e':
            options.every_ms = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'd':
            options.down_ms = (unsigned)strtoul(optarg, NULL, 0);
            break;
        case 'j':
            options.json = true;
            break;
        case 'k':
            options.keeps = true;
            break;
        default:
            printf("usage: chaos [--seconds N] [--seed N] [--processes N] [--every MS] [--down MS] "
                   "[--json] "
                   "[--keep]\n\n"
                   "Nodes in processes of their own talk to each other while they are killed, "
                   "stopped, cut off and "
                   "started again.\nAt the end each message must have been handled once, be a dead "
                   "letter, or be lost with a "
                   "process.\nExits 1 if anything is wrong. --keep leaves the run directory and "
                   "the record of all messages.\n");
            exit(option == 'h' ? 0 : 2);
        }
    }
    if (options.every_ms == 0) {
        options.every_ms = (options.seconds < LONG_S ? 200 : 600) * (slowness() > 1 ? 2 : 1);
    }
    if (options.processes < 1 || options.processes > NODES_MAX || options.seconds < 1) {
        fprintf(stderr, "chaos: --seconds from 1, --processes from 1 to %d\n", NODES_MAX);
        exit(2);
    }
}

static void
begin_witness(void)
{
    char path[100];

    snprintf(options.directory, sizeof options.directory, "/tmp/troupe-chaos-XXXXXX");
    if (!mkdtemp(options.directory)) {
        perror("chaos: /tmp");
        exit(2);
    }
    snprintf(path, sizeof path, "%s/witness", options.directory);
    witness_make(path);
    setenv(WITNESS_VARIABLE, path, 1);
    setenv("XDG_RUNTIME_DIR", options.directory, 1);
    unsetenv("TROUPE_CLUSTER");
    if (options.seed == 0) {
        options.seed = (uint64_t)chaos_now() % 1000000;
    }
    witness->seed = options.seed;
    witness->n_nodes = options.processes;
    witness->slowness = slowness();
    /* A short run is a test: nobody is taken for dead because the machine is busy. */
    witness->patience_ms = options.seconds < LONG_S ? 60000 : 5000 * (slowness() > 1 ? 2 : 1);
    witness->began_ns = chaos_now();
    witness->down_ms = options.down_ms ? options.down_ms : witness->patience_ms;
    my_life = witness_new_life(0);
}

static void
note_parting(void)
{
    atomic_store(&witness->lives[my_life].has_parted, 1);
}

static troupe_self *
start(const char *node, unsigned threads, unsigned down_ms)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = node,
                                                     .threads = threads,
                                                     .down_ms = down_ms,
                                                     .stop_timeout_ms = witness->patience_ms,
                                                     .on_dead_letter = chaos_on_dead_letter });

    if (!me) {
        die("no node");
    }
    return me;
}

static void
serve(const char *path)
{
    const char *node = getenv(NODE_VARIABLE);

    witness_open(path);
    my_life = witness_new_life(node ? (uint32_t)strtoul(node, NULL, 0) : NODES_MAX);
    atexit(note_parting);
    start(NULL, 2, witness->down_ms);
}

int
main(int argc, char **argv)
{
    const char *path = getenv(WITNESS_VARIABLE);
    static struct verdict verdict;
    struct open_files before;
    troupe_ref director;
    troupe_self *me;

    signal(SIGPIPE, SIG_IGN);
    if (path) {
        serve(path);
        return 2; /* it does not come back */
    }
    read_options(argc, argv);
    begin_witness();
    if (!options.json) {
        printf("chaos: seed %" PRIu64 ", %u s\n", options.seed, options.seconds);
        fflush(stdout);
    }
    before = sockets_count();
    me = start("keeper", 2, witness->patience_ms);
    for (uint32_t n = 1; n <= options.processes; n++) {
        launch(me, n);
    }
    supervise_hermit(me);
    director = troupe_spawn_with(me, &chaos_director, .args = &(struct director_args){ 0 },
                                 .args_size = sizeof(struct director_args));
    run(me);
    settle(me);
    have_all_report(me, director);
    verdict_reach(&verdict);
    if (troupe_stop(me) < 0) {
        witness_wrong(0, "the keeper cannot stop: %s", troupe_last_error().text);
    }
    look_at_what_is_left(before);
    (options.json ? print_json : print_text)(&verdict);
    if (options.json && witness->n_wrongs) {
        verdict_print(&verdict, stderr);
        verdict_print_events(stderr, 60);
    }
    if (options.keeps) {
        fprintf(stderr, "kept: %s\n", options.directory);
    } else {
        nftw(options.directory, remove_file, 8, FTW_DEPTH | FTW_PHYS);
    }
    return witness->n_wrongs ? 1 : 0;
}
