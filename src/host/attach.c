/* Disks plugged in and taken out: what a machine in its state admits, and who is asked. */
#include "base/error.h"
#include "host/machine.h"
#include "host/running.h"
#include "hotplug/disk.h"
#include "snapshot/guard.h"
#include "vm/definition.h"

/* What @affect means for this machine as it is: resolved to LIVE, CONFIG or both. */
static gboolean
resolve(KhoDomain *domain, KhoAffect *affect, GError **error)
{
    g_auto(KhoDomainStatus) status = { 0 };

    if (!kho_domain_status(domain, &status, error))
        return FALSE;
    gboolean runs = machine_state_is_active(status.state), persistent = kho_domain_is_persistent(domain);
    if (*affect == 0)
        *affect = runs ? KHO_AFFECT_LIVE : KHO_AFFECT_CONFIG;
    if (*affect & KHO_AFFECT_LIVE && !runs)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' is not running: --config changes its definition",
                    domain->name);
    if (*affect & KHO_AFFECT_CONFIG && !persistent)
        return fail(error, KHO_ERROR_INVALID, "machine '%s' has no definition: only --live can change it",
                    domain->name);
    return TRUE;
}

typedef json_t *(*PlanFunction)(const HotplugRequest *request, const char *what, GError **error);

static gboolean
change(KhoDomain *domain, const ChangeKind *kind, PlanFunction make_plan, const char *argument,
       KhoAffect affect, const KhoJob *job, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    g_autofree char *definition = NULL, *live = NULL;
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !resolve(domain, &affect, error))
        return FALSE;
    if (affect & KHO_AFFECT_CONFIG && !(definition = vm_definition_text(tree, domain->name, NULL, error)))
        return FALSE;
    if (affect & KHO_AFFECT_LIVE && !(live = running_xml(tree, domain->name, NULL, error)))
        return FALSE;
    const HotplugRequest request = {
        .tree = tree, .name = domain->name, .definition = definition, .live_xml = live
    };
    json_auto json_t *plan = make_plan(&request, argument, error);
    if (!plan)
        return FALSE;
    const StoreJournalPlan begin = {
        .uuid = domain->uuid, .name = domain->name, .change = kind->name, .what = kind->name, .plan = plan
    };
    StoreJournal *journal = store_journal_begin(tree, STORE_LOCK_DOMAIN, &begin, error);
    if (!journal)
        return FALSE;
    /* the entry keeps others away from here on */
    g_clear_pointer(&lock, store_lock_release);
    return change_run(kind, journal, domain->host->tree, job, NULL, error);
}

static json_t *
plan_attach(const HotplugRequest *request, const char *disk_xml, GError **error)
{
    g_autoptr(ModelDomain) one = hotplug_read_disk(disk_xml, error);

    if (!one)
        return NULL;
    if (guard_check_disk(request->tree, request->name, one->disks->pdata[0], error))
        return hotplug_plan_attach(request, disk_xml, error);
    g_prefix_error(error, "machine '%s': ", request->name);
    return NULL;
}

gboolean
kho_domain_attach_disk(KhoDomain *domain, const char *disk_xml, KhoAffect affect, const KhoJob *job,
                       GError **error)
{
    return change(domain, &hotplug_attach_disk, plan_attach, disk_xml, affect, job, error);
}

gboolean
kho_domain_detach_disk(KhoDomain *domain, const char *which, KhoAffect affect, const KhoJob *job,
                       GError **error)
{
    return change(domain, &hotplug_detach_disk, hotplug_plan_detach, which, affect, job, error);
}
