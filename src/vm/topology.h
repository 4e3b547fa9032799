/* Where QEMU put what a definition leaves open: the devices' places on the PCI bus and the machine type's
 * version. Whoever brings memory back needs a QEMU that is the same in all of it. */
#ifndef KHO_VM_TOPOLOGY_H
#define KHO_VM_TOPOLOGY_H

#include "model/domain.h"
#include "vm/client.h"

/* Asks QEMU, and writes it into @live, the live definition with its aliases. KHO_ERROR_TIMEOUT, _IO. */
gboolean vm_topology_pin(VmClient *client, ModelDomain *live, GError **error);

/* The same for its text; freed with g_free. */
char *vm_topology_pin_xml(VmClient *client, const char *live_xml, GError **error);

/* QEMU's version as VM_QEMU_VERSION (vm/savefile.h). */
gboolean vm_topology_version(VmClient *client, guint32 *version, GError **error);

#endif
