#include "image/publish.h"

#include "base/entry.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/room.h"
#include "block/direct.h"

#include <fcntl.h>
#include <kho/image.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* The byte that a named temporary file is locked at while its writer lives; QEMU's bytes begin at 100. */
G_STATIC_ASSERT(KHO_IMAGE_NAME_MAX == NAME_MAX - sizeof "..kho-tmp" + 1);

#define OWNER_BYTE 0

#define DEFAULT_MODE 0644
#define PRIVATE_MODE 0600

struct Publish {
    char *path, *name, *temp;
    int dirfd, fd;
    gboolean replace, has_temp_name, is_named;
    BlkStore *replaced; /* locked; NULL where nothing stands at the path */
    struct stat replaced_stat;
};

/* Removes what a killed writer left. KHO_ERROR_BUSY where its writer lives. */
static gboolean
remove_stale(Publish *p, GError **error)
{
    g_autoptr(GError) cause = NULL;
    fd_auto int fd = fd_open_at(p->dirfd, p->temp, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, &cause);

    if (fd < 0 && cause->code == KHO_ERROR_NOT_FOUND)
        return TRUE;
    if (fd < 0)
        return fail(error, KHO_ERROR_BUSY, "%s stands in the way of writing %s: %s", p->temp, p->path,
                    cause->message);
    if (!fd_lock_range(fd, OWNER_BYTE, 1, TRUE, p->temp, NULL))
        return fail(error, KHO_ERROR_BUSY, "another kho is writing %s just now: try again later", p->path);
    /* It may have been published, or removed, between the open and the lock. */
    return !entry_is_file(p->dirfd, p->temp, fd) || entry_unlink(p->dirfd, p->temp, p->path, error);
}

static gboolean
make_named(Publish *p, mode_t mode, GError **error)
{
    g_autoptr(GError) cause = NULL;

    p->fd = fd_open_at(p->dirfd, p->temp, O_RDWR | O_CREAT | O_EXCL, mode, &cause);
    if (p->fd < 0)
        return fail(error, (KhoErrorCode) cause->code, "cannot create %s: %s", p->path, cause->message);
    p->has_temp_name = TRUE;
    /* Another writer may have taken it for a leftover before the lock. */
    if (!fd_lock_range(p->fd, OWNER_BYTE, 1, TRUE, p->temp, NULL)
        || !entry_is_file(p->dirfd, p->temp, p->fd)) {
        p->has_temp_name = FALSE;
        return fail(error, KHO_ERROR_BUSY, "another kho is writing %s just now: try again later", p->path);
    }
    return TRUE;
}

static gboolean
make_file(Publish *p, mode_t mode, PublishFlags flags, GError **error)
{
    g_autoptr(GError) cause = NULL;

    if (!remove_stale(p, error))
        return FALSE;
    if (!(flags & PUBLISH_NAMED))
        p->fd = entry_make_nameless(p->dirfd, mode, p->path, &cause);
    if (p->fd >= 0)
        return fd_lock_range(p->fd, OWNER_BYTE, 1, TRUE, p->path, error);
    if (cause && cause->code != KHO_ERROR_UNSUPPORTED) {
        g_propagate_error(error, g_steal_pointer(&cause));
        return FALSE;
    }
    return make_named(p, mode, error);
}

/* Looks at what stands at the path, and locks it. */
static gboolean
look_at_old(Publish *p, GError **error)
{
    if (!entry_exists(p->dirfd, p->name))
        return TRUE;
    if (!p->replace)
        return fail(error, KHO_ERROR_EXISTS,
                    "%s exists already: choose another name, or ask to replace it (--force)", p->path);
    p->replaced = blk_file_open(p->path, FALSE, error);
    if (!p->replaced || !fd_stat(blk_fd(p->replaced), &p->replaced_stat, p->path, error))
        return FALSE;
    if (!S_ISREG(p->replaced_stat.st_mode))
        return fail(error, KHO_ERROR_INVALID, "%s is not a regular file and cannot be replaced", p->path);
    return image_lock(p->replaced, IMAGE_LOCK_WRITE, error);
}

/* The replaced file's mode, owner and access list go over to the new one. What its group was allowed is for
 * no other: where the group cannot be kept, that stays behind. (Where the owner cannot, nothing more is
 * given: a disk never runs as its owner.) */
static gboolean
dress(Publish *p, mode_t mode, GError **error)
{
    gboolean keeps_group =
        !p->replaced || entry_try_owner(p->fd, p->replaced_stat.st_uid, p->replaced_stat.st_gid);
    mode_t kept = p->replaced_stat.st_mode & (keeps_group ? 0777 : 0707);

    if (!mode && !p->replaced)
        return TRUE;
    if (!fd_chmod(p->fd, mode ? mode : kept, p->path, error))
        return FALSE;
    if (p->replaced && !mode)
        entry_try_access_list(p->fd, blk_fd(p->replaced), keeps_group);
    return TRUE;
}

