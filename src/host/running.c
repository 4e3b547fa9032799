/* Looking at running machines: nothing here waits for QEMU. kho-vm is asked with a deadline, and what it
 * wrote down last is told where it does not answer. */
#include "host/running.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "host/machine.h"
#include "store/list.h"
#include "vm/definition.h"
#include "vm/runtime.h"

#include <string.h>
#include <unistd.h>

/* A kho-vm that lives answers in well under a millisecond; one that is stopped must not hold up a reader. */
#define STATUS_TIMEOUT_MS 150
/* A new kho-vm has to be started for this. */
#define ADOPT_TIMEOUT_MS 2000
/* A machine may end, or its kho-vm be killed, between two looks: how long to look again, and how often. */
#define SETTLE_MS     500
#define LOOK_AGAIN_MS 10
/* How long a kho-vm whose QEMU has ended may take to clear up. */
#define STUCK_AFTER_MS 2000

void
kho_domain_status_clear(KhoDomainStatus *status)
{
    g_clear_pointer(&status->reason, g_free);
}

char *
running_uuid(const StoreTree *tree, const char *name)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autoptr(VmStatus) status = vm_runtime_status(run_path, NULL);

    return status ? g_strdup(status->uuid) : NULL;
}

char *
running_name_of(const StoreTree *tree, const char *uuid, gint id, const char *but)
{
    g_autoptr(GPtrArray) names = store_list_domains_run(tree, NULL);

    for (guint i = 0; names && i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *run_path = store_path_domain_run(tree, name);
        g_autoptr(VmStatus) status = vm_runtime_status(run_path, NULL);
        if (!status || g_strcmp0(name, but) == 0)
            continue;
        if (uuid ? g_strcmp0(status->uuid, uuid) == 0 : status->id == id)
            return g_strdup(name);
    }
    return NULL;
}

char *
running_xml(const StoreTree *tree, const char *name, gsize *len, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autoptr(GError) why = NULL;
    char *text = vm_runtime_live_xml(run_path, len, &why);

    if (text)
        return text;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        why->code = KHO_ERROR_INVALID; /* the machine exists: the verb does not fit its state */
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

char *
running_xml_or_definition(const StoreTree *tree, const char *name, gsize *len, GError **error)
{
    g_autoptr(GError) why = NULL;
    char *text = running_xml(tree, name, len, &why);

    if (!text
        && (g_error_matches(why, KHO_ERROR, KHO_ERROR_BUSY)
            || g_error_matches(why, KHO_ERROR, KHO_ERROR_INVALID)))
        text = vm_definition_text(tree, name, len, NULL);
    if (!text)
        g_propagate_error(error, g_steal_pointer(&why));
    return text;
}

void
running_status_off(const StoreTree *tree, const char *name, gboolean why, KhoDomainStatus *status)
{
    g_autofree char *log_path = store_path_log(tree, name);

    *status = (KhoDomainStatus){ .state = KHO_DOMAIN_SHUTOFF, .id = -1 };
    status->reason = why ? vm_runtime_last_end(log_path, &status->since_ms) : g_strdup("unknown");
}

static KhoDomainState
state_of_word(const char *word)
{
    for (guint i = 0; i < KHO_DOMAIN_N_STATES; i++)
        if (g_strcmp0(kho_domain_state_word((KhoDomainState) i), word) == 0)
            return (KhoDomainState) i;
    return KHO_DOMAIN_NOSTATE;
}

static void
fill(const VmStatus *from, gboolean answered, KhoDomainStatus *status)
{
    gboolean starting = g_strcmp0(from->state, VM_STATE_STARTING) == 0;
    guint64 silent_ms = from->unanswered_ms;

    if (!answered && from->silent_since_ms > 0)
        silent_ms = (guint64) MAX(clock_wall_ms() - from->silent_since_ms, 0);
    *status = (KhoDomainStatus){
        .state = starting ? KHO_DOMAIN_PAUSED : state_of_word(from->state),
        .reason = g_strdup(starting       ? "starting up"
                           : from->reason ? from->reason
                                          : "unknown"),
        .id = from->id,
        .pid = from->pid,
        .since_ms = from->since_ms,
        .unanswered_ms = silent_ms,
        .unsupervised = !answered,
    };
}

typedef enum { LOOK_DONE, LOOK_AGAIN, LOOK_FAILED } Look;

/* What the status file holds, for a machine whose kho-vm does not answer; of a QEMU that is no more it is no
 * longer true, and one that ended while nobody could act for it was killed, or fell. Who is just ending, or
 * may yet say why, is looked at again unless this is the @last look. */
static Look
look_at_file(const char *run_path, gboolean last, KhoDomainStatus *status)
{
    g_autoptr(VmStatus) written = vm_runtime_status(run_path, NULL);
    ProcId qemu, supervisor;

    if (!written)
        return LOOK_AGAIN;
    vm_status_process(written, &qemu, &supervisor);
    fd_auto int pidfd = proc_open(&qemu, NULL);
    gboolean settled = pidfd >= 0 ? !proc_is_ending(qemu.pid) : proc_is_stopped(supervisor.pid);
    if (!settled && !last)
        return LOOK_AGAIN;
    if (pidfd >= 0 || vm_runtime_is_held(run_path, supervisor.pid))
        fill(written, FALSE, status);
    else
        *status = (KhoDomainStatus){
            .state = KHO_DOMAIN_SHUTOFF, .reason = g_strdup("crashed"), .id = -1, .unsupervised = TRUE
        };
    return LOOK_DONE;
}

static Look
ask_supervisor(const char *run_path, KhoDomainStatus *status, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = vm_client_open(run_path, STATUS_TIMEOUT_MS, &why);
    g_autoptr(VmStatus) answer = client ? vm_client_status(client, STATUS_TIMEOUT_MS, &why) : NULL;

    /* What was just killed runs no more, though kho-vm has not been told yet. */
    if (answer && proc_is_ending((pid_t) answer->pid))
        return LOOK_AGAIN;
    if (answer) {
        fill(answer, TRUE, status);
        return LOOK_DONE;
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_DENIED)) {
        g_autofree char *name = g_path_get_basename(run_path);
        g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s': ", name);
        return LOOK_FAILED;
    }
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT))
        return look_at_file(run_path, FALSE, status);
    return LOOK_AGAIN; /* it ended meanwhile */
}

