#include "vm/runtime.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "base/sock.h"
#include "base/spawn.h"
#include "vm/folder.h"
#include "vm/log.h"

#include <signal.h>
#include <string.h>

/* What a start may take beside QEMU's own part of it, and a little later kho-vm is taken for stuck. */
#define START_MARGIN_MS 15000
#define START_QEMU_MS   60000
#define PASSING_MS      5000
#define LOOK_AGAIN_MS   10
/* How long kho-vm may take to end what it is told to start no more. */
#define CANCEL_MS        5000
#define ANSWER_MAX_BYTES (1 << 20)

gboolean
vm_runtime_probe(const char *run_path, VmPresence *presence, GError **error)
{
    g_autoptr(GError) why = NULL;
    fd_auto int folder = vm_folder_open(run_path, FALSE, &why);
    gboolean alive, alive_there, supervised, supervisor_there;

    if (folder < 0 && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        *presence = VM_ABSENT;
        return TRUE;
    }
    if (folder < 0) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (!vm_folder_is_locked(folder, VM_FILE_ALIVE, &alive, &alive_there, error)
        || !vm_folder_is_locked(folder, VM_FILE_SUPERVISOR, &supervised, &supervisor_there, error))
        return FALSE;
    if (alive)
        *presence = supervised ? VM_SUPERVISED : VM_ORPHANED;
    else if (supervised)
        *presence = VM_PASSING;
    else
        *presence = alive_there || supervisor_there ? VM_DEAD : VM_ABSENT;
    return TRUE;
}

gboolean
vm_runtime_probe_settled(const char *run_path, gint64 deadline_ms, VmPresence *presence, GError **error)
{
    for (;;) {
        if (!vm_runtime_probe(run_path, presence, error))
            return FALSE;
        if (*presence != VM_PASSING || deadline_left(deadline_ms) == 0)
            return TRUE;
        clock_pause(LOOK_AGAIN_MS);
    }
}

/* Where kho-vm is: the person's word, beside this program (a build, uninstalled), where it was installed. */
static char *
program_path(GError **error)
{
    const char *named = g_getenv("KHO_VM");
    g_autofree char *own = proc_own_program(NULL);
    g_autofree char *folder = own ? g_path_get_dirname(own) : NULL;
    g_autofree char *beside = folder ? g_build_filename(folder, "kho-vm", NULL) : NULL;

    if (named && *named)
        return g_strdup(named);
    if (beside && g_file_test(beside, G_FILE_TEST_IS_EXECUTABLE))
        return g_steal_pointer(&beside);
    if (g_file_test(KHO_LIBEXECDIR "/kho-vm", G_FILE_TEST_IS_EXECUTABLE))
        return g_strdup(KHO_LIBEXECDIR "/kho-vm");
    fail(error, KHO_ERROR_NOT_FOUND, "kho-vm is neither beside kho (%s) nor in %s: set KHO_VM to its path",
         folder ? folder : "?", KHO_LIBEXECDIR);
    return NULL;
}

/* Starts kho-vm, which leaves this process at once. *answer is our end of the connection it answers over. */
static gboolean
launch(const char *verb, const char *run_path, int plan, int *answer, GError **error)
{
    g_autofree char *program = program_path(error);
    fd_auto int mine = -1;
    fd_auto int theirs = -1;
    SpawnChild child;

    if (!program || !sock_pair(&mine, &theirs, error))
        return FALSE;
    const char *argv[] = { program, verb, run_path, NULL };
    SpawnFd fds[] = { { theirs, VM_RUNTIME_ANSWER_FD }, { plan, VM_RUNTIME_PLAN_FD } };
    SpawnSpec spec = { .argv = argv, .fds = fds, .n_fds = plan < 0 ? 1 : 2, .new_session = TRUE };
    if (!spawn_start(&spec, &child, error))
        return FALSE;
    fd_clear(&theirs);
    /* The process started here ends as soon as it has detached; or at its own limit, where systemd is slow.
     */
    gboolean left = proc_wait_end(child.pidfd, deadline_in(START_MARGIN_MS), program, error);
    spawn_end(&child);
    if (left)
        *answer = fd_steal(&mine);
    return left;
}

/* The one line that kho-vm says, or NULL: @error says whether it took too long or ended. A cancel is passed
 * on, and kho-vm's answer to it waited for: when it comes, QEMU is gone. */
static char *
read_answer(int fd, gint64 deadline_ms, const volatile gint *cancelled, GError **error)
{
    g_autoptr(GString) line = g_string_new(NULL);
    gboolean told = FALSE; /* of the cancel */
    char chunk[4096];

    while (!strchr(line->str, '\n') && line->len < ANSWER_MAX_BYTES) {
        g_autoptr(GError) why = NULL;
        if (!pipe_wait_unless(fd, deadline_ms, told ? NULL : cancelled, "kho-vm", &why)) {
            if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_CANCELLED)) {
                g_propagate_error(error, g_steal_pointer(&why));
                return NULL;
            }
            sock_end_sending(fd);
            told = TRUE;
            deadline_ms = MIN(deadline_ms, deadline_in(CANCEL_MS));
            continue;
        }
        gssize n = pipe_read_some(fd, chunk, sizeof chunk);
        if (n <= 0) {
            fail(error, KHO_ERROR_INTERNAL, "kho-vm ended without an answer");
            return NULL;
        }
        g_string_append_len(line, chunk, n);
    }
    return g_string_free(g_steal_pointer(&line), FALSE);
}

