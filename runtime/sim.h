/*
 * sim.h - the simulated world: one thread, virtual time, every choice from one seed
 */
#ifndef TRP_SIM_H
#define TRP_SIM_H

#include "runtime/world.h"

/* The process's simulated world, made at first use; later calls ignore `seed`. NULL: no memory. All
 * nodes in it run on the thread that made it. */
trp_world *trp_sim_world(uint64_t seed);

#endif
