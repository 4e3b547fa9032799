/* Disks: their files as block nodes, and the drives that the guest sees. */
#include "base/error.h"
#include "model/place.h"
#include "vm/argv_parts.h"

#include <string.h>

/* QEMU takes 31 bytes; "-63-file" may follow. */
#define NODE_STEM_MAX 22

char *
vm_argv_node_name(const ModelDomain *domain, gsize disk, gsize layer)
{
    const ModelDisk *d = g_ptr_array_index(domain->disks, (guint) disk);

    if (d->alias && strlen(d->alias) <= NODE_STEM_MAX)
        return g_strdup_printf("%s-%" G_GSIZE_FORMAT, d->alias, layer);
    return g_strdup_printf("disk%" G_GSIZE_FORMAT "-%" G_GSIZE_FORMAT, disk, layer);
}

static gboolean
check_disk(const Argv *a, const ModelDisk *disk, GError **error)
{
    const ModelNode *n = &disk->node;

    if (disk->type != MODEL_SOURCE_FILE)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, n, "'%s' is of type '%s': only 'file' can run",
                           disk->target, model_source_type_word(disk->type));
    if (disk->device != MODEL_DISK_DISK && disk->device != MODEL_DISK_CDROM)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, n, "'%s' is a %s: only disk and cdrom can run",
                           disk->target, model_disk_device_word(disk->device));
    if (strcmp(disk->driver, "qemu") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, n, "'%s' has the driver '%s': only 'qemu' can run",
                           disk->target, disk->driver);
    if (strcmp(disk->format, "raw") != 0 && strcmp(disk->format, "qcow2") != 0)
        return argv_refuse(error, KHO_ERROR_UNSUPPORTED, n,
                           "'%s' has the format '%s': only raw and qcow2 can run", disk->target,
                           disk->format);
    if (disk->io == MODEL_IO_NATIVE && disk->cache != MODEL_CACHE_NONE
        && disk->cache != MODEL_CACHE_DIRECTSYNC)
        return argv_refuse(error, KHO_ERROR_INVALID, n,
                           "'%s' has io 'native', which needs cache 'none' or 'directsync'", disk->target);
    if (disk->readonly && disk->device == MODEL_DISK_DISK
        && (disk->bus == MODEL_BUS_IDE || disk->bus == MODEL_BUS_SATA))
        return argv_refuse(error, KHO_ERROR_INVALID, n,
                           "'%s' is readonly, which bus '%s' cannot be: use virtio or scsi", disk->target,
                           model_bus_word(disk->bus));
    if (disk->serial && strlen(disk->serial) > (disk->bus == MODEL_BUS_SCSI ? 36 : 20))
        return argv_refuse(error, KHO_ERROR_INVALID, n,
                           "'%s' has the serial '%s': bus '%s' takes at most %d bytes", disk->target,
                           disk->serial, model_bus_word(disk->bus), disk->bus == MODEL_BUS_SCSI ? 36 : 20);
    return TRUE;
}

/* ---- block nodes ---- */

static json_t *
cache_json(ModelCache cache)
{
    if (cache == MODEL_CACHE_UNSET || cache == MODEL_CACHE_DEFAULT)
        return NULL;
    gboolean direct = cache == MODEL_CACHE_NONE || cache == MODEL_CACHE_DIRECTSYNC;
    return json_pack("{s:b,s:b}", "direct", direct, "no-flush", cache == MODEL_CACHE_UNSAFE);
}

static void
set_new(json_t *object, const char *key, json_t *value)
{
    if (value)
        json_object_set_new(object, key, value);
}

/* One file: the node that holds its bytes, and above it the one that knows its format. Image locks stay on,
 * so that any other process sees that the image is in use. The file of a lower layer is open for reading, and
 * for writing as well while a block job changes it: an fdset gets a descriptor for that then
 * (ARCHITECTURE.md, "Writing to a lower layer"). */
