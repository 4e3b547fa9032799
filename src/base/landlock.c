#include "base/landlock.h"

#include "base/error.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* Of the third version of the interface, which Debian 12's headers do not name. */
#define TRUNCATE (G_GUINT64_CONSTANT(1) << 14)
#define WRITE                                                                                                \
    (READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE     \
     | LANDLOCK_ACCESS_FS_REFER | TRUNCATE)
#define FILE_RIGHTS (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | TRUNCATE)
#define FIRST_RIGHTS                                                                                         \
    (((G_GUINT64_CONSTANT(1) << 13) - 1)) /* what the first version of the interface can restrict */

gboolean
landlock_begin(Landlock *landlock, GError **error)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_ruleset_attr rights = { .handled_access_fs = FIRST_RIGHTS };

    *landlock = (Landlock){ .ruleset = -1 };
    if (version < 1)
        return fail(error, KHO_ERROR_UNSUPPORTED, "the kernel has no Landlock");
    if (version >= 2)
        rights.handled_access_fs |= LANDLOCK_ACCESS_FS_REFER;
    if (version >= 3)
        rights.handled_access_fs |= TRUNCATE;
    landlock->handled = rights.handled_access_fs;
    landlock->ruleset = (int) syscall(SYS_landlock_create_ruleset, &rights, sizeof rights, 0);
    return landlock->ruleset >= 0 || fail_errno(error, errno, "cannot restrict which files are opened");
}

static gboolean
add(const Landlock *landlock, const char *path, guint64 rights, GError **error)
{
    g_autoptr(GError) why = NULL;
    fd_auto int fd = fd_open(path, O_PATH, 0, &why);
    struct stat st;

    if (fd < 0 && g_error_matches(why, KHO_ERROR, KHO_ERROR_NOT_FOUND))
        return TRUE;
    if (fd < 0) {
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    if (!fd_stat(fd, &st, path, error))
        return FALSE;
    rights &= landlock->handled & (S_ISDIR(st.st_mode) ? G_MAXUINT64 : FILE_RIGHTS);
    const struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };
    return syscall(SYS_landlock_add_rule, landlock->ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0
           || fail_errno(error, errno, "cannot restrict which files are opened to %s", path);
}

gboolean
landlock_may_read(const Landlock *landlock, const char *path, GError **error)
{
    return add(landlock, path, READ, error);
}

gboolean
landlock_may_write(const Landlock *landlock, const char *path, GError **error)
{
    return add(landlock, path, WRITE, error);
}

gboolean
landlock_end(Landlock *landlock, GError **error)
{
    gboolean done = syscall(SYS_landlock_restrict_self, landlock->ruleset, 0) == 0
                    || fail_errno(error, errno, "cannot restrict which files are opened");

    landlock_clear(landlock);
    return done;
}

void
landlock_clear(Landlock *landlock)
{
    fd_clear(&landlock->ruleset);
}
