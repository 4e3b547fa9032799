/* A pool found by name or uuid: its definition, its live definition, its lock. What host/'s pool and volume
 * files share. */
#ifndef KHO_HOST_POOL_H
#define KHO_HOST_POOL_H

#include "host/host.h"
#include "model/pool.h"

#include <kho/storage.h>

typedef struct HostPool {
    char *name;
    ModelPool *defined; /* etc/storage/NAME.xml; NULL: not defined */
    ModelPool *live;    /* run/storage/NAME.xml; NULL: inactive */
    StoreLock *lock;    /* NULL unless by host_pool_lock */
} HostPool;

void host_pool_free(HostPool *pool);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostPool, host_pool_free)

/* The definition that holds now: the live one of an active pool. */
const ModelPool *host_pool_model(const HostPool *pool);

/* By name, then by uuid. KHO_ERROR_NOT_FOUND; _CORRUPT where its definition cannot be read. */
HostPool *host_pool_find(KhoHost *host, const char *name_or_uuid, GError **error);
/* The same, with its change lock taken before it is read. */
HostPool *host_pool_lock(KhoHost *host, const char *name_or_uuid, GError **error);
/* All active pools, of HostPool, by name; what cannot be read is passed over. */
GPtrArray *host_pools_active(KhoHost *host, GError **error);
/* Finds it and refuses one that is not active. */
HostPool *host_pool_find_active(KhoHost *host, const char *name_or_uuid, GError **error);

/* Reads what the tree holds under exactly this name; neither defined nor live is no error. */
HostPool *host_pool_load(KhoHost *host, const char *name, GError **error);

/* The place that the pool lies in as the name of a lock file. */
char *host_pool_place_key(const ModelPool *pool);
/* KHO_ERROR_EXISTS: @wanted would lie where @other does. Returns FALSE. */
gboolean host_pool_fail_taken(const ModelPool *wanted, const ModelPool *other, GError **error);

/* Names of all pools, defined or active, in byte order. */
GPtrArray *host_pool_names(KhoHost *host, GError **error);

#endif
