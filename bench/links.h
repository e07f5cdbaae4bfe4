/*
 * links.h - what the files of bench_links share
 */
#ifndef BENCH_LINKS_H
#define BENCH_LINKS_H

#include <stdbool.h>

#include "bench.h"

/* Ends the program: a benchmark that went wrong has no result. */
void links_fail(const char *what);

/* The bytes of a workload about blobs, by its name: "blob-16m", "pass-64k"; 0: it is about something else. */
uint64_t links_blob_size(const char *workload);
/* Run it: blobs one way, filled here and read there; or one that goes there and back without being looked at. */
void links_measure_blobs(troupe_self *me, const char *node, const struct bench_run *run);

#endif
