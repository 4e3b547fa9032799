/* What is asked of a running machine: each verb looks at the state, asks kho-vm, and waits with a deadline.
 */
#include "base/error.h"
#include "host/machine.h"
#include "host/recover.h"
#include "host/running.h"
#include "snapshot/pause.h"
#include "store/journal.h"
#include "vm/runtime.h"

#define CONNECT_TIMEOUT_MS 1000
#define CALL_TIMEOUT_MS    5000
/* QEMU flushes its images when it is asked to quit, which may take long on a slow disk. */
#define DESTROY_TIMEOUT_MS (15 * 1000)

/* Says which machine it was. A silence may be kho-vm's, or a QEMU's that kho-vm does not know to be silent;
 * other errors say themselves what to do. @client is NULL where there is no connection. */
static gboolean
fail_for(const KhoDomain *domain, const VmClient *client, GError *why, GError **error)
{
    g_autoptr(GError) owned = why;

    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT) && !(client && vm_client_is_open(client)))
        return fail(error, KHO_ERROR_TIMEOUT,
                    "%s of machine '%s' did not answer in time: `kho destroy` ends it",
                    client ? "QEMU" : "kho-vm", domain->name);
    g_propagate_prefixed_error(error, g_steal_pointer(&owned), "machine '%s': ", domain->name);
    return FALSE;
}

/* The connection to a machine whose state admits @verb; NULL with @error otherwise. */
static VmClient *
reach(KhoDomain *domain, MachineVerb verb, KhoDomainState *state, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autofree char *run_path = store_path_domain_run(domain->host->tree, domain->name);
    g_autoptr(GError) why = NULL;

    if (!kho_domain_status(domain, &status, error)
        || !machine_state_admits(verb, domain->name, status.state, error))
        return NULL;
    VmClient *client = vm_client_open(run_path, CONNECT_TIMEOUT_MS, &why);
    if (client)
        vm_client_set_cancelled(client, domain->host->wait.cancelled);
    else
        fail_for(domain, NULL, g_steal_pointer(&why), error);
    if (state)
        *state = status.state;
    return client;
}

static gboolean
call(KhoDomain *domain, MachineVerb verb, const char *command, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = reach(domain, verb, NULL, error);

    if (!client)
        return FALSE;
    json_auto json_t *answer = vm_client_call(client, command, NULL, CALL_TIMEOUT_MS, &why);
    return answer || fail_for(domain, client, g_steal_pointer(&why), error);
}

static gboolean
powerdown(KhoDomain *domain, MachineVerb verb, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = reach(domain, verb, NULL, error);

    if (!client)
        return FALSE;
    return vm_client_powerdown(client, verb == MACHINE_REBOOT, CALL_TIMEOUT_MS, &why)
           || fail_for(domain, client, g_steal_pointer(&why), error);
}

gboolean
kho_domain_shutdown(KhoDomain *domain, GError **error)
{
    return powerdown(domain, MACHINE_SHUTDOWN, error);
}

gboolean
kho_domain_reboot(KhoDomain *domain, GError **error)
{
    return powerdown(domain, MACHINE_REBOOT, error);
}

gboolean
kho_domain_reset(KhoDomain *domain, GError **error)
{
    return call(domain, MACHINE_RESET, "system_reset", error);
}

/* The pause is said to be the person's before it begins, or a change that stops the guest meanwhile would
 * take it for its own and end it. */
gboolean
kho_domain_suspend(KhoDomain *domain, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = reach(domain, MACHINE_SUSPEND, NULL, error);

    if (!client || !kho_domain_status(domain, &status, error))
        return FALSE;
    gboolean paused = status.state == KHO_DOMAIN_PAUSED;
    const char *reason = paused ? PAUSE_HELD "user" : "user";
    if (!paused || g_strcmp0(status.reason, PAUSE_REASON) == 0) {
        json_auto json_t *named =
            vm_client_call(client, "kho-state", json_pack("{s:s,s:s}", "state", "paused", "reason", reason),
                           CALL_TIMEOUT_MS, &why);
        if (!named)
            return fail_for(domain, client, g_steal_pointer(&why), error);
    }
    json_auto json_t *answer = vm_client_call(client, "stop", NULL, CALL_TIMEOUT_MS, &why);
    return answer || fail_for(domain, client, g_steal_pointer(&why), error);
}

/* Whether a guest that went on now would write what is not in the file that its memory goes into, run before
 * all of its memory is there, or write a file that its definition does not name yet. */
static gboolean
is_held(KhoDomain *domain, const StoreJournalInfo *info)
{
    static const char *const throughout[] = { "save", "resume", "snapshot-create", "snapshot-revert", NULL };
    g_auto(KhoDomainStatus) status = { 0 };

    return kho_domain_status(domain, &status, NULL) && status.state == KHO_DOMAIN_PAUSED
           && (g_strv_contains(throughout, info->change) || pause_is_ours(status.reason));
}

/* Under the machine's change lock, so that no change begins meanwhile. */
static gboolean
check_held(KhoDomain *domain, GError **error)
{
    g_autoptr(StoreJournalInfo) info =
        store_journal_look(domain->host->tree, STORE_LOCK_DOMAIN, domain->uuid);

    if (info && !info->driven)
        return machine_recover_locked(domain->host, domain->uuid, error);
    if (!info || !is_held(domain, info))
        return TRUE;
    return fail(error, KHO_ERROR_BUSY,
                "machine '%s' is paused for a %s by pid %" G_GINT64_FORMAT " (%s): wait for it or end it",
                domain->name, info->what, info->pid, info->command);
}

gboolean
kho_domain_resume(KhoDomain *domain, GError **error)
{
    g_autofree char *object = g_strdup_printf("machine '%s'", domain->name);
    g_autoptr(StoreLock) lock = store_lock_take(domain->host->tree, STORE_LOCK_DOMAIN, domain->uuid, object,
                                                &domain->host->wait, error);

    return lock && check_held(domain, error) && call(domain, MACHINE_RESUME, "cont", error);
}

gboolean
kho_domain_destroy(KhoDomain *domain, gboolean graceful, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };
    g_autofree char *run_path = store_path_domain_run(domain->host->tree, domain->name);
    g_autofree char *log_path = store_path_log(domain->host->tree, domain->name);
    g_autoptr(GError) why = NULL;
    VmPresence presence;

    if (!kho_domain_status(domain, &status, error))
        return FALSE;
    if (status.state == KHO_DOMAIN_SHUTOFF && status.unsupervised
        && !running_end_stuck(domain->host->tree, domain->name, error))
        return FALSE;
    if (!machine_state_admits(MACHINE_DESTROY, domain->name, status.state, error))
        return FALSE;
    g_autoptr(VmClient) client = vm_client_open(run_path, CONNECT_TIMEOUT_MS, &why);
    if (client)
        vm_client_set_cancelled(client, domain->host->wait.cancelled);
    if (client && vm_client_destroy(client, graceful, DESTROY_TIMEOUT_MS, &why))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_DENIED)
        || g_error_matches(why, KHO_ERROR, KHO_ERROR_CANCELLED))
        return fail_for(domain, client, g_steal_pointer(&why), error);
    if (vm_runtime_probe(run_path, &presence, NULL) && presence == VM_ABSENT)
        return TRUE; /* it ended while it was asked to */
    if (graceful)
        return fail_for(domain, client, g_steal_pointer(&why), error);
    return vm_runtime_kill(run_path, log_path, "destroyed", DESTROY_TIMEOUT_MS, error);
}
