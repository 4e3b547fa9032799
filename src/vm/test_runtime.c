/* The run folder's locks, what they are taken for, and a client against a kho-vm that a thread plays. The
 * real kho-vm and QEMU are in tests/e2e. */
#include "base/fd.h"
#include "base/pipe.h"
#include "base/sock.h"
#include "base/spawn.h"
#include "vm/client.h"
#include "vm/folder.h"
#include "vm/log.h"
#include "vm/runtime.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#define GUARD_MS 60000

typedef struct {
    char *top, *run, *log;
} Fixture;

static void
set_up(Fixture *f, gconstpointer data)
{
    f->top = g_dir_make_tmp("kho-run-XXXXXX", NULL);
    f->run = g_build_filename(f->top, "m1", NULL);
    f->log = g_build_filename(f->top, "m1.log", NULL);
}

static void
tear_down(Fixture *f, gconstpointer data)
{
    g_unlink(f->log);
    g_assert_cmpint(g_rmdir(f->top), ==, 0); /* the run folder is gone */
    g_free(f->top);
    g_free(f->run);
    g_free(f->log);
}

static VmPresence
probe(const Fixture *f)
{
    VmPresence presence = (VmPresence) -1;

    g_assert_true(vm_runtime_probe(f->run, &presence, NULL));
    return presence;
}

/* A process that holds @fds, as QEMU does. */
static SpawnChild
holder(const int *fds, gsize n)
{
    static const char *const argv[] = { "sleep", "1000", NULL };
    g_autofree SpawnFd *map = g_new0(SpawnFd, n + 1);
    SpawnChild child = { .pidfd = -1 };

    for (gsize i = 0; i < n; i++)
        map[i] = (SpawnFd){ fds[i], 10 + (int) i };
    g_assert_true(spawn_start(&(SpawnSpec){ .argv = argv, .fds = map, .n_fds = n }, &child, NULL));
    return child;
}

/* Each row of ARCHITECTURE.md's table, in the order of a life. */
static void
test_presence(Fixture *f, gconstpointer data)
{
    g_assert_cmpint(probe(f), ==, VM_ABSENT);
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    g_assert_cmpint(probe(f), ==, VM_ABSENT);
    fd_auto int supervisor = vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL);
    g_assert_cmpint(probe(f), ==, VM_PASSING);
    fd_auto int alive = vm_folder_lock(folder, VM_FILE_ALIVE, NULL);
    g_assert_cmpint(probe(f), ==, VM_SUPERVISED);

    SpawnChild qemu = holder(&alive, 1);
    fd_clear(&alive); /* inherited: still held */
    g_assert_cmpint(probe(f), ==, VM_SUPERVISED);
    fd_clear(&supervisor);
    g_assert_cmpint(probe(f), ==, VM_ORPHANED);
    g_autoptr(GError) error = NULL;
    g_assert_false(vm_runtime_clear(f->run, f->log, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_BUSY);
    spawn_end(&qemu);
    g_assert_cmpint(probe(f), ==, VM_DEAD);
    g_assert_true(vm_runtime_clear(f->run, f->log, NULL));
    g_assert_cmpint(probe(f), ==, VM_ABSENT);
    g_assert_true(vm_runtime_clear(f->run, f->log, NULL)); /* again: nothing to do */
}

static void
test_locks(Fixture *f, gconstpointer data)
{
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    fd_auto int one = vm_folder_lock(folder, VM_FILE_ALIVE, NULL);
    g_autoptr(GError) busy = NULL;
    g_autoptr(GError) gone = NULL;

    g_assert_cmpint(one, >=, 0);
    g_assert_cmpint(vm_folder_lock(folder, VM_FILE_ALIVE, &busy), ==, -1);
    g_assert_error(busy, KHO_ERROR, KHO_ERROR_BUSY);
    fd_auto int supervisor = vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL);
    g_assert_true(vm_folder_write(folder, VM_FILE_STATUS, "{}", NULL));
    g_assert_true(vm_folder_remove(folder, f->run, NULL));
    /* In a folder that was removed nobody can begin. */
    g_assert_cmpint(vm_folder_lock(folder, VM_FILE_ALIVE, &gone), ==, -1);
    g_assert_error(gone, KHO_ERROR, KHO_ERROR_NOT_FOUND);
}

