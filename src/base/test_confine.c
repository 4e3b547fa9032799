/* Giving up rights is for good, so each test does it in a child. */
#include "base/fd.h"
#include "base/landlock.h"
#include "base/seccomp.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child met, told by its exit status: 0, or the number of the first thing that was not so. */
typedef int (*Child)(const char *folder);

static void
in_child(Child child)
{
    g_autofree char *folder = g_dir_make_tmp("kho-confine-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(folder, "file", NULL);
    g_autofree char *made = g_build_filename(folder, "made", NULL);
    int status;

    g_assert_true(g_file_set_contents(file, "bytes", -1, NULL));
    pid_t pid = fork();
    g_assert_cmpint(pid, >=, 0);
    if (pid == 0)
        _exit(child(folder));
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    g_unlink(made);
    g_unlink(file);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

static gpointer
think(gpointer data)
{
    return data;
}

static gboolean
opens(const char *folder, const char *name, int flags, int errno_value)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    gboolean as_said = fd >= 0 ? errno_value == 0 : errno == errno_value;

    fd_clear(&fd);
    return as_said;
}

static int
without_calls(const char *folder)
{
    SeccompFilter filter;

    seccomp_begin(&filter);
    seccomp_keep_in(&filter);
    if (seccomp_end(&filter, 0) != 0)
        return 1;
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM)
        return 2;
    if (fork() >= 0 || errno != EPERM)
        return 3;
    if (g_thread_join(g_thread_new("think", think, (gpointer) folder)) != folder)
        return 4;
    if (mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        return 5;
    return opens(folder, "made", O_WRONLY | O_CREAT, 0) ? 0 : 6;
}

static int
without_names(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "file", NULL);
    SeccompFilter filter;

    seccomp_begin(&filter);
    seccomp_keep_names(&filter);
    if (seccomp_end(&filter, 0) != 0)
        return 1;
    if (unlink(path) == 0 || errno != EPERM)
        return 2;
    if (chmod(path, 0777) == 0 || errno != EPERM)
        return 3;
    return opens(folder, "file", O_RDONLY, 0) ? 0 : 4;
}

/* What may be read may not be written; nothing else is opened. */
static int
with_one_file(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "file", NULL);
    g_auto(Landlock) landlock = { .ruleset = -1 };
    SeccompFilter filter;

    seccomp_begin(&filter);
    if (!landlock_begin(&landlock, NULL) || !landlock_may_read(&landlock, path, NULL)
        || !landlock_may_read(&landlock, "/does/not/exist", NULL) || seccomp_end(&filter, 0) != 0
        || !landlock_end(&landlock, NULL))
        return 1;
    if (!opens(folder, "file", O_RDONLY, 0))
        return 2;
    if (!opens(folder, "file", O_RDWR, EACCES) || !opens(folder, "made", O_WRONLY | O_CREAT, EACCES))
        return 3;
    return opens("/etc", "passwd", O_RDONLY, EACCES) ? 0 : 4;
}

static int
with_a_folder(const char *folder)
{
    g_auto(Landlock) landlock = { .ruleset = -1 };
    SeccompFilter filter;

    seccomp_begin(&filter);
    if (!landlock_begin(&landlock, NULL) || !landlock_may_write(&landlock, folder, NULL)
        || seccomp_end(&filter, 0) != 0 || !landlock_end(&landlock, NULL))
        return 1;
    if (!opens(folder, "file", O_RDWR, 0) || !opens(folder, "made", O_WRONLY | O_CREAT, 0))
        return 2;
    return opens("/etc", "passwd", O_RDONLY, EACCES) ? 0 : 3;
}

static void
test_calls(void)
{
    in_child(without_calls);
}

static void
test_names(void)
{
    in_child(without_names);
}

static void
test_files(void)
{
    g_auto(Landlock) landlock = { .ruleset = -1 };

    if (!landlock_begin(&landlock, NULL)) {
        g_test_message("this kernel has no Landlock: kho says so and goes without");
        g_assert_cmpint(landlock.ruleset, ==, -1);
        return;
    }
    in_child(with_one_file);
    in_child(with_a_folder);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/confine/calls", test_calls);
    g_test_add_func("/confine/names", test_names);
    g_test_add_func("/confine/files", test_files);
    return g_test_run();
}
