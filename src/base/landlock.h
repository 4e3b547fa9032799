/* Which files a process may open by name from now on (Landlock). What is open already stays open. */
#ifndef KHO_BASE_LANDLOCK_H
#define KHO_BASE_LANDLOCK_H

#include <glib.h>

typedef struct {
    int ruleset; /* -1: nothing is restricted */
    guint64 handled;
} Landlock;

/* Begins with no file at all. KHO_ERROR_UNSUPPORTED where the kernel cannot restrict, and
 * landlock->ruleset is -1. */
gboolean landlock_begin(Landlock *landlock, GError **error);

/* Adds what may be read: a file, or all in a folder. A path that is not there adds nothing. */
gboolean landlock_may_read(const Landlock *landlock, const char *path, GError **error);

/* Adds a folder whose files may be made, read, written, renamed and removed, or a file that may be written.
 */
gboolean landlock_may_write(const Landlock *landlock, const char *path, GError **error);

/* Holds for this thread and those that it starts, for good. The process must have given up gaining rights. */
gboolean landlock_end(Landlock *landlock, GError **error);

void landlock_clear(Landlock *landlock);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Landlock, landlock_clear)

#endif
