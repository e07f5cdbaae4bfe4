#ifndef TRP_PROCESS_H
#define TRP_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* When a process started, in clock ticks since boot: with the pid, which is used again, it says which process is meant. 0: there is no
 * such process, or it is dead and not buried yet. */
uint64_t trp_process_started(pid_t pid);

#endif