static void
test_write_that_fails(Fixture *f, gconstpointer data)
{
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    g_autoptr(GError) why = NULL;

    g_assert_cmpint(mkdirat(folder, VM_FILE_STATUS, 0700), ==, 0);
    g_assert_false(vm_folder_write(folder, VM_FILE_STATUS, "{}", &why));
    g_assert_nonnull(strstr(why->message, f->run));
    g_assert_nonnull(strstr(why->message, VM_FILE_STATUS));
    g_assert_cmpint(unlinkat(folder, VM_FILE_STATUS, AT_REMOVEDIR), ==, 0);
    g_assert_true(vm_folder_remove(folder, f->run, NULL));
}

static VmStatus *
status_of(const Fixture *f, pid_t qemu, pid_t supervisor)
{
    VmStatus *status = vm_status_new();
    ProcId a = { 0 };
    ProcId b = { 0 };

    g_assert_true(proc_identify(qemu, &a, NULL) && proc_identify(supervisor, &b, NULL));
    *status = (VmStatus){ .name = g_strdup("m1"),
                          .uuid = g_strdup("u"),
                          .state = g_strdup("running"),
                          .reason = g_strdup("booted"),
                          .pid = qemu,
                          .pid_start = a.start_ticks,
                          .supervisor_pid = supervisor,
                          .supervisor_start = b.start_ticks,
                          .boot_id = g_strdup(a.boot_id),
                          .log_path = g_strdup(f->log) };
    return status;
}

/* Both are ended and the folder goes, also when both are stopped; the log tells. */
static void
test_kill(Fixture *f, gconstpointer data)
{
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    int locks[] = { vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL),
                    vm_folder_lock(folder, VM_FILE_ALIVE, NULL) };
    SpawnChild supervisor = holder(locks, 2);
    SpawnChild qemu = holder(&locks[1], 1);

    fd_clear(&locks[0]);
    fd_clear(&locks[1]);
    g_autoptr(VmStatus) status = status_of(f, qemu.pid, supervisor.pid);
    g_assert_true(vm_status_write(status, folder, NULL));
    g_assert_cmpint(probe(f), ==, VM_SUPERVISED);
    if (data)
        g_assert_true(proc_signal(qemu.pidfd, SIGSTOP, NULL) && proc_signal(supervisor.pidfd, SIGSTOP, NULL));
    g_assert_true(vm_runtime_kill(f->run, f->log, "destroyed", GUARD_MS, NULL));
    g_assert_cmpint(probe(f), ==, VM_ABSENT);
    spawn_end(&qemu);
    spawn_end(&supervisor);
    g_autofree char *reason = vm_runtime_last_end(f->log, NULL);
    g_assert_cmpstr(reason, ==, "destroyed");
}

/* A status whose pid another process has now: that one lives on. */
static void
test_kill_spares_others(Fixture *f, gconstpointer data)
{
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    fd_auto int lock = vm_folder_lock(folder, VM_FILE_ALIVE, NULL);
    SpawnChild bystander = holder(NULL, 0);
    g_autoptr(VmStatus) status = status_of(f, bystander.pid, bystander.pid);

    fd_clear(&lock);
    status->pid_start--;
    status->supervisor_start--;
    g_assert_true(vm_status_write(status, folder, NULL));
    g_assert_true(vm_runtime_kill(f->run, f->log, "destroyed", 1000, NULL));
    g_assert_false(proc_is_ending(bystander.pid));
    spawn_end(&bystander);
}

/* ---- a client ---- */

