/* Rules held: one holder at a time, within and between processes; a wait has a deadline and can be cancelled;
 * the refusal names the holder; a dead process holds nothing; ids never repeat. */
#include "store/ids.h"
#include "store/lock.h"
#include "store/test_scratch.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define UUID "7c1de0b2-4c9f-4b7e-9a55-0d6c7b9a1f00"

typedef struct {
    char *root;
    StoreTree *tree;
} Fixture;

static const StoreWait no_wait = { .timeout_ms = 0 };

static void
set_up(Fixture *f, gconstpointer unused)
{
    f->root = scratch_make();
    f->tree = store_tree_open(f->root, NULL);
    g_assert_nonnull(f->tree);
}

static void
tear_down(Fixture *f, gconstpointer unused)
{
    store_tree_free(f->tree);
    scratch_remove(f->root);
}

static StoreLock *
take(Fixture *f, const StoreWait *wait, GError **error)
{
    return store_lock_take(f->tree, STORE_LOCK_POOL, UUID, "pool vmdisks", wait, error);
}

/* A child that holds the lock until it is killed; returns once it does. */
static pid_t
spawn_holder(Fixture *f)
{
    int ready[2];
    char byte;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        if (!take(f, NULL, NULL) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void
test_exclusive(Fixture *f, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    StoreLock *first = take(f, &no_wait, NULL);

    g_assert_nonnull(first);
    g_assert_null(take(f, &no_wait, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    g_assert_nonnull(strstr(error->message, "pool vmdisks"));

    StoreLock *name = store_lock_name(f->tree, STORE_LOCK_POOL, "vmdisks", &no_wait, NULL);
    g_assert_nonnull(name); /* another object's lock is free */
    store_lock_release(name);

    store_lock_release(first);
    first = take(f, &no_wait, NULL);
    g_assert_nonnull(first);
    store_lock_release(first);
}

static void
test_holder_named(Fixture *f, gconstpointer unused)
{
    const StoreWait wait = { .timeout_ms = 60 };
    g_autoptr(GError) error = NULL;
    pid_t pid = spawn_holder(f);
    g_autofree char *says = g_strdup_printf("pid %d (", (int) pid);

    gint64 start_us = g_get_monotonic_time();
    g_assert_null(take(f, &wait, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(error->message, says));
    g_assert_nonnull(strstr(error->message, "test-store-lock"));
    g_assert_cmpint(g_get_monotonic_time() - start_us, >=, 60 * 1000);

    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    StoreLock *lock = take(f, &no_wait, NULL);
    g_assert_nonnull(lock);
    store_lock_release(lock);
}

/* The holder ends at the very moment that the waiter comes. */
static void
test_wait_ends_with_holder(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->tree->run, "lock", STORE_LOCK_POOL, UUID, NULL);
    int ready[2];
    char byte;

    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        StoreLock *held = take(f, NULL, NULL);
        int opened = held ? scratch_watch(path, IN_OPEN) : -1;
        if (opened < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        scratch_await(opened, 1);
        _exit(0);
    }
    g_assert_cmpint(read(ready[0], &byte, 1), ==, 1);
    StoreLock *lock = take(f, NULL, NULL);
    g_assert_nonnull(lock);
    store_lock_release(lock);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    close(ready[0]);
    close(ready[1]);
}

static void
test_cancel(Fixture *f, gconstpointer unused)
{
    volatile gint cancelled = 1;
    const StoreWait wait = { .timeout_ms = 60 * 1000, .cancelled = &cancelled };
    g_autoptr(GError) error = NULL;
    StoreLock *lock = take(f, NULL, NULL);

    g_assert_null(take(f, &wait, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
    store_lock_release(lock);
}

/* Four processes take 50 ids each: 200 different ones, none left out. */
static void
test_ids(Fixture *f, gconstpointer unused)
{
    pid_t pids[4];
    guint id = 0;

    for (guint i = 0; i < G_N_ELEMENTS(pids); i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            for (guint n = 0; n < 50; n++)
                if (!store_next_id(f->tree, NULL, &id, NULL))
                    _exit(1);
            _exit(0);
        }
    }
    for (guint i = 0; i < G_N_ELEMENTS(pids); i++) {
        int status = -1;
        g_assert_cmpint(waitpid(pids[i], &status, 0), ==, pids[i]);
        g_assert_cmpint(status, ==, 0);
    }
    g_assert_true(store_next_id(f->tree, NULL, &id, NULL));
    g_assert_cmpuint(id, ==, 201);
}

/* Whatever stands in the folder beside machines' own has a name that no machine may have. */
static void
test_ids_leave_names_free(Fixture *f, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(f->tree->run, "qemu", NULL);
    guint id = 0, seen = 0;

    g_assert_true(store_next_id(f->tree, NULL, &id, NULL));
    g_autoptr(GDir) folder = g_dir_open(path, 0, NULL);
    const char *name;
    for (; folder && (name = g_dir_read_name(folder)); seen++)
        g_assert_false(store_name_check(name, "machine", NULL));
    g_assert_cmpuint(seen, >, 0);
}

static void
test_ids_corrupt(Fixture *f, gconstpointer unused)
{
    static const char *const texts[] = { "", "x", "-1", "0", "2147483647", "99999999999999999999" };
    g_autofree char *path = g_build_filename(f->tree->run, "qemu", ".next-id", NULL);

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        guint id = 77;

        g_assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        g_assert_false(store_next_id(f->tree, NULL, &id, &error));
        g_assert_error(error, KHO_ERROR, KHO_ERROR_CORRUPT);
        g_assert_cmpuint(id, ==, 77);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, fn) g_test_add("/store/lock/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("exclusive", test_exclusive);
    ADD("holder-named", test_holder_named);
    ADD("wait-ends-with-holder", test_wait_ends_with_holder);
    ADD("cancel", test_cancel);
    ADD("ids", test_ids);
    ADD("ids-leave-names-free", test_ids_leave_names_free);
    ADD("ids-corrupt", test_ids_corrupt);
    return g_test_run();
}