static gboolean
judge_answer(const char *line, GError **error)
{
    json_auto json_t *answer = json_parse(line, strlen(line), "kho-vm's answer", error);

    if (!answer)
        return FALSE;
    if (json_is_true(json_object_get(answer, "ok")))
        return TRUE;
    const char *word = json_string_or(answer, "code", "");
    gint code = 0;
    while (code < KHO_ERROR_N_CODES && strcmp(word, kho_error_code_name((KhoErrorCode) code)) != 0)
        code++;
    return fail(error, code < KHO_ERROR_N_CODES ? (KhoErrorCode) code : KHO_ERROR_INTERNAL, "%s",
                json_string_or(answer, "message", "kho-vm gave no reason"));
}

static void
log_end(const char *log_path, const char *reason, const char *detail)
{
    g_autoptr(VmLog) log = vm_log_open(log_path, NULL);

    if (log)
        vm_log_end(log, reason, detail);
}

gboolean
vm_runtime_start(const VmPlan *plan, const volatile gint *cancelled, GError **error)
{
    g_autofree char *text = vm_plan_to_json(plan);
    fd_auto int memory = pipe_memory("kho-plan", text, strlen(text), error);
    fd_auto int answer = -1;
    guint qemu_ms = plan->start_timeout_ms ? plan->start_timeout_ms : START_QEMU_MS;

    if (memory < 0 || !launch("--start", plan->run_path, memory, &answer, error))
        return FALSE;
    g_autofree char *line = read_answer(answer, deadline_in(qemu_ms + START_MARGIN_MS), cancelled, error);
    if (line)
        return judge_answer(line, error);
    /* It died or hangs: nobody was told that the machine runs, so it must not. */
    vm_runtime_kill(plan->run_path, plan->log_path, "failed", START_MARGIN_MS, NULL);
    gint64 since_ms;
    g_autofree char *told = vm_log_last_end(plan->log_path, &since_ms);
    if (!told) /* it died before it had a folder */
        log_end(plan->log_path, "failed", "its kho-vm ended before it had begun");
    g_prefix_error(error, "machine '%s' did not start (its log: %s): ", plan->name, plan->log_path);
    return FALSE;
}

gboolean
vm_runtime_adopt(const char *run_path, guint timeout_ms, GError **error)
{
    fd_auto int answer = -1;

    if (!launch("--adopt", run_path, -1, &answer, error))
        return FALSE;
    g_autofree char *line = read_answer(answer, deadline_in(timeout_ms), NULL, error);
    return line && judge_answer(line, error);
}

static gboolean
busy(const char *run_path, GError **error)
{
    g_autofree char *name = g_path_get_basename(run_path);
    return fail(error, KHO_ERROR_BUSY, "machine '%s' is running", name);
}

gboolean
vm_runtime_clear(const char *run_path, const char *log_path, GError **error)
{
    VmPresence presence;

    if (!vm_runtime_probe_settled(run_path, deadline_in(PASSING_MS), &presence, error))
        return FALSE;
    if (presence == VM_ABSENT)
        return TRUE;
    fd_auto int folder = vm_folder_open(run_path, FALSE, NULL);
    fd_auto int supervisor = folder < 0 ? -1 : vm_folder_lock(folder, VM_FILE_SUPERVISOR, NULL);
    fd_auto int alive = supervisor < 0 ? -1 : vm_folder_lock(folder, VM_FILE_ALIVE, NULL);
    if (alive >= 0) {
        log_end(log_path, "crashed", "QEMU and its kho-vm both ended without a word");
        return vm_folder_remove(folder, run_path, error);
    }
    /* Somebody else was faster: to clear up (then nothing is left), or to start. */
    if (!vm_runtime_probe_settled(run_path, deadline_in(PASSING_MS), &presence, error))
        return FALSE;
    return presence == VM_ABSENT || busy(run_path, error);
}

VmStatus *
vm_runtime_status(const char *run_path, GError **error)
{
    fd_auto int folder = vm_folder_open(run_path, FALSE, error);

    return folder < 0 ? NULL : vm_status_read(folder, error);
}

gboolean
vm_runtime_is_held(const char *run_path, gint64 supervisor)
{
    fd_auto int folder = vm_folder_open(run_path, FALSE, NULL);

    if (folder < 0)
        return FALSE;
    g_autoptr(GArray) holders = vm_folder_holders(folder, VM_FILE_ALIVE);
    for (guint i = 0; i < holders->len; i++)
        if (g_array_index(holders, ProcId, i).pid != supervisor)
            return TRUE;
    return FALSE;
}

