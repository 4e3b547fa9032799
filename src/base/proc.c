#include "base/proc.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int
open_pidfd(pid_t pid)
{
    return (int) syscall(SYS_pidfd_open, pid, 0);
}

/* Fields of /proc/PID/stat, as proc(5) numbers them. */
#define STAT_STATE   3
#define STAT_FLAGS   9
#define STAT_START   22
#define STAT_SIGNALS 31
/* In the flags: the process is on its way out. */
#define FLAG_EXITING 0x4

typedef struct {
    char state;
    guint64 flags, start_ticks, signals; /* signals: pending, bit 0 is signal 1 */
} ProcStat;

static gboolean
read_stat(pid_t pid, ProcStat *stat)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *text = fd_read_file(path, 64 << 10, NULL, NULL);
    /* The command in the second field may hold anything; what follows it is field 3 on, after a space. */
    const char *rest = text ? strrchr(text, ')') : NULL;
    g_auto(GStrv) fields = rest ? g_strsplit(rest, " ", STAT_SIGNALS) : NULL;

    if (!fields || g_strv_length(fields) < STAT_SIGNALS - 1)
        return FALSE;
    stat->state = fields[STAT_STATE - 2][0];
    return g_ascii_string_to_unsigned(fields[STAT_FLAGS - 2], 10, 0, G_MAXUINT64, &stat->flags, NULL)
           && g_ascii_string_to_unsigned(fields[STAT_START - 2], 10, 0, G_MAXUINT64, &stat->start_ticks, NULL)
           && g_ascii_string_to_unsigned(fields[STAT_SIGNALS - 2], 10, 0, G_MAXUINT64, &stat->signals, NULL);
}

pid_t
proc_own_pid(void)
{
    return getpid();
}

gboolean
proc_is_stopped(pid_t pid)
{
    ProcStat stat;

    return read_stat(pid, &stat) && (stat.state == 'T' || stat.state == 't');
}

gboolean
proc_is_ending(pid_t pid)
{
    ProcStat stat;

    return !read_stat(pid, &stat) || stat.state == 'Z' || stat.state == 'X' || (stat.flags & FLAG_EXITING)
           || (stat.signals & G_GUINT64_CONSTANT(1) << (SIGKILL - 1));
}

gboolean
proc_identify(pid_t pid, ProcId *id, GError **error)
{
    ProcId found = { .pid = pid };
    ProcStat stat;

    if (!read_stat(pid, &stat) || stat.state == 'Z' || stat.state == 'X')
        return fail(error, KHO_ERROR_NOT_FOUND, "there is no process %d", (int) pid);
    found.start_ticks = stat.start_ticks;
    g_autofree char *boot = fd_read_file("/proc/sys/kernel/random/boot_id", 1 << 10, NULL, error);
    if (!boot)
        return FALSE;
    g_strlcpy(found.boot_id, g_strstrip(boot), sizeof found.boot_id);
    *id = found;
    return TRUE;
}

int
proc_open(const ProcId *id, GError **error)
{
    ProcId now;
    fd_auto int fd = id->pid > 0 ? open_pidfd(id->pid) : -1;

    /* Verified after the open: from then on the descriptor cannot come to mean another process. */
    if (fd < 0 || !proc_identify(id->pid, &now, NULL) || now.start_ticks != id->start_ticks
        || strcmp(now.boot_id, id->boot_id) != 0) {
        fail(error, KHO_ERROR_NOT_FOUND, "process %d has ended", (int) id->pid);
        return -1;
    }
    return fd_steal(&fd);
}

int
proc_open_child(pid_t pid, GError **error)
{
    int fd = open_pidfd(pid);

    if (fd < 0)
        fail_errno(error, errno, "cannot watch process %d", (int) pid);
    return fd;
}

int
proc_take_fd(int pidfd, int fd, GError **error)
{
    int taken = (int) syscall(SYS_pidfd_getfd, pidfd, fd, 0);

    if (taken < 0)
        fail_errno(error, errno, "cannot share descriptor %d of another process", fd);
    return taken;
}

gboolean
proc_signal(int pidfd, int signal_number, GError **error)
{
    if (syscall(SYS_pidfd_send_signal, pidfd, signal_number, NULL, 0) == 0 || errno == ESRCH)
        return TRUE;
    return fail_errno(error, errno, "cannot send signal %d", signal_number);
}

