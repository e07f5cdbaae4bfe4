/*
 * verdict.h - reading the witness
 */
#ifndef CHAOS_VERDICT_H
#define CHAOS_VERDICT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What became of messages of one kind. */
struct verdict_sums {
    uint64_t sent, handled, dead, lost, in_doubt, refused;
};

enum { PLAIN, QUESTIONS, GIFTS, BLOBS, ALL, KINDS };

struct verdict {
    struct verdict_sums sums[KINDS];
    uint64_t dead[16]; /* by reason */
    uint64_t watched, downs, unwatched, asked, answered, unanswered, gifts, closed;
};

/* What is not over yet, and may still be: 0, all is; else a sentence about some of it. */
uint64_t verdict_pending(char *text, size_t size);

/* Look at everything; what is wrong is noted in the witness. */
void verdict_reach(struct verdict *verdict);

void verdict_print(const struct verdict *verdict, FILE *out);
/* The last things that have happened, from so many seconds ago on. */
void verdict_print_events(FILE *out, unsigned n);

#endif
