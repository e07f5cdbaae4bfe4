/*
 * launched.c - the one-shot variable, and the lifeline
 */
#include "runtime/launched.h"
#include "runtime/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mailbox/error.h"

enum { VERSION = 1, WORD_SIZE = 64 };

void
trp_launched_format(const struct trp_launched *it, char out[TRP_LAUNCHED_TEXT_SIZE])
{
    int n = snprintf(out, TRP_LAUNCHED_TEXT_SIZE,
                     TRP_LAUNCHED_VARIABLE
                     "=%d node=%.32s cluster=%.32s launcher=%.32s id=%016" PRIx64 " threads=%u",
                     VERSION, it->node, it->cluster, it->launcher, it->launcher_id, it->threads);

    if (it->lifeline >= 0) {
        n += snprintf(out + n, (size_t)(TRP_LAUNCHED_TEXT_SIZE - n), " lifeline=%d", it->lifeline);
    }
    if (it->page > 0) {
        n += snprintf(out + n, (size_t)(TRP_LAUNCHED_TEXT_SIZE - n), " page=%d", it->page);
    }
    if (it->key_fd > 0) {
        snprintf(out + n, (size_t)(TRP_LAUNCHED_TEXT_SIZE - n), " key=%d", it->key_fd);
    }
}

/* ---- parsing ---- */

enum key { NODE, CLUSTER, LAUNCHER, ID, THREADS, LIFELINE, PAGE, KEY, KEYS };

static const char *const keys[KEYS] = { "node",    "cluster",  "launcher", "id",
                                        "threads", "lifeline", "page",     "key" };
static const unsigned required = 1u << NODE | 1u << CLUSTER | 1u << LAUNCHER | 1u << ID;

/* A number and nothing else: strtoull() alone takes signs, spaces and too much. */
static bool
parse_number(const char *text, int base, uint64_t most, uint64_t *ret_number)
{
    const char *digits = base == 16 ? "0123456789abcdef" : "0123456789";
    uint64_t number = 0;

    for (const char *at = text; *at; at++) {
        const char *digit = strchr(digits, *at);
        uint64_t value = digit ? (uint64_t)(digit - digits) : 0;

        if (!digit || number > (most - value) / (unsigned)base) {
            return false;
        }
        number = number * (unsigned)base + value;
    }
    *ret_number = number;
    return *text != '\0';
}

static bool
parse_name(const char *text, char out[TRP_NODE_NAME_SIZE])
{
    bool valid = trp_node_name_is_valid(text);

    if (valid) {
        snprintf(out, TRP_NODE_NAME_SIZE, "%s", text);
    }
    return valid;
}

static bool
parse_value(enum key key, const char *value, struct trp_launched *it)
{
    uint64_t number = 0;
    bool ok = false;

    switch (key) {
    case NODE:
        return parse_name(value, it->node);
    case CLUSTER:
        return parse_name(value, it->cluster);
    case LAUNCHER:
        return parse_name(value, it->launcher);
    case ID:
        return parse_number(value, 16, UINT64_MAX, &it->launcher_id);
    case THREADS:
        ok = parse_number(value, 10, UINT16_MAX, &number);
        it->threads = (unsigned)number;
        return ok;
    case LIFELINE:
        ok = parse_number(value, 10, INT32_MAX, &number);
        it->lifeline = (int)number;
        return ok;
    case PAGE:
        ok = parse_number(value, 10, INT32_MAX, &number);
        it->page = (int)number;
        return ok && number > 0;
    case KEY:
        ok = parse_number(value, 10, INT32_MAX, &number);
        it->key_fd = (int)number;
        return ok && number > 0;
    case KEYS:
        break;
    }
    return false;
}

