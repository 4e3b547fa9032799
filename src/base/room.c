#include "base/room.h"

#include "base/fd.h"

#include <limits.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define EXTENTS 128

typedef union {
    struct fiemap map;
    guint8 bytes[sizeof(struct fiemap) + EXTENTS * sizeof(struct fiemap_extent)];
} Extents;

/* The part of an extent that lies in [off, end). */
static guint64
part_within(const struct fiemap_extent *e, guint64 off, guint64 end)
{
    guint64 from = MAX(e->fe_logical, off), to = MIN(e->fe_logical + e->fe_length, end);

    return to > from ? to - from : 0;
}

gboolean
room_own(int fd, guint64 off, guint64 len, guint64 *own)
{
    guint64 at = off, end = off + MIN(len, ROOM_TO_END - off), found = 0;
    gboolean is_last = FALSE;
    struct stat st;
    Extents extents;

    if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode)) {
        *own = len;
        return TRUE;
    }
    while (at < end && !is_last) {
        memset(&extents.map, 0, sizeof extents.map);
        extents.map.fm_start = at;
        extents.map.fm_length = end - at;
        extents.map.fm_extent_count = EXTENTS;
        if (ioctl(fd, FS_IOC_FIEMAP, &extents.map) != 0)
            return FALSE;
        guint n = extents.map.fm_mapped_extents;
        for (guint i = 0; i < n; i++) {
            const struct fiemap_extent *e = &extents.map.fm_extents[i];
            if (!(e->fe_flags & FIEMAP_EXTENT_SHARED))
                found += part_within(e, off, end);
            at = MAX(at, e->fe_logical + e->fe_length);
            is_last = (e->fe_flags & FIEMAP_EXTENT_LAST) != 0;
        }
        is_last = is_last || n < EXTENTS;
    }
    *own = found;
    return TRUE;
}

/* Of what ext4 keeps back it keeps a part for its own tables, from root too; its clusters are a block or
 * more. */
static guint64
kept_by_ext4(int fd)
{
    struct stat st;
    char name[PATH_MAX];
    guint64 blocks;

    if (fstat(fd, &st) != 0)
        return 0;
    g_autofree char *device = g_strdup_printf("/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    ssize_t len = readlink(device, name, sizeof name - 1);
    if (len <= 0)
        return 0;
    name[len] = '\0';
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *path = g_build_filename("/sys/fs/ext4", base, "reserved_clusters", NULL);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    return text && g_ascii_string_to_unsigned(g_strchomp(text), 10, 0, G_MAXUINT32, &blocks, NULL) ? blocks
                                                                                                   : 0;
}

guint64
room_reserve(int fd)
{
    struct statvfs vfs;

    if (geteuid() != 0 || fstatvfs(fd, &vfs) != 0 || vfs.f_bfree <= vfs.f_bavail)
        return 0;
    guint64 kept = vfs.f_bfree - vfs.f_bavail;
    return (kept - MIN(kept, kept_by_ext4(fd))) * vfs.f_frsize;
}
