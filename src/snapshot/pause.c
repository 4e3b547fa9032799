#include "snapshot/pause.h"

#include "base/error.h"

#include <string.h>

/* libvirt's word for it. */
#define REASON "creating snapshot"

#define CALL_TIMEOUT_MS 10000

static gboolean
call(VmClient *client, const char *command, json_t *arguments, GError **error)
{
    json_auto json_t *answer = vm_client_call(client, command, arguments, CALL_TIMEOUT_MS, error);
    return answer != NULL;
}

gboolean
pause_announce(VmClient *client, GError **error)
{
    return call(client, "kho-state", json_pack("{s:s,s:s}", "state", "paused", "reason", REASON), error);
}

gboolean
pause_begin(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    if (!status)
        return FALSE;
    return status->paused || (pause_announce(client, error) && call(client, "stop", NULL, error));
}

gboolean
pause_end(VmClient *client, GError **error)
{
    g_autoptr(VmStatus) status = vm_client_status(client, CALL_TIMEOUT_MS, error);

    if (!status)
        return FALSE;
    gboolean ours = status->paused && g_strcmp0(status->reason, REASON) == 0;
    return (!ours || call(client, "cont", NULL, error))
           && call(client, "kho-state", json_pack("{s:s}", "state", "paused"), error);
}
