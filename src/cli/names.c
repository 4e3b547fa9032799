/* Names of the objects in the tree, for completion. */
#include "cli/names.h"

#include <kho/snapshot.h>
#include <kho/storage.h>
#include <string.h>

/* The member of type char * at @offset of each struct in @objects, which is freed; NULL for an empty list. */
static char **
names_of(GPtrArray *objects, gsize offset)
{
    g_autoptr(GPtrArray) owned = objects;
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; owned && i < owned->len; i++)
        g_ptr_array_add(names, g_strdup(*(char **) (void *) ((char *) owned->pdata[i] + offset)));
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(names, FALSE);
}

char **
names_of_machines(const CliRun *cli)
{
    g_autoptr(KhoHost) host = kho_host_open(cli->root, NULL);
    const KhoDomainListFlags all = KHO_DOMAIN_LIST_ACTIVE | KHO_DOMAIN_LIST_INACTIVE;

    return host ? names_of(kho_domain_list(host, all, NULL), offsetof(KhoDomainEntry, name)) : NULL;
}

char **
names_of_snapshots(const CliRun *cli, const char *machine)
{
    g_autoptr(KhoHost) host = kho_host_open(cli->root, NULL);
    g_autoptr(KhoDomain) domain = host ? kho_domain_lookup(host, machine, NULL) : NULL;

    return domain ? names_of(kho_snapshot_list(domain, NULL), offsetof(KhoSnapshot, name)) : NULL;
}

char **
names_of_pools(const CliRun *cli)
{
    g_autoptr(KhoHost) host = kho_host_open(cli->root, NULL);

    return host ? names_of(kho_pool_list(host, NULL), offsetof(KhoPool, name)) : NULL;
}

char **
names_of_volumes(const CliRun *cli, const char *pool)
{
    g_autoptr(KhoHost) host = kho_host_open(cli->root, NULL);

    return host ? names_of(kho_volume_list(host, pool, NULL), offsetof(KhoVolume, name)) : NULL;
}
