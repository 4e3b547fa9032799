#include "snapshot/pause.h"

#include "base/error.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000

static gboolean
name_pause(VmClient *client, const char *reason, GError **error)
{
    return vm_client_tell(client, "kho-state", json_pack("{s:s,s:s}", "state", "paused", "reason", reason),
                          CALL_TIMEOUT_MS, error);
}

gboolean
pause_is_ours(const char *reason)
{
    return g_strcmp0(reason, PAUSE_REASON) == 0 || (reason && g_str_has_prefix(reason, PAUSE_HELD));
}

gboolean
pause_announce(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    return status && (status->paused || name_pause(client, PAUSE_REASON, error));
}

gboolean
pause_begin(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    if (!status)
        return FALSE;
    if (!status->paused)
        return name_pause(client, PAUSE_REASON, error)
               && vm_client_tell(client, "stop", NULL, CALL_TIMEOUT_MS, error);
    g_autofree char *held = g_strconcat(PAUSE_HELD, status->reason, NULL);
    return pause_is_ours(status->reason) || name_pause(client, held, error);
}

gboolean
pause_end(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    if (!status)
        return FALSE;
    gboolean ours = status->paused && pause_is_ours(status->reason);
    if (ours && g_str_has_prefix(status->reason, PAUSE_HELD))
        return name_pause(client, status->reason + strlen(PAUSE_HELD), error);
    return (!ours || vm_client_tell(client, "cont", NULL, CALL_TIMEOUT_MS, error))
           && vm_client_tell(client, "kho-state", json_pack("{s:s}", "state", "paused"), CALL_TIMEOUT_MS,
                             error);
}