static void
add_layer(Argv *a, gsize index, gsize layer_index)
{
    static const char *const ios[] = { NULL, "threads", "native", "io_uring" };
    const ModelDisk *disk = g_ptr_array_index(a->d->disks, (guint) index);
    const VmDisk *files = &a->r->disks[index];
    const VmLayer *layer = &files->layers[layer_index];
    gboolean read_only = layer->read_only || layer_index > 0;
    g_autofree char *node = vm_argv_node_name(a->d, index, layer_index);
    g_autofree char *file_node = g_strconcat(node, "-file", NULL);
    g_autofree char *filename =
        layer->fd >= 0 ? g_strdup_printf("/dev/fdset/%d", layer->fdset) : g_strdup(layer->path);

    if (layer->fd >= 0)
        argv_add(a, "-add-fd",
                 g_strdup_printf("fd=%d,set=%d,opaque=%s", layer->fd, layer->fdset,
                                 read_only ? "read-only" : "read-write"));
    json_t *file = json_pack("{s:s,s:s,s:s,s:b,s:s,s:s}", "driver", "file", "filename", filename, "node-name",
                             file_node, layer_index > 0 ? "auto-read-only" : "read-only", read_only,
                             "locking", "on", "discard", "unmap");
    set_new(file, "cache", cache_json(disk->cache));
    if (disk->io != MODEL_IO_UNSET)
        json_object_set_new(file, "aio", json_string(ios[disk->io]));
    argv_add_json(a, "-blockdev", file);

    json_t *format = json_pack("{s:s,s:s,s:s,s:b}", "driver", layer->format, "file", file_node, "node-name",
                               node, "read-only", read_only);
    if (disk->discard == MODEL_DISCARD_UNMAP || disk->discard == MODEL_DISCARD_IGNORE)
        json_object_set_new(format, "discard",
                            json_string(disk->discard == MODEL_DISCARD_UNMAP ? "unmap" : "ignore"));
    if (disk->detect_zeroes && layer_index == 0)
        json_object_set_new(format, "detect-zeroes", json_string(disk->detect_zeroes));
    set_new(format, "cache", cache_json(disk->cache));
    if (strcmp(layer->format, "qcow2") == 0) {
        g_autofree char *below =
            layer_index + 1 < files->n_layers ? vm_argv_node_name(a->d, index, layer_index + 1) : NULL;
        json_object_set_new(format, "backing", below ? json_string(below) : json_null());
    }
    argv_add_json(a, "-blockdev", format);
}

/* ---- drives ---- */

static gboolean
place_scsi(Argv *a, const ModelDisk *disk, json_t *device, GError **error)
{
    ModelPlace at = model_disk_place(disk);
    const ModelController *c = argv_controller(a->d, "scsi", at.controller);

    if (!c)
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                           "'%s' needs a <controller type='scsi' index='%d'/>", disk->target, at.controller);
    g_autofree char *bus = g_strdup_printf("%s.0", c->alias);
    g_autofree char *id = g_strdup_printf("drive-%s", disk->alias);
    json_object_set_new(device, "bus", json_string(bus));
    json_object_set_new(device, "device_id", json_string(id));
    if (g_strcmp0(c->model, "lsilogic") == 0) {
        /* One target for each unit: this controller knows no others, and is number 7 itself. */
        if (at.target != 0 || at.unit > 6)
            return argv_refuse(
                error, KHO_ERROR_INVALID, &disk->node,
                "'%s' is at target %d, unit %d: a lsilogic controller has target 0, units 0 to 6",
                disk->target, at.target, at.unit);
        json_object_set_new(device, "scsi-id", json_integer(at.unit));
        return TRUE;
    }
    json_object_set_new(device, "channel", json_integer(0));
    json_object_set_new(device, "scsi-id", json_integer(at.target));
    json_object_set_new(device, "lun", json_integer(at.unit));
    return TRUE;
}

