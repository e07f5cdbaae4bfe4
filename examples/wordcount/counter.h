/*
 * counter.h - counts the words of one chunk after the other, wherever it is spawned
 */
#ifndef COUNTER_H
#define COUNTER_H

#include <troupe/troupe.h>

enum {
    COUNTER_WINDOW = 2
}; /* chunks that one has at a time: it reads one while it counts another */

extern const troupe_behavior counter_behavior;

#endif
