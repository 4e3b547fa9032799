#include "base/fd.h"

#include "base/error.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

void
fd_clear(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int
fd_open_at(int dirfd, const char *path, int flags, mode_t mode, GError **error)
{
    int fd;

    do
        fd = openat(dirfd, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        fail_errno(error, errno, "cannot open %s", path);
    return fd;
}

int
fd_open(const char *path, int flags, mode_t mode, GError **error)
{
    return fd_open_at(AT_FDCWD, path, flags, mode, error);
}

gboolean
fd_hold_standard(GError **error)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            continue;
        /* the lowest number that is free is this one */
        if (fd_open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY, 0, error) < 0)
            return FALSE;
    }
    return TRUE;
}

int
fd_dup(int fd, const char *label, GError **error)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (copy < 0)
        fail_errno(error, errno, "cannot open %s once more", label);
    return copy;
}

gboolean
fd_close(int *fd, const char *label, GError **error)
{
    /* On Linux the descriptor is gone even when close fails, so it is never tried twice. */
    if (close(fd_steal(fd)) != 0 && errno != EINTR)
        return fail_errno(error, errno, "cannot close %s", label);
    return TRUE;
}

gboolean
fd_pread_upto(int fd, void *buf, gsize len, guint64 off, gsize *got, const char *label, GError **error)
{
    gsize done = 0;

    while (done < len) {
        gssize n = pread(fd, (char *) buf + done, len - done, (off_t) (off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(error, errno, "cannot read %s at byte %" G_GUINT64_FORMAT, label, off + done);
        if (n == 0)
            break;
        done += (gsize) n;
    }
    *got = done;
    return TRUE;
}

gboolean
fd_pread_full(int fd, void *buf, gsize len, guint64 off, const char *label, GError **error)
{
    gsize got;

    if (!fd_pread_upto(fd, buf, len, off, &got, label, error))
        return FALSE;
    return got == len
           || fail(error, KHO_ERROR_IO, "cannot read %s: it ends at byte %" G_GUINT64_FORMAT, label,
                   off + got);
}

gboolean
fd_pwrite_full(int fd, const void *buf, gsize len, guint64 off, const char *label, GError **error)
{
    const char *from = buf;

    while (len > 0) {
        gssize n = pwrite(fd, from, len, (off_t) off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(error, errno, "cannot write %s at byte %" G_GUINT64_FORMAT, label, off);
        from += n;
        off += (guint64) n;
        len -= (gsize) n;
    }
    return TRUE;
}

gboolean
fd_write_full(int fd, const void *buf, gsize len, const char *label, GError **error)
{
    const char *from = buf;

    while (len > 0) {
        gssize n = write(fd, from, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(error, errno, "cannot write %s", label);
        from += n;
        len -= (gsize) n;
    }
    return TRUE;
}

char *
fd_read_all(int fd, gsize max_bytes, gsize *len, const char *label, GError **error)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    guint8 chunk[16384];

    for (;;) {
        gssize n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fail_errno(error, errno, "cannot read %s", label);
            return NULL;
        }
        if (n == 0)
            break;
        if ((gsize) n > max_bytes - all->len) {
            fail(error, KHO_ERROR_INVALID, "%s is larger than %" G_GSIZE_FORMAT " bytes", label, max_bytes);
            return NULL;
        }
        g_byte_array_append(all, chunk, (guint) n);
    }
    if (len)
        *len = all->len;
    g_byte_array_append(all, (const guint8 *) "", 1);
    return (char *) g_byte_array_free(g_steal_pointer(&all), FALSE);
}

gboolean
fd_read_upto(int fd, void *buf, gsize len, gsize *got, const char *label, GError **error)
{
    gsize done = 0;

    while (done < len) {
        gssize n = read(fd, (guint8 *) buf + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(error, errno, "cannot read %s", label);
        if (n == 0)
            break;
        done += (gsize) n;
    }
    *got = done;
    return TRUE;
}

char *
fd_read_file(const char *path, gsize max_bytes, gsize *len, GError **error)
{
    /* O_NONBLOCK: a FIFO that somebody put there must not hold up who only looks; it reads as empty. */
    fd_auto int fd = fd_open(path, O_RDONLY | O_NONBLOCK, 0, error);

    return fd < 0 ? NULL : fd_read_all(fd, max_bytes, len, path, error);
}

gboolean
fd_sync(int fd, const char *label, GError **error)
{
    return fsync(fd) == 0 || fail_errno(error, errno, "cannot flush %s", label);
}

gboolean
fd_sync_data(int fd, const char *label, GError **error)
{
    return fdatasync(fd) == 0 || fail_errno(error, errno, "cannot flush %s", label);
}

gboolean
fd_sync_parent(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);
    fd_auto int fd = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, error);

    return fd >= 0 && fd_sync(fd, folder, error);
}

gboolean
fd_seek(int fd, guint64 off, const char *label, GError **error)
{
    if (off > G_MAXINT64)
        return fail(error, KHO_ERROR_INVALID, "%s: no file has a byte %" G_GUINT64_FORMAT, label, off);
    return lseek(fd, (off_t) off, SEEK_SET) >= 0 || fail_errno(error, errno, "cannot seek in %s", label);
}

gboolean
fd_truncate(int fd, guint64 bytes, const char *label, GError **error)
{
    if (bytes > NUM_OFFSET_MAX)
        return fail(error, KHO_ERROR_INVALID, "cannot resize %s: %" G_GUINT64_FORMAT " bytes is too large",
                    label, bytes);
    while (ftruncate(fd, (off_t) bytes) != 0)
        if (errno != EINTR)
            return fail_errno(error, errno, "cannot resize %s to %" G_GUINT64_FORMAT " bytes", label, bytes);
    return TRUE;
}

gboolean
fd_stat(int fd, struct stat *st, const char *label, GError **error)
{
    return fstat(fd, st) == 0 || fail_errno(error, errno, "cannot look at %s", label);
}

gboolean
fd_identity(const char *path, FdIdentity *identity, GError **error)
{
    struct statx st;

    if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME, &st) != 0)
        return fail_errno(error, errno, "cannot look at %s", path);
    *identity = (FdIdentity){ .inode = st.stx_ino };
    if (st.stx_mask & STATX_BTIME)
        identity->born_ns = st.stx_btime.tv_sec * G_GINT64_CONSTANT(1000000000) + st.stx_btime.tv_nsec;
    return TRUE;
}

