#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <kho/error.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUARD_MS 60000

static SpawnResult
run_ok(const SpawnSpec *spec)
{
    g_autoptr(GError) error = NULL;
    SpawnResult result = { 0 };

    g_assert_true(spawn_run(spec, deadline_in(GUARD_MS), &result, &error));
    g_assert_no_error(error);
    return result;
}

#define ARGV(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void
test_captures(void)
{
    SpawnResult r = run_ok(&(SpawnSpec){ .argv = ARGV("sh", "-c", "echo out; echo err >&2; pwd; exit 7") });

    g_assert_cmpstr(r.out, ==, "out\n/\n");
    g_assert_cmpstr(r.err, ==, "err\n");
    g_assert_cmpint(WEXITSTATUS(r.status), ==, 7);
    g_autofree char *text = proc_status_text(r.status);
    g_assert_cmpstr(text, ==, "exit status 7");
    spawn_result_clear(&r);
}

/* Only what is named arrives, under its number, though sources and targets cross: 5 -> 6, 6 -> 5. */
static void
test_descriptors(void)
{
    fd_auto int a = pipe_memory("a", "A", 1, NULL);
    fd_auto int b = pipe_memory("b", "B", 1, NULL);
    fd_auto int stray = pipe_memory("stray", "S", 1, NULL);

    g_assert_cmpint(fcntl(stray, F_SETFD, 0), ==, 0); /* even one that is not close-on-exec */
    SpawnFd fds[] = { { a, b }, { b, a }, { a, 40 } };
    g_autofree char *script = g_strdup_printf("cat /proc/self/fd/%d /proc/self/fd/%d /proc/self/fd/40", a, b);
    SpawnResult r = run_ok(&(SpawnSpec){ .argv = ARGV("sh", "-c", script), .fds = fds, .n_fds = 3 });
    g_assert_cmpstr(r.out, ==, "BAA");
    spawn_result_clear(&r);
    r = run_ok(&(SpawnSpec){ .argv = ARGV("ls", "/proc/self/fd"), .fds = fds, .n_fds = 3 });
    g_auto(GStrv) numbers = g_strsplit(g_strchomp(r.out), "\n", -1);
    g_assert_cmpint(g_strv_length(numbers), ==, 7); /* 0 1 2, three of ours, and ls's own */
    g_assert_true(g_strv_contains((const char *const *) numbers, "40"));
    spawn_result_clear(&r);
}

static void
test_not_found(void)
{
    static const struct {
        const char *program;
        KhoErrorCode code;
    } rows[] = {
        { "no-such-program-of-kho", KHO_ERROR_NOT_FOUND },
        { "/nowhere/program", KHO_ERROR_NOT_FOUND },
        { "/dev/null", KHO_ERROR_DENIED },
    };

    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        SpawnChild child = { .pid = -5, .pidfd = -5 };
        g_assert_false(spawn_start(&(SpawnSpec){ .argv = ARGV(rows[i].program) }, &child, &error));
        g_assert_error(error, KHO_ERROR, (gint) rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].program));
        g_assert_cmpint(child.pid, ==, -5);
        g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1); /* the child was reaped */
        g_assert_cmpint(errno, ==, ECHILD);
    }
}

