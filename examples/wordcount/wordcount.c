/*
 * wordcount - the words of files and directories, counted by several processes
 *
 *     $ ./wordcount --top 3 --processes 3 /usr/share/doc
 *
 * prints the most frequent words with their counts and shares, how fast it was and which process did how much.
 *
 *   --processes N   worker processes; default: the CPUs there are. 0: none, this one counts itself
 *   --threads N     counters in each; default 1
 *   --top N         how many words are shown; default 10
 *   --json          the result as JSON
 *   --progress      show how far it is, also when standard error is no terminal
 *   --verify        count once more, with one thread and without actors, and compare everything
 *   --kill-one      kill a worker process in the middle of it, for demonstration
 *   --skip PATTERN  leave out the files whose names match, such as '*.gz'
 *   --chunk KIB     how much text is given away at a time, 1 to 4096; default 1024
 *
 * Directories are walked; symbolic links in them are not followed. What cannot be read is reported and skipped.
 * Compressed files are counted as the bytes they are. words.h says what a word is.
 *
 * Exit status: 0; 1 when something went wrong or --verify has found a difference; 2 for arguments without sense.
 *
 * A worker process that dies costs nothing but the time to count again what it had: see coordinator.c.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"
#include "coordinator.h"
#include "messages.h"
#include "plain.h"
#include "report.h"
#include "screen.h"
#include "words.h"

enum { PROCESSES_MAX = 64, THREADS_MAX = 64, TOP_MAX = 10000, CHUNK_MAX = 4096 };

struct options {
    struct job job;
    unsigned top;
    bool json, verify;
};

__attribute__((format(printf, 1, 2), noreturn)) static void
refuse(const char *format, ...)
{
    va_list args;

    fputs("wordcount: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\nusage: wordcount [--processes N] [--threads N] [--top N] [--json] [--progress] "
          "[--verify]\n"
          "                 [--kill-one] [--skip PATTERN] [--chunk KIB] FILE-OR-DIRECTORY...\n",
          stderr);
    exit(2);
}

static unsigned
number(const char *option, const char *text, unsigned least, unsigned most)
{
    unsigned value;

    if (!arguments_number(text, least, most, &value)) {
        refuse("--%s wants a number from %u to %u, not '%s'", option, least, most, text);
    }
    return value;
}

static struct options
parse(int argc, char **argv)
{
    static const struct option table[] = {
        { "processes", required_argument, NULL, 'p' },
        { "threads", required_argument, NULL, 't' },
        { "top", required_argument, NULL, 'n' },
        { "chunk", required_argument, NULL, 'c' },
        { "json", no_argument, NULL, 'j' },
        { "progress", no_argument, NULL, 'g' },
        { "verify", no_argument, NULL, 'v' },
        { "kill-one", no_argument, NULL, 'k' },
        { "skip", required_argument, NULL, 's' },
        { NULL, 0, NULL, 0 },
    };
    struct options options = { .job = { .processes = arguments_cpus(PROCESSES_MAX),
                                        .threads = 1,
                                        .chunk_bytes = 1 << 20,
                                        .shows_progress = isatty(STDERR_FILENO) },
                               .top = 10 };
    struct job *job = &options.job;
    int option;

    opterr = 0;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        switch (option) {
        case 'p':
            job->processes = number("processes", optarg, 0, PROCESSES_MAX);
            break;
        case 't':
            job->threads = number("threads", optarg, 1, THREADS_MAX);
            break;
        case 'n':
            options.top = number("top", optarg, 0, TOP_MAX);
            break;
        case 'c':
            job->chunk_bytes = (uint64_t)number("chunk", optarg, 1, CHUNK_MAX) << 10;
            break;
        case 's':
            job->skip = optarg;
            break;
        case 'j':
            options.json = true;
            break;
        case 'g':
            job->shows_progress = true;
            break;
        case 'v':
            options.verify = true;
            break;
        case 'k':
            job->kill_one = true;
            break;
        default:
            refuse("'%s' is no option, or lacks its number", argv[optind - 1]);
        }
    }
    job->paths = argv + optind;
    return options;
}

static void
check(const struct options *options)
{
    struct stat status;

    if (!*options->job.paths) {
        refuse("which files?");
    }
    if (options->job.kill_one && options->job.processes == 0) {
        refuse("--kill-one needs a process to kill: --processes 1 or more");
    }
    for (char *const *path = options->job.paths; *path; path++) {
        if (stat(*path, &status) < 0) {
            refuse("%s: %s", *path, strerror(errno));
        }
    }
}

/* ---- counting ---- */