gboolean
fd_mkdir(const char *path, mode_t mode, GError **error)
{
    if (mkdir(path, mode) == 0)
        return chmod(path, mode) == 0 || fail_errno(error, errno, "cannot set the mode of %s", path);
    if (errno != EEXIST)
        return fail_errno(error, errno, "cannot make the folder %s", path);
    return TRUE;
}

gboolean
fd_chmod(int fd, mode_t mode, const char *label, GError **error)
{
    return fchmod(fd, mode) == 0 || fail_errno(error, errno, "cannot set the mode of %s", label);
}

gboolean
fd_rename(const char *from, const char *to, GError **error)
{
    return rename(from, to) == 0 || fail_errno(error, errno, "cannot rename %s to %s", from, to);
}

gboolean
fd_unlink(const char *path, GError **error)
{
    return unlink(path) == 0 || fail_errno(error, errno, "cannot remove %s", path);
}

gboolean
fd_symlink(const char *target, const char *path, GError **error)
{
    return symlink(target, path) == 0 || fail_errno(error, errno, "cannot make the link %s", path);
}

gboolean
fd_space(int fd, FdSpace how, guint64 off, guint64 len, gboolean *done, const char *label, GError **error)
{
    static const int modes[] = { [FD_SPACE_RESERVE] = 0,
                                 [FD_SPACE_PUNCH] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 [FD_SPACE_ZERO] = FALLOC_FL_ZERO_RANGE };
    int status;

    do
        status = fallocate(fd, modes[how], (off_t) off, (off_t) len);
    while (status != 0 && errno == EINTR);
    /* EINVAL: a block device and a range that is not of whole sectors. */
    if (status != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL && errno != ENODEV)
        return fail_errno(error, errno,
                          "cannot allocate %" G_GUINT64_FORMAT " bytes of %s at byte %" G_GUINT64_FORMAT, len,
                          label, off);
    *done = status == 0;
    return TRUE;
}