static gboolean
place_ata(Argv *a, const ModelDisk *disk, json_t *device, GError **error)
{
    ModelPlace at = model_disk_place(disk);
    gboolean sata = disk->bus == MODEL_BUS_SATA;
    g_autofree char *bus = NULL;

    if (!sata && (a->q35 || at.controller > 0 || at.bus > 1 || at.unit > 1 || at.target > 0))
        return argv_refuse(
            error, KHO_ERROR_UNSUPPORTED, &disk->node,
            a->q35 ? "'%s' is on bus 'ide', which a q35 machine does not have: use sata, scsi or virtio"
                   : "'%s' is past the four drives that bus 'ide' has",
            disk->target);
    if (sata && (at.bus > 0 || at.target > 0 || at.unit > 5))
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                           "'%s' is at unit %d: a sata controller has bus 0, units 0 to 5", disk->target,
                           at.unit);
    if (!sata) {
        bus = g_strdup_printf("ide.%d", at.bus);
        json_object_set_new(device, "unit", json_integer(at.unit));
    } else if (a->q35 && at.controller == 0) {
        bus = g_strdup_printf("ide.%d", at.unit);
    } else {
        const ModelController *c = argv_controller(a->d, "sata", at.controller);
        if (!c)
            return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                               "'%s' needs a <controller type='sata' index='%d'/>", disk->target,
                               at.controller);
        bus = g_strdup_printf("%s.%d", c->alias, at.unit);
    }
    json_object_set_new(device, "bus", json_string(bus));
    return TRUE;
}

static gboolean
place_usb(Argv *a, const ModelDisk *disk, json_t *device, GError **error)
{
    const ModelController *c = argv_controller(a->d, "usb", model_disk_place(disk).bus);

    if (!c || g_strcmp0(c->model, "none") == 0)
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node, "'%s' needs a <controller type='usb'/>",
                           disk->target);
    g_autofree char *bus = g_strdup_printf("%s.0", c->alias);
    json_object_set_new(device, "bus", json_string(bus));
    if (disk->address.type == MODEL_ADDRESS_USB && disk->address.port > 0) {
        g_autofree char *port = g_strdup_printf("%d", disk->address.port);
        json_object_set_new(device, "port", json_string(port));
    }
    return TRUE;
}

static const char *
drive_model(const ModelDisk *disk)
{
    gboolean cd = disk->device == MODEL_DISK_CDROM;

    switch (disk->bus) {
    case MODEL_BUS_VIRTIO: return cd ? NULL : "virtio-blk-pci";
    case MODEL_BUS_SCSI: return cd ? "scsi-cd" : "scsi-hd";
    case MODEL_BUS_IDE:
    case MODEL_BUS_SATA: return cd ? "ide-cd" : "ide-hd";
    case MODEL_BUS_USB: return cd ? NULL : "usb-storage";
    default: return NULL;
    }
}

static void
set_policies(const ModelDisk *disk, json_t *device)
{
    const char *policy = disk->error_policy;

    if (!policy)
        return;
    if (strcmp(policy, "enospace") == 0) {
        json_object_set_new(device, "werror", json_string("enospc"));
        return;
    }
    json_object_set_new(device, "werror", json_string(policy));
    json_object_set_new(device, "rerror", json_string(policy));
}

static gboolean
set_wwn(const ModelDisk *disk, json_t *device, GError **error)
{
    guint64 wwn;

    if (!disk->wwn)
        return TRUE;
    if (disk->bus != MODEL_BUS_SCSI && disk->bus != MODEL_BUS_IDE && disk->bus != MODEL_BUS_SATA)
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                           "'%s' has a <wwn>, which bus '%s' cannot show", disk->target,
                           model_bus_word(disk->bus));
    if (strlen(disk->wwn) != 16 || !g_ascii_string_to_unsigned(disk->wwn, 16, 0, G_MAXINT64, &wwn, NULL))
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                           "'%s' has the wwn '%s': it must be 16 hexadecimal digits, the first below 8",
                           disk->target, disk->wwn);
    json_object_set_new(device, "wwn", json_integer((json_int_t) wwn));
    return TRUE;
}