/* What the coordinator says, until it has said all. */
static bool
listen(troupe_self *me, struct report *report)
{
    for (;;) {
        troupe_msg *msg = troupe_receive(me, TROUPE_FOREVER);
        bool is_finished = troupe_is(msg, finished);

        if (troupe_is(msg, share) && report->n_shares < PROCESSES_MAX) {
            report->shares[report->n_shares++] = *troupe_body(msg, share);
        } else if (is_finished) {
            const troupe_blob *words = troupe_body(msg, finished)->words;

            report->sum = *troupe_body(msg, finished);
            if (words_add_packed(report->words, troupe_blob_data(words), troupe_blob_size(words)) <
                0) {
                fprintf(stderr, "wordcount: no memory for the result\n");
                is_finished = false;
            }
        } else if (troupe_is(msg, troupe_down)) {
            fprintf(stderr, "wordcount: %s\n", troupe_body(msg, troupe_down)->text);
        }
        if (!msg || is_finished || troupe_is(msg, troupe_down)) {
            troupe_release(msg);
            return is_finished;
        }
        troupe_release(msg);
    }
}

static bool
count(troupe_self *me, struct report *report)
{
    const struct job *job = report->job;
    troupe_ref screen =
        troupe_spawn_with(me, &screen_behavior, .args = &job->shows_progress,
                          .args_size = sizeof job->shows_progress, .own_thread = true);
    struct coordinator_args args = { job, troupe_self_ref(me), screen };
    troupe_ref coordinator =
        troupe_spawn_with(me, &coordinator_behavior, .args = &args, .args_size = sizeof args,
                          .own_thread = true); /* when its table grows, that takes a while */
    bool is_good;

    if (troupe_is_nobody(screen) || troupe_is_nobody(coordinator) ||
        troupe_monitor(me, coordinator) == 0) {
        fprintf(stderr, "wordcount: %s\n", troupe_last_error().text);
        return false;
    }
    is_good = listen(me, report);
    troupe_release(troupe_call(me, screen, TROUPE_FOREVER, clear)); /* it has said all before */
    return is_good;
}

static bool
verify(struct report *report)
{
    struct timespec from, to;
    struct plain plain;
    struct word word;
    uint64_t other;
    bool differs;

    clock_gettime(CLOCK_MONOTONIC, &from);
    plain = plain_count(report->job->paths, report->job->skip);
    clock_gettime(CLOCK_MONOTONIC, &to);
    report->plain_seconds =
        (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    if (plain.code < 0) {
        fprintf(stderr, "wordcount: cannot verify: %s\n", strerror(-plain.code));
        words_free(plain.words);
        return false;
    }
    differs = words_differ(report->words, plain.words, &word, &other);
    if (differs) {
        fprintf(stderr,
                "wordcount: '%.*s' was counted %" PRIu64 " times, by one thread %" PRIu64 "\n",
                (int)word.size, word.text, word.count, other);
    } else if (plain.bytes != report->sum.bytes || plain.files != report->sum.files) {
        fprintf(stderr,
                "wordcount: %" PRIu64 " bytes in %" PRIu64
                " files were counted, by one thread %" PRIu64 " in %" PRIu64 "\n",
                report->sum.bytes, report->sum.files, plain.bytes, plain.files);
        differs = true;
    }
    report->verdict = differs ? DIFFERS : VERIFIED;
    words_free(plain.words);
    return !differs;
}

int
main(int argc, char **argv)
{
    static share shares[PROCESSES_MAX];
    struct options options = parse(argc, argv);
    struct report report = { .job = &options.job, .top = options.top, .shares = shares };
    char node[33];
    troupe_self *me;
    bool is_good;

    check(&options);
    snprintf(node, sizeof node, "wordcount-%d", (int)getpid());
    me = troupe_start(&(troupe_config){
        .node = node, .processes = options.job.processes, .threads = options.job.threads });
    if (!me) {
        fprintf(stderr, "wordcount: %s\n", troupe_last_error().text);
        return 1;
    }
    report.words = words_new();
    is_good = report.words && count(me, &report);
    if (troupe_stop(me) < 0) {
        fprintf(stderr, "wordcount: %s\n", troupe_last_error().text);
        is_good = false;
    }
    if (is_good && options.verify) {
        is_good = verify(&report);
    }
    if (is_good || report.verdict == DIFFERS) {
        (options.json ? report_json : report_text)(&report, stdout);
    }
    words_free(report.words);
    return is_good && fflush(stdout) == 0 ? 0 : 1;
}
