#include "store/publish.h"

#include "base/error.h"
#include "base/fd.h"

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
write_temporary(const char *path, const char *text, gsize len, mode_t mode, GError **error)
{
    fd_auto int fd = fd_open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode, error);

    return fd >= 0 && fd_chmod(fd, mode, path, error) && fd_write_full(fd, text, len, path, error)
           && fd_sync(fd, path, error) && fd_close(&fd, path, error);
}

gboolean
store_publish(const char *path, const char *text, gsize len, mode_t mode, GError **error)
{
    g_autofree char *temporary = temporary_of(path);

    remove_leftover(temporary);
    if (!write_temporary(temporary, text, len, mode, error) || !fd_rename(temporary, path, error)) {
        remove_leftover(temporary);
        return FALSE;
    }
    return fd_sync_parent(path, error);
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
