/*
 * tsan.c - what ThreadSanitizer is to pass over
 */
#include "runtime/tsan.h"

const char *__tsan_default_suppressions(void);

/* libzmq's own thread copies the bytes of messages, and frees them, in an order that is hidden from the sanitizer
 * because libzmq is not built for it. */
__attribute__((visibility("default"))) const char *
__tsan_default_suppressions(void)
{
    return "called_from_lib:libzmq.so\n"
           "race:libzmq.so\n";
}