gboolean
fd_keeps_holes(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return FALSE;
    switch ((guint64) fs.f_type & 0xFFFFFFFF) {
    case EXT4_SUPER_MAGIC:
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC: return TRUE;
    default: return FALSE;
    }
}

gboolean
fd_seek_extent(int fd, gboolean data, guint64 off, guint64 size, guint64 *found, const char *label,
               GError **error)
{
    off_t at = lseek(fd, (off_t) off, data ? SEEK_DATA : SEEK_HOLE);

    if (at >= 0)
        *found = (guint64) at;
    else if (errno == ENXIO) /* nothing of the kind before the end */
        *found = size;
    else if (errno == EINVAL || errno == EOPNOTSUPP)
        *found = data ? off : size;
    else
        return fail_errno(error, errno, "cannot find the extents of %s", label);
    return TRUE;
}

int
fd_set_extent_hint(int fd, guint32 bytes)
{
    struct fsxattr attributes;

    if (ioctl(fd, FS_IOC_FSGETXATTR, &attributes) != 0)
        return errno;
    attributes.fsx_xflags |= FS_XFLAG_EXTSIZE;
    attributes.fsx_extsize = bytes;
    return ioctl(fd, FS_IOC_FSSETXATTR, &attributes) == 0 ? 0 : errno;
}

gboolean
fd_size(int fd, guint64 *bytes, const char *label, GError **error)
{
    struct stat st;
    guint64 device_bytes;

    if (!fd_stat(fd, &st, label, error))
        return FALSE;
    if (S_ISREG(st.st_mode)) {
        *bytes = (guint64) st.st_size;
        return TRUE;
    }
    if (!S_ISBLK(st.st_mode))
        return fail(error, KHO_ERROR_INVALID, "%s is neither a regular file nor a block device", label);
    if (ioctl(fd, BLKGETSIZE64, &device_bytes) != 0)
        return fail_errno(error, errno, "cannot find the size of %s", label);
    *bytes = device_bytes;
    return TRUE;
}

gboolean
fd_usage(const char *path, FdUsage *usage, GError **error)
{
    struct statvfs st;

    if (statvfs(path, &st) != 0)
        return fail_errno(error, errno, "cannot look at the file system of %s", path);
    usage->total_bytes = (guint64) st.f_blocks * st.f_frsize;
    usage->available_bytes = (guint64) st.f_bavail * st.f_frsize;
    return TRUE;
}

static struct flock
range_lock(guint64 off, guint64 len, short type)
{
    return (
        struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = (off_t) off, .l_len = (off_t) len };
}

gboolean
fd_lock_range(int fd, guint64 off, guint64 len, gboolean exclusive, const char *label, GError **error)
{
    struct flock lock = range_lock(off, len, exclusive ? F_WRLCK : F_RDLCK);

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return TRUE;
    if (errno == EAGAIN || errno == EACCES)
        return fail(error, KHO_ERROR_BUSY, "%s is locked by another process", label);
    return fail_errno(error, errno, "cannot lock %s", label);
}

gboolean
fd_unlock_range(int fd, guint64 off, guint64 len, const char *label, GError **error)
{
    struct flock lock = range_lock(off, len, F_UNLCK);

    return fcntl(fd, F_OFD_SETLK, &lock) == 0 || fail_errno(error, errno, "cannot unlock %s", label);
}

gboolean
fd_lock_probe(int fd, guint64 off, guint64 len, gboolean exclusive, gboolean *held, const char *label,
              GError **error)
{
    struct flock lock = range_lock(off, len, exclusive ? F_WRLCK : F_RDLCK);

    if (fcntl(fd, F_OFD_GETLK, &lock) != 0)
        return fail_errno(error, errno, "cannot probe the locks of %s", label);
    *held = lock.l_type != F_UNLCK;
    return TRUE;
}
