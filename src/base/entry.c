#include "base/entry.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

/* As many as the kernel follows. */
#define LINKS_MAX 40
/* The tag of what an access list allows the file's own group. */
#define ACL_GROUP_OBJ 4

int
entry_make_nameless(int dirfd, mode_t mode, const char *label, GError **error)
{
    int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);

    /* Kernels and file systems without O_TMPFILE say so in these ways; EISDIR is a kernel that ignores the
     * flag. */
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL))
        fail(error, KHO_ERROR_UNSUPPORTED, "the file system of %s has no nameless files", label);
    else if (fd < 0)
        fail_errno(error, errno, "cannot create %s", label);
    return fd;
}

/* Whoever gives a name has looked that it is free: by now another process has it. */
static gboolean
fail_to_name(int errno_value, const char *label, GError **error)
{
    if (errno_value == EEXIST)
        return fail(error, KHO_ERROR_EXISTS,
                    "%s exists by now: another process made it meanwhile, and it stays as that left it; "
                    "choose another name, or remove it first",
                    label);
    return fail_errno(error, errno_value, "cannot create %s", label);
}

gboolean
entry_link(int fd, int dirfd, const char *name, const char *label, GError **error)
{
    char from[64];

    g_snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, from, dirfd, name, AT_SYMLINK_FOLLOW) == 0 || fail_to_name(errno, label, error);
}

gboolean
entry_rename(int dirfd, const char *from, const char *to, gboolean replace, const char *label, GError **error)
{
    if (renameat2(dirfd, from, dirfd, to, replace ? 0 : RENAME_NOREPLACE) == 0)
        return TRUE;
    if (replace || errno != EINVAL)
        return fail_to_name(errno, label, error);
    /* A file system without RENAME_NOREPLACE: a second name says EEXIST just as atomically. */
    if (linkat(dirfd, from, dirfd, to, 0) != 0)
        return fail_to_name(errno, label, error);
    return entry_unlink(dirfd, from, label, error);
}

gboolean
entry_rename_folder(int dirfd, const char *from, const char *to, const char *label, GError **error)
{
    int result = renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE);

    /* A file system without RENAME_NOREPLACE: a folder never takes the place of one that holds something. */
    if (result != 0 && errno == EINVAL && !entry_exists(dirfd, to))
        result = renameat(dirfd, from, dirfd, to);
    if (result != 0 && (errno == EEXIST || errno == ENOTEMPTY || errno == EINVAL))
        return fail(error, KHO_ERROR_EXISTS, "%s exists already", label);
    return result == 0 || fail_errno(error, errno, "cannot create %s", label);
}

gboolean
entry_make_folder(const char *path, mode_t mode, GError **error)
{
    /* chmod: whatever the umask says */
    return (mkdir(path, mode) == 0 && chmod(path, mode) == 0)
           || fail_errno(error, errno, "cannot create the folder %s", path);
}

gboolean
entry_check_writable(const char *path, GError **error)
{
    return faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0
           || fail_errno(error, errno, "cannot write to the folder %s", path);
}

static gint
compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

GPtrArray *
entry_list(const char *path, GError **error)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    DIR *folder = opendir(path);
    int failed = folder ? 0 : errno;

    while (folder) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (!entry) {
            failed = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            g_ptr_array_add(names, g_strdup(entry->d_name));
    }
    if (folder)
        closedir(folder);
    if (failed) {
        fail_errno(error, failed, "cannot list %s", path);
        return NULL;
    }
    g_ptr_array_sort(names, compare_names);
    return g_steal_pointer(&names);
}

gboolean
entry_unlink(int dirfd, const char *name, const char *label, GError **error)
{
    return unlinkat(dirfd, name, 0) == 0 || fail_errno(error, errno, "cannot remove %s", label);
}

gboolean
entry_remove_if_there(const char *path, GError **error)
{
    struct stat st;

    if (lstat(path, &st) != 0
        && (errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ENAMETOOLONG))
        return TRUE;
    if (unlink(path) == 0)
        return fd_sync_parent(path, error);
    return errno == ENOENT || fail_errno(error, errno, "cannot remove %s", path);
}

