/*
 * tsan.c - what ThreadSanitizer is to pass over
 */
#include "runtime/tsan.h"

const char *__tsan_default_suppressions(void);

/* libzmq's own thread copies the bytes of messages, and has them freed, in an order that is hidden from the sanitizer
 * because libzmq is not built for it. Each race that is found before it is passed over costs a second of looking up
 * names, on that thread: so what it copies is not looked at in the first place, and what we do there ourselves says its
 * order (trp_tsan_received). */
__attribute__((visibility("default"))) const char *
__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so\n"
           "race:libzmq.so\n";
}
