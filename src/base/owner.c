#include "base/owner.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <unistd.h>

void
owner_pass_on(int folder, int fd)
{
    struct stat st;

    if (geteuid() == 0 && fstat(folder, &st) == 0 && st.st_uid != 0)
        entry_try_owner(fd, st.st_uid, st.st_gid);
}

/* The folder of @path. What is made in it is made by this descriptor, so that it is its owner who is asked,
 * whatever the path leads to a moment later. */
static int
open_folder(const char *path, GError **error)
{
    g_autofree char *folder = g_path_get_dirname(path);

    return fd_open(folder, O_PATH | O_DIRECTORY, 0, error);
}

int
owner_open(const char *path, int flags, mode_t mode, GError **error)
{
    g_autofree char *name = g_path_get_basename(path);

    flags |= O_NOFOLLOW | O_CLOEXEC;
    if (geteuid() != 0)
        return fd_open(path, flags | O_CREAT, mode, error);
    fd_auto int folder = open_folder(path, error);
    if (folder < 0)
        return -1;
    for (;;) {
        int fd = openat(folder, name, flags | O_CREAT | O_EXCL, mode);
        if (fd >= 0) {
            owner_pass_on(folder, fd);
            return fd;
        }
        if (errno == EEXIST && !(flags & O_EXCL))
            fd = openat(folder, name, flags);
        if (fd >= 0)
            return fd;
        if (errno == ENOENT || errno == EINTR)
            continue; /* it went between the two */
        fail_errno(error, errno, "cannot open %s", path);
        return -1;
    }
}

gboolean
owner_mkdir(const char *path, mode_t mode, GError **error)
{
    g_autofree char *name = g_path_get_basename(path);

    if (geteuid() != 0)
        return fd_mkdir(path, mode, error);
    fd_auto int folder = open_folder(path, error);
    if (folder < 0)
        return FALSE;
    if (mkdirat(folder, name, mode) != 0)
        return errno == EEXIST || fail_errno(error, errno, "cannot make the folder %s", path);
    fd_auto int fd = fd_open_at(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, error);
    if (fd < 0 || !fd_chmod(fd, mode, path, error))
        return FALSE;
    owner_pass_on(folder, fd);
    return TRUE;
}

void
owner_as(const char *path, const char *other)
{
    fd_auto int fd = geteuid() == 0 ? fd_open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, NULL) : -1;
    struct stat st;

    if (fd >= 0 && stat(other, &st) == 0 && st.st_uid != 0)
        entry_try_owner(fd, st.st_uid, st.st_gid);
}

char *
owner_other(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0 || st.st_uid == geteuid())
        return NULL;
    const struct passwd *user = getpwuid(st.st_uid);
    return user ? g_strdup(user->pw_name) : g_strdup_printf("%u", (guint) st.st_uid);
}
