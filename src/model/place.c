#include "model/place.h"

#include <string.h>

gint
model_target_index(const char *target)
{
    static const char *const prefixes[] = { "xvd", "ubd", "vd", "sd", "hd", "fd" };
    gint index = 0;

    for (gsize i = 0; i < G_N_ELEMENTS(prefixes); i++) {
        if (!g_str_has_prefix(target, prefixes[i]))
            continue;
        const char *letters = target + strlen(prefixes[i]);
        if (!*letters || strlen(letters) > 3) /* three letters: at most 18277 */
            return -1;
        for (const char *c = letters; *c; c++) {
            if (*c < 'a' || *c > 'z')
                return -1;
            index = index * 26 + (*c - 'a') + 1;
        }
        return index - 1 <= 16383 ? index - 1 : -1;
    }
    return -1;
}

ModelPlace
model_disk_place(const ModelDisk *disk)
{
    const ModelAddress *a = &disk->address;
    gint index = MAX(0, model_target_index(disk->target));

    if (a->type == MODEL_ADDRESS_DRIVE)
        return (
            ModelPlace){ .controller = a->controller, .bus = a->bus, .target = a->target, .unit = a->unit };
    switch (disk->bus) {
    case MODEL_BUS_IDE:
        return (ModelPlace){ .controller = index / 4, .bus = index / 2 % 2, .unit = index % 2 };
    case MODEL_BUS_SCSI: return (ModelPlace){ .controller = index / 7, .unit = index % 7 };
    case MODEL_BUS_SATA: return (ModelPlace){ .controller = index / 6, .unit = index % 6 };
    case MODEL_BUS_USB:
        return (ModelPlace){ .bus = a->type == MODEL_ADDRESS_USB ? a->bus : 0, .unit = index };
    default: return (ModelPlace){ .unit = index };
    }
}
