/* The right to make a machine of a name and a uuid: both locks, and the certainty that no other machine has
 * either. */
#ifndef KHO_HOST_CLAIM_H
#define KHO_HOST_CLAIM_H

#include "host/machine.h"

/* That of the name keeps two uuids off one name, that of the uuid, the machine's change lock, two names off
 * one uuid. */
typedef struct MachineClaim {
    StoreLock *name, *change;
} MachineClaim;

/* Takes both for @model's name and uuid, finishes or takes back what a dead process left half done on that
 * uuid, and looks at all machines: KHO_ERROR_EXISTS where the name has another uuid, or the uuid another
 * name; _TIMEOUT, _BUSY. */
gboolean machine_claim(KhoHost *host, const ModelDomain *model, MachineClaim *claim, GError **error);
/* The same for who writes a new definition: one that is damaged stands in nobody's way. */
gboolean
machine_claim_to_define(KhoHost *host, const ModelDomain *model, MachineClaim *claim, GError **error);
void machine_claim_clear(MachineClaim *claim);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(MachineClaim, machine_claim_clear)

#endif
