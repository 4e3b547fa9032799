#include "supervisor/grant.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/pipe.h"
#include "base/proc.h"
#include "supervisor/monitor.h"
#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <string.h>

/* More are not closed before QEMU's end. */
#define KEPT_MAX 1000

void
grant_clear(Grant *grant)
{
    json_decref(grant->arguments);
    grant->arguments = NULL;
    fd_clear(&grant->fd);
}

int
grant_open_file(const char *path, gboolean read_only, GError **error)
{
    struct stat st;
    fd_auto int fd = fd_open(path, (read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK, 0, error);

    if (fd < 0 || !fd_stat(fd, &st, path, error))
        return -1;
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        fail(error, KHO_ERROR_INVALID, "%s is not a regular file or block device", path);
        return -1;
    }
    return pipe_set_nonblock(fd, FALSE, path, error) ? fd_steal(&fd) : -1;
}

/* The number of a set, or of a descriptor in it; *number stays as it is where @key is missing. */
static gboolean
get_number(const json_t *wanted, const char *key, gint64 *number, GError **error)
{
    gint64 given = 0;

    if (!json_opt_int(wanted, key, "the command", &given, error))
        return FALSE;
    if (json_is_integer(json_object_get(wanted, key)))
        *number = given;
    return (given >= 0 && given <= G_MAXINT)
           || fail(error, KHO_ERROR_INVALID, "%s is not from 0 to %d", key, G_MAXINT);
}

gboolean
grant_open(const json_t *wanted, Grant *grant, GError **error)
{
    g_autofree char *path = NULL;
    g_autofree char *name = NULL;
    gint64 fdset = -1, off = 0;
    gboolean read_only;

    if (!json_get_string(wanted, "path", "kho-open", &path, error)
        || !json_get_bool(wanted, "read-only", "kho-open", &read_only, error)
        || !json_opt_string(wanted, "fdname", "kho-open", &name, error)
        || !get_number(wanted, "fdset", &fdset, error)
        || !json_opt_int(wanted, "offset", "kho-open", &off, error))
        return FALSE;
    if (!g_path_is_absolute(path))
        return fail(error, KHO_ERROR_INVALID, "kho-open: path '%s' is not absolute", path);
    if (!name == (fdset < 0) || off < 0)
        return fail(error, KHO_ERROR_INVALID, "kho-open needs either an fdset or an fdname, from 0 upwards");
    fd_auto int fd = grant_open_file(path, read_only, error);
    if (fd < 0 || (off > 0 && !fd_seek(fd, (guint64) off, path, error)))
        return FALSE;
    json_t *arguments = json_object();
    if (name) {
        json_set_string(arguments, "fdname", name);
    } else {
        json_object_set_new(arguments, "fdset-id", json_integer(fdset));
        json_set_string(arguments, "opaque", read_only ? "read-only" : "read-write");
    }
    *grant = (Grant){ name ? "getfd" : "add-fd", arguments, fd_steal(&fd) };
    return TRUE;
}

/* Locks belong to the open file, which QEMU and this process share for a moment. */
static gboolean
end_locks(Supervisor *s, int number, GError **error)
{
    fd_auto int fd = proc_take_fd(s->qemu, number, error);

    return fd >= 0 && fd_unlock_range(fd, 0, 0, "the image", error);
}

gboolean
grant_close(Supervisor *s, const json_t *wanted, Grant *grant, GError **error)
{
    gboolean runs = s->guest.runs;
    g_autoptr(GError) why = NULL;
    gint64 fdset = -1, fd = -1;

    if (!get_number(wanted, "fdset", &fdset, error) || !get_number(wanted, "fd", &fd, error))
        return FALSE;
    if (fdset < 0)
        return fail(error, KHO_ERROR_INVALID, "kho-close needs an fdset");
    if (!runs && fd >= 0 && !end_locks(s, (int) fd, &why))
        vm_log(s->log, "the image locks of QEMU's descriptor %d stay until its guest runs: %s", (int) fd,
               why->message);
    json_t *arguments = json_object();
    json_object_set_new(arguments, "fdset-id", json_integer(fdset));
    if (fd >= 0)
        json_object_set_new(arguments, "fd", json_integer(fd));
    if (!runs && s->kept_files->len < KEPT_MAX)
        g_ptr_array_add(s->kept_files, json_incref(arguments));
    *grant = (Grant){ "remove-fd", arguments, -1 };
    return TRUE;
}

void
grant_resumed(Supervisor *s)
{
    for (guint i = 0; i < s->kept_files->len; i++)
        monitor_send(s->monitor, "remove-fd", json_incref(s->kept_files->pdata[i]), NULL, NULL);
    g_ptr_array_set_size(s->kept_files, 0);
}
