/* Managed saves, for the rest of host/: is there one, start from it, take it away. */
#ifndef KHO_HOST_SAVED_H
#define KHO_HOST_SAVED_H

#include "host/machine.h"

/* Whether the next start of the machine goes on from a managed save. One look at a name. */
gboolean saved_exists(const StoreTree *tree, const char *name);

/* Removes a managed save; TRUE where there is none. By the holder of the machine's change lock. */
gboolean saved_remove(const StoreTree *tree, const char *name, GError **error);

/* Starts a machine, which is off, from its managed save. @lock: (transfer full): the machine's change lock.
 */
gboolean saved_start(KhoDomain *domain, StoreLock *lock, gboolean paused, const KhoJob *job, GError **error);

#endif
