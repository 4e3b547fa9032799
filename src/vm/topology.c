#include "vm/topology.h"

#include "base/error.h"
#include "vm/savefile.h"

#include <string.h>

#define CALL_TIMEOUT_MS 10000
/* What a bus has room for: anything else would not be read back. */
#define PCI_SLOTS     32
#define PCI_FUNCTIONS 8

/* "pc" is another machine in another QEMU; what it stands for here is "pc-i440fx-7.2". */
static gboolean
pin_machine(VmClient *client, ModelDomain *live, GError **error)
{
    json_t *arguments = json_pack("{s:s,s:s}", "path", "/machine", "property", "type");
    json_auto json_t *answer = vm_client_call(client, "qom-get", arguments, CALL_TIMEOUT_MS, error);
    const char *type = json_string_value(answer);

    if (!answer)
        return FALSE;
    if (!type || !g_str_has_suffix(type, "-machine") || g_str_equal(type, "-machine"))
        return fail(error, KHO_ERROR_INTERNAL, "QEMU of machine '%s' says that its type is '%s'", live->name,
                    type ? type : "none");
    g_free(live->machine);
    live->machine = g_strndup(type, strlen(type) - strlen("-machine"));
    return TRUE;
}

/* What has no place yet was put onto the first bus by QEMU itself, which is where it is looked for. */
static void
pin_device(const json_t *devices, const char *alias, ModelAddress *address)
{
    gsize i;
    json_t *device;

    if (!alias || address->type != MODEL_ADDRESS_UNSET)
        return;
    json_array_foreach (devices, i, device) {
        gint64 slot = json_int_or(device, "slot", -1), function = json_int_or(device, "function", -1);
        gboolean is_place = slot >= 0 && slot < PCI_SLOTS && function >= 0 && function < PCI_FUNCTIONS;
        if (is_place && strcmp(json_string_or(device, "qdev_id", ""), alias) == 0)
            *address =
                (ModelAddress){ .type = MODEL_ADDRESS_PCI, .slot = (gint) slot, .function = (gint) function };
    }
}

#define PIN(T, list)                                                                                         \
    for (guint i = 0; i < (list)->len; i++) {                                                                \
        T *device = g_ptr_array_index(list, i);                                                              \
        pin_device(devices, device->alias, &device->address);                                                \
    }

static gboolean
pin_devices(VmClient *client, ModelDomain *live, GError **error)
{
    json_auto json_t *buses = vm_client_call(client, "query-pci", NULL, CALL_TIMEOUT_MS, error);
    const json_t *devices = json_object_get(json_array_get(buses, 0), "devices");

    if (!buses)
        return FALSE;
    PIN(ModelDisk, live->disks)
    PIN(ModelController, live->controllers)
    PIN(ModelInterface, live->interfaces)
    PIN(ModelInput, live->inputs)
    PIN(ModelVideo, live->videos)
    PIN(ModelBalloon, live->balloons)
    PIN(ModelRng, live->rngs)
    return TRUE;
}

gboolean
vm_topology_pin(VmClient *client, ModelDomain *live, GError **error)
{
    return pin_machine(client, live, error) && pin_devices(client, live, error);
}

char *
vm_topology_pin_xml(VmClient *client, const char *live_xml, GError **error)
{
    g_autoptr(ModelDomain) live = model_domain_parse(live_xml, strlen(live_xml), error);

    if (!live || !vm_topology_pin(client, live, error))
        return NULL;
    return model_domain_format(live, MODEL_FORMAT_LIVE);
}

gboolean
vm_topology_version(VmClient *client, guint32 *version, GError **error)
{
    json_auto json_t *answer = vm_client_call(client, "query-version", NULL, CALL_TIMEOUT_MS, error);
    const json_t *parts = json_object_get(answer, "qemu");
    gint64 major = json_int_or(parts, "major", -1), minor = json_int_or(parts, "minor", -1);
    gint64 micro = json_int_or(parts, "micro", -1);

    if (!answer)
        return FALSE;
    if (major < 1 || major > 1000 || minor < 0 || minor > 99 || micro < 0 || micro > 99)
        return fail(error, KHO_ERROR_INTERNAL, "QEMU says that its version is none");
    *version = VM_QEMU_VERSION((guint32) major, (guint32) minor, (guint32) micro);
    return TRUE;
}
