#include "base/clone.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif
#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif

static gboolean
means_cannot(int errno_value)
{
    switch (errno_value) {
    case EOPNOTSUPP:
    case ENOTTY:
    case EXDEV:
    case EINVAL:
    case EBADF:
    case EPERM:
    case ENOSYS:
    case EISDIR:
    case ETXTBSY: return TRUE;
    default: return FALSE;
    }
}

CloneResult
clone_share(int from, guint64 from_off, int to, guint64 to_off, guint64 len, GError **error)
{
    struct file_clone_range range = {
        .src_fd = from, .src_offset = from_off, .src_length = len, .dest_offset = to_off
    };

    if (ioctl(to, FICLONERANGE, &range) == 0)
        return CLONE_DONE;
    if (means_cannot(errno))
        return CLONE_CANNOT;
    fail_errno(error, errno, "cannot share %" G_GUINT64_FORMAT " bytes between two files", len);
    return CLONE_FAILED;
}

static gboolean
has_a_server(int fd)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) != 0)
        return FALSE;
    switch ((guint64) fs.f_type & 0xFFFFFFFF) {
    case NFS_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC: return TRUE;
    default: return FALSE;
    }
}

CloneResult
clone_offload(int from, guint64 from_off, int to, guint64 to_off, guint64 len, GError **error)
{
    off_t in = (off_t) from_off, out = (off_t) to_off;

    if (!has_a_server(to))
        return CLONE_CANNOT;
    while (len > 0) {
        gssize n = copy_file_range(from, &in, to, &out, len, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0 || (n < 0 && means_cannot(errno)))
            return CLONE_CANNOT;
        if (n < 0) {
            fail_errno(error, errno, "cannot copy %" G_GUINT64_FORMAT " bytes between two files", len);
            return CLONE_FAILED;
        }
        len -= (guint64) n;
    }
    return CLONE_DONE;
}

void
clone_start_writeback(int fd, guint64 off, guint64 len)
{
    (void) sync_file_range(fd, (off_t) off, (off_t) len, SYNC_FILE_RANGE_WRITE);
}