static Look
look(const StoreTree *tree, const char *name, const char *run_path, KhoDomainStatus *status, GError **error)
{
    g_autofree char *log_path = store_path_log(tree, name);
    VmPresence presence;

    if (!vm_runtime_probe_settled(run_path, deadline_in(STATUS_TIMEOUT_MS), &presence, error))
        return LOOK_FAILED;
    switch (presence) {
    case VM_ABSENT:
        /* an empty folder is what could not be removed when the machine ended */
        entry_remove_folder(run_path, NULL);
        running_status_off(tree, name, TRUE, status);
        return LOOK_DONE;
    case VM_PASSING: running_status_off(tree, name, TRUE, status); return LOOK_DONE;
    case VM_SUPERVISED: return ask_supervisor(run_path, status, error);
    case VM_ORPHANED:
        /* what cannot be adopted (another user's machine) can still be told of */
        if (vm_runtime_adopt(run_path, ADOPT_TIMEOUT_MS, NULL))
            return LOOK_AGAIN;
        return look_at_file(run_path, FALSE, status);
    case VM_DEAD: return vm_runtime_clear(run_path, log_path, error) ? LOOK_AGAIN : LOOK_FAILED;
    }
    g_assert_not_reached();
}

gboolean
running_status(KhoHost *host, const char *name, KhoDomainStatus *status, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(host->tree, name);

    gint64 deadline_ms = deadline_in(SETTLE_MS);
    for (;;) {
        Look seen = look(host->tree, name, run_path, status, error);
        if (seen != LOOK_AGAIN)
            return seen == LOOK_DONE;
        if (deadline_left(deadline_ms) == 0)
            break;
        clock_pause(LOOK_AGAIN_MS);
    }
    if (look_at_file(run_path, TRUE, status)
        != LOOK_DONE) /* a kho-vm that has not come so far as to write it */
        *status =
            (KhoDomainStatus){ .state = KHO_DOMAIN_PAUSED, .reason = g_strdup("starting up"), .id = -1 };
    return TRUE;
}

gboolean
kho_domain_status(KhoDomain *domain, KhoDomainStatus *status, GError **error)
{
    return running_status(domain->host, domain->name, status, error);
}

gboolean
running_end_stuck(const StoreTree *tree, const char *name, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autofree char *log_path = store_path_log(tree, name);
    gint64 deadline_ms = deadline_in(STUCK_AFTER_MS);
    VmPresence presence;

    for (;;) {
        if (!vm_runtime_probe(run_path, &presence, error))
            return FALSE;
        if (presence != VM_SUPERVISED)
            return TRUE;
        if (deadline_left(deadline_ms) == 0)
            return vm_runtime_kill(run_path, log_path, "crashed", STUCK_AFTER_MS, error);
        clock_pause(LOOK_AGAIN_MS);
    }
}

guint64
running_cpu_time_ns(gint64 pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%" G_GINT64_FORMAT "/stat", pid);
    g_autofree char *text = fd_read_file(path, 64 * KIB, NULL, NULL);
    /* the name in parentheses may hold spaces; utime and stime are the 12th and 13th words after it */
    const char *rest = text ? strrchr(text, ')') : NULL;
    g_auto(GStrv) words = rest ? g_strsplit(rest + 1, " ", 16) : NULL;
    guint64 user, system;

    if (!words || g_strv_length(words) < 14
        || !num_parse_uint(words[12], G_MAXINT64 / 4, "utime", &user, NULL)
        || !num_parse_uint(words[13], G_MAXINT64 / 4, "stime", &system, NULL))
        return 0;
    return (user + system) * (G_GUINT64_CONSTANT(1000000000) / (guint64) sysconf(_SC_CLK_TCK));
}
