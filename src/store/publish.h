/* Small files and links of the tree, changed so that a reader, a crash or a full disk sees the old state or
 * the new one, never half. One writer at a time: the caller holds the object's change lock. Images are
 * published by image/. */
#ifndef KHO_STORE_PUBLISH_H
#define KHO_STORE_PUBLISH_H

#include <glib.h>
#include <sys/types.h>

/**
 * store_publish:
 * @path: absolute; its folder exists
 * @mode: of the file, whatever the umask
 *
 * Makes @path hold exactly @len bytes of @text: written to .NAME.kho-tmp beside it, fsync, rename, fsync of
 * the folder. A failure (KHO_ERROR_NO_SPACE, _DENIED, _IO) leaves the old file and no temporary one.
 */
gboolean store_publish(const char *path, const char *text, gsize len, mode_t mode, GError **error);

/* Removes @path and what a killed writer of it left, then fsyncs the folder. KHO_ERROR_NOT_FOUND. */
gboolean store_unlink(const char *path, GError **error);

/* Makes @path a symbolic link to @target, replacing what stands there, as store_publish does. */
gboolean store_publish_link(const char *path, const char *target, GError **error);

/* An autostart mark: @link is a link to ../NAME.xml, NAME being its own, or it is absent. Setting what is set
 * already changes nothing. */
gboolean store_autostart_set(const char *link, gboolean on, GError **error);
gboolean store_autostart_get(const char *link);

#endif
