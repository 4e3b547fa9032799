/* Rules held: a process is named by pid, start time and boot together; waiting, reaping, who holds a lock.
 * Ending is in test_proc.c. */
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/spawn.h"

#include <fcntl.h>
#include <kho/error.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static SpawnChild
sleeper(void)
{
    static const char *const argv[] = { "sleep", "1000", NULL };
    SpawnChild child = { .pidfd = -1 };

    g_assert_true(spawn_start(&(SpawnSpec){ .argv = argv }, &child, NULL));
    return child;
}

static void
test_identity(void)
{
    SpawnChild child = sleeper();
    ProcId id;
    ProcId other;

    g_assert_true(proc_identify(child.pid, &id, NULL));
    g_assert_cmpuint(id.start_ticks, >, 0);
    g_assert_cmpuint(strlen(id.boot_id), ==, 36);
    fd_auto int fd = proc_open(&id, NULL);
    g_assert_cmpint(fd, >=, 0);

    /* Each member that differs makes it another process. */
    other = id;
    other.start_ticks++;
    g_assert_cmpint(proc_open(&other, NULL), ==, -1);
    other = id;
    other.boot_id[0] = other.boot_id[0] == '0' ? '1' : '0';
    g_assert_cmpint(proc_open(&other, NULL), ==, -1);
    other = id;
    other.pid = 0;
    g_assert_cmpint(proc_open(&other, NULL), ==, -1);

    g_assert_true(proc_signal(fd, SIGKILL, NULL));
    g_assert_true(proc_wait_end(fd, deadline_in(60000), "the child", NULL));
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(proc_open(&id, &error), ==, -1); /* a zombie counts as gone */
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    g_assert_false(proc_identify(child.pid, &other, NULL));
    g_assert_true(proc_signal(fd, SIGTERM, NULL)); /* ended: no error */
    spawn_end(&child);
}

static void
test_reap(void)
{
    SpawnChild child = sleeper();
    gboolean ended = TRUE;
    int status = 0;
    g_autoptr(GError) error = NULL;

    g_assert_true(proc_reap(child.pid, &ended, &status, NULL));
    g_assert_false(ended);
    g_assert_false(proc_wait_end(child.pidfd, deadline_in(10), "the child", &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_assert_true(proc_signal(child.pidfd, SIGSEGV, NULL));
    g_assert_true(proc_wait_end(child.pidfd, deadline_in(60000), "the child", NULL));
    g_assert_true(proc_reap(child.pid, &ended, &status, NULL));
    g_assert_true(ended);
    g_autofree char *text = proc_status_text(status);
    g_assert_cmpstr(text, ==, "killed by signal 11 (Segmentation fault)");
    fd_clear(&child.pidfd);
}

static void
test_stopped(void)
{
    SpawnChild child = sleeper();
    int status;

    g_assert_false(proc_is_stopped(child.pid));
    g_assert_true(proc_signal(child.pidfd, SIGSTOP, NULL));
    g_assert_cmpint(waitpid(child.pid, &status, WUNTRACED), ==, child.pid);
    g_assert_true(proc_is_stopped(child.pid));
    spawn_end(&child);
    g_assert_false(proc_is_stopped(child.pid));
}

/* Who merely has the file open, and who holds it itself, is not told of; who inherited a lock is. */
static void
test_holders(void)
{
    static const char *const argv[] = { "sleep", "1000", NULL };
    fd_auto int looking = pipe_memory("held", "x", 1, NULL);
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", looking);
    fd_auto int locked = fd_open(path, O_RDWR, 0, NULL);
    SpawnFd looks[] = { { looking, 9 } };
    SpawnFd holds[] = { { locked, 9 } };
    SpawnChild children[3];

    g_assert_true(fd_lock_range(locked, 0, 1, TRUE, "held", NULL));
    for (int i = 0; i < 3; i++)
        g_assert_true(spawn_start(&(SpawnSpec){ .argv = argv, .fds = i == 0 ? looks : holds, .n_fds = 1 },
                                  &children[i], NULL));
    g_autoptr(GArray) holders = proc_holders(looking);
    g_assert_cmpuint(holders->len, ==, 2);
    for (guint i = 0; i < 2; i++)
        g_assert_cmpint(g_array_index(holders, ProcId, i).pid, ==, children[i + 1].pid);
    for (int i = 0; i < 3; i++)
        spawn_end(&children[i]);
}

static void
test_own_program(void)
{
    g_autofree char *path = proc_own_program(NULL);

    g_assert_nonnull(strstr(path, "test-"));
    g_assert_cmpint(proc_own_pid(), ==, getpid());
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proc/identity", test_identity);
    g_test_add_func("/proc/reap", test_reap);
    g_test_add_func("/proc/stopped", test_stopped);
    g_test_add_func("/proc/holders", test_holders);
    g_test_add_func("/proc/own-program", test_own_program);
    return g_test_run();
}
