/*
 * offload - long computations beside the workers, whose results are messages
 *
 *     $ ./offload
 *     the longest is not needed any more
 *     168 primes below 1000
 *     9592 primes below 100000
 *     78498 primes below 1000000
 *
 * The functions run on threads of a pool of their own; a blocking system call may stand where this one
 * counts. Exactly one message comes for each, unless it is cancelled.
 */
#include <inttypes.h>
#include <stdio.h>
#include <troupe/troupe.h>

#define COUNTED(field, T) field(T, u64, primes)
TROUPE_MESSAGE(counted, COUNTED);

enum { LIMITS = 3 };
static const uint64_t limits[LIMITS] = { 1000, 100000, 1000000 };

static bool
is_prime(uint64_t n)
{
    for (uint64_t d = 2; d * d <= n; d++) {
        if (n % d == 0) {
            return false;
        }
    }
    return n > 1;
}

static void
count_primes(troupe_job *job, const void *args)
{
    uint64_t below = *(const uint64_t *)args, primes = 0;

    for (uint64_t n = 2; n < below; n++) {
        primes += is_prime(n);
        if (n % 1000 == 0 && troupe_job_is_cancelled(job)) {
            return;
        }
    }
    troupe_finish(job, counted, .primes = primes);
}

static uint64_t
order(troupe_self *self, uint64_t below)
{
    return troupe_offload(self, &(troupe_work){ .function = count_primes,
                                                .args = &below,
                                                .args_size = sizeof below,
                                                .timeout_ms = 60000,
                                                .name = "count_primes" });
}

/* Answers come in any order: their numbers say what they are about. */
static bool
take_answer(troupe_self *me, const uint64_t *requests, uint64_t *primes)
{
    troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);
    bool is_answer = troupe_is(msg, counted);

    for (int i = 0; i < LIMITS && is_answer; i++) {
        if (requests[i] == troupe_request(msg)) {
            primes[i] = troupe_body(msg, counted)->primes;
        }
    }
    troupe_release(msg);
    return is_answer;
}

int
main(void)
{
    troupe_self *me = troupe_start(&(troupe_config){ .offload_threads = 2 });
    uint64_t last = me ? order(me, UINT64_MAX) : 0; /* this would take a while */
    uint64_t requests[LIMITS], primes[LIMITS];

    for (int i = 0; i < LIMITS; i++) {
        requests[i] = last ? order(me, limits[i]) : 0;
    }
    if (last && troupe_cancel(me, last)) {
        printf("the longest is not needed any more\n");
    }
    for (int i = 0; i < LIMITS; i++) {
        if (!requests[i] || !take_answer(me, requests, primes)) {
            fprintf(stderr, "%s\n", troupe_last_error().text);
            return 1;
        }
    }
    for (int i = 0; i < LIMITS; i++) {
        printf("%" PRIu64 " primes below %" PRIu64 "\n", primes[i], limits[i]);
    }
    return troupe_stop(me) == 0 ? 0 : 1;
}
