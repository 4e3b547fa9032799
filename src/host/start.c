/* Starting a machine that is shut off: its state, its lock; the rest is vm/start.h's. */
#include "vm/start.h"

#include "host/running.h"
#include "host/saved.h"
#include "snapshot/guard.h"
#include "vm/definition.h"

/* A machine that runs was booted without its saved memory, which goes now, and not before: a start that fails
 * costs nobody anything. Should it stay, it does not come back over disks that the guest has written to
 * since. */
static gboolean
drop_saved(const KhoDomain *domain, GError **error)
{
    if (saved_remove(domain->host->tree, domain->name, error))
        return TRUE;
    g_prefix_error(error, "machine '%s' runs, but its managed save is still there: ", domain->name);
    return FALSE;
}

gboolean
kho_domain_start(KhoDomain *domain, KhoStartFlags flags, const KhoJob *job, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    gboolean paused = (flags & KHO_START_PAUSED) != 0;
    const VmStartOptions options = { .paused = paused, .wait = &domain->host->wait };
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_START, domain->name, status.state, error))
        return FALSE;
    if (status.unsupervised && !running_end_stuck(tree, domain->name, error))
        return FALSE;
    machine_warn_changed(domain);
    if (!(flags & KHO_START_FORCE_BOOT) && saved_exists(tree, domain->name))
        return saved_start(domain, g_steal_pointer(&lock), paused, job, error);
    g_autoptr(ModelDomain) model = vm_definition(tree, domain->name, error);
    if (!model || !model_domain_complete(model, &vm_host_defaults, error)
        || !guard_check_machine(tree, model, error))
        return FALSE;
    return vm_start(tree, model, &options, job, error) && drop_saved(domain, error);
}
