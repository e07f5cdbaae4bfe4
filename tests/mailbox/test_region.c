/*
 * test_region.c - regions: who may write them, when they are used again, and what is not mapped
 */
#include "types_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <troupe/error.h>

#include "mailbox/blob.h"
#include "mailbox/region.h"
#include "support/memfd.h"

enum { MEGABYTE = 1 << 20, LIMIT = 512 * MEGABYTE };

/* ---- a world whose time the test moves ---- */

static struct {
    int64_t now_ns, due_ns;
    int fails; /* the next calls */
} world;

static int
fails(void *context, const char *call)
{
    return world.fails;
}

static int64_t
now(void *context)
{
    return world.now_ns;
}

static void
due(void *context, int64_t at_ns)
{
    world.due_ns = at_ns;
}

static trp_budget *budget;

static trp_regions *
make_pool(void)
{
    static const struct trp_region_hooks hooks = { fails, now, due };
    trp_regions *regions;

    memset(&world, 0, sizeof world);
    budget = trp_budget_new(LIMIT);
    assert_non_null(budget);
    regions = trp_regions_new(budget, &hooks, NULL);
    assert_non_null(regions);
    return regions;
}

/* With nothing taken, and no descriptor counted. */
static void
free_pool(trp_regions *regions)
{
    trp_regions_free(regions);
    assert_int_equal(trp_budget_used(budget), 0);
    assert_int_equal(trp_region_fds(), 0);
    trp_budget_give(budget, 1);
}

static trp_region *
make(trp_regions *regions, size_t size)
{
    trp_region *region;

    assert_true(trp_budget_take(budget, trp_region_capacity(size)));
    region = trp_region_new(regions, size);
    if (!region) {
        fail_msg("%s", troupe_last_error().text);
    }
    return region;
}

static trp_region *
find(trp_regions *regions, size_t size)
{
    return trp_regions_find(regions, size);
}

/* ---- use, and use again ---- */

static void
a_region_holds_what_was_asked_for_and_is_used_again(void **state)
{
    static const size_t sizes[] = {
        1, 65536, 65537, MEGABYTE, MEGABYTE + 1, 5000001, 64 * MEGABYTE
    };
    trp_regions *regions = make_pool();

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        trp_region *region = make(regions, sizes[i]);
        unsigned char *data = trp_region_data(region);

        assert_in_range(trp_region_capacity(sizes[i]), sizes[i], sizes[i] + sizes[i] / 4 + 65536);
        assert_int_equal(data[0] | data[sizes[i] - 1], 0);
        memset(data, 7, sizes[i]);
        assert_null(find(regions, sizes[i])); /* it is in use */
        trp_region_release(region);
        assert_ptr_equal(find(regions, sizes[i]), region);
        assert_ptr_equal(trp_region_data(region), data);
        trp_region_release(region);
        assert_int_equal(trp_regions_waiting(regions), 1);
        assert_true(trp_regions_shed(regions));
        assert_false(trp_regions_shed(regions));
    }
    free_pool(regions);
}

static void
what_is_lent_is_not_used_again_until_the_last_reader_lets_go(void **state)
{
    trp_regions *regions = make_pool();
    trp_region *region = make(regions, MEGABYTE);
    int fd, copy, second;
    void *seen;

    memset(trp_region_data(region), 7, MEGABYTE);
    fd = trp_region_lend(region);
    assert_true(fd >= 0);
    assert_true(trp_regions_lends(regions));
    second = trp_region_lend(region); /* another description */
    copy = dup(fd);
    seen = trp_region_map(copy, MEGABYTE);
    assert_non_null(seen);
    trp_region_release(region);
    assert_null(find(regions, MEGABYTE));
    trp_region_fd_close(fd);
    assert_null(find(regions, MEGABYTE));
    close(copy);
    assert_null(find(regions, MEGABYTE)); /* mapped still */
    assert_int_equal(((unsigned char *)seen)[MEGABYTE - 1], 7);
    trp_unmap(seen, MEGABYTE);
    assert_null(find(regions, MEGABYTE));
    trp_region_fd_close(second);
    assert_ptr_equal(find(regions, MEGABYTE), region);
    fd = trp_region_lend(region); /* again */
    assert_true(fd >= 0);
    trp_region_release(region);
    assert_null(find(regions, MEGABYTE));
    trp_region_fd_close(fd);
    assert_ptr_equal(find(regions, MEGABYTE), region);
    trp_region_release(region);
    free_pool(regions);
}

