#include "snapshot/overlay.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"

#include <glib/gstdio.h>
#include <string.h>

/* Header, refcounts and an L1 table: a cluster each. */
#define EMPTY_BYTES (256 * KIB)

/* "web1.7" without its number is "web1"; anything else is left as it is. */
static void
cut_number(char *stem)
{
    char *dot = strrchr(stem, '.');

    if (dot && dot != stem && dot[1] && dot[1 + strspn(dot + 1, "0123456789")] == '\0')
        *dot = '\0';
}

char *
overlay_stem(const char *path, gboolean is_overlay)
{
    static const char *const suffixes[] = { ".qcow2", ".raw", ".img" };
    char *stem = g_path_get_basename(path);

    for (gsize i = 0; i < G_N_ELEMENTS(suffixes); i++)
        if (g_str_has_suffix(stem, suffixes[i]) && strlen(stem) > strlen(suffixes[i])) {
            stem[strlen(stem) - strlen(suffixes[i])] = '\0';
            break;
        }
    if (is_overlay)
        cut_number(stem);
    return stem;
}

char *
overlay_choose(const char *file, SnapshotOverlays *overlays)
{
    g_autofree char *folder = g_path_get_dirname(file);
    g_autofree char *stem = overlay_stem(file, snapshot_overlays_have(overlays, file));
    GStatBuf st;

    for (;;) {
        g_autofree char *path = g_strdup_printf("%s/%s.%u.qcow2", folder, stem, overlays->next++);
        if (snapshot_overlays_have(overlays, path) || g_lstat(path, &st) == 0)
            continue;
        g_ptr_array_add(overlays->paths, g_strdup(path));
        return g_steal_pointer(&path);
    }
}

char *
overlay_backing_name(const char *path, const char *backing)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return entry_name_from(folder, backing);
}

GPtrArray *
overlay_chain(const char *path, const char *format, KhoImageFlags flags, GError **error)
{
    g_autoptr(KhoImage) image =
        kho_image_open(path, format ? format : "raw", flags | KHO_IMAGE_LOCAL, &kho_image_gate_open, error);
    GPtrArray *paths = image ? g_ptr_array_new_with_free_func(g_free) : NULL;

    for (const KhoImage *layer = image; layer; layer = kho_image_backing(layer))
        g_ptr_array_add(paths, g_strdup(kho_image_path(layer)));
    return paths;
}

gboolean
overlay_count_chain(const char *path, const char *format, KhoImageFlags flags, guint *n_files, GError **error)
{
    g_autoptr(GPtrArray) paths = overlay_chain(path, format, flags, error);

    *n_files += paths ? paths->len : 0;
    return paths != NULL;
}

gboolean
overlay_is_same_file(const char *a, const char *b)
{
    GStatBuf sa, sb;

    return strcmp(a, b) == 0
           || (g_stat(a, &sa) == 0 && g_stat(b, &sb) == 0 && sa.st_dev == sb.st_dev
               && sa.st_ino == sb.st_ino);
}

gboolean
overlay_move_disk(ModelDomain *model, const char *from, const char *to, const char *format)
{
    gboolean found = FALSE;

    for (guint i = 0; i < model->disks->len; i++) {
        const ModelDisk *disk = model->disks->pdata[i];
        g_autofree char *path = disk->source_file ? g_canonicalize_filename(disk->source_file, "/") : NULL;
        if (path && overlay_is_same_file(path, from))
            found |= model_domain_move_disk(model, path, to, format);
    }
    return found;
}

gboolean
overlay_lies_on(const char *path, const char *file)
{
    KhoImageInfo info = { 0 };

    if (!kho_image_info(path, "qcow2", &info, NULL))
        return FALSE;
    gboolean lies = info.full_backing_path && overlay_is_same_file(info.full_backing_path, file);
    kho_image_info_clear(&info);
    return lies;
}

gboolean
overlay_check_data(const char *path, const char *format, const char *cure, GError **error)
{
    KhoImageInfo info = { 0 };

    if (!kho_image_info(path, format, &info, error))
        return FALSE;
    gboolean elsewhere = info.has_data_file;
    g_autofree char *name = g_strdup(info.data_file ? info.data_file : "not named");
    kho_image_info_clear(&info);
    return !elsewhere
           || fail(error, KHO_ERROR_UNSUPPORTED, "%s keeps its data in another file (%s): %s", path, name,
                   cure);
}

gboolean
overlay_make(const char *overlay, const char *file, const char *format, const KhoJob *job, GError **error)
{
    g_autofree char *name = overlay_backing_name(overlay, file);
    g_autoptr(GError) why = NULL;
    GStatBuf st;

    if (g_stat(file, &st) < 0)
        return fail(error, KHO_ERROR_NOT_FOUND, "the image %s is not there", file);
    const KhoImageCreate options = {
        .format = "qcow2",
        .backing_file = name,
        .backing_format = format,
        .mode = st.st_mode & 0777, /* who may read the disk may read on, and nobody else */
    };
    if (kho_image_create(overlay, &options, &kho_image_gate_open, job, &why)
        || (g_error_matches(why, KHO_ERROR, KHO_ERROR_EXISTS) && overlay_lies_on(overlay, file))) {
        owner_as(overlay, file);
        return TRUE;
    }
    g_autofree char *folder = g_path_get_dirname(overlay);
    FdUsage usage;
    if (why->code == KHO_ERROR_NO_SPACE && fd_usage(folder, &usage, NULL)) {
        g_autofree char *least = num_format_size(EMPTY_BYTES),
                        *there = num_format_size(usage.available_bytes);
        return fail(error, KHO_ERROR_NO_SPACE, "%s: a new layer needs %s at least, and %s has %s free",
                    why->message, least, folder, there);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

gboolean
overlay_take_back(const char *overlay, const char *file, GError **error)
{
    if (!overlay_lies_on(overlay, file))
        return TRUE;
    return fd_unlink(overlay, error) && fd_sync_parent(overlay, error);
}
