/* Controllers: buses that devices of the definition hang on. */
#include "base/error.h"
#include "vm/argv_parts.h"

#include <string.h>

/* Models as the XML names them, and QEMU's devices. NULL: built into the machine, or nothing at all. */
static const struct {
    const char *type, *model, *device;
} models[] = {
    { "scsi", "virtio-scsi", "virtio-scsi-pci" },
    { "scsi", "lsilogic", "lsi53c895a" },
    { "usb", "piix3-uhci", "piix3-usb-uhci" },
    { "usb", "piix4-uhci", "piix4-usb-uhci" },
    { "usb", "ehci", "usb-ehci" },
    { "usb", "nec-xhci", "nec-usb-xhci" },
    { "usb", "qemu-xhci", "qemu-xhci" },
    { "usb", "none", NULL },
    { "virtio-serial", NULL, "virtio-serial-pci" },
    { "sata", NULL, "ich9-ahci" },
    { "ide", NULL, NULL },
    { "ide", "piix3", NULL },
    { "ide", "piix4", NULL },
    { "pci", "pci-root", NULL },
    { "pci", "pcie-root", NULL },
    { "pci", "pcie-root-port", "pcie-root-port" },
    { "pci", "pcie-to-pci-bridge", "pcie-pci-bridge" },
    { "pci", "pci-bridge", "pci-bridge" },
};

const ModelController *
argv_controller(const ModelDomain *d, const char *type, gint index)
{
    for (guint i = 0; i < d->controllers->len; i++) {
        const ModelController *c = g_ptr_array_index(d->controllers, i);
        if (strcmp(c->type, type) == 0 && c->index == index)
            return c;
    }
    return NULL;
}

static const char *
default_model(const ModelController *c)
{
    if (strcmp(c->type, "usb") == 0)
        return "piix3-uhci";
    return NULL;
}

static gboolean
find_device(const ModelController *c, const char **device, GError **error)
{
    const char *model = c->model ? c->model : default_model(c);

    for (gsize i = 0; i < G_N_ELEMENTS(models); i++)
        if (strcmp(models[i].type, c->type) == 0 && g_strcmp0(models[i].model, model) == 0) {
            *device = models[i].device;
            return TRUE;
        }
    return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                       "of type '%s' and model '%s' is not something that kho can give to QEMU", c->type,
                       model ? model : "");
}

/* What the machine has by itself must match what the definition says. */
static gboolean
check_built_in(const Argv *a, const ModelController *c, GError **error)
{
    gboolean pci = strcmp(c->type, "pci") == 0;

    if (strcmp(c->type, "ide") == 0 && (a->q35 || c->index > 0))
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "of type 'ide' and index %d: machine '%s' has %s", c->index, a->d->machine,
                           a->q35 ? "none" : "only index 0");
    if (pci && g_strcmp0(c->model, a->q35 ? "pci-root" : "pcie-root") == 0)
        return argv_refuse(error, KHO_ERROR_INVALID, &c->node, "of model '%s' does not fit machine '%s'",
                           c->model, a->d->machine);
    if (pci && (c->index == 0) != (strcmp(c->model ? c->model : "", a->q35 ? "pcie-root" : "pci-root") == 0))
        return argv_refuse(
            error, KHO_ERROR_INVALID, &c->node,
            "of type 'pci' and index %d has the model '%s': index 0 is the root, the others are below it",
            c->index, c->model ? c->model : "");
    return TRUE;
}

static gboolean
parse_small(const ModelController *c, const char *what, const char *text, gint64 fallback, json_t *device,
            const char *key, GError **error)
{
    guint64 n = (guint64) fallback;
    gboolean hex = text && g_str_has_prefix(text, "0x");

    if (text && !g_ascii_string_to_unsigned(hex ? text + 2 : text, hex ? 16 : 10, 0, 255, &n, NULL))
        return argv_refuse(error, KHO_ERROR_INVALID, &c->node,
                           "has %s '%s' at <target>: it must be from 0 to 255", what, text);
    json_object_set_new(device, key, json_integer((json_int_t) n));
    return TRUE;
}

static gboolean
set_pci_properties(const ModelController *c, json_t *device, GError **error)
{
    if (strcmp(c->model, "pci-bridge") == 0)
        return parse_small(c, "chassis", c->target_chassis, c->index, device, "chassis_nr", error);
    if (strcmp(c->model, "pcie-root-port") != 0)
        return TRUE;
    return parse_small(c, "port", c->target_port, c->index, device, "port", error)
           && parse_small(c, "chassis", c->target_chassis, c->index, device, "chassis", error);
}

static gboolean
add_controller(Argv *a, const ModelController *c, GError **error)
{
    const char *driver = NULL;
    gboolean q35_sata = a->q35 && strcmp(c->type, "sata") == 0 && c->index == 0;

    if (!find_device(c, &driver, error) || !check_built_in(a, c, error))
        return FALSE;
    if (!driver || q35_sata)
        return TRUE;
    json_auto json_t *device = json_pack("{s:s}", "driver", driver);
    if (strcmp(c->type, "pci") == 0 && !set_pci_properties(c, device, error))
        return FALSE;
    if (c->ports != MODEL_UNSET && strcmp(c->type, "virtio-serial") == 0)
        json_object_set_new(device, "max_ports", json_integer(c->ports));
    else if (c->ports != MODEL_UNSET && strstr(driver, "xhci")) {
        json_object_set_new(device, "p2", json_integer(c->ports));
        json_object_set_new(device, "p3", json_integer(c->ports));
    } else if (c->ports != MODEL_UNSET) {
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, &c->node,
                           "of model '%s' has ports='%d': QEMU's has a fixed number",
                           c->model ? c->model : "", c->ports);
    }
    return argv_add_device(a, json_steal(&device), c->alias, &c->address, &c->node, error);
}

gboolean
argv_add_controllers(Argv *a, GError **error)
{
    for (guint i = 0; i < a->d->controllers->len; i++)
        if (!add_controller(a, g_ptr_array_index(a->d->controllers, i), error))
            return FALSE;
    return TRUE;
}
