/* What kho knows of the formats of a pool's volumes, beside their bytes: lib/storage/POOLUUID.json. A guest
 * writes every byte of its raw disk, also a header of another format at the front; so that a raw volume is
 * never taken for what its bytes say, it is recorded when kho makes it. A record holds for one file, told by
 * inode and birth: another one that took its name since is told from its headers again. */
#ifndef KHO_POOL_FORMATS_H
#define KHO_POOL_FORMATS_H

#include "model/pool.h"
#include "store/lock.h"

typedef struct PoolFormats PoolFormats;

/* KHO_ERROR_CORRUPT, _UNSUPPORTED where a newer kho wrote it. No file: nothing is recorded. */
PoolFormats *pool_formats_load(const StoreTree *tree, const ModelPool *pool, GError **error);
void pool_formats_free(PoolFormats *formats);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PoolFormats, pool_formats_free)

/* The format recorded for the file that is the volume @name now, or NULL. */
const char *pool_formats_get(const PoolFormats *formats, const char *name);

/* Both take a lock of their own, the last of all. Records the format of the volume @name, which stands,
 * durably; what is recorded of files that are no more goes. */
gboolean pool_formats_set(const StoreTree *tree, const ModelPool *pool, const char *name, const char *format,
                          const StoreWait *wait, GError **error);
/* The volume has gone. A failure is nobody's harm: the record holds for no other file. */
void
pool_formats_forget(const StoreTree *tree, const ModelPool *pool, const char *name, const StoreWait *wait);

#endif
