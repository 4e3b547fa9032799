#include "host/claim.h"

#include "base/error.h"
#include "host/recover.h"
#include "host/running.h"
#include "vm/definition.h"

#include <string.h>

void
machine_claim_clear(MachineClaim *claim)
{
    store_lock_release(claim->change);
    store_lock_release(claim->name);
    *claim = (MachineClaim){ NULL, NULL };
}

static gboolean
take_locks(KhoHost *host, const ModelDomain *model, MachineClaim *claim, GError **error)
{
    g_autofree char *object = g_strdup_printf("machine '%s'", model->name);

    claim->name = store_lock_name(host->tree, STORE_LOCK_DOMAIN, model->name, &host->wait, error);
    if (!claim->name)
        return FALSE;
    claim->change = store_lock_take(host->tree, STORE_LOCK_DOMAIN, model->uuid, object, &host->wait, error);
    return claim->change && machine_recover_locked(host, model->uuid, error);
}

/* One name, one uuid: held against what is defined and what runs. Called under both locks. */
static gboolean
check_others(KhoHost *host, const ModelDomain *model, gboolean defines, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(ModelDomain) old = vm_definition(host->tree, model->name, &why);
    g_autofree char *live_uuid = running_uuid(host->tree, model->name);
    const char *uuid = old ? old->uuid : live_uuid;

    if (!old && !g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND)
        && !(defines && g_error_matches(why, KHO_ERROR, KHO_ERROR_CORRUPT))) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (uuid && strcmp(uuid, model->uuid) != 0)
        return fail(error, KHO_ERROR_EXISTS,
                    "machine '%s' exists already with uuid %s: give that uuid to replace its definition",
                    model->name, uuid);
    g_autofree char *other = machine_name_of_uuid(host->tree, model->uuid, model->name);
    if (other)
        return fail(error, KHO_ERROR_EXISTS, "uuid %s belongs to machine '%s' already", model->uuid, other);
    return TRUE;
}

gboolean
machine_claim(KhoHost *host, const ModelDomain *model, MachineClaim *claim, GError **error)
{
    return take_locks(host, model, claim, error) && check_others(host, model, FALSE, error);
}

gboolean
machine_claim_to_define(KhoHost *host, const ModelDomain *model, MachineClaim *claim, GError **error)
{
    return take_locks(host, model, claim, error) && check_others(host, model, TRUE, error);
}
