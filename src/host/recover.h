/* Changes of machines that somebody left half done: the kinds that this kho knows, and finishing them or
 * taking them back. How a change runs is store/change.h's; what the steps do lives with each kind. */
#ifndef KHO_HOST_RECOVER_H
#define KHO_HOST_RECOVER_H

#include "host/machine.h"
#include "store/change.h"

/* All kinds, NULL-terminated; each is opened with the KhoHost's StoreTree, see ChangeKind.open. */
extern const ChangeKind *const machine_changes[];

/* Under the change lock of the machine @uuid. KHO_ERROR_BUSY where another process drives a change of it. */
gboolean machine_recover_locked(KhoHost *host, const char *uuid, GError **error);

/* For reads: recovers where an abandoned entry stands, the lock is free and the machine's kho-vm, if any,
 * answers at once; what fails stays for a verb that needs it. One stat where there is no entry. */
void machine_recover_quietly(KhoHost *host, const char *uuid);
/* The same by name, for a machine that is not (or no longer) defined: TRUE where there was an entry. */
gboolean machine_recover_name(KhoHost *host, const char *name);

#endif
