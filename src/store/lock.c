#include "store/lock.h"

#include "base/error.h"
#include "base/fd.h"
#include "base/owner.h"
#include "base/proc.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A wait polls: F_OFD_SETLKW has no deadline, and a lock's release is no event that could be waited for
 * otherwise. */
#define POLL_FIRST_US 500
#define POLL_LAST_US  (20 * 1000)
#define HOLDER_BYTES  256

struct StoreLock {
    int fd;
    char *path;
};

static const StoreWait wait_default = { .timeout_ms = 30 * 1000 };

/* "PID COMMAND", for other processes' messages: only a hint, so that a failure (the disk may be full) is no
 * error. */
static void
write_holder(const StoreLock *lock)
{
    g_autofree char *command = proc_own_command();
    g_autofree char *text = g_strdup_printf("%d %s\n", (int) getpid(), command);

    if (fd_truncate(lock->fd, 0, lock->path, NULL))
        fd_pwrite_full(lock->fd, text, strlen(text), 0, lock->path, NULL);
}

/* "pid 12 (kho start web1)", or "another process" where the hint is not there or names a process that is
 * gone. */
static char *
read_holder(const char *path)
{
    g_autofree char *text = fd_read_file(path, HOLDER_BYTES, NULL, NULL);
    char *command = text ? strchr(text, ' ') : NULL;

    if (command) {
        *command++ = '\0';
        g_autofree char *proc = g_strdup_printf("/proc/%s", text);
        g_autofree char *line = error_one_line(command);
        if (g_ascii_isdigit(*text) && g_file_test(proc, G_FILE_TEST_IS_DIR))
            return g_strdup_printf("pid %s (%s)", text, line);
    }
    return g_strdup("another process");
}

static gboolean
fail_held(const char *path, const char *object, const StoreWait *wait, GError **error)
{
    g_autofree char *holder = read_holder(path);

    if (wait->timeout_ms == 0)
        return fail(error, KHO_ERROR_BUSY, "%s is being changed by %s: try again later", object, holder);
    return fail(error, KHO_ERROR_TIMEOUT, "%s is being changed by %s: waited %.1f s for it, try again later",
                object, holder, wait->timeout_ms / 1000.0);
}

static gboolean
wait_for(int fd, const char *path, const char *object, const StoreWait *wait, GError **error)
{
    gint64 deadline_us = g_get_monotonic_time() + (gint64) wait->timeout_ms * 1000;

    for (gulong pause_us = POLL_FIRST_US;; pause_us = MIN(pause_us * 2, POLL_LAST_US)) {
        g_autoptr(GError) held = NULL;

        if (fd_lock_range(fd, 0, 1, TRUE, path, &held))
            return TRUE;
        if (!g_error_matches(held, KHO_ERROR, KHO_ERROR_BUSY)) {
            g_propagate_error(error, g_steal_pointer(&held));
            return FALSE;
        }
        if (wait->cancelled && g_atomic_int_get(wait->cancelled))
            return fail(error, KHO_ERROR_CANCELLED, "cancelled while waiting for the change lock of %s",
                        object);
        gint64 left_us = deadline_us - g_get_monotonic_time();
        if (left_us <= 0)
            return fail_held(path, object, wait, error);
        g_usleep(MIN(pause_us, (gulong) left_us));
    }
}

static StoreLock *
take(const StoreTree *tree, const char *kind, const char *key, const char *object, const StoreWait *wait,
     GError **error)
{
    g_autofree char *path = g_build_filename(tree->run, "lock", kind, key, NULL);
    /* Nobody else may open it: whoever can read a file can lock it. */
    fd_auto int fd = owner_open(path, O_RDWR, 0600, error);

    if (fd < 0 || !wait_for(fd, path, object, wait ? wait : &wait_default, error))
        return NULL;
    StoreLock *lock = g_new(StoreLock, 1);
    *lock = (StoreLock){ .fd = fd_steal(&fd), .path = g_steal_pointer(&path) };
    write_holder(lock);
    return lock;
}

StoreLock *
store_lock_take(const StoreTree *tree, const char *kind, const char *uuid, const char *object,
                const StoreWait *wait, GError **error)
{
    return take(tree, kind, uuid, object, wait, error);
}

StoreLock *
store_lock_name(const StoreTree *tree, const char *kind, const char *name, const StoreWait *wait,
                GError **error)
{
    g_autofree char *key = g_strconcat(kind, "-", name, NULL);
    g_autofree char *object = g_strdup_printf("the name \"%s\"", name);

    return take(tree, "name", key, object, wait, error);
}

char *
store_lock_holder(const StoreTree *tree, const char *kind, const char *uuid)
{
    g_autofree char *path = g_build_filename(tree->run, "lock", kind, uuid, NULL);

    return read_holder(path);
}

void
store_lock_release(StoreLock *lock)
{
    if (!lock)
        return;
    /* The hint goes before the lock does: a name read from the file is a holder's or a dead one's. */
    fd_truncate(lock->fd, 0, lock->path, NULL);
    fd_clear(&lock->fd);
    g_free(lock->path);
    g_free(lock);
}
