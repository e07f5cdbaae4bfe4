/*
 * webserver - serves the files of a directory over HTTP, from several processes
 *
 *     $ ./webserver 8080 /usr/share/doc
 *     listening on 127.0.0.1:8080
 *     $ curl http://127.0.0.1:8080/
 *
 * The front process accepts, and passes each connection to one of its worker processes. One that dies takes its own
 * clients with it and nobody else's: new ones go to the others, and to its successor as soon as there is one.
 *
 *   --processes N   worker processes; default: the CPUs there are
 *   --idle-ms MS    how long a client may do nothing; default 10000
 *
 * GET and HEAD of regular files, and index.html of directories; keep-alive, pipelining. Symbolic links are not followed.
 * Port 0 is any port that is free. Only this machine can connect. SIGTERM and SIGINT end it: exit status 0; 1 when
 * something went wrong, 2 for arguments without sense.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "acceptor.h"
#include "arguments.h"
#include "server.h"

enum { PROCESSES_MAX = 64, BACKLOG = 4096 };

struct options {
    unsigned processes, port;
};

__attribute__((format(printf, 1, 2), noreturn)) static void
refuse(const char *format, ...)
{
    va_list args;

    fputs("webserver: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs("\nusage: webserver [--processes N] [--idle-ms MS] PORT DIRECTORY\n", stderr);
    exit(2);
}

static unsigned
number(const char *what, const char *text, unsigned least, unsigned most)
{
    unsigned value;

    if (!arguments_number(text, least, most, &value)) {
        refuse("%s is a number from %u to %u, not '%s'", what, least, most, text);
    }
    return value;
}

/* Runs in every process: each has the directory open. */
static struct options
parse(int argc, char **argv)
{
    static const struct option table[] = {
        { "processes", required_argument, NULL, 'p' },
        { "idle-ms", required_argument, NULL, 'i' },
        { NULL, 0, NULL, 0 },
    };
    struct options options = { .processes = arguments_cpus(PROCESSES_MAX) };
    int option;

    site.idle_ms = 10000;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
        if (option == 'p') {
            options.processes = number("--processes", optarg, 1, PROCESSES_MAX);
        } else if (option == 'i') {
            site.idle_ms = number("--idle-ms", optarg, 1, INT_MAX);
        } else {
            refuse("'%s' is no option, or lacks its number", argv[optind - 1]);
        }
    }
    if (argc - optind != 2) {
        refuse("a port and a directory are needed");
    }
    options.port = number("the port", argv[optind], 0, 65535);
    site.root = open(argv[optind + 1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (site.root < 0) {
        refuse("%s: %s", argv[optind + 1], strerror(errno));
    }
    return options;
}

/* As many descriptors as we may have: each client is one, and the file it reads another. */
static void
raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The listening socket and, in *port, where it listens. -1: errno says why. */
static int
open_listener(unsigned *port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)*port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static int
serve_until_told(troupe_self *me, const struct options *options, int listener)
{
    troupe_pool_options pool = { .behavior = &server_behavior,
                                 .size = options->processes,
                                 .place = TROUPE_EVERY_PROCESS,
                                 .routing = TROUPE_ROUND_ROBIN };
    struct acceptor_args args = { listener, troupe_pool(me, &pool) };

    if (troupe_is_nobody(args.servers) ||
        troupe_is_nobody(
            troupe_spawn_with(me, &acceptor_behavior, .args = &args, .args_size = sizeof args))) {
        return -1;
    }
    printf("listening on 127.0.0.1:%u\n", options->port);
    fflush(stdout);
    return troupe_wait_signal(me) < 0 ? -1 : 0; /* SIGINT or SIGTERM */
}

int
main(int argc, char **argv)
{
    struct options options = parse(argc, argv);
    char node[33];
    troupe_self *me;
    int listener;

    signal(SIGPIPE, SIG_IGN);
    raise_limit();
    snprintf(node, sizeof node, "webserver-%d", (int)getpid());
    me = troupe_start(
        &(troupe_config){ .node = node, .processes = options.processes, .threads = 1 });
    if (!me) {
        fprintf(stderr, "webserver: %s\n", troupe_last_error().text);
        return 1;
    }
    listener = open_listener(&options.port);
    if (listener < 0) {
        fprintf(stderr, "webserver: port %u: %s\n", options.port, strerror(errno));
        troupe_stop(me);
        return 1;
    }
    if (serve_until_told(me, &options, listener) < 0) {
        fprintf(stderr, "webserver: %s\n", troupe_last_error().text);
        troupe_stop(me);
        return 1;
    }
    if (troupe_stop(me) < 0 &&
        troupe_last_error().code != -ECANCELED) { /* clients come to the end */
        fprintf(stderr, "webserver: %s\n", troupe_last_error().text);
        return 1;
    }
    return 0;
}