/* It has got it as processes do, and is killed while it reads. */
static void
a_reader_that_dies_has_let_go(void **state)
{
    trp_regions *regions = make_pool();
    trp_region *region = make(regions, MEGABYTE);
    int fd = trp_region_lend(region), ends[2];
    char byte;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        void *seen = trp_region_map(fd, MEGABYTE);

        close(fd);
        if (!seen || write(ends[1], seen, 1) != 1) {
            _exit(1);
        }
        pause();
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    trp_region_fd_close(fd);
    trp_region_release(region);
    assert_null(find(regions, MEGABYTE));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_ptr_equal(find(regions, MEGABYTE), region);
    trp_region_release(region);
    close(ends[0]);
    close(ends[1]);
    free_pool(regions);
}

static void
nobody_can_change_what_was_lent(void **state)
{
    static const size_t sizes[] = { MEGABYTE, (size_t)65 * MEGABYTE }; /* used again; used once */
    trp_regions *regions = make_pool();

    for (size_t i = 0; i < TEST_COUNT(sizes); i++) {
        trp_region *region = make(regions, sizes[i]);
        unsigned char *data = trp_region_data(region);
        char path[40];
        int fd, again;

        data[0] = 1;
        data[sizes[i] - 1] = 2;
        fd = trp_region_lend(region);
        assert_true(fd >= 0);
        assert_int_equal(trp_region_check(fd, sizes[i]), 0);
        assert_ptr_equal(trp_region_data(region), data);
        assert_true(data[0] == 1 && data[sizes[i] - 1] == 2);
        assert_int_equal(write(fd, "x", 1), -1);
        assert_int_equal(ftruncate(fd, 0), -1);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        again = open(path, O_RDWR | O_CLOEXEC); /* as an owner would */
        if (again >= 0) {
            assert_int_equal(write(again, "x", 1), -1);
            assert_int_equal(ftruncate(again, 0), -1);
            assert_int_equal(ftruncate(again, 1 << 30), -1);
            assert_int_equal(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096),
                             -1);
            assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0),
                             MAP_FAILED);
            close(again);
        }
        assert_int_equal((fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE) != 0, sizes[i] > TRP_REGION_MAX);
        trp_region_release(region);
        assert_int_equal(trp_regions_waiting(regions), sizes[i] <= TRP_REGION_MAX);
        trp_region_fd_close(fd);
        trp_regions_shed(regions);
    }
    free_pool(regions);
}

/* ---- limits ---- */

static void
what_waits_too_long_is_given_back(void **state)
{
    trp_regions *regions = make_pool();
    trp_region *first = make(regions, MEGABYTE), *second = make(regions, MEGABYTE);

    world.now_ns = 5;
    trp_region_release(first);
    assert_true(world.due_ns == 5 + TRP_REGION_IDLE_NS);
    world.now_ns = 10;
    trp_region_release(second);
    assert_int_equal(trp_regions_waiting(regions), 2);
    assert_true(trp_regions_tend(regions, 11) == 5 + TRP_REGION_IDLE_NS);
    assert_true(trp_regions_tend(regions, 5 + TRP_REGION_IDLE_NS) == 10 + TRP_REGION_IDLE_NS);
    assert_int_equal(trp_regions_waiting(regions), 1);
    assert_true(trp_regions_tend(regions, 10 + TRP_REGION_IDLE_NS) == INT64_MAX);
    assert_int_equal(trp_regions_waiting(regions), 0);
    assert_int_equal(trp_budget_used(budget), 0);
    free_pool(regions);
}

