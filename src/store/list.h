/* What the tree holds, by names alone: nothing is parsed. */
#ifndef KHO_STORE_LIST_H
#define KHO_STORE_LIST_H

#include "store/tree.h"

/* Each returns names (char *, owned by the array) in byte order; a folder that does not exist holds none.
 * NULL with
 * @error where it cannot be read. */
GPtrArray *store_list_domains(const StoreTree *tree, GError **error); /* defined: etc/qemu/NAME.xml */
GPtrArray *
store_list_domains_run(const StoreTree *tree, GError **error);      /* with a run folder: run/qemu/NAME/ */
GPtrArray *store_list_pools(const StoreTree *tree, GError **error); /* defined: etc/storage/NAME.xml */
GPtrArray *store_list_pools_active(const StoreTree *tree, GError **error); /* run/storage/NAME.xml */
/* lib/qemu/snapshot/DOMAIN/NAME.xml, and the machines that have such a folder. */
GPtrArray *store_list_snapshots(const StoreTree *tree, const char *domain, GError **error);
GPtrArray *store_list_domains_snapshots(const StoreTree *tree, GError **error);

#endif
