#include "vm/folder.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/num.h"
#include "base/owner.h"
#include "base/proc.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

/* live.xml is the largest; a definition may hold 4 MiB. */
#define FILE_MAX_BYTES (16 * MIB)

int
vm_folder_open(const char *run_path, gboolean make, GError **error)
{
    g_autoptr(GError) why = NULL;
    struct stat st;

    if (make && !fd_mkdir(run_path, 0700, error))
        return -1;
    if (make && g_lstat(run_path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        fail(error, KHO_ERROR_INVALID, "%s is not a folder: remove it", run_path);
        return -1;
    }
    int fd = fd_open(run_path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, &why);
    if (fd >= 0)
        return fd;
    g_autofree char *owner = g_error_matches(why, KHO_ERROR, KHO_ERROR_DENIED) ? owner_other(run_path) : NULL;
    if (owner)
        fail(error, KHO_ERROR_DENIED, "%s: what runs there belongs to user %s: use sudo", why->message,
             owner);
    else
        g_propagate_error(error, g_steal_pointer(&why));
    return -1;
}

int
vm_folder_lock(int dirfd, const char *name, GError **error)
{
    fd_auto int fd = fd_open_at(dirfd, name, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, error);

    if (fd < 0 || !fd_lock_range(fd, 0, 1, TRUE, name, error))
        return -1;
    if (!entry_is_file(dirfd, name, fd)) {
        fail(error, KHO_ERROR_NOT_FOUND, "%s was removed meanwhile", name);
        return -1;
    }
    return fd_steal(&fd);
}

gboolean
vm_folder_is_locked(int dirfd, const char *name, gboolean *held, gboolean *exists, GError **error)
{
    g_autoptr(GError) why = NULL;
    fd_auto int fd = fd_open_at(dirfd, name, O_RDONLY | O_NOFOLLOW, 0, &why);

    *held = FALSE;
    *exists = fd >= 0;
    if (fd >= 0)
        return fd_lock_probe(fd, 0, 1, TRUE, held, name, error);
    if (g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&why));
    return FALSE;
}

GArray *
vm_folder_holders(int dirfd, const char *name)
{
    fd_auto int fd = fd_open_at(dirfd, name, O_RDONLY | O_NOFOLLOW, 0, NULL);

    return fd < 0 ? g_array_new(FALSE, FALSE, sizeof(ProcId)) : proc_holders(fd);
}

static gboolean
replace(int dirfd, const char *name, const char *text, GError **error)
{
    g_autofree char *beside = g_strdup_printf(".%s.kho-tmp", name);
    fd_auto int fd = fd_open_at(dirfd, beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, error);

    if (fd < 0)
        return FALSE;
    if (fd_write_full(fd, text, strlen(text), name, error) && fd_close(&fd, name, error)
        && entry_rename(dirfd, beside, name, TRUE, name, error))
        return TRUE;
    entry_unlink(dirfd, beside, name, NULL);
    return FALSE;
}

gboolean
vm_folder_write(int dirfd, const char *name, const char *text, GError **error)
{
    if (replace(dirfd, name, text, error))
        return TRUE;
    /* Which file system is full, the name alone does not say. */
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", dirfd);
    g_autofree char *path = g_file_read_link(link, NULL);
    g_prefix_error(error, "%s: ", path ? path : "the run folder");
    return FALSE;
}

char *
vm_folder_read(int dirfd, const char *name, gsize *len, GError **error)
{
    fd_auto int fd = fd_open_at(dirfd, name, O_RDONLY | O_NOFOLLOW, 0, error);

    return fd < 0 ? NULL : fd_read_all(fd, FILE_MAX_BYTES, len, name, error);
}

void
vm_folder_empty(int dirfd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", dirfd);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    const char *name;

    while (dir && (name = g_dir_read_name(dir)))
        if (strcmp(name, VM_FILE_ALIVE) != 0 && strcmp(name, VM_FILE_SUPERVISOR) != 0)
            entry_unlink(dirfd, name, name, NULL);
}

gboolean
vm_folder_remove(int dirfd, const char *run_path, GError **error)
{
    vm_folder_empty(dirfd);
    /* While one of them stands, nobody else can begin here. */
    entry_unlink(dirfd, VM_FILE_ALIVE, VM_FILE_ALIVE, NULL);
    entry_unlink(dirfd, VM_FILE_SUPERVISOR, VM_FILE_SUPERVISOR, NULL);
    return entry_remove_folder(run_path, error);
}
