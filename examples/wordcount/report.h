/*
 * report.h - what came out, for people and as JSON
 */
#ifndef REPORT_H
#define REPORT_H

#include <stdio.h>

#include "coordinator.h"
#include "messages.h"
#include "words.h"

enum verdict { NOT_VERIFIED, VERIFIED, DIFFERS };

struct report {
    const struct job *job;
    finished sum; /* without its words */
    struct words *words;
    share *shares;
    unsigned n_shares, top;
    enum verdict verdict;
    double plain_seconds;
};

void report_text(const struct report *report, FILE *out);
void report_json(const struct report *report, FILE *out);

#endif
