#include "vm/reach.h"

#include "base/error.h"
#include "base/pipe.h"
#include "vm/runtime.h"

#define SETTLE_TIMEOUT_MS  5000
#define ADOPT_TIMEOUT_MS   5000
#define CONNECT_TIMEOUT_MS 2000
/* One kho-vm may die, be replaced, and QEMU end meanwhile: whoever sees more changes than this is told so. */
#define ATTEMPTS 5

static gboolean
attempt(const char *run_path, VmClient **client, gboolean *settled, GError **error)
{
    g_autoptr(GError) why = NULL;
    VmPresence presence;

    *settled = TRUE;
    *client = NULL;
    if (!vm_runtime_probe_settled(run_path, deadline_in(SETTLE_TIMEOUT_MS), &presence, error))
        return FALSE;
    switch (presence) {
    case VM_ABSENT:
    case VM_PASSING: return TRUE;
    case VM_DEAD: return vm_runtime_clear(run_path, error);
    case VM_ORPHANED: *settled = FALSE; return vm_runtime_adopt(run_path, ADOPT_TIMEOUT_MS, error);
    case VM_SUPERVISED: break;
    }
    *client = vm_client_open(run_path, CONNECT_TIMEOUT_MS, &why);
    /* it ended between the two looks */
    *settled = *client || !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND);
    if (*client || !*settled)
        return TRUE;
    g_autofree char *name = g_path_get_basename(run_path);
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s': ", name);
    return FALSE;
}

gboolean
vm_reach(const StoreTree *tree, const char *name, VmClient **client, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    gboolean settled = FALSE;

    for (guint i = 0; i < ATTEMPTS; i++)
        if (!attempt(run_path, client, &settled, error))
            return FALSE;
        else if (settled)
            return TRUE;
    return fail(error, KHO_ERROR_TIMEOUT, "machine '%s' is ending or being taken over: try again", name);
}

gboolean
vm_end(const StoreTree *tree, const char *name, guint timeout_ms, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autoptr(GError) why = NULL;
    g_autoptr(VmClient) client = NULL;
    VmPresence presence;

    if (vm_reach(tree, name, &client, &why)
        && (!client || vm_client_destroy(client, FALSE, timeout_ms, &why)))
        return TRUE;
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_DENIED)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (vm_runtime_probe(run_path, &presence, NULL) && presence == VM_ABSENT)
        return TRUE; /* it ended while it was asked to */
    return vm_runtime_kill(run_path, "destroyed", timeout_ms, error);
}
