#include "base/spawn.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the child needs, made before the fork: after it only async-signal-safe calls are allowed, since
 * another thread may have held a lock of malloc. */
typedef struct {
    const char *program;
    const SpawnSpec *spec;
    const char *const *env;
    int *high;  /* for each of spec->fds, its copy above every number wanted */
    int gate;   /* one byte from the caller lets the child go on; its end (the caller died) ends the child */
    int report; /* errno goes here where exec fails; closed by a successful exec */
    int lowest; /* the first number above every one wanted */
} Launch;

/* By the system call: libc's sigaction refuses the two signals that it keeps for itself, and what started kho
 * may have left those ignored too. */
static void
default_signals(void)
{
    static const struct {
        void *handler;
        gulong flags;
        void *restorer;
        guint64 mask;
    } kernel_default = { 0 }; /* SIG_DFL */
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        syscall(SYS_rt_sigaction, i, &kernel_default, NULL, sizeof kernel_default.mask);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Two steps, since a number wanted may be one that is still needed as a source. */
static gboolean
place_fds(const Launch *l)
{
    const SpawnSpec *spec = l->spec;
    gboolean named[3] = { FALSE };

    for (gsize i = 0; i < spec->n_fds; i++)
        if ((l->high[i] = fcntl(spec->fds[i].from, F_DUPFD_CLOEXEC, l->lowest)) < 0)
            return FALSE;
    /* Marked, not closed: the report must outlive this; exec closes the rest. */
    if (syscall(SYS_close_range, 0, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
        return FALSE;
    for (gsize i = 0; i < spec->n_fds; i++) {
        if (dup2(l->high[i], spec->fds[i].to) < 0)
            return FALSE;
        if (spec->fds[i].to < 3)
            named[spec->fds[i].to] = TRUE;
    }
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        if (!named[i] && (null < 0 || (null == i ? fcntl(i, F_SETFD, 0) : dup2(null, i)) < 0))
            return FALSE;
    return TRUE;
}

static void
run_child(const Launch *l)
{
    int errno_value;
    char go;

    /* Before the gate, so that there is no moment at which the caller's end goes unseen. */
    if (l->spec->dies_with_caller)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (pipe_read_some(l->gate, &go, 1) != 1)
        _exit(125);
    if (l->spec->new_session)
        setsid();
    default_signals();
    if (place_fds(l) && chdir("/") == 0 && (!l->spec->confine || l->spec->confine(l->spec->confine_data)))
        execve(l->program, (char *const *) l->spec->argv, (char *const *) l->env);
    errno_value = errno;
    if (write(l->report, &errno_value, sizeof errno_value) < 0)
        _exit(126);
    _exit(127);
}

/* The kernel's words fit no person's question where the file is there and yet no program. */
static gboolean
fail_exec(const char *program, int errno_value, GError **error)
{
    if (g_file_test(program, G_FILE_TEST_IS_DIR))
        return fail(error, KHO_ERROR_INVALID, "cannot start %s: it is a folder", program);
    if (errno_value == ENOEXEC)
        return fail(error, KHO_ERROR_INVALID, "cannot start %s: it is not a program", program);
    if (errno_value == ENOENT && g_file_test(program, G_FILE_TEST_EXISTS))
        return fail(error, KHO_ERROR_NOT_FOUND, "cannot start %s: the interpreter that it names is missing",
                    program);
    return fail_errno(error, errno_value, "cannot start %s", program);
}

/* Waits until exec has closed the report, or reads why it failed. */
static gboolean
read_report(int fd, const char *program, GError **error)
{
    int errno_value;
    gssize n = pipe_read_some(fd, &errno_value, sizeof errno_value);

    return n != sizeof errno_value || fail_exec(program, errno_value, error);
}

static char *
find_program(const char *name, GError **error)
{
    char *path = strchr(name, '/') ? g_strdup(name) : g_find_program_in_path(name);

    if (!path)
        fail(error, KHO_ERROR_NOT_FOUND, "cannot start %s: it is not on PATH", name);
    return path;
}

/* The child's ends of gate and report must not stand where a descriptor of the program will. */
static gboolean
move_above(int *fd, int lowest, GError **error)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, lowest);

    if (moved < 0)
        return fail_errno(error, errno, "cannot make a descriptor");
    close(*fd);
    *fd = moved;
    return TRUE;
}

/* In the caller: lets the child go on, and learns whether its exec worked. */
static gboolean
admit(const SpawnSpec *spec, SpawnChild *started, int *gate, int from_child, GError **error)
{
    started->pidfd = proc_open_child(started->pid, error);
    return started->pidfd >= 0 && (!spec->admit || spec->admit(started->pid, spec->data, error))
           && fd_write_full(*gate, "", 1, spec->argv[0], error)
           && read_report(from_child, spec->argv[0], error);
}

gboolean
spawn_start(const SpawnSpec *spec, SpawnChild *child, GError **error)
{
    g_autofree char *program = find_program(spec->argv[0], error);
    g_autofree int *high = g_new0(int, spec->n_fds + 1);
    fd_auto int from_child = -1;
    fd_auto int report = -1;
    fd_auto int gate_child = -1;
    fd_auto int gate = -1;
    int lowest = 3;

    for (gsize i = 0; i < spec->n_fds; i++)
        lowest = MAX(lowest, spec->fds[i].to + 1);
    if (!program || !pipe_make(&from_child, &report, error) || !pipe_make(&gate_child, &gate, error)
        || !move_above(&report, lowest, error) || !move_above(&gate_child, lowest, error))
        return FALSE;

    Launch launch = { .program = program,
                      .spec = spec,
                      .high = high,
                      .gate = gate_child,
                      .report = report,
                      .lowest = lowest,
                      .env = spec->env ? spec->env : (const char *const *) environ };
    SpawnChild started = { .pid = fork(), .pidfd = -1 };
    if (started.pid < 0)
        return fail_errno(error, errno, "cannot start %s", program);
    if (started.pid == 0) {
        close(gate); /* or the child would wait for itself */
        run_child(&launch);
    }
    fd_clear(&report);
    fd_clear(&gate_child);
    if (!admit(spec, &started, &gate, from_child, error)) {
        spawn_end(&started);
        return FALSE;
    }
    *child = started;
    return TRUE;
}

void
spawn_end(SpawnChild *child)
{
    int status;

    if (child->pid > 0) {
        kill(child->pid, SIGKILL); /* not reaped yet, so the number is still its own */
        while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    fd_clear(&child->pidfd);
    child->pid = 0;
}

void
spawn_result_clear(SpawnResult *result)
{
    g_clear_pointer(&result->out, g_free);
    g_clear_pointer(&result->err, g_free);
}

/* Takes what is there; FALSE at the end. What passes the bound is read and dropped, so that the program goes
 * on. */
static gboolean
drain(int fd, GString *into)
{
    char chunk[16384];
    gssize n = pipe_read_some(fd, chunk, sizeof chunk);

    if (n > 0)
        g_string_append_len(into, chunk, (gssize) MIN((gsize) n, SPAWN_CAPTURE_MAX - into->len));
    return n > 0;
}

/* Reads both pipes and waits for the end; FALSE at the deadline. A grandchild that keeps the pipes open after
 * the program's end is not waited for. */
static gboolean
follow(const SpawnChild *child, int *pipes, GString **texts, gint64 deadline_ms)
{
    gboolean ended = FALSE;

    while (!ended || pipes[0] >= 0 || pipes[1] >= 0) {
        struct pollfd polls[] = { { .fd = pipes[0], .events = POLLIN },
                                  { .fd = pipes[1], .events = POLLIN },
                                  { .fd = ended ? -1 : child->pidfd, .events = POLLIN } };
        int n = poll(polls, G_N_ELEMENTS(polls), ended ? 0 : deadline_left(deadline_ms));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ended;
        for (int i = 0; i < 2; i++)
            if (polls[i].revents && !drain(pipes[i], texts[i]))
                fd_clear(&pipes[i]);
        ended = ended || polls[2].revents;
    }
    return TRUE;
}

gboolean
spawn_run(const SpawnSpec *spec, gint64 deadline_ms, SpawnResult *result, GError **error)
{
    g_autofree SpawnFd *fds = g_new0(SpawnFd, spec->n_fds + 2);
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) err = g_string_new(NULL);
    fd_auto int out_write = -1;
    fd_auto int err_write = -1;
    int pipes[2] = { -1, -1 };
    SpawnSpec mine = *spec;
    SpawnChild child = { .pidfd = -1 };

    if (!pipe_make(&pipes[0], &out_write, error))
        return FALSE;
    gboolean started = pipe_make(&pipes[1], &err_write, error);
    for (gsize i = 0; i < spec->n_fds; i++)
        fds[i] = spec->fds[i];
    fds[spec->n_fds] = (SpawnFd){ out_write, 1 };
    fds[spec->n_fds + 1] = (SpawnFd){ err_write, 2 };
    mine.fds = fds;
    mine.n_fds = spec->n_fds + 2;
    mine.new_session = TRUE;
    started = started && spawn_start(&mine, &child, error);
    fd_clear(&out_write);
    fd_clear(&err_write);

    gboolean done = started && follow(&child, pipes, (GString *[]){ out, err }, deadline_ms);
    fd_clear(&pipes[0]);
    fd_clear(&pipes[1]);
    if (!started)
        return FALSE;
    if (!done) {
        kill(-child.pid, SIGKILL);
        spawn_end(&child);
        return fail(error, KHO_ERROR_TIMEOUT, "%s did not end in time and was killed", spec->argv[0]);
    }
    int status = 0;
    while (waitpid(child.pid, &status, 0) < 0 && errno == EINTR)
        continue;
    fd_clear(&child.pidfd);
    *result = (SpawnResult){ .status = status,
                             .out = g_string_free(g_steal_pointer(&out), FALSE),
                             .err = g_string_free(g_steal_pointer(&err), FALSE) };
    return TRUE;
}
