/*
 * sockets.h - what this process has open: cutting its connections to other nodes, and counting what is left behind
 */
#ifndef CHAOS_SOCKETS_H
#define CHAOS_SOCKETS_H

#include <stdint.h>

#include "support/connection.h"

enum { CUT_HALF = 4 /* beside CUT_CONTROL and CUT_DATA: one direction alone */ };

/* Shut down all connections of these kinds; returns how many there were. */
unsigned sockets_cut(uint32_t kinds);

struct open_files {
    uint32_t pipes, memory, sockets, others;
};

struct open_files sockets_count(void);

#endif