char *
vm_runtime_live_xml(const char *run_path, gsize *len, GError **error)
{
    g_autoptr(GError) why = NULL;
    fd_auto int folder = vm_folder_open(run_path, FALSE, &why);
    char *text = folder < 0 ? NULL : vm_folder_read(folder, VM_FILE_LIVE_XML, len, &why);
    VmPresence presence;

    if (text)
        return text;
    if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return NULL;
    }
    if (!vm_runtime_probe(run_path, &presence, error))
        return NULL;
    g_autofree char *name = g_path_get_basename(run_path);
    if (presence == VM_SUPERVISED || presence == VM_ORPHANED)
        fail(error, KHO_ERROR_BUSY, "machine '%s' is starting: try again when it runs", name);
    else
        fail(error, KHO_ERROR_NOT_FOUND, "machine '%s' is not running", name);
    return NULL;
}

/* Ends one process that status.json names, if it is still that one. */
static gboolean
end_process(const ProcId *id, guint patience_ms, gint64 deadline_ms, const char *what, GError **error)
{
    fd_auto int pidfd = proc_open(id, NULL);

    if (pidfd < 0)
        return TRUE;
    if (patience_ms > 0 && !proc_is_stopped(id->pid)) {
        if (!proc_signal(pidfd, SIGTERM, error))
            return FALSE;
        if (proc_wait_end(pidfd, deadline_in(patience_ms), what, NULL))
            return TRUE;
    }
    return proc_signal(pidfd, SIGKILL, error) && proc_wait_end(pidfd, deadline_ms, what, error);
}

/* Takes `supervisor` from the kho-vm that status.json names, or from one that came after it. Without a status
 * QEMU has not been let go yet, and ends with the kho-vm that was about to start it. */
static int
wrest_supervisor(int folder, gint64 deadline_ms, GError **error)
{
    for (;;) {
        g_autoptr(GError) why = NULL;
        g_autoptr(VmStatus) status = vm_status_read(folder, NULL);
        ProcId qemu, supervisor;
        if (status) {
            vm_status_process(status, &qemu, &supervisor);
            if (!end_process(&supervisor, 0, deadline_ms, "kho-vm", error))
                return -1;
        }
        int lock = vm_folder_lock(folder, VM_FILE_SUPERVISOR, &why);
        if (lock >= 0)
            return lock;
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY) || deadline_left(deadline_ms) == 0) {
            g_propagate_error(error, g_steal_pointer(&why));
            return -1;
        }
        clock_pause(LOOK_AGAIN_MS);
    }
}

/* Takes `alive`, with `supervisor` held, from everybody who is QEMU's or was started as it. */
static int
wrest_alive(int folder, guint patience_ms, gint64 deadline_ms, GError **error)
{
    g_autoptr(VmStatus) status = vm_status_read(folder, NULL);
    ProcId qemu, supervisor;

    if (status) {
        vm_status_process(status, &qemu, &supervisor);
        if (!end_process(&qemu, patience_ms, deadline_ms, "QEMU", error))
            return -1;
    }
    for (;;) {
        g_autoptr(GError) why = NULL;
        int lock = vm_folder_lock(folder, VM_FILE_ALIVE, &why);
        if (lock >= 0)
            return lock;
        if (!g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY) || deadline_left(deadline_ms) == 0) {
            g_propagate_error(error, g_steal_pointer(&why));
            return -1;
        }
        g_autoptr(GArray) holders = vm_folder_holders(folder, VM_FILE_ALIVE);
        for (guint i = 0; i < holders->len; i++)
            if (!end_process(&g_array_index(holders, ProcId, i), patience_ms, deadline_ms, "QEMU", error))
                return -1;
        clock_pause(LOOK_AGAIN_MS);
    }
}

gboolean
vm_runtime_kill(const char *run_path, const char *log_path, const char *reason, guint timeout_ms,
                GError **error)
{
    gint64 deadline_ms = deadline_in(timeout_ms);
    g_autoptr(GError) why = NULL;
    fd_auto int folder = vm_folder_open(run_path, FALSE, &why);
    fd_auto int supervisor = folder < 0 ? -1 : wrest_supervisor(folder, deadline_ms, &why);
    fd_auto int alive = supervisor < 0 ? -1 : wrest_alive(folder, timeout_ms / 2, deadline_ms, &why);

    if (alive >= 0) {
        log_end(log_path, reason, "ended by kho, since its kho-vm did not");
        return vm_folder_remove(folder, run_path, error);
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE; /* somebody else removed it meanwhile */
    g_autofree char *name = g_path_get_basename(run_path);
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s' cannot be ended: ", name);
    return FALSE;
}

char *
vm_runtime_last_end(const char *log_path, gint64 *since_ms)
{
    gint64 found_ms = 0;
    char *reason = vm_log_last_end(log_path, &found_ms);

    if (since_ms)
        *since_ms = found_ms;
    return reason ? reason : g_strdup("unknown");
}