static void
only_so_many_wait(void **state)
{
    enum { N = TRP_REGIONS_MAX + 5, LARGE = 32 * MEGABYTE };
    trp_regions *regions = make_pool();
    trp_region *some[N];

    for (int i = 0; i < N; i++) {
        some[i] = make(regions, MEGABYTE);
    }
    for (int i = 0; i < N; i++) {
        trp_region_release(some[i]);
    }
    assert_int_equal(trp_regions_waiting(regions), TRP_REGIONS_MAX);
    for (int i = 0; i < 8; i++) {
        some[i] = make(regions, LARGE);
    }
    for (int i = 0; i < 8; i++) {
        trp_region_release(some[i]);
    }
    assert_in_range(trp_budget_used(budget), 1, LIMIT / 4); /* a quarter, the newest ones */
    assert_non_null(some[0] = find(regions, LARGE));
    trp_region_release(some[0]);
    free_pool(regions);
}

static void
a_region_may_outlive_its_node(void **state)
{
    trp_regions *regions = make_pool();
    trp_region *first = make(regions, MEGABYTE), *second = make(regions, MEGABYTE);
    int fd = trp_region_lend(second);

    trp_regions_shut(regions);
    trp_regions_free(regions);
    world.due_ns = 0;
    trp_region_release(first);
    assert_true(world.due_ns == 0); /* nobody is asked any more */
    trp_region_release(second);
    assert_int_equal(trp_budget_used(budget), 0);
    assert_int_equal(trp_region_check(fd, MEGABYTE), 0); /* its reader has it still */
    trp_region_fd_close(fd);
    assert_int_equal(trp_region_fds(), 0);
    trp_budget_give(budget, 1);
}

static void
nothing_is_left_when_something_fails(void **state)
{
    trp_regions *regions = make_pool();
    struct rlimit before, few;
    trp_region *region = NULL;

    for (unsigned allowed = 0; !region; allowed++) {
        struct refusal refusal = { .allowed = allowed };

        trp_memory_refuse(refuse_after, &refusal);
        region = trp_region_new(regions, MEGABYTE);
        trp_memory_refuse(NULL, NULL);
        assert_int_equal(troupe_last_error().code, region ? troupe_last_error().code : -ENOMEM);
        assert_int_equal(trp_region_fds(), region ? 1 : 0);
    }
    assert_true(trp_budget_take(budget, trp_region_capacity(MEGABYTE)));
    world.fails = -EMFILE;
    assert_int_equal(trp_region_lend(region), -EMFILE);
    assert_null(trp_region_new(regions, MEGABYTE));
    assert_int_equal(troupe_last_error().code, -EMFILE);
    world.fails = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = TRP_REGION_FDS_SHARE; /* one is the share */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    assert_int_equal(trp_region_lend(region), -EMFILE);
    assert_null(trp_region_new(regions, MEGABYTE));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(trp_region_fds(), 1);
    trp_region_release(region);
    free_pool(regions);
}

/* ---- what others say is a region ---- */

static void
refuse(trp_regions *regions, const char *what, int fd)
{
    troupe_blob *blob;

    print_message("  %s\n", what);
    assert_int_equal(trp_region_check(fd, MEGABYTE), -EBADMSG);
    blob = trp_blob_new_foreign(regions, fd, MEGABYTE);
    assert_null(blob);
    assert_int_equal(troupe_last_error().code, -EBADMSG);
    if (fd >= 0) {
        close(fd); /* it is still ours */
    }
}

