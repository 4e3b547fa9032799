/* Finishing, or taking back, what somebody left half done on a machine. */
#include "host/recover.h"

#include "backup/create.h"
#include "backup/restore.h"
#include "base/error.h"
#include "hotplug/disk.h"
#include "save/resume.h"
#include "save/save.h"
#include "snapshot/create.h"
#include "snapshot/delete.h"
#include "snapshot/revert.h"
#include "vm/client.h"
#include "vm/runtime.h"

#include <string.h>

/* One that lives greets in well under a millisecond. */
#define MUTE_AFTER_MS 300

/* clang-format off */
const ChangeKind *const machine_changes[] = {
    &hotplug_attach_disk,
    &hotplug_detach_disk,
    &snapshot_create_kind,
    &snapshot_revert_kind,
    &snapshot_delete_kind,
    &backup_change,
    &restore_change,
    &save_change,
    &resume_change,
    NULL,
};
/* clang-format on */

/* Under the machine's change lock. *outcome stays NULL where there was nothing to recover. */
static gboolean
recover_locked(KhoHost *host, const char *uuid, char **outcome, GError **error)
{
    g_autoptr(GError) why = NULL;
    StoreJournal *journal = store_journal_take(host->tree, STORE_LOCK_DOMAIN, uuid, &why);
    g_autofree char *told = NULL;
    gboolean left;

    if (!journal && why) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (!journal)
        return TRUE;
    if (!change_recover(machine_changes, journal, host->tree, &told, &left, error))
        return FALSE;
    if (outcome)
        *outcome = g_steal_pointer(&told);
    else if (left)
        host_warn(host, told);
    return TRUE;
}

gboolean
machine_recover_locked(KhoHost *host, const char *uuid, GError **error)
{
    return recover_locked(host, uuid, NULL, error);
}

/* Whether whoever recovers it would wait for a kho-vm or a QEMU that says nothing: a read does not. */
static gboolean
is_mute(KhoHost *host, const char *name)
{
    g_autofree char *run_path = store_path_domain_run(host->tree, name);
    VmPresence presence;

    if (!vm_runtime_probe(run_path, &presence, NULL) || presence != VM_SUPERVISED)
        return FALSE;
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = vm_client_open(run_path, MUTE_AFTER_MS, &why);
    if (!client)
        return g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT);
    g_autoptr(VmStatus) status = vm_client_status(client, MUTE_AFTER_MS, NULL);
    return !status || status->unanswered_ms > 0;
}

void
machine_recover_quietly(KhoHost *host, const char *uuid)
{
    g_autoptr(StoreJournalInfo) info = store_journal_look(host->tree, STORE_LOCK_DOMAIN, uuid);
    const StoreWait at_once = { .timeout_ms = 0 };

    if (!info || info->driven || is_mute(host, info->name))
        return;
    g_autoptr(StoreLock) lock =
        store_lock_take(host->tree, STORE_LOCK_DOMAIN, uuid, "the machine", &at_once, NULL);
    if (lock)
        recover_locked(host, uuid, NULL, NULL);
}

gboolean
machine_recover_name(KhoHost *host, const char *name)
{
    g_autoptr(GPtrArray) all = store_journal_list(host->tree, STORE_LOCK_DOMAIN, NULL);
    gboolean found = FALSE;

    for (guint i = 0; all && i < all->len; i++) {
        const StoreJournalInfo *info = all->pdata[i];
        if (info->driven || g_strcmp0(info->name, name) != 0)
            continue;
        machine_recover_quietly(host, info->uuid);
        found = TRUE;
    }
    return found;
}

StoreLock *
machine_lock(const KhoDomain *domain, GError **error)
{
    g_autofree char *object = g_strdup_printf("machine '%s'", domain->name);
    g_autoptr(StoreLock) lock = store_lock_take(domain->host->tree, STORE_LOCK_DOMAIN, domain->uuid, object,
                                                &domain->host->wait, error);

    if (!lock || !machine_recover_locked(domain->host, domain->uuid, error))
        return NULL;
    return g_steal_pointer(&lock);
}

void
kho_recovery_free(KhoRecovery *recovery)
{
    if (!recovery)
        return;
    g_free(recovery->name);
    g_free(recovery->outcome);
    g_clear_error(&recovery->why);
    g_free(recovery);
}

static KhoRecovery *
recover_one(KhoHost *host, const StoreJournalInfo *info, const char *name)
{
    g_autofree char *object = g_strdup_printf("machine '%s'", name);
    KhoRecovery *recovery = g_new0(KhoRecovery, 1);

    recovery->name = g_strdup(name);
    if (info->why) {
        recovery->why = g_error_copy(info->why);
        return recovery;
    }
    g_autoptr(StoreLock) lock =
        store_lock_take(host->tree, STORE_LOCK_DOMAIN, info->uuid, object, &host->wait, &recovery->why);
    if (lock)
        recover_locked(host, info->uuid, &recovery->outcome, &recovery->why);
    return recovery;
}

/* An entry that cannot be read does not tell the name; its file's uuid leads to it, where it is defined. */
static char *
name_of(KhoHost *host, const StoreJournalInfo *info)
{
    g_autofree char *name =
        info->name ? g_strdup(info->name) : machine_name_of_uuid(host->tree, info->uuid, NULL);

    return name ? g_steal_pointer(&name) : g_strdup(info->uuid);
}

GPtrArray *
kho_host_recover(KhoHost *host, const char *which, GError **error)
{
    g_autoptr(GPtrArray) all = store_journal_list(host->tree, STORE_LOCK_DOMAIN, error);
    g_autoptr(GPtrArray) done = g_ptr_array_new_with_free_func((GDestroyNotify) kho_recovery_free);

    for (guint i = 0; all && i < all->len; i++) {
        const StoreJournalInfo *info = all->pdata[i];
        g_autofree char *name = name_of(host, info);
        if (which && strcmp(which, name) != 0 && strcmp(which, info->uuid) != 0)
            continue;
        KhoRecovery *recovery = recover_one(host, info, name);
        if (recovery->outcome || recovery->why)
            g_ptr_array_add(done, recovery);
        else
            kho_recovery_free(recovery);
    }
    return all ? g_steal_pointer(&done) : NULL;
}
