#include "snapshot/delete_way.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

#include <fcntl.h>

#define SECTOR_BYTES 512

/* All that @path holds may have to go where the other file is. */
static gboolean
held_bytes(const char *path, const char *to, guint64 *held, guint64 *available, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(to);
    struct stat st;
    FdUsage usage;
    fd_auto int fd = fd_open(path, O_PATH, 0, error);

    if (fd < 0 || !fd_stat(fd, &st, path, error) || !fd_usage(folder, &usage, error))
        return FALSE;
    *held = (guint64) st.st_blocks * 512;
    *available = usage.available_bytes;
    return TRUE;
}

/* What each way costs. Of images that the guest writes meanwhile the tables may not be readable as they
 * change: then what the files take up tells. */
gboolean
delete_way_cost(const DeleteDisk *row, KhoImageMergeCost *cost, const KhoJob *job, GError **error)
{
    const KhoImageMerge merge = { .overlay = row->follower, .base = row->file, .base_format = row->format };

    if (!row->device)
        return kho_image_merge_cost(&merge, 0, cost, job, error);
    if (kho_image_merge_cost(&merge, KHO_IMAGE_NO_LOCK, cost, job, NULL))
        return TRUE;
    if (!held_bytes(row->file, row->follower, &cost->up_bytes, &cost->up_free_bytes, error)
        || !held_bytes(row->follower, row->file, &cost->down_bytes, &cost->down_free_bytes, error))
        return FALSE;
    cost->up_space_bytes = cost->up_bytes;
    cost->down_space_bytes = cost->down_bytes;
    return TRUE;
}

/* The sizes of C, F, and what F lies on (0: nothing), as the guest would see them. */
typedef struct {
    guint64 above, own, below;
    guint32 own_cluster;
} Sizes;

static gboolean
find_sizes(const DeleteDisk *row, Sizes *sizes, GError **error)
{
    KhoImageInfo info = { 0 };

    *sizes = (Sizes){ 0 };
    if (!kho_image_info(row->follower, "qcow2", &info, error))
        return FALSE;
    sizes->above = info.virtual_bytes;
    kho_image_info_clear(&info);
    if (!kho_image_info(row->file, row->format, &info, error))
        return FALSE;
    sizes->own = num_align_up(info.virtual_bytes, SECTOR_BYTES);
    sizes->own_cluster = MAX(info.cluster_bytes, SECTOR_BYTES);
    g_autofree char *below = g_strdup(info.full_backing_path), *format = g_strdup(info.backing_format);
    kho_image_info_clear(&info);
    if (!below)
        return TRUE;
    if (!kho_image_info(below, format, &info, error))
        return FALSE;
    sizes->below = num_align_up(info.virtual_bytes, SECTOR_BYTES);
    kho_image_info_clear(&info);
    return TRUE;
}

/* Which ways keep what is read where QEMU merges. Upwards it copies nothing from beyond F's end, where C read
 * zeros: what F lies on must not show there. Downwards it never makes F shorter, so that F must not hold more
 * than C lets through; and it makes F longer, with zeros, but for what F's last cluster may hold beyond F's
 * end. */
gboolean
delete_way_by_sizes(const DeleteWish *wish, const DeleteDisk *row, gboolean *up, gboolean *down,
                    GError **error)
{
    Sizes sizes;

    if (!row->device)
        return TRUE;
    if (!find_sizes(row, &sizes, error))
        return FALSE;
    gboolean down_keeps =
        sizes.own == sizes.above || (sizes.own < sizes.above && sizes.own % sizes.own_cluster == 0);
    gboolean up_keeps = sizes.own >= MIN(sizes.above, sizes.below);
    *down &= down_keeps;
    *up &= up_keeps;
    if (*up || *down)
        return TRUE;
    g_autofree char *below =
        sizes.below > 0 ? g_strdup_printf(" and of what lies under it %" G_GUINT64_FORMAT, sizes.below)
                        : g_strdup("");
    return fail(error, KHO_ERROR_UNSUPPORTED,
                "disk %s of snapshot '%s' was resized: its file has %" G_GUINT64_FORMAT
                " bytes, the one over it %" G_GUINT64_FORMAT "%s, which QEMU cannot make one of while "
                "machine '%s' runs: shut the machine down first, then delete",
                row->target, wish->snapshot->name, sizes.own, sizes.above, below, wish->machine);
}
