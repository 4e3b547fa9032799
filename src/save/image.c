/* Looking at a save file: is it whole, may it be used, does it fit the disks still. */
#include "base/error.h"
#include "base/num.h"
#include "save/resume.h"
#include "vm/emulator.h"
#include "vm/ramfile.h"
#include "vm/stamp.h"
#include "vm/start.h"

#include <string.h>

void
save_image_free(SaveImage *image)
{
    if (!image)
        return;
    g_free(image->path);
    vm_savehead_free(image->head);
    model_domain_free(image->live);
    g_free(image);
}

SaveImage *
save_image_open(const char *path, GError **error)
{
    g_autoptr(SaveImage) image = g_new0(SaveImage, 1);
    g_autoptr(GError) why = NULL;

    image->path = g_strdup(path);
    image->head = vm_ramfile_read(path, error);
    if (!image->head)
        return NULL;
    image->live = model_domain_parse(image->head->live_xml, strlen(image->head->live_xml), &why);
    if (image->live && image->live->uuid)
        return g_steal_pointer(&image);
    fail(error, KHO_ERROR_CORRUPT, "the save file %s is damaged: its XML cannot be read: %s", path,
         why ? why->message : "it has no uuid");
    return NULL;
}

static gboolean
same_disk(const ModelDisk *a, const ModelDisk *b)
{
    return g_strcmp0(a->source_file, b->source_file) == 0 && g_strcmp0(a->format, b->format) == 0;
}

/* A definition whose disks are others by now (a snapshot was taken, a disk was attached) means that the old
 * ones are not to be written any more. */
static gboolean
check_definition(const SaveImage *image, const ModelDomain *definition, GError **error)
{
    const char *text = image->head->inactive_xml;
    g_autoptr(ModelDomain) then = text ? model_domain_parse(text, strlen(text), NULL) : NULL;

    if (!then || !definition)
        return TRUE;
    for (guint i = 0; i < then->disks->len; i++) {
        const ModelDisk *disk = then->disks->pdata[i], *now = model_domain_disk(definition, disk->target);
        if (!now || !same_disk(disk, now))
            return fail(error, KHO_ERROR_INVALID,
                        "disk '%s' of the definition is %s now, and was %s when the memory was saved",
                        disk->target, now && now->source_file ? now->source_file : "gone",
                        disk->source_file ? disk->source_file : "empty");
    }
    for (guint i = 0; i < definition->disks->len; i++) {
        const ModelDisk *disk = definition->disks->pdata[i];
        if (!model_domain_disk(then, disk->target))
            return fail(error, KHO_ERROR_INVALID,
                        "the definition has disk '%s', which was not there when the memory was saved",
                        disk->target);
    }
    return TRUE;
}

static gboolean
check_disks(const SaveImage *image, GError **error)
{
    g_autofree char *stamps = NULL;

    return vm_ramfile_disks(image->path, image->head, &stamps, error)
           && (!stamps || vm_stamps_check(stamps, error));
}

/* Whether the memory belongs to the disks as they are. */
static gboolean
check_fits(const SaveImage *image, const ModelDomain *definition, const char *cure, GError **error)
{
    g_autoptr(GError) why = NULL;

    if (image->head->used)
        fail(&why, KHO_ERROR_INVALID,
             "machine '%s' has been restored from it already, and its disks have moved on",
             image->live->name);
    if (!why && check_definition(image, definition, &why) && check_disks(image, &why))
        return TRUE;
    if (why->code == KHO_ERROR_INVALID)
        return fail(error, KHO_ERROR_INVALID, "%s: %s: %s", image->path, why->message, cure);
    if (why->code == KHO_ERROR_CORRUPT) /* which names the file */
        return fail(error, KHO_ERROR_CORRUPT, "%s: %s", why->message, cure);
    g_propagate_prefixed_error(error, g_steal_pointer(&why), "%s: ", image->path);
    return FALSE;
}

static gboolean
check_emulator(const SaveImage *image, GError **error)
{
    const char *emulator = image->live->emulator ? image->live->emulator : vm_host_defaults.emulator;

    return vm_emulator_check_memory(emulator, image->head->qemu_version, image->path, error);
}

gboolean
save_image_check(const SaveImage *image, const ModelDomain *definition, const char *cure, gboolean force,
                 GError **error)
{
    return (force || check_fits(image, definition, cure, error)) && check_emulator(image, error);
}
