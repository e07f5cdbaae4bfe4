/*
 * page.c - the page of a launched process
 */
#include "runtime/page.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mailbox/error.h"
#include "mailbox/memory.h"
#include "runtime/sim.h"

enum { MAGIC = 0x67703174, VERSION = 1 };

_Static_assert(TRP_PAGE_NAMES <= UINT16_MAX, "a name's number has half of a cell's word");

/* ---- the launcher's side ---- */

/* It never changes its size: whoever maps it never meets a hole. */
static int
shape(int fd)
{
    static const struct trp_page empty = { .magic = MAGIC, .version = VERSION };

    if (ftruncate(fd, sizeof empty) < 0 ||
        pwrite(fd, &empty, offsetof(struct trp_page, cells), 0) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        return -errno;
    }
    return 0;
}

int
trp_page_new(trp_world *world)
{
    int fd = world->sim ? trp_sim_fails("memfd") : 0, rc;

    if (fd == 0) {
        fd = memfd_create("troupe-doing", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        fd = fd < 0 ? -errno : fd;
    }
    rc = fd < 0 ? fd : shape(fd);
    if (rc < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return trp_fail(rc, "no page for a process: %s", strerror(-rc));
    }
    return fd;
}

/* A name that the process has written: whatever it is, it can be shown. */
static void
read_name(int fd, uint32_t number, char out[TRP_PAGE_NAME])
{
    size_t size;

    memset(out, 0, TRP_PAGE_NAME);
    if (number == 0 || number >= TRP_PAGE_NAMES ||
        pread(fd, out, TRP_PAGE_NAME - 1,
              (off_t)(offsetof(struct trp_page, names) + number * (size_t)TRP_PAGE_NAME)) <= 0) {
        out[0] = '\0';
    }
    size = strlen(out);
    for (size_t i = 0; i < size; i++) {
        out[i] = out[i] > ' ' && out[i] <= '~' ? out[i] : '?';
    }
    if (size == 0) {
        out[0] = '?';
    }
}

void
trp_page_look(int fd, struct trp_page_view *ret_view)
{
    struct trp_page_cell cells[TRP_PAGE_CELLS];

    *ret_view = (struct trp_page_view){ .n = 0 };
    if (pread(fd, cells, sizeof cells, offsetof(struct trp_page, cells)) != (ssize_t)sizeof cells) {
        return;
    }
    for (size_t i = 0; i < TRP_PAGE_CELLS; i++) {
        uint32_t names = trp_load_relaxed(&cells[i].names); /* a copy of ours */
        uint64_t who = trp_load_relaxed(&cells[i].who);

        if (names != 0 && ret_view->n++ == 0) {
            ret_view->message = trp_load_relaxed(&cells[i].message);
            ret_view->slot = (uint32_t)who;
            ret_view->generation = (uint32_t)(who >> 32);
            read_name(fd, names & UINT16_MAX, ret_view->behavior);
            read_name(fd, names >> 16, ret_view->type);
        }
    }
}

bool
trp_page_load(int fd, uint32_t *ret_actors, uint32_t *ret_spawned)
{
    struct trp_page_cell cells[TRP_PAGE_CELLS];

    *ret_actors = *ret_spawned = 0;
    if (pread(fd, cells, sizeof cells, offsetof(struct trp_page, cells)) != (ssize_t)sizeof cells) {
        return false;
    }
    for (size_t i = 0; i < TRP_PAGE_CELLS; i++) { /* copies of ours */
        *ret_spawned += trp_load_relaxed(&cells[i].n_spawned);
        *ret_actors += trp_load_relaxed(&cells[i].n_spawned) - trp_load_relaxed(&cells[i].n_ended);
    }
    return true;
}

/* ---- the process's side ---- */

/* What our launcher gave us is of that size, and stays so. */
static bool
is_page(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS);
    struct stat it;

    return seals >= 0 && seals & F_SEAL_SHRINK && fstat(fd, &it) == 0 &&
           it.st_size == (off_t)sizeof(struct trp_page);
}

trp_doing *
trp_doing_open(int fd)
{
    trp_doing *doing = NULL;

    if (!is_page(fd)) {
        trp_fail(-EBADF, "descriptor %d is not the page that a launched process is given", fd);
        return NULL; /* nobody knows what it is: so it stays open */
    }
    doing = trp_alloc(sizeof *doing);
    if (doing) {
        doing->page = mmap(NULL, sizeof *doing->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    close(fd);
    if (!doing || doing->page == MAP_FAILED) {
        trp_free(doing);
        trp_fail(-ENOMEM, "no memory for the page of a launched process");
        return NULL;
    }
    pthread_mutex_init(&doing->names_lock, NULL);
    trp_store_relaxed(&doing->page->n_names, 1); /* nobody else is there yet */
    return doing;
}

void
trp_doing_close(trp_doing *doing)
{
    if (doing) {
        munmap(doing->page, sizeof *doing->page);
        pthread_mutex_destroy(&doing->names_lock);
        trp_free(doing);
    }
}

uint16_t
trp_doing_name(trp_doing *doing, const char *name)
{
    uint32_t number;

    pthread_mutex_lock(&doing->names_lock);
    number = trp_load_relaxed(&doing->page->n_names); /* under the lock */
    if (number < TRP_PAGE_NAMES - 1) {
        strncpy(doing->page->names[number], name, TRP_PAGE_NAME - 1);
        trp_store_relaxed(&doing->page->n_names, number + 1);
    } else {
        number = TRP_PAGE_NAMES - 1;
        strncpy(doing->page->names[number], "another", TRP_PAGE_NAME - 1);
    }
    pthread_mutex_unlock(&doing->names_lock);
    return (uint16_t)number;
}

uint16_t
trp_doing_type(trp_doing *doing, const trp_type *type)
{
    uint16_t number = trp_load_relaxed(&doing->types[type->index]); /* as in trp_doing_begin() */

    if (number == 0) { /* two threads at once: two names, equally good */
        number = trp_doing_name(doing, type->name);
        trp_store_relaxed(&doing->types[type->index], number);
    }
    return number;
}
