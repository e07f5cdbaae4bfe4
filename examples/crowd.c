/*
 * crowd - as many actors as you like, and what one of them costs
 *
 *     $ ./crowd 10000
 *     10000 actors, all of them answered
 *
 * usage: crowd [actors]. Each is asked once and answers, some at a time, for our mailbox has a limit too.
 * Standard error says how long it took to make and to ask them, and how much memory the process grew by.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <troupe/troupe.h>
#include <unistd.h>

enum { AHEAD = 2000 };
TROUPE_SIGNAL(roll_call);
TROUPE_SIGNAL(present);

struct member {
    uint64_t calls, padding; /* 16 bytes of state, for the measure */
};

static void
on_roll_call(troupe_self *self, troupe_msg *msg)
{
    struct member *member = troupe_state(self);

    member->calls++;
    troupe_reply(self, msg, present);
}

static const troupe_behavior member_behavior = {
    .name = "member",
    .state_size = sizeof(struct member),
    .handlers = TROUPE_HANDLERS(TROUPE_ON(roll_call, on_roll_call)),
};

static double
seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double
resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");

    if (file) {
        pages = fscanf(file, "%*u %lu", &pages) == 1 ? pages : 0;
        fclose(file);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

int
main(int argc, char **argv)
{
    size_t actors = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000, answers = 0;
    troupe_ref *crowd = calloc(actors, sizeof(*crowd));
    troupe_self *me = troupe_start(NULL);

    if (!me || !crowd || actors == 0) {
        fprintf(stderr, "crowd: %s\n", me ? "no room, or no actors" : troupe_last_error().text);
        return 1;
    }
    double bytes = resident_bytes(), began = seconds();

    for (size_t i = 0; i < actors; i++) {
        crowd[i] = troupe_spawn(me, &member_behavior);
        if (troupe_is_nobody(crowd[i])) {
            fprintf(stderr, "crowd: %s\n", troupe_last_error().text);
            return 1;
        }
    }
    fprintf(stderr, "%zu actors in %.6f s, %.0f bytes each\n", actors, seconds() - began,
            (resident_bytes() - bytes) / (double)actors - (double)sizeof(*crowd));
    began = seconds();
    for (size_t i = 0; i < actors + AHEAD; i++) {
        if (i < actors) {
            troupe_send(me, crowd[i], roll_call);
        }
        if (i >= AHEAD) {
            troupe_msg *msg = troupe_receive(me, 10000 /* ms */);

            answers += troupe_is(msg, present);
            troupe_release(msg);
        }
    }
    fprintf(stderr, "%zu messages in %.6f s\n", 2 * actors, seconds() - began);
    printf("%zu actors, %s\n", actors, answers == actors ? "all of them answered" : "some silent");
    free(crowd);
    return troupe_stop(me) == 0 ? 0 : 1;
}
