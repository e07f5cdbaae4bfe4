/*
 * duration.h - times as people write and read them: 120.5ms, 3.2 h
 */
#ifndef TOOLS_DURATION_H
#define TOOLS_DURATION_H

#include <stddef.h>
#include <stdint.h>

enum { DURATION_TEXT_MAX = 40 };

/* A number and ns, us, ms or s, as in the texts of faults. -EINVAL: it is none; -ERANGE: it is longer than 292 years. */
int duration_parse(const char *text, int64_t *ret_ns);
/* The shortest text that means exactly this; of a time that is not negative. */
const char *duration_exact(int64_t ns, char into[DURATION_TEXT_MAX]);
/* Rounded, for people: "350 ms", "12.4 s", "3.2 h". */
const char *duration_about(double seconds, char into[DURATION_TEXT_MAX]);
/* With so many digits that are not 0, downwards, but not to 0. */
int64_t duration_rounded(int64_t ns, unsigned digits);

#endif
