/* Rules held: a process that was killed counts as ending, before anyone could reap it and after; a stopped
 * one is told from a running one; a pid without its start time names nobody. */
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/spawn.h"

#include <fcntl.h>
#include <kho/error.h>
#include <signal.h>

static void
test_ending(void)
{
    const char *argv[] = { "/bin/sleep", "1000", NULL };
    g_autoptr(GError) error = NULL;
    SpawnSpec spec = { .argv = argv };
    SpawnChild child;
    ProcId id;

    g_assert_true(spawn_start(&spec, &child, &error));
    g_assert_no_error(error);
    g_assert_true(proc_identify(child.pid, &id, &error));
    g_assert_false(proc_is_ending(child.pid));
    g_assert_false(proc_is_stopped(child.pid));

    g_assert_true(proc_signal(child.pidfd, SIGKILL, &error));
    gint64 deadline_ms = deadline_in(10000);
    while (!proc_is_ending(child.pid) && deadline_left(deadline_ms) > 0)
        clock_pause(1);
    g_assert_true(proc_is_ending(child.pid));
    g_assert_true(proc_wait_end(child.pidfd, deadline_in(10000), "sleep", &error));
    g_assert_true(proc_is_ending(child.pid));
    g_assert_false(proc_identify(child.pid, &id, NULL)); /* a zombie counts as none */
    spawn_end(&child);
    g_assert_true(proc_is_ending(child.pid));
}

static void
test_same_pid_other_start(void)
{
    g_autoptr(GError) error = NULL;
    ProcId id;

    g_assert_true(proc_identify(proc_own_pid(), &id, &error));
    id.start_ticks++;
    g_assert_cmpint(proc_open(&id, &error), ==, -1);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
}

/* What is open in another process is shared, its locks too. */
static void
test_take_fd(void)
{
    const char *argv[] = { "/bin/sleep", "1000", NULL };
    g_autoptr(GError) error = NULL;
    fd_auto int file = pipe_memory("text", "abc", 3, &error);
    fd_auto int other = -1;
    SpawnFd fds[] = { { file, 77 } };
    SpawnSpec spec = { .argv = argv, .fds = fds, .n_fds = 1 };
    SpawnChild child;
    gboolean held = FALSE;

    g_assert_true(spawn_start(&spec, &child, &error));
    g_assert_true(fd_lock_range(file, 10, 1, TRUE, "the memory", &error));
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/77", (int) child.pid);
    other = fd_open(path, O_RDWR, 0, &error);
    g_assert_no_error(error);
    g_assert_true(fd_lock_probe(other, 10, 1, TRUE, &held, "the memory", &error));
    g_assert_true(held);

    fd_auto int taken = proc_take_fd(child.pidfd, 77, &error);
    g_assert_no_error(error);
    g_assert_true(fd_unlock_range(taken, 0, 0, "the memory", &error));
    g_assert_true(fd_lock_probe(other, 10, 1, TRUE, &held, "the memory", &error));
    g_assert_false(held);
    g_assert_cmpint(proc_take_fd(child.pidfd, 78, &error), ==, -1);
    g_assert_error(error, KHO_ERROR, KHO_ERROR_IO);
    g_assert_true(proc_signal(child.pidfd, SIGKILL, NULL));
    spawn_end(&child);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/proc/ending", test_ending);
    g_test_add_func("/base/proc/take-fd", test_take_fd);
    g_test_add_func("/base/proc/other-start", test_same_pid_other_start);
    return g_test_run();
}
