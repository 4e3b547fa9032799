/* Change locks: whoever changes an object of the tree holds its lock meanwhile; readers take none. They are
 * OFD locks on files that are never unlinked. Order: pool, machine (by uuid), image. Image locks are QEMU's
 * and live in block/. */
#ifndef KHO_STORE_LOCK_H
#define KHO_STORE_LOCK_H

#include "store/tree.h"

/* The folders below run/lock. */
#define STORE_LOCK_DOMAIN "qemu"
#define STORE_LOCK_POOL   "storage"

typedef struct StoreLock StoreLock;

/* How long to wait for a lock. */
typedef struct StoreWait {
    guint timeout_ms;               /* 0: do not wait */
    const volatile gint *cancelled; /* non-zero ends the wait with KHO_ERROR_CANCELLED; may be NULL */
} StoreWait;

/**
 * store_lock_take:
 * @kind: STORE_LOCK_DOMAIN or STORE_LOCK_POOL
 * @uuid: the object's, as text: the file's name
 * @object: for messages: "machine web1", "pool vmdisks"
 * @wait: NULL waits 30 s
 *
 * Takes the change lock of one object and writes pid and command into the lock file, for the messages of
 * others. A process that dies loses its locks. Two locks of one process exclude each other too.
 *
 * Returns: NULL with KHO_ERROR_BUSY (not free, @wait->timeout_ms is 0), _TIMEOUT, both naming the holder;
 * _CANCELLED; or what making the lock file met.
 */
StoreLock *store_lock_take(const StoreTree *tree, const char *kind, const char *uuid, const char *object,
                           const StoreWait *wait, GError **error);

/* The same for a name: held from the check that it is free until the object is defined. Taken before any
 * change lock. */
StoreLock *store_lock_name(const StoreTree *tree, const char *kind, const char *name, const StoreWait *wait,
                           GError **error);

/* Who holds that lock, as the messages say it: "pid 12 (kho start web1)", or "another process". */
char *store_lock_holder(const StoreTree *tree, const char *kind, const char *uuid);

/* NULL is allowed. */
void store_lock_release(StoreLock *lock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreLock, store_lock_release)

#endif
