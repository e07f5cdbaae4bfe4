/*
 * acceptor.h - takes connections, and passes them on
 */
#ifndef ACCEPTOR_H
#define ACCEPTOR_H

#include <troupe/troupe.h>

struct acceptor_args {
    int listener; /* non-blocking; ours from then on */
    troupe_ref servers;
};

extern const troupe_behavior acceptor_behavior;

#endif
