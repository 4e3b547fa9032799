/* The definition of a machine as it stands on disk, etc/qemu/NAME.xml. Who may replace it, and what must hold
 * between definitions, is in host/. */
#ifndef KHO_VM_DEFINITION_H
#define KHO_VM_DEFINITION_H

#include "model/domain.h"
#include "store/tree.h"

/* KHO_ERROR_NOT_FOUND where there is none. */
char *vm_definition_text(const StoreTree *tree, const char *name, gsize *len, GError **error);
/* The same as a struct; KHO_ERROR_CORRUPT where it cannot be read as that machine's. */
ModelDomain *vm_definition(const StoreTree *tree, const char *name, GError **error);

/* Whether there is one that vm_definition refuses as damaged. A glance comes first, and what looks right is
 * not parsed: what is malformed but closes all that it opens, and names that machine, is missed. */
gboolean vm_definition_looks_damaged(const StoreTree *tree, const char *name);

/* Replaces it, durably. The caller holds the machine's change lock, or its journal entry. */
gboolean vm_definition_publish(const StoreTree *tree, const char *name, const char *text, GError **error);

#endif