gboolean
entry_remove_folder(const char *path, GError **error)
{
    return rmdir(path) == 0 || errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST
           || fail_errno(error, errno, "cannot remove the folder %s", path);
}

gboolean
entry_is_file(int dirfd, const char *name, int fd)
{
    struct stat named, open;

    return fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(fd, &open) == 0
           && named.st_dev == open.st_dev && named.st_ino == open.st_ino;
}

gboolean
entry_exists(int dirfd, const char *name)
{
    struct stat st;

    return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

gboolean
entry_free_space(int fd, guint64 *bytes, const char *label, GError **error)
{
    struct statvfs vfs;

    if (fstatvfs(fd, &vfs) != 0)
        return fail_errno(error, errno, "cannot ask for the free space of %s", label);
    if (!num_mul(vfs.f_bavail, vfs.f_frsize, bytes))
        *bytes = G_MAXUINT64;
    return TRUE;
}

gboolean
entry_check_space(int fd, guint64 bytes, const char *label, GError **error)
{
    guint64 free_bytes;

    if (!entry_free_space(fd, &free_bytes, label, error))
        return FALSE;
    if (free_bytes >= bytes)
        return TRUE;
    g_autofree char *wanted = num_format_size(bytes);
    g_autofree char *there = num_format_size(free_bytes);
    return fail(error, KHO_ERROR_NO_SPACE, "%s needs %s, and its file system has %s free", label, wanted,
                there);
}

char *
entry_follow(const char *path, GError **error)
{
    char *real = realpath(path, NULL);
    g_autofree char *at = g_strdup(real ? real : path);
    struct stat st;

    free(real);
    /* Links of the kernel's own (/proc/self/fd) lead where their text does not say. */
    for (guint n = 0; n <= LINKS_MAX && stat(at, &st) != 0 && (errno == ENOENT || errno == ELOOP); n++) {
        g_autofree char *target = g_file_read_link(at, NULL);
        if (!target)
            return g_steal_pointer(&at);
        g_autofree char *folder = g_path_get_dirname(at);
        g_free(at);
        at = *target == '/' ? g_steal_pointer(&target) : g_build_filename(folder, target, NULL);
        if (n == LINKS_MAX) {
            fail(error, KHO_ERROR_INVALID, "%s: its symbolic links lead in a circle", path);
            return NULL;
        }
    }
    return g_steal_pointer(&at);
}

gboolean
entry_try_owner(int fd, uid_t uid, gid_t gid)
{
    struct stat st;

    if (fchown(fd, uid, gid) != 0 && fchown(fd, (uid_t) -1, gid) != 0)
        g_debug("the owner stays: %s", g_strerror(errno));
    return fstat(fd, &st) == 0 && st.st_gid == gid;
}

/* A list is a version of 4 bytes and then entries of 8, little-endian: tag (2), rights (2), id. */
static void
drop_group(guint8 *list, gsize len)
{
    for (gsize at = 4; at + 8 <= len; at += 8)
        if (list[at] == ACL_GROUP_OBJ && list[at + 1] == 0)
            list[at + 2] = list[at + 3] = 0;
}

void
entry_try_access_list(int fd, int from, gboolean keeps_group)
{
    static const char name[] = "system.posix_acl_access";
    guint8 list[4096]; /* what an ext4 inode's list takes at most; a longer one is not kept */
    ssize_t len = fgetxattr(from, name, list, sizeof list);

    if (len > 0 && !keeps_group)
        drop_group(list, (gsize) len);
    if (len > 0 && fsetxattr(fd, name, list, (size_t) len, 0) != 0)
        g_debug("the access list stays behind: %s", g_strerror(errno));
}

char *
entry_name_from(const char *folder, const char *path)
{
    g_autofree char *its_folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);

    if (strcmp(folder, its_folder) != 0)
        return g_strdup(path);
    return strchr(name, ':') ? g_strconcat("./", name, NULL) : g_steal_pointer(&name);
}
