#include "vm/reach.h"

#include "base/error.h"
#include "base/pipe.h"
#include "vm/runtime.h"

#define SETTLE_TIMEOUT_MS  5000
#define ADOPT_TIMEOUT_MS   5000
#define CONNECT_TIMEOUT_MS 2000
#define LOOK_AGAIN_MS      5
/* One kho-vm may die, be replaced, and QEMU end meanwhile: whoever sees more changes than this is told so. */
#define ATTEMPTS 5
/* QEMU flushes its images when it is asked to quit, which may take long on a slow disk. */
#define END_TIMEOUT_MS 15000

/* A new kho-vm that died before it answered, as the one before it did, settles nothing: it is @last then. */
static gboolean
adopt(const char *run_path, GError **last, GError **error)
{
    g_clear_error(last);
    if (vm_runtime_adopt(run_path, ADOPT_TIMEOUT_MS, last)
        || g_error_matches(*last, KHO_ERROR, KHO_ERROR_INTERNAL))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(last));
    return FALSE;
}

/* A kho-vm that dies holds its lock for a moment longer than its socket, and one that begins has its lock
 * first. *settled: FALSE where it is gone. */
static gboolean
connect_to(const char *run_path, const char *name, VmClient **client, gboolean *settled, GError **error)
{
    gint64 deadline_ms = deadline_in(SETTLE_TIMEOUT_MS);
    VmPresence presence;

    for (;;) {
        g_autoptr(GError) why = NULL;
        *client = vm_client_open(run_path, CONNECT_TIMEOUT_MS, &why);
        *settled = *client || !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND);
        if (*client)
            return TRUE;
        if (*settled) {
            g_propagate_prefixed_error(error, g_steal_pointer(&why), "machine '%s': ", name);
            return FALSE;
        }
        if (!vm_runtime_probe(run_path, &presence, error))
            return FALSE;
        if (presence != VM_SUPERVISED || deadline_left(deadline_ms) == 0)
            return TRUE;
        clock_pause(LOOK_AGAIN_MS);
    }
}

static gboolean
attempt(const StoreTree *tree, const char *name, VmClient **client, gboolean *settled, GError **last,
        GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autofree char *log_path = store_path_log(tree, name);
    VmPresence presence;

    *settled = TRUE;
    *client = NULL;
    if (!vm_runtime_probe_settled(run_path, deadline_in(SETTLE_TIMEOUT_MS), &presence, error))
        return FALSE;
    switch (presence) {
    case VM_ABSENT:
    case VM_PASSING: return TRUE;
    case VM_DEAD: return vm_runtime_clear(run_path, log_path, error);
    case VM_ORPHANED: *settled = FALSE; return adopt(run_path, last, error);
    case VM_SUPERVISED: break;
    }
    return connect_to(run_path, name, client, settled, error);
}

gboolean
vm_reach(const StoreTree *tree, const char *name, VmClient **client, GError **error)
{
    g_autoptr(GError) last = NULL;
    gboolean settled = FALSE;

    for (guint i = 0; i < ATTEMPTS; i++)
        if (!attempt(tree, name, client, &settled, &last, error))
            return FALSE;
        else if (settled)
            return TRUE;
    if (last) {
        g_propagate_prefixed_error(error, g_steal_pointer(&last), "machine '%s': ", name);
        return FALSE;
    }
    return fail(error, KHO_ERROR_TIMEOUT, "machine '%s' is ending or being taken over: try again", name);
}

gboolean
vm_reach_own(const StoreTree *tree, const char *name, const char *uuid, VmClient **client, GError **error)
{
    g_autoptr(VmClient) found = NULL;

    if (!vm_reach(tree, name, &found, error))
        return FALSE;
    *client = NULL;
    if (!found)
        return TRUE;
    g_autoptr(VmStatus) status = vm_client_status(found, CONNECT_TIMEOUT_MS, error);
    if (!status)
        return FALSE;
    if (g_strcmp0(status->uuid, uuid) == 0)
        *client = g_steal_pointer(&found);
    return TRUE;
}

/* By what was written down last, since nobody answers. */
static gboolean
is_own(const char *run_path, const char *uuid)
{
    g_autoptr(VmStatus) status = vm_runtime_status(run_path, NULL);

    return !status || g_strcmp0(status->uuid, uuid) == 0;
}

gboolean
vm_end(const StoreTree *tree, const char *name, const char *uuid, const char *reason, GError **error)
{
    g_autofree char *run_path = store_path_domain_run(tree, name);
    g_autofree char *log_path = store_path_log(tree, name);

    for (guint i = 0; i < ATTEMPTS; i++) {
        g_autoptr(VmClient) client = NULL;
        g_autoptr(GError) why = NULL;
        if (vm_reach_own(tree, name, uuid, &client, &why)) {
            if (!client || vm_client_end(client, reason, END_TIMEOUT_MS, &why))
                return TRUE;
        }
        if (g_error_matches(why, KHO_ERROR, KHO_ERROR_DENIED)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return FALSE;
        }
        if (g_error_matches(why, KHO_ERROR, KHO_ERROR_TIMEOUT)) /* kho-vm is stuck */
            return !is_own(run_path, uuid)
                   || vm_runtime_kill(run_path, log_path, reason, END_TIMEOUT_MS, error);
    }
    return fail(error, KHO_ERROR_BUSY, "machine '%s' cannot be ended: its kho-vm dies again and again", name);
}