/* One "key=value"; *seen has a bit for each key. */
static bool
parse_word(char *word, struct trp_launched *it, unsigned *seen)
{
    char *value = strchr(word, '=');

    if (!value) {
        return false;
    }
    *value++ = '\0';
    for (unsigned key = 0; key < KEYS; key++) {
        if (strcmp(word, keys[key]) == 0) {
            bool again = *seen & 1u << key;

            *seen |= 1u << key;
            return !again && parse_value((enum key)key, value, it);
        }
    }
    return true;
}

static int
refuse(const char *text)
{
    return trp_fail(-EINVAL, TRP_LAUNCHED_VARIABLE " makes no sense: \"%.120s\"", text);
}

/* The next word; *at moves on behind its space. False, and *at stays: there is none, or it is too long. */
static bool
next_word(const char **at, char word[WORD_SIZE])
{
    size_t size = strcspn(*at, " ");

    if (size == 0 || size >= WORD_SIZE) {
        return false;
    }
    memcpy(word, *at, size);
    word[size] = '\0';
    *at += size;
    *at += **at == ' ';
    return true;
}

int
trp_launched_parse(const char *text, struct trp_launched *ret_launched)
{
    struct trp_launched found = { .lifeline = -1 };
    char word[WORD_SIZE];
    const char *at = text;
    uint64_t version = 0;
    unsigned seen = 0;

    if (!next_word(&at, word) || !parse_number(word, 10, UINT32_MAX, &version)) {
        return refuse(text);
    }
    if (version != VERSION) {
        return trp_fail(-EPROTONOSUPPORT,
                        TRP_LAUNCHED_VARIABLE " has version %" PRIu64 "; this troupe reads %d: the "
                                              "launcher is another version of troupe",
                        version, VERSION);
    }
    while (next_word(&at, word)) {
        if (!parse_word(word, &found, &seen)) {
            return refuse(text);
        }
    }
    if (*at || (seen & required) != required) {
        return refuse(text);
    }
    *ret_launched = found;
    return 0;
}

/* ---- the lifeline ---- */

int
trp_lifeline_open(trp_world *world)
{
    int fd = world->child_open(world, trp_pid());

    if (fd < 0) {
        return trp_fail(fd, "cannot open a descriptor of this process: %s", strerror(-fd));
    }
    return fd;
}

/* A pidfd, and not whatever has that number. */
static bool
is_lifeline(int fd)
{
    char path[40], text[512];
    int info;
    ssize_t n;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
    info = open(path, O_RDONLY | O_CLOEXEC);
    if (info < 0) {
        return false;
    }
    n = read(info, text, sizeof text - 1);
    close(info);
    text[n > 0 ? n : 0] = '\0';
    return strstr(text, "\nPid:") != NULL;
}

/* 1, or the error. */
static int
read_key(struct trp_launched *it)
{
    int rc = trp_key_receive(&it->key, it->key_fd);

    return rc < 0 ? rc : 1;
}

int
trp_launched_claim(struct trp_launched *ret_launched)
{
    const char *text = getenv(TRP_LAUNCHED_VARIABLE);
    struct trp_launched found;
    int rc;

    if (trp_sim_is_on()) {
        rc = trp_sim_claim(ret_launched);
        return rc == 1 && ret_launched->key_fd > 0 ? read_key(ret_launched) : rc;
    }
    if (!text) {
        return 0;
    }
    rc = trp_launched_parse(text, &found); /* before it is gone */
    unsetenv(TRP_LAUNCHED_VARIABLE);
    if (rc < 0) {
        return rc;
    }
    if (found.lifeline >= 0) {
        if (!is_lifeline(found.lifeline)) {
            return trp_fail(-EBADF,
                            TRP_LAUNCHED_VARIABLE
                            " says that descriptor %d is the lifeline, and it is not",
                            found.lifeline);
        }
        fcntl(found.lifeline, F_SETFD, FD_CLOEXEC); /* of an open descriptor: cannot fail */
    }
    *ret_launched = found;
    return found.key_fd > 0 ? read_key(ret_launched) : 1;
}
