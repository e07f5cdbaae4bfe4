/*
 * fake.c - behaves as a simulated program does, and fails when it is told to
 *
 * usage: fake MODE [ARGUMENT...], with TROUPE_SIMULATE in the environment
 *
 *   needs FAULTS CHOICES LEAST   fails when each of these faults ("crash worker-1+part a b") is injected, at least CHOICES choices
 *                                are random, and what has a length lasts at least LEAST milliseconds; of 1000 choices
 *   random                       draws whether it fails from the seed: one in ten
 *   status N | signal N          ends like this, with each seed; or with one: status N SEED
 *   sanitizer                    ends as a program does in which AddressSanitizer has found something
 *   hang | flood | children      never ends; writes for ever; leaves children behind
 *   deaf                         ends when its standard input does
 *   unsteady                     another hash each time
 *   moody                        exit status 1, for one reason or, with few choices, for another
 *   once PATH                    fails when there is no such file, and makes it
 *   unlinked | picky             is no simulated program; does not like its TROUPE_SIMULATE
 *   overlong                     lines longer than anybody reads, binary ones, and one without an end
 *
 * "random" among its faults makes twelve of them, by the seed.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FAULTS_MAX = 4096, DRAWN = 12, CHOICES = 1000 };

static uint64_t seed, choices = CHOICES;
static char *faults[FAULTS_MAX];
static unsigned n_faults;

static uint64_t
mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void
add_fault(const char *text)
{
    if (n_faults < FAULTS_MAX) {
        faults[n_faults++] = strdup(text);
    }
}

static void
draw_faults(unsigned n)
{
    static const char *const kinds[] = {
        "crash worker-1 for 812.345678ms",
        "crash worker-2 for 700ms",
        "pause worker-1 for 333.333333ms",
        "part a b for 1.234567891s",
        "cut a b",
        "slow a (node-77) 7 for 90.000001ms",
    };
    char text[128];

    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "at %u.%06" PRIu64 "ms %s", 40 * (i + 1),
                 mix(seed + i) % 1000000,
                 kinds[i < 6 ? i : mix(seed * 100 + i) % (sizeof kinds / sizeof kinds[0])]);
        add_fault(text);
    }
}

static void
read_text(const char *text)
{
    char *copy = strdup(text), *rest = copy;

    seed = strtoull(copy, NULL, 10);
    for (char *part = strsep(&rest, ";"); (part = strsep(&rest, ";")) != NULL;) {
        part += strspn(part, " ");
        if (strncmp(part, "choices ", 8) == 0) {
            choices = strtoull(part + 8, NULL, 10);
        } else if (strncmp(part, "random", 6) == 0) {
            draw_faults(strstr(part, "many") ? FAULTS_MAX : DRAWN);
        } else if (strncmp(part, "limit ", 6) != 0 && strcmp(part, "quiet") != 0) {
            add_fault(part);
        }
    }
    free(copy);
}

static void
say_trace(uint64_t hash)
{
    fprintf(stderr,
            "trace hash %016" PRIx64 " seed %" PRIu64
            " events 1234 time 2.500000 s choices %u steps 890 faults %u\n",
            hash, seed, CHOICES, n_faults);
}

static uint64_t
hash_of_all(void)
{
    uint64_t hash = mix(seed) ^ mix(choices);

    for (unsigned i = 0; i < n_faults; i++) {
        for (const char *at = faults[i]; *at; at++) {
            hash = mix(hash ^ (unsigned char)*at);
        }
    }
    return hash;
}

static double
milliseconds(const char *text)
{
    char *unit;
    double number = strtod(text, &unit);

    return strncmp(unit, "ns", 2) == 0   ? number / 1e6
           : strncmp(unit, "us", 2) == 0 ? number / 1e3
           : strncmp(unit, "ms", 2) == 0 ? number
                                         : number * 1e3;
}

static bool
is_injected(const char *wanted, double least_ms)
{
    for (unsigned i = 0; i < n_faults; i++) {
        const char *at = strstr(faults[i], wanted), *length = strstr(faults[i], " for ");

        if (at && (!length || milliseconds(length + 5) >= least_ms)) {
            return true;
        }
    }
    return false;
}

static bool
are_injected(const char *all, double least_ms)
{
    char *copy = strdup(all), *rest = copy;
    bool is_so = true;

    for (char *wanted; (wanted = strsep(&rest, "+")) != NULL;) {
        is_so &= !*wanted || is_injected(wanted, least_ms);
    }
    free(copy);
    return is_so;
}

static int
end(bool has_failed)
{
    if (has_failed) {
        fprintf(stderr, "simulated: failed: at step %u there were 2 leaders, not \"one\"\n",
                n_faults * 10);
    }
    say_trace(hash_of_all());
    return has_failed;
}

static _Noreturn void
overlong(void)
{
    static char line[100000];

    memset(line, 'x', sizeof line);
    fwrite(line, 1, sizeof line, stderr);
    fwrite("\n\0\0\033[2J\377\376\n\n", 1, 11, stderr);
    fprintf(stderr, "simulated: failed: \033[31mred\033[0m\n");
    fputs("no end", stdout);
    exit(5);
}

static void
leave_children(void)
{
    for (int i = 0; i < 3; i++) {
        if (fork() == 0) {
            if (i == 2) {
                setsid();
            }
            for (;;) {
                pause();
            }
        }
    }
}

static int
other_modes(const char *mode, int number)
{
    char byte;

    if (strcmp(mode, "sanitizer") == 0) {
        fprintf(stderr,
                "==%d==ERROR: AddressSanitizer: heap-use-after-free on 0x%d\n"
                "SUMMARY: AddressSanitizer: heap-use-after-free shop.c:12 in sell\n",
                (int)getpid(), (int)getpid());
        return 1;
    }
    if (strcmp(mode, "flood") == 0) {
        while (puts("a line of many, and nobody wants to read all of them") >= 0) {
        }
    }
    if (strcmp(mode, "hang") == 0) {
        signal(SIGTERM, SIG_IGN);
        for (;;) {
            pause();
        }
    }
    if (strcmp(mode, "children") == 0) {
        leave_children();
    }
    if (strcmp(mode, "deaf") == 0) {
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
    }
    if (strcmp(mode, "overlong") == 0) {
        overlong();
    }
    if (strcmp(mode, "unlinked") == 0) {
        puts("hello");
        return number;
    }
    say_trace(strcmp(mode, "unsteady") == 0 ? mix((uint64_t)getpid()) : hash_of_all());
    return 0;
}

int
main(int argc, char **argv)
{
    const char *text = getenv("TROUPE_SIMULATE"), *mode = argc > 1 ? argv[1] : "";
    int number = argc > 2 ? atoi(argv[2]) : 0;

    if (strcmp(mode, "picky") == 0) {
        fprintf(stderr, "TROUPE_SIMULATE: there is no fault 'explode'\n");
        return 1;
    }
    read_text(text ? text : "0");
    printf("seed %" PRIu64 "\n", seed);
    for (unsigned i = 0; i < n_faults; i++) {
        fprintf(stderr, "simulated: %s\n", faults[i]);
    }
    if (strcmp(mode, "needs") == 0 && argc > 4) {
        return end(choices >= (uint64_t)strtoull(argv[3], NULL, 10) &&
                   are_injected(argv[2], atof(argv[4])));
    }
    if (strcmp(mode, "moody") == 0) {
        fprintf(stderr, "trace hash %016" PRIx64 " seed %" PRIu64 " events 1 time 0.1 s\n", seed,
                seed);
        fprintf(stderr, choices > 5 ? "worker 7 is lost\n" : "no shop\n");
        return 1;
    }
    if (strcmp(mode, "once") == 0 && argc > 2) {
        return end(open(argv[2], O_WRONLY | O_CREAT | O_EXCL, 0600) >= 0);
    }
    if (strcmp(mode, "random") == 0) {
        return end(mix(seed) % 10 == 0);
    }
    if (argc > 3 && strtoull(argv[3], NULL, 10) != seed) {
        return end(false);
    }
    if (strcmp(mode, "status") == 0) {
        fprintf(stderr, "cannot go on\n");
        return number;
    }
    if (strcmp(mode, "signal") == 0) {
        fflush(stdout);
        signal(number, SIG_DFL);
        return raise(number);
    }
    return other_modes(mode, number);
}