gboolean
proc_wait_end(int pidfd, gint64 deadline_ms, const char *what, GError **error)
{
    return pipe_wait_readable(pidfd, deadline_ms, what, error);
}

gboolean
proc_reap(pid_t pid, gboolean *ended, int *status, GError **error)
{
    pid_t found;

    do
        found = waitpid(pid, status, WNOHANG);
    while (found < 0 && errno == EINTR);
    if (found < 0)
        return fail_errno(error, errno, "cannot wait for process %d", (int) pid);
    *ended = found == pid;
    return TRUE;
}

char *
proc_status_text(int status)
{
    if (WIFSIGNALED(status))
        return g_strdup_printf("killed by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    return g_strdup_printf("exit status %d", WEXITSTATUS(status));
}

gboolean
proc_detach(GError **error)
{
    pid_t pid = fork();

    if (pid < 0)
        return fail_errno(error, errno, "cannot start a process");
    if (pid > 0)
        _exit(0);
    setsid();
    fd_auto int null = fd_open("/dev/null", O_RDWR, 0, error);
    if (null < 0)
        return FALSE;
    for (int i = 0; i < 3; i++)
        if (dup2(null, i) < 0)
            return fail_errno(error, errno, "cannot leave the terminal");
    if (null < 3)
        fd_steal(&null);
    return TRUE;
}

gboolean
proc_become(uid_t uid, gid_t gid, GError **error)
{
    /* A process that changed its user is hidden (/proc/PID/fd) from the new one until it says otherwise. */
    if (setgroups(1, &gid) == 0 && setgid(gid) == 0 && setuid(uid) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0)
        return TRUE;
    return fail_errno(error, errno, "cannot go on as user %u", (guint) uid);
}

char *
proc_own_program(GError **error)
{
    g_autoptr(GError) why = NULL;
    char *path = g_file_read_link("/proc/self/exe", &why);

    if (!path)
        fail(error, KHO_ERROR_NOT_FOUND, "cannot tell which program runs: %s", why->message);
    return path;
}

/* A descriptor that was inherited shares its open file, and so its locks, with where it came from. */
static gboolean
shows_lock(const char *pid, const char *fd)
{
    g_autofree char *path = g_strdup_printf("/proc/%s/fdinfo/%s", pid, fd);
    g_autofree char *text = fd_read_file(path, 256 << 10, NULL, NULL);
    const char *line = text ? strstr(text, "lock:\t") : NULL;

    return line && strstr(line, "OFDLCK");
}

static gboolean
holds_lock(const char *pid, const struct stat *file)
{
    g_autofree char *folder = g_strdup_printf("/proc/%s/fd", pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        struct stat st;
        if (stat(path, &st) == 0 && st.st_dev == file->st_dev && st.st_ino == file->st_ino
            && shows_lock(pid, name))
            return TRUE;
    }
    return FALSE;
}

static gint
by_age(gconstpointer a, gconstpointer b)
{
    const ProcId *one = a;
    const ProcId *other = b;

    if (one->start_ticks != other->start_ticks)
        return one->start_ticks < other->start_ticks ? -1 : 1;
    return one->pid - other->pid;
}

GArray *
proc_holders(int fd)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(ProcId));
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    struct stat file;
    const char *name;
    guint64 pid;
    ProcId id;

    if (fstat(fd, &file) != 0)
        return found;
    while (dir && (name = g_dir_read_name(dir)))
        if (num_parse_uint(name, G_MAXINT, "pid", &pid, NULL) && (pid_t) pid != getpid()
            && holds_lock(name, &file) && proc_identify((pid_t) pid, &id, NULL))
            g_array_append_val(found, id);
    g_array_sort(found, by_age);
    return found;
}

#define OWN_COMMAND_MAX_BYTES (64 * 1024)

char *
proc_own_command(void)
{
    gsize len = 0;
    g_autofree char *raw = fd_read_file("/proc/self/cmdline", OWN_COMMAND_MAX_BYTES, &len, NULL);

    if (!raw || len == 0)
        return g_strdup("?");
    for (gsize i = 0; i + 1 < len; i++)
        if (raw[i] == '\0')
            raw[i] = ' ';
    g_autofree char *valid = g_utf8_make_valid(raw, -1);
    g_autofree char *line = error_one_line(valid);
    g_autofree char *start = g_utf8_substring(line, 0, MIN(g_utf8_strlen(line, -1), 50));
    return g_strconcat(start, strlen(start) < strlen(line) ? "..." : "", NULL);
}
