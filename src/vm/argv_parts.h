/* What the parts of the argument vector share: the vector under construction and the ways to add to it.
 * Private to vm/argv*.c; the one function for others is in argv.h. */
#ifndef KHO_VM_ARGV_PARTS_H
#define KHO_VM_ARGV_PARTS_H

#include "base/json.h"
#include "vm/argv.h"

/* Devices go to QEMU in this order, since it gives the lowest free slot to one without an address: buses
 * first, then those with an address of their own, then the rest as they stand in the definition. */
typedef enum { ARGV_BUSES, ARGV_PLACED, ARGV_REST, ARGV_TIERS } ArgvTier;

typedef struct {
    const ModelDomain *d;
    const VmResources *r;
    gboolean q35;
    GPtrArray *out;                 /* char *: QEMU's arguments so far */
    GPtrArray *devices[ARGV_TIERS]; /* char *: values of -device */
    GHashTable *ids;                /* names of devices in use */
} Argv;

/* Adds "@option" "@value"; takes @value. */
void argv_add(Argv *a, const char *option, char *value);
/* The same with JSON; takes the reference. */
void argv_add_json(Argv *a, const char *option, json_t *value);

/**
 * argv_add_device:
 * @device: its properties but bus and addr; the reference is taken
 * @alias: becomes the id; KHO_ERROR_INVALID where it is used twice or is no id for QEMU
 * @address: where it sits on a PCI bus, or NULL for a device of another bus
 * @node: of the element, for messages
 */
gboolean argv_add_device(Argv *a, json_t *device, const char *alias, const ModelAddress *address,
                         const ModelNode *node, GError **error);

/* "line 12: <disk> ..." with the code, for elements that QEMU is not given. */
gboolean argv_refuse(GError **error, KhoErrorCode code, const ModelNode *node, const char *format, ...)
    G_GNUC_PRINTF(4, 5);

/* The controller of a kind by its index, or NULL. */
const ModelController *argv_controller(const ModelDomain *d, const char *type, gint index);

/* A word that may stand in QEMU's key=value lists: letters, digits and "._-+:". */
gboolean argv_is_word(const char *text);

/* Doubles commas, as QEMU's key=value lists want them. */
char *argv_escape(const char *text);

/* The parts, in the order of the vector. */
gboolean argv_add_machine(Argv *a, GError **error);
gboolean argv_add_controllers(Argv *a, GError **error);
gboolean argv_add_disks(Argv *a, GError **error);
/* One of them; @boot: its place in the order of booting, 0 for none. */
gboolean argv_add_disk(Argv *a, gsize index, gint boot, GError **error);
gboolean argv_add_devices(Argv *a, GError **error);
gboolean argv_add_display(Argv *a, GError **error);

/* The place of a device in the order of booting, from 1; 0 for none. */
gint argv_boot_index(const ModelDomain *d, gint own_order, ModelBootDev kind, gboolean is_first_of_kind);

/* KHO_ERROR_UNSUPPORTED for content that the model keeps without understanding, where leaving it out would
 * give the guest another machine than the one described. */
gboolean argv_check_unknown(const ModelDomain *d, GError **error);

#endif
