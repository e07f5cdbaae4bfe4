/*
 * test_handles_sim.c - handles between simulated processes: virtual time, and whatever goes wrong
 */
#include "support/guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HANDLES = 8, TAKERS = 2 };

/* What all simulated processes share: it stands for the ways in which a text can be told. */
static struct {
    int fd; /* of which handles are made */
    troupe_handle handles[HANDLES];
    unsigned n_made, taken[HANDLES], through, n_refused, n_full;
    unsigned wait_ms; /* before the takers begin */
    int last, odd;
} seen;

static int
giver_main(void *argument)
{
    troupe_self *me = troupe_start(&(troupe_config){ .node = "giver" });

    for (unsigned i = 0; me && i < HANDLES; i++) {
        if (troupe_reduce_handle(me, seen.fd, &seen.handles[i]) == 0) {
            seen.n_made++;
            seen.taken[i] = 0; /* in another life it was another one */
        }
    }
    if (!me) {
        return 1;
    }
    troupe_wait_signal(me);
    return troupe_stop(me) == 0 ? 0 : 1;
}

/* What a refusal may say when anything may happen. */
static void
note_refusal(int code)
{
    static const int known[] = { -EKEYREVOKED, -ESTALE,    -EMFILE, -ENOMEM,      -ETIMEDOUT,
                                 -EAGAIN,      -ESHUTDOWN, -EINVAL, -EKEYEXPIRED, -ETOOMANYREFS,
                                 -ENOBUFS,     -EACCES,    -EBADF };
    bool is_known = false;

    for (size_t n = 0; n < TEST_COUNT(known); n++) {
        is_known |= code == known[n];
    }
    seen.n_refused++;
    seen.n_full += code == -ETOOMANYREFS;
    if (!is_known) {
        seen.odd = code;
    }
    seen.last = code;
}

static int
taker_main(void *argument)
{
    troupe_self *me = troupe_start(NULL);

    if (!me) {
        return 1;
    }
    troupe_release(troupe_receive(me, seen.wait_ms));
    for (unsigned i = 0; i < HANDLES; i++) {
        troupe_handle handle = seen.handles[i];
        int fd = troupe_rebuild_handle(me, handle.text, 3000);

        if (fd >= 0) {
            seen.taken[i] += strcmp(seen.handles[i].text, handle.text) == 0;
            close(fd);
        } else {
            note_refusal(fd);
        }
    }
    seen.through++;
    return troupe_stop(me) == 0 ? 0 : 1;
}

static void
start_all(troupe_sim *sim, void *context)
{
    static const char *const names[TAKERS] = { "one", "two" };

    assert_int_equal(troupe_sim_start(sim, "giver", giver_main, NULL), 0);
    for (int i = 0; i < TAKERS; i++) {
        assert_int_equal(troupe_sim_start(sim, names[i], taker_main, NULL), 0);
    }
    troupe_sim_run(sim, 200000);
}

static void
simulate(uint64_t seed, const char *faults, unsigned wait_ms)
{
    troupe_simulated simulated;
    int rc;

    memset(&seen, 0, sizeof seen);
    seen.wait_ms = wait_ms;
    seen.fd = memfd_create("test", MFD_CLOEXEC);
    rc = troupe_simulate(
        (&(troupe_simulation){ .seed = seed, .faults = faults, .ret_simulated = &simulated }),
        start_all);
    close(seen.fd);
    if (rc < 0) {
        fail_msg("seed %llu: %s", (unsigned long long)seed, troupe_last_error().text);
    }
    if (seen.odd != 0) {
        fail_msg("seed %llu: %d is no answer", (unsigned long long)seed, seen.odd);
    }
}

static void
of_two_processes_one_gets_each(void **state)
{
    for (uint64_t seed = 1; seed <= 100 / test_slowness(); seed++) {
        simulate(seed, NULL, 10);
        assert_int_equal(seen.n_made, HANDLES);
        assert_int_equal(seen.through, TAKERS);
        for (unsigned i = 0; i < HANDLES; i++) {
            assert_int_equal(seen.taken[i], 1);
        }
        assert_int_equal(seen.n_refused, HANDLES);
        assert_int_equal(seen.last, -EKEYREVOKED);
    }
}

/* The kernel does not take one more: the first to ask is told so, and the second gets it. */
static void
what_could_not_be_sent_is_as_good_as_before(void **state)
{
    simulate(1, "at 5ms fail giver send ETOOMANYREFS", 10);
    assert_int_equal(seen.taken[0], 1);
    assert_int_equal(seen.n_full, 1);
    assert_int_equal(seen.n_refused, HANDLES);
}

static void
after_a_minute_they_have_expired(void **state)
{
    simulate(1, NULL, 59000);
    assert_int_equal(seen.taken[0], 1);
    simulate(2, NULL, 60100);
    assert_int_equal(seen.n_refused, HANDLES * TAKERS);
    assert_int_equal(seen.last, -EKEYEXPIRED);
}

/* At most once, whatever happens; and nothing is left, as the simulation sees. */
static void
whatever_happens_nobody_gets_what_another_has(void **state)
{
    static const char *const troubles[] = {
        "random crash pause slow cut part delay every 3ms until 300ms",
        "random cut half part delay every 1ms until 300ms",
        "random nofiles nomemory every 3ms until 300ms",
        "at 10200us crash giver",
        "at 10100us nofiles giver for 50ms; at 10ms nofiles one for 1ms",
        "at 10ms pause giver for 5s",
        "at 1us fail giver duplicate; at 10ms fail one duplicate; at 10ms fail two connect",
        "at 5ms fail giver accept; at 10ms fail giver send",
        "at 10ms fail one receive; at 10ms fail two receive",
    };
    unsigned taken = 0, refused = 0;

    for (size_t i = 0; i < TEST_COUNT(troubles); i++) {
        for (uint64_t seed = 1; seed <= 60 / test_slowness(); seed++) {
            simulate(seed, troubles[i], 10);
            for (unsigned n = 0; n < HANDLES; n++) {
                if (seen.taken[n] > 1) {
                    fail_msg("seed %llu, %s: taken twice", (unsigned long long)seed, troubles[i]);
                }
                taken += seen.taken[n];
            }
            refused += seen.n_refused;
        }
    }
    print_message("  %u taken, %u refused\n", taken, refused);
    assert_true(taken > 0 && refused > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        guarded(of_two_processes_one_gets_each),
        guarded(what_could_not_be_sent_is_as_good_as_before),
        guarded(after_a_minute_they_have_expired),
        guarded(whatever_happens_nobody_gets_what_another_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
