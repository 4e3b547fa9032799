/* File descriptors: every raw system call on files that kho makes, wrapped and tested once. All descriptors
 * are opened O_CLOEXEC. Errors name the path or label given. */
#ifndef KHO_BASE_FD_H
#define KHO_BASE_FD_H

#include <glib.h>
#include <sys/stat.h>
#include <sys/types.h>

/* An owned descriptor that closes itself: `fd_auto int fd = -1;` */
void fd_clear(int *fd);
#define fd_auto __attribute__((cleanup(fd_clear)))

/* Hands the descriptor over: returns it and leaves -1. */
static inline int
fd_steal(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* open(2) with O_CLOEXEC added, relative to @dirfd (AT_FDCWD for none); -1 with @error (code by errno) on
 * failure. */
int fd_open_at(int dirfd, const char *path, int flags, mode_t mode, GError **error);
int fd_open(const char *path, int flags, mode_t mode, GError **error);

/* Another descriptor of the same open file (O_CLOEXEC): offset and locks are shared. */
int fd_dup(int fd, const char *label, GError **error);

/* Closes and reports a late write error. *fd is -1 afterwards in any case. */
gboolean fd_close(int *fd, const char *label, GError **error);

/* Sees that 0, 1 and 2 are taken, for a program's beginning: where the caller closed one, a file opened later
 * would get its number, and what is printed would go into it. What is put there can be neither read (0) nor
 * written (1, 2): whoever tries is told, as before. */
gboolean fd_hold_standard(GError **error);

/* Exactly @len bytes at @off, going on after short transfers and EINTR. fd_pread_full fails with KHO_ERROR_IO
 * ("ends at byte N") when the file ends first. */
gboolean fd_pread_full(int fd, void *buf, gsize len, guint64 off, const char *label, GError **error);
/* The same, where a file that ends first is no failure: *got says how many bytes there were. */
gboolean
fd_pread_upto(int fd, void *buf, gsize len, guint64 off, gsize *got, const char *label, GError **error);
gboolean fd_pwrite_full(int fd, const void *buf, gsize len, guint64 off, const char *label, GError **error);
gboolean fd_write_full(int fd, const void *buf, gsize len, const char *label, GError **error);

/* The whole rest of a descriptor, at most @max_bytes (KHO_ERROR_INVALID beyond); NUL-terminated for comfort.
 */
char *fd_read_all(int fd, gsize max_bytes, gsize *len, const char *label, GError **error);
/* From where the descriptor stands, until @len bytes are there or it ends: *got says how many. */
gboolean fd_read_upto(int fd, void *buf, gsize len, gsize *got, const char *label, GError **error);
/* Opens, reads, closes. */
char *fd_read_file(const char *path, gsize max_bytes, gsize *len, GError **error);

gboolean fd_sync(int fd, const char *label, GError **error);      /* fsync */
gboolean fd_sync_data(int fd, const char *label, GError **error); /* fdatasync */
/* fsync of the folder that holds @path, so that a create, rename or unlink in it is durable. */
gboolean fd_sync_parent(const char *path, GError **error);

/* Where the next read or write of everyone who shares the open file begins. */
gboolean fd_seek(int fd, guint64 off, const char *label, GError **error);
gboolean fd_truncate(int fd, guint64 bytes, const char *label, GError **error);
gboolean fd_stat(int fd, struct stat *st, const char *label, GError **error);

/* Which file a name leads to, told apart from one that takes its name, and even its inode's number, later. */
typedef struct FdIdentity {
    guint64 inode;
    gint64 born_ns; /* since 1970; 0 where the file system does not know */
} FdIdentity;
gboolean fd_identity(const char *path, FdIdentity *identity, GError **error);

/* mkdir(2) with exactly @mode, whatever the umask; TRUE as well where the folder exists already. */
gboolean fd_mkdir(const char *path, mode_t mode, GError **error);
gboolean fd_chmod(int fd, mode_t mode, const char *label, GError **error);
/* rename(2), unlink(2), symlink(2); none of them is durable before the folder's fsync. */
gboolean fd_rename(const char *from, const char *to, GError **error);
gboolean fd_unlink(const char *path, GError **error);
gboolean fd_symlink(const char *target, const char *path, GError **error);

/* fallocate(2). FALSE in *done, with TRUE returned, where the file system or device cannot do it for this
 * range, so that the caller can go another way. */
typedef enum {
    FD_SPACE_RESERVE, /* space for the range, growing the file; what was there stays */
    FD_SPACE_PUNCH,   /* give the space back; reads as zeros; never grows */
    FD_SPACE_ZERO,    /* reads as zeros with its space reserved, growing the file */
} FdSpace;
gboolean
fd_space(int fd, FdSpace how, guint64 off, guint64 len, gboolean *done, const char *label, GError **error);

/* Does a file that is made longer take no space for it, nor time? FALSE where that is not known. */
gboolean fd_keeps_holes(int fd);

/* Where the next data (or hole) at or after @off begins: SEEK_DATA, SEEK_HOLE. The end of a file counts as a
 * hole; *found is its size where no data follows. Where the system cannot tell, all is data. */
gboolean fd_seek_extent(int fd, gboolean data, guint64 off, guint64 size, guint64 *found, const char *label,
                        GError **error);

/* Asks the file system to give the empty file its space in pieces of @bytes (FS_XFLAG_EXTSIZE). 0, or the
 * error number where it does not. */
int fd_set_extent_hint(int fd, guint32 bytes);

/* The size of a regular file or block device in bytes; KHO_ERROR_INVALID for anything else. */
gboolean fd_size(int fd, guint64 *bytes, const char *label, GError **error);

/* How full the file system that holds @path is (statvfs), in bytes; available: to those who are not root. */
typedef struct FdUsage {
    guint64 total_bytes, available_bytes;
} FdUsage;
gboolean fd_usage(const char *path, FdUsage *usage, GError **error);

/* OFD byte-range locks (F_OFD_SETLK): exclusive or shared over [off, off + len). Never blocks: FALSE with
 * KHO_ERROR_BUSY when another open file description holds a conflicting one. */
gboolean
fd_lock_range(int fd, guint64 off, guint64 len, gboolean exclusive, const char *label, GError **error);
gboolean fd_unlock_range(int fd, guint64 off, guint64 len, const char *label, GError **error);
/* F_OFD_GETLK: *held says whether a lock of this kind would conflict with another description's. */
gboolean fd_lock_probe(int fd, guint64 off, guint64 len, gboolean exclusive, gboolean *held,
                       const char *label, GError **error);

#endif
