/*
 * launch.c - starting processes, and why they have ended
 */
#include "actors/remote.h"

bool
trp_launch_obituary(trp_runtime *rt, trp_link *link, char *text, size_t size, int *ret_code)
{
    return true;
}
