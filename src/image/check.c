#include "base/error.h"
#include "image/image.h"

#include <string.h>

static const FormatRepair repairs[] = {
    [KHO_REPAIR_NONE] = FORMAT_REPAIR_NONE,
    [KHO_REPAIR_LEAKS] = FORMAT_REPAIR_LEAKS,
    [KHO_REPAIR_ALL] = FORMAT_REPAIR_ALL,
};

static void
take_over(KhoImageCheck *result, const FormatCheck *found)
{
    *result = (KhoImageCheck){
        .corruptions = found->corruptions,
        .leaks = found->leaks,
        .check_errors = found->check_errors,
        .corruptions_fixed = found->corruptions_fixed,
        .leaks_fixed = found->leaks_fixed,
        .total_clusters = found->total_clusters,
        .allocated_clusters = found->allocated_clusters,
        .fragmented_clusters = found->fragmented_clusters,
        .compressed_clusters = found->compressed_clusters,
        .image_end_offset_bytes = found->image_end_offset_bytes,
        .messages = found->messages,
    };
}

/* QEMU looks at its own formats. */
static gboolean
look_at_foreign(KhoImage *image, KhoRepair repair, FormatCheck *found, GError **error)
{
    if (repair != KHO_REPAIR_NONE)
        return fail(error, KHO_ERROR_UNSUPPORTED, "%s is a %s image, which kho does not repair", image->path,
                    image->foreign_format);
    json_auto json_t *said = image_check_foreign(image, found->job, error);
    if (!said)
        return FALSE;
    const struct {
        const char *key;
        guint64 *value;
    } counts[] = {
        { "corruptions", &found->corruptions },
        { "leaks", &found->leaks },
        { "check-errors", &found->check_errors },
        { "total-clusters", &found->total_clusters },
        { "allocated-clusters", &found->allocated_clusters },
        { "fragmented-clusters", &found->fragmented_clusters },
        { "compressed-clusters", &found->compressed_clusters },
        { "image-end-offset", &found->image_end_offset_bytes },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++)
        *counts[i].value = (guint64) MAX(json_int_or(said, counts[i].key, 0), 0);
    return TRUE;
}

gboolean
kho_image_check(const char *path, const char *format, KhoRepair repair, KhoImageFlags flags,
                KhoImageCheck *result, const KhoJob *job, GError **error)
{
    KhoImageFlags how = KHO_IMAGE_NO_BACKING | KHO_IMAGE_NO_DATA
                        | (flags & (KHO_IMAGE_NO_LOCK | KHO_IMAGE_LOCAL | KHO_IMAGE_VOLUMES));
    g_autoptr(GPtrArray) messages = g_ptr_array_new_with_free_func(g_free);
    FormatCheck found = { .messages = messages, .job = job };

    if (repair != KHO_REPAIR_NONE && (flags & KHO_IMAGE_NO_LOCK))
        return fail(error, KHO_ERROR_INVALID, "%s: an image is not repaired without its lock", path);
    if (repair != KHO_REPAIR_NONE)
        how |= KHO_IMAGE_WRITE;
    KhoImageSource source = { .path = path, .format = format, .flags = how, .job = job };
    g_autoptr(KhoImage) image = kho_image_open_source(&source, error);
    if (!image)
        return FALSE;
    const char *name = kho_image_format(image);
    if (image->foreign ? !look_at_foreign(image, repair, &found, error)
                       : !format_check(image->format, repairs[repair], &found, error))
        return FALSE;
    if (!kho_image_close(g_steal_pointer(&image), error))
        return FALSE;
    (void) g_steal_pointer(&messages);
    take_over(result, &found);
    result->format = name;
    return TRUE;
}

void
kho_image_check_clear(KhoImageCheck *result)
{
    g_clear_pointer(&result->messages, g_ptr_array_unref);
    memset(result, 0, sizeof *result);
}