/* What the thread does with one connection: text that is sent for each line that comes, a NULL ends it. */
typedef struct {
    int listener;
    const char *const *answers;
} Script;

static gpointer
play(gpointer data)
{
    const Script *script = data;
    char line[65536];

    g_assert_true(pipe_wait_readable(script->listener, deadline_in(GUARD_MS), "a caller", NULL));
    fd_auto int peer = sock_accept(script->listener, NULL);
    for (const char *const *a = script->answers; *a; a++) {
        g_assert_true(fd_write_full(peer, *a, strlen(*a), "the client", NULL));
        if (!a[1])
            break;
        g_assert_true(pipe_wait_readable(peer, deadline_in(GUARD_MS), "the client", NULL));
        if (pipe_read_some(peer, line, sizeof line) <= 0)
            break;
    }
    /* A script that ends with "" leaves the connection open until the client closes it. */
    gsize n = g_strv_length((char **) script->answers);
    if (strcmp(script->answers[n - 1], "") == 0)
        while (pipe_wait_readable(peer, deadline_in(GUARD_MS), "the client", NULL)
               && pipe_read_some(peer, line, sizeof line) > 0)
            continue;
    return NULL;
}

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\n"

/* Events are kept in their order while answers are waited for; a wait that ends without one leaves the
 * connection as it was, and a late answer is no event. */