/* Of the new file until it is dressed: nobody else opens it before. */
static mode_t
first_mode(const Publish *p, mode_t mode)
{
    return mode ? mode : p->replaced ? PRIVATE_MODE : DEFAULT_MODE;
}

Publish *
publish_begin(const char *path, mode_t mode, PublishFlags flags, GError **error)
{
    g_autoptr(Publish) p = g_new0(Publish, 1);

    p->dirfd = p->fd = -1;
    p->path = flags & PUBLISH_REPLACE && *path ? entry_follow(path, error) : g_strdup(path);
    if (!p->path)
        return NULL;
    /* The folder's own name would do for a file in it. */
    if (!*path || g_str_has_suffix(path, "/") || g_str_has_suffix(p->path, "/")) {
        fail(error, KHO_ERROR_INVALID, "'%s' is not the name of a file", path);
        return NULL;
    }
    p->name = g_path_get_basename(p->path);
    p->temp = g_strdup_printf(".%s.kho-tmp", p->name);
    p->replace = (flags & PUBLISH_REPLACE) != 0;

    if (strlen(p->name) > KHO_IMAGE_NAME_MAX) {
        fail(error, KHO_ERROR_INVALID,
             "the name of %s is too long: it has %zu bytes, at most %d are possible", p->path,
             strlen(p->name), KHO_IMAGE_NAME_MAX);
        return NULL;
    }
    g_autofree char *folder = g_path_get_dirname(p->path);
    p->dirfd = fd_open(folder, O_RDONLY | O_DIRECTORY, 0, error);
    if (p->dirfd < 0 || !look_at_old(p, error) || !make_file(p, first_mode(p, mode), flags, error)
        || !dress(p, mode, error))
        return NULL;
    return g_steal_pointer(&p);
}

BlkStore *
publish_store(Publish *p, GError **error)
{
    int fd = fd_dup(p->fd, p->path, error);

    return fd < 0 ? NULL : blk_direct_new(blk_file_new(fd, p->path, TRUE), DIRECT_AFTER_BYTES);
}

const struct stat *
publish_replaced(const Publish *p)
{
    return p->replaced ? &p->replaced_stat : NULL;
}

int
publish_fd(const Publish *p)
{
    return p->fd;
}

gboolean
publish_check_space(Publish *p, guint64 bytes, GError **error)
{
    guint64 free_bytes;

    return entry_free_space(p->fd, &free_bytes, p->path, error)
           && (bytes <= free_bytes + room_reserve(p->fd) || entry_check_space(p->fd, bytes, p->path, error));
}

/* A link cannot replace a name, so the nameless file takes the temporary one first. */
static gboolean
name_file(Publish *p, GError **error)
{
    if (!p->has_temp_name && !p->replaced)
        return entry_link(p->fd, p->dirfd, p->name, p->path, error);
    if (!p->has_temp_name) {
        if (!remove_stale(p, error) || !entry_link(p->fd, p->dirfd, p->temp, p->path, error))
            return FALSE;
        p->has_temp_name = TRUE;
    }
    if (!entry_rename(p->dirfd, p->temp, p->name, p->replaced != NULL, p->path, error))
        return FALSE;
    p->has_temp_name = FALSE;
    return TRUE;
}

gboolean
publish_finish(Publish *p, const KhoJob *job, GError **error)
{
    if (!fd_sync(p->fd, p->path, error))
        return FALSE;
    if (kho_job_is_cancelled(job))
        return fail(error, KHO_ERROR_CANCELLED, "cancelled: nothing was written to %s", p->path);
    p->is_named = name_file(p, error);
    return p->is_named && fd_sync(p->dirfd, p->path, error);
}

gboolean
publish_is_named(const Publish *p)
{
    return p->is_named;
}

void
publish_take_back(Publish *p)
{
    g_autoptr(GError) error = NULL;

    if (!p->replaced && !entry_unlink(p->dirfd, p->name, p->path, &error))
        g_warning("%s", error->message);
}

void
publish_free(Publish *p)
{
    g_autoptr(GError) error = NULL;

    if (p->has_temp_name && !entry_unlink(p->dirfd, p->temp, p->path, &error))
        g_warning("%s", error->message);
    fd_clear(&p->fd);
    fd_clear(&p->dirfd);
    g_clear_pointer(&p->replaced, blk_free);
    g_free(p->path);
    g_free(p->name);
    g_free(p->temp);
    g_free(p);
}