static void
what_could_change_under_a_reader_is_refused(void **state)
{
    enum { FIXED = F_SEAL_SHRINK | F_SEAL_GROW, FUTURE = 0x10 };
    char path[] = "/tmp/troupe-region-XXXXXX";
    trp_regions *regions = make_pool();
    int ends[2], file, fd;

    refuse(regions, "no seals", test_memfd(MEGABYTE, 0));
    refuse(regions, "can be written", test_memfd(MEGABYTE, FIXED));
    refuse(regions, "can shrink", test_memfd(MEGABYTE, F_SEAL_GROW | F_SEAL_WRITE));
    refuse(regions, "can grow", test_memfd(MEGABYTE, F_SEAL_SHRINK | F_SEAL_WRITE));
    refuse(regions, "too small", test_memfd(MEGABYTE - 1, FIXED | F_SEAL_WRITE));
    refuse(regions, "nothing", test_memfd(0, FIXED | F_SEAL_WRITE));
    refuse(regions, "its owner's own", test_memfd(MEGABYTE, FIXED | FUTURE));
    refuse(regions, "no descriptor", -1);
    refuse(regions, "a device", open("/dev/zero", O_RDONLY | O_CLOEXEC));
    refuse(regions, "a directory", open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    assert_int_equal(pipe(ends), 0);
    refuse(regions, "a pipe", ends[0]);
    refuse(regions, "its other end", ends[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    refuse(regions, "a socket", ends[0]);
    refuse(regions, "its peer", ends[1]);
    file = mkstemp(path);
    assert_int_equal(ftruncate(file, MEGABYTE), 0);
    unlink(path);
    refuse(regions, "a file", file);
    fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
    if (fd >= 0 && ftruncate(fd, 2 * MEGABYTE) == 0 &&
        fcntl(fd, F_ADD_SEALS, FIXED | F_SEAL_WRITE) == 0) {
        refuse(regions, "huge pages", fd);
    } else if (fd >= 0) {
        close(fd);
    }
    fd = test_memfd(MEGABYTE, FIXED | F_SEAL_WRITE); /* all right, whoever may write it otherwise */
    assert_int_equal(trp_region_check(fd, MEGABYTE), 0);
    assert_int_equal(trp_region_check(fd, 0), -EBADMSG);
    assert_int_equal(trp_region_check(fd, SIZE_MAX), -EBADMSG);
    close(fd);
    free_pool(regions);
}

/* ---- blobs ---- */

static troupe_blob *
make_blob(trp_regions *regions, size_t size)
{
    troupe_blob *blob = trp_blob_new_in(make(regions, size), size);

    assert_non_null(blob);
    memset(troupe_blob_edit(blob), 7, size);
    trp_blob_freeze(blob);
    return blob;
}

static troupe_blob *
receive(trp_regions *regions, troupe_blob *blob)
{
    int fd = dup(trp_blob_lend(blob));
    troupe_blob *foreign = trp_blob_new_foreign(regions, fd, troupe_blob_size(blob));

    assert_non_null(foreign);
    return foreign;
}

static void
a_lent_blob_is_passed_on_without_being_mapped(void **state)
{
    trp_regions *regions = make_pool();
    troupe_blob *blob = make_blob(regions, MEGABYTE);
    troupe_blob *second = receive(regions, blob), *third = receive(regions, second);

    assert_null(troupe_blob_edit(third));
    assert_int_equal(troupe_last_error().code, -EACCES);
    troupe_blob_release(blob);
    assert_null(trp_load_relaxed(&second->seen));
    troupe_blob_release(second);
    assert_null(find(regions, MEGABYTE)); /* the same description goes on */
    assert_int_equal(((const unsigned char *)troupe_blob_data(third))[MEGABYTE - 1], 7);
    assert_ptr_equal(troupe_blob_data(third), troupe_blob_data(third));
    troupe_blob_release(third);
    trp_region_release(find(regions, MEGABYTE));
    free_pool(regions);
}

/* The second time it is mapped already, and shows what is in it now. */
static void
a_view_waits_for_its_memory_and_holds_nothing(void **state)
{
    trp_regions *regions = make_pool();
    trp_region *region = make(regions, MEGABYTE);
    const unsigned char *first = NULL;

    for (int i = 1; i < 5; i++) {
        troupe_blob *blob = trp_blob_new_in(region, MEGABYTE - (size_t)i), *foreign;

        memset(troupe_blob_edit(blob), i, MEGABYTE - (size_t)i);
        trp_blob_freeze(blob);
        foreign = receive(regions, blob);
        assert_int_equal(((const unsigned char *)troupe_blob_data(foreign))[0], i);
        assert_true(!first || first == troupe_blob_data(foreign));
        first = troupe_blob_data(foreign);
        troupe_blob_release(blob);
        assert_null(find(regions, MEGABYTE)); /* it is read */
        troupe_blob_release(foreign);
        assert_int_equal(trp_views_waiting(regions), 1);
        assert_ptr_equal(find(regions, MEGABYTE), region); /* and is not, though it is mapped */
    }
    world.now_ns = TRP_REGION_IDLE_NS - 1;
    assert_true(trp_regions_tend(regions, world.now_ns) == TRP_REGION_IDLE_NS);
    assert_int_equal(trp_views_waiting(regions), 1);
    assert_true(trp_regions_tend(regions, world.now_ns + 1) == INT64_MAX);
    assert_int_equal(trp_views_waiting(regions), 0);
    trp_region_release(region);
    free_pool(regions);
}

static void
only_so_many_views_wait(void **state)
{
    enum { N = TRP_REGIONS_MAX + 3 };
    trp_regions *regions = make_pool();
    troupe_blob *blobs[N], *foreign[N];

    for (int i = 0; i < N; i++) {
        blobs[i] = make_blob(regions, MEGABYTE);
        foreign[i] = receive(regions, blobs[i]);
        assert_non_null(troupe_blob_data(foreign[i]));
    }
    for (int i = 0; i < N; i++) {
        troupe_blob_release(foreign[i]);
    }
    assert_int_equal(trp_views_waiting(regions), TRP_REGIONS_MAX);
    trp_regions_shed(regions);
    assert_int_equal(trp_views_waiting(regions), 0);
    foreign[0] = receive(regions, blobs[0]);
    assert_non_null(troupe_blob_data(foreign[0]));
    for (int i = 0; i < N; i++) {
        troupe_blob_release(blobs[i]);
    }
    trp_regions_shut(regions);
    troupe_blob_release(foreign[0]); /* its node is about to end */
    assert_int_equal(trp_views_waiting(regions), 0);
    free_pool(regions);
}

static void
a_blob_of_plain_memory_is_copied_once(void **state)
{
    trp_regions *regions = make_pool();
    troupe_blob *blob = trp_blob_new(100000), *foreign;
    int fd;

    memset(troupe_blob_edit(blob), 9, 100000);
    trp_blob_freeze(blob);
    assert_int_equal(trp_blob_lend(blob), -ENODATA);
    trp_blob_copy_to(blob, make(regions, 100000));
    trp_blob_copy_to(blob, make(regions, 100000)); /* somebody else, too late */
    assert_int_equal(trp_regions_waiting(regions), 1);
    fd = trp_blob_lend(blob);
    assert_true(fd >= 0);
    assert_int_equal(trp_blob_lend(blob), fd);
    foreign = receive(regions, blob);
    assert_memory_equal(troupe_blob_data(foreign), troupe_blob_data(blob), 100000);
    troupe_blob_release(foreign);
    troupe_blob_release(blob);
    assert_int_equal(trp_regions_waiting(regions), 2);
    free_pool(regions);
}

/* It is mapped at once, its descriptor closed, and passing it on takes a copy. */
static void
few_descriptors_are_not_kept(void **state)
{
    trp_regions *regions = make_pool();
    troupe_blob *blob = make_blob(regions, MEGABYTE), *foreign;
    struct rlimit before, few;
    int lent = trp_blob_lend(blob), fds;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur =
        (rlim_t)(lent + 2 > 16 ? lent + 2
                               : 16); /* a share of two: the region's and what is lent of it */
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    fds = open_fds();
    foreign = receive(regions, blob);
    assert_int_equal(open_fds(), fds);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(((const unsigned char *)troupe_blob_data(foreign))[MEGABYTE - 1], 7);
    assert_int_equal(trp_blob_lend(foreign), -ENODATA);
    troupe_blob_release(blob);
    assert_null(find(regions, MEGABYTE));
    trp_blob_copy_to(foreign, make(regions, MEGABYTE));
    assert_true(trp_blob_lend(foreign) >= 0);
    troupe_blob_release(foreign);
    free_pool(regions);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        GUARDED(a_region_holds_what_was_asked_for_and_is_used_again),
        GUARDED(what_is_lent_is_not_used_again_until_the_last_reader_lets_go),
        GUARDED(a_reader_that_dies_has_let_go),
        GUARDED(nobody_can_change_what_was_lent),
        GUARDED(what_waits_too_long_is_given_back),
        GUARDED(only_so_many_wait),
        GUARDED(a_region_may_outlive_its_node),
        GUARDED(nothing_is_left_when_something_fails),
        GUARDED(what_could_change_under_a_reader_is_refused),
        GUARDED(a_lent_blob_is_passed_on_without_being_mapped),
        GUARDED(a_view_waits_for_its_memory_and_holds_nothing),
        GUARDED(only_so_many_views_wait),
        GUARDED(a_blob_of_plain_memory_is_copied_once),
        GUARDED(few_descriptors_are_not_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
