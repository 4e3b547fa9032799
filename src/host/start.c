/* Starting a machine that is shut off: its state, its lock; the rest is vm/start.h's. */
#include "vm/start.h"

#include "base/pipe.h"
#include "host/machine.h"
#include "vm/definition.h"
#include "vm/runtime.h"

/* How long a kho-vm whose QEMU has ended may take to clear up, and how often that is looked at. */
#define STUCK_AFTER_MS 2000
#define LOOK_AGAIN_MS  10

/* A machine that is shut off may have left a kho-vm that does not end by itself: it was stopped. Called under
 * the machine's lock, so that no start is under way. */
static gboolean
end_stuck_supervisor(const char *run_path, GError **error)
{
    gint64 deadline_ms = deadline_in(STUCK_AFTER_MS);
    VmPresence presence;

    for (;;) {
        if (!vm_runtime_probe(run_path, &presence, error))
            return FALSE;
        if (presence != VM_SUPERVISED)
            return TRUE;
        if (deadline_left(deadline_ms) == 0)
            return vm_runtime_kill(run_path, "crashed", STUCK_AFTER_MS, error);
        clock_pause(LOOK_AGAIN_MS);
    }
}

gboolean
kho_domain_start(KhoDomain *domain, gboolean paused, const KhoJob *job, GError **error)
{
    const StoreTree *tree = domain->host->tree;
    const VmStartOptions options = { .paused = paused, .wait = &domain->host->wait };
    g_auto(KhoDomainStatus) status = { 0 };
    g_autoptr(StoreLock) lock = machine_lock(domain, error);

    if (!lock || !kho_domain_status(domain, &status, error)
        || !machine_state_admits(MACHINE_START, domain->name, status.state, error))
        return FALSE;
    g_autofree char *run_path = store_path_domain_run(tree, domain->name);
    if (status.unsupervised && !end_stuck_supervisor(run_path, error))
        return FALSE;
    g_autoptr(ModelDomain) model = vm_definition(tree, domain->name, error);
    return model && model_domain_complete(model, &vm_host_defaults, error)
           && vm_start(tree, model, &options, job, error);
}
