/* Disks of a machine that is shut off: all are held, then each is copied with its whole chain. */
#include "backup/copy.h"

#include "base/error.h"
#include "base/job_parts.h"
#include "base/pipe.h"
#include "vm/emulator.h"

#include <kho/image_convert.h>
#include <string.h>

static gboolean
prefix_disk(const BackupPlan *plan, guint index, GError *why, GError **error)
{
    const KhoBackupDisk *disk = plan->point->disks->pdata[index];

    g_propagate_prefixed_error(error, why, "disk %s of machine '%s': ", disk->target, plan->point->name);
    return FALSE;
}

/* Opens all images with QEMU's locks, so that nobody writes to any until the last is copied. */
static gboolean
hold_all(const BackupPlan *plan, GPtrArray *held, GError **error)
{
    for (guint i = 0; i < plan->sources->len; i++) {
        const BackupSource *source = plan->sources->pdata[i];
        KhoBackupDisk *disk = plan->point->disks->pdata[i];
        GError *why = NULL;
        KhoImage *image =
            kho_image_open(source->path, source->format, KHO_IMAGE_LOCAL, &kho_image_gate_open, &why);
        if (!image)
            return prefix_disk(plan, i, why, error);
        disk->capacity_bytes = kho_image_size_bytes(image);
        g_ptr_array_add(held, image);
    }
    return TRUE;
}

static gboolean
copy_one(const BackupPlan *plan, guint index, const KhoJob *job, GError **error)
{
    const BackupSource *source = plan->sources->pdata[index];
    const KhoBackupDisk *disk = plan->point->disks->pdata[index];
    g_autofree char *target = backup_plan_file(plan, disk->file);
    KhoImageConvert convert = {
        .source_format = source->format,
        .target = { .format = disk->format,
                    .compression = plan->compress ? disk->compression : NULL,
                    .mode = 0600 },
        .compress = plan->compress,
    };
    GError *why = NULL;

    return kho_image_convert(source->path, target, &convert, &kho_image_gate_open, job, &why)
           || prefix_disk(plan, index, why, error);
}

gboolean
backup_copy_stopped(BackupPlan *plan, const KhoJob *job, GError **error)
{
    g_autoptr(GPtrArray) held = g_ptr_array_new_with_free_func((GDestroyNotify) kho_image_free);
    JobParts told; /* in bytes of the disks' capacity */

    if (!hold_all(plan, held, error))
        return FALSE;
    plan->point->when_ms = clock_wall_ms();
    plan->point->qemu_version = plan->emulator ? vm_emulator_version(plan->emulator) : NULL;
    job_parts_init(&told, job);
    for (guint i = 0; i < held->len; i++)
        told.total_bytes += kho_image_size_bytes(held->pdata[i]);
    for (guint i = 0; i < held->len; i++) {
        if (!copy_one(plan, i, &told.part, error))
            return FALSE;
        told.before_bytes += kho_image_size_bytes(held->pdata[i]);
    }
    return TRUE;
}

KhoImage *
backup_open_disk(const char *path, guint64 capacity_bytes, GError **error)
{
    g_autoptr(KhoImage) image = kho_image_open(path, "qcow2", KHO_IMAGE_LOCAL, NULL, error);

    if (!image || kho_image_size_bytes(image) == capacity_bytes)
        return g_steal_pointer(&image);
    fail(error, KHO_ERROR_CORRUPT,
         "%s is a disk of %" G_GUINT64_FORMAT " bytes, and its manifest says %" G_GUINT64_FORMAT, path,
         kho_image_size_bytes(image), capacity_bytes);
    return NULL;
}

gboolean
backup_measure(KhoImage *image, guint64 *bytes, GError **error)
{
    guint64 size = kho_image_size_bytes(image);
    KhoMapEntry entry;

    for (guint64 at = 0; at < size; at += entry.length_bytes) {
        if (!kho_image_map(image, at, size - at, &entry, error))
            return FALSE;
        if (!entry.reads_zero)
            *bytes += entry.length_bytes;
    }
    return TRUE;
}
