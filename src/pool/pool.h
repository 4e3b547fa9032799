/* What a pool can do, whatever its type: a const table a type, called through the functions below, which
 * check both sides. Pools here are plain structs; names, locks and states are host/'s, volumes in volume.h.
 */
#ifndef KHO_POOL_POOL_H
#define KHO_POOL_POOL_H

#include "model/pool.h"

typedef struct PoolUsage {
    guint64 capacity_bytes, allocation_bytes, available_bytes;
} PoolUsage;

/* One row a type. Each is called with a pool that pool_check admitted. */
typedef struct PoolType {
    ModelPoolType type;
    char *(*place)(const ModelPool *pool);
    gboolean (*build)(const ModelPool *pool, char **made, GError **error);
    void (*unbuild)(const ModelPool *pool, const char *made);
    gboolean (*start)(const ModelPool *pool, GError **error);
    gboolean (*usage)(const ModelPool *pool, PoolUsage *usage, GError **error);
    GPtrArray *(*list)(const ModelPool *pool, GError **error);
} PoolType;

extern const PoolType pool_type_dir;

/* Reads the definition at @path. *model is NULL where there is no such file; KHO_ERROR_CORRUPT. */
gboolean pool_read_model(const char *path, ModelPool **model, GError **error);

/* Whether this kho builds pools of that type, and the pool has a name and all that its type needs.
 * KHO_ERROR_INVALID, _UNSUPPORTED. */
gboolean pool_check(const ModelPool *pool, GError **error);
/* Whether its folder may be a pool's at all, for one that is being defined: not what the system itself stands
 * on. */
gboolean pool_check_target(const ModelPool *pool, GError **error);

/* Where an admitted pool lies or would lie, whatever links and mounts are on the way: two pools of the same
 * place share every volume. Text without a meaning of its own; it changes when what is missing is made. */
char *pool_place(const ModelPool *pool);

/* Makes what the pool lies on. *made tells pool_unbuild what was new; NULL where nothing was. A failure
 * leaves nothing. */
gboolean pool_build(const ModelPool *pool, char **made, GError **error);
/* Takes back a build, as far as nothing was put there since. */
void pool_unbuild(const ModelPool *pool, const char *made);

/* Whether the pool can be used now; KHO_ERROR_NOT_FOUND where it was not built, _DENIED where its volumes
 * cannot be listed. */
gboolean pool_start(const ModelPool *pool, GError **error);
gboolean pool_usage(const ModelPool *pool, PoolUsage *usage, GError **error);

/* Names of the volumes (char *) in byte order. */
GPtrArray *pool_list(const ModelPool *pool, GError **error);

/* Where the volume of that name lies or would lie. */
char *pool_volume_path(const ModelPool *pool, const char *name);

#endif
