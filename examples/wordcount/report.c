/*
 * report.c - what came out, for people and as JSON
 */
#include "report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "screen.h"

static double
rate(uint64_t bytes, double seconds)
{
    return (double)bytes / 1e6 / (seconds + 1e-9);
}

static double
share_of(uint64_t part, uint64_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* 1234567 as 1,234,567; in a buffer that is used again after seven others. */
static const char *
grouped(uint64_t number)
{
    static char texts[8][32];
    static unsigned next;
    char digits[24], *text = texts[next++ % 8], *out = text;
    int n = snprintf(digits, sizeof digits, "%" PRIu64, number);

    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            *out++ = ',';
        }
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

/* The word as it may be printed. */
static const char *
printable(const struct word *word, char *into)
{
    memcpy(into, word->text, word->size);
    into[word->size] = '\0';
    make_printable(into, word->size);
    return into;
}

static void
print_top(const struct report *report, FILE *out)
{
    struct word *top = calloc(report->top + 1, sizeof *top);
    size_t n = top ? words_top(report->words, top, report->top) : 0;
    uint64_t total = words_total(report->words);
    char text[WORD_MAX + 1];

    if (n > 0) {
        fprintf(out, "%6s %14s %8s   %s\n", "", "count", "share", "word");
    }
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%6zu %14s %6.2f %%   %s\n", i + 1, grouped(top[i].count),
                share_of(top[i].count, total), printable(&top[i], text));
    }
    free(top);
}

static void
print_shares(const struct report *report, FILE *out)
{
    fprintf(out, "\n%-24s %10s %8s %8s %10s %8s\n", "process", "pid", "chunks", "files", "MB",
            "share");
    for (unsigned i = 0; i < report->n_shares; i++) {
        const share *did = &report->shares[i];

        fprintf(out, "%-24s %10" PRId64 " %8s %8s %10.1f %6.1f %%%s\n", did->node, did->pid,
                grouped(did->chunks), grouped(did->files), (double)did->bytes / 1e6,
                share_of(did->bytes, report->sum.bytes),
                did->deaths ? "   (successor of one that died)" : "");
    }
}

void
report_text(const struct report *report, FILE *out)
{
    const finished *sum = &report->sum;
    const struct job *job = report->job;
    double seconds = (double)sum->elapsed_ms / 1e3;

    print_top(report, out);
    fprintf(out, "\n%s words, %s different ones, in %s files, %.1f MB\n",
            grouped(words_total(report->words)), grouped(words_different(report->words)),
            grouped(sum->files), (double)sum->bytes / 1e6);
    if (job->processes > 0) {
        fprintf(out, "%.2f s, %.0f MB/s, by %u %s with %u %s each\n", seconds,
                rate(sum->bytes, seconds), job->processes,
                job->processes == 1 ? "process" : "processes", job->threads,
                job->threads == 1 ? "counter" : "counters");
    } else {
        fprintf(out, "%.2f s, %.0f MB/s, by %u %s in this process\n", seconds,
                rate(sum->bytes, seconds), job->threads,
                job->threads == 1 ? "counter" : "counters");
    }
    print_shares(report, out);
    if (sum->redone > 0) {
        fprintf(out, "\n%s of %s chunks were given away again, as their process had died\n",
                grouped(sum->redone), grouped(sum->chunks));
    }
    if (sum->problems > 0) {
        fprintf(out, "\n%s files or directories could not be read\n", grouped(sum->problems));
    }
    if (report->verdict == VERIFIED) {
        fprintf(out, "\nverified: one thread, in %.2f s (%.0f MB/s), counts the same %s words\n",
                report->plain_seconds, rate(sum->bytes, report->plain_seconds),
                grouped(words_different(report->words)));
    }
}

/* ---- JSON ---- */

/* What is printable in UTF-8 needs no more than these two escaped. */
static void
put_text(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            putc('\\', out);
        }
        putc(*text, out);
    }
    putc('"', out);
}

static void
put_top(const struct report *report, FILE *out)
{
    struct word *top = calloc(report->top + 1, sizeof *top);
    size_t n = top ? words_top(report->words, top, report->top) : 0;
    char text[WORD_MAX + 1];

    fputs("  \"top\": [", out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%s\n    {\"word\": ", i ? "," : "");
        put_text(out, printable(&top[i], text));
        fprintf(out, ", \"count\": %" PRIu64 ", \"share\": %.8f}", top[i].count,
                share_of(top[i].count, words_total(report->words)) / 100);
    }
    fputs("\n  ]\n}\n", out);
    free(top);
}

void
report_json(const struct report *report, FILE *out)
{
    static const char *const verdicts[] = { "null", "true", "false" };
    const finished *sum = &report->sum;
    double seconds = (double)sum->elapsed_ms / 1e3;

    fprintf(out, "{\n  \"words\": %" PRIu64 ",\n  \"different\": %zu,\n",
            words_total(report->words), words_different(report->words));
    fprintf(out,
            "  \"files\": %" PRIu64 ",\n  \"bytes\": %" PRIu64 ",\n  \"unreadable\": %" PRIu64
            ",\n",
            sum->files, sum->bytes, sum->problems);
    fprintf(out,
            "  \"chunks\": %" PRIu64 ",\n  \"redone\": %" PRIu64
            ",\n  \"seconds\": %.3f,\n  \"megabytes_per_second\": %.1f,\n  \"verified\": %s,\n",
            sum->chunks, sum->redone, seconds, rate(sum->bytes, seconds),
            verdicts[report->verdict]);
    fputs("  \"processes\": [", out);
    for (unsigned i = 0; i < report->n_shares; i++) {
        const share *did = &report->shares[i];

        fprintf(out, "%s\n    {\"node\": ", i ? "," : "");
        put_text(out, did->node);
        fprintf(out,
                ", \"pid\": %" PRId64 ", \"chunks\": %" PRIu64 ", \"files\": %" PRIu64
                ", \"bytes\": %" PRIu64 ", \"deaths\": %" PRIu32 "}",
                did->pid, did->chunks, did->files, did->bytes, did->deaths);
    }
    fputs("\n  ],\n", out);
    put_top(report, out);
}