static void
set_write_cache(const ModelDisk *disk, json_t *device)
{
    if (disk->cache == MODEL_CACHE_UNSET || disk->cache == MODEL_CACHE_DEFAULT || disk->bus == MODEL_BUS_USB)
        return;
    gboolean through = disk->cache == MODEL_CACHE_WRITETHROUGH || disk->cache == MODEL_CACHE_DIRECTSYNC;
    json_object_set_new(device, "write-cache", json_string(through ? "off" : "on"));
}

static gboolean
add_drive(Argv *a, gsize index, gint boot, GError **error)
{
    const ModelDisk *disk = g_ptr_array_index(a->d->disks, (guint) index);
    const char *model = drive_model(disk);

    if (!model)
        return argv_refuse(
            error, KHO_ERROR_UNSUPPORTED, &disk->node, "'%s' is a %s on bus '%s': use %s", disk->target,
            model_disk_device_word(disk->device), disk->bus ? model_bus_word(disk->bus) : "",
            disk->device == MODEL_DISK_CDROM ? "ide, sata or scsi" : "virtio, scsi, ide, sata or usb");
    json_auto json_t *device = json_pack("{s:s}", "driver", model);
    if (a->r->disks[index].n_layers > 0) {
        g_autofree char *node = vm_argv_node_name(a->d, index, 0);
        json_object_set_new(device, "drive", json_string(node));
    } else if (disk->device != MODEL_DISK_CDROM) {
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node, "'%s' has no file", disk->target);
    }
    if ((disk->bus == MODEL_BUS_SCSI && !place_scsi(a, disk, device, error))
        || ((disk->bus == MODEL_BUS_IDE || disk->bus == MODEL_BUS_SATA) && !place_ata(a, disk, device, error))
        || (disk->bus == MODEL_BUS_USB && !place_usb(a, disk, device, error))
        || !set_wwn(disk, device, error))
        return FALSE;
    if (disk->bus == MODEL_BUS_VIRTIO && disk->address.type != MODEL_ADDRESS_UNSET
        && disk->address.type != MODEL_ADDRESS_PCI)
        return argv_refuse(error, KHO_ERROR_INVALID, &disk->node,
                           "'%s' is on bus 'virtio': its <address> must be of type 'pci'", disk->target);
    if (boot)
        json_object_set_new(device, "bootindex", json_integer(boot));
    if (disk->serial)
        json_object_set_new(device, "serial", json_string(disk->serial));
    if (disk->shareable)
        json_object_set_new(device, "share-rw", json_true());
    set_write_cache(disk, device);
    set_policies(disk, device);
    return argv_add_device(a, json_steal(&device), disk->alias,
                           disk->bus == MODEL_BUS_VIRTIO ? &disk->address : NULL, &disk->node, error);
}

gboolean
argv_add_disk(Argv *a, gsize index, gint boot, GError **error)
{
    if (!check_disk(a, g_ptr_array_index(a->d->disks, (guint) index), error))
        return FALSE;
    for (gsize layer = a->r->disks[index].n_layers; layer > 0; layer--)
        add_layer(a, index, layer - 1);
    return add_drive(a, index, boot, error);
}

gboolean
argv_add_disks(Argv *a, GError **error)
{
    gboolean seen[2] = { FALSE, FALSE };

    for (guint i = 0; i < a->d->disks->len; i++) {
        const ModelDisk *disk = g_ptr_array_index(a->d->disks, i);
        gboolean cd = disk->device == MODEL_DISK_CDROM;
        gint boot = argv_boot_index(a->d, disk->boot_order, cd ? MODEL_BOOT_CDROM : MODEL_BOOT_HD, !seen[cd]);
        if (!argv_add_disk(a, i, boot, error))
            return FALSE;
        seen[cd] = TRUE;
    }
    return TRUE;
}