static void
test_client_events(Fixture *f, gconstpointer data)
{
    static const char *const answers[] = {
        GREETING,
        "{\"return\":{},\"id\":1}",
        "{\"event\":\"B\",\"n\":1}{\"return\":5,\"id\":2}{\"error\":{},\"id\":1}{\"event\":\"A\",\"n\":2}",
        "{\"event\":\"A\",\"n\":3}{\"return\":6,\"id\":3}",
        "",
        NULL
    };
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    fd_auto int listener = sock_listen(folder, VM_FILE_CLIENTS, NULL);
    Script script = { listener, answers };
    g_autoptr(GThread) thread = g_thread_new("kho-vm", play, &script);
    g_autoptr(GError) error = NULL;
    VmClient *client = vm_client_open(f->run, GUARD_MS, &error);

    json_auto json_t *first = vm_client_call(client, "query-x", NULL, GUARD_MS, &error);
    g_assert_cmpint(json_integer_value(first), ==, 5);
    for (gint n = 1; n <= 2; n++) {
        json_auto json_t *event = vm_client_next_event(client, deadline_in(GUARD_MS), &error);
        g_assert_cmpint(json_int_or(event, "n", -1), ==, n);
    }
    g_assert_null(vm_client_next_event(client, deadline_in(10), &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_clear_error(&error);
    json_auto json_t *second = vm_client_call(client, "query-x", NULL, GUARD_MS, &error);
    g_assert_cmpint(json_integer_value(second), ==, 6);
    json_auto json_t *third = vm_client_next_event(client, deadline_in(GUARD_MS), &error);
    g_assert_cmpint(json_int_or(third, "n", -1), ==, 3);
    vm_client_close(client);
    g_thread_join(g_steal_pointer(&thread));
    fd_auto int supervisor = vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL);
    g_assert_true(vm_folder_remove(folder, f->run, NULL));
}

/* Runs `query-x` against a script; NULL code: the answer's JSON is @expect, otherwise its error says @expect.
 */
static void
test_client(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *answers[6];
        int code; /* -1: success */
        const char *expect;
    } rows[] = {
        { { GREETING, "{\"return\":{},\"id\":1}\n", "{\"return\":{\"a\":5},\"id\":2}\n" }, -1, "{\"a\":5}" },
        { { GREETING, "{\"return\":{},\"id\":1}", "{\"event\":\"X\"}{\"return\":[],\"id\":2}" }, -1, "[]" },
        { { GREETING, "{\"return\":{},\"id\":1}", "{\"return\":9,\"id\":77}{\"return\":3,\"id\":2}" },
          -1,
          "3" },
        { { GREETING, "{\"return\":{},\"id\":1}",
            "{\"id\":2,\"error\":{\"class\":\"DeviceNotFound\",\"desc\":\"d\"}}" },
          KHO_ERROR_NOT_FOUND,
          "QEMU refused query-x: d" },
        { { GREETING, "{\"return\":{},\"id\":1}", "garbage" }, KHO_ERROR_INVALID, "not QMP" },
        { { GREETING, "{\"return\":{},\"id\":1}", "{\"return\":" }, KHO_ERROR_IO, "ended" },
        { { GREETING, "{\"return\":{},\"id\":1}", "" }, KHO_ERROR_TIMEOUT, "no answer in time" },
        { { "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\",\"kho-code\":\"denied\"}}" },
          KHO_ERROR_DENIED,
          "no" },
        { { "" }, KHO_ERROR_TIMEOUT, "no answer in time" },
    };
    gsize i = GPOINTER_TO_SIZE(data);
    fd_auto int folder = vm_folder_open(f->run, TRUE, NULL);
    fd_auto int listener = sock_listen(folder, VM_FILE_CLIENTS, NULL);
    Script script = { listener, rows[i].answers };
    g_autoptr(GThread) thread = g_thread_new("kho-vm", play, &script);
    guint timeout_ms = rows[i].code == KHO_ERROR_TIMEOUT ? 50 : GUARD_MS;
    g_autoptr(GError) error = NULL;
    VmClient *client = vm_client_open(f->run, timeout_ms, &error);
    json_auto json_t *answer = client ? vm_client_call(client, "query-x", NULL, timeout_ms, &error) : NULL;

    if (rows[i].code < 0) {
        g_assert_no_error(error);
        g_autofree char *line = json_line(answer);
        g_assert_cmpstr(line, ==, rows[i].expect);
    } else {
        g_assert_null(answer);
        g_assert_error(error, KHO_ERROR, rows[i].code);
        g_assert_nonnull(strstr(error->message, rows[i].expect));
    }
    if (client && rows[i].code == KHO_ERROR_TIMEOUT) {
        /* A late answer must not be taken for the next one's. */
        g_autoptr(GError) again = NULL;
        g_assert_null(vm_client_call(client, "query-x", json_object(), timeout_ms, &again));
        g_assert_error(again, KHO_ERROR, KHO_ERROR_IO);
    }
    vm_client_close(client);
    g_thread_join(g_steal_pointer(&thread));
    fd_auto int supervisor = vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL);
    g_assert_true(vm_folder_remove(folder, f->run, NULL));
}

static void
test_nobody(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;

    g_assert_null(vm_client_open(f->run, 1000, &error));
    g_assert_error(error, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "m1"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/runtime/presence", Fixture, NULL, set_up, test_presence, tear_down);
    g_test_add("/runtime/locks", Fixture, NULL, set_up, test_locks, tear_down);
    g_test_add("/runtime/write-that-fails", Fixture, NULL, set_up, test_write_that_fails, tear_down);
    g_test_add("/runtime/kill", Fixture, NULL, set_up, test_kill, tear_down);
    g_test_add("/runtime/kill-stopped", Fixture, "stopped", set_up, test_kill, tear_down);
    g_test_add("/runtime/kill-spares-others", Fixture, NULL, set_up, test_kill_spares_others, tear_down);
    g_test_add("/client/nobody", Fixture, NULL, set_up, test_nobody, tear_down);
    g_test_add("/client/events", Fixture, NULL, set_up, test_client_events, tear_down);
    for (gsize i = 0; i < 9; i++) {
        g_autofree char *path = g_strdup_printf("/client/script-%" G_GSIZE_FORMAT, i);
        g_test_add(path, Fixture, GSIZE_TO_POINTER(i), set_up, test_client, tear_down);
    }
    return g_test_run();
}
