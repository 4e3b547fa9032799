#include "store/publish.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/owner.h"

#include <fcntl.h>
#include <kho/error.h>

static char *
temporary_of(const char *path)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);

    return g_strdup_printf("%s/.%s.kho-tmp", folder, name);
}

/* Only ENOENT is expected, and what cannot be removed is overwritten by the next writer. */
static void
remove_leftover(const char *path)
{
    fd_unlink(path, NULL);
}

static gboolean
write_whole(int fd, const char *path, const char *text, gsize len, mode_t mode, GError **error)
{
    return fd_chmod(fd, mode, path, error) && fd_write_full(fd, text, len, path, error)
           && fd_sync(fd, path, error);
}

/* Gives the nameless @fd the name @path. What stands there is replaced by way of the temporary name, since a
 * link cannot replace: a kill between the two leaves that name, whole, until the next writer comes. */
static gboolean
name_file(int fd, int folder, const char *path, GError **error)
{
    g_autofree char *name = g_path_get_basename(path);
    g_autofree char *temporary = g_strdup_printf(".%s.kho-tmp", name);

    if (!entry_exists(folder, name))
        return entry_link(fd, folder, name, path, error);
    if (!entry_link(fd, folder, temporary, path, error))
        return FALSE;
    if (entry_rename(folder, temporary, name, TRUE, path, error))
        return TRUE;
    entry_unlink(folder, temporary, path, NULL);
    return FALSE;
}

/* Where the file system has no nameless files. */
static gboolean
publish_named(int folder, const char *path, const char *text, gsize len, mode_t mode, GError **error)
{
    g_autofree char *temporary = temporary_of(path);
    fd_auto int fd = fd_open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode, error);

    if (fd >= 0)
        owner_pass_on(folder, fd);
    if (fd >= 0 && write_whole(fd, path, text, len, mode, error) && fd_rename(temporary, path, error))
        return TRUE;
    remove_leftover(temporary);
    return FALSE;
}

gboolean
store_publish(const char *path, const char *text, gsize len, mode_t mode, GError **error)
{
    g_autofree char *folder_path = g_path_get_dirname(path);
    g_autofree char *temporary = temporary_of(path);
    fd_auto int folder = fd_open(folder_path, O_RDONLY | O_DIRECTORY, 0, error);
    g_autoptr(GError) nameless = NULL;

    if (folder < 0)
        return FALSE;
    remove_leftover(temporary);
    fd_auto int fd = entry_make_nameless(folder, mode, path, &nameless);
    if (fd < 0 && !g_error_matches(nameless, KHO_ERROR, KHO_ERROR_UNSUPPORTED)) {
        g_propagate_error(error, g_steal_pointer(&nameless));
        return FALSE;
    }
    if (fd >= 0)
        owner_pass_on(folder, fd);
    gboolean done = fd < 0
                        ? publish_named(folder, path, text, len, mode, error)
                        : write_whole(fd, path, text, len, mode, error) && name_file(fd, folder, path, error);
    return done && fd_sync(folder, folder_path, error);
}

gboolean
store_unlink(const char *path, GError **error)
{
    g_autofree char *temporary = temporary_of(path);

    remove_leftover(temporary);
    return fd_unlink(path, error) && fd_sync_parent(path, error);
}

gboolean
store_publish_link(const char *path, const char *target, GError **error)
{
    g_autofree char *temporary = temporary_of(path);

    remove_leftover(temporary);
    if (!fd_symlink(target, temporary, error))
        return FALSE;
    if (!fd_rename(temporary, path, error)) {
        remove_leftover(temporary);
        return FALSE;
    }
    return fd_sync_parent(path, error);
}

gboolean
store_autostart_get(const char *link)
{
    return g_file_test(link, G_FILE_TEST_IS_SYMLINK);
}

gboolean
store_autostart_set(const char *link, gboolean on, GError **error)
{
    if (store_autostart_get(link) == on)
        return TRUE;
    if (!on)
        return store_unlink(link, error);
    g_autofree char *name = g_path_get_basename(link);
    g_autofree char *target = g_strconcat("../", name, NULL);

    return store_publish_link(link, target, error);
}
