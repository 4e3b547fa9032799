#include "image/lock.h"

#include "base/error.h"
#include "base/fd.h"
#include "image/holder.h"

/* The facts, as any QEMU since 2.10 keeps them. For each right there is a byte that whoever uses it locks,
 * and a byte that whoever cannot bear its use by others locks. All locks are shared ones; a conflict is found
 * by asking whether an exclusive lock on the opposite byte would be refused. */
#define USED_BASE     100
#define UNSHARED_BASE 200

enum {
    RIGHT_CONSISTENT_READ = 0,
    RIGHT_WRITE = 1,
    RIGHT_WRITE_UNCHANGED = 2,
    RIGHT_RESIZE = 3,
    RIGHTS_N = 4,
};

typedef struct {
    guint used, unshared; /* bit sets of rights */
} Rights;

#define BIT(right) (1u << (right))

/* A reader that cannot bear writers, and a writer that cannot bear others. Readers that bear writers (a raw
 * image in qemu-img) are let through by both, as QEMU does. */
static const Rights rights_of[] = {
    [IMAGE_LOCK_READ] = { BIT(RIGHT_CONSISTENT_READ), BIT(RIGHT_WRITE) | BIT(RIGHT_RESIZE) },
    [IMAGE_LOCK_WRITE] = { BIT(RIGHT_CONSISTENT_READ) | BIT(RIGHT_WRITE) | BIT(RIGHT_RESIZE),
                           BIT(RIGHT_WRITE) | BIT(RIGHT_RESIZE) },
};

static gboolean
take(int fd, guint64 base, guint rights, const char *label, GError **error)
{
    for (guint right = 0; right < RIGHTS_N; right++)
        if ((rights & BIT(right)) && !fd_lock_range(fd, base + right, 1, FALSE, label, error))
            return FALSE;
    return TRUE;
}

/* The first byte of @base among @rights that another holds, or 0. */
static gboolean
find_conflict(int fd, guint64 base, guint rights, guint64 *byte, const char *label, GError **error)
{
    for (guint right = 0; right < RIGHTS_N && *byte == 0; right++) {
        gboolean held = FALSE;

        if ((rights & BIT(right)) && !fd_lock_probe(fd, base + right, 1, TRUE, &held, label, error))
            return FALSE;
        if (held)
            *byte = base + right;
    }
    return TRUE;
}

static void
release(int fd, const char *label)
{
    g_autoptr(GError) error = NULL;

    if (!fd_unlock_range(fd, USED_BASE, RIGHTS_N, label, &error)
        || !fd_unlock_range(fd, UNSHARED_BASE, RIGHTS_N, label, &error))
        g_debug("%s", error->message);
}

static gboolean
fail_busy(BlkStore *file, int fd, guint64 byte, GError **error)
{
    g_autofree char *holder = NULL;
    gboolean is_machine = FALSE;
    struct stat st;

    if (fd_stat(fd, &st, file->label, NULL))
        holder = image_holder_describe(&st, byte, &is_machine);
    if (!holder)
        return fail(error, KHO_ERROR_BUSY,
                    "%s is in use by a process that cannot be seen from here: end it first", file->label);
    return fail(error, KHO_ERROR_BUSY, "%s is in use by %s: %s", file->label, holder,
                is_machine ? "shut it down first" : "wait until it has ended");
}

gboolean
image_lock(BlkStore *file, ImageLockUse use, GError **error)
{
    const Rights *rights = &rights_of[use];
    guint64 byte = 0;
    int fd = blk_fd(file);

    if (fd < 0)
        return TRUE;
    gboolean known = take(fd, USED_BASE, rights->used, file->label, error)
                     && take(fd, UNSHARED_BASE, rights->unshared, file->label, error)
                     && find_conflict(fd, UNSHARED_BASE, rights->used, &byte, file->label, error)
                     && find_conflict(fd, USED_BASE, rights->unshared, &byte, file->label, error);
    if (known && byte == 0)
        return TRUE;
    release(fd, file->label);
    return known ? fail_busy(file, fd, byte, error) : FALSE;
}
