/*
 * duration.c - times as people write and read them: 120.5ms, 3.2 h
 */
#include "duration.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int64_t ns;
} units[] = {
    { "s", 1000000000 },
    { "ms", 1000000 },
    { "us", 1000 },
    { "ns", 1 },
};

enum { N_UNITS = sizeof units / sizeof units[0] };

static int64_t
unit_of(const char *name)
{
    for (int i = 0; i < N_UNITS; i++) {
        if (strcmp(units[i].name, name) == 0) {
            return units[i].ns;
        }
    }
    return 0;
}

int
duration_parse(const char *text, int64_t *ret_ns)
{
    size_t whole = strspn(text, "0123456789"), broken = 0;
    const char *name = text + whole;
    int64_t ns = 0, unit;

    if (*name == '.') {
        broken = strspn(name + 1, "0123456789");
        name += 1 + broken;
    }
    unit = unit_of(name);
    if (whole + broken == 0 || unit == 0) {
        return -EINVAL;
    }
    for (size_t i = 0; i < whole; i++) {
        if (__builtin_mul_overflow(ns, 10, &ns) || __builtin_add_overflow(ns, text[i] - '0', &ns)) {
            return -ERANGE;
        }
    }
    if (__builtin_mul_overflow(ns, unit, &ns)) {
        return -ERANGE;
    }
    for (size_t i = 0; i < broken && unit > 1; i++) { /* less than a nanosecond is nothing */
        unit /= 10;
        if (__builtin_add_overflow(ns, (text[whole + 1 + i] - '0') * unit, &ns)) {
            return -ERANGE;
        }
    }
    *ret_ns = ns;
    return 0;
}

const char *
duration_exact(int64_t ns, char into[DURATION_TEXT_MAX])
{
    int unit = 0;
    int64_t rest, step;
    char *at = into;

    while (unit < N_UNITS - 1 && ns < units[unit].ns) {
        unit++;
    }
    if (ns == 0) {
        return strcpy(into, "0s");
    }
    at += sprintf(at, "%" PRId64, ns / units[unit].ns);
    rest = ns % units[unit].ns;
    step = units[unit].ns / 10;
    if (rest > 0) {
        *at++ = '.';
    }
    for (; rest > 0; step /= 10) {
        *at++ = (char)('0' + rest / step);
        rest %= step;
    }
    strcpy(at, units[unit].name);
    return into;
}

const char *
duration_about(double seconds, char into[DURATION_TEXT_MAX])
{
    static const struct {
        const char *name;
        double seconds, until;
    } steps[] = {
        { "us", 1e-6, 1e-3 }, { "ms", 1e-3, 1 },          { "s", 1, 120 },
        { "min", 60, 7200 },  { "h", 3600, 2 * 86400.0 }, { "days", 86400, 1e300 },
    };
    int i = 0;
    double value;

    while (seconds >= steps[i].until) {
        i++;
    }
    value = seconds / steps[i].seconds;
    snprintf(into, DURATION_TEXT_MAX, "%.*f %s", value < 100 && value > 0 ? 1 : 0, value,
             steps[i].name);
    return into;
}

int64_t
duration_rounded(int64_t ns, unsigned digits)
{
    int64_t step = 1, front = ns;
    int64_t most = 10;

    for (unsigned i = 1; i < digits && most <= INT64_MAX / 10; i++) {
        most *= 10;
    }
    while (front >= most) {
        front /= 10;
        step *= 10;
    }
    return front * step;
}
