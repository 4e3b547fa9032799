/* Aliases: names of devices in the live XML, which are QEMU's device ids. */
#include "model/domain.h"
#include "model/place.h"

#include <string.h>

static char *
disk_alias(const ModelDisk *disk)
{
    ModelPlace at = model_disk_place(disk);

    switch (disk->bus) {
    case MODEL_BUS_IDE: return g_strdup_printf("ide%d-%d-%d", at.controller, at.bus, at.unit);
    case MODEL_BUS_SATA: return g_strdup_printf("sata%d-%d-%d", at.controller, at.bus, at.unit);
    case MODEL_BUS_SCSI: return g_strdup_printf("scsi%d-%d-%d-%d", at.controller, at.bus, at.target, at.unit);
    case MODEL_BUS_FDC: return g_strdup_printf("fdc%d-%d-%d", at.controller, at.bus, at.unit);
    case MODEL_BUS_USB: return g_strdup_printf("usb-disk%d", model_target_index(disk->target));
    default: return g_strdup_printf("%s-disk%d", model_bus_word(disk->bus), model_target_index(disk->target));
    }
}

/* libvirt's names: the built-in buses have their own. */
static char *
controller_alias(const ModelController *c)
{
    if (strcmp(c->type, "pci") == 0)
        return g_strdup_printf(g_strcmp0(c->model, "pcie-root") == 0 ? "pcie.%d" : "pci.%d", c->index);
    if (strcmp(c->type, "ide") == 0 && c->index == 0)
        return g_strdup("ide");
    if (strcmp(c->type, "usb") == 0 && c->index == 0)
        return g_strdup("usb");
    return g_strdup_printf("%s%d", c->type, c->index);
}

#define NUMBER(T, list, word)                                                                                \
    for (guint i = 0; i < (list)->len; i++) {                                                                \
        T *device = g_ptr_array_index(list, i);                                                              \
        if (!device->alias)                                                                                  \
            device->alias = g_strdup_printf(word "%u", i);                                                   \
    }

void
model_domain_assign_aliases(ModelDomain *d)
{
    for (guint i = 0; i < d->disks->len; i++) {
        ModelDisk *disk = g_ptr_array_index(d->disks, i);
        if (!disk->alias)
            disk->alias = disk_alias(disk);
    }
    for (guint i = 0; i < d->controllers->len; i++) {
        ModelController *c = g_ptr_array_index(d->controllers, i);
        if (!c->alias)
            c->alias = controller_alias(c);
    }
    NUMBER(ModelInterface, d->interfaces, "net");
    NUMBER(ModelChardev, d->serials, "serial");
    NUMBER(ModelChardev, d->channels, "channel");
    NUMBER(ModelInput, d->inputs, "input");
    NUMBER(ModelVideo, d->videos, "video");
    NUMBER(ModelBalloon, d->balloons, "balloon");
    NUMBER(ModelRng, d->rngs, "rng");
    NUMBER(ModelPanic, d->panics, "panic");
    for (guint i = 0; i < d->consoles->len; i++) {
        ModelChardev *c = g_ptr_array_index(d->consoles, i);
        const ModelChardev *serial = i == 0 && d->serials->len ? g_ptr_array_index(d->serials, 0) : NULL;
        if (!c->alias && serial && g_strcmp0(c->target_type, "virtio") != 0)
            c->alias = g_strdup(serial->alias); /* one device, shown twice */
        else if (!c->alias)
            c->alias = g_strdup_printf("console%u", i);
    }
}