static void
test_deadline(void)
{
    g_autoptr(GError) error = NULL;
    SpawnResult result = { 0 };
    gint64 before_ms = clock_now_ms();

    g_assert_false(spawn_run(&(SpawnSpec){ .argv = ARGV("sh", "-c", "sleep 1000 & sleep 1000") },
                             deadline_in(100), &result, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_assert_cmpint(clock_now_ms() - before_ms, <, GUARD_MS);
}

/* A grandchild that keeps the pipes is not waited for. */
static void
test_grandchild(void)
{
    SpawnResult r = run_ok(&(SpawnSpec){ .argv = ARGV("sh", "-c", "sleep 1000 & echo $!") });
    pid_t pid = (pid_t) g_ascii_strtoll(r.out, NULL, 10);

    g_assert_cmpint(pid, >, 1);
    g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
    spawn_result_clear(&r);
}

/* Much more than a pipe holds, on both. */
static void
test_much_output(void)
{
    SpawnResult r = run_ok(&(SpawnSpec){
        .argv = ARGV("sh", "-c",
                     "head -c 3000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2") });

    g_assert_cmpuint(strlen(r.out), ==, SPAWN_CAPTURE_MAX);
    g_assert_cmpuint(strlen(r.err), ==, 300000);
    spawn_result_clear(&r);
}

static gboolean
on_gate(pid_t pid, gpointer data, GError **error)
{
    ProcId id;

    g_assert_true(proc_identify(pid, &id, NULL));
    *(ProcId *) data = id;
    return TRUE;
}

static gboolean
on_closed_gate(pid_t pid, gpointer data, GError **error)
{
    g_set_error(error, KHO_ERROR, KHO_ERROR_CANCELLED, "not today");
    return FALSE;
}

static void
test_gate(void)
{
    ProcId id = { 0 };
    ProcId again;
    SpawnChild child = { .pidfd = -1 };
    g_autoptr(GError) error = NULL;

    g_assert_true(spawn_start(&(SpawnSpec){ .argv = ARGV("sleep", "1000"), .admit = on_gate, .data = &id },
                              &child, NULL));
    g_assert_cmpint(id.pid, ==, child.pid);
    g_assert_true(proc_identify(child.pid, &again, NULL));
    g_assert_cmpuint(id.start_ticks, ==, again.start_ticks); /* exec changes neither */
    spawn_end(&child);
    g_assert_false(
        spawn_start(&(SpawnSpec){ .argv = ARGV("sleep", "1000"), .admit = on_closed_gate }, &child, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_CANCELLED);
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
}

static gboolean
refuse_with_eperm(gpointer data)
{
    errno = EPERM;
    return FALSE;
}

static gboolean
close_standard_error(gpointer data)
{
    return close(2) == 0;
}

/* Called in the child when its descriptors are in place; what it refuses is not started. */
static void
test_confine(void)
{
    SpawnChild child = { .pidfd = -1 };
    g_autoptr(GError) error = NULL;

    SpawnResult r = run_ok(&(SpawnSpec){ .argv = ARGV("sh", "-c", "echo x >&2 || echo closed"),
                                         .confine = close_standard_error });
    g_assert_cmpstr(r.out, ==, "closed\n");
    spawn_result_clear(&r);
    g_assert_false(spawn_start(&(SpawnSpec){ .argv = ARGV("sleep", "1000"), .confine = refuse_with_eperm },
                               &child, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_DENIED);
    g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
}

static gpointer
start_mortal(gpointer data)
{
    g_assert_true(
        spawn_start(&(SpawnSpec){ .argv = ARGV("sleep", "1000"), .dies_with_caller = TRUE }, data, NULL));
    return NULL;
}

/* The thread that started it has ended. */
static void
test_dies_with_caller(void)
{
    SpawnChild child = { .pidfd = -1 };
    gboolean ended;
    int status;

    g_thread_join(g_thread_new("caller", start_mortal, &child));
    g_assert_true(proc_wait_end(child.pidfd, deadline_in(10000), "sleep", NULL));
    g_assert_true(proc_reap(child.pid, &ended, &status, NULL));
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    child.pid = 0;
    spawn_end(&child);
}

/* Masked and ignored signals do not pass on. */
static void
test_signals(void)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };
    struct sigaction old;
    SpawnResult r;

    sigaction(SIGPIPE, &ignore, &old);
    r = run_ok(&(SpawnSpec){ .argv = ARGV("grep", "SigIgn\\|SigBlk", "/proc/self/status") });
    g_assert_cmpstr(r.out, ==, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    spawn_result_clear(&r);
    sigaction(SIGPIPE, &old, NULL);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/spawn/captures", test_captures);
    g_test_add_func("/spawn/descriptors", test_descriptors);
    g_test_add_func("/spawn/not-found", test_not_found);
    g_test_add_func("/spawn/deadline", test_deadline);
    g_test_add_func("/spawn/grandchild", test_grandchild);
    g_test_add_func("/spawn/much-output", test_much_output);
    g_test_add_func("/spawn/gate", test_gate);
    g_test_add_func("/spawn/signals", test_signals);
    g_test_add_func("/spawn/confine", test_confine);
    g_test_add_func("/spawn/dies-with-caller", test_dies_with_caller);
    return g_test_run();
}
